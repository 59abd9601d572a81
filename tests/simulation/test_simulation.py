"""The whole application on a simulated AWS: a fixed budget of random worlds keeps every promise, the same each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from unittest import mock

import pytest
import structlog

from controller.stages.prune import Prune
from tests.simulation.checkers import BOUNDED
from tests.simulation.scenario import draw_common, forgetful
from tests.simulation.sweep import run_scenario, run_seed

FIRST_SEED = 1_000
CHUNKS = 10
SEEDS_PER_CHUNK = 20

FORGETFUL_SEED = 7


_DIGESTS = """
from tests.simulation.history import digest
from tests.simulation.sweep import run_seed
for seed in (3, 14, 62):
    verdict, world = run_seed(seed)
    print(digest(world))
"""


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A run captures log lines; afterwards logging is as it was."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_worlds_keep_every_promise(chunk: int) -> None:
    """Whatever goes wrong, no promise breaks, and everything ends once nothing goes wrong any more."""
    first = FIRST_SEED + chunk * SEEDS_PER_CHUNK
    for seed in range(first, first + SEEDS_PER_CHUNK):
        verdict, _ = run_seed(seed)
        assert verdict.problems == [], f"replay: make sim SEED={seed}"


@pytest.mark.parametrize("is_pruned", [True, False])
def test_requests_are_forgotten_after_the_dedupe_window(is_pruned: bool) -> None:
    """Once all is over and the window too, the store is empty; a store that keeps its rows is noticed."""
    with nullcontext() if is_pruned else mock.patch.object(Prune, "turn", _prune_nothing):
        verdict, _ = run_scenario(forgetful(draw_common(FORGETFUL_SEED)))
    kept = [problem for problem in verdict.problems if problem.startswith(BOUNDED)]
    assert bool(kept) is not is_pruned
    assert is_pruned is (verdict.problems == [])


async def _prune_nothing(self: Prune) -> None:
    return None


def test_the_same_seed_gives_the_same_history_in_another_process() -> None:
    """Byte for byte, whatever the order of hashes."""
    printed = {
        subprocess.run(
            [sys.executable, "-c", _DIGESTS],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(printed) == 1
    assert len(printed.pop().split()) == 3
