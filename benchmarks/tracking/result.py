"""What came of a day: how late ends were seen, and what it cost."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.tracking.workload import Day

UNSEEN_SHARE = 0.01
"""Of the ended jobs; from here on lags are told as at least so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    client: str
    jobs_a_day: int
    """As ordered; what came is in ``jobs``."""
    hours: float
    """Of the day, from midnight on."""
    jobs: int
    ended: int
    """In Batch, by the end of the day."""
    unseen: int
    """Of these, not seen ended by then; their lag counts as what it was at that moment."""
    lags_s: Sequence[float]
    """From Batch's end to the answer that showed it, of all that ended; sorted."""
    calls: int
    budget: float
    """Calls that the rate would have allowed."""
    took_s: float
    """Of this machine, to simulate."""

    def lag_s(self, share: float) -> float:
        """The lag that this share of the jobs has at most."""
        return self.lags_s[max(0, math.ceil(share * len(self.lags_s)) - 1)]

    @property
    def mean_lag_s(self) -> float:
        return sum(self.lags_s) / len(self.lags_s)

    @property
    def calls_per_job(self) -> float:
        return self.calls / self.jobs

    @property
    def is_behind(self) -> bool:
        """So many ends are not seen that their lags are as long as the day happens to be."""
        return self.unseen > UNSEEN_SHARE * self.ended


def result_of(
    client: str, day: Day, seen_at: Sequence[float], *, jobs_a_day: int, calls: int, rate_per_s: float, took_s: float
) -> Result:
    """``seen_at``: when each job's end was seen; infinite if it was not."""
    lags, unseen = array("d"), 0
    for ended_at, at in zip(day.ended_at, seen_at, strict=True):
        if ended_at > day.length_s:
            continue
        if at > day.length_s:
            unseen += 1
        lags.append(min(at, day.length_s) - ended_at)
    return Result(
        client=client,
        jobs_a_day=jobs_a_day,
        hours=day.length_s / 3_600.0,
        jobs=len(day),
        ended=len(lags),
        unseen=unseen,
        lags_s=array("d", sorted(lags)),
        calls=calls,
        budget=rate_per_s * day.length_s,
        took_s=took_s,
    )
