"""Batch job ids by slot, and slots by id: 16 bytes of a column and about 9 of an index for each.

``polling.Schedule`` owns one. A dict of strings needs 170 bytes a job, more than all the rest of its row. Batch's ids
are UUIDs; any other text (that of an array's child, a fake's) is kept as it is, beside them.

The index is 256 tables of slot numbers with open addressing, each grown by itself, so that no growth at a million jobs
holds up the event loop for long (4,000 slots take about 2 ms). What is found in a table is compared with the column.
"""

from __future__ import annotations

import re
from array import array
from typing import Final

NO_SLOT: Final = -1
_FREE: Final = -1
_GONE: Final = -2
"""Was taken: a search goes on behind it."""
_SHARDS: Final = 256
_LENGTH_MIN: Final = 8
_GROWTH: Final = 256
"""Slots that the column grows by."""
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class JobIds:
    """A column of ids. A slot has one id at most, and an id one slot."""

    def __init__(self) -> None:
        self._count = 0
        self._packed = bytearray()
        self._tables = [_new_table(_LENGTH_MIN) for _ in range(_SHARDS)]
        self._taken = [0] * _SHARDS
        """Places of a table that are not free, gone ones included."""
        self._texts: dict[int, str] = {}
        """Ids that are no UUIDs, by slot."""
        self._slots: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    def slot_of(self, job_id: str) -> int:
        """NO_SLOT if the id is not there."""
        packed = _packed(job_id)
        if packed is None:
            return self._slots.get(job_id, NO_SLOT)
        shard, at = self._place(packed)
        return NO_SLOT if at < 0 else self._tables[shard][at]

    def put(self, slot: int, job_id: str) -> bool:
        """Give a slot its id; False, and nothing is done, if another has it."""
        packed = _packed(job_id)
        if packed is None:
            if job_id in self._slots:
                return False
            self._texts[slot], self._slots[job_id] = job_id, slot
            self._write(slot, bytes(16))
            return True
        shard, at = self._place(packed)
        if at >= 0:
            return False
        self._write(slot, packed)
        self._tables[shard][~at] = slot
        self._taken[shard] += 1
        if 3 * self._taken[shard] > 2 * len(self._tables[shard]):
            self._rebuild(shard)
        return True

    def _write(self, slot: int, packed: bytes) -> None:
        start = 16 * slot
        if start >= len(self._packed):
            self._packed.extend(bytes(start + 16 * _GROWTH - len(self._packed)))
        self._packed[start : start + 16] = packed
        self._count += 1

    def remove(self, slot: int) -> None:
        """Forget the id of a slot that has one."""
        self._count -= 1
        text = self._texts.pop(slot, None) if self._texts else None
        if text is not None:
            del self._slots[text]
            return
        shard, at = self._place(bytes(self._packed[16 * slot : 16 * slot + 16]))
        assert at >= 0, "an id that is removed is there"
        self._tables[shard][at] = _GONE

    def text(self, slot: int) -> str:
        """The id of a slot that has one."""
        if self._texts and slot in self._texts:
            return self._texts[slot]
        digits = self._packed[16 * slot : 16 * slot + 16].hex()
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    # --- tables ---------------------------------------------------------------------------------------

    def _place(self, packed: bytes) -> tuple[int, int]:
        """Shard and place of an id; if it is not there, the complement of the place where it would be put."""
        digest = hash(packed)
        shard = digest % _SHARDS
        table, column = self._tables[shard], self._packed
        mask = len(table) - 1
        at = digest // _SHARDS & mask
        while (slot := table[at]) != _FREE:
            if slot != _GONE and column[16 * slot : 16 * slot + 16] == packed:
                return shard, at
            at = at + 1 & mask
        return shard, ~at

    def _rebuild(self, shard: int) -> None:
        alive = [slot for slot in self._tables[shard] if slot >= 0]
        length = _LENGTH_MIN
        while length < 2 * len(alive):
            length *= 2
        table, column, mask = _new_table(length), self._packed, length - 1
        for slot in alive:
            at = hash(bytes(column[16 * slot : 16 * slot + 16])) // _SHARDS & mask
            while table[at] != _FREE:
                at = at + 1 & mask
            table[at] = slot
        self._tables[shard], self._taken[shard] = table, len(alive)


def _new_table(length: int) -> array[int]:
    return array("i", (_FREE,)) * length


def _packed(job_id: str) -> bytes | None:
    return bytes.fromhex(job_id.replace("-", "")) if len(job_id) == 36 and _UUID.fullmatch(job_id) else None
