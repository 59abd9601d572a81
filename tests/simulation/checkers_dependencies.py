"""Are requests that depend on others sent when, and only when, those have jobs? Judged by AWS's own jobs and by the
final events.

Part of ``checkers.py``, which calls it with the world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson

from controller.core.limits import REQUEST_ID_TAG
from tests.simulation.dependents import SUBMITS
from tests.simulation.world import SimWorld

IN_ORDER: Final = "dependencies are kept"

BAD_ENDS: Final = ("request.rejected", "job.lost", "job.cancelled")


def dependencies_of(world: SimWorld) -> Mapping[str, Sequence[str]]:
    """The request ids that each request names."""
    found: dict[str, Sequence[str]] = {}
    for sent in world.sent.values():
        if sent.request_id is not None and sent.kind in SUBMITS:
            entries = orjson.loads(sent.body).get("dependsOn", ())
            if named := [entry["requestId"] for entry in entries if "requestId" in entry]:
                found[sent.request_id] = named
    return found


def dependents_are_sent_in_order(world: SimWorld) -> Iterator[str]:
    """A job names the job of each request that it depends on, unless that one had SUCCEEDED by then."""
    depends_on = dependencies_of(world)
    jobs = {job.id: job for job in world.sim.batch.jobs.values()}
    jobs.update({job_id: job for job_id, (_, job) in world.forgotten.items()})
    of_request = {job.tags.get(REQUEST_ID_TAG): job for job in jobs.values()}
    for accepted in world.sim.history.jobs:
        request_id = accepted.tags[REQUEST_ID_TAG]
        named = {entry.get("jobId") for entry in jobs[accepted.job_id].request.get("dependsOn", ())}
        for other_id in depends_on.get(request_id, ()):
            other = of_request.get(other_id)
            if other is None:
                yield f"{IN_ORDER}: {request_id} was submitted, and {other_id}, on which it depends, was not"
            elif other.id not in named:
                end = other.end()
                if end is None or end.status != "SUCCEEDED" or end.at > accepted.at:
                    yield f"{IN_ORDER}: the job of {request_id} does not wait for that of {other_id}"


def dependents_end_for_a_reason(world: SimWorld) -> Iterator[str]:
    """A request ends unsubmitted for its dependencies only if one ended badly, if they go round in a circle, or if it
    has waited for as long as ids are remembered."""
    depends_on = dependencies_of(world)
    ends: dict[str, Mapping[str, Any]] = {}
    for line in world.stdout.lines:
        if "outcome" in line.event and "request_id" in line.event and line.event["event"] != "job.stuck":
            ends[line.event["request_id"]] = line.event
    for request_id, event in ends.items():
        if event["event"] != "job.cancelled" or event["reason_class"] != "dependency_failed":
            continue
        named = depends_on.get(request_id, ())
        is_bad = any(
            (end := ends.get(other)) is not None and (end["event"] in BAD_ENDS or end["outcome"] == "failed")
            for other in named
        )
        waited_s = _at(event["time"]) - _at(event["received_at"])
        if not (is_bad or _is_circular(request_id, depends_on) or waited_s >= world.settings.retention.final_s):
            yield f"{IN_ORDER}: {request_id} was ended after {waited_s:.1f} s without a reason: {event['reason']}"


def _is_circular(request_id: str, depends_on: Mapping[str, Sequence[str]]) -> bool:
    found: set[str] = set()
    to_visit = list(depends_on.get(request_id, ()))
    while to_visit:
        each = to_visit.pop()
        if each not in found:
            found.add(each)
            to_visit.extend(depends_on.get(each, ()))
    return request_id in found


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


CHECKERS: tuple[Callable[[SimWorld], Iterator[str]], ...] = (
    dependents_are_sent_in_order,
    dependents_end_for_a_reason,
)
