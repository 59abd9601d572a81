"""Conformance: what operators ask. And that each answer looks at a bounded number of rows, found by index."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Sequence
from typing import Any

import pytest

from controller.adapters.store import listing
from controller.adapters.store.listing import SCAN_MAX, STRETCH_COST, Listing
from controller.adapters.store.names import Vocabulary
from controller.adapters.store.sqlite_file import migrate, migrations
from controller.core.inquiry import Inquiry, Place, inquiry_of
from controller.core.job import Dependencies, Job, JobState
from controller.ports import InsertJob, JobStore
from tests.store.engines import NOON, AuditedStore, doubted, finished, insert, queued, submitting, tracked, uid, update

NAMES = ["waits", "first", "sent", "doubtful", "tracked", "over", "failed", "lost", "refused", "cancelled", "late"]


def flat(pages: list[list[str]]) -> list[str]:
    return [name for page in pages for name in page]


async def listed(store: JobStore, limit: int = 100, **query: str | Sequence[str]) -> list[list[str]]:
    """Job names, page by page, as a client asks for them."""
    pages: list[list[str]] = []
    after: Place | None = None
    while True:
        given = {name: [value] if isinstance(value, str) else list(value) for name, value in query.items()}
        if after is not None:
            given["after"] = [str(after)]
        page = await store.list_requests(dataclasses.replace(inquiry_of(given), limit=limit))
        pages.append([job.job_name for job in page.jobs])
        after = page.after
        if after is None:
            return pages


async def dependent(store: AuditedStore, job: Job) -> Job:
    """A row that waits for another request."""
    waiting = dataclasses.replace(job, dependencies=Dependencies.UNMET)
    await store.commit([InsertJob(job=waiting, body="{}", depends_on=(uid(99), "by-name"))])
    return (await store.find_requests([job.request_id]))[job.request_id][-1]


async def some(store: AuditedStore) -> list[Job]:
    """One of each state and some more that wait, of two job queues, tenants and definitions."""
    rows = [
        queued(
            number,
            job_name=name,
            job_queue="low" if number in (0, 3) else "high",
            tenant="b" if number == 10 else "a",
            job_definition=f"work:{number % 2}",
            received_at=NOON - number,
        )
        for number, name in enumerate(NAMES)
    ]
    jobs = [await dependent(store, rows[0]), *await insert(store, *rows[1:])]
    await update(
        store,
        submitting(jobs[2]),
        doubted(jobs[3]),
        *map(tracked, jobs[4:8]),
        finished(jobs[8], JobState.REJECTED),
        finished(jobs[9], JobState.CANCELLED),
    )
    ended = [(5, JobState.SUCCEEDED), (6, JobState.FAILED), (7, JobState.LOST)]
    loaded = await store.load([jobs[number].key for number, _ in ended])
    await update(store, *(finished(loaded[jobs[number].key], state) for number, state in ended))
    return jobs


async def test_a_list_of_everything_goes_by_arrival(store: AuditedStore) -> None:
    """Requests of every state, in pages of any length, each once."""
    await some(store)
    for limit in (1, 2, 3, 10, 11, 100):
        pages = await listed(store, limit)
        assert flat(pages) == NAMES
        assert all(len(page) <= limit for page in pages)


async def test_a_list_of_states_goes_the_way_that_requests_go(store: AuditedStore) -> None:
    """Those that wait (what depends on others first, then by age), are being sent, are in flight, have ended."""
    await some(store)
    way = ["late", "first", "waits", "sent", "doubtful", "tracked"]
    queues = {"high": ["late", "first"], "low": ["waits"]}
    for limit in (1, 2, 5, 100):
        live = flat(await listed(store, limit, state="live"))
        assert sorted(live[:3]) == sorted(way[:3])
        assert [name for name in live[:3] if name in queues["high"]] == queues["high"]
        assert live[3:] == way[3:]
        assert flat(await listed(store, limit, state=["LOST", "QUEUED", "REJECTED"]))[3:] == ["lost", "refused"]
        assert flat(await listed(store, limit, state="TRACKED")) == ["tracked"]
        assert flat(await listed(store, limit, state=["SUCCEEDED", "FAILED"])) == ["over", "failed"]


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"job_queue": "low"}, ["waits", "doubtful"]),
        ({"tenant": "b"}, ["late"]),
        ({"job_definition": "work:1"}, ["first", "doubtful", "over", "lost", "cancelled"]),
        ({"job_queue": "high", "state": "QUEUED"}, ["late", "first"]),
        ({"job_queue": "high", "state": "QUEUED", "tenant": "b", "job_definition": "work:0"}, ["late"]),
        ({"job_queue": "low", "state": "live"}, ["waits", "doubtful"]),
        ({"state": "FAILED", "job_definition": "work:1"}, []),
        ({"job_queue": "unknown"}, []),
        ({"tenant": "unknown", "state": "QUEUED"}, []),
        ({"job_definition": "unknown", "state": "TRACKED"}, []),
    ],
)
async def test_a_list_is_narrowed(store: AuditedStore, limit: int, query: dict[str, str], found: Sequence[str]) -> None:
    """By job queue, tenant, definition and state, all of which must hold."""
    await some(store)
    assert flat(await listed(store, limit, **query)) == list(found)


async def test_what_moves_on_while_it_is_listed_is_not_left_out(store: AuditedStore) -> None:
    """A request that no longer waits for others, or is sent, is listed where it is then."""
    jobs = [await dependent(store, queued(number, job_name=name)) for number, name in ((1, "waits"), (2, "waits too"))]
    jobs += await insert(store, queued(3, job_name="next"))
    asked = Inquiry(states=frozenset({JobState.QUEUED, JobState.SUBMITTING}), limit=1)
    first = await store.list_requests(asked)
    await update(store, dataclasses.replace(jobs[1], dependencies=Dependencies.MET), submitting(jobs[2]))
    rest = await store.list_requests(dataclasses.replace(asked, after=first.after, limit=10))
    assert [job.job_name for job in (*first.jobs, *rest.jobs)] == ["waits", "waits too", "next"]


async def test_what_a_row_depends_on_is_told_until_it_is_sent(store: AuditedStore) -> None:
    """By the ids that its message names."""
    row = await dependent(store, queued(1))
    assert sorted(await store.named_dependencies(row.key)) == sorted([uid(99), "by-name"])
    (other,) = await insert(store, queued(2))
    assert await store.named_dependencies(other.key) == []


async def test_the_place_of_a_row_is_counted(store: AuditedStore) -> None:
    """Those of its own tenant and job queue that stand before it, as far as is asked for."""
    jobs = await insert(
        store,
        *(queued(number, received_at=NOON) for number in range(4)),
        queued(4, received_at=NOON + 1, priority=1),
        queued(5, tenant="other", received_at=NOON - 9),
    )
    jobs.append(await dependent(store, queued(6, received_at=NOON - 9)))
    assert [await store.ahead(job.key, limit=10) for job in jobs] == [1, 2, 3, 4, 0, 0, None]
    assert await store.ahead(jobs[3].key, limit=2) == 2
    await update(store, submitting(jobs[0]))
    assert await store.ahead(jobs[0].key, limit=10) is None
    assert await store.ahead(jobs[1].key, limit=10) == 1


# --- by index -----------------------------------------------------------------------------------------------

ROWS = 3 * SCAN_MAX


def filled() -> sqlite3.Connection:
    """A store's tables with more rows than a page may look at, of every state that a walk goes by, a hundred
    of which were received together."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, ":memory:", migrations())
    for number, name in enumerate(("high", "low"), start=1):
        connection.execute("INSERT INTO job_queues VALUES (?, ?, 60)", (number, name))
        connection.execute("INSERT INTO job_definitions VALUES (?, ?)", (number, f"work:{number}"))
    connection.execute("INSERT INTO tenants (id, name) VALUES (7, 'a'), (8, 'b')")
    connection.execute("INSERT INTO sources (id, name) VALUES (1, 'requests')")
    connection.execute("BEGIN")
    for state in (0, 1, 2, 4):
        connection.execute(
            f"""
            WITH RECURSIVE numbers (n) AS (SELECT {state * ROWS} + 1 UNION ALL SELECT n + 1 FROM numbers
                LIMIT {ROWS})
            INSERT INTO jobs (key, version, request_id, source, content_hash, job_name, batch_job_name, job_queue,
                job_definition, tenant, priority, received_at, state, life, rank, batch_job_id, finished_at,
                first_intent_at, submitted_at, is_in_doubt, refusals, attempts, misses)
            SELECT n, 1, 'r' || n, 1, zeroblob(32), 'job', zeroblob(6), 1, 1, 7, 0, n / 100, {state}, 0,
                iif({state} = 0, n / 100, NULL), iif({state} IN (2, 4), 'j' || n, NULL), iif({state} = 4, 6, NULL), 1,
                1, 0, 0, 0, 0
            FROM numbers"""
        )
    connection.execute("COMMIT")
    return connection


@pytest.fixture(scope="module")
def large() -> Any:
    connection = filled()
    yield connection
    connection.close()


QUESTIONS: dict[str, dict[str, list[str]]] = {
    "all": {},
    "all, of few": {"tenant": ["b"]},
    "ended, of few": {"state": ["FAILED"], "job_definition": ["work:2"]},
    "waiting": {"state": ["QUEUED"]},
    "waiting, of few": {"state": ["QUEUED"], "tenant": ["b"]},
    "waiting for one queue, of few": {"state": ["QUEUED"], "job_queue": ["high"], "job_definition": ["work:2"]},
    "live, of few": {"state": ["live"], "job_definition": ["work:2"]},
    "in flight": {"state": ["TRACKED"]},
    "of a state that is rare": {"state": ["LOST"]},
}


@pytest.mark.parametrize("query", QUESTIONS.values(), ids=QUESTIONS)
def test_a_page_looks_at_a_bounded_number_of_rows(large: sqlite3.Connection, query: dict[str, list[str]]) -> None:
    """However many there are, and however few of them are asked for: the engine's steps are counted, at the beginning
    and at every later page."""
    names = Vocabulary(large)
    asked = dataclasses.replace(inquiry_of(query), limit=1_000)
    found, pages, most = 0, 0, 0
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 100

    large.set_progress_handler(count, 100)
    try:
        while pages == 0 or (asked.after is not None and pages < 14):
            steps = 0
            rows, after = Listing(large, names, asked).page()
            asked = dataclasses.replace(asked, after=after)
            found, pages, most = found + len(rows), pages + 1, max(most, steps)
    finally:
        large.set_progress_handler(None, 0)
    assert most < 35 * SCAN_MAX
    is_of_few = query.keys() > {"state"} or query in ({"tenant": ["b"]}, {"state": ["LOST"]})
    assert found == (0 if is_of_few else 1_000 * pages)


async def test_made_up_names_of_job_queues_cost_no_more_than_rows(store: AuditedStore) -> None:
    """Each has to be looked into, so a page goes through some hundreds; every request is listed once all the same."""
    names = [f"made-up-{number}" for number in range(2 * SCAN_MAX // STRETCH_COST)]
    await insert(
        store,
        *(queued(number, job_name=name, job_queue=name, job_queue_ref=name) for number, name in enumerate(names)),
    )
    pages = await listed(store, 1_000, state="QUEUED")
    assert max(map(len, pages)) <= SCAN_MAX // STRETCH_COST
    assert sorted(flat(pages)) == sorted(names)


def test_every_page_is_found_by_index(large: sqlite3.Connection) -> None:
    """By seeks to where it begins, without sorting what is there."""
    told: list[str] = []

    class Explained:
        """Says how each statement would be carried out, and carries it out."""

        def execute(self, sql: str, values: Sequence[Any] = ()) -> Any:
            told.extend(row[3] for row in large.execute(f"EXPLAIN QUERY PLAN {sql}", values))
            return large.execute(sql, values)

    connection: Any = Explained()
    names = Vocabulary(large)
    for query in QUESTIONS.values():
        asked = dataclasses.replace(inquiry_of(query), limit=10)
        for _ in range(3):
            _, after = Listing(connection, names, asked).page()
            if after is None:
                break
            asked = dataclasses.replace(asked, after=after)
    listing.ahead(connection, 9, 100)
    assert set(told) <= {
        "SEARCH jobs USING INTEGER PRIMARY KEY (rowid>?)",
        "SEARCH jobs USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        "SEARCH jobs USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH jobs USING INDEX jobs_in_flight (state=? AND rowid>?)",
        "SEARCH jobs USING COVERING INDEX jobs_in_flight (state=? AND rowid>?)",
        "SEARCH jobs USING INDEX jobs_in_flight (state=? AND rowid>? AND rowid<?)",
        "SEARCH jobs USING INDEX jobs_waiting (job_queue>?)",
        "SEARCH jobs USING INDEX jobs_waiting (job_queue=? AND <expr>=? AND received_at>?)",
        "SEARCH jobs USING INDEX jobs_waiting (job_queue=? AND <expr>=? AND received_at>? AND received_at<?)",
        "SEARCH jobs USING INDEX jobs_backlog (job_queue=? AND tenant=? AND rank<?)",
        "CO-ROUTINE (subquery-1)",
        "SCAN (subquery-1)",
    }
