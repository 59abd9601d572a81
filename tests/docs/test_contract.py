"""What operators rely on, spelled out: keys with their defaults, metrics with their labels, events.

The lists here are the contract. A name that is changed or dropped in the code breaks someone's dashboard, alert or
values file, so it must be changed here on purpose, with a line in the changelog.
"""

from __future__ import annotations

from typing import Any

from controller.config import Settings, keys, load_settings
from controller.core.events import CATALOGUE
from controller.metric_table import METRICS, Kind

KEYS: dict[str, Any] = {
    "controller.name": "default",
    "controller.drain_s": 30,
    "aws.region": None,
    "aws.total_rate_per_s": 48,
    "store.url": "sqlite:///batch-controller.db",
    "store.free_mib_min": None,
    "intake.queue_urls": (),
    "intake.dead_letter_queue_url": None,
    "intake.paused": False,
    "intake.receivers": 2,
    "intake.visibility_timeout_s": 60,
    "intake.backlog_high": 100_000,
    "intake.backlog_low": 80_000,
    "intake.backlog_max": 1_000_000,
    "intake.tenant_from": ("share_identifier", "attribute", "source"),
    "intake.require_request_id": False,
    "submit.rate_per_s": 40,
    "submit.concurrency": 32,
    "submit.timeout_s": 10,
    "submit.default_tags": {},
    "submit.tag_request_id": True,
    "submit.settle_s": 330,
    "track.rate_per_s": 8,
    "track.concurrency": 8,
    "track.interval_s_min": 2,
    "track.interval_s_max": 60,
    "track.lost_after_s": 600,
    "track.events_queue_url": None,
    "list.rate_per_s": 5,
    "terminate.rate_per_s": 10,
    "queues.<name>.max_in_flight": 10_000,
    "queues.<name>.max_waiting": 2_000,
    "queues.<name>.weight": 1,
    "queues.<name>.paused": False,
    "queues.<name>.aging_s": 60,
    "queues.<name>.stuck_after_s": 1_800,
    "policy.allowed_job_queues": ("*",),
    "policy.allowed_job_definitions": ("*",),
    "policy.allowed_overrides": None,
    "sinks[].type": ...,
    "sinks[].name": "",
    "sinks[].queue_url": None,
    "sinks[].events": ("*",),
    "retention.final_s": 1_296_000,
    "http.host": "0.0.0.0",
    "http.port": 8080,
    "log.level": "info",
    "log.format": "json",
}

REASON_CLASSES = (
    "application_exit_code",
    "array_child_failed",
    "cancelled",
    "dependency_failed",
    "expired",
    "host_lost",
    "image_pull",
    "invalid_request",
    "not_allowed",
    "conflict",
    "lost",
    "out_of_memory",
    "overrides_too_long",
    "queue_deleted",
    "refused",
    "spot_reclaim",
    "start_failed",
    "terminated",
    "time_limit",
    "timeout",
    "unknown",
)
WAIT_CAUSES = (
    "insufficient_capacity",
    "misconfigured_resources",
    "service_role",
    "compute_environment_invalid",
    "compute_environment_disabled",
    "job_queue_invalid",
    "max_vcpus_reached",
    "behind_other_jobs",
    "undetermined",
)

METRICS_WANTED: dict[str, dict[str, tuple[str, ...]]] = {
    "requests_received_total": {"outcome": ("accepted", "duplicate", "rejected", "conflict", "cancel")},
    "backlog_jobs": {"job_queue": ()},
    "backlog_dependent_jobs": {"job_queue": ()},
    "backlog_oldest_seconds": {"job_queue": ()},
    "backlog_tenants": {"job_queue": ()},
    "inflight_jobs": {
        "job_queue": (),
        "batch_status": (
            "unsubmitted",
            "SUBMITTED",
            "PENDING",
            "RUNNABLE",
            "STARTING",
            "RUNNING",
            "SUCCEEDED",
            "FAILED",
        ),
    },
    "submissions_total": {
        "job_queue": (),
        "outcome": ("accepted", "adopted", "throttled", "unavailable", "refused", "in_doubt"),
    },
    "submissions_in_doubt": {},
    "submit_duration_seconds": {},
    "status_changes_total": {
        "job_queue": (),
        "batch_status": ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"),
    },
    "jobs_finished_total": {
        "job_queue": (),
        "outcome": ("succeeded", "failed", "lost", "cancelled", "rejected"),
    },
    "job_failures_total": {"job_queue": (), "reason_class": REASON_CLASSES},
    "stuck_jobs": {"job_queue": (), "cause": WAIT_CAUSES},
    "inflight_arrays": {"job_queue": ()},
    "array_children": {
        "job_queue": (),
        "batch_status": ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"),
    },
    "job_wait_seconds": {"job_queue": ()},
    "job_run_seconds": {"job_queue": (), "outcome": ("succeeded", "failed", "lost")},
    "detection_lag_seconds": {},
    "aws_requests_total": {
        "operation": (
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
        ),
        "outcome": (
            "ok",
            "throttled",
            "unavailable",
            "refused",
            "not_allowed",
            "bad_credentials",
            "unexpected",
            "in_doubt",
        ),
    },
    "aws_request_duration_seconds": {
        "operation": (
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
        ),
    },
    "rate_limit_per_second": {"budget": ("submit", "describe", "list", "terminate", "total")},
    "rate_ceiling_per_second": {"budget": ("submit", "describe", "list", "terminate", "total")},
    "wait_seconds_total": {
        "cause": (
            "budget_submit",
            "budget_describe",
            "budget_list",
            "budget_terminate",
            "budget_total",
            "credentials",
            "denied",
            "unreachable",
            "submit_concurrency",
            "describe_concurrency",
            "max_in_flight",
            "max_waiting",
            "held",
            "paused",
            "in_doubt",
            "disk",
            "store",
            "sink",
        ),
    },
    "describe_ids_per_call": {},
    "tracking_staleness_seconds": {},
    "tracking_staleness_bound_seconds": {},
    "batch_events_received_total": {"outcome": ("hint", "final", "foreign", "stale", "malformed", "other")},
    "events_missed_ratio": {},
    "intake_paused": {
        "reason": (
            "backlog",
            "configured",
            "store",
            "disk",
            "credentials",
            "standby",
            "receive_refused",
            "delete_refused",
            "not_reached",
        )
    },
    "submission_paused": {"reason": ("credentials", "denied", "unreachable", "disk")},
    "queue_held": {
        "job_queue": (),
        "reason": ("queue_disabled", "queue_invalid", "access_denied", "unexpected_error"),
    },
    "queue_hold_changes_total": {
        "job_queue": (),
        "reason": ("queue_disabled", "queue_invalid", "access_denied", "unexpected_error"),
        "change": ("held", "released"),
    },
    "job_queue_max_waiting": {"job_queue": ()},
    "outbox_events": {"sink": ()},
    "events_published_total": {"sink": (), "outcome": ("published", "failed")},
    "event_loop_stall_seconds": {},
    "store_used_bytes": {},
    "store_free_bytes": {},
    "store_commit_seconds": {},
    "stage_last_turn_timestamp_seconds": {"stage": ()},
    "stage_turn_limit_seconds": {"stage": ()},
    "leader": {},
    "build_info": {"version": (), "name": ()},
}

EVENTS = (
    "request.accepted",
    "request.rejected",
    "job.submitted",
    "job.status_changed",
    "job.finished",
    "job.lost",
    "job.cancelled",
    "submission.in_doubt",
    "submission.adopted",
    "job_queue.held",
    "job_queue.released",
    "job.stuck",
    "job_queue.blocked",
    "job_queue.unblocked",
)
FINAL_EVENTS = ("request.rejected", "job.finished", "job.lost", "job.cancelled")


def test_keys_and_defaults_are_the_contract_s() -> None:
    """Every key of the configuration has its name and its default, and there is no other."""
    assert {spec.name: spec.default for spec in keys()} == KEYS


def test_settings_have_the_contract_s_sections() -> None:
    """Each section of the configuration is an attribute of Settings with its keys."""
    settings = load_settings(None, queue_urls=["https://sqs.eu-central-1.amazonaws.com/1/q"], environ={})
    for key, default in KEYS.items():
        section, _, name = key.partition(".")
        if not key.startswith(("queues", "sinks", "intake.queue_urls")):
            assert getattr(getattr(settings, section), name) == default, key
    assert set(Settings.model_fields) == {key.partition(".")[0].removesuffix("[]") for key in KEYS}


def test_metrics_and_labels_are_the_contract_s() -> None:
    """Every metric has its labels with their closed sets, and there is no other."""
    assert {
        name: {label.name: label.values for label in spec.labels} for name, spec in METRICS.items()
    } == METRICS_WANTED


def test_metrics_are_named_by_their_kind() -> None:
    """Counters end in _total, and what is timed ends in the base unit."""
    for name, spec in METRICS.items():
        assert name.endswith("_total") == (spec.kind is Kind.COUNTER), name
        assert bool(spec.buckets) == (spec.kind is Kind.HISTOGRAM), name
        assert list(spec.buckets) == sorted(set(spec.buckets)), name
    lag = METRICS["detection_lag_seconds"].buckets
    assert (lag[0], lag[-1]) == (0.1, 3_600)
    assert {0.5, 1} <= set(lag)


def test_events_are_the_contract_s() -> None:
    """Every event has its name, and exactly four of them end a request."""
    assert tuple(CATALOGUE) == EVENTS
    assert tuple(name for name, spec in CATALOGUE.items() if spec.is_final) == FINAL_EVENTS
