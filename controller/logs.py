"""Logs: one JSON line per decision that matters, on standard error; ``console`` format for people.

``__main__.py`` configures it once. Events are another stream (standard output, ``core/events.py``): no log line's
``event`` is a name of their catalogue, and no line carries a message body, a parameter or an environment value.
Lines of libraries (aiohttp, the SDK) come through the standard library's logging, warnings and worse only: at lower
levels the SDK writes whole requests. What a library says again and again, as the SDK does with a traceback at every
call for which it gets no credentials, is written once a minute.

Texts may come from a producer or a service: control characters leave as escapes in both formats (``core/text.py``), and
in the console format the lines of a traceback are indented, so that nothing in them can pass for a line of ours.
"""

from __future__ import annotations

import json
import logging
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import UnsupportedOperation
from typing import Any, BinaryIO, Final, Literal, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from controller.core.events import CATALOGUE, iso
from controller.core.text import escaped, escaped_json

Format = Literal["json", "console"]
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
NEVER_LOGGED: Final = frozenset({"body", "environment", "parameters", "containerOverrides", "arguments"})
"""Members that hold, or may hold, what a request carries for its job alone."""
LEFT_OUT: Final = "[left out]"
LIBRARY_REPEAT_S: Final = 60.0
"""Between two lines of a library that say the same; what came between is counted in the later one."""
LIBRARY_LINES_KNOWN: Final = 100
"""Different ones that are remembered for it."""


def logger(stage: str, **bound: Any) -> FilteringBoundLogger:
    """A logger whose lines carry the stage and whatever else is bound."""
    log: FilteringBoundLogger = structlog.get_logger(stage=stage, **bound)
    return log


def configure(
    *,
    level: str = "info",
    line_format: Format = "json",
    stream: BinaryIO | None = None,
    now: Callable[[], float] = time.time,
) -> None:
    """Set up structlog and the standard library's logging for the process. ``stream`` is standard error by default."""
    out = cast("BinaryIO", _Unfailing(stream or _standard_error(), told=_told_left_out(line_format, now)))
    structlog.configure(
        processors=processors(line_format=line_format, now=now),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(out, line_format=line_format, now=now)


def say(text: str) -> None:
    """One line of plain text, whatever the format of the log: why the process ends. It does, whether or not somebody
    reads that."""
    _Unfailing(_standard_error(), told=lambda lines: b"").write(text.encode(errors="backslashreplace") + b"\n")


def _standard_error() -> BinaryIO:
    """Past the buffer, which would keep what could not be written and fail once more at the end of the process."""
    return cast("BinaryIO", getattr(sys.stderr.buffer, "raw", sys.stderr.buffer))


def processors(*, line_format: Format, now: Callable[[], float]) -> list[Processor]:
    """The way of a line from call to bytes."""
    return [
        structlog.processors.add_log_level,
        _stamped(now),
        guard,
        structlog.processors.format_exc_info,
        _rendered(line_format),
    ]


def guard(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Keep logs and events apart, and what belongs to a job alone out of the logs."""
    assert line.get("event") not in CATALOGUE, f"a log line must not be called like an event: {line.get('event')}"
    for name in NEVER_LOGGED & line.keys():
        line[name] = LEFT_OUT
    return line


def _stamped(now: Callable[[], float]) -> Processor:
    def stamp(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        return {"time": iso(now()), **line}

    return stamp


def _rendered(line_format: Format) -> Processor:
    """The last step: a line as bytes."""
    if line_format == "json":
        return _json_line
    console = structlog.dev.ConsoleRenderer(colors=False, timestamp_key="time")

    def for_people(log: WrappedLogger, method: str, line: EventDict) -> bytes:
        return console(log, method, _shown(line)).encode(errors="backslashreplace")

    return for_people


def _json_line(_: WrappedLogger, __: str, line: EventDict) -> bytes:
    try:
        return escaped_json(orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS))
    except orjson.JSONEncodeError:  # text that is not UTF-8, such as a lone surrogate
        return escaped_json(json.dumps(line, default=str).encode())


def _shown(line: EventDict) -> EventDict:
    """Strings with escapes; structlog shows everything else by its ``repr``, which escapes by itself."""
    shown = {escaped(str(name)): escaped(value) if isinstance(value, str) else value for name, value in line.items()}
    if isinstance(trace := line.get("exception"), str):
        shown["exception"] = "\n".join(f"    {escaped(each)}" for each in trace.split("\n"))
    return shown


def _told_left_out(line_format: Format, now: Callable[[], float]) -> Callable[[int], bytes]:
    """The line that says how many are missing before it."""
    rendered = _rendered(line_format)

    def told(lines: int) -> bytes:
        line = {"time": iso(now()), "level": "warning", "event": "log lines left out", "lines": lines}
        told = rendered(None, "warning", line)
        assert isinstance(told, bytes)
        return told + b"\n"

    return told


class _Unfailing:
    """A stream for lines that are dropped if they can't be written at once: a full disk behind standard error, or a
    reader of it that is gone or stands still, must neither end nor hold up what the lines tell of. How many were
    dropped is told before the next one. What follows a torn line begins on a line of its own."""

    def __init__(self, stream: BinaryIO, *, told: Callable[[int], bytes]) -> None:
        self._stream = stream
        self._told = told
        self._is_mid_line = False
        self._left_out = 0

    def write(self, line: bytes) -> int:
        if self._left_out and self._is_written(self._told(self._left_out)):
            self._left_out = 0
        if self._left_out or not self._is_written(line):
            self._left_out += 1
        return len(line)

    def _is_written(self, line: bytes) -> bool:
        left = memoryview(b"\n" + line if self._is_mid_line else line)
        try:
            while left and self._is_ready():
                # No more than a pipe that is ready is sure to take.
                written = self._stream.write(left[: select.PIPE_BUF]) or 0  # None: it would have to wait
                if not written:
                    break
                self._is_mid_line = left[written - 1] != ord("\n")
                left = left[written:]
        except (OSError, ValueError):  # ValueError: it is closed
            pass
        return not left

    def _is_ready(self) -> bool:
        """Whether a write would not have to wait. What has no descriptor never does."""
        try:
            descriptor = self._stream.fileno()
        except UnsupportedOperation:
            return True
        return bool(select.select((), (descriptor,), (), 0)[1])

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


# --- libraries ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Written:
    at: float
    left_out: int = 0


class _LibraryLines(logging.Handler):
    """Lines of the standard library's logging, in the same form and on the same stream."""

    def __init__(self, out: BinaryIO, *, line_format: Format, now: Callable[[], float]) -> None:
        super().__init__(logging.WARNING)
        self._out = out
        self._now = now
        self._rendered = _rendered(line_format)
        self._whole_lines = threading.Lock()
        self._known: dict[tuple[str, str], _Written] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: logging must not end the process."""
        now = self._now()
        message = record.getMessage()
        left_out = self._left_out(record.name, message, now)
        if left_out is None:
            return
        line = {
            "time": iso(now),
            "level": record.levelname.lower(),
            "event": "library line",
            "logger": record.name,
            "message": message,
            **({"left_out": left_out} if left_out else {}),
        }
        if record.exc_info:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        rendered = self._rendered(None, record.levelname.lower(), line)
        assert isinstance(rendered, bytes)
        with self._whole_lines:
            self._out.write(rendered + b"\n")
            self._out.flush()

    def _left_out(self, logger: str, message: str, now: float) -> int | None:
        """How many such lines were left out since the latest one; None: this one is left out, too."""
        with self._whole_lines:  # libraries write from threads of theirs
            written = self._known.get((logger, message))
            if written is not None and 0 <= now - written.at < LIBRARY_REPEAT_S:
                written.left_out += 1
                return None
            if written is None and len(self._known) >= LIBRARY_LINES_KNOWN:
                self._known.clear()
            self._known[logger, message] = _Written(now)
            return 0 if written is None else written.left_out


def _configure_libraries(out: BinaryIO, *, line_format: Format, now: Callable[[], float]) -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _LibraryLines):
            root.removeHandler(handler)
    root.addHandler(_LibraryLines(out, line_format=line_format, now=now))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
