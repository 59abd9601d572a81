"""What becomes of a received message: a new row, a cancel, a rejection, or nothing because it is a duplicate.

``Decider`` reads what the store knows of the ids in a group of messages and answers with one write per message at
most; ``stages/ingest.py`` commits them. A write that another writer's change has overtaken is not applied, and the
message is decided anew. Messages of one group that concern the same id are decided one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import anyio.lowlevel

from controller.core import lifecycle
from controller.core.endpoints import queue_meant
from controller.core.events import FINAL, Event, iso
from controller.core.job import Dependencies, Job, standing
from controller.core.lifecycle import CancelAsked
from controller.core.request import CancelRequest, Rejection, Rules, SubmitRequest, batch_job_name, parse
from controller.core.tenants import TENANT_FROM_DEFAULT, NamedBy, Naming, tenant_of
from controller.ledger import Ledger
from controller.ports import (
    Clock,
    DeadLetter,
    InsertJob,
    InsertRejection,
    JobStore,
    Message,
    RememberCancel,
    UpdateJob,
    Write,
)

PARSED_AT_A_TIME: Final = 20
"""Messages parsed before other tasks get a turn: one of a usual size costs about 0.1 ms."""
PARSED_LENGTH: Final = 32 * 1024
"""The same in characters of their bodies. One of a megabyte can cost 0.4 s (a list of empty objects), and eight of
them may be in one group."""
PARSED_S: Final = 0.05
"""Parsing for longer is followed by a pause. A turn is not enough then: an answer of AWS takes several turns of the
event loop from the socket to whoever waits for it, and each would be as long as a body takes."""
PAUSE_S: Final = 0.02
_TRACE_IDS: Final = r"(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
TRACEPARENT: Final = re.compile(rf"00-{_TRACE_IDS}|(?!00|ff)[0-9a-f]{{2}}-{_TRACE_IDS}(-[!-~]{{0,200}})?")
"""W3C Trace Context, section 3.2: no version ff, no id of zeros alone, and nothing behind the flags but in a version to
come. Anything else is not carried."""
TRACESTATE: Final = re.compile(r"[\t -~]*")
"""Section 3.3: printable ASCII; anything else is not carried."""
TRACESTATE_LENGTH_MAX: Final = 512

Parsed = SubmitRequest | CancelRequest | Rejection


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do about one message."""

    message: Message
    outcome: str
    """Label of ``requests_received_total``."""
    write: Write | None = None
    is_deferred: bool = False
    """Decide again after this group is committed: an earlier message of it concerns the same id."""
    finished: Job | None = None
    """A request that ends with this write."""


def _id_of(message: Message, parsed: Parsed) -> str:
    """Id of the request that the message brings, or brought when it was accepted."""
    return message.message_id if parsed.request_id is None else parsed.request_id


def _is_of_an_earlier_life(cancel_sent_at: float, job: Job) -> bool:
    """Whoever sends a request again, later than a cancel, wants it: that was for what was rejected."""
    return job.resent_at is not None and cancel_sent_at < job.resent_at


def _whole_members(tracestate: str) -> str | None:
    """As many as fit (section 3.3.1.5): half a member would be a value that nobody gave, and may undo the others."""
    if len(tracestate) <= TRACESTATE_LENGTH_MAX:
        return tracestate
    return tracestate[: TRACESTATE_LENGTH_MAX + 1].rpartition(",")[0] or None


class Decider:
    """Decides about groups of messages of one SQS queue."""

    def __init__(
        self,
        *,
        store: JobStore,
        ledger: Ledger,
        clock: Clock,
        rules: Callable[[], Rules],
        tenant_from: Sequence[NamedBy] = TENANT_FROM_DEFAULT,
    ) -> None:
        self._tenant_from = tenant_from
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._rules = rules

    async def decide(self, messages: Sequence[Message], *, source: str) -> list[Verdict]:
        """One verdict per message, in order. Raises StoreUnavailable."""
        parsed = await self._parsed(messages)
        ids = sorted({_id_of(message, each) for message, each in zip(messages, parsed, strict=True)})
        rejected = await self._store.find_rejections([message.message_id for message in messages])
        lives = await self._store.find_requests(ids)
        free = [request_id for request_id in ids if standing(lives.get(request_id, ())) is None]
        cancels = await self._store.find_cancels(free) if free else ()
        group = _Group(
            source=source,
            now=self._clock.now(),
            store_id=self._store.store_id,
            tenant_from=self._tenant_from,
            rejected=rejected,
            lives=lives,
            cancels=cancels,
        )
        return [group.decide(message, each) for message, each in zip(messages, parsed, strict=True)]

    async def _parsed(self, messages: Sequence[Message]) -> list[Parsed]:
        rules = self._rules()
        parsed: list[Parsed] = []
        count = length = 0
        began_at = self._clock.monotonic()
        for message in messages:
            if count >= PARSED_AT_A_TIME or length >= PARSED_LENGTH:
                if self._clock.monotonic() - began_at < PARSED_S:
                    await anyio.lowlevel.checkpoint()
                else:
                    await self._clock.sleep(PAUSE_S)
                    began_at = self._clock.monotonic()
                count = length = 0
            parsed.append(parse(message.body, message_id=message.message_id, rules=rules))
            count, length = count + 1, length + len(message.body)
        return parsed

    def committed(self, verdict: Verdict) -> None:
        """Count what ended at intake."""
        if verdict.finished is not None:
            self._ledger.count_finished(verdict.finished)


class _Group:
    """Pure: decides about the messages of one group, given what the store knew of them."""

    def __init__(
        self,
        *,
        source: str,
        now: float,
        store_id: str,
        tenant_from: Sequence[NamedBy],
        rejected: frozenset[str],
        lives: Mapping[str, Sequence[Job]],
        cancels: Sequence[RememberCancel],
    ) -> None:
        self._source = source
        self._queue = queue_meant(source)
        """An SQS queue has several URLs, and the configuration may have named another one before a restart."""
        self._now = now
        self._store_id = store_id
        self._tenant_from = tenant_from
        self._rejected = rejected
        self._lives = lives
        self._cancels = {
            cancel.request_id: cancel
            for cancel in sorted(cancels, key=lambda cancel: cancel.sent_at)
            if queue_meant(cancel.source) == self._queue
        }
        """The latest of each id."""
        self._touched: set[str] = set()
        """Ids (of requests and messages) that a write of this group concerns, and of cancels that it remembers."""

    def decide(self, message: Message, parsed: Parsed) -> Verdict:
        request_id = parsed.request_id
        own = {f"m:{message.message_id}"}
        touches = own if request_id is None else {*own, f"r:{request_id}"}
        remembered = {f"c:{request_id}"}
        if (touches | remembered if isinstance(parsed, SubmitRequest) else touches) & self._touched:
            return Verdict(message=message, outcome="duplicate", is_deferred=True)
        verdict = self._decide(message, parsed)
        # A rejection changes nothing for other messages of its id, and a remembered cancel only for requests: any
        # number of either is decided in one round.
        if isinstance(verdict.write, InsertRejection):
            self._touched |= own
        elif isinstance(verdict.write, RememberCancel):
            self._touched |= own | remembered
        elif verdict.write is not None:
            self._touched |= touches
        return verdict

    def _decide(self, message: Message, parsed: Parsed) -> Verdict:
        if message.message_id in self._rejected:
            return Verdict(message=message, outcome="duplicate")
        if isinstance(parsed, Rejection):
            if any(life.message_id == message.message_id for life in self._lives.get(_id_of(message, parsed), ())):
                # Accepted before, by rules that have changed since: the message is delivered again.
                return Verdict(message=message, outcome="duplicate")
            return self._reject(message, parsed, outcome="rejected")
        lives = self._lives.get(parsed.request_id, ())
        if isinstance(parsed, CancelRequest):
            return self._cancel(message, parsed, lives)
        return self._submit(message, parsed, lives)

    # --- submit -----------------------------------------------------------------------------------------

    def _submit(self, message: Message, request: SubmitRequest, lives: Sequence[Job]) -> Verdict:
        if any(life.message_id == message.message_id for life in lives):
            return Verdict(message=message, outcome="duplicate")
        holder = standing(lives)
        if holder is not None:
            if holder.content_hash == request.content_hash:
                return Verdict(message=message, outcome="duplicate")
            return self._conflict(message, request)
        job = self._job(message, request, resent_at=self._sent_at(message) if lives else None)
        accepted = lifecycle.accepted(job, self._now, depends_on=request.depends_on)
        cancel = self._cancels.get(request.request_id)
        if cancel is None or _is_of_an_earlier_life(cancel.sent_at, job):
            return Verdict(
                message=message,
                outcome="accepted",
                write=InsertJob(job=job, body=message.body, depends_on=request.depends_on, events=accepted.events),
            )
        ended = lifecycle.apply(job, CancelAsked(reason=cancel.reason), self._now)
        return Verdict(
            message=message,
            outcome="accepted",
            write=InsertJob(job=ended.job, body=message.body, events=(*accepted.events, *ended.events)),
            finished=ended.job,
        )

    def _job(self, message: Message, request: SubmitRequest, *, resent_at: float | None) -> Job:
        traceparent = message.attributes.get("traceparent")
        if traceparent is not None and not TRACEPARENT.fullmatch(traceparent):
            traceparent = None
        tracestate = message.attributes.get("tracestate") if traceparent else None
        if tracestate is not None and not TRACESTATE.fullmatch(tracestate):
            tracestate = None
        return Job(
            request_id=request.request_id,
            message_id=message.message_id,
            source=self._source,
            content_hash=request.content_hash,
            job_name=request.job_name,
            batch_job_name=batch_job_name(request.job_name, store_id=self._store_id, request_id=request.request_id),
            job_queue=request.job_queue,
            job_queue_ref=request.job_queue_ref,
            job_definition=request.job_definition,
            tenant=self._tenant(message, request),
            priority=request.priority,
            array_size=request.array_size,
            dependencies=Dependencies.UNMET if request.depends_on else Dependencies.NONE,
            received_at=self._now,
            resent_at=resent_at,
            expires_at=request.expires_at,
            traceparent=traceparent,
            tracestate=None if tracestate is None else _whole_members(tracestate),
        )

    def _tenant(self, message: Message, request: SubmitRequest) -> str:
        naming = Naming(
            source=self._source,
            share_identifier=request.share_identifier,
            attribute=message.attributes.get("tenant"),
            message_group=message.group,
        )
        return tenant_of(naming, self._tenant_from)

    # --- cancel -----------------------------------------------------------------------------------------

    def _cancel(self, message: Message, request: CancelRequest, lives: Sequence[Job]) -> Verdict:
        job = standing(lives)
        if job is None:
            return self._remember(message, request)
        if job.source != self._source and queue_meant(job.source) != self._queue:
            return self._reject(
                message,
                Rejection(
                    reason=f"cancel: request {request.request_id} came from another SQS queue; send its cancel there",
                    error_code="cancel_not_allowed",
                    reason_class="not_allowed",
                    request_id=request.request_id,
                    problems=(),
                ),
                outcome="rejected",
            )
        if job.state.is_final or _is_of_an_earlier_life(self._sent_at(message), job):
            return Verdict(message=message, outcome="cancel")
        asked = lifecycle.apply(job, CancelAsked(reason=request.reason), self._now)
        if not asked.is_changed:
            return Verdict(message=message, outcome="cancel")
        return Verdict(
            message=message,
            outcome="cancel",
            write=UpdateJob(job=asked.job, events=asked.events),
            finished=asked.job if asked.job.state.is_final else None,
        )

    def _remember(self, message: Message, request: CancelRequest) -> Verdict:
        """The request may be on its way: for the first time, or again after a rejection."""
        known = self._cancels.get(request.request_id)
        sent_at = self._sent_at(message)
        if known is not None and known.sent_at >= sent_at:
            return Verdict(message=message, outcome="cancel")
        remembered = RememberCancel(
            request_id=request.request_id,
            source=self._source,
            reason=request.reason,
            sent_at=sent_at,
            received_at=self._now,
        )
        self._cancels[remembered.request_id] = remembered
        return Verdict(message=message, outcome="cancel", write=remembered)

    def _sent_at(self, message: Message) -> float:
        """Now, where SQS's stand-in does not tell: what is received first then counts as sent first."""
        return self._now if message.sent_at is None else message.sent_at

    # --- reject -----------------------------------------------------------------------------------------

    def _conflict(self, message: Message, request: SubmitRequest) -> Verdict:
        rejection = Rejection(
            reason="requestId: another request with this id and other content was accepted before; it stands",
            error_code="conflict",
            reason_class="conflict",
            request_id=request.request_id,
            problems=(),
        )
        return self._reject(message, rejection, outcome="conflict")

    def _reject(self, message: Message, rejection: Rejection, *, outcome: str) -> Verdict:
        """Keyed by the message; its event names the request id only if no accepted request holds it."""
        lives = self._lives.get(rejection.request_id, ()) if rejection.request_id is not None else ()
        data = {
            "request_id": None if lives else rejection.request_id,
            "message_id": message.message_id,
            "outcome": "rejected",
            "reason": rejection.reason,
            "reason_class": rejection.reason_class,
            "error_code": rejection.error_code,
            "received_at": iso(self._now),
        }
        event = Event(
            name="request.rejected", time=self._now, data=data, serial=FINAL, subject=f"message:{message.message_id}"
        )
        write = InsertRejection(
            message_id=message.message_id,
            source=self._source,
            received_at=self._now,
            events=(event,),
            dead_letter=DeadLetter(
                body=message.body,
                reason=rejection.reason,
                error_code=rejection.error_code,
                message_id=message.message_id,
                request_id=rejection.request_id,
            ),
        )
        return Verdict(message=message, outcome=outcome, write=write)
