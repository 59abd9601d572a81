"""Cancelled requests that run already: TerminateJob, repeated until Batch reports the job final.

TerminateJob is asynchronous, and its answer says only that it was heard; ``stages/track.py`` sees the end.
"""

from __future__ import annotations

from typing import Final

import structlog

from controller.budgets import Budgets, Purpose
from controller.core.errors import BadCredentials, NotAllowed, OutwardError, Throttled
from controller.core.job import Job, RowKey
from controller.core.reasons import terminate_reason
from controller.health import Health
from controller.loop import Outage
from controller.ports import BatchApi, Clock, JobStore

REPEAT_S: Final = 30.0
"""A job that is still not final is told again after this."""
RETRY_S: Final = 2.0
"""After a throttle."""
CHUNK: Final = 500
LOOK_SHARE: Final = 0.2
"""Of the time, at most, goes into looking for those never told: each look reads all that are cancelled and run still,
and cancels of thousands come ten at a time."""
TURN_S: Final = 10.0
"""No call begins later than this in a turn: a cancel of thousands takes minutes at the budget's rate."""


class Terminate:
    """One turn tells every job that is due."""

    def __init__(self, *, store: JobStore, batch: BatchApi, budgets: Budgets, clock: Clock, health: Health) -> None:
        self._store = store
        self._batch = batch
        self._budgets = budgets
        self._clock = clock
        self._health = health
        self._told_at: dict[RowKey, float] = {}
        """Monotonic; not of those whose call was throttled."""
        self._again_after = RowKey(0)
        """Up to this key each was told again already, if it was due."""
        self._look_at = 0.0
        """Monotonic: not before this are those looked for that were never told."""
        self._outage = Outage(clock)
        self._log = structlog.get_logger(stage="terminate")

    async def turn(self) -> float | None:
        """Seconds until a job is to be told, again or at last; None: no job is."""
        now = self._clock.monotonic()
        if self._look_at > now:
            return self._look_at - now
        until = now + TURN_S
        live = await self._tell_new(until)
        if live is None or not await self._tell_again(until):
            return 0.0
        now = self._clock.monotonic()
        pauses = [at + REPEAT_S - now for at in self._told_at.values()]
        if len(self._told_at) < live:
            pauses.append(RETRY_S)
        return max(0.0, min(pauses)) if pauses else None

    async def _tell_new(self, until: float) -> int | None:
        """Tell those that were never told; how many there are in all, or None: there was no time for the last.

        They come first: a job that waits for another one is cancelled only when that one has ended (``CancelJob`` in
        the API reference), and thousands of such jobs are told again and again meanwhile.
        """
        live: set[RowKey] = set()
        after = RowKey(0)
        read_s = 0.0
        while True:
            began_at = self._clock.monotonic()
            jobs = await self._store.terminating(after=after, limit=CHUNK)
            read_s += self._clock.monotonic() - began_at
            for job in jobs:
                live.add(job.key)
                if job.key in self._told_at:
                    continue
                if self._clock.monotonic() > until:
                    return None
                await self._tell(job)
            if len(jobs) < CHUNK:
                break
            after = jobs[-1].key
        self._look_at = self._clock.monotonic() + read_s / LOOK_SHARE
        self._told_at = {key: at for key, at in self._told_at.items() if key in live}
        return len(live)

    async def _tell_again(self, until: float) -> bool:
        """Tell those that are due once more; False: some are left for the next turn, which goes on with them."""
        if not self._again_after and all(at + REPEAT_S > self._clock.monotonic() for at in self._told_at.values()):
            return True
        begun_after = after = self._again_after
        while True:
            jobs = await self._store.terminating(after=after, limit=CHUNK)
            for job in jobs:
                now = self._clock.monotonic()
                if self._told_at.get(job.key, now) + REPEAT_S > now:
                    continue
                if now > until:
                    self._again_after = RowKey(job.key - 1)
                    return False
                await self._tell(job)
            if len(jobs) < CHUNK:
                break
            after = jobs[-1].key
        self._again_after = RowKey(0)
        return not begun_after

    async def _tell(self, job: Job) -> None:
        assert job.batch_job_id is not None
        self._told_at[job.key] = self._clock.monotonic()
        try:
            await self._budgets.acquire(Purpose.TERMINATE)
            self._told_at[job.key] = self._clock.monotonic()
            await self._batch.terminate_job(job_id=job.batch_job_id, reason=terminate_reason(job))
        except Throttled:
            self._budgets.throttled(Purpose.TERMINATE)
            del self._told_at[job.key]
        except (BadCredentials, NotAllowed) as error:
            self._health.refused("batch:TerminateJob", str(error), is_permission=isinstance(error, NotAllowed))
        except OutwardError as error:
            if failures := self._outage.failed():
                self._log.warning(
                    "TerminateJob failed", request_id=job.request_id, reason=str(error), failures=failures
                )
        else:
            if failures := self._outage.worked():
                self._log.info("TerminateJob works again", failures=failures)
            self._budgets.succeeded(Purpose.TERMINATE)
            self._health.worked("batch:TerminateJob")
            self._log.info("TerminateJob sent", request_id=job.request_id, job_id=job.batch_job_id)
