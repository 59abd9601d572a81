"""Logs: whole JSON lines, no event's name, nothing that belongs to a job alone."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from controller import logs


@pytest.fixture
def stream() -> Iterator[io.BytesIO]:
    """Where logs go during the test; the process's logging is as before afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield io.BytesIO()
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(stream: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_level_stage_and_bound_ids(stream: io.BytesIO) -> None:
    """Each line is one JSON object with UTC time, level, stage and what was bound."""
    logs.configure(stream=stream, now=lambda: 1_700_000_000.25)
    logs.logger("submit", request_id="r-1").info("held", pause_s=1.5)
    assert lines(stream) == [
        {
            "time": "2023-11-14T22:13:20.250Z",
            "level": "info",
            "stage": "submit",
            "request_id": "r-1",
            "event": "held",
            "pause_s": 1.5,
        }
    ]
    assert stream.getvalue().endswith(b"\n")


def test_lines_below_the_level_are_left_out(stream: io.BytesIO) -> None:
    """log.level is the least level of what is written."""
    logs.configure(level="warning", stream=stream)
    log = logs.logger("submit")
    log.info("not this")
    log.warning("this")
    assert [line["event"] for line in lines(stream)] == ["this"]


def test_a_log_line_can_t_be_called_like_an_event(stream: io.BytesIO) -> None:
    """A line named like an event of the catalogue is a mistake of ours."""
    logs.configure(stream=stream)
    with pytest.raises(AssertionError, match=r"job\.finished"):
        logs.logger("track").info("job.finished")


def test_bodies_parameters_and_environment_are_left_out(stream: io.BytesIO) -> None:
    """Members that may hold what a request carries for its job alone are never written."""
    logs.configure(stream=stream)
    logs.logger("ingest").warning("odd", **dict.fromkeys(logs.NEVER_LOGGED, "hidden"), message_id="m")
    assert b"hidden" not in stream.getvalue()
    assert lines(stream)[0]["body"] == logs.LEFT_OUT
    assert lines(stream)[0]["message_id"] == "m"


def test_errors_carry_their_traceback_in_one_line(stream: io.BytesIO) -> None:
    """A traceback is a member of its line, not lines of its own."""
    logs.configure(stream=stream)
    error = ValueError("broken")
    logs.logger("track").error("stage failed", exc_info=error)
    (line,) = lines(stream)
    assert "ValueError: broken" in line["exception"]


def test_values_that_json_can_t_hold_are_written_all_the_same(stream: io.BytesIO) -> None:
    """Logging never raises over a value: bytes, sets and text that is not UTF-8 are shown somehow."""
    logs.configure(stream=stream)
    logs.logger("x").info("odd", value={1, 2}, text="\ud800", number=2**70)
    assert lines(stream)[0]["text"] == "\ud800"


def test_libraries_write_warnings_in_the_same_form(stream: io.BytesIO) -> None:
    """Libraries' lines are JSON too; below warning, where the SDK writes requests, nothing comes through."""
    logs.configure(level="debug", stream=stream)
    logging.getLogger("botocore.endpoint").debug("Sending http request: hidden")
    logging.getLogger("aiohttp.server").error("Error handling %s", "request", exc_info=ValueError("broken"))
    (line,) = lines(stream)
    assert (line["logger"], line["level"], line["message"]) == ("aiohttp.server", "error", "Error handling request")
    assert "ValueError: broken" in line["exception"]


def test_what_a_library_says_again_and_again_is_written_once_a_minute(stream: io.BytesIO) -> None:
    """The same line of a library within a minute is counted, and the next one tells how many were left out."""
    now = [1_700_000_000.0]
    logs.configure(stream=stream, now=lambda: now[0])
    for _ in range(240):
        logging.getLogger("sdk.credentials").warning("no %s", "credentials", exc_info=ValueError("x"))
        now[0] += 1
    logging.getLogger("sdk.credentials").warning("no %s", "region")
    now[0] -= 3600
    logging.getLogger("sdk.credentials").warning("no %s", "credentials")
    written = [(line["message"], line.get("left_out", 0)) for line in lines(stream)]
    assert written == [
        ("no credentials", 0),
        *[("no credentials", 59)] * 3,
        ("no region", 0),
        ("no credentials", 59),  # the clock was set back: it says nothing of when the latest one was
    ]


def test_different_lines_of_a_library_take_no_memory(stream: io.BytesIO) -> None:
    """Lines that all differ are all written, and a bounded number of them is remembered."""
    logs.configure(stream=stream)
    for number in range(3 * logs.LIBRARY_LINES_KNOWN):
        logging.getLogger("sdk").warning("connection %d", number)
    assert len(lines(stream)) == 3 * logs.LIBRARY_LINES_KNOWN
    (handler,) = (each for each in logging.getLogger().handlers if isinstance(each, logs._LibraryLines))
    assert len(handler._known) <= logs.LIBRARY_LINES_KNOWN


class Full(io.BytesIO):
    """Takes so many bytes, and none beyond."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, line: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = bytes(line)[: self.room]
        self.room -= len(taken)
        return super().write(taken)


@pytest.mark.usefixtures("stream")
def test_a_log_that_can_t_be_written_ends_nothing() -> None:
    """Lines are dropped while the disk behind standard error is full; the first one that fits again is whole."""
    full = Full(100)
    logs.configure(stream=full)
    for _ in range(10):
        logs.logger("submit").info("held")
        logging.getLogger("sdk").warning("no credentials")
    full.room = 1_000
    logs.logger("submit").info("released")
    *before, told, last = full.getvalue().splitlines()
    assert json.loads(last)["event"] == "released"
    assert json.loads(told) | {"time": ""} == {
        "time": "",
        "level": "warning",
        "event": "log lines left out",
        "lines": 10,
    }, "nine of ours, and the library's, which is written once"
    assert len(b"\n".join(before)) == 100


@pytest.mark.usefixtures("stream")
def test_a_reader_of_the_log_that_stands_still_holds_nothing_up() -> None:
    """What its pipe does not take is dropped, and told when it reads again; long lines, which go in pieces, too."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as read, open(writer, "wb", buffering=0) as written:
        logs.configure(stream=written)
        for number in range(100):
            logs.logger("submit").info("held", number=number, detail="x" * (2 * select.PIPE_BUF))
        taken = read.read(1024 * 1024)
        logs.logger("submit").info("released")
        *some, told, last = (taken + read.read(1024 * 1024)).splitlines()
    whole = [json.loads(line)["number"] for line in some if line.endswith(b"}")]
    assert 0 < len(whole) < 100
    assert whole == list(range(len(whole)))
    assert len(some) <= len(whole) + 1, "one at most is torn"
    assert json.loads(told)["lines"] == 100 - len(whole)
    assert json.loads(last)["event"] == "released"


def test_what_ends_the_process_waits_for_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor starts it again once it has ended."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as read, open(writer, "w", encoding="utf-8") as written:
        monkeypatch.setattr(sys, "stderr", written)
        logs.say("locked")
        assert read.read(100) == b"locked\n"
        os.set_blocking(writer, False)
        while (taken := written.buffer.raw.write(b"x" * select.PIPE_BUF)) is not None:
            assert taken
        os.set_blocking(writer, True)
        logs.say("locked")
        read.read(1024 * 1024)
        logs.say("again")
        assert read.read(100) == b"again\n"


@pytest.mark.usefixtures("stream")
def test_a_log_that_is_closed_ends_nothing() -> None:
    """Nobody is told, as there is nobody."""
    closed = io.BytesIO()
    logs.configure(stream=closed)
    closed.close()
    logs.logger("submit").info("held")


def test_console_format_is_for_people(stream: io.BytesIO) -> None:
    """With log.format console a line is text."""
    logs.configure(line_format="console", stream=stream, now=lambda: 0.0)
    logs.logger("submit").info("held", reason="é \ud800")
    logging.getLogger("x").warning("from a library")
    first, second = stream.getvalue().decode().splitlines()
    assert first.startswith("1970-01-01T00:00:00.000Z [info")
    assert "from a library" in second


def test_configuring_twice_does_not_write_twice(stream: io.BytesIO) -> None:
    """A second configure replaces the first."""
    logs.configure(stream=io.BytesIO())
    logs.configure(stream=stream)
    logging.getLogger("x").warning("once")
    assert len(lines(stream)) == 1
