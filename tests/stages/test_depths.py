"""Which ``max_waiting`` is in force: numbers as they are, automatic ones per queue, told sparsely, and forgotten."""

from __future__ import annotations

import pytest
import structlog

from controller.core.admission import QueueCounts, QueueLimits
from controller.core.depth import DEPTH_MAX, DEPTH_MIN, MEMORY_S
from controller.core.job import BatchStatus, Job, JobState, replace
from controller.depths import Depths
from tests.stages.conftest import ManualClock
from tests.store.engines import queued

LIMITS = {"fixed": QueueLimits(max_waiting=7)}
FULL = QueueCounts(in_flight=100, waiting=16, queued=50, running=84)


@pytest.fixture
def depths(clock: ManualClock) -> Depths:
    return Depths(
        clock=clock,
        limits_of=lambda name: LIMITS.get(name, QueueLimits(max_waiting="auto", max_in_flight=50)),
        look_s=lambda waited_s: 2.0,
    )


def _job(clock: ManualClock, status: BatchStatus = BatchStatus.RUNNABLE, array_size: int | None = None) -> Job:
    return queued(
        job_queue="auto",
        job_queue_ref="auto",
        received_at=clock.now() - 20,
        state=JobState.TRACKED,
        batch_status=status,
        submitted_at=clock.now() - 10,
        array_size=array_size,
    )


def _start(depths: Depths, job: Job, count: int) -> None:
    for _ in range(count):
        depths.left(job, replace(job, batch_status=BatchStatus.STARTING))


def test_a_number_stays_as_it_is(depths: Depths) -> None:
    """A configured number is the limit, before and after anything was asked."""
    assert depths.in_force("fixed") == 7
    assert depths.limits("fixed", FULL) is LIMITS["fixed"]


def test_auto_becomes_a_number_and_leaves_the_other_limits(depths: Depths) -> None:
    """What a plan gets is a number; ``max_in_flight`` bounds it as ever."""
    limits = depths.limits("auto", FULL)
    assert limits == QueueLimits(max_waiting=DEPTH_MIN, max_in_flight=50)
    assert depths.in_force("auto") == DEPTH_MIN


def test_a_restart_begins_with_what_waits(depths: Depths) -> None:
    """Nothing survives a process: the first look takes what waits for the depth, so that it does not drop."""
    assert depths.limits("auto", QueueCounts(in_flight=400, waiting=300, queued=50)).max_waiting == 300


def test_starts_raise_the_depth(depths: Depths, clock: ManualClock) -> None:
    """Each job that leaves the waiting statuses counts, an end straight from RUNNABLE, too."""
    depths.limits("auto", FULL)
    _start(depths, _job(clock), 30)
    depths.left(_job(clock), replace(_job(clock), state=JobState.FAILED))
    assert depths.limits("auto", FULL).max_waiting >= 31


def test_what_says_nothing_of_compute_counts_for_nothing(depths: Depths, clock: ManualClock) -> None:
    """An array parent's PENDING, a job that still waits or has run before, and a queue with a number: no starts."""
    depths.limits("auto", FULL)
    array = _job(clock, BatchStatus.SUBMITTED, array_size=10_000)
    running = _job(clock, BatchStatus.RUNNING)
    for _ in range(100):
        depths.left(array, replace(array, batch_status=BatchStatus.PENDING))
        depths.left(_job(clock, BatchStatus.SUBMITTED), _job(clock))
        depths.left(running, replace(running, state=JobState.SUCCEEDED))
        depths.left(replace(_job(clock), job_queue="fixed"), replace(running, job_queue="fixed"))
    assert depths.limits("auto", FULL).max_waiting == DEPTH_MIN


def test_jobs_that_wait_for_another_leave_room_for_those_that_could_start(depths: Depths) -> None:
    """Sixteen dependents of a job of hours would else be the whole of a new queue's depth, for as long as it runs."""
    counts = QueueCounts(in_flight=17, waiting=16, pending=16, queued=1_000, running=1)
    assert depths.limits("auto", counts).max_waiting == 16 + DEPTH_MIN
    assert depths.in_force("auto") == 16 + DEPTH_MIN
    assert depths.limits("fixed", counts) is LIMITS["fixed"]


def test_jobs_that_wait_for_another_are_bounded_too(depths: Depths) -> None:
    """What is in force is never above the most that ``auto`` may be."""
    counts = QueueCounts(in_flight=5_000, waiting=5_000, pending=4_990, queued=1_000)
    assert depths.limits("auto", counts).max_waiting == DEPTH_MAX


def test_a_restart_takes_no_dependents_for_the_depth(depths: Depths) -> None:
    """They come on top as long as they are PENDING, and what waits for compute is the depth to begin with."""
    counts = QueueCounts(in_flight=400, waiting=350, pending=300, queued=50)
    assert depths.limits("auto", counts).max_waiting == 350
    counts = QueueCounts(in_flight=100, waiting=50, queued=50)
    assert depths.limits("auto", counts).max_waiting == 50


def test_dependents_that_end_with_what_they_waited_for_are_no_starts(depths: Depths, clock: ManualClock) -> None:
    """Batch fails them all at once; one that is next seen after it has run was a start."""
    depths.limits("auto", FULL)
    pending = _job(clock, BatchStatus.PENDING)
    for _ in range(100):
        depths.left(pending, replace(pending, state=JobState.FAILED))
    assert depths.limits("auto", FULL).max_waiting == DEPTH_MIN
    for _ in range(30):
        depths.left(pending, replace(pending, state=JobState.SUCCEEDED, started_at=clock.now()))
    assert depths.limits("auto", FULL).max_waiting >= 31


def test_changes_are_told_sparsely(depths: Depths, clock: ManualClock) -> None:
    """A depth that doubles ten times in ten seconds is told once."""
    depths.limits("auto", FULL)
    with structlog.testing.capture_logs() as lines:
        for _ in range(10):
            _start(depths, _job(clock), 40)
            clock.move(1.0)
            depths.limits("auto", FULL)
    assert [line["event"] for line in lines] == ["max_waiting adapted"]


def test_names_that_producers_made_up_are_forgotten(depths: Depths, clock: ManualClock) -> None:
    """Of a job queue that nobody asks for any more, nothing is kept once its memory would be over."""
    for number in range(100):
        depths.limits(f"made-up-{number}", QueueCounts(queued=1))
    clock.move(MEMORY_S)
    depths.limits("auto", FULL)
    assert set(depths.numbers()) == {"auto"}
