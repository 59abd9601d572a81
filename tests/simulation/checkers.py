"""Are the promises kept? Judged by what the outside saw, never by the controller's own tables.

Each checker yields problems, ``promise: what``; the promise's name is what ablations name. What they look at: AWS's own
history of calls and jobs, the messages sent, lines at the sinks with the time of their arrival, log lines, metrics.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from controller.core.limits import IN_DOUBT_MAX, REQUEST_ID_TAG
from controller.simaws.batch_timeline import FINAL, PENDING, RUNNABLE, SUBMITTED
from controller.simaws.history import BATCH_OPERATIONS
from tests.simulation import checkers_dependencies, checkers_events, checkers_pressure, checkers_tenants, checkers_why
from tests.simulation.scenario import CANARY, EPOCH
from tests.simulation.world import DEAD_QUEUE, EVENTS_QUEUE, Line, SimWorld

FINAL_EVENTS = frozenset({"request.rejected", "job.finished", "job.lost", "job.cancelled"})
SERIES_MAX = 1_200
"""Lines that ``/metrics`` may have, whatever was done: families, closed label sets, a few job queues."""
RELOADED = "schedule lacked jobs; they are in it again"
OWN_MISTAKES = ("piece of work failed", "stage failed", RELOADED)
"""Log lines that only a mistake of ours makes."""

LIST_BUDGET = ["ListJobs", "DescribeJobQueues", "DescribeComputeEnvironments", "GetJobQueueSnapshot"]

EXACTLY_ONE = "one request, one job"
NOTHING_LOST = "nothing is lost"
ONE_FINAL = "one final event"
TRUTH = "the truth is observed"
RATES = "rates hold"
SLOTS = "in-flight limits hold"
SECRETS = "no secret is shown"
BOUNDED = "memory is bounded"
SMALL_OUTAGE = "an outage stays small"
SOUND = "no mistake of ours"
REPORTED = "every end is reported"


def check(world: SimWorld) -> list[str]:
    """Every broken promise of a run that has ended."""
    view = _View(world)
    found = list(world.problems)
    for checker in CHECKERS:
        found.extend(checker(view))
    for judged in (
        *checkers_dependencies.CHECKERS,
        *checkers_events.CHECKERS,
        *checkers_pressure.CHECKERS,
        *checkers_tenants.CHECKERS,
    ):
        found.extend(judged(world))
    return found


class _View:
    """The records of a world, put in order once."""

    def __init__(self, world: SimWorld) -> None:
        self.world = world
        self.jobs = {job.id: job for job in world.sim.batch.jobs.values()}
        self.jobs.update({job_id: job for job_id, (_, job) in world.forgotten.items()})
        self.depends_on = checkers_dependencies.dependencies_of(world)
        self.by_request: dict[str, list[str]] = defaultdict(list)
        for accepted in world.sim.history.jobs:
            self.by_request[accepted.tags[REQUEST_ID_TAG]].append(accepted.job_id)
        self.lines = world.stdout.lines
        self.first: dict[str, Line] = {}
        """The first arrival of each event id."""
        for line in self.lines:
            self.first.setdefault(line.event["event_id"], line)
        self.finals = [line for line in self.first.values() if line.event["event"] in FINAL_EVENTS]


# --- requests -----------------------------------------------------------------------------------------------


def one_request_one_job(view: _View) -> Iterator[str]:
    """Batch never has two jobs of one request, and each job's name belongs to one."""
    for request_id, job_ids in view.by_request.items():
        if len(job_ids) > 1:
            yield f"{EXACTLY_ONE}: request {request_id} has {len(job_ids)} jobs: {', '.join(job_ids)}"
    names = view.world.sim.history.jobs_per_name()
    for name, count in names.items():
        if count > 1:
            yield f"{EXACTLY_ONE}: {count} jobs are named {name}"


def every_request_ends(view: _View) -> Iterator[str]:
    """Each valid request has a final event that agrees with what Batch has of it; each invalid one its rejection."""
    by_request: dict[str, list[Line]] = defaultdict(list)
    by_message: dict[str, list[Line]] = defaultdict(list)
    for line in view.finals:
        by_message[line.event.get("message_id", "")].append(line)
        if "request_id" in line.event:
            by_request[line.event["request_id"]].append(line)
    for message_id, lines in by_message.items():
        if len(lines) > 1:
            yield f"{ONE_FINAL}: message {message_id} has {len(lines)} final events: {_names(lines)}"
    cancelled = {sent.request_id for sent in view.world.sent.values() if sent.kind == "cancel"}
    given_up = view.world.given_up()
    for message_id, sent in view.world.sent.items():
        request_id = sent.request_id or message_id
        if message_id in given_up and not (by_message[message_id] or by_request[request_id]):
            # SQS's own redrive: never accepted, and never to be submitted.
            if jobs := view.by_request.get(request_id):
                yield f"{EXACTLY_ONE}: message {message_id} was given up by SQS, but has jobs {jobs}"
            continue
        if sent.is_rejected:
            if not by_message.get(message_id):
                yield f"{REPORTED}: {sent.kind} message {message_id} has no rejection"
        elif sent.kind not in ("cancel", "duplicate", "conflict"):
            ended = by_request.get(request_id, [])
            yield from _request_ended(view, request_id, ended, request_id in cancelled)
            is_rejected = any(line.event["event"] == "request.rejected" for line in ended)
            if sent.kind == "submit" and is_rejected and not _names_a_forgotten_job(view, request_id):
                yield f"{NOTHING_LOST}: valid request {request_id} was rejected: {ended[0].event['reason']}"


def _names_a_forgotten_job(view: _View, request_id: str) -> bool:
    """Batch refuses a request that depends on a job which it has forgotten, before the controller knows that it has."""
    others = view.depends_on.get(request_id, ())
    return any(job_id in view.world.forgotten for other in others for job_id in view.by_request[other])


def _request_ended(view: _View, request_id: str, lines: list[Line], is_cancelled: bool) -> Iterator[str]:
    jobs = view.by_request.get(request_id, [])
    # A request that was rejected may be sent again: each message of it may then have a life of its own.
    while len(lines) > 1 and lines[0].event["event"] == "request.rejected":
        lines = lines[1:]
    if len(lines) != 1:
        promise = ONE_FINAL if lines else (REPORTED if jobs else NOTHING_LOST)
        yield f"{promise}: request {request_id} has {len(lines)} final events ({_names(lines)}) and {len(jobs)} jobs"
        return
    event = lines[0].event
    if event["event"] in ("job.finished", "job.lost"):
        if event["job_id"] not in jobs:
            yield f"{TRUTH}: request {request_id} ended with job {event['job_id']}, Batch has {jobs}"
    elif jobs:
        yield f"{EXACTLY_ONE}: request {request_id} ended {event['event']} ({event.get('reason')}), but has job {jobs}"
    elif event.get("reason_class") == "cancelled" and not is_cancelled:
        yield f"{TRUTH}: request {request_id} ended as cancelled, and nobody asked for it"


def every_sink_gets_the_same(view: _View) -> Iterator[str]:
    """An SQS sink has every event id that standard output has, and the other way round."""
    world = view.world
    if len(world.settings.sinks) < 2:
        return
    messages = world.sim.sqs.queues[EVENTS_QUEUE].messages.values()
    sent = {orjson.loads(message.body)["id"] for message in messages}
    if missing := set(view.first) - sent:
        names = sorted({view.first[each].event["event"] for each in missing})
        yield f"{REPORTED}: {len(missing)} events never came to the SQS sink: {', '.join(names)}"
    if extra := sent - set(view.first):
        yield f"{REPORTED}: {len(extra)} events came to the SQS sink only"


def dead_letters(view: _View) -> Iterator[str]:
    """Every rejection's body is in the dead-letter queue."""
    messages = view.world.sim.sqs.queues[DEAD_QUEUE].messages.values()
    dead = {m.attributes["message_id"]["StringValue"] for m in messages if m.attributes}
    for line in view.finals:
        if line.event["event"] == "request.rejected" and line.event["message_id"] not in dead:
            yield f"{REPORTED}: rejected message {line.event['message_id']} is not in the dead-letter queue"


# --- the truth of Batch -------------------------------------------------------------------------------------


def statuses_are_true(view: _View) -> Iterator[str]:
    """No event tells of a (status, attempt) that the job has not had by then, and none goes back in a job's life."""
    last: dict[str, int] = {}
    for line in view.first.values():
        event = line.event
        if event["event"] not in ("job.status_changed", "job.finished"):
            continue
        job = view.jobs.get(event["job_id"])
        if job is None:
            yield f"{TRUTH}: {event['event']} names job {event['job_id']}, which Batch never had"
            continue
        attempt = event["attempt"] if event["event"] == "job.status_changed" else len(event["attempts"])
        steps = [(step.status, step.attempt, step.at) for step in job.steps()]
        had = [n for n, (status, a, _) in enumerate(steps) if status == event["batch_status"] and a == attempt]
        what = f"job {job.id} is reported {event['batch_status']} in attempt {attempt}"
        if not had:
            yield f"{TRUTH}: {what}, Batch's steps are {steps}"
        elif steps[had[-1]][2] > line.at:
            yield f"{TRUTH}: {what} before Batch says so"
        elif had[-1] < last.get(job.id, 0):
            yield f"{TRUTH}: {what} after a later status"
        else:
            last[job.id] = had[-1]


def finals_are_true(view: _View) -> Iterator[str]:
    """``job.finished`` has Batch's own outcome and does not come before it; ``job.lost`` only for forgotten jobs."""
    for line in view.finals:
        event = line.event
        job = view.jobs.get(event.get("job_id", ""))
        if job is None:
            continue
        end = job.end()
        if event["event"] == "job.finished":
            if end is None or end.status not in FINAL or end.at > line.at:
                yield f"{TRUTH}: job {job.id} finished before Batch says so"
            elif end.status.lower() != event["outcome"]:
                yield f"{TRUTH}: job {job.id} ended {end.status}, reported {event['outcome']}"
        elif event["event"] == "job.lost" and job.id not in view.world.forgotten:
            yield f"{TRUTH}: job {job.id} is reported lost, Batch knows it"


# --- limits -------------------------------------------------------------------------------------------------


def rates_hold(view: _View) -> Iterator[str]:
    """Calls in any one-second window stay within the configured rates, as seen by AWS."""
    settings, history = view.world.settings, view.world.sim.history
    kinds: Mapping[str, tuple[float, list[str]]] = {
        "submit": (settings.submit.rate_per_s, ["SubmitJob"]),
        "describe": (settings.track.rate_per_s, ["DescribeJobs"]),
        "list": (settings.list.rate_per_s, LIST_BUDGET),
        "terminate": (settings.terminate.rate_per_s, ["TerminateJob"]),
        "total": (settings.aws.total_rate_per_s, sorted(BATCH_OPERATIONS)),
    }
    for name, (rate, operations) in kinds.items():
        most = history.calls_in_window_max(operations)
        if most > max(1, math.floor(rate)):
            yield f"{RATES}: {most} {name} calls in one second, {rate:g} are allowed"


def slots_hold(view: _View) -> Iterator[str]:
    """Jobs in flight and jobs waiting per Batch job queue stay within the limits, by Batch's own truth."""
    accepted: dict[str, list[Any]] = defaultdict(list)
    for record in view.world.sim.history.jobs:
        accepted[record.job_queue].append(view.jobs[record.job_id])
    for name, jobs in accepted.items():
        limits = view.world.settings.queue_limits(name)
        ends = sorted(job.ends_at for job in jobs)
        ended_waiting = sorted(_waits_until(job) for job in jobs)
        for number, job in enumerate(jobs, start=1):
            at = job.submitted_at
            in_flight = number - bisect_right(ends, at)
            waiting = number - bisect_right(ended_waiting, at)
            if in_flight > limits.max_in_flight:
                yield f"{SLOTS}: {in_flight} jobs in flight in {name}, {limits.max_in_flight} are allowed"
                return
            if waiting > limits.waiting_bound:
                yield f"{SLOTS}: {waiting} jobs waiting in {name}, {limits.waiting_bound} are allowed"
                return


def _waits_until(job: Any) -> float:
    """When a job stopped waiting for the first time; what a retry does afterwards is not ours to bound."""
    for step in job.steps():
        if job.children is not None and step.status != SUBMITTED:
            return float(step.at)
        if step.status not in (SUBMITTED, PENDING, RUNNABLE):
            return float(step.at)
    return math.inf


# --- what is shown and kept -----------------------------------------------------------------------------------


def no_secret_is_shown(view: _View) -> Iterator[str]:
    """The canary is in no event, log line or metric."""
    world = view.world
    for line in view.lines:
        if CANARY in orjson.dumps(line.event).decode():
            yield f"{SECRETS}: in event {line.event['event']}: {line.event}"
    for logged in world.logs:
        if CANARY in repr(logged):
            yield f"{SECRETS}: in log line {logged}"
    for message in world.sim.sqs.queues[EVENTS_QUEUE].messages.values():
        if CANARY in message.body:
            yield f"{SECRETS}: in an event in SQS"
    for message in world.sim.sqs.queues[DEAD_QUEUE].messages.values():
        if CANARY in repr(message.attributes):
            yield f"{SECRETS}: in the attributes of a dead letter: {message.attributes}"
    if any(CANARY.encode() in text for text in world.exposed):
        yield f"{SECRETS}: in a metric"


def an_outage_stays_small(view: _View) -> Iterator[str]:
    """While SubmitJob does not answer, no more requests come into doubt than the bound and one probe after another."""
    world = view.world
    if not world.scenario.is_flood:
        return
    submit = world.settings.submit
    end_s = max(each.at + each.for_s for each in world.scenario.disruptions if each.kind == "submit_silent")
    sent = sum(1 for call in world.sim.history.calls("SubmitJob") if call.at < EPOCH + end_s)
    most = IN_DOUBT_MAX + submit.concurrency + math.ceil(end_s / submit.timeout_s)
    if sent > most:
        yield f"{SMALL_OUTAGE}: {sent} SubmitJob calls during an outage, {most} are allowed"
    if sent < IN_DOUBT_MAX:
        yield f"{SMALL_OUTAGE}: only {sent} SubmitJob calls: the outage met too few requests to show anything"


def memory_is_bounded(view: _View) -> Iterator[str]:
    """With nothing left to do nothing is kept in memory, and the number of metric series does not follow requests."""
    for text in view.world.exposed:
        series = sum(1 for line in text.splitlines() if not line.startswith(b"#"))
        if series > SERIES_MAX:
            yield f"{BOUNDED}: {series} metric series"
    yield from view.world.kept
    if view.world.remembered:
        yield f"{BOUNDED}: {view.world.remembered} rows of requests that should have been forgotten"


def no_mistake_of_ours(view: _View) -> Iterator[str]:
    """No stage failed by a mistake of its own, and no counter was corrected."""
    for line in view.world.logs:
        said = str(line.get("event", ""))
        if said == RELOADED and view.world.disk.lost_answers:
            continue  # the safety net for commits that took effect and were reported as failed
        if said in OWN_MISTAKES or said.startswith("several jobs of one name"):
            yield f"{SOUND}: {line.get('stage')}: {said}: {line.get('exc_info', '')} {line.get('where', '')}"
            return


def _names(lines: list[Line]) -> str:
    return ", ".join(line.event["event"] for line in lines)


CHECKERS: tuple[Callable[[_View], Iterator[str]], ...] = (
    one_request_one_job,
    every_request_ends,
    every_sink_gets_the_same,
    dead_letters,
    statuses_are_true,
    finals_are_true,
    checkers_why.children_are_true,
    checkers_why.stuck_jobs_are_stuck,
    checkers_why.blocks_end_once,
    rates_hold,
    slots_hold,
    no_secret_is_shown,
    an_outage_stays_small,
    memory_is_bounded,
    no_mistake_of_ours,
)
