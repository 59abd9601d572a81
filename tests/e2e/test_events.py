"""EventBridge's events over real sockets: ends are seen within a second though nobody polls; lost events cost time."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from controller.simaws.process import SimProcess
from tests.e2e.conftest import SIM
from tests.e2e.service import Service, assert_one_job_each, bodies, wait_for

pytestmark = pytest.mark.e2e
Make = Callable[..., Service]
JOBS = 30
SELDOM = {"TRACK__INTERVAL_S_MIN": 120, "TRACK__INTERVAL_S_MAX": 120}


@pytest.fixture
def sim() -> Iterator[SimProcess]:
    lag = json.dumps({"event_lag_s": [0.05, 0.3]})
    with SimProcess([*SIM, "--events-queue", "batch-events", "--set", lag]) as process:
        yield process


def _listening(service: Make, sim: SimProcess, **settings: object) -> Service:
    return service(TRACK__EVENTS_QUEUE_URL=sim.queue_urls["batch-events"], **settings)


def _count(controller: Service, outcome: str) -> float:
    for line in controller.metrics().splitlines():
        if line.startswith(f'batch_controller_batch_events_received_total{{outcome="{outcome}"}} '):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no counter of {outcome} events")


def test_an_end_is_seen_within_a_second_though_polling_is_seldom(service: Make, sim: SimProcess) -> None:
    """With two minutes between polls and events at hand, half of the ends are seen within a second or so, all soon, and
    ends share calls."""
    controller = _listening(service, sim, **SELDOM)
    controller.wait_ready()
    controller.send(bodies(JOBS))
    finals = controller.wait_finals(JOBS)
    lags = [
        (datetime.fromisoformat(event["observed_at"]) - datetime.fromisoformat(event["stopped_at"])).total_seconds()
        for event in finals.values()
    ]
    assert statistics.median(lags) < 1.5
    assert max(lags) < 10.0, "far below the interval"
    assert _count(controller, "final") > 0
    wait_for(lambda: _count(controller, "final") + _count(controller, "stale") >= JOBS, what="every end's event came")
    described = sim.control("history/calls?operation=DescribeJobs")["calls"]["DescribeJobs"]
    assert sum(described.values()) < JOBS / 2
    assert controller.stop() == 0
    assert sim.control("stats")["sqs_queues"]["batch-events"]["messages"] == 0
    assert_one_job_each(sim, [f"r{n}" for n in range(JOBS)])


def test_nonsense_and_lost_events_only_cost_time(service: Make, sim: SimProcess) -> None:
    """With half of the events lost, the others twice, and junk in the queue, every job still ends, by polling."""
    sim.control("faults", {"service": {"event_drop_p": 0.5, "event_duplicate_p": 0.5, "sqs_reorder_p": 0.5}})
    controller = _listening(service, sim, TRACK__INTERVAL_S_MAX=5)
    for body in ("{", "{}", json.dumps({"source": "aws.batch", "detail-type": "Batch Job State Change", "detail": []})):
        url = sim.queue_urls["batch-events"]
        controller.call_sqs("SendMessage", {"QueueUrl": url, "MessageBody": body})
    controller.send(bodies(JOBS))
    assert len(controller.wait_finals(JOBS)) == JOBS
    wait_for(lambda: _count(controller, "malformed") == 2, what="malformed messages are counted")
    assert _count(controller, "other") == 1
    assert "batch_controller_events_missed_ratio" in controller.metrics()


def test_a_queue_of_events_that_is_gone_is_named_and_stops_nothing(service: Make, sim: SimProcess) -> None:
    """A wrong queue URL: not ready, and says which; jobs end by polling."""
    url = sim.queue_urls["batch-events"].replace("batch-events", "no-such-queue")
    controller = service(TRACK__EVENTS_QUEUE_URL=url, TRACK__INTERVAL_S_MAX=5)
    controller.send(bodies(3))
    assert len(controller.wait_finals(3)) == 3
    began = time.monotonic()
    assert controller.stop() == 0
    assert time.monotonic() - began < 40.0
