"""How long the event loop is kept from its work: a timer of 10 ms, and how late it comes.

``app.py`` starts it beside the application. It costs a thousandth of a core. A step of the loop that takes longer than
the timer's interval is always met, and shows with the part of it that was left when the timer was due; what is shorter
is met in proportion to its length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

INTERVAL_S: Final = 0.01


@contextmanager
def watched_loop(observe: Callable[[float], None]) -> Iterator[None]:
    """Tell ``observe`` the seconds by which each timer of the running loop was late."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def due() -> None:
        nonlocal timer
        assert timer is not None
        now = loop.time()
        observe(max(0.0, now - timer.when()))
        timer = loop.call_at(now + INTERVAL_S, due)

    timer = loop.call_later(INTERVAL_S, due)
    try:
        yield
    finally:
        timer.cancel()
