"""Scenarios bent towards requests that depend on other requests. Part of ``ablation_worlds.py``."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

import orjson

from tests.simulation.ablation_worlds import Bend, calm, with_disruptions, with_settings
from tests.simulation.dependents import with_dependents
from tests.simulation.scenario import Scenario, Sent, forgetful

PAIRS: Final = 30


def dependents(bend: Bend = calm) -> Bend:
    """Many requests depend on others."""

    def bent(scenario: Scenario) -> Scenario:
        made = with_settings(bend(scenario), intake={"backlog_high": 1_000, "backlog_low": 500, "backlog_max": 2_000})
        return with_dependents(made, random.Random(f"{scenario.seed}/dependents"))

    return bent


def cancelled_meanwhile(scenario: Scenario) -> Scenario:
    """Requests come at about the time at which those that they depend on are cancelled, which stay unsent until then;
    each commit and each question takes the store a while, in which others commit."""
    sent: list[Sent] = []
    for n in range(PAIRS):
        at = 1.0 + 0.7 * n
        other, cancel = f"a{n}", {"action": "cancel", "requestId": f"a{n}"}
        sent.append(_request(scenario, other, 0.1))
        sent.append(_request(scenario, f"b{n}", at, other))
        sent.append(replace(sent[-1], at=at + 0.5 * n / PAIRS, body=_text(cancel), kind="cancel", request_id=other))
    made = with_settings(calm(scenario), intake={"backlog_high": 1_000, "backlog_low": 500, "backlog_max": 2_000})
    made = replace(made, requests=tuple(sorted(sent, key=lambda each: each.at)))
    for kind in ("queue_disabled", "disk_slow"):
        made = with_disruptions(made, kind, 0.0, for_s=1.0 + 0.7 * PAIRS, size=0.2)
    return made


def circle(scenario: Scenario) -> Scenario:
    """Three requests that depend on one another."""
    return replace(
        calm(scenario),
        requests=(
            _request(scenario, "a", 0.1, "c"),
            _request(scenario, "b", 1.0, "a"),
            _request(scenario, "c", 2.0, "b"),
        ),
    )


def late_dependent(scenario: Scenario) -> Scenario:
    """A request depends on one whose job ended so long ago that Batch has forgotten it."""
    made = calm(scenario)
    return replace(
        made,
        requests=(_request(scenario, "a", 0.1), _request(scenario, "b", 40.0, "a")),
        profile=replace(_successful(scenario).profile, retention_s=10.0),
    )


def long_wait(scenario: Scenario) -> Scenario:
    """What a request depends on has ended; then nothing is submitted for longer than requests are remembered."""
    made = forgetful(calm(_successful(scenario)))
    requests = (_request(scenario, "a", 0.1), _request(scenario, "b", 30.0, "a"))
    return with_disruptions(replace(made, requests=requests), "queue_disabled", 25.0, for_s=made.idle_s)


def _successful(scenario: Scenario) -> Scenario:
    chances = dict.fromkeys(("application_failure_p", "spot_reclaim_p", "out_of_memory_p", "image_pull_p"), 0.0)
    return replace(scenario, profile=replace(scenario.profile, **chances))


def _text(body: dict[str, object]) -> str:
    return orjson.dumps(body).decode()


def _request(scenario: Scenario, name: str, at: float, *depends_on: str) -> Sent:
    body = {
        "requestId": name,
        "jobName": name,
        "jobQueue": next(iter(scenario.job_queues)),
        "jobDefinition": scenario.job_definitions[0],
        "dependsOn": [{"requestId": each} for each in depends_on],
    }
    return Sent(at=at, source=scenario.sources[0], body=_text(body), kind="submit", request_id=name)
