"""AWS Batch behind the BatchApi port.

SubmitJob has a client of its own (see ``aws.py``) and a path of its own: it alone is not safe to repeat, so what is
known of a failed call decides whether it was surely not accepted or is in doubt. The other calls go through
``Calls.send``. An answer of HTTP 200 that lacks the member it must have is an error: read as empty it would say that
no job is known, or none of that name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

import anyio
import structlog

from controller.adapters import batch_decode, batch_rows, list_decode
from controller.adapters.aws_call import READ_DEADLINE_S, Calls, Observe
from controller.adapters.aws_errors import CALL_FAULTS, classify, classify_submit, values_to_redact
from controller.core.errors import InDoubt, Unavailable
from controller.core.job import ListedJob, QueueStatus, Seen
from controller.core.limits import (
    DESCRIBE_ENVIRONMENTS_MAX,
    DESCRIBE_JOBS_MAX,
    DESCRIBE_QUEUES_MAX,
    LIST_JOBS_FILTERED_PAGE_MAX,
    LIST_JOBS_PAGE_MAX,
    TERMINATE_REASON_LENGTH_MAX,
)
from controller.core.waiting import ComputeEnvironment
from controller.ports import ChildPage, Clock, ListPage, SubmittedJob

log = structlog.get_logger(__name__)

_CREDENTIALS: Final = "sts:credentials"
"""How errors call the SDK's look for credentials, wherever they come from."""
_SKIPPED_NOTED_MAX: Final = 32
"""How many different unusable statuses are logged; each is logged once."""


class _Send:
    """One SubmitJob: whether the SDK has begun to put it on the wire."""

    __slots__ = ("has_begun",)

    def __init__(self) -> None:
        self.has_begun = False


_current_send: ContextVar[_Send | None] = ContextVar("submit_job", default=None)


def _mark_as_begun(**_: object) -> None:
    """Runs when the request is built and signed, just before a connection is taken for it."""
    if (send := _current_send.get()) is not None:
        send.has_begun = True


class Batch:
    """BatchApi on two aiobotocore clients: ``submit_client`` for SubmitJob, ``client`` for everything else.

    Neither may have SDK retries. Both belong to whoever opened them. ``read_deadline_s`` bounds each call but
    SubmitJob, which has its own. ``fetch_credentials`` has the SDK renew those of the clients; None: they are not due.
    """

    def __init__(
        self,
        *,
        submit_client: Any,
        client: Any,
        clock: Clock,
        observe: Observe,
        fetch_credentials: Callable[[], Awaitable[object] | None],
        read_deadline_s: float = READ_DEADLINE_S,
    ) -> None:
        for each in (submit_client, client):
            assert each.meta.config.retries.get("total_max_attempts") == 1, "one call is one request"
        self._submit_client = submit_client
        self._client = client
        self._calls = Calls("batch", clock=clock, observe=observe)
        self._fetch_credentials = fetch_credentials
        self._read_deadline_s = read_deadline_s
        self._noted_skips: set[str] = set()
        submit_client.meta.events.register("before-send.batch.SubmitJob", _mark_as_begun)
        batch_decode.register(client.meta.events)
        list_decode.register(client.meta.events)

    async def fetch_credentials(self) -> None:
        try:
            if (fetching := self._fetch_credentials()) is None:
                return
            with anyio.fail_after(self._read_deadline_s):
                await fetching
        except CALL_FAULTS as error:
            kind = classify(error, call=_CREDENTIALS)
            raise kind from kind.__cause__

    async def submit_job(self, arguments: Mapping[str, Any], *, timeout_s: float) -> SubmittedJob:
        """SubmitJob, once, and not after ``timeout_s``.

        A deadline that ends before the SDK began to send (while credentials are fetched) is Unavailable, later it is
        InDoubt. The connection of a call cut off is dropped.
        """
        began_at = self._calls.now()
        send = _Send()
        token = _current_send.set(send)
        try:
            with anyio.fail_after(timeout_s):
                answer = await self._submit_client.submit_job(**arguments)
            submitted = _submitted(answer, job_name=arguments["jobName"])
        except CALL_FAULTS as error:
            redact = values_to_redact(arguments)
            kind = classify_submit(error, call="batch:SubmitJob", was_sent=send.has_begun, redact=redact)
            self._calls.failed("SubmitJob", began_at, kind)
            raise kind from kind.__cause__
        finally:
            _current_send.reset(token)
        self._calls.succeeded("SubmitJob", began_at)
        return submitted

    async def describe_jobs(self, job_ids: Sequence[str]) -> Sequence[Seen]:
        assert 1 <= len(job_ids) <= DESCRIBE_JOBS_MAX, "an empty list has no meaning to Batch"

        async def call() -> Sequence[batch_decode.Entry]:
            jobs = batch_decode.jobs_in(await self._client.describe_jobs(jobs=list(job_ids)))
            if jobs is None:
                raise _no_answer("DescribeJobs", "jobs")
            return jobs

        observed = batch_decode.observe(await self._calls.send("DescribeJobs", call, deadline_s=self._read_deadline_s))
        if observed.skipped:
            self._note_skipped(observed.skipped)
        return observed.seen

    async def list_jobs_named(self, *, job_queue: str, job_name: str, next_token: str | None = None) -> ListPage:
        arguments: dict[str, Any] = {
            "jobQueue": job_queue,
            "filters": [{"name": "JOB_NAME", "values": [job_name]}],
            "maxResults": LIST_JOBS_FILTERED_PAGE_MAX,
        }
        if next_token is not None:
            arguments["nextToken"] = next_token

        async def call() -> ListPage:
            answer = await self._client.list_jobs(**arguments)
            rows = _entries(answer, "jobSummaryList", "ListJobs")
            same_name = [row for row in rows if row.get("jobName", job_name) == job_name]
            return ListPage(jobs=[_listed(row) for row in same_name], next_token=answer.get("nextToken") or None)

        return await self._calls.send("ListJobs", call, deadline_s=self._read_deadline_s)

    async def describe_job_queues(self, job_queues: Sequence[str]) -> Sequence[QueueStatus]:
        assert 1 <= len(job_queues) <= DESCRIBE_QUEUES_MAX, "an empty list means every queue to Batch"

        async def call() -> Sequence[QueueStatus]:
            answer = await self._client.describe_job_queues(jobQueues=list(job_queues), maxResults=DESCRIBE_QUEUES_MAX)
            rows = _entries(answer, "jobQueues", "DescribeJobQueues")
            if answer.get("nextToken") and len(rows) < len(job_queues):
                raise _no_answer("DescribeJobQueues", "all its pages")  # a missing queue counts as unknown to Batch
            return [_queue(row) for row in rows]

        return await self._calls.send("DescribeJobQueues", call, deadline_s=self._read_deadline_s)

    async def list_failed_children(
        self, *, job_id: str, is_multi_node: bool, next_token: str | None = None
    ) -> ChildPage:
        arguments: dict[str, Any] = {
            "multiNodeJobId" if is_multi_node else "arrayJobId": job_id,
            "jobStatus": "FAILED",
            "maxResults": LIST_JOBS_PAGE_MAX,
        }
        if next_token is not None:
            arguments["nextToken"] = next_token

        async def call() -> ChildPage:
            answer = await self._client.list_jobs(**arguments)
            found = [batch_rows.failed_child(row) for row in _entries(answer, "jobSummaryList", "ListJobs")]
            children = [child for child in found if child is not None]
            if len(children) < len(found):
                raise _no_answer("ListJobs", "the index of a child")
            return ChildPage(children=children, next_token=answer.get("nextToken") or None)

        return await self._calls.send("ListJobs", call, deadline_s=self._read_deadline_s)

    async def describe_compute_environments(self, names: Sequence[str]) -> Sequence[ComputeEnvironment]:
        assert 1 <= len(names) <= DESCRIBE_ENVIRONMENTS_MAX, "an empty list means every environment to Batch"

        async def call() -> Sequence[ComputeEnvironment]:
            answer = await self._client.describe_compute_environments(
                computeEnvironments=list(names), maxResults=DESCRIBE_ENVIRONMENTS_MAX
            )
            rows = _entries(answer, "computeEnvironments", "DescribeComputeEnvironments")
            return [found for row in rows if (found := batch_rows.compute_environment(row)) is not None]

        return await self._calls.send("DescribeComputeEnvironments", call, deadline_s=self._read_deadline_s)

    async def queue_front(self, job_queue: str) -> Sequence[str]:
        async def call() -> Sequence[str]:
            answer = await self._client.get_job_queue_snapshot(jobQueue=job_queue)
            front = answer.get("frontOfQueue")
            if not isinstance(front, Mapping):
                raise _no_answer("GetJobQueueSnapshot", "frontOfQueue")
            rows = [] if front.get("jobs") is None else _entries(front, "jobs", "GetJobQueueSnapshot")
            return [job_id for row in rows if (job_id := batch_rows.job_id_in(row)) is not None]

        return await self._calls.send("GetJobQueueSnapshot", call, deadline_s=self._read_deadline_s)

    async def terminate_job(self, *, job_id: str, reason: str) -> None:
        cut = reason[:TERMINATE_REASON_LENGTH_MAX] or "cancelled"

        async def call() -> None:
            await self._client.terminate_job(jobId=job_id, reason=cut)

        await self._calls.send("TerminateJob", call, deadline_s=self._read_deadline_s)

    def _note_skipped(self, skipped: Sequence[str]) -> None:
        for status in set(skipped) - self._noted_skips:
            if len(self._noted_skips) < _SKIPPED_NOTED_MAX:
                self._noted_skips.add(status)
                log.warning("batch.job_entry_skipped", batch_status=status, count=skipped.count(status))


def _submitted(answer: Mapping[str, Any], *, job_name: str) -> SubmittedJob:
    if answer.get("jobName", job_name) != job_name:
        # Something on the way has mixed up answers. Names are unique: ours is not this job.
        raise InDoubt("batch:SubmitJob: an answer about another job", call="batch:SubmitJob", code="OtherJob")
    job_id = answer.get("jobId")
    if not isinstance(job_id, str) or not job_id:
        # A 200 whose body is cut or not JSON: the SDK makes an empty answer of it.
        raise InDoubt("batch:SubmitJob: an answer without a jobId", call="batch:SubmitJob", code="NoJobId")
    arn = answer.get("jobArn")
    return SubmittedJob(job_id=job_id, job_arn=arn if isinstance(arn, str) and arn else None)


def _entries(answer: Mapping[str, Any], member: str, operation: str) -> list[Mapping[str, Any]]:
    found = answer.get(member)
    if not isinstance(found, list) or not all(isinstance(entry, Mapping) for entry in found):
        raise _no_answer(operation, member)
    return found


def _listed(row: Mapping[str, Any]) -> ListedJob:
    """A row that can't be judged makes the whole answer no answer: left out, it would count as "not found"."""
    instant = row.get("createdAt")
    created_at = batch_decode.seconds(instant) if isinstance(instant, (int, float)) else None
    if not isinstance(row.get("jobId"), str) or "jobName" not in row or created_at is None:
        raise _no_answer("ListJobs", "jobId, jobName and createdAt")
    return ListedJob(
        job_id=row["jobId"],
        job_arn=str(row.get("jobArn") or ""),
        job_name=row["jobName"],
        created_at=created_at,
        status=batch_decode.STATUSES.get(str(row.get("status"))),
    )


def _queue(row: Mapping[str, Any]) -> QueueStatus:
    if not isinstance(row.get("jobQueueName"), str):
        raise _no_answer("DescribeJobQueues", "jobQueueName")
    return QueueStatus(
        name=row["jobQueueName"],
        arn=str(row.get("jobQueueArn") or ""),
        state=str(row.get("state") or ""),
        status=str(row.get("status") or ""),
        status_reason=str(row.get("statusReason") or ""),
        compute_environments=batch_rows.environments_of(row),
    )


def _no_answer(operation: str, member: str) -> Unavailable:
    call = f"batch:{operation}"
    return Unavailable(f"{call}: an answer without {member}", call=call, code="IncompleteAnswer")
