"""Admission: reserve a slot and write the intent, in one transaction, for as many requests as may be sent now.

Reads the counts of every queue and the next rows of those whose turn may come, asks ``core.admission`` and commits
SUBMITTING rows.
It is the only stage that adds to what is in flight, so counts read before its commit can only be too high: limits hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from controller.budgets import Budgets, Purpose
from controller.core import limits
from controller.core.admission import (
    AdmissionSnapshot,
    Planned,
    QueueCounts,
    QueueLimits,
    QueueView,
    WaitingOn,
    heads_to_read,
    plan_admission,
    plan_of,
    queue_counts,
    wanted,
)
from controller.core.job import Job, JobState
from controller.core.lifecycle import Admitted
from controller.core.tenants import in_turns
from controller.holds import HoldBook, Pause
from controller.ledger import Ledger
from controller.ports import Clock, HeadOf, JobStore
from controller.rests import Pair

AHEAD_S: Final = 0.5
"""Intents are written for at most this many seconds of sends: each one is in doubt after a crash."""

TRIES_AT_ONCE: Final = 8
"""While everything that was tried was denied: pairs of which a request is tried at the same time. One after the other,
a pair that is allowed could stand behind many that are not."""
SERVED_MAX: Final = 1_000
"""Beyond these, whose turn was last is forgotten of job queues without a row: requests may make up names."""
TRIED_MAX: Final = 1_000
"""Pairs whose latest try is remembered while submission is stopped."""

_CAUSES: Final[Mapping[WaitingOn, str]] = {
    WaitingOn.IN_FLIGHT: "max_in_flight",
    WaitingOn.WAITING: "max_waiting",
    WaitingOn.HELD: "held",
    WaitingOn.PAUSED: "paused",
    WaitingOn.DOUBT: "in_doubt",
}
"""Of ``wait_seconds_total``."""


class Admit:
    """One turn admits what may be sent now."""

    def __init__(
        self,
        *,
        store: JobStore,
        ledger: Ledger,
        holds: HoldBook,
        budgets: Budgets,
        clock: Clock,
        limits_of: Callable[[str, QueueCounts], QueueLimits],
        concurrency: int,
        waited: Callable[[str, float], None] = lambda cause, seconds: None,
        is_confirmed: Callable[[str], bool] = lambda job_queue: True,
        is_short: Callable[[], bool] = lambda: False,
    ) -> None:
        """``waited`` is told for how many seconds a backlog stood still for what; ``is_confirmed`` tells whether Batch
        has a job queue of this name, as far as is known; ``is_short`` whether the store has too little room."""
        self._is_short = is_short
        self._is_confirmed = is_confirmed
        self._store = store
        self._ledger = ledger
        self._holds = holds
        self._budgets = budgets
        self._clock = clock
        self._limits_of = limits_of
        self._concurrency = concurrency
        self._credits: Mapping[str, float] = {}
        self._served: dict[str, str] = {}
        """The tenant that had the last turn, per job queue. Lost with the process: then a round begins anew."""
        self.planned: Planned | None = None
        """The latest plan, for whoever asks why a request waits."""
        self._waited = waited
        self._standing: frozenset[str] = frozenset()
        """What backlogs have been waiting for since ``_standing_since`` (monotonic)."""
        self._standing_since = 0.0
        self._tried: dict[Pair, int] = {}
        """While submission is stopped: the number of the latest try of each pair."""
        self._tries = 0

    async def turn(self) -> float | None:
        """Seconds until a pause or a rest ends; None: nothing more to admit before something changes."""
        if self._is_short():
            self._stands(("disk",))
            return None
        if (pause := self._holds.paused_by()) is not None:
            self._stands((pause.value,))
            return self._holds.pause_left_s()
        is_stopped = self._holds.stopped_by is not None
        snapshot = await self._snapshot(with_probes=not is_stopped)
        if is_stopped and not self._may_find_out(snapshot):
            self._holds.nothing_waits()
        plan = plan_admission(snapshot)
        self.planned = Planned(snapshot=snapshot, plan=plan)
        self._stands(self._causes(self.planned))
        if is_stopped:
            admitted = await self._find_out(plan.admit, snapshot) if snapshot.undoubted == 0 else []
        else:
            admitted = self._one_per_probe(plan.admit)
            self._credits = plan.credits
        if admitted:
            self._holds.tries(map(_pair, admitted) if is_stopped else ())
            await self._ledger.record([(job, Admitted()) for job in admitted])
            self._serve(admitted, snapshot)
            for job in admitted:
                if self._holds.is_probe(job.job_queue, job.job_definition):
                    self._holds.probed(job.job_queue, job.job_definition)
        return self._holds.next_rest_s()

    def is_at_concurrency(self, planned: Planned) -> bool:
        """Whether a plan left nothing of ``submit.concurrency``."""
        return planned.snapshot.undoubted + len(planned.plan.admit) >= self._concurrency

    def _serve(self, jobs: Sequence[Job], snapshot: AdmissionSnapshot) -> None:
        if len(self._served) > SERVED_MAX:
            names = {view.name for view in snapshot.queues}
            self._served = {name: tenant for name, tenant in self._served.items() if name in names}
        self._served.update((job.job_queue, job.tenant) for job in jobs)

    def _may_find_out(self, snapshot: AdmissionSnapshot) -> bool:
        """Whether a request waits to be sent, or for what became of it, that can tell whether submission may go on.
        Those of job queues that are paused, or held as a whole, wait for something else, for hours perhaps."""
        return bool(snapshot.in_doubt or snapshot.undoubted) or any(
            view.queued and not view.limits.paused and not self._holds.is_queue_held(view.name)
            for view in snapshot.queues
        )

    def _causes(self, planned: Planned) -> Iterable[str]:
        """What keeps job queues with a backlog waiting, as far as it is not a budget: those tell of themselves."""
        if self._holds.stopped_by is not None:
            return (self._holds.stopped_by.value,)
        on = {_CAUSES.get(waiting) for name, waiting in planned.plan.waiting_on.items()}
        if self.is_at_concurrency(planned) and any(view.queued and view.slots for view in planned.snapshot.queues):
            on.add("submit_concurrency")
        return {cause for cause in on if cause is not None}

    def _stands(self, causes: Iterable[str]) -> None:
        """From now on backlogs wait for these; told for the time since the last turn is what they waited for then."""
        now = self._clock.monotonic()
        for cause in self._standing:
            self._waited(cause, now - self._standing_since)
        self._standing, self._standing_since = frozenset(causes), now

    async def _find_out(self, unheld: Sequence[Job], snapshot: AdmissionSnapshot) -> list[Job]:
        """The requests that find out whether submission may go on: one if it is for the credentials, as they are
        everybody's; else one of several pairs each. Half of these are held ones, as far as their probes are due: other
        pairs may come for ever, each of another name that somebody made up. ``unheld`` is a plan without held pairs."""
        is_denied = self._holds.stopped_by is Pause.DENIED
        held = await self._held_ones() if is_denied or not unheld else []
        if len(self._tried) > TRIED_MAX:
            self._tried.clear()
        self._tries += 1
        count = min(snapshot.free_sends, TRIES_AT_ONCE if is_denied else 1)
        half = count // 2 + count % 2 * (self._tries % 2)
        others = self._most_telling(unheld)[: count - min(half, len(held))]
        admitted = list(plan_of([*held[: count - len(others)], *others], snapshot))
        self._tried.update(dict.fromkeys(map(_pair, admitted), self._tries))
        return admitted

    async def _held_ones(self) -> list[Job]:
        """Of each held pair the request that is to be its probe, the most telling one first."""
        snapshot = await self._snapshot()
        probes = self._one_per_probe(plan_admission(snapshot).admit)
        due = [job for job in probes if self._holds.is_probe(job.job_queue, job.job_definition)]
        return self._most_telling([*due, *plan_of(await self._refused_last(), snapshot)])

    def _most_telling(self, jobs: Sequence[Job]) -> list[Job]:
        """One of each pair: first of those that are known to be allowed, or were before they were held, then of those
        tried least lately."""
        first: dict[Pair, Job] = {}
        for job in jobs:
            first.setdefault(_pair(job), job)
        order = sorted(first, key=lambda pair: (not self._is_promising(pair), self._tried.get(pair, 0)))
        return [first[pair] for pair in order]

    def _is_promising(self, pair: Pair) -> bool:
        return self._holds.is_good(*pair) or self._holds.was_good(*pair)

    async def _refused_last(self) -> list[Job]:
        """A request of each of some held pairs that were allowed before, tried least lately: what else waits of its
        tenant must not keep it from the plan."""
        pairs = self._holds.refused_last()
        keys = sorted(pairs, key=lambda key: self._tried.get(pairs[key], 0))[:TRIES_AT_ONCE]
        rows = await self._store.load(keys) if keys else {}
        return [rows[key] for key in keys if key in rows]

    async def _snapshot(self, *, with_probes: bool = True) -> AdmissionSnapshot:
        usage = await self._store.usage()
        counts = queue_counts(usage)
        in_doubt = sum(row.count for row in usage if row.is_in_doubt)
        submitting = sum(row.count for row in usage if row.state is JobState.SUBMITTING)
        undoubted = submitting - in_doubt
        free = self._free_sends(undoubted)
        if in_doubt >= limits.IN_DOUBT_MAX:
            free = min(free, 1 - min(1, undoubted))
        held = self._holds.held_pairs(with_probes=with_probes)
        snapshot = AdmissionSnapshot(
            queues=tuple(self._view(name, counts[name], free) for name in sorted(counts)),
            free_sends=free,
            in_doubt=in_doubt,
            undoubted=undoubted,
            credits=self._credits,
            now=self._clock.now(),
            held_definitions=held,
            resting=self._holds.resting(),
            unconfirmed=frozenset(name for name in counts if not self._is_confirmed(name)),
        )
        while unread := heads_to_read(snapshot):
            snapshot = await self._with_heads(snapshot, unread)
        return snapshot

    async def _with_heads(self, snapshot: AdmissionSnapshot, names: Sequence[str]) -> AdmissionSnapshot:
        held: dict[str, list[str]] = {name: [] for name in names}
        for name, definition in snapshot.held_definitions:
            if name in held:
                held[name].append(definition)
        asked = [
            HeadOf(
                job_queue=view.name,
                limit=min(snapshot.free_sends, wanted(view)),
                without_definitions=sorted(held[view.name]),
                without_rows=snapshot.resting,
                after_tenant=self._served.get(view.name),
            )
            for view in snapshot.queues
            if view.name in held
        ]
        rows = await self._store.heads(asked, now=snapshot.now)
        heads = {each.job_queue: tuple(in_turns(found, each.limit)) for each, found in zip(asked, rows, strict=True)}
        return replace(
            snapshot,
            queues=tuple(
                replace(view, head=heads[view.name]) if view.name in heads else view for view in snapshot.queues
            ),
        )

    def _free_sends(self, undoubted: int) -> int:
        """What concurrency and the rate leave room for; at least one, so that a low rate still moves."""
        ahead = max(1, math.ceil(self._budgets.rate_per_s(Purpose.SUBMIT) * AHEAD_S))
        return max(0, min(self._concurrency - undoubted, ahead - self._budgets.waiting(Purpose.SUBMIT)))

    def _view(self, name: str, counts: QueueCounts, free: int) -> QueueView:
        return QueueView(
            name=name,
            limits=self._limits_of(name, counts),
            in_flight=counts.in_flight,
            waiting=counts.waiting,
            queued=counts.queued,
            is_held=self._holds.is_queue_held(name) or self._holds.pause_left_s(name) > 0,
            head=None if free > 0 else (),
        )

    def _one_per_probe(self, jobs: Sequence[Job]) -> list[Job]:
        """Of a held pair whose probe is due, let one request through: what was denied may be single requests. So it is
        one of the plan that was never denied, if there is one, else the one denied least lately; and of several the
        last, as those that came with what was denied are likely to be denied, too."""
        probing = self._holds.probing()
        if not probing:
            return list(jobs)
        chosen: dict[Pair, Job] = {}
        for job in jobs:
            pair = _pair(job)
            if pair in probing and (pair not in chosen or self._denied_at(job) <= self._denied_at(chosen[pair])):
                chosen[pair] = job
        probes = {job.key for job in chosen.values()}
        return [job for job in jobs if job.key in probes or _pair(job) not in probing]

    def _denied_at(self, job: Job) -> float:
        at = self._holds.denied_at(job.key)
        return -math.inf if at is None else at


def _pair(job: Job) -> Pair:
    return job.job_queue, job.job_definition
