"""Reason classes against the messages that AWS documents, or that were seen in the field."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core.children import FailedChild, summarise
from controller.core.events import REASON_CLASSES
from controller.core.job import Attempt, BatchStatus, Observation
from controller.core.reasons import BATCH_SAYS, CONTAINER_SAYS, MEANINGS, classify, classify_texts
from tests.core.test_lifecycle import queued

EXITED = "Essential container in task exited"

MESSAGES: list[tuple[str, str | None, str | None, int | None, str, str]] = [
    # status reason, container's reason, exit code, class, source
    ("app", EXITED, None, 1, "application_exit_code", "Batch user guide, Job states; API, ContainerDetail.exitCode"),
    ("sigkill", EXITED, None, 137, "application_exit_code", "Batch user guide, Job timeouts: SIGKILL is 137"),
    (
        "spot on EC2",
        "Host EC2 (instance i-0a1b2c3d4e5f60718) terminated.",
        None,
        None,
        "spot_reclaim",
        "Batch user guide, Automated job retries: onStatusReason 'Host EC2*'; CDK, Reason.SPOT_INSTANCE_RECLAIMED",
    ),
    (
        "spot on EC2, exit code of the SIGTERM",
        "Host EC2 (instance i-0a1b2c3d4e5f60718) terminated.",
        None,
        143,
        "spot_reclaim",
        "Batch user guide, Automated job retries",
    ),
    ("stopped host", "Host EC2 (instance i-01) stopped.", None, None, "host_lost", "ECS, Stopped tasks error codes"),
    (
        "spot on Fargate",
        "Your Spot Task was interrupted.",
        None,
        None,
        "spot_reclaim",
        "ECS, Stopped tasks error codes: SpotInterruption",
    ),
    (
        "memory",
        EXITED,
        "OutOfMemoryError: Container killed due to memory usage",
        137,
        "out_of_memory",
        "ECS, Troubleshooting OutOfMemoryError errors",
    ),
    (
        "memory on EKS",
        None,
        "OOMKilled",
        137,
        "out_of_memory",
        "Kubernetes, Assign Memory Resources: exceeding a limit",
    ),
    ("timeout", "Job attempt duration exceeded timeout", None, 137, "timeout", "Batch user guide, Job timeouts"),
    ("deadline on EKS", None, "DeadlineExceeded", None, "timeout", "Kubernetes, Pod activeDeadlineSeconds"),
    ("dependency", "Dependent Job failed", None, None, "dependency_failed", "Batch user guide, Job dependencies"),
    ("array", "Array Child Job failed", None, None, "array_child_failed", "Batch user guide, Array jobs"),
    (
        "image",
        "Task failed to start",
        "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found",
        None,
        "image_pull",
        "ECS, CannotPullContainer task errors; Batch user guide, Automated job retries",
    ),
    (
        "image named in the status reason",
        "CannotPullContainerError: API error (404): repository x not found",
        None,
        None,
        "image_pull",
        "ECS, CannotPullContainer task errors",
    ),
    ("image on EKS", None, "ImagePullBackOff", None, "image_pull", "Kubernetes, Images: ImagePullBackOff"),
    ("image error on EKS", None, "ErrImagePull", None, "image_pull", "Kubernetes, Images"),
    (
        "resources",
        "ResourceInitializationError: unable to pull secrets or registry auth",
        None,
        None,
        "start_failed",
        "ECS, ResourceInitializationError errors",
    ),
    (
        "entry point",
        "Task failed to start",
        "CannotStartContainerError: failed to get container status",
        None,
        "start_failed",
        "ECS, CannotStartContainerError errors",
    ),
    ("docker", "DockerTimeoutError: Could not transition to created", None, None, "start_failed", "ECS, error codes"),
    ("start", "Task failed to start", None, None, "start_failed", "ECS API, Task.stopCode TaskFailedToStart"),
    (
        "a start that took too long for the agent",
        EXITED,
        "CannotStartContainerError: Error response from daemon: rpc error: code = DeadlineExceeded",
        None,
        "start_failed",
        "ECS, CannotStartContainerError errors; gRPC, Status codes",
    ),
    (
        "role",
        "ECS was unable to assume the role 'arn:aws:iam::123456789012:role/job' that was provided for this task.",
        None,
        None,
        "start_failed",
        "seen in the field",
    ),
    (
        "network on Fargate",
        "Timeout waiting for network interface provisioning to complete.",
        None,
        None,
        "start_failed",
        "seen in the field",
    ),
    (
        "network",
        "Unexpected EC2 error while attempting to Create Network Interface in subnet 'subnet-0a1b2c3d'",
        None,
        None,
        "start_failed",
        "ECS, Stopped tasks error codes: TaskFailedToStart",
    ),
    ("start on EKS", None, "CreateContainerConfigError", None, "start_failed", "Kubernetes, Debug Pods"),
    ("evicted", None, "Evicted", None, "host_lost", "Kubernetes, Node-pressure Eviction"),
    (
        "time limit",
        "Canceled by JobStateTimeLimit action due to reason: CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY",
        None,
        None,
        "time_limit",
        "Batch user guide, Jobs stuck in RUNNABLE due to capacity",
    ),
    ("queue", "JobQueue deleted", None, None, "queue_deleted", "seen in the field"),
    (
        "overrides",
        "Container Overrides length must be at most 8192",
        None,
        None,
        "overrides_too_long",
        "ECS API, RunTask: overrides",
    ),
    ("nothing", None, None, None, "unknown", "Batch API: every member is optional"),
    ("a success that failed", EXITED, None, 0, "unknown", "Batch API: every member is optional"),
]


@pytest.mark.parametrize(
    ("status_reason", "reason", "exit_code", "wanted"),
    [(said, reason, code, wanted) for _, said, reason, code, wanted, _ in MESSAGES],
    ids=[name for name, *_ in MESSAGES],
)
def test_a_documented_message_has_its_class(
    status_reason: str | None, reason: str | None, exit_code: int | None, wanted: str
) -> None:
    """Whether it stands in the job itself, in its last attempt, or in a child of an array."""
    whole = Observation(
        job_id="j",
        status=BatchStatus.FAILED,
        status_reason=status_reason,
        container_reason=reason,
        exit_code=exit_code,
    )
    last = Attempt(status_reason=status_reason, reason=reason, exit_code=exit_code)
    in_attempt = Observation(
        job_id="j", status=BatchStatus.FAILED, status_reason=status_reason, attempts=(last,), exit_code=exit_code
    )
    child = FailedChild(index=0, exit_code=exit_code, reason=reason, status_reason=status_reason)
    assert classify(queued(), whole) == wanted
    assert classify(queued(), in_attempt) == wanted
    assert child.reason_class == wanted


def test_every_rule_gives_a_class_of_the_closed_set_and_every_class_has_a_meaning() -> None:
    """The table, the event catalogue and the documentation have the same classes."""
    assert {rule.reason_class for rule in (*BATCH_SAYS, *CONTAINER_SAYS)} <= set(REASON_CLASSES)
    assert set(MEANINGS) == set(REASON_CLASSES)
    assert {wanted for *_, wanted, _ in MESSAGES} | {"cancelled", "terminated", "lost", "expired"} | {
        "refused", "invalid_request", "not_allowed", "conflict",
    } == set(REASON_CLASSES)  # fmt: skip


@pytest.mark.parametrize("flag", ["is_cancelled", "is_terminated"])
def test_a_job_stopped_by_somebody_else_is_terminated_whatever_they_wrote(flag: str) -> None:
    """The text of a stop is its caller's: words in it tell nothing."""
    members: dict[str, Any] = {flag: True, "status_reason": "stopped, it had an OutOfMemoryError", "exit_code": 137}
    seen = Observation(job_id="j", status=BatchStatus.FAILED, **members)
    assert classify(queued(), seen) == "terminated"


def test_a_job_stopped_by_a_cancel_of_ours_is_cancelled() -> None:
    """Only if it was stopped: one that failed by itself before the cancel got there has its own class."""
    job = queued(cancel_requested_at=1.0, cancel_reason="no longer wanted")
    stopped = Observation(job_id="j", status=BatchStatus.FAILED, status_reason="no longer wanted")
    failed = Observation(job_id="j", status=BatchStatus.FAILED, status_reason=EXITED, exit_code=3)
    assert classify(job, stopped) == "cancelled"
    assert classify(job, failed) == "application_exit_code"


@pytest.mark.parametrize(
    ("children", "wanted"),
    [
        pytest.param([FailedChild(index=0, exit_code=3, reason=EXITED)], "array_child_failed", id="by itself"),
        pytest.param(
            [FailedChild(index=0, exit_code=3), FailedChild(index=1, is_stopped=True)],
            "cancelled",
            id="one was stopped",
        ),
        pytest.param([FailedChild(index=0, status_reason="no longer wanted")], "cancelled", id="says the stop's text"),
        pytest.param([], "cancelled", id="none is known"),
    ],
)
def test_an_array_is_cancelled_unless_all_that_failed_of_it_failed_by_themselves(
    children: list[FailedChild], wanted: str
) -> None:
    """The parent tells nothing of a stop; the cancel may have come too late, or TerminateJob is denied."""
    job = queued(array_size=4, cancel_requested_at=1.0, cancel_reason="no longer wanted")
    told: dict[str, Any] = {"status_reason": "Array Child Job failed", "array_summary": {"FAILED": len(children)}}
    seen = Observation(job_id="j", status=BatchStatus.FAILED, children=summarise(children), **told)
    assert classify(job, seen) == wanted
    late = Observation(
        job_id="j", status=BatchStatus.FAILED, children=summarise(children, incomplete="deadline"), **told
    )
    assert classify(job, late) == "cancelled"


def test_a_success_has_no_class() -> None:
    """Whatever its texts say."""
    assert classify(queued(), Observation(job_id="j", status=BatchStatus.SUCCEEDED, status_reason="Host EC2")) is None


def test_the_end_of_a_multi_node_job_is_explained_by_its_main_node() -> None:
    """Where the job itself says nothing."""
    main = FailedChild(index=0, exit_code=137, reason="OutOfMemoryError: Container killed", is_main_node=True)
    children = summarise([main, FailedChild(index=1, exit_code=1, status_reason=EXITED)])
    seen = Observation(job_id="j", status=BatchStatus.FAILED, nodes=4, children=children)
    assert classify(queued(), seen) == "out_of_memory"


def test_texts_are_compared_without_case_and_odd_ones_do_no_harm() -> None:
    """Nothing that Batch can say raises."""
    for text in ("HOST EC2 (INSTANCE I-1) TERMINATED.", "host ec2 (instance i-1) terminated."):
        assert classify_texts(status_reason=text, reasons=(), exit_code=None, is_stopped=False) == "spot_reclaim"
    assert classify_texts(status_reason="\ud800", reasons=("", None), exit_code=2, is_stopped=False) == (
        "application_exit_code"
    )
