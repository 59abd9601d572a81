"""Publishing: each row once as long as nothing fails, and a refused call shows."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.core import lifecycle
from controller.core.errors import NotAllowed, Unavailable
from controller.health import Health
from controller.metrics import Metrics
from controller.ports import DeadLetter, InsertJob, InsertRejection, OutboxRow
from controller.stages.publish import CHUNK, SIZE, Publish
from tests.stages.conftest import ManualClock
from tests.stages.test_long_turns import request


class Sink:
    def __init__(self, name: str = "log") -> None:
        self.name = name
        self.published: list[str] = []
        self.sizes: list[int] = []
        self.failure: Exception | None = None
        self.refused: set[int] = set()

    async def publish(self, rows: Sequence[OutboxRow]) -> Sequence[int]:
        if self.failure is not None:
            raise self.failure
        self.sizes.append(sum(len(row.body) for row in rows))
        taken = [row for row in rows if row.key not in self.refused]
        self.published.extend(row.event_id for row in taken)
        await anyio.lowlevel.checkpoint()
        return [row.key for row in taken]


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def health(clock: ManualClock) -> Health:
    return Health(clock)


@pytest.fixture
async def publish(store: SqliteStore, sink: Sink, clock: ManualClock, metrics: Metrics, health: Health) -> Publish:
    job = request(1)
    await store.commit([InsertJob(job=job, body="{}", events=lifecycle.accepted(job, 1.0).events)])
    return Publish(store=store, sink=sink, clock=clock, metrics=metrics, health=health)


async def test_turns_at_the_same_time_publish_each_row_once(publish: Publish, sink: Sink) -> None:
    """The last turns of a drain begin while the loop's own turn may still be under way."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(publish.turn)
        tasks.start_soon(publish.turn)
    assert len(sink.published) == 1


async def test_a_row_that_stays_does_not_slow_down_the_others(publish: Publish, sink: Sink, store: SqliteStore) -> None:
    """A backlog of events is published without a pause; the row by itself is a failure, which is backed off from."""
    (first,) = await store.outbox("log", limit=10)
    sink.refused = {first.key}
    for number in range(2, 2 + 3 * CHUNK):
        job = request(number)
        await store.commit([InsertJob(job=job, body="{}", events=lifecycle.accepted(job, 1.0).events)])
    for _ in range(4):
        assert await publish.turn() == 0.0
    assert len(sink.published) == 3 * CHUNK
    with pytest.raises(Unavailable, match="none of 1"):
        await publish.turn()
    assert [row.key for row in await store.outbox("log", limit=10)] == [first.key]


async def test_large_rows_are_published_a_few_at_a_time(
    store: SqliteStore, clock: ManualClock, metrics: Metrics, health: Health
) -> None:
    """Two hundred dead letters of a megabyte each must not be in memory at once; and none has to wait for a wake-up."""
    for number in range(10):
        letter = DeadLetter(body="x" * 2**20, reason="r", error_code="e", message_id=f"m{number}", request_id=None)
        rejection = InsertRejection(message_id=f"m{number}", source="s", received_at=1.0, events=(), dead_letter=letter)
        await store.commit([rejection])
    sink = Sink("dead_letter")
    publish = Publish(store=store, sink=sink, clock=clock, metrics=metrics, health=health)
    while await publish.turn() is not None:
        pass
    assert len(sink.published) == 10
    assert max(sink.sizes) <= SIZE + 2**21


async def test_a_sink_that_may_not_be_written_to_makes_it_unready_until_it_may(
    publish: Publish, sink: Sink, health: Health
) -> None:
    """The call is named; the events wait in the outbox."""
    sink.failure = NotAllowed("sqs:SendMessageBatch: AccessDenied")
    with pytest.raises(NotAllowed):
        await publish.turn()
    problem = health.is_ready()[1]["checks"]["credentials"]["problem"]
    assert "sqs:SendMessageBatch on log" in problem[0]
    sink.failure = None
    await publish.turn()
    assert health.is_ready()[1]["checks"]["credentials"]["ok"]
