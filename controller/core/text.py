"""Text from outside that is shown to people: control characters as escapes, so that it can't forge a line or drive a
terminal.

What counts as unsafe: the C0 and C1 control characters and DEL (a terminal obeys ESC, and some obey U+009B alike), the
marks that change the direction of writing (a text may look as if it said something else), and Unicode's own line ends.
Used wherever a text of a producer or of a service leaves for a log, an event line, a message attribute or the console.
"""

from __future__ import annotations

import re
from typing import Final

_RAW_IN_JSON: Final = "\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""What a string of JSON may hold as it is; C0 it must escape anyway."""
_UNSAFE: Final = re.compile(f"[\0-\x1f{_RAW_IN_JSON}]")
_UNSAFE_IN_JSON: Final = re.compile(f"[{_RAW_IN_JSON}]")


def escaped(text: str) -> str:
    """Each unsafe character as ``\\uXXXX``; everything else as it is."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escape, text)


def escaped_json(line: bytes) -> bytes:
    """A JSON text with what JSON lets through raw escaped: the same value, safe to show.

    Those characters stand in strings only, where ``\\uXXXX`` means the same.
    """
    if line.isascii() and b"\x7f" not in line:
        return line
    return _UNSAFE_IN_JSON.sub(_escape, line.decode()).encode()


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
