"""Small worlds for the crash sweep: one to three requests, and one stage in the foreground of each.

A *step* is what a process runs from one suspension to the next, so whoever is killed at each of its steps is killed at
each ``await``: with the call sent or not, the commit made or not. The next life starts on the same store.

What a dead process had in memory is gone, so two steps between which nothing outside it has changed (no call sent,
nothing committed or written, no time passed) are the same death. ``deaths`` names the first step of each such group;
it is told by the run itself, which is the same up to the kill. Killing at these is as good as killing at every step,
and half the work.

``python -m tests.simulation.crash_scenarios`` kills every world so; ``--all`` kills at literally every step, and then
kills the second life too, at each death of its recovery.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from controller.simaws.profile import Profile
from tests.simulation import world as worlds
from tests.simulation.batch_events import QUEUE as BATCH_EVENTS
from tests.simulation.checkers_extra import check_more
from tests.simulation.loop_process import CURRENT_PROCESS, Process
from tests.simulation.scenario import CANARY, EPOCH, QUEUE_URL, REGION, Disruption, Scenario, Sent
from tests.simulation.sweep import run_scenario
from tests.simulation.world import SimWorld, simulate

STEPS_MAX: Final = 2_000
"""A life with more steps than this is no small world."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallWorld:
    """A world to be crashed."""

    stage: str
    what: str
    """What happens in it if nobody is killed."""
    scenario: Scenario
    shows: tuple[str, ...]
    """Events that standard output has, and calls with their outcome that AWS has, if nobody is killed: without them
    the stage would not be swept at all."""


# --- the worlds -------------------------------------------------------------------------------------------

_SETTINGS: Mapping[str, Any] = {
    "controller": {"name": "sim", "drain_s": 0.5},
    "aws": {"region": REGION, "total_rate_per_s": 48.0},
    "intake": {
        "queue_urls": [QUEUE_URL + "source-0"],
        "dead_letter_queue_url": QUEUE_URL + "dead-letters",
        "receivers": 1,
        "visibility_timeout_s": 3,
    },
    "submit": {"rate_per_s": 20.0, "concurrency": 4, "timeout_s": 1.0, "settle_s": 2.0},
    "track": {"rate_per_s": 8.0, "interval_s_min": 0.5, "interval_s_max": 2.0, "lost_after_s": 40.0},
    "sinks": [{"type": "log"}],
}

_BASE = Scenario(
    seed=0,
    settings=_SETTINGS,
    requests=(),
    sources=("source-0",),
    job_queues={"batch-0": None},
    job_definitions=("work",),
    profile=Profile(
        submitted_s=(0.1, 0.3),
        runnable_s=(0.1, 0.3),
        starting_s=(0.1, 0.3),
        running_s=(0.5, 1.0),
        latency_s=(0.01, 0.05),
    ),
    restart_s=0.01,
    faults_end_s=3.0,
    drain_bound_s=300.0,
    interval_factor=30.0,
)


def _request(name: str, at: float = 0.0, *, environment: Mapping[str, str] | None = None, **members: Any) -> Sent:
    body = {"requestId": name, "jobName": name, "jobQueue": "batch-0", "jobDefinition": "work", **members}
    body["parameters"] = {"input": CANARY}
    if environment is not None:
        variables = [{"name": key, "value": value} for key, value in environment.items()]
        body["containerOverrides"] = {"environment": variables}
    return Sent(at=at, source="source-0", body=orjson.dumps(body).decode(), kind="submit", request_id=name)


def _cancel(name: str, at: float) -> Sent:
    body = orjson.dumps({"action": "cancel", "requestId": name}).decode()
    return Sent(at=at, source="source-0", body=body, kind="cancel", request_id=name)


def _invalid() -> Sent:
    return Sent(
        at=0.0, source="source-0", body=CANARY, kind="invalid", request_id=None, is_valid=False, is_rejected=True
    )


def _with(**sections: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**_SETTINGS, **{name: {**_SETTINGS.get(name, {}), **members} for name, members in sections.items()}}


def _time(at: float) -> str:
    return datetime.fromtimestamp(EPOCH + at, UTC).isoformat(timespec="milliseconds")


_ONE_SLOT: Final = {"batch-0": {"max_in_flight": 1}}

SMALL_WORLDS: Final = (
    SmallWorld(
        stage="ingest",
        what="a request, its duplicate, an invalid message, a cancel that comes before its request",
        scenario=replace(
            _BASE,
            requests=(
                _cancel("later", 0.0),
                _request("one"),
                replace(_request("one"), kind="duplicate"),
                _invalid(),
                _request("later", 0.4),
            ),
        ),
        shows=("request.accepted", "request.rejected", "job.cancelled", "job.finished"),
    ),
    SmallWorld(
        stage="admit",
        what="two requests for one slot",
        scenario=replace(_BASE, requests=(_request("one"), _request("two")), settings=_with(queues=_ONE_SLOT)),
        shows=("job.finished",),
    ),
    SmallWorld(
        stage="depend",
        what="a request comes before the one that it depends on, another one's is refused by AWS Batch",
        scenario=replace(
            _BASE,
            requests=(
                _request("second", dependsOn=[{"requestId": "first"}]),
                _request("first", 0.4),
                _request("other", 0.5, dependsOn=[{"requestId": "refused"}]),
                replace(_request("refused", 0.4, jobQueue="no-such-queue"), kind="no_queue"),
            ),
        ),
        shows=("request.rejected", "job.cancelled", "job.finished"),
    ),
    SmallWorld(
        stage="depend, circle",
        what="two requests that depend on each other",
        scenario=replace(
            _BASE,
            requests=(
                _request("one", dependsOn=[{"requestId": "two"}]),
                _request("two", 0.4, dependsOn=[{"requestId": "one"}]),
            ),
        ),
        shows=("job.cancelled",),
    ),
    SmallWorld(
        stage="submit",
        what="SubmitJob is throttled, then answered; the store takes its time",
        scenario=replace(
            _BASE,
            requests=(_request("one"),),
            scripted={"SubmitJob": ("throttle",)},
            disruptions=(Disruption(at=0.0, kind="disk_slow", for_s=3.0, size=0.1),),
        ),
        shows=("SubmitJob throttle", "job.submitted"),
    ),
    SmallWorld(
        stage="rescue, accepted",
        what="SubmitJob took effect, its answer is lost, and the job is found",
        scenario=replace(_BASE, requests=(_request("one"),), scripted={"SubmitJob": ("reset_after",)}),
        shows=("submission.in_doubt", "submission.adopted"),
    ),
    SmallWorld(
        stage="rescue, accepted late",
        what="SubmitJob takes effect 1.5 s after it was sent; ListJobs fails once",
        scenario=replace(
            _BASE,
            requests=(_request("one"),),
            scripted={"SubmitJob": ("late",), "ListJobs": ("reset",)},
            service_faults={"late_s": (1.5, 1.5)},
            faults_end_s=5.0,
        ),
        shows=("submission.in_doubt", "submission.adopted", "ListJobs reset"),
    ),
    SmallWorld(
        stage="rescue, not accepted",
        what="SubmitJob did not take effect, nobody knows, and after the settle time it is sent again",
        scenario=replace(_BASE, requests=(_request("one"),), scripted={"SubmitJob": ("reset",)}),
        shows=("submission.in_doubt", "job.submitted"),
    ),
    SmallWorld(
        stage="track",
        what="a job that fails once and is tried again by Batch; DescribeJobs fails twice",
        scenario=replace(
            _BASE,
            requests=(
                _request(
                    "one",
                    retryStrategy={"attempts": 2},
                    environment={"SIM_FAIL_ATTEMPTS": "1", "SIM_ENDING": "application"},
                ),
            ),
            scripted={"DescribeJobs": ("empty_after", "reset")},
        ),
        shows=("job.status_changed", "job.finished", "DescribeJobs reset"),
    ),
    SmallWorld(
        stage="track, lost",
        what="Batch forgets a running job",
        scenario=replace(
            _BASE,
            seed=3,
            requests=(_request("one", environment={"SIM_SECONDS": "30"}),),
            settings=_with(track={"lost_after_s": 1.0}),
            disruptions=(Disruption(at=2.5, kind="amnesia"),),
        ),
        shows=("job.lost",),
    ),
    SmallWorld(
        stage="track, array",
        what="children of an array fail; the first ListJobs for them is throttled, the second loses its answer",
        scenario=replace(
            _BASE,
            requests=(
                _request("one", arrayProperties={"size": 3}, environment={"SIM_ENDING": "application"}),
                _request("two", arrayProperties={"size": 2}),
            ),
            scripted={"ListJobs": ("throttle", "reset_after")},
            faults_end_s=5.0,
        ),
        shows=("ListJobs throttle", "ListJobs reset_after", "ListJobs ok", "job.finished"),
    ),
    SmallWorld(
        stage="diagnose",
        what="a queue is blocked for some seconds, while GetJobQueueSnapshot fails once and then is denied",
        scenario=replace(
            _BASE,
            requests=(_request("one"), _request("two")),
            settings=_with(queues={"*": {"stuck_after_s": 1.0}}),
            scripted={"GetJobQueueSnapshot": ("reset", None)},
            disruptions=(
                Disruption(at=0.0, kind="queue_blocked", what="batch-0", for_s=9.5),
                Disruption(at=6.0, kind="snapshot_denied", for_s=4.0),
            ),
            faults_end_s=10.0,
        ),
        shows=("GetJobQueueSnapshot reset", "GetJobQueueSnapshot ok", "job.stuck", "job_queue.blocked", "job.finished"),
    ),
    SmallWorld(
        stage="hints",
        what="a job is polled so seldom that only its events tell of its end; one is lost, one delete fails",
        scenario=replace(
            _BASE,
            requests=(_request("one"), _request("two", 0.3)),
            settings=_with(
                track={"interval_s_min": 10.0, "interval_s_max": 20.0, "events_queue_url": QUEUE_URL + BATCH_EVENTS}
            ),
            profile=replace(_BASE.profile, event_lag_s=(0.0, 0.3)),
            service_faults={"event_drop_p": 0.1, "event_duplicate_p": 0.3},
            scripted={"DeleteMessageBatch": (None, "reset")},
            junk_events=((0.5, "{"), (1.0, "{}")),
        ),
        shows=("job.finished", "DeleteMessageBatch reset"),
    ),
    SmallWorld(
        stage="terminate",
        what="a running job is cancelled; the first TerminateJob is throttled",
        scenario=replace(
            _BASE,
            requests=(_request("one", environment={"SIM_SECONDS": "3000"}), _cancel("one", 2.5)),
            scripted={"TerminateJob": ("throttle",)},
            faults_end_s=4.0,
        ),
        shows=("TerminateJob throttle", "TerminateJob ok", "job.finished"),
    ),
    SmallWorld(
        stage="terminate, in doubt",
        what="a cancel comes while SubmitJob is in doubt; the job is there",
        scenario=replace(
            _BASE,
            requests=(_request("one", environment={"SIM_SECONDS": "3000"}), _cancel("one", 1.6)),
            scripted={"SubmitJob": ("reset_after",)},
        ),
        shows=("submission.adopted", "TerminateJob ok", "job.finished"),
    ),
    SmallWorld(
        stage="expire",
        what="of two requests that expire one waits for its first send and one for its second",
        scenario=replace(
            _BASE,
            requests=(_request("one", expiresAt=_time(2.5)), _request("two", expiresAt=_time(2.5))),
            settings=_with(queues=_ONE_SLOT),
            scripted={"SubmitJob": ("reset",)},
            interval_factor=3.0,
        ),
        shows=("submission.in_doubt", "job.cancelled"),
    ),
    SmallWorld(
        stage="expire, cancel",
        what="a request whose send was in doubt once waits for a slot, and is cancelled",
        scenario=replace(
            _BASE,
            requests=(_request("one"), _request("two", 0.5, priority=1_000), _cancel("one", 4.2)),
            settings=_with(queues=_ONE_SLOT),
            profile=replace(_BASE.profile, running_s=(3.0, 3.5)),
            scripted={"SubmitJob": ("reset",)},
            interval_factor=3.0,
            faults_end_s=5.0,
        ),
        shows=("submission.in_doubt", "job.submitted", "job.cancelled"),
    ),
    SmallWorld(
        stage="publish",
        what="two sinks and a dead letter; one sink fails, then loses its answer",
        scenario=replace(
            _BASE,
            requests=(_request("one"), _invalid()),
            settings={**_SETTINGS, "sinks": [{"type": "log"}, {"type": "sqs", "queue_url": QUEUE_URL + "events-out"}]},
            scripted={"SendMessageBatch": ("reset", "reset_after")},
        ),
        shows=("request.rejected", "job.finished", "SendMessageBatch reset", "SendMessageBatch reset_after"),
    ),
    SmallWorld(
        stage="release",
        what="a disabled job queue is held, and released once it is enabled",
        scenario=replace(
            _BASE,
            requests=(_request("one"),),
            disruptions=(Disruption(at=0.0, kind="queue_disabled", for_s=2.0, what="batch-0"),),
            interval_factor=8.0,
        ),
        shows=("job_queue.held", "job_queue.released", "job.finished"),
    ),
    SmallWorld(
        stage="drain",
        what="SIGTERM finds one request in SubmitJob and others before it",
        scenario=replace(
            _BASE,
            requests=tuple(_request(name) for name in ("one", "two", "three")),
            settings=_with(submit={"rate_per_s": 4.0}),
            disruptions=(Disruption(at=1.3, kind="sigterm"),),
        ),
        shows=("job.submitted", "job.finished"),
    ),
)
"""By stage. All are restarted within 10 ms, so that what the dead have sent is still on its way."""

BY_STAGE: Final[Mapping[str, SmallWorld]] = {each.stage: each for each in SMALL_WORLDS}


# --- crashing ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Crash:
    """What became of a world that was killed at these steps, one per life."""

    at_steps: tuple[int, ...]
    problems: list[str]


def run_small(small: SmallWorld, kill_at: tuple[int, ...] = ()) -> tuple[list[str], SimWorld | None]:
    """Run it with these kills, one per life, and judge it."""
    verdict, world = run_scenario(replace(small.scenario, kill_at_steps=kill_at))
    return verdict.problems + check_more(world), world


def deaths(small: SmallWorld, kill_at: tuple[int, ...] = ()) -> list[int]:
    """Of the life that follows these kills: the steps at which it makes a difference to be killed."""
    name = f"pod-1.{len(kill_at) + 1}"
    found: list[int] = []
    before: list[object] = [None]

    def look(_: int, handle: asyncio.Handle) -> None:
        process = process_of(handle)
        if process is None or process.name != name:
            return
        now = _outside(running_world())
        if now != before[0]:
            before[0] = now
            found.append(process.steps)

    simulate(replace(small.scenario, kill_at_steps=kill_at), on_step=look)
    return found


def process_of(handle: asyncio.Handle) -> Process | None:
    return handle._context.get(CURRENT_PROCESS)  # type: ignore[attr-defined,no-any-return]


def running_world() -> SimWorld:
    assert worlds._logging is not None
    return worlds._logging


def _outside(world: SimWorld) -> object:
    """What a process can have changed outside itself: calls sent, pages written, lines; and the time."""
    connection = world.disk._connection
    changes = 0 if connection is None else connection.total_changes
    return world.loop.time(), hash(world.network.rng.getstate()), changes, len(world.stdout.lines)


def crashes(small: SmallWorld, *, is_every_step: bool = False) -> Iterator[Crash]:
    """Killed at every death, or at literally every step; the last one is not killed any more."""
    steps = range(1, STEPS_MAX) if is_every_step else [*deaths(small), STEPS_MAX]
    for step in steps:
        problems, world = run_small(small, (step,))
        yield Crash((step,), problems)
        if world is not None and not world.kills:
            assert is_every_step or step == STEPS_MAX, "the same life twice"
            return
    raise AssertionError(f"{small.stage}: a life takes more than {STEPS_MAX} steps")


def double_crashes(small: SmallWorld, *, every: int, then_every: int) -> Iterator[Crash]:
    """Killed twice: at every so many of its deaths, and then at every so many of the next life's."""
    for first in deaths(small)[::every]:
        for second in deaths(small, (first,))[::then_every]:
            problems, _ = run_small(small, (first, second))
            yield Crash((first, second), problems)


def missing(small: SmallWorld, world: SimWorld) -> list[str]:
    """What the world was to show and did not."""
    seen = {str(line.event["event"]) for line in world.stdout.lines}
    for operation, outcomes in world.sim.history.call_counts().items():
        seen.update(f"{operation} {outcome}" for outcome in outcomes)
    return [each for each in small.shows if each not in seen]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.crash_scenarios", description=__doc__)
    parser.add_argument("--stage", choices=sorted(BY_STAGE), help="only this one")
    parser.add_argument("--all", action="store_true", help="every step, and every death of the recovery")
    given = parser.parse_args(arguments)
    failed = 0
    for small in SMALL_WORLDS if given.stage is None else (BY_STAGE[given.stage],):
        sweeps = {"killed once": crashes(small, is_every_step=given.all)}
        if given.all:
            sweeps["killed twice"] = double_crashes(small, every=3, then_every=1)
        for name, sweep in sweeps.items():
            failed += _tell(small, name, sweep)
    return 1 if failed else 0


def _tell(small: SmallWorld, name: str, sweep: Iterator[Crash]) -> int:
    """Run a sweep; returns how many runs failed."""
    began, count, failed = time.process_time(), 0, 0
    for crash in sweep:
        count += 1
        if crash.problems:
            failed += 1
            sys.stdout.write(f"{small.stage}, killed at {crash.at_steps}: {crash.problems[0]}\n")
    took_s = time.process_time() - began
    sys.stdout.write(f"{small.stage}, {name}: {count} runs in {took_s:.1f} s, {failed} failed\n")
    sys.stdout.flush()
    return failed


if __name__ == "__main__":
    sys.exit(main())
