"""Why are jobs waiting? Looked for when jobs of a queue are RUNNABLE for longer than ``queues.<name>.stuck_after_s``.

One turn looks through the tracking schedule, which costs no call, and then asks AWS about the job queues that are
due: DescribeJobQueues and DescribeComputeEnvironments once for all of them, GetJobQueueSnapshot and one DescribeJobs
(of the jobs at the front, the first of which carries Batch's own reason) for each. AWS is asked per queue, never per
job, about ``QUEUES_PER_TURN`` queues a turn, each after ``ASK_S_MIN``, then ever more seldom up to ``ASK_S_MAX``.
A turn has its time, too (``TURN_S``, ``CALLS_S``): queues for which there was none are due still, and come first in
the next one.

What it tells is bounded too: of each queue, each time that it is asked about, the ``JOBS_TOLD_MAX`` stuck jobs nearest
its head, each job once per time of being RUNNABLE; the others are only counted. A job is told as stuck only if an
answer of that very moment shows it RUNNABLE, in the attempt that has been waited for.

A permission that is lacking makes the cause less certain and nothing else: it is said once, and tried again seldom.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest, nsmallest
from typing import Final, TypeVar

import anyio
import anyio.lowlevel
import structlog

from controller.arrays import ArrayProgress, is_waiting
from controller.budgets import Budgets, Purpose
from controller.core.admission import QueueLimits
from controller.core.errors import NotAllowed, OutwardError, Refused, Unexpected
from controller.core.events import Event, iso
from controller.core.job import BatchStatus, QueueStatus, RowKey, Seen
from controller.core.lifecycle import FoundStuck, may_be_stuck
from controller.core.limits import DESCRIBE_ENVIRONMENTS_MAX, DESCRIBE_JOBS_MAX, QUEUE_FRONT_MAX
from controller.core.polling import Lasting, Schedule
from controller.core.waiting import ONLY_STATED, Cause, ComputeEnvironment, job_cause, queue_cause, stated_cause
from controller.ledger import Ledger
from controller.loop import Drain
from controller.ports import BatchApi, Block, Clock, EndBlock, JobStore, PutBlock, Write

LOOK_S: Final = 30.0
"""How often the schedule is looked through, or as often as the least ``stuck_after_s``."""
LOOK_S_MIN: Final = 1.0
SLICE: Final = 10_000
"""Rows of the schedule looked at before others get their turn: 1 to 2 ms."""
COUNTED_MAX: Final = 100_000
"""Jobs that are counted as stuck; each costs some 200 bytes."""
LEARNED_PER_TURN: Final = 5_000
LOAD_PAGE: Final = 500
ASK_S_MIN: Final = 120.0
ASK_S_MAX: Final = 900.0
QUEUES_PER_TURN: Final = 3
"""Two calls each and two for all of them."""
TURN_S: Final = 30.0
"""No queue is begun later than this in a turn, but for the first."""
CALLS_S: Final = 60.0
"""No call begins later than this in a turn, however long the line for it is. None takes longer than 15 s: so a turn
stays below what ``/livez`` allows, and yet there is time for four calls as slow as that, those of the first queue."""
JOBS_TOLD_MAX: Final = 10
FRONT_DESCRIBED: Final = DESCRIBE_JOBS_MAX // 2
"""Jobs at the front of a queue that are described. They may be others', or told already: the rest of the call is for
jobs of ours that were not told yet."""
HEARD_S: Final = 300.0
"""How long it counts that Batch called a job the one that blocks its queue, if looks at the job don't say so again. Not
looked at it says nothing: while events are healthy that may take ten times ``track.interval_s_max``."""
HEARD_MAX: Final = 1_000
SETTLED_S: Final = 180.0
"""After a start nothing is called unblocked before the jobs in flight have been described again: at least for so long,
and longer where there are many, or DescribeJobs gives no answers."""
SETTLED_S_MAX: Final = 1_800.0
"""A job that Batch refuses to describe is waited for no longer."""
LOADED_S: Final = 60.0
"""A start has put every job into the schedule by then; when it did so counts as when they were seen."""
DENIED_S: Final = 3_600.0

T = TypeVar("T")


class _OutOfTime(Exception):
    """The rest is for the next turn."""


@dataclass(frozen=True, slots=True)
class _Heard:
    """Batch's status reason of a RUNNABLE job, one that blocks a queue."""

    job_id: str
    text: str
    at: float
    """Monotonic."""


@dataclass(slots=True)
class _Queue:
    """What is known of a job queue that has stuck jobs, or is said to be blocked."""

    ask_at: float
    wait_s: float
    stuck: dict[RowKey, Lasting] = field(default_factory=dict)
    heard: _Heard | None = None
    """Of a job of it."""
    cause: Cause | None = None
    """For every job of it."""
    position_of: dict[str, int] = field(default_factory=dict)
    is_front_full: bool = False

    def see(self, front: Sequence[str]) -> None:
        """The ids at the front, in order. An array stands where the first of its children stands."""
        self.position_of = {job_id: position for position, job_id in enumerate(front, start=1)}
        for job_id, position in list(self.position_of.items()):
            self.position_of.setdefault(job_id.partition(":")[0], position)
        self.is_front_full = len(front) >= QUEUE_FRONT_MAX

    def cause_of(self, job_id: str) -> Cause:
        return job_cause(self.cause, position=self.position_of.get(job_id), is_front_full=self.is_front_full)


class Diagnose:
    """One turn looks, tells what has ended, and asks about the queues that are due."""

    def __init__(
        self,
        *,
        store: JobStore,
        ledger: Ledger,
        batch: BatchApi,
        budgets: Budgets,
        clock: Clock,
        drain: Drain,
        schedule: Schedule,
        limits_of: Callable[[str], QueueLimits],
        arrays: ArrayProgress,
        queue_names: Iterable[str],
        on_commit: Callable[[Sequence[Write]], None],
    ) -> None:
        """``queue_names``: those of the configuration, and the one that stands for the rest."""
        self._arrays = arrays
        self._store = store
        self._ledger = ledger
        self._batch = batch
        self._budgets = budgets
        self._clock = clock
        self._drain = drain
        self._schedule = schedule
        self._limits_of = limits_of
        self._on_commit = on_commit
        thresholds = [limits_of(name).stuck_after_s for name in queue_names]
        self._least_s = min((each for each in thresholds if each > 0), default=None)
        self._queues: dict[str, _Queue] = {}
        self._blocks: dict[str, Block] = {}
        self._queue_of: dict[RowKey, str] = {}
        self._heard: dict[RowKey, _Heard] = {}
        self._are_known = True
        """Whether the job queue of each stuck job is; thousands are learned in several turns."""
        self._told: set[tuple[RowKey, int]] = set()
        self._denied_until: dict[str, float] = {}
        self._counts: Mapping[tuple[str, str], int] = {}
        self._began_at = clock.monotonic()
        self._settled_at = self._began_at + SETTLED_S
        self._is_settled = False
        self._calls_until = 0.0
        self._log = structlog.get_logger(stage="diagnose")

    async def load(self) -> None:
        """What was told before a restart."""
        self._blocks = {block.job_queue: block for block in await self._store.blocks()}
        self._began_at = self._clock.monotonic()
        self._settled_at = self._began_at + min(SETTLED_S, 2 * self._schedule.interval_s_max + LOADED_S)

    def heard(self, key: RowKey, job_id: str, status_reason: str) -> None:
        """DescribeJobs shows a RUNNABLE job with a status reason: if it is one that blocks a queue, ask soon."""
        if self._least_s is None or stated_cause(status_reason) is None:
            return
        if key in self._heard or len(self._heard) < HEARD_MAX:
            self._heard[key] = _Heard(job_id, status_reason, self._clock.monotonic())

    def stuck(self) -> Mapping[tuple[str, str], int]:
        """Stuck jobs by (job queue, cause)."""
        return self._counts

    def _count(self) -> None:
        """Once a turn, so that the metrics cost nothing when they are read."""
        counts: Counter[tuple[str, str]] = Counter()
        for name, queue in self._queues.items():
            if queue.cause is not None:
                counts[name, queue.cause.name] = len(queue.stuck)
                continue
            known = [each.job_id for each in queue.stuck.values() if each.job_id in queue.position_of]
            for job_id in known:
                counts[name, queue.cause_of(job_id).name] += 1
            counts[name, queue.cause_of("").name] += len(queue.stuck) - len(known)
        self._counts = +counts

    async def turn(self) -> float | None:
        """Seconds until it looks again; None: nothing ever counts as stuck."""
        if self._least_s is None:
            return None
        await self._look()
        await self._tell_ended()
        now = self._clock.monotonic()
        due = sorted((queue.ask_at, name) for name, queue in self._queues.items() if queue.ask_at <= now)
        is_more_due = len(due) > QUEUES_PER_TURN
        if due:
            with anyio.CancelScope() as asking:
                self._drain.on_request(asking.cancel)
                try:
                    is_more_due |= not await self._ask([name for _, name in due[:QUEUES_PER_TURN]])
                finally:
                    self._drain.forget(asking.cancel)
        self._count()
        if is_more_due:
            return 0.0
        return max(LOOK_S_MIN, min(LOOK_S, self._least_s)) if self._are_known else LOOK_S_MIN

    # --- who is stuck ---------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Find the jobs that are stuck, by queue."""
        assert self._least_s is not None
        found: dict[RowKey, Lasting] = {}
        for first in range(0, self._schedule.slots, SLICE):
            for each in self._schedule.lasting(BatchStatus.RUNNABLE, for_s=self._least_s, first=first, count=SLICE):
                if len(found) < COUNTED_MAX:
                    found[each.key] = each
            await anyio.lowlevel.checkpoint()
        for each in self._arrays.lasting(self._least_s):
            if len(found) < COUNTED_MAX:
                found[each.key] = each
        self._heard = {key: one for key, one in self._heard.items() if self._counts_still(one)}
        self._told = {(key, attempts) for key, attempts in self._told if key in found or key in self._arrays}
        await self._learn([*self._heard, *found])
        await anyio.lowlevel.checkpoint()
        after_s = {name: self._limits_of(name).stuck_after_s for name in set(self._queue_of.values())}
        stuck: dict[str, dict[RowKey, Lasting]] = {}
        for key, each in found.items():
            name = self._queue_of.get(key)
            if name is not None and 0 < after_s[name] <= each.for_s:
                stuck.setdefault(name, {})[key] = each
        heard = {
            name: one
            for key, one in self._heard.items()
            if (name := self._queue_of.get(key)) is not None and after_s[name] > 0
        }
        self._regroup(stuck, heard)
        await anyio.lowlevel.checkpoint()

    def _counts_still(self, heard: _Heard) -> bool:
        """As far as the job was seen. What was said of one that has been placed, or has ended, blocks nothing."""
        seen, seen_at = self._schedule.last_seen(heard.job_id), self._schedule.seen_at(heard.job_id)
        return seen is not None and seen[1].is_waiting and seen_at is not None and seen_at - heard.at < HEARD_S

    async def _learn(self, keys: Sequence[RowKey]) -> None:
        """Which job queue each is in; the schedule does not know."""
        wanted = set(keys)
        self._queue_of = {key: name for key, name in self._queue_of.items() if key in wanted}
        unknown = [key for key in keys if key not in self._queue_of]
        self._are_known = len(unknown) <= LEARNED_PER_TURN
        del unknown[LEARNED_PER_TURN:]
        for first in range(0, len(unknown), LOAD_PAGE):
            jobs = await self._store.load(unknown[first : first + LOAD_PAGE])
            self._queue_of.update((key, job.job_queue) for key, job in jobs.items())

    def _regroup(self, stuck: Mapping[str, dict[RowKey, Lasting]], heard: Mapping[str, _Heard]) -> None:
        for name in set(self._queues) - set(stuck) - set(heard):
            del self._queues[name]
        for name in sorted({*stuck, *heard}):
            queue = self._queues.get(name)
            if queue is None:
                queue = self._queues[name] = _Queue(self._clock.monotonic(), self._first_wait_s(name))
            if name in heard and queue.heard is None:
                queue.ask_at = min(queue.ask_at, self._clock.monotonic() + self._first_wait_s(name) / 2)
            queue.stuck = stuck.get(name, {})
            queue.heard = heard.get(name)

    def _first_wait_s(self, name: str) -> float:
        return min(ASK_S_MIN, max(LOOK_S_MIN, self._limits_of(name).stuck_after_s))

    # --- asking ---------------------------------------------------------------------------------------

    async def _ask(self, names: Sequence[str]) -> bool:
        """Whether there was time for all of them; those that are left are due still."""
        began_at = self._clock.monotonic()
        self._calls_until = began_at + CALLS_S
        left: dict[str, tuple[float, float]] = {}
        for name in names:
            queue = self._queues[name]
            left[name] = (queue.ask_at, queue.wait_s)
            queue.ask_at = began_at + queue.wait_s
            queue.wait_s = min(ASK_S_MAX, 2 * queue.wait_s)
        try:
            statuses = await self._statuses(names)
            environments = await self._environments(statuses.values() if statuses is not None else ())
            for name in names:
                if name != names[0] and self._clock.monotonic() > began_at + TURN_S:
                    raise _OutOfTime
                status = None if statuses is None else statuses.get(name)
                try:
                    await self._diagnose(name, self._queues[name], status, environments)
                except OutwardError:
                    # The loop backs off. This queue keeps its next time, so that it costs the others no more than that.
                    del left[name]
                    self._stay_due(left)
                    raise
                del left[name]
        except _OutOfTime:
            self._stay_due(left)
        return not left

    def _stay_due(self, left: Mapping[str, tuple[float, float]]) -> None:
        for name, (ask_at, wait_s) in left.items():
            self._queues[name].ask_at, self._queues[name].wait_s = ask_at, wait_s

    async def _diagnose(
        self,
        name: str,
        queue: _Queue,
        status: QueueStatus | None,
        environments: Mapping[str, ComputeEnvironment] | None,
    ) -> None:
        front = await self._read("GetJobQueueSnapshot", Purpose.LIST, lambda: self._batch.queue_front(name))
        if front is not None:
            queue.see(front)
        untold = self._untold(queue)
        longest = nlargest(DESCRIBE_JOBS_MAX, queue.stuck.values(), key=lambda each: each.for_s)
        wanted = [] if queue.heard is None else [queue.heard.job_id]
        wanted += [*(front or ())[:FRONT_DESCRIBED], *(each.job_id for each in (*untold, *longest))]
        ids = list(dict.fromkeys(wanted))[:DESCRIBE_JOBS_MAX]
        seen = await self._described(ids)
        head = next(((job_id, cause) for job_id in ids if (cause := _stated(seen, job_id)) is not None), None)
        stated = head[1] if head is not None else None
        if seen is None and queue.heard is not None:  # no answer of this moment: what was heard last counts
            stated = stated_cause(queue.heard.text)
        own = None
        if status is not None and environments is not None:
            own = [environments[each] for each in status.compute_environments if each in environments]
        before = queue.cause
        queue.cause = queue_cause(stated=stated, queue=status, environments=own)
        if before is not None and (queue.cause is None or queue.cause.name != before.name):
            queue.wait_s = self._first_wait_s(name)
        head_id = head[0] if head is not None else next(iter(front or ()), None)
        was_stated = before is not None and before.is_stated
        can_end = seen is not None and (own is not None or was_stated or self._is_only_stated(name))
        await self._tell_queue(name, queue, head_id, can_end=can_end)
        await self._tell_jobs(queue, untold, seen or {})

    async def _statuses(self, names: Sequence[str]) -> Mapping[str, QueueStatus] | None:
        found = await self._read(
            "DescribeJobQueues", Purpose.LIST, lambda: self._batch.describe_job_queues(list(names))
        )
        return None if found is None else {status.name: status for status in found}

    async def _environments(self, queues: Iterable[QueueStatus]) -> Mapping[str, ComputeEnvironment] | None:
        """By name and by ARN."""
        names = list(dict.fromkeys(each for queue in queues for each in queue.compute_environments))
        found: dict[str, ComputeEnvironment] = {}
        for first in range(0, len(names), DESCRIBE_ENVIRONMENTS_MAX):
            page = names[first : first + DESCRIBE_ENVIRONMENTS_MAX]
            answer = await self._read(
                "DescribeComputeEnvironments",
                Purpose.LIST,
                lambda page=page: self._batch.describe_compute_environments(page),  # type: ignore[misc]  # a default
            )
            if answer is None:
                return None
            for each in answer:
                found[each.name] = found[each.arn] = each
        return found

    async def _described(self, ids: Sequence[str]) -> Mapping[str, Seen] | None:
        if not ids:
            return {}
        found = await self._read("DescribeJobs", Purpose.DESCRIBE, lambda: self._batch.describe_jobs(ids))
        return None if found is None else {seen.job_id: seen for seen in found}

    async def _read(self, operation: str, purpose: Purpose, call: Callable[[], Awaitable[T]]) -> T | None:
        """The answer; None if it is not allowed, refused, or a call that what answers for Batch does not know. Other
        failures are the loop's."""
        if self._clock.monotonic() < self._denied_until.get(operation, 0.0):
            return None
        await self._in_time(purpose)
        try:
            with self._budgets.heeding(purpose):
                return await call()
        except NotAllowed as error:
            if operation not in self._denied_until:
                self._log.warning("causes of waiting are less certain", call=operation, reason=str(error))
            self._denied_until[operation] = self._clock.monotonic() + DENIED_S
            return None
        except (Refused, Unexpected) as error:
            self._log.info("no answer about a job queue", call=operation, reason=str(error))
            return None

    async def _in_time(self, purpose: Purpose) -> None:
        """Wait for a call, as far as the turn has time for it."""
        left_s = self._calls_until - self._clock.monotonic()
        if left_s <= 0:
            raise _OutOfTime
        with anyio.move_on_after(left_s) as waiting:
            await self._budgets.acquire(purpose)
        if waiting.cancelled_caught:
            raise _OutOfTime

    # --- telling --------------------------------------------------------------------------------------

    def _is_only_stated(self, name: str) -> bool:
        """Whether the queue is blocked for what Batch alone tells, of a job: its environments need not be known."""
        known = self._blocks.get(name)
        return known is not None and known.cause in ONLY_STATED

    async def _tell_queue(self, name: str, queue: _Queue, head_id: str | None, *, can_end: bool) -> None:
        """``can_end``: if it is blocked still, that would have been seen now."""
        cause, known = queue.cause, self._blocks.get(name)
        if cause is None or not cause.is_blocking:
            if known is not None and can_end:
                await self._end_block(known)
            return
        if known is not None and known.cause == cause.name:
            return
        now = self._clock.now()
        block = Block(job_queue=name, cause=cause.name, blocked_at=now if known is None else known.blocked_at)
        event = _block_event(
            "job_queue.blocked",
            block,
            now,
            detail=cause.detail or None,
            head_job_id=head_id,
            stuck_jobs=len(queue.stuck),
        )
        write = PutBlock(block=block, events=(event,))
        await self._store.commit([write])
        self._blocks[name] = block
        self._log.warning("job queue is blocked", job_queue=name, cause=cause.name, detail=cause.detail)
        self._on_commit([write])

    async def _tell_ended(self) -> None:
        """Queues without a stuck job are not blocked, as far as we can see. Since when the children of an array wait is
        not known after a start: that they do keeps what was told."""
        waiting = self._arrays.waiting_queues()
        ended = [name for name in self._blocks if name not in self._queues and name not in waiting]
        if not ended or not self._are_known or not await self._settled():
            return
        for name in ended:
            await self._end_block(self._blocks[name])

    async def _settled(self) -> bool:
        """Whether every job in flight has been described since the start."""
        now = self._clock.monotonic()
        if self._is_settled or now < self._settled_at:
            return self._is_settled
        if now < self._began_at + SETTLED_S_MAX:
            for oldest_at in self._schedule.oldest_seen_at():
                if oldest_at < self._began_at + LOADED_S:
                    return False
                await anyio.lowlevel.checkpoint()
        self._is_settled = True
        return True

    async def _end_block(self, block: Block) -> None:
        write = EndBlock(
            job_queue=block.job_queue, events=(_block_event("job_queue.unblocked", block, self._clock.now()),)
        )
        await self._store.commit([write])
        self._blocks.pop(block.job_queue, None)
        self._log.info("job queue is no longer blocked", job_queue=block.job_queue, cause=block.cause)
        self._on_commit([write])

    def _untold(self, queue: _Queue) -> list[Lasting]:
        """Stuck jobs that were not told yet, those nearest the head first; as many as one call can show."""
        last = QUEUE_FRONT_MAX + 1
        return nsmallest(
            DESCRIBE_JOBS_MAX,
            (each for each in queue.stuck.values() if (each.key, each.attempts) not in self._told),
            key=lambda each: (queue.position_of.get(each.job_id, last), -each.for_s),
        )

    async def _tell_jobs(self, queue: _Queue, untold: Sequence[Lasting], seen: Mapping[str, Seen]) -> None:
        told = [each for each in untold if self._is_stuck_still(each, seen.get(each.job_id))][:JOBS_TOLD_MAX]
        jobs = await self._store.load([each.key for each in told])
        facts = [
            (jobs[each.key], self._fact(queue, each))
            for each in told
            if each.key in jobs and may_be_stuck(jobs[each.key])
        ]
        await self._ledger.record(facts)
        self._told.update((each.key, each.attempts) for each in told)

    def _is_stuck_still(self, each: Lasting, seen: Seen | None) -> bool:
        if seen is None or seen.attempt_count != each.attempts:
            return False
        if seen.array_summary is not None:
            return is_waiting(seen.array_summary)
        return seen.status is BatchStatus.RUNNABLE

    def _fact(self, queue: _Queue, each: Lasting) -> FoundStuck:
        cause = queue.cause_of(each.job_id)
        return FoundStuck(
            attempts=each.attempts,
            runnable_for_s=each.for_s,
            cause=cause.name,
            detail=cause.detail,
            position=queue.position_of.get(each.job_id),
        )


def _stated(seen: Mapping[str, Seen] | None, job_id: str) -> Cause | None:
    found = (seen or {}).get(job_id)
    return stated_cause(found.status_reason) if found is not None and found.status is BatchStatus.RUNNABLE else None


def _block_event(name: str, block: Block, now: float, **more: object) -> Event:
    data = {"job_queue": block.job_queue, "cause": block.cause, "blocked_at": iso(block.blocked_at), **more}
    subject = f"block:{block.job_queue}:{block.blocked_at:.6f}"
    return Event(name=name, time=now, data=data, subject=subject, serial=f"{now:.6f}")
