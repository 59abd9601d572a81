"""What goes wrong, and when: seeded, per operation, switchable at any time.

Two kinds. *Call faults* strike one call, before or after it took effect, at most one per call. *Service faults* change
what a service does: messages twice, ids left out, events lost. Every decision is drawn from the plan's own ``Random``,
so that switching faults on does not change how jobs run.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

from controller.simaws.profile import Range


class Fault(StrEnum):
    """What may strike a call."""

    # nothing was done
    THROTTLE = "throttle"
    ERROR_500 = "error_500"
    ERROR_503 = "error_503"
    RESET = "reset"
    CLOSE = "close"
    HANG = "hang"
    ACCESS_DENIED = "access_denied"
    EXPIRED_TOKEN = "expired_token"  # noqa: S105 - a fault's name
    # done, but the caller does not learn it
    ERROR_500_AFTER = "error_500_after"
    RESET_AFTER = "reset_after"
    CLOSE_AFTER = "close_after"
    HANG_AFTER = "hang_after"
    TRUNCATE_AFTER = "truncate_after"
    EMPTY_AFTER = "empty_after"
    """200 and ``{}``: a SubmitJob answer without a job id."""
    NOT_JSON_AFTER = "not_json_after"
    BLOCKED_AFTER = "blocked_after"
    """403 of a filter between the caller and AWS, which does not let the answer pass."""
    # done only after the caller was left hanging (SubmitJob; any other operation: HANG_AFTER)
    LATE = "late"
    # done and answered, slowly
    SLOW = "slow"

    @property
    def is_before(self) -> bool:
        """The call surely had no effect."""
        return self in _BEFORE


_BEFORE: Final = frozenset(
    {
        Fault.THROTTLE,
        Fault.ERROR_500,
        Fault.ERROR_503,
        Fault.RESET,
        Fault.CLOSE,
        Fault.HANG,
        Fault.ACCESS_DENIED,
        Fault.EXPIRED_TOKEN,
    }
)


@dataclass(slots=True, kw_only=True)
class ServiceFaults:
    """Probabilities (0 to 1) and ranges (seconds) of what the services do wrong. All may be set at any time."""

    late_s: Range = (1.0, 60.0)
    """LATE: from the call to its acceptance."""
    hang_s: float = 3_600.0
    """HANG: how long the connection is kept at most."""
    slow_s: Range = (1.0, 10.0)
    rate_factor: float = 1.0
    """Share of the profile's rate limits that is left."""
    describe_omits_p: float = 0.0
    """DescribeJobs leaves out an id that exists."""
    sqs_entry_fails_p: float = 0.0
    """An entry of a batch call is in ``Failed`` and had no effect."""
    sqs_duplicate_p: float = 0.0
    """A received message becomes visible again at once: somebody else receives it too."""
    sqs_undelete_p: float = 0.0
    """A deleted message comes back after ``sqs_undelete_s``."""
    sqs_undelete_s: Range = (0.0, 60.0)
    sqs_reorder_p: float = 0.0
    """A receive shuffles the 100 oldest messages first (standard queues)."""
    sqs_empty_receive_p: float = 0.0
    """A receive finds nothing though there are messages."""
    event_drop_p: float = 0.0
    event_duplicate_p: float = 0.0
    event_delay_p: float = 0.0
    event_delay_s: Range = (1.0, 120.0)


@dataclass(slots=True)
class FaultPlan:
    """Decides what goes wrong. ``calls`` maps an operation, or ``*`` for every other, to probabilities of faults."""

    rng: random.Random
    calls: dict[str, dict[Fault, float]] = field(default_factory=dict)
    service: ServiceFaults = field(default_factory=ServiceFaults)
    denied: set[str] = field(default_factory=set)
    """Operations answered with AccessDenied; ``SubmitJob/<queue>``, ``SubmitJob/<queue>/<definition>`` and
    ``SubmitJob#<tag>=<value>`` too."""
    undescribed: set[str] = field(default_factory=set)
    """Tags, ``<tag>=<value>``, of jobs for which DescribeJobs refuses the whole call."""
    indescribable: set[str] = field(default_factory=set)
    """The same, of jobs for which it fails, with HTTP 500."""
    are_credentials_expired: bool = False
    _scripted: dict[str, deque[Fault | None]] = field(default_factory=dict)

    def set_call(self, operation: str, probabilities: Mapping[str, float]) -> None:
        """Replace an operation's probabilities; raises ValueError for an unknown fault or a sum over 1."""
        chances = {Fault(name): float(p) for name, p in probabilities.items()}
        if any(p < 0 for p in chances.values()) or sum(chances.values()) > 1 + 1e-9:
            raise ValueError(f"{operation}: probabilities must be at least 0 and together at most 1")
        self.calls[operation] = chances

    def script(self, operation: str, faults: Iterable[Fault | None]) -> None:
        """The next calls of ``operation`` meet exactly these (None: no fault), before any chance is drawn."""
        self._scripted.setdefault(operation, deque()).extend(faults)

    def clear(self) -> None:
        """From now on nothing goes wrong."""
        self.calls.clear()
        self.denied.clear()
        self.undescribed.clear()
        self.indescribable.clear()
        self._scripted.clear()
        self.service = ServiceFaults()
        self.are_credentials_expired = False

    def update(self, settings: Mapping[str, Any]) -> None:
        """Change the plan from JSON: ``calls``, ``service``, ``denied``, ``undescribed``,
        ``indescribable``, ``are_credentials_expired``.

        Raises ValueError for anything unknown; then nothing was changed.
        """
        sets = {"denied": self.denied, "undescribed": self.undescribed, "indescribable": self.indescribable}
        unknown = set(settings) - {"calls", "service", *sets, "are_credentials_expired"}
        names = {f.name for f in fields(ServiceFaults)}
        unknown |= set(settings.get("service") or {}) - names
        if unknown:
            raise ValueError(f"unknown fault settings: {', '.join(sorted(unknown))}")
        trial = FaultPlan(self.rng)
        for operation, probabilities in (settings.get("calls") or {}).items():
            trial.set_call(operation, probabilities)
        service = {n: _setting(n, value) for n, value in (settings.get("service") or {}).items()}
        self.calls.update(trial.calls)
        for name, value in service.items():
            setattr(self.service, name, value)
        for name in settings.keys() & sets.keys():
            setattr(self, name, set(map(str, settings[name])))
        self.are_credentials_expired = bool(settings.get("are_credentials_expired", self.are_credentials_expired))

    def draw(self, operation: str, arguments: Mapping[str, Any]) -> Fault | None:
        """What strikes this call."""
        if self.are_credentials_expired:
            return Fault.EXPIRED_TOKEN
        if self.denied and self._is_denied(operation, arguments):
            return Fault.ACCESS_DENIED
        scripted = self._scripted.get(operation)
        if scripted:
            return scripted.popleft()
        chances = self.calls.get(operation, self.calls.get("*"))
        if not chances:
            return None
        left = self.rng.random()
        for fault, probability in chances.items():
            if left < probability:
                return fault
            left -= probability
        return None

    def refuses_to_describe(self, tags: Mapping[str, str]) -> bool:
        """Whether DescribeJobs refuses a call that names a job with these tags."""
        return bool(self.undescribed) and any(f"{name}={value}" in self.undescribed for name, value in tags.items())

    def fails_to_describe(self, tags: Mapping[str, str]) -> bool:
        """Whether DescribeJobs fails in a call that names a job with these tags."""
        return bool(self.indescribable) and any(f"{name}={value}" in self.indescribable for name, value in tags.items())

    def chance(self, probability: float) -> bool:
        """True with this probability; draws nothing if it is 0."""
        return probability > 0 and self.rng.random() < probability

    def seconds(self, bounds: Range) -> float:
        return self.rng.uniform(*bounds)

    def _is_denied(self, operation: str, arguments: Mapping[str, Any]) -> bool:
        queue = f"{operation}/{arguments.get('jobQueue')}"
        tags = [f"{operation}#{name}={value}" for name, value in (arguments.get("tags") or {}).items()]
        return not self.denied.isdisjoint((operation, queue, f"{queue}/{arguments.get('jobDefinition')}", *tags))


def _setting(name: str, value: Any) -> Any:
    if name in _RANGES:
        least, most = map(float, value)
        if not 0 <= least <= most:
            raise ValueError(f"{name}: must be [least, most] with 0 <= least <= most")
        return (least, most)
    number = float(value)
    if number < 0 or (name.endswith("_p") and number > 1):
        raise ValueError(f"{name}: out of range")
    return number


_RANGES: Final = frozenset(f.name for f in fields(ServiceFaults) if f.type == "Range")
