"""What is shown of a request, and why it waits."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from controller.core.admission import QueueLimits, QueueView, WaitingOn
from controller.core.job import BatchStatus, Dependencies, Job, JobState
from controller.core.request_view import (
    WAITS,
    HeldFor,
    Surroundings,
    Wait,
    needed,
    shown,
    shown_needed,
    shown_wait,
    why_it_waits,
)
from controller.metric_table import WAITS as WAIT_SECONDS
from tests.store.engines import NOON, finished, queued, submitting, tracked

HELD = HeldFor(reason="access_denied", since=NOON)
VIEW = QueueView(
    name="high",
    limits=QueueLimits(max_in_flight=7, max_waiting=5),
    in_flight=7,
    waiting=5,
    queued=3,
    is_held=False,
)
BLOCKED: dict[str, Any] = {
    "now": NOON,
    "is_paused": True,
    "queue_hold": HELD,
    "pair_hold": HELD,
    "stopped_by": "denied",
    "is_unsorted": True,
    "is_resting": True,
    "queue": VIEW,
    "waiting_on": WaitingOn.IN_FLIGHT,
}
"""Everything at once."""


def waits(job: Job, **around: Any) -> Wait:
    return why_it_waits(job, Surroundings(**{"now": NOON, **around}))


def test_of_several_causes_the_one_that_would_be_left_is_told() -> None:
    """What is of the request itself, then of its job queue and pair, then of all submission, then of the last plan."""
    around = dict(BLOCKED)
    job = queued(cancel_requested_at=NOON, expires_at=NOON, dependencies=Dependencies.UNMET)
    told = [waits(job, **around).cause]
    for change in ({"cancel_requested_at": None}, {"expires_at": NOON + 1}, {"dependencies": Dependencies.MET}):
        job = dataclasses.replace(job, **change)
        told.append(waits(job, **around).cause)
    for name in ("is_paused", "queue_hold", "pair_hold", "stopped_by", "is_unsorted", "is_resting"):
        around[name] = None
        told.append(waits(job, **around).cause)
    assert told == [
        "cancel",
        "expiry",
        "depends_on",
        "paused",
        "held",
        "held",
        "denied",
        "unsorted",
        "rest",
        "max_in_flight",
    ]


@pytest.mark.parametrize(
    ("around", "cause", "members"),
    [
        ({"waiting_on": WaitingOn.IN_FLIGHT}, "max_in_flight", {"in_flight": 7, "limit": 7}),
        ({"waiting_on": WaitingOn.WAITING}, "max_waiting", {"waiting": 5, "limit": 5}),
        ({"waiting_on": WaitingOn.DOUBT}, "in_doubt", {}),
        ({"waiting_on": WaitingOn.SENDS, "rate_per_s": 12.34567}, "budget_submit", {"rate_per_s": 12.346}),
        ({"waiting_on": WaitingOn.SENDS, "has_concurrency": False}, "submit_concurrency", {}),
        ({"waiting_on": WaitingOn.EMPTY}, "turn", {}),
        ({"waiting_on": WaitingOn.HELD}, "turn", {}),
        ({"waiting_on": WaitingOn.IN_FLIGHT, "queue": None}, "turn", {}),
        ({"waiting_on": None}, "start", {}),
        ({"queue_hold": HELD}, "held", {"reason": "access_denied", "since": "2023-11-14T22:13:20.000Z"}),
    ],
)
def test_the_cause_of_the_last_plan_has_its_numbers(
    around: dict[str, Any], cause: str, members: dict[str, Any]
) -> None:
    """Counts with the limit that they meet, and what else a cause is made of."""
    wait = waits(queued(), **{"queue": VIEW, **around})
    assert (wait.cause, wait.members) == (cause, members)


def test_what_it_depends_on_is_named() -> None:
    """In the detail those that have no job yet; each with its state, if it was received."""
    sent, refused, again = tracked(queued(1, request_id="sent")), finished(queued(2, request_id="no")), queued(3)
    refused = dataclasses.replace(refused, state=JobState.REJECTED)
    lives = {"sent": [sent], "no": [refused], "again": [refused, again]}
    needs = needed(["sent", "no", "again", "never"], lives)
    assert [shown_needed(each) for each in needs] == [
        {"request_id": "again", "is_met": False, "state": "QUEUED"},
        {"request_id": "never", "is_met": False},
        {"request_id": "no", "is_met": False, "state": "REJECTED"},
        {"request_id": "sent", "is_met": True, "state": "TRACKED"},
    ]
    wait = waits(queued(dependencies=Dependencies.UNMET), unmet=["again", "never"])
    assert wait.detail == "it waits until these have a job: again, never"


def test_a_place_that_was_not_counted_to_its_end_says_so() -> None:
    """Beyond the most that is counted there may be more; who is not in the backlog has none."""
    wait = Wait(cause="turn", detail="")
    assert shown_wait(wait, ahead=9, ahead_max=10) == {"cause": "turn", "detail": "", "ahead": 9}
    assert shown_wait(wait, ahead=10, ahead_max=10)["ahead_is_cut"] is True
    assert "ahead" not in shown_wait(wait, ahead=None, ahead_max=10)


def test_a_request_is_shown_by_the_names_of_events() -> None:
    """What has no value is left out; of its message's content, and its hash, nothing is shown."""
    asked = queued(1, request_id="r1", received_at=NOON, traceparent="00-a", job_queue_ref="arn:high", tenant="team")
    record = shown(asked)
    assert record == {
        "request_id": "r1",
        "state": "QUEUED",
        "job_queue": "high",
        "job_definition": "train:3",
        "job_name": "nightly-1",
        "tenant": "team",
        "priority": 0,
        "is_in_doubt": False,
        "message_id": asked.message_id,
        "source": asked.source,
        "received_at": "2023-11-14T22:13:20.000Z",
    }
    assert shown(submitting(asked))["batch_job_name"] == asked.batch_job_name
    job = dataclasses.replace(tracked(asked), batch_status=BatchStatus.RUNNING, attempts=2)
    assert {"state": "TRACKED", "batch_status": "RUNNING", "attempts": 2, "job_id": job.batch_job_id}.items() <= shown(
        job
    ).items()
    assert shown(dataclasses.replace(job, batch_status=None))["batch_status"] == "SUBMITTED"
    over = finished(job, JobState.LOST, reason="Batch no longer knows it", reason_class="lost")
    assert {"outcome": "lost", "reason_class": "lost", "finished_at": "2023-11-14T22:21:40.000Z"}.items() <= shown(
        over
    ).items()


def test_causes_are_a_closed_set_that_agrees_with_the_metric_s() -> None:
    """Those of submission are called as in ``wait_seconds_total``; the rest can't be mistaken for one of it."""
    own = {"cancel", "expiry", "depends_on", "unsorted", "rest", "turn", "start"}
    assert WAITS.keys() - own <= WAIT_SECONDS.keys()
    assert not own & WAIT_SECONDS.keys()
