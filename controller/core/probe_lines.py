"""In which line a held pair waits for its probe, and how long the line is.

Kept by ``controller.holds``, which asks how far apart the probes of a pair have to be. Whoever has thousands of pairs
denied takes no more of the submit rate than ``PROBES_PER_S``, and makes only his own wait: half of the probes are for
pairs that were allowed until they were held, the others for the tenants in equal parts. What a part has
no pair for, the others get.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

PROBES_PER_S: Final = 2.0
"""Of all held pairs together."""
ALLOWED: Final = None
"""The line of pairs that were allowed until they were held, whoever's they are."""

Line = str | None
"""That of a tenant, or ALLOWED."""
Pair = tuple[str, str]


class ProbeLines:
    """Held pairs, each in one line."""

    def __init__(self) -> None:
        self._line: dict[Pair, Line] = {}
        self._lengths: Counter[Line] = Counter()
        """Lines without a pair are missing."""

    def __len__(self) -> int:
        return len(self._line)

    def join(self, pair: Pair, line: Line) -> None:
        """It is held from now on; a pair that is in a line leaves it."""
        self.leave(pair)
        self._line[pair] = line
        self._lengths[line] += 1

    def leave(self, pair: Pair) -> None:
        """It is held no more; nothing happens if it was not."""
        if pair not in self._line:
            return
        line = self._line.pop(pair)
        self._lengths[line] -= 1
        if not self._lengths[line]:
            del self._lengths[line]

    def was_allowed(self, pair: Pair) -> bool:
        """Whether it is a held pair that was allowed until then."""
        return self._line.get(pair, "") is ALLOWED

    def turn_s(self, pair: Pair) -> float:
        """Seconds until each pair of its line has had a probe; the pair must be held."""
        line = self._line[pair]
        tenants = len(self._lengths) - (ALLOWED in self._lengths)
        lines = tenants if line is not ALLOWED else 1
        halves = 2 if tenants and ALLOWED in self._lengths else 1
        return self._lengths[line] * lines * halves / PROBES_PER_S
