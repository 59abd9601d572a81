"""Publishing: one loop per sink takes the oldest rows of its outbox, delivers them, then deletes them.

Delivered at least once: a crash between the two delivers again, with the same event id.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import anyio
import structlog

from controller.core.errors import OutwardError, Unavailable
from controller.health import Health
from controller.metrics import Metrics
from controller.ports import Clock, DeleteOutbox, EventSink, JobStore

CHUNK: Final = 200
SIZE: Final = 4 * 1024 * 1024
"""Bytes of one chunk, and one row more: dead letters may have a megabyte each, and are in memory several times over
while they are being sent."""
SEND: Final = "sqs:SendMessageBatch"
"""The one call of today's sinks that can be refused."""


class Publish:
    """One turn publishes one chunk to one sink."""

    def __init__(self, *, store: JobStore, sink: EventSink, clock: Clock, metrics: Metrics, health: Health) -> None:
        self._store = store
        self._clock = clock
        self._waited = partial(metrics.waited, "sink")
        self._stood_since: float | None = None
        """Monotonic: since when events wait for a sink that does not take them."""
        self._sink = sink
        self._health = health
        self._turning = anyio.Lock(fast_acquire=True)
        """The last turns of a drain begin while the loop's own may still be under way."""
        self.sink_name = sink.name
        self._published = metrics.events_published_total.labels(sink=sink.name, outcome="published")
        self._failed = metrics.events_published_total.labels(sink=sink.name, outcome="failed")
        self._log = structlog.get_logger(stage=f"publish:{sink.name}")

    async def turn(self) -> float | None:
        """0 while there is more; None when the outbox is empty. Raises OutwardError if nothing could be delivered."""
        async with self._turning:
            return await self._turn()

    async def _turn(self) -> float | None:
        rows = await self._store.outbox(self._sink.name, limit=CHUNK, size_max=SIZE)
        if not rows:
            self._stood_since = None
            return None
        self._stood_since = self._stood_since or self._clock.monotonic()
        try:
            with self._health.watched(SEND, subject=self.sink_name):
                delivered = await self._sink.publish(rows)
        except OutwardError:
            self._stood()
            self._failed.inc(len(rows))
            raise
        self._stood()
        if delivered:
            self._stood_since = None if len(delivered) == len(rows) else self._stood_since
            await self._store.commit([DeleteOutbox(keys=tuple(delivered))])
            self._published.inc(len(delivered))
        if len(delivered) < len(rows):
            self._failed.inc(len(rows) - len(delivered))
            if not delivered:
                raise Unavailable(f"none of {len(rows)} events was delivered to the sink")
            return 0.0  # what is behind those that stay must not wait for them; alone, they fail the next turn
        return 0.0 if len(rows) == CHUNK or sum(len(row.body) for row in rows) >= SIZE else None

    def _stood(self) -> None:
        """Tell of the time that events have waited for the sink up to now."""
        now = self._clock.monotonic()
        if self._stood_since is not None and now > self._stood_since:
            self._waited(now - self._stood_since)
        self._stood_since = now
