"""When to try again after a failure: the waiting times of the one retry layer.

Used by the stage loop for AWS reads, store commits and sinks, which are repeated for as long as it takes. Rates are not
its business (``core.pacing``), nor is whether a SubmitJob may be repeated (``core.lifecycle``).
"""

from __future__ import annotations

from typing import Final

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
