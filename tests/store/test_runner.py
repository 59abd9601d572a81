"""The runners: nothing that has begun is abandoned, nothing runs beside it."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest

from controller.adapters.runner import InlineRunner, ThreadRunner, Unhurried


async def test_scope_cancellation_waits_for_the_function() -> None:
    """A cancel scope that ends during the call does not leave before the function has."""
    runner, begun, release, ended = ThreadRunner(), threading.Event(), threading.Event(), threading.Event()

    def function() -> None:
        begun.set()
        release.wait(10)
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(runner.run, function)
        await asyncio.to_thread(begun.wait, 10)
        group.cancel_scope.cancel()
        asyncio.get_running_loop().call_soon(release.set)
    assert ended.is_set()
    runner.close()


async def test_task_cancellation_waits_for_the_function() -> None:
    """Task.cancel, even repeated, is heard after the function's end."""
    runner, begun, release, ended = ThreadRunner(), threading.Event(), threading.Event(), threading.Event()

    def function() -> None:
        begun.set()
        release.wait(10)
        ended.set()
        raise ValueError("not the caller's any more")

    task = asyncio.create_task(runner.run(function))
    await asyncio.to_thread(begun.wait, 10)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    runner.close()


async def test_thread_runner_runs_one_at_a_time_in_order() -> None:
    """Functions run in one thread, in the order in which they were handed over, and keep their exceptions."""
    runner, seen = ThreadRunner(), []

    def record(number: int) -> int:
        seen.append((number, threading.get_ident()))
        return number

    assert await asyncio.gather(*(runner.run(lambda n=n: record(n)) for n in range(20))) == list(range(20))
    assert [number for number, _ in seen] == list(range(20))
    assert {thread for _, thread in seen} - {threading.get_ident()} == {seen[0][1]}
    with pytest.raises(ZeroDivisionError):
        await runner.run(lambda: 1 // 0)
    runner.close()


@pytest.mark.parametrize("make", [ThreadRunner, InlineRunner])
async def test_cancelled_before_it_begins(make) -> None:
    """A call made under a cancelled scope does not begin."""
    runner, calls = make(), []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await runner.run(lambda: calls.append(1))
    assert scope.cancelled_caught
    assert calls == []


async def test_inline_runner_uses_no_thread() -> None:
    """The inline runner runs on the event loop's own thread."""
    assert await InlineRunner().run(threading.get_ident) == threading.get_ident()


async def test_who_asks_again_waits_for_the_call_that_goes_on() -> None:
    """A call that takes too long is not called off, and none is begun beside it."""
    begun, goes_on = 0, asyncio.Event()

    async def call() -> None:
        nonlocal begun
        begun += 1
        await goes_on.wait()

    unhurried = Unhurried(call)
    await unhurried.within(0)
    await unhurried.within(0)
    assert begun == 1
    goes_on.set()
    await unhurried.within(None)
    assert begun == 1
    await unhurried.within(None)
    assert begun == 2
    await unhurried.close()


async def test_what_went_wrong_is_told_to_who_waits_for_it() -> None:
    """And at the next call it is forgotten. A call under way is called off at the end."""
    failures = [ValueError("broken")]

    async def call() -> None:
        if failures:
            raise failures.pop()
        await asyncio.Event().wait()

    unhurried = Unhurried(call)
    with pytest.raises(ValueError, match="broken"):
        await unhurried.within(None)
    await unhurried.within(0)
    await unhurried.close()
