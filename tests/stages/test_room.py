"""While the store's disk has little room nothing new is begun, and everybody can see why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from controller.adapters.batch_model import submit_job_shape
from controller.adapters.store.sqlite import SqliteStore
from controller.adapters.store.sqlite_file import LOG_BYTES, DiskUsage
from controller.application import Application, Ports
from controller.config import Settings
from controller.core.job import JobState
from controller.health import Health
from controller.metrics import Metrics
from controller.ports import InsertJob
from controller.room import LOOK_S
from tests.stages.conftest import ManualClock, open_store
from tests.stages.test_application import URL, Denied, Signing, request

MIB = 1024 * 1024
KEPT = 200


@dataclass
class Disk:
    """Has as much room as a test says."""

    free_mib: float = 1_000.0

    def usage(self, path: str) -> DiskUsage:
        return DiskUsage(size=10_000 * MIB, free=int(self.free_mib * MIB), file=MIB, log=LOG_BYTES)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def store(disk: Disk) -> AsyncIterator[SqliteStore]:
    opened = await open_store(disk=disk.usage)
    yield opened
    await opened.close()


@pytest.fixture
def application(store: SqliteStore, clock: ManualClock, metrics: Metrics) -> Application:
    return running(store, clock, metrics)


def running(store: SqliteStore, clock: ManualClock, metrics: Metrics) -> Application:
    source: Any = SimpleNamespace(url=URL)
    batch: Any = Signing()
    application = Application(
        Settings.model_validate({"intake": {"queue_urls": [URL]}, "store": {"free_mib_min": KEPT}}),
        Ports(clock=clock, store=store, batch=batch, account=Denied(), sources=(source,), sinks=(), chance=lambda: 0.0),
        shapes=submit_job_shape(),
        region="eu-west-1",
        metrics=metrics,
        health=Health(clock),
    )
    application.health.leads(is_leader=True)
    application.health.store_ok()
    return application


async def look(application: Application, clock: ManualClock) -> None:
    clock.move(LOOK_S)
    await application.gate.refresh()


async def test_nothing_is_received_or_submitted_until_there_is_room_again(
    application: Application, store: SqliteStore, clock: ManualClock, disk: Disk
) -> None:
    """Requests that are stored wait; with room they go on."""
    source = application.settings.intake.queue_urls[0]
    await store.commit([InsertJob(job=request(1), body="{}")])
    disk.free_mib = KEPT - 1
    await look(application, clock)
    assert application.gate.room(source) == 0
    await application.admit.turn()
    assert [job.state for job in await store.submitting()] == []
    disk.free_mib = KEPT * 1.2
    await look(application, clock)
    assert application.gate.room(source) == 0, "a little more is not enough to begin again"
    disk.free_mib = KEPT * 1.3
    await look(application, clock)
    assert application.gate.room(source) > 0
    await application.admit.turn()
    assert [job.state for job in await store.submitting()] == [JobState.SUBMITTING]


async def test_no_more_is_received_than_there_is_room_for(
    application: Application, clock: ManualClock, disk: Disk
) -> None:
    """However large the messages are. One at a time goes on until the room is short."""
    source = application.settings.intake.queue_urls[0]
    gate = application.gate
    disk.free_mib = KEPT + 30
    await look(application, clock)
    assert gate.room(source) == 15
    gate.claim(source, 10)
    assert gate.room(source) == 5
    gate.took(4 * MIB)
    assert gate.room(source) == 3
    disk.free_mib = KEPT + 0.5
    await look(application, clock)
    gate.claim(source, 0)
    assert gate.room(source) == 1
    gate.claim(source, 1)
    assert gate.room(source) == 0
    disk.free_mib = 10_000
    await look(application, clock)
    gate.claim(source, 200)
    assert gate.room(source) > 1_000


async def test_a_shortage_is_shown(application: Application, clock: ManualClock, disk: Disk) -> None:
    """By metrics, and by /readyz with the remedy; a store that fails comes first there."""
    disk.free_mib = 20
    await look(application, clock)
    text = await application.exposition.render()
    assert b'batch_controller_intake_paused{reason="disk"} 1.0' in text
    assert b'batch_controller_submission_paused{reason="disk"} 1.0' in text
    assert b"batch_controller_store_free_bytes 2.097152e+07" in text
    problem = application.health.is_ready()[1]["checks"]["store"]["problem"]
    assert problem.startswith("20 MiB are left on the store's disk beside its log, 200 are kept")
    application.health.store_failed("disk I/O error")
    assert application.health.is_ready()[1]["checks"]["store"]["problem"] == "disk I/O error"
    application.health.store_ok()
    disk.free_mib = 1_000
    await look(application, clock)
    assert application.health.is_ready()[1]["checks"]["store"] == {"ok": True}
    assert b'batch_controller_intake_paused{reason="disk"} 0.0' in await application.exposition.render()


async def test_a_file_that_is_gone_closes_intake_and_nothing_else(
    clock: ManualClock, metrics: Metrics, tmp_path: Path
) -> None:
    """Messages are safe in SQS; what was accepted can only be lost by waiting. A commit that works changes nothing."""
    path = tmp_path / "state.db"
    store = await open_store(f"sqlite:///{path}")
    application = running(store, clock, metrics)
    source = application.settings.intake.queue_urls[0]
    await store.commit([InsertJob(job=request(1), body="{}")])
    path.rename(tmp_path / "moved")
    with capture_logs() as lines:
        for _ in range(3):
            await look(application, clock)
            application.health.store_ok()
        assert application.gate.room(source) == 0
        assert b'batch_controller_intake_paused{reason="store"} 1.0' in await application.exposition.render()
        is_ready, why = application.health.is_ready()
        assert not is_ready
        assert str(path) in why["checks"]["store"]["problem"]
        await application.admit.turn()
        assert [job.state for job in await store.submitting()] == [JobState.SUBMITTING]
        (tmp_path / "moved").rename(path)
        await look(application, clock)
    assert application.gate.room(source) > 0
    told = ["the store's file is gone or damaged", "the store's file is there again"]
    assert [line["event"] for line in lines] == told
    await store.close()


async def test_submission_that_waits_for_room_is_counted(
    application: Application, store: SqliteStore, clock: ManualClock, disk: Disk
) -> None:
    """Like every other reason for which work that is ready stands still."""
    await store.commit([InsertJob(job=request(1), body="{}")])
    disk.free_mib = 20
    await look(application, clock)
    for _ in range(3):
        await application.admit.turn()
        clock.move(1.0)
    assert b'batch_controller_wait_seconds_total{cause="disk"} 2.0' in await application.exposition.render()


async def test_the_disk_is_not_looked_at_all_the_time(application: Application, clock: ManualClock, disk: Disk) -> None:
    """Once in five seconds."""
    await look(application, clock)
    disk.free_mib = 20
    clock.move(LOOK_S - 0.1)
    await application.room.look()
    assert not application.room.is_short
    clock.move(0.1)
    await application.room.look()
    assert application.room.is_short


async def test_the_disk_is_looked_at_when_much_was_stored(
    application: Application, clock: ManualClock, disk: Disk
) -> None:
    """Megabytes may come in by the dozen in a second."""
    disk.free_mib = KEPT + 100
    await look(application, clock)
    disk.free_mib = KEPT - 1
    application.gate.took(24 * MIB)
    await application.gate.refresh()
    assert not application.room.is_short
    application.gate.took(1 * MIB)
    await application.gate.refresh()
    assert application.room.is_short, "a quarter of what might be used is stored"
    disk.free_mib = 1_000
    application.gate.took(1 * MIB - 1)
    await application.gate.refresh()
    assert application.room.is_short, "what was stored before the last look does not count"
