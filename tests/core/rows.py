"""Rows of jobs in flight as a start loads them; for the schedule and for what stands on it."""

from __future__ import annotations

from controller.core.job import BatchStatus, RowKey
from controller.ports import TrackedRow


def tracked_row(
    key: int, *, status: BatchStatus = BatchStatus.RUNNABLE, attempts: int = 0, is_missed: bool = False
) -> TrackedRow:
    return TrackedRow(
        key=RowKey(key),
        job_id=f"job-{key}",
        batch_status=status,
        attempts=attempts,
        submitted_at=0.0,
        observed_at=0.0,
        is_missed=is_missed,
    )
