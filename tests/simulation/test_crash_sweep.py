"""Every stage survives a crash at every step: restarted on the same store, the world keeps its promises."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.small_worlds import SMALL_WORLDS
from tests.simulation.sweep import run_scenario

STEPS_MAX = 3_000


@pytest.mark.parametrize("stage", sorted(SMALL_WORLDS))
def test_a_crash_at_any_step_breaks_no_promise(stage: str) -> None:
    """Killed at its 1st, 2nd, … last step, the application ends what it began, exactly once, in its next life."""
    for step in range(1, STEPS_MAX):
        verdict, world = run_scenario(replace(SMALL_WORLDS[stage], kill_at_steps=(step,)))
        assert verdict.problems == [], f"crashed at step {step}"
        assert world is not None
        if not world.kills:
            assert step > 100, "the scenario does something"
            return
    raise AssertionError("it never ended")


@pytest.mark.parametrize("stage", sorted(SMALL_WORLDS))
def test_what_is_crashed_ends_by_itself_too(stage: str) -> None:
    """Without a crash the same scenario keeps its promises."""
    assert run_scenario(SMALL_WORLDS[stage])[0].problems == []
