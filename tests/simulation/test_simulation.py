"""The whole application on a simulated AWS: a fixed budget of random worlds keeps every promise, the same each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.sweep import run_seed

FIRST_SEED = 1_000
CHUNKS = 10
SEEDS_PER_CHUNK = 20

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
