"""The template before it is deployed: what its parameters take."""

from __future__ import annotations

import re

import pytest

from tests.cloudformation.template import PATH, load

QUEUE = "arn:aws:batch:eu-central-1:111122223333:job-queue/"
SQS = "arn:aws:sqs:eu-central-1:111122223333:"
DEFINITION = "arn:aws:batch:eu-central-1:111122223333:job-definition/"


def matches(parameter: str, value: str) -> bool:
    """CloudFormation holds the pattern against the whole value; of a list, against each member."""
    spec = load()["Parameters"][parameter]
    values = value.split(",") if spec["Type"] == "CommaDelimitedList" else [value]
    return all(re.fullmatch(spec["AllowedPattern"], each) for each in values)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("JobQueueArns", ""),
        ("JobQueueArns", f"{QUEUE}high,{QUEUE}low_2"),
        ("JobQueueArns", "arn:aws-us-gov:batch:us-gov-west-1:111122223333:job-queue/high"),
        ("JobDefinitionArns", f"{DEFINITION}render,{DEFINITION}render:*,{DEFINITION}render-*,{DEFINITION}render:3"),
        ("ExtraRequestQueueArns", ""),
        ("ExtraRequestQueueArns", f"{SQS}team-a,{SQS}team_b.fifo"),
        ("ExtraSinkQueueArns", "arn:aws-cn:sqs:cn-north-1:444455556666:results"),
        ("OidcProviderArn", "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/EX"),
        ("PodIdentityCluster", "prod-1"),
        ("ServiceAccountNamespace", "batch"),
        ("ServiceAccountName", "batch-job-controller"),
    ],
)
def test_parameter_takes(parameter: str, value: str) -> None:
    """Values as AWS and Kubernetes write them."""
    assert matches(parameter, value)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("JobQueueArns", "high"),
        ("JobQueueArns", f"{QUEUE}*"),  # the rule's pattern knows no wildcards: no event would pass
        ("JobQueueArns", f"{QUEUE}high, {QUEUE}low"),
        ("JobQueueArns", f"{DEFINITION}render"),
        ("JobDefinitionArns", "*"),
        ("JobDefinitionArns", f"{QUEUE}high"),
        ("ExtraRequestQueueArns", "https://sqs.eu-central-1.amazonaws.com/111122223333/team-a"),
        ("ExtraRequestQueueArns", f"{SQS}team-*"),
        ("ExtraSinkQueueArns", f"{SQS}*"),
        ("ExtraSinkQueueArns", f"{SQS}results, {SQS}more"),
        ("OidcProviderArn", "oidc.eks.eu-central-1.amazonaws.com/id/EX"),
        ("ServiceAccountNamespace", "*"),
        ("ServiceAccountName", 'x", "y'),
        ("ServiceAccountName", "a*"),
    ],
)
def test_parameter_refuses(parameter: str, value: str) -> None:
    """Names where ARNs are meant, wildcards that would widen permissions or stop all events, and broken lists."""
    assert not matches(parameter, value)


def test_every_parameter_and_output_says_what_it_is_for() -> None:
    """Descriptions everywhere; a parameter with a pattern says in words what is wrong."""
    loaded = load()
    for name, spec in {**loaded["Parameters"], **loaded["Outputs"]}.items():
        assert len(spec["Description"]) > 10, name
    assert all("ConstraintDescription" in s for s in loaded["Parameters"].values() if "AllowedPattern" in s)


def test_what_holds_messages_survives_the_stack() -> None:
    """Deleting or replacing the stack keeps requests, dead letters, completions, and the key that decrypts them."""
    resources = load()["Resources"]
    kept = {name for name, spec in resources.items() if spec.get("DeletionPolicy") == "RetainExceptOnCreate"}
    assert kept == {"RequestQueue", "UndeliverableQueue", "DeadLetterQueue", "CompletionQueue", "QueueKey"}
    assert all(resources[name]["UpdateReplacePolicy"] == "Retain" for name in kept)


def test_the_template_is_small_enough_to_be_given_as_it_is() -> None:
    """CloudFormation takes up to 51,200 bytes without an S3 bucket."""
    assert PATH.stat().st_size < 51_200
