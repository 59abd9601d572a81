"""The lean decoder against botocore's own parser, and what is read of each kind of job."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from typing import Any

import botocore.session
import pytest
from botocore.parsers import create_parser
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.adapters.batch_decode import Entry, JobDetail, _decode_before_parse, jobs_in, observe, seconds
from controller.core.events import iso
from controller.core.job import Attempt, BatchStatus, Observation

_MODEL = botocore.session.Session().get_service_model("batch").operation_model("DescribeJobs")  # type: ignore[no-untyped-call]
_PARSER = create_parser("rest-json")  # type: ignore[no-untyped-call]


def lean(body: bytes, status: int = 200) -> tuple[bool, dict[str, Any]]:
    """Whether the hook decoded the body, and the answer that the SDK would return."""
    response: dict[str, Any] = {"status_code": status, "headers": {}, "body": body, "context": {}}
    customized: dict[str, Any] = {}
    _decode_before_parse(response_dict=response, customized_response_dict=customized)
    parsed = _PARSER.parse(response, _MODEL.output_shape)
    parsed.update(customized)
    return bool(customized), parsed


def plain(body: bytes) -> dict[str, Any]:
    response = {"status_code": 200, "headers": {}, "body": body, "context": {}}
    parsed: dict[str, Any] = _PARSER.parse(response, _MODEL.output_shape)
    return parsed


def observed(*jobs: dict[str, Any]) -> tuple[Observation, ...]:
    was_decoded, answer = lean(json.dumps({"jobs": jobs}).encode())
    assert was_decoded
    return tuple(seen.observation() for seen in observe(jobs_in(answer) or ()).seen)


def whole(jobs: Sequence[Entry]) -> tuple[list[tuple[str, BatchStatus | None, int, Observation]], Sequence[str]]:
    """All that the application can see of an answer."""
    found = observe(jobs)
    return [(s.job_id, s.status, s.attempt_count, s.observation()) for s in found.seen], found.skipped


texts = st.text(max_size=12)
huge = st.sampled_from([2**31, -(2**31), 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**30])
times = st.integers(0, 2_000_000_000_000) | huge | st.sampled_from([0, -1, 1.7e12])
exits = st.integers(-1, 255) | huge


def some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with any of the members, each of its type, null or missing, and one that no model knows."""
    return st.fixed_dictionaries(
        {}, optional={"brandNew": st.none() | texts, **{n: st.none() | s for n, s in members.items()}}
    )


containers = some(
    exitCode=exits, reason=texts, logStreamName=texts, image=texts, environment=st.lists(some(name=texts), max_size=1)
)
task_containers = some(
    exitCode=exits, reason=texts, logStreamName=texts, name=st.sampled_from(["a", "b"]), essential=st.booleans()
)
tasks = some(containers=st.lists(task_containers, max_size=2), taskArn=texts)
attempts = some(
    container=containers,
    startedAt=times,
    stoppedAt=times,
    statusReason=texts,
    taskProperties=st.lists(tasks, max_size=2),
)
# The SDK's model gives the containers of pods no log stream, and drops what it does not know.
eks_containers = some(exitCode=exits, reason=texts, containerID=texts)
eks_attempts = some(
    containers=st.lists(eks_containers, max_size=2),
    initContainers=st.lists(eks_containers, max_size=1),
    startedAt=times,
    stoppedAt=times,
    statusReason=texts,
)
statuses = st.sampled_from([*(s.value for s in BatchStatus), "SCHEDULED", ""])
multi_node = {
    "nodeProperties": some(
        numNodes=exits,
        mainNode=exits,
        nodeRangeProperties=st.lists(some(targetNodes=texts, container=containers), max_size=1),
    ),
    "nodeDetails": some(nodeIndex=exits, isMainNode=st.booleans()),
}
jobs = some(
    **multi_node,
    consumableResourceProperties=some(consumableResourceList=st.lists(some(quantity=exits), max_size=1)),
    jobId=texts,
    jobName=texts,
    jobArn=texts,
    status=statuses,
    statusReason=texts,
    createdAt=times,
    startedAt=times,
    stoppedAt=times,
    attempts=st.lists(attempts, max_size=2),
    container=containers,
    ecsProperties=some(taskProperties=st.lists(tasks, max_size=2)),
    eksAttempts=st.lists(eks_attempts, max_size=2),
    eksProperties=some(podProperties=some(containers=st.lists(containers, max_size=1))),
    arrayProperties=some(
        size=st.integers(0, 10), index=exits, statusSummary=st.dictionaries(statuses, st.integers(0, 9), max_size=3)
    ),
    isCancelled=st.booleans(),
    isTerminated=st.booleans(),
    tags=st.dictionaries(texts, texts, max_size=2),
    parameters=st.dictionaries(texts, texts, max_size=1),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(jobs, max_size=3))
def test_lean_decoder_agrees_with_the_sdk(listed: list[dict[str, Any]]) -> None:
    """For every answer the lean decoder sees what botocore's parser sees."""
    body = json.dumps({"jobs": listed}).encode()
    was_decoded, answer = lean(body)
    assert was_decoded
    ours, theirs = jobs_in(answer), jobs_in(plain(body))
    assert ours is not None
    assert theirs is not None
    assert whole(ours) == whole(theirs)


@settings(deadline=None, max_examples=100)
@given(st.lists(jobs, max_size=3))
def test_a_glance_says_what_the_whole_says(listed: list[dict[str, Any]]) -> None:
    """What decides whether a job has changed is what its observation would say."""
    _, answer = lean(json.dumps({"jobs": listed}).encode())
    for seen in observe(jobs_in(answer) or ()).seen:
        assert isinstance(seen, JobDetail | Observation)
        observation = seen.observation()
        assert (seen.job_id, seen.status) == (observation.job_id, observation.status)
        assert seen.attempt_count == len(observation.attempts)


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "createdAt",
                "startedAt",
                "statusReason",
                "attempts",
                "container",
                "tags",
                "isCancelled",
                "arrayProperties",
            ]
        ),
        anything,
    )
)
def test_members_of_any_type_never_lose_a_job(members: dict[str, Any]) -> None:
    """Whatever the other members are, a job with an id and a status is observed."""
    body = json.dumps({"jobs": [{"jobId": "a", "status": "RUNNING", **members}]}).encode()
    _, answer = lean(body)
    (observation,) = tuple(seen.observation() for seen in observe(jobs_in(answer) or ()).seen)
    assert (observation.job_id, observation.status) == ("a", BatchStatus.RUNNING)


@pytest.mark.parametrize("body", [b"", b"<html/>", b'{"jobs": [', b"\xff\xfe", b'{"jobs": {}}'])
def test_what_does_not_decode_is_left_to_the_sdk(body: bytes) -> None:
    """A body that is not an answer reaches botocore's parser untouched."""
    response: dict[str, Any] = {"status_code": 200, "body": body}
    customized: dict[str, Any] = {}
    _decode_before_parse(response_dict=response, customized_response_dict=customized)
    assert customized == {}
    assert response["body"] == body


def test_errors_are_left_to_the_sdk() -> None:
    """A status of 300 and above is an error, whatever its body looks like."""
    was_decoded, answer = lean(b'{"jobs": [], "message": "slow down"}', status=429)
    assert not was_decoded
    assert answer["Error"]["Message"] == "slow down"


def test_times_are_seconds_and_zero_is_not_yet() -> None:
    """Milliseconds become seconds; 0, which Batch gives for what has not happened, becomes None."""
    (job,) = observed({"jobId": "a", "status": "RUNNABLE", "createdAt": 1_700_000_000_123, "startedAt": 0})
    assert (job.created_at, job.started_at, job.stopped_at) == (1_700_000_000.123, None, None)


@pytest.mark.parametrize("instant", [-5, 10**15, 10**19, 1e300, float("nan")])
def test_what_no_event_can_tell_as_a_time_is_none(instant: float) -> None:
    """A job with such a time is seen like any other, and so are those in the same answer."""
    assert seconds(instant) is None
    latest = seconds(253_402_300_799_999)
    assert (iso(latest) or "").startswith("9999-12-31T23:59:59.")


def test_single_container_job() -> None:
    """Exit code, reason and log stream of an ordinary job come from its container, attempts from its attempts."""
    (job,) = observed(
        {
            "jobId": "a",
            "jobArn": "arn:a",
            "status": "FAILED",
            "statusReason": "Essential container in task exited",
            "container": {"exitCode": 1, "reason": "OutOfMemoryError", "logStreamName": "d/default/2"},
            "attempts": [
                {"container": {"logStreamName": "d/default/1"}, "statusReason": "Host EC2 (i-1) terminated."},
                {"container": {"exitCode": 1}, "startedAt": 1000, "stoppedAt": 3000, "statusReason": "Essential"},
            ],
            "isTerminated": True,
            "tags": {"team": "x"},
        }
    )
    assert (job.exit_code, job.container_reason, job.log_stream) == (1, "OutOfMemoryError", "d/default/2")
    assert job.attempts == (
        Attempt(log_stream="d/default/1", status_reason="Host EC2 (i-1) terminated."),
        Attempt(exit_code=1, started_at=1.0, stopped_at=3.0, status_reason="Essential"),
    )
    assert (job.is_cancelled, job.is_terminated, job.tags) == (False, True, {"team": "x"})


def test_multi_container_job_is_told_by_the_container_that_failed() -> None:
    """Of several ECS containers the one with a non-zero exit code speaks for the task."""
    containers = [
        {"name": "sidecar", "exitCode": 0, "logStreamName": "s"},
        {"name": "main", "exitCode": 3, "reason": "boom", "logStreamName": "m"},
    ]
    (job,) = observed(
        {
            "jobId": "a",
            "status": "FAILED",
            "container": {},
            "ecsProperties": {"taskProperties": [{"containers": containers}]},
            "attempts": [{"container": {}, "taskProperties": [{"containers": containers}], "startedAt": 5000}],
        }
    )
    assert (job.exit_code, job.container_reason, job.log_stream) == (3, "boom", "m")
    assert job.attempts == (Attempt(started_at=5.0, exit_code=3, reason="boom", log_stream="m"),)


SIDECAR = {"exitCode": 137, "reason": "OutOfMemoryError: Container killed due to memory usage", "logStreamName": "s"}


def _beside(main: dict[str, Any]) -> dict[str, Any]:
    """A job of a main container and one that is not essential, which attempts don't tell."""
    attempt = [{"name": "main", **main}, {"name": "sidecar", **SIDECAR}]
    return {
        "jobId": "a",
        "status": "SUCCEEDED" if main.get("exitCode") == 0 else "FAILED",
        "ecsProperties": {
            "taskProperties": [{"containers": [attempt[0], {**attempt[1], "essential": False}]}],
        },
        "attempts": [{"taskProperties": [{"containers": attempt}]}],
    }


@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_container_that_is_not_essential_does_not_speak_for_the_job(exit_code: int) -> None:
    """It is stopped with the essential one, or fails without harm; that alone is not how the job ended."""
    (job,) = observed(_beside({"exitCode": exit_code, "logStreamName": "m"}))
    assert (job.exit_code, job.container_reason, job.log_stream) == (exit_code, None, "m")
    assert job.attempts == (Attempt(exit_code=exit_code, log_stream="m"),)


def test_a_container_that_is_not_essential_is_told_where_the_essential_one_says_nothing() -> None:
    """As when the host is lost, or the task does not start."""
    (job,) = observed(_beside({"logStreamName": "m"}))
    assert (job.exit_code, job.container_reason) == (137, SIDECAR["reason"])
    assert job.attempts[0].exit_code == 137


def test_eks_job_is_told_by_its_pod_attempts() -> None:
    """EKS jobs have their attempts, exit code and reason in eksAttempts."""
    (job,) = observed(
        {
            "jobId": "a",
            "status": "FAILED",
            "attempts": [],
            "eksAttempts": [
                {"containers": [{"exitCode": 137, "reason": "OOMKilled"}], "startedAt": 1000, "stoppedAt": 2000},
                {"initContainers": [{"exitCode": 2, "reason": "Error"}], "containers": [{}], "statusReason": "init"},
            ],
        }
    )
    assert (job.exit_code, job.container_reason) == (2, "Error")
    assert job.attempts == (
        Attempt(exit_code=137, reason="OOMKilled", started_at=1.0, stopped_at=2.0),
        Attempt(exit_code=2, reason="Error", status_reason="init"),
    )


def test_array_parent_has_a_summary_and_a_child_has_none() -> None:
    """statusSummary is taken from parents, which have a size."""
    parent, child = observed(
        {"jobId": "p", "status": "PENDING", "arrayProperties": {"size": 2, "statusSummary": {"RUNNING": 2}}},
        {"jobId": "p:0", "status": "RUNNING", "arrayProperties": {"index": 0, "statusSummary": {}}},
    )
    assert (parent.array_summary, child.array_summary) == ({"RUNNING": 2}, None)


def _answer_of_100() -> bytes:
    """As Batch sends it: most jobs run, some have ended and have attempts."""
    ended = {"attempts": [{"container": {"exitCode": 1}, "startedAt": 1000}], "container": {"exitCode": 1}}
    listed = [
        {"jobId": f"job-{n}", "status": "FAILED" if n % 10 == 0 else "RUNNING", "tags": {"team": "x"}}
        | (ended if n % 10 == 0 else {"container": {"environment": [{"name": "A", "value": "b"}] * 12}})
        for n in range(100)
    ]
    return json.dumps({"jobs": listed}).encode()


def test_a_thousand_answers_cause_no_full_garbage_collection() -> None:
    """What an answer is made into is nothing that the collector has to look at, so nothing piles up for it."""
    body, before = _answer_of_100(), gc.get_stats()[2]["collections"]
    for _ in range(1_000):
        _, answer = lean(body)
        assert len(observe(jobs_in(answer) or ()).seen) == 100
    assert gc.get_stats()[2]["collections"] == before


def test_a_decoded_job_is_not_tracked_by_the_garbage_collector() -> None:
    """Neither the record of a job nor those within it."""
    _, answer = lean(_answer_of_100())
    for job in jobs_in(answer) or ():
        assert isinstance(job, JobDetail)
        assert not gc.is_tracked(job)
        assert not any(gc.is_tracked(attempt) for attempt in job.attempts or ())
        assert not gc.is_tracked(job.container)
