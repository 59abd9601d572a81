"""Publishing: each row once as long as nothing fails, and a refused call shows."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.core import lifecycle
from controller.core.errors import NotAllowed
from controller.health import Health
from controller.metrics import Metrics
from controller.ports import InsertJob, OutboxRow
from controller.stages.publish import Publish
from tests.stages.conftest import ManualClock
from tests.stages.test_long_turns import request


class Sink:
    name = "log"

    def __init__(self) -> None:
        self.published: list[str] = []
        self.failure: Exception | None = None

    async def publish(self, rows: Sequence[OutboxRow]) -> Sequence[int]:
        if self.failure is not None:
            raise self.failure
        self.published.extend(row.event_id for row in rows)
        await anyio.lowlevel.checkpoint()
        return [row.key for row in rows]


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
