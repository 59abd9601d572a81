"""The failed children of an array are found before its end is stored, as far as that is possible in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from orjson import loads

from controller.adapters.store.sqlite import SqliteStore
from controller.budgets import Budgets, Purpose
from controller.children import BEGIN_S, DENIED_S, LAG_TRIES, LOOK_UPS_MAX, READING_MAX, ChildLookUp, wants_look_up
from controller.core.children import FailedChild
from controller.core.errors import BadCredentials, NotAllowed, OutwardError, Refused, Throttled, Unavailable
from controller.core.job import BatchStatus, JobState, Observation, RowKey
from controller.core.lifecycle import Accepted, Admitted
from controller.core.polling import Schedule
from controller.health import Health
from controller.ledger import Ledger
from controller.loop import Drain
from controller.metrics import Metrics
from controller.ports import ChildPage, InsertJob
from controller.stages.track import Track
from tests.stages.conftest import ManualClock, tracking
from tests.stages.test_long_turns import request
from tests.store.engines import NOON, head

Answer = ChildPage | Exception


class Batch:
    """Answers ListJobs from a script, the last answer again and again, and describes one job."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [ChildPage(children=[])]
        self.asked: list[tuple[str, bool, str | None]] = []
        self.job: Observation | None = None
        self.hangs = anyio.Event()
        self.is_hanging = False

    async def list_failed_children(
        self, *, job_id: str, is_multi_node: bool, next_token: str | None = None
    ) -> ChildPage:
        self.asked.append((job_id, is_multi_node, next_token))
        await anyio.lowlevel.checkpoint()
        if self.is_hanging:
            await self.hangs.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def describe_jobs(self, job_ids: Sequence[str]) -> Sequence[Observation]:
        return [] if self.job is None else [self.job]


def children(*indexes: int, then: str | None = None) -> ChildPage:
    return ChildPage(children=[FailedChild(index=index, exit_code=1) for index in indexes], next_token=then)


def parent(failed: int, *, size: int = 10) -> Observation:
    return Observation(
        job_id="id-1",
        status=BatchStatus.FAILED,
        status_reason="Array Child Job failed",
        array_summary={"SUCCEEDED": size - failed, "FAILED": failed},
    )


@pytest.fixture
def batch() -> Batch:
    return Batch()


@pytest.fixture
def health(clock: ManualClock) -> Health:
    return Health(clock)


@pytest.fixture
def budgets(clock: ManualClock) -> Budgets:
    return Budgets(clock, dict.fromkeys(Purpose, 10.0), 40.0)


@pytest.fixture
def look_up(batch: Any, budgets: Budgets, clock: ManualClock, health: Health) -> ChildLookUp:
    return ChildLookUp(batch=batch, budgets=budgets, clock=clock, health=health, chance=lambda: 0.0)


async def test_every_page_is_read(look_up: ChildLookUp, batch: Batch) -> None:
    """With the token of the page before."""
    batch.answers = [children(0, 1, then="a"), children(2, then="b"), children(5)]
    found = await look_up.find(parent(4))
    assert [group.indexes for group in found.groups] == ["0-2,5"]
    assert (found.count, found.incomplete) == (4, None)
    assert [token for _, _, token in batch.asked] == [None, "a", "b"]


@pytest.mark.parametrize("error", [Throttled("429"), Unavailable("reset"), BadCredentials("expired")])
async def test_a_failed_page_is_asked_for_again(look_up: ChildLookUp, batch: Batch, error: OutwardError) -> None:
    """And none that was read already."""
    batch.answers = [children(0, then="a"), error, error, children(3)]
    found = await look_up.find(parent(2))
    assert (found.count, found.incomplete) == (2, None)
    assert [token for _, _, token in batch.asked] == [None, "a", "a", "a"]


async def test_a_list_that_lags_behind_the_summary_is_read_again_a_few_times(
    look_up: ChildLookUp, batch: Batch
) -> None:
    """And then it is said that some may be missing."""
    batch.answers = [children(0), children(0, 4)]
    assert (await look_up.find(parent(2))).incomplete is None
    batch.asked.clear()
    found = await look_up.find(parent(3))
    assert (found.count, found.incomplete) == (2, "lagging")
    assert len(batch.asked) == LAG_TRIES


async def test_a_list_that_shows_no_node_yet_is_read_again(look_up: ChildLookUp, batch: Batch) -> None:
    """A multi-node job's end counts no nodes, but it has failed by one; if it was stopped before it began, by none."""
    ended = Observation(job_id="id-1", status=BatchStatus.FAILED, nodes=2, started_at=NOON)
    batch.answers = [children(), children(0)]
    found = await look_up.find(ended)
    assert (found.count, found.incomplete) == (1, None)
    batch.answers = [children()]
    assert (await look_up.find(ended)).incomplete == "lagging"
    assert (await look_up.find(replace(ended, started_at=None))).incomplete is None


async def test_a_denied_look_up_is_told_at_once_and_tried_again_seldom(
    look_up: ChildLookUp, batch: Batch, clock: ManualClock, health: Health
) -> None:
    """It keeps no array waiting, and makes the process no less ready."""
    batch.answers = [NotAllowed("AccessDenied", call="batch:ListJobs")]
    for _ in range(3):
        assert (await look_up.find(parent(2))).incomplete == "denied"
    assert len(batch.asked) == 1
    assert health.intake_blockers() == {} or not any(health.intake_blockers().values())
    clock.move(DENIED_S)
    batch.answers = [children(1, 2)]
    assert (await look_up.find(parent(2))).incomplete is None


async def test_a_refused_look_up_is_over(look_up: ChildLookUp, batch: Batch) -> None:
    """A ClientException will not change."""
    batch.answers = [Refused("no such job")]
    assert (await look_up.find(parent(2))).incomplete == "failed"
    assert len(batch.asked) == 1


async def test_a_look_up_that_hangs_ends_with_what_was_found(
    look_up: ChildLookUp, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its deadline; the event is not kept back for ever."""
    monkeypatch.setattr("controller.children.DEADLINE_S", 0.05)
    batch.answers = [children(0, 1, then="a"), children(2)]

    async def hang() -> None:
        while len(batch.asked) < 1:
            await anyio.lowlevel.checkpoint()
        batch.is_hanging = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hang)
        found = await look_up.find(parent(3))
    assert found.incomplete == "deadline"
    assert found.count in (0, 2)


async def test_a_flood_of_ended_arrays_is_bounded(look_up: ChildLookUp, batch: Batch, budgets: Budgets) -> None:
    """Those that could not begin in time are told without their children, and at once."""
    batch.is_hanging = True
    in_time = int(BEGIN_S * budgets.rate_per_s(Purpose.LIST))
    results = []

    async def find() -> None:
        results.append(await look_up.find(parent(1)))

    batch.answers = [children(0)]
    async with anyio.create_task_group() as tasks:
        for _ in range(LOOK_UPS_MAX + 2):
            tasks.start_soon(find)
        while len(results) < LOOK_UPS_MAX + 2 - in_time - READING_MAX:
            await anyio.lowlevel.checkpoint()
        assert {found.incomplete for found in results} == {"too_many"}
        assert len(batch.asked) <= READING_MAX
        tasks.cancel_scope.cancel()


def test_only_what_failed_and_has_children_is_looked_up() -> None:
    """Arrays and multi-node jobs that failed."""
    plain = Observation(job_id="j", status=BatchStatus.FAILED)
    assert wants_look_up(parent(1))
    assert wants_look_up(replace(plain, nodes=2))
    assert not wants_look_up(plain)
    assert not wants_look_up(replace(parent(0), status=BatchStatus.SUCCEEDED))
    assert not wants_look_up(replace(parent(1), status=BatchStatus.PENDING))


# --- in the tracking stage ----------------------------------------------------------------------------------


class Bench:
    """The tracking stage on a real store, with one array in flight."""

    def __init__(self, track: Track, store: SqliteStore, schedule: Schedule, drain: Drain) -> None:
        self.track = track
        self.store = store
        self.schedule = schedule
        self.drain = drain

    async def finals(self) -> list[dict[str, Any]]:
        rows = await self.store.outbox("log", limit=100)
        return [loads(row.body) for row in rows if row.name == "job.finished"]


@pytest.fixture
async def bench(
    store: SqliteStore,
    ledger: Ledger,
    batch: Any,
    budgets: Budgets,
    clock: ManualClock,
    health: Health,
    metrics: Metrics,
    look_up: ChildLookUp,
) -> Bench:
    schedule = Schedule(interval_s_min=1.0, interval_s_max=2.0)
    drain = Drain()
    track = tracking(
        batch,
        clock=clock,
        store=store,
        ledger=ledger,
        budgets=budgets,
        health=health,
        metrics=metrics,
        chance=lambda: 0.0,
        schedule=schedule,
        concurrency=2,
        children=look_up,
        drain=drain,
    )
    await store.commit([InsertJob(job=request(1, array_size=10), body="{}")])
    (job,) = await head(store, request(1).job_queue, now=clock.now(), limit=1)
    (job,) = await ledger.record([(job, Admitted())])
    await ledger.record([(job, Accepted(job_id="id-1", job_arn=None))])
    await track.load()
    return Bench(track, store, schedule, drain)


async def test_the_end_of_an_array_tells_its_failed_children_in_its_one_final_event(
    bench: Bench, batch: Batch, metrics: Metrics
) -> None:
    """The look-up comes first, then the change and its event in one commit."""
    batch.job = parent(3)
    batch.answers = [children(0, 1, then="a"), children(7)]
    async with anyio.create_task_group() as tasks:
        await bench.track.turn(tasks)
    (final,) = await bench.finals()
    assert final["failed_children"]["groups"][0]["indexes"] == "0-1,7"
    assert final["array_summary"] == {"SUCCEEDED": 7, "FAILED": 3}
    assert len(bench.schedule) == 0
    assert len(bench.track.arrays) == 0
    counted = metrics.job_failures_total.labels(job_queue="unknown", reason_class="array_child_failed")
    assert counted._value.get() == 1  # type: ignore[attr-defined]


async def test_a_drain_leaves_the_array_to_the_next_process(bench: Bench, batch: Batch) -> None:
    """A look-up does not hold up a stop, and what it was for is not lost."""
    batch.job = parent(3)
    batch.is_hanging = True
    async with anyio.create_task_group() as tasks:
        await bench.track.turn(tasks)
        while not batch.asked:
            await anyio.lowlevel.checkpoint()
        bench.drain.request()
    assert await bench.finals() == []
    (job,) = (await bench.store.load([RowKey(1)])).values()
    assert job.state is JobState.TRACKED
    assert "id-1" in bench.schedule
    assert bench.schedule.next_due_at() is not None


async def test_a_mistake_of_ours_in_a_look_up_ends_nothing_else(bench: Bench, batch: Batch, clock: ManualClock) -> None:
    """The array is asked for again later."""
    batch.job = parent(3)
    batch.answers = [KeyError("a mistake"), children(0, 1, 2)]
    async with anyio.create_task_group() as tasks:
        await bench.track.turn(tasks)
    assert await bench.finals() == []
    clock.move(60.0)
    async with anyio.create_task_group() as tasks:
        await bench.track.turn(tasks)
    assert len(await bench.finals()) == 1


async def test_while_its_children_are_looked_up_an_array_is_in_no_other_chunk(bench: Bench, batch: Batch) -> None:
    """It would be looked up twice."""
    batch.job = parent(3)
    batch.answers = [children(0, 1, 2)]
    batch.is_hanging = True
    async with anyio.create_task_group() as tasks:
        await bench.track.turn(tasks)
        while not batch.asked:
            await anyio.lowlevel.checkpoint()
        assert bench.schedule.next_due_at() is None
        batch.hangs.set()
    assert len(await bench.finals()) == 1
    assert len(batch.asked) == 1


async def test_an_array_whose_children_are_looked_up_was_seen(bench: Bench, batch: Batch, clock: ManualClock) -> None:
    """How long its end waits for them says nothing of how old the answers are."""
    batch.job = parent(3)
    batch.answers = [children(0, 1, 2)]
    batch.is_hanging = True
    clock.move(50.0)
    async with anyio.create_task_group() as tasks:
        await bench.track.turn(tasks)
        while not batch.asked:
            await anyio.lowlevel.checkpoint()
        clock.move(50.0)
        assert bench.schedule.staleness_s(clock.monotonic()) == 0.0
        batch.hangs.set()


async def test_an_array_whose_end_is_not_stored_grows_stale_again(
    bench: Bench, batch: Batch, clock: ManualClock
) -> None:
    """A mistake of ours in its look-up, after which it is asked for again."""
    batch.job = parent(3)
    batch.answers = [KeyError("a mistake")]
    async with anyio.create_task_group() as tasks:
        await bench.track.turn(tasks)
    clock.move(50.0)
    assert bench.schedule.staleness_s(clock.monotonic()) == pytest.approx(50.0, abs=1.0)


async def test_the_progress_of_an_array_is_counted_while_it_is_in_flight(
    bench: Bench, batch: Batch, clock: ManualClock
) -> None:
    """By queue and status, from answers that change nothing else."""
    queue = request(1).job_queue
    batch.job = Observation(job_id="id-1", status=BatchStatus.PENDING, array_summary={"RUNNING": 6, "SUCCEEDED": 4})
    async with anyio.create_task_group() as tasks:
        await bench.track.turn(tasks)
    assert {key: n for key, n in bench.track.arrays.totals().items() if n} == {
        (queue, "RUNNING"): 6,
        (queue, "SUCCEEDED"): 4,
    }
    batch.job = replace(batch.job, array_summary={"SUCCEEDED": 10}, status=BatchStatus.SUCCEEDED)
    clock.move(10.0)
    async with anyio.create_task_group() as tasks:
        await bench.track.turn(tasks)
    assert not any(bench.track.arrays.totals().values())
    (final,) = await bench.finals()
    assert "failed_children" not in final
    assert batch.asked == []
