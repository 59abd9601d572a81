"""Pacing against limiters as properties: whatever the limit is, it is found, and what is allowed is never exceeded."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.limits import PACING_GUARD
from controller.core.throttle_noise import (
    CONFIDENCE,
    GRACE_AFTER_CUT,
    GRACE_BASE,
    LIMIT_SHARE,
    SHARE_MAX,
    ThrottleNoise,
)
from controller.simaws.limiters import Every, FixedWindow, Limiter, Noise, Shared, TokenBucket
from tests.simulation.paced import Use, saturate, use

_SEEDS = st.integers(min_value=0, max_value=2**32)
_LATENCIES = st.floats(min_value=0.005, max_value=1.0)


def _limiter(kind: str, limit: float, burst_s: float, seed: int) -> Limiter:
    rng = random.Random(seed)
    bucket = TokenBucket(limit, max(1.0, limit * burst_s))
    match kind:
        case "bucket":
            return bucket
        case "window":
            return FixedWindow(max(1, math.floor(limit)))
        case "shared":
            return Shared(bucket, limit / 2, rng.random)
        case "noisy":
            return Every([Noise(0.02, rng.random), bucket])
        case _:
            return Noise(0.05, rng.random)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["bucket", "window", "shared", "noisy", "noise"]),
    st.floats(min_value=1.0, max_value=60.0),
    st.floats(min_value=0.1, max_value=3.0),
    _LATENCIES,
    _SEEDS,
)
def test_the_ceiling_holds_against_every_limiter(
    kind: str, limit: float, burst_s: float, latency_s: float, seed: int
) -> None:
    """However calls are answered, no window of a second and the guard holds more sends than the ceiling."""
    calls = saturate(_limiter(kind, limit, burst_s, seed), seconds=60.0, latency_s=latency_s, seed=seed)
    times = [call.at for call in calls]
    assert all(later - first >= 1 + PACING_GUARD - 1e-6 for first, later in zip(times, times[40:], strict=False))


def _found(limit: float, burst_s: float, latency_s: float, seed: int) -> Use:
    """How a token bucket is used from a minute after the start on (and once the burst is used up)."""
    bucket = TokenBucket(limit, max(1.0, limit * burst_s), tokens=1.0)
    calls = saturate(bucket, seconds=300.0, latency_s=latency_s, seed=seed)
    return use(calls, 60.0, 300.0, available=limit)


@settings(max_examples=40, deadline=None)
@given(st.floats(min_value=10.0, max_value=38.0), st.floats(min_value=0.2, max_value=3.0), _LATENCIES, _SEEDS)
def test_every_bucket_is_found(limit: float, burst_s: float, latency_s: float, seed: int) -> None:
    """Of a token bucket of any rate from 10 per second on, at least 90 % is used and fewer than 2 % of the calls are
    throttled."""
    seen = _found(limit, burst_s, latency_s, seed)
    assert seen.used >= 0.9
    assert seen.throttled < 0.02


@settings(max_examples=20, deadline=None)
@given(st.floats(min_value=4.0, max_value=10.0), st.floats(min_value=0.2, max_value=3.0), _LATENCIES, _SEEDS)
def test_a_small_bucket_is_found(limit: float, burst_s: float, latency_s: float, seed: int) -> None:
    """Below 10 per second feeling for the limit costs a few throttles each half minute too, which are a larger share of
    fewer calls: no more than one in fifteen."""
    seen = _found(limit, burst_s, latency_s, seed)
    assert seen.used >= 0.9
    assert seen.throttled < 1 / 15


@given(st.lists(st.sampled_from(["success", "throttle", "cut", "leave", "doubt"]), max_size=400))
def test_grace_is_bounded(steps: list[str]) -> None:
    """Whatever happens, noise is never taken for more than its bound, and grace is kept for no more than its calls:
    a limit that throttles every call is heeded after that many at the latest."""
    noise = ThrottleNoise()
    most = max(GRACE_AFTER_CUT, GRACE_BASE, CONFIDENCE / math.log1p(LIMIT_SHARE / SHARE_MAX))
    for step in steps:
        match step:
            case "throttle" if noise.is_excusable:
                noise = noise.excused(is_trial=True)
            case "success":
                noise = noise.succeeded(is_trial=True)
            case "leave":
                noise = noise.succeeded(is_trial=False)
            case "doubt":
                noise = noise.doubted()
            case _:
                noise = noise.cut()
        assert 0.0 <= noise.share <= SHARE_MAX
        assert 0.0 <= noise.grace <= most
