"""Ids, states and the records of a job: what is stored, what AWS Batch says.

All instants (``…_at``) are seconds since the Unix epoch as float, all durations (``…_s``) seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NewType, Protocol

RowKey = NewType("RowKey", int)
"""The store's own key of a row, in arrival order. Each life of a request id has its own."""


class JobState(StrEnum):
    """The controller's own state of a request; Batch's status is another field."""

    QUEUED = "QUEUED"
    SUBMITTING = "SUBMITTING"
    TRACKED = "TRACKED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    LOST = "LOST"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        return self not in _LIVE


_LIVE = frozenset({JobState.QUEUED, JobState.SUBMITTING, JobState.TRACKED})


class BatchStatus(StrEnum):
    """AWS Batch's job status, verbatim."""

    SUBMITTED = "SUBMITTED"
    PENDING = "PENDING"
    RUNNABLE = "RUNNABLE"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def is_final(self) -> bool:
        return self in (BatchStatus.SUCCEEDED, BatchStatus.FAILED)

    @property
    def is_waiting(self) -> bool:
        """Counts towards ``queues.<name>.max_waiting``."""
        return self in (BatchStatus.SUBMITTED, BatchStatus.PENDING, BatchStatus.RUNNABLE)


class Dependencies(StrEnum):
    """Where a request stands with the requests it depends on."""

    NONE = "NONE"
    UNMET = "UNMET"
    """It waits for one of them to be submitted."""
    MET = "MET"


class Outcome(StrEnum):
    """How a request ended: the ``outcome`` of final events and metrics."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One accepted request and all that is known of it: a row of the store.

    The request body is not part of it: it is stored apart and erased once the job is TRACKED or final. No slots: few
    are alive at a time, and each is copied at every step (``replace``).
    """

    key: RowKey = RowKey(0)
    """0 until the store has given one."""
    version: int = 0
    """Raised by one with each stored change; a write names the version it was computed from."""

    # What was asked
    request_id: str
    message_id: str
    source: str
    """URL of the SQS queue that the request came from."""
    content_hash: bytes
    """SHA-256 of the canonical content."""
    job_name: str
    batch_job_name: str
    job_queue: str
    """Name of the Batch job queue: key of limits, policy and labels."""
    job_queue_ref: str
    """The queue as the request names it (name or ARN): what is sent to Batch."""
    job_definition: str
    """As the request names it (name, name:revision or ARN)."""
    tenant: str = ""
    """Whose request it is: tenants of a job queue take turns (``core.tenants``)."""
    priority: int = 0
    array_size: int | None = None
    received_at: float
    resent_at: float | None = None
    """When it was sent, if an earlier life of its id was REJECTED: a cancel that was sent before is for that one."""
    expires_at: float | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    # Where it stands
    state: JobState = JobState.QUEUED
    dependencies: Dependencies = Dependencies.NONE
    """On other requests: not those that are named by their job ids."""
    first_intent_at: float | None = None
    """When the intent of its first send was committed; kept for life."""
    doubted_at: float | None = None
    """When a send was first in doubt; kept for life. Such a row is *marked*."""
    is_in_doubt: bool = False
    """SUBMITTING, and the outcome of the latest send is not known."""
    refusals: int = 0
    """ClientExceptions to SubmitJob while the queue was ENABLED and VALID."""
    cancel_requested_at: float | None = None
    cancel_reason: str | None = None

    # What Batch says
    batch_job_id: str | None = None
    batch_job_arn: str | None = None
    batch_status: BatchStatus | None = None
    attempts: int = 0
    """Number of attempts Batch lists."""
    submitted_at: float | None = None
    """When SubmitJob answered, or the job was adopted."""
    created_at: float | None = None
    started_at: float | None = None
    stopped_at: float | None = None
    observed_at: float | None = None
    """When the latest stored observation was made."""
    first_missed_at: float | None = None
    """First successful answer without the id since it was last seen."""
    misses: int = 0

    # How it ended
    finished_at: float | None = None
    reason: str | None = None
    reason_class: str | None = None

    @property
    def is_marked(self) -> bool:
        """A send was in doubt once: look up before every further send, cancel or expiry."""
        return self.doubted_at is not None

    @property
    def is_array(self) -> bool:
        return self.array_size is not None


def standing(lives: Sequence[Job]) -> Job | None:
    """The life that holds a request id; None: it is free for a request."""
    return next((life for life in lives if life.state is not JobState.REJECTED), None)


if TYPE_CHECKING:
    from dataclasses import replace as replace

    from controller.core.children import FailedChildren
else:
    _MEMBERS = len(fields(Job))

    def replace(job: Job, **changes: Any) -> Job:
        """``dataclasses.replace`` for a Job, which is copied at every step: 1 µs instead of 12, as it copies the
        members at once instead of calling ``__init__`` with each. Raises TypeError for a name it has not."""
        copy = object.__new__(Job)
        members = copy.__dict__
        members.update(job.__dict__, **changes)
        if len(members) != _MEMBERS:
            raise TypeError(f"a Job has no {', '.join(changes.keys() - job.__dict__)}")
        return copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of a job, as DescribeJobs lists it."""

    started_at: float | None = None
    stopped_at: float | None = None
    exit_code: int | None = None
    reason: str | None = None
    """The container's reason."""
    status_reason: str | None = None
    log_stream: str | None = None


class Seen(Protocol):
    """One job of a DescribeJobs answer: what tells whether it has changed, and the whole if it has.

    Nearly every job of nearly every answer is unchanged, so an adapter puts off the work of making an ``Observation``
    until it is asked for one. An ``Observation`` is itself a ``Seen``.
    """

    @property
    def job_id(self) -> str: ...
    @property
    def status(self) -> BatchStatus | None: ...
    @property
    def attempt_count(self) -> int: ...
    @property
    def status_reason(self) -> str | None: ...
    @property
    def array_summary(self) -> dict[str, int] | None: ...
    def observation(self) -> Observation: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one DescribeJobs answer says of one job; everything but its id may be missing."""

    job_id: str
    status: BatchStatus | None
    """None: a status that this version does not know. Batch knows the job, and no more can be said of it."""
    job_arn: str | None = None
    status_reason: str | None = None
    created_at: float | None = None
    started_at: float | None = None
    stopped_at: float | None = None
    attempts: tuple[Attempt, ...] = ()
    exit_code: int | None = None
    container_reason: str | None = None
    log_stream: str | None = None
    array_summary: dict[str, int] | None = None
    """Children per status of an array parent; empty if Batch does not say. None: it is not one."""
    nodes: int | None = None
    """Number of nodes of a multi-node job."""
    children: FailedChildren | None = None
    """What a look-up found of the children or nodes that failed."""
    is_cancelled: bool = False
    is_terminated: bool = False
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def attempt_count(self) -> int:
        return len(self.attempts)

    def observation(self) -> Observation:
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedJob:
    """One row of a ListJobs answer."""

    job_id: str
    job_arn: str
    job_name: str
    created_at: float
    status: BatchStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """What DescribeJobQueues says of one job queue."""

    name: str
    arn: str
    state: str
    """ENABLED or DISABLED."""
    status: str
    """CREATING, UPDATING, DELETING, DELETED, VALID or INVALID."""
    status_reason: str = ""
    compute_environments: tuple[str, ...] = ()
    """ARNs or names, in the order in which they are tried."""

    @property
    def accepts_jobs(self) -> bool:
        return self.state == "ENABLED" and self.status == "VALID"
