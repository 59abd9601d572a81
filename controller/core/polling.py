"""Who is due to be described, in chunks of up to 100, and when a job counts as lost.

The track stage owns one ``Schedule``: it adds each TRACKED row, takes a chunk for each DescribeJobs call and gives
every job of it back with what the call said. Nothing here knows AWS, the store or the time: due times are monotonic
seconds, given by the caller; what has to survive a restart (when a job was first missed) is in the store, in wall time.

Order
    The job that has been due longest goes first, so that under overload, when the budget allows fewer calls than jobs
    are due, all intervals stretch evenly: a job is described again after at most its interval and one sweep of the
    others. Jobs of which somebody said something stand in a line of their own that gets up to half of every chunk
    before the rest; so a flood of hints at most doubles that stretch (``staleness_bound_s``), and a hint overtakes
    everything else that is overdue.

    A chunk is filled up with jobs that are not due yet, those with a hint first, then soonest first: the call costs the
    same.

Hints
    A hint of an end makes a job due whatever its interval. Ends that are told one by one share calls: the first after a
    quiet time waits ``END_LINGER_S`` for company, and calls for ends are ``END_SPACING_S`` apart unless they are made
    anyway. Any other hint cuts no interval short: the job is due when it would be without events (but no sooner than
    ``interval_s_min`` from now), and goes along in any call before that.

Slack
    While events announce what happens, polling is a safety net: a call is then made only when a job without a hint is
    due for longer than ``slack_s``. The order is the same, so switching it on or off costs nothing. Jobs in the line of
    hints get no slack; those whose told end the answers don't show yet, or that answers lacked, stand there too.

Memory
    One row of parallel arrays per job, found by job id (``job_ids.py``) and by key through small pages; a place in one
    of two lines (``due_line.py``). No object, task or dict per job: about 85 bytes at a million jobs, job id included.
    Nothing takes long at that size either: what grows or is cleaned up, does so in small parts.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, Protocol, TypeVar

from controller.core.due_line import NO_ENTRY, SLOTS_MAX, DueLine, tick_of
from controller.core.job import BatchStatus, RowKey, Seen
from controller.core.job_ids import NO_SLOT, JobIds
from controller.core.limits import DESCRIBE_JOBS_MAX, LOST_MISSES_MIN, PACING_GUARD

# --- intervals -------------------------------------------------------------------------------------------

ROOT_FACTOR: Final = {
    BatchStatus.SUBMITTED: 0.5,
    BatchStatus.PENDING: 1.0,
    BatchStatus.RUNNABLE: 1.0,
    BatchStatus.STARTING: 0.5,
    BatchStatus.RUNNING: 0.5,
}
"""Interval over the square root of the time in the status, both in seconds: 5 s for a job that has been RUNNING for
100 s, 15 s after a quarter of an hour. Over jobs of all kinds, the chance to end soon falls about as one over the age,
and what ends are seen late on average is least, for a number of calls, where intervals go as the root of the inverse
of that chance. In proportion to the age, the same calls see them twice as late on average (``benchmarks/tracking``).
Jobs that wait are polled half as often: what follows is another status, not an end."""


def interval_s(status: BatchStatus, age_s: float, *, min_s: float, max_s: float) -> float:
    """Seconds until a job should be described again that has been in ``status`` for ``age_s``; within the bounds."""
    factor = ROOT_FACTOR.get(status)
    return max_s if factor is None else min(max_s, max(min_s, factor * math.sqrt(max(0.0, age_s))))


SAFETY_SHARE: Final = 0.05
"""Share of the describe budget that polling is held to while events are healthy: at a million jobs a day no more than
fits into the calls that are made for ends. With a tenth, a sweep made calls of its own, one for each ten for ends."""
STRETCH_MAX: Final = 10
"""Most times ``interval_s_max`` that a job may then go without a look, if the budget reaches."""


def safety_slack_s(*, in_flight: int, rate_per_s: float, interval_s_max: float) -> float:
    """How much longer than its interval a job may wait while events are healthy: as long as a sweep of all takes at
    SAFETY_SHARE of the budget. With few jobs that is little time: there polling costs nothing worth saving."""
    sweep_s = math.ceil(in_flight / DESCRIBE_JOBS_MAX) / (SAFETY_SHARE * rate_per_s)
    return min(sweep_s, (STRETCH_MAX - 1) * interval_s_max)


def is_lost(*, misses: int, first_missed_at: float, now: float, lost_after_s: float, sweep_s: float) -> bool:
    """Whether Batch has forgotten the job: missing from enough successful answers, over long enough a time.

    ``first_missed_at`` and ``now`` are of one clock: monotonic, or wall time if an earlier process saw the first miss.
    An answer without a job may be a lag of Batch's own index right after SubmitJob, so answers are counted and spread
    over ``lost_after_s``, or 3 sweeps if those take longer.
    """
    return misses >= LOST_MISSES_MIN and now - first_missed_at >= max(lost_after_s, 3 * sweep_s)


# --- the schedule ----------------------------------------------------------------------------------------


class TrackableRow(Protocol):
    """What the schedule needs of a TRACKED row (``ports.TrackedRow``)."""

    @property
    def key(self) -> RowKey: ...
    @property
    def job_id(self) -> str: ...
    @property
    def batch_status(self) -> BatchStatus: ...
    @property
    def attempts(self) -> int: ...
    @property
    def is_missed(self) -> bool: ...


Row = TypeVar("Row", bound=TrackableRow)


class Tracked(NamedTuple):
    """One job of a chunk, as last seen. A tuple: one is made for each job of each call, and it takes a third of the
    time that a frozen dataclass takes."""

    key: RowKey
    job_id: str
    status: BatchStatus
    attempts: int
    misses: int
    """Answers without it since it was last seen; of those before a restart at most one is known."""
    is_hinted: bool
    """Somebody said something of it that has not been looked into yet."""

    @property
    def is_missed(self) -> bool:
        return self.misses > 0

    def is_changed(self, seen: Seen | None) -> bool:
        """Whether what an answer had of it (None: nothing) has to be stored. A status that this version does not know
        is no change: what comes after it is."""
        if seen is None or self.misses:
            return True
        return seen.status is not None and (seen.status is not self.status or seen.attempt_count != self.attempts)


class Lasting(NamedTuple):
    """A job that was in one status whenever it was seen, for so long."""

    key: RowKey
    job_id: str
    attempts: int
    for_s: float
    """From when it was first seen in it to when it was last: the least that it can have been."""


_STATUSES: Final = tuple(BatchStatus)
_STATUS_NUMBERS: Final = {status: number for number, status in enumerate(_STATUSES)}

_IN_HANDS: Final = 1
_HINTED: Final = 2
"""Taken because of a hint: if the call fails, it stays in the line of hints."""
_HINTED_AGAIN: Final = 4
"""Hinted while in hands: what the call says may be older than the hint."""
_END_TOLD: Final = 8
"""An event told its end, and no answer has shown it yet."""

_TICKS_PER_S: Final = 100
"""Resolution of due times."""
_NEVER: Final = 1 << 62
_GROWTH: Final = 256
"""Rows that the columns grow by."""
_PART: Final = 50_000
"""Jobs that are looked at in one go."""

END_LINGER_S: Final = 0.1
"""What a first told end waits for others: a burst of ends comes as a burst of events."""
END_SPACING_S: Final = 0.95
"""Between two calls that are made for told ends. At a million jobs a day, twelve ends a second, it makes a call per ten
ends, each of which has waited for less than half a second on average."""


class Schedule:
    """Who is due when. Every job is either in a line or in hands; a job in hands is in no other chunk.

    Keys that are not (or no longer) in the schedule are ignored, so that an answer may come later than the end of
    its job.
    """

    def __init__(self, *, interval_s_min: float, interval_s_max: float) -> None:
        assert 0 < interval_s_min <= interval_s_max, (interval_s_min, interval_s_max)
        self.interval_s_min = interval_s_min
        self.interval_s_max = interval_s_max
        self.slack_s = 0.0
        """How much longer than its interval a job without a hint may wait (see above). May be set at any time."""
        self._ends_taken_at = -math.inf
        self._ids = JobIds()
        self._slot_of_key = _KeyIndex()
        self._free: list[int] = []
        self._used = 0
        """Slots that are, or were, somebody's."""
        # One row per slot:
        self._keys = array("q")
        self._entries = array("q")  # the one living entry of a line; NO_ENTRY in hands
        self._seen_at = array("d")
        self._changed_at = array("d")
        self._attempts = array("i")
        self._misses = array("H")
        self._status = array("b")
        self._flags = array("B")
        self._due = DueLine(0, self._entries)
        self._hints = DueLine(1, self._entries)

    # --- members --------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, job_id: object) -> bool:
        return isinstance(job_id, str) and self._ids.slot_of(job_id) != NO_SLOT

    def add(self, row: TrackableRow, *, due_at: float, age_s: float = 0.0) -> None:
        """Follow a job that is not in the schedule yet; it counts as seen at ``due_at``.

        ``age_s`` is how long it had been in its status then, as far as is known: without it, every job is polled
        as a young one at first.
        """
        was_added = self.add_missing([row], due_at=due_at, age_s=lambda _: age_s)
        assert was_added, "a job is in the schedule once"

    def add_missing(self, rows: Iterable[Row], *, due_at: float, age_s: Callable[[Row], float]) -> int:
        """``add`` those that are not in the schedule; returns how many that were."""
        count, tick = 0, _tick(due_at)
        for row in rows:
            slot = self._free[-1] if self._free else self._used
            if not self._ids.put(slot, row.job_id):
                continue
            assert self._slot_of_key.get(row.key) == NO_SLOT, "a row is in the schedule once"
            if self._free:
                self._free.pop()
            else:
                self._take_new_slot()
            self._slot_of_key.put(row.key, slot)
            self._keys[slot] = row.key
            self._seen_at[slot] = due_at
            self._changed_at[slot] = due_at - age_s(row)
            self._attempts[slot] = row.attempts
            self._misses[slot] = 1 if row.is_missed else 0
            self._status[slot] = _STATUS_NUMBERS[row.batch_status]
            self._flags[slot] = 0
            self._due.put(slot, tick)
            count += 1
        return count

    def remove(self, key: RowKey) -> None:
        """Stop following it, in hands or not."""
        slot = self._slot_of_key.pop(key)
        if slot == NO_SLOT:
            return
        self._ids.remove(slot)
        self._entries[slot] = NO_ENTRY
        self._seen_at[slot] = math.inf
        self._free.append(slot)
        self._clear_out()

    def _take_new_slot(self) -> None:
        assert self._used < SLOTS_MAX, "more jobs than the schedule can number"
        if self._used == len(self._keys):
            zeros = bytes(8 * _GROWTH)
            for column in (self._keys, self._attempts, self._misses, self._status, self._flags, self._changed_at):
                column.frombytes(zeros[: column.itemsize * _GROWTH])
            self._entries.extend([NO_ENTRY] * _GROWTH)
            self._seen_at.extend([math.inf] * _GROWTH)
        self._used += 1

    # --- chunks ---------------------------------------------------------------------------------------

    def take_chunk(self, now: float, *, size: int = DESCRIBE_JOBS_MAX) -> tuple[Tracked, ...]:
        """If a job is due, up to ``size`` jobs, now in the caller's hands; else nothing.

        Each must come back through ``observed``, ``missed``, ``returned`` or ``remove``.
        """
        due_tick, now_tick = self._next_due_tick(), _tick(now)
        if due_tick is None or due_tick > now_tick:
            return ()
        slots: list[int] = []
        # Ends that wait for company need not wait any longer.
        self._take(self._hints, _tick(now + END_SPACING_S), slots, (size + 1) // 2)
        for line, until in (
            (self._due, now_tick - self._slack_ticks),
            (self._hints, _NEVER),
            (self._due, _NEVER),
        ):
            self._take(line, until, slots, size)
        if any(self._flags[slot] & _END_TOLD for slot in slots):
            self._ends_taken_at = now
        return tuple([self._tracked(slot) for slot in slots])

    def _take(self, line: DueLine, until_tick: int, slots: list[int], size: int) -> None:
        before = len(slots)
        line.take(until_tick, slots, size)
        flags = _IN_HANDS | (_HINTED if line is self._hints else 0)
        for slot in slots[before:]:
            self._flags[slot] = flags | self._flags[slot] & _END_TOLD

    def _tracked(self, slot: int) -> Tracked:
        return Tracked(
            RowKey(self._keys[slot]),
            self._ids.text(slot),
            _STATUSES[self._status[slot]],
            self._attempts[slot],
            self._misses[slot],
            bool(self._flags[slot] & _HINTED),
        )

    def next_due_at(self) -> float | None:
        """When the next chunk can be taken; None if every job is in hands."""
        due_tick = self._next_due_tick()
        return None if due_tick is None else due_tick / _TICKS_PER_S

    def _next_due_tick(self) -> int | None:
        due_tick, hint_tick = self._due.next_tick(), self._hints.next_tick()
        if due_tick is None:
            return hint_tick
        due_tick += self._slack_ticks
        return due_tick if hint_tick is None else min(due_tick, hint_tick)

    @property
    def _slack_ticks(self) -> int:
        return math.ceil(self.slack_s * _TICKS_PER_S)

    # --- what came of it ------------------------------------------------------------------------------

    def observed(self, key: RowKey, *, status: BatchStatus, attempts: int, now: float) -> None:
        """An answer had the job, and what it said is stored."""
        slot = self._slot_of_key.get(key)
        if slot == NO_SLOT:
            return
        number = _STATUS_NUMBERS[status]
        if number != self._status[slot] or attempts != self._attempts[slot]:
            self._status[slot] = number
            self._attempts[slot] = attempts
            self._changed_at[slot] = now
        self._misses[slot] = 0
        self._answered(slot, now)

    def unchanged(self, keys: Iterable[RowKey], *, now: float) -> None:
        """An answer had these jobs, none missed before, each as it was: what nearly every job of nearly every answer
        comes to, so it is one loop over the columns."""
        seen_at, flags, slot_of = self._seen_at, self._flags, self._slot_of_key.get
        for key in keys:
            slot = slot_of(key)
            if slot == NO_SLOT:
                continue
            if flags[slot] & (_HINTED_AGAIN | _END_TOLD):
                self._answered(slot, now)
                continue
            seen_at[slot] = now
            flags[slot] = 0
            self._due.put(slot, _tick(now + self._wait_s(slot, now)))
        self._clear_out()

    def set_aside(self, key: RowKey) -> None:
        """An answer showed its end; it stays in hands until that is stored, and is not stale meanwhile."""
        slot = self._slot_of_key.get(key)
        if slot != NO_SLOT:
            self._seen_at[slot] = math.inf

    def missed(self, key: RowKey, *, now: float) -> None:
        """A successful answer did not have the job."""
        slot = self._slot_of_key.get(key)
        if slot != NO_SLOT:
            self._misses[slot] = min(self._misses[slot] + 1, 0xFFFF)
            self._answered(slot, now)

    def returned(self, key: RowKey, *, now: float, delay: float) -> None:
        """The call failed: due again after ``delay`` seconds, the whole chunk at the same time."""
        slot = self._slot_of_key.get(key)
        if slot != NO_SLOT:
            self._seen_at[slot] = min(self._seen_at[slot], now)
            flags = self._flags[slot]
            self._flags[slot] = flags & _END_TOLD
            self._put(slot, _tick(now + delay), is_hint=bool(flags & (_HINTED | _HINTED_AGAIN | _END_TOLD)))

    def _answered(self, slot: int, now: float) -> None:
        self._seen_at[slot] = now
        flags = self._flags[slot]
        self._flags[slot] = flags & _END_TOLD
        if flags & _END_TOLD and flags & _HINTED_AGAIN:
            self._put(slot, _tick(self._look_at(now)), is_hint=True)
            return
        is_hint = bool(flags & (_END_TOLD | _HINTED_AGAIN) or self._misses[slot])
        self._put(slot, _tick(now + self._wait_s(slot, now)), is_hint=is_hint)

    def _wait_s(self, slot: int, now: float) -> float:
        age_s = now - self._changed_at[slot]
        status = _STATUSES[self._status[slot]]
        return interval_s(status, age_s, min_s=self.interval_s_min, max_s=self.interval_s_max)

    # --- hints ----------------------------------------------------------------------------------------

    def hint(self, job_id: str, now: float, *, is_end: bool = False) -> bool:
        """Somebody says that the job has changed, or that it has ended. False: not known."""
        slot = self._ids.slot_of(job_id)
        if slot == NO_SLOT:
            return False
        is_told = is_end and not self._flags[slot] & _END_TOLD
        if is_told:
            # From here on it is young: while answers don't show the end, it is looked at as often as a new job.
            self._changed_at[slot] = now
            self._flags[slot] |= _END_TOLD
        if self._flags[slot] & _IN_HANDS:
            self._flags[slot] |= _HINTED_AGAIN
            return True
        entry = self._entries[slot]
        due_tick = tick_of(entry) if _is_hint(entry) else tick_of(entry) + self._slack_ticks
        if is_told:
            self._put(slot, min(due_tick, _tick(self._look_at(now))), is_hint=True)
        elif not _is_hint(entry):
            as_ever = max(tick_of(entry), _tick(now + self.interval_s_min))
            self._put(slot, min(due_tick, as_ever), is_hint=True)
        return True

    def _look_at(self, now: float) -> float:
        """When to look for an end that was told now."""
        return max(now + END_LINGER_S, self._ends_taken_at + END_SPACING_S)

    def is_end_told(self, job_id: str) -> bool:
        """Whether an event told of an end that no answer has shown yet."""
        slot = self._ids.slot_of(job_id)
        return slot != NO_SLOT and bool(self._flags[slot] & _END_TOLD)

    def last_seen(self, job_id: str) -> tuple[int, BatchStatus] | None:
        """Number of attempts and status as the latest answer had them; None: not known."""
        slot = self._ids.slot_of(job_id)
        return None if slot == NO_SLOT else (self._attempts[slot], _STATUSES[self._status[slot]])

    def seen_at(self, job_id: str) -> float | None:
        """When the latest answer had it, or when it was put in; None: not known."""
        slot = self._ids.slot_of(job_id)
        return None if slot == NO_SLOT else self._seen_at[slot]

    # --- how it goes ----------------------------------------------------------------------------------

    def staleness_s(self, now: float) -> float:
        """Age of the oldest answer about any job (0 if there is none)."""
        return max(0.0, now - min(self.oldest_seen_at(), default=now)) if len(self) else 0.0

    def oldest_seen_at(self) -> Iterator[float]:
        """When the job was seen that was seen longest ago, of one part of the jobs after the other. Each part takes
        about 1 ms; who looks at a million may do something else in between."""
        for start in range(0, len(self._seen_at), _PART):
            yield min(self._seen_at[start : start + _PART])

    @property
    def slots(self) -> int:
        """Rows to look through with ``lasting``."""
        return self._used

    def lasting(self, status: BatchStatus, *, for_s: float, first: int, count: int) -> list[Lasting]:
        """Those among ``count`` rows from ``first`` on that have been in ``status`` for ``for_s``; 0.1 µs a row."""
        number = _STATUS_NUMBERS[status]
        seen_at, changed_at, misses = self._seen_at, self._changed_at, self._misses
        return [
            Lasting(
                RowKey(self._keys[slot]), self._ids.text(slot), self._attempts[slot], seen_at[slot] - changed_at[slot]
            )
            for slot, found in enumerate(self._status[first : first + count], start=first)
            if found == number and for_s <= seen_at[slot] - changed_at[slot] < math.inf and not misses[slot]
        ]

    def sweep_s(self, rate_per_s: float) -> float:
        """Seconds in which every job is described once at this many calls per second."""
        return math.ceil(len(self) / DESCRIBE_JOBS_MAX) / rate_per_s

    def staleness_bound_s(self, rate_per_s: float) -> float:
        """Within what time every job is described again at this many calls per second, if calls are answered, whatever
        the hints: its interval, the slack, and the calls that may go before it, half of each taken by hints."""
        count = len(self)
        calls = 1 if 0 < count <= DESCRIBE_JOBS_MAX else math.ceil(count / (DESCRIBE_JOBS_MAX // 2))
        return self.interval_s_max + self.slack_s + calls * (1 + PACING_GUARD) / rate_per_s

    # --- lines ----------------------------------------------------------------------------------------

    def _put(self, slot: int, due_tick: int, *, is_hint: bool = False) -> None:
        (self._hints if is_hint else self._due).put(slot, due_tick)
        self._clear_out()

    def _clear_out(self) -> None:
        alive = len(self)
        self._due.clear_out(alive)
        self._hints.clear_out(alive)


def _tick(at: float) -> int:
    """Whole ticks. The microsecond keeps ``_tick(tick / _TICKS_PER_S) == tick``, which rounding would break."""
    return max(0, math.floor((at + 1e-6) * _TICKS_PER_S))


def _is_hint(entry: int) -> bool:
    return bool(entry & 1)


class _KeyIndex:
    """Row key → slot. Keys are given in the order of arrival, so those in flight lie close together: pages of
    64 need a tenth of what a dict would."""

    _BITS: Final = 6

    def __init__(self) -> None:
        self._pages: dict[int, array[int]] = {}

    def get(self, key: RowKey) -> int:
        page = self._pages.get(key >> self._BITS)
        return NO_SLOT if page is None else page[key & (1 << self._BITS) - 1]

    def put(self, key: RowKey, slot: int) -> None:
        number = key >> self._BITS
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = array("i", [NO_SLOT]) * (1 << self._BITS)
        page[key & (1 << self._BITS) - 1] = slot

    def pop(self, key: RowKey) -> int:
        slot = self.get(key)
        if slot != NO_SLOT:
            page = self._pages[key >> self._BITS]
            page[key & (1 << self._BITS) - 1] = NO_SLOT
            if page.count(NO_SLOT) == len(page):
                del self._pages[key >> self._BITS]
        return slot
