"""Requests that wait a while before they are sent again: AWS Batch refused them, denied the call, or did not tell
whether there is a job of an earlier send.

A hold (``holds.py``) stops a job queue, or all requests of a (queue, definition) pair; a rest is of one request, which
may be the only one at fault, and stops nobody else. In memory: a restart is a rest, too.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Final

from controller.core.job import RowKey
from controller.ports import Clock

REFUSED_REST_S: Final = 3.0
"""Between the two sends of a request that Batch refuses. That a job queue was disabled for a moment, or a job
definition registered a moment ago, must not make a refusal for good of it."""
DENIED_REST_S_MIN: Final = 120.0
DENIED_REST_S_MAX: Final = 900.0
"""A request whose call was denied while others of its pair were not rests for the first, then for twice as long, up to
the last."""
UNANSWERED_REST_S_MIN: Final = 5.0
UNANSWERED_REST_S_MAX: Final = 60.0
"""A request whose look-up gave no answer rests for the first, then for twice as long, up to the last."""
UNASKED_REST_S: Final = 3.0
"""A request that so many others are looked up before rests for so long."""
RESTS_MAX: Final = 1_000
"""Requests that are remembered, those refused last; one that is forgotten may be sent again at once."""

Pair = tuple[str, str]
"""(job queue name, job definition as requested)."""


@dataclass(frozen=True, slots=True)
class _Rest:
    pair: Pair
    until: float
    """Monotonic."""
    denied_at: float | None = None
    """When a call for it was denied last, monotonic; None: never, as far as is known."""
    times: int = 0
    """How often it has rested for that."""
    unanswered: int = 0
    """How often its look-up gave no answer."""


class Rests:
    """Which requests rest, and what is known of those that were denied."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rests: dict[RowKey, _Rest] = {}
        """The one refused last comes last."""

    def refused(self, pair: Pair, key: RowKey) -> None:
        """Batch refused it for the first time."""
        self._keep(key, _Rest(pair, self._clock.monotonic() + REFUSED_REST_S))

    def unanswered(self, pair: Pair, key: RowKey) -> None:
        """Its look-up gave no answer. What is known of denials stays."""
        times = self._known(pair, key).unanswered
        rest_s = min(UNANSWERED_REST_S_MAX, UNANSWERED_REST_S_MIN * 2 ** min(times, 8))
        self._keep(key, replace(self._resting(pair, key, rest_s), unanswered=times + 1))

    def unasked(self, pair: Pair, key: RowKey) -> None:
        """It has to be looked up, and others are. What is known of it stays."""
        self._keep(key, self._resting(pair, key, UNASKED_REST_S))

    def denied(self, pair: Pair, key: RowKey, *, rests: bool = True) -> None:
        """The call for it was denied. It does not rest if nothing is known of others of its pair: their permission may
        be lacking altogether, and be mended for all of them."""
        now, known = self._clock.monotonic(), self._rests.get(key)
        times = known.times if known is not None else 0
        if not rests:
            self._keep(key, _Rest(pair, now, denied_at=now, times=times))
            return
        rest_s = min(DENIED_REST_S_MAX, DENIED_REST_S_MIN * 2 ** min(times, 8))
        self._keep(key, _Rest(pair, now + rest_s, denied_at=now, times=times + 1))

    def denied_at(self, key: RowKey) -> float | None:
        """When a call for this request was denied last, monotonic; None: never, as far as is known."""
        known = self._rests.get(key)
        return known.denied_at if known is not None else None

    def forget_denials(self) -> None:
        """Permissions have been mended: what was denied may be sent at once."""
        self._rests = {key: rest for key, rest in self._rests.items() if rest.denied_at is None}

    def resting(self, held: Container[Pair]) -> frozenset[RowKey]:
        """Requests that may not be sent now. Those of held pairs are left out: one of them may be their probe."""
        if not self._rests:
            return frozenset()
        now = self._clock.monotonic()
        return frozenset(key for key, rest in self._rests.items() if rest.until > now and rest.pair not in held)

    def next_s(self) -> float | None:
        """Seconds until the next rest ends; None: nothing rests."""
        now = self._clock.monotonic()
        return min((rest.until - now for rest in self._rests.values() if rest.until > now), default=None)

    def _known(self, pair: Pair, key: RowKey) -> _Rest:
        return self._rests.get(key, _Rest(pair, 0.0))

    def _resting(self, pair: Pair, key: RowKey, seconds: float) -> _Rest:
        known = self._known(pair, key)
        return replace(known, until=max(known.until, self._clock.monotonic() + seconds))

    def _keep(self, key: RowKey, rest: _Rest) -> None:
        self._rests.pop(key, None)
        self._rests[key] = rest
        if len(self._rests) > RESTS_MAX:
            del self._rests[next(iter(self._rests))]
