"""Is a throttle a limit that was met, or noise? A value that one ``core.pacing.Pace`` carries along.

AWS answers a small share of calls with a throttle whatever their rate: a busy partition, a cache that is being filled.
A rate that is cut for each of those falls until a throttle has become rare enough per second, to a sixth of what is
available at one in a hundred. What tells noise from a limit is what happens below the rate that was throttled: there
a limit is silent, and noise goes on.

So after a cut the slower rate is on trial. A trial is ``TRIAL_CALLS`` answered calls well below the rate that was
throttled (or at the ceiling, where there is nothing to be felt for), with no cut among them; the share of them that was
throttled counts as noise, and older trials are forgotten by and by. A trial that ends in another cut, or that leaves
the slow rates before it is full, tells nothing.

``grace`` says how many throttles will be put down to noise before the next one is a limit. It is a sequential test
(Page's cumulative sum) of the known share of noise against that share and ``LIMIT_SHARE``: a throttle takes one from
it, a call that succeeded adds what makes both even between the two shares, and no more is kept than it takes to tell
them apart. So noise that comes as rarely as it should costs nothing, and throttles in quick succession are heeded.

Where budgets share a limit, each meets what the others overran. So a cut of one of them takes away from the others
what they were granted without knowing of any noise (``doubted``).

The numbers come from simulation (``tests/core/test_pacing.py``, ``tests/properties/test_pacing_limiters.py``): more
grace lets a limit go unheeded (more throttled calls), less makes noise costly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

TRIAL_CALLS: Final = 50
MEMORY_CALLS: Final = 1_000
"""Calls of trials that are remembered; at more, old and new ones count half."""
PRIOR_CALLS: Final = 50
"""Calls without a throttle that are assumed before anything is known."""
SHARE_MAX: Final = 0.05
"""More than this is never taken for noise."""
LIMIT_SHARE: Final = 0.05
"""A limit that was met throttles at least this share of the calls, on top of noise."""
CONFIDENCE: Final = 5.0
"""Logarithm of the odds at which throttles are taken for a limit."""
GRACE_BASE_PER_CALL: Final = 0.003
"""Earned where no noise is known: one throttle in 333 calls is no limit yet."""
GRACE_BASE: Final = 1.0
"""Kept where no noise is known."""
GRACE_AFTER_CUT: Final = 1.0
"""Granted to a trial, which could not show noise otherwise: the first throttle would end it. No more than is kept."""


@dataclass(frozen=True, slots=True)
class ThrottleNoise:
    """What one budget knows of throttles that no slowing down prevents. At first: nothing."""

    calls: float = 0.0
    """Of remembered trials."""
    throttled: float = 0.0
    trial_calls: int = 0
    trial_throttled: int = 0
    grace: float = 0.0

    @property
    def share(self) -> float:
        """Estimated share of calls that is throttled whatever the rate."""
        return min(SHARE_MAX, self.throttled / (self.calls + PRIOR_CALLS))

    @property
    def is_excusable(self) -> bool:
        """Whether a throttle now is put down to noise."""
        return self.grace >= 1.0

    def excused(self, *, is_trial: bool) -> ThrottleNoise:
        """A call was throttled, and that was put down to noise."""
        assert self.is_excusable
        return replace(self, grace=self.grace - 1.0)._answered(is_trial=is_trial, throttled=1)

    def succeeded(self, *, is_trial: bool) -> ThrottleNoise:
        """A call was answered, and not with a throttle."""
        after = self._answered(is_trial=is_trial, throttled=0)
        earned, most = GRACE_BASE_PER_CALL, GRACE_BASE
        if (share := after.share) > 0:
            weight = math.log1p(LIMIT_SHARE / share)
            earned, most = max(earned, LIMIT_SHARE / weight), max(most, CONFIDENCE / weight)
        return replace(after, grace=min(most, after.grace + earned))

    def cut(self) -> ThrottleNoise:
        """The rate was cut: what was on trial tells nothing, and the slower rate is on trial from now on."""
        return replace(self, trial_calls=0, trial_throttled=0, grace=GRACE_AFTER_CUT)

    def doubted(self) -> ThrottleNoise:
        """Another budget has met a limit, which may be this one's too."""
        return self if self.throttled else replace(self, grace=0.0)

    def _answered(self, *, is_trial: bool, throttled: int) -> ThrottleNoise:
        if not is_trial:
            return self if not self.trial_calls else replace(self, trial_calls=0, trial_throttled=0)
        tried = replace(self, trial_calls=self.trial_calls + 1, trial_throttled=self.trial_throttled + throttled)
        return tried if tried.trial_calls < TRIAL_CALLS else tried._learned()

    def _learned(self) -> ThrottleNoise:
        calls, throttled = self.calls + self.trial_calls, self.throttled + self.trial_throttled
        kept = 0.5 if calls > MEMORY_CALLS else 1.0
        return replace(self, calls=calls * kept, throttled=throttled * kept, trial_calls=0, trial_throttled=0)
