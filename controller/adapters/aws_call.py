"""One outward call to AWS: its deadline, its error kind and its report to the observer.

Every AWS adapter calls through here, so that no call is without a deadline and none goes unreported. Nothing is ever
repeated here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from controller.adapters.aws_errors import CALL_FAULTS, classify, outcome_of
from controller.core.errors import OutwardError
from controller.ports import Clock

T = TypeVar("T")

Observe = Callable[[str, str, float], None]
"""Told (operation, outcome of ``aws_errors.OUTCOMES``, seconds) of every call that ended. A call that was cancelled
from outside has no outcome and is not reported."""

READ_DEADLINE_S: Final = 15.0
"""For calls that may be repeated. Slow answers of DescribeJobs take a few seconds; the SDK itself has no bound on
waiting for a free connection, on name look-up or on the sum of its reads."""


class Calls:
    """The calls of one service that may be repeated without harm."""

    def __init__(self, service: str, *, clock: Clock, observe: Observe) -> None:
        self.service = service
        self._clock = clock
        self._observe = observe

    async def send(
        self,
        operation: str,
        call: Callable[[], Awaitable[T]],
        *,
        deadline_s: float = READ_DEADLINE_S,
        is_quoted: bool = True,
    ) -> T:
        """What ``call`` returns: one request and the reading of its answer, which may raise an OutwardError of its own.
        Raises every kind of OutwardError but InDoubt."""
        name = f"{self.service}:{operation}"
        began_at = self._clock.monotonic()
        try:
            with anyio.fail_after(deadline_s):
                answer = await call()
        except CALL_FAULTS as error:
            self.failed(operation, began_at, kind := classify(error, call=name, is_quoted=is_quoted))
            raise kind from kind.__cause__
        self.succeeded(operation, began_at)
        return answer

    def now(self) -> float:
        return self._clock.monotonic()

    def succeeded(self, operation: str, began_at: float) -> None:
        self._observe(operation, "ok", self._clock.monotonic() - began_at)

    def failed(self, operation: str, began_at: float, error: OutwardError) -> None:
        self._observe(operation, outcome_of(error), self._clock.monotonic() - began_at)
