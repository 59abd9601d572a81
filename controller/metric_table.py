"""Every metric in one table: names, labels, buckets and what they mean.

Labels come from closed sets. ``docs/metrics.md`` is made from it; the dashboards, rules and tests are held against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.core.events import HOLD_REASONS, REASON_CLASSES, WAIT_CAUSES
from controller.core.hints import EventOutcome
from controller.core.job import BatchStatus

PREFIX: Final = "batch_controller_"
UNKNOWN_QUEUE: Final = "unknown"
UNSUBMITTED: Final = "unsubmitted"
"""``batch_status`` of rows SUBMITTING in ``inflight_jobs``."""

OPERATIONS: Final = (
    "SubmitJob",
    "DescribeJobs",
    "ListJobs",
    "DescribeJobQueues",
    "DescribeComputeEnvironments",
    "GetJobQueueSnapshot",
    "TerminateJob",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "SendMessageBatch",
    "GetCallerIdentity",
)
PAUSE_REASONS: Final = ("credentials", "denied", "unreachable", "disk")
CALL_OUTCOMES: Final = (
    "ok",
    "throttled",
    "unavailable",
    "refused",
    "not_allowed",
    "bad_credentials",
    "unexpected",
    "in_doubt",
)


WAITS: Final[Mapping[str, str]] = {
    "budget_submit": "the first call in line waited for the submit budget",
    "budget_describe": "the same for DescribeJobs",
    "budget_list": "the same for ListJobs and DescribeJobQueues",
    "budget_terminate": "the same for TerminateJob",
    "budget_total": "a call that its own budget allowed waited for `aws.total_rate_per_s` (counted per kind of call)",
    "credentials": "credentials were fetched before a call, or submission stood still because they were refused",
    "denied": "submission stood still because every request that was tried was denied",
    "unreachable": "submission stood still because SubmitJob did not get as far as an answer",
    "submit_concurrency": "`submit.concurrency` calls were under way: AWS answers slowly",
    "describe_concurrency": "the same for `track.concurrency`",
    "max_in_flight": "a job queue's backlog waited for `max_in_flight`",
    "max_waiting": "a job queue's backlog waited for `max_waiting`",
    "held": "a job queue's backlog waited for a hold of the queue, or of its definitions, to end",
    "paused": "a job queue with a backlog is `paused` by configuration",
    "in_doubt": "too many submissions are in doubt: one at a time finds out whether Batch answers again",
    "disk": "submission stood still because the store's disk is nearly full",
    "store": "a commit was waited for, or a store that failed (counted for intake and for the rest)",
    "sink": "events were being delivered, or could not be, to a sink (counted per sink)",
}
"""The closed set of ``wait_seconds_total{cause}``."""


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and the closed set of its values."""

    name: str
    values: tuple[str, ...] = ()
    """Empty: the set is known only to the running process (see ``meaning``)."""
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric; ``name`` without the prefix."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()


_QUEUE: Final = Label("job_queue", (), "name of a Batch job queue once Batch has confirmed it, else `unknown`")
_SINK: Final = Label("sink", (), "name of a sink; `dead_letter` for the dead-letter queue")
_BATCH_STATUSES: Final = tuple(status.value for status in BatchStatus)
_FINISHED: Final = Label("outcome", ("succeeded", "failed", "lost", "cancelled", "rejected"))
_RAN: Final = Label("outcome", ("succeeded", "failed", "lost"))

_CALL_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_JOB_BUCKETS: Final = (1, 5, 15, 60, 300, 900, 3_600, 10_800, 43_200, 86_400, 604_800)
_LAG_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600)
_COMMIT_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_STALL_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_IDS_BUCKETS: Final = (1, 2, 5, 10, 20, 40, 60, 80, 99, 100)

_SPECS: Final = (
    MetricSpec(
        "requests_received_total",
        Kind.COUNTER,
        "Messages settled at intake: stored, or known already, or rejected.",
        (Label("outcome", ("accepted", "duplicate", "rejected", "conflict", "cancel")),),
    ),
    MetricSpec("backlog_jobs", Kind.GAUGE, "Requests stored and not yet submitted (QUEUED).", (_QUEUE,)),
    MetricSpec(
        "backlog_dependent_jobs",
        Kind.GAUGE,
        "Of `backlog_jobs`, those that wait until another request is submitted (`dependsOn[].requestId`).",
        (_QUEUE,),
    ),
    MetricSpec(
        "backlog_oldest_seconds",
        Kind.GAUGE,
        "Age of the oldest request of the backlog that waits for no other.",
        (_QUEUE,),
    ),
    MetricSpec("backlog_tenants", Kind.GAUGE, "Tenants that have requests in the backlog and take turns.", (_QUEUE,)),
    MetricSpec(
        "inflight_jobs",
        Kind.GAUGE,
        "Jobs that hold a slot, by Batch's status as last seen; `unsubmitted` before SubmitJob has answered.",
        (_QUEUE, Label("batch_status", (UNSUBMITTED, *_BATCH_STATUSES))),
    ),
    MetricSpec(
        "submissions_total",
        Kind.COUNTER,
        "SubmitJob calls by outcome; `adopted` are jobs found by look-up after a call in doubt.",
        (_QUEUE, Label("outcome", ("accepted", "adopted", "throttled", "unavailable", "refused", "in_doubt"))),
    ),
    MetricSpec("submissions_in_doubt", Kind.GAUGE, "Submissions of which it is not known whether Batch accepted them."),
    MetricSpec("submit_duration_seconds", Kind.HISTOGRAM, "Duration of a SubmitJob call.", (), _CALL_BUCKETS),
    MetricSpec(
        "status_changes_total",
        Kind.COUNTER,
        "Changes of Batch's status or attempt that were seen, by the new status.",
        (_QUEUE, Label("batch_status", _BATCH_STATUSES)),
    ),
    MetricSpec("jobs_finished_total", Kind.COUNTER, "Requests that ended, by outcome.", (_QUEUE, _FINISHED)),
    MetricSpec(
        "job_failures_total",
        Kind.COUNTER,
        "Jobs that Batch reported FAILED, by why; see [reasons](reasons.md).",
        (_QUEUE, Label("reason_class", REASON_CLASSES)),
    ),
    MetricSpec(
        "stuck_jobs",
        Kind.GAUGE,
        "Jobs RUNNABLE for longer than `queues.<name>.stuck_after_s`, by why; see [reasons](reasons.md). Counted up to "
        "100,000.",
        (_QUEUE, Label("cause", WAIT_CAUSES)),
    ),
    MetricSpec(
        "inflight_arrays",
        Kind.GAUGE,
        "Array jobs in flight; in `inflight_jobs` each is one job, PENDING for as long as its children wait or run.",
        (_QUEUE,),
    ),
    MetricSpec(
        "array_children",
        Kind.GAUGE,
        "Children of the array jobs in flight, by their status when the array was last described.",
        (_QUEUE, Label("batch_status", _BATCH_STATUSES)),
    ),
    MetricSpec(
        "job_wait_seconds",
        Kind.HISTOGRAM,
        "From the receipt of a request to the start of its job, as Batch reports it.",
        (_QUEUE,),
        _JOB_BUCKETS,
    ),
    MetricSpec(
        "job_run_seconds",
        Kind.HISTOGRAM,
        "From the start of a job to its end, as Batch reports them.",
        (_QUEUE, _RAN),
        _JOB_BUCKETS,
    ),
    MetricSpec(
        "detection_lag_seconds",
        Kind.HISTOGRAM,
        "From a job's end (Batch's stoppedAt) to the moment it was seen.",
        (),
        _LAG_BUCKETS,
    ),
    MetricSpec(
        "aws_requests_total",
        Kind.COUNTER,
        "Calls to AWS by operation and outcome; each is one request on the wire.",
        (Label("operation", OPERATIONS), Label("outcome", CALL_OUTCOMES)),
    ),
    MetricSpec(
        "aws_request_duration_seconds",
        Kind.HISTOGRAM,
        "Duration of calls to AWS. ReceiveMessage polls for up to 20 s.",
        (Label("operation", OPERATIONS),),
        _CALL_BUCKETS,
    ),
    MetricSpec(
        "rate_limit_per_second",
        Kind.GAUGE,
        "Rate that a budget allows now: its ceiling, less after throttling.",
        (Label("budget", ("submit", "describe", "list", "terminate", "total")),),
    ),
    MetricSpec(
        "rate_ceiling_per_second",
        Kind.GAUGE,
        "What `rate_limit_per_second` is without throttling: the configured rate, rounded down from 1 on.",
        (Label("budget", ("submit", "describe", "list", "terminate", "total")),),
    ),
    MetricSpec(
        "wait_seconds_total",
        Kind.COUNTER,
        "Seconds in which work that was ready stood still, by what it waited for; a rate of 1 is always. "
        "`docs/backpressure.md` explains each cause.",
        (Label("cause", tuple(WAITS)),),
    ),
    MetricSpec("describe_ids_per_call", Kind.HISTOGRAM, "Job ids in a DescribeJobs call.", (), _IDS_BUCKETS),
    MetricSpec(
        "tracking_staleness_seconds", Kind.GAUGE, "Time since the job in flight that was seen longest ago was seen."
    ),
    MetricSpec(
        "tracking_staleness_bound_seconds",
        Kind.GAUGE,
        "Within what time every job in flight is seen again at the describe budget's rate now, or its part of "
        "`aws.total_rate_per_s` if that is less, if Batch answers.",
    ),
    MetricSpec(
        "batch_events_received_total",
        Kind.COUNTER,
        "Messages from `track.events_queue_url`: hints to look at a job, hints of its end, of jobs that are not ours, "
        "with nothing new, unreadable, not about a Batch job. Those of unknown jobs are counted within a minute.",
        (Label("outcome", tuple(EventOutcome)),),
    ),
    MetricSpec(
        "events_missed_ratio",
        Kind.GAUGE,
        "Share of the ends found in the last ten minutes of which no event came in time. "
        "Only with `track.events_queue_url`.",
    ),
    MetricSpec(
        "intake_paused",
        Kind.GAUGE,
        "1 while nothing is received, from one SQS queue of requests at least, for this reason.",
        (
            Label(
                "reason",
                (
                    "backlog",
                    "configured",
                    "store",
                    "disk",
                    "credentials",
                    "standby",
                    "receive_refused",
                    "delete_refused",
                    "not_reached",
                ),
            ),
        ),
    ),
    MetricSpec(
        "submission_paused",
        Kind.GAUGE,
        "1 while nothing is submitted, to any job queue, for this reason.",
        (Label("reason", PAUSE_REASONS),),
    ),
    MetricSpec(
        "queue_held",
        Kind.GAUGE,
        "1 while a job queue, or a job definition in it, gets no SubmitJob for this reason.",
        (_QUEUE, Label("reason", HOLD_REASONS)),
    ),
    MetricSpec(
        "queue_hold_changes_total",
        Kind.COUNTER,
        "Holds that began and ended, by reason.",
        (_QUEUE, Label("reason", HOLD_REASONS), Label("change", ("held", "released"))),
    ),
    MetricSpec(
        "job_queue_max_waiting",
        Kind.GAUGE,
        "How many jobs may wait in a Batch job queue now: `queues.<name>.max_waiting`, or what `auto` makes of it, and "
        "the jobs PENDING for another one on top.",
        (_QUEUE,),
    ),
    MetricSpec("outbox_events", Kind.GAUGE, "Events (or dead letters) stored and not yet delivered.", (_SINK,)),
    MetricSpec(
        "events_published_total",
        Kind.COUNTER,
        "Deliveries of events (or dead letters) by outcome.",
        (_SINK, Label("outcome", ("published", "failed"))),
    ),
    MetricSpec(
        "event_loop_stall_seconds",
        Kind.HISTOGRAM,
        "Turns of the event loop: for how long each kept it from everything else.",
        (),
        _STALL_BUCKETS,
    ),
    MetricSpec("store_used_bytes", Kind.GAUGE, "What the rows of the store use of its disk."),
    MetricSpec(
        "store_free_bytes",
        Kind.GAUGE,
        "What the store may still grow by: free on its disk beside the log, and what deleted rows have used.",
    ),
    MetricSpec("store_commit_seconds", Kind.HISTOGRAM, "Duration of a commit of the store.", (), _COMMIT_BUCKETS),
    MetricSpec(
        "stage_last_turn_timestamp_seconds",
        Kind.GAUGE,
        "When a stage turned last, in seconds since the epoch.",
        (Label("stage", (), "name of a stage of this version"),),
    ),
    MetricSpec(
        "stage_turn_limit_seconds",
        Kind.GAUGE,
        "How long a stage may take to turn before `/livez` fails: longer than 120 s where calls are configured to be "
        "rare. Stages that have ended are left out.",
        (Label("stage", (), "name of a stage of this version"),),
    ),
    MetricSpec("leader", Kind.GAUGE, "1 if this process is the leader, 0 if it is a standby."),
    MetricSpec(
        "build_info",
        Kind.GAUGE,
        "1; which version runs, and under which `controller.name`.",
        (Label("version", (), "version of the program"), Label("name", (), "`controller.name`")),
    ),
)
METRICS: Final[Mapping[str, MetricSpec]] = {spec.name: spec for spec in _SPECS}
"""The table, by name without the prefix."""
