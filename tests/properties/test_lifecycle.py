"""The state machine under any sequence of facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.events import FINAL
from controller.core.job import Attempt, BatchStatus, Dependencies, Job, JobState, Observation
from controller.core.lifecycle import (
    LEADS_TO,
    TABLE,
    Accepted,
    Admitted,
    CancelAsked,
    DependenciesMet,
    DependencyEnded,
    Described,
    Expired,
    Forgotten,
    FoundByName,
    FoundStuck,
    LeftInDoubt,
    Missed,
    NeverFound,
    NotAccepted,
    NotFound,
    RefusedForGood,
    apply,
)
from tests.core.test_lifecycle import queued

FACTS: st.SearchStrategy[Any] = st.one_of(
    st.just(Admitted()),
    st.just(Accepted(job_id="j", job_arn=None)),
    st.builds(NotAccepted, is_refusal=st.booleans()),
    st.just(RefusedForGood(reason="r", error_code="c")),
    st.just(LeftInDoubt(reason="r", error_code="c")),
    st.just(FoundByName(job_id="j", job_arn=None, created_at=1.0)),
    st.just(NotFound()),
    st.just(CancelAsked(reason=None)),
    st.just(DependenciesMet()),
    st.just(DependencyEnded(reason="r")),
    st.just(Expired()),
    st.just(NeverFound()),
    st.just(Missed()),
    st.just(Forgotten()),
    st.builds(
        lambda status, attempts: Described(seen=Observation(job_id="j", status=status, attempts=attempts)),
        st.one_of(st.none(), st.sampled_from(BatchStatus)),
        st.lists(st.just(Attempt()), max_size=3).map(tuple),
    ),
)


def is_possible(job: Job, fact: Any) -> bool:
    """What the callers see to: adoption and its like only for marked rows, expiry only for the others, and no admission
    of what waits for another request."""
    if (job.state, type(fact)) not in TABLE:
        return False
    if isinstance(fact, Admitted):
        return job.dependencies is not Dependencies.UNMET
    if isinstance(fact, FoundByName):
        return job.is_marked
    return not (isinstance(fact, Expired) and job.is_marked)


@settings(max_examples=400)
@given(
    st.sampled_from(Dependencies), st.lists(FACTS, max_size=30), st.lists(st.floats(0, 2e9), min_size=31, max_size=31)
)
def test_no_sequence_of_facts_leaves_the_table(
    dependencies: Dependencies, facts: list[Any], times: list[float]
) -> None:
    """Only declared states are reached; one final event at most; the mark and what was asked are never lost."""
    job, finals = replace(queued(), dependencies=dependencies), 0
    for fact, now in zip(facts, times, strict=False):
        if not is_possible(job, fact):
            continue
        step = apply(job, fact, now)
        assert step.job.state in LEADS_TO[job.state, type(fact)]
        assert job.doubted_at is None or step.job.doubted_at == job.doubted_at
        assert job.first_intent_at is None or step.job.first_intent_at is not None
        assert (step.job.request_id, step.job.batch_job_name) == (job.request_id, job.batch_job_name)
        assert not step.job.is_in_doubt or (step.job.state is JobState.SUBMITTING and step.job.is_marked)
        assert (step.job.state is JobState.TRACKED) <= (step.job.batch_job_id is not None)
        assert (
            step.job.state in (JobState.QUEUED, JobState.CANCELLED) or step.job.dependencies is not Dependencies.UNMET
        )
        assert step.job.state.is_final == (step.job.finished_at is not None)
        ends = [event for event in step.events if event.serial == FINAL]
        assert len(ends) == (step.job.state.is_final and not job.state.is_final)
        finals += len(ends)
        assert step.is_changed or step.events == ()
        job = replace(step.job, version=job.version + step.is_changed)
    assert finals <= 1


def _facts() -> list[Any]:
    seen = [
        Described(seen=Observation(job_id="j", status=status, attempts=(Attempt(),) * attempts))
        for status in (None, *BatchStatus)
        for attempts in (0, 1)
    ]
    return [
        Admitted(),
        Accepted(job_id="j", job_arn=None),
        NotAccepted(),
        NotAccepted(is_refusal=True),
        RefusedForGood(reason="r", error_code="c"),
        LeftInDoubt(reason="r", error_code="c"),
        FoundByName(job_id="j", job_arn=None, created_at=1.0),
        NotFound(),
        CancelAsked(reason=None),
        DependenciesMet(),
        DependencyEnded(reason="r"),
        Expired(),
        NeverFound(),
        Missed(),
        Forgotten(),
        *(FoundStuck(attempts=n, runnable_for_s=1.0, cause="undetermined", detail="", position=None) for n in (0, 1)),
        *seen,
    ]


def _kind(job: Job) -> tuple[Any, ...]:
    """What the table's steps look at."""
    return (
        job.state,
        job.is_marked,
        job.is_in_doubt,
        job.cancel_requested_at is None,
        job.batch_status,
        job.attempts,
        job.first_missed_at is None,
        min(job.refusals, 1),
        job.dependencies,
    )


def test_the_declared_results_are_exactly_those_that_can_be_reached() -> None:
    """All kinds of jobs that any facts lead to, found by walking on from each: LEADS_TO says no more and no less."""
    reached: set[tuple[JobState, type, JobState]] = set()
    starts = [replace(queued(), dependencies=each) for each in Dependencies]
    found = {_kind(job): job for job in starts}
    open_ends = list(found.values())
    while open_ends:
        job = open_ends.pop()
        for fact in _facts():
            if not is_possible(job, fact):
                continue
            after = apply(job, fact, 1.0).job
            reached.add((job.state, type(fact), after.state))
            if _kind(after) not in found:
                found[_kind(after)] = after
                open_ends.append(after)
    assert reached == {(state, fact, after) for (state, fact), results in LEADS_TO.items() for after in results}
