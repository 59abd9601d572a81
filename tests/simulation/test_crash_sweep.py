"""Every stage survives a crash at every step: restarted on the same store, the world keeps its promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.crash_scenarios import (
    BY_STAGE,
    SMALL_WORLDS,
    crashes,
    deaths,
    double_crashes,
    missing,
    run_small,
)

STAGES = sorted(BY_STAGE)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("stage", STAGES)
def test_a_small_world_shows_its_stage(stage: str) -> None:
    """Without a crash each small world keeps its promises, and what it is there for happens."""
    problems, world = run_small(BY_STAGE[stage])
    assert problems == []
    assert world is not None
    assert missing(BY_STAGE[stage], world) == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_crash_at_any_step_breaks_no_promise(stage: str) -> None:
    """Killed at its 1st, 2nd, … last step, the application ends what it began, exactly once, in its next life."""
    failed = [crash for crash in crashes(BY_STAGE[stage]) if crash.problems]
    assert failed == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_crash_of_the_recovery_breaks_no_promise_either(stage: str) -> None:
    """Killed twice, at every 19th death of the first life and every 5th of the second, the third ends what is left."""
    failed = [crash for crash in double_crashes(BY_STAGE[stage], every=19, then_every=5) if crash.problems]
    assert failed == []


def test_the_deaths_of_a_life_do_not_change() -> None:
    """A life takes the same steps in every run, so that no step is left out and a failing one can be run again."""
    for small in SMALL_WORLDS:
        found = deaths(small)
        assert found == deaths(small)
        assert len(found) > 25, small.stage
        assert found[0] == 1


def test_a_crash_is_survived_by_a_second_life() -> None:
    """The sweep kills: a world that was killed once has a second life, in which the request ends."""
    small = BY_STAGE["submit"]
    step = deaths(small)[40]
    problems, world = run_small(small, (step,))
    assert problems == []
    assert world is not None
    assert [killed_at for _, _, killed_at in world.kills] == [step - 1]
    assert world.pods[0].lives == 2
