"""The tracking stage: what an unchanged answer costs, what a start loads, and what a change stores."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.budgets import Budgets, Purpose
from controller.core.errors import StoreUnavailable
from controller.core.job import BatchStatus, JobState, Observation, RowKey, replace
from controller.core.polling import Schedule
from controller.ledger import Ledger
from controller.metrics import Metrics
from controller.ports import InsertJob, TrackedRow, Write
from controller.stages.track import LOAD_PAGE, Track
from tests.stages.conftest import ManualClock, open_store, tracking
from tests.stages.test_long_turns import request


@dataclass
class Glance:
    """A job of an answer that counts how often the whole of it is asked for."""

    job_id: str
    status: BatchStatus | None
    attempt_count: int = 0
    asked: int = 0
    status_reason: str | None = None
    array_summary: dict[str, int] | None = None

    def observation(self) -> Observation:
        self.asked += 1
        return Observation(job_id=self.job_id, status=self.status)


@dataclass
class Answers:
    """DescribeJobs with a status per job id."""

    statuses: dict[str, BatchStatus] = field(default_factory=dict)
    glances: list[Glance] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)

    async def describe_jobs(self, job_ids: Sequence[str]) -> Sequence[Glance]:
        self.calls.append(len(job_ids))
        answer = [Glance(job_id, self.statuses[job_id]) for job_id in job_ids if job_id in self.statuses]
        self.glances += answer
        return answer


class CountedStore:
    """A store that tells which of its methods were called, and fails the next reads of TRACKED rows on demand."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.calls: list[str] = []
        self.failing = 0

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._store, name)

    async def tracked(self, *, after: RowKey, limit: int) -> Sequence[TrackedRow]:
        self.calls.append("tracked")
        if self.failing:
            self.failing -= 1
            raise StoreUnavailable("the disk is full")
        return await self._store.tracked(after=after, limit=limit)

    async def commit(self, writes: Sequence[Write]) -> Sequence[bool]:
        self.calls.append("commit")
        return await self._store.commit(writes)


@pytest.fixture
def counted(store: SqliteStore) -> CountedStore:
    return CountedStore(store)


@pytest.fixture
def batch() -> Answers:
    return Answers()


@pytest.fixture
def track(counted: CountedStore, ledger: Ledger, batch: Answers, clock: ManualClock, metrics: Metrics) -> Track:
    budgets = Budgets(clock, dict.fromkeys(Purpose, 1e6), 1e6)
    return tracking(batch, clock=clock, store=counted, ledger=ledger, budgets=budgets, metrics=metrics, concurrency=4)


async def in_flight(store: SqliteStore, batch: Answers, count: int) -> None:
    """So many RUNNING jobs, as Batch sees them too."""
    ids = [f"{number:08x}-0000-4000-8000-{number:012x}" for number in range(count)]
    writes = [
        InsertJob(
            job=replace(
                request(number),
                state=JobState.TRACKED,
                first_intent_at=1.0,
                batch_job_id=job_id,
                batch_status=BatchStatus.RUNNING,
                submitted_at=1.0,
            ),
            body="",
        )
        for number, job_id in enumerate(ids)
    ]
    assert all(await store.commit(writes))
    batch.statuses.update(dict.fromkeys(ids, BatchStatus.RUNNING))


async def swept(track: Track) -> None:
    """Turn until nobody is due."""
    async with anyio.create_task_group() as tasks:
        while await track.turn(tasks) == 0.0:
            pass


async def test_an_unchanged_chunk_touches_neither_store_nor_observation(
    track: Track, store: SqliteStore, counted: CountedStore, batch: Answers
) -> None:
    """Hundreds of jobs that are as they were: full calls, nothing read, nothing written, no record made."""
    await in_flight(store, batch, 250)
    await track.begin()
    await track.load()
    counted.calls.clear()
    await swept(track)
    assert batch.calls == [100, 100, 100]
    assert counted.calls == []
    assert sum(glance.asked for glance in batch.glances) == 0


async def test_of_a_changed_chunk_only_what_changed_is_read_and_stored(
    track: Track, store: SqliteStore, batch: Answers
) -> None:
    """One job of a hundred has ended: one record is made, one row changes, and the other 99 stay scheduled."""
    await in_flight(store, batch, 100)
    await track.begin()
    await track.load()
    ended = sorted(batch.statuses)[7]
    batch.statuses[ended] = BatchStatus.SUCCEEDED
    await swept(track)
    assert [glance.job_id for glance in batch.glances if glance.asked] == [ended]
    (finished,) = (await store.load([RowKey(8)])).values()
    assert (finished.batch_job_id, finished.state) == (ended, JobState.SUCCEEDED)
    assert len(track._schedule) == 99
    assert ended not in track._schedule


async def test_the_first_jobs_are_described_before_the_last_are_loaded(
    track: Track, store: SqliteStore, batch: Answers
) -> None:
    """A start need not wait for the whole set: the first page is enough for a call."""
    await in_flight(store, batch, LOAD_PAGE + 30)
    await track.begin()
    assert len(track._schedule) == LOAD_PAGE
    async with anyio.create_task_group() as tasks:
        await track.turn(tasks)
    assert batch.calls == [100]
    await track.load()
    assert len(track._schedule) == LOAD_PAGE + 30


async def test_loading_goes_on_where_the_store_failed(
    track: Track, store: SqliteStore, counted: CountedStore, batch: Answers
) -> None:
    """A store that fails in the middle costs the page that failed, not the whole."""
    await in_flight(store, batch, 2 * LOAD_PAGE + 1)
    await track.begin()
    counted.failing = 1
    with pytest.raises(StoreUnavailable):
        await track.load()
    counted.calls.clear()
    await track.load()
    assert counted.calls == ["tracked", "tracked"]
    assert len(track._schedule) == 2 * LOAD_PAGE + 1


async def test_a_job_that_was_followed_while_others_were_loaded_is_there_once(
    track: Track, store: SqliteStore, batch: Answers
) -> None:
    """A job may become TRACKED, and be followed, before the page that holds its row is read."""
    await in_flight(store, batch, LOAD_PAGE + 2)
    await track.begin()
    (late,) = (await store.load([RowKey(LOAD_PAGE + 2)])).values()
    track.follow(late)
    await track.load()
    assert len(track._schedule) == LOAD_PAGE + 2


async def test_jobs_in_flight_are_no_work_for_the_garbage_collector(clock: ManualClock) -> None:
    """No object that the collector has to look at is made per job: 5,000 more jobs, the same number of objects."""
    store = await open_store(sinks_of=lambda event: (), dead_letters=False)
    batch = Answers()
    await in_flight(store, batch, 5_000)
    rows = await store.tracked(after=RowKey(0), limit=5_000)
    schedule = Schedule(interval_s_min=2.0, interval_s_max=60.0)
    schedule.add_missing(rows[:1], due_at=1.0, age_s=lambda row: 0.0)
    gc.collect()
    before = len(gc.get_objects())
    assert schedule.add_missing(rows, due_at=1.0, age_s=lambda row: 0.0) == 4_999
    gc.collect()
    assert len(gc.get_objects()) - before < 200
    await store.close()
