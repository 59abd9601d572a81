"""The jobs of a day and what Batch makes of them: when each changes its status, and to what.

Made once from a seed, and the same for every client. Nothing here depends on who asks: Batch's truth at a moment is
looked up (``Day.state``), and its events are the same transitions (``Day.transitions``).

What a job looks like
    It waits in RUNNABLE, starts, runs, and ends; a few fail an attempt and go round once more. Times are log-normal, in
    three classes of run time: many jobs of minutes, fewer of a quarter of an hour, some of hours. One in fifty is the
    parent of an array, which sits in PENDING until its last child has ended. Arrivals follow the hour of the day, three
    times as many at the busiest as at the quietest.
"""

from __future__ import annotations

import math
import random
from array import array
from dataclasses import dataclass, field
from typing import Final

from controller.core.job import BatchStatus

DAY_S: Final = 86_400.0
SWING: Final = 0.5
"""The rate of arrivals goes from 1 - SWING to 1 + SWING times its mean, once a day."""
RUN_TIMES: Final = ((0.6, 120.0, 0.8), (0.3, 900.0, 0.8), (0.1, 5_400.0, 0.7))
"""Share of the jobs, median in seconds, sigma of the logarithm. Nineteen minutes on average."""
WAIT_S: Final = (45.0, 1.0)
"""Median and sigma of the time in RUNNABLE."""
START_S: Final = (20.0, 0.6)
SUBMITTED_S: Final = (1.0, 0.5)
RETRIED_SHARE: Final = 0.05
ATTEMPTS_MAX: Final = 3
FAILED_SHARE: Final = 0.04
ARRAY_SHARE: Final = 0.02
ARRAY_STRETCH: Final = (4.0, 0.5)
"""How much longer than a single job an array takes until its last child ends."""

_STATUSES: Final = tuple(BatchStatus)
_NUMBERS: Final = {status: number for number, status in enumerate(_STATUSES)}
_ATTEMPT: Final = len(_STATUSES)


@dataclass(slots=True)
class Day:
    """Transitions of all jobs, one after the other; a job's first one is its arrival."""

    length_s: float
    first: array[int] = field(default_factory=lambda: array("q", (0,)))
    """Where each job's transitions begin; one more at the end."""
    at: array[float] = field(default_factory=lambda: array("d"))
    codes: array[int] = field(default_factory=lambda: array("b"))
    arrived_at: array[float] = field(default_factory=lambda: array("d"))
    ended_at: array[float] = field(default_factory=lambda: array("d"))
    """May be after the day."""
    definition: array[int] = field(default_factory=lambda: array("b"))
    """Each job's row in RUN_TIMES, as if there were one job definition per class."""

    def __len__(self) -> int:
        return len(self.arrived_at)

    def state(self, transition: int) -> tuple[BatchStatus, int]:
        """Status and number of ended attempts from this transition on."""
        attempts, number = divmod(self.codes[transition], _ATTEMPT)
        return _STATUSES[number], attempts

    def transitions(self, job: int) -> range:
        return range(self.first[job], self.first[job + 1])

    def ended(self) -> int:
        """Jobs that end within the day."""
        return sum(at <= self.length_s for at in self.ended_at)

    def add(self, transitions: list[tuple[float, BatchStatus, int]], definition: int) -> None:
        for at, status, attempts in transitions:
            self.at.append(at)
            self.codes.append(attempts * _ATTEMPT + _NUMBERS[status])
        self.first.append(len(self.at))
        self.arrived_at.append(transitions[0][0])
        self.ended_at.append(transitions[-1][0])
        self.definition.append(definition)


def make_day(*, jobs: int, hours: float, seed: int) -> Day:
    """``jobs`` is how many a whole day has: an hour has a twenty-fourth of them, more or less as the hour is."""
    rng = random.Random(seed)
    day = Day(hours * 3_600.0)
    peak_per_s, now = jobs / DAY_S * (1 + SWING), 0.0
    while (now := now + rng.expovariate(peak_per_s)) < day.length_s:
        # At midnight the rate is the mean and rises: a short day is as busy as a long one.
        if rng.random() * (1 + SWING) < 1 + SWING * math.sin(2 * math.pi * now / DAY_S):
            definition = rng.choices(range(len(RUN_TIMES)), [share for share, _, _ in RUN_TIMES])[0]
            day.add(_life(rng, now, definition), definition)
    return day


def _life(rng: random.Random, arrived_at: float, definition: int) -> list[tuple[float, BatchStatus, int]]:
    _, median_s, sigma = RUN_TIMES[definition]
    run_s = _lognormal(rng, median_s, sigma)
    life = [(arrived_at, BatchStatus.SUBMITTED, 0)]
    now = arrived_at + _lognormal(rng, *SUBMITTED_S)
    attempts = 0
    if rng.random() < ARRAY_SHARE:
        life.append((now, BatchStatus.PENDING, 0))
        now += _lognormal(rng, *WAIT_S) + run_s * max(1.0, _lognormal(rng, *ARRAY_STRETCH))
    else:
        while True:
            life.append((now, BatchStatus.RUNNABLE, attempts))
            now += _lognormal(rng, *WAIT_S)
            life.append((now, BatchStatus.STARTING, attempts))
            now += _lognormal(rng, *START_S)
            life.append((now, BatchStatus.RUNNING, attempts))
            attempts += 1
            if attempts == ATTEMPTS_MAX or rng.random() >= RETRIED_SHARE:
                break
            now += run_s * rng.random()  # an attempt that fails ends early
        now += run_s
    life.append((now, BatchStatus.FAILED if rng.random() < FAILED_SHARE else BatchStatus.SUCCEEDED, attempts))
    return life


def _lognormal(rng: random.Random, median: float, sigma: float) -> float:
    return median * math.exp(sigma * rng.gauss(0.0, 1.0))
