"""Whatever a message holds, it is accepted or rejected with a reason, and nothing of it escapes into a line of ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.adapters.batch_model import submit_job_shape
from controller.core.problems import REASON_BYTES_MAX
from controller.core.request import CancelRequest, Rejection, Rules, SubmitRequest, parse
from controller.core.request_policy import Policy, Scope
from controller.simaws.process import SimProcess
from tests.e2e.service import FINAL, Service, get_json, request, wait_for
from tests.security.corpus import RAW, TEXTS, WIRE

UNSAFE = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What no output may hold as it is; LF ends a line."""
RULES = Rules(shapes=submit_job_shape(), policy=Policy(), scope=Scope(region="us-east-1", account="123456789012"))


@pytest.mark.parametrize("corpus", [WIRE, RAW], ids=["wire", "raw"])
def test_every_body_is_judged_and_no_reason_repeats_it(corpus: dict[str, str]) -> None:
    """No body raises; a reason is short, in printable characters, and quotes no text of the body."""
    words = ("31m", "owned", "evil", "forged", "DROP", "jndi", "passwd", "polluted")
    for name, body in corpus.items():
        judged = parse(body, message_id="m-1", rules=RULES)
        assert isinstance(judged, (SubmitRequest, CancelRequest, Rejection)), name
        if isinstance(judged, Rejection):
            assert 10 < len(judged.reason.encode()) <= REASON_BYTES_MAX, name
            assert judged.error_code, name
            assert not UNSAFE.search(judged.reason), name
            assert "\n" not in judged.reason, name
            assert not [word for word in words if word in judged.reason], name


def test_the_corpus_reaches_both_ends() -> None:
    """It holds bodies that are right in spite of their looks, and every code of a rejection that needs no policy."""
    judged = [parse(body, message_id="m-1", rules=RULES) for body in WIRE.values()]
    codes = {each.error_code for each in judged if isinstance(each, Rejection)}
    assert codes == {"invalid_json", "invalid_request", "too_large"}
    assert sum(isinstance(each, SubmitRequest) for each in judged) > 50
    assert sum(isinstance(each, CancelRequest) for each in judged) > 10
    assert len(WIRE) > 1_000


# --- the real process --------------------------------------------------------------------------------------


@pytest.fixture
def sim() -> Iterator[SimProcess]:
    with SimProcess(["--job-queue", "high", "--job-definition", "work", "--sqs-queue", "requests",
                     "--sqs-queue", "dead", "--max-seconds", "280"]) as process:  # fmt: skip
        yield process


def sample(log_format: str) -> dict[str, str]:
    """What the process gets: with JSON logs all structures and some of the texts, with console logs others of them."""
    texts = [name for name in WIRE if " as " in name]
    if log_format == "console":
        return {name: WIRE[name] for name in texts[1::4]}
    return {name: body for name, body in WIRE.items() if name not in texts or name in texts[::4]}


@pytest.mark.e2e
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_the_process_outlives_every_body(log_format: str, sim: SimProcess, tmp_path: Path) -> None:
    """Every message is settled and deleted, each accepted one ends, each rejected one is a dead letter with a reason;
    every line of output is whole and free of control characters; a good request at the end still runs."""
    settings = {"SUBMIT__RATE_PER_S": "48", "LOG__FORMAT": log_format, "LOG__LEVEL": "debug"}
    controller = Service(tmp_path, sim, settings=settings)
    cases = sample(log_format)
    controller.start()
    try:
        controller.wait_ready()
        for body in cases.values():
            controller.call_sqs("SendMessage", {"QueueUrl": controller.queue_url, "MessageBody": body})
        wait_for(lambda: received(controller) == len(cases), what="every message is settled", within_s=120)
        controller.send([json.dumps(request(1))])
        wait_for(lambda: ended(controller), what="every accepted request has ended", within_s=120)
        assert get_json(f"http://127.0.0.1:{controller.port}/livez")[0] == 200
        rejected = [event for event in controller.events() if event["event"] == "request.rejected"]
        published = 'events_published_total{outcome="published",sink="dead_letter"}'
        wait_for(lambda: metric(controller, published) >= len(rejected), what="the dead letters")
        letters = controller.dead_letters()
        assert controller.stop() == 0
    finally:
        controller.close()
    by_request = {event.get("request_id"): event for event in controller.finals().values()}
    assert by_request["r1"]["outcome"] == "succeeded"
    assert "forged" not in by_request
    assert all(len(event["reason"]) > 10 and event["error_code"] for event in rejected)
    assert_safe(tmp_path / "events.jsonl")
    assert_safe(tmp_path / "log.jsonl")
    for line in (tmp_path / "events.jsonl").read_text().split("\n")[:-1]:
        assert json.loads(line)["event"] in {"request.accepted", "job.submitted", "job.status_changed", *FINAL}
    if log_format == "json":
        assert all("event" in json.loads(line) for line in (tmp_path / "log.jsonl").read_text().split("\n")[:-1])
    assert len(letters) >= len(rejected)
    for letter in letters:
        for name, attribute in letter["MessageAttributes"].items():
            assert not UNSAFE.search(attribute["StringValue"]), name
            assert "\n" not in attribute["StringValue"], name


def assert_safe(path: Path) -> None:
    text = path.read_bytes().decode()
    assert text, path
    found = UNSAFE.search(text)
    assert found is None, f"{path.name}: {text[max(0, found.start() - 200) : found.end() + 50]!a}"


def metric(controller: Service, name: str) -> float:
    for line in controller.metrics().splitlines():
        if line.startswith(f"batch_controller_{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def received(controller: Service) -> float:
    lines = controller.metrics().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if "_requests_received_total{" in line)


def ended(controller: Service) -> bool:
    """Everything that was accepted has a final event."""
    events = controller.events()
    accepted = {event["request_id"] for event in events if event["event"] == "request.accepted"}
    return "r1" in accepted and accepted <= {e.get("request_id") for e in events if e["event"] in FINAL}


# --- what a service says -----------------------------------------------------------------------------------


@pytest.mark.parametrize("line_format", ["json", "console"])
@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if "\ud800" not in text])
def test_a_log_line_stays_one_line_whatever_it_is_told(name: str, line_format: str) -> None:
    """Values, names of members, tracebacks and lines of libraries: nothing forges a line or drives a terminal."""
    program = f"""
import logging
from controller import logs
logs.configure(line_format={line_format!r})
text = {TEXTS[name]!a}
log = logs.logger("submit")
log.warning("first", reason=text, listed=[text], **{{text or "x": 1}})
try:
    raise ValueError(text)
except ValueError as error:
    log.error("second", exc_info=error)
logging.getLogger("library").warning("third %s", text)
log.warning("fourth")
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    text = ended.stderr.decode()
    assert not UNSAFE.search(text), ascii(text)
    lines = text.split("\n")[:-1]
    if line_format == "json":
        assert [json.loads(line)["event"] for line in lines] == ["first", "second", "library line", "fourth"]
    else:
        ours = [line for line in lines if not line.startswith("    ")]
        heads = [re.match(r"\S+Z \[warning  \] |\S+Z \[error    \] ", line) for line in ours]
        assert all(heads), ours
        names = [line[head.end() :].split("  ")[0] for line, head in zip(ours, heads, strict=True) if head]
        assert names == ["first", "second", "library line", "fourth"]
