"""Several processes on one loop: trees of tasks that are killed one by one while the world lives on.

Whatever a process starts, directly or not, carries it in its context: tasks, timers, callbacks. A killed process takes
no further step and nothing of it is cleaned up; see ``loop_burial``. The world is what has no process: ``run``'s main
coroutine and what it starts, such as a simulated AWS.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tests.simulation.seeded_loop import SeededLoop

CURRENT_PROCESS: ContextVar[Process | None] = ContextVar("simulated_process", default=None)


class Ending(enum.Enum):
    FINISHED = "finished"
    """Its coroutine returned; what it had left running ended with it, as in a real process."""
    FAILED = "failed"
    KILLED = "killed"


def current_process() -> Process | None:
    """The process whose code is running; None in the world."""
    return CURRENT_PROCESS.get()


def context_of(process: Process | None) -> Context:
    """A copy of the current context that belongs to the process, or to the world."""
    context = copy_context()
    context.run(CURRENT_PROCESS.set, process)
    return context


@contextmanager
def in_world() -> Iterator[None]:
    """Tasks and timers started inside belong to the world, whichever process made the call: for fakes whose
    background work outlives their callers. No await inside."""
    token = CURRENT_PROCESS.set(None)
    try:
        yield
    finally:
        CURRENT_PROCESS.reset(token)


class Process:
    """One killable tree of tasks; made by ``SeededLoop.spawn``."""

    def __init__(self, loop: SeededLoop, name: str, *, kill_at_step: int | None) -> None:
        self.name = name
        self.steps = 0
        """Steps it has taken: callbacks of its own, each from one suspension to the next."""
        self.kill_at_step = kill_at_step
        """It is killed instead of taking this step, counted from 1."""
        self.is_dead = False
        self.ending: Ending | None = None
        self.result: Any = None
        self.failure: BaseException | None = None
        self.is_joined = False
        """Whether somebody was told of its end; a failure that nobody learns of fails the run."""
        self._loop = loop
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Process {self.name}: {self.ending.value if self.ending else 'running'}>"

    def kill(self) -> None:
        """Take no further step. Called by its own code, the current step still runs to its next suspension."""
        self._end(Ending.KILLED)

    async def die(self) -> NoReturn:
        """Kill the process from inside: not one line of the caller runs after this."""
        assert CURRENT_PROCESS.get() is self, f"{self.name} can only die in its own code; use kill()"
        self.kill()
        await self._loop.create_future()
        raise AssertionError("a dead process took a step")

    async def join(self) -> Ending:
        """Wait for the end; raises what the process's coroutine raised."""
        await self._ended.wait()
        self.is_joined = True
        if self.failure is not None:
            raise self.failure
        assert self.ending is not None
        return self.ending

    def settle(self, task: asyncio.Task[Any]) -> None:
        """Take the end of the process's main task; called by the loop."""
        if self.is_dead:
            return
        if task.cancelled():
            self.failure = asyncio.CancelledError(f"{self.name} was cancelled")
        else:
            self.failure = task.exception()
        if self.failure is None:
            self.result = task.result()
        self._end(Ending.FINISHED if self.failure is None else Ending.FAILED)

    def _end(self, ending: Ending) -> None:
        if not self.is_dead:
            self.ending = ending
            self.is_dead = True
            self._ended.set()
            self._loop.note_dead(self)
