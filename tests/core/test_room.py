"""How much of a disk is kept free, and when nothing new may be begun."""

import pytest

from controller.core.room import MIB, DiskSpace, is_short, kept_free, shortage

GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("size", "free_mib_min", "kept"),
    [
        (1 * GIB, None, GIB // 10),
        (100 * GIB, None, 256 * MIB),
        (100 * GIB, 0, 0),
        (100 * GIB, 5_000, 5_000 * MIB),
        (1 * GIB, 512, 512 * MIB),
    ],
)
def test_a_part_of_the_disk_is_kept_free(size: int, free_mib_min: int | None, kept: int) -> None:
    """A tenth of a small disk, 256 MiB of a large one, or what is configured."""
    assert kept_free(size, free_mib_min) == kept


def space(free_mib: float) -> DiskSpace:
    return DiskSpace(free=int(free_mib * MIB), size=GIB, used=MIB)


def test_what_was_stopped_goes_on_with_a_quarter_more_than_is_kept() -> None:
    """So that it does not start and stop with every message."""
    kept = 100 * MIB
    assert not is_short(space(100), kept, was_short=False)
    assert is_short(space(99.9), kept, was_short=False)
    assert is_short(space(124.9), kept, was_short=True)
    assert not is_short(space(125), kept, was_short=True)
    assert not is_short(space(0), 0, was_short=False), "nothing is kept"


def test_a_shortage_says_what_is_left_and_what_to_do() -> None:
    """With the name of the setting."""
    text = shortage(space(12.7), 100 * MIB)
    assert text.startswith("12 MiB are left on the store's disk beside its log, 100 are kept")
    assert "store.free_mib_min" in text
    assert "enlarge the disk" in text
