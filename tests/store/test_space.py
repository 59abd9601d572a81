"""What a store says of the disk that it lies on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from controller.adapters.store.sqlite_file import LOG_BYTES, DiskUsage, read_disk
from controller.core.errors import StoreLocked
from controller.ports import DeadLetter, DeleteOutbox, InsertRejection
from tests.store.engines import SqliteEngine, uid
from tests.store.test_sqlite_file import open_store

MIB = 1024 * 1024
SIZE = 1_000 * MIB
FILE = 10 * MIB
"""Larger than what a test writes."""


def rejection(number: int) -> InsertRejection:
    """With a dead letter of a megabyte."""
    return InsertRejection(
        message_id=uid(number),
        source="q",
        received_at=0.0,
        events=(),
        dead_letter=DeadLetter(
            body="x" * MIB, reason="bad", error_code="invalid_request", message_id=uid(number), request_id=None
        ),
    )


async def test_a_store_without_a_file_lies_on_no_disk(engine: SqliteEngine) -> None:
    """In memory, or where the disk does not tell."""
    store = await engine.open(disk=lambda path: None)
    assert await store.space() is None


async def test_room_that_deleted_rows_had_is_room_again(engine: SqliteEngine) -> None:
    """The file does not shrink, but what is free in it counts."""
    store = await engine.open(disk=lambda path: DiskUsage(size=SIZE, free=500 * MIB, file=FILE, log=LOG_BYTES))
    empty = await store.space()
    assert empty is not None
    assert (empty.size, empty.free) == (SIZE, 500 * MIB)
    await store.commit([rejection(number) for number in range(3)])
    filled = await store.space()
    assert filled is not None
    assert filled.used - empty.used == pytest.approx(3 * MIB, rel=0.05)
    rows = await store.outbox("dead_letter", limit=10)
    await store.commit([DeleteOutbox(keys=tuple(row.key for row in rows))])
    emptied = await store.space()
    assert emptied is not None
    assert emptied.used - empty.used < 0.1 * MIB
    assert emptied.free - empty.free == pytest.approx(3 * MIB, rel=0.05), "on the disk there is as much as before"


@pytest.mark.parametrize(
    ("free", "log", "left"),
    [
        (500 * MIB, 0, 500 * MIB - LOG_BYTES),
        (500 * MIB, LOG_BYTES, 500 * MIB),
        (10 * MIB, 0, 0),
        (10 * MIB, 60 * MIB, 6 * MIB),
    ],
)
async def test_the_log_has_its_room(engine: SqliteEngine, free: int, log: int, left: int) -> None:
    """Without it not even a deletion could be committed. What its file has already is not taken twice."""
    store = await engine.open(disk=lambda path: DiskUsage(size=SIZE, free=free, file=FILE, log=log))
    space = await store.space()
    assert space is not None
    assert space.free == left


async def test_a_file_that_is_removed_or_replaced_is_missed(engine: SqliteEngine) -> None:
    """It is written all the same, and the next start would not find it."""
    store = await engine.open()
    assert await store.file_problem() is None
    path, moved = Path(engine.path), Path(f"{engine.path}.moved")
    path.rename(moved)
    problem = await store.file_problem()
    assert problem is not None
    assert str(path) in problem
    path.touch()
    assert await store.file_problem() == problem, "another file in its place is not the one"
    moved.replace(path)
    assert await store.file_problem() is None


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_log_that_is_removed_or_replaced_is_begun_anew(engine: SqliteEngine, *, is_replaced: bool) -> None:
    """What was only in it, and what comes after it, is there for a process that starts after this one was killed."""
    store = await engine.open()
    log = Path(f"{engine.path}-wal")
    await store.commit([rejection(1)])
    log.unlink()
    await store.commit([rejection(2)])
    if is_replaced:
        log.write_bytes(b"of another life")
    problem = await store.file_problem()
    assert problem is not None
    assert str(log) in problem
    assert await store.file_problem() is None, "told once"
    with pytest.raises(StoreLocked):
        await open_store(f"sqlite:///{engine.path}")
    await store.commit([rejection(3)])
    left = engine.path.with_name("left.db")
    shutil.copy(engine.path, left)
    shutil.copy(log, f"{left}-wal")
    after = await open_store(f"sqlite:///{left}")
    assert await after.find_rejections([uid(1), uid(2), uid(3)]) == {uid(1), uid(2), uid(3)}
    await after.close()


async def test_a_store_in_memory_has_no_place(engine: SqliteEngine) -> None:
    """Nor can it be missed."""
    store = await open_store("sqlite:///:memory:")
    assert await store.file_problem() is None
    await store.close()


async def test_a_real_disk_is_asked(engine: SqliteEngine, tmp_path: Path) -> None:
    """Size as the operating system tells it, and the log's file beside the store's."""
    store = await engine.open()
    await store.commit([rejection(1)])
    usage = read_disk(str(engine.path))
    assert usage is not None
    assert usage.size == shutil.disk_usage(tmp_path).total
    assert usage.log > MIB
    space = await store.space()
    assert space is not None
    assert space.size == usage.size
    Path(f"{engine.path}-wal").unlink()
    usage = read_disk(str(engine.path))
    assert usage is not None, "a log that was taken away is no disk without an end"
    assert usage.log == 0
    assert read_disk(str(tmp_path / "not there" / "state.db")) is None


async def test_without_room_for_the_log_deleted_rows_leave_none(engine: SqliteEngine) -> None:
    """What can't be written to the log can't be written into their pages either."""
    disk = [DiskUsage(size=SIZE, free=500 * MIB, file=FILE, log=LOG_BYTES)]
    store = await engine.open(disk=lambda path: disk[0])
    await store.commit([rejection(number) for number in range(3)])
    rows = await store.outbox("dead_letter", limit=10)
    await store.commit([DeleteOutbox(keys=tuple(row.key for row in rows))])
    disk[0] = DiskUsage(size=SIZE, free=0, file=FILE, log=LOG_BYTES)
    space = await store.space()
    assert space is not None
    assert space.free > 2 * MIB
    disk[0] = DiskUsage(size=SIZE, free=0, file=FILE, log=LOG_BYTES - 1)
    space = await store.space()
    assert space is not None
    assert space.free == 0


async def test_what_is_in_the_log_alone_has_its_room_in_the_file(engine: SqliteEngine) -> None:
    """It is taken when the log is copied. Without it the log could not be written anew, and nothing be committed."""
    store = await engine.open()
    before = read_disk(str(engine.path))
    await store.commit([rejection(number) for number in range(3)])
    after = read_disk(str(engine.path))
    assert before is not None
    assert after is not None
    assert after.file == before.file
    await store.close()
    copied = engine.path.stat().st_size
    assert copied - after.file > 3 * MIB
    store = await engine.open(disk=lambda path: DiskUsage(size=SIZE, free=500 * MIB, file=after.file, log=LOG_BYTES))
    space = await store.space()
    assert space is not None
    assert space.free == 500 * MIB - (copied - after.file)


async def test_the_disk_is_the_one_that_a_link_leads_to(engine: SqliteEngine, tmp_path: Path) -> None:
    """The log lies beside the file itself."""
    disk = tmp_path / "disk"
    disk.mkdir()
    engine.path.symlink_to(disk / "state.db")
    await engine.open()
    usage = read_disk(str(engine.path))
    assert usage == read_disk(str(disk / "state.db"))
    assert usage is not None
