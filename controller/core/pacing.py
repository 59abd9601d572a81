"""The rate of one kind of outward call, as a value: when the next call may be sent, slower when throttled.

Owned by ``controller.budgets``, which does the waiting. Nothing here reads a clock: every ``now`` is monotonic time.
``Pace`` is one budget's rate, ``SendWindow`` the total over budgets that are each paced already.

Spacing
    Sends are spaced evenly, ``(1 + PACING_GUARD) / rate`` seconds apart at least, counted from the moment of the
    actual send, so that a stall of the event loop is never made up for. A rate of n per second therefore puts at
    most n sends into any half-open window of ``1 + PACING_GUARD`` seconds on our clock, and at most n into any
    second on the wire, as long as the way there takes no longer for one call than for another by more than
    ``PACING_GUARD`` seconds. The price is that n per second is never quite reached: n / (1 + PACING_GUARD) is.

    A ceiling of 1 or more is rounded down to a whole number (8.5 calls cannot be in a window). Below 1 it is the
    spacing that keeps it: one call every ``(1 + PACING_GUARD) / ceiling`` seconds. Rates below the ceiling need not be
    whole; from a cut to r on, each window holds at most ``ceil(r)`` sends, and r is kept over longer times.

Recovery
    AWS throttles by token buckets whose rate nobody publishes and which other callers share, so the rate is felt
    for. A throttle cuts it by 15 %, at most once per second, unless it is put down to noise
    (``core.throttle_noise``), and the rate at which it happened is remembered. Then the rate comes back in three
    steps, as CUBIC does (RFC 9438): fast to 90 % of the remembered rate, slowly from there to all of it, because the
    limit is probably still there, and then, since it evidently is not, ever faster up to the ceiling.

    The steps advance by calls that succeeded, each worth one spacing, and never faster than time. So a budget that is
    not used, or whose calls fail, stays where it is, and a budget that is used fully is back at its ceiling within
    ``RECOVERY_S_MAX`` seconds of its last cut, however deep that was.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from controller.core.limits import PACING_GUARD
from controller.core.throttle_noise import ThrottleNoise

_Key = TypeVar("_Key", bound=Hashable)

CUT: Final = 0.85
"""What a throttle leaves of the rate."""
CUT_WINDOW_S: Final = 1.0
"""Throttles within this time of a cut belong to it: they answer calls sent at the old rate."""
FLOOR_PER_S: Final = 0.5
"""No cut goes below this (or below the ceiling, if that is lower): a call every other second finds out that the
throttling is over, and costs nothing if it is not."""
FAST_SHARE: Final = 0.9
"""Share of the throttled rate that is taken back fast."""
TRIAL_SHARE: Final = 0.93
"""Up to this share of the throttled rate a limit would be silent: throttles there are looked at as noise."""
FAST_S: Final = 2.0
SLOW_S: Final = 18.0
PROBE_S: Final = 18.0
"""Lengths of the three steps, in seconds of full use. Chosen by simulation against a token bucket (burst of one
second) whose rate drops from 50 to 10 per second and comes back; ``tests/core/test_pacing.py`` holds the result."""
WINDOW_SENDS_MAX: Final = 100_000
"""Far more than one process sends in a second: whoever wants no total gives a number with many zeros, and each send
of a window is remembered."""
RECOVERY_S_MAX: Final = FAST_S + SLOW_S + PROBE_S + (1 + PACING_GUARD) / FLOOR_PER_S
"""From the last cut to the ceiling, in full use: the steps, and one spacing at the slowest rate."""

assert CUT < FAST_SHARE < TRIAL_SHARE < 1
assert RECOVERY_S_MAX < 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast one budget may send now. Made by ``start``; every change returns a new value."""

    ceiling_per_s: float
    """As configured, > 0."""
    rate_per_s: float
    """In force now; at most ``ceiling_per_s`` rounded down."""
    last_sent_at: float
    """Actual time of the latest send (at first: of the start)."""
    last_cut_at: float = -math.inf
    throttled_rate: float | None = None
    """The rate in force when the latest cut was made; None once the ceiling is reached again."""
    recovered_s: float = 0.0
    """Seconds of successful use since the latest cut."""
    noise: ThrottleNoise = field(default_factory=ThrottleNoise)

    @classmethod
    def start(cls, ceiling_per_s: float, *, now: float) -> Pace:
        """At the ceiling and empty: the first send comes one spacing after ``now``.

        So neither a restart nor a new leader adds to what its predecessor sent in the same second.
        """
        assert ceiling_per_s > 0, ceiling_per_s
        return cls(ceiling_per_s=ceiling_per_s, rate_per_s=_whole(ceiling_per_s), last_sent_at=now)

    @property
    def top_per_s(self) -> float:
        """The rate in force without throttling."""
        return _whole(self.ceiling_per_s)

    @property
    def spacing_s(self) -> float:
        return (1 + PACING_GUARD) / self.rate_per_s

    @property
    def next_send_at(self) -> float:
        """Earliest time of the next send. A cut moves it back, also if somebody is waiting for it already."""
        return self.last_sent_at + self.spacing_s

    def wait_s(self, now: float) -> float:
        """Seconds until the next send may begin; 0 if it may now."""
        return max(0.0, self.next_send_at - now)

    def sent(self, now: float) -> Pace:
        """A call is being sent at ``now``, the actual time."""
        return replace(self, last_sent_at=max(now, self.last_sent_at))

    def throttled(self, now: float) -> Pace:
        """A call was answered with a throttle at ``now``."""
        if self._belongs_to_cut(now):
            return self
        if self.noise.is_excusable:
            return replace(self, noise=self.noise.excused(is_trial=self._is_trial))
        return replace(self._cut(now), noise=self.noise.cut())

    def cut_elsewhere(self, now: float) -> Pace:
        """Another budget of the same account was cut at ``now``: the limit that it met may be on all of them together.

        A budget that was throttled lately too, and is still below its ceiling for it, is cut along: one limit that
        each finds by itself is found too often. One that nobody throttled is not, but will be at its next throttle,
        unless noise is known of it.
        """
        if self.throttled_rate is None:
            return replace(self, noise=self.noise.doubted())
        return self if self._belongs_to_cut(now) else self._cut(now)

    def succeeded(self, now: float) -> Pace:
        """A call was answered at ``now``, and not with a throttle."""
        if self._belongs_to_cut(now):
            return self._recovered(now)
        return replace(self, noise=self.noise.succeeded(is_trial=self._is_trial))._recovered(now)

    def _cut(self, now: float) -> Pace:
        floor = min(FLOOR_PER_S, self.top_per_s)
        return replace(
            self,
            rate_per_s=max(floor, self.rate_per_s * CUT),
            last_cut_at=now,
            throttled_rate=self.rate_per_s,
            recovered_s=0.0,
        )

    def _belongs_to_cut(self, now: float) -> bool:
        return now - self.last_cut_at < CUT_WINDOW_S

    @property
    def _is_trial(self) -> bool:
        """Well below the rate that was throttled, or not throttled at all: what is throttled here is noise."""
        return self.throttled_rate is None or self.rate_per_s <= TRIAL_SHARE * self.throttled_rate

    def _recovered(self, now: float) -> Pace:
        if self.throttled_rate is None:
            return self
        recovered_s = min(self.recovered_s + self.spacing_s, now - self.last_cut_at)
        if recovered_s <= self.recovered_s:
            return self
        top = self.top_per_s
        rate = _recovering_rate(self.throttled_rate, top, recovered_s)
        if rate >= top:
            return replace(self, rate_per_s=top, throttled_rate=None, recovered_s=0.0)
        return replace(self, rate_per_s=max(self.rate_per_s, rate), recovered_s=recovered_s)


def throttled_together(paces: Mapping[_Key, Pace], which: _Key, now: float) -> dict[_Key, Pace]:
    """The budgets of one account after a call of one of them was throttled at ``now``."""
    before, after = paces[which], paces[which].throttled(now)
    if after.rate_per_s == before.rate_per_s:
        return {**paces, which: after}
    return {key: after if key == which else pace.cut_elsewhere(now) for key, pace in paces.items()}


class SendWindow:
    """At most n sends in any window of ``1 + guard`` seconds, by remembering the latest n; no spacing.

    For the total over several paces. Two even spacings on top of each other would cost both a part of their rate,
    since a send that waits for the one has lost its place in the other (a sixth, at the default rates). After a stall
    it makes up for nothing either, since each part is spaced by its own pace. It never slows down: what AWS throttles
    is cut there.
    """

    __slots__ = ("_sent_at", "_window_s", "rate_per_s", "spacing_s")

    def __init__(self, ceiling_per_s: float, *, now: float, guard: float = PACING_GUARD) -> None:
        """As if a predecessor had used the rate evenly until ``now``: the first send comes one spacing later."""
        assert ceiling_per_s > 0, ceiling_per_s
        self.rate_per_s = min(_whole(ceiling_per_s), WINDOW_SENDS_MAX)
        count = max(1, math.floor(self.rate_per_s))
        self._window_s = (1 + guard) * count / self.rate_per_s
        self.spacing_s = (1 + guard) / self.rate_per_s
        """On average, when it is used up."""
        self._sent_at = deque((now + self.spacing_s * (n + 1 - count) for n in range(count)), maxlen=count)

    def wait_s(self, now: float) -> float:
        """Seconds until the next send may begin; 0 if it may now."""
        return max(0.0, self._sent_at[0] + self._window_s - now)

    def sent(self, now: float) -> None:
        """A call is being sent at ``now``, the actual time."""
        self._sent_at.append(max(now, self._sent_at[-1]))


def _whole(ceiling_per_s: float) -> float:
    return float(math.floor(ceiling_per_s)) if ceiling_per_s >= 1 else ceiling_per_s


def _recovering_rate(throttled_rate: float, top: float, recovered_s: float) -> float:
    """The rate after ``recovered_s`` of recovery: continuous, never falling, ``top`` at the end."""
    slow_s = recovered_s - FAST_S
    if slow_s < 0:
        return throttled_rate * (CUT + (FAST_SHARE - CUT) * recovered_s / FAST_S)
    probe_s = slow_s - SLOW_S
    if probe_s < 0:
        return throttled_rate * (FAST_SHARE + (1 - FAST_SHARE) * slow_s / SLOW_S)
    if probe_s >= PROBE_S:
        return top
    return throttled_rate + (top - throttled_rate) * (probe_s / PROBE_S) ** 3
