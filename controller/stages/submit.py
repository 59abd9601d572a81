"""Submission: send each SUBMITTING row that is not in doubt to AWS Batch, once, and record what became of it.

The intent is in the store before a row comes here. What SubmitJob's answer means is decided by its error kind
(``core.errors``); only an answer that surely says "nothing was done" lets the row be sent again. A marked row (in doubt
once) is looked up first, and its send follows at once. ``stages/rescue.py`` settles what is left in doubt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import anyio.abc
import structlog

from controller.budgets import Budgets, Purpose
from controller.core.dependencies import job_ids
from controller.core.errors import (
    BadCredentials,
    InDoubt,
    NotAllowed,
    OutwardError,
    Refused,
    StoreUnavailable,
    Throttled,
    Unavailable,
    Unexpected,
)
from controller.core.job import Dependencies, Job, RowKey
from controller.core.lifecycle import (
    Accepted,
    Fact,
    FoundByName,
    LeftInDoubt,
    NotAccepted,
    RefusedForGood,
)
from controller.health import Health
from controller.holds import ACCESS_DENIED, STOPPED_PAUSE_S, HoldBook, Pause
from controller.ledger import Ledger
from controller.lookup import LookUp
from controller.loop import Backoff, Drain, Outage, guarded
from controller.metrics import Metrics
from controller.ports import BatchApi, Clock, JobStore
from controller.queue_questions import QueueQuestions

LOOK_UP_FRESH_S: Final = 5.0
"""A look-up counts as the one before a send only if the send begins within this (or within three slots of a
slower rate): the wait for the submit budget lies between the two."""
LOOKED_UP_AT_ONCE: Final = 4
"""Rows in hand that are being looked up, at most: after an outage there are hundreds, at the head of the backlog, and
they must not take all of ``submit.concurrency`` to wait for the list budget, which spaces the calls anyway."""
QUEUE_PAUSE_S: Final = 5.0
"""No admission to a queue whose refusal could not be sorted out, for so long."""

JobIds = Mapping[str, str | None]
Arguments = Callable[[str, Job, JobIds], dict[str, Any]]
"""(stored body, job, jobs of the requests that it depends on) → SubmitJob's arguments."""


class Submit:
    """Sends rows concurrently; each row is in one pair of hands."""

    def __init__(
        self,
        *,
        store: JobStore,
        ledger: Ledger,
        batch: BatchApi,
        budgets: Budgets,
        holds: HoldBook,
        look_up: LookUp,
        clock: Clock,
        drain: Drain,
        health: Health,
        metrics: Metrics,
        chance: Callable[[], float],
        arguments: Arguments,
        timeout_s: float,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._batch = batch
        self._budgets = budgets
        self._holds = holds
        self._look_up = look_up
        self._clock = clock
        self._drain = drain
        self._health = health
        self._metrics = metrics
        self._chance = chance
        self._arguments = arguments
        self._timeout_s = timeout_s
        self._in_hand: set[RowKey] = set()
        self._looked_up = 0
        """Of these, how many are being looked up."""
        self._unreachable = Backoff(chance)
        self._unstored = Outage(clock)
        self._denied_alone = Outage(clock)
        self._queues = QueueQuestions(batch=batch, budgets=budgets, clock=clock, health=health)
        self._log = structlog.get_logger(stage="submit")

    async def turn(self, tasks: anyio.abc.TaskGroup) -> float | None:
        """Take every row that is to be sent and not in hand."""
        # Rows in hand *before* the read: one that is finished while the read is under way may still be in its answer.
        in_hand = frozenset(self._in_hand)
        rows = [job for job in await self._store.submitting() if not job.is_in_doubt and job.key not in in_hand]
        if not rows:
            return None
        bodies = await self._store.bodies([job.key for job in rows])
        dependent = [job.key for job in rows if job.dependencies is Dependencies.MET]
        depended_on = await self._store.depended_on(dependent) if dependent else {}
        for job in rows:
            self._in_hand.add(job.key)
            ids = job_ids(depended_on.get(job.key, ()))
            tasks.start_soon(self._carry, job, bodies[job.key], ids, name=f"submit row {job.key}")
        return None

    async def _carry(self, job: Job, body: str, ids: JobIds) -> None:
        """One row from intent to recorded outcome. A mistake of ours on the way leaves it in doubt, which is safe."""

        async def doubt(error: Exception) -> None:
            await self._record(
                job, LeftInDoubt(reason=f"internal error: {type(error).__name__}", error_code="internal")
            )

        try:
            await guarded(lambda: self._carry_on(job, body, ids), stage="submit", on_error=doubt)
        finally:
            self._in_hand.discard(job.key)

    async def _carry_on(self, job: Job, body: str, ids: JobIds) -> None:
        was_probe = self._holds.is_probe(job.job_queue, job.job_definition)
        fact = await self._outcome(job, body, ids)
        judged = _judged(fact)
        if judged is not None:
            self._holds.answered(job.job_queue, job.job_definition)
            self._health.worked("batch:SubmitJob")
        await self._record(job, fact)
        if was_probe and judged is not None:
            await self._released(job, judged)

    async def _released(self, job: Job, judged: str) -> None:
        """A request of a held pair was judged by Batch itself. Without the store the next one will say so again."""
        try:
            await self._holds.release(job.job_queue, job.job_definition, detail=judged)
        except StoreUnavailable as error:
            self._log.warning("release not stored", job_queue=job.job_queue, reason=str(error))

    async def _record(self, job: Job, fact: Fact) -> None:
        """Until it is committed: an answer that is not stored is a job in doubt after a restart."""
        backoff = Backoff(self._chance)
        while True:
            try:
                await self._ledger.record([(job, fact)])
            except StoreUnavailable as error:
                self._health.store_failed(str(error))
                if failures := self._unstored.failed(job.key):
                    self._log.warning(
                        "answer not stored yet", request_id=job.request_id, reason=str(error), failures=failures
                    )
                pause_s = backoff.failed()
                self._metrics.waited("store", pause_s)
                await anyio.sleep(pause_s)
            else:
                if failures := self._unstored.worked(job.key):
                    self._log.info("answers are stored again", failures=failures)
                return

    # --- before the send ------------------------------------------------------------------------------

    async def _outcome(self, job: Job, body: str, ids: JobIds) -> Fact:
        """What became of the row."""
        arguments = self._arguments(body, job, ids)
        if self._goes_back(job):
            return NotAccepted()
        if not job.is_marked:
            return await self._send_in_turn(job, arguments)
        if self._looked_up >= LOOKED_UP_AT_ONCE:
            self._holds.rest_unasked(job.job_queue, job.job_definition, job.key)
            return NotAccepted()
        self._looked_up += 1
        try:
            found = await self._look_up.find(job)
        except OutwardError:
            self._holds.rest_unanswered(job.job_queue, job.job_definition, job.key)
            return NotAccepted()
        finally:
            self._looked_up -= 1
        if found is not None:
            return FoundByName(job_id=found.job_id, job_arn=found.job_arn, created_at=found.created_at)
        return await self._send_in_turn(job, arguments, by=self._clock.monotonic() + self._fresh_s())

    def _fresh_s(self) -> float:
        return max(LOOK_UP_FRESH_S, 3.0 / self._budgets.rate_per_s(Purpose.SUBMIT))

    async def _send_in_turn(self, job: Job, arguments: Mapping[str, Any], *, by: float = math.inf) -> Fact:
        """Send it once the budget has a slot, unless that is after ``by`` (monotonic) or something is against it."""
        began_at = self._clock.monotonic()
        try:
            may_send = await self._may_send(job)
        except OutwardError as error:  # there are no credentials to sign it with
            return await self._sorted(job, error, began_at)
        if not may_send or self._clock.monotonic() > by:
            return NotAccepted()
        return await self._send(job, arguments)

    async def _may_send(self, job: Job) -> bool:
        """Wait for the budget; False if the row must go back: a drain, a hold, a pause, or it has expired."""
        with anyio.CancelScope() as waiting:
            self._drain.on_request(waiting.cancel)
            try:
                await self._budgets.acquire(Purpose.SUBMIT)
            finally:
                self._drain.forget(waiting.cancel)
        return not waiting.cancel_called and not self._goes_back(job)

    def _goes_back(self, job: Job) -> bool:
        return (
            self._drain.is_requested
            or (job.expires_at is not None and job.expires_at <= self._clock.now())
            or self._holds.is_paused(job.job_queue, job.job_definition)
            or self._holds.is_held(job.job_queue, job.job_definition)
        )

    # --- the send -------------------------------------------------------------------------------------

    async def _send(self, job: Job, arguments: Mapping[str, Any]) -> Fact:
        began_at = self._clock.monotonic()
        try:
            answer = await self._batch.submit_job(arguments, timeout_s=self._timeout_s)
        except OutwardError as error:
            self._metrics.submit_duration_seconds.observe(self._clock.monotonic() - began_at)
            return await self._sorted(job, error, began_at)
        self._metrics.submit_duration_seconds.observe(self._clock.monotonic() - began_at)
        self._budgets.succeeded(Purpose.SUBMIT)
        self._unreachable.worked()
        self._metrics.know_queue(job.job_queue)  # before it is counted: Batch has just confirmed the name
        self._count(job, "accepted")
        return Accepted(job_id=answer.job_id, job_arn=answer.job_arn)

    def _count(self, job: Job, outcome: str) -> None:
        queue = self._metrics.queue_label(job.job_queue)
        self._metrics.submissions_total.labels(job_queue=queue, outcome=outcome).inc()

    async def _sorted(self, job: Job, error: OutwardError, began_at: float) -> Fact:
        """The fact that an error kind makes, and the reaction it needs."""
        match error:
            case InDoubt():
                self._count(job, "in_doubt")
                self._log.warning("submission in doubt", request_id=job.request_id, reason=str(error))
                return LeftInDoubt(reason=str(error), error_code=error.code)
            case Throttled():
                self._count(job, "throttled")
                self._budgets.throttled(Purpose.SUBMIT)
            case Unavailable():
                self._count(job, "unavailable")
                pause_s = self._unreachable.failed_beside_others(began_at=began_at, now=self._clock.monotonic())
                self._holds.pause(pause_s, reason=Pause.UNREACHABLE)
            case BadCredentials():
                self._count(job, "unavailable")
                self._health.refused("batch:SubmitJob", str(error))
                self._holds.pause(STOPPED_PAUSE_S, reason=Pause.CREDENTIALS)
            case NotAllowed():
                self._count(job, "refused")
                await self._hold_pair(job, ACCESS_DENIED, error)
                if self._holds.stopped_by is Pause.DENIED:
                    # One pair is its producer's business; all of them are the service's, and are told as such.
                    self._health.refused("batch:SubmitJob", f"everything is denied: {error}", is_permission=True)
            case Refused():
                self._count(job, "refused")
                self._holds.answered(job.job_queue, job.job_definition)
                return await self._refused(job, error)
            case _:
                assert isinstance(error, Unexpected), f"SubmitJob must not raise {type(error).__name__}"
                self._count(job, "refused")
                await self._hold_pair(job, "unexpected_error", error)
        return NotAccepted()

    async def _hold_pair(self, job: Job, reason: str, error: OutwardError) -> None:
        if await self._held(job.job_queue, job.job_definition, reason=reason, detail=str(error), refused=job):
            return
        if denials := self._denied_alone.failed():
            self._log.warning(
                "request denied that others of its pair are not",
                request_id=job.request_id,
                reason=str(error),
                denials=denials,
            )

    async def _held(self, queue: str, definition: str, *, reason: str, detail: str, refused: Job | None = None) -> bool:
        """Without the hold in the store the row still goes back; it is then refused, and held, once more. False: the
        request rests, and nothing is held."""
        try:
            return await self._holds.hold(
                queue,
                definition,
                reason=reason,
                detail=detail,
                refused=refused.key if refused is not None else None,
                tenant=refused.tenant if refused is not None else "",
            )
        except StoreUnavailable as error:
            self._log.warning("hold not stored", job_queue=queue, reason=str(error))
            self._holds.pause(QUEUE_PAUSE_S, reason=Pause.UNSORTED, queue=queue)
            return True

    # --- a ClientException ----------------------------------------------------------------------------

    async def _refused(self, job: Job, error: Refused) -> Fact:
        """Not yet a refusal: the queue's own state decides."""
        try:
            queue = await self._queues.ask(job.job_queue_ref)
        except OutwardError as unanswered:
            self._log.warning("refusal not sorted out", request_id=job.request_id, reason=str(unanswered))
            self._holds.pause(QUEUE_PAUSE_S, reason=Pause.UNSORTED, queue=job.job_queue)
            return NotAccepted()
        if queue is None:
            reason = f"job queue {job.job_queue_ref} does not exist"
            return RefusedForGood(reason=reason, error_code="job_queue_not_found")
        self._metrics.know_queue(job.job_queue)  # before a hold of it is counted
        if not queue.accepts_jobs:
            reason = "queue_disabled" if queue.state != "ENABLED" else "queue_invalid"
            detail = f"{queue.state}, {queue.status}: {queue.status_reason}".rstrip(": ")
            await self._held(job.job_queue, "", reason=reason, detail=detail)
            return NotAccepted()
        if job.refusals > 0:
            return RefusedForGood(reason=f"AWS Batch refused it twice: {error}", error_code=error.code or "refused")
        self._holds.rest(job.job_queue, job.job_definition, job.key)
        return NotAccepted(is_refusal=True)


def _judged(fact: Fact) -> str | None:
    """What Batch itself said of a request, if it did: then calls for its pair are let through again. A refused request
    says so as well as an accepted one; were it not heard, the pair's others would follow one per probe."""
    match fact:
        case Accepted():
            return "a request was accepted"
        case RefusedForGood() | NotAccepted(is_refusal=True):
            return "a request was refused for a reason of its own"
        case _:
            return None
