"""The schedule against a plain model, and its promise: every tracked job is looked at again in bounded time."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.core.job import BatchStatus, RowKey
from controller.core.polling import Schedule, interval_s
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
        """Due time of each job that is not in hands."""
        self.in_hands: set[int] = set()
        self.known: dict[int, tuple[BatchStatus, float]] = {}
        """Status, and since when."""
        self.hinted: set[int] = set()
        """In hands, and hinted since."""
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

    @rule(data=st.data())
    @precondition(lambda self: self.waiting or self.in_hands)
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted([*self.waiting, *self.in_hands])))
        self.schedule.remove(RowKey(key))
        self.waiting.pop(key, None)
        self.in_hands.discard(key)
        self.hinted.discard(key)

    @rule(size=st.integers(1, 5))
    def take(self, size: int) -> None:
        chunk = self.schedule.take_chunk(self.now, size=size)
        is_due = any(due_at <= self.now for due_at in self.waiting.values())
        is_nearly_due = any(due_at <= self.now + TICK_S for due_at in self.waiting.values())
        assert is_due <= bool(chunk) <= is_nearly_due
        assert len(chunk) == (min(size, len(self.waiting)) if chunk else 0)
        earliest = min(self.waiting.values(), default=math.inf)
        due_of_taken = []
        for row in chunk:
            assert row.key not in self.in_hands
            assert row.status is self.known[row.key][0]
            due_of_taken.append(self.waiting.pop(row.key))
            self.in_hands.add(row.key)
        # With room for both lines, whoever has been due longest is taken.
        assert not chunk or size == 1 or min(due_of_taken) <= earliest + TICK_S

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
            return
        if kind == "missed":
            self.schedule.missed(RowKey(key), now=self.now)
        else:
            self.schedule.observed(RowKey(key), status=status, attempts=0, now=self.now)
            if self.known[key][0] is not status:
                self.known[key] = status, self.now
        status, since = self.known[key]
        wait_s = interval_s(status, self.now - since, min_s=MIN_S, max_s=MAX_S)
        self.waiting[key] = self.now if was_hinted else self.now + wait_s

    @rule(data=st.data())
    @precondition(lambda self: self.waiting or self.in_hands)
    def hint(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted([*self.waiting, *self.in_hands])))
        assert self.schedule.hint(f"job-{key}", self.now)
        if key in self.in_hands:
            self.hinted.add(key)
        else:
            self.waiting[key] = min(self.waiting[key], self.now)

    @invariant()
    def is_complete(self) -> None:
        assert len(self.schedule) == len(self.waiting) + len(self.in_hands)
        due_at = self.schedule.next_due_at()
        if self.waiting:
            assert due_at is not None
            assert abs(due_at - min(self.waiting.values())) <= TICK_S
        else:
            assert due_at is None


TestScheduleMachine = ScheduleMachine.TestCase
TestScheduleMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 120),
    st.lists(st.tuples(st.integers(0, 119), st.booleans(), st.booleans()), min_size=30, max_size=150),
)
def test_every_job_is_looked_at_in_bounded_time(count: int, calls: list[tuple[int, bool, bool]]) -> None:
    """With one call of 10 per second, some failing and any hints coming in, no job that was due waits for longer than
    twice the sweep: half of every successful chunk belongs to those that have waited longest."""
    schedule = Schedule(interval_s_min=MIN_S, interval_s_max=MAX_S)
    for key in range(count):
        schedule.add(_row(key), due_at=0.0)
    size, failures = 10, 0
    answered = dict.fromkeys(range(count), 0.0)
    for second, (hinted, is_failed, is_flood) in enumerate(calls):
        now = float(second)
        for key in range(count) if is_flood else [hinted % count]:
            schedule.hint(f"job-{key}", now)
        chunk = schedule.take_chunk(now, size=size)
        failures += is_failed
        for row in chunk:
            if is_failed:
                schedule.returned(row.key, now=now, delay=0.0)
            else:
                answered[row.key] = now
                schedule.observed(row.key, status=row.status, attempts=0, now=now)
        sweep_s = math.ceil(count / (size // 2))
        assert max(now - at for at in answered.values()) <= MAX_S + sweep_s + 2 * failures + 2


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
