"""A job as a row of the table ``jobs``, and back: codes, compact forms, lists of columns.

UUID-shaped ids become 16 bytes, what another column already says becomes NULL, names become integers
(``names.py``). Every compact form gives back exactly what went in; what does not fit one is stored verbatim.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from controller.adapters.store.names import Vocabulary
from controller.core.job import BatchStatus, Dependencies, Job, JobState, RowKey
from controller.core.limits import JOB_NAME_HASH_LENGTH, JOB_NAME_KEPT

STATES: Final = (
    JobState.QUEUED,
    JobState.SUBMITTING,
    JobState.TRACKED,
    JobState.SUCCEEDED,
    JobState.FAILED,
    JobState.LOST,
    JobState.REJECTED,
    JobState.CANCELLED,
)
STATUSES: Final = (
    BatchStatus.SUBMITTED,
    BatchStatus.PENDING,
    BatchStatus.RUNNABLE,
    BatchStatus.STARTING,
    BatchStatus.RUNNING,
    BatchStatus.SUCCEEDED,
    BatchStatus.FAILED,
)
DEPENDENCIES: Final = (Dependencies.NONE, Dependencies.UNMET, Dependencies.MET)
STATE_CODES: Final[Mapping[JobState, int]] = {state: code for code, state in enumerate(STATES)}
STATUS_CODES: Final[Mapping[BatchStatus, int]] = {status: code for code, status in enumerate(STATUSES)}
DEPENDENCY_CODES: Final[Mapping[Dependencies, int]] = {each: code for code, each in enumerate(DEPENDENCIES)}
UNMET: Final = DEPENDENCY_CODES[Dependencies.UNMET]
QUEUED: Final = STATE_CODES[JobState.QUEUED]
SUBMITTING: Final = STATE_CODES[JobState.SUBMITTING]
TRACKED: Final = STATE_CODES[JobState.TRACKED]
REJECTED: Final = STATE_CODES[JobState.REJECTED]

assert set(STATES) == set(JobState)
assert set(DEPENDENCIES) == set(Dependencies)
assert set(STATUSES) == set(BatchStatus)
assert all(state.is_final == (code > TRACKED) for state, code in STATE_CODES.items()), "CHECKs rely on this order"

ASKED: Final = (
    "request_id",
    "message_id",
    "source",
    "content_hash",
    "job_name",
    "batch_job_name",
    "job_queue",
    "job_queue_ref",
    "job_definition",
    "tenant",
    "priority",
    "array_size",
    "received_at",
    "resent_at",
    "expires_at",
    "traceparent",
    "tracestate",
)
"""Columns that never change."""
KEYED: Final = ("state", "life", "rank", "cancel_requested_at", "dependencies", "batch_job_id", "finished_at")
"""Columns that indexes or their predicates name. An UPDATE names only those that change: SQLite rewrites every
index of a named column, changed or not, which made a status change twice as dear."""
PLAIN: Final = (
    "version",
    "first_intent_at",
    "doubted_at",
    "is_in_doubt",
    "refusals",
    "cancel_reason",
    "batch_job_arn",
    "batch_status",
    "attempts",
    "submitted_at",
    "created_at",
    "started_at",
    "stopped_at",
    "observed_at",
    "first_missed_at",
    "misses",
    "reason",
    "reason_class",
)
"""Columns that change and that no index knows."""

_READ: Final = ("key", *ASKED, "state", "cancel_requested_at", "dependencies", "batch_job_id", "finished_at", *PLAIN)
JOB_COLUMNS: Final = ", ".join(_READ)
"""What a SELECT lists for ``decode_job``."""

_CHUNK_SIZES: Final = (500, 50, 5, 1)
"""Lengths of IN lists: few, so that their statements stay prepared."""

_MARKS: Final = {size: ", ".join("?" * size) for size in _CHUNK_SIZES}
_ROWS: Final = {size: ", ".join(["(?)"] * size) for size in _CHUNK_SIZES}

Value = str | bytes | int | float | None

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAME_HASH: Final = re.compile(f"[0-9a-f]{{{JOB_NAME_HASH_LENGTH}}}")


def rows_in(connection: sqlite3.Connection, sql: str, values: Sequence[Any], *before: Value) -> Iterator[Any]:
    """Rows of a SELECT with ``IN (:these)`` or ``VALUES :each`` as its last parameters, for any number of values."""
    start = 0
    for size in _CHUNK_SIZES:
        while len(values) - start >= size:
            chunk = values[start : start + size]
            start += size
            statement = sql.replace(":these", _MARKS[size]).replace(":each", _ROWS[size])
            yield from connection.execute(statement, (*before, *chunk))


def pack_id(text: str) -> str | bytes:
    """A canonical UUID as 16 bytes, anything else as it is."""
    if len(text) == 36 and _UUID.fullmatch(text):
        return bytes.fromhex(text.replace("-", ""))
    return text


def unpack_id(value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    digits = value.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def encode_asked(job: Job, names: Vocabulary) -> tuple[Value, ...]:
    """Values of the columns ASKED."""
    return (
        pack_id(job.request_id),
        None if job.message_id == job.request_id else pack_id(job.message_id),
        names.sources.id_of(job.source),
        job.content_hash,
        job.job_name,
        _pack_batch_job_name(job),
        names.job_queues.id_of(job.job_queue),
        None if job.job_queue_ref == job.job_queue else job.job_queue_ref,
        names.job_definitions.id_of(job.job_definition),
        names.tenants.id_of(job.tenant),
        job.priority,
        job.array_size,
        job.received_at,
        job.resent_at,
        job.expires_at,
        job.traceparent,
        job.tracestate,
    )


def encode_keyed(job: Job, key: int, names: Vocabulary) -> tuple[Value, ...]:
    """Values of the columns KEYED."""
    state = STATE_CODES[job.state]
    return (
        state,
        key if state == REJECTED else 0,
        names.job_queues.rank(job.job_queue, job.received_at, job.priority) if state == QUEUED else None,
        job.cancel_requested_at,
        DEPENDENCY_CODES[job.dependencies],
        None if job.batch_job_id is None else pack_id(job.batch_job_id),
        job.finished_at,
    )


def encode_plain(job: Job, version: int, names: Vocabulary) -> tuple[Value, ...]:
    """Values of the columns PLAIN."""
    return (
        version,
        job.first_intent_at,
        job.doubted_at,
        int(job.is_in_doubt),
        job.refusals,
        storable(job.cancel_reason),
        _pack_arn(job, names),
        None if job.batch_status is None else STATUS_CODES[job.batch_status],
        job.attempts,
        job.submitted_at,
        job.created_at,
        job.started_at,
        job.stopped_at,
        job.observed_at,
        job.first_missed_at,
        job.misses,
        storable(job.reason),
        job.reason_class,
    )


def decode_job(row: Sequence[Any], names: Vocabulary) -> Job:
    """The job of a row of JOB_COLUMNS."""
    values: dict[str, Any] = dict(zip(_READ, row, strict=True))
    request_id = unpack_id(values["request_id"])
    job_queue = names.job_queues.name_of(values["job_queue"])
    batch_job_id = None if values["batch_job_id"] is None else unpack_id(values["batch_job_id"])
    values.update(
        key=RowKey(values["key"]),
        request_id=request_id,
        message_id=request_id if values["message_id"] is None else unpack_id(values["message_id"]),
        source=names.sources.name_of(values["source"]),
        batch_job_name=_unpack_batch_job_name(values["batch_job_name"], values["job_name"]),
        job_queue=job_queue,
        job_queue_ref=job_queue if values["job_queue_ref"] is None else values["job_queue_ref"],
        job_definition=names.job_definitions.name_of(values["job_definition"]),
        tenant=names.tenants.name_of(values["tenant"]),
        state=STATES[values["state"]],
        dependencies=DEPENDENCIES[values["dependencies"]],
        is_in_doubt=bool(values["is_in_doubt"]),
        batch_job_id=batch_job_id,
        batch_job_arn=_unpack_arn(values["batch_job_arn"], batch_job_id, names),
        batch_status=None if values["batch_status"] is None else STATUSES[values["batch_status"]],
    )
    return Job(**values)


def storable(text: str | None) -> str | None:
    """Other people's text: half a surrogate pair, which UTF-8 can't hold, becomes a question mark."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "replace").decode()


def _pack_batch_job_name(job: Job) -> str | bytes:
    prefix = job.job_name[:JOB_NAME_KEPT] + "-"
    suffix = job.batch_job_name[len(prefix) :]
    if job.batch_job_name.startswith(prefix) and _NAME_HASH.fullmatch(suffix):
        return bytes.fromhex(suffix)
    return job.batch_job_name


def _unpack_batch_job_name(value: str | bytes, job_name: str) -> str:
    return value if isinstance(value, str) else f"{job_name[:JOB_NAME_KEPT]}-{value.hex()}"


def _pack_arn(job: Job, names: Vocabulary) -> str | int | None:
    arn, job_id = job.batch_job_arn, job.batch_job_id
    if arn is not None and job_id and arn.endswith(f":job/{job_id}"):
        return names.arn_prefixes.id_of(arn[: -len(job_id)])
    return arn


def _unpack_arn(value: str | int | None, job_id: str | None, names: Vocabulary) -> str | None:
    if isinstance(value, int):
        assert job_id is not None
        return names.arn_prefixes.name_of(value) + job_id
    return value
