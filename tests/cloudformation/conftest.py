"""The stack, created by moto's CloudFormation in moto's SQS, EventBridge, IAM and KMS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from moto.core.config import default_user_config
from moto.server import ThreadedMotoServer

from tests.cloudformation.moto_gaps import PodIdentityAssociation
from tests.cloudformation.template import PATH

ACCOUNT = "123456789012"
REGION = "eu-central-1"
STACK = "batch"


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


@dataclass(frozen=True, slots=True)
class Stack:
    """A created stack."""

    url: str
    outputs: Mapping[str, str]

    def client(self, service: str) -> Any:
        return client(service, self.url)

    def attributes(self, output: str) -> dict[str, Any]:
        """Attributes of the queue that an output names, JSON ones decoded."""
        answer = self.client("sqs").get_queue_attributes(QueueUrl=self.outputs[output], AttributeNames=["All"])
        return {
            name: json.loads(value) if value.startswith("{") else value for name, value in answer["Attributes"].items()
        }

    def statements(self, output: str) -> dict[str, dict[str, Any]]:
        """Statements of the managed policy that an output names, by their Sid."""
        iam, arn = self.client("iam"), self.outputs[output]
        version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        return {statement["Sid"]: statement for statement in document["Statement"]}


Create = Callable[..., Stack]


def client(service: str, url: str) -> Any:
    return boto3.client(service, region_name=REGION, endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="a")


@pytest.fixture
def create(moto_url: str) -> Create:
    """Creates the stack in an empty account; parameters as keywords."""
    urlopen(Request(f"{moto_url}/moto-api/reset", method="POST")).close()
    PodIdentityAssociation.made.clear()

    def made(**parameters: str) -> Stack:
        cloudformation = client("cloudformation", moto_url)
        cloudformation.create_stack(
            StackName=STACK,
            TemplateBody=PATH.read_text(),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()],
            Capabilities=["CAPABILITY_IAM"],
            Tags=[{"Key": "team", "Value": "platform"}],
        )
        (stack,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE", stack
        return Stack(moto_url, {entry["OutputKey"]: entry["OutputValue"] for entry in stack["Outputs"]})

    return made
