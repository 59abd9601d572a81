"""SimAWS's wire against the AWS SDK, and against moto: the same cases, through plain aiobotocore clients.

Where moto is known to differ from AWS, the case says so and runs on SimAWS only (``only_simaws``).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import anyio
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError
from moto.core.config import default_user_config
from moto.server import ThreadedMotoServer

from controller.simaws import SimProcess

KEYS = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
ACCOUNT = "123456789012"


@dataclass(frozen=True, slots=True)
class Target:
    """A served AWS with a job queue ``jobs`` and a job definition ``work``."""

    name: str
    url: str

    def client(self, service: str) -> Any:
        config = AioConfig(retries={"total_max_attempts": 1, "mode": "standard"}, read_timeout=10)
        session: Any = AioSession  # the SDK is not typed
        return session().create_client(service, endpoint_url=self.url, config=config, **KEYS)


@pytest.fixture(scope="module")
def simaws() -> Iterator[Target]:
    with SimProcess(["--job-queue", "jobs", "--job-definition", "work", "--account", ACCOUNT]) as process:
        yield Target("simaws", process.url)


@pytest.fixture(scope="module")
def moto() -> Iterator[Target]:
    before = default_user_config["batch"]["use_docker"]
    default_user_config["batch"]["use_docker"] = False
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield Target("moto", f"http://{host}:{port}")
    server.stop()
    default_user_config["batch"]["use_docker"] = before


@pytest.fixture(params=["simaws", "moto"])
async def target(request: pytest.FixtureRequest) -> Target:
    found: Target = request.getfixturevalue(request.param)
    if found.name == "moto":
        await _prepare_moto(found)
    return found


async def _prepare_moto(target: Target) -> None:
    """The queue and the definition that SimAWS was started with."""
    async with target.client("batch") as batch, target.client("iam") as iam:
        if (await batch.describe_job_queues(jobQueues=["jobs"]))["jobQueues"]:
            return
        role = await iam.create_role(RoleName="batch", AssumeRolePolicyDocument="{}")
        await batch.create_compute_environment(
            computeEnvironmentName="any", type="UNMANAGED", state="ENABLED", serviceRole=role["Role"]["Arn"]
        )
        order = [{"order": 1, "computeEnvironment": "any"}]
        await batch.create_job_queue(jobQueueName="jobs", state="ENABLED", priority=1, computeEnvironmentOrder=order)
        container = {"image": "busybox", "vcpus": 1, "memory": 64, "command": ["true"]}
        await batch.register_job_definition(jobDefinitionName="work", type="container", containerProperties=container)


@pytest.fixture
async def batch(target: Target) -> AsyncIterator[Any]:
    async with target.client("batch") as client:
        yield client


@pytest.fixture
async def sqs(target: Target) -> AsyncIterator[Any]:
    async with target.client("sqs") as client:
        yield client


@pytest.fixture
async def queue(sqs: Any) -> str:
    return str((await sqs.create_queue(QueueName=unique()))["QueueUrl"])


@pytest.fixture
async def only_simaws(simaws: Target) -> AsyncIterator[Any]:
    """A Batch client of SimAWS, for what moto does otherwise than AWS."""
    async with simaws.client("batch") as client:
        yield client


@pytest.fixture
async def only_simaws_sqs(simaws: Target) -> AsyncIterator[Any]:
    async with simaws.client("sqs") as client:
        yield client


def unique() -> str:
    return f"name-{uuid.uuid4()}"


def job(**members: Any) -> dict[str, Any]:
    return {"jobName": unique(), "jobQueue": "jobs", "jobDefinition": "work", **members}


# --- Batch ------------------------------------------------------------------------------------------------


async def test_submit_answers_with_id_name_and_arn(batch: Any) -> None:
    """SubmitJob's answer names the job, and its ARN ends in its id."""
    request = job(tags={"a": "b"})
    answer = await batch.submit_job(**request)
    assert answer["jobName"] == request["jobName"]
    assert answer["jobArn"] == f"arn:aws:batch:us-east-1:{ACCOUNT}:job/{answer['jobId']}"


@pytest.mark.parametrize("reference", ["work", "work:1", f"arn:aws:batch:us-east-1:{ACCOUNT}:job-definition/work:1"])
async def test_names_and_arns_are_both_accepted(batch: Any, reference: str) -> None:
    """Queue and definition may be names or ARNs; DescribeJobs shows ARNs."""
    queue_arn = f"arn:aws:batch:us-east-1:{ACCOUNT}:job-queue/jobs"
    submitted = await batch.submit_job(**job(jobQueue=queue_arn, jobDefinition=reference))
    [seen] = (await batch.describe_jobs(jobs=[submitted["jobId"]]))["jobs"]
    assert seen["jobQueue"] == queue_arn
    assert seen["jobDefinition"].endswith(":job-definition/work:1")


@pytest.mark.parametrize("members", [{"jobQueue": "none"}, {"jobDefinition": "none"}, {"jobDefinition": "work:9"}])
async def test_unknown_queues_and_definitions_are_client_exceptions(batch: Any, members: dict[str, str]) -> None:
    """A name that Batch does not know is a ClientException (400)."""
    with pytest.raises(batch.exceptions.ClientException) as caught:
        await batch.submit_job(**job(**members))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


async def test_describe_leaves_out_unknown_ids(batch: Any) -> None:
    """Unknown ids are absent, known ones are there with their tags and times."""
    submitted = await batch.submit_job(**job(tags={"a": "b"}))
    [seen] = (await batch.describe_jobs(jobs=["unknown", submitted["jobId"]]))["jobs"]
    assert (seen["jobId"], seen["jobName"]) == (submitted["jobId"], submitted["jobName"])
    assert seen["tags"] == {"a": "b"}
    assert isinstance(seen["createdAt"], int)
    assert seen["createdAt"] > 1_600_000_000_000


async def test_list_by_name_compares_without_case(batch: Any) -> None:
    """The JOB_NAME filter finds a job whatever its case and status."""
    submitted = await batch.submit_job(**job())
    name = [{"name": "JOB_NAME", "values": [submitted["jobName"].upper()]}]
    listed = (await batch.list_jobs(jobQueue="jobs", filters=name))["jobSummaryList"]
    assert [entry["jobId"] for entry in listed] == [submitted["jobId"]]
    assert "tags" not in listed[0]


async def test_array_children_are_named_after_the_parent(batch: Any) -> None:
    """An array job's children are ``<id>:<n>``; the parent counts them by status."""
    submitted = await batch.submit_job(**job(arrayProperties={"size": 3}))
    for _ in range(200):
        [parent] = (await batch.describe_jobs(jobs=[submitted["jobId"]]))["jobs"]
        if sum(parent["arrayProperties"]["statusSummary"].values()) == 3:
            break
    assert parent["arrayProperties"]["size"] == 3
    assert len(parent["arrayProperties"]["statusSummary"]) == 7
    [child] = (await batch.describe_jobs(jobs=[f"{submitted['jobId']}:2"]))["jobs"]
    assert child["jobId"] == f"{submitted['jobId']}:2"


async def test_terminate_and_cancel_are_accepted_for_unknown_jobs(batch: Any) -> None:
    """TerminateJob and CancelJob of a job that is not there answer 200."""
    for call in (batch.terminate_job, batch.cancel_job):
        answer = await call(jobId=str(uuid.uuid4()), reason="r")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200


async def test_describe_job_queues_leaves_out_unknown_names(batch: Any) -> None:
    """Known queues are shown with state and status, unknown ones are absent."""
    [seen] = (await batch.describe_job_queues(jobQueues=["jobs", "none"]))["jobQueues"]
    assert (seen["jobQueueName"], seen["state"], seen["status"]) == ("jobs", "ENABLED", "VALID")
    assert seen["jobQueueArn"] == f"arn:aws:batch:us-east-1:{ACCOUNT}:job-queue/jobs"


async def control(simaws: Target, path: str, body: dict[str, Any]) -> None:
    """Change SimAWS from outside."""
    async with aiohttp.ClientSession() as session, session.post(f"{simaws.url}/_sim/{path}", json=body) as answer:
        assert answer.status == 200, await answer.text()


async def test_a_queue_names_compute_environments_that_can_be_described(batch: Any) -> None:
    """With state and status; unknown ones are left out."""
    (queue,) = (await batch.describe_job_queues(jobQueues=["jobs"]))["jobQueues"]
    (order,) = queue["computeEnvironmentOrder"]
    asked = [order["computeEnvironment"]]
    (environment,) = (await batch.describe_compute_environments(computeEnvironments=asked))["computeEnvironments"]
    assert (environment["state"], environment["status"]) == ("ENABLED", "VALID")
    assert order["computeEnvironment"] in (environment["computeEnvironmentName"], environment["computeEnvironmentArn"])


async def test_a_blocked_queue_says_why_of_the_job_at_its_head(simaws: Target, only_simaws: Any) -> None:
    """In DescribeJobs, ListJobs and the queue's snapshot, which moto does not have; no other job says anything."""
    reason = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested"
    await control(simaws, "job-queues", {"name": "blocked", "blocked_reason": reason})
    submit = {"jobQueue": "blocked", "jobDefinition": "work"}
    ids = [(await only_simaws.submit_job(jobName=f"j{n}", **submit))["jobId"] for n in range(2)]
    for _ in range(200):
        front = (await only_simaws.get_job_queue_snapshot(jobQueue="blocked"))["frontOfQueue"]["jobs"]
        if len(front) == 2:
            break
        await anyio.sleep(0.05)
    assert [each["jobArn"].rpartition("/")[2] for each in front] == ids
    jobs = (await only_simaws.describe_jobs(jobs=ids))["jobs"]
    assert {job["jobId"]: job.get("statusReason") for job in jobs} == {ids[0]: reason, ids[1]: None}
    listed = (await only_simaws.list_jobs(jobQueue="blocked", jobStatus="RUNNABLE"))["jobSummaryList"]
    assert {row["jobId"]: row.get("statusReason") for row in listed} == {ids[0]: reason, ids[1]: None}
    await control(simaws, "job-queues", {"name": "blocked", "blocked_reason": None})
    for _ in range(400):
        jobs = (await only_simaws.describe_jobs(jobs=ids))["jobs"]
        if {job["status"] for job in jobs} <= {"STARTING", "RUNNING", "SUCCEEDED", "FAILED"}:
            break
        await anyio.sleep(0.05)
    assert reason not in {job.get("statusReason") for job in jobs}


async def test_compute_environments_tell_what_they_were_told(simaws: Target, only_simaws: Any) -> None:
    """State, status, reason and vCPUs are whatever a test says."""
    change = {"name": "simulated", "status": "INVALID", "status_reason": "CLIENT_ERROR", "vcpus_max": 4}
    await control(simaws, "compute-environments", change)
    (found,) = (await only_simaws.describe_compute_environments(computeEnvironments=["simulated"]))[
        "computeEnvironments"
    ]
    back = {"name": "simulated", "status": "VALID", "status_reason": "ComputeEnvironment Healthy", "vcpus_max": 10_000}
    await control(simaws, "compute-environments", back)
    assert (found["status"], found["statusReason"], found["computeResources"]["maxvCpus"]) == (
        "INVALID",
        "CLIENT_ERROR",
        4,
    )


async def test_definitions_are_registered_with_rising_revisions(batch: Any) -> None:
    """Each RegisterJobDefinition makes a revision; DescribeJobDefinitions shows them."""
    name = unique()
    container = {"image": "busybox", "vcpus": 1, "memory": 64, "command": ["true"]}
    for revision in (1, 2):
        answer = await batch.register_job_definition(
            jobDefinitionName=name, type="container", containerProperties=container
        )
        assert answer["revision"] == revision
    found = (await batch.describe_job_definitions(jobDefinitionName=name))["jobDefinitions"]
    assert sorted(definition["revision"] for definition in found) == [1, 2]


async def test_over_100_ids_are_refused(only_simaws: Any) -> None:
    """DescribeJobs of 101 ids is a ClientException (moto accepts any number)."""
    with pytest.raises(only_simaws.exceptions.ClientException, match="Maximum number of jobs"):
        await only_simaws.describe_jobs(jobs=["x"] * 101)


async def test_no_ids_name_no_jobs(only_simaws: Any) -> None:
    """DescribeJobs of an empty list answers with no jobs (moto: all jobs)."""
    assert (await only_simaws.describe_jobs(jobs=[]))["jobs"] == []


async def test_bad_requests_are_refused_though_the_sdk_lets_them_pass(only_simaws: Any) -> None:
    """Sizes, names and attempts out of range are ClientExceptions (moto checks none of them)."""
    bad: list[dict[str, Any]] = [
        {"jobName": "-"},
        {"arrayProperties": {"size": 1}},
        {"retryStrategy": {"attempts": 99}},
        {"timeout": {"attemptDurationSeconds": 1}},
        {"dependsOn": [{"jobId": "x", "type": "BOGUS"}]},
    ]
    for members in bad:
        with pytest.raises(only_simaws.exceptions.ClientException):
            await only_simaws.submit_job(**job(**members))


async def test_list_without_a_status_shows_running_only_and_pages(only_simaws: Any) -> None:
    """ListJobs without jobStatus lists RUNNING jobs, in pages (moto: every status, no pages)."""
    environment = [{"name": "SIM_SECONDS", "value": "600"}]
    ids = set()
    for _ in range(3):
        request = job(containerOverrides={"environment": environment})
        ids.add((await only_simaws.submit_job(**request))["jobId"])
    for _ in range(2_000):
        shown = (await only_simaws.list_jobs(jobQueue="jobs"))["jobSummaryList"]
        assert {entry["status"] for entry in shown} <= {"RUNNING"}
        if ids <= {entry["jobId"] for entry in shown}:
            break
    pages = [page async for page in only_simaws.get_paginator("list_jobs").paginate(jobQueue="jobs", maxResults=1)]
    assert all(len(page["jobSummaryList"]) <= 1 for page in pages)
    assert ids <= {entry["jobId"] for page in pages for entry in page["jobSummaryList"]}


async def test_throttling_is_429_too_many_requests(simaws: Target, only_simaws: Any) -> None:
    """A throttled call raises TooManyRequestsException, which botocore does not model (moto never throttles)."""
    with pytest.raises(ClientError) as caught:
        await _struck(simaws, only_simaws, "throttle")
    assert caught.value.response["Error"]["Code"] == "TooManyRequestsException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429


async def test_server_errors_are_server_exceptions(simaws: Target, only_simaws: Any) -> None:
    """A 500 is botocore's ServerException."""
    with pytest.raises(only_simaws.exceptions.ServerException):
        await _struck(simaws, only_simaws, "error_500")


async def test_a_body_that_is_not_json_parses_to_nothing(simaws: Target, only_simaws: Any) -> None:
    """botocore makes an answer without a job id of a 200 that is not JSON, and of one that is empty."""
    for fault in ("not_json_after", "empty_after"):
        assert "jobId" not in await _struck(simaws, only_simaws, fault)


async def _struck(simaws: Target, batch: Any, fault: str) -> Any:
    """One SubmitJob that meets a fault; the plan is clear again afterwards."""
    async with aiohttp.ClientSession() as session:
        body = {"calls": {"SubmitJob": {fault: 1.0}}}
        async with session.post(f"{simaws.url}/_sim/faults", json=body) as answer:
            assert answer.status == 200
        try:
            return await batch.submit_job(**job())
        finally:
            async with session.delete(f"{simaws.url}/_sim/faults") as answer:
                assert answer.status == 200


# --- SQS --------------------------------------------------------------------------------------------------


async def test_a_message_goes_round(sqs: Any, queue: str) -> None:
    """Send, receive with attributes, delete: ids, digests and system attributes are as the SDK expects them."""
    attributes = {
        "traceparent": {"DataType": "String", "StringValue": "00-ab"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00\x01"},
    }
    sent = await sqs.send_message(QueueUrl=queue, MessageBody='{"a": "ü"}', MessageAttributes=attributes)
    received = await sqs.receive_message(
        QueueUrl=queue, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
    )
    [message] = received["Messages"]
    assert (message["MessageId"], message["Body"]) == (sent["MessageId"], '{"a": "ü"}')
    assert message["MD5OfBody"] == sent["MD5OfMessageBody"]
    assert message["MD5OfMessageAttributes"] == sent["MD5OfMessageAttributes"]
    assert message["MessageAttributes"]["raw"]["BinaryValue"] == b"\x00\x01"
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert message["Attributes"]["SentTimestamp"].isdecimal()
    await sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    counts = await sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
    assert counts["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "0"


async def test_message_attribute_digests_are_equal(simaws: Target, moto: Target) -> None:
    """Both compute the same MD5OfMessageAttributes for strings, numbers and binaries."""
    attributes = {
        "b": {"DataType": "Number", "StringValue": "1"},
        "a": {"DataType": "String.custom", "StringValue": "ü"},
        "c": {"DataType": "Binary", "BinaryValue": b"\xff"},
    }
    digests = []
    for target in (simaws, moto):
        async with target.client("sqs") as sqs:
            url = (await sqs.create_queue(QueueName=unique()))["QueueUrl"]
            sent = await sqs.send_message(QueueUrl=url, MessageBody="b", MessageAttributes=attributes)
            digests.append(sent["MD5OfMessageAttributes"])
    assert digests[0] == digests[1]


async def test_nothing_received_means_no_member(sqs: Any, queue: str) -> None:
    """A receive that finds nothing has no ``Messages``."""
    answer = await sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=0)
    assert "Messages" not in answer or answer["Messages"] == []


async def test_unknown_queues_raise_their_own_class_with_the_old_code(sqs: Any) -> None:
    """A queue that does not exist is QueueDoesNotExist, whose code is the query protocol's."""
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as caught:
        await sqs.receive_message(QueueUrl=f"http://localhost/{ACCOUNT}/none")
    assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"
    assert caught.value.response["Error"]["QueryErrorCode"] == "QueueDoesNotExist"


async def test_batches_answer_by_entry(sqs: Any, queue: str) -> None:
    """Batch calls take ten entries, and report a bad handle in ``Failed``."""
    entries = [{"Id": str(number), "MessageBody": str(number)} for number in range(10)]
    sent = await sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert len(sent["Successful"]) == 10
    received = (await sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10))["Messages"]
    handles = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(received)]
    answer = await sqs.delete_message_batch(QueueUrl=queue, Entries=[*handles[:9], {"Id": "x", "ReceiptHandle": "bad"}])
    assert len(answer["Successful"]) == len(handles[:9])
    assert [failed["Id"] for failed in answer["Failed"]] == ["x"]
    assert "ReceiptHandleIsInvalid" in answer["Failed"][0]["Code"]


@pytest.mark.parametrize(
    ("entries", "exception"),
    [
        ([{"Id": str(n), "MessageBody": "b"} for n in range(11)], "TooManyEntriesInBatchRequest"),
        ([{"Id": "a", "MessageBody": "b"}] * 2, "BatchEntryIdsNotDistinct"),
        ([{"Id": "a b", "MessageBody": "b"}], "InvalidBatchEntryId"),
        pytest.param(
            [{"Id": str(n), "MessageBody": "b" * 600_000} for n in range(2)],
            "BatchRequestTooLong",
            marks=pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
        ),
    ],
)
async def test_bad_batches_raise_their_own_classes(sqs: Any, queue: str, entries: Any, exception: str) -> None:
    """Each rule of batch calls has its modelled exception."""
    with pytest.raises(getattr(sqs.exceptions, exception)):
        await sqs.send_message_batch(QueueUrl=queue, Entries=entries)


async def test_a_released_message_is_received_again(sqs: Any, queue: str) -> None:
    """ChangeMessageVisibilityBatch with 0 makes a message visible at once, with a raised count."""
    await sqs.send_message(QueueUrl=queue, MessageBody="b")
    [first] = (await sqs.receive_message(QueueUrl=queue))["Messages"]
    entry = {"Id": "a", "ReceiptHandle": first["ReceiptHandle"], "VisibilityTimeout": 0}
    released = await sqs.change_message_visibility_batch(QueueUrl=queue, Entries=[entry])
    assert [done["Id"] for done in released["Successful"]] == ["a"]
    again = await sqs.receive_message(QueueUrl=queue, MessageSystemAttributeNames=["ApproximateReceiveCount"])
    assert again["Messages"][0]["Attributes"] == {"ApproximateReceiveCount": "2"}


async def test_dead_letters_go_to_their_queue(sqs: Any, queue: str) -> None:
    """A message received more often than maxReceiveCount is found in the dead-letter queue."""
    dead = (await sqs.create_queue(QueueName=unique()))["QueueUrl"]
    arn = (await sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"]))["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "1"})
    await sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": policy})
    await sqs.send_message(QueueUrl=queue, MessageBody="poison")
    await sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0)
    assert not (await sqs.receive_message(QueueUrl=queue)).get("Messages")
    assert [m["Body"] for m in (await sqs.receive_message(QueueUrl=dead))["Messages"]] == ["poison"]


async def test_queue_urls_are_found_by_name(sqs: Any, queue: str) -> None:
    """GetQueueUrl gives the URL CreateQueue gave; creating it again changes nothing."""
    name = queue.rpartition("/")[2]
    assert (await sqs.get_queue_url(QueueName=name))["QueueUrl"] == queue
    assert (await sqs.create_queue(QueueName=name))["QueueUrl"] == queue


async def test_a_fifo_queue_keeps_order_and_drops_duplicates(sqs: Any) -> None:
    """Two messages of a group come in order, a duplicate is swallowed."""
    attributes = {"FifoQueue": "true"}
    url = (await sqs.create_queue(QueueName=f"{unique()}.fifo", Attributes=attributes))["QueueUrl"]
    for body, key in (("1", "a"), ("2", "b"), ("1", "a")):
        await sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="g", MessageDeduplicationId=key)
    received = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    assert [message["Body"] for message in received["Messages"]] == ["1", "2"]


async def test_visibility_of_a_message_not_in_flight_cannot_be_changed(only_simaws_sqs: Any) -> None:
    """ChangeMessageVisibility after a release is MessageNotInflight (moto lets an expired handle pass)."""
    sqs = only_simaws_sqs
    url = (await sqs.create_queue(QueueName=unique()))["QueueUrl"]
    await sqs.send_message(QueueUrl=url, MessageBody="b")
    [message] = (await sqs.receive_message(QueueUrl=url, VisibilityTimeout=0))["Messages"]
    with pytest.raises(sqs.exceptions.MessageNotInflight):
        await sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=5)


# --- STS --------------------------------------------------------------------------------------------------


async def test_the_caller_is_of_this_account(target: Target) -> None:
    """GetCallerIdentity answers with the account id and an ARN in it."""
    async with target.client("sts") as sts:
        identity = await sts.get_caller_identity()
    assert identity["Account"] == ACCOUNT
    assert f"::{ACCOUNT}:" in identity["Arn"]
