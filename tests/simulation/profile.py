"""Where a simulated seed's time goes: CPU time of the loop's steps, by what the stepping task was waiting in.

``python -m tests.simulation --profile`` prints it. A sampling profiler sees mostly the loop itself; the steps' own
times add up to the run.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from tests.simulation.scenario import draw
from tests.simulation.world import simulate

ROWS_SHOWN = 20
_WRAPPERS = ("TaskHandle._run_coro", "StageLoop.run", "StageLoop._turn", "guarded", "sleep", "__sleep0", "call")


@dataclass(slots=True)
class Cost:
    """Of one kind of step."""

    steps: int = 0
    took_s: float = 0.0


class StepProfile:
    """An ``on_step`` hook: the time from one step to the next belongs to the first."""

    def __init__(self) -> None:
        self.costs: dict[str, Cost] = defaultdict(Cost)
        self._running: str | None = None
        self._since = 0.0

    def __call__(self, _: int, handle: Any) -> None:
        now = time.process_time()
        if self._running is not None:
            cost = self.costs[self._running]
            cost.steps += 1
            cost.took_s += now - self._since
        self._running = _kind(handle)
        self._since = time.process_time()

    def pause(self) -> None:
        """What follows is no step."""
        self._running = None


def _kind(handle: Any) -> str:
    owner = getattr(handle._callback, "__self__", None)
    if not isinstance(owner, asyncio.Task):
        return str(getattr(handle._callback, "__qualname__", handle._callback))
    names: list[str] = []
    awaited: Any = owner.get_coro()
    while (name := getattr(awaited, "__qualname__", None)) is not None:
        names.append(name.replace("<locals>.", ""))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    shown = [name for name in names if name not in _WRAPPERS] or names
    return " > ".join(dict.fromkeys((shown[0], shown[-1])))


def profiled(seeds: Iterable[int]) -> tuple[StepProfile, int, int]:
    """Run the seeds; their profile, how many there were, and how many requests."""
    profile, count, requests = StepProfile(), 0, 0
    for seed in seeds:
        scenario = draw(seed)
        profile.pause()
        simulate(scenario, on_step=profile)
        count += 1
        requests += len(scenario.requests)
    return profile, count, requests


def table(profile: StepProfile, seeds: int) -> Table:
    """What costs most, per seed."""
    total_s = sum(cost.took_s for cost in profile.costs.values())
    shown = Table("step of", "steps a seed", "ms a seed", "share", box=None, pad_edge=False)
    for name, cost in sorted(profile.costs.items(), key=lambda item: -item[1].took_s)[:ROWS_SHOWN]:
        shown.add_row(
            name, f"{cost.steps / seeds:.0f}", f"{cost.took_s / seeds * 1000:.1f}", f"{cost.took_s / total_s:.0%}"
        )
    return shown
