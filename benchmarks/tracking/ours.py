"""This controller's tracking as a policy: its own schedule, hints, watch over the events, and pace, in virtual time.

``core.polling``, ``core.hints``, ``core.event_watch`` and ``core.pacing`` are the real ones, with the default settings,
and are told and asked as ``stages/track.py`` and ``stages/hints.py`` do. Left out are the store, SQS but for the time
that it takes, the other budgets, and what goes wrong beside lost events; ``tests/simulation`` runs the real application
with all of them.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from benchmarks.peers.account import SERVICE_S, WAY_S
from benchmarks.tracking.pollers import Progress
from benchmarks.tracking.result import Result, result_of
from benchmarks.tracking.workload import RUN_TIMES, Day
from controller.core.hints import HintBook, JobEvent
from controller.core.job import Attempt, BatchStatus, Observation, RowKey
from controller.core.pacing import Pace
from controller.core.polling import Schedule, Tracked
from controller.ports import TrackedRow

INTERVAL_S_MIN, INTERVAL_S_MAX, CONCURRENCY = 2.0, 60.0, 8
"""Defaults of ``track``."""
ACCEPTED_S: Final = 0.1
"""From the arrival of a job to the commit of SubmitJob's answer: its first event may be faster."""
EVENT_S, EVENT_SIGMA = 0.3, 0.7
"""Median and sigma of the time from a change in Batch to its event in the controller, log-normal."""
LATE_SHARE, LATE_S_MAX = 0.001, 60.0
"""Events that take up to so long on top, evenly."""
INFORMED_FACTOR: Final = 0.22
"""Of ``_Informed``, for as many calls as without that knowledge at 100,000 jobs a day."""
JUDGED_S: Final = 0.25
"""The stage judges the events at every turn. Nothing that it judges by moves faster than this."""


_STATUSES: Final = tuple(BatchStatus)


class _What(IntEnum):
    FOLLOW = 0
    EVENT = 1
    ANSWER = 2
    TURN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """The controller with events of which a share is lost on the way; without a queue of events if ``None``."""

    name: str
    lost_share: float | None
    event_s: float = EVENT_S
    """Median of the events' way."""
    knows_run_times: bool = False
    """As if the run times of every job definition had been learned, perfectly: what learning could bring at most."""
    seed: int = 1

    def run(self, day: Day, *, jobs_a_day: int, rate_per_s: float, progress: Progress) -> Result:
        began = time.process_time()
        run = Run(self, day, rate_per_s)
        run.run(progress)
        return result_of(
            self.name,
            day,
            run.seen_at,
            jobs_a_day=jobs_a_day,
            calls=run.calls,
            rate_per_s=rate_per_s,
            took_s=time.process_time() - began,
        )


class Run:
    """One day. Jobs are numbered as in the day; a job's number is its row key."""

    def __init__(self, client: Ours, day: Day, rate_per_s: float) -> None:
        self._client = client
        self._day = day
        self._rng = random.Random(client.seed)
        self._pace = Pace.start(rate_per_s, now=0.0)
        intervals = {"interval_s_min": INTERVAL_S_MIN, "interval_s_max": INTERVAL_S_MAX}
        self.schedule = _Informed(day, **intervals) if client.knows_run_times else Schedule(**intervals)
        self.book = HintBook(self.schedule, lambda outcome: None, is_fed=client.lost_share is not None)
        self.calls = 0
        self.staleness_excess_s = -math.inf
        """How much the oldest answer was older than the bound, at its worst, as far as it was looked at."""
        self.seen_at = array("d", [math.inf]) * len(day)
        self._seen = array("q", day.first[:-1])
        """Of each job the transition that was seen last."""
        self._next_at = array("d", [math.inf]) * len(day)
        """When the one after it comes, or came."""
        self._under_way = 0
        self._turn_at = math.inf
        self._judge_at = 0.0
        self._queue: list[tuple[float, int, _What, object]] = []
        self._order = itertools.count()

    def run(self, progress: Progress) -> None:
        day, queue, arrivals = self._day, self._queue, iter(range(len(self._day)))
        self._arrive(arrivals)
        told_at = 0.0
        while queue and queue[0][0] <= day.length_s:
            now, _, what, subject = heapq.heappop(queue)
            if now >= told_at:
                progress(self._client.name, now / day.length_s)
                told_at += day.length_s / 100
                self._measure_staleness(now)
            if what is _What.EVENT:
                assert isinstance(subject, int)
                self._event(subject, now)
            elif what is _What.FOLLOW:
                assert isinstance(subject, int)
                self._follow(subject, now)
                self._arrive(arrivals)
            elif what is _What.ANSWER:
                assert isinstance(subject, tuple)
                self._answered(subject, now)
            elif now < self._turn_at:
                continue  # an earlier turn has taken its place
            else:
                self._turn_at = math.inf
            self._turn(now)

    def _push(self, at: float, what: _What, subject: object) -> None:
        heapq.heappush(self._queue, (at, next(self._order), what, subject))

    # --- jobs and events ------------------------------------------------------------------------------

    def _arrive(self, arrivals: Iterator[int]) -> None:
        """The next job, and what will be told of it."""
        job = next(arrivals, None)
        if job is None:
            return
        self._push(self._day.arrived_at[job] + ACCEPTED_S, _What.FOLLOW, job)
        lost_share = self._client.lost_share
        if lost_share is None:
            return
        rng = self._rng
        for transition in self._day.transitions(job)[1:]:  # there is no event of SUBMITTED
            if rng.random() >= lost_share:
                late_s = rng.random() * LATE_S_MAX if rng.random() < LATE_SHARE else 0.0
                way_s = self._client.event_s * math.exp(EVENT_SIGMA * rng.gauss(0.0, 1.0))
                self._push(
                    self._day.at[transition] + way_s + late_s, _What.EVENT, job << 8 | transition - self._day.first[job]
                )

    def _follow(self, job: int, now: float) -> None:
        """As ``Track.follow``."""
        job_id, arrived_at = _job_id(job), self._day.arrived_at[job]
        self._next_at[job] = self._day.at[self._day.first[job] + 1]
        row = TrackedRow(
            key=RowKey(job),
            job_id=job_id,
            batch_status=BatchStatus.SUBMITTED,
            attempts=0,
            submitted_at=arrived_at,
            observed_at=arrived_at,
            is_missed=False,
        )
        self.schedule.add(row, due_at=now + INTERVAL_S_MIN)
        self.book.followed(job_id, now)

    def _event(self, subject: int, now: float) -> None:
        """As ``Hints._take``."""
        job = subject >> 8
        status, attempts = self._day.state(self._day.first[job] + (subject & 0xFF))
        self.book.take(JobEvent(job_id=_job_id(job), status=status, attempts=attempts), now)

    # --- turns ----------------------------------------------------------------------------------------

    def _turn(self, now: float) -> None:
        """As ``Track.turn`` and the waiting before it: send what may be sent now, come back when the next may."""
        if self._under_way >= CONCURRENCY:
            return
        if now >= self._judge_at:
            self._judge_at = now + JUDGED_S
            self.book.advance(now, rate_per_s=self._pace.rate_per_s)
        due_at = self.schedule.next_due_at()
        if due_at is None:
            return
        at = max(due_at, self._pace.next_send_at)
        if at > now:
            if at < self._turn_at:
                self._turn_at = at
                self._push(at, _What.TURN, None)
            return
        chunk = self.schedule.take_chunk(now)
        if not chunk:
            return
        self._pace = self._pace.sent(now)
        self.calls += 1
        self._under_way += 1
        least_s, most_s = SERVICE_S
        took_s = WAY_S + least_s + (most_s - least_s) * self._rng.random() + WAY_S
        self._push(now + took_s, _What.ANSWER, (chunk, now + WAY_S))
        self._turn_at = math.inf
        self._turn(now)

    def _answered(self, subject: tuple[tuple[Tracked, ...], float], now: float) -> None:
        """As ``Track._store_chunk``. A job that has had no transition since it was seen is as it was."""
        chunk, asked_at = subject
        self._under_way -= 1
        self._pace = self._pace.succeeded(now)
        next_at = self._next_at
        new = [row for row in chunk if next_at[row.key] <= asked_at]
        changed: list[tuple[Tracked, BatchStatus, int]] = []
        for row in new:
            status, attempts = self._look(row.key, asked_at)
            if row.is_changed(Observation(job_id=row.job_id, status=status, attempts=(Attempt(),) * attempts)):
                changed.append((row, status, attempts))
        stored = {row.key for row, _, _ in changed}
        self.schedule.unchanged([row.key for row in chunk if row.key not in stored], now=now)
        for row, status, attempts in changed:
            if status.is_final:
                self.seen_at[row.key] = now
                self.book.ended(row.key, row.job_id, now, is_end_seen=True)
            else:
                self.schedule.observed(row.key, status=status, attempts=attempts, now=now)

    def _look(self, job: int, now: float) -> tuple[BatchStatus, int]:
        """What Batch says of it, remembered as seen."""
        at, last = self._day.at, self._day.first[job + 1] - 1
        transition = self._seen[job]
        while transition < last and at[transition + 1] <= now:
            transition += 1
        self._seen[job] = transition
        self._next_at[job] = at[transition + 1] if transition < last else math.inf
        return self._day.state(transition)

    def _measure_staleness(self, now: float) -> None:
        bound_s = self.schedule.staleness_bound_s(self._pace.rate_per_s)
        self.staleness_excess_s = max(self.staleness_excess_s, self.schedule.staleness_s(now) - bound_s)


class _Informed(Schedule):
    """Asks for a RUNNING job by how likely jobs of its definition are to end at its age.

    ``interval_s`` takes that chance for one over the age, which is what it is over jobs of all kinds. Lags are shortest
    on average, for a number of calls, if intervals go as the root of its inverse.
    """

    def __init__(self, day: Day, *, interval_s_min: float, interval_s_max: float) -> None:
        super().__init__(interval_s_min=interval_s_min, interval_s_max=interval_s_max)
        self._day = day

    def _wait_s(self, slot: int, now: float) -> float:
        wait_s = super()._wait_s(slot, now)
        if _STATUSES[self._status[slot]] is not BatchStatus.RUNNING:
            return wait_s
        age_s = max(INTERVAL_S_MIN, now - self._changed_at[slot])
        _, median_s, sigma = RUN_TIMES[self._day.definition[self._keys[slot]]]
        wanted_s = INFORMED_FACTOR / math.sqrt(hazard(age_s, median_s, sigma))
        return min(self.interval_s_max, max(self.interval_s_min, wanted_s))


def hazard(age_s: float, median_s: float, sigma: float) -> float:
    """Ends per second among those that have not ended at this age, of a log-normal run time."""
    z = math.log(age_s / median_s) / sigma
    if z > 6.0:  # the tail is below what can be computed; this is its limit
        return z / (sigma * age_s)
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return max(1e-9, density / (sigma * age_s * 0.5 * math.erfc(z / math.sqrt(2))))


def _job_id(job: int) -> str:
    """Short: the schedule's way with ids that are no UUIDs takes half the time, and decides nothing."""
    return f"job-{job}"


OURS = (
    Ours(name="this controller, with events", lost_share=0.0),
    Ours(name="this controller, 10 % of events lost", lost_share=0.1),
    Ours(name="this controller, without events", lost_share=None),
)
INFORMED = Ours(name="this controller, without events, run times known", lost_share=None, knows_run_times=True)
