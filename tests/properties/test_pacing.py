"""Pacing as properties: no sequence of sends, stalls and answers puts too many sends into a window."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.limits import PACING_GUARD
from controller.core.pacing import CUT_WINDOW_S, FLOOR_PER_S, RECOVERY_S_MAX, WINDOW_SENDS_MAX, Pace, SendWindow

_CEILINGS = st.one_of(
    st.floats(min_value=0.05, max_value=1.0),
    st.floats(min_value=1.0, max_value=60.0),
    st.sampled_from([1.0, 8.0, 40.0]),
)
_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "throttle", "success"]),
        st.one_of(st.just(0.0), st.floats(min_value=0.0, max_value=0.3), st.floats(min_value=0.0, max_value=30.0)),
    ),
    max_size=200,
)


@dataclass(frozen=True, slots=True)
class _Sent:
    at: float
    rate: float
    """In force when it was sent."""


def _run(ceiling: float, steps: list[tuple[str, float]]) -> list[_Sent]:
    """Each step comes ``lateness`` seconds after it could: a stalled loop, a slow answer."""
    now = 1_000.0
    pace = Pace.start(ceiling, now=now)
    sends: list[_Sent] = []
    for step, lateness in steps:
        now += lateness
        if step == "send":
            now = max(now, pace.next_send_at)
            sends.append(_Sent(now, pace.rate_per_s))
            pace = pace.sent(now)
        else:
            pace = pace.throttled(now) if step == "throttle" else pace.succeeded(now)
        assert min(FLOOR_PER_S, ceiling) <= pace.rate_per_s <= ceiling
    return sends


def _windows(sends: list[_Sent], length: float) -> list[list[_Sent]]:
    """The sends of each half-open window that begins with a send; no other window holds more."""
    return [[send for send in sends[n:] if send.at < first.at + length] for n, first in enumerate(sends)]


@given(_CEILINGS, _STEPS)
def test_no_window_holds_more_than_the_ceiling(ceiling: float, steps: list[tuple[str, float]]) -> None:
    """No window of one second and the guard holds more sends than the ceiling, or than one if that is below 1."""
    for window in _windows(_run(ceiling, steps), 1 + PACING_GUARD - 1e-9):
        assert len(window) <= max(1, math.floor(ceiling))


@given(st.floats(min_value=0.05, max_value=0.99), _STEPS)
def test_a_ceiling_below_one_holds_over_its_own_window(ceiling: float, steps: list[tuple[str, float]]) -> None:
    """With a ceiling of 1 call in n seconds, no n seconds hold two."""
    assert all(len(window) == 1 for window in _windows(_run(ceiling, steps), 1 / ceiling))


@given(_CEILINGS, _STEPS)
def test_after_a_cut_the_rate_in_force_holds(ceiling: float, steps: list[tuple[str, float]]) -> None:
    """Sends that follow each other at rates of at most r are never more than r, rounded up, in a window."""
    for window in _windows(_run(ceiling, steps), 1 + PACING_GUARD - 1e-9):
        assert len(window) <= math.ceil(max(send.rate for send in window[1:])) if len(window) > 1 else True


@given(_CEILINGS, st.lists(st.floats(min_value=0.0, max_value=PACING_GUARD - 1e-6), min_size=1, max_size=200))
def test_bunching_on_the_way_is_covered_by_the_guard(ceiling: float, delays: list[float]) -> None:
    """Sends that take up to the guard longer than others never exceed the ceiling in any second on the wire."""
    sends = _run(ceiling, [("send", 0.0)] * len(delays))
    wire = sorted(send.at + delay for send, delay in zip(sends, delays, strict=True))
    for first in wire:
        assert sum(first <= at < first + 1.0 - 1e-9 for at in wire) <= max(1, math.floor(ceiling))


@settings(deadline=None)
@given(
    st.floats(min_value=1.0, max_value=100.0),
    st.lists(st.floats(min_value=0.0, max_value=5.0), min_size=1, max_size=60),
)
def test_full_use_is_back_at_the_ceiling_in_bounded_time(ceiling: float, pauses: list[float]) -> None:
    """Whatever throttles there were, full use without any leads back to the ceiling within the promised time."""
    now = 0.0
    pace = Pace.start(ceiling, now=now)
    for pause in pauses:
        now += pause
        pace = pace.throttled(now)
    end = now + CUT_WINDOW_S + RECOVERY_S_MAX
    while pace.next_send_at < end:
        now = max(now, pace.next_send_at)
        pace = pace.sent(now).succeeded(now)
    assert pace.rate_per_s == math.floor(ceiling)


@given(_CEILINGS, _STEPS)
def test_no_answer_moves_a_send_ahead_of_the_ceiling(ceiling: float, steps: list[tuple[str, float]]) -> None:
    """Two sends are never closer than the spacing at the ceiling."""
    sends = _run(ceiling, steps)
    closest = (1 + PACING_GUARD) / (math.floor(ceiling) if ceiling >= 1 else ceiling)
    assert all(b.at - a.at >= closest - 1e-9 for a, b in itertools.pairwise(sends))


@given(_CEILINGS, st.lists(st.one_of(st.just(0.0), st.floats(min_value=0.0, max_value=2.0)), max_size=150))
def test_the_total_holds_in_every_window(ceiling: float, latenesses: list[float]) -> None:
    """Sends that come as soon as the total lets them, or at any time later, never exceed it in a window, nor together
    with a predecessor that used the same total evenly until the start."""
    start = 1_000.0
    window = SendWindow(ceiling, now=start)
    sends = [_Sent(start - n * window.spacing_s, ceiling) for n in reversed(range(60))]
    now = start
    for lateness in latenesses:
        now = max(now + lateness, now + window.wait_s(now + lateness) + lateness)
        window.sent(now)
        sends.append(_Sent(now, ceiling))
    most = max(1, math.floor(ceiling))
    length = (1 + PACING_GUARD) * (1 if ceiling >= 1 else 1 / ceiling)
    assert all(len(within) <= most for within in _windows(sends, length - 1e-9))


@given(st.floats(min_value=1.0, max_value=100.0))
def test_the_total_is_used_up_if_it_is_wanted(ceiling: float) -> None:
    """Whoever always sends as soon as possible gets the whole rate, less the guard."""
    window = SendWindow(ceiling, now=0.0)
    now, count = 0.0, 0
    while (now := now + window.wait_s(now)) < 20.0:
        window.sent(now)
        count += 1
    assert count >= math.floor(20.0 / (1 + PACING_GUARD)) * math.floor(ceiling) - 1


def test_a_total_with_many_zeros_is_as_good_as_none() -> None:
    """Each send of a window is remembered, and there is no memory for a number that is meant to be no limit."""
    window = SendWindow(1e308, now=0.0)
    assert window.rate_per_s == WINDOW_SENDS_MAX
    assert window.wait_s(0.0) <= window.spacing_s < 1e-4
