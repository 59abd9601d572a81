"""More arrays fail than the list budget has calls for: it is used for what it can do, and nobody stands behind them.

In virtual time, on a seeded loop: the look-ups, the budgets and somebody else who lists are real, Batch answers after a
moment.
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import nullcontext
from typing import Any

import anyio
import pytest

from controller import children
from controller.budgets import Budgets, Purpose
from controller.children import BEGIN_S, ChildLookUp
from controller.core.children import FailedChild
from controller.core.job import BatchStatus, Observation
from controller.core.limits import LIST_JOBS_PAGE_MAX
from controller.health import Health
from controller.ports import ChildPage
from tests.simulation.seeded_loop import run, running_loop

RATES = {Purpose.SUBMIT: 40.0, Purpose.DESCRIBE: 8.0, Purpose.LIST: 5.0, Purpose.TERMINATE: 10.0}
FOR_S = 120.0
OTHERS_EVERY_S = 2.0


class LoopClock:
    """The loop's time."""

    def now(self) -> float:
        return 1_900_000_000.0 + self.monotonic()

    def monotonic(self) -> float:
        return running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class Batch:
    """Lists the failed children of any array, so many pages of them."""

    def __init__(self, pages: int, call_s: float) -> None:
        self.pages = pages
        self.call_s = call_s
        self.calls = 0

    async def list_failed_children(
        self, *, job_id: str, is_multi_node: bool, next_token: str | None = None
    ) -> ChildPage:
        self.calls += 1
        await anyio.sleep(self.call_s)
        page = int(next_token or 0)
        following = str(page + 1) if page + 1 < self.pages else None
        return ChildPage(children=[FailedChild(index=page, exit_code=1)], next_token=following)


class Flood:
    """Arrays that fail at a rate, for a while, and somebody who lists now and then."""

    def __init__(self, *, per_s: float, pages: int = 1, call_s: float = 0.08) -> None:
        clock = LoopClock()
        self.per_s = per_s
        self.batch = Batch(pages, call_s)
        api: Any = self.batch
        self.budgets = Budgets(clock, RATES, 48.0)
        self.look_up = ChildLookUp(
            batch=api, budgets=self.budgets, clock=clock, health=Health(clock), chance=lambda: 0.5
        )
        self.told: Counter[str | None] = Counter()
        self.took_s: dict[str | None, float] = {}
        """The longest that a look-up with this outcome took."""
        self.others_waited_s = 0.0
        self.others_calls = 0

    async def run(self) -> Flood:
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as look_ups:
                tasks.start_soon(self._others)
                for _ in range(int(self.per_s * FOR_S)):
                    look_ups.start_soon(self._one)
                    await anyio.sleep(1 / self.per_s)
            tasks.cancel_scope.cancel()
        return self

    async def _one(self) -> None:
        began_at = running_loop().time()
        summary = {"FAILED": self.batch.pages}
        found = await self.look_up.find(Observation(job_id="id-1", status=BatchStatus.FAILED, array_summary=summary))
        self.told[found.incomplete] += 1
        took_s = running_loop().time() - began_at
        self.took_s[found.incomplete] = max(took_s, self.took_s.get(found.incomplete, 0.0))

    async def _others(self) -> None:
        while True:
            began_at = running_loop().time()
            await self.budgets.acquire(Purpose.LIST)
            self.others_calls += 1
            self.others_waited_s = max(self.others_waited_s, running_loop().time() - began_at)
            await anyio.sleep(OTHERS_EVERY_S)


@pytest.mark.parametrize("per_s", [6.0, 20.0])
@pytest.mark.parametrize("call_s", [0.08, 0.5])
def test_what_the_budget_allows_is_found_and_others_stand_behind_one_call(per_s: float, call_s: float) -> None:
    """No call is spent in vain; those for which there is no time are told so at once, most of them."""
    flood = run(1, lambda: Flood(per_s=per_s, call_s=call_s).run(), max_steps=5_000_000)
    allowed = RATES[Purpose.LIST] * FOR_S - flood.others_calls
    assert flood.told[None] >= 0.9 * allowed, flood.told
    assert flood.batch.calls == flood.told[None]
    assert flood.others_waited_s < 1.0
    assert flood.took_s["too_many"] == 0.0
    assert flood.told["deadline"] < 0.1 * flood.told.total(), flood.told


def test_large_arrays_are_read_to_the_end_however_many_there_are() -> None:
    """Ten pages each, twenty times what the budget allows: those that begin have the time for all of their pages."""
    flood = run(1, lambda: Flood(per_s=10.0, pages=10_000 // LIST_JOBS_PAGE_MAX).run(), max_steps=5_000_000)
    allowed = (RATES[Purpose.LIST] * FOR_S - flood.others_calls) / flood.batch.pages
    assert flood.told[None] >= 0.8 * allowed, flood.told
    assert flood.batch.calls <= 1.02 * flood.told[None] * flood.batch.pages
    assert flood.others_waited_s < 1.0


def test_few_arrays_are_all_found() -> None:
    """A burst that the budget can look up in time is, whole."""
    flood = run(1, lambda: Flood(per_s=0.5).run())
    assert set(flood.told) == {None}
    assert flood.took_s[None] < BEGIN_S / 10


@pytest.mark.parametrize("is_bounded", [True, False])
def test_look_ups_that_begin_too_late_waste_the_budget(is_bounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bound off, each of them gets its call when there is no time left for the answer."""
    if not is_bounded:
        monkeypatch.setattr(children, "BEGIN_S", math.inf)
    flood = run(1, lambda: Flood(per_s=20.0, call_s=0.5).run(), max_steps=5_000_000)
    is_wasted = flood.told[None] < 0.7 * flood.batch.calls
    assert is_wasted is not is_bounded, (flood.told, flood.batch.calls)


def test_without_a_line_of_their_own_others_stand_behind_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits here would wait in the line of the list budget, and who lists would wait as long."""
    monkeypatch.setattr(children, "READING_MAX", 1_000)

    async def flooded() -> Flood:
        flood = Flood(per_s=20.0)
        monkeypatch.setattr(flood.look_up, "_line", nullcontext())
        return await flood.run()

    assert run(1, flooded, max_steps=5_000_000).others_waited_s > BEGIN_S / 2
