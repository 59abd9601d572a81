"""QUEUED requests that are to end: ``expiresAt`` has passed, or a cancel waits on a marked row.

A marked row (its submission was in doubt once) is looked up first: what is found is adopted, then followed or
terminated.
"""

from __future__ import annotations

from typing import Final

from controller.core.errors import OutwardError
from controller.core.job import Job, RowKey
from controller.core.lifecycle import Expired, Fact, FoundByName, NeverFound
from controller.ledger import Ledger
from controller.lookup import LookUp
from controller.ports import Clock, JobStore

CHUNK: Final = 200
RETRY_S: Final = 5.0
"""A look-up that gave no answer is repeated after this."""
LOOKS_S: Final = 10.0
"""No look-up begins later than this in a turn: marked rows come in numbers after an outage, when calls are slow."""


class Expire:
    """One turn ends a chunk of requests."""

    def __init__(self, *, store: JobStore, ledger: Ledger, look_up: LookUp, clock: Clock) -> None:
        self._store = store
        self._ledger = ledger
        self._look_up = look_up
        self._clock = clock
        self._look_at: dict[RowKey, float] = {}
        """Monotonic; of rows whose look-up gave no answer."""

    async def turn(self) -> float | None:
        began_at = self._clock.monotonic()
        jobs = await self._store.closing(self._clock.now(), limit=CHUNK)
        await self._ledger.record([(job, Expired()) for job in jobs if not job.is_marked])
        known, self._look_at = self._look_at, {}
        for job in jobs:
            if job.is_marked:
                self._look_at[job.key] = known.get(job.key, began_at)
        for job in sorted((job for job in jobs if job.is_marked), key=lambda job: self._look_at[job.key]):
            now = self._clock.monotonic()
            if self._look_at[job.key] > now or now > began_at + LOOKS_S:
                break
            await self._look(job)
        if self._look_at:
            return max(0.0, min(self._look_at.values()) - self._clock.monotonic())
        return 0.0 if len(jobs) == CHUNK else None

    async def _look(self, job: Job) -> None:
        fact = await self._looked_up(job)
        if fact is None:
            self._look_at[job.key] = self._clock.monotonic() + RETRY_S
        else:
            del self._look_at[job.key]
            await self._ledger.record([(job, fact)])

    async def _looked_up(self, job: Job) -> Fact | None:
        try:
            found = await self._look_up.find(job)
        except OutwardError:
            return None
        if found is None:
            return NeverFound()
        return FoundByName(job_id=found.job_id, job_arn=found.job_arn, created_at=found.created_at)
