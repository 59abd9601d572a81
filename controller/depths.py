"""Which ``max_waiting`` is in force per Batch job queue: the configured number, or what ``core.depth`` makes of it.

Memory of one process, and nothing is lost with it: after a restart an automatic depth begins with what waits then.
The admit stage asks before each plan; the ledger tells of every job that has left the waiting statuses.

An automatic depth is of what waits for compute. Jobs that wait for another one (PENDING) come on top: they start
nothing for as long as that one runs, and in the depth they would stand in the place of what could start. So what is in
force, and told by the metric, is the depth and as many again as are PENDING, within ``DEPTH_MAX``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import structlog

from controller.core.admission import AUTO, QueueCounts, QueueLimits, is_waiting_on_compute
from controller.core.depth import DEPTH_MAX, DEPTH_MIN, MEMORY_S, Depth, LookS
from controller.core.job import BatchStatus, Job, JobState
from controller.ports import Clock

LOOK_THROUGH_S: Final = 60.0
"""Between two looks for job queues that are no longer asked for."""
TELL_FACTOR: Final = 2.0
TELL_EVERY_S: Final = 60.0
"""A depth is logged when it has changed by so much, no more often than that."""


@dataclass(slots=True)
class _Automatic:
    depth: Depth
    asked_at: float
    in_force: int
    told: int
    told_at: float


class Depths:
    """Automatic depths of the job queues that have them."""

    def __init__(self, *, clock: Clock, limits_of: Callable[[str], QueueLimits], look_s: LookS) -> None:
        """``look_s``: within how many seconds a job that has waited for so long is looked at."""
        self._clock = clock
        self._limits_of = limits_of
        self._look_s = look_s
        self._automatic: dict[str, _Automatic] = {}
        self._looked_through_at = -math.inf
        self._log = structlog.get_logger(stage="admit")

    def limits(self, name: str, counts: QueueCounts) -> QueueLimits:
        """The limits of a job queue, with the number of ``max_waiting`` in force now."""
        limits = self._limits_of(name)
        if limits.max_waiting != AUTO:
            return limits
        now = self._clock.monotonic()
        known = self._automatic.get(name) or self._begin(name, counts, now)
        known.asked_at = now
        depth = known.depth.limit(now, waiting=_on_compute(counts), running=counts.running, queued=counts.queued)
        known.in_force = min(DEPTH_MAX, depth + counts.pending)
        self._tell(name, known, now)
        return replace(limits, max_waiting=known.in_force)

    def left(self, before: Job, after: Job) -> None:
        """A job has changed: if it waited for compute and does so no longer, its queue drains."""
        known = self._automatic.get(before.job_queue)
        if known is None or not is_waiting_on_compute(before) or is_waiting_on_compute(after):
            return
        if before.batch_status is BatchStatus.PENDING and _has_ended_unstarted(after):
            return  # cancelled, or what it waited for failed: all that wait for one job end at once, without compute
        sent_at = before.submitted_at
        waited_s = 0.0 if sent_at is None else self._clock.now() - sent_at
        known.depth.left(self._clock.monotonic(), waited_s=waited_s)

    def in_force(self, name: str) -> int:
        """For the metric."""
        max_waiting = self._limits_of(name).max_waiting
        if max_waiting != AUTO:
            return max_waiting
        known = self._automatic.get(name)
        return DEPTH_MIN if known is None else known.in_force

    def numbers(self) -> Mapping[str, int]:
        """Automatic depths in force, by job queue."""
        return {name: known.in_force for name, known in self._automatic.items()}

    def _begin(self, name: str, counts: QueueCounts, now: float) -> _Automatic:
        # Producers choose the names: those that nobody asks for any more are forgotten.
        if now - self._looked_through_at >= LOOK_THROUGH_S:
            self._looked_through_at = now
            known = self._automatic.items()
            self._automatic = {other: each for other, each in known if now - each.asked_at < MEMORY_S}
        depth = Depth(look_s=self._look_s, now=now, waiting=_on_compute(counts))
        self._automatic[name] = _Automatic(depth, now, DEPTH_MIN, DEPTH_MIN, now - TELL_EVERY_S)
        return self._automatic[name]

    def _tell(self, name: str, known: _Automatic, now: float) -> None:
        is_news = not known.told / TELL_FACTOR < known.in_force < known.told * TELL_FACTOR
        if is_news and now - known.told_at >= TELL_EVERY_S:
            self._log.info("max_waiting adapted", job_queue=name, max_waiting=known.in_force, was=known.told)
            known.told, known.told_at = known.in_force, now


def _on_compute(counts: QueueCounts) -> int:
    return counts.waiting - counts.pending


def _has_ended_unstarted(job: Job) -> bool:
    return job.state is not JobState.TRACKED and job.started_at is None
