"""Held job queues: asked for with DescribeJobQueues, released by themselves.

A queue that is ENABLED and VALID again is released; so is one that is gone, whose requests are then refused for good
by ``stages/submit.py``, each with its reason. A held pair is released there, by a request of it that Batch has judged;
and here, if no request of it comes any more.
"""

from __future__ import annotations

from typing import Final

from controller.budgets import Budgets, Purpose
from controller.core.limits import DESCRIBE_QUEUES_MAX
from controller.health import Health
from controller.holds import HoldBook
from controller.metrics import Metrics
from controller.ports import BatchApi

IDLE_MAX: Final = 100
"""Idle pairs released in one turn, a commit each."""


class Release:
    """One turn asks for every held queue that is due, in one call."""

    def __init__(self, *, holds: HoldBook, batch: BatchApi, budgets: Budgets, health: Health, metrics: Metrics) -> None:
        self._holds = holds
        self._batch = batch
        self._budgets = budgets
        self._health = health
        self._metrics = metrics

    async def turn(self) -> float | None:
        """Seconds until the next held queue is due; None: none is held."""
        for queue, definition in self._holds.idle()[:IDLE_MAX]:
            await self._holds.release(queue, definition, detail="no request came to find out with")
        queues = self._holds.queues_to_probe()[:DESCRIBE_QUEUES_MAX]
        if not queues:
            return self._holds.next_probe_s()
        await self._budgets.acquire(Purpose.LIST)
        with self._health.watched("batch:DescribeJobQueues"), self._budgets.heeding(Purpose.LIST):
            found = {status.name: status for status in await self._batch.describe_job_queues(queues)}
        for queue in queues:
            status = found.get(queue)
            if status is None:
                await self._holds.release(queue, "", detail="the job queue no longer exists")
                continue
            self._metrics.know_queue(queue)  # before its release is counted: after a start nobody may have asked yet
            if status.accepts_jobs:
                await self._holds.release(queue, "", detail="ENABLED and VALID")
        return self._holds.next_probe_s()
