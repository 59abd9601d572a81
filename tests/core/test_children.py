"""Failed children of arrays, told in a bounded form."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.children import GROUPS_MAX, RANGES_MAX, FailedChild, ranges, summarise
from controller.core.job import BatchStatus, Observation
from controller.core.lifecycle import CancelAsked, Described, apply
from tests.core.test_lifecycle import ACCEPTED, Admitted, after, queued


def indexes_of(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found


@given(st.sets(st.integers(0, 9_999)))
def test_ranges_say_exactly_the_indexes(indexes: set[int]) -> None:
    """Ascending, none touching the next, nothing added and nothing lost."""
    told = ranges(sorted(indexes))
    if told:
        assert indexes_of(",".join(told)) == sorted(indexes)
        edges = [[int(n) for n in part.split("-")] for part in told]
        assert all(left[-1] + 1 < right[0] for left, right in pairwise(edges))
    else:
        assert indexes == set()


def test_children_are_grouped_by_how_they_failed() -> None:
    """Exit code and kind of reason; what differs only in an instance or a number is one kind."""
    found = summarise(
        [
            *(
                FailedChild(index=n, exit_code=1, status_reason="Essential container in task exited")
                for n in (0, 1, 2, 7)
            ),
            FailedChild(index=3, status_reason="Host EC2 (instance i-0aaa) terminated."),
            FailedChild(index=9, status_reason="Host EC2 (instance i-0bbb) terminated."),
        ]
    )
    assert found.as_json() == {
        "count": 6,
        "groups": [
            {
                "indexes": "0-2,7",
                "count": 4,
                "reason_class": "application_exit_code",
                "exit_code": 1,
                "reason": "Essential container in task exited",
            },
            {
                "indexes": "3,9",
                "count": 2,
                "reason_class": "spot_reclaim",
                "reason": "Host EC2 (instance i-0aaa) terminated.",
            },
        ],
    }


def test_a_flood_of_kinds_and_of_ranges_is_bounded_and_counted() -> None:
    """The largest groups are told; the rest is counted, and a group with too many ranges says that it is cut."""
    many = [FailedChild(index=2 * n, exit_code=1) for n in range(2 * RANGES_MAX)]
    few = [FailedChild(index=10_000 + n, exit_code=2 + n % 200) for n in range(400)]
    found = summarise([*many, *few])
    assert len(found.groups) == GROUPS_MAX
    assert sum(group.count for group in found.groups) + found.other_children == found.count == len(many) + len(few)
    assert found.other_groups == 200 + 1 - GROUPS_MAX
    assert found.groups[0].is_cut
    assert len(indexes_of(found.groups[0].indexes)) == RANGES_MAX
    worst = summarise(
        FailedChild(index=2 * n, exit_code=n % 30, reason="x" * 10_000 + str(n % 30)) for n in range(5_000)
    )
    assert len(orjson.dumps(worst.as_json())) < 64 * 1024


def test_a_child_that_is_listed_twice_counts_once() -> None:
    """Pages may overlap."""
    assert summarise([FailedChild(index=4), FailedChild(index=4)]).count == 1


def test_the_end_of_an_array_tells_its_children_and_those_that_are_in_no_count() -> None:
    """In job.finished, the one final event."""
    job = after(queued(array_size=10), Admitted(), ACCEPTED)
    seen = Observation(
        job_id="id-1",
        status=BatchStatus.FAILED,
        status_reason="Array Child Job failed",
        array_summary={"SUCCEEDED": 7, "FAILED": 2, "RUNNING": 0},
        children=summarise([FailedChild(index=2, exit_code=3), FailedChild(index=5, exit_code=3)]),
    )
    step = apply(job, Described(seen=seen), 5_000.0)
    data = step.events[-1].data
    assert data["reason_class"] == "array_child_failed"
    assert data["failed_children"]["groups"][0]["indexes"] == "2,5"
    assert data["unaccounted_children"] == 1
    assert "failed_nodes" not in data


@pytest.mark.parametrize(("facts", "stopped"), [((), "terminated"), ((CancelAsked(reason="no"),), "cancelled")])
def test_children_that_were_stopped_are_told_by_who_stopped_their_array(facts: tuple[Any, ...], stopped: str) -> None:
    """As somebody else's doing only if no message of ours was; what failed by itself before keeps its class."""
    job = after(queued(array_size=3), Admitted(), ACCEPTED, *facts)
    children = summarise([FailedChild(index=0, exit_code=3), FailedChild(index=1, status_reason="no", is_stopped=True)])
    seen = Observation(job_id="id-1", status=BatchStatus.FAILED, array_summary={"FAILED": 2}, children=children)
    data = apply(job, Described(seen=seen), 5_000.0).events[-1].data
    classes = [group["reason_class"] for group in data["failed_children"]["groups"]]
    assert classes == ["application_exit_code", stopped]


def test_the_end_of_a_multi_node_job_tells_its_nodes_and_the_main_node_s_exit_code() -> None:
    """The job itself has no container."""
    job = after(queued(), Admitted(), ACCEPTED)
    nodes = summarise([FailedChild(index=0, exit_code=9, is_main_node=True), FailedChild(index=3, exit_code=143)])
    seen = Observation(job_id="id-1", status=BatchStatus.FAILED, nodes=4, children=nodes)
    data = apply(job, Described(seen=seen), 5_000.0).events[-1].data
    assert data["exit_code"] == 9
    assert data["reason_class"] == "application_exit_code"
    assert [group["indexes"] for group in data["failed_nodes"]["groups"]] == ["0", "3"]
