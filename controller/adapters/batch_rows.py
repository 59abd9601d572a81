"""Rows of ListJobs and other answers of AWS Batch, as the SDK parses them, made into the core's records.

Used by ``batch.py`` only. A row without what tells whose it is gives None: the whole answer is then no answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from controller.core.children import FailedChild
from controller.core.waiting import ComputeEnvironment

_CHILD_ID: Final = re.compile(r".+[:#](\d+)")
"""An array's child is ``<job id>:<index>``, a node ``<job id>#<index>``."""


def failed_child(row: Mapping[str, Any]) -> FailedChild | None:
    """A child of an array job or a node of a multi-node job. Its index is in its id, and in most answers also in a
    member of its own."""
    container = _mapping(row, "container")
    node = _mapping(row, "nodeProperties")
    index = _mapping(row, "arrayProperties").get("index", node.get("nodeIndex"))
    if not isinstance(index, int):
        match = _CHILD_ID.fullmatch(str(row.get("jobId")))
        if match is None:
            return None
        index = int(match[1])
    exit_code = container.get("exitCode")
    return FailedChild(
        index=index,
        exit_code=exit_code if isinstance(exit_code, int) else None,
        reason=_text(container, "reason"),
        status_reason=_text(row, "statusReason"),
        is_stopped=bool(row.get("isCancelled") or row.get("isTerminated")),
        is_main_node=bool(node.get("isMainNode")),
    )


def compute_environment(row: Mapping[str, Any]) -> ComputeEnvironment | None:
    name = _text(row, "computeEnvironmentName")
    if name is None:
        return None
    resources = _mapping(row, "computeResources")
    most, desired = resources.get("maxvCpus"), resources.get("desiredvCpus")
    return ComputeEnvironment(
        name=name,
        arn=_text(row, "computeEnvironmentArn") or "",
        state=_text(row, "state") or "",
        status=_text(row, "status") or "",
        status_reason=_text(row, "statusReason") or "",
        vcpus_max=most if isinstance(most, int) else None,
        vcpus_desired=desired if isinstance(desired, int) else None,
    )


def environments_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """A job queue's compute environments, in the order in which they are tried."""
    orders = [order for order in row.get("computeEnvironmentOrder") or () if isinstance(order, Mapping)]
    orders.sort(key=lambda order: order.get("order") or 0)
    return tuple(str(order["computeEnvironment"]) for order in orders if order.get("computeEnvironment"))


def job_id_in(row: Mapping[str, Any]) -> str | None:
    """Id of a job that is told by its ARN."""
    arn = _text(row, "jobArn")
    return None if arn is None else arn.partition(":job/")[2] or None


def _mapping(row: Mapping[str, Any], member: str) -> Mapping[str, Any]:
    found = row.get(member)
    return found if isinstance(found, Mapping) else {}


def _text(row: Mapping[str, Any], member: str) -> str | None:
    found = row.get(member)
    return found if isinstance(found, str) and found else None
