"""A real controller on a simulated AWS, scraped by a real Prometheus, with a real Alertmanager and a receiver of ours.

``Stack`` is what the end-to-end test and the maker of the dashboards' pictures run. Everything listens on 127.0.0.1,
keeps its files in one directory, and is ended by its own process when the ``with`` block ends.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from controller.metric_table import METRICS
from controller.simaws.process import SimProcess
from tests.e2e.service import Service, free_port, wait_for
from tests.observability.files import RULES, tool

JOB = "batch-controller"
"""Name of the scrape job."""
QUEUES = ("high", "low", "nightly")
SIM = [
    *(word for name in QUEUES for word in ("--job-queue", name)),
    *("--job-definition", "work", "--sqs-queue", "requests", "--sqs-queue", "dead", "--sqs-queue", "sink"),
    *("--events-queue", "batch-events", "--max-seconds", "900"),
]


class Webhook:
    """Receives Alertmanager's notifications."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        received = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.extend(json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Stack:
    """Starts everything on entering; ``extra_rules`` are loaded beside the shipped ones."""

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str],
        profile: Mapping[str, Any],
        extra_rules: Sequence[Path] = (),
        scrape_s: int = 1,
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._profile = profile
        self._rules = [*sorted(RULES.glob("*.yaml")), *extra_rules]
        self._scrape = f"{scrape_s}s"
        self._ends = ExitStack()
        self.prometheus = f"http://127.0.0.1:{free_port()}"
        self.alertmanager = f"http://127.0.0.1:{free_port()}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def _start(self) -> None:
        prometheus, alertmanager = tool("prometheus"), tool("prometheus-alertmanager")
        self.webhook = Webhook()
        self._ends.callback(self.webhook.close)
        self.sim = self._ends.enter_context(SimProcess([*SIM, "--set", json.dumps(self._profile)]))
        sinks = [{"type": "log"}, {"type": "sqs", "queue_url": self.sim.queue_urls["sink"]}]
        settings = {"SINKS": json.dumps(sinks), **self._settings}
        if "batch_events_received_total" in METRICS:
            settings["TRACK__EVENTS_QUEUE_URL"] = self.sim.queue_urls["batch-events"]
        self.service = Service(self._directory, self.sim, settings=settings)
        self._ends.callback(self.service.close)
        self._run([alertmanager, *self._alertmanager_arguments()], self.alertmanager)
        self._run([prometheus, *self._prometheus_arguments()], self.prometheus)
        # Scraped from its first moment on, so that counters are seen to rise from 0.
        self.service.start()
        self.service.wait_ready()
        wait_for(lambda: self.query(f'up{{job="{JOB}"}} == 1'), what="Prometheus scrapes the controller")

    def _run(self, command: Sequence[str], url: str) -> None:
        log = self._directory / f"{Path(command[0]).name}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        self._ends.callback(_end, process)

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return bool(urlopen(f"{url}/-/ready", timeout=5).status == 200)
            except (HTTPError, URLError, ConnectionError):
                return False

        wait_for(is_ready, what=f"{Path(command[0]).name} is ready")

    def _alertmanager_arguments(self) -> list[str]:
        route = {"receiver": "ours", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"}
        receivers = [{"name": "ours", "webhook_configs": [{"url": self.webhook.url}]}]
        config = self._write("alertmanager.yml", {"route": route, "receivers": receivers})
        return [
            f"--config.file={config}",
            f"--storage.path={self._directory / 'alertmanager'}",
            f"--web.listen-address={self.alertmanager.removeprefix('http://')}",
            "--cluster.listen-address=",
        ]

    def _prometheus_arguments(self) -> list[str]:
        config = {
            "global": dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), self._scrape),
            "rule_files": list(map(str, self._rules)),
            "alerting": {"alertmanagers": [_targets(self.alertmanager.removeprefix("http://"))]},
            "scrape_configs": [{"job_name": JOB, **_targets(f"127.0.0.1:{self.service.port}")}],
        }
        return [
            f"--config.file={self._write('prometheus.yml', config)}",
            f"--storage.tsdb.path={self._directory / 'prometheus'}",
            f"--web.listen-address={self.prometheus.removeprefix('http://')}",
            "--log.level=warn",
        ]

    def _write(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self._directory / name
        path.write_text(yaml.safe_dump(dict(content)))
        return path

    # --- questions to Prometheus --------------------------------------------------------------------------

    def ask(self, path: str, **parameters: Any) -> Any:
        """``data`` of an answer of Prometheus's HTTP API. Raises AssertionError with its words if it refuses."""
        try:
            with urlopen(f"{self.prometheus}/api/v1/{path}?{urlencode(parameters, doseq=True)}", timeout=30) as answer:
                return json.load(answer)["data"]
        except HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expr: str) -> list[dict[str, Any]]:
        return list(self.ask("query", query=expr)["result"])

    def query_range(self, expr: str, *, start: float, end: float, step: float) -> list[dict[str, Any]]:
        return list(self.ask("query_range", query=expr, start=start, end=end, step=step)["result"])

    def wait_query(self, expr: str, *, within_s: float = 60.0) -> list[dict[str, Any]]:
        found: Callable[[], list[dict[str, Any]]] = lambda: self.query(expr)  # noqa: E731
        return list(wait_for(found, what=expr, within_s=within_s))


def _targets(address: str) -> dict[str, Any]:
    return {"static_configs": [{"targets": [address]}]}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
