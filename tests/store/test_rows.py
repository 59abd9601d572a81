"""Compact forms give back what went in, and rows stay small."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from controller.adapters.runner import InlineRunner
from controller.adapters.store.names import Vocabulary
from controller.adapters.store.rows import decode_job, encode_asked, encode_keyed, encode_plain, pack_id, unpack_id
from controller.adapters.store.sqlite_file import connect_sqlite, migrate, migrations
from controller.core.job import BatchStatus, Dependencies, Job, JobState, RowKey
from controller.ports import InsertJob
from tests.store.engines import SqliteEngine, queued, uid

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
instants = st.floats(0, 4e9)
hashes = st.text("0123456789abcdef", min_size=12, max_size=12)


@given(st.one_of(texts, st.uuids().map(str), st.uuids().map(lambda value: str(value).upper())))
@example("")
@example("0" * 36)
def test_ids_come_back(identifier: str) -> None:
    """Every id is unpacked to exactly what was packed; a UUID takes 16 bytes."""
    assert unpack_id(pack_id(identifier)) == identifier


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Any row, legal or not, whose names and ids fit the compact forms or just miss them."""
    job_name = draw(st.text("abc-_", min_size=1, max_size=128))
    job_id = draw(st.one_of(st.none(), st.uuids().map(str), texts))
    arn = f"arn:aws:batch:eu-west-1:123456789012:job/{job_id}"
    state = draw(st.sampled_from(JobState))
    job_queue = draw(texts)
    return queued(
        1,
        key=RowKey(draw(st.integers(1, 2**40))),
        version=draw(st.integers(1, 2**40)),
        request_id=draw(st.one_of(st.just(uid(1)), texts)),
        job_name=job_name,
        batch_job_name=draw(
            st.one_of(hashes.map(lambda digits: f"{job_name[:115]}-{digits}"), hashes.map(str.upper), texts)
        ),
        job_queue=job_queue,
        job_queue_ref=draw(st.one_of(st.just(job_queue), texts)),
        state=state,
        priority=draw(st.integers(-1000, 1000)),
        received_at=draw(instants),
        expires_at=draw(st.none() | instants),
        batch_job_id=job_id,
        batch_job_arn=draw(st.sampled_from([None, arn, arn + "x", job_id])),
        batch_status=draw(st.none() | st.sampled_from(BatchStatus)),
        is_in_doubt=draw(st.booleans()),
        dependencies=draw(st.sampled_from(Dependencies)),
        reason=draw(st.none() | texts),
        misses=draw(st.integers(0, 9)),
    )


@given(jobs())
def test_rows_come_back(job: Job) -> None:
    """Encoding and decoding a row gives the same job."""
    connection = connect_sqlite(":memory:")
    migrate(connection, ":memory:", migrations())
    names = Vocabulary(connection)
    state, _, _, *kept = encode_keyed(job, job.key, names)
    row = (job.key, *encode_asked(job, names), state, *kept, *encode_plain(job, job.version, names))
    assert decode_job(row, names) == job
    connection.close()


async def test_rows_are_small(tmp_path: Path) -> None:
    """A request with a body of 911 bytes adds at most 1,250 bytes to the file, indexes included."""
    engine = SqliteEngine(tmp_path, InlineRunner(), "size")
    await (await engine.open()).close()
    empty = engine.path.stat().st_size
    store = await engine.open()
    base = queued()
    body = json.dumps({"containerOverrides": {"command": ["x" * 911]}})[:911]
    count = 5_000
    for start in range(0, count, 500):
        rows = [
            dataclasses.replace(
                base,
                request_id=uid(n),
                message_id=uid(n),
                job_name=f"nightly-report-{n}",
                batch_job_name=f"nightly-report-{n}-{uid(n)[-12:]}",
                received_at=base.received_at + n * 0.0137,
            )
            for n in range(start, start + 500)
        ]
        assert all(await store.commit([InsertJob(job=row, body=body) for row in rows]))
    await store.close()
    assert 911 < (engine.path.stat().st_size - empty) / count <= 1_250
