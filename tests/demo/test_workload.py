"""The messages of the demonstration: as many as asked for, the same for the same seed, each with an end to come to."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.adapters.batch_model import submit_job_shape
from controller.core.request import CancelRequest, Policy, Rejection, Rules, Scope, SubmitRequest, parse
from controller.demo.cases import ACCOUNT, CASES, JOB_DEFINITIONS, REGION, RETIRED, Case
from controller.demo.workload import Planned, plan

NOW = 1_800_000_000.0
RULES = Rules(
    shapes=submit_job_shape(),
    policy=Policy(allowed_job_definitions=(*JOB_DEFINITIONS, RETIRED)),
    scope=Scope(region=REGION, account=ACCOUNT),
)


@given(count=st.integers(1, 400), seed=st.integers())
@settings(max_examples=40, deadline=None)
def test_there_are_as_many_messages_as_asked_for(count: int, seed: int) -> None:
    """However few, exactly that many are planned, and whoever waits for a request waits for one that is sent."""
    messages = plan(count, seed=seed, now=NOW)
    assert len(messages) == count
    sent_at_once = {message.request_id for message in messages if message.after is None}
    assert all(message.after[0] in sent_at_once for message in messages if message.after is not None)


def test_the_same_seed_gives_the_same_messages() -> None:
    """A run can be repeated; another seed gives other messages."""
    assert plan(200, seed=3, now=NOW) == plan(200, seed=3, now=NOW)
    assert plan(200, seed=3, now=NOW) != plan(200, seed=4, now=NOW)


def test_every_kind_comes_up() -> None:
    """The default number of messages holds every kind in the table, and mostly plain jobs."""
    counts = Counter(message.case for message in plan(300, seed=1, now=NOW))
    assert set(counts) == set(CASES)
    assert counts[Case.PLAIN] > 150


def test_request_ids_are_unique() -> None:
    """Only messages about an earlier request carry an id twice."""
    first = [message.request_id for message in plan(500, seed=2, now=NOW) if message.after is None]
    named = [request_id for request_id in first if request_id is not None]
    assert len(named) == len(set(named))


@pytest.mark.parametrize("message", plan(300, seed=1, now=NOW), ids=lambda message: message.case.value)
def test_a_message_is_what_its_kind_says(message: Planned) -> None:
    """Invalid bodies are rejected with the code that is expected of them, all others are valid requests."""
    parsed = parse(message.body, message_id="m", rules=RULES)
    if message.case in (Case.INVALID, Case.NOT_ALLOWED):
        assert isinstance(parsed, Rejection)
        assert message.ending is not None
        assert (parsed.error_code, parsed.reason_class) == (message.ending.error_code, message.ending.reason_class)
    else:
        assert isinstance(parsed, CancelRequest if message.case is Case.CANCEL else SubmitRequest)
        assert parsed.request_id == (message.request_id or "m")


def test_dependents_name_requests_that_end_as_they_need() -> None:
    """What is to succeed depends on what succeeds, what is to be cancelled on what AWS Batch refuses."""
    messages = plan(300, seed=1, now=NOW)
    outcomes = {message.request_id: message.ending.outcome for message in messages if message.ending is not None}
    wanted = {Case.DEPENDENT: "succeeded", Case.ORPHANED: "rejected"}
    dependents = [message for message in messages if message.case in wanted]
    assert len(dependents) > 5
    for message in dependents:
        (named,) = json.loads(message.body)["dependsOn"]
        assert outcomes[named["requestId"]] == wanted[message.case]


def test_a_conflict_differs_and_a_duplicate_does_not() -> None:
    """A duplicate repeats the body of the request that it waits for, a conflict changes it."""
    messages = plan(300, seed=1, now=NOW)
    first = {message.request_id: message.body for message in messages if message.after is None}
    for message in messages:
        if message.case is Case.DUPLICATE:
            assert message.body == first[message.request_id]
        if message.case is Case.CONFLICT:
            assert json.loads(message.body) != json.loads(first[message.request_id])
