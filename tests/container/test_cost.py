"""What the container costs, by the kernel's account of its control group: to start, and to wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.request import urlopen

import pytest

from controller.simaws.process import SimProcess
from tests.container.service import ContainerService, cost_of
from tests.e2e.service import bodies, wait_for

Make = Callable[..., ContainerService]

START_CPU_S_MAX = 2.0
IDLE_MB_MAX = 120
IDLE_CORE_MAX = 0.01
WATCHED_S = 30.0
SCRAPE_S = 5.0
"""Between visits: each reads /metrics, /livez and /readyz, oftener than Prometheus and a kubelet would."""


@pytest.fixture
def tell(capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Shows a measurement, also when the test passes."""

    def say(text: str) -> None:
        with capfd.disabled():
            print(f"\n  measured: {text}", flush=True)  # noqa: T201 - what it was asked for

    return say


def test_the_first_message_is_received_within_two_seconds_of_cpu(
    service: Make, sim: SimProcess, tell: Callable[[str], None]
) -> None:
    """The container's own CPU time, from its creation until SQS has given out the message that was waiting."""
    controller = service()
    controller.send(bodies(1))
    began = time.monotonic()
    controller.start()
    wait_for(lambda: sim.control("history/messages?queue=requests")["messages"].get("received"), what="a message taken")
    cost = cost_of(controller.running)
    tell(f"start to first message {cost.cpu_s:.2f} s of CPU, {time.monotonic() - began:.1f} s of time")
    assert cost.cpu_s < START_CPU_S_MAX


def test_an_idle_controller_is_small_and_quiet(service: Make, tell: Callable[[str], None]) -> None:
    """Long polls, probes and scrapes included: after some work, under 120 MB and 1 % of a core."""
    controller = service()
    controller.start()
    controller.wait_ready()
    controller.send(bodies(100))
    controller.wait_finals(100)
    before, began = cost_of(controller.running), time.monotonic()
    next_visit_at = began
    while (now := time.monotonic()) < began + WATCHED_S:
        if now >= next_visit_at:
            for page in ("metrics", "livez", "readyz"):
                urlopen(f"http://127.0.0.1:{controller.port}/{page}", timeout=5).read()
            next_visit_at += SCRAPE_S
        time.sleep(0.2)
    after, watched_s = cost_of(controller.running), time.monotonic() - began
    core = (after.cpu_s - before.cpu_s) / watched_s
    tell(
        f"idle {after.working_set_bytes / 1e6:.0f} MB working set ({after.rss_bytes / 1e6:.0f} MB resident), "
        f"{100 * core:.2f} % of a core"
    )
    assert after.working_set_bytes < IDLE_MB_MAX * 1e6
    assert core < IDLE_CORE_MAX
