"""Jobs in flight in a process of their own: ``python -m benchmarks.loaded STORE``, as JSON.

A process of its own, because one that has made the store has memory to spare, which would hide what the jobs need.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import watched_steps
from benchmarks.tracking import open_store, tracking
from controller.adapters.runner import ThreadRunner
from controller.core.job import RowKey


class _NoBatch:
    """Nothing is described while jobs are loaded."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def loaded(path: Path) -> dict[str, float]:
    """Loads every job in flight into a tracking stage, and says what that took."""
    runner = ThreadRunner("store")
    store = await open_store(path, runner)
    await store.tracked(after=RowKey(0), limit=1)
    gc.collect()
    gc.freeze()  # as the application does before it starts
    track, before = tracking(store, _NoBatch()), resident_bytes()
    with watched_steps() as steps:
        began_at = time.perf_counter()
        await track.begin()
        await track.load()
        load_s = time.perf_counter() - began_at
    grown = resident_bytes() - before
    began_s = time.thread_time()
    gc.collect()
    collection_s = time.thread_time() - began_s
    await store.close()
    runner.close()
    return {"bytes": grown, "load_s": load_s, "longest_step_s": steps.longest_s, "collection_s": collection_s}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(loaded(Path(sys.argv[1])))))
