"""What is looked at while a run goes on: the controller's own pages, and how long this machine stands still."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import Final
from urllib.parse import urlsplit

SCRAPE_S: Final = 0.4
PULSE_S: Final = 0.05
_QUEUE: Final = re.compile(r'job_queue="([^"]*)"')


@dataclass(slots=True)
class Pages:
    """What /metrics and /livez have shown so far."""

    scrapes: int = 0
    series_max: int = 0
    job_queues: set[str] = field(default_factory=set)
    """Values of the label ``job_queue``."""
    leaks: int = 0
    """Scrapes in which the canary was seen."""
    not_live: int = 0
    latest: str = ""


class Watch:
    """Two threads: one scrapes the controller, one feels the simulated AWS's pulse."""

    def __init__(self, *, controller_port: int, sim_url: str, canary: str) -> None:
        self.pages = Pages()
        self.stall_s_max = 0.0
        """Longest time that a trivial request to the simulated AWS took, beside the pause between two."""
        self.scraped_at = 0.0
        """Monotonic time at which the latest successful scrape began."""
        self._controller = ("127.0.0.1", controller_port)
        sim = urlsplit(sim_url)
        assert sim.hostname is not None
        assert sim.port is not None
        self._sim = (sim.hostname, sim.port)
        self._canary = canary
        self._over = threading.Event()
        self._threads = [threading.Thread(target=loop, daemon=True) for loop in (self._scrape, self._feel)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(10)

    def metric(self, name: str) -> float:
        """Sum of a metric's series at the latest scrape."""
        lines = (line for line in self.pages.latest.splitlines() if line.startswith(f"batch_controller_{name}"))
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def _scrape(self) -> None:
        while not self._over.wait(SCRAPE_S):
            began_at = time.monotonic()
            try:
                status, live = _get(self._controller, "/livez")
                _, text = _get(self._controller, "/metrics")
            except (OSError, HTTPException):
                continue
            self._saw(status, live, text)
            self.scraped_at = began_at

    def _saw(self, status: int, live: str, text: str) -> None:
        pages = self.pages
        pages.scrapes += 1
        pages.not_live += status != 200
        pages.leaks += self._canary in text or self._canary in live
        pages.series_max = max(pages.series_max, sum(not line.startswith("#") for line in text.splitlines()))
        pages.job_queues |= set(_QUEUE.findall(text))
        pages.latest = text

    def _feel(self) -> None:
        while not self._over.is_set():
            began_at = time.monotonic()
            try:
                _get(self._sim, "/_sim/health")
            except (OSError, HTTPException):
                continue
            finally:
                self.stall_s_max = max(self.stall_s_max, time.monotonic() - began_at)
            self._over.wait(PULSE_S)


def _get(address: tuple[str, int], path: str) -> tuple[int, str]:
    connection = HTTPConnection(*address, timeout=2)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
