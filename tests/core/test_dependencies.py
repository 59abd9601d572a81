"""What the state of other requests means for one that depends on them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from controller.core.dependencies import job_ids, judge
from controller.core.job import Dependencies, Job, JobState
from controller.core.lifecycle import DependenciesMet, DependencyEnded, Fact
from tests.core.test_lifecycle import queued

NOW = 2_000.0
WAIT_S = 500.0


def life(state: JobState, *, job_id: str | None = None, request_id: str = "a") -> Job:
    """A life of another request, in a state."""
    return replace(queued(), request_id=request_id, state=state, batch_job_id=job_id)


def judged(*lives: Job, **changes: Any) -> Fact | None:
    """For a request that depends on ``a``."""
    job = replace(queued(), **{"dependencies": Dependencies.UNMET, "received_at": NOW - 1} | changes)
    return judge(job, ["a"], {"a": lives} if lives else {}, now=NOW, wait_s=WAIT_S)


@pytest.mark.parametrize("state", [JobState.TRACKED, JobState.SUCCEEDED])
def test_a_job_is_all_that_is_waited_for(state: JobState) -> None:
    """Batch itself waits for its end."""
    assert judged(life(state, job_id="j")) == DependenciesMet()


@pytest.mark.parametrize("lives", [(), (life(JobState.QUEUED),), (life(JobState.SUBMITTING),)])
def test_without_a_job_it_waits(lives: tuple[Job, ...]) -> None:
    """Whether or not the other one has come."""
    assert judged(*lives) is None


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.LOST, JobState.CANCELLED, JobState.REJECTED])
def test_a_bad_end_is_the_end_of_what_depends_on_it(state: JobState) -> None:
    """The reason names the request and how it ended; so it is for one that could have been sent already."""
    ended = DependencyEnded(reason=f"request a, which it depends on, ended {state}")
    assert judged(life(state, job_id="j")) == ended
    assert judged(life(state, job_id="j"), dependencies=Dependencies.MET) == ended


def test_a_request_that_is_sent_again_after_a_rejection_counts() -> None:
    """Not the life that was rejected, in whatever order they come."""
    assert judged(life(JobState.REJECTED), life(JobState.QUEUED)) is None
    assert judged(life(JobState.QUEUED), life(JobState.REJECTED)) is None


def test_every_dependency_must_have_a_job_and_one_bad_end_is_enough() -> None:
    """A bad end counts before what is still waited for."""
    job = replace(queued(), dependencies=Dependencies.UNMET, received_at=NOW)
    lives = {"a": [life(JobState.TRACKED, job_id="j")], "b": [life(JobState.QUEUED, request_id="b")]}
    assert judge(job, ["a", "b"], lives, now=NOW, wait_s=WAIT_S) is None
    lives["c"] = [life(JobState.FAILED, job_id="k", request_id="c")]
    fact = judge(job, ["a", "b", "c"], lives, now=NOW, wait_s=WAIT_S)
    assert fact == DependencyEnded(reason="request c, which it depends on, ended FAILED")


def test_nothing_waits_for_ever() -> None:
    """After the bound it ends, and the reason tells whether the other one ever came."""
    old = {"received_at": NOW - WAIT_S}
    assert judged(**old) == DependencyEnded(reason="request a, which it depends on, was not received within 500 s")
    assert judged(life(JobState.QUEUED), **old) == DependencyEnded(
        reason="request a, which it depends on, was not submitted within 500 s"
    )
    assert judged(life(JobState.TRACKED, job_id="j"), **old) == DependenciesMet()
    waiting = replace(queued(), dependencies=Dependencies.UNMET, received_at=NOW - 1_296_000)
    assert judge(waiting, ["a"], {}, now=NOW, wait_s=1_296_000.0) == DependencyEnded(
        reason="request a, which it depends on, was not received within 1296000 s"
    )


@pytest.mark.parametrize("changes", [{"doubted_at": 1.0, "first_intent_at": 1.0}, {"state": JobState.SUBMITTING}])
def test_what_may_have_been_sent_is_left_to_batch(changes: dict[str, Any]) -> None:
    """It may have a job already, which Batch ends when one that it depends on fails."""
    assert judged(life(JobState.FAILED, job_id="j"), dependencies=Dependencies.MET, **changes) is None


def test_batch_is_given_the_jobs_that_it_may_still_have_to_wait_for() -> None:
    """One that has SUCCEEDED may be forgotten by now; one that FAILED is named, so that Batch tells."""
    jobs = [
        life(JobState.TRACKED, job_id="j-a", request_id="a"),
        life(JobState.SUCCEEDED, job_id="j-b", request_id="b"),
        life(JobState.FAILED, job_id="j-c", request_id="c"),
    ]
    assert job_ids(jobs) == {"a": "j-a", "b": None, "c": "j-c"}
