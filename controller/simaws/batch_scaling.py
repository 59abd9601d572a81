"""A managed compute environment that scales by demand: it looks at a queue's RUNNABLE jobs now and then, orders what
they lack up to its maximum, and the instances come minutes later. What is idle for long is given back.

The scheduler advances it together with the queue's ``Capacity``. AWS publishes neither interval nor delay; the defaults
are of the order that users report. Shares between queues, instance sizes and Spot are not modelled.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from controller.simaws.batch_capacity import Capacity


@dataclass(slots=True, kw_only=True)
class Scaling:
    """Scales one queue's vCPUs between ``vcpus_min`` and ``vcpus_max``."""

    vcpus_max: float
    vcpus_min: float = 0.0
    look_every_s: float = 60.0
    delay_s: float = 180.0
    """From an order to instances that take jobs."""
    idle_s: float = 600.0
    """More than is wanted, for so long, is given back."""
    changes: list[tuple[float, float]] = field(default_factory=list)
    """(instant, vCPUs from then on)."""
    _ordered: deque[tuple[float, float]] = field(default_factory=deque)
    _look_at: float = 0.0
    _wanted_all_since: float = 0.0

    def next_at(self, capacity: Capacity) -> float | None:
        """When it looks, or instances come; None while there is nothing to do."""
        if self._ordered and self._ordered[0][0] <= self._look_at:
            return self._ordered[0][0]
        is_idle = not capacity.used and capacity.slots <= self.vcpus_min and not capacity.has_waiting
        return None if is_idle and not self._ordered else max(self._look_at, capacity.at)

    def step(self, capacity: Capacity, now: float) -> None:
        """Instances that have come take jobs; orders what is lacking if it is time to look."""
        while self._ordered and self._ordered[0][0] <= now:
            self._change(capacity, now, capacity.slots + self._ordered.popleft()[1])
        if now < self._look_at:
            return
        self._look_at = now + self.look_every_s
        wanted = min(self.vcpus_max, max(self.vcpus_min, capacity.used + capacity.waiting_vcpus(now)))
        lacking = wanted - capacity.slots - sum(vcpus for _, vcpus in self._ordered)
        if lacking > 0:
            self._ordered.append((now + self.delay_s, lacking))
        if wanted >= capacity.slots:
            self._wanted_all_since = now
        elif now - self._wanted_all_since >= self.idle_s:
            self._change(capacity, now, wanted)

    def _change(self, capacity: Capacity, now: float, vcpus: float) -> None:
        capacity.slots = vcpus
        self.changes.append((now, vcpus))
