"""What the demonstration makes of events and metrics: counts that follow the controller's reports."""

from __future__ import annotations

from collections import Counter
from typing import Any

from controller.demo.readings import Reading, Readings, read_metrics
from controller.demo.watch import Seen
from controller.demo.workload import Stage
from controller.metrics import LedgerSnapshot, Metrics


def event(name: str, event_id: str, **members: Any) -> dict[str, Any]:
    common = {"time": "2030-01-01T00:00:00.000Z", "request_id": "r", "message_id": "m", "job_queue": "high"}
    return {"event": name, "event_id": event_id, **common, **members}


LIFE = [
    event("request.accepted", "1"),
    event("job.submitted", "2", batch_status="SUBMITTED"),
    event("job.status_changed", "3", batch_status="RUNNING"),
    event("job.status_changed", "4", batch_status="RUNNABLE"),
    event("job.status_changed", "5", batch_status="SUCCEEDED"),
    event("job.finished", "6", batch_status="SUCCEEDED", outcome="succeeded"),
]


def test_a_request_stands_in_one_column_at_a_time() -> None:
    """From queued over waiting and running, and back on a retry, to its end; deliveries twice change nothing."""
    seen, stood = Seen(), []
    for each in LIFE:
        assert seen.fold(each)
        assert not seen.fold(each)
        stood.append(dict(+seen.standing()))
    assert stood == [{"queued": 1}, {"waiting": 1}, {"running": 1}, {"waiting": 1}, {"waiting": 1}, {}]
    assert seen.queues["high"].ended == Counter(succeeded=1)
    assert seen.queues["high"].in_flight_max == 1


def test_a_stage_once_reached_stays_reached() -> None:
    """What waits for a request to run is due also if it was seen running only for a moment, or not at all."""
    seen = Seen()
    assert not seen.has_reached("r", Stage.ACCEPTED)
    for each in LIFE[:4]:
        seen.fold(each)
    assert seen.has_reached("r", Stage.RUNNING)
    assert not seen.has_reached("r", Stage.FINISHED)
    skipped = Seen()
    for each in (LIFE[0], LIFE[5]):
        skipped.fold(each)
    assert skipped.has_reached("r", Stage.RUNNING)


def test_the_metrics_page_is_understood() -> None:
    """Numbers come from the very text that the controller serves."""
    metrics = Metrics(sinks=["log"])
    metrics.know_queue("high")
    metrics.requests_received_total.labels(outcome="duplicate").inc(3)
    metrics.submissions_total.labels(job_queue="high", outcome="adopted").inc(2)
    metrics.jobs_finished_total.labels(job_queue="high", outcome="failed").inc()
    metrics.observe_call("SubmitJob", "ok", 0.1)
    metrics.observe_call("SubmitJob", "throttled", 0.1)
    metrics.describe_ids_per_call.observe(100)
    snapshot = LedgerSnapshot(
        usage=(),
        oldest_received_at={},
        outbox={"log": 4},
        holds=(),
        rates={"submit": 38.5},
        staleness_s=float("inf"),
        intake_paused={},
        submission_paused={"credentials": False},
        stage_turns={},
        is_leader=True,
        now=0.0,
    )
    reading = read_metrics(metrics.render(snapshot).decode(), at=5.0)
    assert reading.received["duplicate"] == 3
    assert reading.finished == Counter(failed=1)
    assert (reading.adopted, reading.throttled, reading.outbox, reading.ids_described) == (2, 1, 4, 100)
    assert reading.calls["SubmitJob"] == 2
    assert reading.limits == {"submit": 38.5}


def reading(at: float, calls: int) -> Reading:
    return Reading(
        at=at, calls=Counter(SubmitJob=calls), throttled=0, received=Counter(), finished=Counter(), adopted=0,
        in_doubt=0, outbox=0, limits={}, ids_described=0,
    )  # fmt: skip


def test_rates_are_taken_between_readings() -> None:
    """Over the last two seconds, and second by second; none before there are two readings."""
    readings = Readings()
    assert readings.rate("SubmitJob") == 0.0
    for half_second in range(9):
        readings.add(reading(half_second / 2, 10 * half_second))
    assert readings.rate("SubmitJob") == 20.0
    assert readings.rate("DescribeJobs") == 0.0
    assert readings.per_second("SubmitJob", 3) == [20.0, 20.0, 20.0]
    assert len(readings.per_second("SubmitJob", 10)) == 4
