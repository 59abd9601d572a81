"""Scenarios of pressure for the real application: a backlog, and something that is short of what it wants.

Used by ``test_pressure.py``. A run is ``world.simulate`` with somebody who looks at the application every second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from controller.application import Application
from controller.simaws.history import BATCH_OPERATIONS
from controller.simaws.profile import Profile
from tests.simulation import world as worlds
from tests.simulation.scenario import EPOCH, QUEUE_URL, REGION, Disruption, Scenario, Sent
from tests.simulation.seeded_loop import run, running_loop
from tests.simulation.world import START_AT, SimWorld

SOURCE = "source-0"
STEPS_MAX = 1_500_000


def scenario(
    seed: int,
    requests: Mapping[str, int],
    *,
    disruptions: Sequence[Disruption] = (),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    latency_s: tuple[float, float] = (0.02, 0.12),
    batch_rate_per_s: float | None = 50.0,
    expire_s: float | None = None,
) -> Scenario:
    """So many requests per Batch job queue, in turns, all there from the start, on an account with AWS's limit."""
    left = dict(requests)
    sent: list[Sent] = []
    while any(left.values()):
        for queue, count in left.items():
            if count:
                left[queue] = count - 1
                sent.append(_request(queue, len(sent), expire_s))
    given = {
        "controller": {"name": "sim"},
        "aws": {"region": REGION},
        "intake": {"queue_urls": [QUEUE_URL + SOURCE], "dead_letter_queue_url": QUEUE_URL + "dead-letters"},
        "sinks": [{"type": "log"}],
        "queues": {"*": {"max_in_flight": 100_000, "max_waiting": 100_000}},
    }
    for section, members in (settings or {}).items():
        given[section] = {**given.get(section, {}), **members}
    return Scenario(
        seed=seed,
        settings=given,
        requests=tuple(sent),
        sources=(SOURCE,),
        job_queues=dict.fromkeys(requests),
        job_definitions=("work",),
        profile=Profile(
            runnable_s=(0.0, 1.0), running_s=(5.0, 10.0), latency_s=latency_s, batch_rate_per_s=batch_rate_per_s
        ),
        disruptions=tuple(disruptions),
        faults_end_s=max((d.at + d.for_s for d in disruptions), default=0.0) + 0.1,
        drain_bound_s=2_000.0,
        interval_factor=5.0,
    )


def _request(queue: str, number: int, expire_s: float | None) -> Sent:
    body: dict[str, Any] = {
        "requestId": f"r{number}",
        "jobName": f"job-{number}",
        "jobQueue": queue,
        "jobDefinition": "work",
    }
    if expire_s is not None:
        body["expiresAt"] = datetime.fromtimestamp(EPOCH + expire_s, UTC).isoformat(timespec="milliseconds")
    text = orjson.dumps(body).decode()
    return Sent(at=0.0, source=SOURCE, body=text, kind="submit", request_id=f"r{number}")


Look = Callable[[float, Application], None]
"""Told once a second of virtual time: seconds since the start, the application."""


def simulate(given: Scenario, look: Look = lambda at, application: None) -> SimWorld:
    """Run it to its end, looking at the application once a second. Raises AssertionError for what it did not end."""
    world = SimWorld(given)
    worlds._capture_logs(world)

    def again() -> None:
        pod = world.pods[-1]
        if pod.application is not None and pod.process is not None and not pod.process.is_dead:
            look(world.loop.time() - START_AT, pod.application)
        if not world.is_over:
            world.loop.call_later(1.0, again)

    async def main(_: SimWorld) -> None:
        running_loop().call_later(1.0, again)
        await worlds._main(world)

    try:
        run(given.seed, main, world, start_at=START_AT, world=world, max_steps=STEPS_MAX)
    finally:
        world.disk.end()
    assert not world.problems, world.problems
    return world


def batch_calls(world: SimWorld) -> list[tuple[float, str, bool]]:
    """(seconds since the start, operation, throttled) of every call to Batch, as AWS saw it."""
    return [
        (call.at - EPOCH, call.operation, call.outcome == "TooManyRequestsException")
        for call in world.sim.history.calls()
        if call.operation in BATCH_OPERATIONS
    ]


def waits(application: Application) -> dict[str, float]:
    """``wait_seconds_total`` by cause."""
    metric = application.metrics.wait_seconds_total
    return {cause: metric.labels(cause=cause)._value.get() for cause in metric.spec.labels[0].values}
