"""Facts into the store: apply, commit, reload on conflict, then count and announce.

Every stage that has learned something of a job comes here. The store refuses a write that was computed from an
older version of the row (another stage was faster); the row is then loaded again and the fact applied to what it
has become, or dropped if it can no longer be true. Counters are raised, and other stages woken, only after the commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from controller.core import lifecycle
from controller.core.events import Event
from controller.core.job import Dependencies, Job, JobState, replace
from controller.core.lifecycle import Fact, Transition
from controller.loop import Wake
from controller.metrics import Metrics
from controller.ports import DEAD_LETTER, Clock, DeadLetter, JobStore, UpdateJob, Write

CONFLICTS_MAX: Final = 10
"""Reloads of one row before we call it a mistake of ours."""

OUTCOMES: Final[Mapping[JobState, str]] = {
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.LOST: "lost",
    JobState.CANCELLED: "cancelled",
    JobState.REJECTED: "rejected",
}


@dataclass(slots=True)
class Wakes:
    """Who is woken by which change; a wake-up is a hint, each stage looks by itself at its interval too."""

    depend: Wake = field(default_factory=Wake)
    admit: Wake = field(default_factory=Wake)
    submit: Wake = field(default_factory=Wake)
    rescue: Wake = field(default_factory=Wake)
    track: Wake = field(default_factory=Wake)
    terminate: Wake = field(default_factory=Wake)
    publish: Mapping[str, Wake] = field(default_factory=dict)
    """By sink; the dead-letter queue is one of them."""
    sinks_of: Callable[[str], Iterable[str]] = lambda event: ()
    """The event sinks that take an event of this name."""

    def published_soon(self, writes: Iterable[Write]) -> None:
        """Wake the sinks that get something of what was just committed, and no others: they would find nothing."""
        for write in writes:
            for event in getattr(write, "events", ()):
                for sink in self.sinks_of(event.name):
                    self.publish[sink].set()
            if getattr(write, "dead_letter", None) is not None and DEAD_LETTER in self.publish:
                self.publish[DEAD_LETTER].set()


class Ledger:
    """Applies facts to stored jobs."""

    def __init__(self, *, store: JobStore, clock: Clock, metrics: Metrics, wakes: Wakes) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._wakes = wakes
        self._standing = metrics.standing("store", clock)
        self._log = structlog.get_logger(stage="ledger")
        self.on_tracked: Callable[[Job], None] = lambda job: None
        """Told of every job that has become TRACKED, after the commit."""
        self.on_changed: Callable[[Job, Job], None] = lambda before, after: None
        """Told of every job that has changed, as it was and as it is, after the commit."""

    async def record(self, facts: Sequence[tuple[Job, Fact]]) -> Sequence[Job]:
        """Apply each fact to its job and store the results in one commit; a job may occur once.

        Returns the jobs as they now are, in order. Raises StoreUnavailable; it may then be called again.
        """
        now = self._clock.now()
        result = [job for job, _ in facts]
        todo = {index: (job, fact) for index, (job, fact) in enumerate(facts)}
        for _ in range(CONFLICTS_MAX):
            todo = await self._try(todo, result, now)
            if not todo:
                return result
        raise AssertionError("a row changed under every one of our writes")

    async def _try(
        self, todo: Mapping[int, tuple[Job, Fact]], result: list[Job], now: float
    ) -> dict[int, tuple[Job, Fact]]:
        steps: dict[int, tuple[Job, Transition]] = {}
        for index, (job, fact) in todo.items():
            step = lifecycle.apply(job, fact, now)
            result[index] = step.job
            if step.is_changed:
                steps[index] = (job, step)
        if not steps:
            return {}
        writes: list[Write] = [
            UpdateJob(job=step.job, events=step.events, dead_letter=_dead_letter(step.job, step.events))
            for _, step in steps.values()
        ]
        with self._standing.waiting():
            applied = await self._store.commit(writes)
        conflicts: list[int] = []
        committed: list[Write] = []
        for (index, (before, step)), write, is_applied in zip(steps.items(), writes, applied, strict=True):
            if is_applied:
                result[index] = replace(step.job, version=step.job.version + 1)
                self._announce(before, result[index], step.events)
                committed.append(write)
            else:
                conflicts.append(index)
        self._wakes.published_soon(committed)
        return await self._reload(conflicts, todo, result)

    async def _reload(
        self, conflicts: Sequence[int], todo: Mapping[int, tuple[Job, Fact]], result: list[Job]
    ) -> dict[int, tuple[Job, Fact]]:
        if not conflicts:
            return {}
        current = await self._store.load([todo[index][0].key for index in conflicts])
        again: dict[int, tuple[Job, Fact]] = {}
        for index in conflicts:
            before, fact = todo[index]
            job = current.get(before.key)
            if job is None:
                continue
            result[index] = job
            if (job.state, type(fact)) in lifecycle.TABLE and job.state is before.state:
                again[index] = (job, fact)
            elif job.state is JobState.TRACKED:
                # A commit whose answer was lost: what it announced must still be announced.
                self._tracked(job)
            self._log.info("row was changed by another stage", request_id=job.request_id, fact=type(fact).__name__)
        return again

    # --- after the commit -----------------------------------------------------------------------------

    def _announce(self, before: Job, after: Job, events: Sequence[Event]) -> None:
        self.on_changed(before, after)
        if before.state is not after.state:
            self._state_changed(after)
        if before.dependencies is not after.dependencies:
            self._wakes.admit.set()
        if after.is_in_doubt:
            self._wakes.rescue.set()
            if not before.is_in_doubt:  # its call is over: another may be under way in its place
                self._wakes.admit.set()
        if after.cancel_requested_at is not None and after.state is JobState.TRACKED:
            self._wakes.terminate.set()
        if after.batch_status is not None and (
            before.batch_status is not after.batch_status or before.attempts != after.attempts
        ):
            self._status_changed(after)
        if before.started_at is None and after.started_at is not None:
            self._started(after, after.started_at)
        if any(event.name == "submission.adopted" for event in events):
            queue = self._metrics.queue_label(after.job_queue)
            self._metrics.submissions_total.labels(job_queue=queue, outcome="adopted").inc()

    def _state_changed(self, job: Job) -> None:
        if job.state is JobState.TRACKED:
            self._tracked(job)
        elif job.state is JobState.SUBMITTING:
            self._wakes.submit.set()
        elif job.state.is_final:
            self.count_finished(job)
        self._wakes.admit.set()
        is_sent_anew = job.state is JobState.QUEUED and job.dependencies is Dependencies.MET
        if self._store.has_dependents and (is_sent_anew or job.state not in (JobState.QUEUED, JobState.SUBMITTING)):
            self._wakes.depend.set()

    def _tracked(self, job: Job) -> None:
        self.on_tracked(job)
        self._wakes.track.set()

    def _status_changed(self, job: Job) -> None:
        queue = self._metrics.queue_label(job.job_queue)
        assert job.batch_status is not None
        self._metrics.status_changes_total.labels(job_queue=queue, batch_status=job.batch_status.value).inc()

    def _started(self, job: Job, started_at: float) -> None:
        """Once per job: the start that was seen first."""
        queue = self._metrics.queue_label(job.job_queue)
        self._metrics.job_wait_seconds.labels(job_queue=queue).observe(max(0.0, started_at - job.received_at))

    def count_finished(self, job: Job) -> None:
        """Raise the counters of a request that has ended."""
        queue = self._metrics.queue_label(job.job_queue)
        outcome = OUTCOMES[job.state]
        self._metrics.jobs_finished_total.labels(job_queue=queue, outcome=outcome).inc()
        if job.state is JobState.FAILED:
            reason_class = job.reason_class or "unknown"
            self._metrics.job_failures_total.labels(job_queue=queue, reason_class=reason_class).inc()
        if job.stopped_at is None or job.state not in (JobState.SUCCEEDED, JobState.FAILED):
            return
        if job.started_at is not None:
            run_s = max(0.0, job.stopped_at - job.started_at)
            self._metrics.job_run_seconds.labels(job_queue=queue, outcome=outcome).observe(run_s)
        if job.finished_at is not None:
            self._metrics.detection_lag_seconds.observe(max(0.0, job.finished_at - job.stopped_at))


def _dead_letter(job: Job, events: Sequence[Event]) -> DeadLetter | None:
    """A request refused by Batch goes to the dead-letter queue like one refused at intake."""
    if job.state is not JobState.REJECTED:
        return None
    code = next((str(event.data["error_code"]) for event in events if "error_code" in event.data), "refused")
    return DeadLetter(
        body="",
        reason=job.reason or "refused by AWS Batch",
        error_code=code,
        message_id=job.message_id,
        request_id=job.request_id,
    )
