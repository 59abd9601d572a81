"""A secret in a request's environment, parameters or command goes to AWS Batch and nowhere else."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError

from controller.adapters.aws_errors import classify, classify_submit, values_to_redact
from controller.simaws.process import SimProcess
from tests.e2e.service import Service, get_json, request, wait_for
from tests.security.quoting_aws import ANSWERS, quoting_aws

CANARY = "c4n4ry"
"""Part of every secret; found nowhere in what the controller writes."""
SECRETS = (
    f"{CANARY}-plain",
    f'{CANARY} "quoted" \\ and\nin lines\t',
    f"{CANARY}-gr\u00fc\u00df-\U0001f4a3",
    f"pass={CANARY};x",
    f"{CANARY}",
)


def secretive(secret: str) -> list[dict[str, Any]]:
    """Members that carry a secret, in every place where AWS Batch takes one."""
    pair = [{"name": "TOKEN", "value": secret}]
    return [
        {"containerOverrides": {"environment": pair, "command": ["login", secret]}},
        {"parameters": {"token": secret}},
        {"ecsPropertiesOverride": {"taskProperties": [{"containers": [{"name": "a", "environment": pair}]}]}},
        {"eksPropertiesOverride": {"podProperties": {"containers": [{"env": pair, "args": [secret]}]}}},
        {
            "nodeOverrides": {
                "nodePropertyOverrides": [{"targetNodes": "0:", "containerOverrides": {"environment": pair}}]
            }
        },
    ]


def misplaced(secret: str) -> list[Any]:
    """Bodies that are rejected at intake, with the secret where it does not belong."""
    return [
        {"containerOverrides": {"environment": {"TOKEN": secret}}},
        {"containerOverrides": {"environment": [{"name": "TOKEN", "value": [secret]}]}},
        {"containerOverrides": {"environment": [secret]}},
        {"containerOverrides": secret},
        {"parameters": {"token": {"value": secret}}},
        {"parameters": secret},
        {"retryStrategy": {"attempts": secret}},
        {"environment": [{"name": "TOKEN", "value": secret}]},
        {"jobName": secret + "!"},
        {"jobQueue": secret + "!"},
        {"requestId": secret + "!"},
        {"expiresAt": secret},
        {"action": secret},
        {"shareIdentifier": secret + "!"},
        {"dependsOn": [{"jobId": "x", "type": secret}]},
    ]


class Quoted(Service):
    """A controller whose AWS quotes what it refuses."""

    url = ""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "AWS_ENDPOINT_URL": self.url}


@pytest.fixture
def sim() -> Iterator[SimProcess]:
    with SimProcess(["--job-queue", "high", "--job-queue", "denied", "--job-queue", "strange", "--job-queue", "broken",
                     "--job-definition", "work", "--sqs-queue", "requests", "--sqs-queue", "dead",
                     "--sqs-queue", "events-out", "--max-seconds", "200"]) as process:  # fmt: skip
        yield process


@pytest.mark.e2e
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_output_holds_a_secret_even_if_aws_quotes_the_whole_request(
    log_format: str, sim: SimProcess, tmp_path: Path
) -> None:
    """Accepted, failing, rejected, refused, denied and broken-off requests: their secrets are in no event, log line,
    metric, health answer, sink, or attribute of a dead letter, whatever AWS repeats of them."""
    sinks = [{"type": "log"}, {"type": "sqs", "queue_url": sim.queue_urls["events-out"]}]
    settings = {
        "LOG__FORMAT": log_format,
        "LOG__LEVEL": "debug",
        "SUBMIT__SETTLE_S": "1",
        "LIST__RATE_PER_S": "20",
        "SINKS": json.dumps(sinks),
    }
    controller = Quoted(tmp_path, sim, settings=settings)
    bodies = [json.dumps(body) for body in requests(log_format)]
    bodies += [
        f'{{"jobName": "{CANARY}',
        f"{CANARY}: yaml",
        f'["{CANARY}"]',
        f'{{"parameters": {{"{CANARY}-key": nul}}}}',
    ]
    with quoting_aws(sim.url) as controller.url:
        controller.start()
        try:
            controller.send(bodies)
            wait_for(lambda: is_through(controller, log_format), what="every kind of end", within_s=100)
            health = json.dumps(get_json(f"http://127.0.0.1:{controller.port}/readyz")[1])
            with urlopen(f"http://127.0.0.1:{controller.port}/metrics", timeout=10) as answer:
                metrics = answer.read().decode()
            shown = pages_of_requests(controller)
            letters = controller.dead_letters()
            assert controller.stop() == 0
        finally:
            controller.close()
    assert letters
    outputs = {
        "events": (tmp_path / "events.jsonl").read_text(),
        "log": (tmp_path / "log.jsonl").read_text(),
        "readyz": health,
        "metrics": metrics,
        "requests": shown,
        "sink": json.dumps(sink(sim)),
        "dead-letter attributes": json.dumps([letter["MessageAttributes"] for letter in letters]),
    }
    leaks = {name: around(text) for name, text in outputs.items() if CANARY in text}
    assert not leaks
    assert any(CANARY in letter["Body"] for letter in letters), "the body of a dead letter is the producer's own"
    assert "***" in outputs["log"] + outputs["events"], "AWS's words were shown, with the secrets left out"


def requests(log_format: str) -> Iterator[dict[str, Any]]:
    number = 0
    for turn, secret in enumerate(SECRETS if log_format == "json" else SECRETS[:2]):
        for place, members in enumerate(secretive(secret)):
            # Each secret is refused in each place; the other ends meet a different place with each secret.
            for kind in ("good", "failing", *ANSWERS) if place == turn else ("refused",):
                number += 1
                queue = kind if kind in ("denied", "strange", "broken") else "high"
                body = {**request(number), "jobName": f"{kind}-{number}", "jobQueue": queue, **members}
                if kind == "failing" and "containerOverrides" in members:
                    environment = [*members["containerOverrides"]["environment"], {"name": "SIM_EXIT", "value": "3"}]
                    body["containerOverrides"] = {**members["containerOverrides"], "environment": environment}
                yield body
        for members in misplaced(secret):
            number += 1
            yield {**request(number), **members}


def pages_of_requests(controller: Service) -> str:
    """The list of all requests, and each of them."""
    url = f"http://127.0.0.1:{controller.port}/requests"
    wanted = {"QUEUED", "SUCCEEDED", "FAILED", "REJECTED"}

    def of_every_state() -> Any:
        listed = get_json(f"{url}?limit=1000")[1]
        return listed if wanted <= {each["state"] for each in listed["requests"]} else None

    listed = wait_for(of_every_state, what="requests of every state are listed")
    assert "next" not in listed
    return json.dumps([listed, *(get_json(f"{url}/{each['request_id']}") for each in listed["requests"])])


def is_through(controller: Service, log_format: str) -> bool:
    """Every request has ended but those whose queue is held or whose submission is in doubt, and these were met."""
    events = controller.events()
    seen = {event["event"] for event in events}
    ends = {"job.finished", "request.rejected"}
    wanted = sum(
        1 for body in requests(log_format) if body["jobName"].partition("-")[0] in ("good", "failing", "refused")
    )
    finals = [event for event in events if event["event"] in ends and str(event.get("request_id")).startswith("r")]
    return seen >= {*ends, "job_queue.held", "submission.in_doubt"} and len(finals) >= wanted


def sink(sim: SimProcess) -> list[Any]:
    """Everything that reached the SQS sink."""
    reader = Service(Path(), sim)
    found: list[Any] = []
    while got := reader.call_sqs(
        "ReceiveMessage",
        {"QueueUrl": sim.queue_urls["events-out"], "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]},
    ).get("Messages"):
        found += [{**message, "ReceiptHandle": ""} for message in got]
    assert found
    return found


def around(text: str) -> str:
    at = text.index(CANARY)
    return text[max(0, at - 300) : at + 100]


# --- errors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", SECRETS)
def test_the_traceback_of_a_refusal_holds_no_secret(secret: str) -> None:
    """A cause is shown by a traceback, so it does not keep the service's own words."""
    arguments = {"jobName": "x", **secretive(secret)[0]}
    said = f"bad {json.dumps(arguments)} {secret}"
    for classified in (submit_refusal, send_refusal):
        error = classified(said, arguments)
        try:
            try:
                raise error
            except Exception:
                raise AssertionError("a mistake of ours, met while handling it")  # noqa: B904
        except AssertionError as mistake:
            text = "".join(traceback.format_exception(mistake))
        assert "ClientException" in text
        assert CANARY not in text


def submit_refusal(said: str, arguments: dict[str, Any]) -> Exception:
    error = answered(said, "SubmitJob")
    return classify_submit(error, call="batch:SubmitJob", was_sent=True, redact=values_to_redact(arguments))


def send_refusal(said: str, _: dict[str, Any]) -> Exception:
    return classify(answered(said, "SendMessageBatch"), call="sqs:SendMessageBatch", is_quoted=False)


def answered(said: str, operation: str) -> ClientError:
    error = {"Error": {"Code": "ClientException", "Message": said}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(error, operation)  # type: ignore[arg-type]
