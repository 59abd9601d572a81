"""One receive from an SQS queue: how long it may wait for messages, and how long to wait before the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controller.core.errors import BadCredentials, NotAllowed, OutwardError, Throttled, Unavailable
from controller.core.limits import SQS_WAIT_S_MAX
from controller.health import Health
from controller.ports import Clock, Message, MessageSource

QUICK_S: Final = 1.0
"""A long poll that brings nothing takes as long as it was asked to; one that was faster than this did not wait."""
QUICK_PAUSE_S: Final = 0.5
UNREACHABLE_TRIES: Final = 3
"""Failed receives in a row from which on the queue counts as not reached."""


@dataclass(slots=True)
class Receiver:
    """Long polls of one queue. Stages that receive from it side by side may share one."""

    source: MessageSource
    clock: Clock
    health: Health
    visibility_timeout_s: int
    failures: int = 0
    """In a row."""

    async def receive(self, most: int) -> tuple[Sequence[Message], float]:
        """(at most ``most`` messages, seconds to wait before the next receive). Raises OutwardError.

        The first receive does not wait for a message, so that ``/readyz`` does not wait either; nor does one after
        the queue could not be reached. What does not keep a long poll waiting (a proxy, a stand-in for SQS) is not
        asked without pause.
        """
        wait_s = SQS_WAIT_S_MAX if self.health.has_reached(self.source.url) else 0
        began_at = self.clock.monotonic()
        try:
            messages = await self.source.receive(
                max_messages=most, wait_s=wait_s, visibility_timeout_s=self.visibility_timeout_s
            )
        except OutwardError as error:
            self._failed(error)
            raise
        self.failures = 0
        did_not_wait = not messages and wait_s > 0 and self.clock.monotonic() - began_at < QUICK_S
        return messages, QUICK_PAUSE_S if did_not_wait else 0.0

    def _failed(self, error: OutwardError) -> None:
        """Lack of access is the stage's to report; it has another remedy."""
        self.failures += 1
        is_passing = isinstance(error, (Throttled, Unavailable)) and self.failures < UNREACHABLE_TRIES
        if not is_passing and not isinstance(error, (BadCredentials, NotAllowed)):
            self.health.not_reached(self.source.url, str(error), is_throttled=isinstance(error, Throttled))
