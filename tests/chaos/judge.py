"""The verdict on a run: what AWS recorded against what was asked for and what was reported. Pure.

Each check is one sentence of the promises. Jobs, calls and messages are the simulated AWS's own record; of the
controller only its events, its logs and its pages are looked at, never its store.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from controller.core.limits import REQUEST_ID_TAG
from controller.simaws.history import BATCH_OPERATIONS
from tests.chaos.plan import LOW_IN_FLIGHT_MAX, QUEUES, SUBMIT_RATE_PER_S, TOTAL_RATE_PER_S
from tests.chaos.record import Record
from tests.chaos.requests import Family, Sent
from tests.e2e.service import FINAL

Json = Mapping[str, Any]
STALL_S_MAX: Final = 1.0
"""Beyond this the machine stood still for so long that rates on the wire say nothing; that is a finding too."""
STATUS_OF: Final = {"succeeded": "SUCCEEDED", "failed": "FAILED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is not as it must be."""

    what: str
    message_ids: tuple[str, ...] = ()
    """Messages of the request it concerns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One promise: what was looked at, and what was found wrong."""

    title: str
    detail: str
    findings: Sequence[Finding]


def judge(record: Record) -> list[Check]:
    """Every check, in the order of the promises."""
    requests = _requests(record)
    checks: list[tuple[str, Callable[[], tuple[str, list[Finding]]]]] = [
        ("everything ended", lambda: _drained(record)),
        ("one request, one job", lambda: _one_job_each(record, requests)),
        ("dependencies kept", lambda: _dependencies(record, requests)),
        ("one final event each", lambda: _one_final_each(record, requests)),
        ("ends as AWS Batch says", lambda: _true_ends(record, requests)),
        ("both sinks got everything", lambda: _same_events(record)),
        ("dead letters", lambda: _dead_letters(record)),
        ("calls within limits", lambda: _rates(record)),
        ("jobs in flight within limits", lambda: _in_flight(record)),
        ("no secret told", lambda: _secrets(record)),
        ("no mistake of its own", lambda: _mistakes(record)),
        ("processes ended as they should", lambda: _exits(record)),
        ("metrics and liveness", lambda: _pages(record)),
    ]
    made = []
    for title, check in checks:
        detail, findings = check()
        made.append(Check(title=title, detail=detail, findings=findings))
    return made


# --- requests ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Request:
    """One request: its messages, its jobs, its final events."""

    family: Family
    messages: list[Sent]
    finals: dict[str, Json]
    """By event id."""
    jobs: list[Json]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(sent.message_id for sent in self.messages)

    @property
    def name(self) -> str:
        return f"{self.family.request_id or self.ids[0]} ({self.family.kind})"

    def contents(self, content: str) -> list[str]:
        """MessageIds of its messages with that content."""
        return [sent.message_id for sent in self.messages if sent.planned.content == content]

    def own_finals(self) -> list[Json]:
        """Without the rejections of other contents under the same id."""
        return [event for event in self.finals.values() if event.get("error_code") != "conflict"]

    def wrong(self, what: str) -> Finding:
        return Finding(what=f"{self.name}: {what}", message_ids=self.ids)


def _requests(record: Record) -> list[_Request]:
    requests: dict[int, _Request] = {}
    of_message: dict[str, _Request] = {}
    for sent in record.sent:
        family = sent.planned.family
        request = requests.setdefault(id(family), _Request(family, [], {}, []))
        request.messages.append(sent)
        of_message[sent.message_id] = request
    of_id = {request.family.request_id or request.ids[0]: request for request in requests.values()}
    for _, event in record.events:
        if event["event"] in FINAL and event.get("message_id") in of_message:
            of_message[event["message_id"]].finals[event["event_id"]] = event
    for job in record.jobs:
        if (known := of_id.get(job["tags"].get(REQUEST_ID_TAG))) is not None:
            known.jobs.append(job)
    return list(requests.values())


def _drained(record: Record) -> tuple[str, list[Finding]]:
    findings = [] if record.is_drained else [Finding(what="not everything had ended when the time was up")]
    if record.left:
        findings.append(Finding(what=f"{record.left} messages are left in the request queue"))
    counts = Counter(message["action"] for message in record.messages)
    received, deleted, twice = counts["received"], counts["deleted"], counts["duplicated"]
    sent = f"{counts['sent']} messages sent, {received} received, {deleted} deleted, {twice} brought back by SQS"
    return sent, findings


def _one_job_each(record: Record, requests: Sequence[_Request]) -> tuple[str, list[Finding]]:
    findings = []
    for request in requests:
        if len(request.jobs) > 1:
            findings.append(request.wrong(f"{len(request.jobs)} jobs in AWS Batch"))
        outcomes = {event["outcome"] for event in request.own_finals()}
        if not request.jobs and outcomes & {"succeeded", "failed", "lost"}:
            findings.append(request.wrong(f"ended {', '.join(outcomes)} without a job in AWS Batch"))
        if request.jobs and outcomes & {"rejected", "cancelled"}:
            findings.append(request.wrong(f"ended {', '.join(outcomes)} and has a job in AWS Batch"))
    known = sum(len(request.jobs) for request in requests)
    if known < len(record.jobs):
        findings.append(Finding(what=f"{len(record.jobs) - known} jobs belong to no request"))
    names = Counter(job["job_name"] for job in record.jobs)
    findings += [Finding(what=f"{count} jobs are named {name}") for name, count in names.items() if count > 1]
    return f"{len(requests)} requests, {len(record.jobs)} jobs", findings


def _dependencies(record: Record, requests: Sequence[_Request]) -> tuple[str, list[Finding]]:
    """A job waits in AWS Batch for that of the request it depends on, unless that one had SUCCEEDED before."""
    of_id = {request.family.request_id: request for request in requests}
    dependents = [request for request in requests if request.family.depends_on is not None and request.jobs]
    findings = []
    for request in dependents:
        own = record.details.get(request.jobs[0]["job_id"], {})
        named = {each.get("jobId") for each in own.get("dependsOn", ())}
        others = of_id[request.family.depends_on].jobs
        if not others:
            findings.append(request.wrong("has a job, and the request that it depends on has none"))
        elif others[0]["job_id"] not in named:
            other = record.details.get(others[0]["job_id"], {})
            if other.get("status") != "SUCCEEDED" or other.get("stoppedAt", 0) > own.get("createdAt", 0):
                findings.append(request.wrong("its job does not wait for that of the request it depends on"))
    return f"{len(dependents)} jobs of requests that depend on another", findings


def _one_final_each(record: Record, requests: Sequence[_Request]) -> tuple[str, list[Finding]]:
    findings = [finding for request in requests for finding in _finals_of(request)]
    messages = {sent.message_id for sent in record.sent}
    bodies: dict[str, Json] = {}
    delivered = 0
    for number, event in record.events:
        if event["event"] not in FINAL:
            continue
        delivered += 1
        if event.get("message_id") not in messages:
            findings.append(Finding(what=f"process {number}: a final event of a message never sent: {event}"))
        if bodies.setdefault(event["event_id"], event) != event:
            findings.append(Finding(what=f"event {event['event_id']} was told in two ways"))
    return f"{len(bodies)} final events, delivered {delivered} times", findings


def _finals_of(request: _Request) -> Iterator[Finding]:
    """Exactly one of its own; and one rejection for each message with the content that did not stand."""
    own = request.own_finals()
    if len(own) != 1:
        yield request.wrong(f"{len(own)} final events instead of 1: {[event['event'] for event in own]}")
        return
    conflicts = Counter(e["message_id"] for e in request.finals.values() if e.get("error_code") == "conflict")
    standing = next(s.planned.content for s in request.messages if s.message_id == own[0]["message_id"])
    other = {"A": "B", "B": "A"}.get(standing, "")
    wanted = Counter(request.contents(other)) if request.family.kind == "conflicting" else Counter()
    if conflicts != wanted:
        yield request.wrong(f"content {standing} stands; conflicts told: {dict(conflicts)} instead of {dict(wanted)}")
    if request.family.request_id and own[0].get("request_id") not in (None, request.family.request_id):
        yield request.wrong(f"its final event names another request: {own[0]['request_id']}")


def _true_ends(record: Record, requests: Sequence[_Request]) -> tuple[str, list[Finding]]:
    findings, outcomes = [], Counter[str]()
    for request in requests:
        for event in request.own_finals():
            outcomes[event["outcome"]] += 1
            findings += [request.wrong(what) for what in _untrue(request, event, record.details)]
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())), findings


def _untrue(request: _Request, event: Json, details: Mapping[str, Json]) -> Iterator[str]:
    outcome, family = event["outcome"], request.family
    if outcome not in family.endings:
        yield f"ended {outcome} instead of {' or '.join(sorted(family.endings))} ({event.get('reason')})"
    if outcome not in STATUS_OF:
        return
    seen = details.get(event["job_id"])
    if seen is None or event["job_id"] not in {job["job_id"] for job in request.jobs}:
        yield f"its final event names job {event['job_id']}, which is not its own"
        return
    if seen["status"] != STATUS_OF[outcome] or event["batch_status"] != seen["status"]:
        yield f"told as {outcome} ({event['batch_status']}); AWS Batch says {seen['status']}"
    if _millis(event.get("stopped_at")) != seen.get("stoppedAt"):
        yield f"told as stopped at {event.get('stopped_at')}; AWS Batch says {seen.get('stoppedAt')}"
    if family.exit_code is not None and event.get("exit_code") != family.exit_code:
        yield f"exit code {event.get('exit_code')} instead of {family.exit_code}"
    if family.kind == "cancelled while running" and event.get("reason_class") != "cancelled":
        yield f"reason class {event.get('reason_class')} instead of cancelled"
    if family.kind == "array" and set(event.get("array_summary") or {}) - {"SUCCEEDED"}:
        summary = {status: count for status, count in event["array_summary"].items() if count}
        if set(summary) != {"SUCCEEDED"}:
            yield f"array summary {summary}"
    content = next(s.planned.content for s in request.messages if s.message_id == event["message_id"])
    if seen["parameters"]["content"] != content:
        yield f"its job has content {seen['parameters']['content']}, its final event is of content {content}"


def _millis(text: str | None) -> int | None:
    return None if text is None else round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


# --- events -----------------------------------------------------------------------------------------------


def _same_events(record: Record) -> tuple[str, list[Finding]]:
    log = {event["event_id"]: event["event"] for _, event in record.events}
    sink = {event["id"]: event["type"].removeprefix("batch-controller.")[:-3] for event in record.sink}
    findings = [
        Finding(what=f"{len(missing)} events never came to {name}: {Counter(missing.values())}")
        for name, missing in (
            ("standard output", {k: v for k, v in sink.items() if k not in log}),
            ("the SQS sink", {k: v for k, v in log.items() if k not in sink}),
        )
        if missing
    ]
    findings += [
        Finding(what=f"event {k} is {v} here and {sink[k]} there") for k, v in log.items() if sink.get(k, v) != v
    ]
    return f"{len(log)} events, {len(record.events)} lines, {len(record.sink)} messages", findings


def _dead_letters(record: Record) -> tuple[str, list[Finding]]:
    rejected = {event["message_id"] for _, event in record.events if event["event"] == "request.rejected"}
    letters = defaultdict(list)
    for letter in record.dead_letters:
        letters[letter["MessageAttributes"]["message_id"]["StringValue"]].append(letter)
    findings = [
        Finding(what=f"message {each} was rejected and is not in the dead-letter queue", message_ids=(each,))
        for each in sorted(rejected - letters.keys())
    ]
    findings += [
        Finding(what=f"message {each} is in the dead-letter queue and was not rejected", message_ids=(each,))
        for each in sorted(letters.keys() - rejected)
    ]
    return f"{len(rejected)} rejected, {len(record.dead_letters)} letters", findings


# --- limits -----------------------------------------------------------------------------------------------


def _rates(record: Record) -> tuple[str, list[Finding]]:
    """In any second on the wire, as far as this machine lets that be seen."""
    submits = [call["at"] for call in record.calls if call["operation"] == "SubmitJob"]
    every = [call["at"] for call in record.calls if call["operation"] in BATCH_OPERATIONS]
    details, findings = [], []
    for name, instants, rate in (("SubmitJob", submits, SUBMIT_RATE_PER_S), ("all", every, TOTAL_RATE_PER_S)):
        most, late_s = most_in_a_second(instants), bunching_s(instants, rate)
        details.append(f"{name}: {most} of {rate}" + (f" ({late_s * 1000:.0f} ms late)" if most > rate else ""))
        if most > rate and late_s > min(record.stall_s, STALL_S_MAX):
            what = f"{most} {name} calls in one second, {rate} allowed; no delay below {late_s:.3f} s explains them"
            findings.append(Finding(what=f"{what}, and the machine stood still for {record.stall_s:.3f} s at most"))
    if record.stall_s > STALL_S_MAX:
        findings.append(Finding(what=f"the machine stood still for {record.stall_s:.1f} s: rates can't be judged"))
    return f"in any second: {', '.join(details)}; machine stood still {record.stall_s * 1000:.0f} ms at most", findings


def most_in_a_second(instants: Sequence[float]) -> int:
    """Most instants in any half-open window of one second."""
    most = first = 0
    for last, at in enumerate(instants):
        while at - instants[first] >= 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


def bunching_s(instants: Sequence[float], rate_per_s: float) -> float:
    """The least delay on the way that explains these arrivals by sends, no more than ``rate_per_s`` in any second.

    Arrivals are recorded where the simulated AWS reads them. If it stands still for a moment, calls that were sent one
    after another are read all at once, and a window that ends there holds more than any second of sends did. The pacing
    leaves room for 50 ms of that (``PACING_GUARD``): up to there the answer is 0.
    """
    count = int(rate_per_s)
    sent = list(instants)
    for index in range(len(sent) - count - 1, -1, -1):
        sent[index] = min(sent[index], sent[index + 1], sent[index + count] - 1.0)
    return max((at - was for at, was in zip(instants, sent, strict=True)), default=0.0)


def _in_flight(record: Record) -> tuple[str, list[Finding]]:
    """From acceptance to Batch's own end, in the job queue that has a limit."""
    changes: list[tuple[float, int]] = []
    for job in record.jobs:
        if job["job_queue"] == "low":
            stopped_at = record.details.get(job["job_id"], {}).get("stoppedAt")
            changes += [(job["at"], 1)] + ([] if stopped_at is None else [(stopped_at / 1000, -1)])
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    findings = [] if most <= LOW_IN_FLIGHT_MAX else [Finding(what=f"{most} jobs were in flight in low")]
    return f"low: {most} of {LOW_IN_FLIGHT_MAX} at most", findings


# --- the controller itself --------------------------------------------------------------------------------


def _secrets(record: Record) -> tuple[str, list[Finding]]:
    canary, findings = record.canary, []
    places: dict[str, Iterator[str]] = {
        "an event": (str(event) for _, event in record.events),
        "an event of the SQS sink": (str(event) for event in record.sink),
        "a dead letter's attributes": (str(letter["MessageAttributes"]) for letter in record.dead_letters),
        "a log line": (line for text in record.logs.values() for line in text.splitlines()),
    }
    for place, texts in places.items():
        told = [text for text in texts if canary in text]
        if told:
            findings.append(Finding(what=f"{len(told)} times in {place}, such as: {told[0][:1_000]}"))
    if record.pages.leaks:
        findings.append(Finding(what=f"in {record.pages.leaks} scrapes of /metrics or /livez"))
    held = sum(canary in str(detail) for detail in record.details.values())
    if not held:
        findings.append(Finding(what="no job holds the canary: nothing was tried"))
    return (
        f"{held} jobs hold one; events, logs, dead letters' reasons and {record.pages.scrapes} scrapes do not",
        findings,
    )


def _mistakes(record: Record) -> tuple[str, list[Finding]]:
    findings = []
    lines = 0
    for name, text in record.logs.items():
        for line in text.splitlines():
            lines += 1
            if "Traceback" in line or '"exception":' in line or ('"level":"error"' in line and "failed" in line):
                findings.append(Finding(what=f"{name}: {line[:3_000]}"))
    return f"{lines} log lines without a traceback", findings[:20]


def _exits(record: Record) -> tuple[str, list[Finding]]:
    findings = []
    for each in record.exits:
        if each.why == "by itself":
            findings.append(Finding(what=f"process {each.number} ended by itself, exit code {each.code}: {each.error}"))
        elif each.why == "sigterm" and each.code != 0 and (each.was_serving or each.code != -15):
            said = "had not ended in time" if each.code is None else f"exit code {each.code}"
            findings.append(Finding(what=f"process {each.number}: after SIGTERM {said}"))
        elif each.why == "second" and (each.code != 1 or "another process holds the store" not in each.error):
            findings.append(Finding(what=f"a second process beside {each.number}: {each.code}, {each.error[-500:]}"))
    counts = Counter(each.why for each in record.exits)
    return f"{counts['sigterm']} drained after SIGTERM, {counts['second']} second processes turned away", findings


def _pages(record: Record) -> tuple[str, list[Finding]]:
    pages, findings = record.pages, []
    strange = pages.job_queues - {*QUEUES, "unknown"}
    if strange:
        findings.append(Finding(what=f"label job_queue had values that AWS Batch does not know: {sorted(strange)}"))
    if pages.not_live:
        findings.append(Finding(what=f"/livez failed {pages.not_live} times"))
    if not pages.scrapes:
        findings.append(Finding(what="never scraped"))
    return f"{pages.scrapes} scrapes, {pages.series_max} series at most", findings
