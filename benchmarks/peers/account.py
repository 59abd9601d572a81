"""The account that every client is run against: one limiter over all Batch calls, jobs that run for a fixed time.

A discrete-event simulation without any I/O. A client calls ``submit`` or ``describe`` and is told the answer by a
callback; what AWS saw is recorded per call.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from controller.simaws.limiters import TokenBucket

RATE_PER_S = 50.0
"""AWS's documented limit, as one token bucket with a burst of one second over all calls."""
WAY_S = 0.01
SERVICE_S = (0.03, 0.09)
STARTS_AFTER_S = 5.0
RUNS_FOR_S = 60.0


@dataclass(frozen=True, slots=True)
class Call:
    at: float
    operation: str
    is_throttled: bool


@dataclass(slots=True)
class Account:
    """Time, the limiter, the jobs, and the record of calls."""

    seed: int
    bucket: TokenBucket = field(default_factory=lambda: TokenBucket(RATE_PER_S, RATE_PER_S))
    now: float = 0.0
    calls: list[Call] = field(default_factory=list)
    accepted_at: dict[int, float] = field(default_factory=dict)
    """When Batch accepted each request first."""
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)
    _rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)

    def chance(self) -> float:
        return self._rng.random()

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (max(when, self.now), next(self._order), what))

    def run(self, *, until: float, is_over: Callable[[], bool]) -> None:
        while self._events and self.now < until and not is_over():
            self.now, _, what = heapq.heappop(self._events)
            what()

    def submit(self, request: int, answered: Callable[[bool], None]) -> None:
        """SubmitJob; told whether it was accepted or throttled."""

        def arrived() -> None:
            is_ok = self._take("SubmitJob")
            if is_ok:
                self.accepted_at.setdefault(request, self.now)
            self._answer(lambda: answered(is_ok))

        self.at(self.now + WAY_S, arrived)

    def describe(self, requests: Sequence[int], answered: Callable[[dict[int, str] | None], None]) -> None:
        """DescribeJobs of up to 100; told each one's status, or None if throttled."""
        assert 1 <= len(requests) <= 100

        def arrived() -> None:
            seen = {request: self.status(request) for request in requests} if self._take("DescribeJobs") else None
            self._answer(lambda: answered(seen))

        self.at(self.now + WAY_S, arrived)

    def status(self, request: int) -> str:
        age_s = self.now - self.accepted_at[request]
        if age_s >= STARTS_AFTER_S + RUNS_FOR_S:
            return "SUCCEEDED"
        return "RUNNING" if age_s >= STARTS_AFTER_S else "RUNNABLE"

    def _take(self, operation: str) -> bool:
        is_ok = self.bucket.take(self.now)
        self.calls.append(Call(self.now, operation, not is_ok))
        return is_ok

    def _answer(self, what: Callable[[], None]) -> None:
        least, most = SERVICE_S
        self.at(self.now + least + (most - least) * self.chance() + WAY_S, what)


@dataclass(slots=True)
class Progress:
    """What a client knows of its requests."""

    total: int
    ended: set[int] = field(default_factory=set)
    """Seen SUCCEEDED."""
    given_up: set[int] = field(default_factory=set)
    """Reported to the user as failed because AWS throttled."""

    @property
    def is_over(self) -> bool:
        return len(self.ended) + len(self.given_up) >= self.total
