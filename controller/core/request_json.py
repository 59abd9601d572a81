"""Decodes a message body: strict JSON, in bounded depth, and nothing that AWS could not be sent.

Beyond what the JSON grammar refuses, a body is refused for NaN and infinities, for nesting deeper than
BODY_NESTING_MAX, and (with the path) for NUL and lone surrogates in a text. Numbers that neither a double nor a
64-bit integer can hold, and members given twice, are marked here and reported by whoever meets them.

Python's own decoder does it, with hooks: 15 µs for a body of 1 KB. orjson would take 3 µs, but keeps the last of two
equal members without a word, and a body costs some 90 µs to judge in all.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from controller.core.limits import BODY_NESTING_MAX, SQS_MESSAGE_BYTES_MAX
from controller.core.problems import ErrorCode, Problems, key_path

JSON = Any
"""A value as ``json`` decodes it, or one of the two marks below."""


class HugeNumber:
    """Stands for a number that neither a double nor a 64-bit integer can hold."""

    __slots__ = ()


HUGE_NUMBER: Final = HugeNumber()


class RepeatedMembers(dict[str, JSON]):
    """An object that names a member twice; the last value of each stands, and ``repeated`` are the names."""

    repeated: tuple[str, ...] = ()


def decode(body: str, problems: Problems) -> JSON:
    """The decoded body; None if it can't be read, with the problem added."""
    if not body or body.isspace():
        problems.add("", "the body is empty; it must be a JSON object", ErrorCode.INVALID_JSON)
        return None
    if len(body) > SQS_MESSAGE_BYTES_MAX:
        problems.add("", f"the body is longer than {SQS_MESSAGE_BYTES_MAX:,} characters", ErrorCode.TOO_LARGE)
        return None
    if _is_too_deep(body):
        problems.add("", f"the body is nested deeper than {BODY_NESTING_MAX} levels", ErrorCode.INVALID_JSON)
        return None
    try:
        decoded = _DECODER.decode(body)
    except json.JSONDecodeError as error:
        fault = "it begins with a byte order mark" if body[0] == "\ufeff" else _fault(error.msg)
        where = f"line {error.lineno}, column {error.colno}"
        problems.add("", f"the body is not JSON: {fault} ({where})", ErrorCode.INVALID_JSON)
        return None
    except _NotANumber as error:
        problems.add("", f"the body is not JSON: {error} is not a JSON number", ErrorCode.INVALID_JSON)
        return None
    if not isinstance(decoded, dict):
        problems.add("", f"the body must be a JSON object, not {kind_of(decoded)}", ErrorCode.INVALID_JSON)
        return None
    if _may_hold_bad_text(body):
        _find_bad_text(decoded, problems)
    return decoded


def kind_of(value: JSON) -> str:
    """What a value is, in JSON's words."""
    if isinstance(value, HugeNumber):
        return "a number too large to represent"
    return _KINDS.get(type(value), "an object")


_KINDS: Final = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number with a fraction",
    list: "an array",
    type(None): "null",
}


# --- the decoder ----------------------------------------------------------------------------------------


class _NotANumber(ValueError):
    """NaN, Infinity or -Infinity, which Python's decoder takes and JSON does not know."""


def _members(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    marked = RepeatedMembers(members)
    marked.repeated = tuple(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return marked


def _integer(text: str) -> int | HugeNumber:
    # Python's own int() refuses more than 4300 digits and needs quadratic time below that.
    if len(text) > 20:
        return HUGE_NUMBER
    number = int(text)
    return number if -(2**63) <= number < 2**63 else HUGE_NUMBER


def _fraction(text: str) -> float | HugeNumber:
    number = float(text)
    return number if math.isfinite(number) else HUGE_NUMBER


def _constant(text: str) -> JSON:
    raise _NotANumber(text)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_fraction, parse_constant=_constant, strict=True
)

_FAULTS: Final = (
    ("Expecting value", "a value is missing"),
    ("Expecting property name", "a member name in double quotes is missing"),
    ("Expecting ':'", "a colon is missing"),
    ("Expecting ','", "a comma or closing bracket is missing"),
    ("Extra data", "something follows the object"),
    ("Unterminated string", "a string is not closed"),
    ("Invalid control character", "a string holds a control character that is not escaped"),
    ("Invalid \\", "a string holds an escape that JSON does not know"),
    ("Illegal trailing comma", "a comma stands before a closing bracket"),
)


def _fault(message: str) -> str:
    """The decoder's complaint in our words: its own may quote what it found."""
    return next((ours for theirs, ours in _FAULTS if message.startswith(theirs)), "it can't be read")


# --- nesting ----------------------------------------------------------------------------------------------

_BRACKETS: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
"""Strings (closed or not, so that no start is tried twice) and brackets."""


def _is_too_deep(body: str) -> bool:
    """Decided before decoding, so that the decoder never meets the interpreter's recursion limit."""
    if body.count("[") + body.count("{") <= BODY_NESTING_MAX:
        return False
    depth = 0
    for match in _BRACKETS.finditer(body):
        first = body[match.start()]
        if first in "[{":
            depth += 1
            if depth > BODY_NESTING_MAX:
                return True
        elif first != '"':
            depth -= 1
    return False


# --- texts --------------------------------------------------------------------------------------------------

_BAD_TEXT: Final = re.compile("[\0\ud800-\udfff]")
_ESCAPED: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def _may_hold_bad_text(body: str) -> bool:
    """Cheap, and true for every body that decodes to a NUL or a lone surrogate: a NUL must be escaped to get past
    the decoder, a surrogate may stand in the body as it is. Also true for pairs of surrogates, which are fine."""
    return _ESCAPED.search(body) is not None or (not body.isascii() and _BAD_TEXT.search(body) is not None)


def _find_bad_text(value: JSON, problems: Problems) -> None:
    for path, text, is_name in _texts(value):
        match = _BAD_TEXT.search(text)
        if match is None:
            continue
        what = "a NUL character" if match[0] == "\0" else "half of a surrogate pair"
        problems.add(path, f"{'has a member whose name holds' if is_name else 'must not hold'} {what}")
        if problems.is_full:
            return


def _texts(root: JSON) -> Iterator[tuple[str, str, bool]]:
    """(path, text, is it a member's name) of every string."""
    waiting: list[tuple[str, JSON]] = [("", root)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield path, value, False
        elif isinstance(value, dict):
            yield from ((path, name, True) for name in value)
            waiting.extend((key_path(path, name), value[name]) for name in reversed(value))
        elif isinstance(value, list):
            waiting.extend((f"{path}[{index}]", value[index]) for index in reversed(range(len(value))))
