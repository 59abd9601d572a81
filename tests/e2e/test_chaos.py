"""A small run of the chaos of ``tests.chaos``; the long ones are started by hand, see ``docs/chaos.md``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.judge import judge
from tests.chaos.plan import BRISK, Options
from tests.chaos.run import Run

pytestmark = pytest.mark.e2e


def test_every_promise_is_kept_while_everything_goes_wrong_and_the_process_is_killed(tmp_path: Path) -> None:
    """Faults at every call, SIGKILLs and a drain later, AWS's own record and the events agree about every request."""
    options = Options(requests=100, kills=4, seed=1, directory=tmp_path, max_s=240.0, timings=BRISK)
    outcome = Run(options, show=lambda progress: None).play()
    assert outcome.counts["SIGKILL"] == 4
    wrong = [f"{check.title}: {finding.what}" for check in judge(outcome.record) for finding in check.findings]
    assert not wrong, "\n".join([*wrong, f"again: {options.command}"])
