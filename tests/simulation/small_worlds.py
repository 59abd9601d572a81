"""Scenarios of one or two requests, one per stage: small enough to be crashed at every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from controller.simaws.profile import Profile
from tests.simulation.scenario import CANARY, EPOCH, QUEUE_URL, REGION, Disruption, Scenario, Sent

_SETTINGS: Mapping[str, Any] = {
    "controller": {"name": "sim", "drain_s": 0.5},
    "aws": {"region": REGION, "total_rate_per_s": 48.0},
    "intake": {
        "queue_urls": [QUEUE_URL + "source-0"],
        "dead_letter_queue_url": QUEUE_URL + "dead-letters",
        "receivers": 1,
        "visibility_timeout_s": 3,
    },
    "submit": {"rate_per_s": 20.0, "concurrency": 4, "timeout_s": 1.0, "settle_s": 2.0},
    "track": {"rate_per_s": 8.0, "interval_s_min": 0.5, "interval_s_max": 2.0, "lost_after_s": 40.0},
    "sinks": [{"type": "log"}],
}


def _sent(name: str, at: float = 0.0, **members: Any) -> Sent:
    body = {"requestId": name, "jobName": name, "jobQueue": "batch-0", "jobDefinition": "work", **members}
    body["parameters"] = {"input": CANARY}
    return Sent(at=at, source="source-0", body=orjson.dumps(body).decode(), kind="submit", request_id=name)


def _cancel(name: str, at: float) -> Sent:
    body = orjson.dumps({"action": "cancel", "requestId": name}).decode()
    return Sent(at=at, source="source-0", body=body, kind="cancel", request_id=name)


def _with(section: str, **members: Any) -> Mapping[str, Any]:
    return {**_SETTINGS, section: {**_SETTINGS.get(section, {}), **members}}


def _runs(seconds: float) -> dict[str, Any]:
    return {"environment": [{"name": "SIM_SECONDS", "value": str(seconds)}]}


_BASE = Scenario(
    seed=0,
    settings=_SETTINGS,
    requests=(_sent("one"),),
    sources=("source-0",),
    job_queues={"batch-0": None},
    job_definitions=("work",),
    profile=Profile(
        submitted_s=(0.1, 0.3),
        runnable_s=(0.1, 0.3),
        starting_s=(0.1, 0.3),
        running_s=(0.5, 1.0),
        latency_s=(0.01, 0.05),
    ),
    restart_s=0.01,
    faults_end_s=1.0,
    drain_bound_s=300.0,
    interval_factor=30.0,
)

SMALL_WORLDS: Mapping[str, Scenario] = {
    "ingest": replace(
        _BASE,
        requests=(
            _sent("one"),
            Sent(at=0.0, source="source-0", body=CANARY, kind="bad", request_id=None, is_valid=False, is_rejected=True),
        ),
    ),
    "admit": replace(
        _BASE, requests=(_sent("one"), _sent("two")), settings=_with("queues", **{"batch-0": {"max_in_flight": 1}})
    ),
    "submit": replace(_BASE, scripted={"SubmitJob": ("throttle", "reset_after")}),
    "rescue": replace(_BASE, scripted={"SubmitJob": ("late",)}, service_faults={"late_s": (1.5, 1.5)}),
    "track": replace(
        _BASE,
        requests=(
            _sent(
                "one",
                retryStrategy={"attempts": 2},
                containerOverrides={"environment": [{"name": "SIM_FAIL_ATTEMPTS", "value": "1"},
                                                    {"name": "SIM_ENDING", "value": "application"}]},
            ),
        ),
        scripted={"DescribeJobs": ("empty_after", "reset")},
    ),
    "terminate": replace(
        _BASE,
        requests=(_sent("one", containerOverrides=_runs(3_000)), _cancel("one", 2.0)),
        settings=_with("track", interval_s_min=5.0, interval_s_max=10.0),
        scripted={"TerminateJob": ("reset",)},
        faults_end_s=3.0,
    ),
    "expire": replace(
        _BASE,
        requests=(
            _sent("one", expiresAt=datetime.fromtimestamp(EPOCH + 1.5, UTC).isoformat()),
            _sent("two", expiresAt=datetime.fromtimestamp(EPOCH + 1.5, UTC).isoformat()),
        ),
        settings=_with("queues", **{"batch-0": {"max_in_flight": 1}}),
        scripted={"SubmitJob": ("reset",)},
        interval_factor=3.0,
    ),
    "publish": replace(
        _BASE,
        settings={**_SETTINGS, "sinks": [{"type": "log"}, {"type": "sqs", "queue_url": QUEUE_URL + "events-out"}]},
        scripted={"SendMessageBatch": ("reset", "reset_after")},
    ),
    "release": replace(
        _BASE,
        disruptions=(Disruption(at=0.0, kind="queue_disabled", for_s=2.0, what="batch-0"),),
        faults_end_s=3.0,
        interval_factor=8.0,
    ),
}  # fmt: skip
"""By stage."""
