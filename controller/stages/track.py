"""Tracking: ask Batch for every TRACKED job within a bounded time, and store what has changed.

The schedule of who is due lives in memory and is rebuilt at start. A call carries 100 ids whenever 100 jobs are in
flight. Unchanged answers write nothing; a missing id is an observation; of a failed chunk ``controller/isolation.py``
finds the job at fault, if one is.

The end of an array job or multi-node job of which something failed is not stored with its chunk: the job is set aside
until ``controller/children.py`` has found which children failed, for a bounded time, and stored then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import anyio
import anyio.abc
import structlog

from controller.arrays import ArrayProgress
from controller.budgets import Budgets, Purpose
from controller.children import ChildLookUp, wants_look_up
from controller.core.children import summarise
from controller.core.errors import (
    BadCredentials,
    NotAllowed,
    OutwardError,
    StoreUnavailable,
    Throttled,
)
from controller.core.hints import HintBook
from controller.core.job import BatchStatus, Job, JobState, Observation, RowKey, Seen
from controller.core.lifecycle import Described, Fact, Forgotten, Missed
from controller.core.limits import DESCRIBE_JOBS_MAX, LOST_MISSES_MIN
from controller.core.polling import Schedule, Tracked, is_lost
from controller.health import Health
from controller.isolation import Isolation
from controller.ledger import Ledger
from controller.loop import Backoff, Drain, Outage, guarded
from controller.metrics import Metrics
from controller.ports import BatchApi, Clock, JobStore, TrackedRow

LOAD_PAGE: Final = 1_000
"""Rows per read at a start: about 5 ms of the event loop each."""
RECONCILE_S: Final = 60.0
"""How often the schedule's size is held against the store's count of TRACKED rows."""
FOLLOWED_S: Final = 30.0
"""Within this a job is in the schedule whose commit was answered: a row that is younger is not one that it lacks."""
WAIT_S_MIN: Final = 0.001
"""Due times are whole milliseconds: a shorter wait might end before the clock has moved."""
REFUSED_PAUSE_S: Final = 15.0


class Track:
    """Keeps the schedule and observes chunk after chunk."""

    def __init__(
        self,
        *,
        store: JobStore,
        ledger: Ledger,
        batch: BatchApi,
        budgets: Budgets,
        clock: Clock,
        health: Health,
        metrics: Metrics,
        chance: Callable[[], float],
        schedule: Schedule,
        hints: HintBook,
        concurrency: int,
        lost_after_s: float,
        children: ChildLookUp,
        drain: Drain,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._batch = batch
        self._budgets = budgets
        self._clock = clock
        self._health = health
        self._metrics = metrics
        self._schedule = schedule
        self._hints = hints
        self._slots = anyio.Semaphore(concurrency)
        self._lost_after_s = lost_after_s
        self._backoff = Backoff(chance)
        self._outage = Outage(clock)
        self._unstored_backoff = Backoff(chance)
        """The store's own: answers of Batch go on while it fails."""
        self._unstored = Outage(clock)
        self._children = children
        self._drain = drain
        self._isolation = Isolation(
            look=self._look,
            put_off=self._put_off,
            pause_s=self._pause_s,
            rate_per_s=lambda: budgets.least_rate_per_s(Purpose.DESCRIBE),
            clock=clock,
            drain=drain,
        )
        self._aside: set[RowKey] = set()
        """Ended parents whose children are being looked up: in hands, but no longer their chunk's."""
        self.arrays = ArrayProgress()
        self._missing_since: dict[RowKey, float] = {}
        """Monotonic: first miss of rows that this process saw go missing. A wall clock that jumps makes none lost."""
        self._load_after: RowKey | None = RowKey(0)
        """Rows up to this key are in the schedule; None: all are."""
        self._reconcile_at = 0.0
        self._differed = False
        self.any_job_arn: str | None = None
        """ARN of a job that was accepted by this process: tells the account where STS does not."""
        self.on_returned: Callable[[], None] = lambda: None
        """Told when a chunk is back in the schedule: while every job was in hands, nobody knew when to look again."""
        self.on_waiting: Callable[[RowKey, str, str], None] = lambda key, job_id, status_reason: None
        """Told of each RUNNABLE job that has a status reason."""
        self._log = structlog.get_logger(stage="track")

    # --- the schedule ---------------------------------------------------------------------------------

    async def begin(self) -> None:
        """The first jobs into the schedule, so that the first call need not wait for the last of a million."""
        self._reconcile_at = math.inf
        await self._load_page()

    async def load(self) -> None:
        """Every TRACKED row that is not in the schedule into it, due at once. Raises StoreUnavailable; called again,
        it goes on where it was."""
        await self._load()

    async def _load(self, *, settled_s: float = 0.0) -> int:
        """How many were added. Rows that became TRACKED less than ``settled_s`` ago are left to ``follow``."""
        added = 0
        while self._load_after is not None:
            added += await self._load_page(settled_s)
        self._load_after = RowKey(0)
        self._reconcile_at = self._clock.monotonic() + RECONCILE_S
        return added

    async def _load_page(self, settled_s: float = 0.0) -> int:
        assert self._load_after is not None
        page = await self._store.tracked(after=self._load_after, limit=LOAD_PAGE)
        wall_now = self._clock.now()
        rows = [row for row in page if abs(wall_now - row.submitted_at) >= settled_s]
        added = self._schedule.add_missing(
            rows, due_at=self._clock.monotonic(), age_s=lambda row: max(0.0, wall_now - row.observed_at)
        )
        for row in rows:
            self._hints.followed(row.job_id, self._clock.monotonic())
        self._load_after = page[-1].key if len(page) == LOAD_PAGE else None
        return added

    def follow(self, job: Job) -> None:
        """A job has become TRACKED."""
        assert job.batch_job_id is not None
        assert job.submitted_at is not None
        self.any_job_arn = self.any_job_arn or job.batch_job_arn
        if job.batch_job_id in self._schedule:
            return
        row = TrackedRow(
            key=job.key,
            job_id=job.batch_job_id,
            batch_status=job.batch_status or BatchStatus.SUBMITTED,
            attempts=job.attempts,
            submitted_at=job.submitted_at,
            observed_at=job.observed_at or job.submitted_at,
            is_missed=job.first_missed_at is not None,
        )
        now = self._clock.monotonic()
        self._schedule.add(row, due_at=now + self._schedule.interval_s_min)
        self._hints.followed(row.job_id, now)

    async def _reconcile(self) -> None:
        """A row that the schedule lacks would never be polled: look for one when the counts differ twice running. They
        differ, too, by what was committed a moment ago."""
        self._reconcile_at = self._clock.monotonic() + RECONCILE_S
        stored = sum(row.count for row in await self._store.usage() if row.state is JobState.TRACKED)
        if stored <= len(self._schedule):
            self._differed = False
        elif not self._differed:
            self._differed = True
        else:
            self._differed = False
            if added := await self._load(settled_s=FOLLOWED_S):
                self._log.error("schedule lacked jobs; they are in it again", jobs=added)

    # --- turns ----------------------------------------------------------------------------------------

    async def turn(self, tasks: anyio.abc.TaskGroup) -> float | None:
        """Send one chunk on its way if a job is due; seconds until the next one is."""
        now = self._clock.monotonic()
        if now >= self._reconcile_at:
            await self._reconcile()
        self._judge_events(now)
        due_at = self._schedule.next_due_at()
        if due_at is None:
            return None
        if due_at > now:
            return max(WAIT_S_MIN, due_at - now)
        await self._slots.acquire()
        if (waited_s := self._clock.monotonic() - now) > 0:
            self._metrics.waited("describe_concurrency", waited_s)
        try:
            await self._budgets.acquire(Purpose.DESCRIBE)
            chunk = self._schedule.take_chunk(self._clock.monotonic(), size=DESCRIBE_JOBS_MAX)
        except BaseException:
            self._slots.release()
            raise
        if not chunk:
            self._slots.release()
        else:
            tasks.start_soon(self._observe, chunk, tasks, name="describe jobs")
        return 0.0

    def _judge_events(self, now: float) -> None:
        """Say so when events begin to be missing, or are there again; how much polling is spared follows from it."""
        rate_per_s = self._budgets.rate_per_s(Purpose.DESCRIBE)
        if not self._hints.advance(now, rate_per_s=rate_per_s):
            return
        ratio = round(self._hints.watch.missed_ratio(), 3)
        if self._hints.watch.is_healthy:
            self._log.info("events announce what ends; polling is a safety net", missed_ratio=ratio)
        else:
            self._log.warning("events are missing; polling as without them", missed_ratio=ratio)

    async def _observe(self, chunk: Sequence[Tracked], tasks: anyio.abc.TaskGroup) -> None:
        """One call and what it says; whatever happens, every job of the chunk is back in the schedule or ended, or in
        the hands of ``Isolation``."""
        try:
            outcome = await self._observed(chunk, tasks)
            if isinstance(outcome, float):
                self._give_back(chunk, outcome)
            elif outcome is not None:
                self._isolation.failed(chunk, outcome, tasks)
        finally:
            self._slots.release()
            self.on_returned()

    async def _look(self, chunk: Sequence[Tracked], tasks: anyio.abc.TaskGroup) -> OutwardError | float | None:
        """``isolation.Look``."""
        try:
            async with self._slots:
                try:
                    await self._budgets.acquire(Purpose.DESCRIBE)
                except OutwardError as error:
                    return self._pause_s(error)
                return await self._observed(chunk, tasks)
        finally:
            self.on_returned()

    async def _observed(self, chunk: Sequence[Tracked], tasks: anyio.abc.TaskGroup) -> OutwardError | float | None:
        """One call, and what it says is stored: as ``isolation.Look``."""
        outcome: OutwardError | float | None = None

        async def observe() -> None:
            nonlocal outcome
            seen = await self._described(chunk)
            if isinstance(seen, Mapping):
                await self._took(chunk, seen, tasks)
            else:
                outcome = seen

        async def later(error: Exception) -> None:
            self._give_back(chunk, self._unstored_backoff.failed())

        await guarded(observe, stage="track", on_error=later)
        return outcome

    async def _took(self, chunk: Sequence[Tracked], seen: Mapping[str, Seen], tasks: anyio.abc.TaskGroup) -> None:
        ready = []
        for row in chunk:
            found = seen.get(row.job_id)
            if found is not None and found.status is BatchStatus.FAILED and wants_look_up(ended := found.observation()):
                self._aside.add(row.key)
                self._schedule.set_aside(row.key)
                tasks.start_soon(self._end_parent, row, ended, name="look up children")
            else:
                ready.append(row)
        await self._notice(chunk, seen)
        # Not what is aside by now: a look-up that was answered at once is over already, and stores its own row.
        await self._store_chunk(ready, seen)

    async def _store_chunk(self, chunk: Sequence[Tracked], seen: Mapping[str, Seen]) -> None:
        changed = [row for row in chunk if row.is_changed(seen.get(row.job_id))]
        if not changed:
            self._schedule.unchanged([row.key for row in chunk], now=self._clock.monotonic())
            return
        try:
            jobs = await self._store.load([row.key for row in changed])
            ended = await self._stored(changed, jobs, seen)
        except StoreUnavailable as error:
            self._health.store_failed(str(error))
            if failures := self._unstored.failed():
                self._log.warning("observations not stored yet", reason=str(error), failures=failures)
            self._give_back(chunk, self._unstored_backoff.failed())
            return
        self._unstored_backoff.worked()
        if failures := self._unstored.worked():
            self._log.info("observations are stored again", failures=failures)
        now = self._clock.monotonic()
        stored = {row.key for row in changed}
        self._schedule.unchanged([row.key for row in chunk if row.key not in stored], now=now)
        for row in changed:
            job = seen.get(row.job_id)
            if row.key in ended:
                self._hints.ended(row.key, row.job_id, now, is_end_seen=job is not None)
                self.arrays.remove(row.key)
            elif job is None:
                self._schedule.missed(row.key, now=now)
            elif job.status is None:
                self._schedule.observed(row.key, status=row.status, attempts=row.attempts, now=now)
            else:
                self._schedule.observed(row.key, status=job.status, attempts=job.attempt_count, now=now)

    async def _described(self, chunk: Sequence[Tracked]) -> Mapping[str, Seen] | OutwardError | float:
        """What was seen, by job id; or the failure; or, if the answer tells nothing of these jobs, for how many seconds
        to wait before the call is made again."""
        self._metrics.describe_ids_per_call.observe(len(chunk))
        try:
            answer = await self._batch.describe_jobs([row.job_id for row in chunk])
        except Throttled:
            self._budgets.throttled(Purpose.DESCRIBE)
            return 0.0
        except (BadCredentials, NotAllowed) as error:
            self._health.refused("batch:DescribeJobs", str(error), is_permission=isinstance(error, NotAllowed))
            return REFUSED_PAUSE_S
        except OutwardError as error:
            return error
        self._isolation.answered()
        self._backoff.worked()
        if failures := self._outage.worked():
            self._log.info("DescribeJobs works again", failures=failures)
        self._budgets.succeeded(Purpose.DESCRIBE)
        self._health.worked("batch:DescribeJobs")
        return {job.job_id: job for job in answer}

    # --- parents --------------------------------------------------------------------------------------

    async def _notice(self, chunk: Sequence[Tracked], seen: Mapping[str, Seen]) -> None:
        """What an unchanged job may tell too: how far an array has come, why a job waits."""
        now = self._clock.monotonic()
        ids: dict[RowKey, str] = {}
        arrays: dict[RowKey, Mapping[str, int]] = {}
        for row in chunk:
            found = seen.get(row.job_id)
            if found is None:
                continue
            if found.array_summary is not None:
                arrays[row.key] = found.array_summary
                ids[row.key] = row.job_id
            elif found.status is BatchStatus.RUNNABLE and found.status_reason:
                self.on_waiting(row.key, row.job_id, found.status_reason)
        new = [key for key in arrays if key not in self.arrays]
        for key, job in (await self._store.load(new)).items() if new else ():
            if job.state is JobState.TRACKED:
                self.arrays.add(key, job.job_queue)
        for key, summary in arrays.items():
            self.arrays.seen(key, ids[key], summary, now=now)

    async def _end_parent(self, row: Tracked, seen: Observation) -> None:
        """Look up the children of an ended parent, then store its end."""

        async def later(error: Exception) -> None:
            self._aside.discard(row.key)
            self._give_back([row], self._unstored_backoff.failed())

        async def end() -> None:
            found = await self._with_children(seen)
            self._aside.discard(row.key)
            if found is None:
                self._give_back([row], 0.0)
            else:
                await self._store_chunk([row], {row.job_id: found})

        try:
            await guarded(end, stage="track", on_error=later)
        finally:
            self._aside.discard(row.key)
            self.on_returned()

    async def _with_children(self, seen: Observation) -> Observation | None:
        """None: a drain cut it short. The row is TRACKED still, and the next process asks again."""
        with anyio.CancelScope() as looking:
            self._drain.on_request(looking.cancel)
            try:
                return replace(seen, children=await self._children.find(seen))
            finally:
                self._drain.forget(looking.cancel)
        return None

    def _put_off(self, chunk: Sequence[Tracked], error: OutwardError) -> None:
        """The call failed: the chunk waits as a chunk."""
        self._give_back(chunk, self._pause_s(error))

    def _pause_s(self, error: OutwardError) -> float:
        """Until the next call for what failed now."""
        pause_s = self._backoff.failed()
        if failures := self._outage.failed():
            self._log.warning("DescribeJobs failed", reason=str(error), failures=failures, pause_s=round(pause_s, 3))
        return pause_s

    def _give_back(self, chunk: Sequence[Tracked], delay_s: float) -> None:
        now = self._clock.monotonic()
        for row in chunk:
            if row.key not in self._aside:
                self._schedule.returned(row.key, now=now, delay=delay_s)

    async def _stored(
        self, changed: Sequence[Tracked], jobs: Mapping[RowKey, Job], seen: Mapping[str, Seen]
    ) -> frozenset[RowKey]:
        """Store the changes of a chunk; returns the rows that are no longer TRACKED."""
        facts: list[tuple[Job, Fact]] = []
        ended: set[RowKey] = set()
        for row in changed:
            job = jobs.get(row.key)
            if job is None or job.state is not JobState.TRACKED:
                ended.add(row.key)
                continue
            found = seen.get(row.job_id)
            if found is not None:
                self._missing_since.pop(row.key, None)
            elif job.first_missed_at is None:
                self._missing_since[row.key] = self._clock.monotonic()
            facts.append((job, self._missed(job, row.job_id) if found is None else Described(seen=found.observation())))
        after = await self._ledger.record(facts)
        lost = await self._ledger.record([(job, Forgotten()) for job in after if self._is_lost(job)])
        ended.update(job.key for job in (*after, *lost) if job.state is not JobState.TRACKED)
        for key in ended:
            self._missing_since.pop(key, None)
        return frozenset(ended)

    def _missed(self, job: Job, job_id: str) -> Fact:
        """An end that an event told of a job that Batch no longer knows is the observation. Unknown it is only after
        several answers: one may lack a job that is there."""
        end = self._hints.end_of(job_id) if job.misses + 1 >= LOST_MISSES_MIN else None
        if end is None:
            return Missed()
        if wants_look_up(end):
            end = replace(end, children=summarise((), incomplete="forgotten"))
        return Described(seen=end)

    def _is_lost(self, job: Job) -> bool:
        if job.state is not JobState.TRACKED or job.first_missed_at is None:
            return False
        since = self._missing_since.get(job.key)
        return is_lost(
            misses=job.misses,
            first_missed_at=job.first_missed_at if since is None else since,
            now=self._clock.now() if since is None else self._clock.monotonic(),
            lost_after_s=self._lost_after_s,
            sweep_s=self._schedule.sweep_s(self._budgets.least_rate_per_s(Purpose.DESCRIBE)),
        )
