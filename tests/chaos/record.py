"""Everything that is known after a run: the simulated AWS's history, and what the controller wrote."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from urllib.request import Request, urlopen

from controller.simaws.process import SimProcess
from tests.chaos.prey import Exit, Prey
from tests.chaos.requests import Sent
from tests.chaos.watch import Pages
from tests.chaos.weather import OPERATIONS

Json = Mapping[str, Any]
PAGE: Final = 10_000
HIDDEN_S: Final = 40_000
"""Messages read for the record stay out of sight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run that is over."""

    sent: Sequence[Sent]
    events: Sequence[tuple[int, Json]]
    """(number of the process, event) as they came on standard output."""
    sink: Sequence[Json]
    """CloudEvents as they came in the SQS sink's queue."""
    dead_letters: Sequence[Json]
    jobs: Sequence[Json]
    """Accepted by AWS Batch: at, job_id, job_name, job_queue, tags."""
    details: Mapping[str, Json]
    """DescribeJobs after the end, by job id."""
    calls: Sequence[Json]
    messages: Sequence[Json]
    """What happened to each message of the request queue."""
    left: int
    """Messages in the request queue."""
    logs: Mapping[str, str]
    pages: Pages
    exits: Sequence[Exit]
    stall_s: float
    is_drained: bool
    canary: str


def gather(
    *, sim: SimProcess, prey: Prey, sent: Sequence[Sent], pages: Pages, stall_s: float, is_drained: bool, canary: str
) -> Record:
    """Read it all. The calls come first: what is asked here are calls too."""
    calls = list(_paged(sim, "history/call-log", "calls"))
    jobs = list(_paged(sim, "history/jobs", "jobs"))
    messages = list(_paged(sim, "history/message-log?queue=requests", "messages"))
    queues = sim.control("stats")["sqs_queues"]
    return Record(
        sent=sent,
        events=prey.numbered_events(),
        sink=[json.loads(message["Body"]) for message in _received(prey, sim.queue_urls["events"])],
        dead_letters=list(_received(prey, prey.dead_url)),
        jobs=jobs,
        details=_described(sim.url, [job["job_id"] for job in jobs]),
        calls=calls,
        messages=messages,
        left=queues["requests"]["messages"],
        logs=prey.logs(),
        pages=pages,
        exits=prey.exits,
        stall_s=stall_s,
        is_drained=is_drained,
        canary=canary,
    )


def faults_met(record: Record) -> Counter[tuple[str, str]]:
    """The controller's calls by (operation, outcome), those that simply worked left out."""
    return Counter(
        (call["operation"], call["outcome"])
        for call in record.calls
        if call["outcome"] != "ok" and call["operation"] in OPERATIONS
    )


def _paged(sim: SimProcess, path: str, member: str) -> Iterator[Json]:
    offset, joint = 0, "&" if "?" in path else "?"
    while page := sim.control(f"{path}{joint}offset={offset}&limit={PAGE}")[member]:
        yield from page
        offset += len(page)


def _received(prey: Prey, url: str) -> Iterator[Json]:
    arguments = {
        "QueueUrl": url,
        "MaxNumberOfMessages": 10,
        "MessageAttributeNames": ["All"],
        "VisibilityTimeout": HIDDEN_S,
    }
    while messages := prey.call_sqs("ReceiveMessage", arguments).get("Messages"):
        yield from messages


def _described(url: str, job_ids: Sequence[str]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    left = iter(job_ids)
    while chunk := list(islice(left, 100)):
        request = Request(f"{url}/v1/describejobs", json.dumps({"jobs": chunk}).encode())
        with urlopen(request, timeout=30) as answer:
            found.update((job["jobId"], job) for job in json.load(answer)["jobs"])
    return found


def extract(record: Record, message_ids: Sequence[str], *, most: int = 200) -> str:
    """Everything about one request, in order of time where there is one: messages, calls, jobs, events, log lines."""
    ids = set(message_ids)
    sent = [each for each in record.sent if each.message_id in ids]
    request_ids = {each.planned.family.request_id or each.message_id for each in sent}
    events = [(n, e) for n, e in record.events if e.get("message_id") in ids or e.get("request_id") in request_ids]
    jobs = [job for job in record.jobs if set(job["tags"].values()) & request_ids]
    names = {e["batch_job_name"] for _, e in events if "batch_job_name" in e} | {job["job_name"] for job in jobs}
    subjects = names | {job["job_id"] for job in jobs}
    parts: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("messages sent", lambda: (f"{s.message_id} {s.planned.family.kind} {s.planned.body[:500]}" for s in sent)),
        ("messages", lambda: (_line(m) for m in record.messages if m["message_id"] in ids)),
        ("calls", lambda: (_line(c) for c in record.calls if c["subject"] in subjects)),
        ("jobs", lambda: (_line({**job, "now": record.details.get(job["job_id"])}) for job in jobs)),
        ("events", lambda: (f"process {number}: {_line(event)}" for number, event in events)),
        ("log", lambda: _log_lines(record, request_ids | subjects)),
    ]
    lines: list[str] = []
    for title, found in parts:
        lines += [f"--- {title}", *islice(found(), most)]
    return "\n".join(lines) + "\n"


def _log_lines(record: Record, words: set[str]) -> Iterator[str]:
    for name, text in record.logs.items():
        yield from (f"{name}: {line[:2_000]}" for line in text.splitlines() if any(word in line for word in words))


def _line(values: Json) -> str:
    return json.dumps(values, default=str)
