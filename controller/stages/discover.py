"""Names of job queues: a name from a request becomes a metric label only once AWS Batch knows it.

Asked for with DescribeJobQueues, as requests name new queues; so no message can make series of its own.
"""

from __future__ import annotations

from typing import Final

from controller.budgets import Budgets, Purpose
from controller.core.limits import DESCRIBE_QUEUES_MAX
from controller.health import Health
from controller.metrics import Metrics
from controller.ports import BatchApi, Clock, JobStore

ASK_AGAIN_S: Final = 300.0
"""A name that Batch did not know is asked for again after this: the queue may have been made since."""
NAMES_MAX: Final = 1_000
"""Names remembered as unknown; AWS allows 50 job queues, so more are surely mistakes."""


class Discover:
    """One turn asks for new names, in one call."""

    def __init__(
        self, *, store: JobStore, batch: BatchApi, budgets: Budgets, clock: Clock, health: Health, metrics: Metrics
    ) -> None:
        self._store = store
        self._batch = batch
        self._budgets = budgets
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self._known: set[str] = set()
        self._ask_at: dict[str, float] = {}

    async def turn(self) -> float | None:
        now = self._clock.monotonic()
        names = {row.job_queue for row in await self._store.usage()} - self._known
        due = sorted(name for name in names if self._ask_at.get(name, 0.0) <= now)[:DESCRIBE_QUEUES_MAX]
        if not due:
            return None
        await self._budgets.acquire(Purpose.LIST)
        with self._health.watched("batch:DescribeJobQueues"), self._budgets.heeding(Purpose.LIST):
            found = await self._batch.describe_job_queues(due)
        self._learn(due, {status.name for status in found}, now)
        return None

    def _learn(self, asked: list[str], found: set[str], now: float) -> None:
        if len(self._ask_at) > NAMES_MAX:
            self._ask_at.clear()
        for name in asked:
            if name in found:
                self._known.add(name)
                self._ask_at.pop(name, None)
                self._metrics.know_queue(name)
            else:
                self._ask_at[name] = now + ASK_AGAIN_S
