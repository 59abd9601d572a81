"""The metrics as they are now: counted rows of the store and what the parts of the application say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import anyio.lowlevel
from prometheus_client.metrics_core import Metric

from controller.budgets import Budgets, Purpose
from controller.core.errors import StoreUnavailable
from controller.core.hints import HintBook
from controller.core.polling import Schedule
from controller.depths import Depths
from controller.gate import IntakeGate
from controller.health import Health
from controller.holds import HoldBook
from controller.metrics import LedgerSnapshot, Metrics, exposed
from controller.ports import Clock, JobStore, UsageRow
from controller.room import StoreRoom
from controller.stages.diagnose import Diagnose
from controller.stages.track import Track


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the store last counted."""

    usage: Sequence[UsageRow] = ()
    oldest_received_at: Mapping[str, float] = field(default_factory=dict)
    tenants: Mapping[str, int] = field(default_factory=dict)
    outbox: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Exposition:
    """Reads everything that ``/metrics`` shows."""

    clock: Clock
    store: JobStore
    metrics: Metrics
    health: Health
    budgets: Budgets
    schedule: Schedule
    holds: HoldBook
    gate: IntakeGate
    room: StoreRoom
    depths: Depths
    hint_book: HintBook
    track: Track
    diagnose: Diagnose
    _counted: _Counted | None = field(default=None, init=False)

    async def render(self) -> bytes:
        """The text that ``/metrics`` serves."""
        await self.count()
        return exposed(await self.collect())

    @property
    def has_counted(self) -> bool:
        """Whether there is anything that was read of the store."""
        return self._counted is not None

    async def count(self) -> None:
        """Read the rows that gauges count. While the store fails they are those that were read last: that it fails must
        show too (``intake_paused``)."""
        with suppress(StoreUnavailable):
            self._counted = await self._count()

    async def collect(self) -> Sequence[Metric]:
        """Every metric as it is now, but for what was counted last. With many series this takes a while, so others get
        their turn in between."""
        snapshot = self._snapshot(self._counted or _Counted(), staleness_s=await self._staleness_s())
        families: list[Metric] = []
        for family in self.metrics.families(snapshot):
            families.append(family)
            await anyio.lowlevel.checkpoint()
        return families

    async def _count(self) -> _Counted:
        store = self.store
        return _Counted(
            usage=await store.usage(),
            oldest_received_at=await store.oldest_backlog(),
            tenants=await store.backlog_tenants(),
            outbox=await store.outbox_counts(),
        )

    def _snapshot(self, counted: _Counted, *, staleness_s: float) -> LedgerSnapshot:
        job_queues = self.metrics.known_queues.union(row.job_queue for row in counted.usage)
        return LedgerSnapshot(
            usage=tuple(counted.usage),
            oldest_received_at=counted.oldest_received_at,
            outbox=counted.outbox,
            holds=tuple(self.holds.all()),
            rates=self.budgets.rates(),
            ceilings=self.budgets.ceilings(),
            staleness_s=staleness_s,
            staleness_bound_s=self.schedule.staleness_bound_s(self.budgets.least_rate_per_s(Purpose.DESCRIBE)),
            events_missed_ratio=self.hint_book.watch.missed_ratio() if self.hint_book.is_fed else None,
            intake_paused=self.gate.pauses(),
            submission_paused={**self.holds.submission_paused(), "disk": self.room.is_short},
            space=self.room.space,
            stage_turns=self.health.last_turns(),
            stage_limits=self.health.turn_limits(),
            is_leader=self.health.is_leader,
            now=self.clock.now(),
            stuck=self.diagnose.stuck(),
            array_children=self.track.arrays.totals(),
            tenants=counted.tenants,
            max_waiting={name: self.depths.in_force(name) for name in job_queues},
        )

    async def _staleness_s(self) -> float:
        oldest = self.clock.monotonic()
        for seen_at in self.schedule.oldest_seen_at():
            oldest = min(oldest, seen_at)
            await anyio.lowlevel.checkpoint()
        return self.clock.monotonic() - oldest if len(self.schedule) else 0.0
