"""DescribeJobs fails for one of the ids of a call: the others are described all the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
import structlog

from controller.adapters.store.sqlite import SqliteStore
from controller.budgets import Budgets, Purpose
from controller.core.errors import (
    NotAllowed,
    OutwardError,
    Refused,
    StoreUnavailable,
    Throttled,
    Unavailable,
    Unexpected,
)
from controller.core.job import BatchStatus, Job, JobState, Observation
from controller.isolation import SUSPECTS_MAX
from controller.ledger import Ledger, Wakes
from controller.metrics import Metrics
from controller.ports import InsertJob
from controller.stages.track import Track
from tests.stages.conftest import HurriedDrain, ManualClock, tracking
from tests.stages.test_long_turns import request

JOBS = 100
BROKEN = Unavailable("batch:DescribeJobs: ServerException (HTTP 500)", call="batch:DescribeJobs")


class Batch:
    """Every job is SUCCEEDED, but a call with one of the ``refused`` fails as a whole, with ``error``."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.error: OutwardError = Refused("batch:DescribeJobs: ClientException (HTTP 400)", call="batch:DescribeJobs")
        self.calls: list[Sequence[str]] = []
        self.asking = self.asking_most = 0
        """Calls for one job that are under way now, and were at most."""
        self.failure: OutwardError | None = None
        """Of every second call with one of the refused."""
        self._fails_next = False

    async def describe_jobs(self, job_ids: Sequence[str]) -> Sequence[Observation]:
        self.calls.append(job_ids)
        self.asking += len(job_ids) == 1
        self.asking_most = max(self.asking, self.asking_most)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        self.asking -= len(job_ids) == 1
        if self.failure is not None and self.refused.intersection(job_ids):
            self._fails_next = not self._fails_next
            if self._fails_next:
                raise self.failure
        if self.refused.intersection(job_ids):
            raise self.error
        return [Observation(job_id=job_id, status=BatchStatus.SUCCEEDED) for job_id in job_ids]


def _job(number: int) -> Job:
    return request(
        number,
        state=JobState.TRACKED,
        batch_job_id=f"job-{number}",
        batch_status=BatchStatus.RUNNING,
        submitted_at=1_900_000_000.0,
        observed_at=1_900_000_000.0,
    )


@pytest.fixture
def batch() -> Batch:
    return Batch()


@pytest.fixture
async def track(
    store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics, batch: Any
) -> tuple[Track, HurriedDrain]:
    """The stage with a hundred jobs in flight, and a drain that comes after three rests."""
    drain = HurriedDrain(ends_after=4)
    await store.commit([InsertJob(job=_job(n), body="{}") for n in range(JOBS)])
    stage = tracking(batch, clock=clock, store=store, ledger=ledger, metrics=metrics, drain=drain)
    await stage.begin()
    await stage.load()
    return stage, drain


async def _look(track: Track) -> None:
    async with anyio.create_task_group() as tasks:
        await track.turn(tasks)


async def _assert_described_in_one_call(track: Track, batch: Batch, store: SqliteStore, clock: ManualClock) -> None:
    """Nothing fails any more, and the chunk is a chunk again."""
    del batch.calls[:]
    batch.refused = set()
    clock.move(60.0)
    await _look(track)
    assert [len(call) for call in batch.calls] == [JOBS]
    assert await _in_flight(store) == 0


async def _in_flight(store: SqliteStore) -> int:
    return sum(row.count for row in await store.usage() if row.state is JobState.TRACKED)


async def test_one_job_that_is_refused_keeps_no_other_from_being_described(
    track: tuple[Track, HurriedDrain], batch: Batch, store: SqliteStore
) -> None:
    """Found by halves, it is asked for alone from then on, and named in the log; it is in flight still."""
    batch.refused = {"job-70"}
    with structlog.testing.capture_logs() as lines:
        await _look(track[0])
    assert await _in_flight(store) == 1
    sizes = [len(call) for call in batch.calls if "job-70" in call]
    assert sizes[:4] == [100, 50, 25, 13]
    assert sizes[-4:] == [1, 1, 1, 1]
    assert len(batch.calls) <= 1 + 2 * 7 + 3
    told = [(line["event"], line["job_id"]) for line in lines if "for a job" in line["event"]]
    assert told == [("DescribeJobs fails for a job", "job-70"), *[("DescribeJobs still fails for a job", "job-70")] * 2]


async def test_a_job_that_is_no_longer_refused_is_followed_like_any_other(
    track: tuple[Track, HurriedDrain], batch: Batch, store: SqliteStore
) -> None:
    """The next time that it is asked for."""
    batch.refused = {"job-70"}
    stage, drain = track
    drain.on_sleep = batch.refused.clear
    await _look(stage)
    assert await _in_flight(store) == 0
    assert batch.calls[-1] == ["job-70"]


async def test_when_everything_is_refused_no_job_is_blamed(
    track: tuple[Track, HurriedDrain], batch: Batch, store: SqliteStore, clock: ManualClock
) -> None:
    """What is refused is not single jobs then. It is divided once, and the chunk is a chunk again."""
    batch.refused = {f"job-{n}" for n in range(JOBS)}
    stage, _ = track
    with structlog.testing.capture_logs() as lines:
        await _look(stage)
    assert len(batch.calls) <= 1 + 2 * 7 + 2 * SUSPECTS_MAX
    assert not [line for line in lines if line["event"] == "DescribeJobs fails for a job"]
    await _assert_described_in_one_call(stage, batch, store, clock)


async def test_any_number_of_jobs_may_be_refused(
    track: tuple[Track, HurriedDrain], batch: Batch, store: SqliteStore
) -> None:
    """All others are described, and those are asked for alone."""
    stage, drain = track
    drain.ends_after = 200
    batch.refused = {f"job-{n}" for n in range(JOBS) if n % 3 == 0}
    await _look(stage)
    assert await _in_flight(store) == len(batch.refused)


async def test_each_job_that_fails_is_named(track: tuple[Track, HurriedDrain], batch: Batch) -> None:
    """Once, however often others have failed before it; of all together it is told that they still do."""
    stage, drain = track
    drain.ends_after = 200
    batch.refused = {f"job-{n}" for n in range(0, JOBS, 20)}
    with structlog.testing.capture_logs() as lines:
        await _look(stage)
    told = [line["job_id"] for line in lines if line["event"] == "DescribeJobs fails for a job"]
    assert sorted(told) == sorted(batch.refused)
    assert len(lines) < 20


async def test_jobs_that_are_asked_for_alone_take_turns(
    track: tuple[Track, HurriedDrain], batch: Batch, store: SqliteStore
) -> None:
    """However many slots there are, and however long each call takes: the budget or the slots would be all theirs."""
    stage, drain = track
    batch.refused = {f"job-{n}" for n in range(12)}
    drain.ends_after = 10 * len(batch.refused)
    await _look(stage)
    asked = [call[0] for call in batch.calls if len(call) == 1]
    assert min(asked.count(job_id) for job_id in batch.refused) >= 5
    assert batch.asking_most <= 2  # one while the chunk is being divided


@pytest.mark.parametrize("failure", [Throttled("429"), Unavailable("500"), NotAllowed("AccessDenied")])
async def test_a_job_that_is_refused_stays_apart_whatever_happens_to_its_calls(
    track: tuple[Track, HurriedDrain], batch: Batch, store: SqliteStore, clock: ManualClock, failure: OutwardError
) -> None:
    """Each call but one in two is throttled, say: it is found once, by halves, and comes into no other chunk."""
    stage, drain = track
    drain.ends_after = 60
    batch.refused, batch.failure = {"job-70"}, failure
    for _ in range(5):
        await _look(stage)
        clock.move(60.0)
    assert await _in_flight(store) == 1
    sizes = [len(call) for call in batch.calls if "job-70" in call]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes.count(1) > 20


@pytest.mark.parametrize(("rate_per_s", "call_s", "expected_s"), [(8.0, 0.0, 1.875), (0.5, 0.0, 20.0), (8.0, 5.0, 5.0)])
async def test_jobs_that_are_refused_leave_the_calls_to_the_others(
    store: SqliteStore,
    ledger: Ledger,
    clock: ManualClock,
    metrics: Metrics,
    batch: Any,
    rate_per_s: float,
    call_s: float,
    expected_s: float,
) -> None:
    """A tenth of the calls is theirs: each of eight asked for every 15 s would take all of one in two seconds. And half
    of the time of a single slot, where their calls hang."""
    batch.refused = {f"job-{n}" for n in range(8)}
    await store.commit([InsertJob(job=_job(n), body="{}") for n in range(JOBS)])
    drain = HurriedDrain(ends_after=31)
    rates = dict.fromkeys(Purpose, 40.0) | {Purpose.DESCRIBE: rate_per_s}
    budgets = Budgets(clock, rates, 48.0)
    stage = tracking(batch, clock=clock, store=store, ledger=ledger, metrics=metrics, drain=drain, budgets=budgets)
    await stage.load()
    describe_jobs = batch.describe_jobs

    async def described(job_ids: Sequence[str]) -> Sequence[Observation]:
        clock.move(call_s if len(job_ids) == 1 else 0.0)
        found: Sequence[Observation] = await describe_jobs(job_ids)
        return found

    batch.describe_jobs = described
    await _look(stage)
    assert drain.pauses[-1] == pytest.approx(expected_s, rel=0.1)


class Full:
    """A store that can be read, and takes no change."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, writes: Sequence[Any]) -> Sequence[bool]:
        raise StoreUnavailable("disk full")


async def test_a_store_that_fails_is_waited_for_longer_and_longer(
    store: SqliteStore, clock: ManualClock, metrics: Metrics, batch: Any
) -> None:
    """That Batch answers says nothing of the store: its calls would be made again and again for nothing."""
    await store.commit([InsertJob(job=_job(n), body="{}") for n in range(JOBS)])
    full: Any = Full(store)
    ledger = Ledger(store=full, clock=clock, metrics=metrics, wakes=Wakes())
    stage = tracking(batch, clock=clock, store=full, ledger=ledger, metrics=metrics, drain=HurriedDrain())
    await stage.load()
    began_at = clock.elapsed
    while clock.elapsed - began_at < 120.0:
        async with anyio.create_task_group() as tasks:
            wait_s = await stage.turn(tasks)
        clock.move(wait_s or 0.1)
    assert len(batch.calls) < 30


@pytest.mark.parametrize("error", [BROKEN, Unexpected("413")])
async def test_one_job_that_can_not_be_described_keeps_no_other_from_being_described(
    track: tuple[Track, HurriedDrain], batch: Batch, store: SqliteStore, error: OutwardError
) -> None:
    """AWS answers 500 for it, as in an outage, but for the others it does not. Each call that fails is waited for."""
    stage, drain = track
    drain.ends_after = 12
    batch.refused, batch.error = {"job-70"}, error
    with structlog.testing.capture_logs() as lines:
        await _look(stage)
    assert await _in_flight(store) == 1
    sizes = [len(call) for call in batch.calls if "job-70" in call]
    assert sizes[:5] == [100, 100, 50, 25, 13]
    assert sizes[-3:] == [1, 1, 1]
    assert len(drain.pauses) == len(sizes) + 1  # and one before it is asked for alone
    assert [line["job_id"] for line in lines if line["event"] == "DescribeJobs fails for a job"] == ["job-70"]


async def test_a_failure_that_is_over_divides_nothing(
    track: tuple[Track, HurriedDrain], batch: Batch, store: SqliteStore
) -> None:
    """The call is made once more as it was."""
    stage, drain = track
    batch.refused, batch.error = {"job-70"}, BROKEN
    drain.on_sleep = batch.refused.clear
    await _look(stage)
    assert [len(call) for call in batch.calls] == [JOBS, JOBS]
    assert await _in_flight(store) == 0


@pytest.mark.parametrize("error", [BROKEN, Unexpected("407 of a proxy")])
async def test_an_outage_costs_no_more_calls_for_being_divided(
    track: tuple[Track, HurriedDrain], batch: Batch, store: SqliteStore, clock: ManualClock, error: OutwardError
) -> None:
    """Each failed call is followed by a pause, they grow, no job is blamed, and the chunk is a chunk again."""
    stage, drain = track
    drain.ends_after = 1_000
    batch.refused, batch.error = {f"job-{n}" for n in range(JOBS)}, error
    with structlog.testing.capture_logs() as lines:
        await _look(stage)
    assert len(drain.pauses) == len(batch.calls) <= 2 + 2 * 7 + 2 * SUSPECTS_MAX
    assert drain.pauses == sorted(drain.pauses)
    assert not [line for line in lines if line["event"] == "DescribeJobs fails for a job"]
    await _assert_described_in_one_call(stage, batch, store, clock)


async def test_others_get_their_turn_while_a_chunk_is_divided(
    track: tuple[Track, HurriedDrain], batch: Batch, store: SqliteStore
) -> None:
    """With a single slot, a job that is new is described before the one that is refused has been found."""
    batch.refused = {"job-70"}
    stage, _ = track
    async with anyio.create_task_group() as tasks:
        await stage.turn(tasks)
        while len(batch.calls) < 2:
            await anyio.lowlevel.checkpoint()
        await store.commit([InsertJob(job=_job(JOBS), body="{}")])
        await stage.load()
        while not any(f"job-{JOBS}" in call for call in batch.calls):
            await stage.turn(tasks)
            await anyio.lowlevel.checkpoint()
        assert ["job-70"] not in batch.calls
    assert await _in_flight(store) == 1
