"""The HTTP face: AWS's own wire protocols on one port, fast enough to be no one's bottleneck.

A small HTTP/1.1 server on ``asyncio.Protocol``: keep-alive, pipelining, ``Content-Length`` bodies, also absolute-form
targets (some clients send them). Long polls hold no thread and wake when a message arrives. A long poll whose caller
went away stays: as in SQS, messages handed to it are in flight until their visibility timeout.

The clock is read here, at the edge, and passed into the core.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from controller.simaws import wire_batch, wire_sqs, wire_sts
from controller.simaws.answers import Answer, AwsError, Delivery
from controller.simaws.cloud import SimAws
from controller.simaws.control import control
from controller.simaws.http_message import Reply, Request, read_request, write_reply

Wire = Any
"""One of the wire modules: ``CONTENT_TYPE``, ``write`` and ``write_error``."""
NOT_JSON: Final = b"<html><body>It works!</body></html>"
BLOCKED: Final = b"<html><body>The requested page was rejected.</body></html>"


class Connection(asyncio.Protocol):
    """One connection: requests are answered one after another, in order."""

    def __init__(self, server: SimServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def _next(self) -> None:
        while not self._is_busy and self._transport is not None:
            try:
                request = read_request(self._buffer)
            except ValueError as error:
                self.reply(Reply(400, str(error).encode(), b"text/plain"), keep_alive=False)
                return
            if request is None:
                return
            self._is_busy = True
            self._server.serve(self, request)

    def reply(self, reply: Reply, *, keep_alive: bool = True, truncate: bool = False) -> None:
        """Send an answer; ``truncate``: half of its body, then close."""
        if self._transport is None or self._transport.is_closing():
            return
        head, body = write_reply(reply, keep_alive=keep_alive)
        self._transport.write(head + (body[: len(body) // 2] if truncate else body))
        if truncate or not keep_alive:
            self._transport.close()
        self._is_busy = False
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._next)

    def close(self, *, reset: bool = False) -> None:
        """End the connection without an answer, in order or with a TCP reset."""
        if self._transport is None:
            return
        if reset:
            self._reset_on_close(self._transport)
            self._transport.abort()
        else:
            self._transport.close()

    def _reset_on_close(self, transport: asyncio.Transport) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass(slots=True, eq=False)
class _Poll:
    """A ReceiveMessage that waits."""

    connection: Connection
    request: Request
    arguments: Mapping[str, Any]
    answer: Answer
    queue: str
    timer: asyncio.TimerHandle | None = None
    is_over: bool = False


class SimServer:
    """Serves one simulated account; ``clock`` gives seconds since the epoch."""

    def __init__(
        self, sim: SimAws, *, clock: Callable[[], float] = time.time, requires_signature: bool = False
    ) -> None:
        self.sim = sim
        self.connections: set[Connection] = set()
        self._clock = clock
        self._requires_signature = requires_signature
        self._polls: dict[str, deque[_Poll]] = {}
        self._waking: set[str] = set()
        self._timer: tuple[float, asyncio.TimerHandle] | None = None
        self._listener: asyncio.Server | None = None
        sim.sqs.on_visible = self._wake

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; returns the base URL, which queue URLs begin with."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: Connection(self), host, port, backlog=1024)
        name = self._listener.sockets[0].getsockname()
        shown = f"[{name[0]}]" if ":" in name[0] else name[0]
        self.sim.sqs.base_url = f"http://{shown}:{name[1]}"
        return self.sim.sqs.base_url

    async def stop(self) -> None:
        """Stop listening, drop every connection and waiting poll."""
        assert self._listener is not None, "not started"
        self._listener.close()
        for polls in self._polls.values():
            for poll in polls:
                self._end(poll)
        if self._timer is not None:
            self._timer[1].cancel()
        for connection in tuple(self.connections):
            connection.close(reset=True)
        await self._listener.wait_closed()
        self.sim.sqs.on_visible = None

    # --- one request --------------------------------------------------------------------------------------

    def serve(self, connection: Connection, request: Request) -> None:
        try:
            self._serve(connection, request)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            connection.reply(Reply(500, b'{"message":"InternalFailure"}', b"application/json"))
        self._schedule()

    def _serve(self, connection: Connection, request: Request) -> None:
        if request.path.startswith(b"/_sim"):
            self._control(connection, request)
            return
        wire, operation = _route(request)
        if operation is None:
            self._deliver(
                connection, request, wire, Answer(error=AwsError("UnknownOperationException", "", status=404))
            )
            return
        if self._requires_signature and not request.headers.get(b"authorization", b"").startswith(b"AWS4-HMAC-SHA256 "):
            error = AwsError("MissingAuthenticationTokenException", "Missing Authentication Token", status=403)
            self._deliver(connection, request, wire, Answer(error=error))
            return
        try:
            arguments = {} if wire is wire_sts else wire_batch.read(request.body)
        except AwsError as error:
            self._deliver(connection, request, wire, Answer(error=error))
            return
        answer = self._call(operation, arguments)
        if operation == "ReceiveMessage" and self._waits(answer, arguments):
            self._begin(connection, request, arguments, answer)
        elif answer.delay_s > 0:
            self._later(answer.delay_s, connection, request, wire, answer)
        else:
            self._deliver(connection, request, wire, answer)

    def _call(self, operation: str, arguments: Mapping[str, Any]) -> Answer:
        try:
            return self.sim.call(operation, arguments, now=self._clock())
        except (TypeError, AttributeError, KeyError, ValueError):
            # A member of the wrong type, which no SDK sends. Printed, for it may also be a mistake of this server.
            traceback.print_exc(file=sys.stderr)
            return Answer(error=AwsError("SerializationException", "A member has the wrong type."))

    def _control(self, connection: Connection, request: Request) -> None:
        self.sim.advance(self._clock())
        query = dict(parse_qsl(request.query.decode("latin-1")))
        try:
            body = wire_batch.read(request.body)
        except AwsError as error:
            connection.reply(Reply(400, orjson.dumps({"error": error.message}), b"application/json"))
            return
        status, answer = control(
            self.sim, request.method.decode("latin-1"), request.path.decode("latin-1"), query, body
        )
        connection.reply(Reply(status, orjson.dumps(answer), b"application/json"), keep_alive=request.keeps_alive)

    def _later(self, delay_s: float, connection: Connection, request: Request, wire: Wire, answer: Answer) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._deliver, connection, request, wire, answer)

    def _deliver(self, connection: Connection, request: Request, wire: Wire, answer: Answer) -> None:
        if answer.delivery in (Delivery.RESET, Delivery.CLOSE, Delivery.HANG):
            connection.close(reset=answer.delivery is Delivery.RESET)
            return
        if answer.error is not None:
            body, headers = wire.write_error(answer.error)
            reply = Reply(answer.error.status, body, wire.CONTENT_TYPE, headers)
        elif answer.delivery is Delivery.NOT_JSON:
            reply = Reply(200, NOT_JSON, b"text/html")
        elif answer.delivery is Delivery.BLOCKED:
            reply = Reply(403, BLOCKED, b"text/html")
        else:
            reply = Reply(200, wire.write(answer.result), wire.CONTENT_TYPE)
        truncate = answer.delivery is Delivery.TRUNCATE
        connection.reply(reply, keep_alive=request.keeps_alive, truncate=truncate)

    # --- long polls ---------------------------------------------------------------------------------------

    def _waits(self, answer: Answer, arguments: Mapping[str, Any]) -> bool:
        is_empty = answer.result is not None and not answer.result.get("Messages")
        return is_empty and self.sim.sqs.wait_s(arguments) > 0

    def _begin(self, connection: Connection, request: Request, arguments: Mapping[str, Any], answer: Answer) -> None:
        queue = self.sim.sqs.find(arguments).name
        poll = _Poll(connection, request, arguments, answer, queue)
        self._polls.setdefault(queue, deque()).append(poll)
        wait_s = self.sim.sqs.wait_s(arguments)
        poll.timer = asyncio.get_running_loop().call_later(wait_s, self._finish, poll, answer.result)

    def _wake(self, queue: str) -> None:
        """A message became visible: the oldest poll of the queue gets it, once this call is over."""
        if self._polls.get(queue) and queue not in self._waking:
            self._waking.add(queue)
            asyncio.get_running_loop().call_soon(self._hand_out, queue)

    def _hand_out(self, queue: str) -> None:
        self._waking.discard(queue)
        polls = self._polls.get(queue, deque())
        while polls:
            poll = polls[0]
            result = self.sim.receive_again(poll.arguments, now=self._clock())
            if not result.get("Messages"):
                break
            self._finish(poll, result)
        self._schedule()

    def _finish(self, poll: _Poll, result: Mapping[str, Any] | None) -> None:
        if poll.is_over:
            return
        self._end(poll)
        self._polls[poll.queue].remove(poll)
        self._deliver(poll.connection, poll.request, wire_sqs, replace(poll.answer, result=result))

    def _end(self, poll: _Poll) -> None:
        poll.is_over = True
        if poll.timer is not None:
            poll.timer.cancel()

    # --- time ---------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        """One timer: for the next thing that happens by itself, or the next message a waiting poll may get."""
        at = self._next_at()
        if self._timer is not None:
            if self._timer[0] == at:
                return
            self._timer[1].cancel()
            self._timer = None
        if at is not None:
            delay_s = max(0.0, at - self._clock())
            self._timer = (at, asyncio.get_running_loop().call_later(delay_s, self._tick))

    def _next_at(self) -> float | None:
        instants = [self.sim.next_change_at()]
        instants += [self.sim.sqs.queues[queue].next_visible_at() for queue, polls in self._polls.items() if polls]
        return min((at for at in instants if at is not None), default=None)

    def _tick(self) -> None:
        self._timer = None
        self.sim.advance(self._clock())
        for queue, polls in self._polls.items():
            if polls:
                self._hand_out(queue)
        self._schedule()


def _route(request: Request) -> tuple[Wire, str | None]:
    operation = wire_batch.OPERATIONS.get(request.path)
    if operation is not None:
        return wire_batch, operation
    target = request.headers.get(b"x-amz-target")
    if target is not None:
        return wire_sqs, wire_sqs.operation(target)
    if request.headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
        return wire_sts, wire_sts.operation(request.body)
    return wire_batch, None


async def serve(sim: SimAws, host: str = "127.0.0.1", port: int = 0) -> SimServer:
    """Serve an account on the wall clock; the server's ``stop`` ends it."""
    server = SimServer(sim)
    await server.start(host, port)
    return server
