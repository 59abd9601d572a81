"""The simulation would notice: with any one safeguard switched off some seed breaks the promise that rests on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.ablations import ABLATIONS, Ablation, is_as_promised, judge


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.safeguard)
def test_without_the_safeguard_its_promise_breaks(ablation: Ablation) -> None:
    """A seed that is green with it fails without it, and breaks the promise named."""
    outcome = judge(ablation)
    assert outcome.seed is not None, f"no seed of {outcome.tried} needs it: dead code, or a hole in the simulation"
    assert is_as_promised(outcome), outcome.problem
