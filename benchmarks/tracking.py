"""The tracking stage over many jobs in flight: a sweep through the real stage, and a million jobs in one process."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from benchmarks.canned import job_id, status_of
from controller.adapters.clock import SystemClock
from controller.adapters.runner import InlineRunner, ThreadRunner
from controller.adapters.store.sqlite import SqliteStore, open_sqlite_store
from controller.budgets import Budgets, Purpose
from controller.core.job import BatchStatus, Job, JobState
from controller.core.polling import Schedule
from controller.health import Health
from controller.ledger import Ledger, Wakes
from controller.metrics import Metrics
from controller.ports import BatchApi, InsertJob, Runner, StoreIdentity
from controller.stages.track import Track

GROUP = 1_000


def numbers_in_flight(count: int) -> Iterator[int]:
    """Numbers of canned jobs that have not ended."""
    number = 0
    while count:
        if not BatchStatus(status_of(number)).is_final:
            count -= 1
            yield number
        number += 1


def stored_job(number: int, now: float) -> Job:
    queued = Job(
        request_id=f"stored-{number}",
        message_id=str(uuid.UUID(int=number)),
        source="canned",
        content_hash=number.to_bytes(32, "big"),
        job_name=f"align-{number}",
        batch_job_name=f"align-{number}-0123456789ab",
        job_queue="high",
        job_queue_ref="high",
        job_definition="work",
        received_at=now,
    )
    return replace(
        queued,
        state=JobState.TRACKED,
        first_intent_at=now,
        batch_job_id=job_id(number),
        batch_status=BatchStatus(status_of(number)),
        submitted_at=now,
        observed_at=now,
    )


async def open_store(path: Path, runner: Runner, *, linger: Any = None) -> SqliteStore:
    return await open_sqlite_store(
        f"sqlite:///{path}",
        runner=runner,
        sinks_of=lambda event: (),
        dead_letters=False,
        random_id=partial(secrets.token_hex, 16),
        linger=linger,
    )


async def fill(path: Path, count: int, *, account: str, region: str) -> None:
    """A store with so many jobs in flight."""
    store = await open_store(path, InlineRunner())
    await store.bind(StoreIdentity(account=account, region=region))
    now = time.time()
    jobs = [stored_job(number, now) for number in numbers_in_flight(count)]
    for start in range(0, count, GROUP):
        await store.commit([InsertJob(job=job, body="") for job in jobs[start : start + GROUP]])
    await store.close()


def tracking(store: SqliteStore, batch: BatchApi, *, concurrency: int = 8) -> Track:
    """The stage as ``application.py`` makes it, with a budget that does not bind."""
    clock, metrics = SystemClock(), Metrics()
    ceilings = dict.fromkeys(Purpose, 1e6)
    ledger = Ledger(store=store, clock=clock, metrics=metrics, wakes=Wakes())
    return Track(
        store=store,
        ledger=ledger,
        batch=batch,
        budgets=Budgets(clock, ceilings, 1e6),
        clock=clock,
        health=Health(clock),
        metrics=metrics,
        chance=lambda: 0.5,
        schedule=Schedule(interval_s_min=3_600, interval_s_max=7_200),
        concurrency=concurrency,
        lost_after_s=600,
    )


async def sweep(track: Track) -> None:
    """Turn until every job has been described once."""
    async with anyio.create_task_group() as tasks:
        while (due_s := await track.turn(tasks)) is not None and due_s < 60:
            pass
