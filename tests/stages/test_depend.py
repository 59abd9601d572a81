"""The stage that lets requests go once what they depend on has a job."""

from __future__ import annotations

from typing import Any

import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.core.job import Dependencies, Job, JobState
from controller.core.lifecycle import Accepted, Admitted, CancelAsked, Forgotten, Missed, NotAccepted
from controller.ledger import Ledger
from controller.ports import HeadOf, InsertJob
from controller.stages.depend import CHUNK, Depend
from tests.stages.conftest import ManualClock
from tests.stages.test_long_turns import request

WAIT_S = 1_000.0


@pytest.fixture
def depend(store: SqliteStore, ledger: Ledger, clock: ManualClock) -> Depend:
    return Depend(store=store, ledger=ledger, clock=clock, wait_s=WAIT_S)


async def put(store: SqliteStore, number: int, *on: int, **members: Any) -> Job:
    dependencies = Dependencies.UNMET if on else Dependencies.NONE
    job = request(number, dependencies=dependencies, **members)
    await store.commit([InsertJob(job=job, body="{}", depends_on=tuple(f"r{n}" for n in on))])
    return await get(store, number)


async def get(store: SqliteStore, number: int) -> Job:
    return (await store.find_requests([f"r{number}"]))[f"r{number}"][-1]


async def backlog(store: SqliteStore) -> list[str]:
    (rows,) = await store.heads([HeadOf(job_queue="high", limit=99)], now=0.0)
    return [job.request_id for job in rows]


async def submit(ledger: Ledger, job: Job) -> Job:
    for fact in (Admitted(), Accepted(job_id=f"id-{job.request_id}", job_arn=None)):
        (job,) = await ledger.record([(job, fact)])
    return job


async def test_a_chain_is_let_go_link_by_link(depend: Depend, store: SqliteStore, ledger: Ledger) -> None:
    """Whatever the order in which its requests come: each once the one before it has a job."""
    await put(store, 3, 2)
    await put(store, 2, 1)
    assert await depend.turn() is None
    assert await backlog(store) == []
    job = await put(store, 1)
    assert await backlog(store) == ["r1"]
    for number in (2, 3):
        await submit(ledger, job)
        await depend.turn()
        assert await backlog(store) == [f"r{number}"]
        job = await get(store, number)


async def test_the_end_of_one_is_the_end_of_all_behind_it(depend: Depend, store: SqliteStore, ledger: Ledger) -> None:
    """Each with the reason next to it."""
    first = await put(store, 1)
    await put(store, 2, 1)
    await put(store, 3, 2)
    await depend.turn()
    await ledger.record([(first, CancelAsked(reason=None))])
    for _ in range(2):
        await depend.turn()
    ends = [await get(store, number) for number in (2, 3)]
    assert [(job.state, job.reason, job.reason_class) for job in ends] == [
        (JobState.CANCELLED, f"request r{n}, which it depends on, ended CANCELLED", "dependency_failed") for n in (1, 2)
    ]
    await depend.turn()
    assert not store.has_dependents


async def test_what_changed_while_the_process_was_away_is_considered(
    store: SqliteStore, ledger: Ledger, clock: ManualClock, depend: Depend
) -> None:
    """What is due is stored with the change: nobody has to have been told of it."""
    first = await put(store, 1)
    await put(store, 2, 1)
    await depend.turn()
    await submit(ledger, first)
    again = Depend(store=store, ledger=ledger, clock=clock, wait_s=WAIT_S)
    await again.turn()
    assert (await get(store, 2)).dependencies is Dependencies.MET


async def test_what_was_not_sent_after_all_is_considered_again(
    depend: Depend, store: SqliteStore, ledger: Ledger
) -> None:
    """What it depends on ended badly while it was about to be sent, which was left to Batch then."""
    first = await submit(ledger, await put(store, 1))
    await put(store, 2, 1)
    await depend.turn()
    (second,) = await ledger.record([(await get(store, 2), Admitted())])
    (first,) = await ledger.record([(first, Missed())])
    await ledger.record([(first, Forgotten())])
    await depend.turn()
    assert (await get(store, 2)).state is JobState.SUBMITTING
    await ledger.record([(second, NotAccepted())])
    await depend.turn()
    assert (await get(store, 2)).reason == "request r1, which it depends on, ended LOST"


async def test_what_waits_too_long_is_ended(depend: Depend, store: SqliteStore, clock: ManualClock) -> None:
    """Counted from when it was received, to the second."""
    await put(store, 2, 1)
    clock.move(WAIT_S - 1)
    await depend.turn()
    assert (await get(store, 2)).state is JobState.QUEUED
    clock.move(1)
    await depend.turn()
    ended = await get(store, 2)
    assert (ended.state, ended.reason) == (
        JobState.CANCELLED,
        "request r1, which it depends on, was not received within 1000 s",
    )


async def test_a_crowd_is_considered_chunk_by_chunk(depend: Depend, store: SqliteStore, ledger: Ledger) -> None:
    """More than a chunk that wait for the same request: the stage goes on at once, and then rests."""
    first = await put(store, 1)
    for number in range(2, CHUNK + 12):
        await put(store, number, 1)
    assert await depend.turn() == 0.0
    assert await depend.turn() is None
    await submit(ledger, first)
    assert await depend.turn() == 0.0
    assert await depend.turn() is None
    assert [row.count for row in await store.usage() if row.is_unmet] == []


async def test_a_cancel_does_not_wait(depend: Depend, store: SqliteStore, ledger: Ledger) -> None:
    """A request that waits for another ends at once when it is cancelled, and leaves nothing behind."""
    job = await put(store, 2, 1)
    (ended,) = await ledger.record([(job, CancelAsked(reason="no more"))])
    assert (ended.state, ended.reason) == (JobState.CANCELLED, "no more")
    await depend.turn()
    assert not store.has_dependents
    assert await store.audit() == []
