"""The IAM policies allow what the code calls, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controller.metric_table import OPERATIONS
from tests.cloudformation.aws_calls import AwsCall, calls, operations_reported, services
from tests.cloudformation.template import PATH, Statement, load, statements

DOCS = Path(__file__).parents[2] / "docs"
NEEDS_NO_PERMISSION = {"sts:GetCallerIdentity"}
IMPLIED = {
    "batch:SubmitJob": {"batch:TagResource"},  # submitting with tags
    "sqs:ReceiveMessage": {"kms:Decrypt"},  # from an encrypted queue
    "sqs:SendMessage": {"kms:GenerateDataKey", "kms:Decrypt"},  # to an encrypted queue
}
"""What AWS checks beside a call's own action."""
NO_RESOURCE_LEVEL = {
    "batch:DescribeJobs",
    "batch:ListJobs",
    "batch:DescribeJobQueues",
    "batch:DescribeComputeEnvironments",
}
"""AWS Batch user guide, "Supported resource-level permissions for AWS Batch API actions": not in its list."""


def needed() -> dict[str, list[str]]:
    """Action → where the code calls it."""
    wanted: dict[str, list[str]] = {}
    for call in calls():
        if call.action not in NEEDS_NO_PERMISSION:
            for action in {call.action, *IMPLIED.get(call.action, ())}:
                wanted.setdefault(action, []).append(call.where)
    return wanted


def allowed(resource: str) -> set[str]:
    return {action for statement in statements(resource) for action in statement.actions}


def test_the_calls_are_found_in_the_code() -> None:
    """The reading of the adapters finds the calls that are surely there; an empty reading would prove nothing."""
    found = {(call.service, call.operation) for call in calls()}
    assert services() == ("batch", "sqs", "sts")
    assert found >= {("batch", "SubmitJob"), ("batch", "DescribeJobs"), ("sqs", "ReceiveMessage")}
    assert {call.operation for call in calls()} == operations_reported(), "what is called is what is reported"
    assert operations_reported() == set(OPERATIONS)


def test_a_new_call_would_be_found(tmp_path: Path) -> None:
    """A call of any other method of a client is seen, called at once or handed on."""
    source = tmp_path / "new.py"
    source.write_text(
        "async def f(self):\n    await self._client.cancel_job(jobId='x')\n    g(self._sqs.purge_queue)\n"
    )
    assert calls([source]) == [AwsCall("batch", "CancelJob", "new.py:2"), AwsCall("sqs", "PurgeQueue", "new.py:3")]


def test_no_permission_is_missing() -> None:
    """Every call that the code can make is allowed."""
    missing = {action: where for action, where in needed().items() if action not in allowed("ControllerPolicy")}
    assert not missing


def test_no_permission_is_superfluous() -> None:
    """Nothing is allowed that no code calls, and no action is a pattern."""
    assert allowed("ControllerPolicy") <= needed().keys()
    assert not [action for action in allowed("ControllerPolicy") if "*" in action]


@pytest.mark.parametrize("policy", ["ControllerPolicy", "ProducerPolicy"])
def test_each_statement_allows_one_thing_with_a_name_of_its_own(policy: str) -> None:
    """One action a statement (KMS's pair excepted); the statement's name says what for."""
    found = statements(policy)
    assert len({statement.sid for statement in found}) == len(found)
    assert all(len(statement.actions) == 1 or statement.sid == "UseTheQueuesKey" for statement in found)
    assert all(re.fullmatch("[A-Za-z0-9]+", statement.sid) for statement in found), "IAM takes letters and digits only"


def test_only_reads_without_resource_level_permissions_are_on_every_resource() -> None:
    """`*` stands where AWS Batch takes nothing else, and only there."""
    on_everything = [statement for statement in statements("ControllerPolicy") if statement.body["Resource"] == "*"]
    assert {action for statement in on_everything for action in statement.actions} == NO_RESOURCE_LEVEL


def test_submit_is_allowed_on_job_queues_and_on_job_definitions() -> None:
    """AWS Batch asks for both; an ARN list of the parameters takes the place of the pattern."""
    resources = [_everywhere(s) for s in statements("ControllerPolicy") if "batch:SubmitJob" in s.actions]
    assert sorted(resource.rpartition(":")[2] for resource in resources) == ["job-definition/*", "job-queue/*"]


def _everywhere(statement: Statement) -> str:
    """The resource if the parameter is empty."""
    resource = statement.body["Resource"]["Fn::If"][2]["Fn::Sub"]
    assert isinstance(resource, str)
    return resource


def test_a_producer_may_send_requests_and_nothing_else() -> None:
    """Producers reach the request queue only: no receive, no other queue."""
    assert allowed("ProducerPolicy") == {"sqs:SendMessage", *IMPLIED["sqs:SendMessage"]}
    (send,) = [s for s in statements("ProducerPolicy") if "sqs:SendMessage" in s.actions]
    assert send.body["Resource"] == {"Fn::GetAtt": ["RequestQueue", "Arn"]}


def test_each_statement_has_its_reason_beside_it() -> None:
    """In the template a comment stands above each statement, or above the first of those for the same call."""
    text = PATH.read_text()
    lines = text[text.index("  ControllerPolicy:") : text.index("  ProducerPolicy:")].splitlines()
    first_of: dict[str, str] = {}
    for statement in statements("ControllerPolicy"):
        first_of.setdefault(",".join(sorted(statement.actions)), statement.sid)
    for sid in first_of.values():
        number = next(n for n, line in enumerate(lines) if line.endswith(f"Sid: {sid}"))
        above = [line.strip() for line in lines[:number] if line.strip() not in ("- !If", "- HasKey")]
        assert above[-1].startswith("#"), f"no reason above {sid}"


def test_every_permission_is_on_the_page_with_a_reason() -> None:
    """docs/aws.md has a row for each action of the policy; README's short table names each too."""
    page = (DOCS / "aws.md").read_text()
    rows = {action: row for row in page.splitlines() for action in re.findall(r"`((?:sqs|batch|kms):\w+)`", row)}
    assert allowed("ControllerPolicy") <= rows.keys()
    readme = (DOCS.parent / "README.md").read_text()
    assert {action for action in allowed("ControllerPolicy") if action.startswith(("sqs", "batch"))} <= set(
        re.findall(r"`((?:sqs|batch):\w+)`", readme)
    )


def test_the_role_can_be_assumed_by_one_service_account_only() -> None:
    """Both kinds of trust name cluster, namespace and service account exactly, without patterns."""
    document = load()["Resources"]["ControllerRole"]["Properties"]["AssumeRolePolicyDocument"]["Fn::If"]
    irsa, pod_identity = document[1]["Fn::Sub"][0], document[2]["Fn::Sub"]
    assert '"${Issuer}:sub": "system:serviceaccount:${ServiceAccountNamespace}:${ServiceAccountName}"' in irsa
    assert '"${Issuer}:aud": "sts.amazonaws.com"' in irsa
    assert '"aws:RequestTag/kubernetes-service-account": "${ServiceAccountName}"' in pod_identity
    assert "*" not in irsa + pod_identity
    assert "StringLike" not in irsa + pod_identity
