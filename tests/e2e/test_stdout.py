"""A reader of standard output that does not read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from controller.simaws.process import SimProcess
from tests.e2e.service import Service, bodies, wait_for

pytestmark = pytest.mark.e2e


def test_sigterm_ends_it_though_nobody_reads_its_events(tmp_path: Path, sim: SimProcess) -> None:
    """The events wait in the store for the next start; the exit code is 0, within the grace time."""
    service = Service(tmp_path, sim, settings={"CONTROLLER__DRAIN_S": "3"})
    service.send(bodies(150))
    command = [sys.executable, "-m", "controller", "run", "--queue-url", service.queue_url]
    with (tmp_path / "log.jsonl").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, env=service.environment()
        )
    try:
        wait_for(lambda: "log:Write: TimeoutError" in service.log_tail(), what="the pipe is full")
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
