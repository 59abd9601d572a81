"""Pacing: what one throttle does, how the rate comes back, and how it finds a limit that nobody publishes."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import pytest

from controller.core.limits import PACING_GUARD
from controller.core.pacing import CUT, CUT_WINDOW_S, FAST_S, FLOOR_PER_S, PROBE_S, RECOVERY_S_MAX, SLOW_S, Pace


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
    """Of many throttles within a second only the first cuts; the first one after it cuts again."""
    pace = Pace.start(40.0, now=0.0).throttled(10.0)
    assert pace.rate_per_s == pytest.approx(40 * CUT)
    assert pace.throttled(10.0 + CUT_WINDOW_S - 0.001) == pace
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


def test_success_without_a_throttle_changes_nothing() -> None:
    """At the ceiling there is nothing to recover."""
    pace = Pace.start(40.0, now=0.0)
    assert pace.succeeded(1.0) is pace


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


# --- against a token bucket -----------------------------------------------------------------------------


@dataclass(slots=True)
class _TokenBucket:
    """AWS's side: ``rate`` per second, ``burst_s`` seconds of it saved up."""

    rate: float
    burst_s: float
    tokens: float = 0.0
    at: float = 0.0

    def take(self, now: float) -> bool:
        self.tokens = min(max(1.0, self.rate * self.burst_s), self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class _Call:
    at: float
    is_throttled: bool


def _simulate(
    *, ceilings: list[float], limits: list[float], each_s: float, latency_s: float, burst_s: float
) -> list[_Call]:
    """Saturated budgets that share one account whose true limit changes every ``each_s`` seconds."""
    bucket = _TokenBucket(limits[0], burst_s)
    paces = [Pace.start(ceiling, now=0.0) for ceiling in ceilings]
    answers: list[tuple[float, int, int, bool]] = []
    order = itertools.count()
    calls: list[_Call] = []
    while True:
        at, number = min((pace.next_send_at, number) for number, pace in enumerate(paces))
        if answers and answers[0][0] <= at:
            at, _, number, is_ok = heapq.heappop(answers)
            paces[number] = paces[number].succeeded(at) if is_ok else paces[number].throttled(at)
            continue
        if at >= len(limits) * each_s:
            return calls
        bucket.rate = limits[int(at // each_s)]
        is_ok = bucket.take(at)
        calls.append(_Call(at, not is_ok))
        paces[number] = paces[number].sent(at)
        heapq.heappush(answers, (at + latency_s, next(order), number, is_ok))


def _throttled_and_used(calls: list[_Call], since: float, until: float, available: float) -> tuple[float, float]:
    within = [call for call in calls if since <= call.at < until]
    throttled = sum(call.is_throttled for call in within)
    return throttled / len(within), (len(within) - throttled) / ((until - since) * available)


@pytest.mark.parametrize("latency_s", [0.02, 0.3])
@pytest.mark.parametrize("burst_s", [0.2, 1.0, 2.0])
def test_finds_a_limit_that_drops_and_comes_back(latency_s: float, burst_s: float) -> None:
    """With AWS's limit going 50 → 10 → 50 → 25 per second, from a minute after each change on fewer than 2 % of the
    calls are throttled and at least 90 % of what is available is used; the limit's return is used within the minute."""
    limits, each_s, ceiling = [50.0, 10.0, 50.0, 25.0], 300.0, 40.0
    calls = _simulate(ceilings=[ceiling], limits=limits, each_s=each_s, latency_s=latency_s, burst_s=burst_s)
    for number, limit in enumerate(limits):
        available = min(limit, ceiling)
        throttled, used = _throttled_and_used(calls, number * each_s + 60, (number + 1) * each_s, available)
        assert throttled < 0.02, (limit, throttled)
        assert used >= 0.9, (limit, used)
    _, used = _throttled_and_used(calls, 2 * each_s + 50, 2 * each_s + 60, ceiling)
    assert used >= 0.9


def test_two_budgets_share_a_low_limit() -> None:
    """Two saturated budgets on an account that takes 10 calls per second: both keep going, few are throttled."""
    calls = _simulate(ceilings=[40.0, 8.0], limits=[10.0], each_s=600.0, latency_s=0.08, burst_s=1.0)
    throttled, used = _throttled_and_used(calls, 60.0, 600.0, 10.0)
    assert throttled < 0.03
    assert used >= 0.9


def test_a_rate_that_nobody_throttles_is_nearly_used_up() -> None:
    """The guard costs less than 5 % of the ceiling."""
    calls = _simulate(ceilings=[40.0], limits=[50.0], each_s=100.0, latency_s=0.05, burst_s=1.0)
    _, used = _throttled_and_used(calls, 0.0, 100.0, 40.0)
    assert used > 0.95
