"""Which requests may be sent to AWS Batch now, and whether more may be received from SQS.

Called by the admit stage and the gate of intake with a snapshot of counted rows; nothing here remembers anything
between calls except the ``credits`` that a plan returns and the next snapshot brings back.

Fairness between job queues is start-time fair queueing: a queue's credit says how far it is ahead of the others,
in admitted jobs divided by its weight. The queue that is least ahead is served; serving it moves it ``1 / weight``
further. A queue that had nothing to send does not save up a claim (it starts level with the others), nor does it lose
its debt as long as the snapshots name it. Credits stay within ``[0, 1 / weight]``, so whatever the past, two queues
that always have rows to send differ by at most one job each, divided by their weights.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Literal, Protocol

from controller.core.depth import DEPTH_MAX
from controller.core.job import BatchStatus, Job, JobState, RowKey
from controller.core.limits import IN_DOUBT_MAX

HEAD_MAX: Final = 256
"""Rows of one job queue that a single plan looks at, at most."""

AUTO: Final = "auto"
"""``max_waiting`` that ``core.depth`` chooses."""

# --- limits and counts -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """``queues.<name>`` of the configuration: what one Batch job queue may hold."""

    max_in_flight: int = 10_000
    """Rows SUBMITTING or TRACKED; an array job is one."""
    max_waiting: int | Literal["auto"] = 2_000
    """Rows SUBMITTING, or TRACKED and SUBMITTED, PENDING or RUNNABLE in Batch. Bounds what is added: a retry that
    Batch moves back to RUNNABLE may exceed it. Before a plan ``controller/depths.py`` puts a number for ``auto``."""
    weight: float = 1.0
    """Share of the sends relative to the other queues, > 0."""
    paused: bool = False
    """Nothing of this queue is submitted."""
    aging_s: float = 60.0
    """Seconds of waiting that weigh as much as one step of priority, > 0. The store ranks by it."""
    stuck_after_s: float = 1_800.0
    """A job that is RUNNABLE for longer is stuck; 0: none ever is."""

    @property
    def waiting_bound(self) -> int:
        """The most that may ever wait."""
        return DEPTH_MAX if self.max_waiting == AUTO else self.max_waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """How many rows of one job queue stand where."""

    in_flight: int = 0
    """SUBMITTING and TRACKED."""
    waiting: int = 0
    """What counts towards ``max_waiting``."""
    pending: int = 0
    """Of ``waiting``, what waits for another job and not for compute: PENDING in Batch, without array parents."""
    queued: int = 0
    """Without those that wait for another request."""
    running: int = 0
    """TRACKED and STARTING or RUNNING in Batch."""


class UsageLine(Protocol):
    """A line of the store's usage table (``ports.UsageRow``)."""

    @property
    def source(self) -> str: ...
    @property
    def job_queue(self) -> str: ...
    @property
    def state(self) -> JobState: ...
    @property
    def batch_status(self) -> BatchStatus | None: ...
    @property
    def is_in_doubt(self) -> bool: ...
    @property
    def is_array(self) -> bool: ...
    @property
    def is_unmet(self) -> bool: ...
    @property
    def count(self) -> int: ...


def is_counted_waiting(line: UsageLine) -> bool:
    """Whether the rows of this line count towards ``max_waiting``.

    A row being submitted does, since it will be waiting in a moment. An array parent stays PENDING for as long as
    any child waits or runs (AWS Batch user guide, "Array jobs"), so its PENDING says nothing about waiting.
    """
    if line.state is JobState.SUBMITTING:
        return True
    if line.state is not JobState.TRACKED or line.batch_status is None:
        return False
    return line.batch_status.is_waiting and not (line.is_array and line.batch_status is BatchStatus.PENDING)


def is_waiting_on_compute(job: Job) -> bool:
    """Whether a start of this job tells how fast compute takes jobs. An array parent's PENDING comes at once, however
    long its children wait. A job PENDING for another one does tell: between two looks it may become RUNNABLE and
    start."""
    return (
        job.state is JobState.TRACKED
        and job.batch_status is not None
        and job.batch_status.is_waiting
        and job.array_size is None
    )


def queue_counts(usage: Iterable[UsageLine]) -> dict[str, QueueCounts]:
    """Counts per job queue; queues without a live row are missing."""
    sums: dict[str, list[int]] = {}
    for line in usage:
        counts = sums.setdefault(line.job_queue, [0, 0, 0, 0, 0])
        if line.state in (JobState.SUBMITTING, JobState.TRACKED):
            counts[0] += line.count
        if is_counted_waiting(line):
            counts[1] += line.count
            counts[4] += line.count if line.batch_status is BatchStatus.PENDING else 0
        if line.state is JobState.QUEUED and not line.is_unmet:
            counts[2] += line.count
        if line.state is JobState.TRACKED and line.batch_status in (BatchStatus.STARTING, BatchStatus.RUNNING):
            counts[3] += line.count
    return {
        name: QueueCounts(in_flight=f, waiting=w, pending=p, queued=q, running=r)
        for name, (f, w, q, r, p) in sums.items()
    }


# --- the plan --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """One Batch job queue as a plan sees it."""

    name: str
    limits: QueueLimits
    in_flight: int
    waiting: int
    queued: int
    is_held: bool
    head: tuple[Job, ...] | None = ()
    """The first ``wanted(view)`` rows of its backlog, in the order of its tenants' turns (``core.tenants``). None: not
    read, as its turn does not come (``heads_to_read``)."""

    @property
    def slots(self) -> int:
        """Rows that its limits still take; 0 while it is paused or held."""
        if self.limits.paused or self.is_held:
            return 0
        return max(0, min(self.limits.max_in_flight - self.in_flight, self.limits.waiting_bound - self.waiting))


UNCONFIRMED: Final = ""
"""The place in the turns of all names that Batch has not confirmed; no job queue is called so."""


class WaitingOn(StrEnum):
    """Why a job queue gets nothing more from a plan."""

    IN_FLIGHT = "in_flight"
    WAITING = "waiting"
    HELD = "held"
    PAUSED = "paused"
    SENDS = "sends"
    DOUBT = "doubt"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionSnapshot:
    queues: tuple[QueueView, ...]
    """Each job queue once."""
    free_sends: int
    """``submit.concurrency`` less ``undoubted``, already bounded by what the submit budget can send soon."""
    in_doubt: int
    undoubted: int
    """SUBMITTING rows that are not in doubt."""
    credits: Mapping[str, float] = field(default_factory=dict)
    """Of the previous plan."""
    now: float
    """Wall time, compared with ``expires_at``."""
    held_definitions: frozenset[tuple[str, str]] = frozenset()
    """(job queue, job definition) pairs that get no SubmitJob."""
    resting: frozenset[RowKey] = frozenset()
    """Rows that get none yet, whatever their pair."""
    unconfirmed: frozenset[str] = frozenset()
    """Job queues that Batch has not confirmed yet: names that only requests have used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    admit: tuple[Job, ...]
    """In the order in which they should be sent."""
    credits: Mapping[str, float]
    """Of every job queue of the snapshot, and UNCONFIRMED: how far it is ahead of its turn."""
    waiting_on: Mapping[str, WaitingOn]
    """For each queue of the snapshot why it gets nothing more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan and what it was made of, for whoever asks why a request waits."""

    snapshot: AdmissionSnapshot
    plan: Plan

    def view(self, name: str) -> QueueView | None:
        """A job queue as the plan saw it; None: it had no live row."""
        return next((view for view in self.snapshot.queues if view.name == name), None)

    def waiting_on(self, name: str) -> WaitingOn:
        """Why a job queue got nothing more."""
        return self.plan.waiting_on.get(name, WaitingOn.EMPTY)


def wanted(view: QueueView, *, cap: int = HEAD_MAX) -> int:
    """How many rows of the queue's head are worth reading: no more than could be admitted."""
    return max(0, min(view.slots, view.queued, cap))


def heads_to_read(snapshot: AdmissionSnapshot) -> list[str]:
    """Job queues whose heads the plan needs and the snapshot lacks. Ask again with those; none: the plan is certain.

    A turn falls on the job queue that is least ahead, and whoever was served is further ahead than before. So with
    ``n`` sends to give away, only the first ``n`` that have something to send can be served at all.
    """
    views = [view for view in snapshot.queues if wanted(view)]
    unread = {view.name for view in views if view.head is None}
    if not unread:
        return []
    sends = _sends(snapshot)
    having_rows = {view.name for view in views if _sendable(view, snapshot)}
    missing: list[str] = []
    for line in _Turns(snapshot, ()).lines():
        needed = sends - len(having_rows.intersection(line))
        if needed > 0:
            # Where many have nothing that may be sent, twice as many each time.
            missing += [name for name in line if name in unread][: max(needed, len(views) - len(unread))]
    return missing


def plan_admission(snapshot: AdmissionSnapshot) -> Plan:
    """Admit as many rows as limits and sends allow, in turns between the queues by weight.

    Work-conserving: it stops only when the sends are used up or no queue has both a slot and a row that may be
    sent. A paused, held or full queue is left out and slows none of the others.

    Names that Batch has not confirmed have one place in the turns together, and take turns for it. However many of
    them somebody makes up, the job queues that there are get their turns as beside one other queue.
    """
    sends = _sends(snapshot)
    rows = {view.name: _sendable(view, snapshot) for view in snapshot.queues}
    served = dict.fromkeys(rows, 0)
    admitted: list[Job] = []
    turns = _Turns(snapshot, [name for name, jobs in rows.items() if jobs])
    while len(admitted) < sends and (name := turns.next()) is not None:
        admitted.append(rows[name][served[name]])
        served[name] += 1
        turns.served(name, has_more=served[name] < len(rows[name]))
    return Plan(
        admit=tuple(admitted),
        credits=turns.credits(),
        waiting_on={
            view.name: _waiting_on(view, served[view.name], len(rows[view.name]), snapshot) for view in snapshot.queues
        },
    )


def plan_of(jobs: Sequence[Job], snapshot: AdmissionSnapshot) -> tuple[Job, ...]:
    """Those of ``jobs`` that the limits of the job queues allow, as if nothing else waited, no pair were held, no row
    rested, and there were sends for all of them."""
    heads: dict[str, tuple[Job, ...]] = {}
    for job in jobs:
        heads[job.job_queue] = (*heads.get(job.job_queue, ()), job)
    views = tuple(replace(view, head=heads.get(view.name, ())) for view in snapshot.queues)
    alone = replace(snapshot, queues=views, free_sends=len(jobs), held_definitions=frozenset(), resting=frozenset())
    return plan_admission(alone).admit


class _Line:
    """Turns by weight (stride scheduling): whoever was served least for its weight is next."""

    def __init__(self, weights: Mapping[str, float], carried: Mapping[str, float], having_rows: Iterable[str]) -> None:
        """A newcomer begins as if it had just been served: else one after the other could come before the rest."""
        self._weights = weights
        self._ahead = {name: carried.get(name, 1.0 / weight) for name, weight in weights.items()}
        self._level = 0.0
        """How far the one served last was ahead when it was served."""
        self._heap = [(self._ahead[name], name) for name in having_rows]
        heapq.heapify(self._heap)

    def order(self) -> list[str]:
        """Of all, whoever is least ahead first."""
        return sorted(self._ahead, key=lambda name: (self._ahead[name], name))

    def next(self) -> str | None:
        return self._heap[0][1] if self._heap else None

    def served(self, *, has_more: bool) -> None:
        """The next one was."""
        self._level, name = self._heap[0]
        self._ahead[name] = self._level + 1.0 / self._weights[name]
        if has_more:
            heapq.heapreplace(self._heap, (self._ahead[name], name))
        else:
            heapq.heappop(self._heap)

    def credits(self) -> dict[str, float]:
        return {name: max(0.0, ahead - self._level) for name, ahead in self._ahead.items()}


class _Turns:
    """A line of the confirmed job queues, in which one place is for those of another line."""

    def __init__(self, snapshot: AdmissionSnapshot, having_rows: Sequence[str]) -> None:
        weights = {view.name: view.limits.weight for view in snapshot.queues}
        self._unconfirmed = snapshot.unconfirmed
        others = {name: weight for name, weight in weights.items() if name in snapshot.unconfirmed}
        known = {name: weight for name, weight in weights.items() if name not in snapshot.unconfirmed}
        inner = [name for name in having_rows if name in others]
        outer = [name for name in having_rows if name in known]
        self._inner = _Line(others, snapshot.credits, inner)
        places = [*outer, UNCONFIRMED] if inner else outer
        self._outer = _Line({**known, UNCONFIRMED: 1.0}, snapshot.credits, places)

    def lines(self) -> tuple[list[str], list[str]]:
        """The confirmed job queues and the others, each in the order of its turns."""
        return [name for name in self._outer.order() if name != UNCONFIRMED], self._inner.order()

    def next(self) -> str | None:
        name = self._outer.next()
        return self._inner.next() if name == UNCONFIRMED else name

    def served(self, name: str, *, has_more: bool) -> None:
        """The next one was, and has another row or not."""
        if name in self._unconfirmed:
            self._inner.served(has_more=has_more)
            has_more = self._inner.next() is not None
        self._outer.served(has_more=has_more)

    def credits(self) -> dict[str, float]:
        return self._inner.credits() | self._outer.credits()


def _sends(snapshot: AdmissionSnapshot) -> int:
    if snapshot.in_doubt >= IN_DOUBT_MAX:
        # An outage must not turn the backlog into doubt: one probe at a time finds out whether it is over.
        return min(max(0, snapshot.free_sends), 1 if snapshot.undoubted == 0 else 0)
    return max(0, snapshot.free_sends)


def _sendable(view: QueueView, snapshot: AdmissionSnapshot) -> list[Job]:
    """The rows of the head that may be sent, no more than there are slots."""
    slots = view.slots
    if slots == 0 or view.head is None:
        return []
    return [job for job in view.head if _may_be_sent(job, snapshot)][:slots]


def _may_be_sent(job: Job, snapshot: AdmissionSnapshot) -> bool:
    return (
        job.state is JobState.QUEUED
        and job.cancel_requested_at is None
        and (job.expires_at is None or job.expires_at > snapshot.now)
        and (job.job_queue, job.job_definition) not in snapshot.held_definitions
        and job.key not in snapshot.resting
    )


def _waiting_on(view: QueueView, served: int, sendable: int, snapshot: AdmissionSnapshot) -> WaitingOn:
    if view.limits.paused:
        return WaitingOn.PAUSED
    if view.is_held:
        return WaitingOn.HELD
    if view.queued <= served:
        return WaitingOn.EMPTY
    if view.in_flight + served >= view.limits.max_in_flight:
        return WaitingOn.IN_FLIGHT
    if view.waiting + served >= view.limits.waiting_bound:
        return WaitingOn.WAITING
    if view.head is None or sendable > served:
        return WaitingOn.DOUBT if snapshot.in_doubt >= IN_DOUBT_MAX else WaitingOn.SENDS
    has_held = any((job.job_queue, job.job_definition) in snapshot.held_definitions for job in view.head)
    return WaitingOn.HELD if has_held else WaitingOn.EMPTY


# --- intake ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeMarks:
    """``intake.backlog_high``, ``backlog_low`` and ``backlog_max``, in requests: 0 ≤ low < high ≤ maximum."""

    high: int
    low: int
    maximum: int


def kept_for_others(queued: Mapping[str, int], source: str, *, sources: Iterable[str], marks: IntakeMarks) -> int:
    """What of ``maximum`` the other SQS queues have or may still claim: ``queued`` are all QUEUED rows per SQS queue.

    Each of ``sources`` is sure of an equal part of the maximum, or of the high mark if that is less, as it needs no
    more. So one that floods, with requests of held job queues too, takes what is left and closes nobody else's
    intake, and all of them together stay within the maximum.
    """
    names = tuple(sources)
    part = min(marks.high, marks.maximum // max(1, len(names)))
    claimed = {**queued, **{name: max(part, queued.get(name, 0)) for name in names}}
    return sum(rows for name, rows in claimed.items() if name != source)


def intake_is_open(*, was_open: bool, countable: int, total: int, marks: IntakeMarks) -> bool:
    """Close at the high mark, open again at the low one.

    ``countable`` are the QUEUED rows of one SQS queue whose Batch job queues are neither held nor paused: stopped rows
    would close the intake for job queues that could go on. ``total`` are all its QUEUED rows and what is kept for
    others. Those that do not count still take their part of ``maximum``: what they leave is the high mark if it is the
    smaller one, and the low mark shrinks in proportion, so that intake does not flap there either.
    """
    high = min(marks.high, marks.maximum - (total - countable))
    if high <= 0:
        return False
    return countable < high if was_open else countable <= high * marks.low / marks.high
