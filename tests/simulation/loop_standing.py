"""Where tasks and callbacks stand, in words that are the same in every process: no addresses, no absolute paths."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Iterator
from types import FrameType
from typing import Any

_FRAMES = ("cr_frame", "gi_frame", "ag_frame")
_AWAITED = ("cr_await", "gi_yieldfrom", "ag_await")


def _first(source: object, names: tuple[str, ...]) -> Any:
    return next((getattr(source, name) for name in names if hasattr(source, name)), None)


def await_chain(awaitable: object) -> Iterator[object]:
    """The coroutines and generators that wait for one another, outermost first."""
    while awaitable is not None:
        if type(awaitable).__name__.startswith("async_generator_"):
            # The step of an asynchronous generator does not name it, but refers to it.
            awaitable = next((found for found in gc.get_referents(awaitable) if hasattr(found, "ag_frame")), None)
            continue
        yield awaitable
        awaitable = _first(awaitable, _AWAITED)


def _place(frame: FrameType) -> str:
    code = frame.f_code
    path = "/".join(code.co_filename.replace("\\", "/").split("/")[-2:])
    return f"{path}:{frame.f_lineno} {code.co_qualname}"


def describe_task(task: asyncio.Task[Any]) -> str:
    """``process/name: place > place``, from the outermost coroutine to the innermost one."""
    process = getattr(task, "process", None)
    owner = f"{process.name}/" if process is not None else ""
    frames = (_first(link, _FRAMES) for link in await_chain(task.get_coro()))
    places = [_place(frame) for frame in frames if frame is not None]
    return f"{owner}{task.get_name()}: {' > '.join(places) or 'finished'}"


def describe_callback(handle: asyncio.Handle) -> str:
    """The task a handle steps, or the qualified name of the function it calls."""
    callback: Any = handle._callback  # type: ignore[attr-defined]
    while isinstance(callback, functools.partial):
        callback = callback.func
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return describe_task(owner)
    return str(getattr(callback, "__qualname__", type(callback).__qualname__))
