"""The event catalogue: every event's name, version, meaning and fields, and the id of each occurrence.

``docs/events.md`` and the JSON Schemas are generated from this table. The store writes events in the
transaction of the change they report; ``stages/publish.py`` delivers them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

JSON = Any
"""A value that JSON can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One occurrence, before the store has given it an id and put it into the outbox."""

    name: str
    time: float
    data: Mapping[str, JSON] = field(default_factory=dict)
    """Members beyond ``event``, ``event_id`` and ``time``; None values are left out."""
    serial: str = ""
    """Tells occurrences of one name on one subject apart; final events have the serial FINAL, whatever their name."""
    subject: str | None = None
    """What the id derives from; None: the row's own key."""


FINAL: Final = "final"
"""Serial of final events: a row has one final event id by construction."""


def event_id(store_id: str, event: Event, row_key: int | None) -> str:
    """Deterministic id of an occurrence, shaped like a UUID."""
    subject = event.subject if event.subject is not None else f"row:{row_key}"
    what = FINAL if event.serial == FINAL else f"{event.name}#{event.serial}"
    digest = hashlib.sha256(f"{store_id}\0{subject}\0{what}".encode()).hexdigest()
    # As uuid.UUID(hex=…, version=5) prints it, without making one (2 µs for each event).
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def iso(instant: float | None) -> str | None:
    """RFC 3339 in UTC with milliseconds, cut, not rounded; microseconds are rounded as ``datetime`` does."""
    if instant is None:
        return None
    fraction, whole = math.modf(instant)
    seconds, microseconds = int(whole), round(fraction * 1e6)
    if not 0 <= microseconds < 1_000_000:
        seconds, microseconds = seconds + microseconds // 1_000_000, microseconds % 1_000_000
    return f"{_iso_seconds(seconds)}.{microseconds // 1000:03d}Z"


@lru_cache(maxsize=1024)
def _iso_seconds(seconds: int) -> str:
    """Kept, because most of the instants that are written lie close together."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def flat(event: Event, identifier: str) -> dict[str, JSON]:
    """The event as the flat object that the outbox stores and stdout shows."""
    record: dict[str, JSON] = {"event": event.name, "event_id": identifier, "time": iso(event.time)}
    record |= {name: value for name, value in event.data.items() if value is not None}
    return record


# --- the catalogue -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A member of an event: JSON Schema of its value and its meaning."""

    name: str
    schema: Mapping[str, JSON]
    meaning: str


@dataclass(frozen=True, slots=True)
class EventSpec:
    name: str
    meaning: str
    fields: tuple[FieldSpec, ...]
    required: tuple[str, ...] = ()
    is_final: bool = False
    version: int = 1


_STRING: Final = {"type": "string"}
_TIME: Final = {"type": "string", "format": "date-time"}
_INTEGER: Final = {"type": "integer"}
_NUMBER: Final = {"type": "number"}

OUTCOMES: Final = ("succeeded", "failed", "lost", "cancelled", "rejected")
HOLD_REASONS: Final = ("queue_disabled", "queue_invalid", "access_denied", "unexpected_error")
"""Why a queue, or a (queue, definition) pair, is held."""
REASON_CLASSES: Final = (
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
"""Closed set of ``reason_class``; what each means is in ``core.reasons.MEANINGS``."""
WAIT_CAUSES: Final = (
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
"""Closed set of the ``cause`` of a job that waits; what each means is in ``core.waiting.MEANINGS``."""

IDENTITY_FIELDS: Final = (
    FieldSpec("request_id", _STRING, "The request's id."),
    FieldSpec("message_id", _STRING, "SQS MessageId of the message that brought the request."),
    FieldSpec("job_name", _STRING, "The request's own `jobName`."),
    FieldSpec("batch_job_name", _STRING, "Name of the job in AWS Batch."),
    FieldSpec("job_queue", _STRING, "Name of the Batch job queue."),
    FieldSpec("job_definition", _STRING, "Job definition as the request names it."),
    FieldSpec("job_id", _STRING, "AWS Batch job id."),
    FieldSpec("job_arn", _STRING, "AWS Batch job ARN."),
    FieldSpec("batch_status", _STRING, "AWS Batch's status, verbatim."),
    FieldSpec("array_size", _INTEGER, "Number of children of an array job."),
    FieldSpec("traceparent", _STRING, "W3C trace context of the message."),
    FieldSpec("tracestate", _STRING, "W3C trace state of the message."),
)

_REASON: Final = (
    FieldSpec("reason", _STRING, "Why, for a person."),
    FieldSpec("reason_class", {"type": "string", "enum": list(REASON_CLASSES)}, "Why, from a closed set."),
)
_OUTCOME: Final = (FieldSpec("outcome", {"type": "string", "enum": list(OUTCOMES)}, "How the request ended."),)
_ERROR_CODE: Final = (FieldSpec("error_code", _STRING, "Code of the rule or of the service's error."),)
_TIMES: Final = (
    FieldSpec("received_at", _TIME, "When the message was received."),
    FieldSpec("submitted_at", _TIME, "When SubmitJob answered, or the job was adopted."),
    FieldSpec("created_at", _TIME, "Batch's createdAt."),
    FieldSpec("started_at", _TIME, "Batch's startedAt (of the latest attempt)."),
    FieldSpec("stopped_at", _TIME, "Batch's stoppedAt."),
    FieldSpec("observed_at", _TIME, "When the controller saw it."),
)
_ATTEMPTS: Final = FieldSpec(
    "attempts",
    {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "started_at": _TIME,
                "stopped_at": _TIME,
                "exit_code": _INTEGER,
                "reason": _STRING,
                "status_reason": _STRING,
                "log_stream": _STRING,
            },
        },
    },
    "Every attempt that Batch lists, in order.",
)


def _failed(name: str, meaning: str, *, beside: str = "") -> FieldSpec:
    group = {
        "type": "object",
        "properties": {
            "indexes": _STRING,
            "count": _INTEGER,
            "reason_class": {"type": "string", "enum": list(REASON_CLASSES)},
            "exit_code": _INTEGER,
            "reason": _STRING,
            "is_cut": {"type": "boolean"},
        },
        "required": ["indexes", "count", "reason_class"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {
            "count": _INTEGER,
            "groups": {"type": "array", "items": group},
            "other_groups": _INTEGER,
            "other_children": _INTEGER,
            "incomplete": {"type": "string"},
        },
        "required": ["count", "groups"],
        "additionalProperties": False,
    }
    return FieldSpec(
        name,
        schema,
        f"{meaning} `count` were found; `indexes` are ranges such as `0-3,7`; `reason` is that of the first of its "
        "group. At most 20 groups with 200 ranges each (`is_cut`: it has more) are told, the rest is counted in "
        "`other_groups` and `other_children`. With `incomplete` (`deadline`, `denied`, `failed`, "
        f"`forgotten`, `lagging`, `too_many`) some may be missing{beside}.",
    )


_END: Final = (
    FieldSpec("exit_code", _INTEGER, "Exit code of the last attempt's container; of several, of an essential one."),
    FieldSpec("log_stream", _STRING, "Log stream of the last attempt."),
    _ATTEMPTS,
    FieldSpec(
        "array_summary",
        {"type": "object", "additionalProperties": {"type": "integer"}},
        "Children per Batch status, array parents only.",
    ),
    _failed(
        "failed_children",
        "The children of an array job that failed, grouped by exit code and reason.",
        beside=", and `array_summary` tells how many failed",
    ),
    FieldSpec(
        "unaccounted_children",
        _INTEGER,
        "Children that Batch counts neither as SUCCEEDED nor as FAILED though the array job has ended.",
    ),
    _failed("failed_nodes", "The nodes of a multi-node job that failed, likewise."),
    FieldSpec("tags", {"type": "object", "additionalProperties": _STRING}, "The job's tags."),
)
_QUEUE: Final = (
    FieldSpec("job_queue", _STRING, "Name of the Batch job queue."),
    FieldSpec("job_definition", _STRING, "Job definition, if only its requests are held."),
    FieldSpec("reason", {"type": "string", "enum": list(HOLD_REASONS)}, "Why it is held."),
    FieldSpec("detail", _STRING, "What the service said."),
)
_CAUSE: Final = FieldSpec("cause", {"type": "string", "enum": list(WAIT_CAUSES)}, "Why it waits, from a closed set.")
_BLOCK: Final = (
    FieldSpec("job_queue", _STRING, "Name of the Batch job queue."),
    _CAUSE,
    FieldSpec("detail", _STRING, "What Batch says of it."),
    FieldSpec("head_job_id", _STRING, "The job at the head of the queue, ours or not."),
    FieldSpec("stuck_jobs", _INTEGER, "Jobs of ours that are RUNNABLE for longer than `queues.<name>.stuck_after_s`."),
    FieldSpec("blocked_at", _TIME, "Since when it is known to be blocked."),
)

CATALOGUE: Final[Mapping[str, EventSpec]] = {
    spec.name: spec
    for spec in (
        EventSpec(
            "request.accepted",
            "A valid request is stored and will be submitted.",
            (
                *IDENTITY_FIELDS,
                FieldSpec("priority", _INTEGER, "The request's priority."),
                FieldSpec("tenant", _STRING, "Whose request it is: tenants of a job queue take turns."),
                FieldSpec(
                    "depends_on",
                    {"type": "array", "items": _STRING},
                    "Ids of other requests: it is sent once each of them is submitted.",
                ),
                _TIMES[0],
            ),
            ("request_id", "message_id", "job_name", "job_queue", "job_definition", "received_at"),
        ),
        EventSpec(
            "request.rejected",
            "A request will never run: it is invalid, not allowed, in conflict with another of the same id, "
            "or refused by AWS Batch.",
            (*IDENTITY_FIELDS, *_OUTCOME, *_REASON, *_ERROR_CODE, _TIMES[0]),
            ("message_id", "outcome", "reason", "reason_class", "error_code"),
            is_final=True,
        ),
        EventSpec(
            "job.submitted",
            "SubmitJob answered with a job id.",
            (*IDENTITY_FIELDS, _TIMES[0], _TIMES[1]),
            ("request_id", "job_id", "submitted_at"),
        ),
        EventSpec(
            "job.status_changed",
            "AWS Batch reports another status, or another attempt, than it did when last seen.",
            (
                *IDENTITY_FIELDS,
                *_REASON[:1],
                FieldSpec("previous_batch_status", _STRING, "The status seen before."),
                FieldSpec("attempt", _INTEGER, "Number of attempts that Batch lists."),
                *_TIMES,
            ),
            ("request_id", "job_id", "batch_status", "observed_at"),
        ),
        EventSpec(
            "job.finished",
            "AWS Batch reports SUCCEEDED or FAILED.",
            (*IDENTITY_FIELDS, *_OUTCOME, *_REASON, *_TIMES, *_END),
            ("request_id", "job_id", "batch_status", "outcome", "observed_at", "attempts"),
            is_final=True,
        ),
        EventSpec(
            "job.lost",
            "AWS Batch no longer knows the job, and its end was not seen.",
            (
                *IDENTITY_FIELDS,
                *_OUTCOME,
                *_REASON,
                *_TIMES,
                FieldSpec("misses", _INTEGER, "Answers without the job since it was last seen."),
                FieldSpec("first_missed_at", _TIME, "When it was first missing."),
            ),
            ("request_id", "job_id", "outcome", "reason", "first_missed_at"),
            is_final=True,
        ),
        EventSpec(
            "job.cancelled",
            "The request ended before it was submitted: cancelled by message, or expired.",
            (*IDENTITY_FIELDS, *_OUTCOME, *_REASON, _TIMES[0]),
            ("request_id", "outcome", "reason", "reason_class"),
            is_final=True,
        ),
        EventSpec(
            "submission.in_doubt",
            "It is not known whether AWS Batch accepted a SubmitJob; nothing is sent again before it is settled.",
            (*IDENTITY_FIELDS, *_REASON[:1], *_ERROR_CODE),
            ("request_id", "batch_job_name", "reason"),
        ),
        EventSpec(
            "submission.adopted",
            "A submission in doubt was found in AWS Batch and is tracked from here on.",
            (*IDENTITY_FIELDS, _TIMES[1], _TIMES[2]),
            ("request_id", "batch_job_name", "job_id"),
        ),
        EventSpec(
            "job_queue.held",
            "Nothing is submitted to a job queue, or with one job definition to it.",
            _QUEUE,
            ("job_queue", "reason"),
        ),
        EventSpec("job_queue.released", "Submission to it goes on.", _QUEUE, ("job_queue", "reason")),
        EventSpec(
            "job.stuck",
            "A job is RUNNABLE for longer than `queues.<name>.stuck_after_s`. Told once each time that it is; of a "
            "queue, each time that AWS is asked about it, at most the 10 jobs nearest its head, and the metric "
            "`stuck_jobs` counts all.",
            (
                *IDENTITY_FIELDS,
                _CAUSE,
                FieldSpec("detail", _STRING, "What Batch says of it."),
                FieldSpec("position", _INTEGER, "Its place in the job queue, from 1, if it is among the first 100."),
                FieldSpec("attempt", _INTEGER, "Number of attempts that Batch lists."),
                FieldSpec(
                    "runnable_for_s",
                    _NUMBER,
                    "For how long it has been seen RUNNABLE; of an array, for how long its children have waited.",
                ),
            ),
            ("request_id", "job_id", "batch_status", "cause", "runnable_for_s"),
        ),
        EventSpec(
            "job_queue.blocked",
            "No job of this queue is being placed, for this cause. Told again if the cause changes.",
            _BLOCK,
            ("job_queue", "cause", "blocked_at"),
        ),
        EventSpec(
            "job_queue.unblocked",
            "It is no longer known to be blocked.",
            _BLOCK,
            ("job_queue", "cause", "blocked_at"),
        ),
    )
}

COMMON_FIELDS: Final = (
    FieldSpec("event", _STRING, "Name in this catalogue."),
    FieldSpec("event_id", _STRING, "The same at every delivery of this occurrence: the key to drop duplicates by."),
    FieldSpec("time", _TIME, "When it happened, as the controller's clock says."),
)


def json_schema(spec: EventSpec) -> dict[str, JSON]:
    """JSON Schema (2020-12) of the flat form."""
    members = (*COMMON_FIELDS, *spec.fields)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": spec.name,
        "description": spec.meaning,
        "type": "object",
        "properties": {
            m.name: {**m.schema, "description": m.meaning, **({"const": spec.name} if m.name == "event" else {})}
            for m in members
        },
        "required": ["event", "event_id", "time", *spec.required],
        "additionalProperties": False,
    }
