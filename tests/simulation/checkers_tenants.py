"""Does a flood delay only who floods? Judged by the order in which AWS saw the calls.

Part of ``checkers.py``, which calls it with the world. What disturbs the order of turns for good reasons (a call that
is throttled, a job queue that is held, a kill) is not there in the worlds that it judges; it says which those are.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import orjson

from controller.core.request import batch_job_name
from controller.stages.admit import AHEAD_S
from tests.simulation.checkers_dependencies import dependencies_of
from tests.simulation.scenario import EPOCH, QUEUE_URL, Sent
from tests.simulation.world import SimWorld

TURNS: Final = "a flood delays its own tenant"
OPEN: Final = "a flood closes nobody else's intake"

OVERTAKEN: Final = 3
"""Calls that begin at about the same time may come to AWS in another order, and some were under way already."""
ACCEPTED_WITHIN_S: Final = 10.0
"""From SQS into the store, with the gate of intake looking every 5 s."""


class _Turn(NamedTuple):
    at: float
    tenant: str
    request_id: str


def tenants_take_turns(world: SimWorld) -> Iterator[str]:
    """While a request waits, every other tenant of its job queue gets no more sends than its own tenant does, but for
    one turn and what was already on its way when it was accepted."""
    scenario = world.scenario
    disturbed = (
        scenario.call_faults or scenario.service_faults or scenario.network_faults or scenario.disruptions
        or scenario.kill_at_steps or scenario.scripted or scenario.profile.batch_rate_per_s is not None
    )  # fmt: skip
    if disturbed:
        return
    submit = world.settings.submit
    on_its_way = min(submit.concurrency, max(1, math.ceil(submit.rate_per_s * AHEAD_S)))
    accepted_at = _accepted_at(world)
    dependents = dependencies_of(world)
    for turns in _turns(world).values():
        times = [turn.at for turn in turns]
        for number, turn in enumerate(turns):
            begin = accepted_at.get(turn.request_id)
            if begin is None or turn.request_id in dependents:  # its turn comes once others are submitted
                continue
            meanwhile = Counter(other.tenant for other in turns[bisect_right(times, begin) : number])
            own = meanwhile.pop(turn.tenant, 0)
            for tenant, others in meanwhile.items():
                allowed = own + 1 + on_its_way + OVERTAKEN
                if others > allowed:
                    yield (
                        f"{TURNS}: request {turn.request_id} of {turn.tenant} waited for {others} of {tenant}, "
                        f"{allowed} are allowed"
                    )
                    return


def _turns(world: SimWorld) -> dict[str, list[_Turn]]:
    """SubmitJob calls in their order, per job queue. A request's tenant is that of the message that was accepted, which
    may have been its duplicate from elsewhere."""
    of_name: dict[str, tuple[str, str, str]] = {}
    for line in world.stdout.lines:
        if line.event["event"] == "request.accepted":
            sent = world.sent[line.event["message_id"]]
            body = orjson.loads(sent.body)
            request_id = line.event["request_id"]
            name = batch_job_name(body["jobName"], store_id=world.store_id, request_id=request_id)
            of_name[name] = (body["jobQueue"].rpartition("/")[2], _tenant(world, sent), request_id)
    turns: dict[str, list[_Turn]] = defaultdict(list)
    for call in world.sim.history.calls("SubmitJob"):
        if call.subject in of_name:
            job_queue, tenant, request_id = of_name[call.subject]
            turns[job_queue].append(_Turn(call.at, tenant, request_id))
    return turns


def _tenant(world: SimWorld, sent: Sent) -> str:
    named = {
        "share_identifier": orjson.loads(sent.body).get("shareIdentifier"),
        "attribute": (sent.tenant or "").strip(),
        "source": QUEUE_URL + sent.source,
    }
    return next((named[each] for each in world.settings.intake.tenant_from if named[each]), "everybody")


def _accepted_at(world: SimWorld) -> dict[str, float]:
    told: dict[str, float] = {}
    for line in world.stdout.lines:
        if line.event["event"] == "request.accepted":
            told.setdefault(line.event["request_id"], line.at)
    return told


def a_flood_closes_nobody_elses_intake(world: SimWorld) -> Iterator[str]:
    """Whatever is sent to one SQS queue, what comes to another one that has room is accepted at once."""
    flooding = world.scenario.flooding_source
    if flooding is None:
        return
    accepted_at = {
        line.event["message_id"]: line.at for line in world.stdout.lines if line.event["event"] == "request.accepted"
    }
    for message_id, sent in world.sent.items():
        late_s = accepted_at.get(message_id, math.inf) - EPOCH - sent.at
        if sent.source != flooding and sent.kind == "submit" and late_s > ACCEPTED_WITHIN_S:
            yield f"{OPEN}: a message of {sent.source} was accepted {late_s:.0f} s late while {flooding} was flooded"
            return


CHECKERS: Final[tuple[Callable[[SimWorld], Iterator[str]], ...]] = (
    tenants_take_turns,
    a_flood_closes_nobody_elses_intake,
)
