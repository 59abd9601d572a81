"""One run: a backlog that is deeper than any limit, one job queue, compute of a shape, and one ``max_waiting``.

The application is the real one, under virtual time (``tests/simulation``); what is measured is Batch's own truth, the
simulator's record of when each job was accepted, given its vCPU, and ended. Used by ``__main__`` and by
``tests/simulation/test_depth.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

from controller.config import Settings
from controller.simaws.batch_scaling import Scaling
from controller.simaws.profile import Profile
from tests.simulation import batch_events, pressed
from tests.simulation import world as worlds
from tests.simulation.pods import Pod
from tests.simulation.scenario import EPOCH, QUEUE_URL, Scenario
from tests.simulation.seeded_loop import run, running_loop
from tests.simulation.world import START_AT, SimWorld

QUEUE: Final = "work"
STEPS_MAX: Final = 20_000_000
NO_LIMIT: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Compute and jobs. Every job asks for one vCPU."""

    name: str
    vcpus: int
    """At most, if it scales."""
    is_scaling: bool = False
    has_events: bool = False
    runs_s: tuple[float, float]
    ready_s: tuple[float, float] = (1.0, 5.0)
    """What Batch takes to start a job on compute that is free."""
    requests: int
    warm_s: float
    """Measured is from then on …"""
    until_s: float
    """… to then: with every depth, requests are still left here, or wait in Batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    variant: Variant
    max_waiting: int | str
    seed: int
    used_s: float
    """vCPU seconds in which a job had its vCPU, while measured."""
    there_s: float
    """vCPU seconds that there were."""
    waiting_mean: float
    """Jobs accepted by Batch that had no vCPU yet, on average over the time measured."""
    left: int
    """Requests that had no vCPU yet when it was over."""
    depths: tuple[tuple[float, int], ...]
    """(second, ``max_waiting`` in force), where it is automatic."""
    running: tuple[tuple[float, int], ...]
    """(second, jobs that have a vCPU)."""
    waiting: tuple[tuple[float, int], ...]

    @property
    def busy(self) -> float:
        return self.used_s / self.there_s


def scenario(variant: Variant, max_waiting: int | str, seed: int) -> Scenario:
    limits = {"max_in_flight": NO_LIMIT, "max_waiting": max_waiting}
    settings: dict[str, Mapping[str, Any]] = {"queues": {"*": limits}}
    if variant.has_events:
        settings["track"] = {"events_queue_url": QUEUE_URL + batch_events.QUEUE}
    made = pressed.scenario(seed, {QUEUE: variant.requests}, settings=settings)
    profile = Profile(
        submitted_s=(0.2, 1.0),
        runnable_s=variant.ready_s,
        starting_s=(0.5, 2.0),
        running_s=variant.runs_s,
        event_lag_s=(0.2, 2.0),
        latency_s=(0.05, 0.15),
        batch_rate_per_s=50.0,
    )
    slots = {QUEUE: None if variant.is_scaling else float(variant.vcpus)}
    return replace(made, profile=profile, job_queues=slots, interval_factor=1.0)


def measure(variant: Variant, max_waiting: int | str, seed: int) -> Result:
    """Run it until ``until_s`` and look at what Batch did."""
    world = SimWorld(scenario(variant, max_waiting, seed))
    worlds._capture_logs(world)
    scaling = Scaling(vcpus_max=float(variant.vcpus)) if variant.is_scaling else None
    depths: list[tuple[float, int]] = []
    try:
        run(seed, _main, world, variant, scaling, depths, start_at=START_AT, world=world, max_steps=STEPS_MAX)
    finally:
        world.disk.end()
    assert not world.problems, world.problems
    return _result(world, variant, max_waiting, scaling, depths)


async def _main(world: SimWorld, variant: Variant, scaling: Scaling | None, depths: list[tuple[float, int]]) -> None:
    world.loop = running_loop()
    world.settings = Settings(**world.scenario.settings)
    worlds._furnish(world)
    if scaling is not None:
        world.sim.scale_job_queue(QUEUE, scaling)
    for sent in world.scenario.requests:
        worlds._send(world, sent)
    pod = Pod("pod-1")
    world.pods.append(pod)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worlds.tend(world, pod))
        for _ in range(int(variant.until_s)):
            await asyncio.sleep(1.0)
            if pod.application is not None:
                at = world.loop.time() - START_AT
                depths.extend((at, depth) for depth in pod.application.depths.numbers().values())
        await worlds._stop(world)
    world.sim.advance(EPOCH + variant.until_s)


def _result(
    world: SimWorld, variant: Variant, max_waiting: int | str, scaling: Scaling | None, depths: list[tuple[float, int]]
) -> Result:
    jobs = [
        (job.submitted_at - EPOCH, job.placed_at - EPOCH, job.ends_at - EPOCH)
        for job in world.sim.batch.queues[QUEUE].jobs
    ]
    since, until = variant.warm_s, variant.until_s
    changes = [(-1.0, float(variant.vcpus))]
    if scaling is not None:
        changes = [(at - EPOCH, vcpus) for at, vcpus in scaling.changes]
    ends = [at for at, _ in changes[1:]] + [until]
    waiting = [(accepted, placed) for accepted, placed, _ in jobs]
    having = [(placed, end) for _, placed, end in jobs]
    return Result(
        variant=variant,
        max_waiting=max_waiting,
        seed=world.scenario.seed,
        used_s=sum(_overlap(each, since, until) for each in having),
        there_s=sum(vcpus * _overlap((at, end), since, until) for (at, vcpus), end in zip(changes, ends, strict=True)),
        waiting_mean=sum(_overlap(each, since, until) for each in waiting) / (until - since),
        left=variant.requests - sum(placed < until for placed, _ in having),
        depths=tuple(depths),
        running=_over_time(having, until),
        waiting=_over_time(waiting, until),
    )


def _overlap(span: tuple[float, float], since: float, until: float) -> float:
    return max(0.0, min(span[1], until) - max(span[0], since))


def _over_time(spans: Iterable[tuple[float, float]], until: float) -> tuple[tuple[float, int], ...]:
    """How many spans there are at each second."""
    steps = [0] * (int(until) + 2)
    for begin, end in spans:
        if begin < until:
            steps[max(0, ceil(begin))] += 1
            steps[max(0, ceil(min(end, until)))] -= 1
    count, counts = 0, []
    for second in range(int(until) + 1):
        count += steps[second]
        counts.append((float(second), count))
    return tuple(counts)
