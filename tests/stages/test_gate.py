"""Whether more may be received: each SQS queue by its marks, and sure of its part."""

from __future__ import annotations

from controller.adapters.store.sqlite import SqliteStore
from controller.core.admission import IntakeMarks, QueueLimits
from controller.gate import IntakeGate
from controller.health import Health
from controller.holds import HoldBook
from controller.ports import InsertJob
from controller.room import StoreRoom
from tests.stages.conftest import ManualClock
from tests.store.engines import BODY, queued

A, B = "https://sqs.eu-west-1.amazonaws.com/123456789012/a", "https://sqs.eu-west-1.amazonaws.com/123456789012/b"


def gate(
    store: SqliteStore, clock: ManualClock, *, paused: frozenset[str] = frozenset(), is_paused: bool = False
) -> IntakeGate:
    health = Health(clock)
    return IntakeGate(
        store=store,
        holds=HoldBook(store=store, clock=clock, on_commit=lambda writes: None),
        health=health,
        limits_of=lambda name: QueueLimits(paused=name in paused),
        marks=IntakeMarks(high=10, low=8, maximum=25),
        sources=[A, B],
        room=StoreRoom(store=store, clock=clock, health=health, free_mib_min=None),
        is_paused=is_paused,
    )


async def stored(store: SqliteStore, source: str, count: int, *, first: int, job_queue: str = "high") -> None:
    rows = [queued(first + n, source=source, job_queue=job_queue, job_queue_ref=job_queue) for n in range(count)]
    await store.commit([InsertJob(job=row, body=BODY) for row in rows])


async def test_what_is_asked_for_takes_room(store: SqliteStore, clock: ManualClock) -> None:
    """Messages that may come are counted with the rows; all room claimed is not yet closed."""
    made = gate(store, clock)
    await stored(store, A, 4, first=0)
    await made.refresh()
    assert made.room(A) == 6
    made.claim(A, 6)
    assert made.room(A) == 0
    assert not made.is_closed(A)
    await stored(store, A, 6, first=4)
    made.claim(A, 0)
    await made.refresh()
    assert made.room(A) == 0
    assert made.is_closed(A)


async def test_rows_of_a_stopped_queue_take_nobodys_part(store: SqliteStore, clock: ManualClock) -> None:
    """One SQS queue fills the maximum with requests of a paused job queue, but for the part of the other, which goes
    on receiving up to its own high mark."""
    made = gate(store, clock, paused=frozenset({"stopped"}))
    await stored(store, A, 9, first=0, job_queue="stopped")
    await made.refresh()
    assert made.room(A) == 6
    await stored(store, A, 6, first=9, job_queue="stopped")
    await made.refresh()
    assert made.room(A) == 0
    assert made.is_closed(A)
    assert made.room(B) == 10
    await stored(store, B, 9, first=100)
    await made.refresh()
    assert made.room(B) == 1


async def test_what_another_asks_for_within_its_part_takes_no_room(store: SqliteStore, clock: ManualClock) -> None:
    """An idle long poll of one SQS queue does not close another; one that asks beyond its part takes of the rest."""
    made = gate(store, clock, paused=frozenset({"stopped"}))
    await stored(store, A, 10, first=0, job_queue="stopped")
    await stored(store, B, 10, first=100, job_queue="stopped")
    await made.refresh()
    assert made.room(A) == made.room(B) == 5
    made.claim(B, 3)
    assert made.room(A) == 2
    await made.refresh()
    assert made.room(A) == 2
    only_a = gate(store, clock)
    only_a.claim(B, 10)
    assert only_a.room(A) == 10


async def test_intake_that_is_paused_asks_for_nothing(store: SqliteStore, clock: ManualClock) -> None:
    """By the configuration. It is closed on purpose, as by a full backlog, and told as what it is."""
    made = gate(store, clock, is_paused=True)
    await made.refresh()
    assert made.room(A) == made.room(B) == 0
    assert made.is_closed(A)
    assert [reason for reason, holds in made.pauses().items() if holds and reason != "standby"] == ["configured"]
