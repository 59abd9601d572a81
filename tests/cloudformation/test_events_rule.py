"""The EventBridge rule lets through what the controller consumes, and nothing else."""

from __future__ import annotations

import json
from typing import Any

from tests.cloudformation.conftest import ACCOUNT, REGION, Create, Stack

JOB_ID = "4c7599ae-0a82-49aa-ba5a-4727fcce14a8"
STATUSES = ("PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED")
CHANGE = "Batch Job State Change"
BLOCKED = "Batch Job Queue Blocked"


def job(job_id: str = JOB_ID, *, queue: str = "high", status: str = "RUNNABLE", **members: Any) -> dict[str, Any]:
    """``detail`` of an event, after the sample of AWS Batch's user guide."""
    return {
        "jobArn": f"arn:aws:batch:{REGION}:{ACCOUNT}:job/{job_id}",
        "jobName": "event-test",
        "jobId": job_id,
        "jobQueue": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{queue}",
        "status": status,
        "attempts": [],
        "createdAt": 1641944200058,
        "retryStrategy": {"attempts": 2, "evaluateOnExit": []},
        "dependsOn": [],
        "jobDefinition": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/first-run-job-definition:1",
        "parameters": {},
        "container": {"image": "busybox", "command": ["sleep", "600"], "environment": [], "mountPoints": []},
        "tags": {"resourceArn": f"arn:aws:batch:{REGION}:{ACCOUNT}:job/{job_id}"},
        "propagateTags": False,
        "platformCapabilities": [],
        **members,
    }


WANTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{status: ("aws.batch", CHANGE, job(status=status)) for status in STATUSES},
    "blocked": ("aws.batch", BLOCKED, job(statusReason="CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - ...")),
    "array parent": ("aws.batch", CHANGE, job(status="PENDING", arrayProperties={"size": 10, "statusSummary": {}})),
    "multi-node parent": ("aws.batch", CHANGE, job(nodeProperties={"numNodes": 2, "mainNode": 0})),
}
UNWANTED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a program that says so": ("my.batch", CHANGE, job()),
    "another service": ("aws.ecs", "ECS Task State Change", {"lastStatus": "RUNNING"}),
    "another detail type": ("aws.batch", "Batch Service Job State Change", job()),
    "array child": ("aws.batch", CHANGE, job(f"{JOB_ID}:7", arrayProperties={"index": 7})),
    "first array child": ("aws.batch", CHANGE, job(f"{JOB_ID}:0", arrayProperties={"index": 0})),
    "node": ("aws.batch", CHANGE, job(f"{JOB_ID}#0", nodeDetails={"nodeIndex": 0, "isMainNode": True})),
}


def delivered(stack: Stack, events: dict[str, tuple[str, str, dict[str, Any]]]) -> set[str]:
    """Which of the events arrive in the events queue."""
    bridge, sqs = stack.client("events"), stack.client("sqs")
    for name, (source, detail_type, detail) in events.items():
        entry = {"Source": source, "DetailType": detail_type, "Detail": json.dumps({**detail, "jobName": name})}
        assert bridge.put_events(Entries=[entry])["FailedEntryCount"] == 0
    names = []
    while found := sqs.receive_message(
        QueueUrl=stack.outputs["EventsQueueUrl"], MaxNumberOfMessages=10, WaitTimeSeconds=0
    ).get("Messages"):
        names += [json.loads(message["Body"])["detail"]["jobName"] for message in found]
    assert len(names) == len(set(names))
    return set(names)


def test_every_event_that_says_look_now_arrives_and_no_other(create: Create) -> None:
    """State changes and blocked queues of jobs that the controller follows pass; children, other sources and other
    detail types do not."""
    assert delivered(create(), {**WANTED, **UNWANTED}) == set(WANTED)


def test_events_of_other_job_queues_are_left_out_once_job_queues_are_given(create: Create) -> None:
    """The rule is limited to the job queues that the controller may submit to."""
    high = f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/high"
    other = {"other queue": ("aws.batch", CHANGE, job(queue="other")), "prefix": ("aws.batch", CHANGE, job(queue="hi"))}
    assert delivered(create(JobQueueArns=high), {**WANTED, **UNWANTED, **other}) == set(WANTED)


def test_a_disabled_rule_delivers_nothing(create: Create) -> None:
    """EventRuleState DISABLED is what the rule is created with."""
    (rule,) = create(EventRuleState="DISABLED").client("events").list_rules()["Rules"]
    assert rule["State"] == "DISABLED"


def test_the_message_is_the_whole_event_and_eventbridge_needs_no_role(create: Create) -> None:
    """No transformation, no RoleArn (with an SQS target delivery may then fail)."""
    events = create().client("events")
    (rule,) = events.list_rules()["Rules"]
    (target,) = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    assert target.keys() == {"Id", "Arn", "RetryPolicy"}
    assert len(rule["EventPattern"]) < 4096
