"""HTTP/1.1 requests out of a buffer and replies into bytes: just what SDKs send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEAD_BYTES_MAX: Final = 65_536
BODY_BYTES_MAX: Final = 8 * 1024 * 1024

_REASONS: Final = {200: b"OK", 400: b"Bad Request", 403: b"Forbidden", 404: b"Not Found", 429: b"Too Many Requests"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names in lower case."""

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def keeps_alive(self) -> bool:
        return self.headers.get(b"connection", b"").lower() != b"close"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    content_type: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


def read_request(buffer: bytearray) -> Request | None:
    """Take one whole request off the front of ``buffer``; None if it is not all there yet.

    Raises ValueError for what is not HTTP/1.1 or too large.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > HEAD_BYTES_MAX:
            raise ValueError("request head too large")
        return None
    lines = bytes(buffer[:end]).split(b"\r\n")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
        raise ValueError("not an HTTP/1.1 request")
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    if b"transfer-encoding" in headers:
        raise ValueError("Transfer-Encoding is not supported: send a Content-Length")
    length = _length(headers.get(b"content-length", b"0"))
    if len(buffer) < end + 4 + length:
        return None
    body = bytes(buffer[end + 4 : end + 4 + length])
    del buffer[: end + 4 + length]
    path, query = _target(parts[1])
    return Request(parts[0], path, query, headers, body)


def _length(value: bytes) -> int:
    if not value.isdigit() or int(value) > BODY_BYTES_MAX:
        raise ValueError("bad Content-Length")
    return int(value)


def _target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a target in origin or absolute form."""
    if not target.startswith(b"/"):
        _, _, rest = target.partition(b"://")
        target = b"/" + rest.partition(b"/")[2]
    path, _, query = target.partition(b"?")
    return path, query


def write_reply(reply: Reply, *, keep_alive: bool) -> tuple[bytes, bytes]:
    """Head and body as they go out."""
    extra = b"".join(b"%b: %b\r\n" % header for header in reply.headers)
    head = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nx-amzn-requestid: simulated\r\n%b%b\r\n" % (
        reply.status,
        _REASONS.get(reply.status, b"Error"),
        reply.content_type,
        len(reply.body),
        extra,
        b"" if keep_alive else b"connection: close\r\n",
    )
    return head, reply.body
