"""SimAWS's faults, limits and history."""

from __future__ import annotations

from typing import Any

import pytest

from controller.simaws import Answer, Delivery, Fault, Profile, SimAws
from tests.simulation.test_simaws_batch import account, listed, submit
from tests.simulation.test_simaws_sqs import call, queue, receive, send

JOB = {"jobName": "one", "jobQueue": "jobs", "jobDefinition": "work"}
SHORT = Profile(running_s=(1, 1))


def struck(fault: Fault) -> tuple[SimAws, Answer]:
    sim = account(SHORT)
    sim.faults.script("SubmitJob", [fault])
    return sim, sim.call("SubmitJob", JOB, now=1)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.THROTTLE, (429, "TooManyRequestsException")),
        (Fault.ERROR_500, (500, "ServerException")),
        (Fault.ERROR_503, (503, "ServiceUnavailable")),
        (Fault.ACCESS_DENIED, (403, "AccessDeniedException")),
        (Fault.EXPIRED_TOKEN, (403, "ExpiredTokenException")),
        (Fault.RESET, Delivery.RESET),
        (Fault.CLOSE, Delivery.CLOSE),
        (Fault.HANG, Delivery.HANG),
    ],
)
def test_a_fault_before_the_call_leaves_nothing_behind(fault: Fault, expected: object) -> None:
    """A call struck before it took effect made no job, and is in the history as struck."""
    sim, answer = struck(fault)
    seen = answer.delivery if answer.error is None else (answer.error.status, answer.error.code)
    assert seen == expected
    assert sim.history.jobs == []
    assert [(c.outcome, c.subject) for c in sim.history.calls("SubmitJob")] == [(fault.value, "one")]
    assert sim.call("SubmitJob", JOB, now=2).error is None


@pytest.mark.parametrize(
    ("fault", "delivery"),
    [
        (Fault.ERROR_500_AFTER, Delivery.ANSWER),
        (Fault.RESET_AFTER, Delivery.RESET),
        (Fault.CLOSE_AFTER, Delivery.CLOSE),
        (Fault.HANG_AFTER, Delivery.HANG),
        (Fault.TRUNCATE_AFTER, Delivery.TRUNCATE),
        (Fault.NOT_JSON_AFTER, Delivery.NOT_JSON),
        (Fault.BLOCKED_AFTER, Delivery.BLOCKED),
        (Fault.EMPTY_AFTER, Delivery.ANSWER),
    ],
)
def test_a_fault_after_the_call_leaves_a_job_that_the_caller_does_not_know(fault: Fault, delivery: Delivery) -> None:
    """A call struck after it took effect made exactly one job, whatever the caller sees."""
    sim, answer = struck(fault)
    assert answer.delivery is delivery
    if delivery is Delivery.ANSWER:
        assert answer.error is not None or answer.result == {}
    assert len(sim.history.jobs) == 1
    assert len(listed(sim, 1, filters=[{"name": "JOB_NAME", "values": ["one"]}])) == 1


def test_a_late_submission_is_accepted_after_the_caller_gave_up() -> None:
    """LATE leaves the caller hanging; the job appears up to ``late_s`` later, by itself."""
    sim = account(SHORT)
    sim.faults.service.late_s = (40, 40)
    sim.faults.script("SubmitJob", [Fault.LATE])
    assert sim.call("SubmitJob", JOB, now=1).delivery is Delivery.HANG
    assert sim.next_change_at() == 41
    name = [{"name": "JOB_NAME", "values": ["one"]}]
    assert listed(sim, 40.9, filters=name) == []
    assert len(listed(sim, 50, filters=name)) == 1
    assert [job.at for job in sim.history.jobs] == [41]


def test_a_late_submission_to_a_queue_disabled_since_is_refused_unheard() -> None:
    """A late acceptance is judged by the queue as it is then."""
    sim = account(SHORT)
    sim.faults.script("SubmitJob", [Fault.LATE])
    sim.call("SubmitJob", JOB, now=1)
    sim.set_job_queue("jobs", state="DISABLED")
    sim.advance(1_000)
    assert sim.history.jobs == []


def test_faults_can_be_switched_at_any_time() -> None:
    """Probabilities of one operation or of all hold until they are changed or cleared."""
    sim = account(SHORT)
    sim.faults.set_call("*", {"throttle": 1.0})
    assert sim.call("SubmitJob", JOB, now=1).error is not None
    sim.faults.set_call("SubmitJob", {})
    assert sim.call("SubmitJob", JOB, now=1).error is None
    assert sim.call("DescribeJobs", {"jobs": []}, now=1).error is not None
    sim.faults.clear()
    assert sim.call("DescribeJobs", {"jobs": []}, now=1).error is None


@pytest.mark.parametrize(
    "settings",
    [
        {"cals": {}},
        {"calls": {"SubmitJob": {"explode": 0.5}}},
        {"calls": {"SubmitJob": {"throttle": 0.6, "reset": 0.6}}},
        {"service": {"event_drop": 1}},
        {"service": {"event_drop_p": 1.5}},
        {"service": {"late_s": [5, 1]}},
    ],
)
def test_a_wrong_setting_is_refused_and_changes_nothing(settings: dict[str, Any]) -> None:
    """Unknown faults and impossible probabilities are errors."""
    sim = account(SHORT)
    with pytest.raises(ValueError, match=r"unknown|probabilit|explode|range|must be"):
        sim.faults.update({"service": {"slow_s": [9, 9]}, **settings} if "service" not in settings else settings)
    assert sim.faults.service.slow_s == (1.0, 10.0)
    assert sim.call("SubmitJob", JOB, now=1).error is None


def test_denied_and_expired() -> None:
    """A denied pair of queue and definition is AccessDenied, others are not; expired credentials strike every call."""
    sim = account(SHORT)
    sim.faults.denied = {"SubmitJob/jobs/work"}
    sim.add_job_definition("other")
    answers = [sim.call("SubmitJob", {**JOB, "jobDefinition": name}, now=1) for name in ("work", "other")]
    assert [answer.error is None for answer in answers] == [False, True]
    sim.faults.are_credentials_expired = True
    for operation in ("DescribeJobs", "ReceiveMessage", "GetCallerIdentity"):
        error = sim.call(operation, {}, now=1).error
        assert error is not None
        assert error.code.startswith("ExpiredToken")


def test_rates_are_held_by_token_buckets() -> None:
    """50 calls at once pass, the next is throttled, and tokens come back at the rate; a lower factor lowers it."""
    sim = account(Profile(batch_rate_per_s=50, operation_rates_per_s={"ListJobs": 1}))
    ids = {"jobs": ["x"]}
    answers = [sim.call("DescribeJobs", ids, now=1.0) for _ in range(60)]
    assert sum(answer.error is None for answer in answers) == 50
    assert [sim.call("DescribeJobs", ids, now=1.02).error is None for _ in range(2)] == [True, False]
    lists = [sim.call("ListJobs", {"jobQueue": "jobs"}, now=3).error is None for _ in range(3)]
    assert lists == [True, False, False]
    sim.faults.service.rate_factor = 0.1
    assert sum(sim.call("DescribeJobs", ids, now=10).error is None for _ in range(60)) == 5
    assert sim.call("GetCallerIdentity", {}, now=10).error is None


def test_described_ids_may_be_left_out() -> None:
    """With ``describe_omits_p`` an answer lacks ids that exist; the next one may have them."""
    sim = account(Profile(running_s=(1_000, 1_000)))
    ids = [submit(sim, now=1) for _ in range(100)]
    sim.faults.service.describe_omits_p = 0.5
    answer = sim.call("DescribeJobs", {"jobs": ids}, now=2).result
    assert answer is not None
    assert 20 < len(answer["jobs"]) < 80


def test_one_job_may_spoil_a_call_that_describes_others() -> None:
    """DescribeJobs refuses what names a job that is ``undescribed``, and fails for one that is ``indescribable``."""
    sim = account()
    ids = [submit(sim, now=1, tags={"team": team}) for team in ("a", "b", "c")]
    sim.faults.update({"undescribed": ["team=a"], "indescribable": ["team=b"]})
    for asked, status in ((ids[:1], 400), (ids[1:], 500), (ids[2:], None)):
        error = sim.call("DescribeJobs", {"jobs": asked}, now=2).error
        assert (error and error.status) == status
    sim.faults.update({"undescribed": [], "indescribable": []})
    assert sim.call("DescribeJobs", {"jobs": ids}, now=2).error is None


def test_sqs_delivers_twice_and_undeletes() -> None:
    """A duplicate is received by somebody else at once; a deleted message comes back; the history says so."""
    sim, url = queue()
    send(sim, url, "a")
    sim.faults.service.sqs_duplicate_p = 1.0
    first = receive(sim, url, 0)
    sim.faults.clear()
    second = receive(sim, url, 0)
    assert [m["MessageId"] for m in first] == [m["MessageId"] for m in second]
    sim.faults.update({"service": {"sqs_undelete_p": 1.0, "sqs_undelete_s": [50, 50]}})
    call(sim, "DeleteMessage", 1, QueueUrl=url, ReceiptHandle=second[0]["ReceiptHandle"])
    assert receive(sim, url, 50) == []
    assert [m["MessageId"] for m in receive(sim, url, 51)] == [first[0]["MessageId"]]
    assert sim.history.message_counts("q") == {"sent": 1, "received": 3, "duplicated": 2, "deleted": 1}


def test_sqs_batches_fail_in_part_and_receives_come_up_empty() -> None:
    """A failed entry had no effect; an empty receive leaves everything where it is; order may change."""
    sim, url = queue()
    sim.faults.service.sqs_entry_fails_p = 0.5
    entries = [{"Id": str(n), "MessageBody": str(n)} for n in range(10)]
    answer = call(sim, "SendMessageBatch", QueueUrl=url, Entries=entries)
    stored = {entry["Id"] for entry in answer["Successful"]}
    assert 0 < len(stored) < 10
    assert all(not entry["SenderFault"] for entry in answer["Failed"])
    sim.faults.service.sqs_empty_receive_p = 1.0
    assert receive(sim, url) == []
    sim.faults.service.sqs_empty_receive_p = 0.0
    sim.faults.service.sqs_reorder_p = 1.0
    assert {message["Body"] for message in receive(sim, url)} == stored


def test_the_history_counts_windows_names_and_tags() -> None:
    """The busiest window is found wherever it starts; jobs are counted by name and by tag."""
    sim = account(SHORT)
    for now in (0.0, 0.6, 0.7, 1.5, 1.55, 1.6, 3.0):
        submit(sim, now=now, tags={"request": "r1" if now < 1 else "r2"})
    sim.call("ListJobs", {"jobQueue": "jobs"}, now=3.5)
    assert sim.history.calls_in_window_max(["SubmitJob"]) == 4
    assert sim.history.calls_in_window_max() == 4
    assert sim.history.calls_in_window_max(["SubmitJob"], window_s=0.05) == 1
    assert sim.history.jobs_per_name() == {"one": 7}
    assert sim.history.jobs_per_tag("request") == {"r1": 3, "r2": 4}
    summary = sim.history.summary()
    assert (summary["jobs_accepted"], summary["job_names_used_twice"]) == (7, 1)
    assert summary["calls"]["ListJobs"] == {"ok": 1}


def test_reset_forgets_what_happened_and_keeps_what_was_set_up() -> None:
    """After a reset there are no jobs, messages or faults; queues, limits and rules are as before."""
    sim = account(SHORT, slots=1)
    url = sim.add_sqs_queue("q")
    for _ in range(3):
        submit(sim, now=1)
    send(sim, url, "a", now=1)
    sim.faults.set_call("*", {"throttle": 1.0})
    sim.reset()
    assert receive(sim, url, 2) == []
    assert sim.history.summary()["jobs_accepted"] == 0
    ids = [submit(sim, now=2), submit(sim, now=2)]
    assert listed(sim, 2.5) == ids[:1]
