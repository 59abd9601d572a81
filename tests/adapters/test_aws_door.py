"""Calls to AWS Batch leave at the configured rates, however long the way to the wire took each of them."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest

from controller.adapters.aws_door import GUARD, Door
from controller.adapters.clock import SystemClock
from controller.core.errors import Unavailable
from controller.core.limits import PACING_GUARD
from tests.adapters.conftest import OpenBatch
from tests.adapters.faulty_server import Behaviour, answer, close, faulty_server
from tests.stages.conftest import ManualClock

SUBMIT, DESCRIBE, LIST = "/v1/submitjob", "/v1/describejobs", "/v1/listjobs"
RATES = {"submit_per_s": 10.0, "describe_per_s": 4.0, "terminate_per_s": 3.0, "list_per_s": 2.0, "total_per_s": 12.0}


class SleepingClock(ManualClock):
    """Counts its sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps = 0

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        await anyio.lowlevel.checkpoint()
        self.move(seconds)


def most_in_a_second(times: list[float]) -> int:
    return max(sum(begin <= at < begin + 1 for at in times) for begin in times)


async def test_what_waited_together_leaves_one_after_the_other() -> None:
    clock = SleepingClock()
    door = Door(clock, **RATES)
    left: list[tuple[str, float]] = []

    async def call(path: str) -> None:
        await door.leave(path, within_s=60)
        left.append((path, clock.monotonic()))

    clock.move(10.0)
    async with anyio.create_task_group() as tasks:
        for path in [SUBMIT] * 30 + [DESCRIBE] * 10 + [LIST] * 5:
            tasks.start_soon(call, path)
    assert len(left) == 45
    for path, rate in ((SUBMIT, 10), (DESCRIBE, 4), (LIST, 2)):
        assert most_in_a_second([at for which, at in left if which == path]) <= rate
    assert most_in_a_second([at for _, at in left]) <= 12


async def test_what_comes_on_time_does_not_wait() -> None:
    """Nor does what comes a little early, as timers do: the beginnings are further apart than the door asks for."""
    clock = SleepingClock()
    door = Door(clock, **RATES)
    clock.move(10.0)
    spacing_s = (1 + PACING_GUARD) / 10
    for number in range(100):
        clock.elapsed = 1_010.0 + number * spacing_s + (GUARD / 2 if number % 2 else 0.0)
        await door.leave(SUBMIT, within_s=0)
    assert clock.sleeps == 0


async def test_calls_that_got_their_connections_together_arrive_within_the_rate(open_batch: OpenBatch) -> None:
    clock = SleepingClock()
    arrived: list[float] = []
    accepted = answer(200, {"jobId": "1"})

    async def behave(writer: asyncio.StreamWriter) -> None:
        arrived.append(clock.monotonic())
        await accepted(writer)

    script: list[Behaviour] = [behave]
    async with (
        faulty_server(*script) as server,
        open_batch(server.url, door=Door(clock, **RATES), submit_connections=30) as batch,
        anyio.create_task_group() as tasks,
    ):
        for number in range(30):
            tasks.start_soon(_submit, batch, number)
    assert len(arrived) == 30
    assert clock.monotonic() - 1_000.0 >= 2.0


async def _submit(batch: Any, number: int) -> None:
    await batch.submit_job({"jobName": f"j{number}", "jobQueue": "q", "jobDefinition": "d"}, timeout_s=10)


class StandingClock(SystemClock):
    """Nobody wakes up."""

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep_forever()


async def test_a_call_that_may_not_leave_in_time_was_not_sent(open_batch: OpenBatch) -> None:
    """It is in no doubt, and its connection is another's."""
    door = Door(StandingClock(), **{**RATES, "submit_per_s": 1e-6})
    async with (
        faulty_server(answer(200, {"jobs": []})) as server,
        open_batch(server.url, door=door, submit_timeout_s=0.2) as batch,
    ):
        for number in range(3):
            with pytest.raises(Unavailable):
                await _submit(batch, number)
        assert (server.connections, server.requests) == (1, [])


class MeanwhileClock(ManualClock):
    """Something happens to a connection while a call waits at the door."""

    def __init__(self, happens: Behaviour) -> None:
        super().__init__()
        self.happens = happens
        self.writers: list[asyncio.StreamWriter] = []

    async def sleep(self, seconds: float) -> None:
        if self.writers:
            await self.happens(self.writers.pop())
            for _ in range(10):  # turns of the event loop, in which the client reads it
                await asyncio.sleep(0)
        self.move(seconds)


async def test_calls_are_told_apart_where_the_end_point_has_a_path(open_batch: OpenBatch) -> None:
    """As behind a gateway: they do not leave at the rate of others."""
    clock = SleepingClock()
    door = Door(clock, **{**RATES, "list_per_s": 1e-6})
    async with (
        faulty_server(answer(200, {"jobId": "1"})) as server,
        open_batch(f"{server.url}/gateway", door=door, submit_timeout_s=0.2) as batch,
    ):
        clock.move(10.0)
        await _submit(batch, 0)
    assert [path for path, _, _ in server.requests] == ["/gateway/v1/submitjob"]
    assert clock.sleeps == 0


@pytest.mark.parametrize("happens", [answer(200, {"jobId": "1"}), answer(408, b""), close])
async def test_a_connection_is_looked_at_again_when_a_call_leaves(open_batch: OpenBatch, happens: Behaviour) -> None:
    """What came on it meanwhile is not the call's answer, and what is closed leaves no doubt."""
    clock = MeanwhileClock(happens)

    async def accept(writer: asyncio.StreamWriter) -> None:
        clock.writers.append(writer)
        await answer(200, {"jobId": str(len(server.requests))})(writer)

    async with faulty_server(accept) as server, open_batch(server.url, door=Door(clock, **RATES)) as batch:
        clock.move(10.0)
        for number in range(10):
            await _submit(batch, number)
        clock.writers = clock.writers[-1:]
        with pytest.raises(Unavailable):
            await _submit(batch, 10)
        assert (await batch.submit_job({"jobName": "j"}, timeout_s=10)).job_id == "11"
    assert (len(server.requests), server.connections) == (11, 2)
