"""How each safeguard around EventBridge's events is switched off; see ``ablation_switches.py``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import anyio

from controller import budgets, isolation
from controller.adapters import batch_events
from controller.budgets import Purpose
from controller.core import event_watch, hints, lifecycle, polling
from controller.core.errors import Refused
from controller.core.job import Job, Observation
from controller.stages import track


@contextmanager
def events_are_believed() -> Iterator[None]:
    """What the latest event said of a job, whatever its status, stands for what DescribeJobs says."""
    said: dict[str, Observation] = {}
    take, described, read = hints.HintBook.take, track.Track._described, batch_events._read

    def with_all_it_says(detail: Any, **about: Any) -> Any:
        event = read(detail, **about)
        if event is None or event.status is None:
            return event
        return replace(event, end=batch_events._DETAIL.decode(detail).observation())

    def taken(self: hints.HintBook, event: Any, now: float) -> None:
        if event.end is not None:
            said[event.job_id] = event.end
        take(self, event if event.is_end else replace(event, end=None), now)

    async def believed(self: track.Track, chunk: Any) -> Any:
        seen = await described(self, chunk)
        told = {row.job_id: said[row.job_id] for row in chunk if row.job_id in said}
        return None if seen is None else {**seen, **told}

    with (
        mock.patch.object(batch_events, "_read", with_all_it_says),
        mock.patch.object(hints.HintBook, "take", taken),
        mock.patch.object(track.Track, "_described", believed),
    ):
        yield


@contextmanager
def never_polled() -> Iterator[None]:
    """Events are relied on from the first to the last, and jobs without a hint are never due."""
    init = event_watch.EventWatch.__init__

    def healthy(self: event_watch.EventWatch) -> None:
        init(self)
        self.is_healthy = True

    with (
        mock.patch.object(event_watch.EventWatch, "__init__", healthy),
        mock.patch.object(event_watch.EventWatch, "_judge"),
        mock.patch.object(hints, "safety_slack_s", return_value=1e9),
    ):
        yield


_HINT = polling.Schedule.hint


def ends_are_like_any_hint(self: polling.Schedule, job_id: str, now: float, *, is_end: bool = False) -> bool:
    return _HINT(self, job_id, now)


def early_is_foreign(self: hints.HintBook, event: Any, now: float) -> None:
    self._count(hints.EventOutcome.FOREIGN)


def a_chunk_waits_as_a_chunk(self: isolation.Isolation, chunk: Any, error: Any, tasks: Any) -> None:
    self._put_off(chunk, error)


_FAILED = isolation.Isolation.failed


def only_what_is_refused_is_divided(self: isolation.Isolation, chunk: Any, error: Any, tasks: Any) -> None:
    (_FAILED if isinstance(error, Refused) else a_chunk_waits_as_a_chunk)(self, chunk, error, tasks)


def eight_jobs_are_asked_for_alone(self: isolation.Isolation, chunk: Any, error: Any, tasks: Any) -> None:
    (a_chunk_waits_as_a_chunk if len(self._alone) >= 8 else _FAILED)(self, chunk, error, tasks)


def nothing_is_stale(self: hints.HintBook, event: Any) -> bool:
    return False


def missed_whatever_was_told(self: track.Track, job: Job, job_id: str) -> Any:
    return lifecycle.Missed()


_ACQUIRE = budgets.Budgets.acquire


async def described_at_once(self: budgets.Budgets, purpose: Purpose) -> None:
    if purpose is Purpose.DESCRIBE:
        await anyio.lowlevel.checkpoint()
    else:
        await _ACQUIRE(self, purpose)
