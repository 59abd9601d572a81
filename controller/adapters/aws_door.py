"""The last look at the rates: where a call to AWS Batch leaves, with its connection at hand.

``controller.budgets`` spaces the beginnings of calls. What lies between a beginning and the wire takes longer for one
call than for another: a name look-up, a handshake with a server that closes every connection, a proxy. Calls that
waited for the same thing would leave together, more of them in a second than are allowed. Here they leave one after
the other. Where connections are there, nobody waits: the beginnings are further apart than this asks for.
"""

from __future__ import annotations

from typing import Final

import anyio

from controller.core.pacing import SendWindow
from controller.ports import Clock

GUARD: Final = 0.02
"""Beyond the second, for what is written earlier or later than it leaves; less than that of the budgets, so that what
they let through on time does not wait again."""
SLEEP_S_MIN: Final = 1e-3


class Door:
    """At most as many calls in any second as the budgets allow in all, of each kind and together."""

    def __init__(
        self, clock: Clock, *, submit_per_s: float, describe_per_s: float, terminate_per_s: float, list_per_s: float,
        total_per_s: float,
    ) -> None:  # fmt: skip
        """All rates in calls per second, > 0; ``list_per_s`` is that of all other calls."""
        now = clock.monotonic()

        def window(rate_per_s: float) -> SendWindow:
            return SendWindow(rate_per_s, now=now, guard=GUARD)

        self._clock = clock
        self._windows = {
            "submitjob": window(submit_per_s),
            "describejobs": window(describe_per_s),
            "terminatejob": window(terminate_per_s),
        }
        self._others = window(list_per_s)
        self._total = window(total_per_s)

    async def leave(self, path: str, *, within_s: float) -> None:
        """Return when a call to this path of AWS Batch's API, behind whatever path the end point has itself, may be
        written, which must then happen at once. Raises TimeoutError."""
        if (wait_s := self._wait_s(path)) <= 0:
            return
        with anyio.fail_after(within_s):
            while wait_s > 0:
                await self._clock.sleep(max(wait_s, SLEEP_S_MIN))
                wait_s = self._wait_s(path)

    def _wait_s(self, path: str) -> float:
        """Seconds until it may leave; 0: it does so now."""
        own, now = self._windows.get(path.rpartition("/")[2], self._others), self._clock.monotonic()
        wait_s = max(own.wait_s(now), self._total.wait_s(now))
        if wait_s <= 0:
            own.sent(now)
            self._total.sent(now)
        return wait_s
