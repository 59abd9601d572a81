"""What gets no SubmitJob at the moment: held queues, held (queue, definition) pairs, pauses, requests that rest.

Holds are stored with their events and outlive a restart, but not whose requests they were for; pauses are in memory,
short, and only say "not yet".
``stages/admit.py`` and ``stages/submit.py`` ask here, ``stages/submit.py`` puts holds, ``stages/release.py`` ends them.

*Stopped* is more than a pause: credentials are refused, or everything that was tried was denied. Then single requests
find out whether that is over, and an answer of Batch's own to one of them ends it. Nothing is rejected meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import structlog

from controller.core.events import Event
from controller.core.job import RowKey
from controller.core.limits import HOLD_PROBE_S
from controller.core.probe_lines import ALLOWED, Line, ProbeLines
from controller.ports import Clock, Hold, JobStore, PutHold, ReleaseHold, Write
from controller.rests import Pair, Rests

PAIR_PROBE_S_MIN: Final = 60.0
PAIR_PROBE_S_MAX: Final = 900.0
"""A held pair lets one request through after the first, then after twice as long, up to the last; later, if so many are
held that its line (``core.probe_lines``) has no probe for it so soon."""
GOOD_PAIR_PROBE_S: Final = 5.0
"""The first, if Batch had just judged requests of this pair: the denial is likely to be of a single one."""
PAIR_ANSWER_S: Final = 60.0
"""If what became of that request says nothing of the pair (a throttle, a drain), another is let through after this."""
PAIR_IDLE_S: Final = 300.0
"""A held pair is released if no request of it came for so long after one might be let through: those it was held for
were cancelled or have expired, and nothing else would ever end the hold."""
DENIED_PAIRS_MIN: Final = 3
"""So many pairs denied, and nothing accepted since the first: it is not one producer's mistake but the permissions."""
DENIED_FOR_S: Final = 60.0
"""Of fewer pairs: nothing was accepted for so long, and all that was tried was denied."""
GOOD_FOR_S: Final = 600.0
"""A pair of which Batch judged a request so lately is known to be allowed. While there are such pairs, denials of
others say nothing of the permissions as a whole: one of the former must be denied, too, and its probe after that, or so
many of them as make everything. One call that is denied by chance, as a policy takes a while to be the same everywhere
at AWS, would else stop everybody while somebody's made-up definitions are denied."""
GOOD_PAIRS_MAX: Final = 1_000
"""Pairs known to be allowed that are kept, the latest ones."""
PAUSES_MAX: Final = 1_000
"""Beyond these, pauses that are over are forgotten: requests may make up names of job queues."""
STOPPED_PAUSE_S: Final = 15.0
"""Between requests that find out whether submission may go on."""


class Pause(StrEnum):
    """Why nothing is admitted, to any job queue or to one."""

    CREDENTIALS = "credentials"
    """They are expired or invalid."""
    DENIED = "denied"
    """Every pair that was tried."""
    UNREACHABLE = "unreachable"
    """SubmitJob did not get as far as an answer."""
    UNSORTED = "unsorted"
    """A refusal, or a hold, that could not be sorted out or stored yet. Of one job queue, never of all."""


STOPS: Final = frozenset({Pause.CREDENTIALS, Pause.DENIED})
ACCESS_DENIED: Final = "access_denied"
"""Reason of a hold."""


class HoldBook:
    """Holds, mirrored from the store, pauses and rests. The pair of a whole job queue has an empty job definition."""

    def __init__(
        self,
        *,
        store: JobStore,
        clock: Clock,
        on_commit: Callable[[Sequence[Write]], None],
        counted: Callable[[Hold, str], None] = lambda hold, change: None,
    ) -> None:
        """``counted`` is told of each hold that was put or ended, ``held`` or ``released``."""
        self._counted = counted
        self._store = store
        self._clock = clock
        self._on_commit = on_commit
        self._holds: dict[Pair, Hold] = {}
        self._probe_at: dict[Pair, float] = {}
        self._probe_after_s: dict[Pair, float] = {}
        self._probed_until: dict[Pair, float] = {}
        """Until when a request that was let through is waited for."""
        self._lines = ProbeLines()
        self._rests = Rests(clock)
        self._paused_until: dict[str, float] = {}
        self._paused_by: dict[str, Pause] = {}
        self._stopped_by: Pause | None = None
        self._goes_on_since = 0.0
        """Monotonic; when submission was stopped last, its end."""
        self._denied: set[Pair] = set()
        """Since Batch answered a request otherwise; pairs that were held before count only by time."""
        self._denied_since: float | None = None
        self._doubted: dict[Pair, float] = {}
        """Of these, those that were known to be allowed: when Batch judged a request of each."""
        self._is_good_denied = False
        """Whether that is known of them no more."""
        self._refused_last: dict[Pair, RowKey] = {}
        """Of held pairs that were ALLOWED before; the pair held last comes last."""
        self._tries: frozenset[Pair] = frozenset()
        """Of which one request each finds out whether everything is denied."""
        self._good_at: dict[Pair, float] = {}
        """When Batch last judged a request of a pair, the latest one last."""
        self._log = structlog.get_logger(stage="holds")

    async def load(self) -> None:
        """Read what an earlier process held; everything is probed soon."""
        for hold in await self._store.holds():
            self._remember(hold)

    # --- questions ------------------------------------------------------------------------------------

    def is_queue_held(self, queue: str) -> bool:
        """Whether the queue as a whole is."""
        return (queue, "") in self._holds

    def held_pairs(self, *, with_probes: bool = True) -> frozenset[Pair]:
        """Pairs that may send no request now; without probes, all that are held."""
        probing = self.probing() if with_probes else frozenset()
        return frozenset(pair for pair in self._holds if pair[1] and pair not in probing)

    def probing(self) -> frozenset[Pair]:
        """Held pairs of which one request may be admitted now: its probe is due, and none is under way."""
        now = self._clock.monotonic()
        return frozenset(
            pair
            for pair in self._holds
            if pair[1] and self._probe_at[pair] <= now and self._probed_until.get(pair, now) <= now
        )

    def probed(self, queue: str, definition: str) -> None:
        """A request of a held pair was let through: no other until it is answered, or was given time enough."""
        self._probed_until[queue, definition] = self._clock.monotonic() + PAIR_ANSWER_S

    def is_probe(self, queue: str, definition: str) -> bool:
        """Whether a request in hand is the one that finds out if its pair may go on."""
        pair = (queue, definition)
        return bool(definition) and pair in self._holds and self._probe_at[pair] <= self._clock.monotonic()

    def idle(self) -> tuple[Pair, ...]:
        """Held pairs of which no request came, long after one might have been let through."""
        if self._stopped_by is not None:
            return ()
        before = self._clock.monotonic() - PAIR_IDLE_S
        return tuple(
            pair
            for pair in self._holds
            if pair[1] and max(self._probe_at[pair], self._probed_until.get(pair, 0.0), self._goes_on_since) <= before
        )

    def is_good(self, queue: str, definition: str) -> bool:
        """Whether Batch judged a request of this pair a while ago, so that it is allowed as far as anybody knows."""
        at = self._good_at.get((queue, definition))
        return at is not None and self._clock.monotonic() - at <= GOOD_FOR_S

    def was_good(self, queue: str, definition: str) -> bool:
        """Whether it is a held pair that was allowed until then, as far as anybody knew."""
        return self._lines.was_allowed((queue, definition))

    def refused_last(self) -> Mapping[RowKey, Pair]:
        """Of each held pair that was allowed before the request that was refused last; the pair held last first."""
        return {key: pair for pair, key in reversed(self._refused_last.items())}

    def is_held(self, queue: str, definition: str) -> bool:
        """Whether a request in hand must go back; a probe in hand may go on."""
        if self.is_queue_held(queue):
            return True
        pair = (queue, definition)
        return pair in self._holds and self._probe_at[pair] > self._clock.monotonic()

    def all(self) -> Iterable[Hold]:
        return self._holds.values()

    def get(self, queue: str, definition: str = "") -> Hold | None:
        """Of the pair, or of the queue as a whole; None: it is not held."""
        return self._holds.get((queue, definition))

    # --- holds ----------------------------------------------------------------------------------------

    async def hold(
        self,
        queue: str,
        definition: str,
        *,
        reason: str,
        detail: str,
        refused: RowKey | None = None,
        tenant: str = "",
    ) -> bool:
        """Hold a queue or a pair; if a probe of it was due, this was its answer. ``refused`` is the request of the pair
        that was refused, ``tenant`` whose it is. False: that one is known to be at fault alone, rests, and nothing is
        held for it. Raises StoreUnavailable."""
        pair = (queue, definition)
        was_good = self.is_good(*pair)
        if refused is not None:
            is_alone = self._is_at_fault_alone(pair, refused)
            self._rests.denied(pair, refused, rests=was_good or is_alone)
            if is_alone:
                return False
        if reason == ACCESS_DENIED:
            self._deny(pair)
        if pair in self._holds:
            self._remember_refused(pair, refused)
            self._probe_failed(pair)
            return True
        hold = Hold(job_queue=queue, job_definition=definition, reason=reason, held_at=self._clock.now())
        event = _event("job_queue.held", hold, hold.held_at, detail)
        write = PutHold(hold=hold, events=(event,))
        await self._store.commit([write])
        if pair in self._holds:  # another refusal of the same moment was faster
            return True
        self._remember(hold, line=ALLOWED if was_good else tenant)
        if was_good:
            self._remember_refused(pair, refused)
            self._probe_after_s[pair] = GOOD_PAIR_PROBE_S / 2
        self._probe_failed(pair)
        self._log.warning("held", job_queue=queue, job_definition=definition or None, reason=reason, detail=detail)
        self._counted(hold, "held")
        self._on_commit([write])
        return True

    async def release(self, queue: str, definition: str, *, detail: str) -> None:
        """End a hold; nothing happens if there is none. Raises StoreUnavailable."""
        pair = (queue, definition)
        hold = self._holds.get(pair)
        if hold is None:
            return
        event = _event("job_queue.released", hold, self._clock.now(), detail)
        write = ReleaseHold(job_queue=queue, job_definition=definition, events=(event,))
        await self._store.commit([write])
        for known in (self._holds, self._probe_at, self._probe_after_s, self._probed_until, self._refused_last):
            known.pop(pair, None)
        self._lines.leave(pair)
        self._log.info("released", job_queue=queue, job_definition=definition or None, detail=detail)
        self._counted(hold, "released")
        self._on_commit([write])

    def _remember(self, hold: Hold, *, line: Line = "") -> None:
        pair = (hold.job_queue, hold.job_definition)
        self._holds[pair] = hold
        self._probe_at[pair] = self._clock.monotonic()
        if hold.job_definition:
            self._lines.join(pair, line)

    def _remember_refused(self, pair: Pair, key: RowKey | None) -> None:
        if key is not None and self.was_good(*pair):
            self._refused_last[pair] = key

    def _probe_failed(self, pair: Pair) -> None:
        """Answers to calls that were under way when the hold began say nothing new."""
        if self._probe_at[pair] <= self._clock.monotonic():
            self._postpone(pair)
            self._probed_until.pop(pair, None)

    def _postpone(self, pair: Pair) -> None:
        if not pair[1]:
            after_s = HOLD_PROBE_S
        else:
            after_s = min(PAIR_PROBE_S_MAX, 2 * self._probe_after_s.get(pair, PAIR_PROBE_S_MIN / 2))
            after_s = max(after_s, self._lines.turn_s(pair))
            if self._stopped_by is Pause.DENIED:
                # The permissions are at fault, and are mended for all pairs at once: each gets its turn, none for long,
                # and those that were allowed each time that something is tried.
                turn_s = 0.0 if self.was_good(*pair) else max(PAIR_PROBE_S_MIN, STOPPED_PAUSE_S * len(self._holds))
                after_s = min(after_s, max(STOPPED_PAUSE_S, turn_s))
        self._probe_after_s[pair] = after_s
        self._probe_at[pair] = self._clock.monotonic() + after_s

    def queues_to_probe(self) -> tuple[str, ...]:
        """Held queues that are due to be asked for; asking moves their next time on."""
        now = self._clock.monotonic()
        due = tuple(
            queue for queue, definition in sorted(self._holds) if not definition and self._probe_at[queue, ""] <= now
        )
        for queue in due:
            self._postpone((queue, ""))
        return due

    def next_probe_s(self) -> float | None:
        """Seconds until the next held queue is due."""
        times = [at for (_, definition), at in self._probe_at.items() if not definition]
        return max(0.0, min(times) - self._clock.monotonic()) if times else None

    # --- rests ----------------------------------------------------------------------------------------

    def rest(self, queue: str, definition: str, key: RowKey) -> None:
        """Batch refused this request for the first time: it is not sent again at once."""
        self._rests.refused((queue, definition), key)

    def rest_unanswered(self, queue: str, definition: str, key: RowKey) -> None:
        """The look-up of this request gave no answer, so that it may not be sent."""
        self._rests.unanswered((queue, definition), key)

    def rest_unasked(self, queue: str, definition: str, key: RowKey) -> None:
        """This request has to be looked up, and so many others are that it has to wait."""
        self._rests.unasked((queue, definition), key)

    def resting(self) -> frozenset[RowKey]:
        """Requests that may not be sent now, though their pairs may."""
        return self._rests.resting(self._holds)

    def denied_at(self, key: RowKey) -> float | None:
        """When a call for this request was denied last, monotonic; None: never, as far as is known."""
        return self._rests.denied_at(key)

    def next_rest_s(self) -> float | None:
        """Seconds until the next one's rest ends; None: none rests."""
        return self._rests.next_s()

    def _is_at_fault_alone(self, pair: Pair, key: RowKey) -> bool:
        """Whether a request that is denied now was denied before, and Batch has judged another of its pair since: the
        permissions depend on what is in the request, as with a condition on its tags."""
        denied_at, good_at = self._rests.denied_at(key), self._good_at.get(pair)
        return denied_at is not None and good_at is not None and good_at > denied_at and pair not in self._holds

    # --- pauses ---------------------------------------------------------------------------------------

    def pause(self, seconds: float, *, reason: Pause, queue: str = "") -> None:
        """No admission to ``queue`` (empty: to any) for so long."""
        assert not queue or reason not in STOPS, "what stops submission stops all of it"
        assert queue or reason is not Pause.UNSORTED, "what is not sorted out is a matter of its job queue"
        if reason in STOPS and self._stopped_by is not reason:
            self._stopped_by = reason
            self._log.error("submission stopped", reason=reason.value)
        now = self._clock.monotonic()
        if len(self._paused_until) > PAUSES_MAX:
            self._paused_until = {name: until for name, until in self._paused_until.items() if until > now}
            self._paused_by = {name: by for name, by in self._paused_by.items() if name in self._paused_until}
        until = now + seconds
        if until >= self._paused_until.get(queue, until):
            self._paused_until[queue], self._paused_by[queue] = until, reason

    def pause_left_s(self, queue: str = "") -> float:
        return max(0.0, self._paused_until.get(queue, 0.0) - self._clock.monotonic())

    def paused_by(self, queue: str = "") -> Pause | None:
        """Why nothing is admitted at the moment; None: it is not for a pause."""
        return self._paused_by[queue] if self.pause_left_s(queue) > 0 else None

    def tries(self, pairs: Iterable[Pair]) -> None:
        """One request each of these is on its way while submission is stopped: of a held pair it is the probe."""
        self._tries = frozenset(pairs)
        now = self._clock.monotonic()
        for pair in self._tries & self._holds.keys():
            self._probe_at[pair] = min(self._probe_at[pair], now)

    def is_paused(self, queue: str, definition: str) -> bool:
        """Whether a request in hand must go back for a pause of all submission. That one of the tries was denied does
        not end the others."""
        paused_by = self.paused_by()
        return paused_by is not None and not (paused_by is Pause.DENIED and (queue, definition) in self._tries)

    @property
    def stopped_by(self) -> Pause | None:
        """Why no more than single requests may be sent, between pauses too."""
        return self._stopped_by

    def submission_paused(self) -> Mapping[str, bool]:
        """``submission_paused{reason}``: whether all of submission waits for this."""
        by = (self._stopped_by, self.paused_by())
        return {reason.value: reason in by for reason in Pause if reason is not Pause.UNSORTED}

    def answered(self, queue: str, definition: str) -> None:
        """Batch has judged a request of this pair, whatever it said: nothing stops submission as a whole (any more)."""
        self._remember_good((queue, definition))
        self._forget_denials()
        self._go_on()

    def nothing_waits(self) -> None:
        """No request waits that could be sent, so nothing stands still, and none would find out whether submission may
        go on. The next one does."""
        if self._stopped_by is not None:
            self._forget_denials()
            self._go_on()

    def _go_on(self) -> None:
        if self._stopped_by is None:
            return
        self._log.info("submission goes on", reason=self._stopped_by.value)
        if self._stopped_by is Pause.DENIED:
            now = self._clock.monotonic()
            for held, hold in self._holds.items():
                if hold.reason == ACCESS_DENIED:
                    self._probe_at[held] = now
                    self._probe_after_s.pop(held, None)
            self._rests.forget_denials()
        self._stopped_by = None
        self._goes_on_since = self._clock.monotonic()
        self._paused_until.pop("", None)
        self._on_commit([])

    def _remember_good(self, pair: Pair) -> None:
        self._good_at.pop(pair, None)
        self._good_at[pair] = self._clock.monotonic()
        if len(self._good_at) > GOOD_PAIRS_MAX:
            del self._good_at[next(iter(self._good_at))]

    def _forget_denials(self) -> None:
        self._denied.clear()
        self._denied_since = None
        self._doubted.clear()
        self._is_good_denied = False

    def _deny(self, pair: Pair) -> None:
        now = self._clock.monotonic()
        if self._denied_since is None:
            self._denied_since = now
        if pair not in self._holds:
            self._denied.add(pair)
        good_at = self._good_at.pop(pair, None)
        if good_at is not None and now - good_at <= GOOD_FOR_S:
            self._doubted[pair] = good_at
        elif pair in self._doubted and pair in self._holds and self._probe_at[pair] <= now:
            self._is_good_denied = True
        is_good_denied = self._is_good_denied or len(self._doubted) >= DENIED_PAIRS_MIN
        is_everything = len(self._denied) >= DENIED_PAIRS_MIN or now - self._denied_since >= DENIED_FOR_S
        if is_everything and (is_good_denied or self._stopped_by is not None or not self._knows_good(now)):
            self.pause(STOPPED_PAUSE_S, reason=Pause.DENIED)

    def _knows_good(self, now: float) -> bool:
        """Whether any pair is known to be allowed, or was when a call for it was denied a moment ago. Of the former the
        latest one is the last."""
        latest = self._good_at[next(reversed(self._good_at))] if self._good_at else -math.inf
        return now - max(latest, *self._doubted.values(), -math.inf) <= GOOD_FOR_S


def _event(name: str, hold: Hold, now: float, detail: str) -> Event:
    data = {
        "job_queue": hold.job_queue,
        "job_definition": hold.job_definition or None,
        "reason": hold.reason,
        "detail": detail or None,
    }
    subject = f"hold:{hold.job_queue}:{hold.job_definition}:{hold.held_at:.6f}"
    return Event(name=name, time=now, data=data, subject=subject)
