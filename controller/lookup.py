"""Is the job of an earlier send in Batch? ListJobs by exact name, paged to the end, then identity checks.

The name holds a hash of the store's id and the request id, so another's job of the same name is all but impossible;
the checks that remain (creation time, our tag) catch what is left: a name reused by hand, a store copied.
"""

from __future__ import annotations

from typing import Final

import structlog

from controller.budgets import Budgets, Purpose
from controller.core.errors import OutwardError, Refused, Unavailable
from controller.core.job import Job, ListedJob, Observation
from controller.core.limits import ADOPTION_SKEW_S, DESCRIBE_JOBS_MAX, REQUEST_ID_TAG
from controller.health import Health
from controller.loop import Outage
from controller.ports import BatchApi, Clock, ListPage

PAGES_MAX: Final = 100
"""A name of ours has one job; more than 10,000 of that name is not a state we can settle by paging on."""


class LookUp:
    """Finds the job of a request by its Batch job name. Spends the list (and one describe) budget."""

    def __init__(self, *, batch: BatchApi, budgets: Budgets, clock: Clock, health: Health) -> None:
        self._batch = batch
        self._budgets = budgets
        self._health = health
        self._outage = Outage(clock)
        """Hundreds of rows may be looked up again and again."""
        self._log = structlog.get_logger(stage="look_up")

    async def find(self, job: Job) -> ListedJob | None:
        """The job of this request, or None if Batch shows none. Raises every kind of OutwardError: no answer."""
        try:
            found = await self._find(job)
        except OutwardError as error:
            if failures := self._outage.failed():
                self._log.warning(
                    "look-up gave no answer", request_id=job.request_id, reason=str(error), failures=failures
                )
            raise
        if failures := self._outage.worked():
            self._log.info("look-ups are answered again", failures=failures)
        return found

    async def _find(self, job: Job) -> ListedJob | None:
        assert job.first_intent_at is not None
        earliest = job.first_intent_at - ADOPTION_SKEW_S
        candidates = [found for found in await self._listed(job) if found.created_at >= earliest]
        if not candidates:
            return None
        ours = await self._tagged_as_ours(job, candidates)
        if len(ours) > 1:
            ids = [found.job_id for found in ours]
            self._log.error("several jobs of one name; the oldest is adopted", request_id=job.request_id, job_ids=ids)
        return min(ours, key=lambda found: (found.created_at, found.job_id), default=None)

    async def _listed(self, job: Job) -> list[ListedJob]:
        try:
            return await self._all_pages(job)
        except Refused:
            # ListJobs refuses a job queue that does not exist. Batch deletes a queue only once each of its jobs is
            # final, so nothing that was sent to it still runs; DescribeJobQueues says whether that is the reason.
            if await self._has_queue(job):
                raise
            return []

    async def _has_queue(self, job: Job) -> bool:
        await self._budgets.acquire(Purpose.LIST)
        with self._health.watched("batch:DescribeJobQueues"), self._budgets.heeding(Purpose.LIST):
            found = await self._batch.describe_job_queues([job.job_queue_ref])
        return any(job.job_queue_ref in (queue.name, queue.arn) for queue in found)

    async def _all_pages(self, job: Job) -> list[ListedJob]:
        found: dict[str, ListedJob] = {}
        """By id: a job that changes while it is listed may be on two pages."""
        token: str | None = None
        for _ in range(PAGES_MAX):
            page = await self._page(job, token)
            found.update((row.job_id, row) for row in page.jobs if row.job_name == job.batch_job_name)
            if page.next_token is None:
                return list(found.values())
            if page.next_token == token:
                raise Unavailable("batch:ListJobs: a page that follows itself", call="batch:ListJobs")
            token = page.next_token
        raise AssertionError(f"more than {PAGES_MAX} pages of jobs named {job.batch_job_name}")

    async def _page(self, job: Job, token: str | None) -> ListPage:
        await self._budgets.acquire(Purpose.LIST)
        with self._health.watched("batch:ListJobs"), self._budgets.heeding(Purpose.LIST):
            return await self._batch.list_jobs_named(
                job_queue=job.job_queue_ref, job_name=job.batch_job_name, next_token=token
            )

    async def _tagged_as_ours(self, job: Job, candidates: list[ListedJob]) -> list[ListedJob]:
        candidates = candidates[:DESCRIBE_JOBS_MAX]
        seen = await self._described([found.job_id for found in candidates])
        if not all(found.job_id in seen for found in candidates):
            # DescribeJobs may lag behind ListJobs: whose job it is can't be told yet.
            raise Unavailable("batch:DescribeJobs: an answer without a job that is listed", call="batch:DescribeJobs")
        return [found for found in candidates if _tag_of(seen[found.job_id], job.request_id) == job.request_id]

    async def _described(self, job_ids: list[str]) -> dict[str, Observation]:
        await self._budgets.acquire(Purpose.DESCRIBE)
        with self._health.watched("batch:DescribeJobs"), self._budgets.heeding(Purpose.DESCRIBE):
            seen = await self._batch.describe_jobs(job_ids)
        return {each.job_id: each.observation() for each in seen}


def _tag_of(seen: Observation, default: str) -> str:
    """The request-id tag, if it is set."""
    return seen.tags.get(REQUEST_ID_TAG, default)
