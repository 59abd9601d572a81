"""What is counted of a job's life, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.core.job import Attempt, BatchStatus, Job, Observation
from controller.core.lifecycle import Accepted, Admitted, Described, FoundByName, LeftInDoubt, Missed, NotFound
from controller.ledger import Ledger
from controller.metrics import LedgerSnapshot, Metrics
from controller.ports import InsertJob
from tests.stages.conftest import ManualClock
from tests.stages.test_long_turns import request


def sample(metrics: Metrics, line: str) -> float:
    snapshot = LedgerSnapshot(
        usage=(), oldest_received_at={}, outbox={}, holds=(), rates={}, staleness_s=0.0, intake_paused={},
            submission_paused={},
        stage_turns={}, is_leader=True, now=0.0,
    )  # fmt: skip
    for each in metrics.render(snapshot).decode().splitlines():
        if each.startswith(f"batch_controller_{line} "):
            return float(each.rpartition(" ")[2])
    return 0.0


@pytest.fixture
async def job(store: SqliteStore, metrics: Metrics) -> Job:
    metrics.know_queue("high")
    await store.commit([InsertJob(job=request(1), body="{}")])
    return (await store.find_requests(["r1"]))["r1"][0]


def seen(status: BatchStatus, *attempts: Attempt, **members: Any) -> Described:
    return Described(seen=Observation(job_id="id-1", status=status, attempts=attempts, **members))


async def test_the_wait_for_a_start_is_counted_once_per_job(
    job: Job, ledger: Ledger, metrics: Metrics, clock: ManualClock
) -> None:
    """Not again when the job ends, nor when a later attempt starts."""
    started = clock.now() + 30
    for fact in (
        Admitted(),
        Accepted(job_id="id-1", job_arn=None),
        seen(BatchStatus.RUNNING, started_at=started),
        seen(BatchStatus.RUNNABLE, Attempt(exit_code=1)),
        seen(BatchStatus.RUNNING, Attempt(exit_code=1), started_at=started + 60),
        seen(BatchStatus.SUCCEEDED, Attempt(), Attempt(), started_at=started + 60, stopped_at=started + 90),
    ):
        (job,) = await ledger.record([(job, fact)])
    assert sample(metrics, 'job_wait_seconds_count{job_queue="high"}') == 1
    assert sample(metrics, 'job_wait_seconds_sum{job_queue="high"}') == 30
    assert sample(metrics, 'job_run_seconds_count{job_queue="high",outcome="succeeded"}') == 1


async def test_the_stop_of_an_earlier_attempt_is_not_the_job_s_end(
    job: Job, ledger: Ledger, metrics: Metrics, clock: ManualClock
) -> None:
    """A job that waits for its next attempt may show when the last one stopped, and be stopped without a time."""
    began = clock.now()
    for fact in (
        Admitted(),
        Accepted(job_id="id-1", job_arn=None),
        seen(BatchStatus.RUNNABLE, Attempt(), started_at=began, stopped_at=began + 30),
        seen(BatchStatus.RUNNING, Attempt(), started_at=began + 60),
    ):
        (job,) = await ledger.record([(job, fact)])
    assert job.stopped_at is None
    clock.move(7_200)
    (job,) = await ledger.record([(job, seen(BatchStatus.FAILED, Attempt(), Attempt()))])
    assert job.stopped_at is None
    assert sample(metrics, "detection_lag_seconds_count") == 0


async def test_another_attempt_in_the_same_status_is_a_change(job: Job, ledger: Ledger, metrics: Metrics) -> None:
    """It has its event, so it is counted."""
    for fact in (
        Admitted(),
        Accepted(job_id="id-1", job_arn=None),
        seen(BatchStatus.RUNNABLE),
        seen(BatchStatus.RUNNABLE, Attempt(exit_code=1)),
    ):
        (job,) = await ledger.record([(job, fact)])
    assert sample(metrics, 'status_changes_total{batch_status="RUNNABLE",job_queue="high"}') == 2


async def test_an_adopted_job_is_counted_whoever_found_it(job: Job, ledger: Ledger, metrics: Metrics) -> None:
    """Also one that was found when its request was to be cancelled or had expired."""
    doubt = LeftInDoubt(reason="no answer", error_code="x")
    for fact in (Admitted(), doubt, NotFound(), FoundByName(job_id="id-1", job_arn=None, created_at=1.0)):
        (job,) = await ledger.record([(job, fact)])
    assert sample(metrics, 'submissions_total{job_queue="high",outcome="adopted"}') == 1


async def test_a_status_that_is_not_understood_is_neither_a_change_nor_a_miss(
    job: Job, ledger: Ledger, store: SqliteStore
) -> None:
    """The job is known to Batch: misses end, and nothing else is said."""
    unknown = Described(seen=Observation(job_id="id-1", status=None))
    for fact in (Admitted(), Accepted(job_id="id-1", job_arn=None), seen(BatchStatus.RUNNING), Missed(), unknown):
        (job,) = await ledger.record([(job, fact)])
    assert (job.batch_status, job.misses, job.first_missed_at) == (BatchStatus.RUNNING, 0, None)
    version = job.version
    (job,) = await ledger.record([(job, unknown)])
    assert job.version == version
    names = [row.name for row in await store.outbox("log", limit=10)]
    assert names == ["job.submitted", "job.status_changed"]
