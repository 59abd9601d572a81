"""Causes of waiting, against what AWS documents of jobs stuck in RUNNABLE."""

from __future__ import annotations

from typing import Any

import pytest

from controller.core.job import QueueStatus
from controller.core.waiting import ComputeEnvironment, job_cause, queue_cause, stated_cause

# AWS Batch user guide, "Jobs stuck in a RUNNABLE status" and the pages below it.
STATED = [
    (
        "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for instance type "
        "[p5.48xlarge]",
        "insufficient_capacity",
    ),
    (
        "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the CPU "
        "requirement of the job.",
        "misconfigured_resources",
    ),
    (
        "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is higher than "
        "that can be met by the CE(s) attached to the job queue.",
        "misconfigured_resources",
    ),
    ("MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS – Batch service role has a permission issue.", "service_role"),
    (
        "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED - Your requested instance type (m9.large) is not "
        "supported in your requested Availability Zone",
        "misconfigured_resources",
    ),
    ("ACTION_REQUIRED - CE(s) associated with the job queue are invalid.", "compute_environment_invalid"),
    ("UNDETERMINED - Batch job is blocked, root cause is undetermined.", "undetermined"),
]


def environment(name: str = "ce", **members: Any) -> ComputeEnvironment:
    return ComputeEnvironment(**{"name": name, "arn": f"arn:{name}", "state": "ENABLED", "status": "VALID", **members})


def queue(**members: Any) -> QueueStatus:
    return QueueStatus(**{"name": "q", "arn": "arn:q", "state": "ENABLED", "status": "VALID", **members})


@pytest.mark.parametrize(("text", "cause"), STATED)
def test_what_batch_states_is_taken(text: str, cause: str) -> None:
    """By the beginning of the status reason, and the queue counts as blocked."""
    found = stated_cause(text)
    assert found is not None
    assert (found.name, found.detail, found.is_blocking) == (cause, text, True)


@pytest.mark.parametrize("text", [None, "", "Host EC2 (instance i-1) terminated.", "Task failed to start"])
def test_what_is_left_of_an_earlier_attempt_states_nothing(text: str | None) -> None:
    """A job that waits for its retry still has its last status reason."""
    assert stated_cause(text) is None


def test_states_of_compute_environments_explain_a_queue_of_which_batch_says_nothing() -> None:
    """None that is VALID, none that is ENABLED, all that are usable full."""
    invalid = environment("a", status="INVALID", status_reason="CLIENT_ERROR - Not authorized")
    disabled = environment("b", state="DISABLED")
    full = environment("c", vcpus_max=16, vcpus_desired=16)

    def cause(*environments: ComputeEnvironment) -> str | None:
        found = queue_cause(stated=None, queue=queue(), environments=environments)
        return None if found is None else found.name

    assert cause(invalid) == cause(invalid, disabled) == "compute_environment_invalid"
    assert cause(disabled) == "compute_environment_disabled"
    assert cause(full) == cause(full, disabled) == "max_vcpus_reached"
    assert cause(full, environment("d")) is None
    assert cause(environment("d", vcpus_max=16)) is None
    assert cause() is None
    found = queue_cause(stated=None, queue=queue(), environments=[invalid])
    assert found is not None
    assert "Not authorized" in found.detail


def test_batch_s_own_word_counts_before_ours_unless_it_knows_nothing() -> None:
    """UNDETERMINED gives way to what the states show."""
    disabled = [environment(state="DISABLED")]
    capacity, unknown = stated_cause("CAPACITY:X - y"), stated_cause("UNDETERMINED - z")
    first = queue_cause(stated=capacity, queue=queue(), environments=disabled)
    second = queue_cause(stated=unknown, queue=queue(), environments=disabled)
    third = queue_cause(stated=unknown, queue=None, environments=None)
    assert [each.name if each else None for each in (first, second, third)] == [
        "insufficient_capacity",
        "compute_environment_disabled",
        "undetermined",
    ]


def test_an_invalid_queue_explains_itself() -> None:
    """Where its environments look well."""
    found = queue_cause(stated=None, queue=queue(status="INVALID", status_reason="no"), environments=[environment()])
    assert found is not None
    assert (found.name, found.detail) == ("job_queue_invalid", "no")


def test_a_job_waits_for_those_before_it_and_the_first_for_nobody_knows_what() -> None:
    """Positions count from 1; beyond a full front a job is behind others, and without a front nothing is known."""
    assert job_cause(None, position=2, is_front_full=False).name == "behind_other_jobs"
    assert job_cause(None, position=None, is_front_full=True).name == "behind_other_jobs"
    assert job_cause(None, position=1, is_front_full=True).name == "undetermined"
    assert not job_cause(None, position=1, is_front_full=True).is_blocking
    assert job_cause(None, position=None, is_front_full=False).name == "undetermined"
