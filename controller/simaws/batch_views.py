"""How jobs look from outside: JobDetail, JobSummary and what events carry, in AWS's shapes.

Only what AWS would show at that moment is there: no ``startedAt`` before RUNNING, no attempt before its end, no
exit code of a container that never started.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from controller.simaws.batch_arrays import CHILD_FAILED
from controller.simaws.batch_resources import Job
from controller.simaws.batch_timeline import (
    DEPENDENCY_FAILED,
    FAILED,
    RUNNING,
    STARTING,
    SUBMITTED,
    Attempt,
    Execution,
    Step,
)
from controller.simaws.batch_timeline import steps as steps_of

Shape = dict[str, Any]


@dataclass(slots=True)
class AttemptSeen:
    """An attempt that has ended."""

    started_at: float | None
    stopped_at: float
    exit_code: int | None
    reason: str | None
    status_reason: str


@dataclass(slots=True)
class Seen:
    """One execution, as it looks at one moment."""

    status: str = SUBMITTED
    status_reason: str | None = None
    started_at: float | None = None
    stopped_at: float | None = None
    attempts: list[AttemptSeen] = field(default_factory=list)
    has_container: bool = False
    """A container runs or ran: there is a log stream."""
    is_stopped: bool = False


def look_at(execution: Execution, now: float, *, steps_max: int | None = None) -> Seen:
    """What is visible of an execution at ``now``; of its first ``steps_max`` steps only, if that is given."""
    seen = Seen()
    started_at: float | None = None
    for step in islice(steps_of(execution), steps_max):
        if step.at > now:
            break
        if step.attempt > len(seen.attempts):
            is_stopped = execution.stop is not None and _is_stop(execution, step, len(seen.attempts))
            seen.attempts.append(_ended(execution, step, started_at, is_stopped=is_stopped))
            started_at = None
        seen.status = step.status
        if step.status == RUNNING:
            seen.started_at = started_at = step.at
            seen.has_container = True
        elif step.status == STARTING:
            started_at = None
        elif step.status == FAILED or step.status == "SUCCEEDED":
            seen.stopped_at = step.at
    _explain(execution, seen)
    return seen


def _is_stop(execution: Execution, step: Step, index: int) -> bool:
    """Whether this end was made by the stop, not by the attempt itself."""
    assert execution.stop is not None
    return step.status == FAILED and step.at == execution.stop.at and index < len(execution.attempts)


def _ended(execution: Execution, step: Step, started_at: float | None, *, is_stopped: bool) -> AttemptSeen:
    if is_stopped:
        assert execution.stop is not None
        return AttemptSeen(started_at, step.at, 137 if started_at is not None else None, None, execution.stop.reason)
    attempt: Attempt = execution.attempts[step.attempt - 1]
    ending = attempt.ending
    return AttemptSeen(started_at, step.at, ending.exit_code, ending.reason, ending.status_reason)


def _explain(execution: Execution, seen: Seen) -> None:
    if seen.stopped_at is None:
        if seen.attempts:
            seen.status_reason = seen.attempts[-1].status_reason
        return
    stop = execution.stop
    if execution.dependency_failed_at == seen.stopped_at:
        seen.status_reason = DEPENDENCY_FAILED
    elif seen.attempts and (stop is None or stop.reason == seen.attempts[-1].status_reason):
        seen.status_reason = seen.attempts[-1].status_reason
        seen.is_stopped = stop is not None
    elif stop is not None and seen.status == FAILED and stop.at <= seen.stopped_at:
        seen.status_reason, seen.is_stopped = stop.reason, True
    elif execution.attempts:
        seen.status_reason = execution.attempts[-1].ending.status_reason


def millis(instant: float) -> int:
    return round(instant * 1000)


def detail(job: Job, now: float, *, steps_max: int | None = None) -> Shape:
    """JobDetail of a job."""
    if job.children is not None:
        return _parent(job, now)
    return _detail(job, job.id, job, now, steps_max)


def child_detail(job: Job, index: int, now: float, *, steps_max: int | None = None) -> Shape:
    """JobDetail of an array job's child."""
    assert job.children is not None
    shape = _detail(job, f"{job.id}:{index}", job.children.child(index), now, steps_max)
    shape["arrayProperties"] = {"index": index}
    return shape


def _base(job: Job, request: Mapping[str, Any], job_id: str, seen: Seen, created_at: float) -> Shape:
    shape: Shape = {
        "jobArn": f"{job.queue.arn.partition(':job-queue/')[0]}:job/{job_id}",
        "jobName": job.name,
        "jobId": job_id,
        "jobQueue": job.queue.arn,
        "status": seen.status,
        "attempts": [_attempt(job, job_id, number, attempt) for number, attempt in enumerate(seen.attempts)],
        "createdAt": millis(created_at),
        "dependsOn": request.get("dependsOn") or [],
        "jobDefinition": job.definition.arn,
        "parameters": request.get("parameters") or job.definition.body.get("parameters") or {},
        "tags": dict(job.tags),
        "propagateTags": bool(request.get("propagateTags", False)),
        "platformCapabilities": job.definition.body.get("platformCapabilities") or ["EC2"],
    }
    for member, value in (
        ("statusReason", seen.status_reason),
        ("startedAt", None if seen.started_at is None else millis(seen.started_at)),
        ("stoppedAt", None if seen.stopped_at is None else millis(seen.stopped_at)),
        ("retryStrategy", request.get("retryStrategy") or job.definition.body.get("retryStrategy")),
        ("timeout", request.get("timeout") or job.definition.body.get("timeout")),
        ("shareIdentifier", request.get("shareIdentifier")),
        ("schedulingPriority", request.get("schedulingPriorityOverride")),
    ):
        if value is not None:
            shape[member] = value
    return shape


def _detail(job: Job, job_id: str, execution: Execution, now: float, steps_max: int | None) -> Shape:
    seen = look_at(execution, now, steps_max=steps_max)
    request = job.request
    shape = _base(job, request, job_id, seen, execution.submitted_at)
    shape["container"] = _container(job, request, job_id, seen)
    _mark_stopped(shape, execution, seen)
    return shape


def _parent(job: Job, now: float) -> Shape:
    assert job.children is not None
    seen = _parent_seen(job, now)
    request = job.request
    shape = _base(job, request, job.id, seen, job.submitted_at)
    shape["arrayProperties"] = {
        "size": job.children.size,
        "statusSummary": job.children.counts(now),
        "statusSummaryLastUpdatedAt": millis(now),
    }
    shape["container"] = _container(job, request, job.id, Seen())
    _mark_stopped(shape, job, seen)
    return shape


def _parent_seen(job: Job, now: float) -> Seen:
    assert job.children is not None
    seen = look_at(job, now)
    seen.status = job.status_at(now)
    if seen.status in ("SUCCEEDED", FAILED) and seen.stopped_at is None:
        seen.stopped_at = job.ends_at
        if seen.status == FAILED:
            stop = job.children.stop
            seen.status_reason = CHILD_FAILED if stop is None else stop.reason
            seen.is_stopped = stop is not None
    return seen


def _mark_stopped(shape: Shape, execution: Execution, seen: Seen) -> None:
    stop = execution.stop
    if stop is None and isinstance(execution, Job) and execution.children is not None:
        stop = execution.children.stop
    if seen.is_stopped and stop is not None:
        shape["isCancelled" if stop.is_cancel else "isTerminated"] = True


def _task(job: Job, job_id: str, number: int) -> tuple[str, str]:
    """Task ARN and log stream of an attempt: made from its id, the same every time."""
    task = hashlib.sha256(f"{job_id}/{number}".encode()).hexdigest()[:32]
    prefix = job.queue.arn.partition(":job-queue/")[0].replace(":batch:", ":ecs:")
    return f"{prefix}:task/simulated/{task}", f"{job.definition.name[:200]}/default/{task}"


def _attempt(job: Job, job_id: str, number: int, attempt: AttemptSeen) -> Shape:
    task_arn, stream = _task(job, job_id, number)
    container: Shape = {"taskArn": task_arn, "networkInterfaces": []}
    if attempt.exit_code is not None:
        container["exitCode"] = attempt.exit_code
    if attempt.reason is not None:
        container["reason"] = attempt.reason
    shape: Shape = {
        "container": container,
        "stoppedAt": millis(attempt.stopped_at),
        "statusReason": attempt.status_reason,
    }
    if attempt.started_at is not None:
        container["logStreamName"] = stream
        shape["startedAt"] = millis(attempt.started_at)
    return shape


def _container(job: Job, request: Mapping[str, Any], job_id: str, seen: Seen) -> Shape:
    own = job.definition.body.get("containerProperties") or {}
    overrides = request.get("containerOverrides") or {}
    container: Shape = {
        "image": own.get("image", "busybox"),
        "command": overrides.get("command") or own.get("command") or [],
        "volumes": [],
        "environment": _merged_environment(own.get("environment"), overrides.get("environment")),
        "mountPoints": [],
        "ulimits": [],
        "networkInterfaces": [],
        "resourceRequirements": overrides.get("resourceRequirements") or own.get("resourceRequirements") or [],
        "secrets": [],
    }
    is_over = seen.stopped_at is not None
    number = len(seen.attempts) - 1 if is_over else len(seen.attempts)
    if seen.has_container and (is_over or seen.status == RUNNING):
        container["taskArn"], container["logStreamName"] = _task(job, job_id, number)
    if is_over and seen.attempts:
        last = seen.attempts[-1]
        container.update({k: v for k, v in (("exitCode", last.exit_code), ("reason", last.reason)) if v is not None})
    return container


def _merged_environment(own: list[Shape] | None, overrides: list[Shape] | None) -> list[Shape]:
    if not own or not overrides:
        return overrides or own or []
    names = {variable["name"] for variable in overrides}
    return [variable for variable in own if variable["name"] not in names] + overrides


def summary(job: Job, now: float) -> Shape:
    """JobSummary of ListJobs: no tags, no attempts."""
    seen = look_at(job, now) if job.children is None else _parent_seen(job, now)
    shape = _summary(job, job.id, seen, job.submitted_at, job)
    if job.children is not None:
        shape["arrayProperties"] = {
            "size": job.children.size,
            "statusSummary": job.children.counts(now),
            "statusSummaryLastUpdatedAt": millis(now),
        }
    return shape


def child_summary(job: Job, index: int, now: float) -> Shape:
    assert job.children is not None
    child = job.children.child(index)
    shape = _summary(job, f"{job.id}:{index}", look_at(child, now), child.submitted_at, child)
    shape["arrayProperties"] = {"index": index}
    return shape


def _summary(job: Job, job_id: str, seen: Seen, created_at: float, execution: Execution) -> Shape:
    shape: Shape = {
        "jobArn": f"{job.queue.arn.partition(':job-queue/')[0]}:job/{job_id}",
        "jobId": job_id,
        "jobName": job.name,
        "createdAt": millis(created_at),
        "status": seen.status,
        "jobDefinition": job.definition.arn,
    }
    if seen.status_reason is not None:
        shape["statusReason"] = seen.status_reason
    if seen.started_at is not None:
        shape["startedAt"] = millis(seen.started_at)
    if seen.stopped_at is not None:
        shape["stoppedAt"] = millis(seen.stopped_at)
        if seen.attempts:
            last = seen.attempts[-1]
            pairs = (("exitCode", last.exit_code), ("reason", last.reason))
            shape["container"] = {name: value for name, value in pairs if value is not None}
    _mark_stopped(shape, execution, seen)
    return shape
