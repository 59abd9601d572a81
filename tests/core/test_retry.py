"""Waiting times after failures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.retry import backoff_s


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
