"""Requests that depend on other requests, in a world: which, in what order, and what is wrong with them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from tests.simulation.scenario import Scenario, Sent

NOBODY = "never-sent"
"""An id of which no message is sent."""
DEPENDENT_SHARE = 0.3
"""Of the requests, as far as the backlog has room."""


def with_dependents(scenario: Scenario, rng: random.Random) -> Scenario:
    """Some requests name others that come before or after them; some of those are refused, are cancelled or fail. There
    may be a circle, and, where requests are forgotten soon, an id that nobody sends.

    Fewer wait than the backlog may hold, since what they wait for has to come in beside them. None does where SQS may
    give up a message that is waited for, and the wait would take days.
    """
    named = [sent for sent in scenario.requests if sent.request_id is not None and sent.kind in SUBMITS]
    ids = sorted({sent.request_id for sent in named if sent.request_id is not None})
    most = min(int(len(ids) * DEPENDENT_SHARE), scenario.settings["intake"]["backlog_high"] // 2)
    is_lossy = scenario.redrive_after is not None and "retention" not in scenario.settings
    if most < 2 or is_lossy:
        return scenario
    chosen = rng.sample(ids, rng.randint(2, most))
    depends_on = {request_id: _others(request_id, ids, rng) for request_id in chosen}
    if rng.random() < 0.3:
        first, second = chosen[:2]
        depends_on[first], depends_on[second] = [second], [first]
    if "retention" in scenario.settings and rng.random() < 0.5:
        depends_on[chosen[-1]] = [NOBODY]
    return replace(scenario, requests=tuple(_dependent(sent, depends_on) for sent in scenario.requests))


SUBMITS = ("submit", "no_queue", "no_definition")


def _others(request_id: str, ids: list[str], rng: random.Random) -> list[str]:
    others = [each for each in ids if each != request_id]
    return rng.sample(others, min(len(others), rng.choice((1, 1, 2, 3))))


def _dependent(sent: Sent, depends_on: dict[str, list[str]]) -> Sent:
    """The same for a request and its duplicates, which must stay duplicates."""
    named = depends_on.get(sent.request_id or "")
    if named is None or sent.kind not in (*SUBMITS, "duplicate"):
        return sent
    body: dict[str, Any] = orjson.loads(sent.body)
    return replace(sent, body=orjson.dumps({**body, "dependsOn": [{"requestId": each} for each in named]}).decode())
