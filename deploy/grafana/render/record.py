"""A run worth looking at, and what Prometheus answers to every panel's query after it, as one JSON file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.observability.files import boards
from tests.observability.stack import Stack
from tests.observability.workload import Feed

SETTINGS = {
    "SUBMIT__SETTLE_S": "20",
    "SUBMIT__TIMEOUT_S": "5",
    "TRACK__INTERVAL_S_MIN": "1",
    "TRACK__INTERVAL_S_MAX": "10",
    "QUEUES": '{"nightly": {"max_in_flight": 40}, "high": {"max_in_flight": 120}}',
}
PROFILE = {
    "operation_rates_per_s": {"SubmitJob": 25},
    "runnable_s": [0.5, 6],
    "starting_s": [0.5, 3],
    "running_s": [4, 20],
}
ROUND_S = 5.0
CALM, TROUBLE, AFTER = 14, 22, 18
"""Rounds before, during and after the trouble."""
STEP_S = 3
SCRAPE_S = 3
"""Slow enough for a scrape to be answered in time on a busy machine: a missed one is a hole in a picture."""
REPLACED = {"$__rate_interval": "20s", "$__range": "5m", "$__interval": "3s", "$job_queue": ".+", "$instance": ".+"}
INSTANCE = "batch-controller-0"
"""Shown in place of the address of this machine."""


def record(directory: Path, out: Path) -> None:
    """Run it, ask everything, write ``out``."""
    with Stack(directory, settings=SETTINGS, profile=PROFILE, scrape_s=SCRAPE_S) as stack:
        began_at = time.time()
        _run(stack)
        ended_at = time.time()
        asked = {
            name: {
                "title": board["title"],
                "panels": [{**panel, "answers": _ask(stack, panel, began_at, ended_at)} for panel in board["panels"]],
            }
            for name, board in boards().items()
        }
        text = json.dumps({"began_at": began_at, "ended_at": ended_at, "boards": asked})
        out.write_text(text.replace(f"127.0.0.1:{stack.service.port}", f"{INSTANCE}:8080"))


def _run(stack: Stack) -> None:
    feed = Feed(stack.service, stack.sim)
    for number in range(CALM + TROUBLE + AFTER):
        if number == CALM:
            feed.trouble(held="low")
        if number == CALM + TROUBLE:
            feed.calm(held="low")
        is_trouble = CALM <= number < CALM + TROUBLE
        held = "low" if is_trouble or number % 2 else None
        feed.round(35 + 6 * (number % 5) + (30 if is_trouble else 0), failing=18 if is_trouble else 2, held=held)
        time.sleep(ROUND_S)


def _ask(stack: Stack, panel: dict[str, Any], began_at: float, ended_at: float) -> list[dict[str, Any]]:
    found = []
    for target in panel.get("targets", []):
        expr = target["expr"]
        for name, value in REPLACED.items():
            expr = expr.replace(name, value)
        if target.get("instant"):
            series = stack.query(expr)
        else:
            series = stack.query_range(expr, start=began_at, end=ended_at, step=STEP_S)
        found.append({"legend": target.get("legendFormat", ""), "series": series})
    return found
