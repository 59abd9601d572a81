"""How things are measured here: CPU of this process, in shuffled blocks of all variants; ratios per block.

A machine that others use, or that changes its clock, is slower in some blocks than in others. Variants of one block
see about the same machine, so the median of the blocks' ratios stands still where the figures themselves do not.
"""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

Variant = Callable[[], Awaitable[None]]


def cpu_s() -> float:
    """User and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@dataclass(frozen=True, slots=True)
class Blocks:
    """CPU milliseconds per call of each variant, a value per block."""

    values: dict[str, list[float]]

    def ms(self, name: str) -> float:
        return median(self.values[name])

    def ratio(self, name: str, to: str) -> float:
        return median(one / other for one, other in zip(self.values[name], self.values[to], strict=True))


async def interleaved(variants: dict[str, tuple[Variant, int]], *, blocks: int) -> Blocks:
    """``variants`` with how many calls a block has of each. One block before the first warms up."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for _ in range(blocks + 1):
        random.shuffle(order)
        for name in order:
            call, count = variants[name]
            before = cpu_s()
            for _ in range(count):
                await call()
            found[name].append(1000 * (cpu_s() - before) / count)
    return Blocks({name: values[1:] for name, values in found.items()})


@dataclass(slots=True)
class Steps:
    """The longest step of the event loop in between: seconds of CPU, so that no other process's time is counted."""

    longest_s: float = 0.0


@contextmanager
def watched_steps() -> Iterator[Steps]:
    """Time every callback that the loop runs."""
    steps, run = Steps(), asyncio.Handle._run

    def timed(handle: Any) -> None:
        began_at = time.thread_time()
        run(handle)
        steps.longest_s = max(steps.longest_s, time.thread_time() - began_at)

    asyncio.Handle._run = timed  # type: ignore[method-assign, assignment]
    try:
        yield steps
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]


def full_collections() -> int:
    """Garbage collections of the oldest generation so far."""
    collections: int = gc.get_stats()[2]["collections"]
    return collections


# --- what is printed --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    goal: str
    measured: str
    is_met: bool | None
    """None: told, not judged."""


@dataclass(slots=True)
class Table:
    """Goals and what was measured; printed at the end, and each row as it comes."""

    rows: list[Row] = field(default_factory=list)

    def at_most(self, what: str, value: float, goal: float, unit: str = "", *, digits: int = 2) -> None:
        self._add(Row(what, f"≤ {goal:,g}{unit}", f"{value:,.{digits}f}{unit}", value <= goal))

    def at_least(self, what: str, value: float, goal: float, unit: str = "", *, digits: int = 1) -> None:
        self._add(Row(what, f"≥ {goal:,g}{unit}", f"{value:,.{digits}f}{unit}", value >= goal))

    def told(self, what: str, measured: str) -> None:
        self._add(Row(what, "", measured, None))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        print("  " + _line(row), flush=True)

    def show(self) -> None:
        """All of it."""
        print("\n" + _line(Row("", "goal", "measured", None)))
        for row in self.rows:
            print(_line(row))
        missed = sum(row.is_met is False for row in self.rows)
        print(f"\n{missed} of {sum(row.is_met is not None for row in self.rows)} goals missed")


def _line(row: Row) -> str:
    verdict = {True: "met", False: "MISSED", None: ""}[row.is_met]
    return f"{row.what:<70} {row.goal:>12} {row.measured:>16}  {verdict}".rstrip()
