"""The store's disk: the real SQLite engine in memory, with one holder at a time, failures, and a life beyond processes.

What is modelled: SQLite in WAL mode with ``synchronous=FULL`` keeps what was committed and nothing else, so after a
death the next process opens a copy of the committed pages. A step of the loop runs a whole transaction, hence no death
falls inside one; deaths before it, and after it but before its caller learns of it, come from slow calls and from
kills between steps. Not modelled: torn pages and lying disks, which are SQLite's to survive.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Final, TypeVar

import anyio

from controller.adapters.store.sqlite_file import LOG_BYTES, DiskUsage, migrations, open_file
from tests.simulation.loop_process import Process, current_process
from tests.simulation.loop_world import World

T = TypeVar("T")

assert migrations(), "the schema is read once per process"


class Trouble(Enum):
    """What is wrong with the disk."""

    BROKEN = "broken"
    """Every statement fails: input/output error."""
    FULL = "full"
    """Whatever writes fails."""
    LOCKED = "locked"
    """Nothing can begin to write."""
    FLAKY = "flaky"
    """Some commits fail before they take effect, some after."""


_READS = ("SELECT", "PRAGMA", "ROLLBACK")


def _engine_error(text: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@lru_cache(maxsize=1)
def _empty() -> bytes:
    """A database with the schema: what the first start makes, made once."""
    connection = open_file(
        ":memory:", connect=lambda path: sqlite3.connect(path, isolation_level=None, factory=_Connection), mounts=str
    )
    try:
        return connection.serialize()
    finally:
        connection.close()


PAGE: Final = 4096
TOUCHED: Final = 4
"""Pages that a commit writes beside those that it adds or uses again."""
LOG_PAGES: Final = 64
"""Pages of log after which it is copied into the file: fewer than the application's, as its disk is smaller."""
LOG_ROOM: Final = 1024 * 1024
"""What a log takes at most, unless single commits are larger."""


class Space:
    """What the file and its log take of a disk with an end.

    A commit is appended to the log; a full log is copied into the file, which grows by what was added, and only then
    is it written anew from its beginning. So on a disk that is full to the end nothing can be committed, not even a
    deletion.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        """Bytes."""
        self.refused = 0
        """Commits that found no room."""
        self._file = self._log = self._log_file = 0
        """Pages: of the file, of the log, and of the log's file, which keeps the size it had."""

    @property
    def free(self) -> int:
        return self.size - (self._file + self._log_file) * PAGE

    @property
    def file(self) -> int:
        """Bytes."""
        return self._file * PAGE

    @property
    def log_file(self) -> int:
        """Bytes."""
        return self._log_file * PAGE

    def opened(self, pages: int) -> None:
        """The log was copied when the file was closed, or is when it is opened."""
        self._file, self._log, self._log_file = max(self._file, pages), 0, 0

    def append(self, pages: int, written: int) -> bool:
        """Whether there is room for a commit that writes so many pages, after which there are ``pages``."""
        log = self._log + written
        if max(0, log - self._log_file) * PAGE > self.free:
            self.refused += 1
            return False
        self._log, self._log_file = log, max(log, self._log_file)
        if log >= LOG_PAGES and (pages - self._file) * PAGE <= self.free:
            self._file, self._log = max(self._file, pages), 0
        return True


class Disk:
    """The file of one store."""

    def __init__(self, rng: random.Random, *, size: int | None = None) -> None:
        self.space = None if size is None else Space(size)
        self.trouble: Trouble | None = None
        self.slow_s: float = 0.0
        """How long a call of the store may take before and after it does its work."""
        self.commit_fails_p = 0.3
        self.lost_answers = 0
        """Commits that took effect and were reported as failed."""
        self.commits = 0
        self.rng = rng
        self._pages = _empty()
        self._connection: _Connection | None = None
        self._holder: Process | None = None

    def connect(self, path: str) -> sqlite3.Connection:
        """Opens what was committed; raises SQLite's own error while another living process holds it."""
        if self._connection is not None:
            if self._holder is None or not self._holder.is_dead:
                raise _engine_error("database is locked", sqlite3.SQLITE_BUSY)
            self.end()
        if self.trouble is Trouble.BROKEN:
            raise _engine_error("disk I/O error", sqlite3.SQLITE_IOERR)
        connection = sqlite3.connect(
            ":memory:", isolation_level=None, check_same_thread=False, cached_statements=256, factory=_Connection
        )
        connection.deserialize(self._pages)
        if self.space is not None:
            self.space.opened(len(self._pages) // PAGE)
        connection.disk = self
        self._connection, self._holder = connection, current_process()
        return connection

    def usage(self, path: str) -> DiskUsage | None:
        """None: it has no end. The application keeps room for a log that is larger than this one."""
        if self.space is None:
            return None
        larger = LOG_BYTES - LOG_ROOM
        return DiskUsage(
            size=self.space.size + larger,
            free=self.space.free + larger,
            file=self.space.file,
            log=self.space.log_file,
        )

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """For a person who looks into a failed run; checkers don't."""
        connection = sqlite3.connect(":memory:")
        connection.row_factory = sqlite3.Row
        connection.deserialize(self._pages if self._connection is None else self._connection.serialize())
        try:
            return [dict(row) for row in connection.execute(sql)]
        finally:
            connection.close()

    def end(self) -> None:
        """Keep what was committed and let go of the engine: nobody living uses it any more."""
        if self._connection is not None:
            abandoned = self._connection
            self._pages = abandoned.serialize()
            self._connection = self._holder = None
            abandoned.disk = None
            abandoned.close()

    def released(self, connection: _Connection) -> None:
        """A clean close."""
        if self._connection is connection:
            self._pages = connection.serialize()
            self._connection = self._holder = None

    def strike(self, sql: str) -> None:
        """Fail a statement, if this is one that fails; ``FLAKY`` is ``_Connection``'s own."""
        word = sql.lstrip()[:8].upper()
        if self.trouble is Trouble.BROKEN and not word.startswith("ROLLBACK"):
            raise _engine_error("disk I/O error", sqlite3.SQLITE_IOERR)
        if self.trouble is Trouble.LOCKED and word.startswith("BEGIN"):
            raise _engine_error("database is locked", sqlite3.SQLITE_BUSY)
        if self.trouble is Trouble.FULL and not word.startswith((*_READS, "BEGIN", "COMMIT")):
            raise _engine_error("database or disk is full", sqlite3.SQLITE_FULL)


class _Connection(sqlite3.Connection):
    disk: Disk | None = None
    before = (0, 0)
    """Pages when the transaction began, and how many of them were unused."""

    def _pages(self) -> tuple[int, int]:
        pages, unused = (
            super(_Connection, self).execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count")
        )
        return pages, unused

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        disk = self.disk
        if sql.startswith("PRAGMA journal_mode"):
            # A log beside the file would be a file of this machine; for what is modelled both modes are the same.
            return super().execute("PRAGMA journal_mode = MEMORY")
        if disk is None:
            return super().execute(sql, parameters)
        if sql == "BEGIN IMMEDIATE" and disk.space is not None:
            self.before = self._pages()
        if sql == "COMMIT" and disk.space is not None:
            pages, unused = self._pages()
            more = max(0, pages - self.before[0]) + max(0, self.before[1] - unused)
            if not disk.space.append(pages, more + TOUCHED):
                raise _engine_error("database or disk is full", sqlite3.SQLITE_FULL)
        if disk.trouble is None:
            return super().execute(sql, parameters)
        disk.strike(sql)
        if sql != "COMMIT" or disk.trouble is not Trouble.FLAKY:
            return super().execute(sql, parameters)
        drawn = disk.rng.random()
        if drawn < disk.commit_fails_p / 2:
            raise _engine_error("disk I/O error", sqlite3.SQLITE_IOERR)
        done = super().execute(sql, parameters)
        if drawn < disk.commit_fails_p:
            disk.lost_answers += 1
            raise _engine_error("disk I/O error", sqlite3.SQLITE_IOERR)
        return done

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        if self.disk is not None and self.disk.trouble is not None:
            self.disk.strike(sql)
        return super().executemany(sql, parameters)

    def close(self) -> None:
        if self.disk is not None:
            self.disk.released(self)
        super().close()


class SimRunner:
    """``ports.Runner`` for one process: inline, in order of arrival, slowly if the disk is slow."""

    def __init__(self, world: World, disk: Disk) -> None:
        self._world = world
        self._disk = disk
        self._turn = anyio.Lock()

    async def run(self, function: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        self._world.check_alive("store")
        if not self._disk.slow_s and not self._turn.locked():
            return function()
        async with self._turn:
            await anyio.sleep(self._disk.slow_s * self._disk.rng.random())
            try:
                return function()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(self._disk.slow_s * self._disk.rng.random())


def observe_commits(store: Any, note: Callable[[Sequence[Any]], None], disk: Disk) -> None:
    """Have ``note`` told of the writes that have become durable, in the very step in which they do.

    A commit that took effect and was reported as failed is durable; each of its writes is told, applied or not.
    """
    group = store._group
    apply: Callable[[Sequence[Sequence[Any]]], Sequence[Any]] = group._apply

    def observed(calls: Sequence[Sequence[Any]]) -> Sequence[Any]:
        lost = disk.lost_answers
        answers = apply(calls)
        for writes, answer in zip(calls, answers, strict=True):
            if not isinstance(answer, Exception):
                note([write for write, is_applied in zip(writes, answer, strict=True) if is_applied])
            elif disk.lost_answers > lost:
                note(writes)
        return answers

    group._apply = observed
