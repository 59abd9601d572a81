"""Whose request it is, whose turn, and what of the backlog is kept for whom."""

from __future__ import annotations

import pytest

from controller.core.admission import IntakeMarks, kept_for_others
from controller.core.job import Job, RowKey
from controller.core.tenants import NAME_LENGTH_MAX, TENANT_FROM_DEFAULT, NamedBy, Naming, in_turns, tenant_of
from tests.store.engines import queued

SOURCE = "https://sqs.eu-west-1.amazonaws.com/123456789012/requests"


def naming(**given: str) -> Naming:
    return Naming(source=SOURCE, **given)


@pytest.mark.parametrize(
    ("given", "tenant"),
    [
        ({}, SOURCE),
        ({"attribute": "film"}, "film"),
        ({"attribute": "film", "share_identifier": "render"}, "render"),
        ({"message_group": "group"}, SOURCE),
        ({"attribute": "  ", "share_identifier": ""}, SOURCE),
        ({"attribute": " film\t"}, "film"),
    ],
)
def test_the_first_name_that_is_given_is_the_tenant(given: dict[str, str], tenant: str) -> None:
    """Share identifier, then the message attribute, then the SQS queue; blank is not given."""
    assert tenant_of(naming(**given), TENANT_FROM_DEFAULT) == tenant


def test_what_names_a_tenant_can_be_chosen() -> None:
    """In the order of the setting, and nothing else; with an empty one all are one tenant."""
    given = naming(attribute="film", share_identifier="render", message_group="group")
    assert tenant_of(given, [NamedBy.MESSAGE_GROUP, NamedBy.SHARE_IDENTIFIER]) == "group"
    assert tenant_of(given, [NamedBy.SOURCE]) == SOURCE
    assert tenant_of(given, []) == ""


@pytest.mark.parametrize("name", ["x" * (NAME_LENGTH_MAX + 1), "a\x07b", "\ud800", "a\u202eb"])
def test_odd_names_become_hashes(name: str) -> None:
    """Long or unprintable names are short and printable, and still tell tenants apart."""
    tenant = tenant_of(naming(attribute=name), TENANT_FROM_DEFAULT)
    assert tenant.isascii()
    assert tenant.isprintable()
    assert len(tenant) <= NAME_LENGTH_MAX
    assert tenant != tenant_of(naming(attribute=name + "x"), TENANT_FROM_DEFAULT)
    assert tenant_of(naming(attribute="x" * NAME_LENGTH_MAX), TENANT_FROM_DEFAULT) == "x" * NAME_LENGTH_MAX


def _rows(tenants: str) -> list[Job]:
    """A row per letter, which is its tenant."""
    return [queued(number, key=RowKey(number), tenant=tenant) for number, tenant in enumerate(tenants)]


@pytest.mark.parametrize(
    ("tenants", "limit", "order"),
    [
        ("", 5, []),
        ("aaa", 2, [0, 1]),
        ("aaabb", 5, [0, 3, 1, 4, 2]),
        ("aaabbc", 4, [0, 3, 5, 1]),
        ("abc", 2, [0, 1]),
        ("aab", 0, []),
    ],
)
def test_tenants_take_turns(tenants: str, limit: int, order: list[int]) -> None:
    """One row each, in the order in which the tenants come; what one does not need the others get."""
    assert [job.key for job in in_turns(_rows(tenants), limit)] == order


@pytest.mark.parametrize(
    ("queued", "kept"),
    [
        ({}, 200),
        ({"b": 50}, 200),
        ({"b": 150}, 250),
        ({"b": 150, "c": 600}, 750),
        ({"a": 700}, 200),
        # Rows of a queue that is no longer consumed take their place, and nothing is kept for it.
        ({"gone": 30}, 230),
    ],
)
def test_each_source_is_sure_of_its_part(queued: dict[str, int], kept: int) -> None:
    """Others have what they have, and at least the high mark or an equal part of the maximum."""
    marks = IntakeMarks(high=100, low=80, maximum=1_000)
    assert kept_for_others(queued, "a", sources=["a", "b", "c"], marks=marks) == kept


def test_a_part_is_no_more_than_an_equal_share() -> None:
    """With many sources the high marks don't fit into the maximum side by side."""
    marks = IntakeMarks(high=100, low=80, maximum=120)
    assert kept_for_others({}, "a", sources=["a", "b", "c"], marks=marks) == 80
    assert kept_for_others({}, "a", sources=["a"], marks=marks) == 0
