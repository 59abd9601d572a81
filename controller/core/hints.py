"""What events say of jobs: a hint to look, never the truth. Which event is worth a look, and which is not.

The hints stage gives every message to ``HintBook.take``; the track stage tells the book which jobs it follows and which
have ended. The book answers by moving jobs in the ``Schedule``, which alone decides who is asked when. It holds:

- events of jobs that are not known (yet): an event may come before SubmitJob's own answer was committed;
- what an event said of an end, until an answer confirms it: if Batch no longer knows the job, that is the observation;
- ids of jobs that ended lately, to tell a late event from somebody else's.

All three are bounded in number, two in time, and the first two in size, for others write what events say. What does
not fit is forgotten, which costs time and nothing else: polling finds it.

Events of array children (``parent:index``) and nodes (``parent#index``) are hints to the parent: its ``statusSummary``
has changed, while only its own event tells its end. They never make a call by themselves (see ``polling``, Hints), so
that an array of ten thousand children costs one entry.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, TypeVar

from controller.core.event_watch import EventWatch
from controller.core.job import BatchStatus, Observation, RowKey
from controller.core.polling import Schedule, safety_slack_s

EARLY_S: Final = 60.0
"""How long an event of an unknown job is kept. A SubmitJob call takes 10 s at most by default, and a look-up after a
lost answer comes within seconds."""
EARLY_MAX: Final = 5_000
"""In a shared account most events are of others' jobs; ours are claimed within seconds of their arrival."""
EARLY_SIZE_MAX: Final = 16 << 20
"""Characters that those may have together. Most events have a few thousand, but some 256 KiB."""
TOLD_MAX: Final = 10_000
"""Ends that are told and not confirmed yet: a second's worth, but for a failure of DescribeJobs."""
TOLD_SIZE_MAX: Final = 64 << 20
ENDED_MAX: Final = 10_000
ENDED_S: Final = 3_600.0


class EventOutcome(StrEnum):
    """What became of a message; the ``outcome`` of ``batch_events_received_total``."""

    HINT = "hint"
    FINAL = "final"
    """A hint of an end."""
    FOREIGN = "foreign"
    STALE = "stale"
    """Says nothing that is not known: late, or twice."""
    MALFORMED = "malformed"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """What is read of a "Batch Job State Change" or "Batch Job Queue Blocked" event."""

    job_id: str
    status: BatchStatus | None
    """None: one that this version does not know."""
    attempts: int = 0
    is_blocked: bool = False
    """The job stands at the head of a queue that is blocked."""
    end: Observation | None = None
    """All it says, if the status is final."""
    size: int = field(default=0, compare=False)
    """Characters of the message: about what it costs at most to keep all it says."""

    @property
    def is_end(self) -> bool:
        return self.status is not None and self.status.is_final


_RANKS: Final = {status: rank for rank, status in enumerate(BatchStatus)}
_CHILD: Final = re.compile(r"[:#]")


def _order(attempts: int, status: BatchStatus | None) -> tuple[int, int]:
    """Events come in any order, and their times are whole seconds: what orders a job's life is (attempts, status).
    A status that is not known is newer than anything: it is worth a look."""
    return attempts, len(_RANKS) if status is None else _RANKS[status]


T = TypeVar("T")


class Recent(Generic[T]):
    """The latest entries by id, bounded in number, age and size."""

    def __init__(self, *, count_max: int, age_s_max: float, size_max: float = math.inf) -> None:
        self._count_max = count_max
        self._age_s_max = age_s_max
        self._size_max = size_max
        self._entries: OrderedDict[str, tuple[float, int, T]] = OrderedDict()
        """When it was added, its size, and what it is."""
        self._size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def put(self, key: str, value: T, now: float, *, size: int = 0) -> None:
        """Add, or replace what stands there; a replaced entry keeps its age."""
        added_at, replaced, _ = self._entries.get(key, (now, 0, None))
        self._size += size - replaced
        self._entries[key] = (added_at, size, value)

    def get(self, key: str) -> T | None:
        entry = self._entries.get(key)
        return None if entry is None else entry[2]

    def pop(self, key: str) -> T | None:
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._size -= entry[1]
        return entry[2]

    def forgotten(self, now: float) -> Iterator[T]:
        """Drop what is too old or too much, oldest first."""
        while self._entries:
            added_at, size, value = next(iter(self._entries.values()))
            is_too_much = len(self._entries) > self._count_max or self._size > self._size_max
            if not is_too_much and now - added_at < self._age_s_max:
                return
            self._entries.popitem(last=False)
            self._size -= size
            yield value


@dataclass(frozen=True, slots=True)
class _Early:
    """The newest event of an unknown job, and how many others came."""

    event: JobEvent
    others: int = 0


class HintBook:
    """Takes events in, and knows what of them is not settled. Not thread-bound."""

    def __init__(self, schedule: Schedule, count: Callable[[EventOutcome], None], *, is_fed: bool) -> None:
        """``count`` is told the outcome of every event, once; of one of an unknown job when that is settled. Without a
        queue of events (``is_fed``) there is nothing to remember and to judge."""
        self.is_fed = is_fed
        self._schedule = schedule
        self._count = count
        self._early: Recent[_Early] = Recent(count_max=EARLY_MAX, age_s_max=EARLY_S, size_max=EARLY_SIZE_MAX)
        self._ends: Recent[Observation] = Recent(count_max=TOLD_MAX, age_s_max=math.inf, size_max=TOLD_SIZE_MAX)
        self._ended: Recent[None] = Recent(count_max=ENDED_MAX, age_s_max=ENDED_S)
        self.watch = EventWatch()
        self._was_healthy = False
        """As it was told last."""

    def __len__(self) -> int:
        """Events and ends that are not settled."""
        return len(self._early) + len(self._ends)

    # --- events ---------------------------------------------------------------------------------------

    def take(self, event: JobEvent, now: float) -> None:
        """One event has come."""
        parent, *child = _CHILD.split(event.job_id, maxsplit=1)
        if child:
            self._count(self._tell_parent(parent, now))
        elif event.job_id in self._schedule:
            self._count(self._tell(event, now))
        elif event.job_id in self._ended:
            if event.is_end:
                self.watch.told(event.job_id, now)
            self._count(EventOutcome.STALE)
        else:
            self._keep(event, now)

    def _tell_parent(self, parent: str, now: float) -> EventOutcome:
        if self._schedule.hint(parent, now):
            return EventOutcome.HINT
        return EventOutcome.STALE if parent in self._ended else EventOutcome.FOREIGN

    def _tell(self, event: JobEvent, now: float) -> EventOutcome:
        if self._schedule.is_end_told(event.job_id) or self._is_stale(event):
            return EventOutcome.STALE
        self._schedule.hint(event.job_id, now, is_end=event.is_end)
        if not event.is_end:
            return EventOutcome.HINT
        if event.end is not None:
            self._ends.put(event.job_id, event.end, now, size=event.size)
        return EventOutcome.FINAL

    def _is_stale(self, event: JobEvent) -> bool:
        """An end never is: the job is followed, so no answer has shown it."""
        seen = self._schedule.last_seen(event.job_id)
        if seen is None or event.is_end:
            return False
        attempts, status = seen
        if event.is_blocked:
            return _order(event.attempts, BatchStatus.RUNNABLE) < _order(attempts, status)
        return _order(event.attempts, event.status) <= _order(attempts, status)

    def _keep(self, event: JobEvent, now: float) -> None:
        known = self._early.get(event.job_id)
        if known is None:
            self._early.put(event.job_id, _Early(event), now, size=event.size)
            self._forget_early(now)
            return
        newest = max(known.event, event, key=lambda each: (each.is_end, _order(each.attempts, each.status)))
        self._early.put(event.job_id, _Early(newest, known.others + 1), now, size=newest.size)

    # --- jobs -----------------------------------------------------------------------------------------

    def followed(self, job_id: str, now: float) -> None:
        """A job has been put into the schedule: what came of it too early is told now."""
        early = self._early.pop(job_id)
        if early is not None:
            self._count(self._tell(early.event, now))
            self._count_all(EventOutcome.STALE, early.others)

    def end_of(self, job_id: str) -> Observation | None:
        """What an event said of its end, not confirmed by an answer yet."""
        return self._ends.get(job_id)

    def ended(self, key: RowKey, job_id: str, now: float, *, is_end_seen: bool) -> None:
        """A job is followed no longer: its end was seen (or taken from an event), or nothing can be said of it."""
        if self.is_fed:
            if is_end_seen and self._schedule.is_end_told(job_id):
                self.watch.announced(now)
            elif is_end_seen:
                self.watch.unannounced(job_id, now)
            self._ends.pop(job_id)
            self._ended.put(job_id, None, now)
        self._schedule.remove(key)

    # --- time -----------------------------------------------------------------------------------------

    def advance(self, now: float, *, rate_per_s: float) -> bool:
        """Forget what is old, judge the events, and give the schedule its slack at this describe rate; whether the
        judgement has changed since the last time."""
        self._forget_early(now)
        for _ in self._ends.forgotten(now):
            pass
        for _ in self._ended.forgotten(now):
            pass
        self.watch.advance(now)
        schedule = self._schedule
        schedule.slack_s = (
            safety_slack_s(in_flight=len(schedule), rate_per_s=rate_per_s, interval_s_max=schedule.interval_s_max)
            if self.watch.is_healthy
            else 0.0
        )
        has_changed = self.watch.is_healthy is not self._was_healthy
        self._was_healthy = self.watch.is_healthy
        return has_changed

    def _forget_early(self, now: float) -> None:
        for early in self._early.forgotten(now):
            self._count_all(EventOutcome.FOREIGN, 1 + early.others)

    def _count_all(self, outcome: EventOutcome, times: int) -> None:
        for _ in range(times):
            self._count(outcome)
