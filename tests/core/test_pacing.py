"""Pacing: what one throttle does, how the rate comes back, and how it finds a limit that nobody publishes."""

from __future__ import annotations

import random

import pytest

from controller.core.limits import PACING_GUARD
from controller.core.pacing import CUT, CUT_WINDOW_S, FAST_S, FLOOR_PER_S, PROBE_S, RECOVERY_S_MAX, SLOW_S, Pace
from controller.core.throttle_noise import GRACE_AFTER_CUT, SHARE_MAX
from controller.simaws.limiters import Every, FixedWindow, Noise, Shared, TokenBucket
from tests.simulation.paced import relimit, saturate, use


def _use(pace: Pace, *, seconds: float, now: float) -> tuple[Pace, float]:
    """Full use with successful answers that take no time."""
    end = now + seconds
    while pace.next_send_at < end:
        now = pace.next_send_at
        pace = pace.sent(now).succeeded(now)
    return pace, now


def test_starts_empty() -> None:
    """The first send comes one whole spacing after the start, never at once."""
    pace = Pace.start(10.0, now=100.0)
    assert pace.wait_s(100.0) == pytest.approx((1 + PACING_GUARD) / 10)
    assert pace.wait_s(101.0) == 0.0


def test_a_stall_is_not_made_up_for() -> None:
    """After a stall of the loop the next send still waits a whole spacing from the actual send."""
    pace = Pace.start(10.0, now=0.0).sent(57.0)
    assert pace.next_send_at == pytest.approx(57.0 + (1 + PACING_GUARD) / 10)


def test_a_broken_ceiling_is_rounded_down() -> None:
    """8.5 calls can't be in a window: a ceiling of 8.5 is paced as 8."""
    assert Pace.start(8.5, now=0.0).rate_per_s == 8.0


def test_a_ceiling_below_one_is_kept() -> None:
    """A ceiling of 0.2 is one call every 5 seconds and a bit."""
    assert Pace.start(0.2, now=0.0).spacing_s == pytest.approx(5 * (1 + PACING_GUARD))


def test_throttle_cuts_once_per_window() -> None:
    """Of many throttles within a second only the first cuts. After it, as many as a trial is granted are put down to
    noise, and the next one cuts again."""
    pace = Pace.start(40.0, now=0.0).throttled(10.0)
    assert pace.rate_per_s == pytest.approx(40 * CUT)
    assert pace.throttled(10.0 + CUT_WINDOW_S - 0.001) == pace
    for _ in range(int(GRACE_AFTER_CUT)):
        pace = pace.throttled(10.0 + CUT_WINDOW_S)
        assert pace.rate_per_s == pytest.approx(40 * CUT)
    assert pace.throttled(10.0 + CUT_WINDOW_S).rate_per_s == pytest.approx(40 * CUT * CUT)


def test_a_cut_holds_for_the_send_that_is_waited_for() -> None:
    """A cut moves the next send back to the new spacing, counted from the latest send."""
    pace = Pace.start(10.0, now=0.0).sent(5.0)
    before = pace.next_send_at
    pace = pace.throttled(5.01)
    assert pace.next_send_at == pytest.approx(5.0 + pace.spacing_s)
    assert pace.next_send_at > before


def test_the_floor_holds() -> None:
    """However long AWS throttles, a call every other second still finds out whether it is over."""
    pace = Pace.start(40.0, now=0.0)
    for second in range(1, 200):
        pace = pace.throttled(float(second))
    assert pace.rate_per_s == FLOOR_PER_S


def test_a_ceiling_below_the_floor_is_not_raised_by_a_throttle() -> None:
    """The floor never lifts a rate above its ceiling."""
    pace = Pace.start(0.1, now=0.0).throttled(1.0).throttled(2.5)
    assert pace.rate_per_s == 0.1


def test_success_without_a_throttle_changes_no_rate() -> None:
    """At the ceiling there is nothing to recover."""
    pace = Pace.start(40.0, now=0.0)
    assert pace.succeeded(1.0).rate_per_s == pace.rate_per_s
    assert pace.succeeded(1.0).next_send_at == pace.next_send_at


def test_a_throttle_among_hundreds_of_successes_cuts_nothing() -> None:
    """One throttle in some hundred calls is no limit; a second one right after it is taken for one."""
    pace, now = _use(Pace.start(40.0, now=0.0), seconds=10.0, now=0.0)
    pace = pace.throttled(now)
    assert pace.rate_per_s == 40.0
    assert pace.throttled(now).rate_per_s == pytest.approx(40 * CUT)


def test_noise_is_learned_below_the_rate_that_was_throttled() -> None:
    """What is throttled at the slower rate too counts as noise; what ends in another cut does not."""
    pace = Pace.start(40.0, now=0.0).throttled(0.0)
    now = CUT_WINDOW_S
    assert pace.throttled(now).throttled(now).noise.share == 0.0
    pace = pace.throttled(now)
    for _ in range(60):
        pace = pace.succeeded(now)
    assert 0.0 < pace.noise.share <= SHARE_MAX


def test_throttles_near_the_throttled_rate_teach_no_noise() -> None:
    """A trial that reaches the rates at which the limit may be before it is full tells nothing."""
    pace = Pace.start(5.0, now=0.0).throttled(0.0)
    pace = pace.throttled(CUT_WINDOW_S)
    pace, _ = _use(pace, seconds=60.0, now=CUT_WINDOW_S)
    assert pace.noise.share == 0.0


def test_comes_back_fast_to_nine_tenths_then_slowly() -> None:
    """90 % of the throttled rate is back within the fast step; all of it takes the slow step too."""
    pace = Pace.start(40.0, now=0.0).throttled(0.0)
    pace, now = _use(pace, seconds=FAST_S + 0.2, now=0.0)
    assert pace.rate_per_s == pytest.approx(36.0, rel=0.01)
    pace, now = _use(pace, seconds=SLOW_S - 1.0, now=now)
    assert 36.5 < pace.rate_per_s < 40.0


def test_recovery_is_bounded_from_the_deepest_cut() -> None:
    """From the floor a fully used budget is at its ceiling again within the promised time."""
    pace = Pace.start(40.0, now=0.0)
    for second in range(1, 100):
        pace = pace.throttled(float(second))
    assert pace.rate_per_s == FLOOR_PER_S
    pace, now = _use(pace, seconds=RECOVERY_S_MAX, now=99.0)
    assert pace.rate_per_s == 40.0
    assert now - 99.0 > FAST_S + SLOW_S + PROBE_S / 2, "it did come back step by step"


def test_time_alone_recovers_nothing() -> None:
    """A budget that was not used for an hour is as slow as when it was cut, and one success does not open it."""
    pace = Pace.start(40.0, now=0.0).throttled(1.0)
    assert pace.succeeded(3_601.0).rate_per_s < 40 * 0.87


def test_answers_that_arrive_together_do_not_outrun_time() -> None:
    """A hundred successes in the moment of a cut recover nothing."""
    pace = Pace.start(40.0, now=0.0).throttled(1.0)
    for _ in range(100):
        pace = pace.succeeded(1.0)
    assert pace.rate_per_s == pytest.approx(34.0)


# --- against limiters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("latency_s", [0.02, 0.3])
@pytest.mark.parametrize("burst_s", [0.2, 1.0, 2.0])
def test_finds_a_limit_that_drops_and_comes_back(latency_s: float, burst_s: float) -> None:
    """With AWS's limit going 50 → 10 → 50 → 25 per second, from a minute after each change on fewer than 2 % of the
    calls are throttled and at least 90 % of what is available is used; the limit's return is used within the minute."""
    limits, each_s, ceiling = [50.0, 10.0, 50.0, 25.0], 300.0, 40.0
    bucket = TokenBucket(limits[0], limits[0] * burst_s)
    changes = [(n * each_s, relimit(bucket, limit, burst_s=burst_s)) for n, limit in enumerate(limits)]
    calls = saturate(bucket, seconds=4 * each_s, ceilings=[ceiling], latency_s=latency_s, changes=changes)
    for number, limit in enumerate(limits):
        seen = use(calls, number * each_s + 60, (number + 1) * each_s, available=min(limit, ceiling))
        assert seen.throttled < 0.02, (limit, seen)
        assert seen.used >= 0.9, (limit, seen)
    assert use(calls, 2 * each_s + 50, 2 * each_s + 60, available=ceiling).used >= 0.9


@pytest.mark.parametrize("limit", [5, 10, 25])
def test_finds_a_limit_per_calendar_second(limit: int) -> None:
    """A limiter that counts calls per calendar second is used to at least 90 %, with fewer than 2 % throttled."""
    seen = use(saturate(FixedWindow(limit), seconds=400.0), 60.0, 400.0, available=limit)
    assert seen.throttled < 0.02
    assert seen.used >= 0.9


@pytest.mark.parametrize(("share", "least"), [(0.001, 0.93), (0.01, 0.85), (0.03, 0.5)])
def test_noise_does_not_slow_a_budget_down(share: float, least: float) -> None:
    """Throttles that come whatever the rate cost little: of 1 in 100, no run loses more than a tenth beyond the guard,
    where a cut for each of them would lose three quarters."""
    runs = []
    for seed in range(5):
        noise = Noise(share, random.Random(seed).random)
        seen = use(saturate(noise, seconds=360.0, seed=seed), 60.0, 360.0, available=40.0 * (1 - share))
        runs.append(seen.used)
    assert min(runs) >= least, runs
    assert sum(runs) / len(runs) >= min(0.93, least + 0.1), runs


def test_noise_does_not_hide_a_limit() -> None:
    """With noise and a limit, the limit is found: no more is throttled than noise and some 2 % for feeling for it."""
    limiter = Every([Noise(0.01, random.Random(1).random), TokenBucket(10.0, 10.0)])
    seen = use(saturate(limiter, seconds=400.0), 60.0, 400.0, available=10.0)
    assert seen.throttled < 0.045
    assert seen.used >= 0.9


@pytest.mark.parametrize("burst", [10.0, 50.0])
def test_takes_what_a_heavy_neighbour_leaves(burst: float) -> None:
    """Beside a client that calls 30 times per second of 50 at random and never slows down, at least 85 % of the rest is
    used, and few calls are throttled."""
    for seed in range(3):
        shared = Shared(TokenBucket(50.0, burst), 30.0, random.Random(seed).random)
        seen = use(saturate(shared, seconds=400.0, seed=seed), 60.0, 400.0, available=20.0)
        assert seen.throttled < 0.05, (seed, seen)
        assert seen.used >= 0.85, (seed, seen)


def test_two_budgets_share_a_low_limit() -> None:
    """Saturated budgets on an account that takes 10 calls per second: all keep going, and together they have no more
    throttled than one alone would have."""
    for ceilings in ([40.0, 8.0], [40.0, 20.0], [40.0, 20.0, 4.0]):
        calls = saturate(TokenBucket(10.0, 10.0), ceilings=ceilings, seconds=600.0, latency_s=0.08)
        seen = use(calls, 60.0, 600.0, available=10.0)
        assert seen.throttled < 0.02, (ceilings, seen)
        assert seen.used >= 0.9, (ceilings, seen)


def test_two_budgets_with_a_limit_each_use_both() -> None:
    """Should AWS limit each operation by itself, being cut together costs little of either."""
    buckets = [TokenBucket(10.0, 10.0), TokenBucket(6.0, 6.0)]
    seen = use(saturate(buckets, ceilings=[40.0, 20.0], seconds=600.0, latency_s=0.08), 60.0, 600.0, available=16.0)
    assert seen.throttled < 0.02
    assert seen.used >= 0.9


def test_a_cut_elsewhere_costs_a_budget_nothing_that_nobody_throttled() -> None:
    """Only its next throttle is heeded at once, even if it is the first in hundreds of calls."""
    pace, now = Pace.start(10, now=0.0), 0.0
    for _ in range(400):
        now += 0.1
        pace = pace.sent(now).succeeded(now)
    assert pace.throttled(now).rate_per_s == 10
    told = pace.cut_elsewhere(now)
    assert told.rate_per_s == 10
    assert told.throttled(now).rate_per_s == pytest.approx(8.5)


def test_budgets_that_are_throttled_are_cut_together() -> None:
    """Once in a second, whichever of them is throttled."""
    pace = Pace.start(10, now=0.0).throttled(0.0)
    assert pace.cut_elsewhere(0.5).rate_per_s == pytest.approx(8.5)
    assert pace.cut_elsewhere(1.5).rate_per_s == pytest.approx(8.5 * 0.85)


def test_a_rate_that_nobody_throttles_is_nearly_used_up() -> None:
    """The guard costs less than 5 % of the ceiling."""
    assert use(saturate(TokenBucket(50.0, 50.0), seconds=100.0), 0.0, 100.0, available=40.0).used > 0.95
