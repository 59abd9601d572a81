"""The requests of a run, drawn from its seed: what is sent when, and how each may end. Pure.

Every environment value and parameter carries the run's canary, a text that may appear in AWS Batch and in dead-lettered
bodies and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count as numbers
from random import Random
from typing import Any, Final

from tests.chaos.plan import DEFINITIONS, QUEUES

Body = dict[str, Any]
REJECTED: Final = frozenset({"rejected"})
CANCELLED: Final = frozenset({"cancelled"})
SUCCEEDED: Final = frozenset({"succeeded"})
FAILED: Final = frozenset({"failed"})
ENDLESS_S: Final = 3_600
"""Run time of jobs that only a cancel ends."""
MESSAGES_BEFORE_END: Final = 0.85
"""Share of the run's expected time in which messages are sent; copies of old ones come until its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """All messages about one request."""

    kind: str
    request_id: str | None
    """None: the MessageId of its only message."""
    endings: frozenset[str]
    """Outcomes that its final event may have."""
    exit_code: int | None = None
    depends_on: str | None = None
    """Id of another request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A message to send."""

    at_s: float
    """From the beginning of the run."""
    body: str
    family: Family
    content: str = "A"
    """Which of a family's contents it carries; empty for a cancel, which has no end of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that SQS has taken."""

    planned: Planned
    message_id: str


def canary_of(seed: int) -> str:
    return f"canary-{seed}-in-the-mine"


def planned_messages(count: int, *, seed: int, lasts_s: float, now: float) -> list[Planned]:
    """Messages of ``count`` requests, in the order of sending, over ``lasts_s``. ``now``: seconds since the epoch."""
    makers = _Makers(Random(f"{seed}/requests"), canary_of(seed), lasts_s, now)
    messages: list[Planned] = []
    left = count
    while left:
        made = list(makers.family())
        requests = len({id(message.family) for message in made})
        if requests <= left:
            messages += made
            left -= requests
    return sorted(messages, key=lambda message: message.at_s)


class _Makers:
    """Makes families, one kind per method."""

    def __init__(self, random: Random, canary: str, lasts_s: float, now: float) -> None:
        self._random = random
        self._canary = canary
        self._lasts_s = lasts_s
        self._now = now
        self._serials = numbers(1)
        self._invalid = self._cycle_invalid()
        self._kinds: list[tuple[int, Callable[[], Iterator[Planned]]]] = [
            (40, self._plain),
            (8, self._failing),
            (4, self._retried),
            (5, self._array),
            (12, self._duplicated),
            (6, self._conflicting),
            (6, self._invalid_body),
            (2, self._not_allowed),
            (3, self._refused),
            (2, self._expired),
            (3, self._expiring),
            (4, self._cancelled_racing),
            (3, self._cancelled_running),
            (2, self._without_id),
            (4, self._linked),
            (2, self._orphaned),
        ]

    def family(self) -> Iterator[Planned]:
        weights = [weight for weight, _ in self._kinds]
        make = self._random.choices([make for _, make in self._kinds], weights)[0]
        return make()

    # --- one kind each ------------------------------------------------------------------------------------

    def _plain(self) -> Iterator[Planned]:
        yield self._one("plain", SUCCEEDED, self._body())

    def _failing(self) -> Iterator[Planned]:
        code = self._random.randint(1, 120)
        yield self._one("failing", FAILED, self._body({"SIM_EXIT": str(code)}), exit_code=code)

    def _retried(self) -> Iterator[Planned]:
        wishes = {"SIM_ENDING": "application", "SIM_FAIL_ATTEMPTS": "1", "SIM_SECONDS": "0.5"}
        yield self._one("retried", SUCCEEDED, self._body(wishes, retryStrategy={"attempts": 3}))

    def _array(self) -> Iterator[Planned]:
        yield self._one("array", SUCCEEDED, self._body(arrayProperties={"size": self._random.randint(2, 5)}))

    def _duplicated(self) -> Iterator[Planned]:
        """The same content again, right behind the first, while it runs, or long after its end."""
        first = self._one("duplicated", SUCCEEDED, self._body())
        yield first
        for _ in range(self._random.randint(1, 3)):
            yield self._again(first, self._later(first.at_s))

    def _conflicting(self) -> Iterator[Planned]:
        """The same id with two contents; whichever SQS delivers first stands."""
        body = self._body()
        first = self._one("conflicting", SUCCEEDED, body)
        other = {**body, "parameters": {**body["parameters"], "content": "B"}}
        yield first
        for _ in range(self._random.randint(1, 2)):
            yield Planned(at_s=self._later(first.at_s), body=json.dumps(other), family=first.family, content="B")
        if self._random.random() < 0.5:
            yield self._again(first, self._later(first.at_s))

    def _invalid_body(self) -> Iterator[Planned]:
        body = self._body()
        made = next(self._invalid)(body)
        text = made if isinstance(made, str) else json.dumps(made)
        family = Family(kind="invalid", request_id=None, endings=REJECTED)
        yield Planned(at_s=self._when(), body=text, family=family)

    def _not_allowed(self) -> Iterator[Planned]:
        yield self._one("not allowed", REJECTED, self._body(jobQueue="forbidden"))

    def _refused(self) -> Iterator[Planned]:
        missing = self._random.choice([{"jobQueue": "missing"}, {"jobDefinition": "missing"}])
        yield self._one("refused", REJECTED, self._body(**missing))

    def _expired(self) -> Iterator[Planned]:
        yield self._one("expired", CANCELLED, self._body(expiresAt="2020-01-01T00:00:00Z"))

    def _expiring(self) -> Iterator[Planned]:
        at_s = self._when()
        instant = datetime.fromtimestamp(self._now + at_s + self._random.uniform(0.5, 20), UTC)
        body = self._body(expiresAt=instant.isoformat(timespec="milliseconds"))
        yield self._one("expiring", CANCELLED | SUCCEEDED, body, at_s=at_s)

    def _cancelled_racing(self) -> Iterator[Planned]:
        """A cancel before, together with, or soon after its request."""
        first = self._one("cancelled in a race", CANCELLED | FAILED | SUCCEEDED, self._body())
        yield first
        yield self._cancel(first, max(0.0, first.at_s + self._random.uniform(-2, 4)))

    def _cancelled_running(self) -> Iterator[Planned]:
        """A job that runs until its cancel ends it."""
        first = self._one("cancelled while running", CANCELLED | FAILED, self._body({"SIM_SECONDS": str(ENDLESS_S)}))
        yield first
        yield self._cancel(first, first.at_s + self._random.uniform(1, 15))

    def _without_id(self) -> Iterator[Planned]:
        body = self._body()
        del body["requestId"]
        family = Family(kind="without id", request_id=None, endings=SUCCEEDED)
        yield Planned(at_s=self._when(), body=json.dumps(body), family=family)

    def _linked(self) -> Iterator[Planned]:
        """A request and one that depends on it, in either order."""
        yield from self._dependent(self._one("depended on", SUCCEEDED, self._body()), "dependent", SUCCEEDED)

    def _orphaned(self) -> Iterator[Planned]:
        """A request that AWS Batch refuses and one that depends on it, in either order."""
        refused = self._one("refused", REJECTED, self._body(jobQueue="missing"))
        yield from self._dependent(refused, "orphaned", CANCELLED)

    def _dependent(self, first: Planned, kind: str, endings: frozenset[str]) -> Iterator[Planned]:
        other_id = first.family.request_id
        body = self._body(dependsOn=[{"requestId": other_id}])
        family = Family(kind=kind, request_id=body["requestId"], endings=endings, depends_on=other_id)
        at_s = max(0.0, first.at_s + self._random.uniform(-10, 10))
        yield first
        yield Planned(at_s=at_s, body=json.dumps(body), family=family)

    # --- parts --------------------------------------------------------------------------------------------

    def _one(
        self, kind: str, endings: frozenset[str], body: Body, *, exit_code: int | None = None, at_s: float | None = None
    ) -> Planned:
        family = Family(kind=kind, request_id=body["requestId"], endings=endings, exit_code=exit_code)
        return Planned(at_s=self._when() if at_s is None else at_s, body=json.dumps(body), family=family)

    def _again(self, first: Planned, at_s: float) -> Planned:
        return Planned(at_s=at_s, body=first.body, family=first.family, content=first.content)

    def _cancel(self, first: Planned, at_s: float) -> Planned:
        body = {"action": "cancel", "requestId": first.family.request_id, "reason": "Not needed any more"}
        return Planned(at_s=at_s, body=json.dumps(body), family=first.family, content="")

    def _when(self) -> float:
        """Bursts: a third of all messages comes in the first tenth of a period of 20 s."""
        at_s = self._random.uniform(0, MESSAGES_BEFORE_END * self._lasts_s)
        return at_s - at_s % 20 + self._random.uniform(0, 2) if self._random.random() < 0.3 else at_s

    def _later(self, at_s: float) -> float:
        gap_s = self._random.choice([0.0, self._random.uniform(0, 3), self._random.uniform(0, self._lasts_s)])
        return min(at_s + gap_s, self._lasts_s)

    def _body(self, wishes: Mapping[str, str] | None = None, /, **members: Any) -> Body:
        request_id = f"r{next(self._serials):05d}"
        environment = {"SECRET": f"{self._canary}-e", **(wishes or {})}
        return {
            "requestId": request_id,
            "jobName": f"job-{self._random.randint(0, 99)}",
            "jobQueue": self._random.choices(QUEUES, (6, 3, 1))[0],
            "jobDefinition": self._random.choices(DEFINITIONS, (5, 1))[0],
            "priority": self._random.choice((0, 0, 0, 10, -5)),
            "parameters": {"content": "A", "secret": f"{self._canary}-p"},
            "containerOverrides": {"environment": [{"name": n, "value": v} for n, v in environment.items()]},
            **members,
        }

    def _cycle_invalid(self) -> Iterator[Callable[[Body], Body | str]]:
        """Bad bodies in turn; many of them bad where the canary is."""
        canary = self._canary

        def variable(value: object) -> Body:
            return {"containerOverrides": {"environment": [{"name": "X", "value": value}]}}

        while True:
            yield lambda body: json.dumps(body)[:-15]
            yield lambda body: json.dumps([body])
            yield lambda body: f'{canary}: "'
            yield lambda body: body | {"jobQeue": "high"}
            yield lambda body: body | {"parameters": {"secret": f"{canary}\0"}}
            yield lambda body: body | {"parameters": {"secret": [canary]}}
            yield lambda body: body | {"parameters": canary}
            yield lambda body: body | variable({"of": canary})
            yield lambda body: body | variable(f"{canary}\ud800")
            yield lambda body: body | {"containerOverrides": {"environment": [canary]}}
            yield lambda body: body | {"arrayProperties": {"size": 1}}
            yield lambda body: body | {"parameters": {"secret": canary * 2_000}}
            yield lambda body: '{"parameters": {"secret": "' + canary + '"}, "priority": NaN}'
