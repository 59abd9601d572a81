"""Text that Amazon SQS takes in bodies and attribute values.

SQS allows #x9, #xA, #xD, #x20 to #xD7FF, #xE000 to #xFFFD and #x10000 to #x10FFFF (API reference, SendMessage) and
refuses a message with any other character.
"""

from __future__ import annotations

import re
from typing import Final

_REFUSED: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def cleaned(text: str) -> str:
    """Every refused character replaced by U+FFFD."""
    return _REFUSED.sub("\ufffd", text)


def cut(text: str, bytes_max: int) -> str:
    """The longest start of the text that is at most ``bytes_max`` long in UTF-8."""
    encoded = text.encode()
    return text if len(encoded) <= bytes_max else encoded[:bytes_max].decode(errors="ignore")
