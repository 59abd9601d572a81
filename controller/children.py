"""Which children of an array job (or nodes of a multi-node job) failed, and why: asked before its end is stored.

The final event is written in the transaction of the change it reports, once. So what it is to say of the children has
to be known before: ``stages/track.py`` sets the parent aside, comes here, and stores its end afterwards, with whatever
was found. If the process dies meanwhile nothing is lost: the row is TRACKED still, and the next process asks again.

The time is bounded (``DEADLINE_S``), and so is the number of calls: one page of 1,000 children each, within the list
budget. What can't be found in time is left out, and the event says so; nothing here ever raises an OutwardError.

More arrays may fail than the list budget has calls for. Three things keep that from spoiling it for everybody:

- Look-ups wait for each other here, in order of arrival, and only one at a time stands in the line of the list budget.
  So others who list stand behind one call of ours, however many arrays have failed.
- A look-up that would begin too late is not begun (``BEGIN_S``): a call for what can't be finished any more is wasted,
  and if all of them get their first one just before their deadline, nearly all are.
- One that comes when so many wait already is told so at once, as ``too_many``: its event need not be late as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import anyio
import structlog

from controller.budgets import Budgets, Purpose
from controller.core.children import FailedChild, FailedChildren, summarise
from controller.core.errors import BadCredentials, NotAllowed, OutwardError, Refused
from controller.core.job import BatchStatus, Observation
from controller.core.limits import ARRAY_SIZE_MAX, LIST_JOBS_PAGE_MAX
from controller.health import Health
from controller.loop import Backoff
from controller.ports import BatchApi, ChildPage, Clock

DEADLINE_S: Final = 30.0
"""How much later than seen the end of an array may be told, for the sake of its children. Ten pages at the default list
budget take two seconds."""
BEGIN_S: Final = 20.0
"""A look-up begins within this, or not at all. The rest of its time is for its pages: eleven of them, with three other
look-ups taking turns, are nine seconds at the default list budget."""
READING_MAX: Final = 4
"""Look-ups that read at once. One would leave the budget unused while it waits for an answer."""
LAG_S: Final = 2.0
LAG_TRIES: Final = 3
"""ListJobs may show fewer children than the summary counts, for some moments."""
DENIED_S: Final = 3_600.0
"""A permission that is lacking is asked for again after so long."""
LOOK_UPS_MAX: Final = 1_000
"""Under way at once; a flood of arrays beyond it is told without its children."""
PAGES_MAX: Final = ARRAY_SIZE_MAX // LIST_JOBS_PAGE_MAX + 1


def wants_look_up(seen: Observation) -> bool:
    """Whether the end that was seen is one of a parent with children that failed."""
    if seen.status is not BatchStatus.FAILED:
        return False
    return seen.array_summary is not None or seen.nodes is not None


class ChildLookUp:
    """Finds the failed children of one parent."""

    def __init__(
        self, *, batch: BatchApi, budgets: Budgets, clock: Clock, health: Health, chance: Callable[[], float]
    ) -> None:
        self._batch = batch
        self._budgets = budgets
        self._clock = clock
        self._health = health
        self._chance = chance
        self._denied_until = 0.0
        self._under_way = 0
        self._readers = anyio.Semaphore(READING_MAX)
        self._line = anyio.Lock()
        """Held by the one that stands in the line of the list budget."""
        self._log = structlog.get_logger(stage="children")

    async def find(self, seen: Observation) -> FailedChildren:
        """What can be found within the deadline."""
        if self._is_denied:
            return summarise((), incomplete="denied")
        if self._under_way >= LOOK_UPS_MAX or self._begins_in_s() > BEGIN_S:
            return summarise((), incomplete="too_many")
        found: dict[int, FailedChild] = {}
        incomplete: str | None = "deadline"
        self._under_way += 1
        try:
            with anyio.move_on_after(DEADLINE_S):
                incomplete = await self._find(seen, found, begin_by=anyio.current_time() + BEGIN_S)
        finally:
            self._under_way -= 1
        return summarise(found.values(), incomplete=incomplete)

    @property
    def _is_denied(self) -> bool:
        return self._clock.monotonic() < self._denied_until

    def _begins_in_s(self) -> float:
        """When a look-up that came now would get its first call, if those before it need one each."""
        before = self._readers.statistics().tasks_waiting
        return self._budgets.expected_wait_s(Purpose.LIST) + before / self._budgets.rate_per_s(Purpose.LIST)

    async def _find(self, seen: Observation, found: dict[int, FailedChild], *, begin_by: float) -> str | None:
        """Fill ``found``; why it is not complete, or None. ``begin_by`` is in the event loop's time."""
        expected = (seen.array_summary or {}).get(BatchStatus.FAILED.value, 0)
        for attempt in range(LAG_TRIES):
            if attempt:
                await self._clock.sleep(LAG_S)
            with anyio.CancelScope(deadline=begin_by) as waiting:
                await self._readers.acquire()
            if waiting.cancelled_caught:
                return "lagging" if attempt else "deadline"
            try:
                incomplete = "denied" if self._is_denied else await self._all_pages(seen, found)
            finally:
                self._readers.release()
            if incomplete is not None or self._is_enough(found, expected):
                return incomplete
        # One that was stopped before it began may have none.
        return "lagging" if expected or seen.started_at is not None else None

    def _is_enough(self, found: Mapping[int, FailedChild], expected: int) -> bool:
        """A parent has failed by a child or node, if the summary tells of it or not: a multi-node job's has no counts,
        and an array's may lag, too."""
        return len(found) >= max(1, expected)

    async def _all_pages(self, seen: Observation, found: dict[int, FailedChild]) -> str | None:
        token: str | None = None
        backoff = Backoff(self._chance)
        pages = 0
        while pages < PAGES_MAX:
            try:
                page = await self._page(seen, token)
            except NotAllowed as error:
                self._denied_until = self._clock.monotonic() + DENIED_S
                self._log.warning(
                    "children of arrays can't be listed; their ends are told without them", reason=str(error)
                )
                return "denied"
            except Refused as error:
                self._log.warning("ListJobs refused", job_id=seen.job_id, reason=str(error))
                return "failed"
            except OutwardError as error:
                if isinstance(error, BadCredentials):
                    self._health.refused("batch:ListJobs", str(error))
                await self._clock.sleep(backoff.failed())
                continue
            pages += 1
            backoff.worked()
            found.update((child.index, child) for child in page.children)
            token = page.next_token
            if token is None:
                return None
        return "failed"

    async def _page(self, seen: Observation, token: str | None) -> ChildPage:
        async with self._line:
            await self._budgets.acquire(Purpose.LIST)
        with self._budgets.heeding(Purpose.LIST):
            page = await self._batch.list_failed_children(
                job_id=seen.job_id, is_multi_node=seen.nodes is not None, next_token=token
            )
        self._health.worked("batch:ListJobs")
        return page
