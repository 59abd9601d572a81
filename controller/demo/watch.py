"""What the controller has reported so far, folded from its events: one line in, counts up to date. Pure.

Events come at least once; what has been seen under an ``event_id`` before changes nothing. Nothing here knows what was
planned: ``proof.py`` compares.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from controller.demo.workload import Stage

JSON = Any
Event = Mapping[str, JSON]

FINAL_EVENTS: Final = frozenset({"request.rejected", "job.finished", "job.lost", "job.cancelled"})
FAILURES_KEPT: Final = 50
QUEUED: Final = "queued"
WAITING: Final = "waiting"
STARTING: Final = "starting"
RUNNING: Final = "running"
IN_FLIGHT: Final = (WAITING, STARTING, RUNNING)
COLUMNS: Final = (QUEUED, *IN_FLIGHT)
"""Where a request stands before its end. Batch's SUBMITTED, PENDING and RUNNABLE are one: it waits."""
_COLUMN_OF: Final = {
    "SUBMITTED": WAITING,
    "PENDING": WAITING,
    "RUNNABLE": WAITING,
    "STARTING": STARTING,
    "RUNNING": RUNNING,
}


@dataclass(slots=True)
class QueueSeen:
    """One Batch job queue."""

    standing: Counter[str] = field(default_factory=Counter)
    """Requests per column."""
    ended: Counter[str] = field(default_factory=Counter)
    """Requests per outcome."""
    in_flight_max: int = 0
    """Most jobs in flight at once, in the order of the events."""

    @property
    def in_flight(self) -> int:
        return sum(self.standing[column] for column in IN_FLIGHT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A request that did not succeed."""

    at: float
    name: str
    """Request id, or message id."""
    job_queue: str
    outcome: str
    reason: str


@dataclass(slots=True)
class Seen:
    """Everything reported so far."""

    finals: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    """Final events by message id; each ``event_id`` once."""
    queues: dict[str, QueueSeen] = field(default_factory=lambda: defaultdict(QueueSeen))
    outcomes: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    """Events by name."""
    failures: deque[Failure] = field(default_factory=lambda: deque(maxlen=FAILURES_KEPT))
    """The latest last."""
    accepted: dict[str, Event] = field(default_factory=dict)
    """``request.accepted`` by message id."""
    _stages: dict[str, Stage] = field(default_factory=dict)
    _columns: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Request id → (job queue, column)."""
    _event_ids: set[str] = field(default_factory=set)

    def fold(self, event: Event) -> bool:
        """Take one event in; False: it was known already."""
        if event["event_id"] in self._event_ids:
            return False
        self._event_ids.add(event["event_id"])
        name = event["event"]
        self.names[name] += 1
        if name == "request.accepted":
            self.accepted[event["message_id"]] = event
        if name in FINAL_EVENTS:
            self._end(event)
        elif "request_id" in event:
            self._move(event)
        return True

    def has_reached(self, request_id: str, stage: Stage) -> bool:
        """Whether a request has come at least so far."""
        reached = self._stages.get(request_id)
        return reached is not None and _ORDER[reached] >= _ORDER[stage]

    @property
    def ended(self) -> int:
        """Messages with a final event."""
        return len(self.finals)

    def standing(self) -> Counter[str]:
        """Requests per column, over all job queues."""
        return sum((queue.standing for queue in self.queues.values()), Counter())

    def _move(self, event: Event) -> None:
        request_id, name = event["request_id"], event["event"]
        status = event.get("batch_status")
        column = QUEUED if name == "request.accepted" else _COLUMN_OF.get(status or "SUBMITTED")
        if column is None or name == "submission.in_doubt":
            return
        self._leave(request_id)
        queue = self.queues[event["job_queue"]]
        queue.standing[column] += 1
        queue.in_flight_max = max(queue.in_flight_max, queue.in_flight)
        self._columns[request_id] = (event["job_queue"], column)
        self._reach(request_id, Stage.RUNNING if column == RUNNING else Stage.ACCEPTED)

    def _end(self, event: Event) -> None:
        self.finals[event["message_id"]].append(event)
        self.outcomes[event["outcome"]] += 1
        request_id = event.get("request_id")
        if request_id is not None and self._leave(request_id):
            self.queues[event["job_queue"]].ended[event["outcome"]] += 1
        if request_id is not None:
            self._reach(request_id, Stage.FINISHED)
        if event["outcome"] != "succeeded":
            self.failures.append(_failure(event))

    def _leave(self, request_id: str) -> bool:
        place = self._columns.pop(request_id, None)
        if place is not None:
            self.queues[place[0]].standing[place[1]] -= 1
        return place is not None

    def _reach(self, request_id: str, stage: Stage) -> None:
        if not self.has_reached(request_id, stage):
            self._stages[request_id] = stage


_ORDER: Final = {stage: rank for rank, stage in enumerate(Stage)}


def _failure(event: Event) -> Failure:
    return Failure(
        at=datetime.fromisoformat(event["time"]).timestamp(),
        name=event.get("request_id") or event["message_id"][:13] + "…",
        job_queue=event.get("job_queue", "–"),
        outcome=event["outcome"],
        reason=reason_of(event),
    )


def reason_of(event: Event) -> str:
    """Why, in a few words: the exit code where there is one that says more than Batch's text."""
    if event.get("reason_class") == "application_exit_code":
        return f"exit code {event['exit_code']}"
    if event.get("reason_class") == "out_of_memory":
        return f"out of memory, exit code {event['exit_code']}"
    if event.get("reason_class") == "cancelled":
        return f"cancelled: {event['reason']}"
    attempts = event.get("attempts") or [{}]
    reason = attempts[-1].get("reason") if event.get("reason_class") == "image_pull" else None
    return str(reason or event.get("reason") or "no reason given")
