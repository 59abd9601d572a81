"""What a simulated service answers, and how the answer is to be delivered.

The core never touches a socket: a call yields an ``Answer``, and the face (HTTP, or a wrapper in the same process)
does what its ``delivery`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class AwsError(Exception):
    """An error as AWS words it: code, HTTP status and message."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def client_error(message: str) -> AwsError:
    """AWS Batch's ClientException (400): the request is at fault."""
    return AwsError("ClientException", message)


class Delivery(StrEnum):
    """What the face does with an answer."""

    ANSWER = "answer"
    RESET = "reset"
    """Drop the connection with a TCP reset, no byte sent."""
    CLOSE = "close"
    """Close the connection in order, no byte sent."""
    TRUNCATE = "truncate"
    """Send the head and half of the body, then close."""
    NOT_JSON = "not_json"
    """200 with a body that is not JSON."""
    BLOCKED = "blocked"
    """403 with a page that is not AWS's."""
    HANG = "hang"
    """Send nothing; keep the connection until ``delay_s`` has passed or the caller goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A call's outcome; exactly one of ``result`` and ``error`` is set unless nothing is to be sent."""

    delivery: Delivery = Delivery.ANSWER
    delay_s: float = 0.0
    result: Mapping[str, Any] | None = None
    error: AwsError | None = None
