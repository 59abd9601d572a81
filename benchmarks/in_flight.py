"""The tracking stage over many jobs in flight: a sweep through the real stage, and a million jobs in one process."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import anyio
import boto3

from benchmarks.calls import opened
from benchmarks.canned import ACCOUNT, REGION, CannedAws, job_id, status_of
from benchmarks.measure import Table, cpu_s
from benchmarks.served import Controller, wait_for
from controller.adapters.batch import Batch
from controller.adapters.clock import SystemClock
from controller.adapters.runner import InlineRunner, ThreadRunner
from controller.adapters.store.sqlite import SqliteStore, open_sqlite_store
from controller.budgets import Budgets, Purpose
from controller.children import ChildLookUp
from controller.core import lifecycle
from controller.core.hints import HintBook
from controller.core.job import BatchStatus, Job, JobState, Observation, RowKey
from controller.core.lifecycle import Described
from controller.core.polling import Schedule
from controller.health import Health
from controller.ledger import Ledger, Wakes
from controller.loop import Drain
from controller.metrics import Metrics
from controller.ports import InsertJob, Runner, StoreIdentity, UpdateJob
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


async def open_store(path: Path, runner: Runner) -> SqliteStore:
    return await open_sqlite_store(
        f"sqlite:///{path}",
        runner=runner,
        sinks_of=lambda event: (),
        dead_letters=False,
        random_id=partial(secrets.token_hex, 16),
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


def tracking(store: SqliteStore, batch: Any, *, concurrency: int = 8) -> Track:
    """The stage as ``application.py`` makes it, with a budget that does not bind."""
    clock, metrics = SystemClock(), Metrics()
    ceilings = dict.fromkeys(Purpose, 1e6)
    ledger = Ledger(store=store, clock=clock, metrics=metrics, wakes=Wakes())
    budgets, health = Budgets(clock, ceilings, 1e6), Health(clock)
    schedule = Schedule(interval_s_min=3_600, interval_s_max=7_200)
    return Track(
        store=store,
        ledger=ledger,
        batch=batch,
        budgets=budgets,
        clock=clock,
        health=health,
        children=ChildLookUp(batch=batch, budgets=budgets, clock=clock, health=health, chance=lambda: 0.5),
        drain=Drain(),
        metrics=metrics,
        chance=lambda: 0.5,
        schedule=schedule,
        hints=HintBook(schedule, lambda outcome: None, is_fed=False),
        concurrency=concurrency,
        lost_after_s=600,
    )


async def sweep(track: Track) -> None:
    """Turn until every job has been described once."""
    async with anyio.create_task_group() as tasks:
        while (due_s := await track.turn(tasks)) is not None and due_s < 60:
            pass


# --- a sweep ------------------------------------------------------------------------------------------------

IN_FLIGHT = 100_000
BOTO_CALLS, BOTO_SINGLES = 150, 400
"""Calls of the samples that the loops' costs are extrapolated from."""


async def _sweep(table: Table) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, CannedAws() as canned:
        path = Path(directory) / "state.db"
        await fill(path, IN_FLIGHT, account=ACCOUNT, region=REGION)
        client = boto3.client(
            "batch",
            endpoint_url=canned.url,
            region_name=REGION,
            aws_access_key_id="canned",
            aws_secret_access_key="canned",
        )
        ids = [job_id(number) for number in numbers_in_flight(100 * BOTO_CALLS)]
        runner = ThreadRunner("store")
        async with opened(canned.url) as aws:
            observe = Metrics().observe_call
            batch = Batch(
                submit_client=aws.batch_submit,
                client=aws.batch,
                clock=SystemClock(),
                observe=observe,
                fetch_credentials=aws.fetch_credentials,
            )
            store = await open_store(path, runner)
            sweeps, loops, singles = [], [], []
            for _ in range(3):  # the first fills the server's memory and is not counted
                track = tracking(store, batch)
                await track.begin()
                await track.load()
                sweeps.append(await _cpu_of(sweep(track)))
                loops.append(_boto_loop(client, ids, 100) * IN_FLIGHT / len(ids))
                singles.append(_boto_loop(client, ids[:BOTO_SINGLES], 1) * IN_FLIGHT / BOTO_SINGLES)
            await store.close()
        runner.close()
    ours_s, loop_s, single_s = (median(values[1:]) for values in (sweeps, loops, singles))
    table.told(f"one sweep of {IN_FLIGHT:,} jobs in flight: CPU", f"{ours_s:.2f} s")
    table.told(
        f"the same by a boto3 loop of 100 ids a call ({BOTO_CALLS} calls, extrapolated)",
        f"{loop_s:.1f} s, {loop_s / ours_s:.1f} x",
    )
    table.told(
        f"the same by boto3 with one call a job ({BOTO_SINGLES} calls, extrapolated)",
        f"{single_s:.0f} s, {single_s / ours_s:.0f} x",
    )


async def _cpu_of(work: Awaitable[None]) -> float:
    before_s = cpu_s()
    await work
    return cpu_s() - before_s


def _boto_loop(client: Any, ids: list[str], size: int) -> float:
    before_s = cpu_s()
    for start in range(0, len(ids), size):
        chunk = ids[start : start + size]
        assert len(client.describe_jobs(jobs=chunk)["jobs"]) == len(chunk)
    return cpu_s() - before_s


def sweep_of_many(table: Table) -> None:
    """CPU of describing 100,000 jobs once, through the real stage, and by other means."""
    asyncio.run(_sweep(table))


# --- a million ----------------------------------------------------------------------------------------------

MILLION = 1_000_000
PORT = 18_473
WORK_S = 20.0
CHANGES = 100_000


def million(table: Table, count: int = MILLION) -> None:
    """Memory, start, stalls and the store's rate of changes with a million jobs in flight."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        path = Path(directory) / "state.db"
        began_at = time.perf_counter()
        asyncio.run(fill(path, count, account=ACCOUNT, region=REGION))
        table.told(f"a store of {count:,} jobs in flight is made", f"{time.perf_counter() - began_at:.0f} s")
        _loaded(table, path, count)
        _restarted(table, path, count)
        asyncio.run(_changed(table, path, min(CHANGES, count)))


def _loaded(table: Table, path: Path, count: int) -> None:
    command = [sys.executable, "-m", "benchmarks.loaded", str(path)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=600).stdout)
    what = f"{count:,} jobs in flight"
    table.at_most(f"{what}: memory a job", found["bytes"] / count, 300, " B", digits=0)
    table.told(f"{what}: all of them loaded, beside other work", f"{found['load_s']:.1f} s")
    longest_ms, collection_ms = 1000 * found["longest_step_s"], 1000 * found["collection_s"]
    table.at_most("longest step of the event loop meanwhile, CPU", longest_ms, 50, " ms", digits=1)
    table.at_most("a full garbage collection with them", collection_ms, 50, " ms", digits=1)


def _restarted(table: Table, path: Path, count: int) -> None:
    """The real process; its budgets are the defaults, so it describes eight times a second."""
    settings = {"TRACK__RATE_PER_S": "8", "STORE__URL": f"sqlite:///{path}"}
    with CannedAws() as canned:
        began_at = time.perf_counter()
        controller = Controller(path.parent, canned, port=PORT, settings=settings)
        try:
            first_s = wait_for(lambda: canned.describes() > 0, what="the first describe", within_s=120, poll_s=0.02)
            table.at_most(f"restart with {count:,} jobs in flight: first describe after", first_s, 5, " s")
            table.told("restart: CPU until then, two threads at times", f"{controller.cpu_s():.1f} s")
            wait_for(lambda: time.perf_counter() - began_at > WORK_S, what="some work", within_s=120)
            stalls = controller.buckets("event_loop_stall_seconds")
            resident_mib = controller.peak_mib()
        finally:
            controller.kill()
    late = stalls["+Inf"] - stalls["0.05"]
    table.at_most(
        f"in the first {WORK_S:.0f} s: turns of the event loop longer than 50 ms, of {stalls['+Inf']:,.0f}",
        late,
        0,
        digits=0,
    )
    table.told("longest bucket of event_loop_stall_seconds", f"≤ {_highest(stalls)} s")
    table.told(f"peak memory of the process with {count:,} jobs in flight", f"{resident_mib:.0f} MiB")


def _highest(buckets: dict[str, float]) -> str:
    return next(bound for bound, found in buckets.items() if found == buckets["+Inf"])


async def _changed(table: Table, path: Path, count: int) -> None:
    """Status changes of a sweep: rows in the order of their keys, grouped as concurrent commits are."""
    runner = ThreadRunner("store")
    store = await open_store(path, runner)
    now = time.time()
    seconds, busy_s = 0.0, 0.0
    for start in range(0, count, GROUP):
        jobs = await store.load([RowKey(key) for key in range(start + 1, start + GROUP + 1)])
        steps = [
            lifecycle.apply(job, Described(seen=Observation(job_id=job.batch_job_id or "", status=_next(job))), now)
            for job in jobs.values()
        ]
        writes = [UpdateJob(job=step.job, events=step.events) for step in steps]
        began_at, before_s = time.perf_counter(), cpu_s()
        assert all(await store.commit(writes))
        seconds += time.perf_counter() - began_at
        busy_s += cpu_s() - before_s
    table.at_least("status changes a second into that store", count / seconds, 40_000, digits=0)
    table.told("a status change into the store: CPU", f"{1e6 * busy_s / count:.1f} µs")
    await store.close()
    runner.close()


def _next(job: Job) -> BatchStatus:
    return BatchStatus.STARTING if job.batch_status is BatchStatus.RUNNING else BatchStatus.RUNNING
