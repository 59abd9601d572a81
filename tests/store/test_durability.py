"""SIGKILL in the middle of a stream of commits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller.adapters.runner import InlineRunner
from tests.store.engines import SqliteEngine, uid

ROWS_PER_COMMIT = 7

WRITER = """
import asyncio, sys
from pathlib import Path
from controller.adapters.runner import ThreadRunner
from controller.ports import InsertJob, UpdateJob
from tests.store.engines import BODY, SqliteEngine, accepted, queued, submitting
from tests.store.test_durability import ROWS_PER_COMMIT

async def write(store, caller, callers):
    for number in range(caller, 1_000_000, callers):
        jobs = [queued(number * ROWS_PER_COMMIT + n) for n in range(ROWS_PER_COMMIT)]
        await store.commit([InsertJob(job=job, body=BODY, events=(accepted(0),)) for job in jobs])
        found = await store.find_requests([job.request_id for job in jobs])
        await store.commit([UpdateJob(job=submitting(lives[0]), events=(accepted(1),)) for lives in found.values()])
        print(number, flush=True)

async def main():
    store = await SqliteEngine(Path(sys.argv[1]), ThreadRunner(), "writer").open()
    await asyncio.gather(*(write(store, caller, 4) for caller in range(4)))

asyncio.run(main())
"""


@pytest.mark.parametrize("acknowledged_before", [1, 23, 60])
async def test_killed_writer_loses_nothing(tmp_path: Path, acknowledged_before: int) -> None:
    """After SIGKILL every acknowledged commit is there, and none is there by half."""
    acknowledged: list[int] = []
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            acknowledged.append(int(line))
            if len(acknowledged) == acknowledged_before:
                writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    assert len(acknowledged) >= acknowledged_before

    store = await SqliteEngine(tmp_path, InlineRunner(), "reader").open()
    assert await store.audit() == []
    highest = max(acknowledged) + 10
    for number in range(highest):
        ids = [uid(number * ROWS_PER_COMMIT + n) for n in range(ROWS_PER_COMMIT)]
        rows = [lives[0] for lives in (await store.find_requests(ids)).values()]
        assert len(rows) in ((ROWS_PER_COMMIT,) if number in acknowledged else (0, ROWS_PER_COMMIT))
        states = {row.state for row in rows}
        assert len(states) <= 1, "a commit is whole"
        assert states == {"SUBMITTING"} or number not in acknowledged
    count = sum(row.count for row in await store.usage())
    submitting = len(await store.submitting())
    assert await store.outbox_counts() == {"log": count + submitting}, "one event for each change"
    await store.close()
