"""When to try again after a failure: the waiting times of the one retry layer.

Used by the stage loop, AWS reads, store commits and sinks. Rates are not its business (``core.pacing``), nor is
SubmitJob, whose repetition ``core.lifecycle`` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controller.core.errors import Misconfigured, StoreLocked, StoreMismatch

_DOUBLINGS_MAX: Final = 63
"""More doublings change nothing under any sensible cap, and would overflow a float one day."""


def backoff_s(attempt: int, *, base_s: float, cap_s: float, chance: float) -> float:
    """Seconds to wait after the ``attempt``-th failure in a row (1, 2, …).

    ``chance`` is a random number in [0, 1). The answer lies between the half and the whole of
    ``min(cap_s, base_s × 2^(attempt − 1))``: the lower half is left out so that a wait never shrinks to nothing,
    the rest spreads out callers that failed together.
    """
    assert attempt >= 1, attempt
    assert 0 < base_s <= cap_s, (base_s, cap_s)
    assert 0 <= chance <= 1, chance
    longest = min(cap_s, base_s * 2.0 ** min(attempt - 1, _DOUBLINGS_MAX))
    return longest * (0.5 + 0.5 * chance)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Waits of one kind of work."""

    base_s: float
    cap_s: float
    give_up_after_s: float | None = None
    """Age of a row of failures at which to stop; None: never. Deliveries and reads never do."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    at: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    reason: str


_HOPELESS: Final = (Misconfigured, StoreLocked, StoreMismatch)
"""Kinds that no waiting cures: somebody has to change what the process was started with."""


def plan_retry(
    error: Exception, *, attempt: int, age_s: float, now: float, policy: RetryPolicy, chance: float
) -> RetryAt | GiveUp:
    """What to do after the ``attempt``-th failure in a row, the first of which was ``age_s`` ago.

    ``now`` and the answer's ``at`` are of the same clock, whichever that is.
    """
    if isinstance(error, _HOPELESS):
        return GiveUp(f"{type(error).__name__} is not cured by waiting")
    if policy.give_up_after_s is not None and age_s >= policy.give_up_after_s:
        return GiveUp(f"{type(error).__name__} after {attempt} attempts in {age_s:.0f} s")
    return RetryAt(now + backoff_s(attempt, base_s=policy.base_s, cap_s=policy.cap_s, chance=chance))
