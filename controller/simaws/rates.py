"""Request limits of an account's API: token buckets, one per limited operation and one over all Batch calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.simaws.limiters import TokenBucket
from controller.simaws.profile import Profile

ALL = "*"


@dataclass(slots=True)
class ApiLimits:
    """Whether a Batch call is within the profile's limits; a refused call takes no token."""

    profile: Profile
    _buckets: dict[str, TokenBucket] = field(default_factory=dict)

    def take(self, operation: str, now: float, *, factor: float = 1.0) -> bool:
        """Take a token from each bucket that applies; False, and none taken, if one is empty. ``factor``: share of the
        rates that is left."""
        wanted: list[TokenBucket] = []
        profile = self.profile
        if (rate := profile.operation_rates_per_s.get(operation)) is not None:
            wanted.append(self._filled(operation, rate * factor, max(1.0, rate * factor), now))
        if (rate := profile.batch_rate_per_s) is not None:
            wanted.append(self._filled(ALL, rate * factor, max(1.0, profile.batch_burst * factor), now))
        if any(bucket.tokens < 1.0 for bucket in wanted):
            return False
        for bucket in wanted:
            bucket.tokens -= 1.0
        return True

    def _filled(self, name: str, rate_per_s: float, burst: float, now: float) -> TokenBucket:
        bucket = self._buckets.setdefault(name, TokenBucket(rate_per_s, burst, at=now))
        bucket.rate_per_s, bucket.burst = rate_per_s, burst
        bucket.refill(now)
        return bucket
