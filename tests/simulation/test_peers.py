"""The comparison of ``docs/backpressure.md``: models that keep their own rules, and results that are as written."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers.__main__ import CLIENTS, WEATHERS, Result, run
from benchmarks.peers.others import Flyte, Nextflow
from benchmarks.peers.ours import Controller

REQUESTS = 1_500
STEADY, DROP = WEATHERS
DOCUMENT = Path(__file__).parents[2] / "docs" / "backpressure.md"


def _most_in_a_second(result: Result, operation: str) -> int:
    times = [call.at for call in result.calls if call.operation == operation]
    most = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize("make", CLIENTS)
@pytest.mark.parametrize("weather", WEATHERS)
def test_every_request_ends_once_in_every_model(make: type[Controller], weather: str) -> None:
    """Accepted and seen to its end, or given up; no model submits a request twice or forgets one."""
    result = run(make, weather, REQUESTS)
    accepted = [call for call in result.calls if call.operation == "SubmitJob" and not call.is_throttled]
    assert len(accepted) == len(result.accepted_at)
    assert len(result.progress.ended) + len(result.progress.given_up) == REQUESTS
    assert not result.progress.ended & result.progress.given_up


def test_models_keep_the_constants_of_their_sources() -> None:
    """Flyte writes no more than its burst and its rate in a second; Nextflow has no more than 1,000 tasks alive."""
    assert _most_in_a_second(run(Flyte, STEADY, REQUESTS), "SubmitJob") <= Flyte.BURST + Flyte.PER_S
    nextflow = run(Nextflow, STEADY, REQUESTS)
    first_end = nextflow.accepted_at[0] + 65.0
    assert sum(at < first_end for at in nextflow.accepted_at) == Nextflow.LIVE_MAX


def test_ours_is_throttled_by_a_lower_limit_only() -> None:
    """At AWS's own limit there is no throttle at all, and the ceiling of the submit budget holds."""
    result = run(Controller, STEADY, REQUESTS)
    assert result.throttled == 0
    assert _most_in_a_second(result, "SubmitJob") <= 40


def test_the_document_names_every_client_and_weather() -> None:
    """The table of the document has a row for each client in each weather."""
    text = DOCUMENT.read_text(encoding="utf-8")
    for weather in WEATHERS:
        for make in CLIENTS:
            assert f"| {weather} | {make.name} |" in text
