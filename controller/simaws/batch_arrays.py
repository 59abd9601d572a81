"""Array jobs: up to 10,000 children held as columns of numbers, not as objects.

The children are drawn when somebody first needs one, from a seed taken at submission. A child is built as an
``Execution`` only to be looked at. The number of children in each status at any instant comes from sorted lists of the
instants at which children enter and leave that status.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right, insort
from typing import Final

from controller.simaws.batch_timeline import (
    FAILED,
    NEVER,
    STATUSES,
    SUCCEEDED,
    Attempt,
    Ending,
    Execution,
    RunSpec,
    Step,
    Stop,
    draw_attempts,
    steps,
)
from controller.simaws.profile import Profile

CHILD_FAILED: Final = "Array Child Job failed"


class ArrayChildren:
    """The children of one array job. They exist from the parent's ``ready_at`` on."""

    def __init__(self, size: int, *, seed: int, profile: Profile, spec: RunSpec) -> None:
        self.size = size
        self.ready_at = NEVER
        """When they are spawned, RUNNABLE."""
        self.stop: Stop | None = None
        """The parent's; holds for every child without one of its own."""
        self._seed, self._profile, self._spec = seed, profile, spec
        self._runnable_s = self._starting_s = self._running_s = array("d")
        self._ending = bytearray()
        self._endings: list[Ending] = []
        self._retried: dict[int, tuple[Attempt, ...]] = {}
        self._placed_at = array("d")
        self._stops: dict[int, Stop] = {}
        self._is_unlimited = self._is_indexed = False
        self._entered: dict[str, list[float]] = {}
        self._left: dict[str, list[float]] = {}

    def place_all(self) -> None:
        """Give every child its place as soon as it has waited its time: there is capacity for all."""
        self._is_unlimited = True
        self._is_indexed = False
        if self._endings:
            self._place_drawn()

    def starts_at(self, index: int) -> float:
        """From when a child may start if it waits for capacity; NEVER if it does not wait any more."""
        self._draw()
        if self.stop is not None or index in self._stops or self._placed_at[index] < NEVER:
            return NEVER
        return self.ready_at + self._runnable_s[index]

    def place(self, index: int, at: float) -> None:
        """One child leaves RUNNABLE at ``at``."""
        self._draw()
        child = self.child(index)
        if self._is_indexed:
            self._unindex(child)
        self._placed_at[index] = at
        if self._is_indexed:
            self._index(self.child(index))

    def stop_child(self, index: int, stop: Stop) -> None:
        self._stops.setdefault(index, stop)
        self._is_indexed = False

    def stop_all(self, stop: Stop) -> None:
        if self.stop is None:
            self.stop = stop
        self._is_indexed = False

    def child(self, index: int) -> Execution:
        """One child, built for looking at."""
        self._draw()
        child = Execution(self.ready_at, self.ready_at)
        child.ready_at, child.placed_at = self.ready_at, self._placed_at[index]
        child.attempts = self._retried.get(index) or (self._only_attempt(index),)
        own = self._stops.get(index)
        child.stop = min((s for s in (own, self.stop) if s is not None), key=lambda s: s.at, default=None)
        return child

    def counts(self, now: float) -> dict[str, int]:
        """How many children are in each status (all seven keys)."""
        if self.ready_at > now:
            return dict.fromkeys(STATUSES, 0)
        self._index_all()
        return {s: bisect_right(self._entered[s], now) - bisect_right(self._left[s], now) for s in STATUSES}

    def changes(self) -> list[float]:
        """When the counts change, as far as that is known."""
        if self.ready_at == NEVER:
            return []
        self._index_all()
        return sorted({at for instants in self._entered.values() for at in instants})

    def end(self) -> Step | None:
        """When the last child ends and what that makes of the parent, if it is known yet."""
        if self.ready_at == NEVER:
            return None
        self._index_all()
        succeeded, failed = self._entered[SUCCEEDED], self._entered[FAILED]
        if len(succeeded) + len(failed) < self.size:
            return None
        return Step(max(succeeded[-1:] + failed[-1:]), FAILED if failed else SUCCEEDED)

    def _only_attempt(self, index: int) -> Attempt:
        ending = self._endings[self._ending[index]]
        return Attempt(self._runnable_s[index], self._starting_s[index], self._running_s[index], ending)

    def _draw(self) -> None:
        if self._endings:
            return
        rng = random.Random(self._seed)  # noqa: S311 - simulation
        numbers: dict[Ending, int] = {}
        drawn = [draw_attempts(rng, self._profile, self._spec) for _ in range(self.size)]
        self._runnable_s = array("d", [attempts[0].runnable_s for attempts in drawn])
        self._starting_s = array("d", [attempts[0].starting_s for attempts in drawn])
        self._running_s = array("d", [attempts[0].running_s for attempts in drawn])
        self._ending = bytearray(numbers.setdefault(attempts[0].ending, len(numbers)) for attempts in drawn)
        self._endings = list(numbers)
        self._retried = {index: attempts for index, attempts in enumerate(drawn) if len(attempts) > 1}
        self._placed_at = array("d", [NEVER]) * self.size
        if self._is_unlimited:
            self._place_drawn()

    def _place_drawn(self) -> None:
        self._placed_at = array("d", [self.ready_at + s for s in self._runnable_s])

    def _index_all(self) -> None:
        if self._is_indexed:
            return
        self._entered = {s: [] for s in STATUSES}
        self._left = {s: [] for s in STATUSES}
        for index in range(self.size):
            for last, step in _pairs(self.child(index)):
                self._entered[step.status].append(step.at)
                if last is not None:
                    self._left[last.status].append(step.at)
        for instants in (*self._entered.values(), *self._left.values()):
            instants.sort()
        self._is_indexed = True

    def _index(self, child: Execution) -> None:
        for last, step in _pairs(child):
            insort(self._entered[step.status], step.at)
            if last is not None:
                insort(self._left[last.status], step.at)

    def _unindex(self, child: Execution) -> None:
        for last, step in _pairs(child):
            _remove(self._entered[step.status], step.at)
            if last is not None:
                _remove(self._left[last.status], step.at)


def _pairs(child: Execution) -> list[tuple[Step | None, Step]]:
    known = list(steps(child))
    return list(zip((None, *known), known, strict=False))


def _remove(instants: list[float], instant: float) -> None:
    at = bisect_right(instants, instant) - 1
    assert instants[at] == instant
    del instants[at]
