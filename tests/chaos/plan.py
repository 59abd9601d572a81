"""What a run does, drawn from its seed before it begins: settings that keep the promises sound, and the timings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

QUEUES: Final = ("high", "low", "flaky")
"""Job queues; ``low`` has a limit in flight, ``flaky`` is disabled now and then."""
DEFINITIONS: Final = ("work", "spare")
LOW_IN_FLIGHT_MAX: Final = 25
SUBMIT_RATE_PER_S: Final = 20
TOTAL_RATE_PER_S: Final = 40
DRAIN_S: Final = 6
BATCH_EVENTS: Final = "batch-events"
"""SQS queue that the simulated EventBridge feeds."""
SUBMIT_TIMEOUT_S: Final = 1.5
"""Short enough that a hung call is met and settled many times in a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long things take, in seconds.

    ``settle_s`` must exceed ``late_s_max`` + ``list_lag_s_max`` by what the machine may be late, else a late acceptance
    is outside what the controller promises to cover.
    """

    settle_s: float
    late_s_max: float
    list_lag_s_max: float
    undelete_s_max: float
    calm_s: tuple[float, float]
    """Between two kills, when submissions in doubt are to be settled."""
    busy_s: tuple[float, float]
    """Between two kills, usually."""
    drain_s_max: float
    """From the last fault: until everything must have ended."""

    def __post_init__(self) -> None:
        assert self.settle_s >= self.late_s_max + self.list_lag_s_max + 2.0, "late acceptances must be covered"


STANDARD: Final = Timings(
    settle_s=9.0,
    late_s_max=4.0,
    list_lag_s_max=0.5,
    undelete_s_max=20.0,
    calm_s=(10.5, 14.0),
    busy_s=(1.0, 5.0),
    drain_s_max=240.0,
)
BRISK: Final = Timings(
    settle_s=4.0,
    late_s_max=1.2,
    list_lag_s_max=0.3,
    undelete_s_max=4.0,
    calm_s=(5.0, 6.5),
    busy_s=(0.5, 2.0),
    drain_s_max=100.0,
)
"""For a small run: half a minute, or longer than one if a pair is held at the end, which is tried after one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A run."""

    requests: int
    kills: int
    seed: int
    directory: Path
    max_s: float = 600.0
    timings: Timings = STANDARD
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the controller to change, as environment names without the prefix; to see a promise break."""

    @property
    def command(self) -> str:
        changed = "".join(f" --set {name}={value}" for name, value in self.settings.items())
        brisk = " --brisk" if self.timings is BRISK else ""
        return (
            f"python -m tests.chaos --requests {self.requests} --kills {self.kills} --seed {self.seed}{brisk}{changed}"
        )


def controller_settings(options: Options, queue_urls: Mapping[str, str]) -> dict[str, str]:
    """Settings of the controller, as environment names without the prefix."""
    sinks = [{"type": "log"}, {"type": "sqs", "queue_url": queue_urls["events"]}]
    return {
        "CONTROLLER__DRAIN_S": str(DRAIN_S),
        "AWS__TOTAL_RATE_PER_S": str(TOTAL_RATE_PER_S),
        "INTAKE__VISIBILITY_TIMEOUT_S": "4",
        "SUBMIT__RATE_PER_S": str(SUBMIT_RATE_PER_S),
        "SUBMIT__CONCURRENCY": "16",
        "SUBMIT__TIMEOUT_S": str(SUBMIT_TIMEOUT_S),
        "SUBMIT__SETTLE_S": str(options.timings.settle_s),
        "LIST__RATE_PER_S": "12",
        "TRACK__RATE_PER_S": "6",
        "TRACK__INTERVAL_S_MIN": "0.5",
        "TRACK__INTERVAL_S_MAX": "3",
        "TRACK__LOST_AFTER_S": "30",
        "TRACK__EVENTS_QUEUE_URL": queue_urls[BATCH_EVENTS],
        "TERMINATE__RATE_PER_S": "6",
        "QUEUES": json.dumps({"low": {"max_in_flight": LOW_IN_FLIGHT_MAX}}),
        "POLICY__ALLOWED_JOB_QUEUES": json.dumps([*QUEUES, "missing"]),
        "SINKS": json.dumps(sinks),
        **options.settings,
    }


def sim_arguments(options: Options) -> list[str]:
    """Arguments of the simulated AWS."""
    lag_s = options.timings.list_lag_s_max
    profile = {
        "list_lag_s": [0.0, lag_s],
        "describe_lag_s": [0.0, lag_s],
        "latency_s": [0.0, 0.03],
        "event_lag_s": [0.0, 1.0],
        "batch_rate_per_s": TOTAL_RATE_PER_S + 5,
        "batch_burst": TOTAL_RATE_PER_S + 5,
    }
    arguments = ["--seed", str(options.seed), "--set", json.dumps(profile), "--max-seconds", str(options.max_s + 120)]
    for name in QUEUES:
        arguments += ["--job-queue", name]
    for name in DEFINITIONS:
        arguments += ["--job-definition", name]
    for name in ("requests", "dead", "events"):
        arguments += ["--sqs-queue", name]
    return [*arguments, "--events-queue", BATCH_EVENTS]
