"""``/_sim/...``: change a served account while it runs, and read its history. JSON in, JSON out.

See ``docs/simulated-aws.md`` for the list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from controller.simaws.cloud import SimAws
from controller.simaws.events import Rule
from controller.simaws.profile import PROFILES, changed

Json = dict[str, Any]
T = TypeVar("T")
PAGE_MAX: Final = 10_000
_QUEUE_MEMBERS: Final = frozenset({"name", "slots", "state", "status", "blocked_reason"})


def control(sim: SimAws, method: str, path: str, query: Mapping[str, str], body: Json) -> tuple[int, Any]:
    """Carry out one request; returns the HTTP status and the JSON answer."""
    act = _ROUTES.get((method, path.removeprefix("/_sim/").rstrip("/")))
    if act is None:
        return 404, {"error": f"no such control: {method} {path}"}
    try:
        return 200, act(sim, query, body)
    except KeyError as error:
        return 400, {"error": f"missing or unknown: {error.args[0]}"}
    except (ValueError, TypeError) as error:
        return 400, {"error": str(error)}


def _health(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    return {"status": "ok", "now": sim.now}


def _stats(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    """Jobs per queue and status (looks at every job), messages per SQS queue."""
    sim.batch.scheduler.run_until(sim.now)
    job_queues = {}
    for queue in sim.batch.queues.values():
        known = [job for job in queue.jobs if not sim.batch.is_forgotten(job, sim.now)]
        job_queues[queue.name] = {
            "state": queue.state,
            "status": queue.status,
            "slots": None if queue.capacity is None else queue.capacity.slots,
            "jobs": dict(Counter(job.status_at(sim.now) for job in known)),
        }
    sqs_queues = {}
    for messages in sim.sqs.queues.values():
        messages.refresh(sim.now)
        sqs_queues[messages.name] = {
            "url": sim.sqs.url(messages.name),
            "messages": len(messages.messages),
            "in_flight": messages.in_flight,
            "delayed": messages.delayed,
        }
    return {"now": sim.now, "job_queues": job_queues, "sqs_queues": sqs_queues}


def _put_job_queue(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    unknown = sorted(set(body) - _QUEUE_MEMBERS)
    if unknown:
        raise ValueError(f"unknown members: {', '.join(unknown)}")
    name = str(body["name"])
    if name not in sim.batch.queues:
        sim.add_job_queue(name)
    if "slots" in body:
        sim.set_job_queue_slots(name, None if body["slots"] is None else float(body["slots"]))
    sim.set_job_queue(name, state=body.get("state"), status=body.get("status"))
    if "blocked_reason" in body:
        sim.block_job_queue(name, None if body["blocked_reason"] is None else str(body["blocked_reason"]))
    return {"name": name, "arn": sim.batch.queues[name].arn}


def _put_compute_environment(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    name = str(body.pop("name"))
    sim.set_compute_environment(name, **body)
    return {"name": name}


def _put_job_definition(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    name = str(body.pop("name"))
    sim.add_job_definition(name, body or None)
    return {"name": name}


def _put_sqs_queue(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    attributes = {str(name): str(value) for name, value in (body.get("attributes") or {}).items()}
    return {"url": sim.add_sqs_queue(str(body["name"]), attributes)}


def _put_rule(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    queues, statuses = body.get("job_queues"), body.get("statuses")
    rule = Rule(
        name=str(body.get("name", "default")),
        queue=str(body["queue"]),
        job_queues=None if queues is None else frozenset(queues),
        statuses=None if statuses is None else frozenset(statuses),
    )
    if rule.queue not in sim.sqs.queues:
        raise ValueError(f"no such SQS queue: {rule.queue}")
    sim.put_rule(rule)
    return {"name": rule.name}


def _put_faults(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    sim.faults.update(body)
    return {}


def _clear_faults(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    sim.faults.clear()
    return {}


def _put_profile(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    base = PROFILES[str(body.pop("name"))] if "name" in body else sim.profile
    sim.profile = changed(base, body)
    return {}


def _reset(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    sim.reset()
    return {}


def _summary(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    return sim.history.summary()


def _jobs(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    """Accepted jobs, optionally of one name or with one tag (``tag=key=value``), a page at a time."""
    key, _, value = query.get("tag", "").partition("=")
    found = (
        job
        for job in sim.history.jobs
        if query.get("name") in (None, job.job_name) and (not key or job.tags.get(key) == value)
    )
    return {"jobs": [job._asdict() for job in _page(found, query)]}


def _names(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    """Jobs per name, or per value of a tag (``tag=key``); with ``min=2`` only those used more than once."""
    tag, least = query.get("tag"), int(query.get("min", 1))
    counts = sim.history.jobs_per_name() if tag is None else sim.history.jobs_per_tag(tag)
    return {"counts": {name: count for name, count in counts.items() if count >= least}}


def _calls(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    """Counts per outcome and the busiest window, of all Batch calls or of one operation."""
    operation, window_s = query.get("operation"), float(query.get("window_s", 1.0))
    most = sim.history.calls_in_window_max(None if operation is None else [operation], window_s=window_s)
    counts = sim.history.call_counts()
    return {
        "calls": counts if operation is None else {operation: counts.get(operation, {})},
        "window_s": window_s,
        "in_window_max": most,
    }


def _messages(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    return {"messages": sim.history.message_counts(query.get("queue"))}


def _call_log(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    """Calls in order, optionally of one operation and one subject (a job's name or id, a queue), a page at a time."""
    subject = query.get("subject")
    found = (call for call in sim.history.calls(query.get("operation")) if subject in (None, call.subject))
    return {"calls": [call._asdict() for call in _page(found, query)]}


def _message_log(sim: SimAws, query: Mapping[str, str], body: Json) -> Json:
    """What happened to messages, in order, optionally of one queue and of one id, a page at a time."""
    message_id = query.get("id")
    found = (each for each in sim.history.messages(query.get("queue")) if message_id in (None, each.message_id))
    return {"messages": [{**each._asdict(), "action": each.action.name.lower()} for each in _page(found, query)]}


def _page(found: Iterator[T], query: Mapping[str, str]) -> Iterator[T]:
    offset, limit = int(query.get("offset", 0)), min(int(query.get("limit", 1_000)), PAGE_MAX)
    return islice(found, offset, offset + limit)


_ROUTES: Final[Mapping[tuple[str, str], Callable[[SimAws, Mapping[str, str], Json], Any]]] = {
    ("GET", "health"): _health,
    ("GET", "stats"): _stats,
    ("POST", "job-queues"): _put_job_queue,
    ("POST", "compute-environments"): _put_compute_environment,
    ("POST", "job-definitions"): _put_job_definition,
    ("POST", "sqs-queues"): _put_sqs_queue,
    ("POST", "rules"): _put_rule,
    ("POST", "faults"): _put_faults,
    ("DELETE", "faults"): _clear_faults,
    ("POST", "profile"): _put_profile,
    ("POST", "reset"): _reset,
    ("GET", "history/summary"): _summary,
    ("GET", "history/jobs"): _jobs,
    ("GET", "history/names"): _names,
    ("GET", "history/calls"): _calls,
    ("GET", "history/messages"): _messages,
    ("GET", "history/call-log"): _call_log,
    ("GET", "history/message-log"): _message_log,
}
