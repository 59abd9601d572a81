"""Requests that depend on other requests (``dependsOn[].requestId``): when one may be sent, and with which job ids.

AWS Batch takes the job ids of dependencies only. So a request that names other requests waits, QUEUED, until each of
them has a job, and is then sent with the ids of those jobs. Batch does the rest: it starts the job once they have
SUCCEEDED, and fails it if one of them FAILED.

A request named here may come later than the one that names it, as SQS promises no order. It may never come, or circles
may have been sent; so no request waits for longer than the time for which request ids are remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controller.core.job import Dependencies, Job, JobState, standing
from controller.core.lifecycle import DependenciesMet, DependencyEnded, Fact

Lives = Mapping[str, Sequence[Job]]
"""Lives of request ids, oldest first (``JobStore.find_requests``)."""

_BAD_ENDS = frozenset({JobState.FAILED, JobState.LOST, JobState.CANCELLED, JobState.REJECTED})


def judge(job: Job, depends_on: Sequence[str], lives: Lives, *, now: float, wait_s: float) -> Fact | None:
    """What the state of the requests ``depends_on`` means for a QUEUED job; None: nothing, for now.

    ``wait_s`` is for how long at most a job waits, from ``received_at`` on.
    """
    if job.state is not JobState.QUEUED or job.is_marked:
        return None  # sent already, as far as is known: Batch decides
    waits_for: list[str] = []
    for request_id in depends_on:
        known = lives.get(request_id, ())
        life = standing(known) or (known[-1] if known else None)  # else the latest that was rejected
        if life is not None and life.state in _BAD_ENDS:
            return DependencyEnded(reason=f"request {request_id}, which it depends on, ended {life.state}")
        if life is None or life.batch_job_id is None:
            waits_for.append(request_id)
    if job.dependencies is not Dependencies.UNMET:
        return None
    if not waits_for:
        return DependenciesMet()
    if now >= job.received_at + wait_s:
        what = "was not submitted" if lives.get(waits_for[0]) else "was not received"
        return DependencyEnded(reason=f"request {waits_for[0]}, which it depends on, {what} within {wait_s:.15g} s")
    return None


def circular(request_id: str) -> DependencyEnded:
    """What becomes of a request that closes a circle."""
    return DependencyEnded(reason=f"request {request_id} depends on itself, through the requests it depends on")


def job_ids(depended_on: Sequence[Job]) -> dict[str, str | None]:
    """The job id to send in place of each request id; None: none is needed, as that job has SUCCEEDED.

    Batch forgets jobs some time after their end, and refuses ids that it does not know. A job that FAILED is named all
    the same: then Batch tells the outcome.
    """
    return {
        job.request_id: None if job.state is JobState.SUCCEEDED else job.batch_job_id
        for job in depended_on
        if job.batch_job_id is not None
    }
