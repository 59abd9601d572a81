"""The next rows of a job queue's backlog, in the order of its tenants' turns, found by index.

Asked by ``sqlite.py`` inside its runner. What is read is bounded by what is asked for, whatever waits: a seek per
tenant, and in all fewer than four rows per row asked for. Rows of held definitions are passed over once (``Passed``).
"""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from controller.adapters.store.rows import JOB_COLUMNS

_PLACE: Final = (
    "FROM jobs INDEXED BY jobs_backlog "
    "WHERE job_queue = ? AND state = 0 AND cancel_requested_at IS NULL AND dependencies <> 1 "
)
NEXT_TENANT: Final = f"SELECT tenant {_PLACE} AND tenant < ? ORDER BY tenant DESC LIMIT 1"
ROWS: Final = (
    f"SELECT {JOB_COLUMNS} {_PLACE} AND tenant = ? "
    "AND (expires_at IS NULL OR expires_at > ?) ORDER BY rank, key LIMIT ?"
)
_NOT_HELD: Final = "AND job_definition NOT IN (SELECT value FROM json_each(?))"
"""One parameter, as their number has no bound."""
_NOT_RESTING: Final = "AND key NOT IN (SELECT value FROM json_each(?))"
ROWS_BUT: Final = ROWS.replace("AND (expires", "AND rank >= ? AND (expires").replace(
    "ORDER", " ".join((_NOT_HELD, _NOT_RESTING, "ORDER"))
)
"""Without some definitions and rows, from a rank on."""
TENANTS: Final = f"""
    WITH RECURSIVE waiting (queue, tenant) AS (
        SELECT queue, (SELECT tenant FROM jobs INDEXED BY jobs_backlog WHERE job_queue = queue AND state = 0
            AND cancel_requested_at IS NULL AND dependencies <> 1 ORDER BY tenant DESC LIMIT 1)
            FROM (SELECT DISTINCT job_queue AS queue FROM usage WHERE state = 0)
        UNION ALL
        SELECT queue, ({NEXT_TENANT.replace("job_queue = ?", "job_queue = queue").replace("< ?", "< waiting.tenant")})
            FROM waiting WHERE tenant IS NOT NULL
    )
    SELECT queue, count(tenant) FROM waiting GROUP BY queue HAVING count(tenant) > 0
"""  # noqa: S608 - constants of this module
"""Number of tenants per job queue, a seek each."""
FIRST_RANK: Final = f"SELECT rank {_PLACE} AND tenant = ? AND rank >= ? {_NOT_HELD} ORDER BY rank LIMIT 1"
TOP: Final = 2**62
"""Above every tenant."""

Rows = list[Any]


class Passed:
    """Up to which rank all rows of a tenant are of held definitions.

    A held definition may have a hundred thousand rows before the first that may be sent, and every plan asks. So what
    was passed over is remembered until a row is put there. In memory; whoever writes QUEUED rows tells of each.
    """

    def __init__(self) -> None:
        self._ranks: dict[tuple[int, int], tuple[frozenset[int], float]] = {}
        """By job queue and tenant: the held definitions, and the first rank that may be another's."""

    def rank(self, job_queue: int, tenant: int, held: frozenset[int]) -> float:
        """No row below it may be sent while these definitions are held."""
        known, rank = self._ranks.get((job_queue, tenant), (held, -math.inf))
        return rank if known <= held else -math.inf

    def found(self, job_queue: int, tenant: int, held: frozenset[int], rank: float) -> None:
        """The first row of another definition stands there."""
        self._ranks[job_queue, tenant] = (held, rank)

    def queued(self, job_queue: int, tenant: int, rank: float) -> None:
        """A row is QUEUED there now."""
        known = self._ranks.get((job_queue, tenant))
        if known is not None and rank < known[1]:
            self._ranks[job_queue, tenant] = (known[0], rank)

    def clear(self) -> None:
        """Rows are ranked anew."""
        self._ranks.clear()


class Backlog:
    """The rows of one job queue that may be sent."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        job_queue: int,
        now: float,
        excluded: Sequence[int],
        excluded_rows: Collection[int],
        passed: Passed,
    ) -> None:
        """``excluded`` are job definitions, ``excluded_rows`` keys of rows; what has expired by ``now`` is left out
        too."""
        self._connection = connection
        self._job_queue = job_queue
        self._now = now
        self._held = frozenset(excluded)
        self._held_ids = json.dumps(excluded)
        self._resting_ids = json.dumps(list(excluded_rows))
        self._is_whole = not excluded and not excluded_rows
        self._passed = passed

    def next_rows(self, after: int | None, limit: int) -> Iterator[Any]:
        """Rows of JOB_COLUMNS, tenant by tenant, the tenant after ``after`` first: all that ``limit`` turns, one row
        each, can fall on."""
        first = itertools.islice(self._first_rows(after), max(0, limit))
        rows = {tenant: [row] for tenant, row in first}
        if len(rows) < limit:  # these are all tenants
            self._fill(rows, limit)
        return itertools.chain.from_iterable(rows.values())

    def _first_rows(self, after: int | None) -> Iterator[tuple[int, Any]]:
        for tenant in self._in_turn(after):
            for row in self._of(tenant, 1):
                yield tenant, row

    def _in_turn(self, after: int | None) -> Iterator[int]:
        """Tenants with rows: downwards from ``after``, then from the newest down to it. A tenant that is new has the
        greatest number, so it never comes between one that waits and its turn of this round."""
        yield from self._downwards(TOP if after is None else after, -1)
        if after is not None:
            yield from self._downwards(TOP, after - 1)

    def _downwards(self, below: int, above: int) -> Iterator[int]:
        while True:
            found = self._connection.execute(NEXT_TENANT, (self._job_queue, below)).fetchone()
            if found is None or found[0] <= above:
                return
            (below,) = found
            yield below

    def _fill(self, rows: dict[int, Rows], limit: int) -> None:
        """More of every tenant that may have more, twice as many each time: so the last time, too, brings fewer than
        twice the rows that are asked for."""
        share = 1
        more = set(rows)
        while more and sum(map(len, rows.values())) < limit:
            share = max(2 * share, -(-limit // len(rows)))
            for tenant in sorted(more):
                rows[tenant] = self._of(tenant, min(share, limit))
                if len(rows[tenant]) < min(share, limit):
                    more.discard(tenant)
            if share >= limit:
                return

    def _of(self, tenant: int, count: int) -> Rows:
        if self._is_whole:
            return self._connection.execute(ROWS, (self._job_queue, tenant, self._now, count)).fetchall()
        first = self._first_rank(tenant) if self._held else -math.inf
        values = (self._job_queue, tenant, first, self._now, self._held_ids, self._resting_ids, count)
        return self._connection.execute(ROWS_BUT, values).fetchall()

    def _first_rank(self, tenant: int) -> float:
        """Where the first row of the tenant stands that is of no held definition."""
        after = self._passed.rank(self._job_queue, tenant, self._held)
        values = (self._job_queue, tenant, after, self._held_ids)
        found = self._connection.execute(FIRST_RANK, values).fetchone()
        first: float = math.inf if found is None else found[0]
        self._passed.found(self._job_queue, tenant, self._held, first)
        return first
