"""ListJobs: filters, statuses and pages.

Source: AWS Batch API reference, ListJobs. Without ``jobStatus`` only RUNNING jobs are returned; with ``filters`` the
status is ignored and a page holds at most 100. All results here are newest first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Any, Final

from controller.core import limits
from controller.simaws.answers import client_error
from controller.simaws.batch_resources import Job, JobQueue
from controller.simaws.batch_timeline import RUNNING, STATUSES, status_at
from controller.simaws.batch_views import child_summary, millis, summary

Shape = dict[str, Any]
PAGE_MAX: Final = 1_000

_FILTERS: Final = ("JOB_NAME", "JOB_DEFINITION", "BEFORE_CREATED_AT", "AFTER_CREATED_AT", "SHARE_IDENTIFIER")


def list_queue(
    request: Mapping[str, Any], queue: JobQueue, now: float, *, is_listed: Callable[[Job, float], bool]
) -> Shape:
    """One page of a queue's jobs (array parents, never their children)."""
    filters = request.get("filters") or []
    if len(filters) > 1:
        raise client_error("Error executing request, Exception : Only one filter is supported.")
    status = _status(request)
    if filters:
        name, values = str(filters[0].get("name")), [str(value) for value in filters[0].get("values") or ()]
        jobs, matches = _candidates(queue, name, values)
        wanted = status if name == "SHARE_IDENTIFIER" and request.get("jobStatus") else None
        size = min(_page_size(request), limits.LIST_JOBS_FILTERED_PAGE_MAX)
    else:
        jobs, matches, wanted, size = queue.jobs, _every, status, _page_size(request)
    position = bisect_left(jobs, _token(request), key=lambda job: job.serial) if request.get("nextToken") else len(jobs)
    page: list[Job] = []
    while position > 0:
        job = jobs[position - 1]
        if matches(job) and is_listed(job, now) and (wanted is None or job.status_at(now) == wanted):
            if len(page) == size:
                return {"jobSummaryList": [summary(j, now) for j in page], "nextToken": _encode(page[-1].serial)}
            page.append(job)
        position -= 1
    return {"jobSummaryList": [summary(job, now) for job in page]}


def list_children(request: Mapping[str, Any], job: Job, now: float) -> Shape:
    """One page of an array job's children in a status; filters do not apply to them."""
    children, status, size = job.children, _status(request), _page_size(request)
    assert children is not None
    if children.ready_at > now:
        return {"jobSummaryList": []}
    page: list[int] = []
    for index in range(_token(request) + 1 if request.get("nextToken") else 0, children.size):
        if status_at(children.child(index), now) == status:
            if len(page) == size:
                return {
                    "jobSummaryList": [child_summary(job, i, now) for i in page],
                    "nextToken": _encode(page[-1]),
                }
            page.append(index)
    return {"jobSummaryList": [child_summary(job, index, now) for index in page]}


def _candidates(queue: JobQueue, name: str, values: list[str]) -> tuple[list[Job], Callable[[Job], bool]]:
    """Jobs to look through, in order of submission, and the filter's test."""
    if name not in _FILTERS or not values:
        raise client_error(f"Error executing request, Exception : Unsupported filter {name}.")
    if name == "JOB_NAME":
        if len(values) == 1 and not values[0].endswith("*"):
            return queue.named(values[0]), _every
        lowered = [value.lower() for value in values]
        return queue.jobs, lambda job: any(_matches(value, job.name.lower()) for value in lowered)
    if name == "JOB_DEFINITION":
        return queue.jobs, lambda job: any(_matches(v, job.definition.name) or v == job.definition.arn for v in values)
    if name == "SHARE_IDENTIFIER":
        return queue.jobs, lambda job: job.request.get("shareIdentifier") in values
    if not values[0].isdecimal():
        raise client_error(f"Error executing request, Exception : {name} takes milliseconds since the epoch.")
    bound = int(values[0])
    if name == "BEFORE_CREATED_AT":
        return queue.jobs, lambda job: millis(job.submitted_at) < bound
    return queue.jobs, lambda job: millis(job.submitted_at) > bound


def _every(job: Job) -> bool:
    return True


def _matches(glob: str, value: str) -> bool:
    return value.startswith(glob[:-1]) if glob.endswith("*") else value == glob


def _status(request: Mapping[str, Any]) -> str:
    status = str(request.get("jobStatus") or RUNNING)
    if status not in STATUSES:
        raise client_error(f"Error executing request, Exception : Unknown job status {status}.")
    return status


def _page_size(request: Mapping[str, Any]) -> int:
    size = request.get("maxResults")
    if size is None:
        return limits.LIST_JOBS_FILTERED_PAGE_MAX if request.get("filters") else PAGE_MAX
    if not isinstance(size, int) or not 1 <= size <= PAGE_MAX:
        raise client_error("Error executing request, Exception : maxResults must be between 1 and 1000.")
    return size


def _encode(number: int) -> str:
    return f"after-{number}"


def _token(request: Mapping[str, Any]) -> int:
    prefix, _, number = str(request["nextToken"]).partition("-")
    if prefix != "after" or not number.isdecimal():
        raise client_error("Error executing request, Exception : Invalid nextToken.")
    return int(number)
