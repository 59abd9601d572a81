"""Metrics: closed labels, gauges read from the ledger, the text that is served."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.core.job import BatchStatus, JobState
from controller.metric_table import METRICS, PREFIX, Kind
from controller.metrics import LedgerSnapshot, Metrics
from controller.ports import Hold, UsageRow
from tests.stages.conftest import ManualClock


def usage(
    queue: str, state: JobState, count: int, *, status: BatchStatus | None = None, doubt: bool = False
) -> UsageRow:
    return UsageRow(
        source="s", job_queue=queue, state=state, batch_status=status, is_in_doubt=doubt, is_array=False, count=count
    )


def snapshot(*rows: UsageRow, oldest: dict[str, float] | None = None, holds: tuple[Hold, ...] = ()) -> LedgerSnapshot:
    return LedgerSnapshot(
        usage=rows,
        oldest_received_at=oldest or {},
        outbox={"dead_letter": 2},
        holds=holds,
        rates={"submit": 34.0, "total": 48.0},
        ceilings={"submit": 40.0, "total": 48.0},
        staleness_s=1.5,
        intake_paused={"backlog": True, "store": False},
        submission_paused={"credentials": False},
        stage_turns={"admit": 990.0},
        is_leader=True,
        now=1_000.0,
    )


def rendered(metrics: Metrics, state: LedgerSnapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples by (name without the prefix, labels)."""
    return {
        (sample.name.removeprefix(PREFIX), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render(state).decode())
        for sample in family.samples
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_a_value_outside_a_closed_set_is_refused() -> None:
    """A label value that is not in the table, a missing label and an unknown one raise ValueError."""
    metrics = Metrics()
    with pytest.raises(ValueError, match="'lost' is not a value of the label outcome"):
        metrics.requests_received_total.labels(outcome="lost")
    with pytest.raises(ValueError, match="has the labels job_queue, outcome"):
        metrics.submissions_total.labels(outcome="accepted")
    with pytest.raises(ValueError, match="has the labels"):
        metrics.requests_received_total.labels(outcome="accepted", job_id="7")
    with pytest.raises(ValueError, match="operation"):
        metrics.observe_call("Guess", "ok", 0.1)


def test_the_order_of_labels_does_not_matter() -> None:
    """Children are found by name, also when two labels could swap their values."""
    metrics = Metrics()
    metrics.know_queue("accepted")
    one = metrics.submissions_total.labels(job_queue="accepted", outcome="in_doubt")
    assert metrics.submissions_total.labels(outcome="in_doubt", job_queue="accepted") is one
    assert metrics.submissions_total.labels(outcome="accepted", job_queue="in_doubt") is not one


def test_only_confirmed_queue_names_become_labels() -> None:
    """A name that only a request has used makes no series of its own."""
    metrics = Metrics()
    metrics.know_queue("high")
    assert metrics.queue_label("high") == "high"
    assert metrics.queue_label("typo") == "unknown"
    rows = (usage("typo", JobState.QUEUED, 2), usage("other", JobState.QUEUED, 3), usage("high", JobState.QUEUED, 1))
    state = replace(snapshot(*rows, oldest={"typo": 900.0, "other": 950.0}), tenants={"typo": 2, "other": 3})
    samples = rendered(metrics, state)
    assert samples[key("backlog_jobs", job_queue="unknown")] == 5
    assert samples[key("backlog_jobs", job_queue="high")] == 1
    assert samples[key("backlog_oldest_seconds", job_queue="unknown")] == 100
    assert samples[key("backlog_tenants", job_queue="unknown")] == 5
    assert samples[key("backlog_tenants", job_queue="high")] == 0
    assert key("backlog_jobs", job_queue="typo") not in samples


def test_gauges_are_counted_from_the_ledger() -> None:
    """Gauges show the rows of the snapshot, SUBMITTING rows as unsubmitted."""
    metrics = Metrics(name="blue", sinks=["log"])
    metrics.know_queue("high")
    samples = rendered(
        metrics,
        snapshot(
            usage("high", JobState.SUBMITTING, 4),
            usage("high", JobState.SUBMITTING, 3, doubt=True),
            usage("high", JobState.TRACKED, 9, status=BatchStatus.RUNNING),
            holds=(Hold(job_queue="high", job_definition="d", reason="access_denied", held_at=1.0),),
        ),
    )
    assert samples[key("inflight_jobs", job_queue="high", batch_status="unsubmitted")] == 7
    assert samples[key("inflight_jobs", job_queue="high", batch_status="RUNNING")] == 9
    assert samples[key("submissions_in_doubt")] == 3
    assert samples[key("queue_held", job_queue="high", reason="access_denied")] == 1
    assert samples[key("queue_held", job_queue="high", reason="queue_disabled")] == 0
    assert samples[key("outbox_events", sink="dead_letter")] == 2
    assert samples[key("outbox_events", sink="log")] == 0
    assert samples[key("rate_limit_per_second", budget="submit")] == 34
    assert samples[key("rate_ceiling_per_second", budget="submit")] == 40
    assert samples[key("tracking_staleness_seconds")] == 1.5
    assert samples[key("intake_paused", reason="backlog")] == 1
    assert samples[key("intake_paused", reason="store")] == 0
    assert samples[key("stage_last_turn_timestamp_seconds", stage="admit")] == 990
    assert samples[key("leader")] == 1
    assert [labels for name, labels in samples if name == "build_info" and ("name", "blue") in labels]


def test_the_limit_in_force_is_shown_per_confirmed_queue() -> None:
    """``job_queue_max_waiting`` is the number in force; names that Batch has not confirmed share the largest."""
    metrics = Metrics()
    metrics.know_queue("high")
    limits = {"high": 37, "typo": 16, "other": 2_000}
    samples = rendered(metrics, replace(snapshot(), max_waiting=limits))
    assert samples[key("job_queue_max_waiting", job_queue="high")] == 37
    assert samples[key("job_queue_max_waiting", job_queue="unknown")] == 2_000


def test_standing_still_shows_while_it_lasts() -> None:
    """Waits that overlap without a gap, and one that does not end, are counted by each scrape as they go on; each
    second counts once, and only those in which somebody waits."""
    clock, metrics = ManualClock(), Metrics()
    standing = metrics.standing("store", clock)

    def stood() -> float:
        return rendered(metrics, snapshot())[key("wait_seconds_total", cause="store")]

    clock.move(50.0)
    assert stood() == 0.0
    first = standing.waiting()
    first.__enter__()
    for expected in (10.0, 20.0, 30.0):
        clock.move(5.0)
        second = standing.waiting()
        second.__enter__()
        clock.move(5.0)
        first.__exit__(None, None, None)
        assert stood() == expected
        first = second
    clock.move(600.0)
    assert stood() == 630.0, "nobody came and nobody went"
    first.__exit__(None, None, None)
    clock.move(1_000.0)
    assert stood() == 630.0


def test_series_of_closed_sets_start_at_zero() -> None:
    """A first increase is seen as one: the counters are there before anything has happened."""
    metrics = Metrics(sinks=["log"])
    metrics.know_queue("high")
    samples = rendered(metrics, snapshot())
    assert samples[key("requests_received_total", outcome="conflict")] == 0
    assert samples[key("jobs_finished_total", job_queue="high", outcome="lost")] == 0
    assert samples[key("jobs_finished_total", job_queue="unknown", outcome="rejected")] == 0
    assert samples[key("events_published_total", sink="log", outcome="failed")] == 0
    assert samples[key("backlog_jobs", job_queue="high")] == 0
    assert samples[key("inflight_jobs", job_queue="high", batch_status="RUNNING")] == 0


def test_calls_are_counted_and_timed() -> None:
    """observe_call counts the outcome and the duration of one call."""
    metrics = Metrics()
    metrics.observe_call("SubmitJob", "throttled", 0.2)
    metrics.observe_call("SubmitJob", "throttled", 0.2)
    samples = rendered(metrics, snapshot())
    assert samples[key("aws_requests_total", operation="SubmitJob", outcome="throttled")] == 2
    assert samples[key("aws_request_duration_seconds_bucket", operation="SubmitJob", le="0.25")] == 2


def test_everything_in_the_table_is_served_and_nothing_else() -> None:
    """Once each labelled metric has a child, /metrics has exactly the families of the table."""
    metrics = Metrics(sinks=["log"])
    metrics.know_queue("q")
    metrics.observe_call("SubmitJob", "ok", 0.1)
    metrics.job_wait_seconds.labels(job_queue="q").observe(1)
    metrics.job_run_seconds.labels(job_queue="q", outcome="failed").observe(1)
    text = metrics.render(snapshot()).decode()
    types = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    assert types == {PREFIX + name: spec.kind.value for name, spec in METRICS.items()}
    assert all(f"# HELP {PREFIX}{name} {spec.meaning}" in text for name, spec in METRICS.items())
    for name, spec in METRICS.items():
        if spec.kind is not Kind.GAUGE:
            assert hasattr(metrics, name), name


def test_two_registries_do_not_meet() -> None:
    """Each process, or simulated process, counts for itself."""
    first, second = Metrics(), Metrics()
    first.requests_received_total.labels(outcome="accepted").inc()
    assert rendered(second, snapshot())[key("requests_received_total", outcome="accepted")] == 0
