"""Waiting for a turn to call AWS Batch: one budget per kind of call, and one over all of them.

Every call to Batch is preceded by ``acquire`` and followed by ``throttled`` or ``succeeded`` (or neither, when there
was no answer). The rates themselves are ``core.pacing``'s; this file only waits.

Turns
    Callers of one purpose stand in line, first come, first served. The first of each line waits for its own
    budget and then joins the line for the total, which is first come, first served too: at most one caller of each
    purpose stands there, so nobody waits for more than one call of each other purpose once its own budget lets it go,
    and purposes that all want more than there is take turns. Nothing is booked ahead: a slot is spent in the step in
    which ``acquire`` returns, so a caller that is cancelled while it waits leaves the line and takes nothing with it.

Throttles
    A throttle cuts the budget of the call that met it, never the total. If AWS's limit is on the account, each
    purpose meets it by itself and slows down by itself, and one that AWS does not throttle need not pay for another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

import anyio

from controller.core.pacing import Pace, SendWindow
from controller.ports import Clock

TOTAL: Final = "total"
"""Label of the budget over all purposes."""
EARLY_S: Final = 5e-4
"""A caller may go so much before its slot, which stays where it is: timers are no finer than a millisecond, and at a
high rate every send would else wait for a whole one. A hundredth of what ``core.pacing`` allows for the way to the
wire."""
SLEEP_S_MIN: Final = 1e-4
"""Shorter sleeps are below the resolution of event loops, which may return from them without any time having passed."""


class Purpose(StrEnum):
    """What a call is for; the ``budget`` label of ``rate_limit_per_second``."""

    SUBMIT = "submit"
    DESCRIBE = "describe"
    LIST = "list"
    """ListJobs, DescribeJobQueues and other reads."""
    TERMINATE = "terminate"


class _Line:
    """A pace and the callers waiting for it. The lock is fair: it is handed on in the order of arrival."""

    __slots__ = ("lock", "pace", "waiting")

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.lock = anyio.Lock()
        self.waiting = 0

    def wait_s(self, now: float) -> float:
        return self.pace.wait_s(now)

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1


class Budgets:
    """The budgets of one process. All start empty: each first call waits for one spacing."""

    def __init__(
        self, clock: Clock, ceilings: Mapping[Purpose, float], total_per_s: float, *, quiet_s: float = 0.0
    ) -> None:
        """``ceilings`` names every purpose; all rates in calls per second, > 0.

        Nothing is sent for ``quiet_s``. The total is not spaced: a predecessor that was killed a moment ago may have
        sent a second's worth at once, and only a second of silence keeps it from being doubled.
        """
        assert set(ceilings) == set(Purpose), sorted(ceilings)
        now = clock.monotonic()
        self._clock = clock
        self._lines = {purpose: _Line(Pace.start(ceilings[purpose], now=now)) for purpose in Purpose}
        self._total = SendWindow(total_per_s, now=now + quiet_s)
        self._total_lock = anyio.Lock()

    async def acquire(self, purpose: Purpose) -> None:
        """Return when one call of this purpose may be sent, which must then happen at once."""
        line = self._lines[purpose]
        with line.counted():
            async with line.lock:
                await self._until_free(line)
                while not await self._sent_in_total(line):
                    # A throttle came in the meantime. Waited out here, so that the others need not wait too.
                    await self._until_free(line)

    async def _sent_in_total(self, line: _Line) -> bool:
        """Spend a slot of both as soon as the total has one; False if the purpose has none any more."""
        async with self._total_lock:
            await self._until_free(self._total)
            now = self._clock.monotonic()
            early_s = line.pace.wait_s(now)
            if early_s > EARLY_S:
                return False
            line.pace = line.pace.sent(now + early_s)
            self._total.sent(now)
            return True

    async def _until_free(self, line: _Line | SendWindow) -> None:
        while (wait_s := line.wait_s(self._clock.monotonic())) > EARLY_S:
            await self._clock.sleep(max(wait_s, SLEEP_S_MIN))

    def throttled(self, purpose: Purpose) -> None:
        """A call of this purpose was answered with a throttle."""
        line = self._lines[purpose]
        line.pace = line.pace.throttled(self._clock.monotonic())

    def succeeded(self, purpose: Purpose) -> None:
        """A call of this purpose was answered, and not with a throttle."""
        line = self._lines[purpose]
        line.pace = line.pace.succeeded(self._clock.monotonic())

    def rates(self) -> Mapping[str, float]:
        """Calls per second in force per purpose, and ``total``."""
        rates = {purpose.value: line.pace.rate_per_s for purpose, line in self._lines.items()}
        return {**rates, TOTAL: self._total.rate_per_s}

    def waiting(self, purpose: Purpose) -> int:
        """Callers in ``acquire``."""
        return self._lines[purpose].waiting

    def expected_wait_s(self, purpose: Purpose) -> float:
        """How long a caller that came now would wait at the rates in force, if the other purposes stay idle."""
        now = self._clock.monotonic()
        line = self._lines[purpose]
        return max(part.wait_s(now) + line.waiting * part.spacing_s for part in (line.pace, self._total))
