"""The embedded store in memory and a clock that tests move."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from controller.adapters.runner import InlineRunner
from controller.adapters.store.sqlite import SqliteStore, open_sqlite_store
from controller.budgets import Budgets, Purpose
from controller.children import ChildLookUp
from controller.core.hints import HintBook
from controller.core.polling import Schedule
from controller.health import Health
from controller.ledger import Ledger, Wakes
from controller.loop import Drain
from controller.metrics import Metrics
from controller.stages.track import Track


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


class HurriedDrain(Drain):
    """Its sleeps are over at once; it drains after so many of them."""

    def __init__(self, *, ends_after: int = 1_000) -> None:
        super().__init__()
        self.pauses: list[float] = []
        """How long each of them would have been."""
        self.on_sleep: Callable[[], None] = lambda: None
        self.ends_after = ends_after

    async def sleep(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.on_sleep()
        if len(self.pauses) >= self.ends_after:
            self.request()
        return self.is_requested


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def open_store(url: str = "sqlite:///:memory:", **changes: Any) -> SqliteStore:
    """An embedded store, in memory unless ``url`` says otherwise, with these options changed."""
    options: dict[str, Any] = {
        "runner": InlineRunner(),
        "sinks_of": lambda event: ("log",),
        "dead_letters": True,
        "random_id": lambda: "0" * 32,
    }
    return await open_sqlite_store(url, **(options | changes))


def tracking(batch: Any, *, clock: ManualClock, **given: Any) -> Track:
    """The tracking stage with what the tests don't look at: all members may be given."""
    budgets = given.setdefault("budgets", Budgets(clock, dict.fromkeys(Purpose, 1_000.0), 10_000.0))
    health = given.setdefault("health", Health(clock))
    schedule = given.setdefault("schedule", Schedule(interval_s_min=2.0, interval_s_max=60.0))
    members: dict[str, Any] = {
        "chance": lambda: 0.5,
        "hints": HintBook(schedule, lambda outcome: None, is_fed=False),
        "concurrency": 1,
        "lost_after_s": 600.0,
        "children": ChildLookUp(batch=batch, budgets=budgets, clock=clock, health=health, chance=lambda: 0.5),
        "drain": Drain(),
    }
    return Track(batch=batch, clock=clock, **(members | given))


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = await open_store()
    yield opened
    await opened.close()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(sinks=["log", "dead_letter"])


@pytest.fixture
def ledger(store: SqliteStore, clock: ManualClock, metrics: Metrics) -> Ledger:
    return Ledger(store=store, clock=clock, metrics=metrics, wakes=Wakes())
