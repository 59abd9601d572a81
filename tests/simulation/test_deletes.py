"""What a failed delete must not lead to: that SQS gives up a message whose request was accepted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import structlog

from tests.simulation.findings import calm
from tests.simulation.sweep import run_scenario


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A run captures log lines; afterwards logging is as it was."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize(
    "faults",
    [
        {"scripted": {"DeleteMessageBatch": ("reset", "error_503", None) * 5}},
        {"scripted": {"DeleteMessageBatch": ("access_denied",) * 4}},
        {"service_faults": {"sqs_entry_fails_p": 0.2}},
    ],
    ids=["calls", "denied", "entries"],
)
def test_no_accepted_message_is_given_up_because_a_delete_failed(faults: Mapping[str, Any]) -> None:
    """Even where SQS gives a message up with its second receive: an operator who sends it back would have it done
    twice, if it has no id of its own."""
    drawn = calm(3, **faults, redrive_after=1)
    settings = {**drawn.settings, "intake": {**drawn.settings["intake"], "visibility_timeout_s": 60}}
    verdict, world = run_scenario(replace(drawn, settings=settings))
    assert verdict.problems == []
    assert world is not None
    assert world.sim.history.calls("DeleteMessageBatch")
    assert world.given_up() == frozenset()
