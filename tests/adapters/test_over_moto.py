"""The adapters against moto's server over HTTP: that what is sent is what AWS's protocols want."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

import pytest
from aiobotocore.session import AioSession
from moto.core.config import default_user_config
from moto.server import ThreadedMotoServer

from controller.adapters.aws import Aws
from controller.adapters.batch import Batch
from controller.adapters.clock import SystemClock
from controller.adapters.sinks import DeadLetterSink, SqsSink
from controller.adapters.sqs import Queue
from controller.adapters.sts import Account
from controller.core.errors import OutwardError, Refused
from controller.core.job import BatchStatus
from controller.ports import OutboxRow
from tests.adapters.conftest import OpenAws, Seen

ROLE_POLICY = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    was_using_docker = default_user_config["batch"]["use_docker"]
    default_user_config["batch"]["use_docker"] = False
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()
        default_user_config["batch"]["use_docker"] = was_using_docker


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    aws: Aws
    queue_url: str
    seen: Seen

    @property
    def batch(self) -> Batch:
        return Batch(
            submit_client=self.aws.batch_submit,
            client=self.aws.batch,
            clock=SystemClock(),
            observe=self.seen,
            fetch_credentials=self.aws.fetch_credentials,
        )

    @property
    def queue(self) -> Queue:
        return Queue(url=self.queue_url, client=self.sqs, clock=SystemClock(), observe=self.seen)

    @property
    def sqs(self) -> Any:
        return self.aws.sqs(self.queue_url)


@pytest.fixture
async def world(moto_url: str, open_clients: OpenAws, seen: Seen) -> AsyncIterator[World]:
    """A fresh account with one empty SQS queue."""
    urlopen(Request(f"{moto_url}/moto-api/reset", method="POST")).close()
    queue_url = f"{moto_url}/123456789012/requests"
    async with open_clients(moto_url, queue_urls=[queue_url]) as aws:
        world = World(aws=aws, queue_url=queue_url, seen=seen)
        await world.sqs.create_queue(QueueName="requests")
        yield world


async def add_batch_queue(world: World) -> None:
    """A job queue ``jobs`` on an unmanaged compute environment (which needs no network), and a definition ``run``."""
    client = world.aws.batch
    await client.create_compute_environment(
        computeEnvironmentName="compute",
        type="UNMANAGED",
        state="ENABLED",
        serviceRole="arn:aws:iam::123456789012:role/r",
    )
    environments = await client.describe_compute_environments(computeEnvironments=["compute"])
    arn = environments["computeEnvironments"][0]["computeEnvironmentArn"]
    await client.create_job_queue(
        jobQueueName="jobs",
        state="ENABLED",
        priority=1,
        computeEnvironmentOrder=[{"order": 1, "computeEnvironment": arn}],
    )
    await client.register_job_definition(
        jobDefinitionName="run",
        type="container",
        containerProperties={"image": "busybox", "vcpus": 1, "memory": 128, "command": ["true"]},
    )


@pytest.fixture
async def batch_world(world: World, moto_url: str) -> World:
    session: Any = AioSession()  # type: ignore[no-untyped-call]
    async with session.create_client("iam", region_name="eu-west-1") as iam:
        await iam.create_role(RoleName="r", AssumeRolePolicyDocument=ROLE_POLICY)
    await add_batch_queue(world)
    return world


async def test_job_goes_its_way(batch_world: World) -> None:
    """A job is submitted, found by its exact name, described and terminated."""
    batch = batch_world.batch
    submitted = await batch.submit_job(
        {
            "jobName": "Name-1",
            "jobQueue": "jobs",
            "jobDefinition": "run",
            "tags": {"batch-controller/request-id": "r-1"},
            "containerOverrides": {"environment": [{"name": "A", "value": "1"}]},
        },
        timeout_s=10,
    )
    await batch.submit_job({"jobName": "name-1", "jobQueue": "jobs", "jobDefinition": "run"}, timeout_s=10)
    assert submitted.job_arn is not None
    assert submitted.job_arn.endswith(submitted.job_id)

    page = await batch.list_jobs_named(job_queue="jobs", job_name="Name-1")
    assert [(job.job_id, job.job_arn) for job in page.jobs] == [(submitted.job_id, submitted.job_arn)]
    assert page.next_token is None

    (seen,) = await batch.describe_jobs([submitted.job_id, "00000000-0000-0000-0000-000000000000"])
    observation = seen.observation()
    assert observation.job_id == submitted.job_id
    assert observation.status is BatchStatus.SUCCEEDED  # moto ends a job as it is submitted
    assert observation.created_at is not None
    assert page.jobs[0].created_at == observation.created_at
    assert observation.tags == {"batch-controller/request-id": "r-1"}

    await batch.terminate_job(job_id=submitted.job_id, reason="cancelled by request")
    assert {outcome for _, outcome in batch_world.seen.calls} == {"ok"}
    assert [operation for operation, _ in batch_world.seen.calls] == [
        "SubmitJob",
        "SubmitJob",
        "ListJobs",
        "DescribeJobs",
        "TerminateJob",
    ]


async def test_queues_are_told_apart_by_presence(batch_world: World) -> None:
    """A queue that exists is in the answer with its state; one that does not is missing from it."""
    (queue,) = await batch_world.batch.describe_job_queues(["jobs", "absent"])
    assert (queue.name, queue.accepts_jobs) == ("jobs", True)
    assert queue.arn.endswith("job-queue/jobs")


async def test_a_queue_leads_to_its_compute_environments(batch_world: World) -> None:
    """By the ARNs that DescribeJobQueues gives. (moto knows no GetJobQueueSnapshot.)"""
    (queue,) = await batch_world.batch.describe_job_queues(["jobs"])
    (environment,) = await batch_world.batch.describe_compute_environments(queue.compute_environments)
    assert environment.arn == queue.compute_environments[0]
    assert (environment.name, environment.state, environment.status) == ("compute", "ENABLED", "VALID")
    assert environment.is_usable
    assert not environment.is_full


async def test_unknown_queue_is_refused(batch_world: World) -> None:
    """Batch's ClientException is a refusal, with its words."""
    with pytest.raises(Refused, match="absent"):
        await batch_world.batch.submit_job({"jobName": "n", "jobQueue": "absent", "jobDefinition": "run"}, timeout_s=10)


async def test_message_comes_with_its_attributes(world: World) -> None:
    """Body, ids, receive count, time sent and the attributes that are asked for arrive; others do not."""
    attributes = {name: {"DataType": "String", "StringValue": name.upper()} for name in ("traceparent", "tenant", "x")}
    sent = await world.sqs.send_message(
        QueueUrl=world.queue_url, MessageBody="{}", MessageAttributes=attributes, MessageGroupId="film"
    )
    (message,) = await world.queue.receive(max_messages=10, wait_s=0, visibility_timeout_s=30)
    assert (message.message_id, message.body, message.receive_count) == (sent["MessageId"], "{}", 1)
    assert message.attributes == {"traceparent": "TRACEPARENT", "tenant": "TENANT"}
    assert message.group == "film"
    assert message.sent_at is not None
    assert abs(message.sent_at - SystemClock().now()) < 60


async def test_attributes_of_text_and_numbers_count_and_binary_ones_do_not(world: World) -> None:
    """A tenant may be a number, and types may bear a label; bytes are not text."""
    attributes = {
        "tenant": {"DataType": "Number.int", "StringValue": "42"},
        "tracestate": {"DataType": "String.w3c", "StringValue": "a=1"},
        "traceparent": {"DataType": "Binary", "BinaryValue": b"00"},
    }
    await world.sqs.send_message(QueueUrl=world.queue_url, MessageBody="{}", MessageAttributes=attributes)
    (message,) = await world.queue.receive(max_messages=10, wait_s=0, visibility_timeout_s=30)
    assert message.attributes == {"tenant": "42", "tracestate": "a=1"}


async def test_empty_queue_is_no_message(world: World) -> None:
    """SQS leaves Messages out when there are none."""
    assert list(await world.queue.receive(max_messages=1, wait_s=0, visibility_timeout_s=30)) == []


async def test_message_is_received_again_once_it_is_visible_and_a_deleted_one_is_not(world: World) -> None:
    """A message comes again after its visibility timeout; delete ends it; handles that do not parse are given back."""
    queue = world.queue
    await world.sqs.send_message(QueueUrl=world.queue_url, MessageBody="a")
    (first,) = await queue.receive(max_messages=1, wait_s=0, visibility_timeout_s=0)
    (second,) = await queue.receive(max_messages=1, wait_s=0, visibility_timeout_s=300)
    assert not await queue.receive(max_messages=1, wait_s=0, visibility_timeout_s=300)
    assert (second.message_id, second.receive_count) == (first.message_id, 2)
    assert list(await queue.delete([second.receipt_handle, "no-such-handle"])) == ["no-such-handle"]
    assert not await queue.receive(max_messages=1, wait_s=0, visibility_timeout_s=0)


async def test_missing_queue_is_refused(world: World) -> None:
    """Every call on a queue that does not exist is a refusal."""
    queue = Queue(url=world.queue_url + "-absent", client=world.sqs, clock=SystemClock(), observe=world.seen)
    with pytest.raises(Refused):
        await queue.receive(max_messages=1, wait_s=0, visibility_timeout_s=1)
    with pytest.raises(OutwardError):
        await queue.delete(["x"])
    assert world.seen.calls[0] == ("ReceiveMessage", "refused")


async def test_sinks_deliver(world: World) -> None:
    """An event and a dead letter arrive in SQS as they were sent."""
    arguments = {"queue_url": world.queue_url, "client": world.sqs, "clock": SystemClock(), "observe": world.seen}
    event = OutboxRow(key=1, event_id="e-1", name="job.lost", body=b'{"event":"job.lost","event_id":"e-1","time":"t"}')
    letter = OutboxRow(
        key=2,
        event_id="e-2",
        name="dead_letter",
        body=b'{"body":"\\u0000","reason":"why","error_code":"c","message_id":"m","request_id":null}',
    )
    assert await SqsSink(name="s", source="here", **arguments).publish([event]) == [1]
    assert await DeadLetterSink(name="d", **arguments).publish([letter]) == [2]
    answer = await world.sqs.receive_message(
        QueueUrl=world.queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    )
    first, second = answer["Messages"]
    assert json.loads(first["Body"])["type"] == "batch-controller.job.lost.v1"
    assert second["Body"] == "\ufffd"
    assert {name: a["StringValue"] for name, a in second["MessageAttributes"].items()} == {
        "reason": "why",
        "error_code": "c",
        "message_id": "m",
        "truncated": "true",
    }


async def test_account_is_known(world: World) -> None:
    """STS names the account."""
    account = await Account(client=world.aws.sts, clock=SystemClock(), observe=world.seen).account()
    assert account == "123456789012"
    assert world.seen.calls == [("GetCallerIdentity", "ok")]
