"""The seams between the application and everything outside it.

Stages are written against these protocols; ``app.py`` puts adapters behind them, tests put fakes and
the simulation there. Nothing here starts a thread: an adapter that needs one hides it behind ``Runner``,
which runs inline in a deterministic run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from controller.core.children import FailedChild
from controller.core.events import Event
from controller.core.inquiry import Inquiry, Place
from controller.core.job import (
    BatchStatus,
    Job,
    JobState,
    ListedJob,
    QueueStatus,
    RowKey,
    Seen,
)
from controller.core.room import DiskSpace
from controller.core.waiting import ComputeEnvironment

T = TypeVar("T")


# --- time and threads -------------------------------------------------------------------------------


class Clock(Protocol):
    """Wall time for what is stored and compared with AWS's times; monotonic time for every wait."""

    def now(self) -> float:
        """Seconds since the epoch; may jump."""

    def monotonic(self) -> float:
        """Seconds that never run backwards."""

    async def sleep(self, seconds: float) -> None: ...


class Runner(Protocol):
    """Runs a blocking function: in a thread in production, inline in a deterministic run.

    A call that has begun is never abandoned: cancellation waits for its end.
    """

    async def run(self, function: Callable[[], T]) -> T: ...


# --- SQS ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One received SQS message."""

    message_id: str
    receipt_handle: str
    body: str
    receive_count: int = 1
    sent_at: float | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Message attributes of type String or Number, as text."""
    group: str | None = None
    """MessageGroupId."""


class MessageSource(Protocol):
    """One SQS queue to consume. Every method raises Throttled, Unavailable, NotAllowed, BadCredentials,
    Refused (no such queue) or Unexpected; none repeats a call by itself."""

    @property
    def url(self) -> str: ...

    async def receive(self, *, max_messages: int, wait_s: float, visibility_timeout_s: int) -> Sequence[Message]:
        """At most 10 messages after at most 20 s."""

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[str]:
        """Delete up to 10; returns the handles that were *not* deleted."""


# --- AWS Batch ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedJob:
    """SubmitJob's answer."""

    job_id: str
    job_arn: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """One page of ListJobs."""

    jobs: Sequence[ListedJob]
    next_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildPage:
    """One page of the FAILED children of an array job, or nodes of a multi-node job."""

    children: Sequence[FailedChild]
    next_token: str | None = None


class BatchApi(Protocol):
    """AWS Batch. One call here is at most one request on the wire: no SDK retries anywhere.

    All raise Throttled, Unavailable, Refused, NotAllowed, BadCredentials, Unexpected; only ``submit_job``
    raises InDoubt, whenever it is not sure that Batch did not accept the job.
    """

    async def fetch_credentials(self) -> None:
        """Return once a call can be signed without waiting for credentials; no request to Batch. Called before each
        call is paced. Raises BadCredentials, Unavailable, Unexpected."""

    async def submit_job(self, arguments: Mapping[str, Any], *, timeout_s: float) -> SubmittedJob:
        """SubmitJob; no copy of the request is sent by us after ``timeout_s``."""

    async def describe_jobs(self, job_ids: Sequence[str]) -> Sequence[Seen]:
        """Up to 100 ids; ids unknown to Batch are missing from the answer."""

    async def list_jobs_named(self, *, job_queue: str, job_name: str, next_token: str | None = None) -> ListPage:
        """One page of the jobs of this name in the queue, in any status (ListJobs with the JOB_NAME filter; Batch
        compares without case, the adapter leaves out names that are not exactly equal)."""

    async def describe_job_queues(self, job_queues: Sequence[str]) -> Sequence[QueueStatus]:
        """Up to 100 names or ARNs; unknown ones are missing from the answer."""

    async def list_failed_children(
        self, *, job_id: str, is_multi_node: bool, next_token: str | None = None
    ) -> ChildPage:
        """One page of the FAILED children of an array job, or of the FAILED nodes of a multi-node job."""

    async def describe_compute_environments(self, names: Sequence[str]) -> Sequence[ComputeEnvironment]:
        """Up to 100 names or ARNs; unknown ones are missing from the answer."""

    async def queue_front(self, job_queue: str) -> Sequence[str]:
        """Ids of the first 100 RUNNABLE jobs of a job queue, in their order (GetJobQueueSnapshot)."""

    async def terminate_job(self, *, job_id: str, reason: str) -> None:
        """TerminateJob; ``reason`` is cut to Batch's 1,024 characters."""


class AccountApi(Protocol):
    """STS GetCallerIdentity, where it is allowed."""

    async def account(self) -> str:
        """The 12-digit account id. Raises NotAllowed, BadCredentials, Unavailable, Throttled, Unexpected."""


# --- sinks ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One undelivered event (or dead letter) of one sink."""

    key: int
    event_id: str
    name: str
    """Name in the event catalogue; ``dead_letter`` for a dead letter."""
    body: bytes
    """The flat JSON object, UTF-8, without a newline; for a dead letter the JSON of ``DeadLetter``."""


class EventSink(Protocol):
    """Where events go. Raises OutwardError's kinds when nothing was delivered."""

    @property
    def name(self) -> str: ...

    async def publish(self, rows: Sequence[OutboxRow]) -> Sequence[int]:
        """Deliver in order; returns the keys of the rows that were delivered."""


# --- the store ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A refused body on its way to the dead-letter queue."""

    body: str
    reason: str
    error_code: str
    message_id: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertJob:
    """A new row, in whatever state ``job`` says. Not applied if a life of the id that is not REJECTED exists."""

    job: Job
    body: str
    """The raw SQS body; not stored if the job is already final."""
    depends_on: tuple[str, ...] = ()
    """Ids of other requests, each once; ``job.dependencies`` is UNMET if there are any."""
    events: tuple[Event, ...] = ()
    dead_letter: DeadLetter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateJob:
    """A changed row. Not applied unless the stored version is ``job.version``; it is raised by one.

    The body is erased when ``job.state`` is TRACKED or final. What a request asked for (``request_id`` …
    ``tracestate``) never changes and is not written.
    """

    job: Job
    events: tuple[Event, ...] = ()
    dead_letter: DeadLetter | None = None
    """With ``body=""``: the store puts the stored body there before it is erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertRejection:
    """A message rejected at intake. Not applied if the message id is known already."""

    message_id: str
    source: str
    received_at: float
    events: tuple[Event, ...]
    dead_letter: DeadLetter | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberCancel:
    """A cancel for an id without a request that is not REJECTED. Not applied unless it is sent later than the one of
    its id and source that is remembered already, which it replaces."""

    request_id: str
    source: str
    reason: str | None
    sent_at: float
    """By SQS's clock, where it tells."""
    received_at: float


class Dependency(NamedTuple):
    """A request that another one depends on."""

    request_id: str
    due: int
    """How often it has changed since it was last considered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependent:
    """A row, and what it depends on."""

    job: Job
    dependencies: tuple[Dependency, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """What a row depends on, as it was read, means nothing more for it. Those that have changed since stay due."""

    key: RowKey
    dependencies: tuple[Dependency, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A Batch job queue (``job_definition`` empty) or a pair of queue and definition that gets no SubmitJob."""

    job_queue: str
    job_definition: str
    reason: str
    """Closed set, see ``core.events.HOLD_REASONS``."""
    held_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PutHold:
    """Not applied if the same (queue, definition) is held already."""

    hold: Hold
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseHold:
    """Not applied if it is not held."""

    job_queue: str
    job_definition: str
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A Batch job queue that is known to place no jobs."""

    job_queue: str
    cause: str
    """Closed set, see ``core.events.WAIT_CAUSES``."""
    blocked_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBlock:
    """Always applied; what was said of the job queue before is replaced."""

    block: Block
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndBlock:
    """Not applied if the job queue is not blocked."""

    job_queue: str
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOutbox:
    """Rows of one sink that were delivered."""

    keys: tuple[int, ...]


DEAD_LETTER: Final = "dead_letter"
"""Sink and event name of dead letters in the outbox."""
LIVES_MAX: Final = 100
"""REJECTED lives that are found of one request id. A producer that repeats what AWS refuses makes one each time, and
all are kept for the dedupe window: to read them all for every further message of that id would hold up the others."""

CIRCLE_MAX: Final = 1_000
"""Requests through which one is followed to find out whether it waits for itself."""

Write = (
    InsertJob
    | UpdateJob
    | InsertRejection
    | RememberCancel
    | Considered
    | PutHold
    | ReleaseHold
    | PutBlock
    | EndBlock
    | DeleteOutbox
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """How many rows stand where: one line per (source, job queue, state, status) with a count above 0."""

    source: str
    job_queue: str
    state: JobState
    """QUEUED, SUBMITTING or TRACKED."""
    batch_status: BatchStatus | None
    """TRACKED rows only."""
    is_in_doubt: bool
    """SUBMITTING rows only."""
    is_array: bool
    is_unmet: bool = False
    """QUEUED rows only: they wait for another request to be submitted."""
    count: int


class TrackedRow(NamedTuple):
    """What the tracking schedule keeps of a TRACKED row. A tuple: a start makes one for every job in flight, and it
    takes a fifth of the time that a frozen dataclass takes."""

    key: RowKey
    job_id: str
    batch_status: BatchStatus
    attempts: int
    submitted_at: float
    observed_at: float
    is_missed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreIdentity:
    account: str
    region: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOf:
    """What of a job queue's backlog is asked for."""

    job_queue: str
    limit: int
    """How many turns."""
    without_definitions: Sequence[str] = ()
    without_rows: Collection[RowKey] = ()
    after_tenant: str | None = None
    """The one after this has the first turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPage:
    """Some of the requests that a list asks for."""

    jobs: Sequence[Job]
    """At most ``Inquiry.limit``; none, with a place to go on, where many rows are not what is asked for."""
    after: Place | None
    """Where the next page begins; None: these were the last."""


class RequestReads(Protocol):
    """What operators ask. Nothing of the controller's own work depends on it, and each answer is bounded, so that
    commits wait for it for some milliseconds at most, however many rows there are. Raises StoreUnavailable."""

    async def list_requests(self, asked: Inquiry) -> RequestPage: ...

    async def named_dependencies(self, key: RowKey) -> Sequence[str]:
        """Ids of the requests that a row depends on, as long as it may still have to be sent."""

    async def ahead(self, key: RowKey, *, limit: int) -> int | None:
        """How many rows of its tenant stand before a row in the backlog of its job queue, ``limit`` at most; None: it
        is not in the backlog."""


class JobStore(RequestReads, Protocol):
    """The ledger. Every method raises StoreUnavailable if the engine fails; a commit that raised may
    be sent again (it did not take effect, or its versions no longer match).

    ``commit`` applies its writes in order in one transaction, which may hold other callers' writes too.
    Each write is applied whole (row, body, usage, events, dead letter) or not at all; the answer says which.
    """

    @property
    def store_id(self) -> str:
        """32 random hex digits, made with the store: part of every Batch job name and event id."""

    async def identity(self) -> StoreIdentity | None: ...

    async def bind(self, identity: StoreIdentity) -> None:
        """Record whose store this is; raises StoreMismatch if it is another's. The account ``""`` (not known yet)
        binds only the Region and may be completed later; until something that may have a job was sent, the Region may
        be another as well."""

    async def commit(self, writes: Sequence[Write]) -> Sequence[bool]: ...

    # intake
    async def find_requests(self, request_ids: Sequence[str]) -> Mapping[str, Sequence[Job]]:
        """Lives of each id, oldest first: the one that is not REJECTED, and the latest ``LIVES_MAX`` that are. Ids
        without a row are missing."""

    async def find_rejections(self, message_ids: Sequence[str]) -> frozenset[str]:
        """Those that name a message rejected at intake, or of a request that ended REJECTED."""

    async def find_cancels(self, request_ids: Sequence[str]) -> Sequence[RememberCancel]: ...

    # admission
    async def usage(self) -> Sequence[UsageRow]: ...

    async def heads(self, asked: Sequence[HeadOf], *, now: float) -> Sequence[Sequence[Job]]:
        """For each job queue asked for, the QUEUED rows that its tenants' next turns can fall on (``core.tenants``),
        and maybe a few more: tenant by tenant, each tenant once, and each one's by
        ``received_at − priority × aging_s``, then key. Tenants come in a fixed order, in which one that was not known
        before has its turn last.

        Rows that are to end unsent (cancel requested, or expired by ``now``) and rows of the named definitions are
        left out: they would stand before those that may be sent."""

    async def backlog_tenants(self) -> Mapping[str, int]:
        """How many tenants have QUEUED rows without a cancel request, per job queue; queues without one are missing."""

    async def oldest_backlog(self) -> Mapping[str, float]:
        """``received_at`` of the oldest QUEUED row per job queue, but for those that wait for another request."""

    async def set_aging(self, aging_s: Mapping[str, float], default_s: float) -> None:
        """Seconds of waiting that weigh as much as one step of priority, per job queue. Re-ranks what is stored."""

    async def holds(self) -> Sequence[Hold]: ...

    async def blocks(self) -> Sequence[Block]: ...

    # submission and rescue
    async def load(self, keys: Sequence[RowKey]) -> Mapping[RowKey, Job]: ...

    async def bodies(self, keys: Sequence[RowKey]) -> Mapping[RowKey, str]: ...

    async def submitting(self) -> Sequence[Job]:
        """Every SUBMITTING row, in doubt or not (bounded by concurrency and the doubt limit)."""

    async def closing(self, now: float, *, limit: int) -> Sequence[Job]:
        """QUEUED rows that have a cancel request or whose ``expires_at`` is at or before ``now``; those that were never
        in doubt, which can end at once, before those that must be looked up."""

    # dependencies
    @property
    def has_dependents(self) -> bool:
        """False: no row depends on another request, so there is nothing to look for."""

    async def dependents(self, *, received_by: float, limit: int) -> Sequence[Dependent]:
        """Rows that are to be considered: something that they depend on has changed, or they are QUEUED, for the first
        time or again; and UNMET rows received at or before ``received_by``."""

    async def circular(self, keys: Sequence[RowKey]) -> frozenset[RowKey]:
        """Those of UNMET rows that wait for themselves, through at most ``CIRCLE_MAX`` others of which one came before
        them: at least the row that closes a circle."""

    async def depended_on(self, keys: Sequence[RowKey]) -> Mapping[RowKey, Sequence[Job]]:
        """The requests that each of these rows depends on; rows that depend on none are missing."""

    # tracking
    async def tracked(self, *, after: RowKey, limit: int) -> Sequence[TrackedRow]:
        """TRACKED rows with key > ``after``, by key."""

    async def terminating(self, *, after: RowKey, limit: int) -> Sequence[Job]:
        """TRACKED rows with a cancel request, by key."""

    async def any_job_arn(self) -> str | None:
        """ARN of a job that Batch has accepted, whatever became of it; None: none is stored."""

    # publishing and retention
    async def outbox(self, sink: str, *, limit: int, size_max: int | None = None) -> Sequence[OutboxRow]:
        """The oldest rows of a sink: ``limit`` of them, or fewer whose bodies have ``size_max`` bytes or more."""

    async def outbox_counts(self) -> Mapping[str, int]: ...

    async def space(self) -> DiskSpace | None:
        """Of the disk that the store lies on; None: it lies on none, or the disk does not tell."""

    async def check_writes(self) -> None:
        """One small change. Raises StoreUnavailable if none can be made: a disk that is full or read-only can still be
        read."""

    async def file_problem(self) -> str | None:
        """What is wrong if what is written is not where the next start would look for it, or damaged as far as it was
        read; None: nothing. What can be put there again is, and told once. Raises StoreUnavailable if it can't."""

    async def prune(self, *, before: float, limit: int) -> int:
        """Delete up to ``limit`` final rows, rejections and remembered cancels older than ``before`` that
        have no unpublished event; returns how many."""

    async def close(self) -> None: ...
