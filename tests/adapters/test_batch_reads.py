"""The calls of AWS Batch that change nothing, or nothing twice, against servers that misbehave."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from controller.adapters.aws_errors import outcome_of
from controller.adapters.batch import Batch
from controller.core.errors import (
    BadCredentials,
    NotAllowed,
    OutwardError,
    Refused,
    Throttled,
    Unavailable,
    Unexpected,
)
from controller.core.job import BatchStatus
from tests.adapters.conftest import OpenBatch, Seen
from tests.adapters.faulty_server import (
    Behaviour,
    answer,
    close,
    fault,
    faulty_server,
    garbage,
    never,
    reset,
    truncate,
)

Read = Callable[[Batch], Awaitable[object]]


async def describe(batch: Batch) -> object:
    return await batch.describe_jobs(["j-1"])


async def find(batch: Batch) -> object:
    return await batch.list_jobs_named(job_queue="q", job_name="name-1")


async def queues(batch: Batch) -> object:
    return await batch.describe_job_queues(["q"])


async def terminate(batch: Batch) -> object:
    await batch.terminate_job(job_id="j-1", reason="cancelled")
    return None


async def children(batch: Batch) -> object:
    return await batch.list_failed_children(job_id="j-1", is_multi_node=False)


async def environments(batch: Batch) -> object:
    return await batch.describe_compute_environments(["ce"])


async def front(batch: Batch) -> object:
    return await batch.queue_front("q")


READS: list[tuple[Read, str]] = [
    (describe, "DescribeJobs"),
    (find, "ListJobs"),
    (queues, "DescribeJobQueues"),
    (children, "ListJobs"),
    (environments, "DescribeComputeEnvironments"),
    (front, "GetJobQueueSnapshot"),
    (terminate, "TerminateJob"),
]


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        pytest.param(never, Unavailable, id="never answers"),
        pytest.param(close, Unavailable, id="reads, closes"),
        pytest.param(reset, Unavailable, id="reads, resets"),
        pytest.param(truncate, Unavailable, id="truncated body"),
        pytest.param(garbage, Unavailable, id="not HTTP"),
        pytest.param(fault(500, "ServerException"), Unavailable, id="500"),
        pytest.param(answer(503, b""), Unavailable, id="503"),
        pytest.param(fault(408, "RequestTimeout"), Unavailable, id="408"),
        pytest.param(fault(429, "TooManyRequestsException"), Throttled, id="429"),
        pytest.param(fault(503, "SlowDown"), Throttled, id="503 with a throttle code"),
        pytest.param(fault(400, "ClientException"), Refused, id="400 ClientException"),
        pytest.param(fault(403, "AccessDeniedException"), NotAllowed, id="403 denied"),
        pytest.param(fault(403, "ExpiredTokenException"), BadCredentials, id="403 expired"),
        pytest.param(fault(418, "Teapot"), Unexpected, id="unknown 4xx"),
    ],
)
async def test_fault_is_one_request_and_its_kind(
    open_batch: OpenBatch, seen: Seen, behaviour: Behaviour, kind: type[OutwardError]
) -> None:
    """No read is repeated by the SDK, and none is ever in doubt."""
    deadline_s = 0.3 if behaviour is never else 20.0  # only what waits for the deadline should meet it
    async with faulty_server(behaviour) as server, open_batch(server.url, read_deadline_s=deadline_s) as batch:
        for read, operation in READS:
            with pytest.raises(OutwardError) as caught:
                await read(batch)
            assert type(caught.value) is kind, caught.value
            assert caught.value.call == f"batch:{operation}"
            assert seen.calls[-1] == (operation, outcome_of(caught.value))
    assert len(seen.calls) == len(READS)
    if behaviour is never:  # a busy machine may not have sent one by its deadline
        assert len(server.requests) <= len(READS)
    else:
        assert len(server.requests) == len(READS)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>welcome</html>", id="not JSON"),
        pytest.param(b"{}", id="empty object"),
        pytest.param(b'{"jobs": null, "jobSummaryList": null, "jobQueues": null}', id="null"),
        pytest.param(b'{"jobs": 3, "jobSummaryList": 3, "jobQueues": 3}', id="no list"),
        pytest.param(b"[]", id="not an object"),
    ],
)
async def test_answer_without_its_list_is_no_answer(open_batch: OpenBatch, seen: Seen, body: bytes) -> None:
    """A 200 that says nothing is an error: read as empty, it would mean that no such job or queue exists."""
    async with faulty_server(answer(200, body)) as server, open_batch(server.url) as batch:
        for read, _ in READS[:6]:
            with pytest.raises(Unavailable):
                await read(batch)
    assert {outcome for _, outcome in seen.calls} == {"unavailable"}


async def test_a_status_that_batch_never_had_before_is_no_status_but_no_missing_job_either(
    open_batch: OpenBatch,
) -> None:
    """Left out, its job would be counted as one that Batch no longer knows; what is not understood is noted once."""
    jobs = [
        {"jobId": "a", "status": "RUNNING"},
        {"status": "RUNNING"},
        {"jobId": "b", "status": "SCHEDULED"},
        {"jobId": "c"},
        {"jobId": "d", "status": "FAILED", "brandNew": {"x": [1]}},
        {"jobId": "e", "status": 7},
    ]
    async with faulty_server(answer(200, {"jobs": jobs, "more": 1})) as server, open_batch(server.url) as batch:
        with capture_logs() as lines:
            observations = await batch.describe_jobs(["a", "b", "c", "d", "e"])
            await batch.describe_jobs(["a", "b", "c", "d", "e"])
    assert {o.job_id: o.status for o in observations} == {
        "a": BatchStatus.RUNNING,
        "b": None,
        "c": None,
        "d": BatchStatus.FAILED,
        "e": None,
    }
    assert sorted(line["batch_status"] for line in lines) == ["None", "SCHEDULED", "no jobId"]


async def test_odd_members_cost_neither_their_job_nor_the_others(open_batch: OpenBatch) -> None:
    """A member of another type than Batch documents still leaves every job's status."""
    jobs = [
        {"jobId": "a", "status": "RUNNING", "startedAt": "1500"},
        {"jobId": "b", "status": "FAILED", "container": {"exitCode": {"odd": 1}}},
        {"jobId": 7, "status": "FAILED"},
        7,
        {"jobId": "c", "status": "SUCCEEDED", "container": {"exitCode": 0}},
    ]
    async with faulty_server(answer(200, {"jobs": jobs})) as server, open_batch(server.url) as batch:
        a, b, c = (seen.observation() for seen in await batch.describe_jobs(["a", "b", "c"]))
    assert (a.status, a.started_at) == (BatchStatus.RUNNING, 1.5)
    assert (b.status, b.exit_code) == (BatchStatus.FAILED, None)
    assert (c.status, c.exit_code) == (BatchStatus.SUCCEEDED, 0)


async def test_empty_answer_means_no_job_is_known(open_batch: OpenBatch, seen: Seen) -> None:
    """An empty list of jobs is an answer: Batch knows none of the ids."""
    async with faulty_server(answer(200, {"jobs": []})) as server, open_batch(server.url) as batch:
        assert list(await batch.describe_jobs(["gone"])) == []
    assert seen.calls == [("DescribeJobs", "ok")]


async def test_list_asks_for_the_exact_name_and_page(open_batch: OpenBatch) -> None:
    """ListJobs carries the name filter, the page size and the token; other names in the answer are left out."""
    rows = [
        {"jobId": "1", "jobArn": "arn:1", "jobName": "Name-1", "createdAt": 1000, "status": "RUNNING"},
        {"jobId": "2", "jobArn": "arn:2", "jobName": "name-1", "createdAt": 2500, "status": "RUNNABLE"},
        {"jobId": "3", "jobArn": "arn:3", "jobName": "name-11", "createdAt": 3000},
        {"jobId": "4", "jobName": "name-1", "createdAt": 4000, "status": "SCHEDULED"},
    ]
    page = answer(200, {"jobSummaryList": rows, "nextToken": "t2"})
    async with faulty_server(page) as server, open_batch(server.url) as batch:
        found = await batch.list_jobs_named(job_queue="q", job_name="name-1", next_token="t1")
    path, _, body = server.requests[0]
    assert path == "/v1/listjobs"
    assert json.loads(body) == {
        "jobQueue": "q",
        "filters": [{"name": "JOB_NAME", "values": ["name-1"]}],
        "maxResults": 100,
        "nextToken": "t1",
    }
    assert found.next_token == "t2"
    assert [(j.job_id, j.created_at, j.status, j.job_arn) for j in found.jobs] == [
        ("2", 2.5, BatchStatus.RUNNABLE, "arn:2"),
        ("4", 4.0, None, ""),
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"jobName": "name-1", "createdAt": 1},
        {"jobId": "1", "createdAt": 1},
        {"jobId": "1", "jobName": "name-1"},
        {"jobId": "1", "jobName": "name-1", "createdAt": "yesterday"},
        {"jobId": "1", "jobName": "name-1", "createdAt": 10**19},
    ],
)
async def test_list_row_that_cannot_be_judged_spoils_the_answer(open_batch: OpenBatch, row: dict[str, object]) -> None:
    """A row that may be the job we look for is never dropped silently: "not found" would send it again."""
    async with faulty_server(answer(200, {"jobSummaryList": [row]})) as server, open_batch(server.url) as batch:
        with pytest.raises(Unavailable):
            await batch.list_jobs_named(job_queue="q", job_name="name-1")


async def test_unfinished_page_of_queues_is_no_answer(open_batch: OpenBatch) -> None:
    """A queue may be missing from an answer only because there is another page of it."""
    page = answer(200, {"jobQueues": [], "nextToken": "more"})
    async with faulty_server(page) as server, open_batch(server.url) as batch:
        with pytest.raises(Unavailable):
            await batch.describe_job_queues(["q"])


async def test_queue_status_is_read_verbatim(open_batch: OpenBatch) -> None:
    """State, status and reason come through as Batch gives them."""
    queue = {"jobQueueName": "q", "jobQueueArn": "arn:q", "state": "DISABLED", "status": "VALID", "statusReason": "x"}
    async with faulty_server(answer(200, {"jobQueues": [queue]})) as server, open_batch(server.url) as batch:
        (found,) = await batch.describe_job_queues(["q"])
    assert (found.name, found.arn, found.state, found.status, found.status_reason) == (
        "q",
        "arn:q",
        "DISABLED",
        "VALID",
        "x",
    )
    assert not found.accepts_jobs


async def test_failed_children_are_asked_for_by_status_and_read_with_what_little_is_there(
    open_batch: OpenBatch,
) -> None:
    """1,000 a page; the index is taken from the id where its member is missing."""
    rows = [
        {
            "jobId": "j:4",
            "status": "FAILED",
            "arrayProperties": {"index": 4},
            "container": {"exitCode": 1, "reason": "r"},
        },
        {"jobId": "j:7", "status": "FAILED", "statusReason": "Host EC2 (instance i-1) terminated."},
        {"jobId": "j:8", "isTerminated": True},
    ]
    page = answer(200, {"jobSummaryList": rows, "nextToken": "t2"})
    async with faulty_server(page) as server, open_batch(server.url) as batch:
        found = await batch.list_failed_children(job_id="j", is_multi_node=False, next_token="t1")
    assert json.loads(server.requests[0][2]) == {
        "arrayJobId": "j",
        "jobStatus": "FAILED",
        "maxResults": 1000,
        "nextToken": "t1",
    }
    assert found.next_token == "t2"
    assert [(c.index, c.exit_code, c.reason, c.reason_class) for c in found.children] == [
        (4, 1, "r", "application_exit_code"),
        (7, None, None, "spot_reclaim"),
        (8, None, None, "terminated"),
    ]


async def test_nodes_are_asked_for_by_their_job(open_batch: OpenBatch) -> None:
    """A node tells whether it is the main one."""
    node = {"jobId": "j#0", "nodeProperties": {"nodeIndex": 0, "isMainNode": True}, "container": {"exitCode": 2}}
    async with faulty_server(answer(200, {"jobSummaryList": [node]})) as server, open_batch(server.url) as batch:
        (main,) = (await batch.list_failed_children(job_id="j", is_multi_node=True)).children
    assert json.loads(server.requests[0][2])["multiNodeJobId"] == "j"
    assert (main.index, main.is_main_node, main.exit_code) == (0, True, 2)


async def test_a_child_without_an_index_spoils_the_answer(open_batch: OpenBatch) -> None:
    """Left out, the look-up would seem complete."""
    async with faulty_server(answer(200, {"jobSummaryList": [{"jobId": "j"}]})) as server, open_batch(server.url) as b:
        with pytest.raises(Unavailable):
            await b.list_failed_children(job_id="j", is_multi_node=False)


async def test_environments_and_front_of_a_queue_are_read(open_batch: OpenBatch) -> None:
    """States verbatim, vCPUs where Batch tells them, ids of jobs and children from their ARNs in order."""
    whole = {
        "computeEnvironments": [
            {
                "computeEnvironmentName": "ce",
                "computeEnvironmentArn": "arn:ce",
                "state": "ENABLED",
                "status": "INVALID",
                "statusReason": "CLIENT_ERROR",
                "computeResources": {"maxvCpus": 16, "desiredvCpus": 16},
            },
            {"computeEnvironmentName": "fargate", "computeResources": {"maxvCpus": 16}},
        ],
        "frontOfQueue": {"jobs": [{"jobArn": "arn:aws:batch:r:1:job/a"}, {"jobArn": "arn:aws:batch:r:1:job/b:3"}, {}]},
    }
    async with faulty_server(answer(200, whole)) as server, open_batch(server.url) as batch:
        first, second = await batch.describe_compute_environments(["ce", "fargate"])
        assert list(await batch.queue_front("q")) == ["a", "b:3"]
    assert (first.status, first.status_reason, first.is_full, first.is_usable) == (
        "INVALID",
        "CLIENT_ERROR",
        True,
        False,
    )
    assert not second.is_full


async def test_terminate_reason_is_cut(open_batch: OpenBatch) -> None:
    """Batch takes 1,024 characters of reason and needs at least one."""
    async with faulty_server(answer(200, {})) as server, open_batch(server.url) as batch:
        await batch.terminate_job(job_id="j", reason="x" * 2000)
        await batch.terminate_job(job_id="j", reason="")
    first, second = (json.loads(body) for _, _, body in server.requests)
    assert first == {"jobId": "j", "reason": "x" * 1024}
    assert len(second["reason"]) > 0
