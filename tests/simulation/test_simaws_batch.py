"""SimAWS's Batch: job lives, refusals, listings, stops and retention, under virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.simaws import AwsError, Profile, SimAws

STEADY = Profile(submitted_s=(1, 1), runnable_s=(2, 2), starting_s=(3, 3), running_s=(10, 10))
"""SUBMITTED until 1, RUNNABLE until 3, STARTING until 6, RUNNING until 16 seconds after submission."""


def account(profile: Profile = STEADY, *, seed: int = 1, slots: float | None = None) -> SimAws:
    sim = SimAws(seed=seed, profile=profile)
    sim.add_job_queue("jobs", slots=slots)
    sim.add_job_definition("work")
    return sim


def submit(sim: SimAws, now: float = 0.0, **members: Any) -> str:
    request = {"jobName": "one", "jobQueue": "jobs", "jobDefinition": "work", **members}
    answer = sim.call("SubmitJob", request, now=now)
    assert answer.result is not None, answer.error
    return str(answer.result["jobId"])


def refusal(sim: SimAws, operation: str, arguments: Mapping[str, Any], now: float = 0.0) -> AwsError:
    error = sim.call(operation, arguments, now=now).error
    assert error is not None
    return error


def described(sim: SimAws, job_id: str, now: float) -> dict[str, Any]:
    answer = sim.call("DescribeJobs", {"jobs": [job_id]}, now=now)
    assert answer.result is not None
    [job] = answer.result["jobs"]
    return dict(job)


def listed(sim: SimAws, now: float, **members: Any) -> list[str]:
    answer = sim.call("ListJobs", {"jobQueue": "jobs", **members}, now=now)
    assert answer.result is not None, answer.error
    return [job["jobId"] for job in answer.result["jobSummaryList"]]


def variables(**values: object) -> dict[str, Any]:
    return {"environment": [{"name": name, "value": str(value)} for name, value in values.items()]}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"jobName": ""}, "jobName"),
        ({"jobName": "-x"}, "pattern"),
        ({"jobName": "x" * 129}, "pattern"),
        ({"jobQueue": "other"}, "Job queue other does not exist"),
        ({"jobDefinition": "other"}, "JobDefinition name other does not exist or is not in ACTIVE status"),
        ({"jobDefinition": "work:2"}, "is not in ACTIVE status"),
        ({"arrayProperties": {"size": 1}}, "Array size"),
        ({"arrayProperties": {"size": 10_001}}, "Array size"),
        ({"arrayProperties": {"size": True}}, "Array size"),
        ({"dependsOn": [{"jobId": "x"}] * 21}, "20 dependencies"),
        ({"dependsOn": [{"jobId": "unknown"}]}, "does not exist"),
        ({"dependsOn": [{"type": "N_TO_N"}]}, "requires a jobId"),
        ({"retryStrategy": {"attempts": 11}}, "between 1 and 10"),
        ({"retryStrategy": {"evaluateOnExit": [{"action": "RETRY"}]}}, "RetryAttempts must be provided"),
        ({"timeout": {"attemptDurationSeconds": 59}}, "at least 60"),
        ({"tags": {f"k{n}": "v" for n in range(51)}}, "50 tags"),
        ({"containerOverrides": variables(AWS_BATCH_X=1)}, "AWS_BATCH"),
        ({"parameters": {"p": "x" * 31_000}}, "30 KiB"),
    ],
)
def test_submit_refuses_what_aws_refuses(members: dict[str, Any], words: str) -> None:
    """A bad SubmitJob is a ClientException that says why, and makes no job."""
    sim = account()
    request = {"jobName": "one", "jobQueue": "jobs", "jobDefinition": "work", **members}
    error = refusal(sim, "SubmitJob", request)
    assert (error.code, error.status) == ("ClientException", 400)
    assert words in error.message
    assert sim.history.jobs == []


@pytest.mark.parametrize("change", [{"state": "DISABLED"}, {"status": "INVALID"}])
def test_a_queue_that_is_not_enabled_and_valid_accepts_nothing_and_finishes_what_it_has(change: Any) -> None:
    """A disabled or invalid queue refuses new jobs; the ones it has run on."""
    sim = account()
    job_id = submit(sim)
    sim.set_job_queue("jobs", **change)
    request = {"jobName": "two", "jobQueue": "jobs", "jobDefinition": "work"}
    assert "ENABLED" in refusal(sim, "SubmitJob", request).message
    assert described(sim, job_id, 16)["status"] == "SUCCEEDED"


@pytest.mark.parametrize("name", ["work", "work:1", "{arn}:1", "{arn}"])
def test_a_definition_is_found_by_each_of_its_four_names(name: str) -> None:
    """Name, name:revision, ARN and ARN without revision all name a definition; without a revision it is the latest."""
    sim = account()
    sim.add_job_definition("work")
    reference = name.format(arn="arn:aws:batch:us-east-1:123456789012:job-definition/work")
    job = described(sim, submit(sim, jobDefinition=reference), 0)
    assert job["jobDefinition"].endswith("work:1" if name.endswith(":1") else "work:2")


def test_a_job_passes_every_status_at_its_time() -> None:
    """A job is SUBMITTED, RUNNABLE, STARTING, RUNNING and SUCCEEDED when its drawn times say so, and says no more."""
    sim = account()
    job_id = submit(sim)
    seen = [described(sim, job_id, now)["status"] for now in (0.5, 1, 2.9, 3, 6, 15.9, 16)]
    assert seen == ["SUBMITTED", "RUNNABLE", "RUNNABLE", "STARTING", "RUNNING", "RUNNING", "SUCCEEDED"]
    job = described(sim, job_id, 100)
    assert (job["createdAt"], job["startedAt"], job["stoppedAt"]) == (0, 6_000, 16_000)
    assert job["container"]["exitCode"] == 0
    assert len(job["attempts"]) == 1


def test_a_job_shows_no_more_than_has_happened() -> None:
    """Before RUNNING there is no startedAt, before an attempt's end no attempt and no exit code."""
    sim = account()
    job_id = submit(sim)
    starting, running = described(sim, job_id, 3), described(sim, job_id, 7)
    assert "startedAt" not in starting
    assert "logStreamName" not in starting["container"]
    assert running["attempts"] == []
    assert "exitCode" not in running["container"]
    assert running["container"]["logStreamName"].startswith("work/default/")


def test_a_retry_goes_back_to_runnable_and_keeps_its_attempts() -> None:
    """A failed attempt with attempts left is RUNNABLE again, with the attempt listed; the second one may succeed."""
    sim = account()
    job_id = submit(
        sim, retryStrategy={"attempts": 3}, containerOverrides=variables(SIM_EXIT=5, SIM_FAIL_ATTEMPTS=1, SIM_SECONDS=4)
    )
    again = described(sim, job_id, 10)
    assert again["status"] == "RUNNABLE"
    assert [attempt["container"]["exitCode"] for attempt in again["attempts"]] == [5]
    final = described(sim, job_id, 100)
    assert final["status"] == "SUCCEEDED"
    assert [attempt["container"]["exitCode"] for attempt in final["attempts"]] == [5, 0]
    assert final["attempts"][0]["stoppedAt"] < final["attempts"][1]["startedAt"]


@pytest.mark.parametrize(
    ("rules", "attempts"),
    [
        ([{"onExitCode": "5", "action": "EXIT"}], 1),
        ([{"onExitCode": "5", "action": "retry"}, {"onReason": "*", "action": "EXIT"}], 3),
        ([{"onExitCode": "6", "action": "EXIT"}], 3),
        ([{"onStatusReason": "Essential*", "action": "EXIT"}], 1),
        ([{"onStatusReason": "Host EC2*", "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}], 1),
    ],
)
def test_evaluate_on_exit_decides_by_its_first_match(rules: list[dict[str, str]], attempts: int) -> None:
    """The first matching rule decides whether an attempt is repeated; without a match it is."""
    sim = account()
    strategy = {"attempts": 3, "evaluateOnExit": rules}
    job_id = submit(sim, retryStrategy=strategy, containerOverrides=variables(SIM_EXIT=5))
    assert len(described(sim, job_id, 1_000)["attempts"]) == attempts


@pytest.mark.parametrize(
    ("profile", "reason", "status_reason", "exit_code"),
    [
        ("spot_reclaim_p", None, "Host EC2 (instance i-", None),
        ("out_of_memory_p", "OutOfMemoryError: ", "Essential container", 137),
        ("image_pull_p", "CannotPullContainerError: ", "Task failed to start", None),
        ("application_failure_p", None, "Essential container", 1),
    ],
)
def test_failures_read_as_in_aws(profile: str, reason: str | None, status_reason: str, exit_code: int | None) -> None:
    """Each kind of failure has AWS's reasons, and an exit code only if a container ended by itself."""
    sim = account(Profile(**{profile: 1.0}))  # type: ignore[arg-type]
    job = described(sim, submit(sim), 1_000)
    assert job["status"] == "FAILED"
    assert job["statusReason"].startswith(status_reason)
    assert job["container"].get("exitCode") == exit_code
    assert (job["container"].get("reason") or "").startswith(reason or "")
    assert ("startedAt" in job) == (profile != "image_pull_p")


def test_a_timeout_ends_the_attempt_and_is_not_retried() -> None:
    """An attempt that runs past its timeout fails there, whatever attempts are left."""
    sim = account()
    job_id = submit(
        sim,
        timeout={"attemptDurationSeconds": 60},
        retryStrategy={"attempts": 5},
        containerOverrides=variables(SIM_SECONDS=100),
    )
    job = described(sim, job_id, 1_000)
    assert (job["status"], job["statusReason"]) == ("FAILED", "Job attempt duration exceeded timeout")
    assert len(job["attempts"]) == 1
    assert job["stoppedAt"] - job["startedAt"] == 60_000


def test_overrides_too_long_for_ecs_are_accepted_and_fail_later() -> None:
    """SubmitJob takes overrides of more than 8,192 characters; the job then fails without an attempt."""
    sim = account()
    job = described(sim, submit(sim, containerOverrides=variables(LONG="x" * 9_000)), 100)
    assert (job["status"], job["attempts"]) == ("FAILED", [])
    assert "8192" in job["statusReason"]


def test_a_dependant_waits_and_starts_when_all_have_succeeded() -> None:
    """A job with dependencies is PENDING until the last of them has succeeded."""
    sim = account()
    short, long = submit(sim), submit(sim, containerOverrides=variables(SIM_SECONDS=50))
    job_id = submit(sim, dependsOn=[{"jobId": short}, {"jobId": long}])
    assert [described(sim, job_id, now)["status"] for now in (0.5, 5, 55.9, 56)] == [
        "SUBMITTED",
        "PENDING",
        "PENDING",
        "RUNNABLE",
    ]


def test_a_failed_dependency_fails_the_dependants_in_turn() -> None:
    """A failure goes down a chain of dependants, each with AWS's reason and no attempt."""
    sim = account()
    first = submit(sim, containerOverrides=variables(SIM_EXIT=1))
    second = submit(sim, dependsOn=[{"jobId": first}])
    third = submit(sim, dependsOn=[{"jobId": second}])
    assert described(sim, third, 15.9)["status"] == "PENDING"
    job = described(sim, third, 16)
    assert (job["status"], job["statusReason"], job["attempts"]) == ("FAILED", "Dependent Job failed", [])


def test_terminating_a_dependency_fails_what_waits_for_it_at_that_time() -> None:
    """What was planned after a job's end is planned anew when the job is stopped."""
    sim = account()
    first = submit(sim)
    second = submit(sim, dependsOn=[{"jobId": first}])
    assert sim.call("TerminateJob", {"jobId": first, "reason": "enough"}, now=8).error is None
    assert described(sim, second, 8)["status"] == "FAILED"


@pytest.mark.parametrize("now", [0.5, 2, 4, 7])
def test_terminate_ends_a_job_in_every_live_status(now: float) -> None:
    """TerminateJob fails a job that has not ended, with the caller's reason; no retry follows."""
    sim = account()
    job_id = submit(sim, retryStrategy={"attempts": 5})
    sim.call("TerminateJob", {"jobId": job_id, "reason": "not wanted"}, now=now)
    job = described(sim, job_id, now)
    assert (job["status"], job["statusReason"], job["stoppedAt"]) == ("FAILED", "not wanted", now * 1_000)
    assert job.get("isTerminated", False) == (now >= 3)
    assert job.get("isCancelled", False) == (now < 3)


def test_cancel_stops_what_waits_and_leaves_alone_what_runs() -> None:
    """CancelJob fails a RUNNABLE job; on a RUNNING one it succeeds and does nothing."""
    sim = account()
    running, waiting = submit(sim, now=0), submit(sim, now=10)
    for job_id in (waiting, running):
        assert sim.call("CancelJob", {"jobId": job_id, "reason": "r"}, now=12).error is None
    assert described(sim, waiting, 12)["isCancelled"] is True
    assert described(sim, running, 16)["status"] == "SUCCEEDED"


def test_a_pending_job_is_cancelled_only_when_its_dependencies_are_complete() -> None:
    """CancelJob of a PENDING job takes effect at the moment it would have become RUNNABLE."""
    sim = account()
    first = submit(sim)
    second = submit(sim, dependsOn=[{"jobId": first}])
    sim.call("CancelJob", {"jobId": second, "reason": "r"}, now=5)
    assert described(sim, second, 15.9)["status"] == "PENDING"
    assert described(sim, second, 16)["statusReason"] == "r"


def test_a_stop_that_comes_after_the_end_changes_nothing() -> None:
    """TerminateJob on a finished or unknown job is accepted and has no effect."""
    sim = account()
    job_id = submit(sim)
    before = described(sim, job_id, 20)
    for target in (job_id, "unknown", f"{job_id}:3"):
        assert sim.call("TerminateJob", {"jobId": target, "reason": "late"}, now=21).error is None
    assert described(sim, job_id, 22) == before


def test_describe_takes_100_ids_and_leaves_out_the_unknown() -> None:
    """101 ids are refused; unknown ids and other accounts' ARNs are absent; a job's ARN is as good as its id."""
    sim = account()
    job_id = submit(sim)
    assert "Maximum number of jobs" in refusal(sim, "DescribeJobs", {"jobs": ["x"] * 101}).message
    arn = f"arn:aws:batch:us-east-1:123456789012:job/{job_id}"
    foreign = f"arn:aws:batch:us-east-1:999999999999:job/{job_id}"
    answer = sim.call("DescribeJobs", {"jobs": ["unknown", foreign, arn]}, now=0)
    assert answer.result is not None
    assert [job["jobId"] for job in answer.result["jobs"]] == [job_id]


def test_a_new_job_may_be_invisible_for_a_while() -> None:
    """With lags a new job is first absent from DescribeJobs and ListJobs, each for its own time."""
    sim = account(Profile(running_s=(100, 100), describe_lag_s=(2, 2), list_lag_s=(5, 5)))
    job_id = submit(sim)
    name = [{"name": "JOB_NAME", "values": ["one"]}]
    for now, is_described, is_listed in ((1.9, False, False), (2, True, False), (5, True, True)):
        answer = sim.call("DescribeJobs", {"jobs": [job_id]}, now=now)
        assert answer.result is not None
        assert bool(answer.result["jobs"]) == is_described
        assert bool(listed(sim, now, filters=name)) == is_listed


def test_a_finished_job_is_forgotten_after_the_retention_and_stays_in_the_history() -> None:
    """After its retention Batch no longer knows a job; the record of its acceptance stays."""
    sim = account(Profile(running_s=(10, 10), retention_s=100))
    job_id = submit(sim)
    assert described(sim, job_id, 109.9)["status"] == "SUCCEEDED"
    assert sim.call("DescribeJobs", {"jobs": [job_id]}, now=110).result == {"jobs": []}
    assert listed(sim, 110, jobStatus="SUCCEEDED") == []
    assert [job.job_id for job in sim.history.jobs] == [job_id]


def test_forgotten_jobs_leave_memory_and_do_not_disturb_the_others() -> None:
    """After many submissions only jobs that Batch still knows are kept, and all of those."""
    sim = account(Profile(running_s=(1, 1), retention_s=10))
    for number in range(21_000):
        submit(sim, now=number / 100, jobName=f"n{number % 7}")
    assert len(sim.batch.jobs) < 12_000
    assert len(listed(sim, 210, filters=[{"name": "JOB_NAME", "values": ["N3"]}])) == 100
    recent = [job.job_id for job in sim.history.jobs[-900:]]
    assert all(job_id in sim.batch.jobs for job_id in recent)


def test_list_by_status_shows_running_only_unless_asked() -> None:
    """Without jobStatus only RUNNING jobs are listed, newest first."""
    sim = account()
    old, new, latest = submit(sim, now=0), submit(sim, now=1), submit(sim, now=7)
    assert listed(sim, 8) == [new, old]
    assert listed(sim, 8, jobStatus="RUNNABLE") == [latest]


def test_list_by_name_ignores_case_and_status_and_pages() -> None:
    """The JOB_NAME filter compares without case, returns any status, and its pages hold at most 100."""
    sim = account()
    ids = [submit(sim, now=number / 10, jobName="Same" if number % 2 else "sAME") for number in range(250)]
    submit(sim, now=30, jobName="same-not")
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        request = {"jobQueue": "jobs", "filters": [{"name": "JOB_NAME", "values": ["SAME"]}], "jobStatus": "FAILED"}
        answer = sim.call("ListJobs", {**request, **token}, now=40).result
        assert answer is not None
        assert len(answer["jobSummaryList"]) <= 100
        found += [job["jobId"] for job in answer["jobSummaryList"]]
        if "nextToken" not in answer:
            break
        token = {"nextToken": answer["nextToken"]}
    assert found == ids[::-1]
    assert len(listed(sim, 40, filters=[{"name": "JOB_NAME", "values": ["same*"]}])) == 100


@pytest.mark.parametrize(
    "members",
    [
        {"arrayJobId": "x"},
        {"jobStatus": "DONE"},
        {"maxResults": 1_001},
        {"nextToken": "nonsense"},
        {"filters": [{"name": "job_name", "values": ["x"]}]},
        {"filters": [{"name": "JOB_NAME", "values": ["x"]}] * 2},
        {"filters": [{"name": "AFTER_CREATED_AT", "values": ["yesterday"]}]},
    ],
)
def test_list_refuses_what_aws_refuses(members: dict[str, Any]) -> None:
    """Two selectors, unknown statuses, filters or tokens are ClientExceptions."""
    assert refusal(account(), "ListJobs", {"jobQueue": "jobs", **members}).code == "ClientException"


def test_list_filters_by_definition_and_time() -> None:
    """JOB_DEFINITION and the creation-time filters select as documented."""
    sim = account()
    sim.add_job_definition("other")
    first, second = submit(sim, now=1), submit(sim, now=2, jobDefinition="other")
    assert listed(sim, 3, filters=[{"name": "JOB_DEFINITION", "values": ["oth*"]}]) == [second]
    assert listed(sim, 3, filters=[{"name": "BEFORE_CREATED_AT", "values": ["1500"]}]) == [first]
    assert listed(sim, 3, filters=[{"name": "AFTER_CREATED_AT", "values": ["1500"]}]) == [second]


def test_queues_definitions_and_snapshot_are_described() -> None:
    """DescribeJobQueues leaves out the unknown; the snapshot names RUNNABLE jobs; definitions show their revisions."""
    sim = account()
    job_id = submit(sim)
    queues = sim.call("DescribeJobQueues", {"jobQueues": ["jobs", "none"]}, now=0).result
    assert queues is not None
    assert [(q["jobQueueName"], q["state"], q["status"]) for q in queues["jobQueues"]] == [("jobs", "ENABLED", "VALID")]
    snapshot = sim.call("GetJobQueueSnapshot", {"jobQueue": "jobs"}, now=2).result
    assert snapshot is not None
    [front] = snapshot["frontOfQueue"]["jobs"]
    assert front["jobArn"].endswith(job_id)
    definitions = sim.call("DescribeJobDefinitions", {"jobDefinitionName": "work"}, now=2).result
    assert definitions is not None
    assert [d["revision"] for d in definitions["jobDefinitions"]] == [1]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    attempts=st.integers(1, 10),
    instants=st.lists(st.floats(0, 400), min_size=1, max_size=30),
    stop_at=st.none() | st.floats(0, 400),
)
def test_status_never_leaves_the_documented_graph(
    seed: int, attempts: int, instants: list[float], stop_at: float | None
) -> None:
    """Whatever is drawn, asked and stopped: the order of observations is one that AWS documents."""
    profile = Profile(
        submitted_s=(0, 5), runnable_s=(0, 20), starting_s=(0, 20), running_s=(0, 50), stop_s=(0, 10),
        application_failure_p=0.3, spot_reclaim_p=0.2, image_pull_p=0.2,
    )  # fmt: skip
    sim = account(profile, seed=seed)
    job_id = submit(sim, retryStrategy={"attempts": attempts})
    last: tuple[int, int] = (0, 0)
    order = ["SUBMITTED", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"]
    is_stopped = False
    for now in sorted(instants):
        if stop_at is not None and now >= stop_at and not is_stopped:
            sim.call("TerminateJob", {"jobId": job_id, "reason": "stop"}, now=now)
            is_stopped = True
        job = described(sim, job_id, now)
        is_final = job["status"] in ("SUCCEEDED", "FAILED")
        seen = (99 if is_final else len(job["attempts"]), order.index(job["status"]))
        assert seen >= last
        assert last[0] < 99 or seen == last
        assert len(job["attempts"]) <= attempts
        last = seen


def test_the_same_seed_gives_the_same_lives() -> None:
    """Two accounts of one seed answer alike; another seed does not."""
    profile = Profile(submitted_s=(0, 5), running_s=(0, 500), application_failure_p=0.5)
    first, second, other = (account(profile, seed=seed) for seed in (5, 5, 6))
    ids = [[submit(sim, now=n) for n in range(20)] for sim in (first, second, other)]
    assert ids[0] == ids[1] != ids[2]
    answers = [sim.call("DescribeJobs", {"jobs": ids[0]}, now=100).result for sim in (first, second)]
    assert answers[0] == answers[1]
