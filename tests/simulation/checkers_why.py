"""Is what is told of failed children and of stuck jobs true? Judged by Batch's own history.

Part of ``checkers.py``, which calls it with its view of a run.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from controller.core.reasons import classify_texts
from controller.simaws.batch_timeline import FAILED, NEVER, RUNNABLE, RUNNING, STARTING, end_of
from controller.simaws.batch_views import look_at

if TYPE_CHECKING:
    from tests.simulation.checkers import _View

WHY: Final = "what is told of causes is true"
SAME_MOMENT_S: Final = 0.002
"""Times in events are cut to milliseconds."""


def children_are_true(view: _View) -> Iterator[str]:
    """Each array that failed tells its failed children: those of Batch's history with their exit codes and classes, all
    of them unless it says that some may be missing, and never one that did not fail."""
    for line in view.finals:
        event = line.event
        job = view.jobs.get(event.get("job_id", ""))
        if job is None or job.children is None or event["event"] != "job.finished" or event["outcome"] != "failed":
            continue
        told = event.get("failed_children")
        if told is None:
            yield f"{WHY}: array {job.id} failed and tells nothing of its children"
            continue
        truth = _failed_children(job, stopped="cancelled" if event["reason_class"] == "cancelled" else "terminated")
        found = {
            index: (group.get("exit_code"), group["reason_class"]) for group in told["groups"] for index in _in(group)
        }
        wrong = sorted(index for index, how in found.items() if truth.get(index) != how)
        if wrong:
            true = [truth.get(index) for index in wrong]
            yield f"{WHY}: array {job.id} tells {[(index, found[index]) for index in wrong]}, true is {true}"
        is_whole = "incomplete" not in told and "other_children" not in told
        if is_whole and found.keys() != truth.keys():
            yield f"{WHY}: array {job.id}: children {sorted(found)} are told as all that failed, {sorted(truth)} did"


def _failed_children(job: Any, *, stopped: str) -> dict[int, tuple[int | None, str]]:
    """Exit code and class of each child that failed; ``stopped`` is the class of those that were stopped."""
    if job.children.ready_at == NEVER:
        return {}
    truth = {}
    for index in range(job.children.size):
        child = job.children.child(index)
        end = end_of(child)
        if end is not None and end.status == FAILED:
            seen = look_at(child, end.at)
            last = seen.attempts[-1] if seen.attempts else None
            exit_code = None if last is None else last.exit_code
            reason_class = classify_texts(
                status_reason=seen.status_reason,
                reasons=(None if last is None else last.reason,),
                exit_code=exit_code,
                is_stopped=seen.is_stopped,
            )
            truth[index] = (exit_code, stopped if reason_class == "terminated" else reason_class)
    return truth


def _in(group: dict[str, Any]) -> Iterator[int]:
    for part in group["indexes"].split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def stuck_jobs_are_stuck(view: _View) -> Iterator[str]:
    """A job is told as stuck only after having been RUNNABLE for the threshold without a break, once each time."""
    if any(each.kind == "clock_jump" for each in view.world.scenario.disruptions):
        return  # since when it was RUNNABLE is stored in wall time
    told: dict[tuple[str, int], set[str]] = defaultdict(set)
    for line in view.first.values():
        event = line.event
        if event["event"] != "job.stuck":
            continue
        job = view.jobs.get(event["job_id"])
        if job is None:
            continue
        told[job.id, event["attempt"]].add(event["event_id"])
        threshold_s = view.world.settings.queue_limits(event["job_queue"]).stuck_after_s
        if job.children is not None:
            if not _has_waited(job, line.at):
                yield f"{WHY}: array {job.id} is told as stuck, but some of its children were always placed"
        elif not any(
            end - begin >= threshold_s - SAME_MOMENT_S and begin + threshold_s <= line.at + SAME_MOMENT_S
            for begin, end in _runnable(job)
        ):
            yield f"{WHY}: job {job.id} is told as stuck, but was not RUNNABLE for {threshold_s:g} s"
        if event["runnable_for_s"] < threshold_s:
            yield f"{WHY}: job {job.id} is told as stuck after {event['runnable_for_s']} s"
    for (job_id, attempt), ids in told.items():
        if len(ids) > 1:
            yield f"{WHY}: job {job_id} is told as stuck {len(ids)} times in attempt {attempt}"


def _has_waited(job: Any, told_at: float) -> bool:
    """Whether its children had nothing but waited at an instant before it was told. For how long without a break the
    application can't see, only that none had ended meanwhile."""
    for at in (*job.children.changes(), told_at):
        counts = job.children.counts(at)
        if at <= told_at and counts[RUNNABLE] and not counts[STARTING] and not counts[RUNNING]:
            return True
    return False


def _runnable(job: Any) -> Iterator[tuple[float, float]]:
    steps = list(job.steps())
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        if step.status == RUNNABLE:
            yield step.at, math.inf if following is None else following.at


def blocks_end_once(view: _View) -> Iterator[str]:
    """What is told as blocked was blocked, and is told as unblocked once at most, after that."""
    order: dict[tuple[str, str], list[str]] = defaultdict(list)
    stated = {"insufficient_capacity", "misconfigured_resources", "compute_environment_invalid", "undetermined"}
    blocked = {each.what for each in view.world.scenario.disruptions if each.kind == "queue_blocked"}
    for line in view.first.values():
        event = line.event
        if event["event"] in ("job_queue.blocked", "job_queue.unblocked"):
            order[event["job_queue"], event["blocked_at"]].append(event["event"])
        if event["event"] == "job_queue.blocked" and event["cause"] in stated and event["job_queue"] not in blocked:
            yield f"{WHY}: {event['job_queue']} is told as blocked ({event['cause']}), and never was"
    for (name, at), events in order.items():
        if "job_queue.unblocked" in events[:-1] or events[0] != "job_queue.blocked":
            yield f"{WHY}: {name}, blocked at {at}: {', '.join(events)}"
