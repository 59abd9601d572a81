"""Health: live while stages turn, ready while everything outside answers, receiving only while it can be stored."""

from __future__ import annotations

import json

from structlog.testing import capture_logs

from controller.health import INTAKE_BLOCKERS, INTAKE_WAITS_S, REFUSAL_FRESH_S, Health

QUEUE = "https://sqs.eu-central-1.amazonaws.com/111122223333/requests"


class StillClock:
    """Time that moves only when it is told to."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now(self) -> float:
        return self.at + 1_700_000_000

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


def ready_one() -> tuple[Health, StillClock]:
    clock = StillClock()
    health = Health(clock)
    health.expect_queue(QUEUE)
    health.store_ok()
    health.leads(is_leader=True)
    health.worked("sqs:ReceiveMessage", subject=QUEUE)
    assert health.is_ready()[0]
    return health, clock


def test_a_stage_that_stopped_turning_fails_liveness() -> None:
    """Past its limit a stage fails /livez and is named; its next turn heals it."""
    clock = StillClock()
    health = Health(clock)
    health.expect("admit", within_s=60)
    health.expect("track", within_s=60)
    clock.at += 61
    health.turned("track")
    is_live, why = health.is_live()
    assert not is_live
    assert why["stages"]["admit"] == {"ok": False, "age_s": 61.0, "within_s": 60}
    assert why["stages"]["track"]["ok"]
    health.turned("admit")
    assert health.is_live(clock.at)[0]
    assert health.last_turns() == {"admit": clock.now(), "track": clock.now()}
    assert health.turn_limits() == {"admit": 60, "track": 60}


def test_each_part_of_a_stage_must_turn() -> None:
    """That the intake of one SQS queue goes on does not hide that another's hangs; the metric shows that one, too."""
    clock = StillClock()
    health = Health(clock)
    for part in ("a", "b"):
        health.expect("ingest", within_s=60, part=part)
        health.turned("ingest", part=part)
    began_at = clock.now()
    clock.at += 61
    health.turned("ingest", part="b")
    is_live, why = health.is_live()
    assert not is_live
    assert why["stages"]["ingest"] == {"ok": False, "age_s": 61.0, "within_s": 60}
    assert health.last_turns() == {"ingest": began_at}
    health.dismiss("ingest", part="a")
    assert health.is_live()[0]


def test_a_stage_that_ended_as_it_should_is_expected_no_more() -> None:
    """Drained stages don't make a stopping process look dead."""
    clock = StillClock()
    health = Health(clock)
    health.expect("admit", within_s=60)
    health.dismiss("admit")
    clock.at += 1_000
    assert health.is_live() == (True, {"live": True, "stages": {}})


def test_not_ready_before_the_start_is_through() -> None:
    """At first nothing is known: store, queue and role are told as missing, and yet nothing blocks intake."""
    health = Health(StillClock())
    health.expect_queue(QUEUE)
    is_ready, why = health.is_ready()
    assert not is_ready
    assert {name for name, check in why["checks"].items() if not check["ok"]} == {"store", "queues", "leader"}
    assert not any(health.intake_blockers().values())
    json.dumps(why)


def test_a_refused_receive_or_delete_has_its_own_reason() -> None:
    """Each is told while it lasts, of the queues that requests come from, and neither closes the gate: they are tried
    again. The queue of EventBridge's events brings no requests."""
    health, _ = ready_one()
    health.refused("sqs:ReceiveMessage", "AccessDenied", subject="https://h/1/batch-events", is_permission=True)
    assert health.intake_refusals([QUEUE]) == {"receive_refused": False, "delete_refused": False}
    assert not health.is_ready()[0]
    health.refused("sqs:ReceiveMessage", "AccessDenied", subject=QUEUE, is_permission=True)
    assert health.intake_refusals([QUEUE]) == {"receive_refused": True, "delete_refused": False}
    health.worked("sqs:ReceiveMessage", subject=QUEUE)
    health.refused("sqs:DeleteMessageBatch", "AccessDenied", subject=QUEUE, is_permission=True)
    assert health.intake_refusals([QUEUE]) == {"receive_refused": False, "delete_refused": True}
    assert not any(health.intake_blockers().values())


def test_a_queue_of_requests_that_is_not_reached_is_told_apart() -> None:
    """Not before it was asked, nor for want of access, which has a reason of its own; until it answers."""
    health, _ = ready_one()
    health.expect_queue("https://h/1/more")
    health.not_reached("https://h/1/batch-events", "NonExistentQueue")
    health.refused("sqs:ReceiveMessage", "AccessDenied", subject=QUEUE, is_permission=True)
    assert not health.is_unreached([QUEUE, "https://h/1/more"])
    health.not_reached(QUEUE, "NonExistentQueue")
    assert health.is_unreached([QUEUE, "https://h/1/more"])
    health.worked("sqs:ReceiveMessage", subject=QUEUE)
    assert not health.is_unreached([QUEUE, "https://h/1/more"])


def test_a_refused_call_is_named_with_its_remedy() -> None:
    """A refusal makes it not ready and says which call was refused and which permission to look at."""
    health, _ = ready_one()
    health.refused(
        "sqs:SendMessageBatch", "sqs:SendMessageBatch: AccessDenied", subject="https://h/1/events", is_permission=True
    )
    is_ready, why = health.is_ready()
    assert not is_ready
    (text,) = why["checks"]["credentials"]["problem"]
    assert text.startswith("sqs:SendMessageBatch on https://h/1/events: AccessDenied; ")
    assert text.endswith("sqs:SendMessage")
    health.worked("sqs:SendMessageBatch", subject="https://h/1/events")
    assert health.is_ready()[0]


def test_a_refused_call_is_logged_once_and_once_more_when_it_works() -> None:
    """Who reads the logs alone learns of a refusal, its reason and its end; that it goes on adds no line."""
    with capture_logs() as lines:
        health, clock = ready_one()
        for _ in range(3):
            health.refused("batch:DescribeJobs", "AccessDenied", is_permission=True)
            clock.at += REFUSAL_FRESH_S - 1
        health.worked("batch:DescribeJobs")
        health.worked("batch:DescribeJobs")
    assert [(line["event"], line["log_level"], line["call"]) for line in lines] == [
        ("call refused", "error", "batch:DescribeJobs"),
        ("call works again", "info", "batch:DescribeJobs"),
    ]
    assert lines[0]["reason"] == "AccessDenied"


def test_refusals_that_come_and_go_are_logged_once_a_minute() -> None:
    """A permission that is there every other second is two lines a minute; one that stays away is told, too."""
    with capture_logs() as lines:
        health, clock = ready_one()
        for _ in range(300):
            health.refused("batch:DescribeJobs", "AccessDenied", is_permission=True)
            clock.at += 1
            health.worked("batch:DescribeJobs")
            clock.at += 1
    assert [line["event"] for line in lines] == ["call refused", "call works again"] * 10
    with capture_logs() as lines:
        for _ in range(8):
            health.refused("batch:DescribeJobs", "AccessDenied", is_permission=True)
            clock.at += 15
    assert [line["event"] for line in lines] == ["call refused"]


def test_refused_credentials_stop_receiving_and_a_missing_permission_does_not() -> None:
    """Expired credentials block intake; one denied call only makes it not ready."""
    health, _ = ready_one()
    health.refused("batch:SubmitJob", "denied", is_permission=True)
    assert not any(health.intake_blockers().values())
    health.refused("batch:SubmitJob", "ExpiredToken")
    assert health.intake_blockers()["credentials"]
    health.worked("batch:SubmitJob")
    assert not any(health.intake_blockers().values())


def test_an_answer_about_anything_ends_a_refusal_of_the_call_as_such() -> None:
    """Credentials that work for one subject work; what was denied for another subject stays denied."""
    health, _ = ready_one()
    health.refused("batch:SubmitJob", "ExpiredToken")
    health.refused("batch:SubmitJob", "denied", subject="high with train", is_permission=True)
    health.worked("batch:SubmitJob", subject="low with train")
    assert not health.intake_blockers()["credentials"]
    (text,) = health.is_ready()[1]["checks"]["credentials"]["problem"]
    assert text.startswith("batch:SubmitJob on high with train: denied")


def test_intake_s_own_refusals_never_stop_it() -> None:
    """Were receiving stopped because it is refused, nothing would find out that it works again."""
    health, _ = ready_one()
    for call in ("sqs:ReceiveMessage", "sqs:DeleteMessageBatch"):
        health.refused(call, "ExpiredToken")
    assert not any(health.intake_blockers().values())
    assert not health.is_ready()[0]


def test_a_refusal_that_is_not_repeated_fades() -> None:
    """A call that nobody makes any more must not keep the process unready for ever."""
    health, clock = ready_one()
    health.refused("batch:TerminateJob", "ExpiredToken")
    clock.at += REFUSAL_FRESH_S - 1
    assert not health.is_ready()[0]
    clock.at += 2
    assert health.is_ready()[0]


def test_intake_waits_a_minute_for_credentials_of_which_nobody_else_hears() -> None:
    """Where no other call is made any more, a receive finds out whether they are good again."""
    health, clock = ready_one()
    health.refused("batch:DescribeJobQueues", "ExpiredToken")
    clock.at += INTAKE_WAITS_S - 1
    assert health.intake_blockers()["credentials"]
    clock.at += 1
    assert not health.intake_blockers()["credentials"]
    assert not health.is_ready()[0]


def test_credentials_that_work_for_one_call_of_a_service_work_for_the_others() -> None:
    """The refused one may not be made any more. A permission, another service and intake's own calls are another
    matter."""
    health, _ = ready_one()
    health.refused("batch:DescribeJobQueues", "ExpiredToken")
    health.refused("batch:ListJobs", "denied", is_permission=True)
    health.refused("sqs:SendMessageBatch", "ExpiredToken", subject="https://h/1/events")
    health.refused("sqs:DeleteMessageBatch", "ExpiredToken", subject=QUEUE)
    health.worked("batch:SubmitJob")
    problems = health.is_ready()[1]["checks"]["credentials"]["problem"]
    assert [text.partition(" ")[0].rstrip(":") for text in problems] == [
        "batch:ListJobs",
        "sqs:DeleteMessageBatch",
        "sqs:SendMessageBatch",
    ]
    health.worked("sqs:ReceiveMessage", subject=QUEUE)
    problems = health.is_ready()[1]["checks"]["credentials"]["problem"]
    assert [text.partition(" ")[0].rstrip(":") for text in problems] == ["batch:ListJobs", "sqs:DeleteMessageBatch"]


def test_each_queue_must_be_reached_after_its_last_failure() -> None:
    """One queue that fails makes it not ready until that very queue answers; a report without a queue is about all."""
    health, _ = ready_one()
    other = QUEUE + "-2"
    health.expect_queue(other)
    health.worked("sqs:ReceiveMessage", subject=QUEUE)
    assert health.is_ready()[1]["checks"]["queues"]["problem"] == [f"{other}: no successful sqs:ReceiveMessage yet"]
    health.worked("sqs:ReceiveMessage")
    assert health.is_ready()[0]
    health.refused("sqs:ReceiveMessage", "gone", subject=other)
    assert not health.is_ready()[0]
    health.worked("sqs:ReceiveMessage", subject=other)
    assert health.is_ready()[0]


def test_a_failing_store_stops_receiving() -> None:
    """Messages that could not be stored are left in SQS."""
    health, _ = ready_one()
    health.store_failed("disk full")
    assert health.intake_blockers()["store"]
    assert health.is_ready()[1]["checks"]["store"] == {"ok": False, "problem": "disk full"}
    health.store_ok()
    assert health.is_ready()[0]


def test_a_standby_is_ready_and_receives_nothing() -> None:
    """A standby whose role is known is ready to take over, and leaves the messages to the leader."""
    health, _ = ready_one()
    health.leads(is_leader=False)
    assert health.is_ready()[0]
    assert health.is_ready()[1]["leader"] is False
    assert health.intake_blockers()["standby"]
    assert not health.is_leader
    assert tuple(health.intake_blockers()) == INTAKE_BLOCKERS
