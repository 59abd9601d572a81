"""Health: what the process knows of itself, in memory; the answers of ``/livez`` and ``/readyz``.

Stages report here: heartbeats, and for each outward call whether it worked last. *Live* means that every expected stage
turns; waiting out a failure of AWS or the store is turning. *Ready* means that the store is open, no call is refused,
every SQS queue was reached and the role (leader or standby) is known. Nothing here blocks. One log line says that a
call is refused, and one that it works again, however many stages meet it and how often; of refusals that come and go,
one a minute is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from controller.core.errors import BadCredentials, NotAllowed
from controller.ports import Clock

REFUSAL_FRESH_S: Final = 300.0
"""A refusal that was not repeated for so long counts no more: a call that is still wanted is repeated far more often
(the longest pause of a stage is some 15 s), and one that is no longer made can't report success."""

REFUSALS_EVERY_S: Final = 60.0
"""Between two lines of the log that tell of the same call's refusal."""

INTAKE_WAITS_S: Final = 60.0
"""Intake waits for so long after the latest sign that the credentials are bad. Calls that are still wanted are repeated
more often; where none is, a receive of its own finds out."""

RECEIVE: Final = "sqs:ReceiveMessage"
DELETE: Final = "sqs:DeleteMessageBatch"
NOT_REACHED: Final = f"no successful {RECEIVE} yet"
INTAKE_CALLS: Final = frozenset({RECEIVE, DELETE})
"""Intake's own calls never stop intake: nothing else would find out that they work again."""

CREDENTIALS: Final = "sts:credentials"
"""The SDK's look for credentials, from whatever source; no call that IAM knows."""

IAM_ACTIONS: Final[Mapping[str, str]] = {
    DELETE: "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
}
"""IAM's name of the action, where it is not the call's."""

INTAKE_REFUSALS: Final[Mapping[str, str]] = {RECEIVE: "receive_refused", DELETE: "delete_refused"}
"""Intake's own calls that are waited for while they are refused, and what ``intake_paused{reason}`` calls that."""

INTAKE_BLOCKERS: Final = ("store", "disk", "credentials", "standby")
"""Closed set of the keys of ``intake_blockers``."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    message: str
    refused_at: float
    """Monotonic."""
    is_permission: bool
    is_told: bool
    """In the log."""


@dataclass(slots=True)
class _Stage:
    within_s: float
    turned_at: float
    """Monotonic."""


class Health:
    """One process's state. All instants are the clock's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._stages: dict[tuple[str, str], _Stage] = {}
        """By name and part: of loops that turn side by side each must turn."""
        self._turned_at: dict[tuple[str, str], float] = {}
        self._refusals: dict[tuple[str, str], _Refusal] = {}
        self._refusal_told_at: dict[tuple[str, str], float] = {}
        """Monotonic."""
        self._queues: dict[str, str | None] = {}
        """Why each was not reached; None: it was."""
        self._is_store_open = False
        self._store_problem: str | None = None
        self._shortage: str | None = None
        self._file_problem: str | None = None
        self._is_leader: bool | None = None
        self._log = structlog.get_logger(stage="health")

    # --- reports --------------------------------------------------------------------------------------

    def expect(self, stage: str, within_s: float, *, part: str = "") -> None:
        """From now on ``stage`` must turn at least every ``within_s`` seconds; so must each ``part`` of it, if it has
        several."""
        self._stages[stage, part] = _Stage(within_s, self._clock.monotonic())

    def dismiss(self, stage: str, *, part: str = "") -> None:
        """It has ended as it should (drain); it is expected no more."""
        self._stages.pop((stage, part), None)
        self._turned_at.pop((stage, part), None)

    def turned(self, stage: str, *, part: str = "") -> None:
        """A heartbeat."""
        self._turned_at[stage, part] = self._clock.now()
        expected = self._stages.get((stage, part))
        if expected is not None:
            expected.turned_at = self._clock.monotonic()

    def refused(self, call: str, message: str, *, subject: str = "", is_permission: bool = False) -> None:
        """An outward call (``service:Operation``) was refused. ``subject`` is what it was about, such as the
        URL of an SQS queue; ``is_permission`` tells that the caller is known but may not, so that only this is lacking.
        """
        key, now = (call, subject), self._clock.monotonic()
        known = self._fresh().get(key)
        is_told = known is not None and known.is_told
        told_at = self._refusal_told_at.get(key)
        if not is_told and (told_at is None or now - told_at >= REFUSALS_EVERY_S):
            self._log.error("call refused", call=call, subject=subject or None, reason=message)
            self._refusal_told_at[key] = now
            is_told = True
        self._refusals[key] = _Refusal(message, now, is_permission, is_told)
        if call == RECEIVE:
            self._reached(subject, NOT_REACHED)

    def worked(self, call: str, *, subject: str = "") -> None:
        """An outward call was answered. That also ends what was reported of the call as such, without a subject; and
        that credentials were refused to another call of the service, which perhaps nobody makes any more."""
        if self._refusals:
            service = call.partition(":")[0]
            for (other, its), refusal in list(self._refusals.items()):
                is_same = other == call and its in (subject, "")
                if is_same or (other.partition(":")[0] == service and _is_of_credentials(other, refusal)):
                    del self._refusals[other, its]
                    if refusal.is_told:
                        self._log.info("call works again", call=other, subject=its or None)
        if call == RECEIVE:
            self._reached(subject, None)

    @contextmanager
    def watched(self, call: str, *, subject: str = "") -> Iterator[None]:
        """Around one outward call: reports whether it was refused or worked. Other errors say nothing of either."""
        try:
            yield
        except (BadCredentials, NotAllowed) as error:
            self.refused(call, str(error), subject=subject, is_permission=isinstance(error, NotAllowed))
            raise
        self.worked(call, subject=subject)

    def expect_queue(self, url: str) -> None:
        """An SQS queue that must be reached before this is ready."""
        self._queues.setdefault(url, NOT_REACHED)

    def has_reached(self, url: str) -> bool:
        """Whether an SQS queue answered a receive, the last time that one was asked."""
        return self._queues.get(url, NOT_REACHED) is None

    def not_reached(self, url: str, message: str, *, is_throttled: bool = False) -> None:
        """A receive failed, and not for want of access: there is no such queue, or no way to it; or it was throttled,
        again and again."""
        remedy = (
            "SQS, or KMS for a queue that is encrypted, takes fewer calls than are made; it is tried again by itself"
            if is_throttled
            else "check the URL, that the queue exists, and the network"
        )
        self._reached(url, f"{message}; {remedy}")

    def not_asked(self, url: str) -> None:
        """The backlog is full, so nothing is received: whether the SQS queue can be reached is not known, and not
        needed for now. What was reported of it stands."""
        if (RECEIVE, url) not in self._fresh() and self._queues.get(url) == NOT_REACHED:
            self._reached(url, None)

    def store_ok(self) -> None:
        """The store is open, answers and takes changes."""
        self._is_store_open = True
        self._store_problem = None

    def store_failed(self, message: str) -> None:
        """The store did not answer, or took no change."""
        self._store_problem = message

    @property
    def has_store_failed(self) -> bool:
        """Whether it did the last time. That it can be read then says nothing of changes."""
        return self._store_problem is not None

    def store_short(self, message: str | None) -> None:
        """The store's disk has too little room for anything new, and what to do about it; None: it has enough."""
        if message is not None and self._shortage is None:
            self._log.error("the disk is nearly full", reason=message)
        elif message is None and self._shortage is not None:
            self._log.info("the disk has room again")
        self._shortage = message

    def store_file(self, problem: str | None) -> None:
        """What is written is not where the next start would look for it, or is damaged, and what to do about it; None:
        it is there."""
        if problem is not None and self._file_problem is None:
            self._log.error("the store's file is gone or damaged", reason=problem)
        elif problem is None and self._file_problem is not None:
            self._log.info("the store's file is there again")
        self._file_problem = problem

    def leads(self, *, is_leader: bool) -> None:
        """The role is known; a single process is the leader."""
        self._is_leader = is_leader

    def _reached(self, url: str, problem: str | None) -> None:
        """Without a URL the report is about every queue."""
        for queue in [url] if url else list(self._queues):
            self._queues[queue] = problem

    # --- answers --------------------------------------------------------------------------------------

    @property
    def is_leader(self) -> bool:
        return self._is_leader is True

    def last_turns(self) -> Mapping[str, float]:
        """When each stage turned last, in seconds since the epoch; of several parts the one that turned longest ago."""
        turns: dict[str, float] = {}
        for (name, _), at in self._turned_at.items():
            turns[name] = min(at, turns.get(name, at))
        return turns

    def turn_limits(self) -> Mapping[str, float]:
        """Within how many seconds each expected stage must turn."""
        return {name: stage.within_s for (name, _), stage in self._stages.items()}

    def is_live(self, now: float | None = None) -> tuple[bool, dict[str, Any]]:
        """Whether every expected stage turned within its limit by ``now`` (monotonic); and each stage's age, of several
        parts the greatest."""
        now = self._clock.monotonic() if now is None else now
        stages: dict[str, dict[str, Any]] = {}
        for (name, _), stage in sorted(self._stages.items(), key=lambda each: (each[0][0], -each[1].turned_at)):
            age_s = max(0.0, now - stage.turned_at)
            stages[name] = {"ok": age_s <= stage.within_s, "age_s": round(age_s, 1), "within_s": stage.within_s}
        is_live = all(stage["ok"] for stage in stages.values())
        return is_live, {"live": is_live, "stages": stages}

    def is_ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether this can do its work now; and per check what is wrong and what to do."""
        checks = {
            "store": _check(self._problem_of_store()),
            "credentials": _check(self._refusal_texts()),
            "queues": _check([f"{url}: {problem}" for url, problem in self._queues.items() if problem is not None]),
            "leader": _check("not known yet whether this is the leader" if self._is_leader is None else None),
        }
        is_ready = all(check["ok"] for check in checks.values())
        return is_ready, {"ready": is_ready, "leader": self._is_leader, "checks": checks}

    def _problem_of_store(self) -> str | None:
        if not self._is_store_open:
            return self._store_problem or "not open yet"
        return self._store_problem or self._file_problem or self._shortage

    def intake_blockers(self) -> Mapping[str, bool]:
        """Reasons not to receive, each with whether it holds now."""
        return {
            "store": self._store_problem is not None or self._file_problem is not None,
            "disk": self._shortage is not None,
            "credentials": any(
                _is_of_credentials(call, refusal) and self._clock.monotonic() - refusal.refused_at < INTAKE_WAITS_S
                for (call, _), refusal in self._fresh().items()
            ),
            "standby": self._is_leader is False,
        }

    def is_unreached(self, queues: Collection[str]) -> bool:
        """Whether one of these SQS queues could not be reached, the last time that it was asked for messages."""
        return any(self._queues.get(queue) not in (None, NOT_REACHED) for queue in queues)

    def intake_refusals(self, queues: Collection[str]) -> Mapping[str, bool]:
        """Of intake's own calls, which are refused now, for one of these SQS queues. They do not close the gate: they
        are tried again by themselves, and nothing is received meanwhile."""
        refused = {call for call, subject in self._fresh() if subject in queues}
        return {reason: call in refused for call, reason in INTAKE_REFUSALS.items()}

    def _fresh(self) -> Mapping[tuple[str, str], _Refusal]:
        if self._refusals:
            since = self._clock.monotonic() - REFUSAL_FRESH_S
            self._refusals = {key: one for key, one in self._refusals.items() if one.refused_at > since}
        return self._refusals

    def _refusal_texts(self) -> list[str]:
        return [
            f"{call}{f' on {subject}' if subject else ''}: {refusal.message.removeprefix(f'{call}: ')}; {_remedy(call)}"
            for (call, subject), refusal in sorted(self._fresh().items())
        ]


def _is_of_credentials(call: str, refusal: _Refusal) -> bool:
    """Whether the credentials were refused as such. Intake's own calls are refused for other reasons too."""
    return call not in INTAKE_CALLS and not refusal.is_permission


def _remedy(call: str) -> str:
    if call == CREDENTIALS:
        return "check the source of the credentials (service account, profile, environment)"
    return f"check the credentials and that they allow {IAM_ACTIONS.get(call, call)}"


def _check(problem: str | list[str] | None) -> dict[str, Any]:
    return {"ok": False, "problem": problem} if problem else {"ok": True}
