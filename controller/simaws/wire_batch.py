"""AWS Batch on the wire: REST with JSON bodies, ``POST /v1/<lower-case operation>``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from controller.simaws.answers import AwsError
from controller.simaws.history import BATCH_OPERATIONS

OPERATIONS: Final[Mapping[bytes, str]] = {f"/v1/{name.lower()}".encode(): name for name in BATCH_OPERATIONS}
"""By path."""

CONTENT_TYPE: Final = b"application/json"


def read(body: bytes) -> dict[str, Any]:
    """Arguments of a request; raises AwsError for anything but a JSON object."""
    try:
        arguments = orjson.loads(body) if body else {}
    except ValueError as error:
        raise AwsError("SerializationException", "The request body is not JSON.") from error
    if not isinstance(arguments, dict):
        raise AwsError("SerializationException", "The request body is not a JSON object.")
    return arguments


def write(result: Mapping[str, Any]) -> bytes:
    return orjson.dumps(result)


def write_error(error: AwsError) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    """Body and extra headers: the code is in a header, only the message in the body."""
    return orjson.dumps({"message": error.message}), ((b"x-amzn-errortype", error.code.encode()),)
