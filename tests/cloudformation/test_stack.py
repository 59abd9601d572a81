"""The created stack: queues and their policies, the role, and a real controller that consumes from its queue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.simaws.process import SimProcess
from tests.cloudformation.conftest import ACCOUNT, REGION, STACK, Create, Stack
from tests.cloudformation.moto_gaps import PodIdentityAssociation
from tests.cloudformation.template import load
from tests.e2e.service import DEADLINE_S, wait_for

QUEUES = ("RequestQueueUrl", "DeadLetterQueueUrl", "UndeliverableQueueUrl", "EventsQueueUrl", "CompletionQueueUrl")
PROVIDER = "oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF"


def arn(name: str) -> str:
    return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{STACK}-{name}"


def test_outputs_are_what_the_configuration_asks_for(create: Create) -> None:
    """Five queue URLs and two policies; role and key only when asked for."""
    assert set(create().outputs) == {*QUEUES, "ControllerPolicyArn", "ProducerPolicyArn"}


def test_a_request_that_is_never_acknowledged_goes_to_the_undeliverable_queue(create: Create) -> None:
    """SQS moves it after MaxReceiveCount receives; only the request queue may use that queue; it keeps longest."""
    stack = create(MaxReceiveCount="7")
    requests, undeliverable = stack.attributes("RequestQueueUrl"), stack.attributes("UndeliverableQueueUrl")
    assert requests["RedrivePolicy"] == {"deadLetterTargetArn": undeliverable["QueueArn"], "maxReceiveCount": 7}
    assert int(undeliverable["MessageRetentionPeriod"]) > int(requests["MessageRetentionPeriod"])
    sqs, url = stack.client("sqs"), stack.outputs["RequestQueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="poison")
    for _ in range(8):
        sqs.receive_message(QueueUrl=url, VisibilityTimeout=0, WaitTimeSeconds=0)
    moved = sqs.receive_message(QueueUrl=stack.outputs["UndeliverableQueueUrl"], WaitTimeSeconds=0)["Messages"]
    assert [message["Body"] for message in moved] == ["poison"]


def test_only_the_request_queue_redrives(create: Create) -> None:
    """Refused bodies, completions and hints are never moved by SQS: they were judged, or matter no more."""
    stack = create()
    assert [name for name in QUEUES if "RedrivePolicy" in stack.attributes(name)] == ["RequestQueueUrl"]
    assert int(stack.attributes("EventsQueueUrl")["MessageRetentionPeriod"]) == 3600


def test_only_this_rule_writes_to_the_events_queue(create: Create) -> None:
    """EventBridge is let in for the stack's own rule and nobody else's."""
    stack = create()
    (rule,) = stack.client("events").list_rules()["Rules"]
    policy = {entry["Sid"]: entry for entry in stack.attributes("EventsQueueUrl")["Policy"]["Statement"]}
    assert policy["EventsOfThisRuleOnly"] == {
        "Sid": "EventsOfThisRuleOnly",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn("events"),
        "Condition": {"ArnEquals": {"aws:SourceArn": rule["Arn"]}},
    }


def test_every_queue_is_encrypted_and_refuses_plain_http(create: Create) -> None:
    """With SQS's own key by default, and TLS only."""
    stack = create()
    for name in QUEUES:
        attributes = stack.attributes(name)
        assert attributes["SqsManagedSseEnabled"] == "true"
        assert "KmsMasterKeyId" not in attributes
        denied = [entry for entry in attributes["Policy"]["Statement"] if entry["Effect"] == "Deny"]
        assert [entry["Condition"] for entry in denied] == [{"Bool": {"aws:SecureTransport": "false"}}]


def test_one_key_of_our_own_encrypts_all_queues_and_lets_eventbridge_in(create: Create) -> None:
    """SSE-KMS: a rotating key for all five queues, usable by controller, producers and EventBridge."""
    stack = create(Encryption="SSE-KMS")
    key = stack.outputs["QueueKeyArn"]
    assert {stack.attributes(name)["KmsMasterKeyId"] for name in QUEUES} == {key}
    kms = stack.client("kms")
    assert kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is True
    policy = kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]
    document = json.loads(policy) if isinstance(policy, str) else policy
    (bridge,) = [s for s in document["Statement"] if s["Principal"] == {"Service": "events.amazonaws.com"}]
    assert set(bridge["Action"]) == {"kms:GenerateDataKey", "kms:Decrypt"}
    for output in ("ControllerPolicyArn", "ProducerPolicyArn"):
        assert stack.statements(output)["UseTheQueuesKey"]["Resource"] == key


def test_permissions_are_narrowed_to_the_given_job_queues_and_definitions(create: Create) -> None:
    """ARNs given as parameters are the only ones in SubmitJob, TagResource and the queue's snapshot."""
    queues = [f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{name}" for name in ("high", "low")]
    definition = f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/work:*"
    stack = create(JobQueueArns=",".join(queues), JobDefinitionArns=definition)
    allowed = stack.statements("ControllerPolicyArn")
    on_queues = {sid for sid, each in allowed.items() if each["Resource"] == queues}
    on_definitions = {sid for sid, each in allowed.items() if each["Resource"] == [definition]}
    assert on_queues == {"SubmitToJobQueues", "TagAtSubmitOnJobQueues", "SeeTheHeadOfJobQueues"}
    assert on_definitions == {"SubmitJobDefinitions", "TagAtSubmitOnJobDefinitions"}
    assert not {sid for sid in allowed if sid == "UseTheQueuesKey" or "Extra" in sid}


def test_queues_of_ones_own_are_received_from_and_sent_to_and_nothing_else(create: Create) -> None:
    """Further queues of requests may be received from and deleted from, further sinks sent to, and no others."""
    consumed, sink = [arn("team-a"), arn("team-b")], "arn:aws:sqs:eu-west-1:444455556666:results"
    stack = create(ExtraRequestQueueArns=",".join(consumed), ExtraSinkQueueArns=sink)
    allowed = stack.statements("ControllerPolicyArn")
    extra = {sid: (each["Action"], each["Resource"]) for sid, each in allowed.items() if "Extra" in sid}
    assert extra == {
        "ReceiveFromExtraRequestQueues": ("sqs:ReceiveMessage", consumed),
        "DeleteFromExtraRequestQueues": ("sqs:DeleteMessage", consumed),
        "SendToExtraSinkQueues": ("sqs:SendMessage", [sink]),
    }
    assert allowed["ReceiveRequestsAndEvents"]["Resource"] == [arn("requests"), arn("events")]


@pytest.mark.parametrize("own_only", ["true", "false"])
def test_terminate_is_for_jobs_that_carry_our_tag(create: Create, own_only: str) -> None:
    """By default a job without the controller's tag can't be terminated; without tags the condition can be left out."""
    statement = create(TerminateOnlyOwnJobs=own_only).statements("ControllerPolicyArn")["CancelJobs"]
    tagged = {"Null": {"aws:ResourceTag/batch-controller/request-id": "false"}}
    assert statement.get("Condition") == (tagged if own_only == "true" else None)


def test_irsa_role_trusts_one_service_account(create: Create) -> None:
    """The trust names the provider, the audience and exactly one service account; the policy is attached."""
    stack = create(OidcProviderArn=f"arn:aws:iam::{ACCOUNT}:oidc-provider/{PROVIDER}", ServiceAccountNamespace="jobs")
    (role,) = stack.client("iam").list_roles()["Roles"]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert role["Arn"] == stack.outputs["ControllerRoleArn"]
    assert statement["Principal"] == {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{PROVIDER}"}
    assert statement["Condition"]["StringEquals"] == {
        f"{PROVIDER}:aud": "sts.amazonaws.com",
        f"{PROVIDER}:sub": "system:serviceaccount:jobs:batch-job-controller",
    }
    # moto attaches no policies to the roles of a stack: read from the template.
    assert load()["Resources"]["ControllerRole"]["Properties"]["ManagedPolicyArns"] == [{"Ref": "ControllerPolicy"}]


def test_pod_identity_role_is_associated(create: Create) -> None:
    """The trust is EKS Pod Identity's, for one service account of one cluster, and the association is made."""
    stack = create(PodIdentityCluster="prod")
    (role,) = stack.client("iam").list_roles()["Roles"]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {
        "aws:RequestTag/eks-cluster-name": "prod",
        "aws:RequestTag/kubernetes-namespace": "batch",
        "aws:RequestTag/kubernetes-service-account": "batch-job-controller",
    }
    assert [dict(made) for made in PodIdentityAssociation.made] == [
        {
            "ClusterName": "prod",
            "Namespace": "batch",
            "ServiceAccount": "batch-job-controller",
            "RoleArn": stack.outputs["ControllerRoleArn"],
        }
    ]


# --- a controller on the stack ------------------------------------------------------------------------------


@pytest.fixture
def batch() -> Iterator[SimProcess]:
    with SimProcess(["--region", REGION, "--account", ACCOUNT, "--job-queue", "high", "--job-definition", "work",
                     "--max-seconds", "120"]) as sim:  # fmt: skip
        yield sim


@pytest.mark.e2e
def test_a_controller_works_off_the_created_queues(create: Create, batch: SimProcess, tmp_path: Path) -> None:
    """A real process on the stack's outputs: a request becomes a job, its events reach the completion queue, a bad
    body reaches the dead-letter queue, and the request queue is empty at the end."""
    stack = create()
    sqs = stack.client("sqs")
    for body in ('{"requestId": "r1", "jobName": "hello", "jobQueue": "high", "jobDefinition": "work"}', "not json"):
        sqs.send_message(QueueUrl=stack.outputs["RequestQueueUrl"], MessageBody=body)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "controller", "run", "--queue-url", stack.outputs["RequestQueueUrl"]],
            env=environment(stack, batch, tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        completions = Received(stack, "CompletionQueueUrl")
        wait_for(lambda: completions.types() >= {"job.finished", "request.rejected"}, what="both ends are reported")
        letters = Received(stack, "DeadLetterQueueUrl")
        wait_for(letters.poll, what="the dead letter")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0, (tmp_path / "log").read_text()[-4000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    (letter,) = letters.messages
    assert letter["Body"] == "not json"
    assert letter["MessageAttributes"]["error_code"]["StringValue"] == "invalid_json"
    finished = next(
        e for e in map(json.loads, completions.bodies()) if e["type"].startswith("batch-controller.job.fin")
    )
    assert (finished["subject"], finished["data"]["outcome"]) == ("r1", "succeeded")
    assert batch.control("history/names?tag=batch-controller/request-id")["counts"] == {"r1": 1}
    left = stack.attributes("RequestQueueUrl")
    assert (left["ApproximateNumberOfMessages"], left["ApproximateNumberOfMessagesNotVisible"]) == ("0", "0")


class Received:
    """What has arrived in the queue of an output so far."""

    def __init__(self, stack: Stack, output: str) -> None:
        self._sqs, self._url = stack.client("sqs"), stack.outputs[output]
        self.messages: list[dict[str, Any]] = []

    def poll(self) -> list[dict[str, Any]]:
        answer = self._sqs.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=10, WaitTimeSeconds=0, MessageAttributeNames=["All"]
        )
        self.messages += answer.get("Messages", ())
        return self.messages

    def bodies(self) -> list[str]:
        return [message["Body"] for message in self.messages]

    def types(self) -> set[str]:
        self.poll()
        names = {json.loads(body)["type"] for body in self.bodies()}
        return {name.removeprefix("batch-controller.").removesuffix(".v1") for name in names}


def environment(stack: Stack, batch: SimProcess, directory: Path) -> dict[str, str]:
    """SQS is moto's, AWS Batch and STS are the simulated ones: the SDK's own variables say so."""
    sinks = [{"type": "sqs", "queue_url": stack.outputs["CompletionQueueUrl"]}]
    ours = {
        "STORE__URL": f"sqlite:///{directory / 'state.db'}",
        "INTAKE__DEAD_LETTER_QUEUE_URL": stack.outputs["DeadLetterQueueUrl"],
        "SINKS": json.dumps(sinks),
        "HTTP__HOST": "127.0.0.1",
        "HTTP__PORT": "0",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BATCH_"))}
    return {
        **inherited,
        "AWS_ENDPOINT_URL_SQS": stack.url,
        "AWS_ENDPOINT_URL_BATCH": batch.url,
        "AWS_ENDPOINT_URL_STS": batch.url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "simulated",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        **{f"BATCH_CONTROLLER_{name}": value for name, value in ours.items()},
    }
