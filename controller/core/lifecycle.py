"""The state machine of a request: one table, one function.

``apply(job, fact, now)`` answers with the changed job and the events of the change; stages store both in
one transaction. A pair that is not in the table is our own mistake and raises ``IllegalTransition``.
A *fact* is something that has happened: an answer, an observation, a demand. Nothing here waits, looks
at a clock or knows the SDK.

Memory of doubt: ``first_intent_at`` and ``doubted_at`` are set once and never cleared (the former follows a clock
that is set back). A row that was in doubt once (a *marked* row) is looked up before every further send, cancel or
expiry: that is why ``CancelAsked`` on a marked QUEUED row is only remembered, and why only ``stages/rescue.py``, after
a look-up, says ``NeverFound``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from controller.core import reasons
from controller.core.events import FINAL, JSON, Event, iso
from controller.core.job import Attempt, BatchStatus, Dependencies, Job, JobState, Observation, Outcome, replace

# --- facts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admitted:
    """A slot was reserved; the intent to send is about to be committed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """SubmitJob answered with a job id."""

    job_id: str
    job_arn: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAccepted:
    """The latest send surely did not take effect, or was never begun."""

    is_refusal: bool = False
    """A ClientException while the queue was ENABLED and VALID: counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedForGood:
    """AWS Batch will never take this request."""

    reason: str
    error_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftInDoubt:
    """It is not known whether the latest send took effect."""

    reason: str
    error_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundByName:
    """A look-up found the job of an earlier send."""

    job_id: str
    job_arn: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class NotFound:
    """A look-up begun after the settle time found nothing: no earlier send can still take effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAsked:
    """A cancel message named this request."""

    reason: str | None


@dataclass(frozen=True, slots=True)
class DependenciesMet:
    """Every request that it depends on has a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DependencyEnded:
    """A request that it depends on will never have a job, or has one that ended badly."""

    reason: str


@dataclass(frozen=True, slots=True)
class Expired:
    """``expiresAt`` has passed and surely nothing was submitted."""


@dataclass(frozen=True, slots=True)
class NeverFound:
    """A marked row that is to be cancelled or has expired was looked up, and is not in Batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """DescribeJobs showed the job."""

    seen: Observation


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundStuck:
    """The job has been RUNNABLE for longer than its job queue's ``stuck_after_s``, or an array's children have while
    none was placed, and a cause was looked for."""

    attempts: int
    """When that was seen; a job that has run since is not stuck."""
    runnable_for_s: float
    cause: str
    detail: str
    position: int | None


@dataclass(frozen=True, slots=True)
class Missed:
    """A successful DescribeJobs answer did not show the job."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """It was missing often enough for long enough."""


Fact = (
    Admitted
    | Accepted
    | NotAccepted
    | RefusedForGood
    | LeftInDoubt
    | FoundByName
    | NotFound
    | CancelAsked
    | DependenciesMet
    | DependencyEnded
    | Expired
    | NeverFound
    | Described
    | FoundStuck
    | Missed
    | Forgotten
)


@dataclass(frozen=True, slots=True)
class Transition:
    """What a fact makes of a job."""

    job: Job
    events: tuple[Event, ...] = ()
    is_changed: bool = True
    """False: nothing to write."""


class IllegalTransition(AssertionError):
    """A fact that can't be true in this state: our own mistake."""


def apply(job: Job, fact: Fact, now: float) -> Transition:
    """The job after ``fact``, seen at ``now`` (seconds since the epoch). Raises IllegalTransition."""
    step = TABLE.get((job.state, type(fact)))
    if step is None:
        raise IllegalTransition(f"{type(fact).__name__} on a {job.state} job (row {job.key})")
    return step(job, fact, now)


def accepted(job: Job, now: float, *, depends_on: Sequence[str] = ()) -> Transition:
    """The first transition: a valid request becomes a QUEUED row. ``depends_on`` are the request ids it names."""
    data = {
        **identity(job),
        "priority": job.priority,
        "tenant": job.tenant or None,
        "depends_on": list(depends_on) or None,
        "received_at": iso(job.received_at),
    }
    return Transition(job, (Event(name="request.accepted", time=now, data=data, serial="0"),))


# --- steps ----------------------------------------------------------------------------------------------


def _admit(job: Job, _: Admitted, now: float) -> Transition:
    assert job.dependencies is not Dependencies.UNMET, "what waits for another request is no part of the backlog"
    if job.cancel_requested_at is not None:
        # Asked for between the plan and its commit. A marked row stays QUEUED until it has been looked up.
        return Transition(job, is_changed=False)
    return Transition(
        replace(
            job,
            state=JobState.SUBMITTING,
            is_in_doubt=False,
            first_intent_at=_earlier(job.first_intent_at, now),
        )
    )


def _earlier(first_at: float | None, now: float) -> float:
    """The first intent's time; should the clock have been set back since, the time that the intent would have now.

    A job of ours is known by being created no earlier: a time from a clock that was ahead would hide it.
    """
    return now if first_at is None else min(first_at, now)


def _accept(job: Job, fact: Accepted, now: float) -> Transition:
    changed = replace(
        job,
        state=JobState.TRACKED,
        is_in_doubt=False,
        batch_job_id=fact.job_id,
        batch_job_arn=fact.job_arn,
        batch_status=BatchStatus.SUBMITTED,
        submitted_at=now,
        observed_at=now,
    )
    data = {**identity(changed), "received_at": iso(job.received_at), "submitted_at": iso(now)}
    return Transition(changed, (Event(name="job.submitted", time=now, data=data, serial=str(job.version)),))


def _requeue(job: Job, fact: NotAccepted | NotFound, now: float) -> Transition:
    refused = isinstance(fact, NotAccepted) and fact.is_refusal
    changed = replace(job, state=JobState.QUEUED, is_in_doubt=False, refusals=job.refusals + refused)
    if changed.cancel_requested_at is not None and (isinstance(fact, NotFound) or not job.is_marked):
        return _cancel(changed, now)
    return Transition(changed)


def _refuse(job: Job, fact: RefusedForGood, now: float) -> Transition:
    changed = replace(
        job,
        state=JobState.REJECTED,
        is_in_doubt=False,
        finished_at=now,
        reason=fact.reason,
        reason_class="refused",
    )
    data = {**_ending(changed, Outcome.REJECTED), "error_code": fact.error_code, "received_at": iso(job.received_at)}
    return Transition(changed, (Event(name="request.rejected", time=now, data=data, serial=FINAL),))


def _doubt(job: Job, fact: LeftInDoubt, now: float) -> Transition:
    changed = replace(
        job,
        is_in_doubt=True,
        doubted_at=now if job.doubted_at is None else job.doubted_at,
        first_intent_at=_earlier(job.first_intent_at, now),
    )
    data = {**identity(changed), "reason": fact.reason, "error_code": fact.error_code}
    return Transition(changed, (Event(name="submission.in_doubt", time=now, data=data, serial=str(job.version)),))


def _adopt(job: Job, fact: FoundByName, now: float) -> Transition:
    assert job.is_marked, "a job was looked up that was never in doubt"
    changed = replace(
        job,
        state=JobState.TRACKED,
        is_in_doubt=False,
        batch_job_id=fact.job_id,
        batch_job_arn=fact.job_arn,
        batch_status=BatchStatus.SUBMITTED,
        created_at=fact.created_at,
        submitted_at=now,
        observed_at=now,
    )
    data = {**identity(changed), "submitted_at": iso(now), "created_at": iso(fact.created_at)}
    return Transition(changed, (Event(name="submission.adopted", time=now, data=data, serial=str(job.version)),))


def _ask_cancel(job: Job, fact: CancelAsked, now: float) -> Transition:
    if job.cancel_requested_at is not None:
        return Transition(job, is_changed=False)
    changed = replace(job, cancel_requested_at=now, cancel_reason=fact.reason)
    if job.state is JobState.QUEUED and not job.is_marked:
        return _cancel(changed, now)
    return Transition(changed)


def _cancel(job: Job, now: float) -> Transition:
    return _end_unsubmitted(job, now, job.cancel_reason or "Cancelled by request", "cancelled")


def _meet_dependencies(job: Job, _: DependenciesMet, now: float) -> Transition:
    if job.dependencies is not Dependencies.UNMET:
        return Transition(job, is_changed=False)
    return Transition(replace(job, dependencies=Dependencies.MET))


def _end_dependent(job: Job, fact: DependencyEnded, now: float) -> Transition:
    if job.is_marked:
        return Transition(job, is_changed=False)
    return _end_unsubmitted(job, now, fact.reason, "dependency_failed")


def _expire(job: Job, _: Expired, now: float) -> Transition:
    assert not job.is_marked, "a marked row needs a look-up before it expires"
    return _end_unsubmitted(job, now, "expiresAt passed before it was submitted", "expired")


def _never_found(job: Job, _: NeverFound, now: float) -> Transition:
    if job.cancel_requested_at is not None:
        return _cancel(job, now)
    return _end_unsubmitted(job, now, "expiresAt passed before it was submitted", "expired")


def _end_unsubmitted(job: Job, now: float, reason: str, reason_class: str) -> Transition:
    changed = replace(job, state=JobState.CANCELLED, finished_at=now, reason=reason, reason_class=reason_class)
    data = {**_ending(changed, Outcome.CANCELLED), "received_at": iso(job.received_at)}
    return Transition(changed, (Event(name="job.cancelled", time=now, data=data, serial=FINAL),))


def _describe(job: Job, fact: Described, now: float) -> Transition:
    seen = fact.seen
    if seen.status is None:
        return _present(job, now)
    is_same = seen.status is job.batch_status and len(seen.attempts) == job.attempts
    if is_same and job.first_missed_at is None:
        return Transition(job, is_changed=False)
    changed = replace(
        job,
        batch_status=seen.status,
        attempts=len(seen.attempts),
        batch_job_arn=seen.job_arn or job.batch_job_arn,
        created_at=seen.created_at or job.created_at,
        started_at=seen.started_at or job.started_at,
        stopped_at=seen.stopped_at,
        observed_at=now,
        first_missed_at=None,
        misses=0,
    )
    if is_same:
        return Transition(changed)
    change = {
        **identity(changed),
        "previous_batch_status": job.batch_status,
        "attempt": len(seen.attempts),
        "reason": seen.status_reason,
        **_times(changed),
    }
    events = (Event(name="job.status_changed", time=now, data=change, serial=str(job.version)),)
    if not seen.status.is_final:
        return Transition(changed, events)
    ended = replace(
        changed,
        state=JobState(seen.status.value),
        finished_at=now,
        reason=seen.status_reason,
        reason_class=reasons.classify(job, seen),
    )
    return Transition(ended, (*events, _finished(ended, seen, now)))


def _present(job: Job, now: float) -> Transition:
    """Batch knows the job, in a status that we don't understand: no news, but no miss either."""
    if job.first_missed_at is None:
        return Transition(job, is_changed=False)
    return Transition(replace(job, observed_at=now, first_missed_at=None, misses=0))


def _finished(job: Job, seen: Observation, now: float) -> Event:
    outcome = Outcome.SUCCEEDED if seen.status is BatchStatus.SUCCEEDED else Outcome.FAILED
    data = {
        **_ending(job, outcome),
        **_times(job),
        "exit_code": seen.exit_code,
        "log_stream": seen.log_stream,
        "attempts": [_attempt(attempt) for attempt in seen.attempts],
        "array_summary": seen.array_summary or None,
        "tags": seen.tags or None,
        **_children(job, seen),
    }
    return Event(name="job.finished", time=now, data=data, serial=FINAL)


def _children(job: Job, seen: Observation) -> dict[str, JSON]:
    """What is told of children and nodes."""
    members: dict[str, JSON] = {}
    if job.array_size is not None and seen.array_summary:
        ended = sum(seen.array_summary.get(status, 0) for status in ("SUCCEEDED", "FAILED"))
        members["unaccounted_children"] = max(0, job.array_size - ended) or None
    if seen.children is None:
        return members
    told = seen.children.as_json(stopped_class="cancelled" if job.reason_class == "cancelled" else "terminated")
    if seen.nodes is None:
        return {**members, "failed_children": told}
    if seen.exit_code is None and seen.children.main_exit_code is not None:
        members["exit_code"] = seen.children.main_exit_code
    return {**members, "failed_nodes": told}


def may_be_stuck(job: Job) -> bool:
    """Whether Batch has yet to place it; an array is PENDING whether its children run or wait. One that Batch has
    forgotten keeps the status that it had last."""
    unplaced = BatchStatus.PENDING if job.is_array else BatchStatus.RUNNABLE
    return job.state is JobState.TRACKED and job.batch_status is unplaced


def _tell_stuck(job: Job, fact: FoundStuck, now: float) -> Transition:
    """Writes nothing but the event, whose serial is the number of attempts: one for each time of being RUNNABLE, and
    one for an array."""
    if not may_be_stuck(job) or job.attempts != fact.attempts:
        return Transition(job, is_changed=False)
    data = {
        **identity(job),
        "cause": fact.cause,
        "detail": fact.detail or None,
        "position": fact.position,
        "attempt": fact.attempts,
        "runnable_for_s": round(fact.runnable_for_s, 3),
    }
    return Transition(job, (Event(name="job.stuck", time=now, data=data, serial=str(fact.attempts)),))


def _miss(job: Job, _: Missed, now: float) -> Transition:
    first = now if job.first_missed_at is None else job.first_missed_at
    return Transition(replace(job, first_missed_at=first, misses=job.misses + 1))


def _forget(job: Job, _: Forgotten, now: float) -> Transition:
    changed = replace(
        job,
        state=JobState.LOST,
        finished_at=now,
        reason="AWS Batch no longer knows the job; its end was not seen",
        reason_class="lost",
    )
    data = {
        **_ending(changed, Outcome.LOST),
        **_times(changed),
        "misses": job.misses,
        "first_missed_at": iso(job.first_missed_at),
    }
    return Transition(changed, (Event(name="job.lost", time=now, data=data, serial=FINAL),))


# --- members of events ------------------------------------------------------------------------------------


def identity(job: Job) -> dict[str, JSON]:
    """What tells a request and its job apart, in every event about it."""
    return {
        "request_id": job.request_id,
        "message_id": job.message_id,
        "job_name": job.job_name,
        "batch_job_name": job.batch_job_name,
        "job_queue": job.job_queue,
        "job_definition": job.job_definition,
        "job_id": job.batch_job_id,
        "job_arn": job.batch_job_arn,
        "batch_status": job.batch_status,
        "array_size": job.array_size,
        "traceparent": job.traceparent,
        "tracestate": job.tracestate,
    }


def _ending(job: Job, outcome: Outcome) -> dict[str, JSON]:
    return {**identity(job), "outcome": outcome.value, "reason": job.reason, "reason_class": job.reason_class}


def _times(job: Job) -> dict[str, JSON]:
    return {
        "received_at": iso(job.received_at),
        "submitted_at": iso(job.submitted_at),
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "stopped_at": iso(job.stopped_at),
        "observed_at": iso(job.observed_at),
    }


def _attempt(attempt: Attempt) -> dict[str, JSON]:
    members = {
        "started_at": iso(attempt.started_at),
        "stopped_at": iso(attempt.stopped_at),
        "exit_code": attempt.exit_code,
        "reason": attempt.reason,
        "status_reason": attempt.status_reason,
        "log_stream": attempt.log_stream,
    }
    return {name: value for name, value in members.items() if value is not None}


# --- the table --------------------------------------------------------------------------------------------

Step = Callable[[Job, Any, float], Transition]
"""The fact is of the type that the table says."""

TABLE: Final[Mapping[tuple[JobState, type], Step]] = {
    (JobState.QUEUED, Admitted): _admit,
    (JobState.QUEUED, CancelAsked): _ask_cancel,
    (JobState.QUEUED, DependenciesMet): _meet_dependencies,
    (JobState.QUEUED, DependencyEnded): _end_dependent,
    (JobState.QUEUED, Expired): _expire,
    (JobState.QUEUED, NeverFound): _never_found,
    (JobState.QUEUED, FoundByName): _adopt,
    (JobState.SUBMITTING, Accepted): _accept,
    (JobState.SUBMITTING, NotAccepted): _requeue,
    (JobState.SUBMITTING, RefusedForGood): _refuse,
    (JobState.SUBMITTING, LeftInDoubt): _doubt,
    (JobState.SUBMITTING, FoundByName): _adopt,
    (JobState.SUBMITTING, NotFound): _requeue,
    (JobState.SUBMITTING, CancelAsked): _ask_cancel,
    (JobState.TRACKED, CancelAsked): _ask_cancel,
    (JobState.TRACKED, Described): _describe,
    (JobState.TRACKED, FoundStuck): _tell_stuck,
    (JobState.TRACKED, Missed): _miss,
    (JobState.TRACKED, Forgotten): _forget,
}
"""Every legal (state, fact). ``docs/states.md`` is drawn from it."""

_Q, _S, _T, _C, _R = JobState.QUEUED, JobState.SUBMITTING, JobState.TRACKED, JobState.CANCELLED, JobState.REJECTED

LEADS_TO: Final[Mapping[tuple[JobState, type], tuple[JobState, ...]]] = {
    (_Q, Admitted): (_S, _Q),
    (_Q, CancelAsked): (_C, _Q),
    (_Q, DependenciesMet): (_Q,),
    (_Q, DependencyEnded): (_C, _Q),
    (_Q, Expired): (_C,),
    (_Q, NeverFound): (_C,),
    (_Q, FoundByName): (_T,),
    (_S, Accepted): (_T,),
    (_S, NotAccepted): (_Q, _C),
    (_S, RefusedForGood): (_R,),
    (_S, LeftInDoubt): (_S,),
    (_S, FoundByName): (_T,),
    (_S, NotFound): (_Q, _C),
    (_S, CancelAsked): (_S,),
    (_T, CancelAsked): (_T,),
    (_T, Described): (_T, JobState.SUCCEEDED, JobState.FAILED),
    (_T, FoundStuck): (_T,),
    (_T, Missed): (_T,),
    (_T, Forgotten): (JobState.LOST,),
}
"""The states that each pair may lead to; no other is ever reached (``tests/properties/test_lifecycle.py``)."""

assert LEADS_TO.keys() == TABLE.keys()
