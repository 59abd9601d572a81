"""Capacity of a job queue: vCPUs handed out first in, first out, by events in the order of their times.

Only queues with a limit have one of these. It is brought up to date lazily, before anything is read: each unit of work
(a job, or one child of an array) passes through two heaps once. A job that waits to be retried keeps its vCPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

UnitKey = tuple[int, int]
"""(the job's serial number, index of the child or -1)."""


@dataclass(slots=True)
class Capacity:
    """``slots`` vCPUs shared by units in the order in which they became ready."""

    slots: float
    place: Callable[[UnitKey, float], float]
    """Start a unit at an instant; returns when it will end. Called in order of time."""
    wants: Callable[[UnitKey], float]
    """Instant from which a unit may start, as it stands now; infinite: no longer wanted."""
    used: float = 0.0
    at: float = 0.0
    _waiting: list[tuple[float, UnitKey, float]] = field(default_factory=list)
    _ends: list[tuple[float, UnitKey]] = field(default_factory=list)
    _running: dict[UnitKey, tuple[float, float]] = field(default_factory=dict)

    def push(self, key: UnitKey, *, ready_at: float, vcpus: float) -> None:
        heappush(self._waiting, (ready_at, key, vcpus))

    def end_changed(self, key: UnitKey, ends_at: float) -> None:
        """A running unit was stopped, and ends earlier."""
        if key in self._running:
            self._running[key] = (ends_at, self._running[key][1])
            heappush(self._ends, (ends_at, key))

    def run_until(self, now: float) -> None:
        """Start everything that can start up to ``now``."""
        while (at := self.next_at()) is not None and at <= now:
            self.at = max(self.at, at)
            self._free(self.at)
            if self._waiting and self._fits():
                self._start()
        self._free(now)
        self.at = max(self.at, now)

    def next_at(self) -> float | None:
        """When the next waiting unit starts or may start, if anything waits that ever can."""
        self._drop_unwanted()
        if not self._waiting:
            return None
        ready_at = max(self._waiting[0][0], self.at)
        if self._fits() or (self._ends and self._ends[0][0] <= ready_at):
            return ready_at
        return self._ends[0][0] if self._ends else None

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def waiting_vcpus(self, now: float) -> float:
        """What the units ask for that could start now if there were room."""
        return sum(vcpus for ready_at, key, vcpus in self._waiting if ready_at <= now and self.wants(key) == ready_at)

    def drain(self) -> list[UnitKey]:
        """Everything that waits, removed."""
        keys = [key for ready_at, key, _ in sorted(self._waiting) if self.wants(key) == ready_at]
        self._waiting.clear()
        return keys

    def _fits(self) -> bool:
        return self.used + self._waiting[0][2] <= self.slots

    def _start(self) -> None:
        ready_at, key, vcpus = self._waiting[0]
        if ready_at > self.at:
            return
        heappop(self._waiting)
        ends_at = self.place(key, self.at)
        self.used += vcpus
        self._running[key] = (ends_at, vcpus)
        heappush(self._ends, (ends_at, key))

    def _free(self, until: float) -> None:
        while self._ends and self._ends[0][0] <= until:
            ends_at, key = heappop(self._ends)
            if key in self._running and self._running[key][0] == ends_at:
                self.used -= self._running.pop(key)[1]

    def _drop_unwanted(self) -> None:
        while self._waiting and self.wants(self._waiting[0][1]) != self._waiting[0][0]:
            heappop(self._waiting)
