"""Sizes, digests and receipt handles of SQS messages.

Source: Amazon SQS developer guide, "Calculating the MD5 message digest for message attributes", and the API reference
for the characters a body may hold.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from controller.simaws.answers import AwsError

_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ATTRIBUTES_MAX: Final = 10


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def check_body(body: object) -> str:
    """The body, or the error SQS answers with."""
    if not isinstance(body, str) or not body:
        raise AwsError("MissingParameter", "The request must contain the parameter MessageBody.")
    if _FORBIDDEN.search(body):
        raise AwsError("InvalidMessageContents", "Invalid binary character was found in the message body.")
    return body


def message_size(body: str, attributes: Mapping[str, Any] | None) -> int:
    """Bytes that count towards the limit: body, and names, types and values of the attributes."""
    size = len(body.encode())
    for name, attribute in (attributes or {}).items():
        size += len(name.encode()) + len(str(attribute.get("DataType", "")).encode()) + len(_value(attribute)[1])
    return size


def check_attributes(attributes: Mapping[str, Any] | None) -> None:
    if attributes and len(attributes) > ATTRIBUTES_MAX:
        text = f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [10]."
        raise AwsError("InvalidParameterValue", text)
    for name, attribute in (attributes or {}).items():
        kind = str(attribute.get("DataType", "")).partition(".")[0]
        if kind not in ("String", "Number", "Binary") or not _value(attribute)[1]:
            text = f"The message attribute '{name}' must contain a non-empty value and a valid type."
            raise AwsError("InvalidParameterValue", text)


def attributes_md5(attributes: Mapping[str, Any] | None) -> str | None:
    """MD5OfMessageAttributes."""
    if not attributes:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        kind, value = _value(attributes[name])
        for part in (name.encode(), str(attributes[name]["DataType"]).encode()):
            digest.update(len(part).to_bytes(4, "big") + part)
        digest.update(kind + len(value).to_bytes(4, "big") + value)
    return digest.hexdigest()


def _value(attribute: Mapping[str, Any]) -> tuple[bytes, bytes]:
    if "BinaryValue" in attribute:
        value = attribute["BinaryValue"]
        return b"\x02", value if isinstance(value, bytes) else base64.b64decode(value)
    return b"\x01", str(attribute.get("StringValue", "")).encode()


def receipt_handle(queue: str, serial: int, receive: int) -> str:
    """A handle that names a receive of a message; a later receive has another one."""
    return base64.b64encode(f"{queue}\n{serial}\n{receive}".encode()).decode()


def read_receipt_handle(handle: object, queue: str) -> tuple[int, int]:
    """(serial, receive) of a handle of this queue."""
    try:
        name, serial, receive = base64.b64decode(str(handle), validate=True).decode().split("\n")
        if name == queue:
            return int(serial), int(receive)
    except ValueError:
        pass
    raise AwsError("ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not a valid receipt handle.')
