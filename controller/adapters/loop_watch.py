"""How long the event loop is kept from its work: by the selector that it waits with.

``app.py`` runs the loop on a ``WatchedSelector``. Between two waits the loop runs whatever is ready, one turn; for that
long nothing else is heard. So each turn is measured, none is missed, and a loop that has nothing to do costs nothing.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Callable
from typing import Final

MILLISECOND: Final = 1e-3


class WatchedSelector(selectors.DefaultSelector):
    """Tells whoever asked with ``watch`` for how many seconds the loop did not wait: a turn, and what a wait overran.

    A wait overruns while another thread holds the interpreter, or the machine is busy; one that something ended before
    its time-out is taken as well kept.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._observe: Callable[[float], None] | None = None
        self._now = now
        self._waited_at: float | None = None
        """When the last wait ended."""

    def watch(self, observe: Callable[[float], None]) -> None:
        """From the next turn on: what this one has done until now, a start-up perhaps, kept nobody waiting. Call it in
        the loop's own thread."""
        self._observe = observe
        self._waited_at = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began = self._now()
        ready = super().select(timeout)
        ended = self._now()
        if self._observe is not None and self._waited_at is not None:
            self._observe(began - self._waited_at + _overrun(ended - began, timeout, is_early=bool(ready)))
        self._waited_at = ended
        return ready

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """A new event loop that waits with this selector."""
        return asyncio.SelectorEventLoop(self)


def _overrun(waited_s: float, timeout: float | None, *, is_early: bool) -> float:
    """What a wait took beyond its time-out, which the kernel counts in whole milliseconds, rounded up."""
    if timeout is None or (is_early and timeout > 0):
        return 0.0
    return max(0.0, waited_s - math.ceil(max(0.0, timeout) / MILLISECOND) * MILLISECOND)
