"""Settling what is in doubt: from when on "not found" counts."""

from __future__ import annotations

from typing import Any

import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.budgets import Budgets, Purpose
from controller.core.job import JobState
from controller.core.lifecycle import Admitted, CancelAsked
from controller.health import Health
from controller.ledger import Ledger
from controller.lookup import LookUp
from controller.stages.rescue import Rescue
from tests.stages.conftest import ManualClock
from tests.stages.test_long_turns import DOUBT, Batch, stored

SETTLE_S = 330.0


@pytest.fixture
def rescue(store: SqliteStore, ledger: Ledger, clock: ManualClock) -> Rescue:
    batch: Any = Batch(clock)
    budgets = Budgets(clock, dict.fromkeys(Purpose, 10.0), 40.0)
    look_up = LookUp(batch=batch, budgets=budgets, clock=clock, health=Health(clock))
    return Rescue(store=store, ledger=ledger, look_up=look_up, clock=clock, settle_s=SETTLE_S)


async def test_a_cancel_does_not_make_the_settle_time_begin_anew(
    store: SqliteStore, ledger: Ledger, rescue: Rescue, clock: ManualClock
) -> None:
    """It is no send: what was sent before it can take effect no later for it."""
    (job,) = await stored(store, ledger, 1, Admitted(), DOUBT)
    await rescue.turn()
    clock.move(SETTLE_S - 1)
    await ledger.record([(job, CancelAsked(reason="no longer wanted"))])
    await rescue.turn()
    clock.move(1)
    await rescue.turn()
    assert (await store.load([job.key]))[job.key].state is JobState.CANCELLED


async def test_a_request_sent_again_is_settled_anew(
    store: SqliteStore, ledger: Ledger, rescue: Rescue, clock: ManualClock
) -> None:
    """Also if rescue did not turn between the two doubts."""
    (job,) = await stored(store, ledger, 1, Admitted(), DOUBT)
    await rescue.turn()
    clock.move(SETTLE_S)
    await rescue.turn()
    (job,) = (await store.load([job.key])).values()
    assert job.state is JobState.QUEUED
    for fact in (Admitted(), DOUBT, CancelAsked(reason=None)):
        (job,) = await ledger.record([(job, fact)])
    for _ in range(3):
        clock.move(SETTLE_S / 3 - 1)
        await rescue.turn()
        assert (await store.load([job.key]))[job.key].state is JobState.SUBMITTING
