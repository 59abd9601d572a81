"""Who is next when several purposes wait for one rate: a guaranteed minimum each, and nothing left unused.

Owned by ``controller.budgets``, which does the waiting; nothing here reads a clock. Start-time fair queueing over
single calls: each call gets as its tag the later of the level (the tag of the call served last) and the end of its
purpose's previous call, which lies ``1 / share`` behind that one's tag. The smallest tag goes first.

So a purpose that always has a call to send gets at least its share of the calls, less the one call of each other
purpose that was ahead of it; what a purpose does not ask for goes to the others, and one that was idle saves up no
claim, but is next as soon as it asks: it waits for no more than the call that is being served.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

P = TypeVar("P")


class FairTurns(Generic[P]):
    """The purposes that wait, each with one call at a time, and whose turn it is."""

    __slots__ = ("_ends", "_level", "_order", "_shares", "_tags")

    def __init__(self, shares: Mapping[P, float]) -> None:
        """``shares`` sum up to 1. Their order decides between equals."""
        assert abs(sum(shares.values()) - 1) < 1e-9, shares
        assert min(shares.values()) > 0, shares
        self._shares = dict(shares)
        self._order = {purpose: number for number, purpose in enumerate(shares)}
        self._ends = dict.fromkeys(shares, 0.0)
        self._tags: dict[P, float] = {}
        self._level = 0.0

    def join(self, purpose: P) -> None:
        """A call of this purpose waits from now on."""
        assert purpose not in self._tags, purpose
        self._tags[purpose] = max(self._level, self._ends[purpose])

    def leave(self, purpose: P) -> None:
        """It waits no more, served or not."""
        del self._tags[purpose]

    def next(self) -> P | None:
        """Whose turn it is; None: nobody waits."""
        return min(self._tags, key=lambda purpose: (self._tags[purpose], self._order[purpose]), default=None)

    def served(self, purpose: P) -> None:
        """Its call is being sent."""
        self._level = self._tags[purpose]
        self._ends[purpose] = self._level + 1 / self._shares[purpose]
