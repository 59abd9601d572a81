"""The state machine under any sequence of facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.events import FINAL
from controller.core.job import Attempt, BatchStatus, Job, JobState, Observation
from controller.core.lifecycle import (
    LEADS_TO,
    TABLE,
    Accepted,
    Admitted,
    CancelAsked,
    Described,
    Expired,
    Forgotten,
    FoundByName,
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
    """What the callers see to: adoption and its like only for marked rows, expiry only for the others."""
    if (job.state, type(fact)) not in TABLE:
        return False
    if isinstance(fact, FoundByName):
        return job.is_marked
    return not (isinstance(fact, Expired) and job.is_marked)


@settings(max_examples=400)
@given(st.lists(FACTS, max_size=30), st.lists(st.floats(0, 2e9), min_size=31, max_size=31))
def test_no_sequence_of_facts_leaves_the_table(facts: list[Any], times: list[float]) -> None:
    """Only declared states are reached; one final event at most; the mark and what was asked are never lost."""
    job, finals = queued(), 0
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
        assert step.job.state.is_final == (step.job.finished_at is not None)
        ends = [event for event in step.events if event.serial == FINAL]
        assert len(ends) == (step.job.state.is_final and not job.state.is_final)
        finals += len(ends)
        assert step.is_changed or step.events == ()
        job = replace(step.job, version=job.version + step.is_changed)
    assert finals <= 1


def test_every_declared_result_can_be_reached() -> None:
    """LEADS_TO promises nothing that no fact brings about."""
    reached: set[tuple[JobState, type, JobState]] = set()

    @settings(max_examples=1500, database=None)
    @given(st.lists(FACTS, max_size=12))
    def walk(facts: list[Any]) -> None:
        job = queued()
        for fact in facts:
            if is_possible(job, fact):
                step = apply(job, fact, 1.0)
                reached.add((job.state, type(fact), step.job.state))
                job = step.job

    walk()
    declared = {(state, fact, after) for (state, fact), results in LEADS_TO.items() for after in results}
    assert reached <= declared
    assert declared - reached <= {
        # Rare in random walks; test_lifecycle.py has a test of each.
        (JobState.QUEUED, Admitted, JobState.QUEUED),
        (JobState.SUBMITTING, NotFound, JobState.CANCELLED),
        (JobState.SUBMITTING, NotAccepted, JobState.CANCELLED),
        (JobState.TRACKED, Forgotten, JobState.LOST),
        (JobState.TRACKED, Described, JobState.SUCCEEDED),
        (JobState.TRACKED, Described, JobState.FAILED),
        (JobState.QUEUED, CancelAsked, JobState.QUEUED),
        (JobState.QUEUED, NeverFound, JobState.CANCELLED),
        (JobState.QUEUED, FoundByName, JobState.TRACKED),
    }
