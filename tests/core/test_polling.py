"""The schedule of who is due: chunks, hints, failed calls, misses, and what it costs."""

from __future__ import annotations

import tracemalloc
import uuid

import pytest

from controller.core import polling
from controller.core.job import BatchStatus, RowKey
from controller.core.polling import Schedule, Tracked, interval_s, is_lost
from controller.ports import TrackedRow
from tests.core.rows import tracked_row

MIN_S, MAX_S = 2.0, 60.0


def _schedule(*due_at: float) -> Schedule:
    """Jobs 0, 1, … due at these times."""
    schedule = Schedule(interval_s_min=MIN_S, interval_s_max=MAX_S)
    for key, at in enumerate(due_at):
        schedule.add(tracked_row(key), due_at=at)
    return schedule


def _keys(chunk: tuple[Tracked, ...]) -> list[int]:
    return [row.key for row in chunk]


def _observe(schedule: Schedule, chunk: tuple[Tracked, ...], now: float) -> None:
    for row in chunk:
        schedule.observed(row.key, status=row.status, attempts=row.attempts, now=now)


# --- intervals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "age_s", "expected"),
    [
        (BatchStatus.RUNNING, 0.0, 2.0),
        (BatchStatus.RUNNING, 16.0, 2.0),
        (BatchStatus.RUNNING, 400.0, 10.0),
        (BatchStatus.RUNNING, 3_600.0, 30.0),
        (BatchStatus.RUNNING, 1e6, 60.0),
        (BatchStatus.RUNNABLE, 400.0, 20.0),
        (BatchStatus.PENDING, 400.0, 20.0),
        (BatchStatus.STARTING, 400.0, 10.0),
        (BatchStatus.SUBMITTED, 400.0, 10.0),
        (BatchStatus.RUNNING, -5.0, 2.0),
        (BatchStatus.SUCCEEDED, 0.0, 60.0),
    ],
)
def test_interval_grows_with_the_time_in_a_status(status: BatchStatus, age_s: float, expected: float) -> None:
    """The longer a job has been in a status, the longer until it is looked at again, between the bounds."""
    assert interval_s(status, age_s, min_s=MIN_S, max_s=MAX_S) == pytest.approx(expected)


# --- lost -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misses", "missing_s", "sweep_s", "is_it"),
    [
        (3, 600.0, 10.0, True),
        (2, 1e6, 10.0, False),
        (100, 599.9, 10.0, False),
        (3, 600.0, 201.0, False),
        (3, 603.0, 201.0, True),
        (3, -50.0, 10.0, False),
    ],
)
def test_lost_needs_misses_and_time(misses: int, missing_s: float, sweep_s: float, is_it: bool) -> None:
    """Lost after 3 misses that span the grace time, or 3 sweeps if those are longer; never on a clock set back."""
    lost = is_lost(misses=misses, first_missed_at=1e9, now=1e9 + missing_s, lost_after_s=600.0, sweep_s=sweep_s)
    assert lost is is_it


# --- chunks ---------------------------------------------------------------------------------------------


def test_nothing_is_taken_before_it_is_due() -> None:
    """With nobody due there is no chunk, and the schedule says when there will be one."""
    schedule = _schedule(10.0, 5.0)
    assert schedule.take_chunk(4.999) == ()
    assert schedule.next_due_at() == 5.0


def test_an_empty_schedule_is_never_due() -> None:
    """Without jobs there is nothing to take and nothing to wait for."""
    schedule = _schedule()
    assert schedule.take_chunk(1e9) == ()
    assert schedule.next_due_at() is None
    assert schedule.staleness_s(1e9) == 0.0
    assert schedule.sweep_s(8.0) == 0.0


def test_a_chunk_is_filled_up_with_the_next_due() -> None:
    """If one job is due, the call carries as many as it can, soonest first."""
    schedule = _schedule(30.0, 1.0, 20.0, 10.0)
    assert _keys(schedule.take_chunk(1.0, size=3)) == [1, 3, 2]


def test_the_longest_due_go_first() -> None:
    """Under overload the chunk is made of those that have waited longest."""
    schedule = _schedule(3.0, 1.0, 4.0, 2.0)
    assert _keys(schedule.take_chunk(100.0, size=2)) == [1, 3]
    assert _keys(schedule.take_chunk(100.0, size=2)) == [0, 2]


def test_a_job_is_in_one_pair_of_hands() -> None:
    """A job that was taken is in no second chunk until it is given back."""
    schedule = _schedule(1.0, 2.0)
    chunk = schedule.take_chunk(5.0)
    assert schedule.take_chunk(5.0) == ()
    assert schedule.next_due_at() is None
    assert len(schedule) == 2
    _observe(schedule, chunk, 5.0)
    assert _keys(schedule.take_chunk(7.0)) == [0, 1]


def test_a_failed_chunk_comes_back_as_a_chunk() -> None:
    """After a failed call all its jobs are due again at the same time, after the delay."""
    schedule = _schedule(1.0, 2.0, 3.0)
    for row in schedule.take_chunk(5.0):
        schedule.returned(row.key, now=5.0, delay=4.0)
    assert schedule.take_chunk(8.9) == ()
    assert sorted(_keys(schedule.take_chunk(9.0))) == [0, 1, 2]


def test_a_removed_job_is_never_taken_again() -> None:
    """A job may end while it waits or while it is in hands; a late answer about it changes nothing."""
    schedule = _schedule(1.0, 2.0, 3.0)
    schedule.remove(RowKey(0))
    chunk = schedule.take_chunk(5.0, size=1)
    schedule.remove(RowKey(1))
    _observe(schedule, chunk, 5.0)
    schedule.missed(RowKey(1), now=5.0)
    schedule.returned(RowKey(1), now=5.0, delay=0.0)
    schedule.remove(RowKey(1))
    assert _keys(schedule.take_chunk(100.0)) == [2]
    assert len(schedule) == 1
    assert "job-1" not in schedule
    assert "job-2" in schedule
    assert schedule.hint("job-1", 100.0) is False


def test_a_reused_row_is_not_mistaken_for_the_old_one() -> None:
    """A job added where another one was removed is due when it should be, not when the other was."""
    schedule = _schedule(1.0)
    schedule.remove(RowKey(0))
    schedule.add(tracked_row(7), due_at=50.0)
    assert schedule.take_chunk(10.0) == ()
    assert _keys(schedule.take_chunk(50.0)) == [7]
    assert schedule.take_chunk(50.0) == ()


# --- observations ---------------------------------------------------------------------------------------


def test_an_unchanged_old_job_is_polled_less_often() -> None:
    """The interval follows the time since the last change, also across a restart if the age is given."""
    schedule = Schedule(interval_s_min=MIN_S, interval_s_max=MAX_S)
    schedule.add(tracked_row(1, status=BatchStatus.RUNNING), due_at=0.0, age_s=900.0)
    _observe(schedule, schedule.take_chunk(0.0), 0.0)
    assert schedule.next_due_at() == pytest.approx(15.0)


def test_a_change_makes_a_job_young_again() -> None:
    """A new status, or a new attempt in the same status, starts the interval anew; the next chunk shows them."""
    schedule = Schedule(interval_s_min=MIN_S, interval_s_max=MAX_S)
    schedule.add(tracked_row(1, status=BatchStatus.RUNNING), due_at=0.0, age_s=600.0)
    schedule.take_chunk(0.0)
    schedule.observed(RowKey(1), status=BatchStatus.RUNNING, attempts=1, now=0.0)
    assert schedule.next_due_at() == pytest.approx(2.0)
    (row,) = schedule.take_chunk(2.0)
    assert (row.status, row.attempts) == (BatchStatus.RUNNING, 1)
    schedule.observed(RowKey(1), status=BatchStatus.RUNNABLE, attempts=1, now=2.0)
    (row,) = schedule.take_chunk(4.0)
    assert (row.status, row.attempts) == (BatchStatus.RUNNABLE, 1)


def test_misses_are_counted_until_it_is_seen() -> None:
    """Each answer without the job counts; one with it clears the count."""
    schedule = _schedule(0.0)
    now = 0.0
    for expected in range(4):
        (row,) = schedule.take_chunk(now)
        assert row.misses == expected
        assert row.is_missed is (expected > 0)
        schedule.missed(row.key, now=now)
        now += MAX_S
    (row,) = schedule.take_chunk(now)
    schedule.observed(row.key, status=row.status, attempts=0, now=now)
    (row,) = schedule.take_chunk(now + MAX_S)
    assert row.misses == 0


def test_a_miss_from_before_a_restart_is_known() -> None:
    """A row that the store has as missed is shown as missed, so that seeing it again is stored."""
    schedule = Schedule(interval_s_min=MIN_S, interval_s_max=MAX_S)
    schedule.add(tracked_row(1, is_missed=True), due_at=0.0)
    (row,) = schedule.take_chunk(0.0)
    assert row.is_missed


# --- hints ----------------------------------------------------------------------------------------------

LINGER_S, SPACING_S = polling.END_LINGER_S, polling.END_SPACING_S


def _end(schedule: Schedule, number: int, now: float) -> None:
    assert schedule.hint(f"job-{number}", now, is_end=True)


def test_a_told_end_makes_a_job_due_whatever_its_interval() -> None:
    """The end of a job that was not to be looked at for long makes a call after a moment, and goes before the rest."""
    schedule = _schedule(1.0, 2.0, 3.0, 1_000.0)
    _end(schedule, 3, 10.0)
    chunk = schedule.take_chunk(10.0 + LINGER_S, size=2)
    assert _keys(chunk) == [3, 0]
    assert [row.is_hinted for row in chunk] == [True, False]


def test_a_told_end_alone_makes_a_chunk() -> None:
    """With nobody else due, a told end is enough for a call, and it wakes whoever waits for the next due time."""
    schedule = _schedule(1_000.0)
    _end(schedule, 0, 10.0)
    assert schedule.take_chunk(10.0) == ()
    assert schedule.next_due_at() == pytest.approx(10.0 + LINGER_S)
    assert _keys(schedule.take_chunk(10.0 + LINGER_S)) == [0]


def test_ends_that_are_told_one_by_one_share_calls() -> None:
    """After a call for ends the next one waits for company; a call that is made anyway takes along who waits."""
    schedule = _schedule(*([1_000.0] * 4))
    _end(schedule, 0, 10.0)
    schedule.take_chunk(10.1, size=1)
    _end(schedule, 1, 10.2)
    _end(schedule, 2, 10.9)
    assert schedule.next_due_at() == pytest.approx(10.1 + SPACING_S)
    assert sorted(_keys(schedule.take_chunk(10.1 + SPACING_S, size=2))) == [1, 2]
    _end(schedule, 3, 11.1)
    schedule.add(tracked_row(9), due_at=11.2)
    assert sorted(_keys(schedule.take_chunk(11.2, size=2))) == [3, 9]


def test_ends_do_not_wait_for_company_where_calls_are_made_anyway() -> None:
    """Under overload every call takes along the ends that were told up to then."""
    schedule = _schedule(*([1.0] * 40), 1_000.0, 1_000.0)
    _end(schedule, 40, 10.0)
    assert 40 in _keys(schedule.take_chunk(10.0, size=10))
    _end(schedule, 41, 10.1)
    assert 41 in _keys(schedule.take_chunk(10.1, size=10))


def test_an_end_that_an_answer_does_not_show_yet_is_looked_for_like_a_new_job() -> None:
    """DescribeJobs may lag behind the event: it is asked again soon and then ever less often, without slack."""
    schedule = _schedule(1_000.0)
    schedule.slack_s = 500.0
    _end(schedule, 0, 10.0)
    _observe(schedule, schedule.take_chunk(10.1), 10.1)
    assert schedule.next_due_at() == pytest.approx(10.1 + MIN_S)
    assert schedule.is_end_told("job-0")
    _observe(schedule, schedule.take_chunk(500.0), 500.0)
    assert schedule.next_due_at() == pytest.approx(500.0 + 490.0**0.5, abs=0.011)


def test_another_hint_cuts_no_interval_short() -> None:
    """A hint of any other change leaves the due time, but the job goes along in whatever call comes first."""
    schedule = _schedule(100.0, 50.0, 40.0, 1.0)
    schedule.hint("job-0", 10.0)
    assert schedule.next_due_at() == 1.0
    assert _keys(schedule.take_chunk(10.0, size=2)) == [3, 0]


def test_another_hint_ends_the_slack() -> None:
    """A job that events cover waits longer than its interval; once something is said of it, no longer than that, and
    no sooner than the least interval from now, so that a job that changes quickly makes one call."""
    schedule = _schedule(100.0, 5.0)
    schedule.slack_s = 500.0
    assert schedule.next_due_at() == pytest.approx(505.0)
    schedule.hint("job-0", 10.0)
    assert schedule.next_due_at() == pytest.approx(100.0)
    schedule.hint("job-1", 10.0)
    assert schedule.next_due_at() == pytest.approx(10.0 + MIN_S)


def test_repeated_hints_are_one() -> None:
    """Many hints for a job that waits lead to one look, and don't put it off."""
    schedule = _schedule(1_000.0)
    for n in range(5):
        schedule.hint("job-0", 10.0 + 0.01 * n, is_end=True)
    assert schedule.next_due_at() == pytest.approx(10.0 + LINGER_S)
    _observe(schedule, schedule.take_chunk(10.1), 10.1)
    assert schedule.next_due_at() == pytest.approx(12.1)


def test_an_end_told_while_in_hands_counts_after_the_answer() -> None:
    """What the answer says may be older than the event: the job is looked at again as soon as ends are."""
    schedule = _schedule(1.0)
    chunk = schedule.take_chunk(5.0)
    _end(schedule, 0, 5.5)
    assert schedule.take_chunk(5.5) == ()
    _observe(schedule, chunk, 6.0)
    assert schedule.next_due_at() == pytest.approx(6.0 + LINGER_S)


def test_unchanged_jobs_keep_what_was_told_of_them() -> None:
    """An answer that shows a job as it was does not clear the end that was told of it, before or meanwhile."""
    schedule = _schedule(1.0, 1.0)
    _end(schedule, 0, 0.5)
    chunk = schedule.take_chunk(5.0)
    _end(schedule, 1, 5.5)
    schedule.unchanged([row.key for row in chunk], now=6.0)
    assert [schedule.is_end_told(f"job-{n}") for n in (0, 1)] == [True, True]
    assert schedule.next_due_at() == pytest.approx(6.0 + LINGER_S)


def test_a_hint_survives_a_failed_call() -> None:
    """A hinted job whose call failed is still ahead of the others after the delay, and its end still told."""
    schedule = _schedule(1.0, 2.0, 3.0, 1_000.0)
    _end(schedule, 3, 9.0)
    (row,) = schedule.take_chunk(10.0, size=1)
    schedule.returned(row.key, now=10.0, delay=5.0)
    assert schedule.is_end_told("job-3")
    assert _keys(schedule.take_chunk(10.5, size=1)) == [0]
    assert _keys(schedule.take_chunk(15.0, size=1)) == [3]


def test_a_flood_of_hints_leaves_half_to_the_rest() -> None:
    """However many hints there are, half of each chunk goes to those that have been due longest."""
    schedule = _schedule(*(float(n) for n in range(20)))
    for n in range(10, 20):
        schedule.hint(f"job-{n}", 50.0)
    assert _keys(schedule.take_chunk(100.0, size=4)) == [10, 11, 0, 1]


# --- slack ----------------------------------------------------------------------------------------------


def test_slack_puts_calls_off_and_keeps_the_order() -> None:
    """With slack nobody is due before it is over; a call that is made takes the same jobs as without it; and it ends at
    once."""
    schedule = _schedule(5.0, 1.0, 3.0)
    schedule.slack_s = 100.0
    assert schedule.take_chunk(50.0) == ()
    schedule.slack_s = 0.0
    assert schedule.next_due_at() == 1.0
    schedule.slack_s = 100.0
    assert _keys(schedule.take_chunk(101.0, size=2)) == [1, 2]


def test_missed_jobs_get_no_slack() -> None:
    """A job that an answer lacked is asked for again at its interval: that it is lost must not be found out late."""
    schedule = _schedule(1.0)
    schedule.slack_s = 100.0
    (row,) = schedule.take_chunk(101.0)
    schedule.missed(row.key, now=101.0)
    assert schedule.next_due_at() == pytest.approx(101.0 + 10.0)


@pytest.mark.parametrize(
    ("in_flight", "rate_per_s", "expected"),
    [(0, 8.0, 0.0), (100, 8.0, 2.5), (20_000, 8.0, 500.0), (1_000_000, 8.0, 540.0), (20_000, 4.0, 540.0)],
)
def test_slack_is_what_a_twentieth_of_the_budget_needs(in_flight: int, rate_per_s: float, expected: float) -> None:
    """As long as a sweep takes at a twentieth of the rate, at most nine longest intervals; with few jobs, nothing."""
    slack_s = polling.safety_slack_s(in_flight=in_flight, rate_per_s=rate_per_s, interval_s_max=MAX_S)
    assert slack_s == pytest.approx(expected)


# --- how it goes ----------------------------------------------------------------------------------------


def test_staleness_is_the_age_of_the_oldest_answer() -> None:
    """Staleness falls only when the job that was not looked at for longest is; a miss is an answer."""
    schedule = _schedule(1.0, 2.0)
    (row,) = schedule.take_chunk(30.0, size=1)
    schedule.missed(row.key, now=30.0)
    assert schedule.staleness_s(30.0) == pytest.approx(28.0)
    schedule.remove(RowKey(1))
    assert schedule.staleness_s(31.0) == pytest.approx(1.0)


def test_a_sweep_takes_whole_calls() -> None:
    """201 jobs need three calls."""
    schedule = _schedule(*([0.0] * 201))
    assert schedule.sweep_s(2.0) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("count", "slack_s", "expected"),
    [(0, 0.0, 60.0), (1, 0.0, 60.525), (100, 540.0, 600.525), (101, 0.0, 61.575), (1_000_000, 0.0, 10_560.0)],
)
def test_the_staleness_bound_is_interval_slack_and_sweep(count: int, slack_s: float, expected: float) -> None:
    """At two calls a second: the longest interval, the slack, and a call per 50 jobs: hints may take half of each."""
    schedule = _schedule()
    schedule.slack_s = slack_s
    schedule.add_missing((tracked_row(n) for n in range(count)), due_at=0.0, age_s=lambda row: 0.0)
    assert schedule.staleness_bound_s(2.0) == pytest.approx(expected)


def test_dead_entries_do_not_pile_up() -> None:
    """However often jobs are rescheduled out of turn, the heaps stay within twice what is alive, and a bit."""
    schedule = _schedule(*([1_000.0] * 50))
    for turn in range(1_000):
        now = turn * 0.01
        for n in range(50):
            schedule.hint(f"job-{n}", now)
        _observe(schedule, schedule.take_chunk(now), now)
    assert schedule._due.size + schedule._hints.size <= 2 * len(schedule) + 2048
    assert len(schedule) == 50


def test_costs_at_most_300_bytes_per_job() -> None:
    """20,000 tracked jobs with Batch's own ids stay within the memory that was promised for each."""
    count = 20_000
    tracemalloc.start()
    try:
        schedule = Schedule(interval_s_min=MIN_S, interval_s_max=MAX_S)
        for key in range(count):
            job_id = str(uuid.UUID(int=key))
            row = TrackedRow(
                key=RowKey(key + 10**6),
                job_id=job_id,
                batch_status=BatchStatus.RUNNING,
                attempts=0,
                submitted_at=0.0,
                observed_at=0.0,
                is_missed=False,
            )
            schedule.add(row, due_at=float(key))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / count <= 300
