"""SimAWS's array jobs and its capacity of job queues."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.simaws import Profile, SimAws
from tests.simulation.test_simaws_batch import STEADY, account, described, listed, submit, variables

MIXED = Profile(
    runnable_s=(0, 30),
    starting_s=(0, 10),
    running_s=(1, 60),
    application_failure_p=0.2,
    image_pull_p=0.1,
)


def counted(sim: SimAws, job_id: str, size: int, now: float) -> dict[str, int]:
    counts = dict.fromkeys(("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"), 0)
    for index in range(size):
        counts[described(sim, f"{job_id}:{index}", now)["status"]] += 1
    return counts


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    slots=st.none() | st.integers(1, 5),
    stopped=st.none() | st.integers(0, 11),
    instants=st.lists(st.floats(0.5, 400), min_size=1, max_size=8),
)
def test_the_summary_counts_what_the_children_say(
    seed: int, slots: int | None, stopped: int | None, instants: list[float]
) -> None:
    """At any time, with retries, limits and stops, statusSummary is the count of the children's statuses."""
    sim = account(MIXED, seed=seed, slots=slots)
    job_id = submit(sim, arrayProperties={"size": 12}, retryStrategy={"attempts": 3})
    for number, now in enumerate(sorted(instants)):
        if number == 2 and stopped is not None:
            sim.call("TerminateJob", {"jobId": f"{job_id}:{stopped}", "reason": "r"}, now=now)
        summary = described(sim, job_id, now)["arrayProperties"]["statusSummary"]
        assert summary == counted(sim, job_id, 12, now)
        running = summary["STARTING"] + summary["RUNNING"]
        assert slots is None or running <= slots


def test_an_array_parent_is_pending_until_its_last_child_has_ended() -> None:
    """The parent goes SUBMITTED, PENDING, SUCCEEDED, and ends with its last child."""
    sim = account()
    job_id = submit(sim, arrayProperties={"size": 3})
    assert [described(sim, job_id, now)["status"] for now in (0.5, 1, 15.9, 16)] == [
        "SUBMITTED",
        "PENDING",
        "PENDING",
        "SUCCEEDED",
    ]
    assert described(sim, job_id, 20)["stoppedAt"] == 16_000


def test_children_exist_only_once_they_are_spawned() -> None:
    """Before the parent is PENDING its children are unknown; afterwards they are described and listed by the parent."""
    sim = account()
    job_id = submit(sim, arrayProperties={"size": 3})
    assert sim.call("DescribeJobs", {"jobs": [f"{job_id}:0"]}, now=0.5).result == {"jobs": []}
    assert described(sim, f"{job_id}:2", 7)["arrayProperties"] == {"index": 2}
    assert sim.call("DescribeJobs", {"jobs": [f"{job_id}:3", f"{job_id}:x"]}, now=7).result == {"jobs": []}
    page = sim.call("ListJobs", {"arrayJobId": job_id, "maxResults": 2}, now=7).result
    assert page is not None
    rest = sim.call("ListJobs", {"arrayJobId": job_id, "nextToken": page["nextToken"]}, now=7).result
    assert rest is not None
    found = [job["jobId"] for job in page["jobSummaryList"] + rest["jobSummaryList"]]
    assert found == [f"{job_id}:{index}" for index in range(3)]
    assert listed(sim, 7, jobStatus="PENDING") == [job_id]


def test_one_failed_child_fails_the_parent() -> None:
    """A child terminated alone makes the parent FAILED, once the others are done."""
    sim = account()
    job_id = submit(sim, arrayProperties={"size": 3})
    sim.call("TerminateJob", {"jobId": f"{job_id}:1", "reason": "r"}, now=8)
    assert described(sim, job_id, 15)["status"] == "PENDING"
    job = described(sim, job_id, 16)
    assert (job["status"], job["statusReason"]) == ("FAILED", "Array Child Job failed")


@pytest.mark.parametrize("now", [0.5, 8.0])
def test_terminating_the_parent_ends_all_children(now: float) -> None:
    """TerminateJob of an array job ends it and every child, whether they were spawned or not."""
    sim = account()
    job_id = submit(sim, arrayProperties={"size": 3})
    sim.call("TerminateJob", {"jobId": job_id, "reason": "all of it"}, now=now)
    job = described(sim, job_id, now)
    assert (job["status"], job["statusReason"]) == ("FAILED", "all of it")
    if now > 1:
        assert job["arrayProperties"]["statusSummary"]["FAILED"] == 3


def test_ten_thousand_children_cost_numbers_not_objects() -> None:
    """A 10,000-child array keeps no object per child."""
    sim = account()
    job_id = submit(sim, arrayProperties={"size": 10_000})
    assert described(sim, job_id, 7)["arrayProperties"]["statusSummary"]["RUNNING"] == 10_000
    children = sim.batch.jobs[job_id].children
    assert children is not None
    assert len(children._placed_at) == 10_000
    assert children._retried == {}
    assert children._stops == {}


def test_a_limited_queue_runs_so_many_at_once_first_in_first_out() -> None:
    """With two vCPUs two jobs run, the rest is RUNNABLE, and places go in order of submission."""
    sim = account(slots=2)
    ids = [submit(sim, now=n / 100) for n in range(5)]
    states = [described(sim, job_id, 10)["status"] for job_id in ids]
    assert states == ["RUNNING", "RUNNING", "RUNNABLE", "RUNNABLE", "RUNNABLE"]
    ends = [described(sim, job_id, 1_000)["stoppedAt"] for job_id in ids]
    assert ends == sorted(ends)
    assert ends[2] - ends[0] == 13_000


def test_asking_rarely_or_often_makes_no_difference() -> None:
    """A limited queue gives the same lives whether it is looked at every second or once at the end."""

    def ends(every: int) -> list[Any]:
        sim = account(MIXED, slots=3)
        ids = [submit(sim, now=n, retryStrategy={"attempts": 2}) for n in range(20)]
        for now in range(20, 600, every):
            sim.call("DescribeJobs", {"jobs": ids}, now=now)
        return [described(sim, job_id, 10_000) for job_id in ids]

    assert ends(1) == ends(300)


def test_a_stopped_job_frees_its_place_for_the_next() -> None:
    """When a running job is terminated, the next waiting one starts then."""
    sim = account(slots=1)
    first, second = submit(sim), submit(sim)
    sim.call("TerminateJob", {"jobId": first, "reason": "r"}, now=8)
    assert described(sim, second, 8)["status"] == "STARTING"


def test_a_cancelled_waiting_job_takes_no_place() -> None:
    """A job cancelled while RUNNABLE never starts, and the one after it does in its stead."""
    sim = account(slots=1)
    _, second, third = submit(sim), submit(sim), submit(sim)
    sim.call("CancelJob", {"jobId": second, "reason": "r"}, now=5)
    assert described(sim, third, 16)["status"] == "STARTING"
    assert described(sim, second, 1_000)["attempts"] == []


def test_a_job_larger_than_its_queue_waits_for_ever_until_the_limit_is_raised() -> None:
    """A job that asks for more vCPUs than there are stays RUNNABLE; raising or lifting the limit lets it start."""
    sim = account(slots=1)
    requirement = {"resourceRequirements": [{"type": "VCPU", "value": "4"}]}
    large, small = submit(sim, containerOverrides=requirement), submit(sim, now=0.1)
    assert described(sim, small, 500)["status"] == "RUNNABLE"
    sim.set_job_queue_slots("jobs", None)
    assert described(sim, large, 501)["status"] == "STARTING"
    assert described(sim, small, 520)["status"] == "SUCCEEDED"


def test_a_dependant_of_a_job_that_waits_for_capacity_is_planned_when_that_has_a_place() -> None:
    """Dependencies work across queues with limits, whose jobs' ends are not known in advance."""
    sim = account(STEADY, slots=1)
    sim.add_job_queue("free")
    ids = [submit(sim) for _ in range(3)]
    last = submit(sim, jobQueue="free", dependsOn=[{"jobId": ids[2]}], containerOverrides=variables(SIM_SECONDS=1))
    ended = described(sim, ids[2], 1_000)["stoppedAt"]
    assert described(sim, last, 1_000)["startedAt"] == ended + 5_000


def test_children_that_wait_stand_at_the_front_of_their_queue() -> None:
    """One by one, where their array stands; of a blocked queue the first of them tells why."""
    sim = account(STEADY, slots=1)
    first = submit(sim, arrayProperties={"size": 3})
    second = submit(sim, now=0.1)
    sim.advance(15)
    sim.block_job_queue("jobs", "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none")
    answer = sim.call("GetJobQueueSnapshot", {"jobQueue": "jobs"}, now=500).result
    front = [row["jobArn"].partition(":job/")[2] for row in answer["frontOfQueue"]["jobs"]]
    waiting = [f"{first}:{n}" for n in range(3) if described(sim, f"{first}:{n}", 500)["status"] == "RUNNABLE"]
    assert front == [*waiting, second]
    assert len(waiting) >= 1
    reasons = [described(sim, job_id, 500).get("statusReason") for job_id in front]
    assert reasons == ["CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - none", *[None] * (len(front) - 1)]
