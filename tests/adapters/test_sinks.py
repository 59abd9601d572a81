"""Sinks: what is delivered, in what form, and what is said when nothing is."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from controller.adapters.clock import SystemClock
from controller.adapters.sinks import (
    MESSAGE_BYTES_KEPT,
    SEND_DEADLINE_S,
    DeadLetterSink,
    LineWriter,
    LogSink,
    SqsSink,
    event_source,
)
from controller.application import LIVE_S
from controller.core.errors import OutwardError, Refused, Throttled, Unavailable
from controller.core.limits import SQS_MESSAGE_BYTES_MAX
from controller.ports import OutboxRow
from tests.adapters.conftest import OpenAws, Seen
from tests.adapters.faulty_server import Behaviour, answer, close, fault, faulty_server
from tests.stages.conftest import ManualClock

LARGE_BODY = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
"""aiohttp advises against bodies beyond 1 MiB in one piece; SQS has no other way."""
QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"


class Inline:
    """A Runner without a thread."""

    async def run(self, function: Callable[[], Any]) -> Any:
        return function()


def row(key: int, name: str = "job.submitted", **data: Any) -> OutboxRow:
    identifier = f"e-{key}"
    flat = {"event": name, "event_id": identifier, "time": "2026-01-02T03:04:05.678Z", **data}
    return OutboxRow(key=key, event_id=identifier, name=name, body=json.dumps(flat, ensure_ascii=False).encode())


def letter(key: int, body: str, **members: str) -> OutboxRow:
    content = {"body": body, "reason": "jobName: too long", "error_code": "invalid", "message_id": "m-1", **members}
    return OutboxRow(key=key, event_id=f"e-{key}", name="dead_letter", body=json.dumps(content).encode())


def taken(count: int, *failed: dict[str, Any]) -> Behaviour:
    """SendMessageBatch's answer: the first ``count`` entries but the failed ones were taken."""
    missing = {entry["Id"] for entry in failed}
    successful = [{"Id": str(n), "MessageId": "m", "MD5OfMessageBody": "x"} for n in range(count)]
    return answer(200, {"Successful": [e for e in successful if e["Id"] not in missing], "Failed": list(failed)})


OpenSink = Callable[..., AbstractAsyncContextManager[tuple[Any, Any]]]


@pytest.fixture
def open_sink(open_clients: OpenAws, seen: Seen) -> OpenSink:
    @asynccontextmanager
    async def opened(
        kind: type[Any], *script: Behaviour, queue_url: str = QUEUE_URL, **arguments: Any
    ) -> AsyncIterator[tuple[Any, Any]]:
        async with faulty_server(*script) as server, open_clients(server.url, queue_urls=[queue_url]) as aws:
            yield (
                kind(
                    name="s",
                    queue_url=queue_url,
                    client=aws.sqs(queue_url),
                    clock=SystemClock(),
                    observe=seen,
                    **arguments,
                ),
                server,
            )

    return opened


def entries(server: Any, request: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(server.requests[request][2])["Entries"]
    return found


# --- log ------------------------------------------------------------------------------------------------


async def test_log_sink_writes_whole_lines_in_one_write() -> None:
    """Rows become lines, in order, in a single write, and are delivered once it has returned."""
    writes: list[bytes] = []
    rows = [row(1), row(2)]
    assert await LogSink(write=writes.append, runner=Inline(), clock=ManualClock()).publish(rows) == [1, 2]
    assert writes == [rows[0].body + b"\n" + rows[1].body + b"\n"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "BrokenPipeError: standard output: Broken pipe"),
        (OSError(errno.ENOSPC, "No space left on device"), "OSError: standard output: No space left on device"),
        (TimeoutError("the reader has taken nothing for 5 s"), "TimeoutError: standard output: the reader has taken"),
        (ValueError("closed"), "ValueError: standard output: closed"),
    ],
)
async def test_log_sink_that_cannot_write_is_unavailable(error: Exception, told: str) -> None:
    """Nothing counts as delivered if the write failed; the system's reason is told."""

    def write(_: bytes) -> None:
        raise error

    with pytest.raises(Unavailable, match=f"log:Write: {told}"):
        await LogSink(write=write, runner=Inline(), clock=ManualClock()).publish([row(1)])


async def test_a_slow_reader_of_stdout_gets_its_lines_over_several_rounds() -> None:
    """A round ends after a while, so that a reader of some kilobytes a second looks to nobody like a stage that stands
    still, nor holds up a stop, which waits for the round's end; what it has taken is not written again."""
    clock, writes = ManualClock(), list[bytes]()

    def write(lines: bytes) -> None:
        writes.append(lines)
        clock.move(len(lines) / 1_000)

    sink = LogSink(write=write, runner=Inline(), clock=clock)
    rows = [row(n, reason="x" * 1_000) for n in range(200)]
    delivered: list[int] = []
    while left := rows[len(delivered) :]:
        began_at = clock.elapsed
        keys = await sink.publish(left)
        assert keys
        assert clock.elapsed - began_at < 20
        delivered.extend(keys)
    assert delivered == [each.key for each in rows]
    assert b"".join(writes) == b"".join(each.body + b"\n" for each in rows)


async def test_what_was_written_before_a_write_failed_is_delivered() -> None:
    """The rest is tried again in the next round, which raises if nothing at all can be written."""
    room = [2]

    def write(lines: bytes) -> None:
        if not room[0]:
            raise OSError("the reader is gone")
        room[0] -= 1

    sink = LogSink(write=write, runner=Inline(), clock=ManualClock())
    rows = [row(n, reason="x" * 10_000) for n in range(10)]
    assert await sink.publish(rows) == [0, 1, 2, 3]
    with pytest.raises(Unavailable):
        await sink.publish(rows[4:])


async def test_log_sink_escapes_what_a_terminal_would_obey() -> None:
    """A tag or a reason may hold characters that JSON lets through raw: the line holds the same value without them."""
    writes: list[bytes] = []
    await LogSink(write=writes.append, runner=Inline(), clock=ManualClock()).publish(
        [row(1, reason="\x9b31m\x7f\u202e\u2028é")]
    )
    assert rb"\u009b31m\u007f\u202e\u2028" + "é".encode() in writes[0]
    assert json.loads(writes[0])["reason"] == "\x9b31m\x7f\u202e\u2028é"


async def test_log_sink_without_rows_writes_nothing() -> None:
    """An empty round is no write."""
    writes: list[bytes] = []
    assert not await LogSink(write=writes.append, runner=Inline(), clock=ManualClock()).publish([])
    assert writes == []


def test_line_writer_writes_all_of_it_to_a_slow_reader() -> None:
    """A non-blocking pipe that is full is waited for: every byte arrives, in order."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    lines = b"".join(b"%d\n" % n for n in range(200_000))
    found: list[bytes] = []

    def read() -> None:
        while chunk := os.read(reading, 65536):
            found.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        LineWriter(writing)(lines)
    finally:
        os.close(writing)
        reader.join()
        os.close(reading)
    assert b"".join(found) == lines


def test_line_writer_raises_when_the_reader_is_gone() -> None:
    """A broken pipe is an error, not a silent loss."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(BrokenPipeError):
            LineWriter(writing)(b"a\n")
    finally:
        os.close(writing)


def test_line_writer_gives_up_on_a_reader_that_stands_still_and_goes_on_when_it_reads() -> None:
    """An error instead of a write that no drain could end; whole lines before it, and the same lines again after it."""
    reading, writing = os.pipe()
    line = b'{"event": "job.submitted", "padding": "' + b"x" * 200 + b'"}\n'
    writer = LineWriter(writing, stalled_s=0.05)
    try:
        with pytest.raises(TimeoutError):
            writer(line * 1_000)
        before = os.read(reading, 1 << 20)
        assert before == line * (len(before) // len(line))
        writer(line * 10)
        assert os.read(reading, 1 << 20) == line * 10
    finally:
        os.close(writing)
        os.close(reading)


def test_line_writer_starts_anew_after_a_broken_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a write that failed within a line the next one begins on a line of its own."""
    written = bytearray()
    room = [3, 0]

    def write(_: int, data: memoryview) -> int:
        if room:
            if not (accepted := room.pop(0)):
                raise OSError(28, "no space")
            written.extend(data[:accepted])
            return accepted
        written.extend(data)
        return len(data)

    monkeypatch.setattr(os, "write", write)
    writer = LineWriter(1)
    with pytest.raises(OSError, match="no space"):
        writer(b"abcdef\n")
    writer(b"abcdef\n")
    writer(b"next\n")
    assert bytes(written) == b"abc\nabcdef\nnext\n"


# --- CloudEvents in SQS -----------------------------------------------------------------------------------


async def test_event_is_a_cloud_event(open_sink: OpenSink) -> None:
    """The envelope holds id, source, type, time and subject; data is the rest of the flat event."""
    async with open_sink(SqsSink, taken(1), source=event_source("blue team")) as (sink, server):
        assert await sink.publish([row(7, request_id="r-1", job_id="j-1", outcome=None)]) == [7]
    (entry,) = entries(server)
    assert json.loads(entry["MessageBody"]) == {
        "specversion": "1.0",
        "id": "e-7",
        "source": "batch-job-controller/blue%20team",
        "type": "batch-controller.job.submitted.v1",
        "time": "2026-01-02T03:04:05.678Z",
        "datacontenttype": "application/json",
        "subject": "r-1",
        "data": {"request_id": "r-1", "job_id": "j-1", "outcome": None},
    }
    assert "MessageGroupId" not in entry


async def test_subject_is_the_job_id_or_missing(open_sink: OpenSink) -> None:
    """Without a request id the job id is the subject; without either there is none."""
    async with open_sink(SqsSink, taken(2), source="s") as (sink, server):
        await sink.publish([row(1, job_id="j-1"), row(2, "job_queue.held", job_queue="q")])
    first, second = (json.loads(entry["MessageBody"]) for entry in entries(server))
    assert first["subject"] == "j-1"
    assert "subject" not in second


async def test_fifo_queue_gets_group_and_deduplication_id(open_sink: OpenSink) -> None:
    """Events of one request stay in order in a FIFO queue, and a resend within five minutes is dropped by SQS."""
    fifo = QUEUE_URL + ".fifo"
    async with open_sink(SqsSink, taken(2), queue_url=fifo, source="s") as (sink, server):
        await sink.publish([row(1, request_id="r/1"), row(2, "job_queue.held", job_queue="q")])
    found = [(e["MessageGroupId"], e["MessageDeduplicationId"]) for e in entries(server)]
    assert found == [("r/1", "e-1"), ("q", "e-2")]


async def test_what_belongs_together_shares_a_group(open_sink: OpenSink) -> None:
    """A job queue's being held and released are one group; rejections without a request id are each their own."""
    rows = [
        row(1, "job_queue.held", job_queue="q"),
        row(2, "request.rejected", message_id="m-1"),
        row(3, "request.rejected", message_id="m-2"),
        row(4, "job_queue.released", job_queue="q"),
    ]
    async with open_sink(SqsSink, taken(3), taken(1), queue_url=QUEUE_URL + ".fifo", source="s") as (sink, server):
        assert sorted(await sink.publish(rows)) == [1, 2, 3, 4]
    assert [[e["MessageGroupId"] for e in entries(server, n)] for n in range(2)] == [["q", "m-1", "m-2"], ["q"]]


async def test_event_that_a_fifo_queue_does_not_take_is_not_overtaken(open_sink: OpenSink) -> None:
    """SQS may take one entry of a call and not another: later events of that request wait, those of others don't."""
    refused = {"Id": "0", "SenderFault": False, "Code": "InternalError"}
    rows = [row(n, request_id=f"r-{n % 2}") for n in range(6)]
    fifo = QUEUE_URL + ".fifo"
    script = (taken(2, refused), taken(1), taken(1), taken(1), taken(1), taken(1))
    async with open_sink(SqsSink, *script, queue_url=fifo, source="s") as (sink, server):
        assert await sink.publish(rows) == [1, 3, 5]
        assert await sink.publish([rows[0], rows[2], rows[4]]) == [0, 2, 4]
    sent = [[e["MessageDeduplicationId"] for e in entries(server, n)] for n in range(6)]
    assert sent == [["e-0", "e-1"], ["e-3"], ["e-5"], ["e-0"], ["e-2"], ["e-4"]]


async def test_events_are_sent_ten_at_a_time(open_sink: OpenSink, seen: Seen) -> None:
    """23 rows are three calls, in order."""
    async with open_sink(SqsSink, taken(10), taken(10), taken(3), source="s") as (sink, server):
        assert await sink.publish([row(n) for n in range(23)]) == list(range(23))
    assert [len(entries(server, n)) for n in range(3)] == [10, 10, 3]
    assert seen.calls == [("SendMessageBatch", "ok")] * 3


@LARGE_BODY
async def test_a_call_stays_below_the_size_limit(open_sink: OpenSink) -> None:
    """Large events are spread over calls of at most 1 MiB each."""
    async with open_sink(SqsSink, taken(2), taken(1), source="s") as (sink, server):
        assert await sink.publish([row(n, reason="é" * 240_000) for n in range(3)]) == [0, 1, 2]
    sizes = [sum(len(e["MessageBody"].encode()) for e in entries(server, n)) for n in range(2)]
    assert [len(entries(server, n)) for n in range(2)] == [2, 1]
    assert max(sizes) <= MESSAGE_BYTES_KEPT


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ({"attempts": [{"reason": "x" * 2_000_000}], "tags": {"a": "b"}}, {"tags": {"a": "b"}, "truncated": True}),
        ({"attempts": [], "tags": {"a": "x" * 2_000_000}}, {"truncated": True}),
        ({"exit_code": 3, "reason": "é" * 2_000_000}, {"exit_code": 3, "reason": "é" * 1024, "truncated": True}),
    ],
)
async def test_oversized_event_is_cut_and_says_so(
    open_sink: OpenSink, data: dict[str, Any], kept: dict[str, Any]
) -> None:
    """An event that SQS would refuse for its size loses its bulk, keeps its identity and carries a mark."""
    async with open_sink(SqsSink, taken(1), source="s") as (sink, server):
        assert await sink.publish([row(1, request_id="r", **data)]) == [1]
    (entry,) = entries(server)
    assert len(entry["MessageBody"].encode()) <= SQS_MESSAGE_BYTES_MAX
    assert json.loads(entry["MessageBody"])["data"] == {"request_id": "r", **kept}


async def test_characters_that_sqs_refuses_are_escaped(open_sink: OpenSink) -> None:
    """Control characters and U+FFFE arrive as JSON escapes, so that nothing is lost and nothing refused."""
    async with open_sink(SqsSink, taken(1), source="s") as (sink, server):
        await sink.publish([row(1, reason="a\u0001\ufffe\uffff😀")])
    body = entries(server)[0]["MessageBody"]
    assert not {"\u0001", "\ufffe", "\uffff"} & set(body)
    assert json.loads(body)["data"]["reason"] == "a\u0001\ufffe\uffff😀"


async def test_partial_failure_delivers_the_others(open_sink: OpenSink) -> None:
    """An entry that SQS refuses is left out of the answer and does not stop those after it."""
    refused = {"Id": "1", "SenderFault": True, "Code": "InvalidMessageContents", "Message": "bad"}
    async with open_sink(SqsSink, taken(10, refused), taken(2), source="s") as (sink, _):
        assert await sink.publish([row(n) for n in range(12)]) == [0, *range(2, 12)]


@pytest.mark.parametrize(
    ("failed", "kind"),
    [
        ({"SenderFault": True, "Code": "InvalidMessageContents"}, Refused),
        ({"SenderFault": False, "Code": "InternalError"}, Unavailable),
        ({"SenderFault": True, "Code": "NeverHeardOf"}, Refused),
        ({"SenderFault": False, "Code": "RequestThrottled"}, Throttled),
        ({"SenderFault": True, "Code": "KmsThrottled"}, Throttled),
    ],
)
async def test_round_without_a_delivery_raises_why(
    open_sink: OpenSink, failed: dict[str, Any], kind: type[OutwardError]
) -> None:
    """If every entry failed, the first entry's code tells the kind."""
    async with open_sink(SqsSink, taken(1, {"Id": "0", **failed}), source="s") as (sink, _):
        with pytest.raises(kind):
            await sink.publish([row(1)])


async def test_answer_that_names_nothing_delivers_nothing(open_sink: OpenSink) -> None:
    """A row counts as delivered only if SQS names it."""
    async with open_sink(SqsSink, answer(200, {}), source="s") as (sink, _):
        with pytest.raises(Unavailable):
            await sink.publish([row(1)])


async def test_what_is_named_as_taken_and_as_failed_is_not_delivered(open_sink: OpenSink) -> None:
    """Once more does no harm, never does."""
    both = answer(200, {"Successful": [{"Id": "0"}, {"Id": "1"}], "Failed": [{"Id": "1", "Code": "InternalError"}]})
    async with open_sink(SqsSink, both, source="s") as (sink, _):
        assert await sink.publish([row(1), row(2)]) == [1]


async def test_fault_after_a_delivery_keeps_what_was_delivered(open_sink: OpenSink) -> None:
    """Keys of the chunks before a fault are reported; the fault shows at the next round."""
    async with open_sink(SqsSink, taken(10), close, source="s") as (sink, server):
        assert await sink.publish([row(n) for n in range(25)]) == list(range(10))
        assert len(server.requests) == 2
        with pytest.raises(Unavailable):
            await sink.publish([row(n) for n in range(10, 25)])


async def test_slow_calls_end_a_round_before_it_looks_stuck(seen: Seen) -> None:
    """Each call is answered, and only just: the rest is for the next round."""
    clock = ManualClock()

    class Slow:
        async def send_message_batch(self, **request: Any) -> dict[str, Any]:
            clock.move(SEND_DEADLINE_S - 1)
            return {"Successful": [{"Id": entry["Id"]} for entry in request["Entries"]]}

    sink = SqsSink(name="s", queue_url=QUEUE_URL, source="s", client=Slow(), clock=clock, observe=seen)
    began_at = clock.elapsed
    delivered = await sink.publish([row(n) for n in range(200)])
    assert list(delivered) == list(range(50))
    assert clock.elapsed - began_at < LIVE_S / 1.5


async def test_missing_queue_is_refused(open_sink: OpenSink) -> None:
    """The former query code of a missing queue is known."""
    missing = answer(
        400,
        {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no"},
        x_amzn_query_error="AWS.SimpleQueueService.NonExistentQueue;Sender",
    )
    async with open_sink(SqsSink, missing, source="s") as (sink, _):
        with pytest.raises(Refused) as caught:
            await sink.publish([row(1)])
    assert caught.value.code == "AWS.SimpleQueueService.NonExistentQueue"


async def test_unreadable_row_does_not_stop_the_others(open_sink: OpenSink) -> None:
    """A damaged row stays where it is and is logged."""
    damaged = OutboxRow(key=1, event_id="e-1", name="job.submitted", body=b"{")
    async with open_sink(SqsSink, taken(1), source="s") as (sink, _):
        with capture_logs() as lines:
            assert await sink.publish([damaged, row(2)]) == [2]
    assert [(line["event"], line["event_id"]) for line in lines] == [("outbox.row_unreadable", "e-1")]


# --- dead letters -----------------------------------------------------------------------------------------


async def test_dead_letter_is_the_body_with_the_reason_beside_it(open_sink: OpenSink) -> None:
    """The body arrives as it came; reason, code and ids are message attributes; an absent id is left out."""
    async with open_sink(DeadLetterSink, taken(2)) as (sink, server):
        assert await sink.publish([letter(1, '{"jobName": 1}', request_id="r-1"), letter(2, "x")]) == [1, 2]
    first, second = entries(server)
    assert first["MessageBody"] == '{"jobName": 1}'
    assert {name: a["StringValue"] for name, a in first["MessageAttributes"].items()} == {
        "reason": "jobName: too long",
        "error_code": "invalid",
        "request_id": "r-1",
        "message_id": "m-1",
    }
    assert {a["DataType"] for a in first["MessageAttributes"].values()} == {"String"}
    assert set(second["MessageAttributes"]) == {"reason", "error_code", "message_id"}


async def test_attributes_of_a_dead_letter_hold_no_control_characters(open_sink: OpenSink) -> None:
    """AWS's words may: SQS would take line ends and C1 controls, and whoever lists dead letters would show them."""
    async with open_sink(DeadLetterSink, taken(1)) as (sink, server):
        await sink.publish([letter(1, "x", reason="bad\n2026 [info] forged\x1b[31m\x9b\u202e")])
    (entry,) = entries(server)
    reason = entry["MessageAttributes"]["reason"]["StringValue"]
    assert reason == r"bad\u000a2026 [info] forged\u001b[31m\u009b\u202e"
    assert "truncated" not in entry["MessageAttributes"], "the body was not changed"


@pytest.mark.parametrize(
    ("body", "sent"),
    [("", " "), ("a\u0000b\u001f\ufffec\td", "a\ufffdb\ufffd\ufffdc\td")],
)
async def test_body_that_sqs_refuses_is_changed_and_marked(open_sink: OpenSink, body: str, sent: str) -> None:
    """An empty body and refused characters are replaced, and the message says so."""
    async with open_sink(DeadLetterSink, taken(1)) as (sink, server):
        await sink.publish([letter(1, body)])
    (entry,) = entries(server)
    assert entry["MessageBody"] == sent
    assert entry["MessageAttributes"]["truncated"]["StringValue"] == "true"


@LARGE_BODY
async def test_oversized_body_is_cut_with_its_attributes_in_mind(open_sink: OpenSink) -> None:
    """Body and attributes together stay below 1 MiB, and no character is cut in two."""
    async with open_sink(DeadLetterSink, taken(1)) as (sink, server):
        assert await sink.publish([letter(1, "é" * 700_000, reason="ü" * 5000, request_id="r" * 128)]) == [1]
    (entry,) = entries(server)
    attributes = entry["MessageAttributes"]
    size = len(entry["MessageBody"].encode()) + sum(
        len(name) + len("String") + len(a["StringValue"].encode()) for name, a in attributes.items()
    )
    assert MESSAGE_BYTES_KEPT - 4 <= size <= MESSAGE_BYTES_KEPT
    assert set(entry["MessageBody"]) == {"é"}
    assert attributes["reason"]["StringValue"] == "ü" * 512
    assert attributes["truncated"]["StringValue"] == "true"


@LARGE_BODY
async def test_body_that_the_queue_allows_no_more_is_cut_until_it_is_taken(open_sink: OpenSink) -> None:
    """A dead-letter queue made when 256 KiB was all, of a source queue that allows 1 MiB; others are not cut for it."""
    too_large = {"Id": "0", "SenderFault": True, "Code": "InvalidParameterValue", "Message": "must be shorter"}
    large, larger = letter(1, "x" * 300_000), letter(2, "x" * 900_000)
    script = (taken(1, too_large), taken(1), taken(1, too_large), taken(1, too_large), taken(2))
    async with open_sink(DeadLetterSink, *script) as (sink, server):
        with pytest.raises(Refused):
            await sink.publish([large])
        assert await sink.publish([large]) == [1]
        for _ in range(2):
            with pytest.raises(Refused):
                await sink.publish([larger])
        assert await sink.publish([larger, letter(3, "y" * 300_000)]) == [2, 3]
        sizes = [[len(entry["MessageBody"]) for entry in entries(server, n)] for n in range(5)]
    assert [size for (size, *_) in sizes[::2]] == [300_000, 900_000, sizes[4][0]]
    assert 250_000 < sizes[1][0] < 2**18
    assert 2**18 < sizes[3][0] < 2**19
    assert (250_000 < sizes[4][0] < 2**18, sizes[4][1]) == (True, 300_000)
    assert "truncated" in entries(server, 1)[0]["MessageAttributes"]


@LARGE_BODY
async def test_calls_that_are_too_large_are_split_until_they_are_taken(open_sink: OpenSink) -> None:
    """What stands in for SQS may allow 256 KiB for a whole call. It is learned once, and a single message that is too
    large is cut like one that a queue allows no more."""
    refused = fault(400, "BatchRequestTooLong")
    async with open_sink(DeadLetterSink, refused, taken(2), taken(2), taken(2), refused, taken(1)) as (sink, server):
        assert await sink.publish([letter(n, "x" * 100_000) for n in range(1, 5)]) == [1, 2, 3, 4]
        assert await sink.publish([letter(n, "y" * 90_000) for n in (5, 6)]) == [5, 6]
        with pytest.raises(Refused):
            await sink.publish([letter(7, "z" * 300_000)])
        assert await sink.publish([letter(7, "z" * 300_000)]) == [7]
        assert [len(entries(server, n)) for n in range(6)] == [4, 2, 2, 2, 1, 1]
        assert len(entries(server, 5)[0]["MessageBody"]) < 2**18


@LARGE_BODY
@pytest.mark.parametrize("suffix", ["", ".fifo"])
async def test_a_message_that_is_too_large_for_a_call_does_not_hold_up_the_others(
    open_sink: OpenSink, suffix: str
) -> None:
    """The round goes on behind it; in a FIFO queue with the other groups."""
    refused = fault(400, "BatchRequestTooLong")
    letters = [letter(1, "x" * 900_000, request_id="r1"), letter(2, "y" * 900_000, request_id="r2"), letter(3, "z")]
    script = (refused, refused, refused, taken(1))
    async with open_sink(DeadLetterSink, *script, queue_url=QUEUE_URL + suffix) as (sink, server):
        assert await sink.publish(letters) == [3]
        assert [len(entries(server, n)) for n in range(4)] == [1, 2, 1, 1]


async def test_event_that_the_queue_allows_no_more_loses_its_bulk(open_sink: OpenSink) -> None:
    """As one that is too large for SQS does."""
    too_large = {"Id": "0", "SenderFault": True, "Code": "InvalidParameterValue", "Message": "must be shorter"}
    event = row(1, request_id="r", attempts=[{"reason": "x" * 300_000}])
    async with open_sink(SqsSink, taken(1, too_large), taken(1), source="s") as (sink, server):
        with pytest.raises(Refused):
            await sink.publish([event])
        assert await sink.publish([event]) == [1]
    assert json.loads(entries(server, 1)[0]["MessageBody"])["data"] == {"request_id": "r", "truncated": True}


async def test_dead_letters_of_a_fifo_queue_have_a_group(open_sink: OpenSink) -> None:
    """A FIFO dead-letter queue gets the request id, else the message id, as the group."""
    async with open_sink(DeadLetterSink, taken(2), queue_url=QUEUE_URL + ".fifo") as (sink, server):
        await sink.publish([letter(1, "x", request_id="r-1"), letter(2, "y")])
    assert [e["MessageGroupId"] for e in entries(server)] == ["r-1", "m-1"]


async def test_errors_of_a_dead_letter_never_quote_it(open_sink: OpenSink) -> None:
    """SQS's own words may repeat the body and are left out of the error."""
    words = "Invalid value secret-in-the-body"
    async with open_sink(DeadLetterSink, fault(400, "InvalidMessageContents", words)) as (sink, _):
        with pytest.raises(Refused) as caught:
            await sink.publish([letter(1, "secret-in-the-body")])
    assert "secret" not in str(caught.value)
