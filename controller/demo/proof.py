"""The proof at the end: what was planned, what the controller reported, and what AWS itself recorded. Pure.

Every message is compared by itself: exactly one final event that says what it must, or none. Jobs are counted by the
request-id tag in AWS's own history. A count that is right by accident does not pass.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, Final

from controller.demo.cases import CASES, Case
from controller.demo.cloud import History
from controller.demo.readings import Reading
from controller.demo.watch import Seen
from controller.demo.workload import Ending, Planned

ARRIVAL_JITTER: Final = 0.1
"""Rates are measured where calls arrive. On a busy machine the reading process may find a few calls of the last second
beside those of this one; the controller holds its limit where calls are sent."""
LAG_S_MAX: Final = 5.0
"""Half of the ends must be seen within this time; with events at hand a tenth of it is enough, unless the machine is
busy with other things."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message that was sent."""

    planned: Planned
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of message: how many were to end as they must, how many did, and their jobs in AWS Batch."""

    title: str
    outcome: str | None
    expected: int
    seen: int
    jobs_expected: int
    jobs: int
    """For duplicates and conflicts: jobs beyond the one of the first request."""

    @property
    def is_right(self) -> bool:
        return self.expected == self.seen and self.jobs_expected == self.jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A statement about the whole run."""

    title: str
    detail: str
    is_right: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the controller was told to keep."""

    submit_rate_per_s: float
    bulk_queue: str
    bulk_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    rows: Sequence[Row]
    checks: Sequence[Check]
    differences: Sequence[str]
    """One line per message that did not end as it must."""

    @property
    def is_right(self) -> bool:
        return all(row.is_right for row in self.rows) and all(check.is_right for check in self.checks)


def prove(
    sent: Sequence[Sent],
    unsent: int,
    seen: Seen,
    reading: Reading,
    history: History,
    limits: Limits,
    exit_code: int | None,
) -> Proof:
    """Compare. ``unsent``: planned messages whose turn never came; ``exit_code`` of the controller, None if it is still
    running on purpose."""
    wrong = {each.message_id: difference for each in sent if (difference := _difference(each, seen)) is not None}
    return Proof(
        rows=list(_rows(sent, wrong, history)),
        checks=list(_checks(sent, unsent, seen, reading, history, limits, exit_code)),
        differences=list(wrong.values()),
    )


# --- message by message -------------------------------------------------------------------------------------


def _difference(sent: Sent, seen: Seen) -> str | None:
    """What is wrong with the events of one message, for a person; None: nothing."""
    planned, finals = sent.planned, seen.finals.get(sent.message_id, [])
    name = f"{planned.request_id or sent.message_id} ({CASES[planned.case].title})"
    if planned.ending is None:
        stray = [event["event"] for event in finals]
        return f"{name}: no event was expected, came: {', '.join(stray)}" if stray else None
    if len(finals) != 1:
        return f"{name}: exactly one final event was expected, came: {len(finals)}"
    members = [
        f"{member} {said!r} instead of {wanted!r}" for member, wanted, said in _members(planned.ending, finals[0])
    ]
    return f"{name}: {', '.join(members)}" if members else None


def _members(ending: Ending, event: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """(member, what was wanted, what the event says) of all that differ."""
    attempts = event.get("attempts")
    said = {
        "outcome": event["outcome"],
        "reason_class": event.get("reason_class"),
        "error_code": event.get("error_code"),
        "exit_code": event.get("exit_code"),
        "attempts": None if attempts is None else len(attempts),
    }
    for member, value in said.items():
        wanted = getattr(ending, member)
        if wanted is not None and wanted != value:
            yield member, wanted, value


# --- kind by kind -------------------------------------------------------------------------------------------


def _rows(sent: Sequence[Sent], wrong: Mapping[str, str], history: History) -> Iterator[Row]:
    of_case: dict[Case, list[Sent]] = defaultdict(list)
    for each in sent:
        of_case[each.planned.case].append(each)
    for case, spec in CASES.items():
        messages = of_case[case]
        if not messages or case is Case.CANCEL:
            continue
        yield Row(
            title=spec.title,
            outcome=spec.outcome,
            expected=len(messages),
            seen=sum(each.message_id not in wrong for each in messages),
            jobs_expected=len(messages) if spec.has_job else 0,
            jobs=sum(_jobs(each, history) for each in messages),
        )


def _jobs(sent: Sent, history: History) -> int:
    """Jobs of one message in AWS's history."""
    planned = sent.planned
    own = history.jobs_per_request[sent.message_id]
    if planned.request_id is None:
        return own
    first = 1 if planned.case in (Case.DUPLICATE, Case.CONFLICT) else 0
    return own + max(0, history.jobs_per_request[planned.request_id] - first)


# --- the run as a whole -------------------------------------------------------------------------------------


def _checks(
    sent: Sequence[Sent],
    unsent: int,
    seen: Seen,
    reading: Reading,
    history: History,
    limits: Limits,
    exit_code: int | None,
) -> Iterator[Check]:
    endings = Counter(each.planned.ending.outcome for each in sent if each.planned.ending is not None)
    yield _one_job_each(endings, history)
    yield _nothing_left(unsent, endings, history)
    yield _same_counts(endings, seen, reading)
    yield _duplicates(sent, reading, history)
    yield _lost_answers(seen, reading, history)
    yield _ends_seen(seen)
    yield _limits_held(seen, history, limits)
    if exit_code is not None:
        yield Check(title="clean stop", detail=f"SIGTERM, drained, exit code {exit_code}", is_right=exit_code == 0)


def _one_job_each(endings: Counter[str], history: History) -> Check:
    twice = sum(count > 1 for count in history.jobs_per_name.values())
    statuses = {"SUCCEEDED": endings["succeeded"], "FAILED": endings["failed"]}
    is_right = not twice and +history.statuses == +Counter(statuses) and history.jobs == sum(statuses.values())
    ended = ", ".join(f"{count} {status}" for status, count in sorted(history.statuses.items(), reverse=True))
    return Check(
        title="exactly one job each",
        detail=f"{history.jobs} jobs ({ended}), {f'{twice} names' if twice else 'no name'} used twice",
        is_right=is_right,
    )


def _nothing_left(unsent: int, endings: Counter[str], history: History) -> Check:
    detail = f"{history.messages_left} left in SQS, {history.dead_letters} of {endings['rejected']} dead letters"
    return Check(
        title="no message lost",
        detail=detail + (f", {unsent} never sent" if unsent else ""),
        is_right=not unsent and not history.messages_left and history.dead_letters == endings["rejected"],
    )


def _same_counts(endings: Counter[str], seen: Seen, reading: Reading) -> Check:
    """Counters of /metrics against the events; both against the plan."""
    kinds = [kind for kind in ("succeeded", "failed", "cancelled") if endings[kind]]
    counted = ", ".join(f"{reading.finished[kind]} {kind}" for kind in kinds)
    is_right = all(reading.finished[kind] == seen.outcomes[kind] == endings[kind] for kind in kinds)
    is_right = is_right and not reading.outbox and not reading.in_doubt and not seen.outcomes["lost"]
    return Check(
        title="metrics agree",
        detail=f"{counted}, {reading.outbox} undelivered",
        is_right=is_right,
    )


def _duplicates(sent: Sequence[Sent], reading: Reading, history: History) -> Check:
    """Redelivered ones come on top of those that were sent twice; a copy may vanish before anyone receives it."""
    twice = sum(each.planned.case is Case.DUPLICATE for each in sent)
    again = history.messages["duplicated"]
    known = reading.received["duplicate"]
    return Check(
        title="duplicates dropped",
        detail=f"{twice} sent twice, {known - twice} delivered twice by SQS",
        is_right=twice <= known <= twice + again,
    )


def _lost_answers(seen: Seen, reading: Reading, history: History) -> Check:
    """A slow machine may doubt an answer that was only late; every doubt must be settled all the same."""
    lost, doubted = history.answers_lost, seen.names["submission.in_doubt"]
    adopted = seen.names["submission.adopted"]
    throttled = history.submits["TooManyRequestsException"]
    return Check(
        title="lost answers settled",
        detail=f"{lost} answers lost, {adopted} jobs found again; {throttled} throttled",
        is_right=lost <= doubted == adopted == reading.adopted,
    )


def _ends_seen(seen: Seen) -> Check:
    """Batch's own end of each job against the moment at which the controller saw it."""
    lags = [
        (datetime.fromisoformat(event["observed_at"]) - datetime.fromisoformat(event["stopped_at"])).total_seconds()
        for events in seen.finals.values()
        for event in events
        if event.get("observed_at") and event.get("stopped_at")
    ]
    median_s = median(lags) if lags else 0.0
    return Check(
        title="ends seen soon",
        detail=f"half of them within {median_s:.1f} s of AWS Batch's own end",
        is_right=median_s <= LAG_S_MAX,
    )


def _limits_held(seen: Seen, history: History, limits: Limits) -> Check:
    rate, most = history.submits_per_second_max, seen.queues[limits.bulk_queue].in_flight_max
    return Check(
        title="limits held",
        detail=f"at most {rate} SubmitJob/s of {limits.submit_rate_per_s:g}, "
        f"{most} jobs of {limits.bulk_max} in '{limits.bulk_queue}'",
        is_right=rate <= limits.submit_rate_per_s * (1 + ARRIVAL_JITTER) and most <= limits.bulk_max,
    )
