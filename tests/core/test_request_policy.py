"""Which queues, definitions, overrides and ARNs a controller lets through."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.adapters.batch_model import submit_job_shape
from controller.core.request import Policy, Rejection, Rules, Scope, SubmitRequest, parse
from controller.core.request_policy import OVERRIDES, REQUIRED_MEMBERS

ARN = "arn:aws:batch:{}:{}:{}"


def outcome(policy: Policy | None = None, scope: Scope | None = None, **more: Any) -> SubmitRequest | Rejection:
    rules = Rules(
        shapes=submit_job_shape(),
        policy=policy or Policy(),
        scope=scope or Scope(region="eu-west-1", account="123456789012"),
    )
    body = {"jobName": "a", "jobQueue": "high-eu", "jobDefinition": "render:3", **more}
    request = parse(json.dumps(body), message_id="m", rules=rules)
    assert isinstance(request, (SubmitRequest, Rejection))
    return request


@pytest.mark.parametrize(
    ("region", "account", "problem"),
    [
        ("us-east-1", "123456789012", "the ARN is of another Region than the controller's, eu-west-1"),
        ("eu-west-1", "999999999999", "the ARN is of another account than the controller's"),
    ],
)
def test_arn_of_another_account_or_region_is_refused(region: str, account: str, problem: str) -> None:
    """Queues and definitions of elsewhere are refused, both named at once."""
    rejection = outcome(
        jobQueue=ARN.format(region, account, "job-queue/high"),
        jobDefinition=ARN.format(region, account, "job-definition/render"),
    )
    assert isinstance(rejection, Rejection)
    assert rejection.problems == (f"jobQueue: {problem}", f"jobDefinition: {problem}")
    assert rejection.error_code == "wrong_scope"
    assert rejection.reason_class == "invalid_request"


def test_account_is_not_checked_before_it_is_known() -> None:
    """Until the controller knows its account, only the Region of an ARN is checked."""
    unknown = Scope(region="eu-west-1", account=None)
    assert isinstance(outcome(scope=unknown, jobQueue=ARN.format("eu-west-1", "9" * 12, "job-queue/q")), SubmitRequest)
    assert isinstance(outcome(scope=unknown, jobQueue=ARN.format("eu-west-2", "9" * 12, "job-queue/q")), Rejection)


@pytest.mark.parametrize(
    ("pattern", "is_allowed"),
    [("high-eu", True), ("high-*", True), ("*-eu", True), ("High-*", False), ("low-*", False), ("high", False)],
)
@pytest.mark.parametrize("queue", ["high-eu", ARN.format("eu-west-1", "123456789012", "job-queue/high-eu")])
def test_queue_patterns_are_compared_with_the_name(pattern: str, is_allowed: bool, queue: str) -> None:
    """A queue is let through by its name, whether the request gives name or ARN."""
    result = outcome(Policy(allowed_job_queues=("other", pattern)), jobQueue=queue)
    assert isinstance(result, SubmitRequest) is is_allowed
    if isinstance(result, Rejection):
        assert (result.error_code, result.reason_class) == ("not_allowed", "not_allowed")
        assert result.problems == ("jobQueue: policy.allowed_job_queues does not let this job queue through",)


@pytest.mark.parametrize(
    ("pattern", "definition", "is_allowed"),
    [
        ("render", "render:3", True),
        ("render", "render", True),
        ("render:3", "render:3", True),
        ("render:3", "render:4", False),
        ("render:3", "render", False),
        ("rend*", "render:3", True),
        ("render:*", "render", False),
        ("other", "render:3", False),
        ("render", ARN.format("eu-west-1", "123456789012", "job-definition/render:7"), True),
    ],
)
def test_definition_patterns_are_compared_with_name_and_revision(
    pattern: str, definition: str, is_allowed: bool
) -> None:
    """A pattern without a revision lets all through, one with it only that one."""
    result = outcome(Policy(allowed_job_definitions=(pattern,)), jobDefinition=definition)
    assert isinstance(result, SubmitRequest) is is_allowed


ENVIRONMENT = {"environment": [{"name": "A", "value": "1"}]}


@pytest.mark.parametrize(
    ("allowed", "members", "refused"),
    [
        ((), {}, []),
        ((), {"priority": 1, "requestId": "r", "expiresAt": "2030-01-01T00:00:00Z"}, []),
        ((), {"timeout": {"attemptDurationSeconds": 60}}, ["timeout"]),
        (("*",), {"timeout": {"attemptDurationSeconds": 60}, "containerOverrides": ENVIRONMENT}, []),
        (("containerOverrides",), {"containerOverrides": ENVIRONMENT}, []),
        (("containerOverrides.environment",), {"containerOverrides": ENVIRONMENT}, []),
        (("containerOverrides.environment",), {"containerOverrides": {}}, []),
        (
            ("containerOverrides.environment",),
            {"containerOverrides": {"command": ["a"], **ENVIRONMENT}, "tags": {"a": "b"}},
            ["containerOverrides.command", "tags"],
        ),
        (
            ("containerOverrides.environment.name",),
            {"containerOverrides": ENVIRONMENT},
            ["containerOverrides.environment[0].value"],
        ),
        (("tags.team", "tags.cost*"), {"tags": {"team": "a", "cost-centre": "b", "x": "c"}}, ["tags.x"]),
        (("parameters.in", "dependsOn"), {"parameters": {"in": "a"}, "dependsOn": [{"jobId": "j"}]}, []),
        (
            ("nodeOverrides.nodePropertyOverrides.*.environment", "nodeOverrides.nodePropertyOverrides.targetNodes"),
            {
                "nodeOverrides": {
                    "nodePropertyOverrides": [{"targetNodes": "0", "containerOverrides": ENVIRONMENT}],
                    "numNodes": 2,
                }
            },
            ["nodeOverrides.numNodes"],
        ),
        (
            ("timeout.attemptDurationSeconds.x",),
            {"timeout": {"attemptDurationSeconds": 60}},
            ["timeout.attemptDurationSeconds"],
        ),
    ],
)
def test_overrides_are_let_through_by_path(
    allowed: tuple[str, ...], members: dict[str, Any], refused: list[str]
) -> None:
    """An override passes if its path, or one above it, is named; the controller's own members always pass."""
    result = outcome(Policy(allowed_overrides=allowed), **members)
    if refused:
        assert isinstance(result, Rejection)
        text = "policy.allowed_overrides does not let this member through"
        assert result.problems == tuple(f"{path}: {text}" for path in refused)
        assert result.error_code == "not_allowed"
    else:
        assert isinstance(result, SubmitRequest), result


def test_code_is_that_of_the_gravest_problem() -> None:
    """A body that is both invalid and not allowed is told both, and counted as invalid."""
    result = outcome(Policy(allowed_job_queues=("none",)), priority=5_000)
    assert isinstance(result, Rejection)
    assert len(result.problems) == 2
    assert (result.error_code, result.reason_class) == ("invalid_request", "invalid_request")


def test_the_configuration_knows_every_override_that_the_sdk_takes() -> None:
    """A member of SubmitJob can be allowed by its name if it is listed here."""
    members = submit_job_shape().members
    assert members is not None
    assert set(OVERRIDES) == set(members) - REQUIRED_MEMBERS
