"""How the safeguards of requests that depend on other requests are switched off. Part of ``ablation_switches.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from controller.adapters.store import sqlite, writes
from controller.adapters.store.sqlite import SqliteStore
from controller.core import request
from controller.core.job import Dependencies, Job
from controller.core.lifecycle import DependenciesMet
from controller.stages import depend, submit
from tests.simulation.ablation_switches import both, put

_JUDGE, _RESOLVED = depend.judge, request._resolved


def _met_at_once(job: Job, depends_on: Sequence[str], lives: Any, **times: float) -> Any:
    if job.dependencies is Dependencies.UNMET:
        return DependenciesMet()
    return _JUDGE(job, depends_on, lives, **times)


def _known_alone(members: dict[str, Any], job_ids: Mapping[str, str | None]) -> dict[str, Any]:
    return _RESOLVED(members, {**dict.fromkeys(request._depends_on(members)), **job_ids})


never_waits = both(put(depend, "judge", _met_at_once), put(request, "_resolved", _known_alone))


async def _none(self: SqliteStore, keys: Any) -> frozenset[Any]:
    return frozenset()


no_circles = put(SqliteStore, "circular", _none)

never_due = put(writes, "_DEPENDENTS_DUE", "UPDATE dependencies SET due = due WHERE request_id IN (:these)")

considered_anyway = put(
    writes, "_CONSIDERED", "UPDATE dependencies SET due = 0 WHERE row_key = ? AND request_id = ? AND ? > 0"
)


def _by_id(jobs: Sequence[Job]) -> dict[str, str | None]:
    return {job.request_id: job.batch_job_id for job in jobs}


named_though_succeeded = put(submit, "job_ids", _by_id)

pruned_though_needed = put(
    sqlite,
    "_PRUNABLE",
    sqlite._PRUNABLE.replace(
        "AND NOT EXISTS (SELECT 1 FROM dependencies INDEXED BY dependencies_on WHERE request_id = jobs.request_id) ", ""
    ),
)
