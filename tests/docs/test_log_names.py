"""Log lines and events are different streams: no line in the sources is called like an event."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import controller
from controller.core.events import CATALOGUE

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def log_names(source: str) -> Iterator[str]:
    """First argument of every call that looks like logging."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
            continue
        for argument in node.args[:1]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield argument.value


def test_the_scan_sees_log_calls() -> None:
    """The scan finds names however the logger is called."""
    assert list(log_names("self._log.info('a', x=1)\nlogger('s').warning('b')\nprint('c')")) == ["a", "b"]


def test_no_log_line_is_called_like_an_event() -> None:
    """No call in the package logs under a name of the catalogue."""
    assert controller.__file__ is not None
    names = [
        (path.name, name)
        for path in sorted(Path(controller.__file__).parent.rglob("*.py"))
        for name in log_names(path.read_text())
    ]
    assert len(names) > 10, "the scan finds the package's log lines"
    assert [(file, name) for file, name in names if name in CATALOGUE] == []
