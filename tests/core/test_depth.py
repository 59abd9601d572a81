"""Automatic depth: fed and shallow, whatever compute does; and what happens without its safeguards."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from controller.core import depth
from controller.core.depth import DEPTH_MAX, DEPTH_MIN, GAIN_GROWING, MEMORY_S, Depth
from tests.core.feeding import STEP_S, Queue, look_s

FED = 0.99


def _mean(steps: Sequence[int], since: float) -> float:
    measured = steps[int(since / STEP_S) :]
    return sum(measured) / len(measured)


# --- failure paths -------------------------------------------------------------------------------------------


def test_a_queue_that_starts_nothing_keeps_the_least_depth() -> None:
    """No compute at all: as many wait as a compute environment needs to begin to scale, and never more."""
    queue = Queue(vcpus=lambda now: 0, runs_s=(60.0, 60.0))
    queue.run(7_200.0)
    assert set(queue.limits) == {DEPTH_MIN}


def test_compute_that_goes_away_leaves_the_least_depth_after_a_while() -> None:
    """What was known of a queue that has come to stand still is forgotten in bounded time, without overshoot."""
    queue = Queue(vcpus=lambda now: 100 if now < 1_800 else 0, runs_s=(10.0, 20.0))
    queue.run(1_800.0 + 4 * MEMORY_S)
    before = max(queue.limits[int(900 / STEP_S) : int(1_800 / STEP_S)])
    assert before > DEPTH_MIN
    assert max(queue.limits[int(1_800 / STEP_S) :]) <= 2 * before
    assert queue.limits[-1] <= max(DEPTH_MIN, before / 4)


def test_compute_that_comes_back_is_fed_again() -> None:
    """From nothing to full within ten minutes, after the past is forgotten."""
    queue = Queue(vcpus=lambda now: 200 if now < 900 or now > 5_400 else 0, runs_s=(50.0, 70.0))
    queue.run(8_000.0)
    assert queue.busy(6_000.0) >= FED


@pytest.mark.parametrize("ready_s", [(30.0, 60.0), (60.0, 120.0), (100.0, 240.0)])
def test_a_queue_that_starts_slowly_is_found_by_probing(ready_s: tuple[float, float]) -> None:
    """Where Batch takes minutes to start a job on free compute, the law alone would starve it; probes find the need."""
    queue = Queue(vcpus=lambda now: 100, runs_s=(60.0, 180.0), ready_s=ready_s)
    queue.run(9_000.0)
    assert queue.busy(3_600.0) >= FED


def test_without_probing_a_queue_that_starts_slowly_is_starved(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same queue with the safeguard off: what starts is what was offered, so the rate never tells."""
    monkeypatch.setattr(depth, "PROBE_EVERY_S_MIN", math.inf)
    queue = Queue(vcpus=lambda now: 100, runs_s=(60.0, 180.0), ready_s=(100.0, 240.0))
    queue.run(9_000.0)
    assert queue.busy(3_600.0) < 0.6


def test_a_few_jobs_more_by_chance_prove_nothing() -> None:
    """Nine vCPUs and a job every ten seconds: probes whose time happened to see more starts had made the depth 192."""
    queue = Queue(vcpus=lambda now: 9, runs_s=(47.0, 141.0), ready_s=(0.3, 0.9), seed=441)
    queue.run(7_200.0)
    assert max(queue.limits) <= 4 * DEPTH_MIN


def test_batch_that_becomes_slower_under_way_is_noticed() -> None:
    """A depth that had been enough: fewer run, a probe comes early, and compute is fed again."""
    queue = Queue(vcpus=lambda now: 100, runs_s=(60.0, 180.0))
    queue.run(7_200.0)
    queue.ready_s = (100.0, 240.0)
    queue.run(7_200.0)
    assert queue.busy(10_800.0) >= FED


# --- fed and shallow -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vcpus", "runs_s"),
    [(50, (3.0, 7.0)), (100, (3.0, 7.0)), (20, (30.0, 90.0)), (500, (60.0, 180.0)), (100, (1_800.0, 5_400.0))],
)
@pytest.mark.parametrize("seed", range(3))
def test_compute_is_fed_from_a_shallow_queue(vcpus: int, runs_s: tuple[float, float], seed: int) -> None:
    """At least 99 % of the vCPUs are used, and the depth is a minute's starts, the least one or a fifth of what
    runs. (What a cold start has sent too many can't be taken back: with long jobs they wait for hours.)"""
    queue = Queue(vcpus=lambda now: vcpus, runs_s=runs_s, seed=seed)
    queue.run(7_200.0)
    assert queue.busy(600.0) >= FED
    per_s = vcpus / (sum(runs_s) / 2)
    needed = max(60 * per_s, 1.5 * DEPTH_MIN, 0.2 * vcpus)
    assert _mean(queue.limits, 1_800.0) <= needed
    assert _mean(queue.waits, 1_800.0) <= max(needed, GAIN_GROWING * vcpus)


def test_a_depth_grows_geometrically_while_compute_takes_all() -> None:
    """Cold start with a thousand free vCPUs: all are used within two minutes, far from one reaction time per job."""
    queue = Queue(vcpus=lambda now: 1_000, runs_s=(600.0, 1_200.0))
    queue.run(120.0)
    assert queue.used[-1] >= 990


@pytest.mark.parametrize("seed", range(3))
def test_a_compute_environment_that_scales_by_demand_grows_to_its_maximum(seed: int) -> None:
    """Each minute it orders what is lacking, which comes three minutes later: 1,000 vCPUs within half an hour, and fed
    from then on."""
    ordered: list[tuple[float, int]] = []

    def vcpus(now: float) -> int:
        there = sum(count for at, count in ordered if at <= now)
        if queue.now % 60 == 0 and (not ordered or ordered[-1][0] != now + 180):
            lacking = min(1_000, len(queue._ends) + len(queue._waiting)) - sum(count for _, count in ordered)
            if lacking > 0:
                ordered.append((now + 180, lacking))
        return there

    queue = Queue(vcpus=vcpus, runs_s=(200.0, 400.0), seed=seed)
    queue.run(5_400.0)
    assert sum(count for at, count in ordered if at <= 1_800) == 1_000
    assert _mean(queue.used, 1_800.0) >= FED * 1_000


# --- the values ----------------------------------------------------------------------------------------------


def test_a_restart_begins_with_what_waits() -> None:
    """After a restart nothing is known, but the depth does not fall below what waits, until that is forgotten."""
    queue = Depth(look_s=look_s, now=0.0, waiting=300)
    assert queue.limit(0.0, waiting=300, running=0, queued=10) == 300
    assert queue.limit(MEMORY_S - 1, waiting=300, running=0, queued=10) >= 300
    assert queue.limit(MEMORY_S, waiting=300, running=0, queued=10) == DEPTH_MIN


def test_the_depth_never_passes_its_bound() -> None:
    """However fast jobs start, no more than the default of ``max_waiting`` wait."""
    queue = Depth(look_s=look_s, now=0.0, waiting=1_000_000)
    assert queue.limit(0.0, waiting=1_000_000, running=100_000, queued=10) == DEPTH_MAX


def test_nothing_is_probed_without_a_backlog() -> None:
    """Nothing left to offer: the depth stays, and what runs says nothing."""
    queue = Queue(vcpus=lambda now: 20, runs_s=(50.0, 70.0))
    queue.run(1_800.0)
    steady = queue.limits[-1]
    for second in range(1_800, 3_600):
        assert queue.depth.limit(float(second), waiting=0, running=20, queued=0) <= 2 * steady
