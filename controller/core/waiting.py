"""Why a job waits in RUNNABLE: a cause from a closed set, from what Batch says of the job, its queue, and the compute
environments.

Called by ``stages/diagnose.py``. Batch states a cause only for the job at the head of a queue, in its status reason
(AWS Batch user guide, "Jobs stuck in a RUNNABLE status"); everything else is inferred from states and positions, and
what can't be inferred is ``undetermined``. ``docs/reasons.md`` is made from the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from controller.core.events import WAIT_CAUSES
from controller.core.job import QueueStatus

STATUS_REASONS: Final[tuple[tuple[str, str], ...]] = (
    ("CAPACITY:", "insufficient_capacity"),
    ("MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS", "service_role"),
    ("MISCONFIGURATION:", "misconfigured_resources"),
    ("ACTION_REQUIRED", "compute_environment_invalid"),
    ("UNDETERMINED", "undetermined"),
)
"""Beginnings of the status reason of a job that blocks its queue; the first that matches decides."""

MEANINGS: Final[Mapping[str, str]] = {
    "insufficient_capacity": "No compute environment of the queue gets instances: offer more instance types or zones, "
    "or On-Demand beside Spot.",
    "misconfigured_resources": "The job asks for more than any compute environment of the queue can give, or for "
    "instances that can't be had: compare its vCPUs, memory and GPUs with `maxvCpus` and the instance types.",
    "service_role": "Batch's service role lacks a permission.",
    "compute_environment_invalid": "No compute environment of the queue is VALID. Their status reason is in `detail`.",
    "compute_environment_disabled": "No compute environment of the queue is ENABLED.",
    "job_queue_invalid": "The job queue itself is not VALID.",
    "max_vcpus_reached": "Every usable compute environment is at its `maxvCpus`: the queue works, at its limit.",
    "behind_other_jobs": "Other jobs are before it in the queue; `position` is its place, where it is among the first "
    "100.",
    "undetermined": "It should have been placed, and nothing says why it was not.",
}
"""Every cause, and what an operator is to make of it."""

assert set(MEANINGS) == set(WAIT_CAUSES)

BLOCKING: Final = frozenset(WAIT_CAUSES) - {"max_vcpus_reached", "behind_other_jobs"}
"""Causes for which a queue counts as blocked: no job of it will be placed until somebody does something, or until
capacity comes. ``undetermined`` is one only if Batch itself says so."""

ONLY_STATED: Final = frozenset(name for _, name in STATUS_REASONS) - {"compute_environment_invalid"}
"""Causes that are never inferred: Batch alone tells them, of a job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeEnvironment:
    """What DescribeComputeEnvironments says of one."""

    name: str
    arn: str
    state: str
    """ENABLED or DISABLED."""
    status: str
    """CREATING, UPDATING, DELETING, DELETED, VALID or INVALID."""
    status_reason: str = ""
    vcpus_max: int | None = None
    vcpus_desired: int | None = None
    """None where Batch does not scale it (Fargate, EKS, unmanaged)."""

    @property
    def is_full(self) -> bool:
        return self.vcpus_max is not None and self.vcpus_desired is not None and self.vcpus_desired >= self.vcpus_max

    @property
    def is_usable(self) -> bool:
        """UPDATING environments go on placing jobs."""
        return self.state == "ENABLED" and self.status in ("VALID", "UPDATING")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why jobs of a queue wait."""

    name: str
    detail: str = ""
    """What Batch said."""
    is_stated: bool = False
    """By Batch itself, of the job at the head."""

    @property
    def is_blocking(self) -> bool:
        return self.name in BLOCKING and (self.name != "undetermined" or self.is_stated)


def stated_cause(status_reason: str | None) -> Cause | None:
    """The cause that Batch states of the job at the head of a queue, if this status reason is one."""
    text = status_reason or ""
    for beginning, name in STATUS_REASONS:
        if text.startswith(beginning):
            return Cause(name=name, detail=text, is_stated=True)
    return None


def queue_cause(
    *,
    stated: Cause | None,
    queue: QueueStatus | None,
    environments: Sequence[ComputeEnvironment] | None,
) -> Cause | None:
    """The cause that holds for every job of a queue, if there is one. None for ``queue`` or ``environments``: it is
    not known what they are (a call failed, or is not allowed)."""
    if stated is not None and stated.name != "undetermined":
        return stated
    if environments:
        inferred = _environments_cause(environments)
        if inferred is not None:
            return inferred
    if queue is not None and queue.status == "INVALID":
        return Cause(name="job_queue_invalid", detail=queue.status_reason)
    return stated


def _environments_cause(environments: Sequence[ComputeEnvironment]) -> Cause | None:
    usable = [each for each in environments if each.is_usable]
    if not usable:
        broken = [each for each in environments if each.state == "ENABLED"]
        if broken:
            return Cause(name="compute_environment_invalid", detail=_told(broken))
        return Cause(name="compute_environment_disabled", detail=_told(environments))
    if all(each.is_full for each in usable):
        return Cause(
            name="max_vcpus_reached", detail=", ".join(f"{each.name}: maxvCpus {each.vcpus_max}" for each in usable)
        )
    return None


def _told(environments: Sequence[ComputeEnvironment]) -> str:
    return ", ".join(
        f"{each.name}: {each.state} {each.status}" + (f" ({each.status_reason})" if each.status_reason else "")
        for each in environments
    )


def job_cause(of_queue: Cause | None, *, position: int | None, is_front_full: bool) -> Cause:
    """Why one job waits. ``position`` is its place in the queue, from 1; None: it is not among the first, or the
    queue's front is not known, which ``is_front_full`` tells apart."""
    if of_queue is not None:
        return of_queue
    if (position is not None and position > 1) or (position is None and is_front_full):
        return Cause(name="behind_other_jobs")
    return Cause(name="undetermined")
