"""A start on a full store: how long until the first SubmitJob and the first DescribeJobs, and how much memory."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.measure import Table
from benchmarks.served import Controller, request, send, simulated_aws, wait_for
from controller.adapters.runner import InlineRunner
from controller.adapters.store.sqlite import open_sqlite_store
from controller.core.job import BatchStatus, Job, JobState
from controller.ports import InsertJob, StoreIdentity

PORT = 18_472
GROUP = 1_000


def _job(number: int, *, is_tracked: bool, now: float) -> Job:
    job = Job(
        request_id=f"stored-{number}",
        message_id=str(uuid.UUID(int=number)),
        source="simulated",
        content_hash=number.to_bytes(32, "big"),
        job_name=f"align-{number}",
        batch_job_name=f"align-{number}-0123456789ab",
        job_queue="high",
        job_queue_ref="high",
        job_definition="work",
        received_at=now,
    )
    if not is_tracked:
        return job
    return replace(
        job,
        state=JobState.TRACKED,
        first_intent_at=now,
        batch_job_id=str(uuid.UUID(int=number)),
        batch_status=BatchStatus.RUNNING,
        submitted_at=now,
        observed_at=now,
    )


async def _fill(path: Path, *, queued: int, tracked: int, account: str, region: str) -> None:
    store = await open_sqlite_store(
        f"sqlite:///{path}",
        runner=InlineRunner(),
        sinks_of=lambda event: (),
        dead_letters=False,
        random_id=partial(secrets.token_hex, 16),
    )
    await store.bind(StoreIdentity(account=account, region=region))
    now = time.time()
    for start in range(0, queued + tracked, GROUP):
        numbers = range(start, min(start + GROUP, queued + tracked))
        jobs = (_job(number, is_tracked=number >= queued, now=now) for number in numbers)
        await store.commit(
            [InsertJob(job=job, body=request(number)) for number, job in zip(numbers, jobs, strict=True)]
        )
    await store.close()


def restart(table: Table, queued: int = 50_000, tracked: int = 50_000) -> None:
    """Seconds from the start of the process to the first calls, and the peak memory after 10 s of work."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, simulated_aws() as sim:
        path = Path(directory) / "state.db"
        asyncio.run(
            _fill(path, queued=queued, tracked=tracked, account=sim.ready["account"], region=sim.ready["region"])
        )
        began = time.perf_counter()
        controller = Controller(Path(directory), sim, port=PORT, settings={"SUBMIT__RATE_PER_S": "200"})
        try:
            seen: dict[str, float] = {}
            while len(seen) < 2 and time.perf_counter() - began < 60:
                calls = sim.control("history/summary")["calls"]
                for operation in ("SubmitJob", "DescribeJobs"):
                    if operation in calls:
                        seen.setdefault(operation, time.perf_counter() - began)
                time.sleep(0.02)
            wait_for(lambda: time.perf_counter() - began > 15, what="15 s of work", within_s=30)
            peak_mib = controller.peak_mib()
        finally:
            controller.kill()
    what = f"restart with {queued:,} queued and {tracked:,} in flight"
    for name, at in seen.items():
        table.told(f"{what}: first {name} after", f"{at:.1f} s")
    table.told(f"{what}: peak memory", f"{peak_mib:.0f} MiB")


def backlog(table: Table, count: int = 50_000) -> None:
    """The rate of intake and the peak memory with a backlog that may not move."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, simulated_aws() as sim:
        send(sim, (request(number) for number in range(count)))
        settings = {"QUEUES": '{"*": {"paused": true}}', "INTAKE__BACKLOG_HIGH": str(2 * count)}
        controller = Controller(Path(directory), sim, port=PORT, settings=settings)
        try:
            wait_for(lambda: controller.metric("requests_received_total") > 0, what="it receives", within_s=30)
            intake_s = wait_for(
                lambda: controller.metric("backlog_jobs") >= count, what="the backlog is in", within_s=400, poll_s=1.0
            )
            peak_mib = controller.peak_mib()
        finally:
            controller.kill()
    table.told(f"backlog of {count:,} requests: intake a second", f"{count / intake_s:,.0f}")
    table.told(f"backlog of {count:,} requests: peak memory", f"{peak_mib:.0f} MiB")
