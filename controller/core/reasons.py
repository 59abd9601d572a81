"""Why a job failed, as a class from a closed set (``events.REASON_CLASSES``), from one table.

Rules are tried in order and the first that matches decides. They come in two parts. Sentences that AWS Batch itself
puts into the status reason are looked at first, as whole beginnings. Then comes whether somebody stopped the job: the
text that a CancelJob or TerminateJob leaves behind is whatever its caller wrote, and must not be searched for words.
Only then are the container's and the pod's reasons searched, then the exit code counts. ``docs/reasons.md`` is made
from the table, ``tests/core/test_reasons.py`` holds it against documented messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from controller.core.events import REASON_CLASSES
from controller.core.job import BatchStatus, Job, Observation

if TYPE_CHECKING:
    from controller.core.children import FailedChildren


@dataclass(frozen=True, slots=True)
class Rule:
    """A text that tells a class, in lower case."""

    text: str
    reason_class: str
    also: str = ""
    """A second fragment that must be there too."""


BATCH_SAYS: Final = (
    Rule("job attempt duration exceeded timeout", "timeout"),
    Rule("dependent job failed", "dependency_failed"),
    Rule("array child job failed", "array_child_failed"),
    Rule("canceled by jobstatetimelimit", "time_limit"),
    Rule("terminated by jobstatetimelimit", "time_limit"),
    Rule("jobqueue deleted", "queue_deleted"),
    Rule("container overrides length must be at most", "overrides_too_long"),
)
"""Beginnings of Batch's own status reasons."""

CONTAINER_SAYS: Final = (
    Rule("your spot task was interrupted", "spot_reclaim"),
    Rule("spotinterruption", "spot_reclaim"),
    Rule("spot interruption", "spot_reclaim"),
    Rule("host ec2", "spot_reclaim", also="terminated"),
    Rule("host ec2", "host_lost"),
    Rule("outofmemoryerror", "out_of_memory"),
    Rule("oomkilled", "out_of_memory"),
    Rule("cannotpullcontainererror", "image_pull"),
    Rule("cannotpullecrcontainererror", "image_pull"),
    Rule("cannotpullimagemanifesterror", "image_pull"),
    Rule("imagepullbackoff", "image_pull"),
    Rule("errimagepull", "image_pull"),
    Rule("errimageneverpull", "image_pull"),
    Rule("invalidimagename", "image_pull"),
    Rule("nodelost", "host_lost"),
    Rule("nodeshutdown", "host_lost"),
    Rule("evicted", "host_lost"),
    Rule("agent disconnected", "host_lost"),
    Rule("resourceinitializationerror", "start_failed"),
    Rule("cannotstartcontainererror", "start_failed"),
    Rule("cannotcreatecontainererror", "start_failed"),
    Rule("cannotcreatevolumeerror", "start_failed"),
    Rule("cannotinspectcontainererror", "start_failed"),
    Rule("containerruntimeerror", "start_failed"),
    Rule("containerruntimetimeouterror", "start_failed"),
    Rule("dockertimeouterror", "start_failed"),
    Rule("createcontainerconfigerror", "start_failed"),
    Rule("createcontainererror", "start_failed"),
    Rule("runcontainererror", "start_failed"),
    Rule("containercannotrun", "start_failed"),
    Rule("starterror", "start_failed"),
    Rule("was unable to assume the role", "start_failed"),
    Rule("network interface provisioning", "start_failed"),
    Rule("attempting to create network interface", "start_failed"),
    Rule("task failed to start", "start_failed"),
    Rule("deadlineexceeded", "timeout"),
)
"""Fragments of any status reason, of the job or its last attempt, and of any container's or pod's reason. The pod's
``DeadlineExceeded`` comes last: gRPC has a code of that name, which stands within errors of a start."""

MEANINGS: Final[Mapping[str, str]] = {
    "application_exit_code": "The container ended by itself with an exit code other than 0. Look at its log. 137 "
    "without another reason is a SIGKILL that nobody explained, often the kernel's for lack of memory.",
    "array_child_failed": "An array job of which at least one child failed; `failed_children` says which, and why.",
    "cancelled": "Cancelled by a message of ours, before or after it was submitted.",
    "conflict": "Another request with this id and other content was there first.",
    "dependency_failed": "A job or request that it depends on failed, or will never be submitted.",
    "expired": "`expiresAt` passed before it was submitted.",
    "host_lost": "The host went away, or its agent: stopped, shut down, evicted, disconnected. Retry it.",
    "image_pull": "The image could not be pulled: name, tag, permission, or network.",
    "invalid_request": "The message is not a valid request.",
    "lost": "AWS Batch no longer knows the job; its end was not seen.",
    "not_allowed": "The configured policy does not allow the request.",
    "out_of_memory": "The container used more memory than it had asked for. Ask for more.",
    "overrides_too_long": "The container overrides are longer than ECS takes (8,192 characters). Pass references.",
    "queue_deleted": "The job queue was deleted while the job was in it.",
    "refused": "AWS Batch refused the request for good.",
    "spot_reclaim": "The EC2 instance below it was terminated, as Spot reclaims do, or a Fargate Spot task was "
    "interrupted. Retry it. (Batch says the same of an On-Demand instance that was terminated.)",
    "start_failed": "The container could not be started: volumes, secrets, network, roles, entry point.",
    "terminated": "Stopped by somebody else, with CancelJob or TerminateJob; `reason` is what they wrote.",
    "time_limit": "Batch stopped it because it was RUNNABLE too long (`jobStateTimeLimitActions` of the job queue).",
    "timeout": "It ran longer than its `timeout` allows.",
    "unknown": "Nothing that Batch says tells why.",
}
"""Every class, and what an operator is to make of it."""

assert set(MEANINGS) == set(REASON_CLASSES)


def classify(job: Job, seen: Observation) -> str | None:
    """Reason class of a final observation; None for a success."""
    if seen.status is not BatchStatus.FAILED:
        return None
    if _was_our_cancel(job, seen):
        return "cancelled"
    found = classify_texts(
        status_reason=seen.status_reason,
        reasons=_reasons(seen),
        exit_code=seen.exit_code,
        is_stopped=seen.is_cancelled or seen.is_terminated,
    )
    main = seen.children.main_class if seen.children is not None else None
    return main if found == "unknown" and main is not None else found


def classify_texts(
    *, status_reason: str | None, reasons: Iterable[str | None], exit_code: int | None, is_stopped: bool
) -> str:
    """Class of what Batch says of a job, an array's child or a node that failed."""
    said = (status_reason or "").lower()
    for rule in BATCH_SAYS:
        if said.startswith(rule.text):
            return rule.reason_class
    if is_stopped:
        return "terminated"
    texts = [text.lower() for text in (status_reason, *reasons) if text]
    for rule in CONTAINER_SAYS:
        if any(rule.text in text and rule.also in text for text in texts):
            return rule.reason_class
    return "unknown" if exit_code in (None, 0) else "application_exit_code"


def _was_our_cancel(job: Job, seen: Observation) -> bool:
    """A cancel of ours counts only if the job was stopped: it may have ended by itself before the cancel got there.

    TerminateJob's reason becomes the job's status reason; an array parent's speaks of its children only, so it is
    they that tell.
    """
    if job.cancel_requested_at is None:
        return False
    if seen.is_cancelled or seen.is_terminated or seen.status_reason == terminate_reason(job):
        return True
    return job.is_array and not _failed_by_themselves(seen.children)


def _failed_by_themselves(children: FailedChildren | None) -> bool:
    """Whether each failed child of an array has a reason of its own, as far as surely all are known. One that was
    stopped has none, or says no more than the stop."""
    if children is None or not children.groups or children.incomplete or children.other_groups:
        return False
    return not any(group.reason_class in ("terminated", "unknown") for group in children.groups)


def terminate_reason(job: Job) -> str:
    """What TerminateJob is told; never empty, which Batch refuses."""
    return job.cancel_reason or "Cancelled by request"


def _reasons(seen: Observation) -> list[str | None]:
    last = seen.attempts[-1] if seen.attempts else None
    found = [seen.container_reason]
    return found if last is None else [*found, last.status_reason, last.reason]
