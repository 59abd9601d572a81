"""``max_waiting: auto`` in the real application, on a simulated AWS whose compute is finite, by Batch's own record.

``benchmarks/depth`` runs the same at more length, against fixed depths. The pure core has many more seeds in
``tests/core/test_depth.py`` and ``tests/properties/test_depth.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from benchmarks.depth.__main__ import BEGIN, DEPTHS, END, VARIANTS
from benchmarks.depth.runs import NO_LIMIT, Variant, measure
from controller.core import depth
from controller.core.depth import DEPTH_MIN

FED = 0.99
SHORT = Variant(name="short", vcpus=20, runs_s=(3, 7), requests=1_500, warm_s=60, until_s=240)
SLOW = Variant(name="slow", vcpus=40, runs_s=(60, 180), ready_s=(100, 240), requests=1_200, warm_s=1_800, until_s=2_400)
SCALING = Variant(
    name="scaling", vcpus=100, is_scaling=True, runs_s=(120, 360), requests=1_000, warm_s=1_200, until_s=1_800
)
DOCUMENT = Path(__file__).parents[2] / "docs" / "backpressure.md"


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("has_events", [False, True])
def test_compute_is_fed_from_a_shallow_queue(has_events: bool) -> None:
    """Short jobs, polled or with events: at least 99 % of the vCPUs are used, with a minute's starts in the queue."""
    result = measure(replace(SHORT, has_events=has_events), "auto", 1)
    assert result.left > 0
    assert result.busy >= FED
    assert result.waiting_mean <= 60 * 20 / 5


def test_a_scaling_compute_environment_grows_to_its_maximum() -> None:
    """What scales by the jobs it sees waiting is offered enough: all of its maximum within 20 minutes, and fed then."""
    result = measure(SCALING, "auto", 1)
    assert result.left > 0
    assert result.there_s == 100 * (SCALING.until_s - SCALING.warm_s)
    assert result.busy >= FED


@pytest.mark.parametrize("is_probing", [True, False])
def test_without_probing_a_queue_that_starts_slowly_starves(is_probing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch takes minutes to start a job on free compute. Probes find that more is needed; with them switched off,
    compute stands idle and nothing shows it."""
    if not is_probing:
        monkeypatch.setattr(depth, "PROBE_EVERY_S_MIN", math.inf)
    result = measure(SLOW, "auto", 1)
    assert result.left > 0
    if is_probing:
        assert result.busy >= FED
        assert max(limit for _, limit in result.depths) > 2 * DEPTH_MIN
    else:
        assert result.busy < 0.6


def test_the_document_has_every_variant_and_depth() -> None:
    """The table of the document has a row for each depth on each kind of compute, and auto keeps what the page says."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    for variant in VARIANTS:
        rows = [line for line in text.splitlines() if line.startswith(f"| {variant.name} |")]
        assert len(rows) == len(DEPTHS)
        assert sum("no limit" in row for row in rows) == 1, NO_LIMIT
        (auto,) = (row.split(" | ") for row in rows if "**auto**" in row)
        assert float(auto[3].rstrip("%")) >= 100 * FED
        assert float(auto[5].rstrip("% |")) <= 10.0
