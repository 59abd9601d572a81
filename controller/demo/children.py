"""The two processes of a demonstration, the simulated AWS and the real controller: started, watched, ended by pid.

Each runs in a process group of its own: Ctrl-C in a terminal reaches the demonstration alone, which then ends them in
order. What they write goes to files in the demonstration's directory, never to its screen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import yaml

from controller.demo.cases import ACCOUNT, BULK, FORBIDDEN, JOB_DEFINITIONS, JOB_QUEUES, NIGHTLY, REGION, RETIRED

READY_S: Final = 30.0
STOP_S: Final = 15.0
POLL_S: Final = 0.05
DRAIN_S: Final = 2.0
"""Grace time of the controller. Short: at the end nothing but an empty long poll is under way."""
TAIL_LINES: Final = 8
SUBMITS_TAKEN_PER_S: Final = 25
"""What the simulated AWS takes without throttling, in bursts of as many: less than the controller's ceiling of 40, so
that it has to find out."""
REQUESTS: Final = "requests"
REJECTED: Final = "rejected"
"""SQS queues: of requests, of rejected requests,"""
BATCH_EVENTS: Final = "batch-events"
"""and of AWS Batch's events, fed by EventBridge."""
EVENT_LAG_S: Final = (0.1, 0.5)
"""From a change of status to its event's arrival."""
HIDDEN: Final = ("AWS_", "BATCH_CONTROLLER_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
"""Variables that a child must not inherit: it is to see the simulated AWS and nothing else."""


class ChildDied(Exception):
    """A process of the demonstration ended, or did not become ready; the message has its last words."""


class Child:
    """A running process; its standard output and standard error are files."""

    def __init__(
        self,
        title: str,
        arguments: Sequence[str],
        *,
        out: Path,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.title = title
        self.out = out
        self.log = log
        with out.open("ab") as out_file, log.open("ab") as log_file:
            self._process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=log_file,
                env={**_inherited(), **(environment or {})},
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def check(self, *, within_s: float = 0.0) -> None:
        """Raises ChildDied if it has ended, or ends ``within_s``."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within_s)
        if not self.is_running:
            raise ChildDied(f"{self.title} ended with exit code {self._process.returncode}{self._last_words()}")

    def first(self, find: Callable[[], Mapping[str, Any] | None], sleep: Callable[[float], None]) -> Mapping[str, Any]:
        """Wait for what ``find`` looks for in its output. Raises ChildDied if it ends, or takes longer than READY_S."""
        for _ in range(int(READY_S / POLL_S)):
            found = find()
            if found is not None:
                return found
            self.check()
            sleep(POLL_S)
        raise ChildDied(f"{self.title} was not ready within {READY_S:g} s{self._last_words()}")

    def stop(self) -> int:
        """End it: SIGTERM, and SIGKILL if that does not help within STOP_S or somebody is impatient. The exit code."""
        if self.is_running:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
            except KeyboardInterrupt:
                self.kill()
                raise
        return self._process.wait()

    def kill(self) -> None:
        if self.is_running:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "".join(f"\n  {line}" for line in lines)


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(HIDDEN)}


# --- the simulated AWS --------------------------------------------------------------------------------------


def start_sim(directory: Path, *, seed: int, sleep: Callable[[float], None]) -> tuple[Child, Mapping[str, Any]]:
    """Start it; the child and the line it prints when it is ready."""
    arguments = ["controller.simaws", "--parent", str(os.getpid()), "--port", "0", "--seed", str(seed)]
    arguments += ["--account", ACCOUNT, "--region", REGION]
    profile = {"operation_rates_per_s": {"SubmitJob": SUBMITS_TAKEN_PER_S}, "event_lag_s": EVENT_LAG_S}
    arguments += ["--set", json.dumps(profile), "--events-queue", BATCH_EVENTS]
    for name in JOB_QUEUES:
        arguments += ["--job-queue", name]
    for name in (*JOB_DEFINITIONS, FORBIDDEN):
        arguments += ["--job-definition", name]
    for name in (REQUESTS, REJECTED):
        arguments += ["--sqs-queue", name]
    child = Child("the simulated AWS", arguments, out=directory / "simaws.out", log=directory / "simaws.log")
    try:
        return child, child.first(lambda: next(read_lines(child.out), None), sleep)
    except BaseException:
        child.kill()
        raise


# --- the controller -----------------------------------------------------------------------------------------


def start_controller(
    directory: Path, sim: Mapping[str, Any], *, bulk_max: int, sleep: Callable[[float], None]
) -> tuple[Child, str]:
    """Start it on the simulated AWS; the child and the base URL of its metrics and health."""
    queue_urls = sim["sqs_queues"]
    config = directory / "controller.yaml"
    config.write_text(yaml.safe_dump(_settings(directory, queue_urls, bulk_max), sort_keys=False))
    child = Child(
        "the controller",
        ["controller", "run", "--config", str(config), "--queue-url", queue_urls[REQUESTS]],
        out=directory / "events.jsonl",
        log=directory / "controller.log",
        environment=aws_environment(directory, sim["url"]),
    )

    def started() -> Mapping[str, Any] | None:
        return next((line for line in read_lines(child.log) if line.get("event") == "started"), None)

    try:
        return child, f"http://127.0.0.1:{child.first(started, sleep)['http_port']}"
    except BaseException:
        child.kill()
        raise


def aws_environment(directory: Path, url: str) -> dict[str, str]:
    """What makes the AWS SDK talk to the simulated account only, whatever this machine is set up for."""
    nothing = str(directory / "no-such-file")
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_CONFIG_FILE": nothing,
        "AWS_SHARED_CREDENTIALS_FILE": nothing,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }


def _settings(directory: Path, queue_urls: Mapping[str, str], bulk_max: int) -> dict[str, Any]:
    """Settings that differ from the defaults; the rates are the defaults."""
    return {
        "controller": {"name": "demo", "drain_s": DRAIN_S},
        "store": {"url": f"sqlite:///{directory / 'state.db'}"},
        "intake": {"dead_letter_queue_url": queue_urls[REJECTED]},
        "track": {"events_queue_url": queue_urls[BATCH_EVENTS]},
        "queues": {BULK: {"max_in_flight": bulk_max}, NIGHTLY: {"paused": True}},
        "policy": {"allowed_job_definitions": [*JOB_DEFINITIONS, RETIRED]},
        "http": {"host": "127.0.0.1", "port": 0},
    }


# --- lines ----------------------------------------------------------------------------------------------------


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file's whole lines; anything else is passed over."""
    yield from LineReader(path).new()


class LineReader:
    """Follows a file of JSON lines as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._rest = b""

    def new(self) -> Iterator[dict[str, Any]]:
        """Objects of the lines that were completed since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            data = file.read()
        self._position += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                parsed = json.loads(line)
            except ValueError:
                continue
            if isinstance(parsed, dict):
                yield parsed
