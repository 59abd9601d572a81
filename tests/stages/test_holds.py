"""Held queues and pairs: how often a hold is put to the test, and by how many requests."""

from __future__ import annotations

import anyio
import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.core.job import RowKey
from controller.holds import (
    DENIED_FOR_S,
    GOOD_FOR_S,
    GOOD_PAIR_PROBE_S,
    PAIR_ANSWER_S,
    PAIR_PROBE_S_MAX,
    PAIR_PROBE_S_MIN,
    PAUSES_MAX,
    STOPPED_PAUSE_S,
    HoldBook,
    Pause,
)
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
    """Each probe that is refused doubles the time to the next, as long as other requests are accepted."""
    await refused(holds)
    clock.move(PAIR_PROBE_S_MIN)
    holds.answered("high", "others")
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
    assert holds.held_pairs() == set()
    holds.probed(*PAIR)
    assert holds.held_pairs() == {PAIR}
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


# --- what stops all of submission -----------------------------------------------------------------------


async def denied(holds: HoldBook, *pairs: tuple[str, str]) -> None:
    for pair in pairs:
        await holds.hold(*pair, reason="access_denied", detail="no")


async def test_one_denied_pair_stops_nobody_else(holds: HoldBook, clock: ManualClock) -> None:
    """A producer whose definition is denied, again and again, pauses nothing as long as others are accepted."""
    for _ in range(5):
        await denied(holds, ("high", "theirs"), ("low", "theirs"))
        assert holds.stopped_by is None
        assert holds.pause_left_s() == 0
        holds.answered("high", "ours")
        clock.move(DENIED_FOR_S)


async def test_denial_of_everything_stops_submission(holds: HoldBook, clock: ManualClock) -> None:
    """With three pairs denied and nothing accepted since the first, all of submission is paused, and says so."""
    await denied(holds, ("high", "a"), ("high", "b"))
    assert holds.stopped_by is None
    await denied(holds, ("low", "a"))
    assert holds.stopped_by is Pause.DENIED
    assert holds.pause_left_s() == STOPPED_PAUSE_S
    assert holds.submission_paused()["denied"]
    clock.move(STOPPED_PAUSE_S)
    assert holds.pause_left_s() == 0
    assert holds.submission_paused()["denied"], "between two tries it is still stopped"


async def test_any_number_of_denied_pairs_stops_nobody_who_is_allowed(holds: HoldBook, clock: ManualClock) -> None:
    """While a pair is known to be allowed, denials of others are their own; once it is denied too, and its probe after
    that, they are not."""
    holds.answered("high", "ours")
    clock.move(GOOD_FOR_S - GOOD_PAIR_PROBE_S)
    await denied(holds, *(("high", f"theirs-{n}") for n in range(20)))
    assert holds.stopped_by is None
    for _ in range(3):
        await denied(holds, ("high", "ours"))  # all calls of a moment
        assert holds.stopped_by is None
    clock.move(GOOD_PAIR_PROBE_S)
    await denied(holds, ("high", "ours"))
    assert holds.stopped_by is Pause.DENIED


async def test_three_pairs_that_were_allowed_and_are_denied_are_everything(holds: HoldBook, clock: ManualClock) -> None:
    """Then no probe is waited for: a policy that is taken away costs a few calls, however many pairs there are."""
    pairs = [("high", f"ours-{n}") for n in range(20)]
    for pair in pairs:
        holds.answered(*pair)
    await denied(holds, *pairs[:2])
    assert holds.stopped_by is None
    await denied(holds, pairs[2])
    assert holds.stopped_by is Pause.DENIED


async def test_an_answer_of_batch_s_own_makes_a_denied_probe_its_pair_s_own_matter(
    holds: HoldBook, clock: ManualClock
) -> None:
    """Others are allowed, so that it is not the permissions as a whole."""
    holds.answered("high", "ours")
    await denied(holds, ("high", "ours"))
    holds.answered("high", "others")
    clock.move(GOOD_PAIR_PROBE_S)
    await denied(holds, ("high", "ours"), *(("high", f"theirs-{n}") for n in range(20)))
    assert holds.stopped_by is None


async def test_what_was_allowed_long_ago_says_nothing_of_now(holds: HoldBook, clock: ManualClock) -> None:
    """Then three denied pairs are everything again."""
    holds.answered("high", "ours")
    clock.move(GOOD_FOR_S + 1)
    await denied(holds, *(("high", f"theirs-{n}") for n in range(3)))
    assert holds.stopped_by is Pause.DENIED


async def test_denied_probes_are_no_new_pairs(holds: HoldBook, clock: ManualClock) -> None:
    """Pairs that have been held for long and are denied again, three between two answers, stop nothing."""
    pairs = [("high", "a"), ("high", "b"), ("low", "a")]
    for pair in pairs:
        await denied(holds, pair)
        holds.answered("high", "ours")
    clock.move(GOOD_FOR_S + 1)
    await denied(holds, *pairs)
    assert holds.stopped_by is None


async def test_a_single_pair_that_is_denied_for_a_minute_is_everything(holds: HoldBook, clock: ManualClock) -> None:
    """Where nothing else was tried, one pair that stays denied is all there is."""
    await denied(holds, ("high", "a"))
    clock.move(DENIED_FOR_S)
    await denied(holds, ("high", "a"))
    assert holds.stopped_by is Pause.DENIED


async def test_one_answer_of_batch_s_own_ends_it_for_all_pairs(holds: HoldBook, clock: ManualClock) -> None:
    """Permissions are mended for all at once: every denied pair is put to the test again without waiting."""
    pairs = [("high", "a"), ("high", "b"), ("low", "a")]
    await denied(holds, *pairs)
    holds.answered("low", "ours")
    assert holds.stopped_by is None
    assert holds.pause_left_s() == 0
    assert not any(holds.submission_paused().values())
    assert holds.probing() == set(pairs)


async def test_thousands_of_held_pairs_are_probed_no_more_than_a_few_hundred(
    holds: HoldBook, clock: ManualClock
) -> None:
    """Whoever has many pairs denied takes two sends a second for probes, not a third of the submit rate."""
    pairs = [("high", f"denied:{number}") for number in range(4_000)]
    for pair in pairs:
        await holds.hold(*pair, reason="unexpected_error", detail="no")
    probes = 0
    for _ in range(3_600):
        clock.move(1.0)
        for pair in holds.probing():
            probes += 1
            await holds.hold(*pair, reason="unexpected_error", detail="no")
    assert 3_600 <= probes <= 1.3 * 2 * 3_600


async def test_a_pair_that_was_allowed_is_soon_tried_again_however_many_others_are_held(
    holds: HoldBook, clock: ManualClock
) -> None:
    """One call of it is denied, after thousands of definitions that somebody made up were: it is tried after the same
    5 s, 10 s, 20 s, … as without those."""
    for number in range(2_000):
        await holds.hold("high", f"made-up:{number}", reason="unexpected_error", detail="no", tenant="flood")
    holds.answered(*PAIR)
    waits = []
    for _ in range(5):
        await holds.hold(*PAIR, reason="unexpected_error", detail="no", tenant="ours")
        waits.append(await _until_probed(holds, clock))
    assert waits == [5, 10, 20, 40, 80]


async def test_whose_pairs_are_many_makes_only_his_own_wait(holds: HoldBook, clock: ManualClock) -> None:
    """The pair of another tenant is tried as if it were alone, those that the tenants have are probed in turns."""
    for number in range(2_000):
        await holds.hold("high", f"made-up:{number}", reason="unexpected_error", detail="no", tenant="flood")
    waits = []
    for _ in range(6):
        await holds.hold(*PAIR, reason="unexpected_error", detail="no", tenant="ours")
        waits.append(await _until_probed(holds, clock))
    assert waits == [60, 120, 240, 480, PAIR_PROBE_S_MAX, PAIR_PROBE_S_MAX]


async def _until_probed(holds: HoldBook, clock: ManualClock) -> float:
    """Seconds, whole ones."""
    began_at = clock.monotonic()
    while PAIR not in holds.probing():
        clock.move(1.0)
    return clock.monotonic() - began_at


async def test_probes_of_many_tenants_pairs_and_of_allowed_ones_are_few_in_all(
    holds: HoldBook, clock: ManualClock
) -> None:
    """Two a second at most, as of one tenant's."""
    tenant_of = {("high", f"denied:{number}"): f"tenant-{number % 5}" for number in range(600)}
    allowed = {("high", f"allowed:{number}"): "any" for number in range(300)}
    for pair, tenant in {**tenant_of, **allowed}.items():
        if pair in allowed:
            holds.answered(*pair)
        await holds.hold(*pair, reason="unexpected_error", detail="no", tenant=tenant)
    pairs = {**tenant_of, **allowed}
    probes = 0
    for second in range(5_400):
        clock.move(1.0)
        for pair in holds.probing():
            probes += second >= 1_800
            await holds.hold(*pair, reason="unexpected_error", detail="no", tenant=pairs[pair])
    assert 3_600 <= probes <= 1.1 * 2 * 3_600


async def test_nothing_is_kept_of_pairs_that_are_released(holds: HoldBook) -> None:
    """However many are held and released."""
    for number in range(5):
        pair = ("high", f"denied:{number}")
        if number % 2:
            holds.answered(*pair)
        await holds.hold(*pair, reason="access_denied", detail="no", refused=RowKey(number), tenant=f"tenant-{number}")
        await holds.release(*pair, detail="a request was accepted")
    assert not len(holds._lines)
    assert not any((holds._probe_at, holds._probe_after_s, holds._refused_last))


async def test_pauses_of_made_up_job_queues_are_forgotten(holds: HoldBook, clock: ManualClock) -> None:
    """Requests may make up names for days; what is paused now stays so."""
    for number in range(3 * PAUSES_MAX):
        holds.pause(5.0, reason=Pause.UNSORTED, queue=f"made-up-{number}")
        clock.move(0.1)
    assert len(holds._paused_until) <= PAUSES_MAX + 1
    assert len(holds._paused_by) <= PAUSES_MAX + 1
    assert holds.paused_by(f"made-up-{3 * PAUSES_MAX - 1}") is Pause.UNSORTED


async def test_refused_credentials_stop_submission_until_a_request_is_answered(
    holds: HoldBook, clock: ManualClock
) -> None:
    """They stay the reason after their pause too; a pause of one job queue stops only that."""
    holds.pause(5.0, reason=Pause.UNSORTED, queue="low")
    assert (holds.pause_left_s("low"), holds.pause_left_s()) == (5.0, 0.0)
    assert not any(holds.submission_paused().values())
    holds.pause(STOPPED_PAUSE_S, reason=Pause.CREDENTIALS)
    clock.move(STOPPED_PAUSE_S + 1)
    assert holds.submission_paused()["credentials"]
    holds.answered("high", "any")
    assert not holds.submission_paused()["credentials"]


async def test_each_hold_and_release_is_counted_once(store: SqliteStore, clock: ManualClock) -> None:
    """However many requests are refused, one hold is counted, with its reason, and one release."""
    counted: list[tuple[str, str]] = []
    holds = HoldBook(
        store=store,
        clock=clock,
        on_commit=lambda writes: None,
        counted=lambda hold, change: counted.append((hold.reason, change)),
    )
    for _ in range(3):
        await holds.hold("high", "", reason="queue_disabled", detail="DISABLED")
    for _ in range(2):
        await holds.release("high", "", detail="ENABLED and VALID")
    assert counted == [("queue_disabled", "held"), ("queue_disabled", "released")]
    assert [row.name for row in await store.outbox("log", limit=10)] == ["job_queue.held", "job_queue.released"]
