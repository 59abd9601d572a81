"""Deletes from one SQS queue what is committed, and tries again what was not deleted at once.

A message that stays is delivered again and found to be a duplicate. That is one receive more, which counts: on a queue
with a redrive policy of few receives SQS gives up a message that was accepted, and whoever redrives it sends it anew,
under another MessageId; in a FIFO queue it holds up its message group. So what is left is tried again while nobody else
can have it, beside the stage that commits (``stages/ingest.py``) and not in its way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import anyio
import structlog

from controller.core.errors import BadCredentials, NotAllowed, OutwardError
from controller.core.limits import SQS_BATCH_MAX
from controller.health import DELETE, Health
from controller.loop import Backoff, Drain, Outage, Wake, guarded
from controller.ports import Clock, MessageSource

LEFT_MAX: Final = 1_000
"""Receipts that are kept for another try; of more, the oldest are left to come again."""
LEFT_S_MAX: Final = 60.0
"""For how long one is tried again at most, and no longer than for half the visibility timeout: the other half was the
commit's."""
REFUSED_PAUSE_S: Final = 15.0


class Deleter:
    """Deletes messages of one queue by their receipt handles."""

    def __init__(
        self,
        *,
        source: MessageSource,
        clock: Clock,
        drain: Drain,
        health: Health,
        chance: Callable[[], float],
        visibility_timeout_s: float,
    ) -> None:
        """``drain`` is requested when nothing is deleted any more."""
        self._source = source
        self._clock = clock
        self._drain = drain
        self._health = health
        self._left_s = min(LEFT_S_MAX, visibility_timeout_s / 2)
        self._left: dict[str, float] = {}
        """Receipt handles that are to be tried again, the oldest first, and until when (monotonic)."""
        self._problem = ""
        """Of the latest call that failed."""
        self._is_refused = False
        self._backoff = Backoff(chance)
        self._outage = Outage(clock)
        self._wake = Wake()
        drain.on_request(self._wake.set)
        self._log = structlog.get_logger(stage="ingest", queue_url=source.url)

    @property
    def is_refused(self) -> bool:
        """Deleting was not allowed the last time; ``run`` finds out when it is. What is received meanwhile would come
        again and again, until SQS gives it up as undeliverable."""
        return self._is_refused

    async def delete(self, handles: Sequence[str]) -> None:
        """One try for any number; ``run`` tries again what is left of them."""
        async with anyio.create_task_group() as tasks:
            for start in range(0, len(handles), SQS_BATCH_MAX):
                tasks.start_soon(self._delete, handles[start : start + SQS_BATCH_MAX])

    async def run(self) -> None:
        """Try again what is left, with growing pauses, until drained; then once more, as long as it works."""
        while not self._drain.is_requested:
            if not self._left:
                self._backoff.worked()
                await self._wake.wait(None)
            elif not await self._drain.sleep(REFUSED_PAUSE_S if self._is_refused else self._backoff.failed()):
                await self._delete_once_more()
        await self._delete_once_more()
        self._give_up(len(self._left))

    async def _delete_once_more(self) -> None:
        """A mistake of ours ends the try, and nothing else."""
        await guarded(self._delete_left, stage="ingest", on_error=self._failed)

    async def _failed(self, _: Exception) -> None:
        self._expire()

    async def _delete(self, handles: Sequence[str]) -> None:
        left, _ = await self._try(handles)
        self._keep(dict.fromkeys(left, self._clock.monotonic() + self._left_s))

    async def _delete_left(self) -> None:
        """Each once, the oldest first, up to the first call that fails."""
        handles = list(self._left)
        count = 0
        for start in range(0, len(handles), SQS_BATCH_MAX):
            tried = handles[start : start + SQS_BATCH_MAX]
            left, is_answered = await self._try(tried)
            for handle in set(tried).difference(left):
                self._left.pop(handle, None)
            count += len(tried) - len(left)
            if not is_answered:
                break
        if count:
            if failures := self._outage.worked():
                self._log.info("delete works again", failures=failures)
            self._backoff.worked()
        elif self._backoff.failures and not self._is_refused and (failures := self._outage.failed()):
            self._log.warning("delete failed", reason=self._problem, failures=failures)
        self._expire()

    def _expire(self) -> None:
        """What is refused is kept: nothing is received meanwhile, so that nobody else has it, and it is needed to ask
        with."""
        if not self._is_refused:
            now = self._clock.monotonic()
            late = [handle for handle, until in self._left.items() if until <= now]
            for handle in late:
                del self._left[handle]
            self._give_up(len(late))

    async def _try(self, handles: Sequence[str]) -> tuple[Sequence[str], bool]:
        """One call for at most ten: those that are left, and whether SQS answered."""
        try:
            with self._health.watched(DELETE, subject=self._source.url):
                left = await self._source.delete(handles)
        except OutwardError as error:
            self._is_refused |= isinstance(error, (BadCredentials, NotAllowed))
            self._problem = str(error)
            return handles, False
        self._is_refused = False
        if left:
            self._problem = "SQS did not delete all of a call"
        return left, True

    def _keep(self, left: dict[str, float]) -> None:
        if left:
            self._left |= left
            too_many = list(self._left)[: max(0, len(self._left) - LEFT_MAX)]
            for handle in too_many:
                del self._left[handle]
            self._give_up(len(too_many))
            self._wake.set()

    def _give_up(self, count: int) -> None:
        if count:
            self._log.warning("not deleted; they will come again", reason=self._problem, messages=count)
