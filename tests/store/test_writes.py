"""Conformance: which writes apply, and that each applies whole."""

from __future__ import annotations

import dataclasses
import json

import orjson
import pytest

from controller.core.errors import StoreMismatch
from controller.core.events import Event, event_id
from controller.core.job import BatchStatus, JobState
from controller.ports import (
    LIVES_MAX,
    Block,
    DeadLetter,
    DeleteOutbox,
    EndBlock,
    Hold,
    InsertJob,
    InsertRejection,
    PutBlock,
    PutHold,
    ReleaseHold,
    RememberCancel,
    StoreIdentity,
    UpdateJob,
)
from tests.store.engines import (
    BODY,
    NOON,
    SOURCE,
    STORE_ID,
    AuditedStore,
    SqliteEngine,
    accepted,
    doubted,
    ended,
    finished,
    insert,
    load,
    queued,
    submitting,
    tracked,
    uid,
    update,
)


def rejected(job, **changes):
    return finished(job, JobState.REJECTED, **({"reason": "no", "reason_class": "refused"} | changes))


def rejection(number: int = 1, **changes) -> InsertRejection:
    values = {"message_id": uid(number), "source": SOURCE, "received_at": NOON, "events": ()}
    return InsertRejection(**(values | changes))


async def test_stale_version_changes_nothing(store: AuditedStore) -> None:
    """An update computed from an older version leaves no trace: no row, no event, no dead letter, no erased body."""
    (job,) = await insert(store, queued())
    await update(store, submitting(job))
    letter = DeadLetter(body="", reason="no", error_code="x", message_id=job.message_id)

    answers = await store.commit([UpdateJob(job=rejected(job), events=(ended(),), dead_letter=letter)])

    assert list(answers) == [False]
    assert (await load(store, job.key)).state is JobState.SUBMITTING
    assert await store.outbox_counts() == {}
    assert await store.bodies([job.key]) == {job.key: BODY}


async def test_update_of_an_unknown_row_does_not_apply(store: AuditedStore) -> None:
    """A row that was never stored, or is pruned, can't be updated."""
    assert list(await store.commit([UpdateJob(job=queued(key=77, version=1))])) == [False]


async def test_second_live_life_does_not_apply(store: AuditedStore) -> None:
    """An id whose row is not REJECTED, final or not, takes no second row, and the try leaves no event or body."""
    (job,) = await insert(store, queued())
    await store.commit([UpdateJob(job=finished(tracked(job)))])

    again = InsertJob(job=queued(), body="{}", events=(accepted(),))

    assert list(await store.commit([again, again])) == [False, False]
    assert len((await store.find_requests([job.request_id]))[job.request_id]) == 1
    assert await store.outbox_counts() == {}


async def test_same_id_twice_in_one_commit(store: AuditedStore) -> None:
    """Of two inserts of one id in one commit the first stands."""
    one, two = queued(1), queued(1, job_name="other")

    assert list(await store.commit([InsertJob(job=one, body="1"), InsertJob(job=two, body="2")])) == [True, False]
    (life,) = (await store.find_requests([one.request_id]))[one.request_id]
    assert life.job_name == one.job_name


async def test_of_many_lives_the_standing_one_and_the_latest_are_found(store: AuditedStore) -> None:
    """A producer that repeats a refused request makes one life after the other, for as long as the dedupe window."""
    count = LIVES_MAX + 50
    lives = [InsertJob(job=rejected(queued(1, message_id=f"m{n}")), body="") for n in range(count)]
    await store.commit([*lives, InsertJob(job=queued(2), body=BODY)])
    found = await store.find_requests([uid(1), uid(2), uid(3)])
    assert [job.message_id for job in found[uid(1)]] == [f"m{n}" for n in range(50, count)]
    assert len(found[uid(2)]) == 1

    await insert(store, queued(1, message_id="stands"))
    latest = (await store.find_requests([uid(1)]))[uid(1)]
    assert [job.message_id for job in latest] == [*(f"m{n}" for n in range(50, count)), "stands"]

    messages = [f"m{n}" for n in range(count)]
    assert await store.find_rejections([*messages, "stands", uid(2)]) == set(messages)


async def test_a_rejected_life_is_known_by_its_message(store: AuditedStore) -> None:
    """Whether the message gave the request its id or not, and as long as the row is kept."""
    jobs = await insert(store, queued(1), queued(2, message_id=uid(20)), queued(3), queued(4, message_id=uid(40)))
    asked = [uid(1), uid(20), uid(3), uid(40), uid(2), uid(4)]
    assert await store.find_rejections(asked) == frozenset()

    await update(store, *(rejected(job) for job in jobs[:2]), finished(tracked(jobs[2])))
    assert await store.find_rejections(asked) == {uid(1), uid(20)}

    await store.prune(before=NOON * 2, limit=100)
    assert await store.find_rejections(asked) == frozenset()


async def test_rejected_id_lives_again(store: AuditedStore) -> None:
    """An id that ended REJECTED may be inserted again, as another row with an event id of its own."""
    (job,) = await insert(store, queued())
    await store.commit([UpdateJob(job=rejected(job), events=(ended(),))])

    assert list(await store.commit([InsertJob(job=queued(received_at=NOON + 9), body=BODY)])) == [True]

    first, second = (await store.find_requests([job.request_id]))[job.request_id]
    assert (first.state, second.state) == (JobState.REJECTED, JobState.QUEUED)
    assert first.key < second.key
    await store.commit([UpdateJob(job=finished(tracked(second)), events=(ended(),))])
    one, two = await store.outbox("log", limit=10)
    assert one.event_id != two.event_id


async def test_id_freed_and_taken_in_one_commit(store: AuditedStore) -> None:
    """Writes apply in order: the rejection of one life makes room for the next within the same commit."""
    (job,) = await insert(store, queued())

    answers = await store.commit(
        [InsertJob(job=queued(), body=BODY), UpdateJob(job=rejected(job)), InsertJob(job=queued(), body=BODY)]
    )

    assert list(answers) == [False, True, True]


async def test_two_updates_of_a_row_in_one_commit(store: AuditedStore) -> None:
    """The second of two updates applies if it names the version that the first one makes."""
    (job,) = await insert(store, queued())
    one = submitting(job)
    two = tracked(dataclasses.replace(one, version=job.version + 1))

    assert list(await store.commit([UpdateJob(job=one), UpdateJob(job=one), UpdateJob(job=two)])) == [True, False, True]
    assert await load(store, job.key) == dataclasses.replace(two, version=job.version + 2)


async def test_every_field_comes_back(store: AuditedStore) -> None:
    """A row is loaded exactly as it was written, whatever its ids look like."""
    plain = queued(1)
    odd = queued(
        2,
        request_id="tenant:7/A",
        message_id="00000000-0000-0000-0000-000000000000",
        batch_job_name="not-derived",
        job_queue_ref="arn:aws:batch:eu-west-1:123456789012:job-queue/high",
        priority=-1000,
        array_size=10_000,
        resent_at=NOON - 0.5,
        expires_at=NOON + 0.123456,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="a=1,b=ü",
    )
    upper = queued(3, request_id=uid(3).upper(), message_id=uid(4).replace("-", ""))

    loaded = await insert(store, plain, odd, upper)

    assert loaded == [
        dataclasses.replace(job, key=was.key, version=1) for job, was in zip((plain, odd, upper), loaded, strict=True)
    ]
    full = tracked(
        loaded[1],
        batch_job_id="job-1",
        batch_job_arn="arn:elsewhere",
        batch_status=BatchStatus.RUNNING,
        doubted_at=NOON + 1.5,
        refusals=1,
        cancel_requested_at=NOON + 2.25,
        cancel_reason="ünwanted",
        attempts=2,
        created_at=NOON + 3.125,
        started_at=NOON + 4,
        stopped_at=NOON + 5,
        first_missed_at=NOON + 6,
        misses=4,
        reason="slow",
        reason_class="timeout",
    )
    assert await update(store, full) == [dataclasses.replace(full, version=2)]


async def test_what_was_asked_never_changes(store: AuditedStore) -> None:
    """An update does not write what the request asked for."""
    (job,) = await insert(store, queued())
    await store.commit([UpdateJob(job=dataclasses.replace(submitting(job), job_name="forged", array_size=5))])

    stored = await load(store, job.key)
    assert (stored.job_name, stored.array_size) == (job.job_name, None)
    assert [row.is_array for row in await store.usage()] == [False]


async def test_body_lives_until_it_is_not_needed(store: AuditedStore) -> None:
    """The body is kept through QUEUED and SUBMITTING, in doubt or not, and erased at TRACKED."""
    (job,) = await insert(store, queued(), body="bödy\x00\ud800")
    for changed in (
        submitting,
        doubted,
        lambda job: dataclasses.replace(job, state=JobState.QUEUED, is_in_doubt=False),
    ):
        (job,) = await update(store, changed(job))
        assert await store.bodies([job.key]) == {job.key: "bödy\x00\ud800"}

    await update(store, tracked(job))

    assert await store.bodies([job.key]) == {}


@pytest.mark.parametrize("state", [JobState.REJECTED, JobState.CANCELLED])
async def test_body_is_not_kept_for_a_final_row(store: AuditedStore, state: JobState) -> None:
    """A row that ends without a job loses its body, and a row that starts final never has one."""
    (job,) = await insert(store, queued(1))
    await update(store, finished(job, state))
    (born_final,) = await insert(store, finished(queued(2), state))

    assert await store.bodies([job.key, born_final.key]) == {}


async def test_dead_letter_takes_the_stored_body(store: AuditedStore) -> None:
    """A dead letter without a body carries the body that is erased with it."""
    (job,) = await insert(store, queued())
    letter = DeadLetter(body="", reason="no", error_code="refused", message_id="m", request_id=job.request_id)
    await store.commit([UpdateJob(job=rejected(job), dead_letter=letter)])

    (row,) = await store.outbox("dead_letter", limit=10)

    assert row.name == "dead_letter"
    assert DeadLetter(**orjson.loads(row.body)) == dataclasses.replace(letter, body=BODY)


async def test_dead_letters_are_dropped_without_a_queue_for_them(engine: SqliteEngine) -> None:
    """Without a dead-letter queue configured no row waits for it."""
    store = await engine.open(dead_letters=False)
    letter = DeadLetter(body="{", reason="no", error_code="x", message_id=uid(1))

    assert list(await store.commit([rejection(dead_letter=letter)])) == [True]
    assert await store.outbox_counts() == {}


async def test_rejection_is_known_by_its_message(store: AuditedStore) -> None:
    """A message rejected once is not rejected again, and its second try leaves no event."""
    event = Event(name="request.rejected", time=NOON, serial="final", subject=f"message:{uid(1)}")
    letter = DeadLetter(body="{\ud800", reason="no", error_code="x", message_id=uid(1))

    assert list(await store.commit([rejection(events=(event,), dead_letter=letter)])) == [True]
    assert list(await store.commit([rejection(events=(event,), dead_letter=letter)])) == [False]

    assert await store.find_rejections([uid(1), uid(2)]) == {uid(1)}
    assert await store.outbox_counts() == {"log": 1, "dead_letter": 1}
    (row,) = await store.outbox("dead_letter", limit=1)
    assert json.loads(row.body)["body"] == "{?", "half a surrogate pair can't be sent"


async def test_the_cancel_of_an_id_and_source_that_was_sent_last_stands(store: AuditedStore) -> None:
    """A cancel for an unknown id is remembered once per source, and stays when the id comes."""
    first = RememberCancel(request_id=uid(1), source=SOURCE, reason="old", sent_at=NOON - 5, received_at=NOON)
    second = dataclasses.replace(first, reason="new", received_at=NOON + 7)
    elsewhere = dataclasses.replace(first, source="other", received_at=NOON + 1)
    third = dataclasses.replace(first, reason=None, sent_at=NOON - 4, received_at=NOON + 2)

    assert list(await store.commit([first, second, elsewhere])) == [True, False, True]
    assert list(await store.commit([third])) == [True]
    assert list(await store.commit([second, third])) == [False, False]
    await insert(store, queued(1))

    assert await store.find_cancels([uid(1), uid(2)]) == [elsewhere, third]


async def test_holds_are_put_and_released_once(store: AuditedStore) -> None:
    """A hold that stands is not put again, one that does not stand is not released; only what applies is reported."""
    hold = Hold(job_queue="high", job_definition="", reason="queue_disabled", held_at=NOON)
    pair = dataclasses.replace(hold, job_definition="train:3", reason="access_denied")
    held = Event(name="job_queue.held", time=NOON, subject="high", serial="1")
    put = PutHold(hold=hold, events=(held,))
    release = ReleaseHold(job_queue="high", job_definition="", events=(dataclasses.replace(held, serial="2"),))

    assert list(await store.commit([put, put, PutHold(hold=pair)])) == [True, False, True]
    assert sorted(hold.job_definition for hold in await store.holds()) == ["", "train:3"]
    assert list(await store.commit([release, release])) == [True, False]
    assert await store.holds() == [pair]
    assert await store.outbox_counts() == {"log": 2}


async def test_a_blocked_queue_is_put_again_and_ended_once(store: AuditedStore) -> None:
    """What is said of a blocked queue is replaced; an end that ends nothing is not reported."""

    def event(serial: str) -> Event:
        return Event(name="job_queue.blocked", time=NOON, subject="block:high", serial=serial)

    first = Block(job_queue="high", cause="insufficient_capacity", blocked_at=NOON)
    second = dataclasses.replace(first, cause="service_role")
    assert list(await store.commit([PutBlock(block=first, events=(event("1"),))])) == [True]
    assert list(await store.commit([PutBlock(block=second, events=(event("2"),))])) == [True]
    assert list(await store.blocks()) == [second]
    assert list(await store.commit([EndBlock(job_queue="high", events=(event("3"),))])) == [True]
    assert list(await store.commit([EndBlock(job_queue="high", events=(event("4"),))])) == [False]
    assert list(await store.blocks()) == []
    assert len(await store.outbox("log", limit=10)) == 3


async def test_events_go_to_their_sinks_in_order(engine: SqliteEngine) -> None:
    """Each sink gets the events it asked for, oldest first, with the id that the row and the event determine."""
    sinks = {"request.accepted": ("log", "sqs"), "job.finished": ("sqs",)}
    store = await engine.open(sinks_of=lambda name: sinks.get(name, ()))
    changed = Event(name="job.status_changed", time=NOON)
    await store.commit([InsertJob(job=queued(1), body=BODY, events=(accepted(1),))])
    (job,) = (await store.find_requests([uid(1)]))[uid(1)]
    await store.commit([UpdateJob(job=finished(tracked(job)), events=(changed, ended()))])

    assert [row.name for row in await store.outbox("log", limit=10)] == ["request.accepted"]
    rows = await store.outbox("sqs", limit=10)
    assert [row.name for row in rows] == ["request.accepted", "job.finished"]
    assert [row.event_id for row in rows] == [event_id(STORE_ID, event, job.key) for event in (accepted(1), ended())]
    assert orjson.loads(rows[1].body) == {
        "event": "job.finished",
        "event_id": rows[1].event_id,
        "time": "2023-11-14T22:13:20.000Z",
        "outcome": "succeeded",
    }
    assert await store.outbox("unknown", limit=10) == []


async def test_delivered_rows_leave_the_outbox(store: AuditedStore) -> None:
    """Delivered rows are deleted by key; repeating that changes nothing, as keys are never used twice."""
    await store.commit([InsertJob(job=queued(n), body=BODY, events=(accepted(n),)) for n in range(3)])
    rows = await store.outbox("log", limit=2)
    delete = DeleteOutbox(keys=tuple(row.key for row in rows))

    assert list(await store.commit([delete])) == [True]
    assert list(await store.commit([delete])) == [False]
    (last,) = await store.outbox("log", limit=10)
    await store.commit([DeleteOutbox(keys=(last.key,))])
    await store.commit([InsertJob(job=queued(9), body=BODY, events=(accepted(9),))])
    (newest,) = await store.outbox("log", limit=10)
    assert newest.key > last.key


async def test_the_outbox_is_read_by_size_too(store: AuditedStore) -> None:
    """Bodies may have a megabyte each: reading ends with the row that reaches the size, and has one row at least."""
    await store.commit([InsertJob(job=queued(n), body=BODY, events=(accepted(n),)) for n in range(4)])
    rows = await store.outbox("log", limit=10)
    size = len(rows[0].body)
    assert [len(row.body) for row in rows] == [size] * 4
    for size_max, count in ((1, 1), (size, 1), (size + 1, 2), (4 * size, 4), (100 * size, 4)):
        assert list(await store.outbox("log", limit=10, size_max=size_max)) == rows[:count]
    assert list(await store.outbox("log", limit=2, size_max=100 * size)) == rows[:2]


async def test_store_belongs_to_one_account_and_region(store: AuditedStore) -> None:
    """An identity is bound once; an account not known at first is completed, another one is refused."""
    unknown = StoreIdentity(account="", region="eu-west-1")
    known = StoreIdentity(account="123456789012", region="eu-west-1")
    assert await store.identity() is None

    await store.bind(unknown)
    assert await store.identity() == unknown
    await store.bind(known)
    await store.bind(unknown)
    assert await store.identity() == known

    for other in (StoreIdentity(account="210987654321", region="eu-west-1"), StoreIdentity(account="", region="x")):
        with pytest.raises(StoreMismatch, match="123456789012"):
            await store.bind(other)
    assert await store.identity() == known


async def test_a_store_that_sent_nothing_is_not_kept_to_a_region_that_told_no_account(store: AuditedStore) -> None:
    """A Region was mistyped: requests were accepted, as SQS's Region comes from its URL, and none could be sent. What
    may have a job in a Region keeps the store to it."""
    (waiting,) = await insert(store, queued(1))
    for region in ("eu-wset-1", "eu-west-1"):
        await store.bind(StoreIdentity(account="", region=region))
        assert await store.identity() == StoreIdentity(account="", region=region)
    await store.commit([UpdateJob(job=submitting(waiting))])
    with pytest.raises(StoreMismatch, match="eu-west-1"):
        await store.bind(StoreIdentity(account="", region="eu-wset-1"))
    await store.bind(StoreIdentity(account="123456789012", region="eu-west-1"))
    with pytest.raises(StoreMismatch, match="123456789012"):
        await store.bind(StoreIdentity(account="123456789012", region="eu-wset-1"))


async def test_everything_is_there_after_reopening(engine: SqliteEngine) -> None:
    """Closing and opening again loses nothing and keeps the store's id and its keys."""
    store = await engine.open()
    jobs = await insert(store, *(queued(n) for n in range(5)))
    await store.commit([UpdateJob(job=tracked(jobs[0]), events=(accepted(0),))])
    before = (await store.usage(), await store.load([job.key for job in jobs]), await store.outbox("log", limit=9))
    await store.close()

    again = await engine.open(random_id=lambda: "f" * 32)

    assert again.store_id == STORE_ID
    after = (await again.usage(), await again.load([job.key for job in jobs]), await again.outbox("log", limit=9))
    assert after == before
    (newest,) = await insert(again, queued(99))
    assert newest.key > max(job.key for job in jobs)


async def test_empty_commit_is_nothing(store: AuditedStore) -> None:
    """A commit of no writes answers at once."""
    assert list(await store.commit([])) == []


def broken_rows():
    base = queued(1, key=1, version=1)
    yield "TRACKED without a job id", tracked(base, batch_job_id=None, batch_job_arn=None)
    yield "TRACKED without the time of submission", tracked(base, submitted_at=None)
    yield "QUEUED with a job id", dataclasses.replace(tracked(base), state=JobState.QUEUED)
    yield "SUBMITTING without an intent", submitting(base, first_intent_at=None)
    yield "QUEUED in doubt", dataclasses.replace(doubted(base), state=JobState.QUEUED)
    yield "in doubt without a mark", doubted(base, doubted_at=None)
    yield "marked without an intent", dataclasses.replace(base, doubted_at=NOON)
    yield "final without an end", finished(tracked(base), finished_at=None)
    yield "live with an end", tracked(base, finished_at=NOON)
    yield "SUCCEEDED without a job", finished(base)
    yield "CANCELLED with a job", finished(tracked(base), JobState.CANCELLED)
    yield "misses without a first", tracked(base, misses=1)
    yield "negative refusals", submitting(base, refusals=-1)


@pytest.mark.parametrize("row", [pytest.param(row, id=what) for what, row in broken_rows()])
async def test_impossible_row_is_refused(store: AuditedStore, row) -> None:
    """A row that no sequence of legal changes makes is our own mistake: it raises and changes nothing."""
    (job,) = await insert(store, queued())
    with pytest.raises(AssertionError, match="rule of the store"):
        await store.commit([UpdateJob(job=row, events=(ended(),))])
    assert await load(store, job.key) == job
    assert await store.outbox_counts() == {}


@pytest.mark.parametrize("changes", [{"priority": 1001}, {"array_size": 1}, {"content_hash": b"short"}])
async def test_impossible_request_is_refused(store: AuditedStore, changes) -> None:
    """What intake must have refused does not get in behind its back."""
    with pytest.raises(AssertionError):
        await store.commit([InsertJob(job=queued(1, **changes), body=BODY)])
    assert await store.find_requests([uid(1)]) == {}


async def test_job_id_belongs_to_one_row(store: AuditedStore) -> None:
    """Two rows never hold the same Batch job."""
    one, two = await insert(store, queued(1), queued(2))
    await update(store, tracked(one, batch_job_id=uid(7), batch_job_arn=None))
    with pytest.raises(AssertionError):
        await store.commit([UpdateJob(job=tracked(two, batch_job_id=uid(7), batch_job_arn=None))])
    assert (await load(store, two.key)).state is JobState.QUEUED
