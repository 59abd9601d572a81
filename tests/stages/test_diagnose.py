"""Why jobs wait: who is asked, how often, what is told, and what a denied permission does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest
from orjson import loads

from controller.adapters.aws_call import READ_DEADLINE_S
from controller.adapters.store.sqlite import SqliteStore
from controller.application import LIVE_S
from controller.arrays import ArrayProgress
from controller.budgets import Budgets, Purpose
from controller.core.admission import QueueLimits
from controller.core.errors import NotAllowed, Throttled, Unavailable, Unexpected
from controller.core.job import Attempt, BatchStatus, Job, JobState, Observation, QueueStatus, RowKey, replace
from controller.core.lifecycle import Accepted, Admitted, Described
from controller.core.limits import QUEUE_FRONT_MAX
from controller.core.polling import Schedule
from controller.core.waiting import ComputeEnvironment
from controller.ledger import Ledger
from controller.loop import Drain
from controller.ports import Block, InsertJob, PutBlock
from controller.stages.diagnose import (
    ASK_S_MAX,
    ASK_S_MIN,
    CALLS_S,
    DENIED_S,
    JOBS_TOLD_MAX,
    LEARNED_PER_TURN,
    LOOK_S,
    LOOK_S_MIN,
    SETTLED_S,
    SETTLED_S_MAX,
    Diagnose,
)
from tests.stages.conftest import ManualClock
from tests.stages.test_long_turns import request
from tests.store.engines import head

STUCK_S = 600.0
CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested"


class Batch:
    """A queue with RUNNABLE jobs in it."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.call_s = 0.0
        self.calls: Counter[str] = Counter()
        self.asked: list[str] = []
        """Job queues, in the order of the questions for their fronts."""
        self.failures: dict[str, Exception] = {}
        self.broken: set[str] = set()
        """Job queues whose front gives no answer."""
        self.jobs: dict[str, Observation] = {}
        self.front: list[str] | None = None
        self.environments = [ComputeEnvironment(name="ce", arn="arn:ce", state="ENABLED", status="VALID")]

    def called(self, operation: str) -> None:
        self.calls[operation] += 1
        self.clock.move(self.call_s)
        if operation in self.failures:
            raise self.failures[operation]

    async def describe_job_queues(self, names: Sequence[str]) -> Sequence[QueueStatus]:
        self.called("DescribeJobQueues")
        return [
            QueueStatus(name=name, arn="", state="ENABLED", status="VALID", compute_environments=("arn:ce",))
            for name in names
        ]

    async def describe_compute_environments(self, names: Sequence[str]) -> Sequence[ComputeEnvironment]:
        self.called("DescribeComputeEnvironments")
        return self.environments

    async def queue_front(self, job_queue: str) -> Sequence[str]:
        self.asked.append(job_queue)
        self.called("GetJobQueueSnapshot")
        if job_queue in self.broken:
            raise Unavailable("500")
        return list(self.jobs)[:100] if self.front is None else self.front

    async def describe_jobs(self, job_ids: Sequence[str]) -> Sequence[Observation]:
        self.called("DescribeJobs")
        return [self.jobs[job_id] for job_id in job_ids if job_id in self.jobs]


class Bench:
    """The stage on a real store and schedule, with jobs that are RUNNABLE."""

    def __init__(self, store: SqliteStore, ledger: Ledger, clock: ManualClock) -> None:
        self.store, self.ledger, self.clock = store, ledger, clock
        self.batch = Batch(clock)
        self.budgets = Budgets(clock, dict.fromkeys(Purpose, 100.0), 400.0)
        self.schedule = Schedule(interval_s_min=1.0, interval_s_max=60.0)
        self.limits: dict[str, QueueLimits] = {}
        self.arrays = ArrayProgress()
        self.diagnose = self.made()

    def made(self) -> Diagnose:
        api: Any = self.batch
        return Diagnose(
            store=self.store,
            ledger=self.ledger,
            batch=api,
            budgets=self.budgets,
            clock=self.clock,
            drain=Drain(),
            schedule=self.schedule,
            limits_of=lambda name: self.limits.get(name, QueueLimits(stuck_after_s=STUCK_S)),
            arrays=self.arrays,
            queue_names=("*", *self.limits),
            on_commit=lambda writes: None,
        )

    async def runnable(self, *numbers: int, **members: Any) -> list[Job]:
        """Jobs that Batch shows RUNNABLE from now on."""
        found = []
        for number in numbers:
            new = replace(request(number), **members)
            await self.store.commit([InsertJob(job=new, body="{}")])
            (job,) = await head(self.store, new.job_queue, now=self.clock.now(), limit=1)
            (job,) = await self.ledger.record([(job, Admitted())])
            (job,) = await self.ledger.record([(job, Accepted(job_id=f"id-{number}", job_arn=None))])
            self.batch.jobs[f"id-{number}"] = Observation(job_id=f"id-{number}", status=BatchStatus.RUNNABLE)
            (job,) = await self.ledger.record([(job, Described(seen=self.batch.jobs[f"id-{number}"]))])
            found.append(job)
        for row in await self.store.tracked(after=RowKey(0), limit=1_000):
            if row.job_id not in self.schedule:
                self.schedule.add(row, due_at=self.clock.monotonic())
        return found

    async def blocking(self) -> None:
        """Job 1 is RUNNABLE, and Batch says that it blocks its queue."""
        (job,) = await self.runnable(1)
        self.batch.jobs["id-1"] = Observation(job_id="id-1", status=BatchStatus.RUNNABLE, status_reason=CAPACITY)
        self.diagnose.heard(job.key, "id-1", CAPACITY)

    async def restarted(self) -> Diagnose:
        """The stage of the next process, on the same store."""
        again = self.made()
        await again.load()
        return again

    async def array(self, number: int, **summary: int) -> Job:
        """An array that Batch shows PENDING from now on, with so many children by status."""
        (job,) = await self.runnable(number, array_size=10)
        self.children(job, **summary)
        (job,) = await self.ledger.record([(job, Described(seen=self.batch.jobs[f"id-{number}"]))])
        self.arrays.add(job.key, job.job_queue)
        return job

    def children(self, job: Job, **summary: int) -> None:
        assert job.batch_job_id is not None
        self.batch.jobs[job.batch_job_id] = Observation(
            job_id=job.batch_job_id, status=BatchStatus.PENDING, array_summary=summary
        )

    async def wait(self, seconds: float) -> None:
        """Time passes, and the tracking stage sees every job as it is."""
        self.clock.move(seconds)
        while chunk := self.schedule.take_chunk(self.clock.monotonic()):
            for row in chunk:
                seen = self.batch.jobs[row.job_id]
                assert seen.status is not None
                if seen.array_summary is not None:
                    self.arrays.seen(row.key, row.job_id, seen.array_summary, now=self.clock.monotonic())
                self.schedule.observed(
                    row.key, status=seen.status, attempts=len(seen.attempts), now=self.clock.monotonic()
                )

    async def told(self, name: str) -> list[dict[str, Any]]:
        return [loads(row.body) for row in await self.store.outbox("log", limit=1_000) if row.name == name]


@pytest.fixture
def bench(store: SqliteStore, ledger: Ledger, clock: ManualClock) -> Bench:
    return Bench(store, ledger, clock)


async def test_nobody_is_asked_while_no_job_waits_too_long(bench: Bench) -> None:
    """Looking costs no call."""
    await bench.runnable(1)
    await bench.wait(STUCK_S - 1)
    await bench.diagnose.turn()
    assert bench.batch.calls == {}
    assert bench.diagnose.stuck() == {}


async def test_a_stuck_job_is_told_once_with_the_cause_that_batch_states(bench: Bench) -> None:
    """And its queue as blocked; another turn says nothing more."""
    (job,) = await bench.runnable(1)
    bench.batch.jobs["id-1"] = Observation(job_id="id-1", status=BatchStatus.RUNNABLE, status_reason=CAPACITY)
    await bench.wait(STUCK_S)
    for _ in range(3):
        await bench.diagnose.turn()
        await bench.wait(ASK_S_MAX)
    (stuck,) = await bench.told("job.stuck")
    assert (stuck["job_id"], stuck["cause"], stuck["detail"]) == ("id-1", "insufficient_capacity", CAPACITY)
    assert stuck["position"] == 1
    assert stuck["runnable_for_s"] >= STUCK_S
    (blocked,) = await bench.told("job_queue.blocked")
    assert (blocked["job_queue"], blocked["cause"], blocked["head_job_id"]) == (
        job.job_queue,
        "insufficient_capacity",
        "id-1",
    )
    assert bench.diagnose.stuck() == {(job.job_queue, "insufficient_capacity"): 1}


async def test_a_flood_is_asked_about_per_queue_and_told_at_its_head(bench: Bench) -> None:
    """300 stuck jobs are one call of each kind, ten events, and a count."""
    (job, *_) = await bench.runnable(*range(300))
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    assert bench.batch.calls == {
        "DescribeJobQueues": 1,
        "DescribeComputeEnvironments": 1,
        "GetJobQueueSnapshot": 1,
        "DescribeJobs": 1,
    }
    stuck = await bench.told("job.stuck")
    assert [event.get("position") for event in stuck] == list(range(1, JOBS_TOLD_MAX + 1))
    assert bench.diagnose.stuck() == {
        (job.job_queue, "undetermined"): 1,
        (job.job_queue, "behind_other_jobs"): 299,
    }
    assert await bench.told("job_queue.blocked") == []


async def test_jobs_behind_a_front_of_others_are_told(bench: Bench) -> None:
    """In a shared queue the hundred at the front may all be somebody else's, for as long as ours wait."""
    await bench.runnable(1)
    bench.batch.front = [f"other-{number}" for number in range(QUEUE_FRONT_MAX)]
    bench.batch.jobs |= {name: Observation(job_id=name, status=BatchStatus.RUNNABLE) for name in bench.batch.front}
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    (stuck,) = await bench.told("job.stuck")
    assert (stuck["job_id"], stuck["cause"]) == ("id-1", "behind_other_jobs")
    assert "position" not in stuck


async def test_all_jobs_of_a_flood_are_told_in_time(bench: Bench) -> None:
    """Also those behind the hundred at the front, which were all told before."""
    await bench.runnable(*range(130))
    await bench.wait(STUCK_S)
    for _ in range(130 // JOBS_TOLD_MAX):
        await bench.diagnose.turn()
        await bench.wait(ASK_S_MAX)
    assert len({event["job_id"] for event in await bench.told("job.stuck")}) == 130


async def test_a_queue_is_asked_about_ever_more_seldom(bench: Bench) -> None:
    """In a day of being stuck, about once in a quarter of an hour."""
    await bench.runnable(1)
    await bench.wait(STUCK_S)
    for _ in range(24 * 60):
        await bench.diagnose.turn()
        await bench.wait(60.0)
    assert 90 <= bench.batch.calls["GetJobQueueSnapshot"] <= 105


async def test_a_job_that_has_moved_on_is_not_told(bench: Bench) -> None:
    """The schedule may be some seconds old; the answer of the moment decides."""
    await bench.runnable(1)
    await bench.wait(STUCK_S)
    bench.batch.jobs["id-1"] = Observation(job_id="id-1", status=BatchStatus.STARTING)
    await bench.diagnose.turn()
    assert await bench.told("job.stuck") == []


async def test_a_job_that_waits_for_its_retry_is_told_anew(bench: Bench) -> None:
    """Each time of being RUNNABLE is one of its own."""
    (job,) = await bench.runnable(1)
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    again = Observation(job_id="id-1", status=BatchStatus.RUNNABLE, attempts=(Attempt(),))
    bench.batch.jobs["id-1"] = again
    (job,) = (await bench.store.load([job.key])).values()
    await bench.ledger.record([(job, Described(seen=again))])
    await bench.wait(60.0)
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    first, second = await bench.told("job.stuck")
    assert (first["attempt"], second["attempt"]) == (0, 1)
    assert first["event_id"] != second["event_id"]


@pytest.mark.parametrize("operation", ["GetJobQueueSnapshot", "DescribeComputeEnvironments", "DescribeJobQueues"])
async def test_a_denied_read_makes_the_cause_less_certain_and_nothing_else(bench: Bench, operation: str) -> None:
    """The job is told all the same; the read is tried again after an hour."""
    await bench.runnable(1)
    bench.batch.failures[operation] = NotAllowed("AccessDenied", call=f"batch:{operation}")
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    (stuck,) = await bench.told("job.stuck")
    assert stuck["cause"] == "undetermined"
    asked = bench.batch.calls[operation]
    for _ in range(3):
        await bench.wait(ASK_S_MAX)
        await bench.diagnose.turn()
    assert bench.batch.calls[operation] == asked == 1
    await bench.wait(DENIED_S)
    await bench.diagnose.turn()
    assert bench.batch.calls[operation] == 2


@pytest.mark.parametrize("operation", ["GetJobQueueSnapshot", "DescribeComputeEnvironments", "DescribeJobQueues"])
async def test_a_read_that_there_is_not_makes_the_cause_less_certain_and_nothing_else(
    bench: Bench, operation: str
) -> None:
    """As of a stand-in for Batch that answers 404 to what it does not know."""
    await bench.runnable(1)
    bench.batch.failures[operation] = Unexpected("404", call=f"batch:{operation}")
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    (stuck,) = await bench.told("job.stuck")
    assert stuck["cause"] == "undetermined"


INVALID = "ACTION_REQUIRED - CE(s) associated with the job queue are invalid."


@pytest.mark.parametrize("text", [CAPACITY, INVALID])
@pytest.mark.parametrize("operation", ["GetJobQueueSnapshot", "DescribeComputeEnvironments", "DescribeJobQueues"])
async def test_a_denied_read_keeps_no_queue_blocked_that_batch_said_so_of(
    bench: Bench, operation: str, text: str
) -> None:
    """Once Batch no longer says it, though another job of the queue waits on."""
    await bench.runnable(1, 2)
    bench.batch.failures[operation] = NotAllowed("AccessDenied", call=f"batch:{operation}")
    bench.batch.jobs["id-1"] = Observation(job_id="id-1", status=BatchStatus.RUNNABLE, status_reason=text)
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    assert len(await bench.told("job_queue.blocked")) == 1
    bench.batch.jobs["id-1"] = Observation(job_id="id-1", status=BatchStatus.RUNNING)
    await bench.wait(ASK_S_MAX)
    await bench.diagnose.turn()
    assert len(await bench.told("job_queue.unblocked")) == 1


async def test_after_a_restart_a_denied_read_ends_no_block_that_it_has_shown(bench: Bench) -> None:
    """Nobody knows whether the compute environment is enabled again. What Batch alone tells ends all the same."""
    causes = {"high": "compute_environment_disabled", "low": "service_role"}
    for number, (name, cause) in enumerate(causes.items()):
        await bench.runnable(number, job_queue=name, job_queue_ref=name)
        await bench.store.commit([PutBlock(block=Block(job_queue=name, cause=cause, blocked_at=1.0))])
    await bench.diagnose.load()
    denied = NotAllowed("AccessDenied", call="batch:DescribeComputeEnvironments")
    bench.batch.failures["DescribeComputeEnvironments"] = denied
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    assert [event["job_queue"] for event in await bench.told("job_queue.unblocked")] == ["low"]


async def test_a_throttled_read_slows_its_budget_and_ends_the_turn(bench: Bench) -> None:
    """The loop backs off; the queue keeps its next time."""
    await bench.runnable(1)
    bench.batch.failures["GetJobQueueSnapshot"] = Throttled("429")
    await bench.wait(STUCK_S)
    with pytest.raises(Throttled):
        await bench.diagnose.turn()
    await bench.diagnose.turn()
    assert bench.batch.calls["GetJobQueueSnapshot"] == 1


async def test_slow_calls_end_the_turn_and_the_other_queues_come_first_in_the_next(bench: Bench) -> None:
    """Each call takes as long as it may: a turn stays well below what ``/livez`` allows, and no queue starves."""
    names = [f"q{number}" for number in range(7)]
    for number, name in enumerate(names):
        await bench.runnable(number, job_queue=name, job_queue_ref=name)
    await bench.wait(STUCK_S)
    bench.batch.call_s = READ_DEADLINE_S
    while len(bench.batch.asked) < len(names):
        began_at, before = bench.clock.elapsed, len(bench.batch.asked)
        due_s = await bench.diagnose.turn()
        assert bench.clock.elapsed - began_at <= CALLS_S + READ_DEADLINE_S + 1 < LIVE_S / 1.5
        assert len(bench.batch.asked) > before
        assert due_s == 0.0 or len(bench.batch.asked) == len(names)
    assert sorted(bench.batch.asked) == names
    assert len(await bench.told("job.stuck")) == len(names)


async def test_a_line_without_end_ends_the_turn_and_its_queue_stays_due(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next turn goes on at once, and tells what there is as soon as it gets its calls."""
    await bench.runnable(1)
    await bench.wait(STUCK_S)
    with monkeypatch.context() as patch:
        patch.setattr("controller.stages.diagnose.CALLS_S", 0.05)
        patch.setattr(bench.budgets, "acquire", lambda purpose: anyio.sleep_forever())
        with anyio.fail_after(10.0):
            assert await bench.diagnose.turn() == 0.0
    assert (bench.batch.calls, await bench.told("job.stuck")) == ({}, [])
    assert await bench.diagnose.turn() != 0.0
    assert len(await bench.told("job.stuck")) == 1


async def test_an_array_whose_children_all_wait_is_stuck(bench: Bench) -> None:
    """Told once, where the first of its children stands, with the cause that Batch states of that one."""
    job = await bench.array(1, RUNNABLE=7, SUCCEEDED=3)
    bench.batch.front = ["somebody-s", "id-1:4", "id-1:5"]
    bench.batch.jobs["id-1:4"] = Observation(job_id="id-1:4", status=BatchStatus.RUNNABLE, status_reason=CAPACITY)
    await bench.wait(1.0)
    await bench.wait(STUCK_S - 1.0)
    await bench.diagnose.turn()
    assert bench.diagnose.stuck() == {}
    for _ in range(3):
        await bench.wait(ASK_S_MAX)
        await bench.diagnose.turn()
    (stuck,) = await bench.told("job.stuck")
    assert (stuck["job_id"], stuck["cause"], stuck["position"]) == ("id-1", "insufficient_capacity", 2)
    assert stuck["runnable_for_s"] >= STUCK_S
    (blocked,) = await bench.told("job_queue.blocked")
    assert (blocked["job_queue"], blocked["head_job_id"]) == (job.job_queue, "id-1:4")
    assert bench.diagnose.stuck() == {(job.job_queue, "insufficient_capacity"): 1}


@pytest.mark.parametrize(
    "summary",
    [{"RUNNABLE": 9, "RUNNING": 1}, {"RUNNABLE": 9, "STARTING": 1}, {"PENDING": 10}, {"SUCCEEDED": 10}, {}],
    ids=lambda summary: "+".join(summary) or "none",
)
async def test_an_array_that_gets_on_or_can_t_yet_is_not_stuck(bench: Bench, summary: dict[str, int]) -> None:
    """Some children run, none waits for a place, or it waits for a job that it depends on."""
    await bench.array(1, **summary)
    for _ in range(3):
        await bench.wait(STUCK_S)
        await bench.diagnose.turn()
    assert bench.batch.calls == {}


async def test_a_child_that_ended_between_two_looks_was_placed(bench: Bench) -> None:
    """The wait of the others begins anew."""
    job = await bench.array(1, RUNNABLE=10)
    for ended in range(4):
        bench.children(job, RUNNABLE=10 - ended, SUCCEEDED=ended)
        await bench.wait(0.9 * STUCK_S)
        await bench.diagnose.turn()
    assert bench.batch.calls == {}
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    assert len(await bench.told("job.stuck")) == 1


async def test_an_array_that_has_moved_on_is_not_told(bench: Bench) -> None:
    """What DescribeJobs shows at that moment counts."""
    job = await bench.array(1, RUNNABLE=10)
    await bench.wait(1.0)
    await bench.wait(STUCK_S)
    bench.children(job, RUNNABLE=9, STARTING=1)
    await bench.diagnose.turn()
    assert await bench.told("job.stuck") == []


async def test_after_a_restart_an_array_that_waits_keeps_its_queue_blocked(bench: Bench) -> None:
    """Since when its children wait is not known any more; that nothing was placed is."""
    job = await bench.array(1, RUNNABLE=10)
    bench.batch.environments = [ComputeEnvironment(name="ce", arn="arn:ce", state="DISABLED", status="VALID")]
    await bench.wait(1.0)
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    assert len(await bench.told("job_queue.blocked")) == 1
    bench.arrays = ArrayProgress()
    bench.arrays.add(job.key, job.job_queue)
    again = await bench.restarted()
    await bench.wait(SETTLED_S)
    await again.turn()
    assert await bench.told("job_queue.unblocked") == []
    bench.children(job, RUNNABLE=9, RUNNING=1)
    await bench.wait(60.0)
    await again.turn()
    assert len(await bench.told("job_queue.unblocked")) == 1


async def test_a_queue_without_stuck_jobs_is_told_as_unblocked(bench: Bench) -> None:
    """Once, under the same time of being blocked."""
    await bench.runnable(1)
    bench.batch.environments = [ComputeEnvironment(name="ce", arn="arn:ce", state="DISABLED", status="VALID")]
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    (blocked,) = await bench.told("job_queue.blocked")
    assert blocked["cause"] == "compute_environment_disabled"
    bench.batch.jobs["id-1"] = Observation(job_id="id-1", status=BatchStatus.RUNNING)
    await bench.wait(60.0)
    for _ in range(2):
        await bench.diagnose.turn()
    (unblocked,) = await bench.told("job_queue.unblocked")
    assert unblocked["blocked_at"] == blocked["blocked_at"]
    assert list(await bench.store.blocks()) == []


async def test_a_block_outlives_a_restart(bench: Bench) -> None:
    """It is not told again, and its end is, once there was time to see every job again."""
    (job,) = await bench.runnable(1)
    bench.batch.jobs["id-1"] = Observation(job_id="id-1", status=BatchStatus.RUNNABLE, status_reason=CAPACITY)
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    again = await bench.restarted()
    await again.turn()
    assert len(await bench.told("job_queue.blocked")) == 1
    bench.schedule.remove(job.key)
    again = await bench.restarted()
    await again.turn()
    assert await bench.told("job_queue.unblocked") == []
    bench.clock.move(SETTLED_S)
    await again.turn()
    assert len(await bench.told("job_queue.unblocked")) == 1


async def test_batch_s_own_word_of_a_job_makes_its_queue_due_before_the_threshold(bench: Bench) -> None:
    """The tracking stage saw it, as after a blocked event; the job itself is not told as stuck yet."""
    (job,) = await bench.runnable(1)
    bench.batch.jobs["id-1"] = Observation(job_id="id-1", status=BatchStatus.RUNNABLE, status_reason=CAPACITY)
    bench.diagnose.heard(job.key, "id-1", "Host EC2 (instance i-1) terminated.")
    await bench.diagnose.turn()
    assert bench.batch.calls == {}
    bench.diagnose.heard(job.key, "id-1", CAPACITY)
    await bench.diagnose.turn()
    (blocked,) = await bench.told("job_queue.blocked")
    assert (blocked["cause"], blocked["stuck_jobs"]) == ("insufficient_capacity", 0)
    assert await bench.told("job.stuck") == []


async def test_batch_s_word_of_a_job_that_was_placed_since_blocks_nothing(bench: Bench) -> None:
    """The queue is unblocked when it is looked at next, not when the word is old."""
    await bench.diagnose.load()
    bench.clock.move(SETTLED_S)
    await bench.blocking()
    await bench.diagnose.turn()
    assert len(await bench.told("job_queue.blocked")) == 1
    bench.batch.jobs["id-1"] = Observation(job_id="id-1", status=BatchStatus.STARTING)
    await bench.wait(60.0)
    await bench.diagnose.turn()
    assert len(await bench.told("job_queue.unblocked")) == 1


async def test_an_answer_of_this_moment_comes_before_what_was_heard(bench: Bench) -> None:
    """The job waits still, but Batch no longer says that it blocks its queue."""
    await bench.blocking()
    await bench.diagnose.turn()
    bench.batch.jobs["id-1"] = Observation(job_id="id-1", status=BatchStatus.RUNNABLE)
    bench.batch.front = []
    bench.clock.move(ASK_S_MIN + 1)
    await bench.diagnose.turn()
    assert len(await bench.told("job_queue.unblocked")) == 1


async def test_where_it_is_off_nothing_is_looked_for(bench: Bench) -> None:
    """For one queue, or for all."""
    await bench.runnable(1, job_queue="quiet", job_queue_ref="quiet")
    bench.limits["quiet"] = QueueLimits(stuck_after_s=0.0)
    bench.diagnose = bench.made()
    await bench.wait(STUCK_S)
    await bench.diagnose.turn()
    assert (bench.batch.calls, bench.diagnose.stuck()) == ({}, {})
    bench.limits = {"*": QueueLimits(stuck_after_s=0.0)}
    assert await bench.made().turn() is None


async def test_a_queue_whose_front_gives_no_answer_leaves_the_others_their_turn(bench: Bench) -> None:
    """However long that lasts."""
    for number, name in enumerate(("q0", "q1", "q2")):
        await bench.runnable(number, job_queue=name, job_queue_ref=name)
    bench.batch.broken = {"q0"}
    await bench.wait(STUCK_S)
    for _ in range(20):
        with suppress(Unavailable):
            await bench.diagnose.turn()
        await bench.wait(LOOK_S)
    assert {event["job_queue"] for event in await bench.told("job.stuck")} == {"q1", "q2"}
    assert bench.batch.asked.count("q0") < 5, "it keeps its next time"


async def test_a_block_outlives_a_restart_among_thousands_of_stuck_jobs(bench: Bench) -> None:
    """Whose queues are learned in several turns: until then nothing is called unblocked."""
    count = LEARNED_PER_TURN + 1
    names = ["high"] * LEARNED_PER_TURN + ["narrow"]
    rows = [
        replace(
            request(number),
            job_queue=name,
            state=JobState.TRACKED,
            first_intent_at=1.0,
            batch_job_id=f"id-{number}",
            batch_status=BatchStatus.RUNNABLE,
            submitted_at=1.0,
        )
        for number, name in enumerate(names)
    ]
    await bench.store.commit([InsertJob(job=row, body="") for row in rows])
    await bench.store.commit([PutBlock(block=Block(job_queue="narrow", cause="service_role", blocked_at=1.0))])
    bench.batch.jobs = {
        row.batch_job_id or "": Observation(job_id=row.batch_job_id or "", status=BatchStatus.RUNNABLE) for row in rows
    }
    bench.batch.jobs[f"id-{count - 1}"] = Observation(
        job_id=f"id-{count - 1}",
        status=BatchStatus.RUNNABLE,
        status_reason="MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS - All compute environments have problems",
    )
    bench.schedule.add_missing(
        await bench.store.tracked(after=RowKey(0), limit=count), due_at=bench.clock.monotonic(), age_s=lambda _: STUCK_S
    )
    await bench.diagnose.load()
    await bench.wait(SETTLED_S)
    assert await bench.diagnose.turn() == LOOK_S_MIN, "soon again, for the rest"
    await bench.diagnose.turn()
    assert bench.batch.asked == ["high", "narrow"]
    assert await bench.told("job_queue.unblocked") == []
    assert sum(bench.diagnose.stuck().values()) == count


async def test_a_queue_stays_blocked_until_its_job_is_looked_at_again(bench: Bench) -> None:
    """However long that takes: ten times the longest interval while events are healthy, more in an outage."""
    await bench.diagnose.load()
    bench.clock.move(SETTLED_S)
    await bench.blocking()
    for _ in range(20):
        await bench.diagnose.turn()
        bench.clock.move(LOOK_S)
    assert len(await bench.told("job_queue.blocked")) == 1
    assert await bench.told("job_queue.unblocked") == []


async def test_a_block_outlives_a_restart_until_every_job_was_seen(bench: Bench) -> None:
    """Of a hundred thousand jobs the one at the head may be looked at after minutes."""
    await bench.blocking()
    await bench.diagnose.turn()
    again = await bench.restarted()
    bench.clock.move(SETTLED_S)
    await again.turn()
    assert len(await bench.told("job_queue.blocked")) == 1
    assert await bench.told("job_queue.unblocked") == []
    await bench.wait(1.0)
    await again.turn()
    assert len(await bench.told("job_queue.unblocked")) == 1, "that look said nothing of a queue that is blocked"


async def test_a_job_that_is_never_described_keeps_no_queue_blocked(bench: Bench) -> None:
    """As one that Batch refuses to describe."""
    await bench.blocking()
    await bench.diagnose.turn()
    again = await bench.restarted()
    bench.clock.move(SETTLED_S_MAX)
    await again.turn()
    assert len(await bench.told("job_queue.unblocked")) == 1
