"""Retention: final rows leave the store after the dedupe window, never with an unpublished event."""

from __future__ import annotations

from typing import Final

import structlog

from controller.ports import Clock, JobStore

CHUNK: Final = 500
"""Rows of one commit: short enough not to make other stages wait."""


class Prune:
    """One turn deletes one chunk."""

    def __init__(self, *, store: JobStore, clock: Clock, final_s: float) -> None:
        self._store = store
        self._clock = clock
        self._final_s = final_s
        self._pruned = 0
        """Rows, since the log last told of it."""
        self._log = structlog.get_logger(stage="prune")

    async def turn(self) -> float | None:
        count = await self._store.prune(before=self._clock.now() - self._final_s, limit=CHUNK)
        self._pruned += count
        if count >= CHUNK:
            return 0.0
        if self._pruned:
            self._log.info("pruned", rows=self._pruned)
            self._pruned = 0
        return None
