"""Paces against a limiter, call by call: the pure core alone, so that hundreds of runs take seconds.

``saturate`` sends as fast as each pace allows; latencies are drawn between half and one and a half times the mean.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.core.pacing import Pace, throttled_together
from controller.simaws.limiters import Limiter, TokenBucket


@dataclass(frozen=True, slots=True)
class Call:
    at: float
    rate: float
    """In force when it was sent."""
    is_throttled: bool


@dataclass(frozen=True, slots=True)
class Use:
    """What became of the calls of a time."""

    throttled: float
    """Share of the calls."""
    used: float
    """Calls let through, as a share of what was available."""


Change = tuple[float, Callable[[], None]]
"""When, and what: a limit that is changed while the paces run."""


def saturate(
    limiter: Limiter | Sequence[Limiter],
    *,
    seconds: float,
    ceilings: Sequence[float] = (40.0,),
    latency_s: float = 0.05,
    seed: int = 0,
    changes: Sequence[Change] = (),
) -> list[Call]:
    """Budgets that always have something to send, on one account: one limiter for all, or one for each."""
    limiters = [limiter] * len(ceilings) if not isinstance(limiter, Sequence) else limiter
    rng = random.Random(seed)
    paces = {number: Pace.start(ceiling, now=0.0) for number, ceiling in enumerate(ceilings)}
    answers: list[tuple[float, int, int, bool]] = []
    order = itertools.count()
    calls: list[Call] = []
    left = list(changes)
    while True:
        at, number = min((pace.next_send_at, number) for number, pace in paces.items())
        if answers and answers[0][0] <= at:
            at, _, number, is_throttled = heapq.heappop(answers)
            if is_throttled:
                paces = throttled_together(paces, number, at)
            else:
                paces[number] = paces[number].succeeded(at)
            continue
        if at >= seconds:
            return calls
        while left and left[0][0] <= at:
            left.pop(0)[1]()
        is_throttled = not limiters[number].take(at)
        calls.append(Call(at, paces[number].rate_per_s, is_throttled))
        paces[number] = paces[number].sent(at)
        heapq.heappush(answers, (at + latency_s * (0.5 + rng.random()), next(order), number, is_throttled))


def use(calls: Sequence[Call], since: float, until: float, *, available: float) -> Use:
    """Of the calls sent from ``since`` to ``until``, with ``available`` per second."""
    within = [call for call in calls if since <= call.at < until]
    throttled = sum(call.is_throttled for call in within)
    return Use(throttled / max(1, len(within)), (len(within) - throttled) / ((until - since) * available))


def relimit(bucket: TokenBucket, rate_per_s: float, *, burst_s: float) -> Callable[[], None]:
    """A change: from then on the account's true limit is another; its burst is ``burst_s`` seconds of it."""

    def change() -> None:
        bucket.rate_per_s, bucket.burst = rate_per_s, max(1.0, rate_per_s * burst_s)

    return change
