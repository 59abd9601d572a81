"""The controller under load: a simulated AWS in another process, the real controller, what it cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.request import Request, urlopen

from controller.simaws.process import SimProcess

JOB_QUEUES = ("high", "low")
SIM = [
    *(argument for name in JOB_QUEUES for argument in ("--job-queue", name)),
    *("--job-definition", "work", "--sqs-queue", "requests", "--max-seconds", "900"),
]


class Aws(Protocol):
    """The simulated AWS or the canned one."""

    @property
    def url(self) -> str: ...
    @property
    def ready(self) -> Mapping[str, Any]: ...
    @property
    def queue_urls(self) -> Mapping[str, str]: ...


def simulated_aws(*arguments: str) -> SimProcess:
    return SimProcess([*SIM, *arguments])


def environment(sim: Aws, settings: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BATCH_"))}
    return {
        **inherited,
        "AWS_ENDPOINT_URL": sim.url,
        "AWS_REGION": sim.ready["region"],
        "AWS_ACCESS_KEY_ID": "simulated",
        "AWS_SECRET_ACCESS_KEY": "simulated",
        **{f"BATCH_CONTROLLER_{name}": value for name, value in settings.items()},
    }


UNLIMITED = {
    "SUBMIT__RATE_PER_S": "100000",
    "SUBMIT__CONCURRENCY": "64",
    "AWS__TOTAL_RATE_PER_S": "100000",
    "TRACK__RATE_PER_S": "1000",
    "INTAKE__RECEIVERS": "4",
    "QUEUES": json.dumps({"*": {"max_in_flight": 1_000_000, "max_waiting": 1_000_000}}),
    "LOG__LEVEL": "warning",
    "HTTP__HOST": "127.0.0.1",
}


class Controller:
    """The sampled controller as a process."""

    def __init__(self, directory: Path, sim: Aws, *, port: int, settings: Mapping[str, str]) -> None:
        self.directory, self.port = directory, port
        self.report = directory / "cpu.json"
        given = {**UNLIMITED, "HTTP__PORT": str(port), "STORE__URL": f"sqlite:///{directory / 'state.db'}", **settings}
        command = [sys.executable, "-m", "benchmarks.sampled", str(self.report), "run"]
        command += ["--queue-url", sim.queue_urls["requests"]]
        with (directory / "events.jsonl").open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stdin=subprocess.DEVNULL, env=environment(sim, given))

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that carry the labels; 0 while it is not up."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return 0.0
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((f"batch_controller_{name}{{", f"batch_controller_{name} "))
            and all(each in line for each in wanted)
        )

    def cpu_s(self) -> float:
        """CPU of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100  # USER_HZ is 100 on Linux

    def buckets(self, name: str) -> dict[str, float]:
        """A histogram's counts by upper bound."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        mark = f'batch_controller_{name}_bucket{{le="'
        found = (line.removeprefix(mark).partition('"} ') for line in lines if line.startswith(mark))
        return {bound: float(count) for bound, _, count in found}

    def peak_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def stop(self) -> dict[str, Any]:
        """SIGTERM; what the sampler wrote."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        report: dict[str, Any] = json.loads(self.report.read_text())
        return report

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def wait_for(condition: Callable[[], Any], *, what: str, within_s: float, poll_s: float = 0.25) -> float:
    """Seconds until ``condition`` is true. Raises SystemExit naming ``what``."""
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > within_s:
            raise SystemExit(f"benchmark: not within {within_s:g} s: {what}")
        time.sleep(poll_s)
    return time.perf_counter() - began


def send(sim: SimProcess, bodies: Iterable[str]) -> None:
    """SendMessageBatch, ten at a time."""
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.SendMessageBatch"}
    entries: list[dict[str, str]] = []
    for index, body in enumerate(bodies):
        entries.append({"Id": str(index), "MessageBody": body})
        if len(entries) == 10:
            _send_ten(sim, entries, headers)
            entries = []
    if entries:
        _send_ten(sim, entries, headers)


def _send_ten(sim: SimProcess, entries: list[dict[str, str]], headers: dict[str, str]) -> None:
    body = json.dumps({"QueueUrl": sim.queue_urls["requests"], "Entries": entries}).encode()
    urlopen(Request(sim.url, body, headers), timeout=30).close()


def request(number: int) -> str:
    """A request of about 900 bytes."""
    environment = [{"name": f"SETTING_{n}", "value": f"value-{n}-" + "x" * 24} for n in range(8)]
    return json.dumps(
        {
            "requestId": f"request-{number}",
            "jobName": f"align-{number}",
            "jobQueue": JOB_QUEUES[number % len(JOB_QUEUES)],
            "jobDefinition": "work",
            "containerOverrides": {"environment": environment, "command": ["run", str(number)]},
            "retryStrategy": {"attempts": 2},
            "tags": {"team": "genomics", "run": f"{number % 50}"},
        }
    )
