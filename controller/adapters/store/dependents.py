"""Rows that depend on other requests: whether there are any, which are to be considered, which go round in a circle.

Asked by ``sqlite.py`` inside its runner, written by ``writes.py``. A dependency's ``due`` is raised in the transaction
that changes the request it names, and set back once that change was considered.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from controller.adapters.store.rows import JOB_COLUMNS, rows_in, unpack_id
from controller.ports import CIRCLE_MAX, Dependency

_DUE: Final = (
    "SELECT DISTINCT row_key FROM dependencies INDEXED BY dependencies_due WHERE due > 0 ORDER BY row_key LIMIT ?"
)
_UNMET: Final = (
    "SELECT key FROM jobs INDEXED BY jobs_unmet WHERE state = 0 AND dependencies = 1 AND received_at <= ? "
    "ORDER BY received_at LIMIT ?"
)
_DEPENDENCIES: Final = "SELECT row_key, request_id, due FROM dependencies WHERE row_key IN (:these)"
MAY_CLOSE_CIRCLES: Final = (
    "SELECT key FROM jobs WHERE key IN (:these) AND EXISTS (SELECT 1 FROM dependencies INDEXED BY dependencies_on "
    "WHERE dependencies.request_id = jobs.request_id AND row_key < jobs.key)"
)
"""Who comes last closes a circle, and one that came before depends on it: most rows need not be looked at."""
CIRCULAR: Final = f"""
    WITH RECURSIVE above (key) AS (
        SELECT jobs.key FROM dependencies CROSS JOIN jobs INDEXED BY jobs_lives
            ON jobs.request_id = dependencies.request_id AND life = 0 AND state = 0 AND dependencies = 1
            WHERE row_key = ?
        UNION
        SELECT jobs.key FROM above CROSS JOIN dependencies ON row_key = above.key CROSS JOIN jobs INDEXED BY jobs_lives
            ON jobs.request_id = dependencies.request_id AND life = 0 AND state = 0 AND dependencies = 1
        LIMIT {CIRCLE_MAX}
    )
    SELECT 1 FROM above WHERE key = ?
"""  # noqa: S608 - constants of this module
DEPENDED_ON: Final = f"""
    SELECT row_key, {", ".join(f"jobs.{name}" for name in JOB_COLUMNS.split(", "))}
        FROM dependencies CROSS JOIN jobs INDEXED BY jobs_lives
        ON jobs.request_id = dependencies.request_id AND life = 0 WHERE row_key IN (:these)
"""  # noqa: S608 - constants of this module


class Dependents:
    """Whether there are rows that depend on other requests. Without them nobody needs to look for any."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        (found,) = connection.execute("SELECT EXISTS (SELECT 1 FROM dependencies)").fetchone()
        self.any = bool(found)

    def due(self, connection: sqlite3.Connection, received_by: float, limit: int) -> dict[int, list[Dependency]]:
        """By row, what the next ``limit`` rows depend on that are to be considered (``JobStore.dependents``)."""
        due = connection.execute(_DUE, (limit,)).fetchall()
        old = connection.execute(_UNMET, (received_by, limit - len(due))).fetchall()
        keys = list(dict.fromkeys(key for (key,) in (*due, *old)))
        found: dict[int, list[Dependency]] = {}
        for key, request_id, times in rows_in(connection, _DEPENDENCIES, keys):
            found.setdefault(key, []).append(Dependency(unpack_id(request_id), times))
        if not keys and connection.execute("SELECT 1 FROM dependencies LIMIT 1").fetchone() is None:
            self.any = False
        return found
