"""An event loop whose whole history follows from one seed.

``run(seed, main)`` runs a coroutine as ``asyncio.run`` would, with these differences:

- **Time is virtual.** It stands still while anything is ready and then jumps to the next timer.
- **The next callback is drawn from the seed** among all that are ready. asyncio runs them first in, first out; nothing
  in an application should rest on that. Timers due at the same instant are drawn too.
- **The same seed gives the same history**, in any process. What asyncio and anyio keep in sets has a fixed order
  (``loop_order``), cyclic garbage is collected at fixed steps (``loop_burial``), threads, sockets, subprocesses, pipes
  and signals are refused (``loop_refusals``).
- **It can stop at any step.** ``kill_at_step=n`` raises SimulationKilled instead of taking step ``n``; a step is one
  callback, which for a task is the way from one suspension to the next. No code of the application runs afterwards,
  now or at garbage collection. ``spawn`` makes processes that are killed singly (``loop_process``).
- **It never hangs.** With nothing ready and no timer, it raises SimulationDeadlock with where each task stands; after
  too many steps or too much virtual time, SimulationRunaway.
- **When main returns, the run is over**: what is left is abandoned as by a kill, not cancelled.
- **Nothing fails unseen**: a failed callback, an exception never retrieved and a pending task that was dropped end
  the run.

Holds for asyncio of Python 3.11 to 3.14 and anyio 4.16. One run at a time per process.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import math
import random
import threading
from asyncio import base_events
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

from tests.simulation.loop_burial import bury, bury_world, forget_tasks, isolated_garbage
from tests.simulation.loop_errors import (
    RefusedInSimulation,
    SimulationDeadlock,
    SimulationEnd,
    SimulationKilled,
    SimulationRunaway,
    SimulationUnhandled,
)
from tests.simulation.loop_handles import SeededHandle, SeededTimer, is_of_dead
from tests.simulation.loop_order import SeededFuture, SeededTask, fixed_order
from tests.simulation.loop_process import CURRENT_PROCESS, Process, context_of
from tests.simulation.loop_refusals import Refusals
from tests.simulation.loop_standing import describe_task
from tests.simulation.loop_world import MAX_STEPS, MAX_STEPS_AT_ONCE, MAX_VIRTUAL_S, Bounds, World

__all__ = ["SeededLoop", "World", "run", "running_loop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Seed = int | str | bytes
StepHook = Callable[[int, asyncio.Handle], None]

_STEPS_PER_COLLECTION = 25_000
_COLLECTIONS_PER_FULL_ONE = 8
_CANCELLED_TIMERS_MIN = 64
_run_lock = threading.Lock()


class SeededLoop(Refusals, base_events.BaseEventLoop):
    """Made and run by ``run``; the application gets it from ``asyncio.get_running_loop()``."""

    _closed: bool
    _exception_handler: Any
    _stopping: bool
    _thread_id: int | None

    def __init__(self, seed: Seed, *, start_at: float, bounds: Bounds, on_step: StepHook | None) -> None:
        super().__init__()
        self.set_debug(False)
        self.seed = seed
        self.steps = 0
        self.processes: list[Process] = []
        self.problems: list[tuple[str, BaseException | None]] = []
        """What failed without anybody looking, first one first."""
        self._now = start_at
        self._random = random.Random(seed)
        self._bounds = bounds
        self._on_step = on_step
        self._ready: list[SeededHandle | SeededTimer] = []
        self._timers: list[tuple[float, int, SeededTimer]] = []
        self._timer_numbers = itertools.count()
        self._task_numbers = itertools.count(1)
        self._cancelled_timers = 0
        self._dead: list[Process] = []
        self._asyncgen_owners: dict[int, Process] = {}
        self._needs_attention = False
        self._collections = 0
        self._next_collection = _STEPS_PER_COLLECTION
        self.note_progress()

    # --- what asyncio asks of a loop ---

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> SeededHandle:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        handle = SeededHandle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> SeededHandle:
        if threading.get_ident() != self._thread_id:
            raise self.refuse("call_soon_threadsafe() from another thread")
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> SeededTimer:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> SeededTimer:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if math.isnan(when):
            raise ValueError("a timer needs a time")
        timer = SeededTimer(when, callback, args, self, context)
        if when <= self._now:
            self._ready.append(timer)
        else:
            timer._scheduled = True
            heapq.heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def _timer_handle_cancelled(self, timer: Any) -> None:
        if timer._scheduled:
            self._cancelled_timers += 1
            if self._cancelled_timers > max(_CANCELLED_TIMERS_MIN, len(self._timers) // 2):
                self._keep_timers(lambda kept: not kept.cancelled() and kept is not timer)

    def create_future(self) -> asyncio.Future[Any]:
        return SeededFuture(loop=self)

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        number = next(self._task_numbers)
        task = SeededTask(
            coro, loop=self, name=f"Task-{number}" if name is None else str(name), context=context, **options
        )
        task.process = CURRENT_PROCESS.get() if context is None else context.get(CURRENT_PROCESS)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._exception_handler is not None:
            super().call_exception_handler(context)
            return
        what = context.get("task") or context.get("future")
        self._note_problem(f"{context.get('message')}{f': {what!r}' if what else ''}", context.get("exception"))

    def refuse(self, asked_for: str) -> RefusedInSimulation:
        refusal = RefusedInSimulation(asked_for)
        self._note_problem(asked_for, refusal)
        return refusal

    def _asyncgen_firstiter_hook(self, agen: Any) -> None:
        owner = CURRENT_PROCESS.get()
        if owner is not None:
            self._asyncgen_owners[id(agen)] = owner
        else:
            self._asyncgen_owners.pop(id(agen), None)

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """Close an abandoned generator in a task of the process that began it; a dead one's is dropped as it stands."""
        owner = self._asyncgen_owners.pop(id(agen), None)
        if not self._closed and (owner is None or not owner.is_dead):
            self.call_soon(self.create_task, agen.aclose(), context=context_of(owner))

    async def shutdown_asyncgens(self) -> None:
        """Generators that are still suspended when the run ends are abandoned with the rest."""

    # --- for harnesses ---

    def spawn(
        self,
        name: str,
        function: Callable[..., Coroutine[Any, Any, Any]],
        *args: Any,
        kill_at_step: int | None = None,
    ) -> Process:
        """Start a process with ``function(*args)`` as its main coroutine."""
        process = Process(self, name, kill_at_step=kill_at_step)
        self.processes.append(process)
        context = context_of(process)
        task = context.run(lambda: self.create_task(function(*args), name="main", context=context))
        task.add_done_callback(process.settle, context=context_of(None))
        return process

    def living_tasks(self) -> list[SeededTask]:
        """Every unfinished task of the world and of living processes, oldest first."""
        return [task for task in self._tasks() if not task.is_of_dead()]

    def _tasks(self) -> Iterator[SeededTask]:
        return (task for task in asyncio.all_tasks(self) if isinstance(task, SeededTask))

    def note_progress(self) -> None:
        """Start counting anew towards the bounds on steps and virtual time."""
        self._last_step = self.steps + self._bounds.steps
        self._last_instant = self._now + self._bounds.virtual_s
        self._set_gate()

    def note_dead(self, process: Process) -> None:
        """Bury the process after the current step."""
        self._dead.append(process)
        self._needs_attention = True

    # --- the run ---

    def _run_once(self) -> None:
        """Take steps until ``stop``; asyncio's ``run_forever`` calls this in a loop."""
        ready = self._ready
        draw = self._random.random
        on_step = self._on_step
        while not self._stopping:
            if self._needs_attention:
                self._attend()
            count = len(ready)
            if count > 1:
                chosen = int(draw() * count)
                handle = ready[chosen]
                ready[chosen] = ready[-1]
                del ready[-1]
            elif count:
                handle = ready.pop()
            else:
                self._jump()
                continue
            if handle._cancelled:
                continue
            context = handle._context
            process = context.get(CURRENT_PROCESS)
            if process is not None:
                if process.is_dead:
                    continue
                if process.steps + 1 == process.kill_at_step:
                    process.kill()
                    ready.append(handle)  # To be buried with the rest.
                    continue
                process.steps += 1
            if self.steps >= self._gate:
                self._pass_gate()
            self.steps += 1
            if on_step is not None:
                on_step(self.steps, handle)
                if process is not None and process.is_dead:
                    ready.append(handle)
                    continue
            try:
                context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as failure:
                self.call_exception_handler({"message": f"failed callback {handle!r}", "exception": failure})

    def _jump(self) -> None:
        """Let time pass until the next timer and make all that are due then ready."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
            self._cancelled_timers -= 1
        if not timers or timers[0][0] == math.inf:
            raise self.end(SimulationDeadlock, "nothing is ready, no timer is set, and main has not returned")
        when = timers[0][0]
        if when > self._last_instant:
            raise self.end(SimulationRunaway, f"{self._bounds.virtual_s} virtual seconds without an end or progress")
        self._now = when
        while timers and timers[0][0] == when:
            timer = heapq.heappop(timers)[2]
            timer._scheduled = False
            if timer._cancelled:
                self._cancelled_timers -= 1
            else:
                self._ready.append(timer)
        self._set_gate()

    def _set_gate(self) -> None:
        """The next step that needs a second look; one comparison per step instead of four."""
        self._crowded_step = self.steps + self._bounds.steps_at_once
        kill_at_step = self._bounds.kill_at_step
        self._kill_after = math.inf if kill_at_step is None else kill_at_step - 1
        self._gate = min(self._last_step, self._crowded_step, self._next_collection, self._kill_after)

    def _pass_gate(self) -> None:
        if self.steps >= self._kill_after:
            raise self.end(SimulationKilled, f"killed at step {self._bounds.kill_at_step}", standing=False)
        if self.steps >= self._last_step:
            raise self.end(SimulationRunaway, f"{self._bounds.steps} steps without an end or progress")
        if self.steps >= self._crowded_step:
            raise self.end(SimulationRunaway, f"{self._bounds.steps_at_once} steps at one instant")
        self._collections += 1
        gc.collect(2 if self._collections % _COLLECTIONS_PER_FULL_ONE == 0 else 1)
        self._next_collection = self.steps + _STEPS_PER_COLLECTION
        self._gate = min(self._last_step, self._crowded_step, self._next_collection, self._kill_after)

    def _attend(self) -> None:
        """Bury who died in the last step; end the run if something failed unseen."""
        self._needs_attention = False
        if self._dead:
            self._bury_processes()
            gc.collect()
        if self.problems:
            what, failure = self.problems[0]
            raise self.end(SimulationUnhandled, what) from failure

    def _bury_processes(self) -> None:
        roots: list[object] = [task for task in self._tasks() if task.is_of_dead()]
        roots.extend(handle for handle in self._ready if is_of_dead(handle))
        roots.extend(timer for _, _, timer in self._timers if is_of_dead(timer))
        if roots:
            bury(roots, is_spared=self._is_spared)
        forget_tasks(lambda task: isinstance(task, SeededTask) and task.is_of_dead())
        self._ready[:] = [handle for handle in self._ready if not is_of_dead(handle)]
        self._keep_timers(lambda timer: not timer.cancelled() and not is_of_dead(timer))
        self._dead.clear()

    @staticmethod
    def _is_spared(member: object) -> bool:
        return isinstance(member, SeededLoop | Process | World) or (
            isinstance(member, SeededTask) and not member.is_of_dead()
        )

    def _keep_timers(self, is_kept: Callable[[SeededTimer], bool]) -> None:
        kept = [entry for entry in self._timers if is_kept(entry[2])]
        heapq.heapify(kept)
        self._timers[:] = kept
        self._cancelled_timers = 0

    def _note_problem(self, what: str, failure: BaseException | None) -> None:
        self.problems.append((what, failure))
        self._needs_attention = True

    def end(self, kind: type[SimulationEnd], reason: str, *, standing: bool = True) -> SimulationEnd:
        """The error that ends this run, with what a reader of it needs."""
        lines: Iterable[str] = (describe_task(task) for task in self.living_tasks()) if standing else ()
        return kind(reason, seed=self.seed, step=self.steps, now=self._now, standing=tuple(lines))

    def forget_everything(self) -> None:
        """Drop what the loop still refers to, so that the world goes with it; the loop is closed."""
        self.close()
        forget_tasks(lambda task: task.get_loop() is self)
        self._timers.clear()
        self._dead.clear()
        self._asyncgen_owners.clear()


def running_loop() -> SeededLoop:
    """The loop of the simulation that is running."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SeededLoop)
    return loop


def run(
    seed: Seed,
    function: Callable[..., Coroutine[Any, Any, T]],
    *args: Any,
    start_at: float = 0.0,
    max_virtual_s: float = MAX_VIRTUAL_S,
    max_steps: int = MAX_STEPS,
    max_steps_at_once: int = MAX_STEPS_AT_ONCE,
    kill_at_step: int | None = None,
    on_step: StepHook | None = None,
    world: World | None = None,
) -> T:
    """Run ``function(*args)`` to its end; returns its result or raises what it raised.

    ``on_step(number, handle)`` is called before each step, with steps counted from 1; what it raises ends the
    run like a kill. A sweep over every crash point counts ``kill_at_step`` up from 1 until SimulationKilled no longer
    comes. Raises SimulationEnd's kinds.
    """
    bounds = Bounds(
        steps=max_steps, steps_at_once=max_steps_at_once, virtual_s=max_virtual_s, kill_at_step=kill_at_step
    )
    if not _run_lock.acquire(blocking=False):
        raise RuntimeError("one simulation at a time per process")
    try:
        with fixed_order(), isolated_garbage():
            loop = SeededLoop(seed, start_at=start_at, bounds=bounds, on_step=on_step)
            return _live(loop, function, args, World() if world is None else world)
    except SimulationEnd as end:
        # Its frames would keep the dead world in memory for as long as the caller looks at the error.
        raise end.with_traceback(None) from end.__cause__
    finally:
        _run_lock.release()


def _live(loop: SeededLoop, function: Callable[..., Coroutine[Any, Any, T]], args: Any, world: World) -> T:
    world.is_dead = False

    async def main() -> T:
        return await function(*args)

    is_clean = False
    try:
        result = loop.run_until_complete(main())
        is_clean = not loop.living_tasks()
    except (SimulationDeadlock, SimulationRunaway) as end:
        raise end from _unseen_failure(loop)
    finally:
        world.is_dead, world.steps, world.now = True, loop.steps, loop.time()
        if not is_clean:
            bury_world()
        loop.forget_everything()
        gc.collect()
    failure = _unseen_failure(loop)
    if failure is not None:
        raise loop.end(SimulationUnhandled, "a process failed and nobody joined it") from failure
    if loop.problems:
        what, cause = loop.problems[0]
        raise loop.end(SimulationUnhandled, what) from cause
    return result


def _unseen_failure(loop: SeededLoop) -> BaseException | None:
    """What the first failed process that nobody joined raised: it may be why the rest came to nothing."""
    failed = (process.failure for process in loop.processes if not process.is_joined)
    return next((failure for failure in failed if failure is not None), None)
