"""Where events and dead letters go: lines on stdout, CloudEvents in SQS, refused bodies in a dead-letter queue.

The publish stage calls these with rows of the outbox, at least once per row: a row is deleted only after its key came
back from ``publish``. A row that can't be delivered is left out of the answer and does not stop the others of the
same call.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

import msgspec
import orjson
import structlog

from controller.adapters.aws_call import Calls, Observe
from controller.adapters.aws_errors import kind_of_code
from controller.adapters.sqs_text import cleaned, cut
from controller.core.errors import OutwardError, Refused, Unavailable
from controller.core.events import CATALOGUE
from controller.core.limits import SQS_BATCH_MAX, SQS_MESSAGE_BYTES_MAX
from controller.core.text import escaped, escaped_json
from controller.ports import Clock, DeadLetter, OutboxRow, Runner

log = structlog.get_logger(__name__)

SEND_DEADLINE_S: Final = 15.0
SENDING_S: Final = 60.0
"""No call of a round begins later than this: one of twenty calls, each nearly as slow as it may be, would look to
``/livez`` like a stage that stands still."""
MESSAGE_BYTES_KEPT: Final = SQS_MESSAGE_BYTES_MAX - 4096
"""What bodies and attributes of one call may come to; the rest is a margin for how SQS counts."""
WRITTEN_BYTES: Final = 16 * 1024
"""Of lines, before it is looked whether the time for a round is over: a few pieces of what a pipe takes at once."""
WRITING_S: Final = 5.0
"""No lines of a round are begun later than this. A stop waits for the round's end: what was written and is not deleted
yet would be written twice."""
STALLED_S: Final = 5.0
"""How long a reader of standard output may take nothing before that counts as a failure of the sink."""
TOO_LARGE: Final = "InvalidParameterValue"
"""How SQS refuses a message for its size, among other things. A queue may allow less than SQS does: 256 KiB, if it was
made before that was raised (``MaximumMessageSize``). To ask for it would need one more permission."""
CALL_TOO_LARGE: Final = frozenset({"BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong"})
"""How SQS refuses a whole call for the size of its messages together. What stands in for SQS may allow less than a
megabyte, as SQS once did."""
ATTRIBUTE_BYTES_MAX: Final = 1024
CUT_STRING_LENGTH: Final = 1024
"""What is kept of each string of an event that is too large even without its lists and maps."""
_GROUP_ID_LENGTH_MAX: Final = 128


# --- stdout ---------------------------------------------------------------------------------------------


class LineWriter:
    """Writes whole lines to a file descriptor, whatever it is: file, terminal, or pipe, blocking or not.

    If a write fails half-way, the next one starts on a new line, so that a reader sees at most one broken line and
    never two events in one.

    A reader that stands still is an error after ``stalled_s``, so that the stage can wait for it, and a drain need not.
    So that no write blocks, one into a pipe is no longer than a pipe that is ready is sure to take; it ends with a line
    where it can.
    """

    def __init__(self, descriptor: int, *, stalled_s: float = STALLED_S) -> None:
        self._descriptor = descriptor
        self._stalled_s = stalled_s
        self._is_mid_line = False

    def __call__(self, lines: bytes) -> None:
        """Returns when the last byte has been accepted; raises OSError. Blocks: for a Runner."""
        left = memoryview(b"\n" + lines if self._is_mid_line else lines)
        is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        while left:
            if not select.select((), (self._descriptor,), (), self._stalled_s)[1]:
                raise TimeoutError(f"the reader has taken nothing for {self._stalled_s:g} s")
            try:
                written = os.write(self._descriptor, left if is_file else left[: _piece(left)])
            except BlockingIOError:  # someone who shares the descriptor made it non-blocking, and was faster
                continue
            self._is_mid_line = left[written - 1] != ord("\n")
            left = left[written:]


def _piece(left: memoryview) -> int:
    """As many whole lines as a pipe takes at once, or what it takes of a longer one."""
    return bytes(left[: select.PIPE_BUF]).rfind(b"\n") + 1 or select.PIPE_BUF


class LogSink:
    """One flat JSON object per line. Control characters that JSON lets through raw are escaped: standard output may be
    a terminal.

    ``write`` returns when all it was given is written and raises OSError otherwise; it runs in ``runner``, as a reader
    of stdout that stands still must not stop the event loop.
    """

    def __init__(self, *, write: Callable[[bytes], None], runner: Runner, clock: Clock, name: str = "log") -> None:
        self._write = write
        self._runner = runner
        self._clock = clock
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    async def publish(self, rows: Sequence[OutboxRow]) -> Sequence[int]:
        """Some lines at a time, for ``WRITING_S`` with a slow reader. Those of a write that fails are all written again
        later; an error is raised if it was the first."""
        if not rows:
            return ()
        try:
            return await self._runner.run(lambda: self._written(rows))
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            code, text = type(error).__name__, getattr(error, "strerror", None) or str(error)
            raise Unavailable(f"log:Write: {code}: standard output: {text}", call="log:Write", code=code) from error

    def _written(self, rows: Sequence[OutboxRow]) -> Sequence[int]:
        written: list[int] = []
        until = self._clock.monotonic() + WRITING_S
        while len(written) < len(rows) and self._clock.monotonic() <= until:
            keys, lines = _some_lines(rows[len(written) :])
            try:
                self._write(lines)
            except (OSError, ValueError):
                if written:
                    break
                raise
            written.extend(keys)
        return written


def _some_lines(rows: Sequence[OutboxRow]) -> tuple[list[int], bytes]:
    """Of the first rows, as many as make up ``WRITTEN_BYTES``, and their keys."""
    keys: list[int] = []
    lines = bytearray()
    for row in rows:
        keys.append(row.key)
        lines += escaped_json(row.body) + b"\n"
        if len(lines) >= WRITTEN_BYTES:
            break
    return keys, bytes(lines)


# --- SQS --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message on its way: what SQS gets, and the outbox row it stands for."""

    key: int
    event_id: str
    group: str
    """What FIFO queues keep in order; unused elsewhere."""
    body: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """As SQS counts: body, and name, type and value of every attribute."""
        return len(self.body.encode()) + attributes_size(self.attributes)


def attributes_size(attributes: Mapping[str, str]) -> int:
    return sum(len(name) + len("String") + len(value.encode()) for name, value in attributes.items())


class Sender:
    """Sends messages to one SQS queue with SendMessageBatch: at most 10, and at most 1 MiB, at a time.

    FIFO queues get a MessageGroupId and the event id as MessageDeduplicationId. As SQS may take any entry of a call and
    not another, no call has two messages of a group, and what comes after one that was not taken waits for it. A resend
    may duplicate a message on a standard queue: the event id is in its body, for consumers to tell.
    """

    def __init__(self, *, queue_url: str, client: Any, clock: Clock, observe: Observe) -> None:
        self._queue_url = queue_url
        self._is_fifo = queue_url.endswith(".fifo")
        self._client = client
        self._calls = Calls("sqs", clock=clock, observe=observe)
        self._rooms: dict[int, int] = {}
        """What is tried next of messages that may have been too large, by key."""
        self._call_bytes = MESSAGE_BYTES_KEPT
        """What the messages of one call may come to."""

    def room(self, key: int) -> int:
        """How large the message of this key may be."""
        return self._rooms.get(key, MESSAGE_BYTES_KEPT)

    def _learn(self, chunk: Sequence[Outgoing], failed: Sequence[Mapping[str, Any]]) -> None:
        """A message that may have been too large gets half the room from now on, as often as needed."""
        refused = {entry.get("Id") for entry in failed if entry.get("Code") == TOO_LARGE}
        for n, message in enumerate(chunk):
            room = self._rooms.pop(message.key, MESSAGE_BYTES_KEPT)
            if str(n) in refused:
                while room >= message.size:
                    room //= 2
                self._rooms[message.key] = room

    async def send(self, messages: Sequence[Outgoing]) -> Sequence[int]:
        """Keys of the messages that SQS took. An error after the first delivery ends the round without being raised, as
        slow calls do; if nothing was delivered, the first error is."""
        delivered: list[int] = []
        refusal: OutwardError | None = None
        until = self._calls.now() + SENDING_S
        groups = {message.key: _group_id(message.group) for message in messages} if self._is_fifo else {}
        left = list(messages)
        while left and self._calls.now() <= until:
            chunk, behind_it = _next_chunk(left, groups, self._call_bytes)
            try:
                keys, failure = await self._send_chunk(chunk, groups)
            except OutwardError as error:
                if error.code in CALL_TOO_LARGE and len(chunk) > 1:
                    self._call_bytes = sum(message.size for message in chunk) // 2
                    continue
                if error.code not in CALL_TOO_LARGE:
                    if delivered:
                        return delivered
                    raise
                self._learn(chunk, [{"Id": "0", "Code": TOO_LARGE}])
                keys, failure = [], error
            left = behind_it
            delivered.extend(keys)
            refusal = refusal or failure
            if groups and failure is not None:
                behind = {groups[message.key] for message in chunk} - {groups[key] for key in keys}
                left = [message for message in left if groups[message.key] not in behind]
        if refusal is not None and not delivered:
            raise refusal
        return delivered

    async def _send_chunk(
        self, chunk: Sequence[Outgoing], groups: Mapping[int, str]
    ) -> tuple[list[int], OutwardError | None]:
        """Keys that were taken, and why the first of the others was not."""
        entries = [_entry(n, message, groups.get(message.key)) for n, message in enumerate(chunk)]

        async def call() -> Mapping[str, Any]:
            answer: Mapping[str, Any] = await self._client.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
            return answer

        # Not quoted: SQS's words may repeat what was sent, and dead letters hold whole requests.
        answer = await self._calls.send("SendMessageBatch", call, deadline_s=SEND_DEADLINE_S, is_quoted=False)
        all_failed: Sequence[Mapping[str, Any]] = answer.get("Failed") or ()
        # What is named as both is not surely delivered.
        taken = {entry.get("Id") for entry in answer.get("Successful") or ()} - {each.get("Id") for each in all_failed}
        keys = [message.key for n, message in enumerate(chunk) if str(n) in taken]
        self._learn(chunk, all_failed)
        if len(keys) == len(chunk):
            return keys, None
        failed: Mapping[str, Any] = next(iter(all_failed), {})
        code = str(failed.get("Code") or "IncompleteAnswer")
        kind = kind_of_code(code) or (Refused if failed.get("SenderFault") else Unavailable)
        return keys, kind(f"sqs:SendMessageBatch: {code}", call="sqs:SendMessageBatch", code=code)


def _entry(n: int, message: Outgoing, group: str | None) -> dict[str, Any]:
    """``group`` for FIFO queues."""
    entry: dict[str, Any] = {"Id": str(n), "MessageBody": message.body}
    if message.attributes:
        entry["MessageAttributes"] = {
            name: {"DataType": "String", "StringValue": value} for name, value in message.attributes.items()
        }
    if group is not None:
        entry["MessageGroupId"] = group
        entry["MessageDeduplicationId"] = message.event_id[:_GROUP_ID_LENGTH_MAX]
    return entry


def _next_chunk(
    messages: Sequence[Outgoing], groups: Mapping[int, str], size_max: int
) -> tuple[list[Outgoing], list[Outgoing]]:
    """What the next call takes, one message of a group and no more than ``size_max`` bytes of several, and what is
    left. ``groups`` by key; empty: there are none."""
    chunk: list[Outgoing] = []
    left: list[Outgoing] = []
    taken: set[str] = set()
    size = 0
    for n, message in enumerate(messages):
        group = groups.get(message.key)
        if group in taken:
            left.append(message)
            continue
        if chunk and (len(chunk) == SQS_BATCH_MAX or size + message.size > size_max):
            left.extend(messages[n:])
            break
        chunk.append(message)
        size += message.size
        if group is not None:
            taken.add(group)
    return chunk, left


def _group_id(text: str) -> str:
    """SQS takes up to 128 ASCII letters, digits and punctuation marks."""
    return "".join(c if "!" <= c <= "~" else "_" for c in text)[:_GROUP_ID_LENGTH_MAX] or "_"


def _readable(rows: Sequence[OutboxRow], read: Callable[[OutboxRow], Outgoing]) -> list[Outgoing]:
    """The rows that can be read; one that can't is damaged, and stays in the outbox for a person to look at."""
    outgoing = []
    for row in rows:
        try:
            outgoing.append(read(row))
        except (msgspec.DecodeError, orjson.JSONDecodeError) as error:
            log.error("outbox.row_unreadable", event_id=row.event_id, name=row.name, error=type(error).__name__)
    return outgoing


# --- CloudEvents ------------------------------------------------------------------------------------------


def event_source(controller_name: str) -> str:
    """The ``source`` of every CloudEvent of a controller: ``batch-job-controller/<controller.name>``. CloudEvents
    wants a URI reference, so the name is percent-encoded where it must be."""
    return f"batch-job-controller/{quote(controller_name, safe='')}"


class SqsSink:
    """Events as CloudEvents 1.0 in structured JSON, one per SQS message.

    The envelope's ``id`` and ``time`` are the event's ``event_id`` and ``time``, ``type`` is
    ``batch-controller.<event>.v<version>``, ``subject`` the request id, else the job id; ``data`` is the rest of the
    flat event. An event beyond SQS's 1 MiB loses ``attempts``, then ``tags``, then the ends of its long strings, and
    says so with ``"truncated": true`` in ``data``.
    """

    def __init__(self, *, name: str, queue_url: str, source: str, client: Any, clock: Clock, observe: Observe) -> None:
        self._name = name
        self._source = source
        self._sender = Sender(queue_url=queue_url, client=client, clock=clock, observe=observe)

    @property
    def name(self) -> str:
        return self._name

    async def publish(self, rows: Sequence[OutboxRow]) -> Sequence[int]:
        return await self._sender.send(_readable(rows, self._outgoing))

    def _outgoing(self, row: OutboxRow) -> Outgoing:
        data = orjson.loads(row.body)
        event = cloud_event(data, row=row, source=self._source)
        return Outgoing(
            key=row.key,
            event_id=row.event_id,
            group=str(event.get("subject") or data.get("message_id") or data.get("job_queue") or row.name),
            body=_fitted(event, self._sender.room(row.key)),
        )


def cloud_event(flat: Mapping[str, Any], *, row: OutboxRow, source: str) -> dict[str, Any]:
    """The CloudEvent of a flat event."""
    spec = CATALOGUE.get(row.name)
    event = {
        "specversion": "1.0",
        "id": row.event_id,
        "source": source,
        "type": f"batch-controller.{row.name}.v{spec.version if spec else 1}",
        "time": flat.get("time"),
        "datacontenttype": "application/json",
        "subject": flat.get("request_id") or flat.get("job_id"),
        "data": {name: value for name, value in flat.items() if name not in ("event", "event_id", "time")},
    }
    return {name: value for name, value in event.items() if value is not None}


def _fitted(event: Mapping[str, Any], room: int) -> str:
    """The event as JSON, with less in it until it fits."""
    data = dict(event["data"])
    text = _json(event)
    for dropped in ("attempts", "tags"):
        if len(text.encode()) <= room:
            return text
        data.pop(dropped, None)
        text = _json({**event, "data": {**data, "truncated": True}})
    if len(text.encode()) > room:
        scalars = {name: value for name, value in data.items() if not isinstance(value, (dict, list))}
        short = {n: v[:CUT_STRING_LENGTH] if isinstance(v, str) else v for n, v in scalars.items()}
        text = _json({**event, "data": {**short, "truncated": True}})
    return text


def _json(event: Mapping[str, Any]) -> str:
    """JSON in SQS's characters: the two that JSON allows raw and SQS does not are escaped."""
    return orjson.dumps(event).decode().replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


# --- dead letters -----------------------------------------------------------------------------------------


class DeadLetterSink:
    """Refused bodies, as they came, with the reason in message attributes.

    What SQS does not take is changed and marked with the attribute ``truncated`` = ``true``: characters outside its
    set become U+FFFD, a body beyond its size or the queue's is cut, an empty one becomes a single space. A body that
    SQS still refuses stays undelivered and does not hold up the others.
    """

    def __init__(self, *, name: str, queue_url: str, client: Any, clock: Clock, observe: Observe) -> None:
        self._name = name
        self._sender = Sender(queue_url=queue_url, client=client, clock=clock, observe=observe)

    @property
    def name(self) -> str:
        return self._name

    async def publish(self, rows: Sequence[OutboxRow]) -> Sequence[int]:
        return await self._sender.send(_readable(rows, self._outgoing))

    def _outgoing(self, row: OutboxRow) -> Outgoing:
        return _dead_letter(row, self._sender.room(row.key))


def _dead_letter(row: OutboxRow, room: int) -> Outgoing:
    letter = msgspec.json.decode(row.body, type=DeadLetter)
    attributes = {
        "reason": letter.reason,
        "error_code": letter.error_code,
        "request_id": letter.request_id or "",
        "message_id": letter.message_id,
    }
    attributes = {
        name: value
        for name, text in attributes.items()
        if (value := cut(cleaned(escaped(text)), ATTRIBUTE_BYTES_MAX)).strip()
    }
    left = max(1, room - attributes_size({**attributes, "truncated": "true"}))
    body = cut(cleaned(letter.body), left) or " "
    if body != letter.body:
        attributes["truncated"] = "true"
    return Outgoing(
        key=row.key,
        event_id=row.event_id,
        group=letter.request_id or letter.message_id,
        body=body,
        attributes=attributes,
    )
