"""Looks whether the store is in its place and has room for more, and says so to whoever begins something new.

A disk that is full stops everything, even the deletion of what has been delivered. So nothing new is received or
submitted while there is little room left; what is in flight is followed to its end and reported. A file that somebody
removes is written all the same until it is closed, and then gone: nothing more may be put into it. Nor into one that is
damaged: a copy from before will take its place.
"""

from __future__ import annotations

import sys
from typing import Final

from controller.core.limits import SQS_MESSAGE_BYTES_MAX
from controller.core.room import MIB, DiskSpace, is_short, kept_free, shortage
from controller.health import Health
from controller.ports import Clock, JobStore

LOOK_S: Final = 5.0
"""Between two looks, at most."""
LOOK_SHARE: Final = 0.25
"""Of the room that may still be used: as soon as messages have taken so much, it is looked again. Thirty megabytes a
second have been seen to come in."""
STORED_BYTES_MAX: Final = 2 * SQS_MESSAGE_BYTES_MAX
"""What a message may take: a body that is rejected is stored as a string in JSON."""


class StoreRoom:
    """The room that the store has, as of the last look."""

    def __init__(self, *, store: JobStore, clock: Clock, health: Health, free_mib_min: int | None) -> None:
        self._store = store
        self._clock = clock
        self._health = health
        self._free_mib_min = free_mib_min
        self._look_at = 0.0
        """Monotonic."""
        self._taken = 0
        """Bytes, since the last look."""
        self._usable: int | None = None
        """Bytes that were left beside what is kept, at the last look; None: there is no bound."""
        self.space: DiskSpace | None = None
        self.is_short = False

    def took(self, size: int) -> None:
        """Messages of so many bytes were stored."""
        self._taken += size

    def messages(self, queues: int) -> int:
        """How many each of so many SQS queues may have in hand, received and not stored: dozens of megabytes would be
        more than what is kept on a small disk. One at least, as long as the room is not short."""
        if self._usable is None:
            return sys.maxsize
        return max(1, (self._usable - self._taken) // (STORED_BYTES_MAX * queues))

    def _was_much_taken(self) -> bool:
        return self._usable is not None and self._taken >= max(MIB, LOOK_SHARE * self._usable)

    async def look(self) -> None:
        """Look, if the last time is a while ago or much was stored since. Raises StoreUnavailable."""
        now = self._clock.monotonic()
        if now < self._look_at and not self._was_much_taken():
            return
        self._taken = 0
        self.space = space = await self._store.space()
        self._look_at = now + LOOK_S
        kept = 0 if space is None else kept_free(space.size, self._free_mib_min)
        self._usable = space.free - kept if space is not None and kept else None
        self.is_short = space is not None and is_short(space, kept, was_short=self.is_short)
        self._health.store_short(shortage(space, kept) if space is not None and self.is_short else None)
        self._health.store_file(await self._store.file_problem())
