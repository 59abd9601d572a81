"""EventBridge in a world: the queue that it feeds, what goes wrong on the way, and what others put there.

``with_events`` turns a scenario into one whose controller listens; ``furnish`` sets the world up for it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from controller.simaws.batch_timeline import FINAL
from controller.simaws.events import Rule

if TYPE_CHECKING:
    from tests.simulation.scenario import Scenario
    from tests.simulation.world import SimWorld

QUEUE = "batch-events"
TICK_S = 0.25
"""EventBridge works by itself: it is looked at so often at least."""


def with_events(scenario: Scenario, rng: random.Random, *, url: str) -> Scenario:
    """The controller listens to events, some of which are lost, doubled, late, out of order, or nonsense. In some
    scenarios polling is so seldom that all depends on them."""
    interval_s_min, interval_s_max = rng.choice(((0.5, 3.0), (2.0, 6.0), (2.0, 60.0), (20.0, 60.0)))
    is_calm = not (scenario.call_faults or scenario.service_faults.keys() - _RANGES or scenario.disruptions)
    faults = {} if is_calm or rng.random() < 0.3 else _faults(rng)
    track = {"events_queue_url": url, "interval_s_min": interval_s_min, "interval_s_max": interval_s_max}
    return replace(
        scenario,
        settings={**scenario.settings, "track": {**scenario.settings["track"], **track}},
        profile=replace(scenario.profile, event_lag_s=rng.choice(((0.0, 0.0), (0.0, 0.2), (0.1, 2.0)))),
        service_faults={**scenario.service_faults, **faults},
        event_statuses=rng.choice((None, None, tuple(sorted(FINAL)))),
        junk_events=tuple((rng.uniform(0.0, scenario.faults_end_s), _junk(rng)) for _ in range(rng.choice((0, 0, 10)))),
        drain_bound_s=scenario.drain_bound_s + 60 * interval_s_max,
    )


_RANGES = {"late_s", "slow_s", "sqs_undelete_s"}
"""Bounds of faults, no faults themselves."""


def _faults(rng: random.Random) -> Mapping[str, Any]:
    drawn: dict[str, Any] = {
        "event_drop_p": rng.choice((0.05, 0.3, 1.0)),
        "event_duplicate_p": rng.choice((0.1, 0.8)),
        "event_delay_p": rng.choice((0.1, 0.5)),
        "sqs_reorder_p": 0.5,
    }
    chosen = {name: value for name, value in drawn.items() if rng.random() < 0.5}
    return {**chosen, "event_delay_s": (0.5, rng.choice((3.0, 60.0)))}


def _junk(rng: random.Random) -> str:
    def event(**detail: Any) -> str:
        return orjson.dumps({"source": "aws.batch", "detail-type": "Batch Job State Change", "detail": detail}).decode()

    stranger = f"{rng.getrandbits(32):08x}-0000-4000-8000-000000000000"
    return rng.choice(
        (
            "{",
            "[" * 3_000,
            "{}",
            '{"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification", "detail": {}}',
            event(jobId=7, status="SUCCEEDED"),
            event(jobId=stranger, status="SUCCEEDED", attempts=[{}], stoppedAt=1),
            event(jobId=f"{stranger}:3", status="FAILED"),
            event(jobId=f"{stranger}#0", status="RUNNING"),
        )
    )


# --- the world --------------------------------------------------------------------------------------------


def furnish(world: SimWorld) -> None:
    """The queue is always there; a rule feeds it if the controller is to listen."""
    world.sim.add_sqs_queue(QUEUE)
    if world.settings.track.events_queue_url is None:
        return
    statuses = world.scenario.event_statuses
    world.sim.put_rule(Rule(name="sim", queue=QUEUE, statuses=None if statuses is None else frozenset(statuses)))
    for at, body in world.scenario.junk_events:
        world.loop.call_later(at, _send, world, body)
    _drive(world)


def _send(world: SimWorld, body: str) -> None:
    world.sim.advance(world.aws_now())
    world.sim.sqs.deliver(QUEUE, body, world.aws_now())


def _drive(world: SimWorld) -> None:
    """Let EventBridge deliver what is due."""
    now = world.aws_now()
    world.sim.advance(now)
    at = world.sim.next_change_at()
    delay_s = TICK_S if at is None else min(TICK_S, max(0.01, at - now))
    world.loop.call_later(delay_s, _drive, world)


def note_received(world: SimWorld, body: str) -> None:
    """An application has been handed a message: remember the ends that it was told."""
    if '"aws.batch"' not in body or body[0] != "{":
        return
    event = orjson.loads(body)
    detail = event.get("detail") or {}
    if detail.get("status") in FINAL:
        world.told_ends.setdefault(str(detail.get("jobId")), world.aws_now())
