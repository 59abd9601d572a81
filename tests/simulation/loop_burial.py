"""Death without last words: drop suspended code without running another line of it.

A killed process runs no ``finally``. Python does: the finalizer of a suspended coroutine, generator or asynchronous
generator throws GeneratorExit into it when the last reference goes. What could be done about it:

- Hold them for ever: a sweep over thousands of crash points would hold thousands of worlds.
- Close them against ports that refuse: runs the application's handlers in a state that no real crash has, some
  of which touch what survives (an open database) without passing a port.
- **Mark them as finalized**, as CPython does itself after calling a finalizer, which it never calls twice. The frame
  is then torn down, its locals are freed, and no code runs. This is what happens here.

The mark is one bit in the collector's header in front of the object, the same in CPython 3.11 to 3.14;
``gc.is_finalized`` reads it back, and one try at import proves it. Where it can't be set (another Python), the dead
are held for ever.

Marked are: coroutines, generators, asynchronous generators and their steps, tasks and futures (which would log
"never retrieved" or "destroyed but pending"), and instances of classes with a ``__del__`` written in Python (such
as anyio's streams, which warn when not closed). Finalizers written in C stay: they give back what the operating
system takes back from a dead process, such as files and SQLite connections.

``isolated_garbage`` freezes everything older than the run, so that the collector sees only what the run made. It also
collects at fixed steps instead of when the allocator's counters say so, which depend on the past of the process;
otherwise an abandoned asynchronous generator would be closed at a random step.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType
from typing import Any

from anyio._backends import _asyncio as anyio_backend

_GRAVEYARD: list[object] = []
_WORD = ctypes.sizeof(ctypes.c_size_t)
_FULL_COLLECTION_EVERY = 64
_SUSPENDABLE = (CoroutineType, GeneratorType, AsyncGeneratorType, asyncio.Future)
_STEP_NAMES = frozenset({"async_generator_asend", "async_generator_athrow", "anext_awaitable"})
_runs = 0


def _set_finalized_bit(condemned: object) -> None:
    previous = ctypes.c_size_t.from_address(id(condemned) - _WORD)
    previous.value |= 1


def _can_mark() -> bool:
    is_plain_cpython = sys.implementation.name == "cpython" and "free-threading" not in sys.version
    if not is_plain_cpython or not (3, 11) <= sys.version_info < (3, 15):
        return False
    ran = []

    def suspended() -> Iterator[None]:
        try:
            yield
        finally:
            ran.append(True)

    trial = suspended()
    next(trial)
    _set_finalized_bit(trial)
    is_marked = gc.is_finalized(trial)
    del trial
    return is_marked and not ran


CAN_MARK = _can_mark()
"""Whether the dead are freed; if not, they are held until the interpreter ends."""


def _has_last_words(kind: type[Any]) -> bool:
    if issubclass(kind, _SUSPENDABLE) or kind.__name__ in _STEP_NAMES:
        return True
    return isinstance(getattr(kind, "__del__", None), FunctionType)


def _silence(condemned: Iterable[object]) -> None:
    verdicts: dict[type[Any], bool] = {}
    for member in condemned:
        kind = type(member)
        is_silenced = verdicts.get(kind)
        if is_silenced is None:
            is_silenced = verdicts[kind] = _has_last_words(kind)
        if not is_silenced:
            continue
        if CAN_MARK:
            _set_finalized_bit(member)
        else:
            _GRAVEYARD.append(member)


def bury_world() -> None:
    """Silence everything made since ``isolated_garbage`` began."""
    _silence(gc.get_objects())


def bury(roots: Iterable[object], *, is_spared: Callable[[object], bool]) -> None:
    """Silence what the roots refer to, directly or not, without going through what is spared.

    What others refer to as well lives on and works as before; only its own finalizer, should it be dropped
    unfinished later, stays silent.
    """
    young = gc.get_objects()
    unseen = set(map(id, young))
    del young
    reached: list[object] = []
    border = [root for root in roots if root is not None]
    while border:
        member = border.pop()
        if id(member) in unseen and not is_spared(member):
            unseen.discard(id(member))
            reached.append(member)
            border.extend(gc.get_referents(member))
    _silence(reached)


def forget_tasks(is_forgotten: Callable[[asyncio.Task[Any]], bool]) -> None:
    """Take tasks out of anyio's table of task states.

    Its keys are weak, but its values lead back to them, so that an entry lives until the task's own code removes it.
    """
    for task in [task for task in anyio_backend._task_states if is_forgotten(task)]:
        del anyio_backend._task_states[task]


@contextmanager
def isolated_garbage() -> Iterator[None]:
    """Keep what is older than the block out of the collector's sight, and its automatic runs out of the block."""
    global _runs
    was_enabled = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
        _runs += 1
        if _runs % _FULL_COLLECTION_EVERY == 0:
            # What a caller held until after its run is old by now; the automatic collection would be long in coming.
            gc.collect()
