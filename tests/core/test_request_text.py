"""Requests as text for a terminal."""

from __future__ import annotations

import pytest

from controller.core.request_text import head_of_list, line_of_list, lines_of_request

LIFE = {"request_id": "r1", "state": "QUEUED", "is_in_doubt": False, "tenant": ""}


def test_every_life_is_shown_member_by_member() -> None:
    """Names stand in one column, values in the next; earlier lives come after, and are called so."""
    earlier = {"request_id": "r1", "state": "REJECTED", "reason": "no"}
    assert list(lines_of_request([LIFE, earlier])) == [
        "request_id   r1",
        "state        QUEUED",
        "is_in_doubt  no",
        "tenant       ",
        "",
        "an earlier life of this id, which was rejected:",
        "request_id  r1",
        "state       REJECTED",
        "reason      no",
    ]


@pytest.mark.parametrize(
    ("ahead", "place"),
    [
        ({}, []),
        ({"ahead": 0}, ["           before it in its job queue: 0 of its tenant"]),
        ({"ahead": 9, "ahead_is_cut": True}, ["           before it in its job queue: 9 or more of its tenant"]),
    ],
)
def test_why_it_waits_is_a_sentence(ahead: dict[str, int], place: list[str]) -> None:
    """With its place, where it has one."""
    life = {"waits_for": {"cause": "paused", "detail": "by configuration", **ahead}}
    assert list(lines_of_request([life])) == ["waits_for  paused: by configuration", *place]


def test_what_it_depends_on_is_a_line_each() -> None:
    """With where it stands."""
    needs = [{"request_id": "a", "is_met": True, "state": "TRACKED"}, {"request_id": "b", "is_met": False}]
    assert list(lines_of_request([{"depends_on": needs}])) == [
        "depends_on  a  TRACKED  met",
        "            b  not received  unmet",
    ]


def test_a_list_has_its_columns_below_each_other() -> None:
    """What has no value is a hyphen."""
    head = head_of_list()
    line = line_of_list({**LIFE, "job_queue": "high", "job_definition": "work", "received_at": "2026"})
    assert head.split() == ["REQUEST_ID", "STATE", "JOB_QUEUE", "JOB_DEFINITION", "TENANT", "RECEIVED_AT", "JOB_ID"]
    assert line.split() == ["r1", "QUEUED", "high", "work", "-", "2026", "-"]
    assert line.index("QUEUED") == head.index("STATE")
    assert line.index("2026") == head.index("RECEIVED_AT")


def test_texts_of_others_can_t_drive_a_terminal() -> None:
    """Neither in a list nor in a request."""
    life = {"request_id": "r1", "reason": "\x1b[2J\nstate  RUNNING", "tenant": "a\u202eb"}
    assert list(lines_of_request([life])) == [
        "request_id  r1",
        "reason      \\u001b[2J\\u000astate  RUNNING",
        "tenant      a\\u202eb",
    ]
    assert "a\\u202eb" in line_of_list(life)
