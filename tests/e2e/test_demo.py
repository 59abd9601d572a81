"""``batch-controller demo`` as a user runs it: a real process, its output, its exit code, and what it leaves behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from controller.demo.children import Child, ChildDied

pytestmark = pytest.mark.e2e

DEADLINE_S = 120.0
STARTED = "metrics at http://"


@contextmanager
def demo(directory: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running demonstration whose temporary files are in ``directory``; ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "controller", "demo", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(directory), "AWS_PROFILE": "nobody", "HTTP_PROXY": "http://127.0.0.1:9"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(DEADLINE_S)
        assert process.stdout is not None
        process.stdout.close()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Output up to and with the line that holds ``text``."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"ended without {text!r}: {''.join(lines)}")


def children_of(pid: int) -> set[int]:
    """Processes that ``pid`` has started."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone in the meantime
            parent = stat.read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid:
                found.add(int(stat.parent.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_demo_proves_its_counts_and_leaves_nothing(tmp_path: Path) -> None:
    """Sixty messages of every kind end as they must: exit code 0, a proof in plain text, no file left."""
    with demo(tmp_path, "--requests", "60", "--seed", "11") as process:
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, out
    assert "everything ended as it must" in out
    assert "60 messages (seed 11)" in out
    assert "\x1b" not in out
    assert "✗" not in out
    rows = dict(re.findall(r"^✓  (.+?)  +(?:succeeded|failed|cancelled|rejected|dropped) +(\d+)", out, re.MULTILINE))
    assert int(rows["plain jobs"]) > 25
    assert {"array jobs of 20 children", "cancelled while running", "known id, other content"} <= rows.keys()
    jobs = re.search(r"exactly one job each +(\d+) jobs \((\d+) SUCCEEDED, (\d+) FAILED\), no name used twice", out)
    assert jobs is not None, out
    assert int(jobs[1]) == int(jobs[2]) + int(jobs[3])
    assert "0 left in SQS" in out
    assert "drained, exit code 0" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both_processes(tmp_path: Path, number: signal.Signals) -> None:
    """Stopped in the middle of the work it ends what it started, removes its files and exits with 130."""
    with demo(tmp_path, "--requests", "300") as process:
        read_until(process, STARTED)
        started = children_of(process.pid)
        assert len(started) == 2
        process.send_signal(number)
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, out
    assert "Traceback" not in out
    assert not any(is_alive(pid) for pid in started)
    assert list(tmp_path.iterdir()) == []


def test_a_controller_that_dies_is_reported(tmp_path: Path) -> None:
    """If the controller is killed the demonstration says so, fails, keeps the files and stops the rest."""
    with demo(tmp_path, "--requests", "300") as process:
        read_until(process, STARTED)
        started = children_of(process.pid)
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in started}
        os.kill(next(pid for pid, words in commands.items() if b"run" in words), signal.SIGKILL)
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "the controller ended with exit code -9" in out
    kept = next(tmp_path.iterdir())
    assert f"are kept in {kept}" in out.replace("\n", " ")
    assert (kept / "events.jsonl").exists()
    assert not any(is_alive(pid) for pid in started)


def test_a_demo_that_is_kept_serves_until_it_is_stopped(tmp_path: Path) -> None:
    """--keep prints the proof, then addresses and a command to send a message, and exits with 0 when stopped."""
    with demo(tmp_path, "--requests", "3", "--keep") as process:
        out = read_until(process, "--message-body")
        assert "everything ended as it must" in out
        assert "aws sqs send-message" in out
        started = children_of(process.pid)
        assert len(started) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
    assert not any(is_alive(pid) for pid in started)
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_does_not_start_leaves_its_last_words(tmp_path: Path) -> None:
    """The reason stands in the error, so that nobody has to look for a log."""
    child = Child(
        "the controller",
        ["controller", "run", "--queue-url", "nonsense"],
        out=tmp_path / "out",
        log=tmp_path / "log",
    )
    with pytest.raises(ChildDied, match=r"the controller ended with exit code 2\n  batch-controller: .*queue_urls"):
        child.first(lambda: None, time.sleep)
