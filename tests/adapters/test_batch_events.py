"""EventBridge's events about AWS Batch: read as far as needed, and never a reason to fail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.adapters.batch_events import decode_event
from controller.core.hints import EventOutcome, JobEvent
from controller.core.job import BatchStatus
from controller.simaws import Rule, SimAws
from controller.simaws.profile import Profile

JOB_ID = "4c7599ae-0a82-49aa-ba5a-4727fcce14a8"
ARN = f"arn:aws:batch:us-east-1:123456789012:job/{JOB_ID}"
DETAIL: dict[str, Any] = {
    "jobArn": ARN,
    "jobName": "event-test",
    "jobId": JOB_ID,
    "jobQueue": "arn:aws:batch:us-east-1:123456789012:job-queue/Q",
    "status": "RUNNABLE",
    "attempts": [],
    "createdAt": 1641944200058,
    "retryStrategy": {"attempts": 2, "evaluateOnExit": []},
    "dependsOn": [],
    "jobDefinition": "arn:aws:batch:us-east-1:123456789012:job-definition/first-run-job-definition:1",
    "parameters": {},
    "container": {"image": "137112412989.dkr.ecr.us-east-1.amazonaws.com/amazonlinux:latest", "command": ["sleep"]},
    "tags": {"resourceArn": ARN},
    "propagateTags": False,
    "platformCapabilities": [],
}
"""The example of AWS Batch's user guide, shortened."""


def body(detail: Any = None, **members: Any) -> str:
    event = {
        "version": "0",
        "id": "c8f9c4b5-76e5-d76a-f980-7011e206042b",
        "detail-type": "Batch Job State Change",
        "source": "aws.batch",
        "account": "123456789012",
        "time": "2022-01-11T23:36:40Z",
        "region": "us-east-1",
        "resources": [ARN],
        "detail": DETAIL if detail is None else detail,
        **members,
    }
    return json.dumps(event)


def test_the_documented_example_is_read() -> None:
    """Id, status and number of attempts; no end yet."""
    assert decode_event(body()) == JobEvent(job_id=JOB_ID, status=BatchStatus.RUNNABLE)


@pytest.mark.parametrize("detail", [DETAIL, {**DETAIL, "createdAt": "soon"}])
def test_an_event_tells_how_large_it_was(detail: Any) -> None:
    """What may be kept of events is bounded by that, also of one that is only read in part."""
    text = body(detail)
    event = decode_event(text)
    assert isinstance(event, JobEvent)
    assert event.size == len(text)


def test_an_end_carries_all_that_an_answer_would() -> None:
    """A final event can stand for a job that Batch no longer knows: attempts, exit code, reasons, times."""
    ended = {
        "status": "FAILED",
        "statusReason": "Essential container in task exited",
        "startedAt": 1641944210000,
        "stoppedAt": 1641944260000,
        "attempts": [{"container": {"exitCode": 3, "logStreamName": "l"}, "startedAt": 1, "stoppedAt": 2}],
        "container": {"exitCode": 3, "logStreamName": "l", "reason": "r"},
    }
    event = decode_event(body({**DETAIL, **ended}))
    assert isinstance(event, JobEvent)
    assert (event.is_end, event.attempts) == (True, 1)
    assert event.end is not None
    assert (event.end.exit_code, event.end.stopped_at) == (3, 1641944260.0)
    assert event.end.status_reason == "Essential container in task exited"


@pytest.mark.parametrize(
    ("tags", "told"), [({"resourceArn": ARN, "a": "b"}, {"a": "b"}), ({"resourceArn": "mine"}, {"resourceArn": "mine"})]
)
def test_tags_of_an_end_are_the_job_s_own(tags: dict[str, str], told: dict[str, str]) -> None:
    """The ARN that an event has among them is not; ``job.finished`` tells them if Batch has forgotten the job."""
    event = decode_event(body({**DETAIL, "status": "SUCCEEDED", "tags": tags}))
    assert isinstance(event, JobEvent)
    assert event.end is not None
    assert event.end.tags == told


def test_a_blocked_queue_names_the_job_at_its_head() -> None:
    """ "Batch Job Queue Blocked" is a hint for the job that it names."""
    blocked = {**DETAIL, "statusReason": "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - x"}
    event = decode_event(body(blocked, **{"detail-type": "Batch Job Queue Blocked"}))
    assert event == JobEvent(job_id=JOB_ID, status=BatchStatus.RUNNABLE, is_blocked=True)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"status": "HIBERNATING"}, None),
        ({"attempts": "two"}, BatchStatus.RUNNABLE),
        ({"container": 5, "tags": [1]}, BatchStatus.RUNNABLE),
        ({"createdAt": "yesterday", "status": "SUCCEEDED"}, BatchStatus.SUCCEEDED),
        ({"newMember": {"deep": [1, 2]}}, BatchStatus.RUNNABLE),
        ({"status": 7}, None),
    ],
)
def test_odd_members_cost_neither_id_nor_status(changed: dict[str, Any], status: BatchStatus | None) -> None:
    """Whatever AWS adds or changes, a hint remains a hint."""
    event = decode_event(body({**DETAIL, **changed}))
    assert isinstance(event, JobEvent)
    assert (event.job_id, event.status) == (JOB_ID, status)


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "[]", '"aws.batch"', "null", "NaN", body([]), body("x"), body({}), body({"jobId": 7}),
     body({"jobId": ""}), body({"jobId": None, "status": "FAILED"}), "\ud800", "[" * 100_000, '{"detail":' * 50_000],
)  # fmt: skip
def test_what_cannot_be_read_is_malformed(text: str) -> None:
    """No JSON, no object, no job id: counted, never an error."""
    assert decode_event(text) is EventOutcome.MALFORMED


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        body(source="aws.ec2"),
        body(**{"detail-type": "Batch Compute Environment State Change"}),
        body(**{"detail-type": None}),
        json.dumps({"Type": "Notification", "Message": body()}),
        json.dumps({"requestId": "r1", "jobName": "sent to the wrong queue"}),
    ],
)
def test_what_is_no_job_event_is_other(text: str) -> None:
    """Events of other services and kinds, and messages that are no events at all."""
    assert decode_event(text) is EventOutcome.OTHER


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=10))
def test_no_member_of_any_value_makes_it_raise(value: Any) -> None:
    """Any value in the place of any member of detail or envelope."""
    for name in ("jobId", "status", "attempts", "container", "arrayProperties", "stoppedAt", "isTerminated", "tags"):
        decode_event(body({**DETAIL, "status": "FAILED", name: value}))
    for name in ("source", "detail-type", "detail", "time", "id"):
        decode_event(body(**{name: value}))


@given(st.text())
def test_no_text_makes_it_raise(text: str) -> None:
    """Any text at all."""
    decode_event(text)


def test_the_simulated_aws_s_events_are_read_whole() -> None:
    """Every event of a job with a retry, and of an array, is understood; the end is what DescribeJobs would say."""
    sim = SimAws(profile=Profile(runnable_s=(1, 1), running_s=(1, 1)))
    sim.add_job_queue("q")
    sim.add_job_definition("d")
    sim.add_sqs_queue("events")
    sim.put_rule(Rule(name="r", queue="events"))
    for size in (None, 2):
        array = {} if size is None else {"arrayProperties": {"size": size}}
        sim.call("SubmitJob", {"jobName": "n", "jobQueue": "q", "jobDefinition": "d", **array}, now=0.0)
    sim.advance(100.0)
    bodies = [message.body for message in sim.sqs.queues["events"].messages.values()]
    read = [decode_event(each) for each in bodies]
    assert all(isinstance(each, JobEvent) and each.status is not None for each in read)
    assert sum(isinstance(each, JobEvent) and each.end is not None for each in read) == 4
