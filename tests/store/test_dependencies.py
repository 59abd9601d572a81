"""Rows that depend on other requests: when they are due, circles, and what is kept for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from controller.adapters.runner import InlineRunner
from controller.adapters.store.sqlite import open_sqlite_store
from controller.adapters.store.sqlite_file import connect_sqlite, migrate, migrations
from controller.core.job import Dependencies, Job, JobState
from controller.ports import CIRCLE_MAX, Considered, Dependent, InsertJob, UpdateJob
from tests.store.engines import BODY, NOON, AuditedStore, finished, queued, submitting, tracked, uid
from tests.store.test_sqlite_file import STORE_ID, open_store

T = TypeVar("T")


class CountingRunner(InlineRunner):
    """Counts what it runs."""

    runs = 0

    async def run(self, function: Callable[[], T]) -> T:
        self.runs += 1
        return await super().run(function)


async def put(store: AuditedStore, number: int, *on: int, **changes: object) -> Job:
    """A new row that depends on others, as it is stored."""
    dependencies = Dependencies.UNMET if on else Dependencies.NONE
    job = queued(number, dependencies=dependencies, **changes)
    assert await store.commit([InsertJob(job=job, body=BODY, depends_on=tuple(map(uid, on)))]) == [True]
    return (await store.find_requests([uid(number)]))[uid(number)][-1]


async def due(store: AuditedStore) -> Sequence[Dependent]:
    return await store.dependents(received_by=0.0, limit=99)


async def consider(store: AuditedStore, dependents: Sequence[Dependent]) -> None:
    await store.commit([Considered(key=each.job.key, dependencies=each.dependencies) for each in dependents])


async def change(store: AuditedStore, job: Job) -> Job:
    assert await store.commit([UpdateJob(job=job)]) == [True]
    return replace(job, version=job.version + 1)


async def test_a_row_is_due_when_it_is_new_and_when_what_it_depends_on_has_changed(store: AuditedStore) -> None:
    """An intent is no change yet; a job is, and so is its end."""
    assert not store.has_dependents
    await put(store, 1, 2)
    assert store.has_dependents
    other = await put(store, 2)
    assert [each.job.request_id for each in await due(store)] == [uid(1)]
    await consider(store, await due(store))
    assert await due(store) == []
    other = await change(store, submitting(other))
    assert await due(store) == []
    for changed in (tracked(other), finished(tracked(replace(other, version=other.version + 1)), JobState.FAILED)):
        await change(store, changed)
        assert [each.job.request_id for each in await due(store)] == [uid(1)]
        await consider(store, await due(store))


async def test_what_changes_while_it_is_considered_is_due_again(store: AuditedStore) -> None:
    """What was read before the change settles nothing."""
    await put(store, 1, 2, 3)
    other = await put(store, 2)
    read = await due(store)
    await change(store, tracked(submitting(other)))
    await consider(store, read)
    (left,) = await due(store)
    assert {each.request_id for each in left.dependencies if each.due} == {uid(2)}
    await consider(store, [left])
    assert await due(store) == []


async def test_old_rows_that_still_wait_are_found_without_a_change(store: AuditedStore) -> None:
    """Those received at or before an instant."""
    await put(store, 1, 9, received_at=NOON)
    await put(store, 2, 9, received_at=NOON + 1)
    await consider(store, await due(store))
    assert [each.job.request_id for each in await store.dependents(received_by=NOON, limit=9)] == [uid(1)]


async def test_circles_are_found_and_chains_are_none(store: AuditedStore) -> None:
    """By the row that closes it, through rows that wait themselves; not through one that has a job, or is unknown."""
    first = await put(store, 1, 3, 9)
    second = await put(store, 2, 1)
    chain = await put(store, 4, 1)
    keys = [first.key, second.key, chain.key]
    assert await store.circular(keys) == frozenset()
    third = await put(store, 3, 2)
    assert await store.circular([*keys, third.key]) == {third.key}
    await change(store, replace(second, dependencies=Dependencies.MET))
    assert await store.circular([*keys, third.key]) == frozenset()


async def test_a_long_chain_is_followed_so_far_and_no_further(store: AuditedStore) -> None:
    """A row is compared with a bounded number of others, however many it waits for."""
    count = CIRCLE_MAX + 5
    jobs = [queued(n, dependencies=Dependencies.UNMET) for n in range(count)]
    links = [InsertJob(job=job, body=BODY, depends_on=(uid((n + 1) % count),)) for n, job in enumerate(jobs)]
    await store.commit(links)
    lives = await store.find_requests([uid(0)])
    assert await store.circular([lives[uid(0)][0].key]) == frozenset()


async def test_looking_for_circles_holds_nobody_up() -> None:
    """Rows on which none that came before depends close no circle, and the others are looked at one at a time: each
    may be compared with many, and commits wait meanwhile."""
    runner = CountingRunner()
    store = await open_sqlite_store(
        "sqlite:///:memory:",
        runner=runner,
        sinks_of=lambda event: (),
        dead_letters=False,
        random_id=lambda: STORE_ID,
    )
    jobs = [queued(n, dependencies=Dependencies.UNMET) for n in range(20)]
    await store.commit([InsertJob(job=job, body=BODY, depends_on=(uid(n - 1),)) for n, job in enumerate(jobs[10:], 10)])
    await store.commit([InsertJob(job=job, body=BODY, depends_on=(uid(n + 10),)) for n, job in enumerate(jobs[:10])])
    lives = await store.find_requests([uid(n) for n in range(20)])
    keys = [lives[uid(n)][0].key for n in range(20)]
    runner.runs = 0
    assert await store.circular(keys[10:]) == frozenset()
    assert runner.runs == 1
    assert await store.circular(keys) == {keys[9]}  # 10 depends on it, and it on 19
    assert runner.runs == 3
    await store.close()


async def test_what_a_row_depends_on_is_told_and_kept_until_it_is_sent(store: AuditedStore) -> None:
    """Then nothing of it is left, and the other may be pruned."""
    row, other = await put(store, 1, 2), await put(store, 2)
    other = await change(store, tracked(submitting(other)))
    other = await change(store, finished(other, JobState.SUCCEEDED, finished_at=NOON + 200))
    assert await store.depended_on([row.key, other.key]) == {row.key: [other]}
    assert await store.prune(before=NOON + 999, limit=9) == 0
    row = await change(store, submitting(replace(row, dependencies=Dependencies.MET)))
    assert await store.depended_on([row.key]) == {row.key: [other]}
    await change(store, tracked(row))
    assert await store.depended_on([row.key]) == {}
    assert await due(store) == []
    assert not store.has_dependents
    assert await store.prune(before=NOON + 999, limit=9) == 1


async def test_what_waits_for_others_is_no_backlog_that_could_be_sent(store: AuditedStore) -> None:
    """It is counted apart, and its age is not that of the backlog."""
    await put(store, 1, 2)
    await put(store, 3)
    assert sorted((row.is_unmet, row.count) for row in await store.usage()) == [(False, 1), (True, 1)]
    assert await store.oldest_backlog() == {"high": NOON + 3}


async def test_an_older_store_has_rows_that_depend_on_nobody(tmp_path: Path) -> None:
    """They are counted and offered as before."""
    path = tmp_path / "state.db"
    connection = connect_sqlite(str(path))
    migrate(connection, str(path), migrations()[:5])
    connection.execute("INSERT INTO store (one, store_id, next_key) VALUES (1, ?, 9)", (STORE_ID,))
    for table, columns in (("sources", "'s'"), ("job_definitions", "'d'"), ("job_queues", "'high', 60.0")):
        connection.execute(f"INSERT INTO {table} VALUES (1, {columns})")
    connection.execute(
        "INSERT INTO jobs (key, version, request_id, source, content_hash, job_name, batch_job_name, job_queue, "
        "job_definition, priority, received_at, state, life, rank, is_in_doubt, refusals, attempts, misses, tenant) "
        "VALUES (1, 1, 'r1', 1, zeroblob(32), 'n', zeroblob(6), 1, 1, 0, ?, 0, 0, ?, 0, 0, 0, 0, 0)",
        (NOON, NOON),
    )
    connection.execute("INSERT INTO bodies VALUES (1, ?)", (BODY.encode(),))
    connection.execute("INSERT INTO usage VALUES (1, 1, 0, -1, 0, 0, 1)")
    connection.close()
    corrections: list[str] = []
    store = await open_store(path, report=corrections.append)
    assert corrections == []
    assert [(row.is_unmet, row.count) for row in await store.usage()] == [(False, 1)]
    assert await store.oldest_backlog() == {"high": NOON}
    assert (await store.find_requests(["r1"]))["r1"][0].dependencies is Dependencies.NONE
    assert await store.audit() == []
    await store.close()
