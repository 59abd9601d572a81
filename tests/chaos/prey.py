"""The controller process that is killed, and everything done to it: SIGKILL, SIGTERM, SIGSTOP, a second process.

Each process writes events and logs into files of its own, as each container of a pod has a log of its own: a line that
a kill has cut is then the last of its file.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import controller
from controller.simaws.process import SimProcess
from tests.e2e.service import Service

SECOND_ENDS_S: Final = 30.0
"""A second process on the same store must have given up by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended by itself, or after SIGTERM."""

    number: int
    why: str
    """``sigterm``, ``second`` or ``by itself``."""
    code: int | None
    """None: it had not ended in time."""
    was_serving: bool
    error: str = ""


class Prey(Service):
    """The controller; ``number`` counts its processes."""

    def __init__(self, directory: Path, sim: SimProcess, *, settings: Mapping[str, str]) -> None:
        super().__init__(directory, sim, settings=settings)
        self._code = directory / "code"
        """A copy: whoever edits the package meanwhile does not change what is tested. ``-m`` looks there first."""
        shutil.copytree(
            Path(controller.__file__).parent, self._code / "controller", ignore=shutil.ignore_patterns("__pycache__")
        )
        self.number = 0
        self.is_frozen = False
        self.is_asked_to_stop = False
        self.started_at = 0.0
        """Monotonic."""
        self.exits: list[Exit] = []
        self.second: subprocess.Popen[bytes] | None = None
        self._read: dict[Path, int] = {}
        self._events: list[tuple[int, dict[str, Any]]] = []

    # --- life and death -----------------------------------------------------------------------------------

    def start(self) -> None:
        self.number += 1
        self.is_asked_to_stop = False
        self.started_at = time.monotonic()
        self.process = self._spawn(f"{self.number:03d}")

    def _spawn(self, suffix: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "controller", "run", "--queue-url", self.queue_url]
        with self._file("events", suffix).open("wb") as out, self._file("log", suffix).open("wb") as log:
            return subprocess.Popen(
                command, stdout=out, stderr=log, stdin=subprocess.DEVNULL, env=self.environment(), cwd=self._code
            )

    def _file(self, what: str, suffix: str) -> Path:
        return self.directory / f"{what}-{suffix}.jsonl"

    def has_ended(self) -> bool:
        """It ended and nobody asked it to; that is recorded."""
        assert self.process is not None
        code = self.process.poll()
        if code is None or self.is_asked_to_stop:
            return False
        error = self._file("log", f"{self.number:03d}").read_text(errors="replace")[-2_000:]
        self.exits.append(Exit(number=self.number, why="by itself", code=code, was_serving=True, error=error))
        return True

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        assert self.process is not None
        self.is_asked_to_stop = True
        self.process.send_signal(signal.SIGTERM)

    def has_stopped(self, *, was_serving: bool, is_overdue: bool) -> bool:
        """Whether it has ended after SIGTERM; it is killed if it is overdue."""
        assert self.process is not None
        code = self.process.poll()
        if code is None and not is_overdue:
            return False
        if code is None:
            self.kill()
        self.exits.append(Exit(number=self.number, why="sigterm", code=code, was_serving=was_serving))
        return True

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        if self.is_frozen:
            assert self.process is not None
            self.process.send_signal(signal.SIGCONT)
            self.is_frozen = False

    def start_second(self) -> None:
        """Another process on the same store, while this one lives."""
        self.second = self._spawn(f"{self.number:03d}-second")

    def second_ended(self, *, is_overdue: bool) -> bool:
        """Whether it has given up; it is killed if it is overdue."""
        assert self.second is not None
        code = self.second.poll()
        if code is None and not is_overdue:
            return False
        if code is None:
            self.second.kill()
            self.second.wait()
        error = self._file("log", f"{self.number:03d}-second").read_text(errors="replace")
        self.exits.append(Exit(number=self.number, why="second", code=code, was_serving=True, error=error))
        self.second = None
        return True

    def close(self) -> None:
        self.thaw()
        for process in (self.process, self.second):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    # --- what it wrote ------------------------------------------------------------------------------------

    def numbered_events(self) -> list[tuple[int, dict[str, Any]]]:
        """(number of the process, event) of every whole line so far."""
        for number in range(1, self.number + 1):
            path = self._file("events", f"{number:03d}")
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            self._events += [(number, json.loads(line)) for line in whole.splitlines() if line]
        return self._events

    def logs(self) -> dict[str, str]:
        """Standard error by name of its file."""
        return {path.name: path.read_text(errors="replace") for path in sorted(self.directory.glob("log-*.jsonl"))}
