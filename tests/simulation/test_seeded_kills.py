"""Crashes: any step can be the last one, nothing of the dead runs on, nothing of them stays in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import sys
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest

from tests.simulation import loop_burial
from tests.simulation.loop_errors import (
    CallAfterDeath,
    SimulationDeadlock,
    SimulationKilled,
    SimulationUnhandled,
)
from tests.simulation.loop_process import Ending, Process, current_process, in_world
from tests.simulation.loop_standing import describe_callback
from tests.simulation.seeded_loop import World, run, running_loop
from tests.simulation.tangled_program import tangle


class Untidy:
    """Counts every way in which Python lets code have a last word."""

    def __init__(self) -> None:
        self.begun = 0
        self.last_words: list[str] = []

    def __del__(self) -> None:
        self.last_words.append("__del__")

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.last_words.append("context manager")

    @contextlib.asynccontextmanager
    async def async_scope(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await anyio.sleep(0.1)
            self.last_words.append("asynchronous context manager")

    async def ticks(self) -> AsyncIterator[int]:
        try:
            for tick in itertools.count():
                await anyio.sleep(0.1)
                yield tick
        finally:
            self.last_words.append("asynchronous generator")

    async def work(self, turns: int) -> None:
        self.begun += 1
        unstarted = self.ticks_once()
        try:
            async with self.async_scope():
                with self.scope():
                    async for tick in self.ticks():
                        if tick >= turns:
                            break
        except BaseException:
            self.last_words.append("except")
            raise
        finally:
            self.last_words.append("finally")
            unstarted.close()

    async def ticks_once(self) -> int:
        return await anext(aiter(self.ticks()))

    async def everything(self) -> None:
        send, receive = anyio.create_memory_object_stream[int]()
        async with anyio.create_task_group() as group, send, receive:
            for turns in range(3):
                group.start_soon(self.work, turns)
            asyncio.get_running_loop().call_later(0.05, self.last_words.count, "timer")
            group.start_soon(receive.receive)
            await asyncio.create_task(self.work(1))
            await send.send(1)


@contextlib.contextmanager
def no_complaints() -> Iterator[None]:
    """No warning and no unraisable exception, not even from the collector."""
    unraisable: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert [str(warning.message) for warning in warned] == []
    assert unraisable == []


# --- the whole world --------------------------------------------------------------------------------------


def test_the_mark_works_on_this_python() -> None:
    """On CPython 3.11 to 3.14 the dead are freed; elsewhere they are kept, and sweeps need more memory."""
    assert loop_burial.CAN_MARK


@pytest.mark.parametrize("seed", [1, 2])
def test_no_code_runs_after_a_kill_at_any_step(seed: int) -> None:
    """No finally, except, context manager, generator or ``__del__`` of the application runs, now or at collection."""
    worlds: list[list[str]] = []

    async def main() -> None:
        untidy = Untidy()
        worlds.append(untidy.last_words)
        await untidy.everything()

    spoken_before: dict[int, int] = {}
    world = World()
    run(seed, main, world=world, on_step=lambda step, _: spoken_before.update({step: sum(map(len, worlds))}))
    whole = worlds.pop()
    assert {"finally", "context manager", "asynchronous generator", "__del__"} <= set(whole)
    with no_complaints():
        for step in range(1, world.steps + 1):
            with pytest.raises(SimulationKilled) as caught:
                run(seed, main, kill_at_step=step, world=world)
            assert (world.steps, caught.value.step, world.is_dead) == (step - 1, step - 1, True)
            gc.collect()
            assert [word for words in worlds for word in words] == whole[: spoken_before[step]]
            worlds.clear()
        run(seed, main, kill_at_step=len(spoken_before) + 1)


def test_a_killed_run_is_the_beginning_of_the_whole_one() -> None:
    """Up to the kill, a run takes the same steps as without one."""

    def steps_until(kill_at_step: int | None) -> list[str]:
        taken: list[str] = []
        with contextlib.suppress(SimulationKilled):
            run(
                5,
                lambda: Untidy().everything(),
                kill_at_step=kill_at_step,
                on_step=lambda _, handle: taken.append(describe_callback(handle)),
            )
        return taken

    whole = steps_until(None)
    for kill_at_step in range(1, len(whole) + 1, 7):
        assert steps_until(kill_at_step) == whole[: kill_at_step - 1]


def test_killing_a_tangle_is_silent() -> None:
    """A program full of cancellations, time-outs and lost generators can be killed anywhere without a word."""
    noted: list[str] = []

    async def main() -> None:
        await tangle(lambda *words: noted.append(" ".join(map(str, words))))

    with no_complaints():
        for kill_at_step in range(1, 2_000, 41):
            with pytest.raises(SimulationKilled):
                run(kill_at_step, main, kill_at_step=kill_at_step)
            words = len(noted)
            gc.collect()
            assert len(noted) == words


def test_a_killed_world_leaves_memory() -> None:
    """Hundreds of killed worlds leave no object behind."""
    worlds: list[weakref.ref[Untidy]] = []

    async def main() -> None:
        untidy = Untidy()
        worlds.append(weakref.ref(untidy))
        await untidy.everything()

    def kill_many() -> int:
        for seed in range(100):
            with pytest.raises(SimulationKilled):
                run(seed, main, kill_at_step=seed % 40 + 1)
        gc.collect()
        return len(gc.get_objects())

    before = kill_many()
    worlds_before = len(worlds)
    after = kill_many()
    assert len(worlds) == 2 * worlds_before
    assert not any(world() for world in worlds)
    assert after - before < 500


def test_what_is_left_when_main_returns_is_abandoned() -> None:
    """Background tasks end with main without another step."""
    untidy = Untidy()

    async def main() -> str:
        background = asyncio.create_task(untidy.work(1_000))
        await asyncio.sleep(1)
        assert not background.done()
        return "result"

    with no_complaints():
        assert run(1, main) == "result"
    assert untidy.last_words == []


def test_an_error_of_main_abandons_the_rest() -> None:
    """Main's own exception comes out unchanged, and nothing else runs."""
    untidy = Untidy()

    async def main() -> None:
        background = asyncio.create_task(untidy.work(1_000))
        await asyncio.sleep(1)
        raise LookupError(background.get_name())

    with no_complaints(), pytest.raises(LookupError):
        run(1, main)
    assert untidy.last_words == []


def test_fakes_refuse_calls_of_the_dead() -> None:
    """After the end, ``check_alive`` raises what no stage loop swallows, and keeps the call's name."""
    world = World()

    async def main() -> None:
        world.check_alive("SubmitJob")

    run(1, main, world=world)
    assert world.is_dead
    with pytest.raises(CallAfterDeath):
        world.check_alive("SubmitJob")
    assert world.calls_after_death == ["SubmitJob"]
    run(2, main, world=world)


# --- single processes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_process_takes_nobody_with_it(seed: int) -> None:
    """Of two processes and a world, only the killed one stops; its timers and tasks are gone, without clean-up."""
    killed, spared = Untidy(), Untidy()

    async def main() -> None:
        loop = running_loop()
        first = loop.spawn("first", killed.work, 1_000_000)
        second = loop.spawn("second", spared.work, 20)
        await asyncio.sleep(1)
        first.kill()
        steps = first.steps
        assert await first.join() is Ending.KILLED
        await asyncio.sleep(0)
        assert [task.process for task in loop.living_tasks() if task.process] == [second]
        assert await second.join() is Ending.FINISHED
        await asyncio.sleep(1_000)
        assert first.steps == steps

    with no_complaints():
        run(seed, main)
    assert killed.last_words == []
    assert set(spared.last_words) == {
        "asynchronous generator",
        "context manager",
        "asynchronous context manager",
        "finally",
    }


def test_a_killed_process_leaves_memory_while_the_world_lives() -> None:
    """A hundred restarts on one loop do not pile up."""
    begun: list[weakref.ref[Untidy]] = []

    async def main() -> int:
        for _ in range(100):
            untidy = Untidy()
            begun.append(weakref.ref(untidy))
            process = running_loop().spawn("restarted", untidy.everything)
            await asyncio.sleep(0.3)
            process.kill()
            del untidy, process
            await asyncio.sleep(0)
        running_loop().processes.clear()
        gc.collect()
        return sum(world() is not None for world in begun)

    with no_complaints():
        assert run(1, main) == 0


@pytest.mark.parametrize("seed", range(5))
def test_a_sweep_kills_one_process_at_each_of_its_steps(seed: int) -> None:
    """Killed at its first, second, … step and started anew each time, until it gets through; the world lives on."""
    words: list[str] = []

    async def client(served: asyncio.Queue[str]) -> None:
        try:
            for _ in range(8):
                await asyncio.wait_for(served.get(), 60)
        except BaseException:
            words.append("except")
            raise

    async def server(served: asyncio.Queue[str]) -> None:
        while True:
            await asyncio.sleep(0.3)
            if served.empty():
                await served.put("item")

    async def main() -> int:
        served: asyncio.Queue[str] = asyncio.Queue()
        world_task = asyncio.create_task(server(served))
        for step in itertools.count(1):
            process = running_loop().spawn(f"client-{step}", client, served, kill_at_step=step)
            if await process.join() is Ending.FINISHED:
                assert not world_task.done()
                return step
            assert process.steps == step - 1
        raise AssertionError

    with no_complaints():
        assert run(seed, main) > 6
    assert words == []


def test_a_process_can_die_inside_a_call() -> None:
    """A fake that kills its caller before or after its effect: the caller never sees the call return."""
    ledger: list[str] = []

    async def submit() -> None:
        ledger.append("accepted")
        process = current_process()
        assert process is not None
        await process.die()

    async def application() -> None:
        try:
            await submit()
        finally:
            ledger.append("returned")

    async def main() -> Ending:
        return await running_loop().spawn("app", application).join()

    with no_complaints():
        assert run(1, main) is Ending.KILLED
    assert ledger == ["accepted"]


def test_processes_overlap_in_a_rolling_restart() -> None:
    """The new process runs beside the old one before that is killed; each knows itself, also in its child tasks."""
    seen: list[tuple[float, str]] = []

    async def beat() -> None:
        while True:
            process = current_process()
            assert process is not None
            seen.append((anyio.current_time(), process.name))
            await anyio.sleep(1)

    async def application() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(beat)

    async def main() -> None:
        loop = running_loop()
        old = loop.spawn("old", application)
        await anyio.sleep(2.5)
        new = loop.spawn("new", application)
        await anyio.sleep(2)
        old.kill()
        await anyio.sleep(2)
        new.kill()
        assert current_process() is None

    run(3, main)
    assert [when for when, name in seen if name == "old"] == [0, 1, 2, 3, 4]
    assert [when for when, name in seen if name == "new"] == [2.5, 3.5, 4.5, 5.5]


def test_work_started_for_the_world_survives_its_caller() -> None:
    """A fake's background task outlives the process whose call began it; an answer to the dead goes nowhere."""
    aged: list[str] = []
    answers: list[asyncio.Future[str]] = []

    async def age(job: str) -> None:
        await asyncio.sleep(5)
        aged.append(job)

    async def application() -> None:
        with in_world():
            answers.append(asyncio.get_running_loop().create_future())
            kept.append(asyncio.create_task(age("job")))
        kept.append(asyncio.create_task(age("own")))
        await answers[0]
        aged.append("answered")

    kept: list[asyncio.Task[None]] = []

    async def main() -> None:
        process = running_loop().spawn("app", application)
        await asyncio.sleep(1)
        process.kill()
        await asyncio.sleep(1)
        answers[0].set_result("late")
        await asyncio.sleep(10)

    with no_complaints():
        run(1, main)
        kept.clear()
        answers.clear()
    assert aged == ["job"]


def test_a_lost_generator_is_closed_by_its_own_process() -> None:
    """Whoever's step finds a generator in a cycle, it is closed in the process that began it, if that lives."""
    closed_by: list[str] = []

    async def counting() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            process = current_process()
            closed_by.append(process.name if process is not None else "world")

    async def application() -> None:
        cycle: list[object] = [counting()]
        cycle.append(cycle)
        await anext(cycle[0])  # type: ignore[call-overload]
        del cycle
        await anyio.sleep_forever()

    async def main() -> None:
        processes = [running_loop().spawn(name, application) for name in ("killed", "living")]
        await asyncio.sleep(1)
        processes[0].kill()
        await asyncio.sleep(1)
        gc.collect()
        await asyncio.sleep(1)

    with no_complaints():
        run(1, main)
    assert closed_by == ["living"]


def test_the_rest_of_a_process_ends_with_its_main() -> None:
    """When a process's coroutine returns, what it left running takes no further step."""
    untidy = Untidy()

    async def application() -> str:
        running_loop().call_later(5, untidy.last_words.append, "timer")
        background.append(asyncio.create_task(untidy.work(100)))
        await asyncio.sleep(1)
        return "code 0"

    background: list[asyncio.Task[None]] = []

    async def main() -> Process:
        process = running_loop().spawn("app", application)
        assert await process.join() is Ending.FINISHED
        await asyncio.sleep(60)
        return process

    with no_complaints():
        assert run(1, main).result == "code 0"
        background.clear()
    assert untidy.last_words == []


def test_a_failed_process_is_raised_to_whoever_joins_it() -> None:
    """``join`` raises the process's own exception."""

    async def application() -> None:
        await asyncio.sleep(1)
        raise LookupError("missing")

    async def main() -> None:
        process = running_loop().spawn("app", application)
        with pytest.raises(LookupError, match="missing"):
            await process.join()
        assert process.ending is Ending.FAILED

    run(1, main)


def test_a_failed_process_that_nobody_joins_fails_the_run() -> None:
    """Its exception is the cause of the run's end, also when the end is a deadlock."""

    async def application() -> None:
        raise LookupError("missing")

    async def main(last: Callable[[], Any]) -> None:
        running_loop().spawn("app", application)
        await last()

    with pytest.raises(SimulationUnhandled) as unhandled:
        run(1, main, lambda: asyncio.sleep(1))
    with pytest.raises(SimulationDeadlock) as deadlock:
        run(1, main, anyio.sleep_forever)
    assert isinstance(unhandled.value.__cause__, LookupError)
    assert isinstance(deadlock.value.__cause__, LookupError)
