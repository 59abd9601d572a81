"""The loop around a stage's turns."""

from __future__ import annotations

from structlog.testing import capture_logs

from controller.core.errors import Unavailable
from controller.health import Health
from controller.loop import StageLoop
from tests.stages.conftest import HurriedDrain, ManualClock


async def test_an_outage_is_told_less_and_less_often(clock: ManualClock) -> None:
    """A stage that fails every fifteen seconds for a night writes a dozen lines, each with the number of failures,
    and one more when it goes on."""

    async def turn() -> float | None:
        if drain.sleeps < 99:
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
