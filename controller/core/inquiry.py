"""What an operator may ask of a controller's requests: which of them, and where a list goes on.

Read from a query by ``inquiry_of``, answered by a store page by page (``ports.RequestReads``). A page tells the place
where the next one begins. A list goes the way that requests go (those that wait, are being sent, are in flight, have
ended): what changes its state meanwhile may come twice; what goes back to an earlier place is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.core.job import JobState

PAGE_MAX: Final = 1_000
"""Requests of a page, at most."""
PAGE: Final = 100
"""Of a page whose length is not asked for."""
LIVE: Final = "live"
"""Stands for the states of requests that have not ended."""
FILTERS: Final = ("job_queue", "tenant", "job_definition")
_KEY_MAX: Final = 2**62
"""Above every row key, and within what a store can compare."""
_TEXT_MAX: Final = 2_048


class BadInquiry(ValueError):
    """A query that can't be answered; says which member of it, and what it must be."""


class Walk(StrEnum):
    """A way through the requests, in the order in which a list takes them."""

    ALL = "all"
    """Every request, by row key: of any state."""
    QUEUED = "queued"
    """By job queue, those that wait for other requests before the rest, then by ``received_at`` and row key."""
    SUBMITTING = "submitting"
    """By row key, as the next ones."""
    TRACKED = "tracked"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Behind one row of a walk."""

    walk: Walk
    key: int
    job_queue: int = 0
    """The store's number of a job queue; this and the next two are of QUEUED alone."""
    is_unmet: bool = False
    received_at: float = 0.0

    def __str__(self) -> str:
        if self.walk is not Walk.QUEUED:
            return f"{self.walk}:{self.key}"
        return f"{self.walk}:{self.job_queue}:{int(self.is_unmet)}:{self.received_at!r}:{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """Which requests are asked for. What is None does not matter."""

    states: frozenset[JobState] = frozenset()
    """Empty: any."""
    job_queue: str | None = None
    tenant: str | None = None
    job_definition: str | None = None
    """As the request names it."""
    after: Place | None = None
    """Of one of ``walks``; None: from the beginning."""
    limit: int = PAGE
    """1 … PAGE_MAX."""

    @property
    def walks(self) -> tuple[Walk, ...]:
        """Those that lead past every request that is asked for."""
        if not self.states:
            return (Walk.ALL,)
        live = (state for state in JobState if not state.is_final and state in self.states)
        walks = tuple(Walk(state.value.lower()) for state in live)
        return (*walks, Walk.ENDED) if any(state.is_final for state in self.states) else walks


def inquiry_of(query: Mapping[str, Sequence[str]]) -> Inquiry:
    """The list that a query asks for: ``state`` (several, or ``live``), ``job_queue``, ``tenant``, ``job_definition``,
    ``after``, ``limit``. Raises BadInquiry."""
    for name, values in query.items():
        if name not in ("state", "after", "limit", *FILTERS):
            raise BadInquiry(f"{name[:50]}: no such parameter; there are state, {', '.join(FILTERS)}, after, limit")
        if len(values) > 1 and name != "state":
            raise BadInquiry(f"{name}: must be given once")
        if any(len(value) > _TEXT_MAX for value in values):
            raise BadInquiry(f"{name}: is longer than {_TEXT_MAX} characters")
    given = {name: values[0] for name, values in query.items() if name != "state"}
    asked = Inquiry(
        states=_states(query.get("state", ())),
        job_queue=given.get("job_queue"),
        tenant=given.get("tenant"),
        job_definition=given.get("job_definition"),
        after=_place(given["after"]) if "after" in given else None,
        limit=_limit(given["limit"]) if "limit" in given else PAGE,
    )
    if asked.after is not None and asked.after.walk not in asked.walks:
        raise BadInquiry("after: is of a list of other states; give the state that it was given with")
    return asked


def _states(names: Sequence[str]) -> frozenset[JobState]:
    states: set[JobState] = set()
    for name in names:
        if name == LIVE:
            states.update(state for state in JobState if not state.is_final)
        elif name in JobState.__members__:
            states.add(JobState[name])
        else:
            raise BadInquiry(f"state: must be one of {', '.join(JobState)}, or {LIVE} for the first three")
    return frozenset() if states == set(JobState) else frozenset(states)


def _limit(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 9 and 1 <= int(text) <= PAGE_MAX:
        return int(text)
    raise BadInquiry(f"limit: must be a whole number from 1 to {PAGE_MAX}")


def _place(text: str) -> Place:
    name, *numbers = text.split(":")
    try:
        walk = Walk(name)
        if walk is not Walk.QUEUED:
            (key,) = map(_number, numbers)
            return Place(walk=walk, key=key)
        job_queue, is_unmet, received_at, last = numbers
        place = Place(
            walk=walk,
            key=_number(last),
            job_queue=_number(job_queue),
            is_unmet=bool(_number(is_unmet)),
            received_at=float(received_at),
        )
        if math.isfinite(place.received_at):
            return place
    except ValueError:
        pass
    raise BadInquiry("after: must be the 'next' of a page before")


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _KEY_MAX:
        return int(text)
    raise ValueError(text)
