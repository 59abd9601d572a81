"""A served simulated AWS as a process of its own, for tests, benchmarks and the demonstration."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.request import Request, urlopen

READY_S: Final = 30.0
STOP_S: Final = 5.0


class SimProcess:
    """Runs ``python -m controller.simaws`` until ``stop`` (or the end of a ``with`` block); it also ends by itself
    when this process dies."""

    def __init__(self, arguments: Sequence[str] = (), *, ready_s: float = READY_S) -> None:
        """Start it and wait for its address. Raises RuntimeError if it is not ready within ``ready_s``."""
        command = [sys.executable, "-m", "controller.simaws", "--parent", str(os.getpid()), *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)  # noqa: S603
        try:
            self.ready: Mapping[str, Any] = json.loads(self._first_line(ready_s))
        except ValueError as error:
            self.stop()
            raise RuntimeError(f"the simulated AWS did not start (exit code {self._process.returncode})") from error
        self.url: str = self.ready["url"]
        self.queue_urls: Mapping[str, str] = self.ready["sqs_queues"]

    @property
    def pid(self) -> int:
        return self._process.pid

    def control(self, path: str, body: Mapping[str, Any] | None = None, *, method: str | None = None) -> Any:
        """One ``/_sim/<path>`` request: GET without a body, else POST. Raises ``HTTPError`` if it is refused."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/_sim/{path}", data=data, method=method)  # noqa: S310 - http to 127.0.0.1
        with urlopen(request, timeout=READY_S) as answer:  # noqa: S310
            return json.load(answer)

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL if that does not help."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _first_line(self, ready_s: float) -> bytes:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], ready_s)
        return self._process.stdout.readline() if ready else b""
