"""The SQLite file: where it may lie, how it is opened, which version its tables have.

Opening takes the file for one process: SQLite's exclusive locking mode holds an operating system lock on it until it
is closed or the process ends, however it ends. The write-ahead log then needs no shared memory file.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.core.errors import Misconfigured, StoreLocked, StoreUnavailable, StoreUnwritable

MEMORY: Final = ":memory:"
APPLICATION_ID: Final = 0x42434A31
"""Marks the file as ours (``PRAGMA application_id``)."""

WAL_PAGES: Final = 10_000
"""Pages (of 4 KiB) of log after which a commit also copies it into the file. More make status changes in random
order cheaper (measured: 23 µs per row at 4,000, 13 µs at 40,000), fewer keep the longest commit and the log small."""
WAL_BYTES_KEPT: Final = 64 * 1024 * 1024
LOG_BYTES: Final = WAL_BYTES_KEPT
"""Room that the log is given: ``WAL_PAGES``, and the largest commit on top."""
CACHE_KIB: Final = 32 * 1024

NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs3", "nfs4", "efs", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre"}
)
"""File systems of other machines, as /proc/self/mountinfo calls them; Amazon EFS shows as nfs4."""
NETWORK_FUSE: Final = ("sshfs", "s3fs", "mountpoint-s3", "goofys", "gcsfuse", "rclone", "glusterfs", "ceph", "juicefs")

_SCHEMA: Final = Path(__file__).parent / "schema"
_URL: Final = "sqlite:///"

Connect = Callable[[str], sqlite3.Connection]

_PLACE_CODES: Final = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
_CONTENT_CODES: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
_LOCK_CODES: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def connect_sqlite(path: str) -> sqlite3.Connection:
    """A connection in autocommit mode that may move between threads, as the runner serialises it."""
    if path != MEMORY:
        _create_for_owner_only(path)
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0, cached_statements=256)


def read_mounts() -> str:
    """The mounts of this process in Linux's format; empty where there is no such file."""
    try:
        return Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """The disk under a store's file, in bytes."""

    size: int
    free: int
    """What this user may still take of it."""
    file: int
    """Of the store's file, which grows when the log is copied into it."""
    log: int
    """Of the write-ahead log's file, which is written anew from its beginning."""


def read_disk(path: str) -> DiskUsage | None:
    """Of the disk under a file; None if there is none, or it has no end."""
    if path == MEMORY:
        return None
    try:
        usage = shutil.disk_usage(Path(path).resolve().parent)
        size, log = os.stat(path).st_size, Path(log_of(path))
        log_size = log.stat().st_size if log.exists() else 0  # taken away, it is begun anew, and needs all its room
    except OSError:
        return None
    return DiskUsage(size=usage.total, free=usage.free, file=size, log=log_size) if usage.total > 0 else None


FileIdentity = tuple[int, int]
"""Device and number."""
NO_FILE: Final[FileIdentity] = (0, 0)


def identity_of(path: str) -> FileIdentity | None:
    """Of the file that has this path now, NO_FILE if there is none; None: it can't be told."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return NO_FILE
    except OSError:
        return None
    return found.st_dev, found.st_ino


def log_of(path: str) -> str:
    """The path of a file's write-ahead log. SQLite follows a link to the file, and writes the log beside it."""
    return f"{Path(path).resolve()}-wal"


def path_of(url: str) -> str:
    """The path of ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``sqlite:///:memory:``."""
    path = url.removeprefix(_URL)
    if path == url or not path or "?" in path:
        raise Misconfigured(
            f"store.url: {url!r} is not understood; write sqlite:///relative.db or sqlite:////absolute/path.db"
        )
    return path


def open_file(path: str, *, connect: Connect, mounts: Callable[[], str]) -> sqlite3.Connection:
    """The database, locked for this process and brought up to date; created if there is none.

    Raises StoreLocked, Misconfigured, or StoreUnavailable if the disk fails.
    """
    if path != MEMORY:
        _check_place(Path(path), mounts())
    with opening_errors(path):
        connection = connect(path)
    try:
        with opening_errors(path):
            _lock(connection)
            migrate(connection, path, migrations())
    except BaseException:
        connection.close()
        raise
    return connection


def is_damage(error: BaseException) -> bool:
    """Whether the engine says that the file's content makes no sense."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _CONTENT_CODES


@contextmanager
def opening_errors(path: str) -> Iterator[None]:
    """Turn the engine's errors while opening into ours, naming the path."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _LOCK_CODES:
            raise StoreLocked(f"another process holds the store {path}; only one may use it at a time") from error
        if code in _PLACE_CODES:
            raise StoreUnwritable(
                f"store.url: {path} can't be written ({error}); make the directory and the file writable for this user"
            ) from error
        if is_damage(error):
            raise Misconfigured(
                f"store.url: {path} is damaged or not a SQLite database ({error}); restore a copy or name another file"
            ) from error
        # Among others what SQLite says of a file that this user may read and not write.
        raise StoreUnavailable(
            f"store.url: {path} could not be opened ({error}); check that this user may write the file, and the disk"
        ) from error


# --- the place


def _check_place(path: Path, mounts: str) -> None:
    directory = path.absolute().parent
    if not directory.is_dir():
        raise StoreUnwritable(f"store.url: the directory {directory} does not exist; create it or mount a volume there")
    if path.is_dir():
        raise Misconfigured(f"store.url: {path} is a directory; name a file in it")
    file_system = file_system_of(path.resolve().parent, mounts)
    if is_network(file_system):
        raise Misconfigured(
            f"store.url: {path} lies on a network file system ({file_system}), whose locks and syncs SQLite can't rely "
            "on; use a local disk or a block volume"
        )


def _create_for_owner_only(path: str) -> None:
    """Bodies of waiting requests may hold secrets. SQLite gives its log the database's permissions; those of a file
    that is there already stay as they are. What stands in the way is told when SQLite meets it."""
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def is_network(file_system: str) -> bool:
    """Whether a file system type is one of another machine's."""
    kind = file_system.lower()
    return kind in NETWORK_FILE_SYSTEMS or (kind.startswith("fuse.") and any(name in kind for name in NETWORK_FUSE))


def file_system_of(directory: Path, mounts: str) -> str:
    """Type of the file system of a resolved directory: that of the longest mount point above it, the last one if
    several are mounted there. Empty if it is not known.

    A line of mountinfo (proc(5)): ``36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/sda1 rw``.
    """
    longest, found = -1, ""
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5 or not after:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4]))
        if directory.is_relative_to(point) and len(point.parts) >= longest:
            longest, found = len(point.parts), after.split(" ", 1)[0]
    return found


# --- the file


def _lock(connection: sqlite3.Connection) -> None:
    """Take the file and set how it is written.

    FULL: a commit is on disk when it returns, not only in the operating system's memory. secure_delete FAST: an erased
    body, which may hold secrets in its environment, is overwritten where that costs no extra write.
    """
    connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode not in ("wal", "memory"):
        raise Misconfigured(f"store.url: the file system allows no write-ahead log (SQLite chose {mode}); use another")
    for pragma in (
        "PRAGMA synchronous = FULL",
        "PRAGMA secure_delete = FAST",
        "PRAGMA temp_store = MEMORY",
        f"PRAGMA cache_size = -{CACHE_KIB}",
        f"PRAGMA wal_autocheckpoint = {WAL_PAGES}",
        f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}",
        "BEGIN EXCLUSIVE",
        "COMMIT",
    ):
        connection.execute(pragma).fetchall()


def renew_log(connection: sqlite3.Connection) -> None:
    """Put what the log holds into the database's file, wherever the log is now, and begin a new one in its place.

    The file stays locked for this process meanwhile, and is whole at every moment: without a log, too, a commit is on
    disk when it returns.
    """
    (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    if mode != "delete":
        raise sqlite3.OperationalError("the write-ahead log can't be begun anew now")
    _lock(connection)


def migrate(connection: sqlite3.Connection, path: str, scripts: Sequence[str]) -> None:
    """Apply the scripts, numbered from 1, that the file does not have yet, each in a transaction of its own."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and tables:
        raise Misconfigured(f"store.url: {path} is the database of another program; name another file")
    if version > len(scripts):
        raise Misconfigured(
            f"store.url: {path} was written by a newer release (schema {version}, this one knows {len(scripts)}); "
            "run that release, or restore a copy made before the upgrade"
        )
    for number, script in enumerate(scripts[version:], start=version + 1):
        _apply(connection, number, script)


def migrations() -> list[str]:
    """The scripts in order; number and place in the list agree."""
    files = sorted(_SCHEMA.glob("*.sql"))
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1)), "migrations are numbered from 1"
    return [file.read_text(encoding="utf-8") for file in files]


def _apply(connection: sqlite3.Connection, number: int, script: str) -> None:
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {APPLICATION_ID};\n"
            f"PRAGMA user_version = {number};\nCOMMIT;"
        )
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
