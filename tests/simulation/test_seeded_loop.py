"""The loop's promises: one seed one history, virtual time, refusals, no hanging, nothing fails unseen."""

from __future__ import annotations

import asyncio
import gc
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio._backends import _asyncio as anyio_backend
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulation.loop_errors import (
    RefusedInSimulation,
    SimulationDeadlock,
    SimulationRunaway,
    SimulationUnhandled,
)
from tests.simulation.seeded_loop import run, running_loop
from tests.simulation.tangled_program import history

ROOT = Path(__file__).parents[2]


def history_of_process(seed: int, *, hash_seed: int) -> str:
    code = f"from tests.simulation.tangled_program import main; main({seed})"
    program = [sys.executable, "-W", "error", "-c", code]
    environment = {"PYTHONHASHSEED": str(hash_seed)}
    ended = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


# --- one seed, one history ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_one_seed_gives_one_history_in_every_process(seed: int) -> None:
    """Processes with other hash seeds and memory layouts, and this one with its past, take the same steps."""
    first = history_of_process(seed, hash_seed=1)
    assert first.count("\n") > 5_000
    assert history_of_process(seed, hash_seed=4_294_967_295) == first
    assert "\n".join(history(seed)) + "\n" == first


def test_another_seed_gives_another_history() -> None:
    """Five seeds give five interleavings."""
    assert len({tuple(history(seed)) for seed in range(5)}) == 5


def test_every_order_of_ready_callbacks_comes_up() -> None:
    """Three callbacks made ready together run in each of the six orders under some seed."""

    async def main() -> tuple[int, ...]:
        ran: list[int] = []
        for number in range(3):
            asyncio.get_running_loop().call_soon(ran.append, number)
        while len(ran) < 3:
            await asyncio.sleep(0)
        return tuple(ran)

    assert len({run(seed, main) for seed in range(100)}) == 6


def test_every_order_of_simultaneous_timers_comes_up() -> None:
    """Three timers due at the same instant fire in each of the six orders under some seed."""

    async def main() -> tuple[int, ...]:
        fired: list[int] = []
        for number in range(3):
            asyncio.get_running_loop().call_at(5.0, fired.append, number)
        await asyncio.sleep(6)
        return tuple(fired)

    assert len({run(seed, main) for seed in range(100)}) == 6


def test_a_run_leaves_the_interpreter_as_it_was() -> None:
    """Whatever ends a run, anyio's classes and the collector are back in place afterwards."""
    before = (anyio_backend.CancelScope, anyio_backend.Event, asyncio.all_tasks, asyncio.as_completed)

    async def interrupted() -> None:
        assert anyio_backend.CancelScope is not before[0]
        assert not gc.isenabled()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(1, interrupted)
    assert (anyio_backend.CancelScope, anyio_backend.Event, asyncio.all_tasks, asyncio.as_completed) == before
    assert "id" not in vars(anyio_backend)
    assert gc.isenabled()
    assert run(1, asyncio.sleep, 1, "next") == "next"


def test_one_run_at_a_time() -> None:
    """A run inside a run is refused."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="one simulation at a time"):
            run(1, asyncio.sleep, 1)

    run(1, main)


# --- virtual time -------------------------------------------------------------------------------------


def test_time_starts_where_told_and_jumps_to_the_next_timer() -> None:
    """A month of sleep ends at exactly that time, with no time in between."""

    async def main() -> tuple[float, float, int]:
        before = asyncio.get_running_loop().time()
        await anyio.sleep(30 * 86_400)
        return before, anyio.current_time(), running_loop().steps

    before, after, steps = run(1, main, start_at=1_000.0)
    assert (before, after) == (1_000.0, 1_000.0 + 30 * 86_400)
    assert steps < 10


def test_time_stands_still_while_anything_is_ready() -> None:
    """Ten thousand steps at one instant take no virtual time, whatever timers are set."""

    async def main() -> float:
        asyncio.get_running_loop().call_later(0.001, lambda: None)
        for _ in range(10_000):
            await asyncio.sleep(0)
        return asyncio.get_running_loop().time()

    assert run(1, main) == 0.0


def test_cancelled_timers_neither_fire_nor_move_time() -> None:
    """A thousand time-outs that were not needed leave no trace in virtual time."""

    async def main() -> float:
        for _ in range(1_000):
            with anyio.fail_after(50):
                await anyio.sleep(0.5)
        timers = len(running_loop()._timers)
        assert timers < 200, f"{timers} timers left of cancelled time-outs"
        return anyio.current_time()

    assert run(1, main) == 500.0


# --- anyio and asyncio unchanged ------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(min_value=0))
def test_primitives_keep_their_promises_under_every_seed(seed: int) -> None:
    """Locks exclude, limits hold, streams lose and double nothing, time-outs strike on time, whatever the order."""

    async def main() -> None:
        lock, limiter = anyio.Lock(), anyio.CapacityLimiter(2)
        inside: list[int] = []
        limited: list[int] = []
        received: list[int] = []
        send, receive = anyio.create_memory_object_stream[int](2)

        async def contend(number: int) -> None:
            with anyio.move_on_after(number % 3 + 0.5):
                async with lock:
                    inside.append(number)
                    assert len(inside) == 1
                    try:
                        await anyio.sleep(0.25)
                    finally:
                        inside.remove(number)
            async with limiter:
                limited.append(number)
                assert len(limited) <= 2
                await anyio.sleep(0.25)
                limited.remove(number)

        async def produce(number: int) -> None:
            async with send.clone() as target:
                for item in range(3):
                    await target.send(number * 3 + item)

        async def consume() -> None:
            async with receive.clone() as source:
                received.extend([item async for item in source])

        started_at = anyio.current_time()
        with pytest.raises(TimeoutError):
            with anyio.fail_after(2.5):
                await anyio.Event().wait()
        assert anyio.current_time() == started_at + 2.5
        async with anyio.create_task_group() as group, receive:
            for number in range(6):
                group.start_soon(contend, number)
                group.start_soon(consume)
            async with send:
                for number in range(4):
                    group.start_soon(produce, number)
                await anyio.sleep(0.1)
        assert sorted(received) == list(range(12))
        assert not lock.locked()
        assert limiter.borrowed_tokens == 0

    run(seed, main)


@pytest.mark.parametrize("seed", range(30))
def test_a_failing_child_cancels_its_siblings_and_surfaces(seed: int) -> None:
    """A task group raises its child's error after its other children have ended, cleanup included."""
    cleaned: list[int] = []

    async def waiting(number: int) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            cleaned.append(number)

    async def failing() -> None:
        await anyio.sleep(3)
        raise LookupError

    async def family() -> None:
        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(waiting, number)
            group.start_soon(failing)

    async def main() -> float:
        with pytest.raises(ExceptionGroup) as caught:
            await family()
        assert caught.group_contains(LookupError)
        assert sorted(cleaned) == [0, 1, 2, 3, 4]
        return anyio.current_time()

    assert run(seed, main) == 4.0


@pytest.mark.parametrize("seed", range(30))
def test_plain_asyncio_works(seed: int) -> None:
    """Time-outs, wait_for, queues and task groups of asyncio itself run under any order."""

    async def main() -> float:
        queue: asyncio.Queue[int] = asyncio.Queue(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await asyncio.sleep(3)
        async with asyncio.TaskGroup() as group:
            taken = [group.create_task(queue.get()) for _ in range(3)]
            for number in range(3):
                group.create_task(queue.put(number))
        assert sorted(task.result() for task in taken) == [0, 1, 2]
        return asyncio.get_running_loop().time()

    assert run(seed, main) == 4.0


# --- refusals -------------------------------------------------------------------------------------------


async def _call_from_another_thread() -> None:
    loop = asyncio.get_running_loop()

    def meddle() -> None:
        with pytest.raises(RefusedInSimulation):
            loop.call_soon_threadsafe(lambda: None)

    thread = threading.Thread(target=meddle)
    thread.start()
    thread.join()
    await asyncio.sleep(1)


async def _listen_to_signals() -> None:
    with anyio.open_signal_receiver(signal.SIGTERM):
        await anyio.sleep(1)


async def _read_a_file_descriptor() -> None:
    asyncio.get_running_loop().add_reader(0, lambda: None)


async def _resolve_a_name() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


async def _serve() -> None:
    await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)


REFUSED: dict[str, Callable[[], Awaitable[Any]]] = {
    "run_in_executor": lambda: asyncio.to_thread(int),
    "anyio.to_thread.run_sync": lambda: anyio.to_thread.run_sync(int),
    "call_soon_threadsafe": _call_from_another_thread,
    "create_connection": lambda: anyio.connect_tcp("127.0.0.1", 1),
    "create_server": _serve,
    "getaddrinfo": _resolve_a_name,
    "subprocess_exec": lambda: anyio.run_process(["true"]),
    "add_signal_handler": _listen_to_signals,
    "add_reader": _read_a_file_descriptor,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_deterministic_is_refused_by_name(name: str) -> None:
    """Threads, sockets, subprocesses, signals and descriptors end the run, even if the caller swallows the refusal."""

    async def main() -> None:
        try:
            await REFUSED[name]()
        except Exception:
            await asyncio.sleep(1)

    with pytest.raises(SimulationUnhandled, match=name) as caught:
        run(1, main)
    assert isinstance(caught.value.__cause__, RefusedInSimulation)


# --- it never hangs ---------------------------------------------------------------------------------------


async def _wait_for_ever(name: str) -> None:
    del name
    await anyio.Event().wait()


@pytest.mark.parametrize("wait", [anyio.sleep_forever, lambda: anyio.Event().wait()])
def test_a_deadlock_says_where_each_task_stands(wait: Callable[[], Awaitable[None]]) -> None:
    """Nothing ready and no timer: an error at once, with name and place of every task."""

    async def main() -> None:
        await anyio.sleep(5)
        async with anyio.create_task_group() as group:
            group.start_soon(_wait_for_ever, "a", name="stuck-child")
            await wait()

    with pytest.raises(SimulationDeadlock) as caught:
        run(42, main)
    assert caught.value.now == 5.0
    assert len(caught.value.standing) == 2
    child = next(line for line in caught.value.standing if line.startswith("stuck-child: "))
    assert "simulation/test_seeded_loop.py" in child
    assert "_wait_for_ever" in child
    assert "seed 42" in str(caught.value)


def test_a_spinning_task_is_a_runaway() -> None:
    """A loop that never lets time pass ends the run, and the task is named."""

    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(SimulationRunaway, match="steps at one instant") as caught:
        run(1, main, max_steps_at_once=1_000)
    assert caught.value.step == 1_000
    assert len(caught.value.standing) == 1


def test_endless_steps_and_endless_time_are_runaways() -> None:
    """A loop that polls for ever ends at the bound on steps or on virtual time, whichever comes first."""

    async def main() -> None:
        while True:
            await asyncio.sleep(10)

    with pytest.raises(SimulationRunaway, match="500 steps"):
        run(1, main, max_steps=500)
    with pytest.raises(SimulationRunaway, match="virtual seconds") as caught:
        run(1, main, max_virtual_s=3_600)
    assert caught.value.now == 3_600


def test_noted_progress_counts_anew() -> None:
    """A run that gets somewhere within the bounds goes on past them."""

    async def main() -> float:
        for _ in range(20):
            await asyncio.sleep(60)
            running_loop().note_progress()
        return asyncio.get_running_loop().time()

    assert run(1, main, max_steps=20, max_virtual_s=100) == 1_200


def test_an_end_crosses_process_borders() -> None:
    """What ends a run can be pickled, for sweeps over several processes."""
    with pytest.raises(SimulationDeadlock) as caught:
        run("seed", anyio.sleep_forever)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.seed) == (SimulationDeadlock, str(caught.value), "seed")


# --- nothing fails unseen -----------------------------------------------------------------------------------


def test_a_failed_callback_ends_the_run() -> None:
    """An exception in a bare callback is raised out of the run, with its cause."""

    async def main() -> None:
        asyncio.get_running_loop().call_soon([].pop)
        await asyncio.sleep(1)

    with pytest.raises(SimulationUnhandled, match="pop") as caught:
        run(1, main)
    assert isinstance(caught.value.__cause__, IndexError)


@pytest.mark.parametrize("is_cyclic", [False, True])
def test_an_exception_nobody_retrieved_ends_the_run(is_cyclic: bool) -> None:
    """A task that failed and was forgotten is found, at the latest by the collection at the end."""

    async def failing() -> None:
        raise LookupError("forgotten")

    async def main() -> None:
        task = asyncio.create_task(failing())
        if is_cyclic:
            cycle: list[object] = [task]
            cycle.append(cycle)
        del task
        await asyncio.sleep(1)

    with pytest.raises(SimulationUnhandled, match="never retrieved") as caught:
        run(1, main)
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_forgotten_pending_task_ends_the_run() -> None:
    """A task that waits for something nobody holds would vanish in production: here it is an error."""

    async def main() -> None:
        asyncio.create_task(anyio.Event().wait())  # noqa: RUF006 - forgetting it is the point
        await asyncio.sleep(1)
        gc.collect()
        await asyncio.sleep(1)

    with pytest.raises(SimulationUnhandled, match="destroyed but it is pending"):
        run(1, main)


def test_an_exception_handler_of_the_application_is_honoured() -> None:
    """With its own handler set, failed callbacks go there."""
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: seen.append(str(context["exception"])))
        loop.call_later(1, [].pop)
        await asyncio.sleep(2)

    run(1, main)
    assert seen == ["pop from empty list"]
