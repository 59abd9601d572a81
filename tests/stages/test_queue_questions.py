"""One DescribeJobQueues call answers all who had asked when it began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from controller.budgets import Budgets, Purpose
from controller.core.errors import OutwardError, Refused, Unavailable
from controller.core.job import QueueStatus
from controller.core.limits import DESCRIBE_QUEUES_MAX
from controller.health import Health
from controller.queue_questions import QueueQuestions
from tests.stages.conftest import ManualClock


class Batch:
    """Knows the queues of ``there``; each call takes a second."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.calls: list[list[str]] = []
        self.there = {"high", "low"}
        self.failure: Exception | None = None
        self.unreadable: str | None = None
        self.may_answer: anyio.Event | None = None

    async def fetch_credentials(self) -> None:
        """They are there."""

    async def describe_job_queues(self, names: Sequence[str]) -> Sequence[QueueStatus]:
        self.calls.append(list(names))
        there = set(self.there)
        if self.may_answer is not None:
            await self.may_answer.wait()
        self.clock.move(1.0)
        if self.failure is not None:
            raise self.failure
        if self.unreadable in names:
            raise Refused("ClientException")
        return [
            QueueStatus(name=name, arn=f"arn:{name}", state="ENABLED", status="VALID", status_reason="")
            for name in names
            if name in there
        ]


@pytest.fixture
def batch(clock: ManualClock) -> Batch:
    return Batch(clock)


@pytest.fixture
def questions(batch: Batch, clock: ManualClock) -> QueueQuestions:
    api: Any = batch
    budgets = Budgets(clock, dict.fromkeys(Purpose, 10.0), 100.0, fetch_credentials=batch.fetch_credentials)
    return QueueQuestions(batch=api, budgets=budgets, clock=clock, health=Health(clock))


async def _all(questions: QueueQuestions, names: Sequence[str]) -> dict[int, str]:
    """What each is told: the state, ``unknown`` or the name of the error."""
    told: dict[int, str] = {}

    async def ask(number: int, name: str) -> None:
        try:
            status = await questions.ask(name)
        except OutwardError as error:
            told[number] = type(error).__name__
        else:
            told[number] = "unknown" if status is None else status.state

    async with anyio.create_task_group() as tasks:
        for number, name in enumerate(names):
            tasks.start_soon(ask, number, name)
    return told


async def test_many_names_share_a_call(questions: QueueQuestions, batch: Batch) -> None:
    """Nobody waits for a call per name: a call takes what its limit allows."""
    names = [f"made-up-{number}" for number in range(DESCRIBE_QUEUES_MAX + 20)]
    told = await _all(questions, ["high", *names, "low"])
    assert [told[0], told[len(names) + 1]] == ["ENABLED", "ENABLED"]
    assert list(told.values()).count("unknown") == len(names)
    assert [len(call) for call in batch.calls] == [DESCRIBE_QUEUES_MAX, 22]


async def test_an_answer_is_never_older_than_its_question(questions: QueueQuestions, batch: Batch) -> None:
    """Who asks while a call is under way is not answered by it."""
    batch.may_answer = anyio.Event()
    batch.there = set()
    async with anyio.create_task_group() as tasks:
        told: list[QueueStatus | None] = []

        async def ask() -> None:
            told.append(await questions.ask("high"))

        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        batch.clock.move(0.1)
        batch.there = {"high"}
        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        batch.may_answer.set()
    assert told[0] is None
    assert told[1] is not None
    assert len(batch.calls) == 2


async def test_a_failed_call_is_everybodys_answer(questions: QueueQuestions, batch: Batch) -> None:
    """They don't wait for one deadline after the other."""
    batch.failure = Unavailable("no answer")
    told = await _all(questions, ["high", "low", "else"])
    assert set(told.values()) == {"Unavailable"}
    assert len(batch.calls) == 1


async def test_a_name_that_batch_cannot_read_spoils_no_other(questions: QueueQuestions, batch: Batch) -> None:
    """A call that is refused as a whole is made again for each name alone."""
    batch.unreadable = "unreadable"
    assert await _all(questions, ["high", "unreadable", "low"]) == {0: "ENABLED", 1: "Refused", 2: "ENABLED"}


async def test_nothing_is_kept_of_names(questions: QueueQuestions) -> None:
    """Whatever requests have named, memory is bounded by one call."""
    for number in range(0, 1_000, 10):
        await _all(questions, [f"made-up-{number + each}" for each in range(10)])
    assert len(questions._answers) <= 10
    assert not questions._asked


async def test_a_cancelled_question_holds_up_nobody(questions: QueueQuestions, batch: Batch) -> None:
    """The next one makes the call."""
    batch.may_answer = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(questions.ask, "low")
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    batch.may_answer.set()
    status = await questions.ask("high")
    assert status is not None
    assert status.name == "high"
    assert not questions._asked
