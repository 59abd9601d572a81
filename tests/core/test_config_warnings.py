"""What is allowed and unwise is told, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.config import load_settings

QUEUE = "https://sqs.eu-central-1.amazonaws.com/111122223333/requests"
DEAD_LETTERS = {"BATCH_CONTROLLER_INTAKE__DEAD_LETTER_QUEUE_URL": QUEUE + "-rejected"}


def warnings(**values: Any) -> list[str]:
    """Warnings with these keys set, ``section__key=value``."""
    environ = {
        f"BATCH_CONTROLLER_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }
    return load_settings(None, queue_urls=[QUEUE], environ=DEAD_LETTERS | environ).warnings()


def test_that_rejected_bodies_are_kept_nowhere_is_told() -> None:
    """One queue URL is all that must be given, and this is all that there is to say about it."""
    (text,) = load_settings(None, queue_urls=[QUEUE], environ={}).warnings()
    assert text.startswith("intake.dead_letter_queue_url: is not given, so the bodies of rejected requests are kept no")


@pytest.mark.parametrize(
    "region",
    [
        "eu-central-1",
        "ap-southeast-7",
        "us-gov-west-1",
        "cn-north-1",
        "us-iso-east-1",
        "us-isob-east-1",
        "eusc-de-east-1",
    ],
)
def test_a_region_of_any_partition_is_one(region: str) -> None:
    """Of the public cloud, of governments, of China, and of the sovereign and the isolated ones."""
    assert warnings(aws__region=region) == []


@pytest.mark.parametrize("region", ["eu-central", "eucentral1", "central-1", "local", "eu-central-1a"])
def test_what_does_not_look_like_a_region_is_told_and_taken(region: str) -> None:
    """A stand-in may call itself as it likes."""
    (text,) = warnings(aws__region=region)
    assert text.startswith("aws.region: is not of the form of AWS's Regions, such as eu-central-1; unless it is a st")


def sqs_sink(queue: str) -> dict[str, str]:
    return {"type": "sqs", "queue_url": f"https://sqs.eu-central-1.amazonaws.com/111122223333/{queue}"}


@pytest.mark.parametrize(
    ("values", "key", "why"),
    [
        ({"submit__settle_s": 329}, "submit.settle_s", "may become two jobs"),
        ({"submit__rate_per_s": 51, "aws__total_rate_per_s": 50}, "submit.rate_per_s", "AWS Batch allows"),
        ({"aws__total_rate_per_s": 60}, "aws.total_rate_per_s", "AWS Batch allows"),
        ({"aws__total_rate_per_s": 30}, "aws.total_rate_per_s", "below submit.rate_per_s, which can't be reached"),
        ({"submit__rate_per_s": 45}, "aws.total_rate_per_s", "slow each other down"),
        ({"controller__drain_s": 5}, "controller.drain_s", "below 20 s"),
        ({"submit__timeout_s": 60}, "controller.drain_s", "below 60 s"),
        ({"intake__paused": True}, "intake.paused", "no cancels are received"),
        ({"intake__visibility_timeout_s": 5}, "intake.visibility_timeout_s", "deliver the messages again"),
        ({"retention__final_s": 345600}, "retention.final_s", "runs again"),
        ({"retention__final_s": 299}, "retention.final_s", "the job of an earlier request"),
        ({"retention__final_s": 1_100_000}, "retention.final_s", "1100000 s is below"),
        ({"track__lost_after_s": 5}, "track.lost_after_s", "while it runs"),
        ({"track__interval_s_max": 7200}, "track.interval_s_max", "reported late"),
        ({"queues": {"*": {"paused": True}}}, 'queues."*".paused', "is paused"),
        ({"queues": {"q": {"max_in_flight": 10, "max_waiting": 11}}}, 'queues."q".max_waiting', "never reached"),
        ({"policy__allowed_job_queues": []}, "policy.allowed_job_queues", "every request is rejected"),
        ({"sinks": []}, "sinks", "no sink gets request.rejected, job.finished, job.lost, job.cancelled"),
        ({"sinks": [{"type": "log", "events": ["job.*"]}]}, "sinks", "no sink gets request.rejected;"),
        ({"sinks": [sqs_sink("a"), sqs_sink("b")]}, "sinks", "sqs, sqs-2 have these names by their places"),
    ],
)
def test_an_unwise_value_is_told_with_its_reason(values: dict[str, Any], key: str, why: str) -> None:
    """Each unwise value makes a warning that begins with the key and says what follows from it."""
    assert any(text.startswith(f"{key}: ") and why in text for text in warnings(**values)), warnings(**values)


def test_wise_values_are_not_warned_of() -> None:
    """Values on the wise side of each mark are silent."""
    assert warnings(submit__settle_s=330, controller__drain_s=20, submit__rate_per_s=10, track__lost_after_s=60) == []


def test_sinks_that_keep_their_names_are_not_warned_of() -> None:
    """One of each type keeps its name whatever is taken out; so does one that was given a name."""
    sinks = [{"type": "log"}, sqs_sink("a"), {**sqs_sink("b"), "name": "b"}]
    assert warnings(sinks=sinks) == []


@pytest.mark.parametrize(
    "queues", [{"q": {"max_in_flight": 10}}, {"q": {"max_in_flight": 10}, "*": {"max_waiting": 500}}]
)
def test_nobody_is_warned_of_what_they_did_not_set(queues: dict[str, Any]) -> None:
    """To lower the jobs in flight of a queue below what may wait in it by default, or in all others, is no mistake."""
    assert warnings(queues=queues) == []
