"""Submissions in doubt: looked up until they are found, or until nothing can come any more.

A row is in doubt when SubmitJob's answer was lost, and every row that was SUBMITTING when an earlier process ended is.
The look-up (ListJobs by the job's unique name) is repeated, less and less often; "not found" counts only once the
settle time has passed since the last moment at which a send could have begun, which is at the latest when this
process first saw the row in doubt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import anyio
import structlog

from controller.core.errors import OutwardError
from controller.core.job import Job, RowKey
from controller.core.lifecycle import FoundByName, LeftInDoubt, NotFound
from controller.ledger import Ledger
from controller.lookup import LookUp
from controller.loop import guarded
from controller.ports import Clock, JobStore

FIRST_LOOK_S: Final = 1.0
LOOK_INTERVAL_S_MAX: Final = 30.0
"""Looks are 1 s, 2 s, 4 s, … this far apart."""
PARALLEL: Final = 8
"""Look-ups of one turn, all at a time; the list budget spaces them. Few, so that a turn stays short (``/livez``, a
drain) when calls hang and the budget is cut: that is when there are many to do."""


def _sent(job: Job) -> int:
    """Another number for each send of a row: its version, but for the one change that can come while it is in doubt, a
    cancel."""
    return job.version - (job.cancel_requested_at is not None)


@dataclass(slots=True)
class _Doubt:
    sent: int
    """As ``_sent`` tells it."""
    settled_at: float
    """Monotonic; from then on "not found" counts."""
    look_at: float
    interval_s: float = FIRST_LOOK_S


class Rescue:
    """One turn looks up the rows in doubt that have been due longest."""

    def __init__(
        self,
        *,
        store: JobStore,
        ledger: Ledger,
        look_up: LookUp,
        clock: Clock,
        settle_s: float,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._look_up = look_up
        self._clock = clock
        self._settle_s = settle_s
        self._doubts: dict[RowKey, _Doubt] = {}
        self._log = structlog.get_logger(stage="rescue")

    async def recover(self) -> int:
        """At start, before anything is sent: what was SUBMITTING is in doubt. Returns how many rows are."""
        rows = await self._store.submitting()
        left = LeftInDoubt(reason="the controller ended before SubmitJob was answered", error_code="restart")
        await self._ledger.record([(job, left) for job in rows if not job.is_in_doubt])
        return len(rows)

    async def turn(self) -> float | None:
        """Seconds until the next look is due; None: nothing is in doubt."""
        rows = [job for job in await self._store.submitting() if job.is_in_doubt]
        now = self._clock.monotonic()
        self._remember(rows, now)
        due = [job for job in rows if self._doubts[job.key].look_at <= now]
        due.sort(key=lambda job: self._doubts[job.key].look_at)
        if due:
            await self._look(due[:PARALLEL])
        times = [doubt.look_at for doubt in self._doubts.values()]
        return max(0.0, min(times) - self._clock.monotonic()) if times else None

    def _remember(self, rows: Sequence[Job], now: float) -> None:
        """A row that has changed since may have been sent again: its settle time starts anew."""
        known = self._doubts
        self._doubts = {}
        for job in rows:
            doubt = known.get(job.key)
            if doubt is None or doubt.sent != _sent(job):
                doubt = _Doubt(_sent(job), now + self._settle_s, now + min(FIRST_LOOK_S, self._settle_s))
            self._doubts[job.key] = doubt

    async def _look(self, due: Sequence[Job]) -> None:
        async with anyio.create_task_group() as tasks:
            for job in due:
                tasks.start_soon(self._look_once, job, name=f"look up row {job.key}")

    async def _look_once(self, job: Job) -> None:
        self._postpone(self._doubts[job.key])
        await guarded(lambda: self._settle(job), stage="rescue")

    def _postpone(self, doubt: _Doubt) -> None:
        """The next look; one of them falls right on the moment from which "not found" counts."""
        now = self._clock.monotonic()
        look_at = now + doubt.interval_s
        if now < doubt.settled_at < look_at:
            look_at = doubt.settled_at
        doubt.look_at = look_at
        doubt.interval_s = min(LOOK_INTERVAL_S_MAX, 2 * doubt.interval_s)

    async def _settle(self, job: Job) -> None:
        doubt = self._doubts[job.key]
        began_at = self._clock.monotonic()
        try:
            found = await self._look_up.find(job)
        except OutwardError:
            return
        if found is not None:
            await self._ledger.record(
                [(job, FoundByName(job_id=found.job_id, job_arn=found.job_arn, created_at=found.created_at))]
            )
            self._log.info("submission adopted", request_id=job.request_id, job_id=found.job_id)
        elif began_at >= doubt.settled_at:
            (after,) = await self._ledger.record([(job, NotFound())])
            self._log.info("submission was not accepted", request_id=job.request_id, state=after.state.value)
