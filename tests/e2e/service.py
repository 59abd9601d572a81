"""The real ``batch-controller`` process on a served simulated AWS: start, feed, kill, read what came out."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from controller.simaws.process import SimProcess

DEADLINE_S = 60.0
FINAL = {"request.rejected", "job.finished", "job.lost", "job.cancelled"}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(condition: Callable[[], Any], *, what: str, within_s: float = DEADLINE_S) -> Any:
    """Until ``condition`` is true; its value. Raises AssertionError naming ``what``."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s:g} s: {what}")


def get_json(url: str) -> tuple[int, Any]:
    try:
        with urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


class Service:
    """One controller on one simulated AWS; may be killed and started again on the same store."""

    def __init__(self, directory: Path, sim: SimProcess, *, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.sim = sim
        self.port = free_port()
        self.queue_url = sim.queue_urls["requests"]
        self.dead_url = sim.queue_urls["dead"]
        self.settings = dict(settings or {})
        self.process: subprocess.Popen[bytes] | None = None

    # --- the process ----------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        ours = {
            "STORE__URL": f"sqlite:///{self.directory / 'state.db'}",
            "INTAKE__DEAD_LETTER_QUEUE_URL": self.dead_url,
            "HTTP__HOST": "127.0.0.1",
            "HTTP__PORT": str(self.port),
            **self.settings,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BATCH_"))}
        return {
            **inherited,
            "AWS_ENDPOINT_URL": self.sim.url,
            "AWS_REGION": self.sim.ready["region"],
            "AWS_ACCESS_KEY_ID": "simulated",
            "AWS_SECRET_ACCESS_KEY": "simulated",
            **{f"BATCH_CONTROLLER_{name}": value for name, value in ours.items()},
        }

    def start(self) -> None:
        with (self.directory / "events.jsonl").open("ab") as out, (self.directory / "log.jsonl").open("ab") as log:
            command = [sys.executable, "-m", "controller", "run", "--queue-url", self.queue_url]
            self.process = subprocess.Popen(
                command, stdout=out, stderr=log, stdin=subprocess.DEVNULL, env=self.environment()
            )

    def wait_ready(self) -> None:
        def is_ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log_tail()
            try:
                return get_json(f"http://127.0.0.1:{self.port}/readyz")[0] == 200
            except OSError:
                return False

        wait_for(is_ready, what="the controller is ready")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    # --- what goes in and comes out -------------------------------------------------------------------

    def send(self, bodies: Iterable[str]) -> None:
        """SendMessageBatch, ten at a time, straight to the wire."""
        entries = [{"Id": str(index), "MessageBody": body} for index, body in enumerate(bodies)]
        for start in range(0, len(entries), 10):
            self.call_sqs("SendMessageBatch", {"QueueUrl": self.queue_url, "Entries": entries[start : start + 10]})

    def call_sqs(self, operation: str, body: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{operation}"}
        with urlopen(Request(self.sim.url, json.dumps(body).encode(), headers), timeout=30) as answer:
            return json.load(answer)

    def events(self) -> list[dict[str, Any]]:
        """What was written to stdout so far; a line that a kill has cut short is left out."""
        lines = (self.directory / "events.jsonl").read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.endswith(b"}")]

    def finals(self) -> dict[str, dict[str, Any]]:
        """Final events by event id."""
        return {event["event_id"]: event for event in self.events() if event["event"] in FINAL}

    def wait_finals(self, count: int, *, within_s: float = DEADLINE_S) -> dict[str, dict[str, Any]]:
        wait_for(lambda: len(self.finals()) >= count, what=f"{count} final events", within_s=within_s)
        return self.finals()

    def dead_letters(self) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        while True:
            answer = self.call_sqs(
                "ReceiveMessage",
                {"QueueUrl": self.dead_url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]},
            )
            if not answer.get("Messages"):
                return list(found.values())
            found.update((message["MessageId"], message) for message in answer["Messages"])

    def metrics(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def log_tail(self) -> str:
        return (self.directory / "log.jsonl").read_text()[-4000:]


def request(number: int, **members: Any) -> dict[str, Any]:
    return {
        "requestId": f"r{number}",
        "jobName": f"job-{number}",
        "jobQueue": "high",
        "jobDefinition": "work",
        **members,
    }


def bodies(count: int, **members: Any) -> list[str]:
    return [json.dumps(request(number, **members)) for number in range(count)]


def assert_one_job_each(sim: SimProcess, request_ids: Sequence[str]) -> None:
    """By the simulated AWS's own history: each request has exactly one job, told by its tag."""
    counts = Counter(sim.control("history/names?tag=batch-controller/request-id")["counts"])
    assert counts == Counter(request_ids)
