"""A store that takes long for each commit: messages are not received to lie about until SQS gives them up.

In virtual time, on a seeded loop: intake and the store are real, a commit takes its time, and the SQS queue shows a
message again when its visibility timeout is over.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.ledger import Ledger, Wakes
from controller.metrics import Metrics
from controller.ports import Message, Write
from tests.simulation.seeded_loop import run, running_loop
from tests.stages.conftest import open_store
from tests.stages.test_child_flood import LoopClock
from tests.stages.test_ingest import SOURCE, Harness, submit

VISIBILITY_S = 30
MESSAGES = 500
MOST_RECEIVES = 2
"""The first slow commit comes as a surprise."""


class SlowStore:
    """The embedded store, on a disk that takes long to flush."""

    def __init__(self, store: SqliteStore, commit_s: float) -> None:
        self._store = store
        self._commit_s = commit_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, writes: Sequence[Write]) -> Sequence[bool]:
        await anyio.sleep(self._commit_s)
        return await self._store.commit(writes)


class Queue:
    """A standard SQS queue, which counts how often each message was received."""

    url = SOURCE

    def __init__(self, bodies: Sequence[str]) -> None:
        self.bodies = {f"m{number}": body for number, body in enumerate(bodies)}
        self.visible_at = dict.fromkeys(self.bodies, 0.0)
        self.receives: Counter[str] = Counter()

    async def receive(self, *, max_messages: int, wait_s: float, visibility_timeout_s: int) -> Sequence[Message]:
        await anyio.sleep(0.05)
        now = running_loop().time()
        taken = [name for name, at in self.visible_at.items() if at <= now][:max_messages]
        if not taken:
            await anyio.sleep(wait_s)
        for name in taken:
            self.visible_at[name] = now + visibility_timeout_s
            self.receives[name] += 1
        return [Message(message_id=name, receipt_handle=name, body=self.bodies[name]) for name in taken]

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[str]:
        for handle in receipt_handles:
            self.visible_at.pop(handle, None)
        return ()


async def take_in(commit_s: float) -> Queue:
    """Everything in a queue, with commits of so many seconds."""
    clock: Any = LoopClock()
    queue = Queue([json.dumps(submit(f"r{number}")) for number in range(MESSAGES)])
    store: Any = SlowStore(await open_store(), commit_s)
    metrics = Metrics(sinks=["log", "dead_letter"])
    ledger = Ledger(store=store, clock=clock, metrics=metrics, wakes=Wakes())
    harness = Harness(store, ledger, clock, metrics, queue=queue, visibility_timeout_s=VISIBILITY_S, receivers=2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(harness.ingest.receive)
        tasks.start_soon(harness.ingest.commit)
        with anyio.fail_after(MESSAGES / 100 * 3 * commit_s + 60.0):
            while queue.visible_at:
                await anyio.sleep(1.0)
        tasks.cancel_scope.cancel()
    await store.close()
    return queue


@pytest.mark.parametrize("commit_s", [4.0, 8.0, 12.0, 16.0])
def test_what_a_slow_store_cannot_take_in_time_is_left_in_sqs(commit_s: float) -> None:
    """Each receive counts towards the queue's redrive policy."""
    queue = run(1, take_in, commit_s)
    assert max(queue.receives.values()) <= MOST_RECEIVES, Counter(queue.receives.values())
