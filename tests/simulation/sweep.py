"""Runs seeds, one after the other or in several processes, and says what became of each."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation import scenario as scenarios
from tests.simulation.checkers import check
from tests.simulation.loop_errors import SimulationEnd
from tests.simulation.world import SimWorld, simulate

STEPS_MAX = 1_500_000
"""Of the event loop, per seed."""
CHUNK = 25
"""Seeds handed to a process at a time."""


@dataclass(slots=True)
class Verdict:
    """What became of a seed."""

    seed: int
    problems: list[str]
    took_s: float
    requests: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    met: Counter[str] = field(default_factory=Counter)
    """Faults that were met."""


def run_seed(seed: int) -> tuple[Verdict, SimWorld | None]:
    """Run and judge one seed. What a run raises is a problem too."""
    return run_scenario(scenarios.draw(seed))


def run_scenario(scenario: scenarios.Scenario) -> tuple[Verdict, SimWorld | None]:
    began = time.process_time()
    try:
        world = simulate(scenario, max_steps=STEPS_MAX)
        problems = check(world)
    except SimulationEnd as end:
        cause = f"; cause: {_first_leaf(end.__cause__)}" if end.__cause__ else ""
        return Verdict(scenario.seed, [f"the run ends: {end}{cause}"], time.process_time() - began), None
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        return Verdict(scenario.seed, [f"the run ends: {text}"], time.process_time() - began), None
    verdict = Verdict(
        seed=scenario.seed,
        problems=problems,
        took_s=time.process_time() - began,
        requests=len(scenario.requests),
        steps=world.steps,
        virtual_s=world.now,
        met=_met(world),
    )
    return verdict, world


def _first_leaf(error: BaseException | None) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return "".join(traceback.format_exception(error)) if error is not None else ""


def _met(world: SimWorld) -> Counter[str]:
    """Every fault that struck, whatever its kind."""
    met = Counter(world.met)
    for operation, outcomes in world.sim.history.call_counts().items():
        for outcome, count in outcomes.items():
            if outcome != "ok":
                met[f"{operation} {outcome}"] += count
    for action, count in world.sim.history.message_counts().items():
        if action == "duplicated":
            met["message duplicated"] += count
    met["commit reported as failed"] += world.disk.lost_answers
    met["call with a clock off"] += world.skewed_calls
    return +met


def run_seeds(seeds: Iterable[int]) -> list[Verdict]:
    return [run_seed(seed)[0] for seed in seeds]


def sweep(first: int, count: int, *, jobs: int, max_s: float | None = None) -> Iterator[Verdict]:
    """Verdicts of ``count`` seeds, in no order, until ``max_s`` is over."""
    until = None if max_s is None else time.monotonic() + max_s
    chunks = [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]
    if jobs == 1:
        for chunk in chunks:
            for seed in chunk:
                if until is not None and time.monotonic() > until:
                    return
                yield run_seed(seed)[0]
        return
    with ProcessPoolExecutor(jobs) as pool:
        waiting = iter(chunks)
        running = [pool.submit(run_seeds, chunk) for _, chunk in zip(range(jobs + 1), waiting, strict=False)]
        while running:
            yield from running.pop(0).result()
            following = next(waiting, None)
            if following is not None and (until is None or time.monotonic() < until):
                running.append(pool.submit(run_seeds, following))
