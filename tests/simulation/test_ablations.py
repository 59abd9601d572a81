"""Every safeguard is needed: with it a seed is green, without it the promise that rests on it is broken."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.ablations import (
    ABLATIONS,
    BEGIN,
    BY_NAME,
    END,
    NUMBERS,
    PROMISES_FILE,
    Ablation,
    is_as_recorded,
    show_recorded,
)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("ablation", ABLATIONS, ids=list(BY_NAME))
def test_a_promise_breaks_without_its_safeguard(ablation: Ablation) -> None:
    """The recorded seed, or one soon after it, keeps every promise with the safeguard, and breaks its own without."""
    _, shown = show_recorded(ablation)
    assert shown.with_it == []
    assert is_as_recorded(ablation, shown), shown.without


def test_the_table_of_safeguards_is_the_one_in_the_documentation() -> None:
    """docs/promises.md lists every safeguard with the number of its promise."""
    text = PROMISES_FILE.read_text(encoding="utf-8")
    rows = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    assert len(rows) == len(ABLATIONS)
    for row, ablation in zip(rows, ABLATIONS, strict=True):
        number = NUMBERS.get(ablation.promise, "none")
        assert row.startswith(f"| {ablation.safeguard} (`{ablation.where}`) | {ablation.without}")
        assert f"| {number} | `{ablation.name}` " in row


def test_every_promise_has_safeguards_that_are_needed() -> None:
    """No promise of the list is without an ablation."""
    assert {NUMBERS[each.promise] for each in ABLATIONS if each.promise} == {"1", "2", "3", "4", "5", "6", "7"}
