"""The proof of the demonstration fails whenever one message did not end as it must, whatever the sums say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from controller.demo.cases import CASES, Case
from controller.demo.cloud import History
from controller.demo.proof import Limits, Proof, Sent, _ends_seen, prove
from controller.demo.readings import Reading
from controller.demo.watch import Seen
from controller.demo.workload import Ending, Planned, Stage

LIMITS = Limits(submit_rate_per_s=40.0, bulk_queue="bulk", bulk_max=2)
JOB = Planned(case=Case.PLAIN, body="{}", request_id="job", ending=Ending(outcome="succeeded", exit_code=0, attempts=1))
FAILING = Planned(
    case=Case.EXIT_CODE,
    body="{}",
    request_id="failing",
    ending=Ending(outcome="failed", reason_class="application_exit_code", exit_code=3, attempts=1),
)
BAD = Planned(
    case=Case.INVALID,
    body="[",
    request_id="bad",
    ending=Ending(outcome="rejected", reason_class="invalid_request", error_code="invalid_json"),
)
AGAIN = Planned(case=Case.DUPLICATE, body="{}", request_id="job", after=("job", Stage.ACCEPTED))
SENT = [Sent(planned=planned, message_id=f"m{number}") for number, planned in enumerate((JOB, FAILING, BAD, AGAIN))]


def finished(message_id: str, request_id: str, outcome: str, exit_code: int, **members: Any) -> dict[str, Any]:
    return {
        "event": "job.finished",
        "event_id": f"e-{message_id}",
        "time": "2030-01-01T00:00:00.000Z",
        "message_id": message_id,
        "request_id": request_id,
        "job_queue": "high",
        "outcome": outcome,
        "exit_code": exit_code,
        "attempts": [{"exit_code": exit_code}],
        **members,
    }


def events() -> dict[str, dict[str, Any]]:
    """The final events of a run in which everything is right, by message id."""
    rejected = {
        "event": "request.rejected",
        "event_id": "e-m2",
        "time": "2030-01-01T00:00:00.000Z",
        "message_id": "m2",
        "outcome": "rejected",
        "reason": "not JSON",
        "reason_class": "invalid_request",
        "error_code": "invalid_json",
    }
    return {
        "m0": finished("m0", "job", "succeeded", 0),
        "m1": finished("m1", "failing", "failed", 3, reason_class="application_exit_code"),
        "m2": rejected,
    }


READING = Reading(
    at=1.0,
    calls=Counter(),
    throttled=0,
    received=Counter(accepted=2, rejected=1, duplicate=1),
    finished=Counter(succeeded=1, failed=1),
    adopted=0,
    in_doubt=0,
    outbox=0,
    limits={},
    ids_described=0,
)
HISTORY = History(
    jobs_per_name=Counter({"job-1": 1, "failing-1": 1}),
    jobs_per_request=Counter({"job": 1, "failing": 1}),
    statuses=Counter(SUCCEEDED=1, FAILED=1),
    submits=Counter(ok=2),
    submits_per_second_max=2,
    messages=Counter(sent=4, received=4, deleted=4),
    messages_left=0,
    dead_letters=1,
)


def proof(
    finals: Iterable[dict[str, Any]] | None = None,
    *,
    reading: Reading = READING,
    history: History = HISTORY,
    unsent: int = 0,
    exit_code: int | None = 0,
) -> Proof:
    seen = Seen()
    for event in events().values() if finals is None else finals:
        seen.fold(event)
    return prove(SENT, unsent, seen, reading, history, LIMITS, exit_code)


def test_a_run_without_a_fault_passes() -> None:
    """Every message as planned, every count equal: right, with nothing to tell."""
    right = proof()
    assert right.is_right
    assert right.differences == []
    assert [(row.expected, row.seen, row.jobs) for row in right.rows] == [(1, 1, 1), (1, 1, 1), (1, 1, 0), (1, 1, 0)]


@pytest.mark.parametrize("lost", ["m0", "m1", "m2"])
def test_a_missing_final_event_fails(lost: str) -> None:
    """A message without an end is named."""
    wrong = proof([event for message_id, event in events().items() if message_id != lost])
    assert not wrong.is_right
    assert "exactly one final event was expected, came: 0" in wrong.differences[0]


def test_a_second_final_event_fails_but_a_second_delivery_does_not() -> None:
    """The same event id twice is one event; another id for the same message is a second end."""
    once = events()
    assert proof([*once.values(), once["m0"]]).is_right
    twice = proof([*once.values(), once["m0"] | {"event_id": "other"}])
    assert not twice.is_right
    assert "came: 2" in twice.differences[0]


@pytest.mark.parametrize(
    ("message_id", "change"),
    [
        ("m0", {"outcome": "failed"}),
        ("m0", {"attempts": [{}, {}]}),
        ("m1", {"exit_code": 4}),
        ("m1", {"reason_class": "unknown"}),
        ("m2", {"error_code": "too_large"}),
    ],
)
def test_an_end_that_says_something_else_fails(message_id: str, change: dict[str, Any]) -> None:
    """Outcome, attempts, exit code, class and code of the reason are compared for each message."""
    altered = events()
    altered[message_id] |= change
    wrong = proof(altered.values())
    assert not wrong.is_right
    assert next(iter(change)) in wrong.differences[0]


def test_two_wrong_ends_that_add_up_fail() -> None:
    """Sums that are right by accident do not pass."""
    altered = events()
    altered["m0"] |= {"outcome": "failed"}
    altered["m1"] |= {"outcome": "succeeded"}
    wrong = proof(altered.values())
    assert not wrong.is_right
    assert len(wrong.differences) == 2


def test_an_end_of_a_duplicate_fails() -> None:
    """A message that was to be dropped has no end of its own."""
    wrong = proof([*events().values(), finished("m3", "job", "succeeded", 0)])
    assert not wrong.is_right
    assert "no event was expected" in wrong.differences[0]


@pytest.mark.parametrize(
    "history",
    [
        replace(HISTORY, jobs_per_name=Counter({"job-1": 2, "failing-1": 1})),
        replace(HISTORY, jobs_per_request=Counter({"job": 2, "failing": 1})),
        replace(HISTORY, jobs_per_request=Counter({"failing": 1})),
        replace(HISTORY, jobs_per_request=Counter({"job": 1, "failing": 1, "bad": 1})),
        replace(HISTORY, jobs_per_name=Counter({"job-1": 1, "failing-1": 1, "stray": 1})),
        replace(HISTORY, statuses=Counter(SUCCEEDED=2)),
        replace(HISTORY, messages_left=1),
        replace(HISTORY, dead_letters=0),
        replace(HISTORY, dead_letters=2),
        replace(HISTORY, submits=Counter(ok=1, reset_after=1)),
        replace(HISTORY, submits_per_second_max=45),
    ],
    ids=["name twice", "job twice", "no job", "job for a rejected one", "stray job", "ended otherwise", "message left",
         "no dead letter", "two dead letters", "answer lost and not noticed", "too fast"],
)  # fmt: skip
def test_what_aws_recorded_decides(history: History) -> None:
    """Events alone are not believed: AWS's own record must agree."""
    assert not proof(history=history).is_right


@pytest.mark.parametrize(
    "reading",
    [
        replace(READING, finished=Counter(succeeded=2, failed=1)),
        replace(READING, outbox=1),
        replace(READING, in_doubt=1),
        replace(READING, received=Counter(accepted=3, rejected=1)),
        replace(READING, received=Counter(accepted=2, rejected=1, duplicate=2)),
    ],
    ids=["miscounted", "undelivered", "in doubt", "no duplicate", "one duplicate too many"],
)
def test_metrics_must_agree(reading: Reading) -> None:
    """Counters that say something else than the events fail the run."""
    assert not proof(reading=reading).is_right


def test_an_unclean_stop_and_unsent_messages_fail() -> None:
    """The controller must drain and exit with 0, unless it is kept; every planned message must have been sent."""
    assert not proof(exit_code=1).is_right
    assert proof(exit_code=None).is_right
    assert not proof(unsent=1).is_right


def test_a_full_queue_must_not_overflow() -> None:
    """More jobs in flight than the limit of the job queue fails the run, even if all end well."""
    started = [
        {"event": "job.submitted", "event_id": f"s{n}", "time": "2030-01-01T00:00:00.000Z", "message_id": f"x{n}",
         "request_id": f"x{n}", "job_queue": "bulk", "batch_status": "SUBMITTED"}
        for n in range(3)
    ]  # fmt: skip
    assert proof([*events().values(), *started[:2]]).is_right
    assert not proof([*events().values(), *started]).is_right


def test_the_table_of_kinds_is_sound() -> None:
    """Only what succeeds or fails has a job; the rest has none."""
    for spec in CASES.values():
        assert spec.has_job == (spec.outcome in ("succeeded", "failed"))


@pytest.mark.parametrize(("lag_s", "is_right"), [(0.4, True), (9.0, False)])
def test_ends_that_are_seen_late_show(lag_s: float, is_right: bool) -> None:
    """Batch's own time of each end is held against the moment at which it was seen."""
    seen = Seen()
    for n in range(3):
        seen.finals[f"m{n}"].append(
            {"stopped_at": "2026-01-01T00:00:00.000Z", "observed_at": f"2026-01-01T00:00:{lag_s:06.3f}Z"}
        )
    seen.finals["rejected"].append({"reason": "never a job"})
    check = _ends_seen(seen)
    assert check.is_right is is_right
    assert f"{lag_s:.1f} s" in check.detail
