"""How far the array jobs in flight have come: children by status, as DescribeJobs last told, summed per job queue.

Kept in memory, some 200 bytes per array; after a start it fills again as the arrays are described. ``stages/track.py``
reports here, the metric ``array_children`` is read from ``totals``. An array is PENDING for Batch whether its children
run or wait; of those whose children do nothing but wait, ``stages/diagnose.py`` asks why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from controller.core.job import BatchStatus, RowKey
from controller.core.polling import Lasting

_STATUSES: Final = tuple(status.value for status in BatchStatus)


def is_waiting(summary: Mapping[str, int]) -> bool:
    """Whether children wait to be placed, and none is."""
    placed = summary.get(BatchStatus.STARTING.value, 0) + summary.get(BatchStatus.RUNNING.value, 0)
    return not placed and summary.get(BatchStatus.RUNNABLE.value, 0) > 0


@dataclass(slots=True)
class _Wait:
    """Of an array whose children wait, and none of which has been placed meanwhile, as far as was seen."""

    job_id: str
    ended: int
    """Children that had reached their end when it began."""
    since: float
    seen_at: float
    """Monotonic, both."""


class ArrayProgress:
    """The latest summary of each array job in flight."""

    def __init__(self) -> None:
        self._waits: dict[RowKey, _Wait] = {}
        self._arrays: dict[RowKey, tuple[str, tuple[int, ...]]] = {}
        self._totals: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self._arrays)

    def __contains__(self, key: RowKey) -> bool:
        return key in self._arrays

    def add(self, key: RowKey, job_queue: str) -> None:
        """An array job that is in flight."""
        self._arrays.setdefault(key, (job_queue, (0,) * len(_STATUSES)))

    def seen(self, key: RowKey, job_id: str, summary: Mapping[str, int], *, now: float) -> None:
        """What DescribeJobs told of one that was added; ignored of others. ``now`` is monotonic."""
        known = self._arrays.get(key)
        if known is not None:
            self._heed_wait(key, job_id, summary, now)
            counts = tuple(summary.get(status, 0) for status in _STATUSES)
            if counts != known[1]:
                self._count(known, -1)
                self._arrays[key] = (known[0], counts)
                self._count(self._arrays[key], 1)

    def remove(self, key: RowKey) -> None:
        """It is no longer in flight."""
        known = self._arrays.pop(key, None)
        self._waits.pop(key, None)
        if known is not None:
            self._count(known, -1)

    def lasting(self, for_s: float) -> list[Lasting]:
        """Those whose children have waited, and none of which was placed, for so long."""
        return [
            Lasting(key, wait.job_id, 0, wait.seen_at - wait.since)
            for key, wait in self._waits.items()
            if wait.seen_at - wait.since >= for_s
        ]

    def waiting_queues(self) -> frozenset[str]:
        """Job queues of the arrays whose children wait, however long."""
        return frozenset(self._arrays[key][0] for key in self._waits)

    def _heed_wait(self, key: RowKey, job_id: str, summary: Mapping[str, int], now: float) -> None:
        if not is_waiting(summary):
            self._waits.pop(key, None)
            return
        ended = summary.get(BatchStatus.SUCCEEDED.value, 0) + summary.get(BatchStatus.FAILED.value, 0)
        wait = self._waits.get(key)
        if wait is None or wait.ended != ended:  # a child that ended between two looks was placed
            self._waits[key] = _Wait(job_id, ended, since=now, seen_at=now)
        else:
            wait.seen_at = now

    def _count(self, array: tuple[str, tuple[int, ...]], sign: int) -> None:
        job_queue, counts = array
        for status, count in zip(_STATUSES, counts, strict=True):
            self._totals[job_queue, status] += sign * count

    def totals(self) -> Mapping[tuple[str, str], int]:
        """Children by (job queue, status)."""
        return self._totals
