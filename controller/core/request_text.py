"""Requests as text for a terminal: one with all that is known of it, or a line each.

Made of the JSON that ``/requests`` answers, by the commands ``show`` and ``list``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from controller.core.events import JSON
from controller.core.text import escaped

COLUMNS: Final = ("request_id", "state", "job_queue", "job_definition", "tenant", "received_at", "job_id")
"""Of a list."""
_WIDTHS: Final = (24, 10, 16, 16, 12, 24, 0)
"""At least, so that pages stand below each other."""


def lines_of_request(lives: Sequence[Mapping[str, JSON]]) -> Iterator[str]:
    """Every life, newest first."""
    for number, life in enumerate(lives):
        if number:
            yield ""
            yield "an earlier life of this id, which was rejected:"
        yield from _lines_of_life(life)


def _lines_of_life(life: Mapping[str, JSON]) -> Iterator[str]:
    width = max(map(len, life))
    for name, value in life.items():
        for index, text in enumerate(_texts(name, value)):
            yield f"{name if index == 0 else '':<{width}}  {text}"


def _texts(name: str, value: JSON) -> list[str]:
    if name == "waits_for":
        return [f"{value['cause']}: {value['detail']}", *_place(value)]
    if name == "depends_on":
        return [
            f"{each['request_id']}  {each.get('state', 'not received')}  {'met' if each['is_met'] else 'unmet'}"
            for each in value
        ]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    return [escaped(str(value))]


def _place(wait: Mapping[str, JSON]) -> list[str]:
    if "ahead" not in wait:
        return []
    count = f"{wait['ahead']} or more" if wait.get("ahead_is_cut") else str(wait["ahead"])
    return [f"before it in its job queue: {count} of its tenant"]


def head_of_list() -> str:
    """The first line of a list."""
    return _row([name.upper() for name in COLUMNS])


def line_of_list(life: Mapping[str, JSON]) -> str:
    """A request of a list; what has no value is ``-``."""
    return _row([escaped(str(life.get(name) or "-")) for name in COLUMNS])


def _row(cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()
