"""Conformance: what the stages ask the store."""

from __future__ import annotations

import dataclasses

from controller.core.job import BatchStatus, JobState, RowKey
from controller.ports import DeleteOutbox, InsertJob, InsertRejection, RememberCancel, TrackedRow, UpdateJob, UsageRow
from tests.store.engines import (
    BODY,
    NOON,
    SOURCE,
    AuditedStore,
    SqliteEngine,
    accepted,
    doubted,
    ended,
    finished,
    head,
    insert,
    queued,
    submitting,
    tracked,
    uid,
    update,
)


async def order(store: AuditedStore, job_queue: str = "high", **options) -> list[str]:
    return [job.job_name for job in await head(store, job_queue, **options)]


async def test_backlog_ranks_priority_against_waiting(store: AuditedStore) -> None:
    """A step of priority weighs as much as aging_s of waiting; equals go by arrival."""
    await store.set_aging({}, 60.0)
    await insert(
        store,
        queued(1, job_name="old", received_at=NOON),
        queued(2, job_name="urgent", received_at=NOON + 119, priority=2),
        queued(3, job_name="late", received_at=NOON + 121, priority=2),
        queued(4, job_name="same", received_at=NOON),
        queued(5, job_name="low", received_at=NOON - 59.5, priority=-1),
        queued(6, job_name="elsewhere", job_queue="low", job_queue_ref="low"),
    )

    assert await order(store) == ["urgent", "old", "same", "low", "late"]
    assert await order(store, limit=2) == ["urgent", "old"]
    assert await order(store, "low") == ["elsewhere"]
    assert await order(store, "unknown") == []


async def test_the_backlog_leaves_out_what_has_expired(store: AuditedStore) -> None:
    """Expired rows do not take the places of those that may be sent, however far ahead they stand."""
    await insert(
        store,
        *(queued(n, job_name="expired", priority=9, expires_at=NOON + 10) for n in range(1, 6)),
        queued(6, job_name="in time", expires_at=NOON + 11),
        queued(7, job_name="whenever"),
    )

    assert sorted(await order(store, now=NOON + 10, limit=2)) == ["in time", "whenever"]
    assert len(await order(store, now=NOON + 9)) == 7


async def test_aging_ranks_what_is_stored_again(engine: SqliteEngine) -> None:
    """Another aging re-ranks the backlog of its queue, also after a restart, and rows that return to it later."""
    store = await engine.open()
    await store.set_aging({"high": 10.0}, 60.0)
    jobs = await insert(
        store,
        queued(1, job_name="old", received_at=NOON),
        queued(2, job_name="urgent", received_at=NOON + 50, priority=1),
        queued(3, job_name="returning", received_at=NOON + 55, priority=1),
    )
    (returning,) = await update(store, submitting(jobs[2]))
    assert await order(store) == ["old", "urgent"]
    await store.close()

    store = await engine.open()
    assert await order(store) == ["old", "urgent"]
    await store.set_aging({"high": 100.0}, 60.0)
    await update(store, dataclasses.replace(returning, state=JobState.QUEUED))
    assert await order(store) == ["urgent", "returning", "old"]
    await store.set_aging({}, 20.0)
    assert await order(store) == ["old", "urgent", "returning"]


async def test_backlog_leaves_out_cancelled_and_held(store: AuditedStore) -> None:
    """Rows with a cancel request and rows of the named definitions are not offered for admission."""
    jobs = await insert(store, *(queued(n, job_name=f"job-{n}", job_definition=f"d:{n % 3}") for n in range(6)))
    await update(store, dataclasses.replace(jobs[1], cancel_requested_at=NOON))

    assert await order(store, without_definitions=["d:0", "never-seen"]) == ["job-2", "job-4", "job-5"]
    assert await order(store, without_definitions=["d:0"], limit=1) == ["job-2"]
    assert await order(store, without_definitions=["d:0", "d:1", "d:2"]) == []
    first, second = (await head(store))[:2]
    assert await order(store, without_rows=[first.key, second.key, 999_999]) == ["job-3", "job-4", "job-5"]
    assert await order(store, without_definitions=["d:0"], without_rows={second.key}) == ["job-4", "job-5"]


async def test_oldest_backlog_is_by_arrival(store: AuditedStore) -> None:
    """The oldest QUEUED row of each queue counts, whatever its rank; queues without one are missing."""
    jobs = await insert(
        store,
        queued(1, received_at=NOON + 5, priority=1000),
        queued(2, received_at=NOON + 3, priority=-1000),
        queued(3, received_at=NOON + 1),
        queued(4, job_queue="low", job_queue_ref="low", received_at=NOON),
    )
    await update(store, submitting(jobs[2]), finished(jobs[3], JobState.CANCELLED))
    assert await store.oldest_backlog() == {"high": NOON + 3}


async def test_usage_counts_live_rows(store: AuditedStore) -> None:
    """Usage tells sources, queues, states, statuses, doubt and arrays apart, and forgets final rows."""
    jobs = await insert(store, *(queued(n) for n in range(5)), queued(5, array_size=3), queued(6, source="other"))
    await update(
        store,
        submitting(jobs[0]),
        doubted(jobs[1]),
        tracked(jobs[2], batch_status=BatchStatus.RUNNABLE),
        finished(tracked(jobs[3])),
        tracked(jobs[5]),
    )

    def line(state: JobState, **changes) -> UsageRow:
        values = {"source": SOURCE, "job_queue": "high", "batch_status": None, "is_in_doubt": False, "is_array": False}
        return UsageRow(state=state, count=1, **(values | changes))

    expected = {
        line(JobState.QUEUED),
        line(JobState.QUEUED, source="other"),
        line(JobState.SUBMITTING),
        line(JobState.SUBMITTING, is_in_doubt=True),
        line(JobState.TRACKED, batch_status=BatchStatus.RUNNABLE),
        line(JobState.TRACKED, batch_status=BatchStatus.SUBMITTED, is_array=True),
    }
    rows = await store.usage()
    assert len(rows) == len(expected)
    assert set(rows) == expected


async def test_submitting_lists_every_open_submission(store: AuditedStore) -> None:
    """SUBMITTING rows are found, in doubt or not, by key; nothing else is."""
    jobs = await insert(store, *(queued(n) for n in range(4)))
    changed = await update(store, doubted(jobs[2]), submitting(jobs[1]), tracked(jobs[0]))
    assert await store.submitting() == [changed[1], changed[0]]


async def test_closing_finds_cancelled_and_expired(store: AuditedStore) -> None:
    """QUEUED rows end by a cancel request or by expires_at, each listed once, within the limit."""
    jobs = await insert(
        store,
        queued(1),
        queued(2, expires_at=NOON + 10),
        queued(3, expires_at=NOON + 11),
        queued(4, expires_at=NOON + 5),
        queued(5, expires_at=NOON + 1),
        queued(6),
    )
    await update(
        store,
        submitting(jobs[4]),
        dataclasses.replace(jobs[3], cancel_requested_at=NOON),
        dataclasses.replace(jobs[5], cancel_requested_at=NOON),
        tracked(jobs[0], cancel_requested_at=NOON),
    )

    async def closing(now: float, limit: int = 10) -> list[RowKey]:
        return sorted(job.key for job in await store.closing(now, limit=limit))

    assert await closing(NOON + 10) == [jobs[1].key, jobs[3].key, jobs[5].key]
    assert await closing(NOON) == [jobs[3].key, jobs[5].key]
    assert len(await closing(NOON + 99, limit=2)) == 2
    assert len(await closing(NOON + 99, limit=3)) == 3


async def test_tracked_is_paged_by_key(store: AuditedStore) -> None:
    """TRACKED rows come in pages by key, with what the schedule needs of them."""
    jobs = await insert(store, *(queued(n) for n in range(6)))
    await update(
        store,
        *(tracked(job) for job in jobs[:4]),
        finished(tracked(jobs[4])),
    )
    missed = tracked(jobs[1], version=2, misses=2, first_missed_at=NOON, attempts=3, batch_status=BatchStatus.RUNNING)
    await update(store, missed)

    first = await store.tracked(after=RowKey(0), limit=3)
    second = await store.tracked(after=first[-1].key, limit=3)

    assert [row.key for row in (*first, *second)] == [job.key for job in jobs[:4]]
    assert first[1] == TrackedRow(
        key=missed.key,
        job_id=missed.batch_job_id or "",
        batch_status=BatchStatus.RUNNING,
        attempts=3,
        submitted_at=NOON + 101,
        observed_at=NOON + 101,
        is_missed=True,
    )
    assert not first[0].is_missed


async def test_terminating_lists_tracked_rows_with_a_cancel(store: AuditedStore) -> None:
    """A cancel request of a TRACKED row shows until the row is final."""
    jobs = await insert(store, *(queued(n) for n in range(5)))
    cancelled = [tracked(job, cancel_requested_at=NOON, cancel_reason="why") for job in jobs[:3]]
    rows = await update(store, *cancelled, tracked(jobs[3]))
    await update(store, dataclasses.replace(jobs[4], cancel_requested_at=NOON), finished(rows[1], JobState.FAILED))

    assert await store.terminating(after=RowKey(0), limit=10) == [rows[0], rows[2]]
    assert await store.terminating(after=rows[0].key, limit=10) == [rows[2]]
    assert await store.terminating(after=RowKey(0), limit=1) == [rows[0]]


async def test_any_job_tells_its_arn_whatever_became_of_it(store: AuditedStore) -> None:
    """A job that has ended tells it, too; one whose ARN Batch did not give is passed over."""
    jobs = await insert(store, *(queued(n) for n in range(3)))
    assert await store.any_job_arn() is None
    await update(store, tracked(jobs[0], batch_job_arn=None))
    assert await store.any_job_arn() is None
    [in_flight] = await update(store, tracked(jobs[1]))
    await update(store, finished(in_flight))
    assert await store.any_job_arn() == in_flight.batch_job_arn


async def test_lookups_take_any_number_of_keys(store: AuditedStore) -> None:
    """Look-ups of many ids at once, known, unknown and repeated, find exactly the known ones."""
    jobs = await insert(store, *(queued(n) for n in range(601)))
    keys = [job.key for job in jobs]

    assert await store.load([*keys, *keys, RowKey(10**9)]) == {job.key: job for job in jobs}
    assert len(await store.bodies(keys)) == 601
    assert len(await store.find_requests([*(uid(n) for n in range(700)), uid(0)])) == 601
    assert await store.load([]) == {}
    assert await store.find_rejections([]) == frozenset()


async def test_prune_deletes_what_is_old_and_reported(store: AuditedStore) -> None:
    """Final rows, rejections and cancels older than the window go; live rows, young rows and unreported ones stay."""
    jobs = await insert(store, *(queued(n) for n in range(5)))
    await store.commit(
        [
            UpdateJob(job=finished(tracked(jobs[0]), finished_at=NOON)),
            UpdateJob(job=finished(tracked(jobs[1]), finished_at=NOON), events=(ended(),)),
            UpdateJob(job=finished(tracked(jobs[2]), finished_at=NOON + 10)),
            UpdateJob(job=tracked(jobs[3])),
            InsertRejection(message_id=uid(50), source=SOURCE, received_at=NOON, events=()),
            InsertRejection(message_id=uid(51), source=SOURCE, received_at=NOON, events=(accepted(51),)),
            InsertRejection(message_id=uid(52), source=SOURCE, received_at=NOON + 10, events=()),
            RememberCancel(request_id=uid(60), source=SOURCE, reason=None, sent_at=NOON, received_at=NOON),
            RememberCancel(request_id=uid(61), source=SOURCE, reason=None, sent_at=NOON, received_at=NOON + 10),
        ]
    )

    assert await store.prune(before=NOON + 5, limit=100) == 3
    assert await store.prune(before=NOON + 5, limit=100) == 0
    assert set(await store.load([job.key for job in jobs])) == {job.key for job in jobs[1:]}
    assert await store.find_rejections([uid(50), uid(51), uid(52)]) == {uid(51), uid(52)}
    assert [cancel.request_id for cancel in await store.find_cancels([uid(60), uid(61)])] == [uid(61)]

    await store.commit([DeleteOutbox(keys=tuple(row.key for row in await store.outbox("log", limit=10)))])
    assert await store.prune(before=NOON + 5, limit=100) == 2


async def test_prune_is_bounded_and_not_held_up(store: AuditedStore) -> None:
    """One call deletes no more than its limit, and unreported rows don't hide the reported ones behind them."""
    jobs = await insert(store, *(queued(n) for n in range(10)))
    await store.commit(
        [
            UpdateJob(job=finished(tracked(job), finished_at=NOON + n), events=(ended(),) if n < 4 else ())
            for n, job in enumerate(jobs)
        ]
    )
    assert [await store.prune(before=NOON + 100, limit=4) for _ in range(3)] == [4, 2, 0]


async def test_keys_are_never_used_again(engine: SqliteEngine) -> None:
    """A pruned row's key names no other row later, so its final event id stays its own, restart or not."""
    store = await engine.open()
    (job,) = await insert(store, finished(queued(1), JobState.CANCELLED, finished_at=NOON))
    assert await store.prune(before=NOON + 1, limit=10) == 1
    await store.close()

    store = await engine.open()
    assert list(await store.commit([InsertJob(job=queued(1), body=BODY)])) == [True]
    ((again,),) = (await store.find_requests([uid(1)])).values()
    assert again.key > job.key
