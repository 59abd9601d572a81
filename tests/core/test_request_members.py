"""Every rule of a message's members, at and beyond the edge of its range."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.adapters.batch_model import submit_job_shape
from controller.core.request import SUBMIT_MEMBERS
from controller.core.request_rules import ELSEWHERE
from tests.core.test_request import MESSAGE_ID, accepted, rejected

INVALID = [
    ({"jobName": "-a"}, "jobName: must be 1 to 128 letters"),
    ({"jobName": "a" * 129}, "jobName: must be 1 to 128 letters"),
    ({"jobName": ""}, "jobName: must be 1 to 128 letters"),
    ({"jobName": "a\n"}, "jobName: must be 1 to 128 letters"),
    ({"jobName": "é"}, "jobName: must be 1 to 128 letters"),
    ({"jobName": None}, "jobName: must not be null: give a string, or leave the member out"),
    ({"jobQueue": "a b"}, "jobQueue: must be a job queue's name"),
    ({"jobQueue": "arn:aws:sqs:eu-west-1:123456789012:high"}, "jobQueue: must be a job queue's name"),
    ({"jobDefinition": "render:0"}, "jobDefinition: must be a job definition's name"),
    ({"jobDefinition": "render:latest"}, "jobDefinition: must be a job definition's name"),
    ({"jobDefinition": "arn:aws:batch:eu-west-1:123456789012:job-queue/high"}, "jobDefinition: must be a job def"),
    ({"shareIdentifier": "team-a"}, "shareIdentifier: must be 1 to 255 letters and digits"),
    ({"shareIdentifier": "a" * 256}, "shareIdentifier: must be 1 to 255 letters and digits"),
    ({"schedulingPriorityOverride": 10_000}, "schedulingPriorityOverride: must be from 0 to 9,999"),
    ({"schedulingPriorityOverride": -1}, "schedulingPriorityOverride: must be from 0 to 9,999"),
    ({"arrayProperties": {"size": 1}}, "arrayProperties.size: must be from 2 to 10,000"),
    ({"arrayProperties": {"size": 10_001}}, "arrayProperties.size: must be from 2 to 10,000"),
    ({"arrayProperties": {"size": True}}, "arrayProperties.size: must be an integer"),
    ({"arrayProperties": {"size": 5.0}}, "arrayProperties.size: must be an integer"),
    ({"arrayProperties": {"size": "5"}}, "arrayProperties.size: must be an integer"),
    ({"arrayProperties": []}, "arrayProperties: must be an object, not an array"),
    ({"retryStrategy": {"attempts": 0}}, "retryStrategy.attempts: must be from 1 to 10"),
    ({"retryStrategy": {"attempts": 11}}, "retryStrategy.attempts: must be from 1 to 10"),
    ({"retryStrategy": {"evaluateOnExit": []}}, "retryStrategy.attempts: required with evaluateOnExit"),
    (
        {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT"}] * 6}},
        "retryStrategy.evaluateOnExit: must have at most 5 entries",
    ),
    (
        {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"onReason": "*"}]}},
        "retryStrategy.evaluateOnExit[0].action: required",
    ),
    (
        {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "STOP"}]}},
        "retryStrategy.evaluateOnExit[0].action: must be RETRY or EXIT, in any case",
    ),
    (
        {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT", "onReason": "x" * 513}]}},
        "retryStrategy.evaluateOnExit[0].onReason: must be 1 to 512 characters with * only at the end",
    ),
    (
        {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT", "onStatusReason": "*x"}]}},
        "retryStrategy.evaluateOnExit[0].onStatusReason: must be 1 to 512 characters with * only at the end",
    ),
    (
        {"retryStrategy": {"attempts": 2, "evaluateOnExit": [{"action": "EXIT", "onExitCode": "-1"}]}},
        "retryStrategy.evaluateOnExit[0].onExitCode: must be 1 to 512 digits with * only at the end",
    ),
    ({"timeout": {"attemptDurationSeconds": 59}}, "timeout.attemptDurationSeconds: must be at least 60"),
    ({"timeout": {"attemptDurationSeconds": 2**31}}, "timeout.attemptDurationSeconds: must be at least 60"),
    ({"propagateTags": 1}, "propagateTags: must be true or false, not an integer"),
    ({"tags": {f"k{n}": "v" for n in range(50)}}, "tags: must have at most 49 entries beside the one that"),
    ({"tags": {"k" * 129: "v"}}, f"tags.{'k' * 63}… (key): must have from 1 to 128 characters"),
    ({"tags": {"": "v"}}, "tags.? (key): must have from 1 to 128 characters"),
    ({"tags": {"k": "v" * 257}}, "tags.k: must have at most 256 characters"),
    ({"tags": {"AWS:x": "v"}}, "tags: must have no key that begins with aws:"),
    ({"tags": {"batch-controller/request-id": "other"}}, "tags.batch-controller/request-id: must be the request's own"),
    ({"tags": {"k": None}}, "tags.k: must not be null: give a string"),
    ({"parameters": {"k": 5}}, "parameters.k: must be a string, not a number: write it in quotes"),
    ({"dependsOn": [{"jobId": f"id-{n}"} for n in range(21)]}, "dependsOn: must name at most 20 jobs"),
    ({"dependsOn": [{}]}, "dependsOn[0].jobId: required, or requestId, unless type is SEQUENTIAL"),
    ({"dependsOn": [{"jobId": ""}]}, "dependsOn[0].jobId: must not be empty"),
    ({"dependsOn": [{"type": "N_TO_N"}]}, "dependsOn[0].jobId: required, or requestId, unless type is SEQUENTIAL"),
    ({"dependsOn": [{"type": "n_to_n", "jobId": "j"}]}, "dependsOn[0].type: must be N_TO_N or SEQUENTIAL"),
    ({"dependsOn": [{"type": "SEQUENTIAL"}]}, "dependsOn[0].type: SEQUENTIAL needs arrayProperties.size"),
    (
        {"dependsOn": [{"type": "SEQUENTIAL"}] * 2, "arrayProperties": {"size": 2}},
        "dependsOn: must have at most 1 entry of type SEQUENTIAL",
    ),
    (
        {"dependsOn": [{"type": "SEQUENTIAL", "jobId": "j"}], "arrayProperties": {"size": 2}},
        "dependsOn[0].jobId: must be left out with type SEQUENTIAL",
    ),
    ({"containerOverrides": {"command": ["a", ""]}}, "containerOverrides.command[1]: must not be an empty string"),
    (
        {"containerOverrides": {"environment": [{"name": "AWS_BATCH_JOB_ID", "value": "x"}]}},
        "containerOverrides.environment[0].name: must not begin with AWS_BATCH",
    ),
    (
        {"containerOverrides": {"resourceRequirements": [{"type": "CPU", "value": "1"}]}},
        "containerOverrides.resourceRequirements[0].type: must be GPU, VCPU or MEMORY",
    ),
    (
        {"containerOverrides": {"resourceRequirements": [{"type": "VCPU", "value": 1}]}},
        "containerOverrides.resourceRequirements[0].value: must be a string, not a number: write it in quotes",
    ),
    (
        {"containerOverrides": {"resourceRequirements": [{"type": "VCPU"}]}},
        "containerOverrides.resourceRequirements[0].value: required",
    ),
    ({"containerOverrides": {"vcpus": 2**31}}, "containerOverrides.vcpus: must be from -2,147,483,648"),
    ({"nodeOverrides": {"numNodes": 0}}, "nodeOverrides.numNodes: must be at least 1"),
    (
        {"nodeOverrides": {"nodePropertyOverrides": [{}]}},
        "nodeOverrides.nodePropertyOverrides[0].targetNodes: required",
    ),
    (
        {"nodeOverrides": {"nodePropertyOverrides": [{"targetNodes": "0-3"}]}},
        "nodeOverrides.nodePropertyOverrides[0].targetNodes: must be a range of node indexes such as 0:3, :3 or 4:",
    ),
    (
        {"nodeOverrides": {"nodePropertyOverrides": [{"targetNodes": "0:", "containerOverrides": {"command": [""]}}]}},
        "nodeOverrides.nodePropertyOverrides[0].containerOverrides.command[0]: must not be an empty string",
    ),
    ({"ecsPropertiesOverride": {"taskProperties": [{}, {}]}}, "ecsPropertiesOverride.taskProperties: must have at mo"),
    (
        {"eksPropertiesOverride": {"podProperties": {"containers": [{"env": [{"name": "AWS_BATCH"}]}]}}},
        "eksPropertiesOverride.podProperties.containers[0].env[0].name: must not begin with AWS_BATCH",
    ),
    (
        {"eksPropertiesOverride": {"podProperties": {"containers": [{"resources": {"limits": {"cpu": ""}}}]}}},
        "eksPropertiesOverride.podProperties.containers[0].resources.limits.cpu: must have from 1 to 256 characters",
    ),
    ({"priority": 1_001}, "priority: must be from -1,000 to 1,000"),
    ({"priority": False}, "priority: must be an integer and be from -1,000 to 1,000, not a boolean"),
    ({"priority": None}, "priority: must not be null"),
    ({"requestId": None}, "requestId: must be a string, not null"),
    ({"requestId": ""}, "requestId: must be 1 to 128 of letters, digits and _ . : / = + @ -"),
    ({"requestId": "a\n"}, "requestId: must be 1 to 128 of letters"),
    ({"requestId": "a b"}, "requestId: must be 1 to 128 of letters"),
    ({"requestId": "a" * 129}, "requestId: must be 1 to 128 of letters"),
    ({"expiresAt": None}, "expiresAt: must be a time as RFC 3339 writes it"),
    ({"expiresAt": "2030-01-31T12:00:00"}, "expiresAt: must be a time as RFC 3339 writes it, with Z or an offset"),
    ({"expiresAt": "2030-02-30T12:00:00Z"}, "expiresAt: must be a time as RFC 3339 writes it"),
    ({"expiresAt": "2030-01-31T12:00:00+24:00"}, "expiresAt: must be a time as RFC 3339 writes it"),
    ({"expiresAt": 1_900_000_000}, "expiresAt: must be a time as RFC 3339 writes it"),
    ({"action": "resubmit"}, "action: must be submit or cancel"),
    ({"action": None}, "action: must be submit or cancel"),
    ({"jobname": "a"}, "jobname: not a member of the message; the nearest is jobName"),
    ({"prioritiy": 1}, "prioritiy: not a member of the message; the nearest is priority"),
    (
        {"containerOverrides": {"enviroment": []}},
        "containerOverrides.enviroment: not a member of containerOverrides; the nearest is environment",
    ),
    (
        {"containerOverrides": {"environment": [{"Name": "A"}]}},
        "containerOverrides.environment[0].Name: not a member of containerOverrides.environment[0]; the nearest is n",
    ),
    ({"clientToken": "t"}, "clientToken: not a member of the message"),
    ({"https://u:pw@host": 1}, "has an unknown member whose name is not shown; members of the message: jobName, "),
]


@pytest.mark.parametrize(("members", "problem"), INVALID, ids=[problem[:60] for _, problem in INVALID])
def test_member_that_breaks_a_rule_is_refused_with_path_and_rule(members: dict[str, Any], problem: str) -> None:
    """Each rule names the member's path and what would be right, and is the only problem reported for it."""
    rejection = rejected(**members)
    assert [text for text in rejection.problems if text.startswith(problem)], rejection.problems
    assert len(rejection.problems) == 1
    assert rejection.error_code == "invalid_request"
    assert rejection.reason_class == "invalid_request"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("job_name", "jobName"),
        ("queue", "jobQueue"),
        ("retry", "retryStrategy"),
        ("dependencies", "dependsOn"),
        ("JobDefinition", "jobDefinition"),
        ("clientToken", None),
        ("comment", None),
        ("id", None),
        ("t", None),
    ],
)
def test_an_unknown_member_is_answered_only_by_one_that_is_like_it(name: str, meant: str | None) -> None:
    """By its letters, or as its beginning; another would mislead."""
    says = "not a member of the message" + (f"; the nearest is {meant}" if meant else "")
    assert rejected(**{name: "x"}).problems == (f"{name}: {says}",)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("vcpus", 'is an entry of containerOverrides.resourceRequirements, such as {"type": "VCPU", "value": "4"}'),
        (
            "memory",
            'is an entry of containerOverrides.resourceRequirements, such as {"type": "MEMORY", "value": "8192"}',
        ),
        ("Environment", "belongs below another: containerOverrides.environment"),
        ("attemptDurationSeconds", "belongs below another: timeout.attemptDurationSeconds"),
        ("tenant", "is an attribute of the SQS message, beside the body"),
        ("delaySeconds", "is a parameter of SQS's SendMessage, beside the body"),
    ],
)
def test_a_member_of_another_place_is_told_where_it_belongs(name: str, where: str) -> None:
    """At the top of the message alone."""
    assert rejected(**{name: 1}).problems == (f"{name}: not a member of the message; it {where}",)
    (problem,) = rejected(timeout={"attemptDurationSeconds": 60, "tenant": 1}).problems
    assert problem == "timeout.tenant: not a member of timeout, which has attemptDurationSeconds"


def test_members_belong_where_they_are_said_to() -> None:
    """In the SDK's model, and nothing that the message itself has is said to belong elsewhere."""
    shapes = submit_job_shape()
    for name, text in ELSEWHERE.items():
        assert name not in {member.lower() for member in (*shapes.members, *SUBMIT_MEMBERS)}
        if "below another" in text:
            owner, member = text.rpartition(": ")[2].split(".")
            assert member in shapes.members[owner].members


VALID: list[dict[str, Any]] = [
    {"jobName": "a" * 128},
    {"jobName": "0_a-Z"},
    {"jobQueue": "arn:aws:batch:eu-west-1:123456789012:job-queue/high"},
    {"jobDefinition": "render"},
    {"jobDefinition": "arn:aws:batch:eu-west-1:123456789012:job-definition/render"},
    {"jobDefinition": "arn:aws-us-gov:batch:eu-west-1:123456789012:job-definition/render:12"},
    {"shareIdentifier": "teamA*"},
    {"schedulingPriorityOverride": 0},
    {"arrayProperties": {}},
    {"arrayProperties": {"size": 10_000}, "dependsOn": [{"type": "SEQUENTIAL"}]},
    {"dependsOn": [{"jobId": f"id-{n}"} for n in range(20)]},
    {"dependsOn": [{"jobId": "id", "type": "N_TO_N"}], "arrayProperties": {"size": 2}},
    {"retryStrategy": {"attempts": 10, "evaluateOnExit": [{"action": "rEtRy", "onReason": "x" * 511 + "*"}]}},
    {"retryStrategy": {"attempts": 1, "evaluateOnExit": [{"action": "exit", "onExitCode": "13*"}]}},
    {"timeout": {"attemptDurationSeconds": 60}},
    {"tags": {}},
    {"tags": {f"k{n}": "v" for n in range(49)}},
    {"tags": {"k" * 128: "v" * 256, "empty": ""}},
    {"tags": {**{f"k{n}": "v" for n in range(49)}, "batch-controller/request-id": MESSAGE_ID}},
    {"containerOverrides": {"environment": [{"name": "aws_batch_x", "value": ""}], "vcpus": 2, "memory": 4}},
    {"nodeOverrides": {"numNodes": 4, "nodePropertyOverrides": [{"targetNodes": t} for t in ("0:3", ":3", "4:", "0")]}},
    {"consumableResourcePropertiesOverride": {"consumableResourceList": [{"quantity": 2**40}]}},
    {"propagateTags": False},
    {"action": "submit", "priority": -1_000},
    {"requestId": "Az09_.:/=+@-"},
    {"expiresAt": "2030-01-31t12:00:00.5+05:30"},
]


@pytest.mark.parametrize("members", VALID, ids=[json.dumps(members)[:50] for members in VALID])
def test_member_at_the_edge_of_its_range_is_accepted(members: dict[str, Any]) -> None:
    """What AWS documents as allowed is accepted, up to the last value."""
    accepted(**members)
