"""The wired application where the store or AWS fails it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from controller.adapters.batch_model import submit_job_shape
from controller.adapters.runner import Unhurried
from controller.adapters.store.sqlite import SqliteStore
from controller.application import LIVE_S, Application, Ports
from controller.budgets import Purpose
from controller.config import Settings
from controller.core.errors import NotAllowed, OutwardError, StoreMismatch, StoreUnavailable, Unavailable
from controller.core.events import Event
from controller.health import Health
from controller.identity import ACCOUNT_TRIES, Identity
from controller.metrics import Metrics, exposed
from controller.ports import EventSink, InsertJob, OutboxRow, StoreIdentity
from tests.core.rows import tracked_row
from tests.stages.conftest import HurriedDrain, ManualClock, open_store
from tests.stages.test_long_turns import request
from tests.store.test_engine_failures import Faults

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/requests"


class Denied:
    """STS for credentials that may not ask who they are."""

    async def account(self) -> str:
        raise NotAllowed("sts:GetCallerIdentity: AccessDenied")


class Signing:
    """AWS Batch as far as its credentials."""

    async def fetch_credentials(self) -> None:
        pass


class Hanging:
    """A sink that takes nothing and refuses nothing."""

    name = "log"

    async def publish(self, rows: Sequence[OutboxRow]) -> Sequence[int]:
        await anyio.sleep_forever()
        return ()


def made(
    store: SqliteStore, clock: ManualClock, metrics: Metrics, *, sinks: Sequence[EventSink] = (), **settings: Any
) -> Application:
    batch: Any = Signing()
    ports = Ports(clock=clock, store=store, batch=batch, account=Denied(), sources=(), sinks=sinks, chance=lambda: 0.0)
    return Application(
        Settings.model_validate({"intake": {"queue_urls": [URL]}, **settings}),
        ports,
        shapes=submit_job_shape(),
        region="eu-west-1",
        metrics=metrics,
        health=Health(clock),
    )


@pytest.fixture
def application(store: SqliteStore, clock: ManualClock, metrics: Metrics) -> Application:
    return made(store, clock, metrics)


@pytest.mark.parametrize(
    ("settings", "purpose"),
    [({"track": {"rate_per_s": 0.008}}, Purpose.DESCRIBE), ({"aws": {"total_rate_per_s": 0.008}}, Purpose.LIST)],
)
async def test_a_stage_that_waits_for_a_call_at_a_low_rate_is_alive(
    store: SqliteStore, clock: ManualClock, metrics: Metrics, settings: Any, purpose: Purpose
) -> None:
    """One call in two minutes is little, and what an operator may want: nothing stands still meanwhile."""
    application = made(store, clock, metrics, **settings)
    application._loop("track", 1.0)
    began_at = clock.elapsed
    await application.budgets.acquire(purpose)
    assert clock.elapsed - began_at > LIVE_S
    assert application.health.is_live()[0]
    limit_s = _turn_limit(await application.exposition.render(), "track")
    assert clock.elapsed - began_at < limit_s, "nor does the alert fire"
    clock.move(86_400.0)
    assert not application.health.is_live()[0]


@pytest.mark.parametrize(("total", "expected"), [("48", 60.0 + 4 * 1.05 / 8.0), ("5", 60.0 + 4 * 1.05 / 1.0)])
async def test_the_staleness_bound_counts_with_what_the_total_leaves(
    store: SqliteStore, clock: ManualClock, metrics: Metrics, total: str, expected: float
) -> None:
    """Others may take all but a fifth of it."""
    application = made(store, clock, metrics, aws={"total_rate_per_s": float(total)})
    for number in range(1, 201):
        application.schedule.add(tracked_row(number), due_at=clock.monotonic())
    series = "batch_controller_tracking_staleness_bound_seconds "
    [line] = [one for one in (await application.exposition.render()).decode().splitlines() if one.startswith(series)]
    assert float(line.removeprefix(series)) == pytest.approx(expected)


def _turn_limit(text: bytes, stage: str) -> float:
    """What BatchControllerStageStopped goes by."""
    series = f'batch_controller_stage_turn_limit_seconds{{stage="{stage}"}} '
    [line] = [one for one in text.decode().splitlines() if one.startswith(series)]
    return float(line.removeprefix(series))


async def test_metrics_are_served_while_the_store_fails(application: Application, store: SqliteStore) -> None:
    """With the counts that were read last: a backlog does not seem gone, and that the store fails can be seen."""
    application.metrics.know_queue("high")
    await store.commit([InsertJob(job=request(1), body="{}")])
    assert b'batch_controller_backlog_jobs{job_queue="high"} 1.0' in await application.exposition.render()
    await store.close()
    application.health.store_failed("disk I/O error")
    text = await application.exposition.render()
    assert b'batch_controller_backlog_jobs{job_queue="high"} 1.0' in text
    assert b'batch_controller_intake_paused{reason="store"} 1.0' in text


async def test_metrics_are_served_while_the_store_hangs(
    application: Application, store: SqliteStore, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes its time for a commit holds up whoever reads: a scrape gets what was counted last, and the time
    that commits take, instead of nothing."""
    metrics.know_queue("high")
    exposition, goes_on, read = application.exposition, anyio.Event(), store.usage
    assert not exposition.has_counted
    await exposition.count()
    await store.commit([InsertJob(job=request(1), body="{}")])

    async def hangs() -> Any:
        await goes_on.wait()
        return await read()

    monkeypatch.setattr(store, "usage", hangs)
    counting = Unhurried(exposition.count)
    await counting.within(0)
    metrics.store_commit_seconds.observe(12.0)
    text = exposed(await exposition.collect())
    assert b'batch_controller_backlog_jobs{job_queue="high"} 0.0' in text
    assert b"batch_controller_store_commit_seconds_count 1.0" in text
    goes_on.set()
    await counting.within(None)
    assert b'batch_controller_backlog_jobs{job_queue="high"} 1.0' in exposed(await exposition.collect())
    await counting.close()


async def test_a_store_that_can_only_be_read_keeps_intake_closed(clock: ManualClock, metrics: Metrics) -> None:
    """A full or read-only disk: each message that were received to find out would be one try less before SQS gives it
    up."""
    faults = Faults()
    store = await open_store(connect=faults.connect)
    application = made(store, clock, metrics)
    faults.connection.faults = {"COMMIT": sqlite3.OperationalError("disk I/O error")}
    with pytest.raises(StoreUnavailable):
        await store.commit([InsertJob(job=request(1), body="{}")])
    application.health.store_failed("disk I/O error")
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await application._turn_gate()
        assert application.health.intake_blockers()["store"]
    faults.connection.faults = {}
    await application._turn_gate()
    assert not application.health.intake_blockers()["store"]
    await store.close()


async def test_a_store_that_fails_while_the_account_is_not_known_ends_nothing(
    application: Application, store: SqliteStore
) -> None:
    """Where STS is not allowed the account is learned from the first job, whenever that is."""
    await store.close()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(application.identity.learn, lambda: None)
            await anyio.wait_all_tasks_blocked()
            application.drain.request()


async def test_a_job_of_another_account_than_the_stores_ends_it(application: Application, store: SqliteStore) -> None:
    """The first job's ARN tells what STS would not."""
    await store.bind(StoreIdentity(account="123456789012", region="eu-west-1"))
    application.track.any_job_arn = "arn:aws:batch:eu-west-1:210987654321:job/id-1"
    with pytest.raises(StoreMismatch):
        await application.identity.learn(lambda: application.track.any_job_arn)


async def test_the_stores_account_stands_in_for_that_of_sts(application: Application, store: SqliteStore) -> None:
    """ARNs of other accounts are rejected from the first message on, if an earlier start has learned the account."""
    await store.bind(StoreIdentity(account="123456789012", region="eu-west-1"))
    await application.identity.recall()
    assert application._rules().scope.account == "123456789012"


@pytest.mark.parametrize(("failure", "asks"), [(Unavailable("no answer"), 4), (NotAllowed("denied"), 3)])
async def test_sts_is_asked_on_where_it_did_not_answer(
    store: SqliteStore, clock: ManualClock, failure: OutwardError, asks: int
) -> None:
    """With a wrong account's credentials every job would look forgotten. A denial is final, and nothing to repeat."""
    await store.bind(StoreIdentity(account="123456789012", region="eu-west-1"))
    asked = 0

    class Sts:
        async def account(self) -> str:
            nonlocal asked
            asked += 1
            if asked <= ACCOUNT_TRIES:
                raise failure
            return "210987654321"

    drain = HurriedDrain(ends_after=200)
    identity = Identity(
        region="eu-west-1", store=store, api=Sts(), health=Health(clock), drain=drain, chance=lambda: 0.0
    )
    await identity.settle()
    assert not identity.is_known
    with pytest.raises(StoreMismatch) if asks > ACCOUNT_TRIES else nullcontext():
        await identity.learn(lambda: None)
    assert asked == asks


async def test_events_that_a_hanging_sink_leaves_are_told(
    store: SqliteStore, clock: ManualClock, metrics: Metrics
) -> None:
    """As those of one that refuses them: the last lines of a stop say what is left for the next start."""
    application = made(store, clock, metrics, sinks=[Hanging()])
    event = Event(name="request.accepted", time=clock.now(), data={"request_id": "r1"})
    await store.commit([InsertJob(job=request(1), body="{}", events=(event,))])
    with capture_logs() as lines:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(application._published)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert [(line["event"], line["sink"]) for line in lines] == [("events stay in the outbox", "log")]
