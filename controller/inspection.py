"""What operators see of requests: one by its id, or lists of them. Nothing here changes anything.

Asked by the HTTP server through ``app.py``. Questions are answered one after the other, and long ones in small steps,
so that however many people ask, commits and the event loop wait for a step at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import anyio
import anyio.lowlevel

from controller.budgets import Budgets, Purpose
from controller.core.admission import QueueLimits
from controller.core.events import JSON
from controller.core.inquiry import Inquiry
from controller.core.job import Dependencies, Job, JobState
from controller.core.request_view import (
    HeldFor,
    Needed,
    Surroundings,
    needed,
    shown,
    shown_needed,
    shown_wait,
    why_it_waits,
)
from controller.holds import HoldBook, Pause
from controller.ports import Clock, Hold, JobStore
from controller.room import StoreRoom
from controller.stages.admit import Admit

AHEAD_MAX: Final = 1_000
"""Requests before one that are counted."""
READ_MAX: Final = 100
"""Requests of a list that are read at a time: decoding them takes some milliseconds of the store's thread."""


@dataclass(slots=True, kw_only=True)
class Inspection:
    """Reads what the store and the parts of the application know of a request."""

    clock: Clock
    store: JobStore
    holds: HoldBook
    room: StoreRoom
    budgets: Budgets
    admit: Admit
    limits_of: Callable[[str], QueueLimits]
    _line: anyio.Lock = field(default_factory=anyio.Lock, init=False)
    """One question at a time."""

    async def request(self, request_id: str) -> Sequence[JSON]:
        """Every life of a request id that is known, newest first; none: it is not known. Raises StoreUnavailable."""
        async with self._line:
            lives = (await self.store.find_requests([request_id])).get(request_id, ())
            return [await self._whole(life) for life in reversed(lives)]

    async def page(self, asked: Inquiry) -> dict[str, JSON]:
        """``requests``, and ``next`` if there may be more of them. Raises StoreUnavailable."""
        found: list[JSON] = []
        async with self._line:
            while True:
                room = min(READ_MAX, asked.limit - len(found))
                page = await self.store.list_requests(replace(asked, limit=room))
                found += [shown(job) for job in page.jobs]
                asked = replace(asked, after=page.after)
                if page.after is None or len(found) == asked.limit or len(page.jobs) < room:
                    break  # fewer than asked for: as many rows were looked at as may be
                await anyio.lowlevel.checkpoint()
        return {"requests": found} if asked.after is None else {"requests": found, "next": str(asked.after)}

    async def _whole(self, life: Job) -> JSON:
        record = shown(life)
        needs: Sequence[Needed] = ()
        if life.dependencies is not Dependencies.NONE:
            names = await self.store.named_dependencies(life.key)
            needs = needed(names, await self.store.find_requests(names) if names else {})
            record["dependencies"] = life.dependencies.value
        if needs:
            record["depends_on"] = [shown_needed(each) for each in needs]
        if life.state is JobState.QUEUED:
            wait = why_it_waits(life, self._surroundings(life, needs))
            ahead = await self.store.ahead(life.key, limit=AHEAD_MAX)
            record["waits_for"] = shown_wait(wait, ahead=ahead, ahead_max=AHEAD_MAX)
        return record

    def _surroundings(self, job: Job, needs: Sequence[Needed]) -> Surroundings:
        name = job.job_queue
        planned = self.admit.planned
        view = None if planned is None else planned.view(name)
        return Surroundings(
            now=self.clock.now(),
            unmet=[each.request_id for each in needs if not each.is_met],
            is_paused=self.limits_of(name).paused,
            queue_hold=_held_for(self.holds.get(name)),
            pair_hold=_held_for(self.holds.get(name, job.job_definition)),
            stopped_by=self._stopped_by(),
            is_unsorted=self.holds.paused_by(name) is Pause.UNSORTED,
            is_resting=job.key in self.holds.resting(),
            queue=view,
            waiting_on=None if planned is None else planned.waiting_on(name),
            has_concurrency=planned is None or not self.admit.is_at_concurrency(planned),
            rate_per_s=self.budgets.rate_per_s(Purpose.SUBMIT),
        )

    def _stopped_by(self) -> str | None:
        if self.room.is_short:
            return "disk"
        pause = self.holds.stopped_by or self.holds.paused_by()
        return None if pause is None else pause.value


def _held_for(hold: Hold | None) -> HeldFor | None:
    return None if hold is None else HeldFor(reason=hold.reason, since=hold.held_at)
