"""Whether the store's disk has room for more: the least that is kept free, and what is said below it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024
KEPT_MIB_MAX: Final = 256
KEPT_SHARE: Final = 0.1
"""Unless ``store.free_mib_min`` says otherwise, this part of the disk is kept free, at most so much of it."""
AGAIN: Final = 1.25
"""So many times what is kept must be free before work begins again."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The disk under a store, in bytes."""

    free: int
    """What the store may still grow by: free on its disk beside its log, and what deleted rows have used."""
    size: int
    """Of the whole disk."""
    used: int
    """By rows of the store."""


def kept_free(size: int, free_mib_min: int | None) -> int:
    """Bytes of a disk of ``size`` bytes that nothing new may use; 0: all may be used."""
    if free_mib_min is not None:
        return free_mib_min * MIB
    return int(min(KEPT_MIB_MAX * MIB, size * KEPT_SHARE))


def is_short(space: DiskSpace, kept: int, *, was_short: bool) -> bool:
    """Whether nothing new may be begun. Stays so until there is a quarter more room than need be."""
    return space.free < kept * (AGAIN if was_short else 1)


def shortage(space: DiskSpace, kept: int) -> str:
    """What is wrong, and what to do about it."""
    left, needed = space.free // MIB, -(-kept // MIB)
    return (
        f"{left:,} MiB are left on the store's disk beside its log, {needed:,} are kept for what is in flight "
        "(store.free_mib_min): nothing new is received or submitted; enlarge the disk, or mend the sink or dead-letter "
        "queue that events wait for"
    )
