"""Which requests a query asks for, and where a list goes on."""

from __future__ import annotations

import pytest

from controller.core.inquiry import PAGE, PAGE_MAX, BadInquiry, Inquiry, Place, Walk, inquiry_of
from controller.core.job import JobState


def test_nothing_asked_for_is_everything() -> None:
    """A first page of requests of any state, by row key."""
    asked = inquiry_of({})
    assert asked == Inquiry(limit=PAGE)
    assert asked.walks == (Walk.ALL,)


def test_every_member_of_a_query_is_read() -> None:
    """States are one question together, the others narrow it."""
    asked = inquiry_of(
        {
            "state": ["FAILED", "TRACKED"],
            "job_queue": ["high"],
            "tenant": [""],
            "job_definition": ["work:3"],
            "after": ["tracked:17"],
            "limit": ["1000"],
        }
    )
    assert asked == Inquiry(
        states=frozenset({JobState.TRACKED, JobState.FAILED}),
        job_queue="high",
        tenant="",
        job_definition="work:3",
        after=Place(walk=Walk.TRACKED, key=17),
        limit=PAGE_MAX,
    )
    assert asked.walks == (Walk.TRACKED, Walk.ENDED)


def test_live_are_those_that_have_not_ended() -> None:
    """In the order in which requests go."""
    asked = inquiry_of({"state": ["live"]})
    assert asked.states == {JobState.QUEUED, JobState.SUBMITTING, JobState.TRACKED}
    assert asked.walks == (Walk.QUEUED, Walk.SUBMITTING, Walk.TRACKED)
    assert inquiry_of({"state": list(JobState)}) == inquiry_of({})


@pytest.mark.parametrize(
    "place",
    [
        Place(walk=Walk.ALL, key=0),
        Place(walk=Walk.ENDED, key=2**62),
        Place(walk=Walk.QUEUED, key=9, job_queue=3, is_unmet=True, received_at=1_764_533_000.123456),
        Place(walk=Walk.QUEUED, key=9, received_at=1e-7),
    ],
)
def test_a_place_is_read_as_it_was_told(place: Place) -> None:
    """To the last bit."""
    states = {Walk.ALL: [], Walk.ENDED: ["LOST"], Walk.QUEUED: ["QUEUED"]}[place.walk]
    assert inquiry_of({"state": states, "after": [str(place)]}).after == place


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"queue": ["high"]}, "queue: no such parameter; there are state, job_queue, tenant, job_definition, after"),
        ({"state": ["queued"]}, "state: must be one of QUEUED, SUBMITTING, TRACKED, SUCCEEDED"),
        ({"tenant": ["a", "b"]}, "tenant: must be given once"),
        ({"tenant": ["a" * 3_000]}, "tenant: is longer than 2048 characters"),
        *(({"limit": [limit]}, "limit: must be a whole number from 1 to 1000")
          for limit in ("0", "1001", "x", "-1", "\u0663")),
        *(
            ({"state": ["QUEUED"], "after": [place]}, "after: must be the 'next' of a page before")
            for place in (
                "", "nowhere:1", "queued:1", "queued:1:0:nan:4", "queued:1:0:x:4", "queued:1:0:1e999:4",
                "queued:-1:0:1.0:4", f"queued:1:0:1.0:{2**64}", "tracked:1:2", "tracked:", "tracked:\u0663",
            )
        ),
        ({"state": ["QUEUED"], "after": ["tracked:4"]}, "after: is of a list of other states"),
        ({"after": ["tracked:4"]}, "after: is of a list of other states"),
    ],
)  # fmt: skip
def test_what_can_t_be_answered_is_told(query: dict[str, list[str]], message: str) -> None:
    """The message names the parameter and what it must be."""
    with pytest.raises(BadInquiry) as refused:
        inquiry_of(query)
    assert str(refused.value).startswith(message)
