"""Hints: EventBridge's events from SQS into the schedule of who is asked when.

One long poll after the other, a few side by side. What an event says is never stored: ``core.hints`` judges it, the
schedule is told, and the message deleted. A hint that is lost (a crash, a failed delete the other way round) costs time
and nothing else, since polling goes on without it. The stage meets the track stage in the ``HintBook``.

While draining, what a long poll still brings is left in SQS: the next start describes every job anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from controller.core.hints import EventOutcome, HintBook, JobEvent
from controller.core.limits import SQS_BATCH_MAX
from controller.health import Health
from controller.loop import Drain, Wake
from controller.ports import Clock, Message, MessageSource
from controller.receiver import Receiver

RECEIVERS: Final = 4
"""Long polls side by side. Each brings at most ten events in two round trips: together some hundreds a second."""
GATHER_S: Final = 0.2
"""After a poll that brought one event a receiver waits for so long, and less the more it brought: events come one at a
time, and would cost a receive and a delete each. While fewer come than receivers, one of them is there to take it."""
VISIBILITY_TIMEOUT_S: Final = 30
"""A message is taken and deleted within seconds, or comes again."""

Decode = Callable[[str], JobEvent | EventOutcome]


class Hints:
    """Consumes the queue of events."""

    def __init__(
        self,
        *,
        source: MessageSource,
        decode: Decode,
        book: HintBook,
        count: Callable[[EventOutcome], None],
        clock: Clock,
        drain: Drain,
        health: Health,
        wake_track: Wake,
    ) -> None:
        self._source = source
        self._receiver = Receiver(source, clock, health, VISIBILITY_TIMEOUT_S)
        self._decode = decode
        self._book = book
        self._count = count
        self._clock = clock
        self._drain = drain
        self._health = health
        self._wake_track = wake_track
        self._log = structlog.get_logger(stage="hints", queue_url=source.url)

    async def turn(self) -> float | None:
        """One long poll and what it brings; several may run at a time."""
        with self._health.watched("sqs:ReceiveMessage", subject=self._source.url):
            messages, pause_s = await self._receiver.receive(SQS_BATCH_MAX)
        if messages and not self._drain.is_requested:
            self._take(messages)
            await self._delete(messages)
            return GATHER_S * (1 - len(messages) / SQS_BATCH_MAX)
        return pause_s

    def _take(self, messages: Sequence[Message]) -> None:
        now = self._clock.monotonic()
        for message in messages:
            event = self._decode(message.body)
            if isinstance(event, JobEvent):
                self._book.take(event, now)
            else:
                self._count(event)
        self._wake_track.set()

    async def _delete(self, messages: Sequence[Message]) -> None:
        """A message that stays comes again, and is stale by then."""
        with self._health.watched("sqs:DeleteMessageBatch", subject=self._source.url):
            left = await self._source.delete([message.receipt_handle for message in messages])
        if left:
            self._log.warning("not deleted; they will come again", messages=len(left))
