"""What is shown of a request to an operator, and what keeps one that is QUEUED waiting.

Asked by ``inspection.py``. A request is shown by the names that events use (``core.events``), without anything of its
message but the ids, names and texts that events tell too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from controller.core.admission import QueueView, WaitingOn
from controller.core.events import JSON, iso
from controller.core.job import BatchStatus, Dependencies, Job, JobState, Outcome, standing

_STOPS: Final = {
    "disk": "the store's disk is nearly full",
    "credentials": "AWS refuses the credentials",
    "denied": "everything that was tried was denied",
    "unreachable": "SubmitJob gets no answer",
}
"""Why nothing is submitted to any job queue."""
WAITS: Final[Mapping[str, str]] = {
    "cancel": "it has a cancel request, and ends CANCELLED in a moment",
    "expiry": "its `expiresAt` has passed, and it ends CANCELLED in a moment",
    "depends_on": "requests that it depends on have no job yet: `depends_on` tells which",
    "paused": "its job queue is `paused` by configuration",
    "held": "its job queue, or the pair of it and the job definition, is held: `reason`, `since`",
    **{cause: f"nothing is submitted: {why}" for cause, why in _STOPS.items()},
    "unsorted": "a refusal of its job queue is being sorted out",
    "rest": "AWS Batch refused it, or denied the call for it, a while ago; it is sent again",
    "max_in_flight": "its job queue has as many requests in flight as it may: `in_flight`, `limit`",
    "max_waiting": "as many jobs of its job queue wait in AWS Batch as may: `waiting`, `limit`",
    "in_doubt": "too many submissions are in doubt: one at a time finds out whether AWS Batch answers again",
    "submit_concurrency": "`submit.concurrency` calls are under way: AWS answers slowly",
    "budget_submit": "its job queue's turn comes as fast as the submit rate allows: `rate_per_s`",
    "turn": "nothing is in its way but those before it: `ahead`",
    "start": "the controller has just started, and has not planned yet",
}
"""The closed set of causes. Those that ``wait_seconds_total{cause}`` has too mean the same there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFor:
    """A hold of a job queue or of a pair."""

    reason: str
    since: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What keeps a request waiting."""

    cause: str
    """One of WAITS."""
    detail: str
    """For a person."""
    members: Mapping[str, JSON] = field(default_factory=dict)
    """What the cause says beside, None left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What of the controller's state a QUEUED request may be waiting for."""

    now: float
    unmet: Sequence[str] = ()
    """Ids of requests that it depends on and that have no job yet."""
    is_paused: bool = False
    queue_hold: HeldFor | None = None
    pair_hold: HeldFor | None = None
    stopped_by: str | None = None
    """Why nothing is submitted to any job queue: ``disk``, ``credentials``, ``denied``, ``unreachable``."""
    is_unsorted: bool = False
    is_resting: bool = False
    queue: QueueView | None = None
    """Its job queue in the latest plan; None: there was no row of it then."""
    waiting_on: WaitingOn | None = None
    """Why its job queue got nothing more from that plan; None: nothing was planned yet."""
    has_concurrency: bool = True
    """Whether more calls might have been under way."""
    rate_per_s: float = 0.0
    """Submits, at most, now."""


def why_it_waits(job: Job, around: Surroundings) -> Wait:
    """What keeps a QUEUED request waiting: of several causes the one that would be left if the others ended."""
    if job.cancel_requested_at is not None:
        return Wait(cause="cancel", detail="a cancel was requested; it ends CANCELLED in a moment")
    if job.expires_at is not None and job.expires_at <= around.now:
        return Wait(cause="expiry", detail="its expiresAt has passed; it ends CANCELLED in a moment")
    if job.dependencies is Dependencies.UNMET:
        names = ", ".join(around.unmet) or "requests that have just been submitted"
        return Wait(cause="depends_on", detail=f"it waits until these have a job: {names}")
    return _of_queue(job, around) or _of_all(around) or _of_itself(job, around) or _of_plan(job, around)


def _of_queue(job: Job, around: Surroundings) -> Wait | None:
    name = job.job_queue
    if around.is_paused:
        return Wait(cause="paused", detail=f"job queue {name} is paused by configuration (queues.{name}.paused)")
    if around.queue_hold is not None:
        return _held(f"job queue {name} is held", around.queue_hold)
    if around.pair_hold is not None:
        return _held(f"job definition {job.job_definition} is held in job queue {name}", around.pair_hold)
    return None


def _held(what: str, hold: HeldFor) -> Wait:
    return Wait(
        cause="held",
        detail=f"{what}: {hold.reason}, since {iso(hold.since)}",
        members={"reason": hold.reason, "since": iso(hold.since)},
    )


def _of_all(around: Surroundings) -> Wait | None:
    if around.stopped_by is None:
        return None
    return Wait(cause=around.stopped_by, detail=f"nothing is submitted to any job queue: {_STOPS[around.stopped_by]}")


def _of_itself(job: Job, around: Surroundings) -> Wait | None:
    if around.is_unsorted:
        return Wait(cause="unsorted", detail=f"a refusal of job queue {job.job_queue} is being sorted out")
    if around.is_resting:
        return Wait(cause="rest", detail="AWS Batch refused it or denied the call a while ago; it is sent again later")
    return None


def _of_plan(job: Job, around: Surroundings) -> Wait:
    """The cause that the latest plan found, with the numbers it was made of."""
    name, queue = job.job_queue, around.queue
    match around.waiting_on:
        case None:
            return Wait(cause="start", detail="the controller has just started, and has not planned yet")
        case WaitingOn.IN_FLIGHT if queue is not None:
            limit = queue.limits.max_in_flight
            return Wait(
                cause="max_in_flight",
                detail=f"job queue {name} has {queue.in_flight} requests in flight, of {limit} that it may have "
                "(queues: max_in_flight)",
                members={"in_flight": queue.in_flight, "limit": limit},
            )
        case WaitingOn.WAITING if queue is not None:
            limit = queue.limits.waiting_bound
            return Wait(
                cause="max_waiting",
                detail=f"{queue.waiting} jobs of job queue {name} wait in AWS Batch, of {limit} that may "
                "(queues: max_waiting)",
                members={"waiting": queue.waiting, "limit": limit},
            )
        case WaitingOn.DOUBT:
            return Wait(cause="in_doubt", detail="too many submissions are in doubt; one at a time is sent")
        case WaitingOn.SENDS if not around.has_concurrency:
            return Wait(cause="submit_concurrency", detail="submit.concurrency calls are under way")
        case WaitingOn.SENDS:
            return Wait(
                cause="budget_submit",
                detail=f"SubmitJob is called {around.rate_per_s:.3g} times a second at most, now",
                members={"rate_per_s": round(around.rate_per_s, 3)},
            )
        case _:
            return Wait(cause="turn", detail="nothing is in its way but those before it")


# --- what is shown --------------------------------------------------------------------------------------------


def shown(job: Job) -> dict[str, JSON]:
    """A life of a request as JSON, without members that have no value. Never anything of its message's body."""
    is_sent = job.first_intent_at is not None
    record: dict[str, JSON] = {
        "request_id": job.request_id,
        "state": job.state.value,
        "outcome": Outcome(job.state.value.lower()).value if job.state.is_final else None,
        "reason": job.reason,
        "reason_class": job.reason_class,
        "job_queue": job.job_queue,
        "job_definition": job.job_definition,
        "job_name": job.job_name,
        "tenant": job.tenant,
        "priority": job.priority,
        "array_size": job.array_size,
        "job_id": job.batch_job_id,
        "job_arn": job.batch_job_arn,
        "batch_job_name": job.batch_job_name if is_sent else None,
        "batch_status": _status(job),
        "attempts": job.attempts or None,
        "is_in_doubt": job.is_in_doubt,
        "message_id": job.message_id,
        "source": job.source,
        "received_at": iso(job.received_at),
        "resent_at": iso(job.resent_at),
        "expires_at": iso(job.expires_at),
        "intent_at": iso(job.first_intent_at),
        "doubted_at": iso(job.doubted_at),
        "submitted_at": iso(job.submitted_at),
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "stopped_at": iso(job.stopped_at),
        "observed_at": iso(job.observed_at),
        "cancel_requested_at": iso(job.cancel_requested_at),
        "cancel_reason": job.cancel_reason,
        "finished_at": iso(job.finished_at),
    }
    return {name: value for name, value in record.items() if value is not None}


def _status(job: Job) -> str | None:
    """Batch's own word; of a job that has been submitted and not described yet, SUBMITTED."""
    if job.batch_status is None:
        return BatchStatus.SUBMITTED.value if job.state is JobState.TRACKED else None
    return job.batch_status.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """A request that another one depends on."""

    request_id: str
    life: Job | None
    """The one that counts; None: it was not received, as far as is known."""

    @property
    def is_met(self) -> bool:
        """Whether it has a job, which is what is waited for."""
        return self.life is not None and self.life.batch_job_id is not None


def needed(request_ids: Sequence[str], lives: Mapping[str, Sequence[Job]]) -> list[Needed]:
    """What a request depends on, from the lives of each id, oldest first."""
    return [
        Needed(request_id=request_id, life=standing(known) or (known[-1] if known else None))
        for request_id in sorted(request_ids)
        for known in (lives.get(request_id, ()),)
    ]


def shown_needed(each: Needed) -> dict[str, JSON]:
    """A dependency as JSON; ``state`` is missing if the request was not received."""
    record: dict[str, JSON] = {"request_id": each.request_id, "is_met": each.is_met}
    return record if each.life is None else {**record, "state": each.life.state.value}


def shown_wait(wait: Wait, *, ahead: int | None, ahead_max: int) -> dict[str, JSON]:
    """A cause as JSON. ``ahead`` counts the requests of the same tenant and job queue before it, up to ``ahead_max``;
    None: it is not in the backlog."""
    record: dict[str, JSON] = {"cause": wait.cause, "detail": wait.detail}
    record |= {name: value for name, value in wait.members.items() if value is not None}
    if ahead is None:
        return record
    return record | ({"ahead": ahead, "ahead_is_cut": True} if ahead >= ahead_max else {"ahead": ahead})
