"""SimAWS's EventBridge: which job changes make events, what they hold, and how they go astray."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.simaws import FaultPlan, MessageAction, Profile, Rule, SimAws
from tests.simulation.test_simaws_arrays import MIXED
from tests.simulation.test_simaws_batch import STEADY, account, described, submit, variables


def with_rule(profile: Profile = STEADY, *, slots: float | None = None, seed: int = 1, **rule: Any) -> SimAws:
    sim = account(profile, slots=slots, seed=seed)
    sim.add_sqs_queue("events")
    sim.put_rule(Rule(name="r", queue="events", **rule))
    return sim


def events(sim: SimAws, now: float) -> list[dict[str, Any]]:
    """All events delivered up to ``now``, in order of arrival."""
    sim.advance(now)
    url = sim.sqs.url("events")
    found: list[dict[str, Any]] = []
    while True:
        request = {"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 43_200}
        answer = sim.call("ReceiveMessage", request, now=now)
        assert answer.result is not None
        if "Messages" not in answer.result:
            return found
        found += [json.loads(message["Body"]) for message in answer.result["Messages"]]


def statuses(found: list[dict[str, Any]], job_id: str) -> list[str]:
    return [event["detail"]["status"] for event in found if event["detail"]["jobId"] == job_id]


def test_every_change_but_the_submission_makes_one_event() -> None:
    """A job's events are its statuses from RUNNABLE on; nothing comes before it happens."""
    sim = with_rule()
    job_id = submit(sim)
    assert statuses(events(sim, 5.9), job_id) == ["RUNNABLE", "STARTING"]
    assert statuses(events(sim, 100), job_id) == ["RUNNING", "SUCCEEDED"]


def test_an_event_has_awss_shape_and_shows_the_job_as_it_was() -> None:
    """Envelope, ARNs, the resourceArn tag, whole seconds; a final event carries its attempt and exit code."""
    sim = with_rule()
    job_id = submit(sim, now=0.5, tags={"a": "b"})
    starting, *_, final = events(sim, 100)[1:]
    assert (final["source"], final["detail-type"]) == ("aws.batch", "Batch Job State Change")
    assert final["time"] == "1970-01-01T00:00:16Z"
    arn = f"arn:aws:batch:us-east-1:123456789012:job/{job_id}"
    assert final["resources"] == [arn]
    assert final["detail"]["tags"] == {"resourceArn": arn, "a": "b"}
    assert final["detail"]["jobQueue"].endswith(":job-queue/jobs")
    assert final["detail"]["container"]["exitCode"] == 0
    assert len(final["detail"]["attempts"]) == 1
    assert starting["detail"]["attempts"] == []


def test_a_retry_and_a_stop_make_their_events() -> None:
    """RUNNING goes to RUNNABLE by event too; a terminated job's planned end makes none."""
    sim = with_rule()
    job_id = submit(sim, retryStrategy={"attempts": 2}, containerOverrides=variables(SIM_EXIT=1))
    sim.call("TerminateJob", {"jobId": job_id, "reason": "r"}, now=25)
    seen = statuses(events(sim, 1_000), job_id)
    assert seen == ["RUNNABLE", "STARTING", "RUNNING", "RUNNABLE", "STARTING", "RUNNING", "FAILED"]


def test_children_and_parents_make_their_own_events() -> None:
    """Every child of an array job makes events, and the parent its own."""
    sim = with_rule()
    job_id = submit(sim, arrayProperties={"size": 3})
    found = events(sim, 100)
    assert statuses(found, job_id) == ["PENDING", "SUCCEEDED"]
    assert all(statuses(found, f"{job_id}:{n}") == ["RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED"] for n in range(3))


def test_a_rule_selects_queues_and_statuses_and_sees_only_what_comes_after_it() -> None:
    """Events of other queues, other statuses and the past are not delivered."""
    sim = account()
    sim.add_job_queue("other")
    sim.add_sqs_queue("events")
    job_id, elsewhere = submit(sim), submit(sim, jobQueue="other")
    sim.advance(6.5)
    wanted = frozenset({"RUNNING", "SUCCEEDED"})
    sim.put_rule(Rule(name="r", queue="events", job_queues=frozenset({"jobs"}), statuses=wanted))
    found = events(sim, 100)
    assert statuses(found, job_id) == ["SUCCEEDED"]
    assert statuses(found, elsewhere) == []


def test_events_are_dropped_doubled_and_delayed_by_the_plan() -> None:
    """Each event fault shows: none arrives, or two do, or they come late; a dropped one is in the history."""
    for settings_, expected in (
        ({"event_drop_p": 1.0}, 0),
        ({"event_duplicate_p": 1.0}, 8),
        ({"event_delay_p": 1.0, "event_delay_s": [500, 500]}, 0),
    ):
        sim = with_rule()
        sim.faults.update({"service": settings_})
        submit(sim)
        assert len(events(sim, 100)) == expected
        assert len(events(sim, 1_000)) == (4 if "event_delay_p" in settings_ else 0)
        dropped = [r for r in sim.history.messages("events") if r.action is MessageAction.EVENT_DROPPED]
        assert len(dropped) == (4 if "event_drop_p" in settings_ else 0)


def test_nothing_is_scheduled_without_a_rule() -> None:
    """Without a rule jobs leave nothing to do by itself."""
    sim = account(slots=1)
    for _ in range(10):
        submit(sim)
    assert sim.next_change_at() is None


@settings(max_examples=30, deadline=None)
@example(seed=166, slots=3, stops=[(0, 20.0), (2, 20.0)], steps=1)
@given(
    seed=st.integers(0, 1_000),
    slots=st.none() | st.integers(1, 3),
    stops=st.lists(st.tuples(st.integers(0, 5), st.floats(1, 200)), max_size=4),
    steps=st.integers(1, 50),
)
def test_the_last_event_of_each_job_is_its_end(
    seed: int, slots: int | None, stops: list[tuple[int, float]], steps: int
) -> None:
    """With limits, retries, dependencies and stops: events name each change once, and end where DescribeJobs ends."""
    sim = with_rule(MIXED, slots=slots, seed=seed)
    ids = [submit(sim, retryStrategy={"attempts": 2}) for _ in range(3)]
    ids += [submit(sim, dependsOn=[{"jobId": ids[0]}]), submit(sim, dependsOn=[{"jobId": ids[1]}])]
    ids.append(submit(sim, arrayProperties={"size": 3}))
    for number, now in sorted(stops, key=lambda stop: stop[1]):
        sim.call("TerminateJob", {"jobId": ids[number], "reason": "r"}, now=now)
    for now in range(200, 5_000, 4_800 // steps):
        sim.advance(now)
    found = events(sim, 10_000)
    for job_id in [*ids, *(f"{ids[5]}:{n}" for n in range(3))]:
        answer = sim.call("DescribeJobs", {"jobs": [job_id]}, now=10_000).result
        assert answer is not None
        for job in answer["jobs"]:
            seen = statuses(found, job_id)
            assert seen[-1] == job["status"]
            assert sum(status in ("SUCCEEDED", "FAILED") for status in seen) == 1
            assert len(set(seen)) == len(seen) or "retryStrategy" in job


def test_faults_do_not_change_how_jobs_run() -> None:
    """The plan draws from its own chance: with and without faults the same jobs live the same lives."""
    profile = Profile(running_s=(1, 100), application_failure_p=0.5)
    plain, faulty = with_rule(profile), with_rule(profile)
    faulty.faults.update({"service": {"event_drop_p": 0.5, "describe_omits_p": 0.0, "event_duplicate_p": 0.5}})
    assert isinstance(faulty.faults, FaultPlan)
    ids = [[submit(sim, now=n) for n in range(30)] for sim in (plain, faulty)]
    assert ids[0] == ids[1]
    assert [described(plain, i, 500) for i in ids[0]] == [described(faulty, i, 500) for i in ids[1]]
