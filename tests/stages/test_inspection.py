"""What operators see of requests, from a wired application."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.application import Application
from controller.core.inquiry import Inquiry, inquiry_of
from controller.core.job import Dependencies, Job, JobState
from controller.holds import Pause
from controller.inspection import AHEAD_MAX, READ_MAX
from controller.metrics import Metrics
from controller.ports import InsertJob, RequestPage
from tests.stages.conftest import ManualClock
from tests.stages.test_application import Hanging, made
from tests.store.engines import doubted, finished, insert, queued, submitting, tracked, update


async def seen(application: Application, request_id: str) -> Any:
    """The newest life."""
    return (await application.inspection.request(request_id))[0]


async def cause(application: Application, job: Job) -> str:
    return (await seen(application, job.request_id))["waits_for"]["cause"]


@pytest.fixture
def limited(store: SqliteStore, clock: ManualClock, metrics: Metrics) -> Application:
    """One request of a job queue in flight, one job waiting."""
    limits = {"high": {"max_in_flight": 1}, "slow": {"max_waiting": 1, "max_in_flight": 9}, "shut": {"paused": True}}
    return made(store, clock, metrics, sinks=[Hanging()], queues=limits)


async def test_lives_are_shown_newest_first(store: SqliteStore, limited: Application) -> None:
    """A request id that was rejected and sent again has two; one that nobody sent has none."""
    (first,) = await insert(store, queued(1))
    await update(store, finished(first, JobState.REJECTED, reason="no such definition"))
    await insert(store, queued(1, job_name="again"))
    lives = await limited.inspection.request(first.request_id)
    assert [(life["state"], life["job_name"]) for life in lives] == [("QUEUED", "again"), ("REJECTED", "nightly-1")]
    assert lives[1]["outcome"] == "rejected"
    assert "waits_for" not in lives[1]
    assert await limited.inspection.request("unknown") == []


async def test_a_request_tells_which_limit_it_waits_for(store: SqliteStore, limited: Application) -> None:
    """As the last plan found, with the counts, and how many are before it."""
    jobs = await insert(
        store,
        *(queued(number) for number in range(3)),
        *(queued(number, job_queue="slow", job_queue_ref="slow") for number in range(3, 5)),
        queued(5, job_queue="shut", job_queue_ref="shut"),
    )
    assert [await cause(limited, job) for job in jobs[:2]] == ["start", "start"]
    await limited.admit.turn()
    loaded = await store.load([job.key for job in jobs])
    await update(store, *(tracked(loaded[jobs[number].key]) for number in (0, 3)))
    await limited.admit.turn()
    waits = (await seen(limited, jobs[2].request_id))["waits_for"]
    assert waits.pop("detail").startswith("job queue high has 1 requests in flight, of 1 that it may have")
    assert waits == {"cause": "max_in_flight", "in_flight": 1, "limit": 1, "ahead": 1}
    waits = (await seen(limited, jobs[4].request_id))["waits_for"]
    assert waits.pop("detail").startswith("1 jobs of job queue slow wait in AWS Batch, of 1 that may")
    assert waits == {"cause": "max_waiting", "waiting": 1, "limit": 1, "ahead": 0}
    assert await cause(limited, jobs[5]) == "paused"


async def test_holds_and_pauses_are_told(store: SqliteStore, limited: Application) -> None:
    """Of the job queue, of the pair, and of all submission."""
    (job, other) = await insert(store, queued(1), queued(2, job_definition="other:1"))
    await limited.admit.turn()
    await update(store, *(replace(each, state=JobState.QUEUED) for each in (await store.load([job.key])).values()))
    holds = limited.holds
    holds.pause(9, reason=Pause.UNREACHABLE)
    assert await cause(limited, job) == "unreachable"
    await holds.hold("high", "other:1", reason="access_denied", detail="")
    waits = (await seen(limited, other.request_id))["waits_for"]
    assert (waits["cause"], waits["reason"]) == ("held", "access_denied")
    assert waits["since"].startswith("20")
    assert await cause(limited, job) == "unreachable"
    await holds.hold("high", "", reason="queue_disabled", detail="")
    assert (await seen(limited, job.request_id))["waits_for"]["reason"] == "queue_disabled"
    await holds.release("high", "", detail="")
    limited.room.is_short = True
    assert await cause(limited, job) == "disk"
    limited.room.is_short = False
    holds.answered("high", "train:3")
    assert await cause(limited, job) == "unreachable"


async def test_a_request_that_rests_is_told(store: SqliteStore, clock: ManualClock, limited: Application) -> None:
    """Until its rest ends."""
    (job,) = await insert(store, queued(1))
    limited.holds.rest("high", "train:3", job.key)
    await limited.admit.turn()
    assert await cause(limited, job) == "rest"
    clock.move(60)
    assert await cause(limited, job) == "turn"


async def test_a_request_tells_what_it_depends_on(store: SqliteStore, limited: Application) -> None:
    """Each with whether it has a job and where it stands; it waits for those that have none."""
    (sent,) = await insert(store, queued(1))
    await update(store, tracked(sent))
    job = queued(2, dependencies=Dependencies.UNMET)
    await store.commit([InsertJob(job=job, body="{}", depends_on=(sent.request_id, "not-sent"))])
    record = await seen(limited, job.request_id)
    assert record["dependencies"] == "UNMET"
    assert sorted(record["depends_on"], key=lambda each: each["is_met"]) == [
        {"request_id": "not-sent", "is_met": False},
        {"request_id": sent.request_id, "is_met": True, "state": "TRACKED"},
    ]
    assert record["waits_for"] == {
        "cause": "depends_on",
        "detail": "it waits until these have a job: not-sent",
    }


async def test_a_request_in_doubt_says_so(store: SqliteStore, limited: Application) -> None:
    """And since when; what is being sent waits for no limit."""
    (job,) = await insert(store, queued(1))
    await update(store, doubted(job))
    record = await seen(limited, job.request_id)
    assert (record["state"], record["is_in_doubt"]) == ("SUBMITTING", True)
    assert "doubted_at" in record
    assert "waits_for" not in record


async def test_a_page_is_read_in_small_steps(store: SqliteStore, clock: ManualClock, metrics: Metrics) -> None:
    """Between which others get their turn at the store; it has as many requests as are asked for."""
    reads: list[int] = []

    class Watched:
        """The store, with every read of a list noted."""

        async def list_requests(self, asked: Inquiry) -> RequestPage:
            reads.append(asked.limit)
            return await store.list_requests(asked)

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

    watched: Any = Watched()
    inspection = made(watched, clock, metrics).inspection
    await insert(store, *(queued(number) for number in range(2 * READ_MAX + 50)))
    page = await inspection.page(Inquiry(limit=READ_MAX + 20))
    assert reads == [READ_MAX, 20]
    assert len(page["requests"]) == READ_MAX + 20
    rest = await inspection.page(replace(inquiry_of({"after": [page["next"]]}), limit=1_000))
    assert "next" not in rest
    names = [each["job_name"] for each in (*page["requests"], *rest["requests"])]
    assert names == [f"nightly-{number}" for number in range(2 * READ_MAX + 50)]


async def test_questions_are_answered_one_after_the_other(
    store: SqliteStore, clock: ManualClock, metrics: Metrics
) -> None:
    """So that many people who ask do not stand in the store's line before what the controller has to commit."""
    under_way, most = 0, 0

    class Slow:
        """A store whose answers take a while."""

        async def list_requests(self, asked: Inquiry) -> RequestPage:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await anyio.lowlevel.checkpoint()
            under_way -= 1
            return RequestPage(jobs=(), after=None)

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

    slow: Any = Slow()
    inspection = made(slow, clock, metrics).inspection
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(inspection.page, Inquiry())
    assert most == 1


async def test_those_before_it_are_counted_up_to_a_bound(store: SqliteStore, limited: Application) -> None:
    """A backlog may be long."""
    jobs: Sequence[Job] = await insert(store, *(queued(number) for number in range(AHEAD_MAX + 2)))
    await update(store, submitting(jobs[0]))
    assert (await seen(limited, jobs[7].request_id))["waits_for"]["ahead"] == 6
    waits = (await seen(limited, jobs[-1].request_id))["waits_for"]
    assert (waits["ahead"], waits["ahead_is_cut"]) == (AHEAD_MAX, True)
