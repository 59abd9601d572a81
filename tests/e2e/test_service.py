"""The real process, end to end, over real sockets."""

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.simaws.process import SimProcess
from tests.e2e.service import FINAL, Service, assert_one_job_each, bodies, get_json, request, wait_for

pytestmark = pytest.mark.e2e
Make = Callable[..., Service]


def test_a_mixed_stream_of_requests_ends_as_it_should(service: Make, sim: SimProcess) -> None:
    """Good, failing, duplicate, array, cancelled and invalid requests each end once, and SIGTERM exits 0."""
    controller = service(SUBMIT__RATE_PER_S=45)
    failing = {"containerOverrides": {"environment": [{"name": "SIM_EXIT", "value": "3"}]}}
    array = request(900, arrayProperties={"size": 5})
    expired = request(901, expiresAt="2020-01-01T00:00:00Z")
    cancel = {"action": "cancel", "requestId": "r902", "reason": "changed my mind"}
    controller.send([json.dumps(cancel)])
    wait_for(lambda: 'outcome="cancel"} 1.0' in _metrics(controller), what="the cancel was received")
    sent = [
        *bodies(30),
        *[json.dumps(request(100 + n, **failing)) for n in range(5)],
        *bodies(5),
        json.dumps(array),
        json.dumps(expired),
        json.dumps(request(902)),
        "not json",
    ]
    controller.send(sent)
    finals = controller.wait_finals(39)
    assert controller.stop() == 0
    by_request = {event.get("request_id", "invalid"): event for event in finals.values()}
    assert len(finals) == len(by_request) == 39
    outcomes = {name: event["outcome"] for name, event in by_request.items()}
    assert outcomes == {
        **{f"r{n}": "succeeded" for n in (*range(30), 900)},
        **{f"r{n}": "failed" for n in range(100, 105)},
        "r901": "cancelled",
        "r902": "cancelled",
        "invalid": "rejected",
    }
    assert by_request["r100"]["exit_code"] == 3
    assert by_request["r100"]["reason_class"] == "application_exit_code"
    assert by_request["r900"]["array_summary"]["SUCCEEDED"] == 5
    assert by_request["r902"]["reason"] == "changed my mind"
    assert_one_job_each(sim, [name for name, outcome in outcomes.items() if outcome in ("succeeded", "failed")])


def _metrics(controller: Service) -> str:
    try:
        return controller.metrics()
    except OSError:
        return ""


def test_sigkill_at_random_moments_neither_loses_nor_doubles_a_request(service: Make, sim: SimProcess) -> None:
    """Killed again and again while it works: one job per request, one final event id each."""
    chance = random.Random(11)
    settings = {"SUBMIT__SETTLE_S": "1", "INTAKE__VISIBILITY_TIMEOUT_S": "2", "SUBMIT__CONCURRENCY": "8"}
    controller = service(**settings)
    count = 150
    controller.send(bodies(count))
    for _ in range(8):
        time.sleep(chance.uniform(0.6, 2.0))
        controller.kill()
        controller.start()
    finals = controller.wait_finals(count)
    assert sorted(event["request_id"] for event in finals.values()) == sorted(f"r{n}" for n in range(count))
    assert_one_job_each(sim, [f"r{n}" for n in range(count)])


def test_requests_wait_for_those_that_they_depend_on(service: Make, sim: SimProcess) -> None:
    """Sent last link first, and killed meanwhile: each job names the one before it, and what depends on a request that
    can't run ends with the reason."""
    controller = service(SUBMIT__SETTLE_S="1", INTAKE__VISIBILITY_TIMEOUT_S="2")
    count = 12
    chain = [request(n, dependsOn=[{"requestId": f"r{n - 1}"}]) for n in range(count - 1, 0, -1)]
    controller.send(map(json.dumps, chain))
    wait_for(lambda: _accepted(controller) == count - 1, what="all but the first link are accepted")
    assert f'backlog_dependent_jobs{{job_queue="high"}} {count - 1}.0' in _metrics(controller).replace(
        "unknown", "high"
    )
    controller.kill()
    controller.start()
    bad = [request(20, jobQueue="missing"), request(21, dependsOn=[{"requestId": "r20"}])]
    controller.send(map(json.dumps, [request(0), *bad]))
    finals = controller.wait_finals(count + 2)
    by_request = {event["request_id"]: event for event in finals.values()}
    assert {by_request[f"r{n}"]["outcome"] for n in range(count)} == {"succeeded"}
    assert by_request["r21"]["reason"] == "request r20, which it depends on, ended REJECTED"
    assert by_request["r21"]["reason_class"] == "dependency_failed"
    assert_one_job_each(sim, [f"r{n}" for n in range(count)])
    started = [by_request[f"r{n}"]["started_at"] for n in range(count)]
    stopped = [by_request[f"r{n}"]["stopped_at"] for n in range(count)]
    assert all(after >= before for before, after in zip(stopped, started[1:], strict=False))


def _accepted(controller: Service) -> int:
    return len({event["request_id"] for event in controller.events() if event["event"] == "request.accepted"})


def test_sigterm_in_the_middle_of_work_leaves_nothing_in_doubt(service: Make, sim: SimProcess) -> None:
    """What was not sent goes back, what was sent is answered: the next start has nothing to settle."""
    controller = service()
    controller.send(bodies(120))
    wait_for(lambda: any(e["event"] == "job.submitted" for e in controller.events()), what="a first submission")
    assert controller.stop() == 0
    assert not any(event["event"] == "submission.in_doubt" for event in controller.events())
    controller.start()
    finals = controller.wait_finals(120)
    assert controller.stop() == 0
    assert not any(event["event"] == "submission.in_doubt" for event in controller.events())
    assert len(finals) == 120
    assert_one_job_each(sim, [f"r{n}" for n in range(120)])


BAD: dict[str, Any] = {
    "broken": "{",
    "not an object": "[1, 2]",
    "unknown member": json.dumps({**request(1), "jobQueu": "x"}),
    "wrong type": json.dumps({**request(2), "retryStrategy": {"attempts": "3"}}),
    "out of range": json.dumps({**request(3), "arrayProperties": {"size": 1}}),
    "too large": json.dumps({**request(4), "parameters": {"p": "x" * 300_000}}),
    "deeply nested": "[" * 10_000 + "]" * 10_000,
    "not a number": '{"requestId": "r5", "priority": NaN}',
    "lone surrogate": '{"requestId": "r6", "jobName": "\\ud800"}',
    "NUL": '{"requestId": "r7", "jobName": "a\\u0000b"}',
    "not allowed": json.dumps({**request(8), "jobQueue": "forbidden"}),
    "no such queue": json.dumps({**request(9), "jobQueue": "missing"}),
    "no such definition": json.dumps({**request(10), "jobDefinition": "missing"}),
}


def test_bad_input_ends_in_the_dead_letter_queue_and_the_good_beside_it_runs(service: Make, sim: SimProcess) -> None:
    """Every bad body ends in one request.rejected with a reason, and whole or cut in the dead-letter queue."""
    controller = service(POLICY__ALLOWED_JOB_QUEUES='["high", "missing"]')
    controller.send([*BAD.values(), *[json.dumps(request(100 + n)) for n in range(10)]])
    finals = controller.wait_finals(len(BAD) + 10)
    rejected = [event for event in finals.values() if event["event"] == "request.rejected"]
    assert len(rejected) == len(BAD)
    assert all(len(event["reason"]) > 15 and event["error_code"] for event in rejected)
    assert sum(event["event"] == "job.finished" for event in finals.values()) == 10
    wait_for(lambda: _metric(controller, 'events_published_total{outcome="published",sink="dead_letter"}') == len(BAD),
             what="all dead letters are sent")  # fmt: skip
    letters = controller.dead_letters()
    assert len(letters) == len(BAD)
    assert {letter["Body"] for letter in letters} >= {BAD["broken"], BAD["no such queue"], BAD["no such definition"]}
    assert all(letter["MessageAttributes"]["reason"]["StringValue"] for letter in letters)


def _metric(controller: Service, name: str) -> float:
    for line in _metrics(controller).splitlines():
        if line.startswith(f"batch_controller_{name} "):
            return float(line.rpartition(" ")[2])
    return 0.0


def test_refused_credentials_make_it_not_ready_and_burn_no_message(service: Make, sim: SimProcess) -> None:
    """While every call is refused, messages stay untouched in SQS; afterwards it goes on by itself."""
    controller = service()
    controller.wait_ready()
    controller.send(bodies(1))
    controller.wait_finals(1)
    refused = {"expired_token": 1.0}
    sim.control("faults", {"calls": {"ReceiveMessage": refused, "DeleteMessageBatch": refused, "SubmitJob": refused}})
    address = f"http://127.0.0.1:{controller.port}/readyz"
    controller.send([json.dumps(request(10 + n)) for n in range(3)])
    status, answer = wait_for(lambda: (found := get_json(address))[0] == 503 and found, what="it is not ready")
    assert status == 503
    assert "sqs:ReceiveMessage" in json.dumps(answer)
    received = sim.control("history/messages?queue=requests")["messages"].get("received", 0)
    assert received <= 4, "what the polls under way still took, nothing afterwards"
    sim.control("faults", method="DELETE")
    assert len(controller.wait_finals(4)) == 4
    wait_for(lambda: get_json(address)[0] == 200, what="it is ready again")
    assert controller.stop() == 0


def test_a_disabled_queue_is_held_and_released_while_another_goes_on(service: Make, sim: SimProcess) -> None:
    """Only the disabled queue's requests wait; both ends of the hold are events and a metric."""
    sim.control("job-queues", {"name": "low", "state": "DISABLED"})
    controller = service()
    controller.send([json.dumps(request(n, jobQueue="low")) for n in range(3)])
    controller.send([json.dumps(request(10 + n)) for n in range(5)])
    controller.wait_finals(5)
    assert {event["request_id"] for event in controller.finals().values()} == {f"r{10 + n}" for n in range(5)}
    wait_for(lambda: _metric(controller, 'queue_held{job_queue="low",reason="queue_disabled"}') == 1, what="held")
    sim.control("job-queues", {"name": "low", "state": "ENABLED"})
    controller.wait_finals(8)
    names = [event["event"] for event in controller.events() if event["event"].startswith("job_queue.")]
    assert names == ["job_queue.held", "job_queue.released"]
    assert_one_job_each(sim, [*(f"r{n}" for n in range(3)), *(f"r{10 + n}" for n in range(5))])


def test_no_final_event_has_two_ids_and_no_log_line_carries_an_events_name(service: Make, sim: SimProcess) -> None:
    """Streams: events on stdout, logs on stderr, never one in the other."""
    controller = service()
    controller.send(bodies(10))
    controller.wait_finals(10)
    lines = [json.loads(line) for line in (controller.directory / "log.jsonl").read_text().splitlines()]
    assert lines
    assert not {line["event"] for line in lines} & {event["event"] for event in controller.events()}
    finals = [event for event in controller.events() if event["event"] in FINAL]
    assert len({event["event_id"] for event in finals}) == len({event["request_id"] for event in finals}) == 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads which signals a process hears from /proc")
@pytest.mark.parametrize("moment", ["the first handler is there", "the store is there"])
def test_a_signal_during_the_start_ends_it_as_a_drain(service: Make, moment: str) -> None:
    """From the first moment at which the process hears SIGTERM, whatever of the start it comes upon, it exits 0."""
    controller = service()
    assert controller.process is not None
    status = Path(f"/proc/{controller.process.pid}/status")

    def hears() -> bool:
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    wait_for(hears, what="the process hears SIGTERM")
    if moment == "the store is there":
        wait_for((controller.directory / "state.db").exists, what="the store is there")
    assert controller.stop() == 0, controller.log_tail()
    assert "Traceback" not in controller.log_tail()


def test_an_intake_that_is_paused_drains(service: Make, sim: SimProcess) -> None:
    """What was accepted goes to its end, what comes then stays in SQS until a start without the setting; and only the
    start that made the store says so."""
    controller = service(SUBMIT__SETTLE_S="1")
    controller.send(bodies(40))
    wait_for(lambda: _accepted(controller) == 40, what="all are accepted")
    controller.kill()
    controller.settings["INTAKE__PAUSED"] = "true"
    controller.start()
    controller.wait_ready()
    controller.send([json.dumps(request(100))])
    assert len(controller.wait_finals(40)) == 40
    assert 'intake_paused{reason="configured"} 1.0' in controller.metrics()
    assert controller.stop() == 0
    assert _accepted(controller) == 40
    del controller.settings["INTAKE__PAUSED"]
    controller.start()
    assert "r100" in {event["request_id"] for event in controller.wait_finals(41).values()}
    lines = (controller.directory / "log.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["event"] == "a new store was made" for line in lines) == 1
