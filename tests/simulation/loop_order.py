"""A fixed order for what asyncio and anyio keep in sets.

Both walk sets of tasks, cancel scopes and events, and what they do on the way (cancel, wake up) fills the ready
queue. The order of such a walk follows the members' hash, by default their address, which differs from process to
process. Here every such member gets a hash that is its place in the run: the first one hashed is 1, and so on.

Where the order matters (asyncio 3.11-3.14, anyio 4.16):

- sets of tasks: anyio ``CancelScope._tasks`` and ``TaskGroup._tasks``; asyncio ``TaskGroup._tasks``, ``wait()``.
- sets of futures: ``asyncio.wait()``. Those of ``loop.create_future()`` have a fixed order, a bare
  ``asyncio.Future()`` has not.
- sets of scopes: anyio ``CancelScope._child_scopes``.
- sets of events: anyio's memory object streams, woken when a stream is closed.
- ``all_tasks()`` reads a WeakSet whose layout has seen every earlier loop of the process: sorted here.
- ``as_completed()`` makes tasks while walking a set of coroutines, which can't be given a hash: they become
  tasks in the order given.
- ``shutdown_asyncgens()`` walks a WeakSet of generators: the loop replaces it.
- anyio puts ``id(scope)`` into the message of a cancellation: it gets the place in the run instead.

Left alone: sets of strings in the application itself (run under two values of PYTHONHASHSEED to find them).
"""

from __future__ import annotations

import asyncio
import builtins
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from anyio._backends import _asyncio as anyio_backend

from tests.simulation.loop_errors import RefusedInSimulation

if TYPE_CHECKING:
    from tests.simulation.loop_process import Process

    _Task = asyncio.Task[Any]
    _Future = asyncio.Future[Any]
else:
    _Task = asyncio.Task
    _Future = asyncio.Future

_places = itertools.count(1)


def _place_in_run(member: Any) -> int:
    """The hash of a member: drawn at first use, so that making one costs nothing more."""
    try:
        place: int = member._place
    except AttributeError:
        place = member._place = next(_places)
    return place


class SeededTask(_Task):
    """A task that knows the simulated process it belongs to."""

    __slots__ = ("_place", "process")

    process: Process | None
    __hash__ = _place_in_run

    def is_of_dead(self) -> bool:
        """Whether it belongs to a process that takes no further step."""
        return self.process is not None and self.process.is_dead


class SeededFuture(_Future):
    __slots__ = ("_place",)
    __hash__ = _place_in_run


class _SeededScope(anyio_backend.CancelScope):
    __slots__ = ("_place",)
    __hash__ = _place_in_run


class _SeededEvent(anyio_backend.Event):
    __slots__ = ("_place",)
    __hash__ = _place_in_run


class _OrderedTasks(set["asyncio.Task[Any]"]):
    """A set that is walked in the order in which its tasks were made."""

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        return iter(sorted(super().__iter__(), key=hash))


def _stable_id(member: object) -> int:
    return hash(member) if isinstance(member, _SeededScope | SeededTask) else builtins.id(member)


def _all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
    return _OrderedTasks(_PLAIN_ALL_TASKS(loop))


def _as_completed(fs: Iterable[Any], *, timeout: float | None = None) -> Any:
    if isinstance(fs, Iterable):
        fs = [asyncio.ensure_future(awaitable) for awaitable in dict.fromkeys(fs)]
    return _PLAIN_AS_COMPLETED(fs, timeout=timeout)


def _refuse_worker_thread(*_: object, **__: object) -> NoReturn:
    loop: Any = asyncio.get_running_loop()
    refuse: Callable[[str], RefusedInSimulation] | None = getattr(loop, "refuse", None)
    raise RefusedInSimulation("thread") if refuse is None else refuse("anyio.to_thread.run_sync")


_PLAIN_ALL_TASKS = asyncio.all_tasks
_PLAIN_AS_COMPLETED = asyncio.as_completed
_REPLACEMENTS: tuple[tuple[Any, dict[str, Any]], ...] = (
    (asyncio, {"all_tasks": _all_tasks, "as_completed": _as_completed}),
    (asyncio.tasks, {"all_tasks": _all_tasks, "as_completed": _as_completed}),
    (
        anyio_backend,
        {
            "CancelScope": _SeededScope,
            "Event": _SeededEvent,
            "WorkerThread": _refuse_worker_thread,
            "all_tasks": _all_tasks,
            "id": _stable_id,
        },
    ),
)
_ABSENT = object()


@contextmanager
def fixed_order() -> Iterator[None]:
    """Give every set a fixed order inside the block; count places from 1. One block at a time per process."""
    global _places
    _places = itertools.count(1)
    saved = [(module, name, vars(module).get(name, _ABSENT)) for module, names in _REPLACEMENTS for name in names]
    for module, names in _REPLACEMENTS:
        vars(module).update(names)
    try:
        yield
    finally:
        for module, name, original in saved:
            if original is _ABSENT:
                delattr(module, name)
            else:
                setattr(module, name, original)
