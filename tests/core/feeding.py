"""A small model of one job queue for ``core.depth``: a backlog without end, compute, and somebody who looks late.

Half a second per step: what has ended gives its vCPU back, what is ready and has room starts in order, starts are seen
when their job is looked at next, and as many are sent as the limit and the submit budget allow. Used by
``test_depth.py`` and the property tests; ``tests/simulation/test_depth.py`` has the real application instead.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from controller.core.depth import Depth

STEP_S = 0.5
SENT_PER_S = 40.0


def look_s(waited_s: float) -> float:
    """As polling with default settings does."""
    return min(60.0, max(2.0, 0.1 * waited_s)) + 0.2


@dataclass(slots=True)
class Queue:
    """``vcpus`` as a function of the time; ``ready_s``: what Batch takes to start a job on free compute."""

    vcpus: Callable[[float], int]
    runs_s: tuple[float, float]
    ready_s: tuple[float, float] = (1.0, 5.0)
    seed: int = 0
    depth: Depth = field(init=False)
    now: float = 0.0
    limits: list[int] = field(default_factory=list)
    """In force, at each step."""
    used: list[int] = field(default_factory=list)
    """vCPUs, at each step."""
    waits: list[int] = field(default_factory=list)
    """Jobs in Batch without a vCPU, at each step."""
    _rng: random.Random = field(init=False)
    _ready: list[tuple[float, float]] = field(default_factory=list)
    """(ready at, sent at) of jobs that are not ready yet; then in order of their readiness."""
    _waiting: deque[float] = field(default_factory=deque)
    _ends: list[float] = field(default_factory=list)
    _unseen: list[tuple[float, float, bool]] = field(default_factory=list)
    """(seen at, sent at, is start): what nobody has looked at yet."""
    counted: int = 0
    """Jobs that are believed to wait."""
    running: int = 0
    """Jobs that are believed to run."""

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self.depth = Depth(look_s=look_s, now=self.now, waiting=0)

    def run(self, seconds: float, *, backlog: int = 1_000_000) -> None:
        until = self.now + seconds
        while self.now < until:
            self._compute()
            self._look()
            limit = self.depth.limit(self.now, waiting=self.counted, running=self.running, queued=backlog)
            for _ in range(min(limit - self.counted, int(SENT_PER_S * STEP_S), backlog)):
                heapq.heappush(self._ready, (self.now + self._rng.uniform(*self.ready_s), self.now))
                self.counted += 1
            self.limits.append(limit)
            self.used.append(len(self._ends))
            self.waits.append(len(self._ready) + len(self._waiting))
            self.now += STEP_S

    def busy(self, since: float) -> float:
        """Share of the vCPUs that were used since then."""
        steps = range(int(since / STEP_S), len(self.used))
        return sum(self.used[step] for step in steps) / sum(self.vcpus(step * STEP_S) for step in steps)

    def _compute(self) -> None:
        while self._ends and self._ends[0] <= self.now:
            heapq.heappop(self._ends)
        while self._ready and self._ready[0][0] <= self.now:
            self._waiting.append(heapq.heappop(self._ready)[1])
        while self._waiting and len(self._ends) < self.vcpus(self.now):
            sent_at = self._waiting.popleft()
            runs_s = self._rng.uniform(*self.runs_s)
            heapq.heappush(self._ends, self.now + runs_s)
            seen_at = self.now + self._rng.random() * look_s(self.now - sent_at)
            heapq.heappush(self._unseen, (seen_at, sent_at, True))
            heapq.heappush(self._unseen, (max(seen_at, self.now + runs_s + 2 * self._rng.random()), sent_at, False))

    def _look(self) -> None:
        while self._unseen and self._unseen[0][0] <= self.now:
            _, sent_at, is_start = heapq.heappop(self._unseen)
            if is_start:
                self.counted -= 1
                self.running += 1
                self.depth.left(self.now, waited_s=self.now - sent_at)
            else:
                self.running -= 1
