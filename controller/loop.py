"""The stage loop: wake or interval, coalesced wake-ups, back-off on errors, heartbeat.

Every stage is turned by ``run_stage``. A wake-up carries no data: the stage reads the store and does what is due.
This is the one place that catches ``Exception``: a stage's own mistake is logged, backed off and visible in
``/livez``; one that lasts for ``GIVE_UP_S`` ends the process, so that its supervisor restarts it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import anyio
import structlog

from controller.core.errors import OutwardError, StoreUnavailable
from controller.core.retry import backoff_s
from controller.ports import Clock

GIVE_UP_S: Final = 600.0
"""A stage that has failed by a mistake of ours at every turn for this long is given up."""
BACKOFF_BASE_S: Final = 0.5
BACKOFF_CAP_S: Final = 15.0
OUTAGE_EVERY_S: Final = 60.0
"""Of outages that come and go, the log tells one in so many seconds."""


class StageGivenUp(Exception):
    """A stage failed at every turn for too long; the process ends with exit code 1."""


class Heartbeat(Protocol):
    """The part of ``health.Health`` that the loop needs."""

    def turned(self, stage: str, *, part: str = "") -> None: ...

    def dismiss(self, stage: str, *, part: str = "") -> None: ...


class Wake:
    """A coalescing wake-up: any number of ``set`` before a ``wait`` count as one."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self, seconds: float | None) -> bool:
        """Wait for a wake-up, at most ``seconds``; True if there was one."""
        if not self._event.is_set() and (seconds is None or seconds > 0):
            with anyio.move_on_after(seconds):
                await self._event.wait()
        else:
            await anyio.lowlevel.checkpoint()
        woken = self._event.is_set()
        if woken:
            self._event = anyio.Event()
        return woken


class Drain:
    """The wish to stop: every wait of every stage is cut short by it."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        self._callbacks: list[Callable[[], None]] = []

    @property
    def is_requested(self) -> bool:
        return self._event.is_set()

    def request(self) -> None:
        """Stop soon. Repeated requests change nothing."""
        if not self._event.is_set():
            self._event.set()
            for callback in self._callbacks:
                callback()

    def on_request(self, callback: Callable[[], None]) -> None:
        """Call back when it is requested; at once if it was."""
        self._callbacks.append(callback)
        if self.is_requested:
            callback()

    def forget(self, callback: Callable[[], None]) -> None:
        self._callbacks.remove(callback)

    async def wait(self) -> None:
        await self._event.wait()

    async def sleep(self, seconds: float) -> bool:
        """Sleep unless draining; True if the drain cut it short."""
        with anyio.move_on_after(seconds):
            await self._event.wait()
        return self.is_requested


class Backoff:
    """Growing, jittered waits between failures in a row. ``chance`` draws from [0, 1)."""

    def __init__(self, chance: Callable[[], float], *, base_s: float = BACKOFF_BASE_S, cap_s: float = BACKOFF_CAP_S):
        self._chance = chance
        self._base_s = base_s
        self._cap_s = cap_s
        self.failures = 0
        self._counted_at = -math.inf

    def failed(self) -> float:
        """Seconds to wait before the next try."""
        self.failures += 1
        return self._wait_s()

    def failed_beside_others(self, *, began_at: float, now: float) -> float:
        """The same for one of several calls at a time: those that were under way when a failure was counted met the
        same moment, and are not counted again. Both instants are monotonic."""
        if began_at > self._counted_at:
            self.failures += 1
            self._counted_at = now
        return self._wait_s()

    def _wait_s(self) -> float:
        return backoff_s(max(1, self.failures), base_s=self._base_s, cap_s=self._cap_s, chance=self._chance())

    def worked(self) -> None:
        self.failures = 0


class Outage:
    """What of an outage is worth a line of the log, for one kind of work, by however many hands.

    It is told at the first failure, each time that they have doubled since, and once when it is over: when everybody
    whose latest try failed has succeeded. Outages that come and go each second would be thousands of lines an hour; of
    those one a minute is told, and its failures are counted with those of the ones that were not.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failing: set[object] = set()
        self._failures = 0
        """Since the log last said that it works."""
        self._tell_next = 1
        """Failures that are worth the next line."""
        self._is_told = False
        self._told_at: float | None = None
        """Monotonic: of the latest outage's first line."""

    def failed(self, who: object = None) -> int:
        """How many failures to tell of now; 0: no line."""
        self._failing.add(who)
        self._failures += 1
        if not self._is_told:
            now = self._clock.monotonic()
            if self._told_at is not None and now - self._told_at < OUTAGE_EVERY_S:
                return 0
            self._is_told, self._told_at, self._tell_next = True, now, self._failures
        if self._failures < self._tell_next:
            return 0
        self._tell_next = 2 * self._failures
        return self._failures

    def worked(self, who: object = None) -> int:
        """How many failures there were, if that it is over is to be told now; 0: no line."""
        self._failing.discard(who)
        if not self._is_told or self._failing:
            return 0
        failures, self._failures, self._is_told = self._failures, 0, False
        return failures


async def guarded(
    function: Callable[[], Awaitable[None]],
    *,
    stage: str,
    on_error: Callable[[Exception], Awaitable[None]] | None = None,
) -> None:
    """Run one piece of a stage's work in a task of its own: a mistake of ours ends the piece, not the process."""
    log = structlog.get_logger(stage=stage)
    try:
        await function()
    except Exception as error:
        if isinstance(error, (StoreUnavailable, OutwardError)):
            log.warning("piece of work put off", reason=str(error))
        else:
            log.error("piece of work failed", error=type(error).__name__, exc_info=error)
        if on_error is not None:
            await on_error(error)


Turn = Callable[[], Awaitable[float | None]]
"""One turn of a stage; answers in how many seconds it is due again (0: at once), None: at the interval."""


class StageLoop:
    """Turns one stage until drained."""

    def __init__(
        self,
        name: str,
        *,
        clock: Clock,
        heartbeat: Heartbeat,
        drain: Drain,
        chance: Callable[[], float],
        interval_s: float,
        wake: Wake | None = None,
        outage: Outage | None = None,
        part: str = "",
    ) -> None:
        """Loops of one stage that turn side by side share their ``outage``; each is a ``part`` of the stage."""
        self.name = name
        self._part = part
        self.wake = wake or Wake()
        self._clock = clock
        self._heartbeat = heartbeat
        self._drain = drain
        self._interval_s = interval_s
        self._backoff = Backoff(chance)
        self._outage = outage or Outage(clock)
        self._failing_since: float | None = None
        self._log = structlog.get_logger(stage=name)

    async def run(self, turn: Turn) -> None:
        """Raises StageGivenUp. Ends when drained, between two turns."""
        self._drain.on_request(self.wake.set)
        while not self._drain.is_requested:
            due_s = await self._turn(turn)
            self._heartbeat.turned(self.name, part=self._part)
            if not self._drain.is_requested:
                await self.wake.wait(self._interval_s if due_s is None else min(due_s, self._interval_s))
        self._heartbeat.dismiss(self.name, part=self._part)

    async def _turn(self, turn: Turn) -> float | None:
        try:
            due_s = await turn()
        except (StoreUnavailable, OutwardError) as error:
            self._failing_since = None
            return await self._pause("stage waits", error)
        except Exception as error:
            return await self._failed(error)
        self._failing_since = None
        if failures := self._outage.worked(self):
            self._log.info("stage goes on", failures=failures)
        self._backoff.worked()
        return due_s

    async def _failed(self, error: Exception) -> float:
        now = self._clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since >= GIVE_UP_S:
            raise StageGivenUp(f"stage {self.name} failed at every turn for {GIVE_UP_S:.0f} s") from error
        self._log.error("stage failed", error=type(error).__name__, exc_info=error)
        return await self._pause("stage backs off", error)

    async def _pause(self, what: str, error: Exception) -> float:
        pause_s = self._backoff.failed()
        if failures := self._outage.failed(self):
            self._log.warning(what, reason=str(error), failures=failures, pause_s=round(pause_s, 3))
        await self._drain.sleep(pause_s)
        return 0.0
