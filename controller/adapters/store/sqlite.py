"""The embedded ``JobStore``: one SQLite file, one process, every statement through one runner.

Commits are grouped (``group.py``) and carried out by ``writes.py``; this file opens the store, runs its transactions
and answers its questions. SQL that only the store's own schema can make fail is written here next to the method that
needs it; queries name their index, so that a plan can't silently turn into a scan.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, Final, TypeVar

from controller.adapters.store.backlog import TENANTS, Backlog, Passed
from controller.adapters.store.dependents import CIRCULAR, DEPENDED_ON, MAY_CLOSE_CIRCLES, Dependents
from controller.adapters.store.file_watch import FileWatch
from controller.adapters.store.group import Answer, GroupCommit
from controller.adapters.store.listing import Listing, ahead
from controller.adapters.store.names import Vocabulary, forget_unused
from controller.adapters.store.rows import JOB_COLUMNS, STATES, STATUSES, decode_job, pack_id, rows_in, unpack_id
from controller.adapters.store.sqlite_file import (
    LOG_BYTES,
    MEMORY,
    Connect,
    DiskUsage,
    connect_sqlite,
    open_file,
    opening_errors,
    path_of,
    read_disk,
    read_mounts,
)
from controller.adapters.store.usage import audit, correct_usage
from controller.adapters.store.writes import Changes, Context, Sequences
from controller.core.errors import StoreMismatch, StoreUnavailable
from controller.core.inquiry import Inquiry
from controller.core.job import Job, RowKey
from controller.core.room import DiskSpace
from controller.ports import (
    LIVES_MAX,
    Block,
    Dependent,
    HeadOf,
    Hold,
    OutboxRow,
    RememberCancel,
    RequestPage,
    Runner,
    StoreIdentity,
    TrackedRow,
    UsageRow,
    Write,
)

T = TypeVar("T")

FAULTS: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    AssertionError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
)
"""What a write that breaks the store's rules raises: the caller's mistake, not the engine's."""


def _select(rest: str) -> str:
    return f"SELECT {JOB_COLUMNS} FROM jobs {rest}"  # noqa: S608 - constants of this module


_FIND_REQUESTS: Final = f"""
    WITH asked (id) AS (VALUES :each)
    SELECT {JOB_COLUMNS} FROM asked CROSS JOIN jobs INDEXED BY jobs_lives ON request_id = id AND life = 0
    UNION ALL
    SELECT {JOB_COLUMNS} FROM asked CROSS JOIN jobs INDEXED BY jobs_lives ON request_id = id AND life > ifnull(
        (SELECT life FROM jobs INDEXED BY jobs_lives WHERE request_id = id ORDER BY life DESC LIMIT 1
            OFFSET {LIVES_MAX}), 0)
"""  # noqa: S608 - constants of this module
"""The one that is not REJECTED, and the latest of those that are."""
_REJECTED_MESSAGES: Final = "SELECT message_id FROM rejections WHERE message_id IN (:these)"
_REFUSED_MESSAGES: Final = (
    "SELECT ifnull(message_id, request_id) FROM jobs INDEXED BY jobs_refused "
    "WHERE life > 0 AND ifnull(message_id, request_id) IN (:these)"
)
_LOAD: Final = _select("WHERE key IN (:these)")
_SUBMITTING: Final = _select("INDEXED BY jobs_in_flight WHERE state = 1 ORDER BY key")
_CANCELLED: Final = _select(
    "INDEXED BY jobs_cancelled WHERE state = ? AND cancel_requested_at IS NOT NULL AND finished_at IS NULL "
    "AND key > ? ORDER BY key LIMIT ?"
)
_EXPIRED: Final = _select(
    "INDEXED BY jobs_expiring WHERE state = 0 AND expires_at IS NOT NULL AND expires_at <= ? "
    "AND cancel_requested_at IS NULL AND doubted_at IS NULL ORDER BY expires_at LIMIT ?"
)
_EXPIRED_MARKED: Final = _EXPIRED.replace("doubted_at IS NULL", "doubted_at IS NOT NULL")
_TRACKED: Final = (
    "SELECT key, batch_job_id, ifnull(batch_status, 0), attempts, submitted_at, ifnull(observed_at, submitted_at), "
    "first_missed_at IS NOT NULL FROM jobs INDEXED BY jobs_in_flight WHERE state = 2 AND key > ? ORDER BY key LIMIT ?"
)
_ANY_ARN: Final = _select(
    "INDEXED BY jobs_batch_ids WHERE batch_job_id IS NOT NULL AND batch_job_arn IS NOT NULL LIMIT 1"
)
_OLDEST: Final = (
    "SELECT queue, (SELECT min(received_at) FROM jobs INDEXED BY jobs_waiting "
    "WHERE job_queue = queue AND (dependencies = 1) = 0 AND state = 0) "
    "FROM (SELECT DISTINCT job_queue AS queue FROM usage WHERE state = 0)"
)
_PRUNABLE: Final = (
    "SELECT key FROM jobs INDEXED BY jobs_finished WHERE finished_at IS NOT NULL AND finished_at < ? "
    "AND NOT EXISTS (SELECT 1 FROM outbox WHERE row_key = jobs.key) "
    "AND NOT EXISTS (SELECT 1 FROM dependencies INDEXED BY dependencies_on WHERE request_id = jobs.request_id) "
    "ORDER BY finished_at LIMIT ?"
)
_PRUNABLE_REJECTIONS: Final = (
    "SELECT key FROM rejections WHERE received_at < ? "
    "AND NOT EXISTS (SELECT 1 FROM outbox WHERE row_key = rejections.key) ORDER BY received_at LIMIT ?"
)
_MAY_HAVE_JOBS: Final = (
    "SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 1 OR doubted_at IS NOT NULL OR batch_job_id IS NOT NULL)"
)
_PRUNABLE_CANCELS: Final = "SELECT request_id, source FROM cancels WHERE received_at < ? ORDER BY received_at LIMIT ?"


async def open_sqlite_store(
    url: str,
    *,
    runner: Runner,
    sinks_of: Callable[[str], Sequence[str]],
    dead_letters: bool,
    random_id: Callable[[], str],
    linger: Callable[[], Awaitable[None]] | None = None,
    report: Callable[[str], None] | None = None,
    timed: Callable[[], AbstractContextManager[object]] = nullcontext,
    connect: Connect = connect_sqlite,
    mounts: Callable[[], str] = read_mounts,
    disk: Callable[[str], DiskUsage | None] = read_disk,
) -> SqliteStore:
    """Open the store of ``store.url``; the file is created if there is none.

    ``sinks_of`` names the sinks that get an event; it is called in the runner and must be pure. With ``dead_letters``
    a write's dead letter goes to the sink ``dead_letter``, else it is dropped. ``random_id`` gives the 32 hex digits of
    a new store. ``linger`` is awaited once before each group of commits is closed. ``report`` is told, in the runner,
    of counts that had to be corrected. ``timed`` is entered, in the runner, around each group's transaction. ``disk``
    tells of the disk under a path.

    Raises Misconfigured, StoreLocked or StoreUnavailable.
    """
    path = path_of(url)

    def open_store() -> SqliteStore:
        connection = open_file(path, connect=connect, mounts=mounts)
        try:
            with opening_errors(path):
                names, context = _prepare(connection, sinks_of, dead_letters, random_id, report)
        except BaseException:
            connection.close()
            raise
        return SqliteStore(
            connection,
            names=names,
            context=context,
            runner=runner,
            linger=linger,
            timed=timed,
            disk=partial(disk, path),
            path=path,
        )

    return await runner.run(open_store)


def _prepare(
    connection: sqlite3.Connection,
    sinks_of: Callable[[str], Sequence[str]],
    dead_letters: bool,
    random_id: Callable[[], str],
    report: Callable[[str], None] | None,
) -> tuple[Vocabulary, Context]:
    with _transaction(connection):
        if connection.execute("SELECT 1 FROM store").fetchone() is None:
            store_id = random_id()
            assert re.fullmatch("[0-9a-f]{32}", store_id), "a store id is 32 hex digits"
            connection.execute("INSERT INTO store (one, store_id) VALUES (1, ?)", (store_id,))
        forget_unused(connection)
        for correction in correct_usage(connection):
            if report is not None:
                report(correction)
    store_id, row, outbox = connection.execute("SELECT store_id, next_key, next_outbox_key FROM store").fetchone()
    names = Vocabulary(connection)
    sequences = Sequences(row, outbox)
    return names, Context(store_id, names, sequences, Passed(), Dependents(connection), sinks_of, dead_letters)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. A rollback that failed is made up for before the next transaction."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class SqliteStore:
    """``ports.JobStore`` on one SQLite connection. Made by ``open_sqlite_store``."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        names: Vocabulary,
        context: Context,
        runner: Runner,
        linger: Callable[[], Awaitable[None]] | None,
        timed: Callable[[], AbstractContextManager[object]] = nullcontext,
        disk: Callable[[], DiskUsage | None] = lambda: None,
        path: str = MEMORY,
    ) -> None:
        self._disk = disk
        self._watch = FileWatch(path)
        self._connection = connection
        self._names = names
        self._context = context
        self._runner = runner
        self._timed = timed
        self._group = GroupCommit(self._commit_timed, runner=runner, linger=linger)
        self._is_open = True

    @property
    def store_id(self) -> str:
        return self._context.store_id

    # --- running things

    @contextmanager
    def _engine_errors(self) -> Iterator[None]:
        """Turn the engine's failures into StoreUnavailable; let a write's own mistakes through."""
        try:
            yield
        except FAULTS:
            raise
        except (sqlite3.Error, MemoryError, OSError) as error:
            self._watch.failed(error)
            raise StoreUnavailable(f"the store failed: {error}") from error

    async def _run(self, function: Callable[[], T]) -> T:
        def run() -> T:
            if not self._is_open:
                raise StoreUnavailable("the store is closed")
            with self._engine_errors():
                if not self._connection.in_transaction:
                    self._names.refresh()
                return function()

        return await self._runner.run(run)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, and the names it adds."""
        try:
            with _transaction(self._connection):
                self._names.refresh()
                yield self._connection
        except BaseException:
            self._names.forget()
            raise
        self._names.keep()

    def _commit_timed(self, calls: Sequence[Sequence[Write]]) -> Sequence[Answer]:
        with self._timed():
            return self._commit_group(calls)

    def _commit_group(self, calls: Sequence[Sequence[Write]]) -> Sequence[Answer]:
        """One transaction for all; if someone's write breaks a rule, one for each, and only that one fails."""
        try:
            if not self._is_open:
                raise StoreUnavailable("the store is closed")
            with self._engine_errors(), self._changing() as connection:
                changes = Changes(connection, self._context, [write for writes in calls for write in writes])
                answers = [[changes.apply(write) for write in writes] for writes in calls]
                changes.flush()
        except StoreUnavailable as error:
            return [_same_failure(error) for _ in calls]
        except FAULTS as error:
            if len(calls) == 1:
                return [_broken_rule(error)]
            return [self._commit_group([writes])[0] for writes in calls]
        return answers

    # --- whose store it is

    async def identity(self) -> StoreIdentity | None:
        return await self._run(self._identity)

    def _identity(self) -> StoreIdentity | None:
        account, region = self._connection.execute("SELECT account, region FROM store").fetchone()
        return None if region is None else StoreIdentity(account=account, region=region)

    async def bind(self, identity: StoreIdentity) -> None:
        def bind() -> None:
            with self._changing() as connection:
                bound = self._identity()
                if bound is not None and not self._is_free_of(bound):
                    _check_same(bound, identity)
                    if bound.account or not identity.account:
                        return
                connection.execute("UPDATE store SET account = ?, region = ?", (identity.account, identity.region))

        await self._run(bind)

    def _is_free_of(self, bound: StoreIdentity) -> bool:
        """No account is known, and nothing that may have a job was ever sent: there is nothing in that Region."""
        if bound.account:
            return False
        (may_have_jobs,) = self._connection.execute(_MAY_HAVE_JOBS).fetchone()
        return not may_have_jobs

    # --- changes

    async def commit(self, writes: Sequence[Write]) -> Sequence[bool]:
        return await self._group.commit(writes)

    # --- intake

    async def find_requests(self, request_ids: Sequence[str]) -> Mapping[str, Sequence[Job]]:
        jobs = await self._jobs_in(_FIND_REQUESTS, _distinct(request_ids))
        lives: dict[str, list[Job]] = {}
        for job in sorted(jobs, key=lambda job: job.key):
            lives.setdefault(job.request_id, []).append(job)
        return lives

    async def find_rejections(self, message_ids: Sequence[str]) -> frozenset[str]:
        ids = _distinct(message_ids)

        def read() -> frozenset[str]:
            each = (rows_in(self._connection, sql, ids) for sql in (_REJECTED_MESSAGES, _REFUSED_MESSAGES))
            return frozenset(unpack_id(row[0]) for rows in each for row in rows)

        return await self._run(read)

    async def find_cancels(self, request_ids: Sequence[str]) -> Sequence[RememberCancel]:
        sql = (
            "SELECT request_id, source, reason, sent_at, received_at FROM cancels WHERE request_id IN (:these) "
            "ORDER BY received_at"
        )
        return [
            RememberCancel(
                request_id=unpack_id(request_id),
                source=self._names.sources.name_of(source),
                reason=reason,
                sent_at=sent_at,
                received_at=received_at,
            )
            for request_id, source, reason, sent_at, received_at in await self._rows_in(sql, _distinct(request_ids))
        ]

    # --- admission

    async def usage(self) -> Sequence[UsageRow]:
        sql = (
            "SELECT source, job_queue, state, batch_status, is_in_doubt, is_array, is_unmet, count FROM usage "
            "WHERE count > 0"
        )
        return [
            UsageRow(
                source=self._names.sources.name_of(source),
                job_queue=self._names.job_queues.name_of(job_queue),
                state=STATES[state],
                batch_status=None if status < 0 else STATUSES[status],
                is_in_doubt=bool(is_in_doubt),
                is_array=bool(is_array),
                is_unmet=bool(is_unmet),
                count=count,
            )
            for source, job_queue, state, status, is_in_doubt, is_array, is_unmet, count in await self._rows(sql)
        ]

    async def heads(self, asked: Sequence[HeadOf], *, now: float) -> Sequence[Sequence[Job]]:
        return await self._run(lambda: [self._head(each, now) for each in asked])

    def _head(self, asked: HeadOf, now: float) -> list[Job]:
        names = self._names
        queue = names.job_queues.find(asked.job_queue)
        if queue is None:
            return []
        found = [names.job_definitions.find(name) for name in asked.without_definitions]
        excluded = [identifier for identifier in found if identifier is not None]
        after = None if asked.after_tenant is None else names.tenants.find(asked.after_tenant)
        backlog = Backlog(
            self._connection,
            job_queue=queue,
            now=now,
            excluded=excluded,
            excluded_rows=asked.without_rows,
            passed=self._context.passed,
        )
        return self._decoded(backlog.next_rows(after, asked.limit))

    async def backlog_tenants(self) -> Mapping[str, int]:
        return {self._names.job_queues.name_of(queue): count for queue, count in await self._rows(TENANTS)}

    async def oldest_backlog(self) -> Mapping[str, float]:
        rows = await self._rows(_OLDEST)
        return {self._names.job_queues.name_of(queue): oldest for queue, oldest in rows if oldest is not None}

    async def set_aging(self, aging_s: Mapping[str, float], default_s: float) -> None:
        queues = self._names.job_queues

        def set_aging() -> None:
            with self._changing() as connection:
                for name, seconds in queues.stale(aging_s, default_s).items():
                    queue = queues.find(name)
                    connection.execute(
                        "UPDATE jobs INDEXED BY jobs_waiting SET rank = received_at - priority * ? "
                        "WHERE job_queue = ? AND state = 0",
                        (float(seconds), queue),
                    )
                    connection.execute("UPDATE job_queues SET aging_s = ? WHERE id = ?", (float(seconds), queue))
            queues.adopt(aging_s, default_s)
            self._context.passed.clear()

        await self._run(set_aging)

    async def holds(self) -> Sequence[Hold]:
        sql = "SELECT job_queue, job_definition, reason, held_at FROM holds"
        return [
            Hold(job_queue=job_queue, job_definition=job_definition, reason=reason, held_at=held_at)
            for job_queue, job_definition, reason, held_at in await self._rows(sql)
        ]

    async def blocks(self) -> Sequence[Block]:
        sql = "SELECT job_queue, cause, blocked_at FROM blocked_queues"
        return [Block(job_queue=name, cause=cause, blocked_at=at) for name, cause, at in await self._rows(sql)]

    # --- submission and rescue

    async def load(self, keys: Sequence[RowKey]) -> Mapping[RowKey, Job]:
        return {job.key: job for job in await self._jobs_in(_LOAD, list(dict.fromkeys(keys)))}

    async def bodies(self, keys: Sequence[RowKey]) -> Mapping[RowKey, str]:
        sql = "SELECT key, body FROM bodies WHERE key IN (:these)"
        rows = await self._rows_in(sql, list(dict.fromkeys(keys)))
        return {RowKey(key): body.decode("utf-8", "surrogatepass") for key, body in rows}

    async def submitting(self) -> Sequence[Job]:
        return await self._jobs(_SUBMITTING)

    async def closing(self, now: float, *, limit: int) -> Sequence[Job]:
        def read() -> list[Job]:
            jobs = self._decoded(self._connection.execute(_EXPIRED, (now, limit)))
            jobs += self._decoded(self._connection.execute(_CANCELLED, (0, 0, limit - len(jobs))))
            return jobs + self._decoded(self._connection.execute(_EXPIRED_MARKED, (now, limit - len(jobs))))

        return await self._run(read)

    # --- dependencies

    @property
    def has_dependents(self) -> bool:
        return self._context.dependents.any

    async def dependents(self, *, received_by: float, limit: int) -> Sequence[Dependent]:
        def read() -> list[Dependent]:
            found = self._context.dependents.due(self._connection, received_by, limit)
            jobs = self._decoded(rows_in(self._connection, _LOAD, list(found)))
            return [Dependent(job=job, dependencies=tuple(found[job.key])) for job in jobs]

        return await self._run(read)

    async def circular(self, keys: Sequence[RowKey]) -> frozenset[RowKey]:
        found = await self._rows_in(MAY_CLOSE_CIRCLES, keys)
        # One at a time: each may visit some thousand rows, and commits wait meanwhile.
        return frozenset([RowKey(key) for (key,) in found if await self._rows(CIRCULAR, (key, key))])

    async def depended_on(self, keys: Sequence[RowKey]) -> Mapping[RowKey, Sequence[Job]]:
        found: dict[RowKey, list[Job]] = {}
        for key, *row in await self._rows_in(DEPENDED_ON, list(keys)):
            found.setdefault(RowKey(key), []).append(decode_job(row, self._names))
        return found

    # --- operators

    async def list_requests(self, asked: Inquiry) -> RequestPage:
        def read() -> RequestPage:
            rows, after = Listing(self._connection, self._names, asked).page()
            return RequestPage(jobs=self._decoded(iter(rows)), after=after)

        return await self._run(read)

    async def named_dependencies(self, key: RowKey) -> Sequence[str]:
        rows = await self._rows("SELECT request_id FROM dependencies WHERE row_key = ?", (key,))
        return [unpack_id(request_id) for (request_id,) in rows]

    async def ahead(self, key: RowKey, *, limit: int) -> int | None:
        return await self._run(lambda: ahead(self._connection, key, limit))

    # --- tracking

    async def tracked(self, *, after: RowKey, limit: int) -> Sequence[TrackedRow]:
        def read() -> list[TrackedRow]:
            return [
                TrackedRow(key, unpack_id(job_id), STATUSES[status], attempts, submitted_at, observed_at, bool(missed))
                for key, job_id, status, attempts, submitted_at, observed_at, missed in self._connection.execute(
                    _TRACKED, (after, limit)
                )
            ]

        return await self._run(read)

    async def terminating(self, *, after: RowKey, limit: int) -> Sequence[Job]:
        return await self._jobs(_CANCELLED, (2, after, limit))

    async def any_job_arn(self) -> str | None:
        return next((job.batch_job_arn for job in await self._jobs(_ANY_ARN)), None)

    # --- publishing and retention

    async def outbox(self, sink: str, *, limit: int, size_max: int | None = None) -> Sequence[OutboxRow]:
        sql = "SELECT key, event_id, name, body FROM outbox INDEXED BY outbox_sinks WHERE sink = ? ORDER BY key LIMIT ?"

        def read() -> list[OutboxRow]:
            found: list[OutboxRow] = []
            size = 0
            with closing(self._connection.execute(sql, (self._names.sinks.find(sink), limit))) as rows:
                for key, identifier, name, body in rows:
                    found.append(OutboxRow(key=key, event_id=unpack_id(identifier), name=name, body=body))
                    size += len(body)
                    if size_max is not None and size >= size_max:
                        break
            return found

        return await self._run(read)

    async def outbox_counts(self) -> Mapping[str, int]:
        rows = await self._rows("SELECT sink, count(*) FROM outbox INDEXED BY outbox_sinks GROUP BY sink")
        return {self._names.sinks.name_of(sink): count for sink, count in rows}

    async def space(self) -> DiskSpace | None:
        def read() -> DiskSpace | None:
            disk = self._disk()
            if disk is None:
                return None
            pages, unused, page_size = (
                self._connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
            in_log_alone = max(0, pages * page_size - disk.file)
            beside_log = disk.free - max(0, LOG_BYTES - disk.log) - in_log_alone
            return DiskSpace(
                # Without room for the log nothing can be committed, not even into pages that are there.
                free=beside_log + unused * page_size if beside_log >= 0 else 0,
                size=disk.size,
                used=(pages - unused) * page_size,
            )

        return await self._run(read)

    async def check_writes(self) -> None:
        def write() -> None:
            with self._changing() as connection:
                # What writes although nothing is changed: SQLite leaves out an UPDATE to the same values.
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                connection.execute(f"PRAGMA user_version = {version}")

        await self._run(write)

    async def file_problem(self) -> str | None:
        return await self._run(lambda: self._watch.problem(self._connection))

    async def prune(self, *, before: float, limit: int) -> int:
        def prune() -> int:
            with self._changing() as connection:
                jobs = connection.execute(_PRUNABLE, (before, limit)).fetchall()
                connection.executemany("DELETE FROM jobs WHERE key = ?", jobs)
                left = limit - len(jobs)
                rejections = connection.execute(_PRUNABLE_REJECTIONS, (before, left)).fetchall()
                connection.executemany("DELETE FROM rejections WHERE key = ?", rejections)
                left -= len(rejections)
                cancels = connection.execute(_PRUNABLE_CANCELS, (before, left)).fetchall()
                connection.executemany("DELETE FROM cancels WHERE request_id = ? AND source = ?", cancels)
                return limit - left + len(cancels)

        return await self._run(prune)

    async def audit(self) -> Sequence[str]:
        """What contradicts itself in the store, for tests and support: slow, reads everything. Empty if all is well."""
        return await self._run(lambda: audit(self._connection))

    async def close(self) -> None:
        """Copy the log into the file and give the file free; after that every call raises StoreUnavailable. On a disk
        that is full or fails the log stays beside the file, and belongs to it."""

        def close() -> None:
            if not self._is_open:
                return
            self._is_open = False
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._connection.close()

        await self._runner.run(close)

    # --- reading

    async def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return await self._run(lambda: self._connection.execute(sql, values).fetchall())

    async def _rows_in(self, sql: str, values: Sequence[Any]) -> list[Any]:
        return await self._run(lambda: list(rows_in(self._connection, sql, values)))

    async def _jobs(self, sql: str, values: Sequence[Any] = ()) -> list[Job]:
        return await self._run(lambda: self._decoded(self._connection.execute(sql, values)))

    async def _jobs_in(self, sql: str, values: Sequence[Any]) -> list[Job]:
        return await self._run(lambda: self._decoded(rows_in(self._connection, sql, values)))

    def _decoded(self, rows: Iterator[Any]) -> list[Job]:
        return [decode_job(row, self._names) for row in rows]


def _distinct(ids: Sequence[str]) -> list[str | bytes]:
    return list(dict.fromkeys(pack_id(identifier) for identifier in ids))


def _check_same(bound: StoreIdentity, identity: StoreIdentity) -> None:
    is_other_account = bound.account and identity.account and bound.account != identity.account
    if bound.region != identity.region or is_other_account:
        raise StoreMismatch(
            f"the store belongs to account {bound.account or 'not known yet'} in {bound.region}, not to account "
            f"{identity.account or 'not known yet'} in {identity.region}; give each its own store.url"
        )


def _same_failure(error: StoreUnavailable) -> StoreUnavailable:
    """One instance per caller, so that their tracebacks don't pile up on one another."""
    failure = StoreUnavailable(str(error))
    failure.__cause__ = error.__cause__ or error
    return failure


def _broken_rule(error: Exception) -> AssertionError:
    failure = AssertionError(f"a write breaks a rule of the store: {error}")
    failure.__cause__ = error
    return failure
