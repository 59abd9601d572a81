"""DescribeJobs answers, decoded into the members that are needed and into nothing else.

botocore walks the whole service model for every job, which is nearly all the CPU of a DescribeJobs call.
``register`` hooks into the SDK's ``before-parse`` event and decodes the body with msgspec; botocore's parser then
sees an empty object. Errors (status 300 and above) and bodies that do not decode are left to botocore, whose result
is converted into the same records.

The usual job of an answer is unchanged. So what msgspec makes of it is handed on as it is (``JobDetail`` is a
``core.job.Seen``), and only a job whose status or attempts have changed is made into an ``Observation``.

Nothing but ``jobId`` is relied on: the members that the model calls required are not always there
(``startedAt`` is absent before RUNNING, or 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from controller.core.job import Attempt, BatchStatus, Observation, Seen

DECODED: Final = "decodedJobs"
"""Member of the SDK's answer that holds the decoded records."""

_Time = int | float | None
"""Epoch milliseconds; 0 or absent: not yet."""


class _Container(msgspec.Struct, gc=False, rename="camel"):
    exit_code: int | None = None
    reason: str | None = None
    log_stream_name: str | None = None


_NO_CONTAINER: Final = _Container()


class _TaskContainer(_Container, gc=False, rename="camel"):
    """One of several in a task."""

    name: str | None = None
    essential: bool | None = None
    """Only the job's own list tells it, not that of an attempt."""


class _Task(msgspec.Struct, gc=False, rename="camel"):
    containers: list[_TaskContainer] | None = None


class _Attempt(msgspec.Struct, gc=False, rename="camel"):
    container: _Container | None = None
    started_at: _Time = None
    stopped_at: _Time = None
    status_reason: str | None = None
    task_properties: list[_Task] | None = None


class _EksAttempt(msgspec.Struct, gc=False, rename="camel"):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = None
    started_at: _Time = None
    stopped_at: _Time = None
    status_reason: str | None = None


class _EcsProperties(msgspec.Struct, gc=False, rename="camel"):
    task_properties: list[_Task] | None = None


class _Array(msgspec.Struct, gc=False, rename="camel"):
    size: int | None = None
    status_summary: dict[str, int] | None = None


class _Nodes(msgspec.Struct, gc=False, rename="camel"):
    num_nodes: int | None = None


class JobDetail(msgspec.Struct, gc=False, rename="camel"):
    """What is read of Batch's JobDetail; the members are named as Batch names them, but for the case."""

    job_id: str = ""
    status: BatchStatus | None = None
    job_arn: str | None = None
    status_reason: str | None = None
    created_at: _Time = None
    started_at: _Time = None
    stopped_at: _Time = None
    attempts: list[_Attempt] | None = None
    container: _Container | None = None
    ecs_properties: _EcsProperties | None = None
    eks_attempts: list[_EksAttempt] | None = None
    array_properties: _Array | None = None
    node_properties: _Nodes | None = None
    is_cancelled: bool | None = None
    is_terminated: bool | None = None
    tags: dict[str, str] | None = None

    @property
    def attempt_count(self) -> int:
        return len(self.attempts or self.eks_attempts or ())

    @property
    def array_summary(self) -> dict[str, int] | None:
        """Children by status; empty while Batch tells none, None if it is no array's parent."""
        array = self.array_properties
        return (array.status_summary or {}) if array is not None and array.size else None

    def observation(self) -> Observation:
        return _observation(self)


class Answer(msgspec.Struct, gc=False, rename="camel"):
    jobs: list[JobDetail]


class _Minimal(msgspec.Struct, gc=False, rename="camel"):
    """An entry with a member of another type than is known."""

    job_id: str
    status: BatchStatus


class _Unjudged(msgspec.Struct, gc=False, rename="camel"):
    """An entry without an id or with a status that is not understood; with an id, it still says that Batch knows
    the job."""

    job_id: str | None = None
    status: str | None = None
    tags: dict[str, str] | None = None


class _Known(msgspec.Struct, gc=False, rename="camel"):
    """An entry of which nothing but the id can be read."""

    job_id: str


class _RawAnswer(msgspec.Struct, gc=False):
    jobs: list[msgspec.Raw]


_DECODER: Final = msgspec.json.Decoder(Answer)
_RAW_DECODER: Final = msgspec.json.Decoder(_RawAnswer)
Entry = JobDetail | _Unjudged
"""One job of an answer."""

_Shape = JobDetail | _Minimal | _Unjudged | _Known
_SHAPES: Final[Sequence[type[_Shape]]] = (JobDetail, _Minimal, _Unjudged, _Known)
"""What an odd entry is tried as, richest first."""
_ENTRY_DECODERS: Final[Sequence[msgspec.json.Decoder[_Shape]]] = [
    msgspec.json.Decoder(shape, strict=False) for shape in _SHAPES
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The jobs of one answer, and the statuses that were not understood (their entries still say that Batch knows
    the job)."""

    seen: Sequence[Seen]
    skipped: Sequence[str]


def register(events: Any) -> None:
    """Hook the lean decoder into a Batch client's events (``client.meta.events``)."""
    events.register("before-parse.batch.DescribeJobs", _decode_before_parse)


def _decode_before_parse(
    *, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    if response_dict["status_code"] >= 300:
        return
    body = response_dict["body"]
    jobs = _decoded(body)
    if jobs is None:
        jobs = _decoded_one_by_one(body)
    if jobs is not None:
        customized_response_dict[DECODED] = jobs
        response_dict["body"] = b"{}"


def _decoded(body: bytes) -> Sequence[Entry] | None:
    try:
        return _DECODER.decode(body).jobs
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _decoded_one_by_one(body: bytes) -> Sequence[Entry] | None:
    """For the day on which a member has another type: one odd entry does not cost the other 99, and an odd member
    does not cost the entry's id and status. None if the body is not an answer at all."""
    try:
        entries = _RAW_DECODER.decode(body).jobs
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return [_decoded_entry(entry) for entry in entries]


def _decoded_entry(entry: msgspec.Raw) -> Entry:
    for decoder in _ENTRY_DECODERS:
        try:
            return _as_entry(decoder.decode(entry))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return _Unjudged()


def _as_entry(found: _Shape) -> Entry:
    match found:
        case _Minimal():
            return JobDetail(job_id=found.job_id, status=found.status)
        case _Known():
            return _Unjudged(job_id=found.job_id)
        case _:
            return found


def jobs_in(answer: Mapping[str, Any]) -> Sequence[Entry] | None:
    """The jobs of the SDK's answer, however they were decoded; None if the answer holds no list of jobs, as a body
    that is not JSON does: botocore makes an empty answer of it, and every job would seem unknown."""
    decoded: Sequence[Entry] | None = answer.get(DECODED)
    if decoded is not None:
        return decoded
    entries = answer.get("jobs")
    return [_converted(entry) for entry in entries] if isinstance(entries, list) else None


def observe(jobs: Sequence[Entry]) -> Observed:
    """What was seen of all entries that have an id. One whose status is not understood has the status None: left out,
    it would be counted as a job that Batch no longer knows."""
    seen: list[Seen] = []
    skipped: list[str] = []
    for job in jobs:
        if isinstance(job, JobDetail) and job.job_id and job.status is not None:
            seen.append(job)
            continue
        skipped.append(str(job.status)[:32] if job.job_id else "no jobId")
        if job.job_id:
            seen.append(Observation(job_id=job.job_id, status=None, tags=job.tags or {}))
    return Observed(seen=seen, skipped=skipped)


INSTANT_MS_END: Final = 253_402_300_800_000
"""The year 10000."""


def seconds(instant: float | None) -> float | None:
    """Epoch seconds of Batch's milliseconds; None for 0, which Batch gives for what has not happened yet, and for what
    is no time that can be written: one such job must not keep the others of its answer from being seen."""
    return instant / 1000 if instant and 0 < instant < INSTANT_MS_END else None


STATUSES: Final[Mapping[str, BatchStatus]] = {status.value: status for status in BatchStatus}


def _converted(entry: Any) -> Entry:
    """One job of botocore's parser. If a member is of no known type, its id and status still count."""
    for shape in _SHAPES:
        try:
            return _as_entry(msgspec.convert(entry, shape, strict=False))
        except (msgspec.ValidationError, OverflowError):
            continue
    return _Unjudged()


def _observation(job: JobDetail) -> Observation:
    attempts: list[Attempt] = []
    tasks = job.ecs_properties.task_properties if job.ecs_properties is not None else None
    aside = _not_essential(tasks)
    if job.attempts:
        attempts = [_ecs_attempt(attempt, aside) for attempt in job.attempts]
    elif job.eks_attempts:
        attempts = [_eks_attempt(attempt) for attempt in job.eks_attempts]
    container = job.container or _NO_CONTAINER
    if container.exit_code is None and container.reason is None and container.log_stream_name is None:
        container = _principal(_containers(tasks, aside))
        if container is _NO_CONTAINER and job.eks_attempts:
            latest = job.eks_attempts[-1]
            container = _principal([*(latest.containers or ()), *(latest.init_containers or ())])
    return Observation(
        job_id=job.job_id,
        status=job.status,
        job_arn=job.job_arn,
        status_reason=job.status_reason,
        created_at=seconds(job.created_at),
        started_at=seconds(job.started_at),
        stopped_at=seconds(job.stopped_at),
        attempts=tuple(attempts),
        exit_code=container.exit_code,
        container_reason=container.reason,
        log_stream=container.log_stream_name,
        array_summary=job.array_summary,
        nodes=job.node_properties.num_nodes if job.node_properties is not None else None,
        is_cancelled=bool(job.is_cancelled),
        is_terminated=bool(job.is_terminated),
        tags=job.tags or {},
    )


def _ecs_attempt(attempt: _Attempt, aside: frozenset[str | None]) -> Attempt:
    container = attempt.container or _NO_CONTAINER
    if container.exit_code is None and attempt.task_properties:
        container = _principal([container, *_containers(attempt.task_properties, aside)])
    return Attempt(
        started_at=seconds(attempt.started_at),
        stopped_at=seconds(attempt.stopped_at),
        exit_code=container.exit_code,
        reason=container.reason,
        status_reason=attempt.status_reason,
        log_stream=container.log_stream_name,
    )


def _eks_attempt(attempt: _EksAttempt) -> Attempt:
    container = _principal([*(attempt.containers or ()), *(attempt.init_containers or ())])
    return Attempt(
        started_at=seconds(attempt.started_at),
        stopped_at=seconds(attempt.stopped_at),
        exit_code=container.exit_code,
        reason=container.reason,
        status_reason=attempt.status_reason,
        log_stream=container.log_stream_name,
    )


def _not_essential(tasks: Sequence[_Task] | None) -> frozenset[str | None]:
    """Names of containers that do not decide how the task ends."""
    return frozenset(c.name for task in tasks or () for c in task.containers or () if c.essential is False)


def _containers(tasks: Sequence[_Task] | None, aside: frozenset[str | None]) -> Sequence[_Container]:
    """Those that decide how a task ended, if any of them says something of it, else all. What stands beside them is
    often stopped with them, with an exit code of its own."""
    found = [container for task in tasks or () for container in task.containers or ()]
    deciding = [container for container in found if container.name not in aside]
    return deciding if any(c.exit_code is not None or c.reason for c in deciding) else found


def _principal(containers: Sequence[_Container]) -> _Container:
    """The container of several that says most of how a task ended: the first that failed, preferably with a reason,
    else the first that ended if none tells a reason (one whose image could not be pulled has no exit code), else the
    first that says anything."""
    return (
        next((c for c in containers if c.exit_code and c.reason), None)
        or next((c for c in containers if c.exit_code), None)
        or next((c for c in containers if c.exit_code is not None and not _has_reason(containers)), None)
        or next((c for c in containers if c.reason), None)
        or next((c for c in containers if c.log_stream_name), None)
        or _NO_CONTAINER
    )


def _has_reason(containers: Sequence[_Container]) -> bool:
    return any(c.reason for c in containers)
