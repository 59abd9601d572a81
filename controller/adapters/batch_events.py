"""AWS Batch's EventBridge events, decoded into the few members that are used.

The body of the SQS message is the whole event. Its ``detail`` resembles DescribeJobs' JobDetail, and is read as
leniently: unknown members are passed over, and a member of an odd type costs the rest of the detail, not the job id and
status.
``app.py`` gives ``decode_event`` to the hints stage.
"""

from __future__ import annotations

from typing import Final

import msgspec

from controller.adapters.batch_decode import STATUSES, JobDetail
from controller.core.hints import EventOutcome, JobEvent

SOURCE: Final = "aws.batch"
STATE_CHANGE: Final = "Batch Job State Change"
QUEUE_BLOCKED: Final = "Batch Job Queue Blocked"
ARN_TAG: Final = "resourceArn"
"""An event has the job's ARN among the tags, where DescribeJobs has none."""


class _Event(msgspec.Struct, gc=False):
    source: str | None = None
    detail_type: str | None = msgspec.field(name="detail-type", default=None)
    detail: msgspec.Raw = msgspec.Raw(b"{}")


class _Status(msgspec.Struct, gc=False, rename="camel"):
    """A detail of which something else is odd."""

    job_id: str
    status: str | None = None


class _Id(msgspec.Struct, gc=False, rename="camel"):
    job_id: str


_EVENT: Final = msgspec.json.Decoder(_Event)
_DETAIL: Final = msgspec.json.Decoder(JobDetail, strict=False)
_STATUS: Final = msgspec.json.Decoder(_Status)
_ID: Final = msgspec.json.Decoder(_Id)
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


def decode_event(body: str) -> JobEvent | EventOutcome:
    """What the event says of a job; MALFORMED if that can't be read, OTHER if it is no event about a Batch job.

    Never raises: a message that nobody understands must not come again and again.
    """
    try:
        event = _EVENT.decode(body)
    except _UNREADABLE:
        return EventOutcome.MALFORMED
    if event.source != SOURCE or event.detail_type not in (STATE_CHANGE, QUEUE_BLOCKED):
        return EventOutcome.OTHER
    found = _read(event.detail, is_blocked=event.detail_type == QUEUE_BLOCKED, size=len(body))
    return EventOutcome.MALFORMED if found is None else found


def _read(detail: msgspec.Raw, *, is_blocked: bool, size: int) -> JobEvent | None:
    try:
        job = _DETAIL.decode(detail)
    except _UNREADABLE:
        return _read_status(detail, is_blocked=is_blocked, size=size)
    if not job.job_id:
        return None
    if job.tags and job.tags.get(ARN_TAG) == job.job_arn:
        job.tags.pop(ARN_TAG, None)
    status = job.status
    return JobEvent(
        job_id=job.job_id,
        status=status,
        attempts=job.attempt_count,
        is_blocked=is_blocked,
        end=job.observation() if status is not None and status.is_final and not is_blocked else None,
        size=size,
    )


def _read_status(detail: msgspec.Raw, *, is_blocked: bool, size: int) -> JobEvent | None:
    for decoder in (_STATUS, _ID):
        try:
            found = decoder.decode(detail)
        except _UNREADABLE:
            continue
        status = STATUSES.get(found.status or "") if isinstance(found, _Status) else None
        if not found.job_id:
            return None
        return JobEvent(job_id=found.job_id, status=status, is_blocked=is_blocked, size=size)
    return None
