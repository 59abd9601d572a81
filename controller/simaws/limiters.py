"""How an AWS API may throttle: models of a request limiter, each with one question, ``take(now)``.

AWS documents token buckets for some services and nothing for Batch, so a client that is to work with Batch must work
with each of these. Used by ``rates.py`` for the simulated account, by the pacing tests and by the comparison with other
clients. Chance is handed in; a refused call takes no token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Limiter(Protocol):
    """Whether a call that arrives at ``now`` is let through. ``now`` never goes back."""

    def take(self, now: float) -> bool: ...


@dataclass(slots=True)
class TokenBucket:
    """``rate_per_s`` tokens per second, of which ``burst`` are saved up at most. Full at first.

    Both may be changed while it runs, as AWS does when an account's limit is raised or lowered.
    """

    rate_per_s: float
    burst: float
    tokens: float = math.inf
    at: float = 0.0

    def refill(self, now: float) -> None:
        self.tokens = min(self.burst, self.tokens + max(0.0, now - self.at) * self.rate_per_s)
        self.at = now

    def take(self, now: float) -> bool:
        self.refill(now)
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


@dataclass(slots=True)
class FixedWindow:
    """So many calls per calendar second, however they are spread in it."""

    per_second: int
    second: int = -1
    taken: int = 0

    def take(self, now: float) -> bool:
        if math.floor(now) != self.second:
            self.second, self.taken = math.floor(now), 0
        if self.taken >= self.per_second:
            return False
        self.taken += 1
        return True


@dataclass(slots=True)
class Noise:
    """A share of the calls is throttled whatever the rate: a busy partition of the service, not a limit."""

    share: float
    chance: Callable[[], float]

    def take(self, now: float) -> bool:
        return self.chance() >= self.share


@dataclass(slots=True)
class Shared:
    """A bucket that another client of the account uses too: it calls ``rate_per_s`` times per second at random
    instants (Poisson), never slows down, and does not repeat what was refused."""

    bucket: TokenBucket
    rate_per_s: float
    chance: Callable[[], float]
    next_at: float = 0.0

    def take(self, now: float) -> bool:
        while self.next_at <= now:
            self.bucket.take(self.next_at)
            self.next_at -= math.log(1.0 - self.chance()) / self.rate_per_s
        return self.bucket.take(now)


@dataclass(frozen=True, slots=True)
class Every:
    """Lets a call through if each of several limiters does. One that was asked has taken its token."""

    limiters: Sequence[Limiter]

    def take(self, now: float) -> bool:
        return all(limiter.take(now) for limiter in self.limiters)
