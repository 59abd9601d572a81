"""What the watch of the event loop tells."""

from __future__ import annotations

import asyncio
import os
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller.adapters.loop_watch import WatchedSelector


class Time:
    """Moves by hand; a wait moves it by ``wait_s``."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def told(program: Callable[[Time], Coroutine[Any, Any, None]]) -> list[float]:
    """What is observed while ``program`` runs on a watched loop whose selector has this time."""
    seen: list[float] = []
    time = Time()
    selector = WatchedSelector(time)
    selector.watch(seen.append)
    loop = selector.event_loop()
    try:
        loop.run_until_complete(program(time))
    finally:
        loop.close()
    return seen


def test_a_turn_is_as_long_as_what_ran_in_it() -> None:
    """Two steps of 0.1 s and 0.2 s in one turn keep everything else waiting for 0.3 s."""

    async def steps(time: Time) -> None:
        async def step(seconds: float) -> None:
            time.now += seconds

        await asyncio.sleep(0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(step(0.1))
            tasks.create_task(step(0.2))

    assert max(told(steps)) == pytest.approx(0.3)


def test_a_turn_without_a_stall_is_seen_as_nothing() -> None:
    """Every turn is observed, so that the histogram's count tells that the loop is watched."""

    async def idle(time: Time) -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    seen = told(idle)
    assert len(seen) >= 3
    assert set(seen) == {0.0}


class Held(Time):
    """Every other reading is later by what the wait in between was held up for."""

    def __init__(self, held_s: float) -> None:
        super().__init__()
        self.held_s = held_s
        self.readings = 0

    def __call__(self) -> float:
        self.readings += 1
        if self.readings % 2 == 0:
            self.now += self.held_s
        return self.now


@pytest.mark.parametrize(
    ("timeout", "waited_s", "stall_s"),
    [
        (0.0, 0.25, 0.25),  # nothing to wait for, and yet it took a quarter of a second: another thread ran
        (0.0014, 0.1, 0.098),  # the kernel waits for whole milliseconds
        (0.2, 0.2, 0.0),
        (-1.0, 0.1, 0.1),  # as 0
    ],
)
def test_a_wait_that_overruns_is_a_stall(timeout: float, waited_s: float, stall_s: float) -> None:
    """Whatever kept the loop from coming back in time kept it from its work."""
    seen: list[float] = []
    with WatchedSelector(Held(waited_s)) as selector:
        selector.watch(seen.append)
        selector.select(0)
        selector.select(timeout)
    assert seen == pytest.approx([stall_s])


def test_a_wait_that_something_ends_early_is_no_stall() -> None:
    """Idle time is none, however long."""
    seen: list[float] = []
    ours, theirs = os.pipe()
    try:
        os.write(theirs, b"!")
        with WatchedSelector(Held(5.0)) as selector:
            selector.register(ours, selectors.EVENT_READ)
            selector.watch(seen.append)
            selector.select(0.001)
            assert selector.select(10.0)
    finally:
        os.close(ours)
        os.close(theirs)
    assert seen == [0.0]


def test_what_came_before_is_not_told() -> None:
    """The turn in which watching begins is none of the watch's: a start-up has nobody to keep waiting."""
    seen: list[float] = []

    async def start_up(time: Time) -> None:
        await asyncio.sleep(0)
        time.now += 5.0
        selector.watch(seen.append)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    time = Time()
    selector = WatchedSelector(time)
    loop = selector.event_loop()
    try:
        loop.run_until_complete(start_up(time))
    finally:
        loop.close()
    assert seen
    assert max(seen) == 0.0
