"""The failed children of an array job, and the failed nodes of a multi-node job, as ``job.finished`` reports them.

Up to 10,000 children are told in a bounded form: grouped by exit code and reason, each group with its indexes as ranges
("0-3,7"). ``controller/children.py`` looks them up before the end of their parent is stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from controller.core.reasons import classify_texts

GROUPS_MAX: Final = 20
"""Groups that are told; the children of the others are counted."""
RANGES_MAX: Final = 200
"""Ranges that a group tells: every second of 10,000 children would be 25 KB of text."""
REASON_LENGTH_MAX: Final = 256

INCOMPLETE: Final = ("deadline", "denied", "failed", "forgotten", "lagging", "too_many")
"""Why the look-up did not find them all: its time was over, a permission is lacking, the calls failed, Batch no
longer knows the parent, ListJobs shows fewer than the summary counts, or too many arrays ended at once."""

_NUMBERS: Final = re.compile(r"\b(?:i-[0-9a-f]+|[0-9a-f]{8,}(?:-[0-9a-f]+)*|\d+)\b")
"""What makes two reasons of one kind differ: instances, tasks, ids, counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedChild:
    """A row of ListJobs: a child of an array job, or a node of a multi-node job, that is FAILED."""

    index: int
    exit_code: int | None = None
    reason: str | None = None
    """The container's."""
    status_reason: str | None = None
    is_stopped: bool = False
    """Cancelled or terminated."""
    is_main_node: bool = False

    @property
    def reason_class(self) -> str:
        return classify_texts(
            status_reason=self.status_reason,
            reasons=(self.reason,),
            exit_code=self.exit_code,
            is_stopped=self.is_stopped,
        )

    @property
    def said(self) -> str | None:
        """The more telling of the two reasons."""
        text = self.reason or self.status_reason
        return None if text is None else text[:REASON_LENGTH_MAX]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildGroup:
    """Children that failed in the same way."""

    indexes: str
    count: int
    reason_class: str
    exit_code: int | None
    reason: str | None
    """That of the first of them."""
    is_cut: bool = False
    """More ranges than are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedChildren:
    """What is known of the children that failed."""

    count: int
    """That were found."""
    groups: tuple[ChildGroup, ...] = ()
    other_groups: int = 0
    other_children: int = 0
    incomplete: str | None = None
    """Of INCOMPLETE, if some may be missing."""
    main_exit_code: int | None = None
    main_class: str | None = None
    """Of a multi-node job's main node, if it failed."""

    def as_json(self, *, stopped_class: str = "terminated") -> dict[str, Any]:
        """The member of ``job.finished``. ``stopped_class``: what those are that were stopped, which by itself tells
        nothing of who did it."""
        return _without_none(
            count=self.count,
            groups=[_group_json(group, stopped_class) for group in self.groups],
            other_groups=self.other_groups or None,
            other_children=self.other_children or None,
            incomplete=self.incomplete,
        )


def summarise(failed: Iterable[FailedChild], *, incomplete: str | None = None) -> FailedChildren:
    """Group the children; the largest groups are told, in the order of their first child."""
    assert incomplete is None or incomplete in INCOMPLETE, incomplete
    by_index = {child.index: child for child in failed}
    kinds: dict[tuple[int | None, str, str], list[FailedChild]] = {}
    for _, child in sorted(by_index.items()):
        kinds.setdefault((child.exit_code, child.reason_class, _NUMBERS.sub("#", child.said or "")), []).append(child)
    largest = sorted(kinds.values(), key=lambda group: (-len(group), group[0].index))
    told, rest = largest[:GROUPS_MAX], largest[GROUPS_MAX:]
    main = next((child for child in by_index.values() if child.is_main_node), None)
    return FailedChildren(
        count=len(by_index),
        groups=tuple(_group(group) for group in sorted(told, key=lambda group: group[0].index)),
        other_groups=len(rest),
        other_children=sum(len(group) for group in rest),
        incomplete=incomplete,
        main_exit_code=None if main is None else main.exit_code,
        main_class=None if main is None else main.reason_class,
    )


def ranges(indexes: Sequence[int]) -> list[str]:
    """Ascending indexes as ranges: 0, 1, 2, 3, 7 is "0-3", "7"."""
    found: list[list[int]] = []
    for index in indexes:
        if found and found[-1][1] == index - 1:
            found[-1][1] = index
        else:
            found.append([index, index])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]


def _group(children: Sequence[FailedChild]) -> ChildGroup:
    told = ranges([child.index for child in children])
    first = children[0]
    return ChildGroup(
        indexes=",".join(told[:RANGES_MAX]),
        count=len(children),
        reason_class=first.reason_class,
        exit_code=first.exit_code,
        reason=first.said,
        is_cut=len(told) > RANGES_MAX,
    )


def _group_json(group: ChildGroup, stopped_class: str) -> dict[str, Any]:
    return _without_none(
        indexes=group.indexes,
        count=group.count,
        reason_class=stopped_class if group.reason_class == "terminated" else group.reason_class,
        exit_code=group.exit_code,
        reason=group.reason,
        is_cut=group.is_cut or None,
    )


def _without_none(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
