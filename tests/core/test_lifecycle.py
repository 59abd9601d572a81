"""The state machine, fact by fact."""

from dataclasses import replace
from typing import Any

import pytest

from controller.core import lifecycle
from controller.core.events import CATALOGUE, FINAL
from controller.core.job import Attempt, BatchStatus, Job, JobState, Observation, RowKey
from controller.core.lifecycle import (
    Accepted,
    Admitted,
    CancelAsked,
    Described,
    Expired,
    Forgotten,
    FoundByName,
    IllegalTransition,
    LeftInDoubt,
    Missed,
    NeverFound,
    NotAccepted,
    NotFound,
    RefusedForGood,
    apply,
)

ACCEPTED = Accepted(job_id="id-1", job_arn="arn:aws:batch:eu-west-1:123456789012:job/id-1")
DOUBT = LeftInDoubt(reason="no answer", error_code="ReadTimeoutError")


def queued(**members: Any) -> Job:
    given = {
        "key": RowKey(7),
        "request_id": "r-1",
        "message_id": "m-1",
        "source": "https://sqs.eu-west-1.amazonaws.com/123456789012/requests",
        "content_hash": b"\x00" * 32,
        "job_name": "align",
        "batch_job_name": "align-0123456789ab",
        "job_queue": "high",
        "job_queue_ref": "high",
        "job_definition": "bwa:3",
        "received_at": 1000.0,
    }
    return Job(**{**given, **members})


def after(job: Job, *facts: Any, now: float = 2000.0) -> Job:
    for fact in facts:
        step = apply(job, fact, now)
        job = replace(step.job, version=step.job.version + step.is_changed)
    return job


def names(step: lifecycle.Transition) -> list[str]:
    return [event.name for event in step.events]


def seen(status: BatchStatus, *attempts: Attempt, **members: Any) -> Described:
    return Described(seen=Observation(job_id="id-1", status=status, attempts=attempts, **members))


def test_a_request_runs_from_queued_to_succeeded_with_one_final_event() -> None:
    """The plain path: admitted, accepted, described as SUCCEEDED."""
    tracked = after(queued(), Admitted(), ACCEPTED)
    assert (tracked.state, tracked.batch_job_id) == (JobState.TRACKED, "id-1")
    step = apply(tracked, seen(BatchStatus.SUCCEEDED, Attempt(exit_code=0), stopped_at=2100.0), 2101.0)
    assert step.job.state is JobState.SUCCEEDED
    assert names(step) == ["job.status_changed", "job.finished"]
    assert [event.serial for event in step.events][-1] == FINAL
    assert step.events[-1].data["outcome"] == "succeeded"


def test_the_first_intent_and_the_mark_of_doubt_are_kept_for_life() -> None:
    """A row that was in doubt stays marked, with its first intent, whatever follows."""
    job = after(queued(), Admitted(), now=10.0)
    job = after(job, DOUBT, now=20.0)
    job = after(job, NotFound(), Admitted(), now=400.0)
    job = after(job, DOUBT, now=420.0)
    assert (job.first_intent_at, job.doubted_at, job.is_in_doubt) == (10.0, 20.0, True)
    assert after(job, NotFound()).is_marked


def test_a_surely_unsent_marked_row_goes_back_still_marked_and_out_of_doubt() -> None:
    """A throttle on a repeated send needs no new settle time."""
    job = after(queued(), Admitted(), DOUBT, NotFound(), Admitted(), NotAccepted())
    assert (job.state, job.is_marked, job.is_in_doubt) == (JobState.QUEUED, True, False)


def test_only_refusals_of_an_enabled_queue_are_counted() -> None:
    """NotAccepted counts as a refusal only if it says so."""
    assert after(queued(), Admitted(), NotAccepted()).refusals == 0
    assert after(queued(), Admitted(), NotAccepted(is_refusal=True)).refusals == 1


def test_a_refusal_for_good_rejects_with_its_code() -> None:
    """Refused by Batch: final, outcome rejected, code in the event."""
    step = apply(after(queued(), Admitted()), RefusedForGood(reason="no such queue", error_code="x"), 5.0)
    assert step.job.state is JobState.REJECTED
    assert names(step) == ["request.rejected"]
    assert step.events[0].data["error_code"] == "x"
    assert step.events[0].data["reason_class"] == "refused"


def test_a_cancel_ends_a_queued_request_at_once_but_only_marks_a_marked_one() -> None:
    """A marked row may have a job in Batch: it is looked up before it may be cancelled."""
    assert after(queued(), CancelAsked(reason=None)).state is JobState.CANCELLED
    marked = after(queued(), Admitted(), DOUBT, NotFound(), CancelAsked(reason="stop"))
    assert (marked.state, marked.cancel_reason) == (JobState.QUEUED, "stop")
    step = apply(marked, NeverFound(), 9.0)
    assert (step.job.state, step.events[0].data["reason"]) == (JobState.CANCELLED, "stop")


def test_a_cancel_while_submitting_waits_for_the_answer() -> None:
    """Settled as not accepted: cancelled. Accepted: tracked, with the cancel remembered."""
    asked = after(queued(), Admitted(), CancelAsked(reason=None))
    assert asked.state is JobState.SUBMITTING
    assert after(asked, NotAccepted()).state is JobState.CANCELLED
    tracked = after(asked, ACCEPTED)
    assert (tracked.state, tracked.cancel_requested_at) == (JobState.TRACKED, 2000.0)


def test_a_cancel_in_doubt_is_carried_out_once_the_look_up_has_settled_it() -> None:
    """Not found after the settle time is the look-up that a marked row needs before its cancel."""
    asked = after(queued(), Admitted(), DOUBT, CancelAsked(reason=None))
    assert after(asked, NotFound()).state is JobState.CANCELLED


def test_a_marked_row_that_was_throttled_again_is_not_cancelled_without_a_look_up() -> None:
    """NotAccepted says something of the latest send only."""
    job = after(queued(), Admitted(), DOUBT, NotFound(), Admitted(), CancelAsked(reason=None), NotAccepted())
    assert job.state is JobState.QUEUED


def test_a_cancelled_job_ends_failed_with_the_reason_class_cancelled() -> None:
    """Batch reports FAILED with our reason, or says that it was terminated."""
    tracked = after(queued(), Admitted(), ACCEPTED, CancelAsked(reason="too late"))
    by_reason = after(tracked, seen(BatchStatus.FAILED, status_reason="too late"))
    by_flag = after(tracked, seen(BatchStatus.FAILED, is_terminated=True))
    assert {by_reason.reason_class, by_flag.reason_class} == {"cancelled"}
    by_itself = after(tracked, seen(BatchStatus.FAILED, exit_code=3, status_reason="Essential container exited"))
    assert by_itself.reason_class == "application_exit_code"


def test_an_unchanged_observation_writes_nothing() -> None:
    """Same status, same number of attempts: no write, no event."""
    tracked = after(queued(), Admitted(), ACCEPTED, seen(BatchStatus.RUNNABLE))
    assert not apply(tracked, seen(BatchStatus.RUNNABLE), 3000.0).is_changed


def test_a_retry_from_running_to_runnable_is_a_change() -> None:
    """Batch retries: RUNNING → RUNNABLE with one attempt more."""
    running = after(queued(), Admitted(), ACCEPTED, seen(BatchStatus.RUNNING))
    step = apply(running, seen(BatchStatus.RUNNABLE, Attempt(exit_code=1)), 3000.0)
    assert (step.job.batch_status, step.job.attempts) == (BatchStatus.RUNNABLE, 1)
    assert names(step) == ["job.status_changed"]


def test_skipped_states_make_one_change_with_batchs_own_times() -> None:
    """Seen RUNNABLE, then SUCCEEDED: the change carries startedAt and stoppedAt."""
    runnable = after(queued(), Admitted(), ACCEPTED, seen(BatchStatus.RUNNABLE))
    step = apply(runnable, seen(BatchStatus.SUCCEEDED, started_at=2500.0, stopped_at=2600.0), 3000.0)
    data = step.events[0].data
    assert (data["previous_batch_status"], data["batch_status"]) == ("RUNNABLE", "SUCCEEDED")
    assert (data["started_at"], data["stopped_at"]) == ("1970-01-01T00:41:40.000Z", "1970-01-01T00:43:20.000Z")


def test_misses_are_counted_from_the_first_and_cleared_when_seen() -> None:
    """The first miss is kept; an observation clears it, even one that changes nothing else."""
    tracked = after(queued(), Admitted(), ACCEPTED, seen(BatchStatus.RUNNING))
    missed = after(after(tracked, Missed(), now=100.0), Missed(), now=200.0)
    assert (missed.first_missed_at, missed.misses) == (100.0, 2)
    back = apply(missed, seen(BatchStatus.RUNNING), 300.0)
    assert back.is_changed
    assert (back.job.first_missed_at, back.job.misses, back.events) == (None, 0, ())


def test_a_forgotten_job_ends_lost_with_its_misses() -> None:
    """LOST is final and says since when the job was missing."""
    missed = after(queued(), Admitted(), ACCEPTED, Missed(), now=100.0)
    step = apply(missed, Forgotten(), 900.0)
    assert step.job.state is JobState.LOST
    assert step.events[0].data["first_missed_at"] == "1970-01-01T00:01:40.000Z"


def test_a_request_that_is_to_be_cancelled_is_not_admitted() -> None:
    """A cancel that came between plan and admission of a marked row: it waits for its look-up instead."""
    marked = after(queued(), Admitted(), DOUBT, NotFound(), CancelAsked(reason="stop"))
    step = apply(marked, Admitted(), 9.0)
    assert (step.job, step.is_changed) == (marked, False)


def test_a_status_that_is_not_understood_ends_misses_and_changes_nothing_else() -> None:
    """Batch knows the job, so it is not lost; of its status nothing is claimed."""
    running = after(queued(), Admitted(), ACCEPTED, seen(BatchStatus.RUNNING))
    unknown = Described(seen=Observation(job_id="id-1", status=None))
    assert not apply(running, unknown, 5.0).is_changed
    step = apply(after(running, Missed(), Missed()), unknown, 5.0)
    assert (step.job.misses, step.job.first_missed_at, step.job.batch_status) == (0, None, BatchStatus.RUNNING)
    assert step.events == ()


def test_what_is_found_by_name_is_adopted() -> None:
    """An adopted job is TRACKED, and its event is submission.adopted."""
    doubted = after(queued(), Admitted(), DOUBT)
    step = apply(doubted, FoundByName(job_id="id-9", job_arn=None, created_at=1999.0), 2005.0)
    assert (step.job.state, step.job.batch_job_id, step.job.is_in_doubt) == (JobState.TRACKED, "id-9", False)
    assert names(step) == ["submission.adopted"]


def test_expiry_of_a_marked_row_without_a_look_up_is_our_mistake() -> None:
    """Expired says that surely nothing was submitted."""
    marked = after(queued(), Admitted(), DOUBT, NotFound())
    with pytest.raises(AssertionError):
        apply(marked, Expired(), 1.0)


def test_a_fact_that_cannot_be_true_names_state_and_fact() -> None:
    """Nothing happens to a final job."""
    with pytest.raises(IllegalTransition, match="Accepted on a CANCELLED job"):
        apply(after(queued(), CancelAsked(reason=None)), ACCEPTED, 1.0)


def test_every_event_of_the_table_is_in_the_catalogue_with_only_known_members() -> None:
    """Events carry exactly what the catalogue lists, and what it requires."""
    tracked = after(queued(), Admitted(), ACCEPTED)
    doubted = after(queued(), Admitted(), DOUBT)
    steps = [
        lifecycle.accepted(queued(), 1.0),
        apply(after(queued(), Admitted()), ACCEPTED, 1.0),
        apply(after(queued(), Admitted()), DOUBT, 1.0),
        apply(after(queued(), Admitted()), RefusedForGood(reason="r", error_code="c"), 1.0),
        apply(doubted, FoundByName(job_id="i", job_arn=None, created_at=1.0), 1.0),
        apply(queued(), CancelAsked(reason=None), 1.0),
        apply(queued(), Expired(), 1.0),
        apply(tracked, seen(BatchStatus.FAILED, Attempt(exit_code=1), exit_code=1), 1.0),
        apply(after(tracked, Missed()), Forgotten(), 1.0),
    ]
    for event in (event for step in steps for event in step.events):
        spec = CATALOGUE[event.name]
        known = {each.name for each in spec.fields}
        assert set(event.data) <= known, event.name
        given = {name for name, value in event.data.items() if value is not None}
        assert set(spec.required) <= given, event.name
        assert spec.is_final == (event.serial == FINAL), event.name


def test_a_job_that_batch_has_forgotten_is_not_stuck() -> None:
    """It keeps the status that it had last, and may be lost while somebody asks why it waits."""
    waiting = after(
        queued(), Admitted(), ACCEPTED, Described(seen=Observation(job_id="id-1", status=BatchStatus.RUNNABLE))
    )
    assert lifecycle.may_be_stuck(waiting)
    lost = after(waiting, Forgotten())
    assert (lost.state, lost.batch_status) == (JobState.LOST, BatchStatus.RUNNABLE)
    assert not lifecycle.may_be_stuck(lost)
