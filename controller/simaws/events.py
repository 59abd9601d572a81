"""EventBridge, simulated as far as AWS Batch uses it: job state changes, through rules, into SQS queues.

Nothing is scheduled while there is no rule. With one, a heap holds the next change of every job (and array child); the
event is written as the job looks at that change, and put into the queue after the profile's lag. Shape of the event:
AWS Batch user guide, "Job state change events". There is no event for the submission itself; ``time`` has whole
seconds; delivery is at least once, in no order, if the fault plan says so.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Any

import orjson

from controller.simaws.batch_resources import Job, Place
from controller.simaws.batch_schedule import WHOLE
from controller.simaws.batch_timeline import NEVER, Step, draw, steps
from controller.simaws.batch_views import child_detail, detail
from controller.simaws.faults import FaultPlan
from controller.simaws.history import History, MessageAction
from controller.simaws.profile import Profile
from controller.simaws.sqs import Sqs

Key = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which changes go to which SQS queue (by name)."""

    name: str
    queue: str
    job_queues: frozenset[str] | None = None
    """Names; None: all."""
    statuses: frozenset[str] | None = None

    def matches(self, job: Job, status: str) -> bool:
        is_queue = self.job_queues is None or job.queue.name in self.job_queues
        return is_queue and (self.statuses is None or status in self.statuses)


class EventBridge:
    """The default event bus's rules for AWS Batch."""

    def __init__(
        self, *, place: Place, rng: random.Random, profile: Profile, faults: FaultPlan, history: History, sqs: Sqs
    ) -> None:
        self.rules: dict[str, Rule] = {}
        self.profile = profile
        self._place, self._rng, self._faults, self._history, self._sqs = place, rng, faults, history, sqs
        self._changes: list[tuple[float, int, Job, int]] = []
        self._deliveries: list[tuple[float, int, str, str]] = []
        self._shown: dict[Key, int] = {}
        """Steps of an execution that are past; its SUBMITTED makes no event."""
        self._next: dict[Key, float] = {}
        self._serial = 0

    def put_rule(self, rule: Rule, jobs: Iterable[Job], now: float) -> None:
        """Add or replace a rule; it sees changes from now on."""
        is_first = not self.rules
        self.rules[rule.name] = rule
        if is_first:
            for job in jobs:
                for index in self._indices(job):
                    past = sum(1 for step in self._steps(job, index) if step.at <= now)
                    self._shown[job.serial, index] = max(1, past)
                    self._schedule(job, index)

    def planned(self, job: Job, index: int) -> None:
        """A job's known future has changed."""
        if not self.rules:
            return
        for number in self._indices(job) if index == WHOLE else (index, WHOLE):
            self._schedule(job, number)

    def next_at(self) -> float | None:
        """When the next event is made or delivered."""
        instants = [heap[0][0] for heap in (self._changes, self._deliveries) if heap]
        return min(instants, default=None)

    def advance(self, now: float) -> None:
        """Make and deliver every event up to ``now``, in order."""
        while (at := self.next_at()) is not None and at <= now:
            if self._changes and self._changes[0][0] == at:
                _, _, job, index = heappop(self._changes)
                self._show(job, index, at)
            else:
                _, _, queue, body = heappop(self._deliveries)
                self._sqs.deliver(queue, body, at)

    def forget_all(self) -> None:
        """Forget what was to come; rules stay."""
        for known in (self._changes, self._deliveries, self._shown, self._next):
            known.clear()

    def _indices(self, job: Job) -> Iterable[int]:
        if job.children is None or job.children.ready_at == NEVER:
            return (WHOLE,)
        return range(WHOLE, job.children.size)

    def _steps(self, job: Job, index: int) -> list[Step]:
        if index == WHOLE:
            return list(job.steps())
        assert job.children is not None
        return list(steps(job.children.child(index)))

    def _schedule(self, job: Job, index: int) -> None:
        """Have the next change of an execution shown when it comes."""
        key = (job.serial, index)
        known = self._steps(job, index)
        shown = self._shown.setdefault(key, 1)
        if shown < len(known) and self._next.get(key) != known[shown].at:
            self._next[key] = known[shown].at
            self._serial += 1
            heappush(self._changes, (known[shown].at, self._serial, job, index))

    def _show(self, job: Job, index: int, at: float) -> None:
        key = (job.serial, index)
        if self._next.get(key) != at:
            return  # planned again since: another entry of the heap stands for it
        del self._next[key]
        known = self._steps(job, index)
        while (shown := self._shown[key]) < len(known) and known[shown].at <= at:
            self._shown[key] = shown + 1
            self._emit(job, index, known[shown], shown + 1)
        self._schedule(job, index)

    def _emit(self, job: Job, index: int, step: Step, steps_max: int) -> None:
        for rule in self.rules.values():
            if not rule.matches(job, step.status):
                continue
            event = self._event(job, index, step, steps_max)
            if self._faults.chance(self._faults.service.event_drop_p):
                self._history.message(step.at, MessageAction.EVENT_DROPPED, rule.queue, event["detail"]["jobId"])
                continue
            copies = 2 if self._faults.chance(self._faults.service.event_duplicate_p) else 1
            body = orjson.dumps(event).decode()
            for _ in range(copies):
                self._serial += 1
                heappush(self._deliveries, (step.at + self._lag_s(), self._serial, rule.queue, body))

    def _lag_s(self) -> float:
        lag_s = draw(self._rng, self.profile.event_lag_s)
        if self._faults.chance(self._faults.service.event_delay_p):
            lag_s += self._faults.seconds(self._faults.service.event_delay_s)
        return lag_s

    def _event(self, job: Job, index: int, step: Step, steps_max: int) -> dict[str, Any]:
        if index == WHOLE:
            shape = detail(job, step.at, steps_max=steps_max)
        else:
            shape = child_detail(job, index, step.at, steps_max=steps_max)
        shape["status"] = step.status
        shape["tags"] = {"resourceArn": shape["jobArn"], **shape["tags"]}
        digits = f"{self._rng.getrandbits(128):032x}"
        return {
            "version": "0",
            "id": f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}",
            "detail-type": "Batch Job State Change",
            "source": "aws.batch",
            "account": self._place.account,
            "time": datetime.fromtimestamp(int(step.at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": self._place.region,
            "resources": [shape["jobArn"]],
            "detail": shape,
        }
