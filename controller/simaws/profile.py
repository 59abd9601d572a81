"""How jobs behave and how AWS's APIs are limited: every number of a simulated account, in one record.

Ranges are (least, most) in seconds, drawn evenly; probabilities are per attempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Dwell times, endings, lags and limits of a simulated account."""

    submitted_s: Range = (0.0, 0.0)
    runnable_s: Range = (0.0, 0.0)
    starting_s: Range = (0.0, 0.0)
    running_s: Range = (1.0, 1.0)

    application_failure_p: float = 0.0
    """Exit code 1."""
    spot_reclaim_p: float = 0.0
    out_of_memory_p: float = 0.0
    image_pull_p: float = 0.0

    describe_lag_s: Range = (0.0, 0.0)
    """A new job is unknown to DescribeJobs for this long."""
    list_lag_s: Range = (0.0, 0.0)
    """A new job is missing from ListJobs for this long."""
    stop_s: Range = (0.0, 0.0)
    """From an accepted TerminateJob or CancelJob to its effect."""
    retention_s: float = 7 * 86_400.0
    """A finished job is forgotten after this long (AWS: at least 7 days)."""
    event_lag_s: Range = (0.0, 0.0)
    """From a change of status to its event's arrival in the queue."""

    latency_s: Range = (0.0, 0.0)
    """From a call's arrival to its answer."""
    batch_rate_per_s: float | None = None
    """Token bucket over all Batch calls of the account; None: no limit."""
    batch_burst: float = 50.0
    operation_rates_per_s: Mapping[str, float] = field(default_factory=dict)
    """Token buckets of single operations, with a burst of one second's worth."""

    def __post_init__(self) -> None:
        for name in RANGES:
            least, most = getattr(self, name)
            if not 0 <= least <= most:
                raise ValueError(f"{name}: must be (least, most) with 0 <= least <= most")
        chances = [getattr(self, name) for name in PROBABILITIES]
        if min(chances) < 0 or sum(chances) > 1:
            raise ValueError("probabilities of the endings: each at least 0, together at most 1")


RANGES: Final = tuple(f.name for f in fields(Profile) if f.type == "Range")
PROBABILITIES: Final = ("application_failure_p", "spot_reclaim_p", "out_of_memory_p", "image_pull_p")

FAST: Final = Profile(
    submitted_s=(0.02, 0.1), runnable_s=(0.1, 0.5), starting_s=(0.1, 0.5), running_s=(0.5, 3.0), stop_s=(0.05, 0.3)
)
"""For demonstrations and tests: a job ends within seconds, nothing fails, no limits."""

REALISTIC: Final = Profile(
    submitted_s=(0.5, 3.0),
    runnable_s=(5.0, 120.0),
    starting_s=(5.0, 60.0),
    running_s=(30.0, 900.0),
    application_failure_p=0.02,
    spot_reclaim_p=0.01,
    out_of_memory_p=0.005,
    image_pull_p=0.005,
    describe_lag_s=(0.0, 0.5),
    list_lag_s=(0.0, 3.0),
    stop_s=(1.0, 30.0),
    event_lag_s=(0.2, 2.0),
    batch_rate_per_s=50.0,
)
"""Numbers of the order seen on AWS; the limit is AWS's 50 calls per second and account."""

PROFILES: Final[Mapping[str, Profile]] = {"fast": FAST, "realistic": REALISTIC}


def changed(profile: Profile, changes: Mapping[str, Any]) -> Profile:
    """``profile`` with some members replaced; raises ValueError naming an unknown member or a bad value."""
    known = {f.name for f in fields(Profile)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise ValueError(f"unknown profile members: {', '.join(unknown)}")
    values: dict[str, Any] = {n: tuple(map(float, v)) if n in RANGES else v for n, v in changes.items()}
    return replace(profile, **values)
