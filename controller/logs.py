"""Logs: one JSON line per decision that matters, on standard error; ``console`` format for people.

``__main__.py`` configures it once. Events are another stream (standard output, ``core/events.py``): no log line's
``event`` is a name of their catalogue, and no line carries a message body, a parameter or an environment value.
Lines of libraries (aiohttp, the SDK) come through the standard library's logging, warnings and worse only: at lower
levels the SDK writes whole requests.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, Final, Literal

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from controller.core.events import CATALOGUE, iso

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
NEVER_LOGGED: Final = frozenset({"body", "environment", "parameters", "containerOverrides", "arguments"})
"""Members that hold, or may hold, what a request carries for its job alone."""
LEFT_OUT: Final = "[left out]"


def logger(stage: str, **bound: Any) -> FilteringBoundLogger:
    """A logger whose lines carry the stage and whatever else is bound."""
    log: FilteringBoundLogger = structlog.get_logger(stage=stage, **bound)
    return log


def configure(
    *,
    level: str = "info",
    format: Literal["json", "console"] = "json",
    stream: BinaryIO | None = None,
    now: Callable[[], float] = time.time,
) -> None:
    """Set up structlog and the standard library's logging for the process. ``stream`` is standard error by default."""
    out = stream if stream is not None else sys.stderr.buffer
    structlog.configure(
        processors=processors(format=format, now=now),
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.BytesLoggerFactory(out),
        cache_logger_on_first_use=True,
    )
    _configure_libraries(out, format=format, now=now)


def processors(*, format: Literal["json", "console"], now: Callable[[], float]) -> list[Processor]:
    """The way of a line from call to bytes."""
    return [
        structlog.processors.add_log_level,
        _stamped(now),
        guard,
        structlog.processors.format_exc_info,
        *_rendered(format),
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


def _rendered(format: Literal["json", "console"]) -> list[Processor]:
    if format == "json":
        return [_json_line]
    return [structlog.dev.ConsoleRenderer(colors=False, timestamp_key="time"), _encoded]


def _json_line(_: WrappedLogger, __: str, line: EventDict) -> bytes:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS)


def _encoded(_: WrappedLogger, __: str, line: str) -> bytes:  # type: ignore[misc]  # the renderer before it makes text
    return line.encode(errors="backslashreplace")


# --- libraries ----------------------------------------------------------------------------------------


class _LibraryLines(logging.Handler):
    """Lines of the standard library's logging, in the same form and on the same stream."""

    def __init__(self, out: BinaryIO, *, format: Literal["json", "console"], now: Callable[[], float]) -> None:
        super().__init__(logging.WARNING)
        self._out = out
        self._rendered = [_stamped(now), structlog.processors.format_exc_info, *_rendered(format)]
        self._whole_lines = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Never raises: logging must not end the process."""
        line: Any = {"level": record.levelname.lower(), "event": "library line", "logger": record.name}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["exc_info"] = record.exc_info
        for step in self._rendered:
            line = step(None, record.levelname.lower(), line)
        with self._whole_lines:
            self._out.write(line + b"\n")
            self._out.flush()


def _configure_libraries(out: BinaryIO, *, format: Literal["json", "console"], now: Callable[[], float]) -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _LibraryLines):
            root.removeHandler(handler)
    root.addHandler(_LibraryLines(out, format=format, now=now))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
