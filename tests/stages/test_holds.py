"""Held queues and pairs: how often a hold is put to the test, and by how many requests."""

from __future__ import annotations

import anyio
import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.holds import PAIR_ANSWER_S, PAIR_PROBE_S_MIN, HoldBook
from tests.stages.conftest import ManualClock

PAIR = ("high", "bwa:3")


@pytest.fixture
def holds(store: SqliteStore, clock: ManualClock) -> HoldBook:
    return HoldBook(store=store, clock=clock, on_commit=lambda writes: None)


async def refused(holds: HoldBook) -> None:
    await holds.hold(*PAIR, reason="access_denied", detail="no")


async def test_many_refusals_at_once_are_one_hold_with_one_event_and_the_first_interval(
    holds: HoldBook, store: SqliteStore, clock: ManualClock
) -> None:
    """Calls that were under way when the first was refused say nothing new: the probe comes after a minute."""
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(refused, holds)
    for _ in range(30):
        await refused(holds)
    assert [row.name for row in await store.outbox("log", limit=10)] == ["job_queue.held"]
    clock.move(PAIR_PROBE_S_MIN - 1)
    assert holds.is_held(*PAIR)
    clock.move(2)
    assert holds.probing() == {PAIR}


async def test_a_refused_probe_waits_twice_as_long(holds: HoldBook, clock: ManualClock) -> None:
    """Each probe that is refused doubles the time to the next."""
    await refused(holds)
    clock.move(PAIR_PROBE_S_MIN)
    holds.probed(*PAIR)
    await refused(holds)
    clock.move(2 * PAIR_PROBE_S_MIN - 1)
    assert not holds.probing()
    clock.move(2)
    assert holds.probing() == {PAIR}


async def test_one_request_at_a_time_finds_out_whether_a_pair_may_go_on(holds: HoldBook, clock: ManualClock) -> None:
    """While a probe is under way no other row of the pair is admitted, and the probe itself does not go back."""
    await refused(holds)
    clock.move(PAIR_PROBE_S_MIN)
    assert holds.held_definitions("high") == ()
    holds.probed(*PAIR)
    assert holds.held_definitions("high") == ("bwa:3",)
    assert holds.is_probe(*PAIR)
    assert not holds.is_held(*PAIR)
    clock.move(PAIR_ANSWER_S + 1)
    assert holds.probing() == {PAIR}, "a probe that never got as far as an answer is followed by another"


async def test_a_release_forgets_the_intervals(holds: HoldBook, clock: ManualClock) -> None:
    """A pair that is held again later begins with the first interval."""
    await refused(holds)
    clock.move(PAIR_PROBE_S_MIN)
    holds.probed(*PAIR)
    await refused(holds)
    await holds.release(*PAIR, detail="a request was accepted")
    await refused(holds)
    clock.move(PAIR_PROBE_S_MIN + 1)
    assert holds.probing() == {PAIR}
