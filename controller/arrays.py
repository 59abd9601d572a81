"""How far the array jobs in flight have come: children by status, as DescribeJobs last told, summed per job queue.

Kept in memory, some 200 bytes per array; after a start it fills again as the arrays are described. ``stages/track.py``
reports here, the metric ``array_children`` is read from ``totals``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from controller.core.job import BatchStatus, RowKey

_STATUSES: Final = tuple(status.value for status in BatchStatus)


class ArrayProgress:
    """The latest summary of each array job in flight."""

    def __init__(self) -> None:
        self._arrays: dict[RowKey, tuple[str, tuple[int, ...]]] = {}
        self._totals: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self._arrays)

    def __contains__(self, key: RowKey) -> bool:
        return key in self._arrays

    def add(self, key: RowKey, job_queue: str) -> None:
        """An array job that is in flight."""
        self._arrays.setdefault(key, (job_queue, (0,) * len(_STATUSES)))

    def seen(self, key: RowKey, summary: Mapping[str, int]) -> None:
        """What DescribeJobs told of one that was added; ignored of others."""
        known = self._arrays.get(key)
        if known is not None:
            counts = tuple(summary.get(status, 0) for status in _STATUSES)
            if counts != known[1]:
                self._count(known, -1)
                self._arrays[key] = (known[0], counts)
                self._count(self._arrays[key], 1)

    def remove(self, key: RowKey) -> None:
        """It is no longer in flight."""
        known = self._arrays.pop(key, None)
        if known is not None:
            self._count(known, -1)

    def _count(self, array: tuple[str, tuple[int, ...]], sign: int) -> None:
        job_queue, counts = array
        for status, count in zip(_STATUSES, counts, strict=True):
            self._totals[job_queue, status] += sign * count

    def totals(self) -> Mapping[tuple[str, str], int]:
        """Children by (job queue, status)."""
        return self._totals
