"""Receiving and committing: what a group of awkward messages may not do to its neighbours or to the process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import pytest

from controller.adapters.batch_model import submit_job_shape
from controller.adapters.store.sqlite import SqliteStore
from controller.core.admission import IntakeMarks, QueueLimits
from controller.core.errors import StoreUnavailable
from controller.core.job import Job
from controller.core.request import Policy, Rules, Scope
from controller.gate import IntakeGate
from controller.health import Health
from controller.holds import HoldBook
from controller.intake import Decider
from controller.ledger import Ledger, Wakes
from controller.loop import Backoff, Drain
from controller.metrics import Metrics
from controller.ports import Message, Write
from controller.room import StoreRoom
from controller.stages.ingest import Ingest, _Held
from tests.stages.conftest import ManualClock

SOURCE = "https://sqs.eu-west-1.amazonaws.com/123456789012/requests"


class Queue:
    """An SQS queue that hands out what it has in one go."""

    url = SOURCE

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.deleted: list[str] = []
        self.when_empty: Callable[[], None] = lambda: None
        self.receives = 0

    async def receive(self, *, max_messages: int, wait_s: float, visibility_timeout_s: int) -> Sequence[Message]:
        self.receives += 1
        await anyio.lowlevel.checkpoint()
        taken, self.messages = self.messages, []
        if not taken:
            self.when_empty()
        return taken

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[str]:
        self.deleted.extend(receipt_handles)
        return ()


class Harness:
    """One ``Ingest`` on a queue, with everything around it real."""

    def __init__(
        self,
        store: Any,
        ledger: Ledger,
        clock: ManualClock,
        metrics: Metrics,
        *,
        high: int = 1_000,
        is_paused: bool = False,
        queue: Any = None,
        visibility_timeout_s: int = 60,
        receivers: int = 1,
    ) -> None:
        self.queue = queue or Queue()
        self.drain = Drain()
        self.health = Health(clock)
        self.health.expect_queue(SOURCE)
        rules = Rules(
            shapes=submit_job_shape(), policy=Policy(), scope=Scope(region="eu-west-1", account="123456789012")
        )
        self.gate = IntakeGate(
            store=store,
            holds=HoldBook(store=store, clock=clock, on_commit=lambda writes: None),
            health=self.health,
            limits_of=lambda name: QueueLimits(),
            marks=IntakeMarks(high=high, low=high - 1, maximum=high),
            sources=[SOURCE],
            room=StoreRoom(store=store, clock=clock, health=self.health, free_mib_min=None),
            is_paused=is_paused,
        )
        self.ingest = Ingest(
            source=self.queue,
            store=store,
            decider=Decider(store=store, ledger=ledger, clock=clock, rules=lambda: rules),
            clock=clock,
            drain=self.drain,
            health=self.health,
            metrics=metrics,
            wakes=Wakes(),
            chance=lambda: 0.0,
            gate=self.gate,
            visibility_timeout_s=visibility_timeout_s,
            receivers=receivers,
        )

    async def run(self) -> None:
        """Until the queue is empty and everything is committed."""
        self.queue.when_empty = self.drain.request
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.ingest.receive)
                tasks.start_soon(self.ingest.commit)


def message(number: int, body: dict[str, Any], **attributes: str) -> Message:
    return Message(message_id=f"m{number}", receipt_handle=f"h{number}", body=json.dumps(body), attributes=attributes)


def submit(request_id: str, **members: Any) -> dict[str, Any]:
    return {"requestId": request_id, "jobName": "align", "jobQueue": "high", "jobDefinition": "bwa:3", **members}


@pytest.fixture
def harness(store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics) -> Harness:
    return Harness(store, ledger, clock, metrics)


async def test_any_number_of_bad_messages_with_one_request_id_is_settled(harness: Harness, store: SqliteStore) -> None:
    """A producer that repeats its mistake under one id gets one rejection per message, all in the same group."""
    harness.queue.messages = [message(n, {"requestId": "same", "jobNam": n}) for n in range(60)]
    await harness.run()
    assert len(harness.queue.deleted) == 60
    assert [row.name for row in await store.outbox("log", limit=100)] == ["request.rejected"] * 60


async def test_any_number_of_conflicts_with_one_request_is_settled(harness: Harness, store: SqliteStore) -> None:
    """The first content stands; every other message of the id is a conflict whose event does not name it."""
    harness.queue.messages = [message(n, submit("same", priority=n)) for n in range(40)]
    await harness.run()
    assert len(harness.queue.deleted) == 40
    events = [json.loads(row.body) for row in await store.outbox("log", limit=100)]
    assert [event["event"] for event in events] == ["request.accepted", *["request.rejected"] * 39]
    assert not any("request_id" in event for event in events[1:])


class _Poisoned:
    """A store to which one request is a mistake of ours."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.commits = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, writes: Sequence[Write]) -> Sequence[bool]:
        self.commits += 1
        if self.commits == 1:
            raise AssertionError("a write breaks a rule of the store")
        return await self._store.commit(writes)


async def test_a_mistake_of_ours_leaves_its_messages_in_sqs_and_the_process_alive(
    store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics
) -> None:
    """What was not committed is not deleted, and the next group is."""
    harness = Harness(_Poisoned(store), ledger, clock, metrics)
    harness.queue.messages = [message(1, submit("r1"))]
    harness.drain.request()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            await harness.ingest._receive_once(Backoff(lambda: 0.0), 10)
            tasks.start_soon(harness.ingest.commit)
    assert harness.queue.deleted == []
    assert not await store.find_requests(["r1"])


class _Failing:
    """A store whose second look at requests fails."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._looks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def find_requests(self, request_ids: Sequence[str]) -> Mapping[str, Sequence[Job]]:
        self._looks += 1
        if self._looks == 2:
            raise StoreUnavailable("disk full")
        return await self._store.find_requests(request_ids)


async def test_what_of_a_group_is_stored_is_not_decided_again_when_the_store_fails(
    store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics
) -> None:
    """Else it would be counted, and deleted, a second time: as a duplicate, which nobody sent."""
    harness = Harness(_Failing(store), ledger, clock, metrics)
    sent = [message(1, submit("r1")), message(2, submit("r1")), message(3, submit("r2"))]
    harness.queue.messages = list(sent)
    await harness.run()
    assert sorted(harness.queue.deleted) == ["h1", "h2", "h3"]
    counted = metrics.requests_received_total
    outcomes = {outcome: counted.labels(outcome=outcome)._value.get() for outcome in ("accepted", "duplicate")}
    assert outcomes == {"accepted": 2, "duplicate": 1}


async def test_trace_state_that_w3c_does_not_know_is_not_carried(harness: Harness, store: SqliteStore) -> None:
    """Half of a surrogate pair could not even be stored."""
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    harness.queue.messages = [message(1, submit("r1"), traceparent=parent, tracestate="a=\ud800")]
    await harness.run()
    (job,) = (await store.find_requests(["r1"]))["r1"]
    assert (job.traceparent, job.tracestate) == (parent, None)


async def test_a_full_backlog_does_not_make_it_unready(
    store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics
) -> None:
    """After a restart with a backlog above the mark nothing is received; that makes no queue unreachable."""
    harness = Harness(store, ledger, clock, metrics)
    harness.queue.messages = [message(n, submit(f"r{n}")) for n in range(3)]
    await harness.run()
    await assert_ready_without_a_receive(Harness(store, ledger, clock, metrics, high=2))


async def test_intake_that_is_paused_receives_nothing_and_is_ready(
    store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics
) -> None:
    """A rollout of the setting must not wait for a queue that is never asked."""
    await assert_ready_without_a_receive(Harness(store, ledger, clock, metrics, is_paused=True))


async def assert_ready_without_a_receive(harness: Harness) -> None:
    await harness.gate.refresh()
    assert not harness.health.is_ready()[1]["checks"]["queues"]["ok"]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(harness.ingest.receive)
        await anyio.wait_all_tasks_blocked()
        harness.drain.request()
    assert harness.queue.receives == 0
    assert harness.health.is_ready()[1]["checks"]["queues"]["ok"]


WIDE = "\N{ROCKET}" + "x" * 1_000_000
"""A megabyte that takes four in memory."""


@pytest.mark.parametrize("in_attribute", [False, True], ids=["body", "attribute"])
async def test_large_messages_are_received_and_committed_a_few_at_a_time(harness: Harness, in_attribute: bool) -> None:
    """SQS takes bodies and attributes of a megabyte, and a character outside the basic plane makes each of a text's
    four bytes long: memory is bounded by what they take, not by their number."""
    waiting = []
    for number in range(40):
        body = submit(f"r{number}", **({} if in_attribute else {"parameters": {"input": WIDE}}))
        attributes = {"tenant": WIDE + str(number)} if in_attribute else {}
        text = json.dumps(body, ensure_ascii=False)
        waiting.append(Message(message_id=f"m{number}", receipt_handle=f"h{number}", body=text, attributes=attributes))

    async def receive(*, max_messages: int, **_: Any) -> Sequence[Message]:
        await anyio.lowlevel.checkpoint()
        taken, waiting[:] = waiting[:max_messages], waiting[max_messages:]
        return taken

    harness.queue.receive = receive  # type: ignore[method-assign]
    await harness.gate.refresh()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(harness.ingest.receive)
        await anyio.wait_all_tasks_blocked()
        assert len(waiting) == 30, "ten came with one receive, and are 40 MB"
        groups = []
        while harness.ingest._buffer:
            groups.append(len(harness.ingest._take_group()))
        assert groups == [3, 3, 3, 1]
        tasks.cancel_scope.cancel()


async def test_messages_that_were_not_stored_in_time_say_nothing_of_the_store(harness: Harness) -> None:
    """With nothing left to commit nothing was tried: intake stays closed until the store takes a change."""
    harness.health.store_failed("disk I/O error")
    expired = _Held(message(1, submit("r1")), hold_until=0.0, size=1)
    await harness.ingest._commit_or_keep([expired], Backoff(lambda: 0.0))
    assert harness.health.has_store_failed
    assert harness.gate.room(SOURCE) == 0
