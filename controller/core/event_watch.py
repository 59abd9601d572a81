"""Do events announce what happens? Measured by the ends that are found, never by the events that come.

``hints.HintBook`` reports every end that DescribeJobs showed: told by an event before, or not. An end that no event
tells of within ``GRACE_S`` counts as missed. Only ends count: every rule must let them through, while other statuses
may be filtered out by the rule, and are skipped between two looks anyway.

Until events have proven themselves they are not relied on. Once they have, they are as long as few ends are missed;
with nothing that ends there is nothing to judge by, and the last judgement stands. Nothing here reads a clock: every
``now`` is monotonic seconds. Memory: ends that wait for their event, at most ``PENDING_MAX``, and a handful of counts.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

GRACE_S: Final = 15.0
"""How long after its end was found a job's event may come. EventBridge delivers within a second or two as a rule; an
event that takes longer than this is of no use as a hint."""
WINDOW_S: Final = 600.0
PART_S: Final = 30.0
"""The window slides by so much."""
PENDING_MAX: Final = 10_000
PROVEN_MIN: Final = 5
"""Ends in the window without which events are not found to be healthy."""
MISSED_MIN: Final = 3
"""Ends missed in the window, or in a row where ends are too rare for that, without which events are not found to be
failing: two may be bad luck."""
FAILING_RATIO: Final = 0.05
HEALTHY_RATIO: Final = 0.025
"""Between the two the last judgement stands, so that it does not flap."""

assert HEALTHY_RATIO < FAILING_RATIO
assert WINDOW_S % PART_S == 0


class EventWatch:
    """Counts announced and missed ends over a sliding window, and judges."""

    def __init__(self) -> None:
        self.is_healthy = False
        """Whether polling may rely on events."""
        self._pending: OrderedDict[str, float] = OrderedDict()
        """Job id → when its end was found; in that order."""
        self._parts: deque[list[float]] = deque()
        """Start of the part, ends announced, ends missed."""
        self._announced = self._missed = 0.0
        """Sums of the parts: each end is judged by, and there are twenty parts."""
        self._missed_in_a_row = 0

    def announced(self, now: float) -> None:
        """An end was found that an event had told of."""
        self._part(now)[1] += 1
        self._announced += 1
        self._missed_in_a_row = 0
        self._judge()

    def unannounced(self, job_id: str, now: float) -> None:
        """An end was found that no event has told of yet."""
        self._pending[job_id] = now
        if len(self._pending) > PENDING_MAX:
            self._pending.popitem(last=False)
            self._count_missed(now)

    def told(self, job_id: str, now: float) -> None:
        """An event tells of an end that may have been found before."""
        found_at = self._pending.pop(job_id, None)
        if found_at is None:
            return
        if now - found_at <= GRACE_S:
            self.announced(now)
        else:
            self._count_missed(now)

    def advance(self, now: float) -> None:
        """Time has passed: what is overdue is missed, what is old no longer counts."""
        while self._pending and now - next(iter(self._pending.values())) > GRACE_S:
            self._pending.popitem(last=False)
            self._count_missed(now)
        while self._parts and now - self._parts[0][0] >= WINDOW_S:
            _, announced, missed = self._parts.popleft()
            self._announced -= announced
            self._missed -= missed
        self._judge()

    def missed_ratio(self) -> float:
        """Share of the ends in the window that no event announced; 0 without any."""
        return self._missed / (self._announced + self._missed) if self._missed else 0.0

    def _count_missed(self, now: float) -> None:
        self._part(now)[2] += 1
        self._missed += 1
        self._missed_in_a_row += 1
        self._judge()

    def _part(self, now: float) -> list[float]:
        start = now - now % PART_S
        if not self._parts or self._parts[-1][0] < start:
            self._parts.append([start, 0, 0])
        return self._parts[-1]

    def _judge(self) -> None:
        ratio = self.missed_ratio()
        if self.is_healthy:
            is_bad_luck = max(self._missed, self._missed_in_a_row) < MISSED_MIN
            self.is_healthy = is_bad_luck or ratio <= FAILING_RATIO
        else:
            self.is_healthy = self._announced + self._missed >= PROVEN_MIN and ratio <= HEALTHY_RATIO
