"""The cheap ways to make an event's id, an instant's text and a changed job: what the plain ways make."""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controller.core.events import Event, event_id, iso
from controller.core.job import BatchStatus, Job, JobState, RowKey, replace

JOB = Job(
    key=RowKey(7),
    request_id="r",
    message_id="m",
    source="s",
    content_hash=b"h",
    job_name="n",
    batch_job_name="n-0123456789ab",
    job_queue="q",
    job_queue_ref="arn:q",
    job_definition="d",
    received_at=1.5,
    batch_status=BatchStatus.RUNNING,
    tracestate="a=b",
)


@given(st.floats(-62_135_596_800.0, 253_402_300_799.0))
@example(0.9999995)
@example(1_790_000_000.9999998)
@example(-0.0000001)
@example(-1.5)
@example(1_790_000_000.0005)
def test_an_instant_reads_as_datetime_writes_it(instant: float) -> None:
    """The text of an instant is datetime's own, with Z for UTC."""
    written = datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds")
    assert iso(instant) == written.replace("+00:00", "Z")


@pytest.mark.parametrize("instant", [float("nan"), float("inf"), 1e18, -1e18])
def test_what_is_no_instant_is_refused(instant: float) -> None:
    """No date exists for it: an error, not a text."""
    with pytest.raises((ValueError, OverflowError, OSError)):
        iso(instant)


@given(st.text("0123456789abcdef", min_size=32, max_size=32), st.text("0123456789:RUN", max_size=3), st.integers(0))
def test_an_event_id_is_a_version_5_uuid_of_its_occurrence(store_id: str, serial: str, key: int) -> None:
    """It is made of store, subject and occurrence by SHA-256, and printed as uuid prints it."""
    digest = hashlib.sha256(f"{store_id}\0row:{key}\0job.submitted#{serial}".encode()).digest()
    found = event_id(store_id, Event(name="job.submitted", time=0.0, serial=serial), key)
    assert found == str(uuid.UUID(bytes=digest[:16], version=5))


@given(st.sampled_from([field.name for field in fields(Job)]))
def test_a_revised_job_differs_in_what_was_changed(name: str) -> None:
    """Each field can be changed alone; the others, and the job it was made from, stay as they are."""
    before = dataclasses.replace(JOB)
    after = replace(JOB, **{name: "changed"})  # type: ignore[arg-type]
    assert after == dataclasses.replace(JOB, **{name: "changed"})  # type: ignore[arg-type]
    assert before == JOB
    assert hash(replace(JOB)) == hash(JOB)


def test_a_revised_job_is_as_frozen_as_its_model() -> None:
    """A copy can't be changed in place, and a field that does not exist can't be set."""
    copy = replace(JOB, state=JobState.TRACKED)
    with pytest.raises(FrozenInstanceError):
        copy.state = JobState.LOST  # type: ignore[misc]
    with pytest.raises(TypeError, match="a Job has no colour"):
        replace(JOB, colour="red")  # type: ignore[call-arg]
