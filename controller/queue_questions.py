"""What is the matter with a job queue that refused? DescribeJobQueues for the submit stage, in few calls.

A refused request keeps its place among those that are being sent until the answer is there. Were each name asked for in
a call of its own, requests for names that do not exist would take all these places at the rate of the list budget.
"""

from __future__ import annotations

import copy

import anyio

from controller.budgets import Budgets, Purpose
from controller.core.errors import OutwardError, Refused
from controller.core.job import QueueStatus
from controller.core.limits import DESCRIBE_QUEUES_MAX
from controller.health import Health
from controller.ports import BatchApi, Clock

Answer = QueueStatus | OutwardError | None
"""None: Batch does not know it."""


class QueueQuestions:
    """One call at a time answers all who had asked when it began."""

    def __init__(self, *, batch: BatchApi, budgets: Budgets, clock: Clock, health: Health) -> None:
        self._batch = batch
        self._budgets = budgets
        self._clock = clock
        self._health = health
        self._turn = anyio.Lock()
        self._asked: list[str] = []
        """The queue, as requests name it, of each who waits; the one asked for first comes first."""
        self._answers: dict[str, tuple[float, Answer]] = {}
        """Of the latest call, with when it began (monotonic): whoever it is for has the next turns."""

    async def ask(self, queue: str) -> QueueStatus | None:
        """The queue's state as of now or later; None: Batch does not know it. Raises OutwardError's kinds."""
        asked_at = self._clock.monotonic()
        self._asked.append(queue)
        try:
            async with self._turn:
                began_at, answer = self._answers.get(queue, (-1.0, None))
                if began_at < asked_at:
                    answer = await self._call(queue)
        finally:
            self._asked.remove(queue)
        if isinstance(answer, OutwardError):
            raise copy.copy(answer)  # one each, so that their tracebacks don't pile up on one another
        return answer

    async def _call(self, queue: str) -> Answer:
        answers = await self._answered(queue, DESCRIBE_QUEUES_MAX)
        if len(answers) > 1 and isinstance(answers[queue][1], Refused):
            # Of the call as a whole, perhaps for one name that Batch can't read: each then asks for itself.
            answers = await self._answered(queue, 1)
        self._answers = answers
        return answers[queue][1]

    async def _answered(self, queue: str, count: int) -> dict[str, tuple[float, Answer]]:
        """The answers to this one and others that are asked for, ``count`` in all."""
        await self._budgets.acquire(Purpose.LIST)
        names = list(dict.fromkeys([queue, *self._asked]))[:count]
        began_at = self._clock.monotonic()
        try:
            with self._health.watched("batch:DescribeJobQueues"), self._budgets.heeding(Purpose.LIST):
                found = await self._batch.describe_job_queues(names)
        except OutwardError as error:
            return dict.fromkeys(names, (began_at, error))
        known = {reference: each for each in found for reference in (each.name, each.arn)}
        return {name: (began_at, known.get(name)) for name in names}
