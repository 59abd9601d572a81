"""Why a job failed, as a class from a closed set (``events.REASON_CLASSES``).

The texts are those that AWS documents or that were seen in the field: "Job states", "Job timeouts",
"Automated job retries" and "Job dependencies" in the AWS Batch user guide, ECS "Stopped tasks error codes".
"""

from __future__ import annotations

from controller.core.job import BatchStatus, Job, Observation

_BY_TEXT: tuple[tuple[str, str], ...] = (
    ("job attempt duration exceeded timeout", "timeout"),
    ("dependent job failed", "dependency_failed"),
    ("your spot task was interrupted", "spot_reclaim"),
    ("spot interruption", "spot_reclaim"),
    ("host ec2", "host_lost"),
    ("outofmemoryerror", "out_of_memory"),
    ("oomkilled", "out_of_memory"),
    ("cannotpullcontainererror", "image_pull"),
    ("imagepullbackoff", "image_pull"),
    ("errimagepull", "image_pull"),
    ("task failed to start", "start_failed"),
    ("canceled by jobstatetimelimit", "cancelled"),
)
"""First match wins; compared in lower case against the status reason, then the container's reason."""


def classify(job: Job, seen: Observation) -> str | None:
    """Reason class of a final observation; None for a success."""
    if seen.status is not BatchStatus.FAILED:
        return None
    if seen.is_cancelled or seen.is_terminated or _was_our_cancel(job, seen):
        return "cancelled"
    texts = _texts(seen)
    for fragment, reason_class in _BY_TEXT:
        if any(fragment in text for text in texts):
            return reason_class
    if seen.exit_code not in (None, 0):
        return "application_exit_code"
    return "unknown"


def _was_our_cancel(job: Job, seen: Observation) -> bool:
    """TerminateJob's reason becomes the job's status reason; an array parent's speaks of its children only."""
    if job.cancel_requested_at is None:
        return False
    return job.is_array or seen.status_reason == terminate_reason(job)


def terminate_reason(job: Job) -> str:
    """What TerminateJob is told; never empty, which Batch refuses."""
    return job.cancel_reason or "Cancelled by request"


def _texts(seen: Observation) -> list[str]:
    last = seen.attempts[-1] if seen.attempts else None
    found = [seen.status_reason, seen.container_reason]
    if last is not None:
        found += [last.status_reason, last.reason]
    return [text.lower() for text in found if text]
