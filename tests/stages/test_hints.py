"""The hints stage and what tracking makes of it: a lost, repeated or nonsensical message costs time at most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
import structlog

from controller.adapters.batch_events import decode_event
from controller.adapters.store.sqlite import SqliteStore
from controller.budgets import Budgets, Purpose
from controller.core.errors import BadCredentials, NotAllowed, Unavailable
from controller.core.hints import EventOutcome, HintBook
from controller.core.job import BatchStatus, JobState, Observation
from controller.core.polling import Schedule
from controller.health import Health
from controller.ledger import Ledger
from controller.loop import Drain, Wake
from controller.metrics import Metrics
from controller.ports import InsertJob, Message
from controller.stages.hints import Hints
from tests.adapters.test_batch_events import DETAIL, body
from tests.stages.conftest import ManualClock, tracking
from tests.stages.test_long_turns import request

JOB_ID = str(DETAIL["jobId"])
RUNNING = body({**DETAIL, "status": "RUNNING"})
ENDED = body({**DETAIL, "status": "FAILED", "container": {"exitCode": 3}, "attempts": [{}], "stoppedAt": 1})


class Queue:
    """An SQS queue of events; what is not deleted stays."""

    url = "https://sqs.us-east-1.amazonaws.com/123456789012/batch-events"

    def __init__(self) -> None:
        self.bodies: dict[str, str] = {}
        self.failure: Exception | None = None
        self.delete_failure: Exception | None = None
        self.while_polling: Any = lambda: None

    def put(self, *bodies: str) -> None:
        self.bodies.update({f"handle-{len(self.bodies) + n}": text for n, text in enumerate(bodies)})

    async def receive(self, **_: object) -> Sequence[Message]:
        await anyio.lowlevel.checkpoint()
        self.while_polling()
        if self.failure is not None:
            raise self.failure
        return [Message(message_id=key, receipt_handle=key, body=text) for key, text in list(self.bodies.items())[:10]]

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[str]:
        if self.delete_failure is not None:
            raise self.delete_failure
        for handle in receipt_handles:
            del self.bodies[handle]
        return ()

    async def release(self, receipt_handles: Sequence[str]) -> None:
        raise AssertionError("needs a permission that the stage does not ask for")


class Batch:
    """DescribeJobs as the test says: ids it does not know are missing."""

    def __init__(self) -> None:
        self.known: dict[str, Observation] = {}
        self.calls: list[Sequence[str]] = []

    async def describe_jobs(self, job_ids: Sequence[str]) -> Sequence[Observation]:
        self.calls.append(job_ids)
        return [self.known[job_id] for job_id in job_ids if job_id in self.known]


class Parts:
    """The two stages over one book, one schedule and one job."""

    def __init__(self, store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics) -> None:
        self.store, self.clock, self.metrics = store, clock, metrics
        self.queue, self.batch, self.drain = Queue(), Batch(), Drain()
        self.health = Health(clock)
        self.schedule = Schedule(interval_s_min=50.0, interval_s_max=300.0)
        self.book = HintBook(self.schedule, self.count, is_fed=True)
        self.outcomes: list[str] = []
        self.wake = Wake()
        self.hints = Hints(
            source=self.queue,
            decode=decode_event,
            book=self.book,
            count=self.count,
            clock=clock,
            drain=self.drain,
            health=self.health,
            wake_track=self.wake,
        )
        self.track = tracking(
            self.batch,
            clock=clock,
            store=store,
            ledger=ledger,
            budgets=Budgets(clock, dict.fromkeys(Purpose, 1_000.0), 1_000.0),
            health=self.health,
            metrics=metrics,
            schedule=self.schedule,
            hints=self.book,
        )

    def count(self, outcome: EventOutcome) -> None:
        self.outcomes.append(outcome.value)

    async def insert(self, job_id: str = JOB_ID) -> None:
        job = replace(
            request(1),
            state=JobState.TRACKED,
            batch_job_id=job_id,
            batch_status=BatchStatus.RUNNABLE,
            submitted_at=self.clock.now(),
            observed_at=self.clock.now(),
        )
        await self.store.commit([InsertJob(job=job, body="{}")])

    async def look(self, *, after_s: float) -> None:
        """Let time pass, and one turn of the track stage with all it begins."""
        self.clock.move(after_s)
        async with anyio.create_task_group() as tasks:
            await self.track.turn(tasks)

    async def state(self) -> str:
        (job,) = (await self.store.find_requests(["r1"]))["r1"]
        return str(job.state)

    async def events(self) -> list[str]:
        return [row.name for row in await self.store.outbox("log", limit=100)]


@pytest.fixture
def parts(store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics) -> Parts:
    return Parts(store, ledger, clock, metrics)


def _seen(status: BatchStatus, attempts: int = 0) -> Observation:
    return replace(_observed(ENDED), status=status, attempts=_observed(ENDED).attempts[:attempts])


def _observed(text: str) -> Observation:
    event = decode_event(text)
    assert not isinstance(event, EventOutcome)
    assert event.end is not None
    return event.end


async def _tracked(parts: Parts) -> None:
    """A job in flight that was just looked at, and is not due for long."""
    await parts.insert()
    parts.batch.known[JOB_ID] = _seen(BatchStatus.RUNNABLE)
    await parts.track.begin()
    await parts.look(after_s=0.1)
    assert len(parts.batch.calls) == 1


async def test_an_end_is_confirmed_at_once_and_only_by_an_answer(parts: Parts) -> None:
    """The event makes a call; what is stored is what the call says."""
    await _tracked(parts)
    parts.queue.put(ENDED)
    await parts.hints.turn()
    assert parts.wake._event.is_set()
    assert parts.queue.bodies == {}
    assert await parts.state() == "TRACKED"
    parts.batch.known[JOB_ID] = _seen(BatchStatus.SUCCEEDED, 1)
    await parts.look(after_s=0.1)
    assert await parts.state() == "SUCCEEDED", "Batch's answer, not the event's FAILED"
    assert parts.outcomes == ["final"]


async def test_an_event_is_not_believed(parts: Parts) -> None:
    """A forged or wrong final event ends nothing as long as Batch says otherwise."""
    await _tracked(parts)
    parts.queue.put(ENDED)
    await parts.hints.turn()
    for _ in range(5):
        await parts.look(after_s=100.0)
    assert len(parts.batch.calls) > 3
    assert await parts.state() == "TRACKED"


async def test_the_end_of_a_job_that_batch_no_longer_knows_is_what_the_event_said(parts: Parts) -> None:
    """Several answers without the job, and a final event: it ends as the event says, not as LOST. One is not enough."""
    await _tracked(parts)
    parts.queue.put(ENDED)
    await parts.hints.turn()
    del parts.batch.known[JOB_ID]
    for expected in ("TRACKED", "TRACKED", "FAILED"):
        await parts.look(after_s=60.0)
        assert await parts.state() == expected
    (job,) = (await parts.store.find_requests(["r1"]))["r1"]
    assert job.stopped_at == 0.001
    assert "job.finished" in await parts.events()
    assert "job.lost" not in await parts.events()
    assert len(parts.book) == 0


async def test_an_event_may_come_before_the_job_is_followed(parts: Parts) -> None:
    """The event of a job whose SubmitJob has not been answered yet counts when the job is loaded or followed."""
    parts.queue.put(ENDED)
    await parts.hints.turn()
    assert parts.outcomes == []
    await parts.insert()
    await parts.track.begin()
    assert parts.outcomes == ["final"]


async def test_nonsense_is_counted_and_deleted(parts: Parts) -> None:
    """Messages that are no events, events of strangers and of children: nothing stays in the queue or breaks."""
    await _tracked(parts)
    child = body({**DETAIL, "jobId": f"{JOB_ID}:7", "status": "SUCCEEDED"})
    stranger = body({**DETAIL, "jobId": "theirs:1", "status": "SUCCEEDED"})
    parts.queue.put("{", body(source="aws.ec2"), RUNNING, body(), child, stranger)
    await parts.hints.turn()
    assert parts.outcomes == ["malformed", "other", "hint", "stale", "hint", "foreign"]
    assert parts.queue.bodies == {}


@pytest.mark.parametrize("failure", [Unavailable("gone"), BadCredentials("expired"), NotAllowed("no")])
async def test_a_queue_that_does_not_answer_ends_nothing(parts: Parts, failure: Exception) -> None:
    """The stage loop backs off by the error; polling goes on; a refusal shows, and ends with the next success."""
    await _tracked(parts)
    parts.queue.failure = failure
    with pytest.raises(type(failure)):
        await parts.hints.turn()
    refused = parts.health.is_ready()[1]["checks"]["credentials"]["ok"]
    assert refused is isinstance(failure, Unavailable)
    await parts.look(after_s=400.0)
    assert len(parts.batch.calls) == 2
    parts.queue.failure = None
    await parts.hints.turn()
    assert parts.health.is_ready()[1]["checks"]["credentials"]["ok"]


async def test_a_message_that_cannot_be_deleted_is_stale_when_it_comes_again(parts: Parts) -> None:
    """It was taken; the second time it says nothing new."""
    await _tracked(parts)
    parts.queue.put(ENDED)
    parts.queue.delete_failure = Unavailable("reset")
    with pytest.raises(Unavailable):
        await parts.hints.turn()
    parts.queue.delete_failure = None
    await parts.hints.turn()
    assert parts.outcomes == ["final", "stale"]


async def test_what_comes_while_draining_stays_in_the_queue(parts: Parts) -> None:
    """Nobody would look any more: the next start finds the messages, and describes every job anyway."""
    await _tracked(parts)
    parts.queue.put(ENDED)
    parts.queue.while_polling = parts.drain.request
    await parts.hints.turn()
    assert parts.outcomes == []
    assert len(parts.queue.bodies) == 1


async def test_it_says_once_when_events_are_healthy_and_once_when_they_are_missing(parts: Parts) -> None:
    """One line each, with the ratio; not one per turn."""
    for n in range(10):
        parts.book.watch.announced(parts.clock.monotonic() + n)
    with structlog.testing.capture_logs() as lines:
        await parts.look(after_s=1.0)
        await parts.look(after_s=1.0)
        for n in range(10):
            parts.book.watch.unannounced(f"job-{n}", parts.clock.monotonic())
        await parts.look(after_s=20.0)
        await parts.look(after_s=1.0)
    said: list[Mapping[str, Any]] = [line for line in lines if "events" in str(line["event"])]
    assert [(line["log_level"], line["missed_ratio"]) for line in said] == [("info", 0.0), ("warning", 0.5)]


@pytest.mark.parametrize(("events", "pause_s"), [(1, 0.18), (5, 0.1), (10, 0.0), (0, 0.5)])
async def test_few_events_at_a_time_are_gathered(parts: Parts, events: int, pause_s: float) -> None:
    """Each would cost a receive and a delete of its own; a poll that was full is followed by the next at once. One that
    brought nothing and did not wait for anything pauses as any receiver does."""
    parts.health.expect_queue(parts.queue.url)
    parts.health.worked("sqs:ReceiveMessage", subject=parts.queue.url)
    parts.queue.put(*[RUNNING] * events)
    assert await parts.hints.turn() == pytest.approx(pause_s)
