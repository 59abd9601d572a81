"""Waiting times after failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.errors import (
    BadCredentials,
    Misconfigured,
    Refused,
    StoreLocked,
    StoreMismatch,
    StoreUnavailable,
    Throttled,
    Unavailable,
    Unexpected,
)
from controller.core.retry import GiveUp, RetryAt, RetryPolicy, backoff_s, plan_retry

_FOREVER = RetryPolicy(base_s=0.5, cap_s=30.0)


@pytest.mark.parametrize(
    ("attempt", "chance", "seconds"),
    [(1, 0.0, 0.25), (1, 1.0, 0.5), (2, 1.0, 1.0), (3, 0.5, 1.5), (7, 1.0, 30.0), (7, 0.0, 15.0), (10**6, 0.0, 15.0)],
)
def test_waits_double_up_to_the_cap(attempt: int, chance: float, seconds: float) -> None:
    """Each failure in a row doubles the wait up to the cap; chance chooses within its upper half."""
    assert backoff_s(attempt, base_s=0.5, cap_s=30.0, chance=chance) == pytest.approx(seconds)


@given(
    st.integers(min_value=1, max_value=10_000),
    st.floats(min_value=1e-3, max_value=10.0),
    st.floats(min_value=1.0, max_value=100.0),
    st.floats(min_value=0.0, max_value=1.0),
)
def test_a_wait_is_within_its_bounds(attempt: int, base_s: float, factor: float, chance: float) -> None:
    """No wait is shorter than half the base or longer than the cap."""
    cap_s = base_s * factor
    assert base_s / 2 <= backoff_s(attempt, base_s=base_s, cap_s=cap_s, chance=chance) <= cap_s


@pytest.mark.parametrize("error", [StoreLocked("s"), StoreMismatch("s"), Misconfigured("s")])
def test_gives_up_what_waiting_does_not_cure(error: Exception) -> None:
    """A wrong configuration or a store of somebody else's is given up at the first failure."""
    assert isinstance(plan_retry(error, attempt=1, age_s=0.0, now=0.0, policy=_FOREVER, chance=0.5), GiveUp)


@pytest.mark.parametrize(
    "error",
    [
        Throttled("x"),
        Unavailable("x"),
        BadCredentials("x"),
        Refused("x"),
        Unexpected("x"),
        StoreUnavailable("x"),
        ValueError("x"),
    ],
)
def test_without_a_limit_it_never_gives_up(error: Exception) -> None:
    """Deliveries and reads go on for as long as it takes."""
    decision = plan_retry(error, attempt=10_000, age_s=1e7, now=100.0, policy=_FOREVER, chance=0.0)
    assert decision == RetryAt(115.0)


def test_gives_up_at_the_age_limit() -> None:
    """With a limit the failures are ended by their age, and the reason says how many there were."""
    policy = RetryPolicy(base_s=1.0, cap_s=10.0, give_up_after_s=60.0)
    error = Unavailable("x")
    assert plan_retry(error, attempt=9, age_s=59.9, now=0.0, policy=policy, chance=0.0) == RetryAt(5.0)
    decision = plan_retry(error, attempt=9, age_s=60.0, now=0.0, policy=policy, chance=0.0)
    assert decision == GiveUp("Unavailable after 9 attempts in 60 s")
