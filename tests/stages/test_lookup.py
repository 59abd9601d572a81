"""Looking for the job of an earlier send: answers that list too much or too little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from controller.budgets import Budgets, Purpose
from controller.core.errors import Unavailable
from controller.core.job import BatchStatus, ListedJob, Observation
from controller.core.limits import REQUEST_ID_TAG
from controller.health import Health
from controller.lookup import LookUp
from controller.ports import ListPage
from tests.stages.conftest import ManualClock
from tests.stages.test_long_turns import request

JOB = request(1, first_intent_at=1_900_000_000.0)


def listed(job_id: str) -> ListedJob:
    return ListedJob(job_id=job_id, job_arn="", job_name=JOB.batch_job_name, created_at=1_900_000_001.0)


class Batch:
    """Pages of ListJobs by token, and what DescribeJobs answers whatever it is asked."""

    def __init__(self, *pages: Sequence[str], described: Sequence[str]) -> None:
        self.pages, self.described = pages, described

    async def list_jobs_named(self, *, job_queue: str, job_name: str, next_token: str | None = None) -> ListPage:
        number = int(next_token or 0)
        is_last = number + 1 == len(self.pages)
        return ListPage(
            jobs=[listed(job_id) for job_id in self.pages[number]], next_token=None if is_last else str(number + 1)
        )

    async def describe_jobs(self, job_ids: Sequence[str]) -> Sequence[Observation]:
        return [
            Observation(job_id=job_id, status=BatchStatus.RUNNING, tags={REQUEST_ID_TAG: JOB.request_id})
            for job_id in self.described
        ]


def look_up(batch: Any, clock: ManualClock) -> LookUp:
    budgets = Budgets(clock, dict.fromkeys(Purpose, 10.0), 40.0)
    return LookUp(batch=batch, budgets=budgets, clock=clock, health=Health(clock))


async def test_a_job_that_is_listed_twice_is_one(clock: ManualClock) -> None:
    """One that changes between two pages may be on both, while DescribeJobs tells it once."""
    batch = Batch(["id-1"], ["id-1"], described=["id-1"])
    assert await look_up(batch, clock).find(JOB) == listed("id-1")


async def test_an_answer_about_another_job_is_no_answer(clock: ManualClock) -> None:
    """Whose the listed one is can't be told yet."""
    batch = Batch(["id-1"], described=["id-2"])
    with pytest.raises(Unavailable):
        await look_up(batch, clock).find(JOB)


async def test_a_page_that_follows_itself_is_no_answer(clock: ManualClock) -> None:
    """Listed on and on it would use up the list budget, and hold up the stage until ``/livez`` fails."""

    class Circle(Batch):
        calls = 0

        async def list_jobs_named(self, *, job_queue: str, job_name: str, next_token: str | None = None) -> ListPage:
            self.calls += 1
            return ListPage(jobs=[], next_token="again")

    batch = Circle(described=[])
    with pytest.raises(Unavailable):
        await look_up(batch, clock).find(JOB)
    assert batch.calls == 2


async def test_look_ups_without_an_answer_are_not_a_line_each(clock: ManualClock) -> None:
    """An outage finds hundreds of requests in doubt, and each is looked up again and again."""
    batch = Batch(["id-1"], described=[])
    looking = look_up(batch, clock)
    with capture_logs() as lines:
        for _ in range(200):
            with pytest.raises(Unavailable):
                await looking.find(JOB)
        batch.described = ["id-1"]
        await looking.find(JOB)
    assert [(line["event"], line["failures"]) for line in lines] == [
        *(("look-up gave no answer", failures) for failures in (1, 2, 4, 8, 16, 32, 64, 128)),
        ("look-ups are answered again", 200),
    ]
