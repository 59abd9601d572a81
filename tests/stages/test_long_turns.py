"""Stages with much to do: a turn stays short, so that the stage counts as turning and a drain does not wait for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.budgets import Budgets, Purpose
from controller.core.errors import NotAllowed, Throttled, Unavailable
from controller.core.job import Job, JobState, RowKey
from controller.core.lifecycle import Accepted, Admitted, CancelAsked, LeftInDoubt, NotFound
from controller.health import Health
from controller.ledger import Ledger
from controller.lookup import LookUp
from controller.ports import InsertJob, ListPage
from controller.stages.expire import CHUNK, RETRY_S, Expire
from controller.stages.rescue import PARALLEL, Rescue
from controller.stages.terminate import LOOK_SHARE, REPEAT_S, TURN_S, Terminate
from controller.stages.terminate import RETRY_S as TERMINATE_RETRY_S
from tests.stages.conftest import ManualClock

SLOW_S = 15.0
"""A call that hangs until its deadline."""


class Batch:
    """No job of any name; each call takes a while."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.call_s = 0.0
        self.failure: Exception | None = None
        self.looked_for: Counter[str] = Counter()
        self.told: list[str] = []

    async def list_jobs_named(self, *, job_queue: str, job_name: str, next_token: str | None = None) -> ListPage:
        self.looked_for[job_name] += 1
        await anyio.lowlevel.checkpoint()
        self.clock.move(self.call_s)
        if self.failure is not None:
            raise self.failure
        return ListPage(jobs=())

    async def terminate_job(self, *, job_id: str, reason: str) -> None:
        self.told.append(job_id)
        self.clock.move(self.call_s)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def batch(clock: ManualClock) -> Batch:
    return Batch(clock)


@pytest.fixture
def budgets(clock: ManualClock) -> Budgets:
    return Budgets(clock, dict.fromkeys(Purpose, 10.0), 40.0)


@pytest.fixture
def health(clock: ManualClock) -> Health:
    return Health(clock)


@pytest.fixture
def look_up(batch: Any, budgets: Budgets, clock: ManualClock, health: Health) -> LookUp:
    return LookUp(batch=batch, budgets=budgets, clock=clock, health=health)


def request(number: int, **members: Any) -> Job:
    return Job(
        request_id=f"r{number}",
        message_id=f"m{number}",
        source="https://sqs.eu-west-1.amazonaws.com/123456789012/requests",
        content_hash=b"\0" * 32,
        job_name=f"job-{number}",
        batch_job_name=f"job-{number}-0123456789ab",
        job_queue="high",
        job_queue_ref="high",
        job_definition="bwa:3",
        received_at=1_900_000_000.0,
        **members,
    )


async def stored(
    store: SqliteStore, ledger: Ledger, count: int, *facts: Any, first: int = 0, **members: Any
) -> Sequence[Job]:
    """Rows on which the facts are true; a fact is a value, or a function of the row."""
    numbers = range(first, first + count)
    await store.commit([InsertJob(job=request(n, **members), body="{}") for n in numbers])
    lives: Mapping[str, Sequence[Job]] = await store.find_requests([f"r{n}" for n in numbers])
    jobs: Sequence[Job] = [each[-1] for each in lives.values()]
    for fact in facts:
        jobs = await ledger.record([(job, fact(job) if callable(fact) else fact) for job in jobs])
    return jobs


DOUBT = LeftInDoubt(reason="no answer", error_code="x")


def accepted(job: Job) -> Accepted:
    return Accepted(job_id=f"id-{job.request_id}", job_arn=None)


async def test_rescue_looks_up_a_few_rows_a_turn_and_all_of_them_in_time(
    store: SqliteStore, ledger: Ledger, look_up: LookUp, clock: ManualClock, batch: Batch
) -> None:
    """With every look-up hanging, as in the outage that left them in doubt, no row waits for another twice."""
    await stored(store, ledger, 30, Admitted(), DOUBT)
    rescue = Rescue(store=store, ledger=ledger, look_up=look_up, clock=clock, settle_s=3_000.0)
    await rescue.turn()
    clock.move(2.0)
    batch.call_s, batch.failure = SLOW_S / PARALLEL, Unavailable("no answer")
    for _ in range(4):
        before = batch.looked_for.total()
        assert await rescue.turn() == 0.0 or batch.looked_for.total() >= 30
        assert batch.looked_for.total() - before <= PARALLEL
    assert len(batch.looked_for) == 30


async def test_expiry_ends_its_turn_when_look_ups_are_slow_and_goes_on_with_the_others(
    store: SqliteStore, ledger: Ledger, look_up: LookUp, clock: ManualClock, batch: Batch
) -> None:
    """A row without an answer waits; rows that were not looked up yet come before it."""
    await stored(store, ledger, 6, Admitted(), DOUBT, NotFound(), CancelAsked(reason=None))
    expire = Expire(store=store, ledger=ledger, look_up=look_up, clock=clock)
    batch.call_s, batch.failure = SLOW_S, Unavailable("no answer")
    for turn in range(1, 7):
        await expire.turn()
        assert len(batch.looked_for) == turn
    batch.call_s, batch.failure = 0.0, None
    clock.move(RETRY_S)
    assert await expire.turn() is None
    assert {job.state for job in (await store.load([RowKey(n) for n in range(1, 7)])).values()} == {JobState.CANCELLED}


async def test_what_has_expired_does_not_stand_behind_look_ups_without_an_answer(
    store: SqliteStore, ledger: Ledger, look_up: LookUp, clock: ManualClock, batch: Batch
) -> None:
    """A turn's worth of requests that were in doubt can't be ended while ListJobs fails; those that never were can."""
    await stored(store, ledger, CHUNK, Admitted(), DOUBT, NotFound(), CancelAsked(reason=None))
    await store.commit([InsertJob(job=request(CHUNK, expires_at=clock.now() - 1), body="{}")])
    batch.failure = Unavailable("no answer")
    await Expire(store=store, ledger=ledger, look_up=look_up, clock=clock).turn()
    assert (await store.load([RowKey(CHUNK + 1)]))[RowKey(CHUNK + 1)].state is JobState.CANCELLED


async def test_thousands_of_cancels_take_many_turns_and_each_job_its_turn(
    store: SqliteStore, ledger: Ledger, budgets: Budgets, health: Health, clock: ManualClock, batch: Any
) -> None:
    """At ten calls a second, nobody is told twice before the last was told once."""
    await stored(store, ledger, 700, Admitted(), accepted, CancelAsked(reason=None))
    terminate = Terminate(store=store, batch=batch, budgets=budgets, clock=clock, health=health)
    while len(batch.told) < 700:
        began_at = clock.elapsed
        assert await terminate.turn() is not None
        assert clock.elapsed - began_at <= TURN_S + 1
    assert len(set(batch.told)) == 700
    clock.move(REPEAT_S)
    await terminate.turn()
    assert len(batch.told) > 700, "told again until it is final"


async def test_a_cancel_does_not_stand_behind_those_that_are_told_again(
    store: SqliteStore, ledger: Ledger, budgets: Budgets, health: Health, clock: ManualClock, batch: Any
) -> None:
    """Jobs that wait for a long one are cancelled when that has ended: until then all of them are told again."""
    await stored(store, ledger, 700, Admitted(), accepted, CancelAsked(reason=None))
    terminate = Terminate(store=store, batch=batch, budgets=budgets, clock=clock, health=health)
    while len(batch.told) < 750:
        await terminate.turn()
    await store.commit([InsertJob(job=request(1_000), body="{}")])
    (late,) = (await store.find_requests(["r1000"]))["r1000"]
    for fact in (Admitted(), accepted(late), CancelAsked(reason=None)):
        (late,) = await ledger.record([(late, fact)])
    asked_at = clock.elapsed
    while "id-r1000" not in batch.told:
        await terminate.turn()
    assert clock.elapsed - asked_at <= TURN_S + 1
    while Counter(batch.told).most_common()[-2][1] < 2:
        await terminate.turn()
    assert clock.elapsed - asked_at <= 70 + TURN_S, "the others keep their turn"


class SlowToRead:
    """A store with so many cancelled jobs that to read them takes a second."""

    def __init__(self, store: SqliteStore, clock: ManualClock) -> None:
        self._store = store
        self._clock = clock
        self.reads = 0

    async def terminating(self, *, after: RowKey, limit: int) -> Sequence[Job]:
        self.reads += 1
        self._clock.move(1.0)
        return await self._store.terminating(after=after, limit=limit)


async def test_cancels_that_come_one_after_the_other_do_not_read_all_again_each_time(
    store: SqliteStore, ledger: Ledger, budgets: Budgets, health: Health, clock: ManualClock, batch: Any
) -> None:
    """Each wakes the stage; what it reads is on the thread that commits wait for."""
    await stored(store, ledger, 3, Admitted(), accepted, CancelAsked(reason=None))
    slow: Any = SlowToRead(store, clock)
    terminate = Terminate(store=slow, batch=batch, budgets=budgets, clock=clock, health=health)
    wait_s = await terminate.turn()
    assert len(batch.told) == 3
    (late,) = await stored(store, ledger, 1, Admitted(), accepted, CancelAsked(reason=None), first=3)
    reads = slow.reads
    left_s = await terminate.turn()
    assert slow.reads == reads
    assert left_s is not None
    assert 0 < left_s <= 1.0 / LOOK_SHARE
    clock.move(left_s)
    await terminate.turn()
    assert batch.told[3:] == [late.batch_job_id]
    assert wait_s is not None


async def test_a_throttled_cancel_is_told_soon(
    store: SqliteStore, ledger: Ledger, budgets: Budgets, health: Health, clock: ManualClock, batch: Any
) -> None:
    """Batch has not heard it: it does not wait for its repetition."""
    await stored(store, ledger, 1, Admitted(), accepted, CancelAsked(reason=None))
    terminate = Terminate(store=store, batch=batch, budgets=budgets, clock=clock, health=health)
    batch.failure = Throttled("slow down")
    wait_s = await terminate.turn()
    assert wait_s == TERMINATE_RETRY_S
    clock.move(wait_s)
    batch.failure = None
    assert await terminate.turn() == pytest.approx(REPEAT_S, abs=1)
    assert batch.told == ["id-r0", "id-r0"]


async def test_a_look_up_that_is_not_allowed_shows(
    store: SqliteStore, ledger: Ledger, look_up: LookUp, clock: ManualClock, batch: Batch, health: Health
) -> None:
    """Rows in doubt would else wait for ever without anybody being told which call is refused."""
    (job,) = await stored(store, ledger, 1, Admitted(), DOUBT)
    batch.failure = NotAllowed("batch:ListJobs: AccessDeniedException")
    with pytest.raises(NotAllowed):
        await look_up.find(job)
    assert "batch:ListJobs" in json.dumps(health.is_ready()[1]["checks"]["credentials"])
    batch.failure = None
    await look_up.find(job)
    assert health.is_ready()[1]["checks"]["credentials"]["ok"]


async def test_a_cancel_between_plan_and_admission_is_no_mistake(store: SqliteStore, ledger: Ledger) -> None:
    """A marked row that was to be admitted stays QUEUED, to be looked up before it is cancelled."""
    (job,) = await stored(store, ledger, 1, Admitted(), DOUBT, NotFound())
    planned = replace(job)
    await ledger.record([(job, CancelAsked(reason="stop"))])
    (after,) = await ledger.record([(planned, Admitted())])
    assert (after.state, after.cancel_reason) == (JobState.QUEUED, "stop")
