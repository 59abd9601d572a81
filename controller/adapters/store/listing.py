"""Pages of a list of requests, each found by index within a bound of rows looked at.

Asked by ``sqlite.py`` inside its runner, where commits wait meanwhile: so a page looks at ``SCAN_MAX`` rows at most,
whatever there is and however few of them are asked for. A page may be empty and yet tell where the next one begins.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from controller.adapters.store.names import Vocabulary
from controller.adapters.store.rows import JOB_COLUMNS, QUEUED, STATE_CODES, SUBMITTING, TRACKED
from controller.core.inquiry import Inquiry, Place, Walk
from controller.core.job import JobState

SCAN_MAX: Final = 10_000
"""Rows that a page looks at: some milliseconds."""
STRETCH_COST: Final = 20
"""What a job queue costs beside its rows, in rows: producers may make up names of job queues."""

_KEY: Final = JOB_COLUMNS.split(", ").index("key")
_RECEIVED_AT: Final = JOB_COLUMNS.split(", ").index("received_at")
_NEXT_QUEUE: Final = (
    "SELECT job_queue FROM jobs INDEXED BY jobs_waiting WHERE state = 0 AND job_queue > ? ORDER BY job_queue LIMIT 1"
)
_OWN_PLACE: Final = (
    "SELECT job_queue, tenant, rank FROM jobs "
    "WHERE key = ? AND state = 0 AND cancel_requested_at IS NULL AND dependencies <> 1"
)
_AHEAD: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM jobs INDEXED BY jobs_backlog WHERE job_queue = ? AND tenant = ? "
    "AND state = 0 AND cancel_requested_at IS NULL AND dependencies <> 1 AND (rank, key) < (?, ?) LIMIT ?)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """Rows that one index has in the order of a walk."""

    walk: Walk
    source: str
    """What stands behind FROM, with the conditions that the index knows."""
    values: tuple[Any, ...] = ()
    order: str = "key"
    first: tuple[float, ...] = (0,)
    """Before every row of it, in that order."""
    job_queue: int = 0
    is_unmet: bool = False

    def place(self, at: tuple[Any, ...]) -> Place:
        received_at = at[0] if len(at) > 1 else 0.0
        return Place(
            walk=self.walk, key=at[-1], job_queue=self.job_queue, is_unmet=self.is_unmet, received_at=received_at
        )

    def position(self, row: Any) -> tuple[Any, ...]:
        return (row[_RECEIVED_AT], row[_KEY]) if self.walk is Walk.QUEUED else (row[_KEY],)


_BY_KEY: Final = {
    Walk.ALL: "jobs NOT INDEXED WHERE 1",
    Walk.SUBMITTING: f"jobs INDEXED BY jobs_in_flight WHERE state = {SUBMITTING}",
    Walk.TRACKED: f"jobs INDEXED BY jobs_in_flight WHERE state = {TRACKED}",
    Walk.ENDED: "jobs NOT INDEXED WHERE 1",
}
_WAITING: Final = f"jobs INDEXED BY jobs_waiting WHERE job_queue = ? AND (dependencies = 1) = ? AND state = {QUEUED}"


def ahead(connection: sqlite3.Connection, key: int, limit: int) -> int | None:
    """How many rows of its tenant stand before a row in the backlog of its job queue, ``limit`` at most; None: it is
    not in the backlog."""
    own = connection.execute(_OWN_PLACE, (key,)).fetchone()
    if own is None:
        return None
    job_queue, tenant, rank = own
    (count,) = connection.execute(_AHEAD, (job_queue, tenant, rank, key, limit)).fetchone()
    return int(count)


class Listing:
    """One page."""

    def __init__(self, connection: sqlite3.Connection, names: Vocabulary, asked: Inquiry) -> None:
        self._connection = connection
        self._asked = asked
        self._left = SCAN_MAX
        self._job_queue = None if asked.job_queue is None else names.job_queues.find(asked.job_queue)
        tenant = None if asked.tenant is None else names.tenants.find(asked.tenant)
        definition = None if asked.job_definition is None else names.job_definitions.find(asked.job_definition)
        wanted = (
            ("job_queue", asked.job_queue, self._job_queue),
            ("tenant", asked.tenant, tenant),
            ("job_definition", asked.job_definition, definition),
        )
        self._has_none = any(name is not None and number is None for _, name, number in wanted)
        """A name that no row has."""
        self._filters = {column: number for column, _, number in wanted if number is not None}

    def page(self) -> tuple[list[Any], Place | None]:
        """Rows of JOB_COLUMNS, and where the next page begins; None: these were the last."""
        rows: list[Any] = []
        if self._has_none:
            return rows, None
        for stretch, after in self._stretches():
            end = self._end(stretch, after)
            rows += self._rows(stretch, after, end, self._asked.limit - len(rows))
            if len(rows) == self._asked.limit:
                return rows, stretch.place(stretch.position(rows[-1]))
            if end is not None:
                return rows, stretch.place(end)
        return rows, None

    def _end(self, stretch: _Stretch, after: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """The last row that may be looked at; None: the stretch has no more than may be."""
        marks = ", ".join("?" * len(after))
        rest = f"FROM {stretch.source} AND ({stretch.order}) > ({marks}) ORDER BY {stretch.order} LIMIT"
        values = (*stretch.values, *after)
        select = f"SELECT {stretch.order} {rest} 1 OFFSET ?"
        end: tuple[Any, ...] | None = self._connection.execute(select, (*values, self._left - 1)).fetchone()
        if end is None:
            count = f"SELECT count(*) FROM (SELECT 1 {rest} ?)"  # noqa: S608 - constants of this module
            self._left -= self._connection.execute(count, (*values, self._left)).fetchone()[0]
        return end

    def _rows(self, stretch: _Stretch, after: tuple[Any, ...], end: tuple[Any, ...] | None, limit: int) -> list[Any]:
        marks = ", ".join("?" * len(after))
        where = [f"({stretch.order}) > ({marks})"]
        values = [*stretch.values, *after]
        if end is not None:
            where.append(f"({stretch.order}) <= ({marks})")
            values += end
        for column, number in self._filters.items():
            where.append(f"+{column} = ?")  # the walk's own index is the one to use
            values.append(number)
        if stretch.walk is Walk.ENDED:
            codes = [STATE_CODES[state] for state in JobState if state.is_final and state in self._asked.states]
            where.append(f"+state IN ({', '.join(map(str, codes))})")
        sql = (
            f"SELECT {JOB_COLUMNS} FROM {stretch.source} AND {' AND '.join(where)} "  # noqa: S608 - constants
            f"ORDER BY {stretch.order} LIMIT ?"
        )
        return self._connection.execute(sql, (*values, limit)).fetchall()

    def _stretches(self) -> Iterator[tuple[_Stretch, tuple[Any, ...]]]:
        """Those from where the page begins on, each with the position after which it is looked at."""
        after = self._asked.after
        walks = self._asked.walks
        for walk in walks if after is None else walks[walks.index(after.walk) :]:
            resumed = after if after is not None and after.walk is walk else None
            if walk is Walk.QUEUED:
                yield from self._waiting(resumed)
            else:
                stretch = _Stretch(walk=walk, source=_BY_KEY[walk])
                yield stretch, stretch.first if resumed is None else (resumed.key,)

    def _waiting(self, after: Place | None) -> Iterator[tuple[_Stretch, tuple[Any, ...]]]:
        """By job queue. What waits for other requests comes first, as it joins the rest when it waits no longer."""
        job_queue = self._first_queue(after)
        while job_queue is not None:
            resumed = after if after is not None and after.job_queue == job_queue else None
            for is_unmet in (True, False):
                if resumed is not None and is_unmet and not resumed.is_unmet:
                    continue
                stretch = _Stretch(
                    walk=Walk.QUEUED,
                    source=_WAITING,
                    values=(job_queue, int(is_unmet)),
                    order="received_at, key",
                    first=(float("-inf"), 0),
                    job_queue=job_queue,
                    is_unmet=is_unmet,
                )
                is_here = resumed is not None and resumed.is_unmet is is_unmet
                yield stretch, (resumed.received_at, resumed.key) if is_here and resumed is not None else stretch.first
                self._left = max(1, self._left - STRETCH_COST)
            job_queue = None if self._job_queue is not None else self._next_queue(job_queue)

    def _first_queue(self, after: Place | None) -> int | None:
        if self._job_queue is not None:
            return self._job_queue
        return self._next_queue(0 if after is None else after.job_queue - 1)

    def _next_queue(self, above: int) -> int | None:
        found = self._connection.execute(_NEXT_QUEUE, (above,)).fetchone()
        return None if found is None else found[0]
