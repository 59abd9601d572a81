"""Retention: rows that leave, and what is told of it."""

from __future__ import annotations

from structlog.testing import capture_logs

from controller.adapters.store.sqlite import SqliteStore
from controller.ports import InsertRejection
from controller.stages.prune import CHUNK, Prune
from tests.stages.conftest import ManualClock


async def test_what_leaves_in_many_chunks_is_one_line(store: SqliteStore, clock: ManualClock) -> None:
    """A window that was made shorter lets a million rows go."""
    count = 2 * CHUNK + 7
    await store.commit(
        [
            InsertRejection(message_id=f"m{number}", source="q", received_at=clock.now(), events=())
            for number in range(count)
        ]
    )
    prune = Prune(store=store, clock=clock, final_s=60.0)
    with capture_logs() as lines:
        assert await prune.turn() is None
        clock.move(61)
        turns = [await prune.turn() for _ in range(4)]
    assert turns == [0.0, 0.0, None, None]
    assert [(line["event"], line["rows"]) for line in lines] == [("pruned", count)]
