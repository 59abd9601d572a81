"""Waiting for a turn to call AWS Batch: one budget per kind of call, and one over all of them.

Every call to Batch is preceded by ``acquire`` and followed by ``throttled`` or ``succeeded`` (or neither, when there
was no answer). The rates themselves are ``core.pacing``'s; this file only waits.

Turns
    Callers of one purpose stand in line, first come, first served. The first of each line waits for its own budget,
    then for credentials, then for the total. At most one caller of each purpose waits for the total, and
    ``core.sharing`` says whose turn it is there: each purpose has a minimum (``SHARES``), what it does not ask for goes
    to the others, and a terminate that comes once in a while waits for no more than one other call. Nothing is booked
    ahead: a slot is spent in the step in which ``acquire`` returns, so a caller that is cancelled while it waits leaves
    the line and takes nothing with it.

Credentials
    The SDK fetches new credentials inside a call, and every call that begins meanwhile waits for them there: calls that
    were paced would leave together. So ``acquire`` has them fetched before a slot is spent, and no time passes between
    the two.

Throttles
    A throttle cuts the budget of the call that met it, never the total. AWS does not say whether its limit is on each
    operation or on the account. So a purpose that AWS does not throttle does not pay for another; purposes that it
    does throttle are cut together, since their limit may be one, which each would else have to find for itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

import anyio

from controller.core.errors import Throttled
from controller.core.pacing import Pace, SendWindow, throttled_together
from controller.core.sharing import FairTurns
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


SHARES: Final[Mapping[Purpose, float]] = {
    Purpose.TERMINATE: 0.2,
    Purpose.SUBMIT: 0.45,
    Purpose.DESCRIBE: 0.2,
    Purpose.LIST: 0.15,
}
"""Of the total, what each purpose gets at least while it has calls to send. Between equals the first one goes first."""
assert set(SHARES) == set(Purpose)

WAITING_FOR_BUDGET: Final = {purpose: f"budget_{purpose.value}" for purpose in Purpose}
WAITING_FOR_TOTAL: Final = "budget_total"
WAITING_FOR_CREDENTIALS: Final = "credentials"


async def _nothing_to_fetch() -> None:
    pass


class _Line:
    """A pace and the callers waiting for it. The lock is fair: it is handed on in the order of arrival."""

    __slots__ = ("lock", "pace", "waiting")

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.lock = anyio.Lock(fast_acquire=True)
        self.waiting = 0

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
        self,
        clock: Clock,
        ceilings: Mapping[Purpose, float],
        total_per_s: float,
        *,
        quiet_s: float = 0.0,
        fetch_credentials: Callable[[], Awaitable[None]] = _nothing_to_fetch,
        waited: Callable[[str, float], None] = lambda cause, seconds: None,
    ) -> None:
        """``ceilings`` names every purpose; all rates in calls per second, > 0.

        ``fetch_credentials`` returns once a call can be signed without waiting; ``waited`` is told for how many seconds
        the first of a line waited for what.

        Nothing is sent for ``quiet_s``. The total is not spaced: a predecessor that was killed a moment ago may have
        sent a second's worth at once, and only a second of silence keeps it from being doubled.
        """
        assert set(ceilings) == set(Purpose), sorted(ceilings)
        now = clock.monotonic()
        self._clock = clock
        self._lines = {purpose: _Line(Pace.start(ceilings[purpose], now=now)) for purpose in Purpose}
        self._total = SendWindow(total_per_s, now=now + quiet_s)
        self._turns = FairTurns(SHARES)
        self._turn_changed = {purpose: anyio.Event() for purpose in Purpose}
        self._fetch_credentials = fetch_credentials
        self._waited = waited

    async def acquire(self, purpose: Purpose) -> None:
        """Return when one call of this purpose may be sent, which must then happen at once.

        Raises BadCredentials or Unavailable if there are no credentials to send it with; no slot was spent then.
        """
        line = self._lines[purpose]
        with line.counted():
            async with line.lock:
                with self._timed(WAITING_FOR_BUDGET[purpose]):
                    await self._until_free(line)
                with self._timed(WAITING_FOR_CREDENTIALS):
                    await self._fetch_credentials()
                while not await self._sent_in_total(purpose, line):
                    # A throttle came in the meantime. Waited out here, so that the others need not wait too.
                    with self._timed(WAITING_FOR_BUDGET[purpose]):
                        await self._until_free(line)

    async def _sent_in_total(self, purpose: Purpose, line: _Line) -> bool:
        """Spend a slot of both as soon as the total has one for it; False if the purpose has none any more."""
        with self._timed(WAITING_FOR_TOTAL), self._in_turn(purpose):
            while True:
                if self._turns.next() is not purpose:
                    self._turn_changed[purpose] = changed = anyio.Event()
                    await changed.wait()
                    continue
                now = self._clock.monotonic()
                wait_s = self._total.wait_s(now)
                if wait_s > EARLY_S:
                    # Whoever comes meanwhile may be next; so the question is asked again.
                    await self._clock.sleep(max(wait_s, SLEEP_S_MIN))
                    continue
                early_s = line.pace.wait_s(now)
                if early_s > EARLY_S:
                    return False
                # Once more, since some may have come due while this waited; as a rule it takes no time at all.
                await self._fetch_credentials()
                if self._clock.monotonic() - now > EARLY_S:
                    continue
                line.pace = line.pace.sent(now + early_s)
                self._total.sent(now)
                self._turns.served(purpose)
                return True

    @contextmanager
    def _in_turn(self, purpose: Purpose) -> Iterator[None]:
        """Wait for the total, however it ends; then it is another's turn."""
        self._turns.join(purpose)
        try:
            yield
        finally:
            self._turns.leave(purpose)
            if (following := self._turns.next()) is not None:
                self._turn_changed[following].set()

    @contextmanager
    def _timed(self, cause: str) -> Iterator[None]:
        since = self._clock.monotonic()
        try:
            yield
        finally:
            if (waited_s := self._clock.monotonic() - since) > 0:
                self._waited(cause, waited_s)

    async def _until_free(self, line: _Line) -> None:
        while (wait_s := line.pace.wait_s(self._clock.monotonic())) > EARLY_S:
            await self._clock.sleep(max(wait_s, SLEEP_S_MIN))

    @contextmanager
    def heeding(self, purpose: Purpose) -> Iterator[None]:
        """Around one call: its rate follows from whether it was throttled or answered. Other errors say nothing."""
        try:
            yield
        except Throttled:
            self.throttled(purpose)
            raise
        self.succeeded(purpose)

    def throttled(self, purpose: Purpose) -> None:
        """A call of this purpose was answered with a throttle."""
        paces = {each: line.pace for each, line in self._lines.items()}
        for each, pace in throttled_together(paces, purpose, self._clock.monotonic()).items():
            self._lines[each].pace = pace

    def succeeded(self, purpose: Purpose) -> None:
        """A call of this purpose was answered, and not with a throttle."""
        line = self._lines[purpose]
        line.pace = line.pace.succeeded(self._clock.monotonic())

    def rate_per_s(self, purpose: Purpose) -> float:
        """Calls per second in force for this purpose."""
        return self._lines[purpose].pace.rate_per_s

    def least_rate_per_s(self, purpose: Purpose) -> float:
        """Calls per second that this purpose gets at least while it has calls to send, whatever others send."""
        return min(self.rate_per_s(purpose), SHARES[purpose] * self._total.rate_per_s)

    def rates(self) -> Mapping[str, float]:
        """Calls per second in force per purpose, and ``total``."""
        rates = {purpose.value: line.pace.rate_per_s for purpose, line in self._lines.items()}
        return {**rates, TOTAL: self._total.rate_per_s}

    def ceilings(self) -> Mapping[str, float]:
        """The same without throttling: what the configuration allows."""
        ceilings = {purpose.value: line.pace.top_per_s for purpose, line in self._lines.items()}
        return {**ceilings, TOTAL: self._total.rate_per_s}

    def waiting(self, purpose: Purpose) -> int:
        """Callers in ``acquire``."""
        return self._lines[purpose].waiting

    def expected_wait_s(self, purpose: Purpose) -> float:
        """How long a caller that came now would wait at the rates in force, if the other purposes stay idle."""
        now = self._clock.monotonic()
        line = self._lines[purpose]
        return max(part.wait_s(now) + line.waiting * part.spacing_s for part in (line.pace, self._total))
