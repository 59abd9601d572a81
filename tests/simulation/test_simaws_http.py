"""SimAWS's HTTP face: answers whole, cut, reset and withheld; long polls; control; its own process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any
from urllib.error import HTTPError

import pytest

from controller.simaws import Fault, Profile, Rule, SimAws, SimProcess, SimServer, serve
from controller.simaws.__main__ import main

JOB = {"jobName": "one", "jobQueue": "jobs", "jobDefinition": "work"}


@pytest.fixture
async def server() -> AsyncIterator[SimServer]:
    sim = SimAws(seed=1, profile=Profile(running_s=(0.05, 0.05)))
    sim.add_job_queue("jobs")
    sim.add_job_definition("work")
    sim.add_sqs_queue("q")
    started = await serve(sim)
    yield started
    await started.stop()


class Client:
    """A raw connection to a served account."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, path: str, body: object = None, *, method: str = "POST", head: str = "") -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: x\r\n{head}content-length: {len(data)}\r\n\r\n".encode() + data
        )

    def send_sqs(self, operation: str, **arguments: Any) -> None:
        self.send("/", arguments, head=f"x-amz-target: AmazonSQS.{operation}\r\n")

    async def answer(self) -> tuple[int, Any]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split()[1]), json.loads(await self.reader.readexactly(length))


async def connect(server: SimServer) -> Client:
    host, _, port = server.sim.sqs.base_url.removeprefix("http://").partition(":")
    return Client(*await asyncio.open_connection(host, int(port)))


async def called(server: SimServer, operation: str, times: int) -> None:
    """Wait until the server has had so many calls of an operation."""
    async with asyncio.timeout(5):
        while len(list(server.sim.history.calls(operation))) < times:
            await asyncio.sleep(0)


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.RESET_AFTER])
async def test_a_reset_reaches_the_caller_as_a_reset(server: SimServer, fault: Fault) -> None:
    """A reset connection fails the caller's read with ECONNRESET, before or after the job was made."""
    server.sim.faults.script("SubmitJob", [fault])
    client = await connect(server)
    client.send("/v1/submitjob", JOB)
    with pytest.raises(ConnectionResetError):
        await client.reader.read()
    assert len(server.sim.history.jobs) == (fault is Fault.RESET_AFTER)
    client.writer.close()


@pytest.mark.parametrize(("fault", "begins"), [(Fault.CLOSE, b""), (Fault.TRUNCATE_AFTER, b"HTTP/1.1 200 OK")])
async def test_an_answer_may_be_missing_or_cut(server: SimServer, fault: Fault, begins: bytes) -> None:
    """A closed connection brings nothing, a truncated answer fewer bytes than its length says."""
    server.sim.faults.script("SubmitJob", [fault])
    client = await connect(server)
    client.send("/v1/submitjob", JOB)
    raw = await client.reader.read()
    assert raw.startswith(begins)
    if begins:
        head, _, body = raw.partition(b"\r\n\r\n")
        assert 0 < len(body) < int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    client.writer.close()


async def test_a_hanging_call_blocks_nobody_else(server: SimServer) -> None:
    """While one caller hangs, others are answered; the hang ends after ``hang_s``."""
    server.sim.faults.service.hang_s = 0.2
    server.sim.faults.script("SubmitJob", [Fault.HANG_AFTER])
    hanging, other = await connect(server), await connect(server)
    hanging.send("/v1/submitjob", JOB)
    await called(server, "SubmitJob", 1)
    other.send("/v1/submitjob", JOB)
    assert (await other.answer())[0] == 200
    assert await hanging.reader.read() == b""
    assert len(server.sim.history.jobs) == 2
    for client in (hanging, other):
        client.writer.close()


async def test_requests_on_one_connection_are_answered_in_order(server: SimServer) -> None:
    """Pipelined requests, in pieces and with an absolute target, are answered one after another."""
    client = await connect(server)
    client.send("http://sim.example/v1/submitjob", JOB)
    client.send("/v1/describejobs", {"jobs": ["x"]})
    client.send("/v1/submitjob", {})
    status, first = await client.answer()
    assert (status, set(first)) == (200, {"jobId", "jobArn", "jobName"})
    assert await client.answer() == (200, {"jobs": []})
    assert (await client.answer())[0] == 400
    client.writer.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused_and_the_connection_closed(server: SimServer, raw: bytes) -> None:
    """A broken request is a 400 and the end of the connection, not of the server."""
    client = await connect(server)
    client.writer.write(raw)
    assert (await client.reader.read()).startswith(b"HTTP/1.1 400 ")
    client.writer.close()


async def test_bodies_that_no_sdk_sends_are_client_errors(server: SimServer) -> None:
    """Not JSON, not an object, or members of a wrong type: 400, and the connection goes on."""
    client = await connect(server)
    for body in ([1], {**JOB, "tags": ["a"]}, {**JOB, "arrayProperties": 5}):
        client.send("/v1/submitjob", body)
        assert (await client.answer())[0] == 400
    client.send("/v1/nosuch", {})
    assert (await client.answer())[0] == 404
    client.writer.close()


async def test_a_message_wakes_the_poll_that_waits_for_it(server: SimServer) -> None:
    """A long poll returns as soon as a message is sent, to the oldest poll first; waiting is no further call."""
    url = server.sim.sqs.url("q")
    polls, sender = [await connect(server) for _ in range(2)], await connect(server)
    for number, poll in enumerate(polls, 1):
        poll.send_sqs("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=20)
        await called(server, "ReceiveMessage", number)
    for body, poll in zip(("first", "second"), polls, strict=True):
        sender.send_sqs("SendMessage", QueueUrl=url, MessageBody=body)
        _, answer = await asyncio.wait_for(poll.answer(), 5)
        assert [message["Body"] for message in answer["Messages"]] == [body]
    assert len(list(server.sim.history.calls("ReceiveMessage"))) == 2
    for client in (*polls, sender):
        client.writer.close()


async def test_a_poll_ends_empty_at_its_time_and_sees_what_becomes_visible(server: SimServer) -> None:
    """A poll that finds nothing ends after its wait; one that outlasts a visibility timeout gets the message."""
    url = server.sim.sqs.url("q")
    client = await connect(server)
    client.send_sqs("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=0.05)
    assert await asyncio.wait_for(client.answer(), 5) == (200, {})
    client.send_sqs("SendMessage", QueueUrl=url, MessageBody="b", DelaySeconds=0)
    await client.answer()
    client.send_sqs("ReceiveMessage", QueueUrl=url, VisibilityTimeout=0.1)
    await client.answer()
    client.send_sqs("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=20)
    _, answer = await asyncio.wait_for(client.answer(), 5)
    assert len(answer["Messages"]) == 1
    client.writer.close()


async def test_an_abandoned_poll_still_takes_its_message(server: SimServer) -> None:
    """As in SQS, a message handed to a caller that went away is in flight until its visibility timeout."""
    url = server.sim.sqs.url("q")
    gone, sender = await connect(server), await connect(server)
    gone.send_sqs("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=20)
    await called(server, "ReceiveMessage", 1)
    gone.writer.close()
    await gone.writer.wait_closed()
    sender.send_sqs("SendMessage", QueueUrl=url, MessageBody="b")
    await sender.answer()
    sender.send_sqs("ReceiveMessage", QueueUrl=url, WaitTimeSeconds=0.05)
    assert await sender.answer() == (200, {})
    assert server.sim.sqs.queues["q"].in_flight == 1
    sender.writer.close()


async def test_events_arrive_at_a_waiting_poll_without_any_call(server: SimServer) -> None:
    """Job state changes are delivered by the server's own timer."""
    server.sim.put_rule(Rule(name="r", queue="q", statuses=frozenset({"SUCCEEDED"})))
    poller, submitter = await connect(server), await connect(server)
    submitter.send("/v1/submitjob", JOB)
    _, job = await submitter.answer()
    poller.send_sqs("ReceiveMessage", QueueUrl=server.sim.sqs.url("q"), WaitTimeSeconds=20)
    _, answer = await asyncio.wait_for(poller.answer(), 5)
    assert json.loads(answer["Messages"][0]["Body"])["detail"]["jobId"] == job["jobId"]
    for client in (poller, submitter):
        client.writer.close()


async def test_unsigned_calls_are_refused_if_signatures_are_required() -> None:
    """With the presence check on, a call without SigV4 is 403 and not in the history."""
    server = SimServer(SimAws(), requires_signature=True)
    await server.start()
    client = await connect(server)
    client.send("/v1/describejobs", {"jobs": []})
    assert (await client.answer())[0] == 403
    client.send("/v1/describejobs", {"jobs": []}, head="authorization: AWS4-HMAC-SHA256 Credential=x\r\n")
    assert await client.answer() == (200, {"jobs": []})
    assert len(list(server.sim.history.calls())) == 1
    client.writer.close()
    await server.stop()


async def test_the_logs_show_single_calls_and_messages_by_page(server: SimServer) -> None:
    """The call log selects by operation and subject, the message log by queue and id; a bad page is refused."""
    client = await connect(server)
    for name in ("one", "two", "one"):
        client.send("/v1/submitjob", {**JOB, "jobName": name})
        await client.answer()
    client.send_sqs("SendMessage", QueueUrl=server.sim.sqs.url("q"), MessageBody="b")
    _, sent = await client.answer()
    client.send("/_sim/history/call-log?operation=SubmitJob&subject=one&offset=1", method="GET")
    _, log = await client.answer()
    assert [(call["operation"], call["outcome"], call["subject"]) for call in log["calls"]] == [
        ("SubmitJob", "ok", "one")
    ]
    client.send(f"/_sim/history/message-log?queue=q&id={sent['MessageId']}", method="GET")
    _, log = await client.answer()
    assert [record["action"] for record in log["messages"]] == ["sent"]
    client.send("/_sim/history/call-log?offset=-1", method="GET")
    assert (await client.answer())[0] == 400
    client.writer.close()


def test_a_process_is_controlled_over_http_and_ends_on_request() -> None:
    """Queues, faults and the profile are changed while it runs, the history is read, wrong settings are refused."""
    queues = ["--sqs-queue", "q", "--sqs-queue", "in.fifo", "--events-queue", "ev"]
    with SimProcess(["--seed", "3", "--job-queue", "jobs:2", *queues]) as process:
        assert process.control("health")["status"] == "ok"
        assert set(process.queue_urls) == {"q", "in.fifo", "ev"}
        process.control("job-queues", {"name": "jobs", "state": "DISABLED", "slots": 5})
        process.control("job-definitions", {"name": "work"})
        process.control("sqs-queues", {"name": "more", "attributes": {"VisibilityTimeout": 5}})
        process.control("rules", {"name": "second", "queue": "more"})
        process.control("profile", {"name": "fast", "running_s": [0, 0]})
        process.control("faults", {"calls": {"ListJobs": {"throttle": 1.0}}})
        stats = process.control("stats")
        assert stats["job_queues"]["jobs"] == {"state": "DISABLED", "status": "VALID", "slots": 5.0, "jobs": {}}
        assert set(stats["sqs_queues"]) == {"q", "in.fifo", "ev", "more"}
        for path, body in (("faults", {"nonsense": 1}), ("profile", {"name": "slow"}), ("job-queues", {"nam": "x"})):
            with pytest.raises(HTTPError, match="400"):
                process.control(path, body)
        with pytest.raises(HTTPError, match="404"):
            process.control("nonsense")
        process.control("faults", method="DELETE")
        process.control("reset", {})
        assert process.control("history/summary")["jobs_accepted"] == 0
        assert process.control("history/calls?operation=SubmitJob&window_s=2")["in_window_max"] == 0
        assert process.control("history/jobs?tag=a=b") == {"jobs": []}
        assert process.control("history/names?min=2") == {"counts": {}}
        assert process.control("history/messages?queue=q") == {"messages": {}}
        pid = process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_ends_by_itself_after_its_time() -> None:
    """``--max-seconds`` bounds its life, with exit code 0."""
    command = [sys.executable, "-m", "controller.simaws", "--max-seconds", "0.1"]
    assert subprocess.run(command, capture_output=True, timeout=20, check=True).stdout.count(b"\n") == 1


def test_a_process_ends_when_its_parent_dies() -> None:
    """A simulated AWS whose parent is killed does not stay behind."""
    script = (
        "import sys, time; from controller.simaws import SimProcess; process = SimProcess();"
        "print(process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert _is_gone(pid, within_s=10.0)


def _is_gone(pid: int, *, within_s: float) -> bool:
    """Whether a process that is not our child ends in time (a pidfd becomes readable when it does)."""
    import select

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], within_s)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("arguments", [["--set", '{"running_s": [5, 1]}'], ["--sqs-queue", "a b"]])
def test_a_wrong_command_line_is_an_error(arguments: list[str]) -> None:
    """An impossible profile or name is refused with exit code 2, and the starter says that it did not start."""
    with pytest.raises(RuntimeError, match="exit code 2"):
        SimProcess(arguments)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "99999"], "--port: must be a port, 0 to 65535"),
        (["--set", "{x"], "--set: must be a JSON object"),
        (["--faults", "[]"], "--faults: must be a JSON object"),
        (["--job-queue", "low:x"], "--job-queue: must be NAME or NAME:VCPUS, VCPUS a number"),
    ],
)
def test_a_wrong_option_is_named(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with an option of the command line is said with the option's name, without a traceback."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"error: argument {told}" in capsys.readouterr().err
