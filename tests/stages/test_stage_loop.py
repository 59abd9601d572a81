"""The loop around a stage's turns."""

from __future__ import annotations

from structlog.testing import capture_logs

from controller.core.errors import Unavailable
from controller.health import Health
from controller.loop import OUTAGE_EVERY_S, Outage, StageLoop
from tests.stages.conftest import HurriedDrain, ManualClock


async def test_an_outage_is_told_less_and_less_often(clock: ManualClock) -> None:
    """A stage that fails every fifteen seconds for a night writes a dozen lines, each with the number of failures,
    and one more when it goes on."""

    async def turn() -> float | None:
        if len(drain.pauses) < 99:
            raise Unavailable("no answer")
        drain.request()
        return None

    health, drain = Health(clock), HurriedDrain()
    loop = StageLoop("track", clock=clock, heartbeat=health, drain=drain, chance=lambda: 0.0, interval_s=1.0)
    with capture_logs() as lines:
        await loop.run(turn)
    assert [(line["event"], line["failures"]) for line in lines] == [
        *(("stage waits", failures) for failures in (1, 2, 4, 8, 16, 32, 64)),
        ("stage goes on", 99),
    ]


def test_outages_that_come_and_go_are_told_once_a_minute(clock: ManualClock) -> None:
    """An hour of failing every other second is two lines a minute; no failure is left out of the counts, and that it
    works in the end is told."""
    outage = Outage(clock)
    failures, ends = [], []
    for _ in range(1_800):
        failures.append(outage.failed())
        clock.move(1)
        ends.append(outage.worked())
        clock.move(1)
    assert sum(1 for told in failures if told) == sum(1 for told in ends if told) == 3_600 / OUTAGE_EVERY_S
    assert failures[:31] == [1, *[0] * 29, 30]
    assert ends[:31] == [1, *[0] * 29, 30]
    clock.move(OUTAGE_EVERY_S)
    assert outage.failed() == 30
    assert outage.worked() == 30


def test_an_outage_that_begins_again_and_lasts_is_told_within_a_minute(clock: ManualClock) -> None:
    """That it works is not the log's last word while it does not."""
    outage = Outage(clock)
    assert outage.failed()
    assert outage.worked()
    told = []
    for _ in range(8):
        told.append(outage.failed())
        clock.move(15)
    assert told == [0, 0, 0, 0, 5, 0, 0, 0]


def test_an_outage_is_over_when_it_is_for_everybody(clock: ManualClock) -> None:
    """Of several that try side by side, one that succeeds does not make it over while the others still fail."""
    outage = Outage(clock)
    assert [outage.failed(who) for who in "abcd"] == [1, 2, 0, 4]
    assert [outage.worked(who) for who in "abcd"] == [0, 0, 0, 4]
