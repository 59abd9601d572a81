"""What is wrong with a message: each problem with its path, and one reason for a person made of them.

No text made here holds a value of the message: paths, the rule, and words of a closed set only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

REASON_BYTES_MAX: Final = 1_024
PROBLEMS_MAX: Final = 1_000
"""Problems kept of one message; a hostile body must not cost memory without bound."""
NAME_SHOWN_MAX: Final = 64
NEAREST_MAX: Final = 50
"""Unknown names of one message for which the nearest known one is looked for: each costs about 0.1 ms."""

LIKENESS_MIN: Final = 0.6
"""Of a name and what it is taken for, 1 being the same: below, a suggestion misleads (``memory`` and ``timeout`` have
0.46)."""
LISTED_MAX: Final = 6
"""Members of an object that are listed where none is like an unknown one."""

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./:-]*")
"""Keys of tags and labels: ``app.kubernetes.io/name``, ``aws:…``."""


class ErrorCode(StrEnum):
    """``error_code`` of a rejection at intake, gravest first: the code of a message is that of its gravest problem."""

    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    TOO_LARGE = "too_large"
    WRONG_SCOPE = "wrong_scope"
    NOT_ALLOWED = "not_allowed"


_GRAVITY: Final = {code: rank for rank, code in enumerate(ErrorCode)}


@dataclass(frozen=True, slots=True)
class Problem:
    path: str
    """Such as ``containerOverrides.resourceRequirements[0].type``; empty for the body as a whole."""
    text: str
    """The rule, or what would be right; never a value of the message."""
    code: ErrorCode = ErrorCode.INVALID_REQUEST

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


class Problems:
    """Gathers the problems of one message, at most PROBLEMS_MAX of them."""

    def __init__(self) -> None:
        self._found: list[Problem] = []
        self._nearest_left = NEAREST_MAX

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def is_full(self) -> bool:
        """Nothing more is kept: whoever walks a body can stop."""
        return len(self._found) >= PROBLEMS_MAX

    def add(self, path: str, text: str, code: ErrorCode = ErrorCode.INVALID_REQUEST) -> None:
        if not self.is_full:
            self._found.append(Problem(path, text, code))

    def add_unknown_member(
        self, path: str, name: str, known: Collection[str], *, of: str, elsewhere: Mapping[str, str] | None = None
    ) -> None:
        """``name`` is no member of the object at ``path``; its name is quoted only if it looks like one. ``elsewhere``
        tells of names, in lower case, where they belong."""
        if not _IDENTIFIER.fullmatch(name):
            self.add(path, f"has an unknown member whose name is not shown; members of {of}: {_listed(known)}")
            return
        where = member_path(path, name)
        text = f"not a member of {of}"
        if remedy := (elsewhere or {}).get(name.lower()):
            text += f"; {remedy}"
        elif self._nearest_left > 0:
            self._nearest_left -= 1
            if meant := nearest(name, known):
                text += f"; the nearest is {meant}"
            elif len(known) <= LISTED_MAX:
                text += f", which has {_listed(known)}"
        self.add(where, text)

    def gravest(self) -> ErrorCode:
        return min((problem.code for problem in self._found), key=_GRAVITY.__getitem__)

    def texts(self) -> tuple[str, ...]:
        return tuple(map(str, self._found))


def nearest(name: str, known: Collection[str]) -> str | None:
    """The member that was most likely meant, whatever the case of its letters; None: none is like it."""
    wanted = name[:NAME_SHOWN_MAX].casefold()
    matcher = difflib.SequenceMatcher(b=wanted, autojunk=False)
    best, best_ratio = None, 0.0
    for candidate in known:
        matcher.set_seq1(candidate.casefold())
        if (ratio := matcher.ratio()) > best_ratio:
            best, best_ratio = candidate, ratio
    if best_ratio >= LIKENESS_MIN:
        return best
    begun = [candidate for candidate in known if candidate.casefold().startswith(wanted)]
    return begun[0] if len(begun) == 1 and len(wanted) >= 3 else None


def member_path(path: str, name: str) -> str:
    """Path of a structure's member; a name that doesn't look like one is shown as ``?``."""
    return _appended(path, name if _IDENTIFIER.fullmatch(name) else "?")


def key_path(path: str, key: str) -> str:
    """Path of a map's entry; a key that doesn't look like one is shown as ``?``."""
    return _appended(path, key if _KEY.fullmatch(key) else "?")


def _appended(path: str, name: str) -> str:
    shown = name if len(name) <= NAME_SHOWN_MAX else name[: NAME_SHOWN_MAX - 1] + "…"
    return f"{path}.{shown}" if path else shown


def joined(texts: tuple[str, ...]) -> str:
    """All problems as one reason of at most REASON_BYTES_MAX bytes, cut with "… and N more"."""
    reason = "; ".join(texts)
    if len(reason.encode()) <= REASON_BYTES_MAX:
        return reason
    kept, size = 0, 0
    room = REASON_BYTES_MAX - len(_more(len(texts)).encode())
    for text in texts:
        size += len(text.encode()) + (2 if kept else 0)
        if size > room:
            break
        kept += 1
    if not kept:
        first = texts[0].encode()[: room - 3].decode(errors="ignore") + "…"
        return first + (_more(len(texts) - 1) if len(texts) > 1 else "")
    return "; ".join(texts[:kept]) + _more(len(texts) - kept)


def _more(count: int) -> str:
    return f"; … and {count} more"


def _listed(names: Collection[str]) -> str:
    return ", ".join(names)
