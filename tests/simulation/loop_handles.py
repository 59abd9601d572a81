"""asyncio's handles without their debug mode, which costs a call for each one made."""

from __future__ import annotations

import asyncio
from contextvars import Context, copy_context
from typing import Any

from tests.simulation.loop_process import CURRENT_PROCESS


class SeededHandle(asyncio.Handle):
    __slots__ = ()

    _callback: Any
    _context: Context
    _loop: Any
    _repr: str | None
    _source_traceback: None

    def __init__(self, callback: Any, args: Any, loop: Any, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class SeededTimer(asyncio.TimerHandle):
    __slots__ = ()

    _callback: Any
    _context: Context
    _loop: Any
    _repr: str | None
    _source_traceback: None
    _when: float
    _scheduled: bool

    def __init__(self, when: float, callback: Any, args: Any, loop: Any, context: Context | None) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = when
        self._scheduled = False


def is_of_dead(handle: SeededHandle | SeededTimer) -> bool:
    """Whether it belongs to a process that takes no further step."""
    process = handle._context.get(CURRENT_PROCESS)
    return process is not None and process.is_dead
