"""The messages of a demonstration: seeded, varied, each with the end it must come to. Pure.

``plan(count, seed=…, now=…)`` gives exactly ``count`` messages in the order in which they are sent. Some must wait for
others: a duplicate, a conflict or a cancel makes sense only once the controller has the request that it refers to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count as numbers
from itertools import cycle
from random import Random
from typing import Any, Final

from controller.demo.cases import (
    ACCOUNT,
    BULK,
    CASES,
    DEFAULT,
    FORBIDDEN,
    HIGH,
    JOB_DEFINITIONS,
    NIGHTLY,
    REGION,
    RETIRED,
    Case,
)

Body = dict[str, Any]

ARRAY_SIZE: Final = 20
EXIT_CODES: Final = (1, 2, 3, 42, 64, 126)
WITHOUT_ID_EVERY: Final = 10
"""Every so many plain requests has no ``requestId``: its MessageId stands for it."""
RUNS_UNTIL_CANCELLED_S: Final = 3_600
EXPIRES_AFTER_S: Final = 6.0
"""From the start to ``expiresAt`` of a request that waits in a paused job queue."""
HOST_LOST: Final = "Host EC2*"
"""``evaluateOnExit`` pattern that AWS documents for a reclaimed spot instance."""


class Stage(StrEnum):
    """How far the controller has reported a request to have come."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What the final event of a message must say; None: not looked at."""

    outcome: str
    reason_class: str | None = None
    error_code: str | None = None
    exit_code: int | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One message to send."""

    case: Case
    body: str
    request_id: str | None = None
    """None: the request has none, and its MessageId stands for it."""
    ending: Ending | None = None
    """None: no final event may carry this message's id."""
    after: tuple[str, Stage] | None = None
    """Sent once this request has come so far."""


def plan(count: int, *, seed: int, now: float) -> list[Planned]:
    """``count`` messages; ``now`` in seconds since the epoch dates those that expire.

    What AWS Batch refuses comes first: when those requests are through, answers of SubmitJob may be lost on purpose
    without one of them staying in doubt for minutes.
    """
    makers = _Makers(Random(f"demo/{seed}"), now)  # noqa: S311 - a demonstration, not a secret
    numbers_of = _shares(count)
    first = [makers.refused() for _ in range(numbers_of[Case.REFUSED])]
    rest: list[Planned] = []
    for case, make in makers.by_case.items():
        rest += [make() for _ in range(numbers_of[case])]
    makers.random.shuffle(rest)
    named = [message for message in rest if message.case in (Case.PLAIN, Case.ARRAY) and message.request_id is not None]
    for case, others in ((Case.DEPENDENT, named), (Case.ORPHANED, first)):
        for _ in range(numbers_of[case]):
            dependent = makers.dependent(case, makers.random.choice(others)) if others else makers.plain()
            rest.insert(makers.random.randrange(len(rest) + 1), dependent)
    plain = [message for message in rest if message.case is Case.PLAIN and message.request_id is not None]
    followers = [makers.duplicate(plain[n % len(plain)], n) for n in range(numbers_of[Case.DUPLICATE])]
    followers += [makers.conflict(plain[-1 - n % len(plain)]) for n in range(numbers_of[Case.CONFLICT])]
    followers += [makers.cancel(message) for message in rest if message.case in _CANCELS]
    return [*first, *rest, *followers]


_CANCELS: Final[dict[Case, Stage]] = {Case.CANCELLED_QUEUED: Stage.ACCEPTED, Case.CANCELLED_RUNNING: Stage.RUNNING}


def _shares(count: int) -> dict[Case, int]:
    """How many of each; every kind at least once, as far as at most half of the messages go."""
    shares = dict.fromkeys(Case, 0)
    left = count // 2
    for case in sorted(CASES, key=lambda case: CASES[case].share, reverse=True):
        if not CASES[case].share:
            continue
        cost = 2 if case in _CANCELS else 1
        shares[case] = min(max(1, round(CASES[case].share * count)), left // cost)
        left -= shares[case] * cost
        if case in _CANCELS:
            shares[Case.CANCEL] += shares[case]
    shares[Case.PLAIN] = count - sum(shares.values())
    return shares


class _Makers:
    """Makes messages, one kind per method."""

    def __init__(self, random: Random, now: float) -> None:
        self.random = random
        self._now = now
        self._serials = numbers(1)
        self._faults = cycle(_broken_endings())
        self._invalid = cycle(_INVALID)
        self._refused = cycle((self._unknown_queue, self._unknown_definition))
        self.by_case: dict[Case, Callable[[], Planned]] = {
            Case.PLAIN: self.plain,
            Case.ARRAY: self.array,
            Case.RETRIED: self.retried,
            Case.RECLAIMED: self.reclaimed,
            Case.EXIT_CODE: self.exit_code,
            Case.BROKEN: self.broken,
            Case.CANCELLED_RUNNING: self.cancelled_running,
            Case.CANCELLED_QUEUED: self.cancelled_queued,
            Case.EXPIRED: self.expired,
            Case.INVALID: self.invalid,
            Case.NOT_ALLOWED: self.not_allowed,
        }

    # --- jobs that run ------------------------------------------------------------------------------------

    def plain(self) -> Planned:
        body = self._body()
        if int(body["requestId"].rpartition("-")[2]) % WITHOUT_ID_EVERY == 0:
            del body["requestId"]
        if self.random.random() < 0.3:
            body["jobQueue"] = f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{body['jobQueue']}"
        if self.random.random() < 0.3:
            body["tags"] = {"team": self.random.choice(["film", "data", "search"])}
        return _planned(Case.PLAIN, body, Ending(outcome="succeeded", exit_code=0, attempts=1))

    def array(self) -> Planned:
        body = self._body(jobQueue=DEFAULT, arrayProperties={"size": ARRAY_SIZE})
        return _planned(Case.ARRAY, body, Ending(outcome="succeeded"))

    def retried(self) -> Planned:
        wishes = {"SIM_ENDING": "application", "SIM_FAIL_ATTEMPTS": "1", "SIM_SECONDS": "1"}
        body = self._body(retryStrategy={"attempts": 3}, **_environment(wishes))
        return _planned(Case.RETRIED, body, Ending(outcome="succeeded", exit_code=0, attempts=2))

    def reclaimed(self) -> Planned:
        rules = [{"onStatusReason": HOST_LOST, "action": "RETRY"}, {"onReason": "*", "action": "EXIT"}]
        wishes = {"SIM_ENDING": "spot", "SIM_FAIL_ATTEMPTS": "1", "SIM_SECONDS": "2"}
        body = self._body(retryStrategy={"attempts": 5, "evaluateOnExit": rules}, **_environment(wishes))
        return _planned(Case.RECLAIMED, body, Ending(outcome="succeeded", exit_code=0, attempts=2))

    def exit_code(self) -> Planned:
        code = self.random.choice(EXIT_CODES)
        body = self._body(**_environment({"SIM_EXIT": str(code)}))
        ending = Ending(outcome="failed", reason_class="application_exit_code", exit_code=code, attempts=1)
        return _planned(Case.EXIT_CODE, body, ending)

    def broken(self) -> Planned:
        name, ending = next(self._faults)
        return _planned(Case.BROKEN, self._body(**_environment({"SIM_ENDING": name})), ending)

    def cancelled_running(self) -> Planned:
        body = self._body(jobQueue=HIGH, **_environment({"SIM_SECONDS": str(RUNS_UNTIL_CANCELLED_S)}))
        return _planned(Case.CANCELLED_RUNNING, body, Ending(outcome="failed", reason_class="cancelled"))

    def dependent(self, case: Case, of: Planned) -> Planned:
        """Depends on another request, which may come before or after it."""
        ending = (
            Ending(outcome="succeeded", exit_code=0, attempts=1)
            if case is Case.DEPENDENT
            else Ending(outcome="cancelled", reason_class="dependency_failed")
        )
        return _planned(case, self._body(dependsOn=[{"requestId": of.request_id}]), ending)

    # --- requests that never become a job -----------------------------------------------------------------

    def cancelled_queued(self) -> Planned:
        body = self._body(jobQueue=NIGHTLY)
        return _planned(Case.CANCELLED_QUEUED, body, Ending(outcome="cancelled", reason_class="cancelled"))

    def expired(self) -> Planned:
        expires_at = datetime.fromtimestamp(self._now + EXPIRES_AFTER_S, UTC).isoformat(timespec="seconds")
        body = self._body(jobQueue=NIGHTLY, expiresAt=expires_at)
        return _planned(Case.EXPIRED, body, Ending(outcome="cancelled", reason_class="expired"))

    def invalid(self) -> Planned:
        error_code, make = next(self._invalid)
        good = self._body()
        made = make(good)
        text = made if isinstance(made, str) else json.dumps(made)
        ending = Ending(outcome="rejected", reason_class="invalid_request", error_code=error_code)
        return Planned(case=Case.INVALID, body=text, request_id=good["requestId"], ending=ending)

    def not_allowed(self) -> Planned:
        ending = Ending(outcome="rejected", reason_class="not_allowed", error_code="not_allowed")
        return _planned(Case.NOT_ALLOWED, self._body(jobDefinition=FORBIDDEN), ending)

    def refused(self) -> Planned:
        return next(self._refused)()

    def _unknown_queue(self) -> Planned:
        ending = Ending(outcome="rejected", reason_class="refused", error_code="job_queue_not_found")
        return _planned(Case.REFUSED, self._body(jobQueue=RETIRED, priority=1000), ending)

    def _unknown_definition(self) -> Planned:
        ending = Ending(outcome="rejected", reason_class="refused", error_code="ClientException")
        return _planned(Case.REFUSED, self._body(jobDefinition=RETIRED, priority=1000), ending)

    # --- messages about earlier ones ----------------------------------------------------------------------

    def duplicate(self, of: Planned, number: int) -> Planned:
        """The same again, while the first one waits, runs, or after its end."""
        assert of.request_id is not None
        stage = list(Stage)[number % len(Stage)]
        return Planned(case=Case.DUPLICATE, body=of.body, request_id=of.request_id, after=(of.request_id, stage))

    def conflict(self, of: Planned) -> Planned:
        assert of.request_id is not None
        body = json.loads(of.body) | {"parameters": {"revision": "other"}}
        return Planned(
            case=Case.CONFLICT,
            body=json.dumps(body),
            request_id=of.request_id,
            ending=Ending(outcome="rejected", reason_class="conflict", error_code="conflict"),
            after=(of.request_id, Stage.ACCEPTED),
        )

    def cancel(self, of: Planned) -> Planned:
        assert of.request_id is not None
        body = {"action": "cancel", "requestId": of.request_id, "reason": "Not needed any more"}
        after = (of.request_id, _CANCELS[of.case])
        return Planned(case=Case.CANCEL, body=json.dumps(body), request_id=of.request_id, after=after)

    def _body(self, **members: Any) -> Body:
        name = self.random.choice(JOB_DEFINITIONS)
        job_queue = self.random.choices((HIGH, DEFAULT, BULK), weights=(4, 4, 3))[0]
        body = {
            "requestId": f"{name}-{next(self._serials):04d}",
            "jobName": name,
            "jobQueue": job_queue,
            "jobDefinition": name,
            "priority": self.random.choice((0, 0, 0, 10, 100, -5)),
        }
        return body | members


def _planned(case: Case, body: Body, ending: Ending) -> Planned:
    return Planned(case=case, body=json.dumps(body), request_id=body.get("requestId"), ending=ending)


def _environment(wishes: dict[str, str]) -> Body:
    """Container overrides that tell the simulated AWS how the job runs."""
    return {"containerOverrides": {"environment": [{"name": name, "value": value} for name, value in wishes.items()]}}


def _broken_endings() -> Iterator[tuple[str, Ending]]:
    yield "out-of-memory", Ending(outcome="failed", reason_class="out_of_memory", exit_code=137, attempts=1)
    yield "image-pull", Ending(outcome="failed", reason_class="image_pull")
    yield "spot", Ending(outcome="failed", reason_class="spot_reclaim")


def _without(body: Body, name: str) -> Body:
    return {member: value for member, value in body.items() if member != name}


_INVALID: Final[tuple[tuple[str, Callable[[Body], Body | str]], ...]] = (
    ("invalid_json", lambda body: json.dumps(body)[:-20]),
    ("invalid_json", lambda body: json.dumps([body])),
    ("invalid_json", lambda body: "[" * 300 + "]" * 300),
    ("invalid_json", lambda body: " "),
    ("invalid_request", lambda body: _without(body, "jobQueue") | {"jobQeue": HIGH}),
    ("invalid_request", lambda body: body | {"jobName": "no blanks, please"}),
    ("invalid_request", lambda body: body | {"priority": "high"}),
    ("invalid_request", lambda body: body | {"arrayProperties": {"size": 1}}),
    ("invalid_request", lambda body: body | {"timeout": {"attemptDurationSeconds": 5}}),
    ("invalid_request", lambda body: body | {"parameters": {"title": "a\0b"}}),
    ("invalid_request", lambda body: body | _environment({"AWS_BATCH_JOB_ID": "mine"})),
    ("invalid_request", lambda body: body | {"expiresAt": "tomorrow"}),
    ("too_large", lambda body: body | {"parameters": {"scene": "x" * 300 * 1024}}),
    ("wrong_scope", lambda body: body | {"jobQueue": f"arn:aws:batch:us-west-2:{ACCOUNT}:job-queue/{HIGH}"}),
)
"""(``error_code`` of the rejection, what makes a good body bad)."""
