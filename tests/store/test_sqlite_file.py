"""Opening the SQLite store: what is refused, with which words, and what is brought up to date."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from controller.adapters.runner import InlineRunner
from controller.adapters.store.names import forget_unused
from controller.adapters.store.sqlite import SqliteStore, open_sqlite_store
from controller.adapters.store.sqlite_file import (
    connect_sqlite,
    file_system_of,
    is_network,
    migrate,
    migrations,
    path_of,
    read_mounts,
)
from controller.core.errors import Misconfigured, StoreLocked, StoreUnavailable
from controller.core.job import JobState
from controller.ports import RememberCancel
from tests.store.engines import NOON, SOURCE, STORE_ID, finished, head, insert, queued, submitting, tracked, update

MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /var/lib rw,relatime master:7 - nfs4 fs-1.efs.eu-west-1.amazonaws.com:/ rw,vers=4.1
31 30 0:41 / /var/lib/local rw - xfs /dev/vdb rw
32 22 0:42 / /mnt/with\040space rw - fuse.sshfs host:/ rw
33 22 0:43 / /twice rw - nfs server:/ rw
34 33 0:44 / /twice rw - ext4 /dev/vdc rw
not a line of mountinfo
""".lstrip()


async def open_store(url: Path | str, **changes) -> SqliteStore:
    options = {
        "runner": InlineRunner(),
        "sinks_of": lambda name: ("log",),
        "dead_letters": True,
        "random_id": lambda: STORE_ID,
    }
    return await open_sqlite_store(url if isinstance(url, str) else f"sqlite:///{url}", **(options | changes))


@pytest.mark.parametrize(
    "url", ["postgresql://host/db", "sqlite:///", "sqlite://x.db", "x.db", "sqlite:///x.db?mode=ro"]
)
async def test_unknown_url_is_refused(url: str) -> None:
    """A URL that names no file is refused with the forms that are understood."""
    with pytest.raises(Misconfigured, match="sqlite:////absolute/path"):
        await open_store(url)


def test_paths_of_urls() -> None:
    """Three slashes and a relative path, four and an absolute one."""
    assert path_of("sqlite:///state.db") == "state.db"
    assert path_of("sqlite:////var/lib/state.db") == "/var/lib/state.db"
    assert path_of("sqlite:///:memory:") == ":memory:"


async def test_missing_directory_is_named(tmp_path: Path) -> None:
    """A directory that does not exist is not created: a volume that is not mounted must not go unnoticed."""
    with pytest.raises(Misconfigured, match=r"directory .*/absent does not exist"):
        await open_store(tmp_path / "absent" / "state.db")
    assert not (tmp_path / "absent").exists()


async def test_unwritable_place_is_named() -> None:
    """A place that takes no files is refused with its path."""
    with pytest.raises(Misconfigured, match=r"/proc/state\.db can't be written"):
        await open_store("sqlite:////proc/state.db")


async def test_a_file_that_may_only_be_read_is_told(tmp_path: Path) -> None:
    """SQLite calls a file that the user may not write a disk I/O error; the remedy names both."""
    failure = sqlite3.OperationalError("disk I/O error")
    failure.sqlite_errorcode = sqlite3.SQLITE_IOERR_LOCK

    def connect(path: str) -> sqlite3.Connection:
        raise failure

    with pytest.raises(
        StoreUnavailable, match=r"store\.url: .*state\.db could not be opened \(disk I/O error\).*may write"
    ):
        await open_store(tmp_path / "state.db", connect=connect)


async def test_directory_is_not_a_file(tmp_path: Path) -> None:
    """A path that is a directory is refused."""
    with pytest.raises(Misconfigured, match="is a directory"):
        await open_store(tmp_path)


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be looked at " * 50, b"SQLite format 3\0" * 99]
)
async def test_damaged_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    """A file that is no database is refused by name and not touched."""
    path = tmp_path / "state.db"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"state\.db is damaged or not a SQLite database"):
        await open_store(path)
    assert path.read_bytes() == content


async def test_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """A SQLite file with other tables is not taken over."""
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    connection.close()
    with pytest.raises(Misconfigured, match="another program"):
        await open_store(path)


async def test_newer_schema_is_refused(tmp_path: Path) -> None:
    """A store written by a newer release is refused, not misread."""
    path = tmp_path / "state.db"
    await (await open_store(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    connection.close()
    with pytest.raises(Misconfigured, match="newer release"):
        await open_store(path)


async def test_cancels_of_an_older_store_were_sent_before_they_came(tmp_path: Path) -> None:
    """A release that did not note when a cancel was sent has left it; one that is sent later replaces it."""
    path = tmp_path / "state.db"
    connection = connect_sqlite(str(path))
    migrate(connection, str(path), migrations()[:3])
    connection.execute("INSERT INTO store (one, store_id, next_key) VALUES (1, ?, 9)", (STORE_ID,))
    connection.execute("INSERT INTO sources (id, name) VALUES (1, ?)", (SOURCE,))
    connection.execute("INSERT INTO cancels VALUES ('r1', 1, 'old', ?)", (NOON,))
    connection.close()
    store = await open_store(path)
    left = RememberCancel(request_id="r1", source=SOURCE, reason="old", sent_at=NOON, received_at=NOON)
    assert await store.find_cancels(["r1"]) == [left]
    assert list(await store.commit([replace(left, sent_at=NOON + 1)])) == [True]
    await store.close()


def test_broken_migration_leaves_nothing() -> None:
    """A migration that fails half way is rolled back whole; the repaired one then applies, once."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    broken = [*migrations(), "CREATE TABLE more (a); INSERT INTO absent VALUES (1);"]
    repaired = [*migrations(), "CREATE TABLE more (a); INSERT INTO more VALUES (1);"]

    with pytest.raises(sqlite3.OperationalError, match="absent"):
        migrate(connection, "state.db", broken)
    assert connection.execute("PRAGMA user_version").fetchone() == (len(migrations()),)
    for _ in range(2):
        migrate(connection, "state.db", repaired)

    assert connection.execute("PRAGMA user_version").fetchone() == (len(repaired),)
    assert connection.execute("SELECT count(*) FROM more").fetchone() == (1,)
    connection.close()


@pytest.mark.parametrize(
    ("directory", "file_system"),
    [
        ("/srv", "ext4"),
        ("/var/lib", "nfs4"),
        ("/var/lib/state", "nfs4"),
        ("/var/library", "ext4"),
        ("/var/lib/local/state", "xfs"),
        ("/mnt/with space/x", "fuse.sshfs"),
        ("/twice/x", "ext4"),
    ],
)
def test_file_system_is_that_of_the_longest_mount_point(directory: str, file_system: str) -> None:
    """The mount that covers a directory is found, by whole path components, the latest of those at one point."""
    assert file_system_of(Path(directory), MOUNTS) == file_system


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.s3fs", "fuse.mountpoint-s3"])
async def test_network_file_system_is_refused(tmp_path: Path, kind: str) -> None:
    """A store on another machine's file system is refused before the file is made."""
    mounts = f"22 1 0:1 / / rw - ext4 /dev/vda rw\n23 22 0:2 / {tmp_path.resolve()} rw - {kind} server:/ rw\n"
    with pytest.raises(Misconfigured, match=rf"network file system \({kind}\)"):
        await open_store(tmp_path / "state.db", mounts=lambda: mounts)
    assert list(tmp_path.iterdir()) == []


async def test_link_to_a_network_file_system_is_refused(tmp_path: Path) -> None:
    """What counts is where the file really lies."""
    (tmp_path / "remote").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "remote")
    mounts = f"23 22 0:2 / {(tmp_path / 'remote').resolve()} rw - nfs4 server:/ rw\n"
    with pytest.raises(Misconfigured, match="network file system"):
        await open_store(tmp_path / "link" / "state.db", mounts=lambda: mounts)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "overlay", "tmpfs", "btrfs", "zfs", "virtiofs", "fuse.lxcfs", ""])
def test_local_file_systems_are_allowed(kind: str) -> None:
    """What a node or a block volume has is not refused."""
    assert not is_network(kind)


def test_mounts_of_this_machine_are_understood() -> None:
    """The kernel's own list names a file system for the root directory."""
    if read_mounts():
        assert file_system_of(Path("/"), read_mounts()) != ""


HOLD_OPEN = """
import asyncio, sys
from controller.adapters.runner import InlineRunner
from controller.adapters.store.sqlite import open_sqlite_store
async def main():
    await open_sqlite_store(
        "sqlite:///" + sys.argv[1], runner=InlineRunner(), sinks_of=lambda name: (), dead_letters=False,
        random_id=lambda: "0" * 32,
    )
    print("open", flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


async def test_second_process_is_locked_out_until_the_first_is_gone(tmp_path: Path) -> None:
    """One process holds the store; SIGKILL sets it free."""
    path = tmp_path / "state.db"
    command = [sys.executable, "-c", HOLD_OPEN, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked, match=str(path)):
            await open_store(path)
        holder.kill()
        holder.wait()
    store = await open_store(path)
    assert store.store_id == "0" * 32
    await store.close()


async def test_second_store_in_one_process_is_locked_out(tmp_path: Path) -> None:
    """The lock also holds within a process, and is free after close."""
    store = await open_store(tmp_path / "state.db")
    with pytest.raises(StoreLocked):
        await open_store(tmp_path / "state.db")
    await store.close()
    await (await open_store(tmp_path / "state.db")).close()


async def test_a_new_file_is_the_owners_alone(tmp_path: Path) -> None:
    """Waiting bodies may hold secrets: nobody else may read the file or its log, whatever the umask; the mode of a file
    that is there is its owner's choice."""
    before = os.umask(0)
    try:
        store = await open_store(tmp_path / "state.db")
        await insert(store, queued())
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        await store.close()
    finally:
        os.umask(before)
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600}
    (tmp_path / "state.db").chmod(0o640)
    await (await open_store(tmp_path / "state.db")).close()
    assert (tmp_path / "state.db").stat().st_mode & 0o777 == 0o640


async def test_close_leaves_one_file(tmp_path: Path) -> None:
    """A closed store is one file that can be copied; closing twice is closing once; use after it is refused."""
    store = await open_store(tmp_path / "state.db")
    await insert(store, queued())
    await store.close()
    await store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["state.db"]
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.usage()
    with pytest.raises(StoreUnavailable, match="closed"):
        await insert(store, queued(2))


async def test_memory_store_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in memory works as any other and leaves nothing behind."""
    monkeypatch.chdir(tmp_path)
    store = await open_store("sqlite:///:memory:")
    await insert(store, queued())
    assert await store.audit() == []
    await store.close()
    assert list(tmp_path.iterdir()) == []


async def test_commits_are_synced(tmp_path: Path) -> None:
    """The settings that durability rests on are in force."""
    made: list[sqlite3.Connection] = []

    def connect(path: str) -> sqlite3.Connection:
        made.append(sqlite3.connect(path, isolation_level=None, check_same_thread=False))
        return made[-1]

    store = await open_store(tmp_path / "state.db", connect=connect)
    settings = {name: made[0].execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "journal_mode")}
    assert settings == {"synchronous": 2, "journal_mode": "wal"}
    await store.close()


async def test_wrong_counts_are_corrected_and_reported(tmp_path: Path) -> None:
    """Counts that differ from the rows are put right when the store is opened, and each is reported."""
    path = tmp_path / "state.db"
    store = await open_store(path)
    jobs = await insert(store, *(queued(n) for n in range(3)))
    await update(store, submitting(jobs[0]), tracked(jobs[1]))
    expected = set(await store.usage())
    await store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE usage SET count = 7 WHERE state = 0")
        connection.execute("DELETE FROM usage WHERE state = 2")
    connection.close()

    reports: list[str] = []
    store = await open_store(path, report=reports.append)

    assert set(await store.usage()) == expected
    assert reports == [
        "usage of source 1, job queue 1, QUEUED was 7 and is 1",
        "usage of source 1, job queue 1, TRACKED SUBMITTED was 0 and is 1",
    ]
    await store.close()
    quiet: list[str] = []
    await (await open_store(path, report=quiet.append)).close()
    assert quiet == []


async def test_unused_definitions_are_forgotten(tmp_path: Path) -> None:
    """Definitions without a row are dropped once there are more than are kept; those in use keep working."""
    path = tmp_path / "state.db"
    store = await open_store(path)
    await insert(store, *(queued(n, job_definition=f"d:{n}") for n in range(2)))
    await insert(store, finished(queued(2, job_definition="d:2"), JobState.CANCELLED, finished_at=NOON))
    await store.prune(before=NOON + 1, limit=1)
    await store.close()

    def names() -> list[str]:
        return [name for (name,) in connection.execute("SELECT name FROM job_definitions ORDER BY name")]

    with sqlite3.connect(path) as connection:
        forget_unused(connection, {"job_definitions": 3})
        assert names() == ["d:0", "d:1", "d:2"]
        forget_unused(connection, {"job_definitions": 2})
        assert names() == ["d:0", "d:1"]
    connection.close()

    store = await open_store(path)
    assert [job.job_definition for job in await head(store)] == ["d:0", "d:1"]
    await store.close()
