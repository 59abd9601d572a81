"""When the controller is killed, stopped, frozen or given a rival, drawn from the seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from tests.chaos.plan import DRAIN_S, Timings
from tests.chaos.prey import SECOND_ENDS_S, Prey

EARLY_S: Final = (0.0, 1.6)
"""After a start: before, while and right after it begins to serve."""
SERVES_WITHIN_S: Final = 10.0
"""So long a new process is waited for before the time to its end begins, so that a slow machine sees work too."""
FROZEN_S: Final = (0.3, 3.0)
STOPS_WITHIN_S: Final = DRAIN_S + 15.0
"""SIGTERM's grace time, and what a busy machine may add."""
Step = Iterator[float]
"""Yields how many seconds to wait before it goes on."""


class Killer:
    """Turned by the run's loop. ``is_serving`` says whether the present process has answered a scrape."""

    def __init__(self, *, seed: int, kills: int, timings: Timings, prey: Prey, is_serving: Callable[[], bool]) -> None:
        self._random = Random(f"{seed}/kills")
        self._timings = timings
        self._prey = prey
        self._is_serving = is_serving
        self._left = kills
        self._course = self._run()
        self._next_at = 0.0
        self.is_done = False
        self.counts: Counter[str] = Counter()

    def turn(self, now: float) -> None:
        """``now``: monotonic seconds."""
        while not self.is_done and now >= self._next_at:
            wait_s = next(self._course, None)
            if wait_s is None:
                self.is_done = True
            else:
                self._next_at = now + wait_s

    def _run(self) -> Step:
        yield self._random.uniform(*self._timings.busy_s)
        moods = self._moods()
        while self._left > 0:
            mood = next(moods)
            if mood == "burst":
                for _ in range(min(self._left, self._random.randint(2, 4))):
                    yield self._random.uniform(*EARLY_S)
                    self._kill()
                continue
            yield from self._until_serving()
            yield self._random.uniform(*(self._timings.calm_s if mood == "calm" else self._timings.busy_s))
            if mood in ("terminate", "second", "freeze"):
                yield from {"terminate": self._terminate, "second": self._second, "freeze": self._freeze}[mood]()
                yield from self._until_serving()
                yield self._random.uniform(*self._timings.busy_s)
            self._kill()

    def _until_serving(self) -> Step:
        """A while at most: what keeps it from serving may be what is going wrong."""
        for _ in range(int(SERVES_WITHIN_S / 0.1)):
            if self._is_serving():
                return
            yield 0.1

    def _moods(self) -> Iterator[str]:
        """All of them, in a new order each time round."""
        while True:
            round_ = ["busy", "busy", "burst", "calm", "terminate", "second", "freeze", "busy", "burst", "calm"]
            self._random.shuffle(round_)
            yield from round_

    def _kill(self) -> None:
        self.counts["SIGKILL"] += 1
        if not self._is_serving():
            self.counts["SIGKILL before it served"] += 1
        self._left -= 1
        self._prey.kill()
        self._prey.start()

    def _terminate(self) -> Step:
        self.counts["SIGTERM"] += 1
        was_serving = self._is_serving()
        self._prey.ask_to_stop()
        for turn in range(1_000):
            yield 0.1
            if self._prey.has_stopped(was_serving=was_serving, is_overdue=turn * 0.1 > STOPS_WITHIN_S):
                break
        self._prey.start()

    def _second(self) -> Step:
        """Only while the first surely holds the store."""
        yield from self._until_serving()
        if not self._is_serving():
            return
        self.counts["second process"] += 1
        self._prey.start_second()
        for turn in range(1_000):
            yield 0.1
            if self._prey.second_ended(is_overdue=turn * 0.1 > SECOND_ENDS_S):
                return

    def _freeze(self) -> Step:
        self.counts["SIGSTOP"] += 1
        self._prey.freeze()
        yield self._random.uniform(*FROZEN_S)
        self._prey.thaw()
