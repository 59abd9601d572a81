"""A run as a person reads it: everything that happened, from all sides, in one list by time; and its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import orjson

from controller.simaws.history import MessageAction
from tests.simulation.scenario import EPOCH
from tests.simulation.world import SimWorld


class Entry(NamedTuple):
    at: float
    who: str
    what: str


_LEFT_OUT = frozenset({"event", "time", "event_id", "job_arn", "batch_job_name", "traceparent", "job_definition"})


def entries(world: SimWorld, *, about: str = "") -> list[Entry]:
    """Everything in order of time; ``about``: only what names this request, message or job."""
    found = [*_calls(world), *_jobs(world), *_messages(world), *_lines(world), *_disruptions(world)]
    return sorted((entry for entry in found if about in entry.what), key=lambda entry: entry.at)


def printed(world: SimWorld, *, about: str = "") -> str:
    return "\n".join(f"{at - EPOCH:10.3f}  {who:8}  {what}" for at, who, what in entries(world, about=about))


def _calls(world: SimWorld) -> Iterator[Entry]:
    for call in world.sim.history.calls():
        size = f" ×{call.size}" if call.size > 1 else ""
        yield Entry(call.at, "call", f"{call.operation} {call.subject or ''}{size}: {call.outcome}")


def _jobs(world: SimWorld) -> Iterator[Entry]:
    jobs = {**world.sim.batch.jobs, **{job_id: job for job_id, (_, job) in world.forgotten.items()}}
    for record in world.sim.history.jobs:
        name = f"job {record.job_id} ({record.job_name}, {' '.join(record.tags.values())})"
        yield Entry(record.at, "batch", f"{name} accepted in {record.job_queue}")
        for step in jobs[record.job_id].steps():
            yield Entry(step.at, "batch", f"{name} {step.status} attempt {step.attempt}")
    for job_id, (at, _) in world.forgotten.items():
        yield Entry(at, "batch", f"job {job_id} forgotten")


def _messages(world: SimWorld) -> Iterator[Entry]:
    for record in world.sim.history.messages():
        sent = world.sent.get(record.message_id)
        what = f" ({sent.kind} {sent.request_id or ''})" if sent is not None else ""
        if sent is not None or record.action is not MessageAction.SENT:
            yield Entry(record.at, "sqs", f"{record.queue} {record.message_id}{what} {record.action.name.lower()}")


def _lines(world: SimWorld) -> Iterator[Entry]:
    for line in world.stdout.lines:
        members = {name: value for name, value in line.event.items() if name not in _LEFT_OUT}
        yield Entry(line.at, "stdout", f"{line.event['event']} {orjson.dumps(members).decode()}")
    for at, logged in zip(world.logged_at, world.logs, strict=True):
        members = {name: value for name, value in logged.items() if name != "event"}
        yield Entry(at, "log", f"{logged['event']} {members}")


def _disruptions(world: SimWorld) -> Iterator[Entry]:
    for each in world.scenario.disruptions:
        what = f"{each.kind} {each.what} for {each.for_s:.1f} s ({each.size:.2f})"
        yield Entry(EPOCH + each.at, "fault", what)
    for at, pod, step in world.kills:
        yield Entry(at, "fault", f"{pod} killed after {step} steps")
    yield Entry(EPOCH + world.scenario.faults_end_s, "fault", "nothing goes wrong from here on")


def digest(world: SimWorld) -> str:
    """The same for the same history, whichever process made it."""
    text = hashlib.sha256()
    for entry in entries(world):
        text.update(repr(entry).encode())
    text.update(f"{world.steps} {world.now!r} {sorted(world.met.items())} {world.problems}".encode())
    return text.hexdigest()
