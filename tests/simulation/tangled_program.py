"""A program full of races, cancellations and time-outs that prints every step it takes.

``main(seed)`` prints one line per step and per event of the program. The tests compare the output of several processes.
Each process first litters its memory at random, so that no order of addresses survives from one to the next.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import AsyncIterator, Callable

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from tests.simulation.loop_standing import describe_callback
from tests.simulation.seeded_loop import Seed, run, running_loop

Note = Callable[..., None]


async def cancelled_crowd(note: Note) -> None:
    """Many tasks in nested scopes, cancelled at once; each says in which order it was reached and why."""

    async def waiting(number: int) -> None:
        try:
            with anyio.CancelScope(), anyio.CancelScope(shield=number % 5 == 0) as shield:
                shield.deadline = anyio.current_time() + 7 if number % 5 == 0 else math.inf
                await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class() as cancelled:
            note("cancelled", number, str(cancelled))
            with anyio.move_on_after(1, shield=True):
                await anyio.sleep(number % 3)
            raise

    with anyio.move_on_after(3):
        async with anyio.create_task_group() as outer:
            for number in range(12):
                outer.start_soon(waiting, number, name=f"crowd-{number}")
            async with anyio.create_task_group() as inner:
                for number in range(12, 24):
                    inner.start_soon(waiting, number, name=f"crowd-{number}")
    note("crowd gone")


async def failing_group(note: Note) -> None:
    async def failing(number: int) -> None:
        await anyio.sleep(number % 4)
        raise ValueError(number)

    try:
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(failing, number)
    except* ValueError as failures:
        note("failures", [str(failure) for failure in failures.exceptions])


async def locks_and_limits(note: Note) -> None:
    lock, semaphore, limiter = anyio.Lock(), anyio.Semaphore(2), anyio.CapacityLimiter(2)

    async def contend(number: int) -> None:
        for turn in range(3):
            with anyio.move_on_after(0.5 * (number % 4) + 0.1):
                async with lock:
                    note("lock", number, turn)
                    await anyio.sleep(0.2)
                async with semaphore, limiter:
                    note("limit", number, turn)
                    await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(contend, number)


async def streams(note: Note) -> None:
    """Receivers share one stream object, so that closing it walks a set of their events."""
    send, receive = anyio.create_memory_object_stream[int](1)

    async def consume(number: int, source: MemoryObjectReceiveStream[int]) -> None:
        try:
            while True:
                note("received", number, await source.receive())
        except (anyio.EndOfStream, anyio.ClosedResourceError) as end:
            note("stream ended", number, type(end).__name__)

    async def produce(number: int, target: MemoryObjectSendStream[int]) -> None:
        try:
            for item in range(4):
                await target.send(number * 10 + item)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as end:
            note("send failed", number, type(end).__name__)

    async with anyio.create_task_group() as group, send, receive:
        for number in range(9):
            group.start_soon(consume, number, receive)
        for number in range(3):
            group.start_soon(produce, number, send)
        await anyio.sleep(1)
        receive.close()
        for number in range(9):
            group.start_soon(produce, number, send)


async def plain_asyncio(note: Note) -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(number % 3)
        return number

    done, pending = await asyncio.wait([asyncio.create_task(work(n)) for n in range(9)], timeout=1.5)
    note("wait", [task.result() for task in done], len(pending))
    for completed in asyncio.as_completed([work(number) for number in range(9)]):
        note("completed", await completed)
    futures = [asyncio.get_running_loop().create_future() for _ in range(9)]
    for number, future in enumerate(futures):
        asyncio.get_running_loop().call_later(1, future.set_result, number)
    finished, _ = await asyncio.wait(futures)
    note("futures", [future.result() for future in finished], await asyncio.gather(*pending))
    try:
        async with asyncio.timeout(1), asyncio.TaskGroup() as group:
            for number in range(9):
                group.create_task(asyncio.sleep(9), name=f"sleeper-{number}")
    except TimeoutError:
        note("timeout", sorted(task.get_name() for task in asyncio.all_tasks()))
    note("tasks", [task.get_name() for task in asyncio.all_tasks()])


async def lost_generators(note: Note) -> None:
    """Generators abandoned in reference cycles: only the collector finds them, and their end is a step as well."""

    async def counting(number: int) -> AsyncIterator[int]:
        try:
            for count in range(9):
                yield count
        finally:
            await anyio.sleep(0)
            note("generator closed", number, running_loop().steps)

    for number in range(3):
        cycle: list[object] = []
        generator = counting(number)
        note("first", await anext(generator))
        cycle.extend((generator, cycle))
        del cycle, generator
    kept: list[list[int]] = []
    for number in range(30_000):
        kept.append([number])  # Makes the automatic collection run, were it on.
        await asyncio.sleep(0)


async def tangle(note: Note) -> None:
    async with anyio.create_task_group() as group:
        for part in (cancelled_crowd, failing_group, locks_and_limits, streams, plain_asyncio):
            group.start_soon(part, note)
    await lost_generators(note)
    note("time", running_loop().time())


def history(seed: Seed) -> list[str]:
    lines: list[str] = []

    def note(*words: object) -> None:
        lines.append(" ".join(map(str, words)))

    def on_step(number: int, handle: asyncio.Handle) -> None:
        if number < 5_000:  # Describing each of the collector's steps would take most of the time.
            note(number, running_loop().time(), describe_callback(handle))

    run(seed, tangle, note, on_step=on_step)
    return lines


def litter() -> list[object]:
    """Random holes in the memory allocator's pools."""
    kept: list[object] = [bytearray(size) for size in os.urandom(4_000)]
    return [block for block, chance in zip(kept, os.urandom(4_000), strict=True) if chance & 1]


def main(seed: int) -> None:
    littered = litter()
    sys.stdout.write("\n".join(history(seed)) + "\n")
    littered.clear()
