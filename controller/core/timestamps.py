"""Reads RFC 3339 times."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

_RFC3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]+)?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def instant(text: str) -> float | None:
    """Seconds since the epoch of an RFC 3339 time with ``Z`` or an offset; None if it is not one.

    A leap second (``:60``) is the first second after it.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    fraction, sign, offset_hours, offset_minutes = match.groups()[6:]
    offset = timedelta()
    if sign is not None:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            return None
        offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes)) * (1 if sign == "+" else -1)
    is_leap = second == 60
    try:
        when = datetime(year, month, day, hour, minute, second - is_leap, tzinfo=timezone(offset))
    except ValueError:
        return None
    return (when - _EPOCH).total_seconds() + is_leap + (float(fraction[:18]) if fraction else 0.0)
