"""Counts of live rows: the recount that keeps the running ones honest, and the store's audit.

``usage`` is kept by differences so that admission never counts a million rows. A recount at each start compares:
a difference would be a mistake of ours, and it is corrected and reported rather than carried on.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from controller.adapters.store.rows import STATES, STATUSES

_RECOUNT: Final = """
    SELECT source, job_queue, 0, -1, 0, array_size IS NOT NULL AS is_array, dependencies = 1 AS is_unmet, count(*)
        FROM jobs INDEXED BY jobs_waiting WHERE state = 0 GROUP BY source, job_queue, is_array, is_unmet
    UNION ALL
    SELECT source, job_queue, 1, -1, is_in_doubt, array_size IS NOT NULL AS is_array, 0, count(*)
        FROM jobs INDEXED BY jobs_in_flight WHERE state = 1 GROUP BY source, job_queue, is_in_doubt, is_array
    UNION ALL
    SELECT source, job_queue, 2, ifnull(batch_status, -1) AS status, 0, array_size IS NOT NULL AS is_array, 0, count(*)
        FROM jobs INDEXED BY jobs_in_flight WHERE state = 2 GROUP BY source, job_queue, status, is_array
"""
_STORED: Final = (
    "SELECT source, job_queue, state, batch_status, is_in_doubt, is_array, is_unmet, count FROM usage WHERE count <> 0"
)

Counts = dict[tuple[int, ...], int]


def correct_usage(connection: sqlite3.Connection) -> list[str]:
    """Recount, replace what differs (in the caller's transaction), and say what that was."""
    counted, stored = _counts(connection, _RECOUNT), _counts(connection, _STORED)
    if counted == stored:
        return []
    connection.execute("DELETE FROM usage")
    connection.executemany(
        "INSERT INTO usage (source, job_queue, state, batch_status, is_in_doubt, is_array, is_unmet, count) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(*place, count) for place, count in counted.items()],
    )
    return _differences(counted, stored)


def audit(connection: sqlite3.Connection) -> list[str]:
    """Everything that contradicts itself: counts, bodies, indexes, constraints."""
    findings = _differences(_counts(connection, _RECOUNT), _counts(connection, _STORED))
    findings += [
        f"row {key}: its body is {'missing' if is_missing else 'not erased'}"
        for key, is_missing in connection.execute(
            "SELECT jobs.key, bodies.key IS NULL FROM jobs LEFT JOIN bodies USING (key) "
            "WHERE (jobs.state < 2) = (bodies.key IS NULL) "
            "UNION ALL SELECT key, 0 FROM bodies WHERE key NOT IN (SELECT key FROM jobs)"
        )
    ]
    findings += [
        f"row {key}: what it depends on is {'missing' if is_missing else 'not erased'}"
        for key, is_missing in connection.execute(
            "SELECT key, 1 FROM jobs WHERE state < 2 AND dependencies > 0 "
            "AND key NOT IN (SELECT row_key FROM dependencies) "
            "UNION ALL SELECT row_key, 0 FROM dependencies "
            "WHERE row_key NOT IN (SELECT key FROM jobs WHERE state < 2 AND dependencies > 0)"
        )
    ]
    findings += [
        f"outbox row {key}: the row it reports is gone"
        for (key,) in connection.execute(
            "SELECT key FROM outbox WHERE row_key IS NOT NULL "
            "AND row_key NOT IN (SELECT key FROM jobs UNION ALL SELECT key FROM rejections)"
        )
    ]
    findings += [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
    return findings


def _counts(connection: sqlite3.Connection, sql: str) -> Counts:
    return {tuple(place): count for *place, count in connection.execute(sql)}


def _differences(counted: Counts, stored: Counts) -> list[str]:
    places = sorted(place for place in counted.keys() | stored.keys() if counted.get(place) != stored.get(place))
    return [f"usage of {_shown(place)} was {stored.get(place, 0)} and is {counted.get(place, 0)}" for place in places]


def _shown(place: tuple[int, ...]) -> str:
    source, job_queue, state, status, is_in_doubt, is_array, is_unmet = place
    return (
        f"source {source}, job queue {job_queue}, {STATES[state]}"
        f"{f' {STATUSES[status]}' if status >= 0 else ''}{' in doubt' if is_in_doubt else ''}"
        f"{' array' if is_array else ''}{' that waits for another request' if is_unmet else ''}"
    )
