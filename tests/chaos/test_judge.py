"""The judge of a chaos run: where one thing is wrong it does not pass, and the check that fails is the right one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from controller.simaws.faults import Fault
from tests.chaos.judge import bunching_s, judge, most_in_a_second
from tests.chaos.plan import BRISK, LOW_IN_FLIGHT_MAX, SUBMIT_RATE_PER_S
from tests.chaos.prey import Exit
from tests.chaos.record import Record, extract
from tests.chaos.requests import CANCELLED, REJECTED, SUCCEEDED, Family, Planned, Sent, planned_messages
from tests.chaos.watch import Pages
from tests.chaos.weather import FREQUENT, Weather

CANARY = "the-canary"
Json = dict[str, Any]


def message(family: Family, message_id: str, content: str = "A") -> Sent:
    return Sent(planned=Planned(at_s=0.0, body="{}", family=family, content=content), message_id=message_id)


def final(name: str, message_id: str, outcome: str, **members: Any) -> Json:
    return {"event": name, "event_id": f"id-{message_id}", "message_id": message_id, "outcome": outcome, **members}


def finished(message_id: str, request_id: str) -> Json:
    return final(
        "job.finished",
        message_id,
        "succeeded",
        request_id=request_id,
        job_id=f"job-{request_id}",
        batch_status="SUCCEEDED",
        stopped_at="2026-01-01T00:00:10.000Z",
    )


def job(request_id: str, *, number: int = 0) -> Json:
    suffix = f"-{number}" if number else ""
    tags = {"batch-controller/request-id": request_id}
    return {"at": 5.0, "job_id": f"job-{request_id}{suffix}", "job_name": request_id, "job_queue": "low", "tags": tags}


DETAIL: Json = {
    "status": "SUCCEEDED",
    "stoppedAt": 1_767_225_610_000,
    "parameters": {"content": "A", "secret": CANARY},
}
PLAIN = Family(kind="plain", request_id="r1", endings=SUCCEEDED)
CONFLICTING = Family(kind="conflicting", request_id="r2", endings=SUCCEEDED)
DEPENDENT = Family(kind="dependent", request_id="r7", endings=SUCCEEDED, depends_on="r1")
INVALID = Family(kind="invalid", request_id=None, endings=REJECTED)
EXPIRED = Family(kind="expired", request_id="r4", endings=CANCELLED)


def cloud_events(events: list[tuple[int, Json]]) -> list[Json]:
    return [{"id": e["event_id"], "type": f"batch-controller.{e['event']}.v1", "data": e} for _, e in events]


def letter(message_id: str) -> Json:
    return {"MessageAttributes": {"message_id": {"StringValue": message_id}, "reason": {"StringValue": "bad"}}}


def good() -> Record:
    events = [
        (1, finished("m1", "r1")),
        (2, finished("m1", "r1")),
        (2, finished("m2", "r2")),
        (2, final("request.rejected", "m3", "rejected", error_code="conflict")),
        (2, final("request.rejected", "m5", "rejected", error_code="invalid_json")),
        (2, final("job.cancelled", "m6", "cancelled", request_id="r4")),
        (2, finished("m8", "r7")),
    ]
    return Record(
        sent=[
            message(PLAIN, "m1"),
            message(PLAIN, "m7"),
            message(CONFLICTING, "m2"),
            message(CONFLICTING, "m3", "B"),
            message(INVALID, "m5"),
            message(EXPIRED, "m6"),
            message(DEPENDENT, "m8"),
        ],
        events=events,
        sink=cloud_events(events),
        dead_letters=[letter("m3"), letter("m5")],
        jobs=[job("r1"), job("r2"), job("r7")],
        details={"job-r1": DETAIL, "job-r2": DETAIL, "job-r7": {**DETAIL, "dependsOn": [{"jobId": "job-r1"}]}},
        calls=[{"at": 5.0, "operation": "SubmitJob", "outcome": "ok", "subject": "r1", "size": 1}],
        messages=[{"at": 1.0, "action": "sent", "queue": "requests", "message_id": "m1"}],
        left=0,
        logs={"log-001.jsonl": '{"event":"started"}\n'},
        pages=Pages(scrapes=3, job_queues={"low", "unknown"}),
        exits=[Exit(number=2, why="sigterm", code=0, was_serving=True)],
        stall_s=0.01,
        is_drained=True,
        canary=CANARY,
    )


def failed(record: Record) -> set[str]:
    return {check.title for check in judge(record) if check.findings}


def with_event(record: Record, index: int, **members: Any) -> Record:
    events = [(n, {**e, **members} if i == index else dict(e)) for i, (n, e) in enumerate(record.events)]
    return replace(record, events=events, sink=cloud_events(events))


def without_event(record: Record, *message_ids: str) -> Record:
    events = [(n, dict(e)) for n, e in record.events if e["message_id"] not in message_ids]
    return replace(record, events=events, sink=cloud_events(events))


def test_a_run_in_which_all_is_right_passes() -> None:
    """Redelivered events, duplicates, conflicts, rejections and cancels that ended as they must are no findings."""
    assert failed(good()) == set()


def too_fast(record: Record) -> Record:
    instants = [n / (2 * SUBMIT_RATE_PER_S) for n in range(4 * SUBMIT_RATE_PER_S)]
    return replace(record, calls=[{"at": at, "operation": "SubmitJob", "outcome": "ok"} for at in instants])


def too_many(record: Record) -> Record:
    ids = [f"job-r1-{n}" for n in range(LOW_IN_FLIGHT_MAX + 1)]
    jobs = [{**job("r1"), "job_id": each, "job_name": each} for each in ids]
    return replace(record, jobs=jobs, details=dict.fromkeys(ids, DETAIL))


BREAKS: Mapping[str, tuple[Callable[[Record], Record], str]] = {
    "a second job": (lambda r: replace(r, jobs=[*r.jobs, job("r1", number=2)]), "one request, one job"),
    "a job that AWS Batch does not show": (lambda r: replace(r, details={"job-r1": DETAIL}), "ends as AWS Batch says"),
    "a job of nobody": (
        lambda r: replace(r, jobs=[*r.jobs, job("r9")], details={**r.details, "job-r9": DETAIL}),
        "one request, one job",
    ),
    "a job of a cancelled request": (
        lambda r: replace(r, jobs=[*r.jobs, job("r4")], details={**r.details, "job-r4": DETAIL}),
        "one request, one job",
    ),
    "a dependency that was not named": (
        lambda r: replace(r, details={**r.details, "job-r7": {**DETAIL, "createdAt": 1}}),
        "dependencies kept",
    ),
    "a dependency that has no job": (lambda r: replace(r, jobs=[job("r2"), job("r7")]), "dependencies kept"),
    "no job": (lambda r: replace(r, jobs=[job("r2")]), "one request, one job"),
    "a lost request": (lambda r: without_event(r, "m1"), "one final event each"),
    "a lost rejection": (lambda r: without_event(r, "m5"), "one final event each"),
    "a lost conflict": (lambda r: without_event(r, "m3"), "one final event each"),
    "two final event ids": (lambda r: with_event(r, 1, event_id="another"), "one final event each"),
    "one id, two tales": (lambda r: with_event(r, 1, reason="another"), "one final event each"),
    "an end that is not true": (lambda r: with_event(r, 2, outcome="failed"), "ends as AWS Batch says"),
    "an end of another kind": (lambda r: with_event(r, 5, outcome="rejected"), "ends as AWS Batch says"),
    "a job of another": (lambda r: with_event(r, 2, job_id="job-r1"), "ends as AWS Batch says"),
    "a wrong time": (lambda r: with_event(r, 2, stopped_at="2026-01-01T00:00:11Z"), "ends as AWS Batch says"),
    "a wrong status": (
        lambda r: replace(r, details={**r.details, "job-r2": {**DETAIL, "status": "FAILED"}}),
        "ends as AWS Batch says",
    ),
    "the other content ran": (
        lambda r: replace(r, details={**r.details, "job-r2": {**DETAIL, "parameters": {"content": "B"}}}),
        "ends as AWS Batch says",
    ),
    "an event lost on the way": (lambda r: replace(r, sink=r.sink[:-1]), "both sinks got everything"),
    "a lost dead letter": (lambda r: replace(r, dead_letters=[letter("m3")]), "dead letters"),
    "a dead letter too many": (lambda r: replace(r, dead_letters=[*r.dead_letters, letter("m1")]), "dead letters"),
    "too fast": (too_fast, "calls within limits"),
    "a machine that stands still": (lambda r: replace(r, stall_s=5.0), "calls within limits"),
    "too many in flight": (too_many, "jobs in flight within limits"),
    "a secret in an event": (lambda r: with_event(r, 2, reason=f"bad value {CANARY}"), "no secret told"),
    "a secret in a log": (lambda r: replace(r, logs={"log": f"sent {CANARY}"}), "no secret told"),
    "a secret in a metric": (lambda r: replace(r, pages=Pages(scrapes=1, leaks=1)), "no secret told"),
    "a traceback": (lambda r: replace(r, logs={"log": "Traceback (most recent call last):"}), "no mistake of its own"),
    "an exit by itself": (
        lambda r: replace(r, exits=[Exit(number=1, why="by itself", code=1, was_serving=True)]),
        "processes ended as they should",
    ),
    "a stop that took too long": (
        lambda r: replace(r, exits=[Exit(number=1, why="sigterm", code=None, was_serving=True)]),
        "processes ended as they should",
    ),
    "a second process that stayed": (
        lambda r: replace(r, exits=[Exit(number=1, why="second", code=None, was_serving=True)]),
        "processes ended as they should",
    ),
    "a label of a message": (
        lambda r: replace(r, pages=Pages(scrapes=1, job_queues={"missing"})),
        "metrics and liveness",
    ),
    "a message left": (lambda r: replace(r, left=1), "everything ended"),
    "time was up": (lambda r: replace(r, is_drained=False), "everything ended"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_run_in_which_one_thing_is_wrong_does_not_pass(name: str) -> None:
    """The check that names the broken promise fails."""
    breaks, title = BREAKS[name]
    assert title in failed(breaks(good()))


def test_sends_that_a_stall_bunched_are_told_from_sends_that_were_too_fast() -> None:
    """Even sends read late by a stall are explained by just that stall; sends at twice the rate by no short one."""
    even = [1.01 * n / SUBMIT_RATE_PER_S for n in range(100)]
    stalled = [2.2 if 2.0 <= at < 2.2 else at for at in even]
    assert most_in_a_second(even) == SUBMIT_RATE_PER_S
    assert most_in_a_second(stalled) > SUBMIT_RATE_PER_S
    assert bunching_s(even, SUBMIT_RATE_PER_S) == pytest.approx(0)
    assert 0 < bunching_s(stalled, SUBMIT_RATE_PER_S) <= 0.2 + 1e-9
    assert bunching_s([at / 2 for at in even], SUBMIT_RATE_PER_S) > 1.0


def test_an_extract_has_everything_about_one_request_and_nothing_of_another() -> None:
    """Messages, calls, jobs and events of a request can be read in one place."""
    text = extract(good(), ["m1", "m7"])
    assert all(word in text for word in ("m1", "m7", "SubmitJob", "job-r1", "process 2"))
    assert "r2" not in text


def test_the_same_seed_plans_the_same_messages_of_every_kind() -> None:
    """A run is repeated with its seed; every kind of request is among two thousand, each id in one family."""
    first, again = (planned_messages(2_000, seed=3, lasts_s=100, now=1.8e9) for _ in range(2))
    assert [(m.at_s, m.body) for m in first] == [(m.at_s, m.body) for m in again]
    families = {id(message.family): message.family for message in first}
    assert len(families) == 2_000
    assert len({family.kind for family in families.values()}) == 17
    ids = [family.request_id for family in families.values() if family.request_id is not None]
    assert len(ids) == len(set(ids))
    assert all(json.dumps(message.body) for message in first)


def test_every_fault_of_frequent_calls_is_switched_on_in_a_long_run() -> None:
    """Faults come round in turn, and clearing the weather leaves none."""
    switched: set[tuple[str, str]] = set()
    latest: dict[str, Any] = {}

    def control(path: str, body: dict[str, Any]) -> None:
        if path == "faults":
            latest.update(body)
            for operation, chances in body.get("calls", {}).items():
                assert sum(chances.values()) <= 1
                switched.update((operation, fault) for fault in chances)

    weather = Weather(seed=Random(5).randint(0, 99), timings=BRISK, control=control, met=dict)
    for now in range(0, 600, 5):
        weather.turn(1_000.0 + now)
    assert {(name, fault) for name in FREQUENT for fault in Fault if fault is not Fault.LATE} <= switched
    assert ("SubmitJob", Fault.LATE) in switched
    weather.clear()
    assert not any(latest["calls"].values())
    assert not any(value for name, value in latest["service"].items() if name.endswith("_p"))
    assert latest["denied"] == []
    assert latest["are_credentials_expired"] is False
