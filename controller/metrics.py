"""The metrics of one process, and the text that ``/metrics`` serves.

Counters and histograms count in memory; gauges are not kept but read from a ``LedgerSnapshot`` when they are asked for,
so that they can't drift from the rows. A label's value outside its set (``metric_table.py``) is a mistake of ours and
raises ValueError.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from controller import __version__
from controller.core.events import HOLD_REASONS
from controller.core.job import JobState
from controller.core.room import DiskSpace
from controller.metric_table import METRICS, PREFIX, UNKNOWN_QUEUE, UNSUBMITTED, Label, MetricSpec
from controller.ports import Clock, Hold, UsageRow

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


# --- what gauges are read from ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSnapshot:
    """The state of the store and of memory at one moment."""

    usage: Sequence[UsageRow]
    """``store.usage()``."""
    oldest_received_at: Mapping[str, float]
    """``store.oldest_backlog()``."""
    outbox: Mapping[str, int]
    """``store.outbox_counts()``."""
    holds: Sequence[Hold]
    rates: Mapping[str, float]
    """Calls per second in force, by budget."""
    ceilings: Mapping[str, float] = field(default_factory=dict)
    """Calls per second without throttling, by budget."""
    staleness_s: float
    staleness_bound_s: float = 0.0
    events_missed_ratio: float | None = None
    """None: there is no queue of events."""
    intake_paused: Mapping[str, bool]
    submission_paused: Mapping[str, bool]
    stage_turns: Mapping[str, float]
    """Seconds since the epoch, by stage."""
    is_leader: bool
    now: float
    """Seconds since the epoch."""
    stage_limits: Mapping[str, float] = field(default_factory=dict)
    """Within how many seconds each stage that is expected to turn must do so."""
    stuck: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Jobs RUNNABLE for too long, by (job queue, cause)."""
    array_children: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By (job queue, status)."""
    tenants: Mapping[str, int] = field(default_factory=dict)
    """``store.backlog_tenants()``."""
    max_waiting: Mapping[str, int] = field(default_factory=dict)
    """The limit in force, by job queue."""
    space: DiskSpace | None = None
    """Of the store's disk, if that is known."""


# --- counting -----------------------------------------------------------------------------------------

M = TypeVar("M", Counter, Histogram)


class Labelled(Generic[M]):
    """A metric with labels; ``labels`` gives the child to count with, the same each time (bind it once where hot)."""

    def __init__(self, metric: M, spec: MetricSpec) -> None:
        self._metric: M = metric
        self.spec = spec
        self._names = tuple(label.name for label in spec.labels)
        self._sets = [frozenset(label.values) for label in spec.labels]
        self._children: dict[tuple[str, ...], M] = {}

    def labels(self, **values: str) -> M:
        """Raises ValueError for a missing or unknown label, or a value outside its set."""
        # Keyword order is the caller's: only in our own order do the values alone name the child.
        child = self._children.get(tuple(values.values())) if tuple(values) == self._names else None
        return child if child is not None else self._child(values)

    def _child(self, values: Mapping[str, str]) -> M:
        if set(values) != set(self._names):
            raise ValueError(f"{self.spec.name} has the labels {', '.join(self._names)}, not {', '.join(values)}")
        for label, known in zip(self.spec.labels, self._sets, strict=True):
            if known and values[label.name] not in known:
                raise ValueError(f"{self.spec.name}: '{values[label.name]}' is not a value of the label {label.name}")
        ordered = tuple(values[name] for name in self._names)
        if ordered not in self._children:
            self._children[ordered] = self._metric.labels(*ordered)
        return self._children[ordered]


class Metrics:
    """The metrics of one process, in a registry of their own. Not thread-bound: any thread may count.

    ``name`` is ``controller.name``; for ``sinks`` the counters are there from the start.
    """

    def __init__(self, *, name: str = "default", sinks: Sequence[str] = ()) -> None:
        self._name = name
        self._registry = CollectorRegistry(auto_describe=False)
        self._known_queues: set[str] = set()
        self._sinks = tuple(sinks)
        self._calls: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._standings: list[Standing] = []

        self.requests_received_total = self._labelled(Counter, "requests_received_total")
        self.submissions_total = self._labelled(Counter, "submissions_total")
        self.submit_duration_seconds = self._plain(Histogram, "submit_duration_seconds")
        self.status_changes_total = self._labelled(Counter, "status_changes_total")
        self.jobs_finished_total = self._labelled(Counter, "jobs_finished_total")
        self.job_failures_total = self._labelled(Counter, "job_failures_total")
        self.job_wait_seconds = self._labelled(Histogram, "job_wait_seconds")
        self.job_run_seconds = self._labelled(Histogram, "job_run_seconds")
        self.detection_lag_seconds = self._plain(Histogram, "detection_lag_seconds")
        self.aws_requests_total = self._labelled(Counter, "aws_requests_total")
        self.aws_request_duration_seconds = self._labelled(Histogram, "aws_request_duration_seconds")
        self.wait_seconds_total = self._labelled(Counter, "wait_seconds_total")
        self.queue_hold_changes_total = self._labelled(Counter, "queue_hold_changes_total")
        self.describe_ids_per_call = self._plain(Histogram, "describe_ids_per_call")
        self.batch_events_received_total = self._labelled(Counter, "batch_events_received_total")
        self.events_published_total = self._labelled(Counter, "events_published_total")
        self.event_loop_stall_seconds = self._plain(Histogram, "event_loop_stall_seconds")
        self.store_commit_seconds = self._plain(Histogram, "store_commit_seconds")

        self._start_at_zero()

    # --- labels ---------------------------------------------------------------------------------------

    @property
    def known_queues(self) -> frozenset[str]:
        """Job queues that Batch has confirmed."""
        return frozenset(self._known_queues)

    def knows_queue(self, name: str) -> bool:
        return name in self._known_queues

    def know_queue(self, name: str) -> None:
        """Batch has confirmed a job queue of this name: from now on it is a label, and its counters are there."""
        if name in self._known_queues:
            return
        self._known_queues.add(name)
        self._start_queue_at_zero(name)

    def queue_label(self, name: str) -> str:
        """The ``job_queue`` label of a job queue: names that only a request has used must not make series."""
        return name if name in self._known_queues else UNKNOWN_QUEUE

    def waited(self, cause: str, seconds: float) -> None:
        """Work that was ready stood still for so long, for a cause of ``WAITS``."""
        self.wait_seconds_total.labels(cause=cause).inc(seconds)

    def standing(self, cause: str, clock: Clock) -> Standing:
        """For tasks that wait for a cause of ``WAITS``: what they have stood is counted by the time it is shown."""
        standing = Standing(clock, partial(self.waited, cause))
        self._standings.append(standing)
        return standing

    def hold_changed(self, hold: Hold, change: str) -> None:
        """A hold was ``held`` or ``released``."""
        queue = self.queue_label(hold.job_queue)
        self.queue_hold_changes_total.labels(job_queue=queue, reason=hold.reason, change=change).inc()

    def observe_call(self, operation: str, outcome: str, seconds: float) -> None:
        """Count one call to AWS and its duration."""
        bound = self._calls.get((operation, outcome))
        if bound is None:
            counted = self.aws_requests_total.labels(operation=operation, outcome=outcome)
            bound = (counted, self.aws_request_duration_seconds.labels(operation=operation))
            self._calls[operation, outcome] = bound
        bound[0].inc()
        bound[1].observe(seconds)

    def _start_at_zero(self) -> None:
        """Series of closed sets exist from the start, so that a first increase is seen as one."""
        outcomes = METRICS["requests_received_total"].labels[0]
        _start_at_zero(self.requests_received_total, outcomes)
        _start_at_zero(self.wait_seconds_total, METRICS["wait_seconds_total"].labels[0])
        _start_at_zero(self.batch_events_received_total, METRICS["batch_events_received_total"].labels[0])
        for sink in self._sinks:
            _start_at_zero(self.events_published_total, METRICS["events_published_total"].labels[1], sink=sink)
        # Requests for job queues that there are not end under this name, the first of them all at once.
        self._start_queue_at_zero(UNKNOWN_QUEUE)

    def _start_queue_at_zero(self, label: str) -> None:
        counters = (
            self.submissions_total,
            self.status_changes_total,
            self.jobs_finished_total,
            self.job_failures_total,
        )
        for metric in counters:
            _start_at_zero(metric, METRICS[metric.spec.name].labels[1], job_queue=label)
        for change in ("held", "released"):
            reasons = METRICS["queue_hold_changes_total"].labels[1]
            _start_at_zero(self.queue_hold_changes_total, reasons, job_queue=label, change=change)

    # --- text -----------------------------------------------------------------------------------------

    def families(self, snapshot: LedgerSnapshot) -> Iterator[Metric]:
        """Every metric with its samples, one after the other: each is of one moment, and what makes one takes a
        millisecond or so. ``exposed`` makes text of them, which takes four fifths of the time and any thread."""
        for standing in self._standings:
            standing.tell()
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        yield from _gauges(snapshot, self.queue_label, sorted(self._known_queues), self._sinks)
        yield _family("build_info", {(__version__, self._name): 1.0})

    def render(self, snapshot: LedgerSnapshot) -> bytes:
        """The text exposition format (``CONTENT_TYPE``), about 10 µs per sample."""
        return exposed(list(self.families(snapshot)))

    # --- making ---------------------------------------------------------------------------------------

    def _labelled(self, kind: type[M], name: str) -> Labelled[M]:
        spec = METRICS[name]
        assert spec.labels, name
        return Labelled(self._plain(kind, name), spec)

    def _plain(self, kind: type[M], name: str) -> M:
        spec = METRICS[name]
        assert spec.kind == kind.__name__.lower(), name
        names = [label.name for label in spec.labels]
        if issubclass(kind, Histogram):
            return kind(PREFIX + name, spec.meaning, names, registry=self._registry, buckets=spec.buckets)
        return kind(PREFIX + name, spec.meaning, names, registry=self._registry)


def _start_at_zero(metric: Labelled[Counter], label: Label, **others: str) -> None:
    for value in label.values:
        metric.labels(**others, **{label.name: value})


class Standing:
    """The time in which at least one task waits for a cause. It is told as it passes, not at the end: waits that
    overlap without a gap, or one that does not end, are trouble that must show while it lasts."""

    def __init__(self, clock: Clock, told: Callable[[float], None]) -> None:
        self._clock = clock
        self._told = told
        self._waiting = 0
        self._since = 0.0
        """Until when it was told."""

    @contextmanager
    def waiting(self) -> Iterator[None]:
        self.tell()
        self._waiting += 1
        try:
            yield
        finally:
            self.tell()
            self._waiting -= 1

    def tell(self) -> None:
        """What was stood since the last time."""
        now = self._clock.monotonic()
        if self._waiting and now > self._since:
            self._told(now - self._since)
        self._since = now


def exposed(families: Sequence[Metric]) -> bytes:
    """The text of what ``Metrics.families`` gave. Touches nothing that changes meanwhile."""
    return generate_latest(_Collected(families))


class _Collected:
    """What ``generate_latest`` takes: something with ``collect``."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families


# --- gauges -------------------------------------------------------------------------------------------

_Series = dict[tuple[str, ...], float]


def _gauges(
    snapshot: LedgerSnapshot, queue_label: Callable[[str], str], known_queues: Sequence[str], sinks: Sequence[str]
) -> Iterator[Metric]:
    """Known queues and sinks are shown with 0, so that a series does not end when nothing is left to count."""
    statuses = METRICS["inflight_jobs"].labels[1].values
    backlog: _Series = defaultdict(float, {(queue,): 0.0 for queue in known_queues})
    dependent: _Series = defaultdict(float, {(queue,): 0.0 for queue in known_queues})
    in_flight: _Series = defaultdict(float, {(queue, status): 0.0 for queue in known_queues for status in statuses})
    arrays: _Series = defaultdict(float, {(queue,): 0.0 for queue in known_queues})
    in_doubt = 0
    for row in snapshot.usage:
        queue = queue_label(row.job_queue)
        if row.state is JobState.QUEUED:
            backlog[queue,] += row.count
            dependent[queue,] += row.count if row.is_unmet else 0
        else:
            status = UNSUBMITTED if row.batch_status is None else row.batch_status.value
            in_flight[queue, status] += row.count
            in_doubt += row.count if row.is_in_doubt else 0
            arrays[queue,] += row.count if row.is_array else 0
    oldest: _Series = {(queue,): 0.0 for queue in known_queues}
    for name, received_at in snapshot.oldest_received_at.items():
        queue = queue_label(name)
        oldest[queue,] = max(oldest.get((queue,), 0.0), snapshot.now - received_at)
    tenants: _Series = defaultdict(float, {(queue,): 0.0 for queue in known_queues})
    for name, count in snapshot.tenants.items():
        tenants[queue_label(name),] += count
    held: _Series = {(queue, reason): 0.0 for queue in known_queues for reason in HOLD_REASONS}
    held.update({(queue_label(hold.job_queue), hold.reason): 1.0 for hold in snapshot.holds})

    yield _family("backlog_jobs", backlog)
    yield _family("backlog_dependent_jobs", dependent)
    yield _family("backlog_oldest_seconds", oldest)
    yield _family("backlog_tenants", tenants)
    yield _family("inflight_jobs", in_flight)
    yield _family("stuck_jobs", _counted(snapshot.stuck, known_queues, "stuck_jobs", queue_label))
    yield _family("inflight_arrays", arrays)
    yield _family("array_children", _counted(snapshot.array_children, known_queues, "array_children", queue_label))
    yield _family("submissions_in_doubt", {(): float(in_doubt)})
    yield _family("rate_limit_per_second", {(budget,): rate for budget, rate in snapshot.rates.items()})
    yield _family("rate_ceiling_per_second", {(budget,): rate for budget, rate in snapshot.ceilings.items()})
    yield _family("tracking_staleness_seconds", {(): snapshot.staleness_s})
    yield _family("tracking_staleness_bound_seconds", {(): snapshot.staleness_bound_s})
    missed_ratio = snapshot.events_missed_ratio
    yield _family("events_missed_ratio", {} if missed_ratio is None else {(): missed_ratio})
    yield _family("intake_paused", {(reason,): float(holds) for reason, holds in snapshot.intake_paused.items()})
    yield _family(
        "submission_paused", {(reason,): float(holds) for reason, holds in snapshot.submission_paused.items()}
    )
    yield _family("queue_held", held)
    yield _family("job_queue_max_waiting", _largest(snapshot.max_waiting, queue_label))
    counts = dict.fromkeys(sinks, 0) | dict(snapshot.outbox)
    yield _family("outbox_events", {(sink,): float(count) for sink, count in counts.items()})
    space = snapshot.space
    yield _family("store_used_bytes", {} if space is None else {(): float(space.used)})
    yield _family("store_free_bytes", {} if space is None else {(): float(space.free)})
    yield _family("stage_last_turn_timestamp_seconds", {(stage,): at for stage, at in snapshot.stage_turns.items()})
    yield _family("stage_turn_limit_seconds", {(stage,): limit for stage, limit in snapshot.stage_limits.items()})
    yield _family("leader", {(): float(snapshot.is_leader)})


def _counted(
    counts: Mapping[tuple[str, str], int],
    known_queues: Sequence[str],
    name: str,
    queue_label: Callable[[str], str],
) -> _Series:
    """Counts by job queue and one more label."""
    values = METRICS[name].labels[1].values
    series: _Series = defaultdict(float, {(queue, value): 0.0 for queue in known_queues for value in values})
    for (queue, value), count in counts.items():
        series[queue_label(queue), value] += count
    return series


def _largest(values: Mapping[str, int], queue_label: Callable[[str], str]) -> _Series:
    """By label: job queues that Batch has not confirmed share one."""
    series: _Series = {}
    for name, value in values.items():
        label = (queue_label(name),)
        series[label] = max(series.get(label, 0.0), float(value))
    return series


def _family(name: str, series: Mapping[tuple[str, ...], float]) -> Metric:
    spec = METRICS[name]
    family = GaugeMetricFamily(PREFIX + name, spec.meaning, labels=[label.name for label in spec.labels])
    for values, value in series.items():
        for label, text in zip(spec.labels, values, strict=True):
            if label.values and text not in label.values:
                raise ValueError(f"{name}: '{text}' is not a value of the label {label.name}")
        family.add_metric(values, value)
    return family
