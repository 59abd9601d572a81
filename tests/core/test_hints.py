"""What events make of the schedule: which is worth a look, which says nothing new, and what is kept of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from controller.core import hints
from controller.core.hints import EventOutcome, HintBook, JobEvent
from controller.core.job import BatchStatus, Observation, RowKey
from controller.core.polling import END_LINGER_S, Schedule
from tests.core.rows import tracked_row

NOW = 100.0
S = BatchStatus


class Book:
    """A book with its schedule and what it counted."""

    def __init__(self) -> None:
        self.schedule = Schedule(interval_s_min=2.0, interval_s_max=60.0)
        self.counted: Counter[str] = Counter()
        self.book = HintBook(self.schedule, lambda outcome: self.counted.update([outcome.value]), is_fed=True)

    def follow(self, key: int = 1, status: BatchStatus = S.RUNNABLE, attempts: int = 0, now: float = NOW) -> str:
        row = tracked_row(key, status=status, attempts=attempts)
        self.schedule.add(row, due_at=now + 50.0)
        self.book.followed(row.job_id, now)
        return row.job_id

    def take(self, job_id: str, status: BatchStatus | None, attempts: int = 0, now: float = NOW) -> str:
        """The outcome; "" if it is not settled."""
        before = self.counted.copy()
        self.book.take(event(job_id, status, attempts), now)
        return "".join(self.counted - before)


def event(job_id: str, status: BatchStatus | None, attempts: int = 0, *, is_blocked: bool = False) -> JobEvent:
    is_end = status is not None and status.is_final
    end = Observation(job_id=job_id, status=status) if is_end else None
    return JobEvent(job_id=job_id, status=status, attempts=attempts, is_blocked=is_blocked, end=end)


@pytest.fixture
def book() -> Book:
    return Book()


# --- jobs that are followed ----------------------------------------------------------------------------


def test_an_end_is_looked_for_at_once(book: Book) -> None:
    """A final status makes the job due, and what the event said is kept until an answer confirms it."""
    job_id = book.follow()
    assert book.take(job_id, S.SUCCEEDED, 1) == "final"
    assert book.schedule.next_due_at() == pytest.approx(NOW + END_LINGER_S)
    assert book.book.end_of(job_id) == Observation(job_id=job_id, status=S.SUCCEEDED)
    book.book.ended(RowKey(1), job_id, NOW, is_end_seen=True)
    assert book.book.end_of(job_id) is None
    assert len(book.schedule) == 0


@pytest.mark.parametrize(
    ("seen", "told", "outcome"),
    [
        ((S.RUNNABLE, 0), (S.RUNNING, 0), "hint"),
        ((S.RUNNING, 0), (S.RUNNABLE, 1), "hint"),
        ((S.RUNNABLE, 0), (None, 0), "hint"),
        ((S.RUNNABLE, 0), (S.RUNNABLE, 0), "stale"),
        ((S.RUNNING, 0), (S.STARTING, 0), "stale"),
        ((S.STARTING, 1), (S.RUNNING, 0), "stale"),
        ((S.RUNNING, 3), (S.FAILED, 1), "final"),
    ],
)
def test_events_are_ordered_by_attempt_and_status(
    book: Book, seen: tuple[BatchStatus, int], told: tuple[BatchStatus | None, int], outcome: str
) -> None:
    """What is older than what was seen says nothing, however late it comes; an end that no answer has shown is news."""
    assert book.take(book.follow(1, *seen), *told) == outcome


def test_nothing_is_news_after_an_end(book: Book) -> None:
    """Once an end was told, its duplicates and whatever comes late are stale, before and after it is confirmed."""
    job_id = book.follow()
    book.take(job_id, S.FAILED, 1)
    late: list[tuple[BatchStatus, int]] = [(S.FAILED, 1), (S.RUNNING, 0), (S.RUNNABLE, 1)]
    assert [book.take(job_id, *each) for each in late] == ["stale"] * 3
    book.book.ended(RowKey(1), job_id, NOW, is_end_seen=True)
    assert [book.take(job_id, *each) for each in late] == ["stale"] * 3


@pytest.mark.parametrize(("seen", "outcome"), [(S.SUBMITTED, "hint"), (S.RUNNABLE, "hint"), (S.STARTING, "stale")])
def test_a_blocked_job_is_worth_a_look_as_long_as_it_waits(book: Book, seen: BatchStatus, outcome: str) -> None:
    """The event of a blocked queue repeats the status, but the reason has changed; once the job started, it is late."""
    job_id = book.follow(1, seen)
    book.book.take(event(job_id, S.RUNNABLE, is_blocked=True), NOW)
    assert book.counted == {outcome: 1}


def test_a_job_that_blocks_its_queue_in_its_next_attempt_is_worth_a_look(book: Book) -> None:
    """It was seen RUNNING, has failed since, and waits again."""
    job_id = book.follow(1, S.RUNNING)
    book.book.take(event(job_id, S.RUNNABLE, 1, is_blocked=True), NOW)
    assert book.counted == {"hint": 1}


# --- children --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("child", [":0", ":9999", "#3"])
def test_a_child_is_a_hint_to_its_parent(book: Book, child: str) -> None:
    """Whatever happens to a child, the parent goes along in the next call; a child's end is not the parent's."""
    job_id = book.follow()
    due_at = book.schedule.next_due_at()
    assert book.take(job_id + child, S.SUCCEEDED, 1) == "hint"
    assert not book.schedule.is_end_told(job_id)
    assert book.schedule.next_due_at() == due_at
    book.book.ended(RowKey(1), job_id, NOW, is_end_seen=True)
    assert book.take(job_id + child, S.SUCCEEDED, 1) == "stale"


def test_a_stranger_s_children_are_not_kept(book: Book) -> None:
    """Tens of thousands of events of somebody else's array leave nothing behind."""
    assert {book.take(f"theirs:{n}", S.RUNNING) for n in range(100)} == {"foreign"}
    assert len(book.book) == 0


# --- jobs that are not known -----------------------------------------------------------------------------


def test_an_event_may_come_before_its_job(book: Book) -> None:
    """Events that arrive before SubmitJob's answer is committed are told once the job is followed; each counts once."""
    for status in (S.RUNNABLE, S.SUCCEEDED, S.RUNNING):
        assert book.take("job-1", status, now=NOW) == ""
    book.follow(now=NOW + 1.0)
    assert book.schedule.is_end_told("job-1")
    assert book.counted == {"final": 1, "stale": 2}
    assert len(book.book) == 1, "the end itself"


def test_events_of_strangers_are_forgotten(book: Book) -> None:
    """What nobody has claimed within a minute was somebody else's."""
    book.take("theirs", S.RUNNING, now=NOW)
    book.take("theirs", S.SUCCEEDED, now=NOW + 59.0)
    book.book.advance(NOW + 59.0, rate_per_s=8.0)
    assert not book.counted
    book.book.advance(NOW + hints.EARLY_S, rate_per_s=8.0)
    assert book.counted == {"foreign": 2}
    assert len(book.book) == 0


def test_a_flood_of_strangers_is_bounded(book: Book) -> None:
    """In a busy shared account the oldest of too many are forgotten early; ours, which come last, are not."""
    for n in range(hints.EARLY_MAX):
        book.take(f"theirs-{n}", S.RUNNING)
    book.take("job-1", S.SUCCEEDED)
    assert len(book.book) == hints.EARLY_MAX
    assert book.counted["foreign"] == 1
    book.follow()
    assert book.counted["final"] == 1


def test_what_strangers_may_write_is_bounded_in_size(book: Book) -> None:
    """Of large events fewer are kept, the newest of them; that of a job that has come is kept no more."""
    large = hints.EARLY_SIZE_MAX // 4
    for n in range(6):
        book.book.take(replace(event(f"theirs-{n}", S.FAILED), size=large), NOW)
    assert (len(book.book), book.counted["foreign"]) == (4, 2)
    book.book.take(replace(event("job-1", S.FAILED), size=large), NOW)
    book.follow()
    assert book.counted["final"] == 1
    assert len(book.book) == 4, "three of strangers, and the end that was told"
    book.book.take(replace(event("theirs-6", S.FAILED), size=large), NOW)
    assert len(book.book) == 5


def test_an_event_that_replaces_another_takes_its_size_along(book: Book) -> None:
    """The end of a stranger's job, with all it says, in place of its start."""
    for n in range(8):
        book.take(f"theirs-{n}", S.RUNNING)
    for n in range(8):
        book.book.take(replace(event(f"theirs-{n}", S.FAILED), size=hints.EARLY_SIZE_MAX // 4), NOW)
    book.book.advance(NOW, rate_per_s=8.0)
    assert len(book.book) == 4


def test_ends_that_are_told_are_bounded_in_size(book: Book) -> None:
    """While no answer comes; the jobs stay due."""
    for key in range(1, 7):
        book.book.take(replace(event(book.follow(key), S.FAILED), size=hints.TOLD_SIZE_MAX // 4), NOW)
    book.book.advance(NOW, rate_per_s=8.0)
    assert [book.book.end_of(f"job-{key}") is not None for key in range(1, 7)] == [False] * 2 + [True] * 4
    assert all(book.schedule.is_end_told(f"job-{key}") for key in range(1, 7))


# --- health -----------------------------------------------------------------------------------------------


def _end_jobs(book: Book, count: int, *, is_told: bool, first: int = 1, now: float = NOW) -> None:
    for key in range(first, first + count):
        job_id = book.follow(key)
        if is_told:
            book.take(job_id, S.SUCCEEDED)
        book.book.ended(RowKey(key), job_id, now, is_end_seen=True)


def test_healthy_events_give_slack_and_quiet_ones_take_it(book: Book) -> None:
    """As long as events announce what ends, jobs without a hint may wait; when ends are found without, they may not."""
    _end_jobs(book, 10, is_told=True)
    book.follow(500)
    assert book.book.advance(NOW, rate_per_s=0.1)
    assert not book.book.advance(NOW, rate_per_s=0.1), "the judgement has not changed again"
    assert book.schedule.slack_s == pytest.approx(200.0)
    _end_jobs(book, 10, is_told=False, first=20)
    assert book.book.advance(NOW + 16.0, rate_per_s=0.1)
    assert book.schedule.slack_s == 0.0
    assert book.book.watch.missed_ratio() == 0.5


def test_an_event_that_is_slower_than_the_poll_is_no_missed_one(book: Book) -> None:
    """The end was found first, its event comes seconds later: stale, and announced."""
    _end_jobs(book, 1, is_told=False)
    assert book.take("job-1", S.SUCCEEDED, now=NOW + 3.0) == "stale"
    book.book.advance(NOW + 60.0, rate_per_s=8.0)
    assert book.book.watch.missed_ratio() == 0.0


def test_a_lost_job_says_nothing_of_events(book: Book) -> None:
    """A job whose end nobody saw was neither announced nor missed."""
    job_id = book.follow()
    book.book.ended(RowKey(1), job_id, NOW, is_end_seen=False)
    book.book.advance(NOW + 60.0, rate_per_s=8.0)
    assert book.book.watch.missed_ratio() == 0.0


def test_without_a_queue_of_events_nothing_is_kept() -> None:
    """Where no events come, ends are not waited for, counted or remembered."""
    schedule = Schedule(interval_s_min=2.0, interval_s_max=60.0)
    book = HintBook(schedule, lambda outcome: None, is_fed=False)
    for n in range(100):
        book.ended(RowKey(n), f"job-{n}", NOW, is_end_seen=True)
    book.advance(NOW + 60.0, rate_per_s=8.0)
    assert len(book._ended) == 0
    assert book.watch.missed_ratio() == 0.0
    assert schedule.slack_s == 0.0


def test_memory_is_bounded(book: Book) -> None:
    """Ends that are told while no answer comes, and ids of ended jobs, are kept up to a number."""
    for key in range(1, hints.TOLD_MAX + 100):
        book.take(book.follow(key), S.SUCCEEDED)
    book.book.advance(NOW, rate_per_s=8.0)
    assert len(book.book) == hints.TOLD_MAX
    for key in range(1, hints.TOLD_MAX + 100):
        book.book.ended(RowKey(key), f"job-{key}", NOW, is_end_seen=True)
    book.book.advance(NOW, rate_per_s=8.0)
    assert len(book.book) == 0
    assert len(book.book._ended) == hints.ENDED_MAX
    book.book.advance(NOW + hints.ENDED_S, rate_per_s=8.0)
    assert len(book.book._ended) == 0


def test_outcomes_are_the_metric_s() -> None:
    """The closed set of outcomes."""
    assert [outcome.value for outcome in EventOutcome] == ["hint", "final", "foreign", "stale", "malformed", "other"]
