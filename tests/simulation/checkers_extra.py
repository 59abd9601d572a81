"""Promises that can be judged only in worlds where little else goes wrong: a request that expires, a job queue that
takes no jobs, a store that fails, a drain. Each checker says by itself whether it applies.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from controller.core.request import batch_job_name
from controller.simaws.history import MessageAction
from tests.simulation.scenario import EPOCH, Disruption
from tests.simulation.world import SimWorld

EXPIRED: Final = "nothing is submitted after it expired"
LEFT_ALONE: Final = "a job queue that takes no jobs is left alone"
NOT_BURNED: Final = "a failing store receives nothing"
DRAINED: Final = "a drain leaves nothing in doubt"
NOT_HASTY: Final = "nothing is refused for good at once"

WAY_S: Final = 0.05
"""From the decision to send to the call's arrival."""
SECOND_CHANCE_S: Final = 2.9
"""Between two refusals of one request, as they arrive."""


def check_more(world: SimWorld | None) -> list[str]:
    """Broken promises of a run that has ended; none if it did not."""
    return [] if world is None else [problem for checker in CHECKERS for problem in checker(world)]


def nothing_is_submitted_after_it_expired(world: SimWorld) -> Iterator[str]:
    """No SubmitJob of a request comes after its ``expiresAt``, by a clock that is right."""
    if any(each.kind == "clock_jump" for each in world.scenario.disruptions):
        return
    expiry = {name: body["expiresAt"] for name, body in _bodies(world).items() if "expiresAt" in body}
    for call in world.sim.history.calls("SubmitJob"):
        text = expiry.get(call.subject or "")
        if text is not None and call.at > datetime.fromisoformat(text).timestamp() + WAY_S:
            late_s = call.at - datetime.fromisoformat(text).timestamp()
            yield f"{EXPIRED}: {call.subject} was sent {late_s:.2f} s after it expired"


def a_closed_queue_is_left_alone(world: SimWorld) -> Iterator[str]:
    """While a job queue takes no jobs, at most what was under way when that was seen is sent to it, once per life."""
    scenario = world.scenario
    if _disrupted_by(world) - {"queue_disabled", "queue_invalid", "sigterm", "kill"} or scenario.call_faults:
        return
    queue_of = {name: body["jobQueue"].rpartition("/")[2] for name, body in _bodies(world).items()}
    refused: dict[str, list[float]] = defaultdict(list)
    for call in world.sim.history.calls("SubmitJob"):
        if call.outcome == "ClientException" and call.subject in queue_of:
            refused[queue_of[call.subject]].append(call.at)
    most = world.settings.submit.concurrency * sum(pod.lives for pod in world.pods)
    for each in scenario.disruptions:
        begins, ends = _window(each)
        count = sum(begins <= at <= ends for at in refused[each.what])
        if each.kind.startswith("queue_") and count > most:
            yield f"{LEFT_ALONE}: {count} SubmitJob calls to {each.what} while it took none"


def a_failing_store_receives_nothing(world: SimWorld) -> Iterator[str]:
    """While the store can't be read or written, no message is received twice: SQS would give it up at last."""
    scenario = world.scenario
    if _disrupted_by(world) != {"disk_broken"} or scenario.call_faults or scenario.service_faults:
        return
    for each in scenario.disruptions:
        begins, ends = _window(each)
        times = Counter(
            record.message_id
            for record in world.sim.history.messages()
            if record.action is MessageAction.RECEIVED
            and begins <= record.at <= ends
            and record.message_id in world.sent
        )
        for message_id, count in times.items():
            if count > 1:
                yield f"{NOT_BURNED}: message {message_id} was received {count} times while the store failed"


def a_drain_leaves_nothing_in_doubt(world: SimWorld) -> Iterator[str]:
    """Where AWS answers and nobody is killed, no request is ever in doubt, however often the process is stopped."""
    scenario = world.scenario
    has_faults = scenario.call_faults or scenario.scripted or scenario.network_faults or scenario.kill_at_steps
    if has_faults or _disrupted_by(world) != {"sigterm"}:
        return
    doubted = {line.event["request_id"] for line in world.stdout.lines if line.event["event"] == "submission.in_doubt"}
    if doubted:
        yield f"{DRAINED}: {len(doubted)} requests were in doubt after SIGTERM: {', '.join(sorted(doubted)[:3])}"


def nothing_is_refused_for_good_at_once(world: SimWorld) -> Iterator[str]:
    """What AWS Batch refuses is sent again only after a while, in which what was wrong for a moment is over. A process
    that was started again does not know of the first time."""
    if sum(pod.lives for pod in world.pods) > 1:
        return
    refused_at: dict[str, float] = {}
    for call in world.sim.history.calls("SubmitJob"):
        if call.outcome != "ClientException" or call.subject is None:
            continue
        before = refused_at.get(call.subject)
        if before is not None and call.at - before < SECOND_CHANCE_S:
            yield f"{NOT_HASTY}: {call.subject} was refused twice within {call.at - before:.2f} s"
            return
        refused_at[call.subject] = call.at


def _disrupted_by(world: SimWorld) -> set[str]:
    return {each.kind for each in world.scenario.disruptions}


def _window(disruption: Disruption) -> tuple[float, float]:
    return EPOCH + disruption.at, EPOCH + disruption.at + disruption.for_s


def _bodies(world: SimWorld) -> Mapping[str, Any]:
    """Valid requests by the name of their job."""
    found: dict[str, Any] = {}
    for message_id, sent in world.sent.items():
        if sent.kind == "submit":
            body = orjson.loads(sent.body)
            request_id = sent.request_id or message_id
            found[batch_job_name(body["jobName"], store_id=world.store_id, request_id=request_id)] = body
    return found


CHECKERS: Final[tuple[Callable[[SimWorld], Iterator[str]], ...]] = (
    nothing_is_submitted_after_it_expired,
    a_closed_queue_is_left_alone,
    a_failing_store_receives_nothing,
    a_drain_leaves_nothing_in_doubt,
    nothing_is_refused_for_good_at_once,
)
