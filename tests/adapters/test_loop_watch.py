"""What the watch of the event loop tells."""

from __future__ import annotations

import asyncio

from controller.adapters.loop_watch import INTERVAL_S, watched_loop


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop whose time only moves by hand, or to the next timer when there is nothing else to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def told(*steps_s: float) -> list[float]:
    """What is observed while steps of these lengths run, each after an idle interval and a half."""
    seen: list[float] = []
    loop = SteppedLoop()

    async def run() -> None:
        with watched_loop(seen.append):
            for step_s in steps_s:
                await asyncio.sleep(1.5 * INTERVAL_S)
                loop.now += step_s
        await asyncio.sleep(10 * INTERVAL_S)

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    return [round(each, 6) for each in seen]


def test_a_free_loop_has_no_stall() -> None:
    """Timers that come in time are observed as 0, so that the histogram's count tells that it is watched."""
    assert told(0.0, 0.0) == [0.0, 0.0, 0.0]


def test_a_long_step_is_seen_as_long_as_it_held_up_the_timer() -> None:
    """A step of 100 ms that begins half an interval before the timer keeps it from coming for 95 ms."""
    assert max(told(0.1, 0.0)) == 0.095


def test_nothing_is_observed_after_the_end() -> None:
    """The timer ends with the block: its ten intervals afterwards are not watched."""
    assert len(told(0.0)) == 1
