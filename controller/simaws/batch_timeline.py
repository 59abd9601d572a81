"""A job's life as a function of time: drawn once, looked at whenever somebody asks.

An ``Execution`` holds a handful of instants and the attempts drawn for it; ``steps`` spells out every change of status
that is known so far. Nothing ticks: a million jobs cost memory only. An instant that is not known yet (a dependency
still runs, the queue has no free capacity) is ``NEVER``.

States and reasons: AWS Batch user guide, "Job states", "Automated job retries", "Job timeouts".
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from controller.simaws.profile import Profile, Range

NEVER: Final = math.inf

SUBMITTED: Final = "SUBMITTED"
PENDING: Final = "PENDING"
RUNNABLE: Final = "RUNNABLE"
STARTING: Final = "STARTING"
RUNNING: Final = "RUNNING"
SUCCEEDED: Final = "SUCCEEDED"
FAILED: Final = "FAILED"
STATUSES: Final = (SUBMITTED, PENDING, RUNNABLE, STARTING, RUNNING, SUCCEEDED, FAILED)
FINAL: Final = frozenset({SUCCEEDED, FAILED})

EXITED: Final = "Essential container in task exited"
DEPENDENCY_FAILED: Final = "Dependent Job failed"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ends."""

    exit_code: int | None
    reason: str | None
    """The container's reason."""
    status_reason: str
    is_success: bool = False
    is_retryable: bool = True
    is_started: bool = True
    """False: it failed in STARTING, the container never ran."""
    is_placed: bool = True
    """False: it was refused before STARTING; no attempt is listed."""


SUCCESS: Final = Ending(0, None, EXITED, is_success=True)
APPLICATION_FAILURE: Final = Ending(1, None, EXITED)
OUT_OF_MEMORY: Final = Ending(137, "OutOfMemoryError: Container killed due to memory usage", EXITED)
SPOT_RECLAIM: Final = Ending(None, None, "Host EC2 (instance i-0a1b2c3d4e5f60718) terminated.")
IMAGE_PULL: Final = Ending(
    None,
    "CannotPullContainerError: pull image manifest has been retried 1 time(s): image not found",
    "Task failed to start",
    is_started=False,
)
TIMEOUT: Final = Ending(137, None, "Job attempt duration exceeded timeout", is_retryable=False)
OVERRIDES_TOO_LONG: Final = Ending(
    None, None, "Container Overrides length must be at most 8192", is_retryable=False, is_started=False, is_placed=False
)


class Attempt(NamedTuple):
    """One attempt's dwell times, in seconds, and its end."""

    runnable_s: float
    starting_s: float
    running_s: float
    ending: Ending


@dataclass(frozen=True, slots=True)
class RunSpec:
    """What decides how a job runs: its request, its definition and the SIM_ variables of its environment."""

    attempts_max: int = 1
    rules: tuple[Mapping[str, str], ...] = ()
    """``evaluateOnExit``."""
    timeout_s: float | None = None
    seconds: float | None = None
    ending: Ending | None = None
    failing_attempts: int | None = None
    """Only the first so many attempts end as ``ending`` says; the next one succeeds."""
    is_refused: bool = False
    """Its overrides are longer than ECS takes."""


@dataclass(frozen=True, slots=True)
class Stop:
    """An accepted TerminateJob or CancelJob."""

    at: float
    reason: str
    is_cancel: bool
    after_dependencies: bool = False
    """A PENDING job is cancelled only once its dependencies are complete."""


class Step(NamedTuple):
    """A change of status; ``attempt`` counts the attempts that ended before or with it."""

    at: float
    status: str
    attempt: int = 0


class Execution:
    """One run of a container job: a job of its own, or an array job's child."""

    __slots__ = (
        "attempts",
        "dependency_failed_at",
        "has_dependencies",
        "placed_at",
        "ready_at",
        "settled_at",
        "stop",
        "submitted_at",
    )

    def __init__(self, submitted_at: float, settled_at: float, *, has_dependencies: bool = False) -> None:
        self.submitted_at = submitted_at
        self.settled_at = settled_at
        """When it leaves SUBMITTED."""
        self.has_dependencies = has_dependencies
        self.dependency_failed_at = NEVER
        self.ready_at = NEVER
        """When it becomes RUNNABLE."""
        self.placed_at = NEVER
        """When its first attempt leaves RUNNABLE."""
        self.attempts: Sequence[Attempt] = ()
        self.stop: Stop | None = None


def draw(rng: random.Random, bounds: Range) -> float:
    least, most = bounds
    return least if least == most else least + (most - least) * rng.random()


def draw_attempts(rng: random.Random, profile: Profile, spec: RunSpec) -> tuple[Attempt, ...]:
    """All attempts of one execution, in order; at least one."""
    attempts: list[Attempt] = []
    while True:
        attempts.append(_draw_attempt(rng, profile, spec, len(attempts) + 1))
        ending = attempts[-1].ending
        if ending.is_success or len(attempts) >= spec.attempts_max or not _is_retried(ending, spec.rules):
            return tuple(attempts)


def _draw_attempt(rng: random.Random, profile: Profile, spec: RunSpec, number: int) -> Attempt:
    runnable_s, starting_s = draw(rng, profile.runnable_s), draw(rng, profile.starting_s)
    running_s = draw(rng, profile.running_s)
    ending = _draw_ending(rng, profile, spec, number)
    if spec.seconds is not None:
        running_s = spec.seconds
    if ending is OUT_OF_MEMORY or ending is SPOT_RECLAIM:
        running_s *= rng.random()
    if not ending.is_started:
        running_s = 0.0
    elif spec.timeout_s is not None and running_s > spec.timeout_s:
        running_s, ending = spec.timeout_s, TIMEOUT
    return Attempt(runnable_s, starting_s, running_s, ending)


def _draw_ending(rng: random.Random, profile: Profile, spec: RunSpec, number: int) -> Ending:
    if spec.is_refused:
        return OVERRIDES_TOO_LONG
    if spec.ending is not None:
        return spec.ending if spec.failing_attempts is None or number <= spec.failing_attempts else SUCCESS
    left = rng.random()
    for ending, probability in (
        (APPLICATION_FAILURE, profile.application_failure_p),
        (SPOT_RECLAIM, profile.spot_reclaim_p),
        (OUT_OF_MEMORY, profile.out_of_memory_p),
        (IMAGE_PULL, profile.image_pull_p),
    ):
        if left < probability:
            return ending
        left -= probability
    return SUCCESS


def _is_retried(ending: Ending, rules: Sequence[Mapping[str, str]]) -> bool:
    """``evaluateOnExit``: the first rule whose conditions all match decides; if none does, the job is retried."""
    if not ending.is_retryable:
        return False
    seen = {
        "onStatusReason": ending.status_reason,
        "onReason": ending.reason or "",
        "onExitCode": "" if ending.exit_code is None else str(ending.exit_code),
    }
    for rule in rules:
        if all(name not in rule or _matches(rule[name], value) for name, value in seen.items()):
            return rule["action"].upper() == "RETRY"
    return True


def _matches(glob: str, value: str) -> bool:
    """Batch's globs have ``*`` only at the end."""
    return value.startswith(glob[:-1]) if glob.endswith("*") else value == glob


def steps(execution: Execution) -> Iterator[Step]:
    """Every change of status known so far, in order, from SUBMITTED on."""
    stop_at = _stop_at(execution)
    last = Step(execution.submitted_at, SUBMITTED)
    for step in _planned(execution):
        # What came at the very instant of the stop has come: it may have been shown. But a job that was cancelled while
        # it waited for others ends in the place of becoming RUNNABLE.
        if step.at > stop_at or (
            step.at == stop_at and execution.stop is not None and execution.stop.after_dependencies
        ):
            break
        last = step
        yield step
    if stop_at < NEVER and last.status not in FINAL:
        ended = last.attempt + (last.status in (STARTING, RUNNING))
        yield Step(stop_at, FAILED, ended)


def _stop_at(execution: Execution) -> float:
    stop = execution.stop
    if stop is None:
        return NEVER
    if not stop.after_dependencies:
        return stop.at
    return max(stop.at, min(execution.ready_at, execution.dependency_failed_at))


def _planned(execution: Execution) -> Iterator[Step]:
    """The life it would have if nobody stopped it."""
    yield Step(execution.submitted_at, SUBMITTED)
    if execution.has_dependencies:
        yield Step(execution.settled_at, PENDING)
    if execution.dependency_failed_at < NEVER:
        yield Step(execution.dependency_failed_at, FAILED)
        return
    if execution.ready_at == NEVER:
        return
    yield Step(execution.ready_at, RUNNABLE)
    at = execution.placed_at
    if at == NEVER:
        return
    last = len(execution.attempts) - 1
    for index, attempt in enumerate(execution.attempts):
        if index:
            at += attempt.runnable_s
        if attempt.ending.is_placed:
            yield Step(at, STARTING, index)
            at += attempt.starting_s
        if attempt.ending.is_started:
            yield Step(at, RUNNING, index)
            at += attempt.running_s
        if index < last:
            yield Step(at, RUNNABLE, index + 1)
        else:
            ended = index + attempt.ending.is_placed
            yield Step(at, SUCCEEDED if attempt.ending.is_success else FAILED, ended)


def end_of(execution: Execution) -> Step | None:
    """The final step, if it is known (it may lie in the future)."""
    last: Step | None = None
    for last in steps(execution):  # noqa: B007 - the last one is wanted
        pass
    return last if last is not None and last.status in FINAL else None


def status_at(execution: Execution, now: float) -> str:
    """Its status at ``now``."""
    status = SUBMITTED
    for step in steps(execution):
        if step.at > now:
            break
        status = step.status
    return status
