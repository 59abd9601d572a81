"""A line of jobs by due time: a heap for the near future, buckets of slot numbers for the rest.

``polling.Schedule`` owns two. A heap of a million entries costs 40 bytes for each, and a fifth of a second whenever it
is made anew, which is felt. Here a job that is not due soon costs 4 bytes in a bucket; when the first bucket's time has
come, what is alive in it becomes the heap.

An *entry* is one integer: due tick, slot, line. The schedule's column ``entries`` holds the one entry of each slot that
is alive; any other that is found here (of a job that was rescheduled or removed) is dead and dropped. When more are
dead than alive, each further ``clear_out`` clears a few buckets.
"""

from __future__ import annotations

import heapq
from array import array
from typing import Final

SLOT_BITS: Final = 24
"""An entry is in the order of due times and fits into 64 bits for 16 million jobs and 87 years."""
SLOTS_MAX: Final = 1 << SLOT_BITS
NO_ENTRY: Final = -1
WIDTH_BITS: Final = 4
"""A bucket is 16 ticks wide: at a million jobs a minute 2,700 of them, made into a heap in about a millisecond."""
SLACK: Final = 1024
CLEARED: Final = 4
"""Buckets per ``clear_out``. When more is dead than alive, a bucket has half a dead entry at least on the average: so
the dead go faster than they come."""
_SLOT_MASK: Final = SLOTS_MAX - 1


def entry_of(tick: int, slot: int, line: int) -> int:
    return (tick << SLOT_BITS | slot) << 1 | line


def tick_of(entry: int) -> int:
    return entry >> SLOT_BITS + 1


class DueLine:
    """One of two lines (``number`` 0 or 1) over the same slots."""

    def __init__(self, number: int, entries: array[int]) -> None:
        self._number = number
        self._entries = entries
        self._near: list[int] = []
        self._far: dict[int, array[int]] = {}
        """Slots by bucket number."""
        self._numbers: list[int] = []
        """Heap of the bucket numbers in ``_far``."""
        self._horizon = 0
        """Buckets below are in the heap already."""
        self._clearing: list[int] = []
        """Buckets still to be cleared out."""
        self.size = 0
        """Entries, dead ones included."""

    def put(self, slot: int, tick: int) -> None:
        """The slot is due at ``tick``; what it was before is dead."""
        entry = entry_of(tick, slot, self._number)
        self._entries[slot] = entry
        self.size += 1
        number = tick >> WIDTH_BITS
        if number < self._horizon:
            heapq.heappush(self._near, entry)
            return
        bucket = self._far.get(number)
        if bucket is None:
            self._far[number] = array("i", (slot,))
            heapq.heappush(self._numbers, number)
        else:
            bucket.append(slot)

    def next_tick(self) -> int | None:
        """When the first job is due."""
        entries, near = self._entries, self._near
        while True:
            while near:
                entry = near[0]
                if entries[entry >> 1 & _SLOT_MASK] == entry:
                    return tick_of(entry)
                heapq.heappop(near)
                self.size -= 1
            if not self._advance():
                return None

    def take(self, until_tick: int, slots: list[int], size: int) -> None:
        """Move jobs that are due by ``until_tick`` into ``slots``, longest due first, until there are ``size``. They
        have no entry then."""
        entries, near, pop = self._entries, self._near, heapq.heappop
        while len(slots) < size:
            if not near:
                if not self._numbers or self._numbers[0] << WIDTH_BITS > until_tick or not self._advance():
                    return
                continue
            entry = near[0]
            slot = entry >> 1 & _SLOT_MASK
            is_alive = entries[slot] == entry
            if is_alive and entry >> SLOT_BITS + 1 > until_tick:
                return
            pop(near)
            self.size -= 1
            if is_alive:
                entries[slot] = NO_ENTRY
                slots.append(slot)

    def clear_out(self, alive: int) -> None:
        """Drop some of the dead entries if there are more of them than of the schedule's ``alive``, and a bit."""
        if not self._clearing:
            if self.size <= 2 * alive + SLACK:
                return
            self._clear_near()
            self._clearing = list(self._far)
        for number in self._clearing[-CLEARED:]:
            bucket = self._far.get(number)
            if bucket is not None:
                kept = self._alive_in(number, bucket)
                self.size -= len(bucket) - len(kept)
                self._far[number] = array("i", kept)
        del self._clearing[-CLEARED:]
        if not self._clearing:
            self._far = {number: bucket for number, bucket in self._far.items() if bucket}
            self._numbers = sorted(self._far)

    # --- buckets --------------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """Make the first bucket the heap; False if there is none."""
        if not self._numbers:
            return False
        number = heapq.heappop(self._numbers)
        bucket = self._far.pop(number)
        alive = self._alive_in(number, bucket)
        self._near.extend([self._entries[slot] for slot in alive])
        heapq.heapify(self._near)
        self.size -= len(bucket) - len(alive)
        self._horizon = number + 1
        return True

    def _alive_in(self, number: int, bucket: array[int]) -> set[int]:
        """Slots that are due in this bucket. A slot that left it and came back is in it twice."""
        entries, line = self._entries, self._number
        return {
            slot
            for slot in bucket
            if entries[slot] >> SLOT_BITS + 1 + WIDTH_BITS == number and entries[slot] & 1 == line
        }

    def _clear_near(self) -> None:
        entries = self._entries
        alive = {entry for entry in self._near if entries[entry >> 1 & _SLOT_MASK] == entry}
        self.size -= len(self._near) - len(alive)
        self._near[:] = alive
        heapq.heapify(self._near)
