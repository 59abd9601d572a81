"""When the engine fails: nothing of the commit took effect, and the store works again once the cause is gone."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.adapters.store.sqlite_file import connect_sqlite
from controller.core.errors import StoreUnavailable
from controller.ports import HeadOf, InsertJob, StoreIdentity, UpdateJob
from tests.store.engines import BODY, SqliteEngine, accepted, head, insert, queued, tracked, uid


class FaultyConnection(sqlite3.Connection):
    """A connection whose statements fail if they begin with one of ``faults``."""

    faults: dict[str, sqlite3.Error] = {}  # noqa: RUF012 - replaced whole

    def _check(self, sql: str) -> None:
        for beginning, failure in self.faults.items():
            if sql.startswith(beginning):
                raise failure

    def execute(self, sql, *args):
        self._check(sql)
        return super().execute(sql, *args)

    def executemany(self, sql, *args):
        self._check(sql)
        return super().executemany(sql, *args)


class Faults:
    """Opens connections and makes them fail."""

    connection: FaultyConnection

    def connect(self, path: str) -> sqlite3.Connection:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=FaultyConnection)
        return self.connection


FAILURES = [
    sqlite3.OperationalError("disk I/O error"),
    sqlite3.OperationalError("database or disk is full"),
    sqlite3.OperationalError("database is locked"),
    sqlite3.DatabaseError("database disk image is malformed"),
]
STATEMENTS = [
    "BEGIN",
    "SELECT request_id",
    "INSERT INTO job_queues",
    "INSERT INTO jobs",
    "INSERT INTO bodies",
    "INSERT INTO outbox",
    "INSERT INTO usage",
    "UPDATE store",
    "COMMIT",
]


@pytest.mark.parametrize("failure", FAILURES, ids=str)
@pytest.mark.parametrize("statement", STATEMENTS)
async def test_failed_commit_takes_no_effect(engine: SqliteEngine, statement: str, failure: sqlite3.Error) -> None:
    """Whichever statement fails, all callers of the group are told, nothing is stored, and the same commit succeeds
    afterwards."""
    faults = Faults()
    store = await engine.open(connect=faults.connect)
    await insert(store, queued(0))
    usage = list(await store.usage())
    writes = [
        [InsertJob(job=queued(n, job_queue=f"q{n}", source=f"s{n}"), body=BODY, events=(accepted(n),))] for n in (1, 2)
    ]

    faults.connection.faults = {statement: failure}
    results = await asyncio.gather(*(store.commit(w) for w in writes), return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 2
    faults.connection.faults = {}

    assert await store.find_requests([uid(1), uid(2)]) == {}
    assert list(await store.usage()) == usage
    assert await store.outbox_counts() == {}
    assert await store.audit() == []
    assert [list(await store.commit(w)) for w in writes] == [[True], [True]]
    found = await store.find_requests([uid(1), uid(2)])
    assert {lives[0].job_queue for lives in found.values()} == {"q1", "q2"}
    assert {lives[0].source for lives in found.values()} == {"s1", "s2"}
    assert await store.audit() == []


async def test_failed_rollback_is_made_up_for(engine: SqliteEngine) -> None:
    """A transaction that could not even be rolled back is rolled back before the next one begins."""
    faults = Faults()
    store = await engine.open(connect=faults.connect)
    faults.connection.faults = {"INSERT INTO bodies": FAILURES[0], "ROLLBACK": FAILURES[0]}
    with pytest.raises(StoreUnavailable):
        await store.commit([InsertJob(job=queued(1), body=BODY)])
    assert faults.connection.in_transaction
    faults.connection.faults = {}

    assert list(await store.commit([InsertJob(job=queued(2), body=BODY)])) == [True]
    assert await store.find_requests([uid(1)]) == {}
    assert await store.audit() == []


@pytest.mark.parametrize("failure", FAILURES, ids=str)
async def test_failed_reads_are_store_unavailable(engine: SqliteEngine, failure: sqlite3.Error) -> None:
    """A question that the engine can't answer raises StoreUnavailable, and is answered later."""
    faults = Faults()
    store = await engine.open(connect=faults.connect)
    (job,) = await insert(store, queued())
    questions = (
        store.usage,
        lambda: store.load([job.key]),
        lambda: store.heads([HeadOf(job_queue="high", limit=1)], now=0.0),
        store.oldest_backlog,
        lambda: store.tracked(after=job.key, limit=1),
        lambda: store.closing(0.0, limit=1),
        lambda: store.outbox("log", limit=1),
        lambda: store.prune(before=0.0, limit=1),
        lambda: store.set_aging({}, 10.0),
        store.identity,
        lambda: store.bind(StoreIdentity(account="", region="eu-west-1")),
    )
    for question in questions:
        faults.connection.faults = {"": failure}
        with pytest.raises(StoreUnavailable, match=str(failure)):
            await question()
        faults.connection.faults = {}
        await question()


async def test_aging_that_was_not_stored_is_not_used(engine: SqliteEngine) -> None:
    """If the re-ranking fails, later rows are ranked like those that are stored."""
    faults = Faults()
    store = await engine.open(connect=faults.connect)
    await store.set_aging({}, 60.0)
    await insert(store, queued(1, job_name="old", received_at=0.0))
    faults.connection.faults = {"COMMIT": FAILURES[0]}
    with pytest.raises(StoreUnavailable):
        await store.set_aging({}, 1000.0)
    faults.connection.faults = {}

    await insert(store, queued(2, job_name="new", received_at=100.0, priority=1))

    assert [job.job_name for job in await head(store, "high")] == ["old", "new"]


async def test_full_disk(engine: SqliteEngine) -> None:
    """A full database refuses commits, keeps answering, and takes commits again when there is room."""
    made: list[sqlite3.Connection] = []

    def connect(path: str) -> sqlite3.Connection:
        made.append(connect_sqlite(path))
        return made[-1]

    store = await engine.open(connect=connect)
    (job,) = await insert(store, queued(0))
    (pages,) = made[0].execute("PRAGMA page_count").fetchone()
    made[0].execute(f"PRAGMA max_page_count = {pages + 2}").fetchall()
    large = [InsertJob(job=queued(n), body="x" * 9_000, events=(accepted(n),)) for n in range(1, 9)]

    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="full"):
            await store.commit(large)
    assert (await store.load([job.key]))[job.key] == job
    assert list(await store.commit([UpdateJob(job=tracked(job))])) == [True], "a small change still has room"
    assert await store.audit() == []

    made[0].execute("PRAGMA max_page_count = 1000000").fetchall()
    assert list(await store.commit(large)) == [True] * 8
    assert await store.audit() == []


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process grows beyond ``size`` bytes: writes fail with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_failed_writes_of_the_operating_system(engine: SqliteEngine) -> None:
    """A write to the log that the operating system refuses loses nothing that was committed before or after."""
    store = await engine.open()
    await insert(store, queued(0))
    wal = Path(f"{engine.path}-wal")
    with file_size_limit(wal.stat().st_size + 10_000):
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.commit([InsertJob(job=queued(n), body="x" * 9_000) for n in range(1, 9)])
    assert await store.find_requests([uid(n) for n in range(1, 9)]) == {}
    await insert(store, *(queued(n) for n in range(1, 9)))
    assert await store.audit() == []
    await store.close()

    store = await engine.open()
    assert len(await store.find_requests([uid(n) for n in range(9)])) == 9
    assert await store.audit() == []


async def test_a_log_that_can_t_be_begun_anew_is_tried_again(engine: SqliteEngine) -> None:
    """Meanwhile commits go without one, and are as durable."""
    faults = Faults()
    store = await engine.open(connect=faults.connect)
    log = Path(f"{engine.path}-wal")
    log.unlink()
    await insert(store, queued(1))
    faults.connection.faults = {"PRAGMA journal_mode = WAL": FAILURES[0]}
    with pytest.raises(StoreUnavailable):
        await store.file_problem()
    await insert(store, queued(2))
    assert not log.exists()
    faults.connection.faults = {}
    assert str(log) in (await store.file_problem() or "")
    await insert(store, queued(3))
    assert log.stat().st_size > 0
    assert len(await store.find_requests([uid(n) for n in (1, 2, 3)])) == 3
    assert await store.audit() == []


def destroy(path: Path, table_or_index: str) -> None:
    """Write zeros over its root page, as a disk may that has lost it."""
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table_or_index,)).fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(bytes(size))


async def test_damage_is_told_from_the_first_question_that_meets_it_on(engine: SqliteEngine) -> None:
    """Other questions may still be answered, and change nothing about it."""
    store = await engine.open()
    await insert(store, queued(1))
    await store.close()
    destroy(engine.path, "jobs_backlog")
    store = await engine.open()
    assert await store.file_problem() is None, "not met yet"
    with pytest.raises(StoreUnavailable, match="malformed"):
        await head(store, "high")
    await store.usage()
    problem = await store.file_problem()
    assert problem is not None
    assert f"{engine.path} is damaged" in problem


async def test_a_store_that_takes_no_change_is_known_by_one(engine: SqliteEngine) -> None:
    """Reads do not tell it, nor does a change that SQLite leaves out because it changes nothing."""
    store = await engine.open()
    await insert(store, queued(0))
    await store.check_writes()
    with file_size_limit(Path(f"{engine.path}-wal").stat().st_size):
        await store.usage()
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await store.check_writes()
    await store.check_writes()
    assert await store.audit() == []


async def test_a_store_is_closed_although_its_log_can_t_be_copied(engine: SqliteEngine) -> None:
    """The log belongs to the file: the next start finds in it what was committed."""
    faults = Faults()
    store = await engine.open(connect=faults.connect)
    await insert(store, queued(1))
    faults.connection.faults = {"PRAGMA wal_checkpoint": sqlite3.OperationalError("database or disk is full")}
    await store.close()
    again = await engine.open()
    assert set(await again.find_requests([queued(1).request_id])) == {queued(1).request_id}
