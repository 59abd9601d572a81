"""A simulated AWS and a controller on it, both ended with the test."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.simaws.process import SimProcess
from tests.e2e.service import Service

SIM = ["--job-queue", "high", "--job-queue", "low", "--job-definition", "work", "--sqs-queue", "requests",
       "--sqs-queue", "dead", "--max-seconds", "300"]  # fmt: skip


@pytest.fixture(autouse=True)
def sigint_is_heard() -> Iterator[None]:
    """A shell starts its background jobs with SIGINT ignored, and every process they start inherits that."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def sim() -> Iterator[SimProcess]:
    with SimProcess(SIM) as process:
        yield process


@pytest.fixture
def service(tmp_path: Path, sim: SimProcess) -> Iterator[Callable[..., Service]]:
    """Makes a started controller; settings as environment names without the prefix."""
    made: list[Service] = []

    def make(**settings: Any) -> Service:
        one = Service(tmp_path, sim, settings={name: str(value) for name, value in settings.items()})
        made.append(one)
        one.start()
        return one

    yield make
    for one in made:
        one.close()
