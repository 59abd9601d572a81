"""Floods: a tenant or the producers of an SQS queue send ten times as much as the others.

The real application on the simulated AWS, under virtual time. What every run must keep besides, ``checkers.py`` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
import structlog

from controller.core.limits import PACING_GUARD
from tests.simulation import checkers, checkers_extra, pressed
from tests.simulation.scenario import EPOCH, QUEUE_URL, Disruption, Sent
from tests.simulation.world import SimWorld

RATE_PER_S = 20.0
SPACING_S = (1 + PACING_GUARD) / RATE_PER_S
FLOOD, MODEST = 500, 50
COMES_AT_S = 5.0
ON_ITS_WAY = 12
"""Requests of the flood that were admitted before, and calls that overtake one another."""
REACTION_S = 1.0
SETTLE_S = 2.0
STOPPED_S = 6.0
"""By a kill, at most: start, a second in which the budgets are empty, and the look-up of what was being sent."""


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def _requests(at: float, source: str, count: int, prefix: str, **members: Any) -> list[Sent]:
    tenant = members.pop("tenant", None)
    sent = []
    for number in range(count):
        request_id = f"{prefix}-{number}"
        body = {"requestId": request_id, "jobName": request_id, "jobQueue": "work", "jobDefinition": "work", **members}
        text = orjson.dumps(body).decode()
        sent.append(Sent(at=at, source=source, body=text, kind="submit", request_id=request_id, tenant=tenant))
    return sent


def _run(
    seed: int, requests: Sequence[Sent], *, disruptions: Sequence[Disruption] = (), **intake: Any
) -> tuple[SimWorld, dict[str, float]]:
    """The world, and when each request's job was accepted by Batch, in seconds since the beginning."""
    sources = tuple(sorted({sent.source for sent in requests}))
    settings: dict[str, dict[str, Any]] = {
        "submit": {"rate_per_s": RATE_PER_S, "settle_s": SETTLE_S},
        "intake": {"queue_urls": [QUEUE_URL + source for source in sources], **intake},
    }
    given = pressed.scenario(seed, {"work": 1}, settings=settings, batch_rate_per_s=None, disruptions=disruptions)
    world = pressed.simulate(replace(given, requests=tuple(requests), sources=sources, faults_end_s=60.0))
    problems = [*checkers.check(world), *checkers_extra.check_more(world)]
    assert problems == []
    return world, {job.tags["batch-controller/request-id"]: job.at - EPOCH for job in world.sim.history.jobs}


def _last(times: dict[str, float], prefix: str) -> float:
    found = [at for request_id, at in times.items() if request_id.startswith(prefix + "-")]
    return max(found)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "modest", [{"tenant": "modest"}, {"shareIdentifier": "modest"}, {}], ids=["attribute", "share", "source"]
)
def test_a_tenant_that_floods_delays_itself(seed: int, modest: dict[str, Any]) -> None:
    """One tenant has 500 requests waiting, all with the highest priority; another then sends 50. They are all sent
    after twice as many turns as they would need alone, and the flood gets every turn that is left."""
    flood = _requests(0.0, "source-0", FLOOD, "flood", tenant="flood", priority=1_000)
    few = _requests(COMES_AT_S, "source-0", MODEST, "modest", **modest)
    _, times = _run(seed, [*flood, *few])
    assert _last(times, "modest") <= COMES_AT_S + REACTION_S + (2 * MODEST + ON_ITS_WAY) * SPACING_S
    assert _last(times, "flood") <= 2 * REACTION_S + (FLOOD + MODEST) * SPACING_S


@pytest.mark.parametrize("seed", [1])
def test_all_one_tenant_if_nothing_is_to_name_it(seed: int) -> None:
    """With ``intake.tenant_from: []`` priority and age alone decide: the flood goes first."""
    flood = _requests(0.0, "source-0", FLOOD, "flood", tenant="flood", priority=1_000)
    few = _requests(COMES_AT_S, "source-0", MODEST, "modest", tenant="modest")
    _, times = _run(seed, [*flood, *few], tenant_from=[])
    assert _last(times, "modest") > _last(times, "flood")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_flood_in_one_sqs_queue_delays_no_other(seed: int) -> None:
    """Three SQS queues, one of which brings ten times as much: what comes to the others is accepted within a second or
    two, and sent after three times as many turns as it would need alone."""
    flood = _requests(0.0, "source-0", FLOOD, "flood")
    others = [
        sent for name in ("source-1", "source-2") for sent in _requests(COMES_AT_S, name, MODEST, name.replace("-", ""))
    ]
    world, times = _run(seed, [*flood, *others], backlog_high=200, backlog_low=100, backlog_max=600)
    accepted = [
        line.at - EPOCH
        for line in world.stdout.lines
        if line.event["event"] == "request.accepted" and not line.event["request_id"].startswith("flood")
    ]
    assert len(accepted) == 2 * MODEST
    assert max(accepted) <= COMES_AT_S + 2.0
    bound = COMES_AT_S + 2.0 + (3 * MODEST + ON_ITS_WAY) * SPACING_S
    assert max(_last(times, "source1"), _last(times, "source2")) <= bound


@pytest.mark.parametrize("seed", [1])
def test_a_restart_costs_a_round_at_most(seed: int) -> None:
    """Whose turn it was is lost with the process; killed three times, the modest tenant is through as soon, but for
    the kills and a turn each."""
    flood = _requests(0.0, "source-0", FLOOD, "flood", tenant="flood")
    few = _requests(COMES_AT_S, "source-0", MODEST, "modest", tenant="modest")
    kills = [Disruption(at=COMES_AT_S + 1.0 + 2 * n, kind="kill") for n in range(3)]
    world, times = _run(seed, [*flood, *few], disruptions=kills)
    assert sum(pod.lives for pod in world.pods) == 4
    bound = COMES_AT_S + REACTION_S + 3 * STOPPED_S + (2 * MODEST + ON_ITS_WAY + 3) * SPACING_S
    assert _last(times, "modest") <= bound
