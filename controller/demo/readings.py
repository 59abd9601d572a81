"""What ``/metrics`` says, reduced to the numbers on the screen, and the rates between two readings. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

PREFIX: Final = "batch_controller_"
WINDOW_S: Final = 2.0
"""Rates are averages over so long."""
HISTORY_MAX: Final = 240
"""Readings kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at ``/metrics``."""

    at: float
    """Monotonic, seconds."""
    calls: Counter[str]
    """Calls to AWS so far, by operation."""
    throttled: int
    received: Counter[str]
    """Messages settled at intake, by outcome."""
    finished: Counter[str]
    """Requests ended, by outcome."""
    adopted: int
    in_doubt: int
    """Submissions that are in doubt now."""
    outbox: int
    """Events and dead letters that are not delivered yet."""
    limits: dict[str, float]
    """Calls per second that the budgets allow now."""
    ids_described: int
    """Job ids asked for with DescribeJobs so far."""


def read_metrics(text: str, *, at: float) -> Reading:
    """A reading of the text exposition format."""
    calls: Counter[str] = Counter()
    received: Counter[str] = Counter()
    finished: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    limits: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name, labels, value = sample.name.removeprefix(PREFIX), sample.labels, sample.value
            if name == "aws_requests_total":
                calls[labels["operation"]] += int(value)
                sums["throttled"] += int(value) if labels["outcome"] == "throttled" else 0
            elif name == "requests_received_total":
                received[labels["outcome"]] += int(value)
            elif name == "jobs_finished_total":
                finished[labels["outcome"]] += int(value)
            elif name == "submissions_total" and labels["outcome"] == "adopted":
                sums["adopted"] += int(value)
            elif name == "rate_limit_per_second":
                limits[labels["budget"]] = value
            elif name in ("submissions_in_doubt", "outbox_events", "describe_ids_per_call_sum"):
                sums[name] += int(value)
    return Reading(
        at=at,
        calls=calls,
        throttled=sums["throttled"],
        received=received,
        finished=finished,
        adopted=sums["adopted"],
        in_doubt=sums["submissions_in_doubt"],
        outbox=sums["outbox_events"],
        limits=limits,
        ids_described=sums["describe_ids_per_call_sum"],
    )


@dataclass(slots=True)
class Readings:
    """Readings in order of time."""

    kept: deque[Reading] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))

    @property
    def latest(self) -> Reading | None:
        return self.kept[-1] if self.kept else None

    def add(self, reading: Reading) -> None:
        self.kept.append(reading)

    def rate(self, operation: str) -> float:
        """Calls per second over the last WINDOW_S."""
        if len(self.kept) < 2:
            return 0.0
        last = self.kept[-1]
        first = next(reading for reading in self.kept if reading is last or last.at - reading.at <= WINDOW_S)
        return _rate(first, last, operation)

    def ids_per_call(self) -> float:
        """Job ids in a DescribeJobs call, on average."""
        last = self.latest
        calls = last.calls["DescribeJobs"] if last is not None else 0
        return last.ids_described / calls if last is not None and calls else 0.0

    def per_second(self, operation: str, seconds: int) -> list[float]:
        """Calls per second in each of the last ``seconds`` seconds, the latest last; fewer at the beginning."""
        readings = list(self.kept)
        if len(readings) < 2:
            return []
        rates: list[float] = []
        last = readings[-1]
        for reading in reversed(readings[:-1]):
            if last.at - reading.at >= 1.0:
                rates.append(_rate(reading, last, operation))
                last = reading
                if len(rates) == seconds:
                    break
        return rates[::-1]


def _rate(first: Reading, last: Reading, operation: str) -> float:
    elapsed_s = last.at - first.at
    return (last.calls[operation] - first.calls[operation]) / elapsed_s if elapsed_s > 0 else 0.0
