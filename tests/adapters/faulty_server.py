"""An HTTP server that misbehaves on request: what AWS, or the network before it, does on a bad day."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class FaultyServer:
    """Answers each request with the next behaviour of ``script``; its last one is used for all that follow."""

    port: int = 0
    script: list[Behaviour] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Path, headers in lower case and body of every request that was read whole."""
    connections: int = 0
    received: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                self.received.set()
                behaviour = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                await behaviour(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def faulty_server(*script: Behaviour) -> AsyncIterator[FaultyServer]:
    server = FaultyServer(script=list(script))
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(server.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes] | None:
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return first.split(" ")[1], headers, await reader.readexactly(int(headers.get("content-length", "0")))


def answer(status: int, body: object, *, content_type: str = "application/json", **headers: str) -> Behaviour:
    """A whole answer; ``body`` is bytes, or what is made JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await writer.drain()

    return behave


def fault(status: int, code: str, message: str = "no") -> Behaviour:
    """An error as AWS's JSON services write it."""
    return answer(status, {"message": message, "__type": code}, x_amzn_ErrorType=code)


def sts_fault(status: int, code: str) -> Behaviour:
    """An error as STS's query protocol writes it."""
    xml = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
    return answer(status, xml.encode(), content_type="text/xml")


async def never(writer: asyncio.StreamWriter) -> None:
    """No answer, ever."""
    await asyncio.Event().wait()


async def close(writer: asyncio.StreamWriter) -> None:
    """The request is read, then the connection is closed."""
    writer.close()


async def reset(writer: asyncio.StreamWriter) -> None:
    """The request is read, then the connection is reset."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def truncate(writer: asyncio.StreamWriter) -> None:
    """A 200 whose body ends early."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n" + b'{"jobId": "a')
    await writer.drain()
    writer.close()


async def half_head(writer: asyncio.StreamWriter) -> None:
    """The connection ends within the status line and headers."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    await writer.drain()
    writer.close()


async def garbage(writer: asyncio.StreamWriter) -> None:
    """What comes back is not HTTP."""
    writer.write(b"\x00\x01\x02 no http\r\n\r\n")
    await writer.drain()
    writer.close()
