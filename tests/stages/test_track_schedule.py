"""The schedule is held against the store: what it lacks is found, and nothing else is told as lacking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
import structlog

from controller.adapters.store.sqlite import SqliteStore
from controller.core.job import BatchStatus, JobState, Observation, RowKey
from controller.ledger import Ledger
from controller.metrics import Metrics
from controller.ports import InsertJob
from controller.stages.track import RECONCILE_S, Track
from tests.stages.conftest import HurriedDrain, ManualClock, tracking
from tests.stages.test_long_turns import request


class Batch:
    """Every job is RUNNING."""

    async def describe_jobs(self, job_ids: Sequence[str]) -> Sequence[Observation]:
        return [Observation(job_id=job_id, status=BatchStatus.RUNNING) for job_id in job_ids]


@pytest.fixture
async def track(store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics) -> Track:
    """The stage after a start, with one job in flight."""
    batch: Any = Batch()
    stage = tracking(batch, clock=clock, store=store, ledger=ledger, metrics=metrics, drain=HurriedDrain(ends_after=99))
    await _committed(store, clock, 0)
    await stage.begin()
    await stage.load()
    return stage


async def _committed(store: SqliteStore, clock: ManualClock, number: int) -> None:
    """A job that has become TRACKED now, and that the stage was not told of yet."""
    job = request(
        number,
        state=JobState.TRACKED,
        batch_job_id=f"job-{number}",
        batch_status=BatchStatus.RUNNING,
        submitted_at=clock.now(),
        observed_at=clock.now(),
    )
    await store.commit([InsertJob(job=job, body="{}")])


async def _look(track: Track) -> list[str]:
    """What the stage logs in a turn."""
    with structlog.testing.capture_logs() as lines:
        async with anyio.create_task_group() as tasks:
            await track.turn(tasks)
    return [line["event"] for line in lines]


async def test_a_commit_of_this_moment_is_no_job_that_the_schedule_lacks(
    track: Track, store: SqliteStore, clock: ManualClock
) -> None:
    """However often the count meets one: it is followed as soon as whoever committed it gets to run."""
    for number in range(1, 6):
        clock.move(RECONCILE_S)
        await _committed(store, clock, number)
        assert await _look(track) == []
        for job in (await store.load([row.key for row in await store.tracked(after=RowKey(0), limit=99)])).values():
            track.follow(job)


async def test_a_job_that_the_schedule_lacks_is_found(track: Track, store: SqliteStore, clock: ManualClock) -> None:
    """Nobody was told of it, as when a commit took effect and its answer was lost."""
    await _committed(store, clock, 1)
    told: list[str] = []
    for _ in range(4):
        clock.move(RECONCILE_S)
        told += await _look(track)
    assert told == ["schedule lacked jobs; they are in it again"]
