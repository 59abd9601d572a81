"""``max_waiting: auto``: how many jobs should wait in one Batch job queue, so that it is fed and yet shallow.

``controller/depths.py`` owns one ``Depth`` per job queue, tells it of every job that has left the waiting statuses and
asks it for the limit before each plan. Nothing here knows AWS, the store or the time: instants are monotonic seconds,
given by the caller. All of it is volatile: a restart begins with what waits then.

The law
    Little's: what waits is what leaves per second times how long it waits. Waiting must last until we have refilled: a
    *reaction time*, in which a job that has left is seen to have left, the next one is admitted and sent, and Batch is
    ready to start it. So the depth is ``GAIN`` times what left in the fullest reaction time of the last ``MEMORY_S``:
    the peak, not the mean, since jobs that started together end together.

What a rate alone can't tell
    A queue that runs dry lets leave what we put into it, no more, so its rate says nothing of what it could take. The
    law then grows by itself as long as Batch starts a job within ``GAIN`` reaction times: each peak doubles the depth.
    A compute environment that scales by what it sees waiting is offered more while it grows: ``GAIN_GROWING``.

Probing
    Where Batch takes longer to start a job, the law's depth would starve compute, and the rate would look the same. So
    now and then twice the depth is offered for as long as an answer takes. If more runs then, the depth was too small:
    that much is *proven*, and twice as much is tried at once. If not, nothing was lost but a few jobs that wait in
    Batch instead of here.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

DEPTH_MIN: Final = 16
"""A queue of which nothing is known, or which starts nothing, gets so many: enough that a compute environment that
scales by demand begins to, few enough that a higher priority waits behind few."""
DEPTH_MAX: Final = 2_000
"""The default of ``max_waiting``: auto is never deeper than that."""

TURN_S: Final = 2.0
"""From an answer that shows that a job has left to the acceptance of the next: a turn of admission and a SubmitJob."""
SCHEDULING_S: Final = 10.0
"""What Batch is given to start a job on compute that is free. What takes longer is found by probing."""
GAIN: Final = 1.5
"""The peak of what was seen to leave is already half as much again as the mean, since answers come in chunks: together
twice, so that while one reaction time's worth is being refilled, another one waits."""
GAIN_GROWING: Final = 3.0
"""With each step that a scaling compute environment makes, it may be up to four times as large. After a cold start as
many times what started at once may wait: what has been sent can't be taken back."""
MEMORY_S: Final = 900.0
"""How long a peak counts. Longer than a compute environment takes for a step, so that the depth does not fall while
instances come up."""
RUNNING_SHARE: Final = 0.1
"""At least this share of what runs waits: many that end at once, and a step up of compute, find that much at once."""

SWALLOWED: Final = 0.9
"""If so much of the depth in force left within one reaction time, compute took all there was, and may take more."""
OFFERED_S: Final = 300.0
"""How long more is offered then: longer than a compute environment takes for a step."""
COURSE_S: Final = 300.0
"""Of the past that a probe is compared with."""
SPAN_S: Final = 60.0
PROBE_EVERY_S_MIN: Final = 60.0
PROBE_EVERY_S_MAX: Final = 960.0
"""Twice as long after each probe that found nothing."""
SAG: Final = 0.9
"""If only so much runs and starts of what did at the last probe, the next one comes early."""
PROBE_S_MIN: Final = 60.0
PROBE_S_MAX: Final = 300.0
PROBE_FACTOR: Final = 2.0
RESPONSE: Final = 1.05
"""More runs if so much more runs, on average over the last third of a probe."""
CHANCE: Final = 1.0
"""Standard deviations of the difference of two counts by which more must have started: with a few jobs a minute, some
more start now and then for no reason. More would overlook the need of a few vCPUs."""
PROVEN_MARGIN: Final = 1.25
"""The need lies between the last probe that found something and twice that."""
PROVEN_KEPT: Final = 0.98
"""What stays of the proven depth after each probe that found nothing, so that it is not for ever."""
SAMPLE_S: Final = 1.0
ROUNDING: Final = 1e-6


@dataclass(slots=True)
class _Peak:
    """The most that left within a span, over the last ``MEMORY_S``."""

    _left: deque[float] = field(default_factory=deque)
    _peaks: deque[tuple[float, float]] = field(default_factory=deque)
    """Falling counts at rising times: the first one is the highest."""

    def add(self, now: float, span_s: float) -> int:
        """One more; how many have left within the span, with it."""
        self._left.append(now)
        while self._left[0] <= now - span_s:
            self._left.popleft()
        self.note(now, len(self._left))
        return len(self._left)

    def note(self, now: float, within: float) -> None:
        while self._peaks and self._peaks[-1][1] <= within:
            self._peaks.pop()
        self._peaks.append((now, within))

    def highest(self, now: float) -> float:
        while self._peaks and self._peaks[0][0] <= now - MEMORY_S:
            self._peaks.popleft()
        return self._peaks[0][1] if self._peaks else 0


class _Sample(NamedTuple):
    at: float
    running: int
    left: int
    """All that ever left until then."""


@dataclass(slots=True)
class _Course:
    """How many ran and had left, once a second for the last ``COURSE_S``."""

    _samples: deque[_Sample] = field(default_factory=deque)

    def add(self, sample: _Sample) -> None:
        if self._samples and sample.at - self._samples[-1].at < SAMPLE_S:
            return
        self._samples.append(sample)
        while self._samples[0].at <= sample.at - COURSE_S:
            self._samples.popleft()

    def running(self, since: float) -> float:
        """On average since then, at least of the last one."""
        counts = [sample.running for sample in self._samples if sample.at >= since] or [self._samples[-1].running]
        return sum(counts) / len(counts)

    def left_per_s(self, since: float) -> float:
        """Since then, as far back as is known."""
        first = next((sample for sample in self._samples if sample.at >= since), self._samples[-1])
        last = self._samples[-1]
        return (last.left - first.left) / max(SAMPLE_S, last.at - first.at)


@dataclass(frozen=True, slots=True)
class _Probe:
    """Twice the depth, until a time."""

    depth: int
    until: float
    lasts_s: float
    ran_before: float
    left_per_s_before: float


LookS = Callable[[float], float]
"""Within how many seconds a job that has waited for so long is looked at."""


class Depth:
    """The depth of one job queue."""

    def __init__(self, *, look_s: LookS, now: float, waiting: int) -> None:
        """``waiting`` is what waits now: after a restart the depth is not lower than that for ``MEMORY_S``."""
        self._look_s = look_s
        self._waited_s = 0.0
        """Of those that left, weighted towards the last."""
        self._peak = _Peak()
        self._peak.note(now, waiting / GAIN)
        self._in_force = DEPTH_MIN
        self._offered = 0.0
        self._offered_until = now
        self._left = 0
        self._left_at = -math.inf
        self._course = _Course()
        self._proven = 0.0
        self._probe: _Probe | None = None
        self._probe_every_s = PROBE_EVERY_S_MIN
        self._probe_at = now + PROBE_EVERY_S_MIN
        self._probed_at = now
        self._ran_when_probed = 0.0
        self._left_per_s_when_probed = 0.0

    def left(self, now: float, *, waited_s: float) -> None:
        """A job was seen to have left the waiting statuses, so long after it was sent."""
        self._waited_s += 0.05 * (max(0.0, waited_s) - self._waited_s)
        self._left += 1
        self._left_at = now
        within = self._peak.add(now, self.reaction_s)
        if within >= SWALLOWED * self._in_force and within * GAIN_GROWING > self._offered:
            self._offered, self._offered_until = within * GAIN_GROWING, now + OFFERED_S

    @property
    def reaction_s(self) -> float:
        """From a start in Batch to the next job being ready to start there."""
        return self._look_s(self._waited_s) + TURN_S + SCHEDULING_S

    def limit(self, now: float, *, waiting: int, running: int, queued: int) -> int:
        """How many should wait for compute now; within ``DEPTH_MIN`` and ``DEPTH_MAX``. ``waiting`` are those that do,
        so no job that is PENDING for another one."""
        self._course.add(_Sample(now, running, self._left))
        if now >= self._offered_until:
            self._offered = 0.0
        depth = _bounded(max(GAIN * self._peak.highest(now), RUNNING_SHARE * running, self._offered, self._proven))
        is_full = queued > 0 and waiting >= depth
        if self._probe is not None:
            depth = self._probing(self._probe, now, depth, is_wanted=queued > 0)
        elif is_full and self._is_probe_due(now):
            depth = self._begin(now, depth)
        self._in_force = depth
        return depth

    # --- probing --------------------------------------------------------------------------------------

    def _is_probe_due(self, now: float) -> bool:
        if now - self._left_at >= MEMORY_S:
            return False  # nothing has started for long: more would not either
        if self._offered:
            return False  # that is a probe by itself
        sags = (
            self._course.running(now - SPAN_S) < SAG * self._ran_when_probed
            and self._course.left_per_s(now - SPAN_S) < SAG * self._left_per_s_when_probed
        )
        return now >= (min(self._probe_at, self._probed_at + PROBE_EVERY_S_MIN) if sags else self._probe_at)

    def _begin(self, now: float, depth: int) -> int:
        lasts_s = min(PROBE_S_MAX, max(PROBE_S_MIN, 2 * self.reaction_s, 2 * self._waited_s))
        self._probe = _Probe(
            depth=_bounded(PROBE_FACTOR * depth),
            until=now + lasts_s,
            lasts_s=lasts_s,
            ran_before=self._course.running(now - lasts_s / 3),
            left_per_s_before=self._course.left_per_s(now - lasts_s),
        )
        return self._probe.depth

    def _probing(self, probe: _Probe, now: float, depth: int, *, is_wanted: bool) -> int:
        """The depth while a probe lasts, and what follows from it when it is over."""
        if not is_wanted:  # nothing left to offer: what runs says nothing
            self._probe, self._probe_at = None, now + PROBE_EVERY_S_MIN
            return depth
        if now < probe.until:
            return max(depth, probe.depth)
        self._probed_at, self._ran_when_probed = now, self._course.running(now - probe.lasts_s / 3)
        self._left_per_s_when_probed = self._course.left_per_s(now - probe.lasts_s)
        if self._has_answered(probe):
            self._proven = min(float(DEPTH_MAX), PROVEN_MARGIN * probe.depth)
            self._probe_every_s = PROBE_EVERY_S_MIN
            return self._begin(now, max(depth, probe.depth))
        self._proven *= PROVEN_KEPT
        self._probe, self._probe_at = None, now + self._probe_every_s
        self._probe_every_s = min(PROBE_EVERY_S_MAX, 2 * self._probe_every_s)
        return depth

    def _has_answered(self, probe: _Probe) -> bool:
        """Whether more runs and more has started than before. Either alone may be an end that was seen later, or
        chunks of answers that fell just so: for as long as a job is not looked at, its start is not counted."""
        unseen = self._look_s(self._waited_s) / probe.lasts_s
        left, before = probe.lasts_s * self._left_per_s_when_probed, probe.lasts_s * probe.left_per_s_before
        return (
            self._ran_when_probed >= max(RESPONSE * probe.ran_before, probe.ran_before + 1)
            and left >= (RESPONSE + unseen) * before
            and left - before >= CHANCE * math.sqrt(left + before)
        )


def _bounded(depth: float) -> int:
    return min(DEPTH_MAX, max(DEPTH_MIN, math.ceil(depth - ROUNDING)))
