"""Amazon SQS on the wire: AWS JSON 1.0, ``X-Amz-Target: AmazonSQS.<operation>``, query-compatible errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from controller.simaws.answers import AwsError

TARGET_PREFIX: Final = b"AmazonSQS."
CONTENT_TYPE: Final = b"application/x-amz-json-1.0"

_QUERY_CODES: Final[Mapping[str, str]] = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueNameExists": "QueueAlreadyExists",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
    "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "PurgeQueueInProgress": "AWS.SimpleQueueService.PurgeQueueInProgress",
    "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation",
}
"""Codes of the old query protocol that differ from the shapes' names."""

write = orjson.dumps


def operation(target: bytes) -> str | None:
    """The operation a target header names, if it is one of SQS's."""
    return target.removeprefix(TARGET_PREFIX).decode("latin-1") if target.startswith(TARGET_PREFIX) else None


def write_error(error: AwsError) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    """Body and extra headers: the shape's name in the body, the old code in a header."""
    body: dict[str, Any] = {"__type": f"com.amazonaws.sqs#{error.code}", "message": error.message}
    fault = "Receiver" if error.status >= 500 else "Sender"
    code = f"{_QUERY_CODES.get(error.code, error.code)};{fault}"
    return orjson.dumps(body), ((b"x-amzn-query-error", code.encode()),)
