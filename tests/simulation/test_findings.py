"""What the simulation has found stays mended, and would be found again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.findings import FINDINGS
from tests.simulation.sweep import run_scenario

SEEDS = range(1, 16)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A run captures log lines; afterwards logging is as it was."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("name", sorted(FINDINGS))
def test_a_finding_is_mended_and_would_be_found_again(name: str) -> None:
    """Some world breaks the promise with the mending taken back, and keeps every promise with it."""
    finding = FINDINGS[name]
    for seed in SEEDS:
        scenario = finding.world(seed)
        assert run_scenario(scenario)[0].problems == [], f"{finding.story} (world {seed})"
        with finding.undone():
            problems = run_scenario(scenario)[0].problems
        if problems:
            broken = {problem.split(":")[0] for problem in problems}
            assert broken & set(finding.promises), problems
            return
    raise AssertionError("no world shows it any more")
