"""The embedded store in memory and a clock that tests move."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from controller.adapters.runner import InlineRunner
from controller.adapters.store.sqlite import SqliteStore, open_sqlite_store
from controller.ledger import Ledger, Wakes
from controller.metrics import Metrics


@dataclass
class ManualClock:
    """Stands still until a test moves it; sleeping moves it."""

    wall: float = 1_900_000_000.0
    elapsed: float = 1_000.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.move(seconds)

    def move(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = await open_sqlite_store(
        "sqlite:///:memory:",
        runner=InlineRunner(),
        sinks_of=lambda event: ("log",),
        dead_letters=True,
        random_id=lambda: "0" * 32,
    )
    yield opened
    await opened.close()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(sinks=["log", "dead_letter"])


@pytest.fixture
def ledger(store: SqliteStore, clock: ManualClock, metrics: Metrics) -> Ledger:
    return Ledger(store=store, clock=clock, metrics=metrics, wakes=Wakes())
