"""Cancelled requests that run already: TerminateJob, repeated until Batch reports the job final.

TerminateJob is asynchronous, and its answer says only that it was heard; ``stages/track.py`` sees the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog

from controller.budgets import Budgets, Purpose
from controller.core.errors import BadCredentials, NotAllowed, OutwardError, Throttled
from controller.core.job import Job, RowKey
from controller.core.reasons import terminate_reason
from controller.health import Health
from controller.ports import BatchApi, Clock, JobStore

REPEAT_S: Final = 30.0
"""A job that is still not final is told again after this."""
RETRY_S: Final = 2.0
"""After a throttle."""
CHUNK: Final = 500
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
        self._begin_after = RowKey(0)
        self._log = structlog.get_logger(stage="terminate")

    async def turn(self) -> float | None:
        """Seconds until a job is to be told again; None: no job is."""
        until = self._clock.monotonic() + TURN_S
        told, self._told_at = self._told_at, {}
        begun_after, self._begin_after = self._begin_after, RowKey(0)
        after = begun_after
        while True:
            jobs = await self._store.terminating(after=after, limit=CHUNK)
            for job in jobs:
                self._told_at[job.key] = told.get(job.key, -REPEAT_S)
            for job in jobs:
                now = self._clock.monotonic()
                if self._told_at[job.key] + REPEAT_S > now:
                    continue
                if now > until:
                    return self._go_on_later(told, RowKey(job.key - 1))
                await self._tell(job)
            if len(jobs) < CHUNK:
                break
            after = jobs[-1].key
        if begun_after:
            return self._go_on_later(told, RowKey(0))
        if not self._told_at:
            return None
        return max(0.0, min(self._told_at.values()) + REPEAT_S - self._clock.monotonic())

    def _go_on_later(self, told: Mapping[RowKey, float], after: RowKey) -> float:
        """The next turn takes the jobs behind ``after``: the first ones must not be told again before the last were."""
        since = self._clock.monotonic() - REPEAT_S
        self._told_at = {**{key: at for key, at in told.items() if at > since}, **self._told_at}
        self._begin_after = after
        return 0.0

    async def _tell(self, job: Job) -> None:
        assert job.batch_job_id is not None
        now = self._told_at[job.key] = self._clock.monotonic()
        try:
            await self._budgets.acquire(Purpose.TERMINATE)
            now = self._told_at[job.key] = self._clock.monotonic()
            await self._batch.terminate_job(job_id=job.batch_job_id, reason=terminate_reason(job))
        except Throttled:
            self._budgets.throttled(Purpose.TERMINATE)
            self._told_at[job.key] = now - REPEAT_S + RETRY_S
        except (BadCredentials, NotAllowed) as error:
            self._health.refused("batch:TerminateJob", str(error), is_permission=isinstance(error, NotAllowed))
        except OutwardError as error:
            self._log.warning("TerminateJob failed", request_id=job.request_id, reason=str(error))
        else:
            self._budgets.succeeded(Purpose.TERMINATE)
            self._health.worked("batch:TerminateJob")
            self._log.info("TerminateJob sent", request_id=job.request_id, job_id=job.batch_job_id)
