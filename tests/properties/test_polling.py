"""The schedule against a plain model, and its promise: every tracked job is looked at again in bounded time."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.core.job import BatchStatus, RowKey
from controller.core.limits import DESCRIBE_JOBS_MAX, PACING_GUARD
from controller.core.polling import END_LINGER_S, END_SPACING_S, Schedule, interval_s
from controller.ports import TrackedRow

MIN_S, MAX_S = 2.0, 60.0
TICK_S = 0.0101
"""Resolution of due times."""
LIVE = [status for status in BatchStatus if not status.is_final]


def _row(key: int, status: BatchStatus = BatchStatus.RUNNING) -> TrackedRow:
    return TrackedRow(
        key=RowKey(key),
        job_id=f"job-{key}",
        batch_status=status,
        attempts=0,
        submitted_at=0.0,
        observed_at=0.0,
        is_missed=False,
    )


@given(st.sampled_from(LIVE), st.floats(0.0, 1e7), st.floats(0.0, 1e7))
def test_interval_is_bounded_and_never_falls_with_age(status: BatchStatus, a: float, b: float) -> None:
    """Within the bounds, an older job is never polled more often."""
    young, old = (interval_s(status, age_s, min_s=MIN_S, max_s=MAX_S) for age_s in sorted((a, b)))
    assert MIN_S <= young <= old <= MAX_S


class ScheduleMachine(RuleBasedStateMachine):
    """Every sequence of calls, compared with dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule(interval_s_min=MIN_S, interval_s_max=MAX_S)
        self.now = 100.0
        self.waiting: dict[int, float] = {}
        """Due time of each job that is not in hands, without slack."""
        self.pressing: set[int] = set()
        """Of those, the jobs that get no slack."""
        self.in_hands: set[int] = set()
        self.known: dict[int, tuple[BatchStatus, float]] = {}
        """Status, and since when."""
        self.hinted: set[int] = set()
        """In hands, and hinted since."""
        self.told: set[int] = set()
        """An event told their end."""
        self.missed: set[int] = set()
        self.ends_taken_at = -math.inf
        self.next_key = 0

    @rule(seconds=st.floats(0.0, 40.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(delay=st.floats(0.0, 100.0), status=st.sampled_from(LIVE), gap=st.integers(1, 100))
    def add(self, delay: float, status: BatchStatus, gap: int) -> None:
        self.next_key += gap
        self.schedule.add(_row(self.next_key, status), due_at=self.now + delay)
        self.waiting[self.next_key] = self.now + delay
        self.known[self.next_key] = status, self.now + delay

    @rule(slack_s=st.sampled_from([0.0, 0.0, 7.5, 100.0]))
    def events_are_healthy_or_not(self, slack_s: float) -> None:
        self.schedule.slack_s = slack_s

    @rule(data=st.data())
    @precondition(lambda self: self.waiting or self.in_hands)
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted([*self.waiting, *self.in_hands])))
        self.schedule.remove(RowKey(key))
        self.waiting.pop(key, None)
        for each in (self.in_hands, self.hinted, self.told, self.missed, self.pressing):
            each.discard(key)

    def due_at(self, key: int) -> float:
        return self.waiting[key] + (0.0 if key in self.pressing else self.schedule.slack_s)

    @rule(size=st.integers(1, 5))
    def take(self, size: int) -> None:
        chunk = self.schedule.take_chunk(self.now, size=size)
        is_due = any(self.due_at(key) <= self.now - TICK_S for key in self.waiting)
        is_nearly_due = any(self.due_at(key) <= self.now + TICK_S for key in self.waiting)
        assert is_due <= bool(chunk) <= is_nearly_due
        assert len(chunk) == (min(size, len(self.waiting)) if chunk else 0)
        earliest = min((self.due_at(key) for key in self.waiting), default=math.inf)
        due_of_taken = []
        for row in chunk:
            assert row.key not in self.in_hands
            assert row.status is self.known[row.key][0]
            due_of_taken.append(self.due_at(row.key))
            del self.waiting[row.key]
            self.pressing.discard(row.key)
            self.in_hands.add(row.key)
            if row.key in self.told:
                self.ends_taken_at = self.now
        # With room for both lines, whoever has been due longest is taken.
        assert not chunk or size == 1 or min(due_of_taken) <= earliest + 2 * TICK_S

    @rule(data=st.data(), status=st.sampled_from(LIVE), kind=st.sampled_from(["observed", "missed", "returned"]))
    @precondition(lambda self: self.in_hands)
    def give_back(self, data: st.DataObject, status: BatchStatus, kind: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.in_hands)))
        self.in_hands.remove(key)
        was_hinted = key in self.hinted
        self.hinted.discard(key)
        if kind == "returned":
            self.schedule.returned(RowKey(key), now=self.now, delay=3.0)
            self.waiting[key] = self.now + 3.0
            # Whether it was in the line of hints before is not modelled: a due time of 3 s is in no slack's way.
            entry = self.schedule._entries[self.schedule._slot_of_key.get(RowKey(key))]
            assert (was_hinted or key in self.told) <= entry & 1
            if entry & 1:
                self.pressing.add(key)
            return
        if kind == "missed":
            self.schedule.missed(RowKey(key), now=self.now)
            self.missed.add(key)
        else:
            self.schedule.observed(RowKey(key), status=status, attempts=0, now=self.now)
            self.missed.discard(key)
            if self.known[key][0] is not status:
                self.known[key] = status, self.now
        if was_hinted and key in self.told:
            self.waiting[key] = self.look_at()
        else:
            status, since = self.known[key]
            self.waiting[key] = self.now + interval_s(status, self.now - since, min_s=MIN_S, max_s=MAX_S)
        if was_hinted or key in self.told or key in self.missed:
            self.pressing.add(key)

    def look_at(self) -> float:
        return max(self.now + END_LINGER_S, self.ends_taken_at + END_SPACING_S)

    @rule(data=st.data(), is_end=st.booleans())
    @precondition(lambda self: self.waiting or self.in_hands)
    def hint(self, data: st.DataObject, is_end: bool) -> None:
        key = data.draw(st.sampled_from(sorted([*self.waiting, *self.in_hands])))
        assert self.schedule.hint(f"job-{key}", self.now, is_end=is_end)
        is_news = is_end and key not in self.told
        if is_news:
            self.told.add(key)
            self.known[key] = self.known[key][0], self.now
        if key in self.in_hands:
            self.hinted.add(key)
            return
        if is_news:
            self.waiting[key] = min(self.due_at(key), self.look_at())
        elif key not in self.pressing:
            self.waiting[key] = min(self.due_at(key), max(self.waiting[key], self.now + MIN_S))
        self.pressing.add(key)

    @invariant()
    def is_complete(self) -> None:
        assert len(self.schedule) == len(self.waiting) + len(self.in_hands)
        for key in (*self.waiting, *self.in_hands):
            assert self.schedule.is_end_told(f"job-{key}") == (key in self.told)
        due_at = self.schedule.next_due_at()
        if self.waiting:
            assert due_at is not None
            assert abs(due_at - min(map(self.due_at, self.waiting))) <= 2 * TICK_S
        else:
            assert due_at is None


TestScheduleMachine = ScheduleMachine.TestCase
TestScheduleMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 700),
    rate_per_s=st.sampled_from([0.5, 1.0, 4.0]),
    slack_s=st.sampled_from([0.0, 30.0]),
    calls=st.lists(
        st.tuples(st.integers(0, 699), st.sampled_from(["none", "one", "flood"]), st.booleans(), st.booleans()),
        min_size=60,
        max_size=400,
    ),
    are_noisy=st.booleans(),
)
def test_every_job_is_described_within_the_bound_whatever_the_hints(
    count: int, rate_per_s: float, slack_s: float, calls: list[tuple[int, str, bool, bool]], are_noisy: bool
) -> None:
    """Under overload or not, with hints of ends and of other changes, one by one and in floods at every call, jobs
    that answers lack, and jobs of which an end is told again whenever they are asked for, no job goes without a call
    for longer than the bound that the gauge shows; and no call is part-empty while more is in flight."""
    schedule = Schedule(interval_s_min=MIN_S, interval_s_max=MAX_S)
    schedule.slack_s = slack_s
    schedule.add_missing((_row(key) for key in range(count)), due_at=0.0, age_s=lambda row: 1e6)
    bound_s, spacing_s = schedule.staleness_bound_s(rate_per_s), (1 + PACING_GUARD) / rate_per_s
    described, now, may_call_at = dict.fromkeys(range(count), 0.0), 0.0, 0.0
    for first, hints, is_end, is_lacking in calls * 3:
        is_flood = hints == "flood" and not are_noisy
        for key in range(count) if is_flood else [first % count] if hints == "one" else []:
            schedule.hint(f"job-{key}", now, is_end=is_end)
        due_at = schedule.next_due_at()
        assert due_at is not None
        now = max(now, may_call_at, due_at)
        chunk = schedule.take_chunk(now)
        assert len(chunk) == min(count, DESCRIBE_JOBS_MAX)
        may_call_at = now + spacing_s
        assert now - min(described.values()) <= bound_s + TICK_S
        for row in chunk:
            described[row.key] = now
            if are_noisy and row.key < count // 2:
                schedule.hint(row.job_id, now, is_end=True)
            if is_lacking and not are_noisy:
                schedule.missed(row.key, now=now)
            else:
                schedule.observed(row.key, status=row.status, attempts=0, now=now)


@settings(max_examples=20, deadline=None)
@given(st.integers(200, 1_000), st.lists(st.sampled_from(LIVE), min_size=1, max_size=5))
def test_overload_stretches_evenly(count: int, statuses: list[BatchStatus]) -> None:
    """With ten times more due than the calls can carry, all are looked at once before any is for the third time."""
    schedule = Schedule(interval_s_min=MIN_S, interval_s_max=MAX_S)
    for key in range(count):
        schedule.add(_row(key, statuses[key % len(statuses)]), due_at=0.0)
    looks = dict.fromkeys(range(count), 0)
    now = 0.0
    while min(looks.values()) == 0:
        for row in schedule.take_chunk(now, size=10):
            looks[row.key] += 1
            schedule.observed(row.key, status=row.status, attempts=0, now=now)
        now += 0.5
        assert max(looks.values()) <= 2
    assert now <= 0.5 * (count / 10 + 1), "nobody was looked at twice before all were once"
