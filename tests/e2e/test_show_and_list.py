"""`batch-controller show` and `list`, against a real controller on a simulated AWS."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.simaws.process import SimProcess
from tests.e2e.service import Service, bodies, free_port, request, wait_for
from tests.e2e.test_cli_errors import ended, told

pytestmark = pytest.mark.e2e
Make = Callable[..., Service]
ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-of-the-body"


@pytest.fixture
def sim() -> Iterator[SimProcess]:
    """Jobs run for longer than a test."""
    arguments = ["--job-queue", "high", "--job-queue", "low", "--job-definition", "work", "--sqs-queue", "requests",
                 "--sqs-queue", "dead", "--max-seconds", "300"]  # fmt: skip
    with SimProcess(arguments) as process:
        yield process


@pytest.fixture
def controller(service: Make) -> Service:
    """One in flight, three that wait behind it, one that waits for one that nobody sends, one rejected by policy."""
    long = {"containerOverrides": {"environment": [{"name": "SIM_SECONDS", "value": "200"},
                                                   {"name": "TOKEN", "value": SECRET}]}}  # fmt: skip
    one = service(QUEUES=json.dumps({"high": {"max_in_flight": 1}}))
    one.wait_ready()
    one.send([json.dumps(request(0, **long))])
    wait_for(lambda: any(event["event"] == "job.submitted" for event in one.events()), what="the first is sent")
    one.send(bodies(4, **long)[1:])
    one.send([json.dumps(request(9, requestId="after/r1", jobQueue="low", dependsOn=[{"requestId": "nobody"}]))])
    accepted = ("request.accepted",)
    wait_for(lambda: sum(event["event"] in accepted for event in one.events()) == 5, what="all are accepted")
    return one


def run(controller: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return ended(controller.directory, *arguments, "--url", f"http://127.0.0.1:{controller.port}")


def test_one_request_is_shown(controller: Service, tmp_path: Path) -> None:
    """Where it stands, which job it has, what keeps it waiting; as text and as JSON, and nothing of its body."""
    sent = json.loads(run(controller, "show", "r0", "--json").stdout)
    (life,) = sent["lives"]
    job_id = next(event["job_id"] for event in controller.events() if event["event"] == "job.submitted")
    assert (life["state"], life["job_id"]) == ("TRACKED", job_id)
    assert life["source"] == controller.queue_url

    def waits() -> Any:
        waits_for = json.loads(run(controller, "show", "r3", "--json").stdout)["lives"][0]["waits_for"]
        return waits_for if waits_for["cause"] == "max_in_flight" else None  # a plan later

    waits_for = wait_for(waits, what="the limit is told")
    assert (waits_for["in_flight"], waits_for["limit"], waits_for["ahead"]) == (1, 1, 2)
    text = run(controller, "show", "r3")
    assert text.returncode == 0, text.stderr
    assert re.search(r"^state +QUEUED$", text.stdout, re.MULTILINE)
    assert re.search(r"^waits_for +max_in_flight: job queue high has 1 requests in flight", text.stdout, re.MULTILINE)
    assert re.search(r"^ +before it in its job queue: 2 of its tenant$", text.stdout, re.MULTILINE)
    depends = run(controller, "show", "after/r1").stdout
    assert re.search(r"^depends_on +nobody  not received  unmet$", depends, re.MULTILINE)
    assert re.search(r"^waits_for +depends_on: it waits until these have a job: nobody$", depends, re.MULTILINE)
    assert SECRET not in text.stdout + depends + json.dumps(sent) + run(controller, "list", "--json").stdout


def test_requests_are_listed(controller: Service) -> None:
    """All, or those of states, job queues, tenants and definitions; a line, a JSON object or an id each."""
    text = run(controller, "list").stdout.splitlines()
    assert text[0].split() == ["REQUEST_ID", "STATE", "JOB_QUEUE", "JOB_DEFINITION", "TENANT", "RECEIVED_AT", "JOB_ID"]
    assert sorted(line.split()[0] for line in text[1:]) == ["after/r1", "r0", "r1", "r2", "r3"]
    assert run(controller, "list", "--state", "TRACKED", "--ids").stdout == "r0\n"
    queued = run(controller, "list", "--state", "QUEUED", "--job-queue", "high", "--json").stdout.splitlines()
    assert sorted(json.loads(line)["request_id"] for line in queued) == ["r1", "r2", "r3"]
    live = ("list", "--state", "live", "--ids")
    assert len(run(controller, *live, "--job-definition", "work").stdout.split()) == 5
    assert run(controller, *live, "--job-definition", "other").stdout == ""
    assert run(controller, *live, "--tenant", "other").stdout == ""
    assert len(run(controller, *live, "--tenant", controller.queue_url).stdout.split()) == 5


def test_what_can_t_be_answered_is_told(controller: Service, sim: SimProcess, tmp_path: Path) -> None:
    """An unknown id, a state that is none, no controller, something else at the address, no address: exit code 1."""
    unknown = told(run(controller, "show", "unknown"), exit_code=1)
    assert "no request unknown is known" in unknown
    assert "retention.final_s, 1296000 s" in unknown
    assert "state: must be one of QUEUED" in told(run(controller, "list", "--state", "WAITING"), exit_code=1)
    nobody = f"http://127.0.0.1:{free_port()}"
    for command in (("show", "r0"), ("list",), ("list", "--ids")):
        message = told(ended(tmp_path, *command, "--url", nobody), exit_code=1)
        assert f"no controller answers at {nobody}" in message
        message = told(ended(tmp_path, *command, "--url", sim.url), exit_code=1)
        assert "is no controller, or one of another version" in message
    assert "--url 8080: is not the address" in told(ended(tmp_path, "list", "--url", "8080"), exit_code=1)
    # A proxy of the environment is not for the loopback.
    proxied = ended(tmp_path, "list", "--ids", "--url", f"http://127.0.0.1:{controller.port}", http_proxy=nobody)
    assert proxied.returncode == 0, proxied.stderr


def test_lists_go_on_page_by_page(service: Make) -> None:
    """Beyond what a page has; the reader of the output may have had enough at any time."""
    controller = service(QUEUES=json.dumps({"*": {"paused": True}}))
    controller.send(bodies(1_203))
    wait_for(lambda: len(controller.events()) >= 1_203, what="all are accepted")
    ids = run(controller, "list", "--ids").stdout.split()
    assert sorted(ids) == sorted(f"r{number}" for number in range(1_203))
    assert sorted(run(controller, "list", "--state", "QUEUED", "--ids").stdout.split()) == sorted(ids)
    short = ended(
        controller.directory, "list", "--ids", "--url", f"http://127.0.0.1:{controller.port}", shell='"$@" | head -n 1'
    )
    assert short.stdout.count("\n") == 1
    assert "Traceback" not in short.stderr


AWS = """
import json, sys
from urllib.request import Request, urlopen
options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
assert sys.argv[1:3] == ["sqs", "send-message-batch"]
body = {"QueueUrl": options["--queue-url"], "Entries": json.loads(options["--entries"])}
headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.SendMessageBatch"}
print(urlopen(Request(sys.argv[0].rpartition("=")[2], json.dumps(body).encode(), headers)).read().decode())
"""


@pytest.mark.skipif(shutil.which("jq") is None, reason="the pipeline of the page needs jq")
def test_the_page_s_pipeline_cancels_what_it_lists(controller: Service, sim: SimProcess, tmp_path: Path) -> None:
    """As docs/observability.md shows it, with a stand-in for the AWS CLI that sends to the simulated SQS."""
    page = (ROOT / "docs" / "observability.md").read_text()
    (pipeline,) = re.findall(r"```sh\n(batch-controller list [^`]*? jq .*?)```", page, re.DOTALL)
    tenant = ("--tenant render", f"--tenant {controller.queue_url} --state QUEUED --job-queue high")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "aws.py").write_text(AWS.replace('sys.argv[0].rpartition("=")[2]', repr(sim.url)))
    commands = {
        "aws": f'exec {sys.executable} {programs / "aws.py"} "$@"',
        "batch-controller": f'exec {sys.executable} -m controller "$@" --url http://127.0.0.1:{controller.port}',
    }
    for name, command in commands.items():
        (programs / name).write_text(f"#!/bin/sh\n{command}\n")
        (programs / name).chmod(0o755)
    environ = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "REQUESTS": controller.queue_url,
    }
    script = pipeline.replace("--state live", "").replace(*tenant)
    done = subprocess.run(["sh", "-c", script], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""

    def cancelled() -> set[str]:
        return {event["request_id"] for event in controller.events() if event["event"] == "job.cancelled"}

    wait_for(lambda: cancelled() == {"r1", "r2", "r3"}, what="those that were listed are cancelled")
    assert run(controller, "list", "--state", "live", "--ids").stdout.split() == ["after/r1", "r0"]
