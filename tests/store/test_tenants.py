"""Tenants in the store: whose turn it is, found by index, with a bounded number of names."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from controller.adapters.runner import InlineRunner
from controller.adapters.store.backlog import NEXT_TENANT, ROWS, ROWS_BUT
from controller.adapters.store.names import TENANTS_MAX, TENANTS_SHARED, Vocabulary, forget_unused, shared_tenant
from controller.adapters.store.rows import pack_id
from controller.adapters.store.sqlite import SqliteStore, open_sqlite_store
from controller.adapters.store.sqlite_file import connect_sqlite, migrate, migrations
from controller.core.job import Job, JobState, replace
from controller.core.tenants import in_turns
from controller.ports import InsertJob
from tests.store.engines import BODY, NOON, STORE_ID, AuditedStore, finished, head, insert, queued, submitting, update

OTHER = "https://sqs.eu-west-1.amazonaws.com/123456789012/others"


async def _names(store: AuditedStore, **options) -> list[str]:
    return [job.job_name for job in await head(store, **options)]


async def _of_tenants(store: AuditedStore, tenants: str) -> None:
    """A row per letter, which is its tenant; named by its place."""
    await insert(store, *(queued(n, job_name=str(n), tenant=tenant) for n, tenant in enumerate(tenants)))


async def test_the_backlog_comes_tenant_by_tenant(store: AuditedStore) -> None:
    """Newest tenant first, each tenant's rows by their rank, and a later priority does not reach across tenants."""
    await _of_tenants(store, "aabab")
    await insert(store, queued(9, job_name="urgent", tenant="a", priority=1_000))
    assert await _names(store) == ["2", "4", "urgent", "0", "1", "3"]


async def test_turns_go_on_after_the_tenant_that_was_served_last(store: AuditedStore) -> None:
    """Round and round; a tenant that nobody knows is the beginning of a round."""
    await _of_tenants(store, "abcabc")
    assert await _names(store, limit=3) == ["2", "1", "0"]
    assert await _names(store, limit=3, after_tenant="c") == ["1", "0", "2"]
    assert await _names(store, limit=3, after_tenant="b") == ["0", "2", "1"]
    assert await _names(store, limit=1, after_tenant="a") == ["2"]
    assert await _names(store, limit=1, after_tenant="never seen") == ["2"]


async def test_a_new_tenant_does_not_push_in(store: AuditedStore) -> None:
    """It comes after those that wait for their turn of this round."""
    await _of_tenants(store, "abcc")
    await _of_tenants_later(store, "new")
    assert await _names(store, limit=3, after_tenant="c") == ["1", "0", "later"]


async def _of_tenants_later(store: AuditedStore, tenant: str) -> None:
    await insert(store, queued(99, job_name="later", tenant=tenant))


async def test_a_tenant_whose_rows_may_not_be_sent_blocks_nobody(store: AuditedStore) -> None:
    """Held definitions, cancelled and expired rows are passed over, and the others get all that is asked for."""
    await insert(
        store,
        *(queued(n, job_name=f"a{n}", tenant="a") for n in range(4)),
        *(queued(10 + n, tenant="held", job_definition="held:1") for n in range(4)),
        *(queued(20 + n, tenant="expired", expires_at=NOON) for n in range(4)),
        *(queued(30 + n, job_name=f"b{n}", tenant="b") for n in range(2)),
    )
    rows = await head(store, limit=6, now=NOON, without_definitions=["held:1"])
    assert [job.job_name for job in in_turns(rows, 6)] == ["b0", "a0", "b1", "a1", "a2", "a3"]


async def test_any_number_of_definitions_may_be_held() -> None:
    """More than an SQL statement may have parameters (32,766): a producer may have thousands of pairs denied."""
    store = await _counted(Counter())
    held = [f"denied:{number}" for number in range(33_000)]
    jobs = [queued(number, job_definition=name) for number, name in enumerate([*held, "allowed:1"])]
    await store.commit([InsertJob(job=job, body=BODY) for job in jobs])
    assert [job.job_definition for job in await head(store, limit=9, without_definitions=held)] == ["allowed:1"]
    await store.close()


@pytest.mark.parametrize("limit", [1, 2, 7, 19, 64])
async def test_there_are_rows_for_every_turn(store: AuditedStore, limit: int) -> None:
    """However unequal the tenants' backlogs, the rows of all turns are there, and not many more."""
    await _of_tenants(
        store, "".join(letter * count for letter, count in zip("abcdef", (1, 2, 3, 5, 30, 1), strict=True))
    )
    rows = await head(store, limit=limit)
    assert min(limit, 42) <= len(rows) <= 2 * limit + 6
    order = in_turns(rows, limit)
    assert len(order) == min(limit, 42)
    served = Counter(job.tenant for job in order)
    most = max(served.values())
    waiting = {"a": 1, "b": 2, "c": 3, "d": 5, "e": 30, "f": 1}
    assert all(served[tenant] >= min(count, most - 1) for tenant, count in waiting.items())


async def test_tenants_with_a_backlog_are_counted(store: AuditedStore) -> None:
    """Per job queue, and only those that have a request which may be sent."""
    await _of_tenants(store, "aabc")
    (cancelled, _) = await insert(
        store, queued(7, tenant="d"), queued(8, tenant="a", job_queue="low", job_queue_ref="low")
    )
    await update(store, replace(cancelled, cancel_requested_at=NOON))
    assert await store.backlog_tenants() == {"high": 3, "low": 1}


# --- by index -----------------------------------------------------------------------------------------------


def test_turns_are_found_by_index() -> None:
    """The next tenant is one seek; its rows come from the same index, of which only rows of one rank are sorted."""
    connection = sqlite3.connect(":memory:")
    migrate(connection, ":memory:", migrations())
    for sql, values, seek in (
        (NEXT_TENANT, (1, 5), "(job_queue=? AND tenant<?)"),
        (ROWS, (1, 2, NOON, 9), "(job_queue=? AND tenant=?)"),
        (ROWS_BUT, (1, 2, 0.0, NOON, "[3]", "[7]", 9), "(job_queue=? AND tenant=? AND rank>?)"),
    ):
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
        assert plan[0] == f"SEARCH jobs USING INDEX jobs_backlog {seek}"
        assert set(plan[1:]) <= {
            "CREATE BLOOM FILTER",  # of later releases of SQLite, for the list of what is held
            "LIST SUBQUERY 1",
            "LIST SUBQUERY 2",
            "SCAN json_each VIRTUAL TABLE INDEX 1:",
            "USE TEMP B-TREE FOR RIGHT PART OF ORDER BY",
            "USE TEMP B-TREE FOR LAST TERM OF ORDER BY",  # the same, in the words of later releases of SQLite
        }
    connection.close()


async def _counted(steps: Counter[str]) -> SqliteStore:
    """A store that counts, by tens, the steps that its engine takes."""

    def connect(path: str) -> sqlite3.Connection:
        connection = connect_sqlite(path)
        connection.set_progress_handler(lambda: steps.update(taken=1), 10)
        return connection

    return await open_sqlite_store(
        "sqlite:///:memory:",
        runner=InlineRunner(),
        sinks_of=lambda name: (),
        dead_letters=False,
        random_id=lambda: STORE_ID,
        connect=connect,
    )


async def _filled(tenants: int, rows_each: int) -> tuple[SqliteStore, Counter[str]]:
    """A store with a flood, and its counter."""
    steps: Counter[str] = Counter()
    store = await _counted(steps)
    number = 0
    for _ in range(rows_each):
        writes = []
        for tenant in range(tenants):
            number += 1
            writes.append(InsertJob(job=queued(number, tenant=f"t{tenant}"), body=BODY))
        await store.commit(writes)
    steps.clear()
    return store, steps


async def test_a_plan_passes_over_the_rows_of_a_held_definition_once() -> None:
    """However many there are before the first that may be sent; rows that come in front of it are seen all the same."""
    store, steps = await _filled(1, 2_000)
    assert await _held(store) == []
    assert steps.pop("taken") > 500
    await store.commit([InsertJob(job=queued(9_001, tenant="t0", job_name="late", job_definition="d:2"), body=BODY)])
    await store.commit([InsertJob(job=queued(9_002, tenant="t0", job_name="held again"), body=BODY)])
    steps.clear()
    assert await _held(store) == ["late"]
    assert steps["taken"] < 100
    urgent = queued(9_003, tenant="t0", job_name="urgent", job_definition="d:2", priority=1_000)
    await store.commit([InsertJob(job=urgent, body=BODY)])
    assert await _held(store) == ["urgent", "late"]
    await store.set_aging({}, 600.0)
    assert await _held(store) == ["urgent", "late"]
    assert (await head(store, limit=1))[0].job_name == "urgent"
    assert len(await head(store, limit=2_010)) == 2_003
    await store.close()


async def _held(store: SqliteStore) -> list[str]:
    rows = await head(store, limit=20, without_definitions=[queued(1).job_definition])
    return [job.job_name for job in rows]


async def test_a_plan_costs_the_same_whatever_waits() -> None:
    """Counted in steps of the engine: twenty turns among 20 tenants with 5 rows each, among 2,000 tenants, and among
    rows twenty times as many. A plan reads a few rows per turn, never a backlog."""

    async def cost(tenants: int, rows_each: int) -> int:
        store, steps = await _filled(tenants, rows_each)
        for after in (None, f"t{tenants // 2}", "t0"):
            rows = await head(store, limit=20, after_tenant=after)
            assert len(in_turns(rows, 20)) == 20
        await store.close()
        return steps["taken"]

    few = await cost(20, 5)
    assert await cost(2_000, 5) <= 1.1 * few
    assert await cost(20, 100) <= 1.1 * few


# --- names --------------------------------------------------------------------------------------------------


def test_the_number_of_tenants_is_bounded() -> None:
    """Whoever puts a new name into every message shares a few names with others like him; those that were known keep
    their own."""
    connection = connect_sqlite(":memory:")
    migrate(connection, ":memory:", migrations())
    names = Vocabulary(connection)
    known = names.tenants.id_of("known")
    for number in range(TENANTS_MAX + 3_000):
        names.tenants.id_of(f"t{number}")
    (stored,) = connection.execute("SELECT count(*) FROM tenants").fetchone()
    assert TENANTS_MAX < stored <= TENANTS_MAX + TENANTS_SHARED
    assert names.tenants.id_of("known") == known
    late = names.tenants.id_of("too late")
    assert names.tenants.name_of(late) == shared_tenant("too late")
    assert names.tenants.id_of("too late") == late
    connection.close()


def test_names_without_a_row_are_forgotten() -> None:
    """Once there are more than are kept, when the store is opened; what has rows keeps its name."""
    connection = connect_sqlite(":memory:")
    migrate(connection, ":memory:", migrations())
    for number in range(4):
        connection.execute("INSERT INTO tenants (name) VALUES (?)", (f"t{number}",))
        connection.execute("INSERT INTO job_queues (name, aging_s) VALUES (?, 60.0)", (f"q{number}",))
    forget_unused(connection, {"tenants": 9, "job_queues": 9})
    assert connection.execute("SELECT count(*) FROM tenants").fetchone() == (5,)
    assert connection.execute("SELECT count(*) FROM job_queues").fetchone() == (4,)
    forget_unused(connection, {"tenants": 4, "job_queues": 3})
    assert connection.execute("SELECT name FROM tenants").fetchall() == [("",)]
    assert connection.execute("SELECT name FROM job_queues").fetchall() == []
    connection.close()


async def test_reads_pass_over_job_queues_that_nothing_waits_for() -> None:
    """Requests may make up job queues for days: what has no row that waits costs a scrape nothing."""

    async def cost(made_up: int) -> int:
        steps: Counter[str] = Counter()
        store = await _counted(steps)
        jobs = [
            finished(queued(number, job_queue=f"made-up-{number}"), JobState.CANCELLED) for number in range(made_up)
        ]
        await store.commit([InsertJob(job=job, body="") for job in jobs])
        await insert(store, queued(made_up, job_queue="high", received_at=NOON))
        steps.clear()
        assert await store.oldest_backlog() == {"high": NOON}
        assert await store.backlog_tenants() == {"high": 1}
        await store.close()
        return steps["taken"]

    assert await cost(2_000) <= await cost(2) + 1


# --- an older store -----------------------------------------------------------------------------------------


def _older(path: Path, jobs: list[Job]) -> None:
    """A store as the release before tenants has left it."""
    connection = connect_sqlite(str(path))
    migrate(connection, str(path), migrations()[:2])
    connection.execute("INSERT INTO store (one, store_id, next_key) VALUES (1, ?, 99)", (STORE_ID,))
    connection.execute("INSERT INTO job_queues (name, aging_s) VALUES ('high', 60.0)")
    connection.execute("INSERT INTO job_definitions (name) VALUES ('train:3')")
    for source in dict.fromkeys(job.source for job in jobs):
        connection.execute("INSERT INTO sources (name) VALUES (?)", (source,))
    for key, job in enumerate(jobs, start=1):
        state = {JobState.QUEUED: 0, JobState.SUBMITTING: 1, JobState.CANCELLED: 7}[job.state]
        connection.execute(
            "INSERT INTO jobs (key, version, request_id, source, content_hash, job_name, batch_job_name, job_queue, "
            "job_definition, priority, received_at, state, life, rank, finished_at, first_intent_at, is_in_doubt, "
            "refusals, attempts, misses) "
            "VALUES (?, 1, ?, (SELECT id FROM sources WHERE name = ?), ?, ?, ?, 1, 1, 0, ?, ?, 0, ?, ?, ?, 0, 0, 0, 0)",
            (
                key,
                pack_id(job.request_id),
                job.source,
                job.content_hash,
                job.job_name,
                job.batch_job_name,
                job.received_at,
                state,
                job.received_at if state == 0 else None,
                job.finished_at,
                job.first_intent_at,
            ),
        )
        if state < 2:
            connection.execute("INSERT INTO bodies VALUES (?, ?)", (key, BODY.encode()))
    connection.close()


async def test_an_older_store_opens_and_goes_on(tmp_path: Path) -> None:
    """What waits there, or comes back to the backlog, is its SQS queue's; what has ended is nobody's; new requests of
    the same queue are of the same tenant."""
    path = tmp_path / "state.db"
    old = [
        queued(1, job_name="first"),
        queued(2, job_name="other", source=OTHER),
        submitting(queued(3, job_name="sending", source=OTHER)),
        finished(queued(4, job_name="ended"), JobState.CANCELLED),
        queued(5, job_name="second"),
    ]
    _older(path, old)
    store = await open_sqlite_store(
        f"sqlite:///{path}",
        runner=InlineRunner(),
        sinks_of=lambda name: (),
        dead_letters=False,
        random_id=lambda: STORE_ID,
    )
    assert await _names(store) == ["other", "first", "second"]
    (sending,) = await store.submitting()
    assert sending.tenant == OTHER
    await update(store, replace(sending, state=JobState.QUEUED))
    assert await store.commit([InsertJob(job=queued(6, job_name="new", tenant=old[0].source), body=BODY)]) == [True]
    assert await _names(store) == ["other", "sending", "first", "second", "new"]
    lives = await store.find_requests([old[3].request_id])
    assert [life.tenant for life in lives[old[3].request_id]] == [""]
    assert await store.audit() == []
    await store.close()
