"""The screen of the demonstration fits its terminal and keeps its height, whatever there is to show."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from controller.demo.children import Child
from controller.demo.cloud import Cloud
from controller.demo.readings import Reading
from controller.demo.run import Run
from controller.demo.screen import screen
from controller.demo.summary import addresses, event_line, plain_line, summary
from controller.demo.workload import plan
from tests.demo.test_proof import events, proof


class QuietCloud:
    """Takes what it is told and answers nothing."""

    url = "http://127.0.0.1:4566"
    queue_url = "http://127.0.0.1:4566/111122223333/requests"
    region = "eu-central-1"

    def deliver_again(self, share: float) -> None:
        pass


class QuietChild:
    out = Path("/nowhere/events.jsonl")


def run_of(count: int) -> Run:
    return Run(
        plan(count, seed=1, now=0.0),
        cloud=cast(Cloud, QuietCloud()),
        sim=cast(Child, QuietChild()),
        controller=cast(Child, QuietChild()),
        base_url="http://127.0.0.1:39999",
        bulk_max=25,
        monotonic=lambda: 0.0,
    )


def busy_run() -> Run:
    """Hundreds of requests in every column, failures with long reasons, rates at their limits."""
    run = run_of(300)
    for number in range(900):
        job_queue = ("high", "default", "bulk", "nightly")[number % 4]
        common = {"time": "2030-01-01T00:00:00.000Z", "request_id": f"transcode-{number:04d}",
                  "message_id": f"m{number}", "job_queue": job_queue}  # fmt: skip
        run.seen.fold({"event": "request.accepted", "event_id": f"a{number}", **common})
        if number % 3:
            status = ("RUNNABLE", "STARTING", "RUNNING")[number % 9 // 3]
            moved = {"event": "job.status_changed", "event_id": f"s{number}", "batch_status": status, **common}
            run.seen.fold(moved)
        if number % 3 == 2:
            ending: dict[str, Any] = {
                "outcome": "failed",
                "reason": "Host EC2 terminated. " * 30,
                "reason_class": "host_lost",
            }
            run.seen.fold({"event": "job.finished", "event_id": f"f{number}", **common, **ending})
    for number in range(60):
        calls = Counter(SubmitJob=20 * number, DescribeJobs=4 * number, ListJobs=number, DescribeJobQueues=number)
        run.readings.add(
            Reading(
                at=number / 2, calls=calls, throttled=1234, received=Counter(duplicate=1234), finished=Counter(),
                adopted=123, in_doubt=12, outbox=99, limits={"submit": 28.4, "describe": 8.0, "list": 5.0},
                ids_described=400 * number,
            )
        )  # fmt: skip
    return run


def lines_of(renderable: Any, width: int) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(renderable, highlight=False)
    return captured.get().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 60)])
def test_the_screen_fits_and_keeps_its_height(width: int, height: int) -> None:
    """One line less than the terminal has, as the cursor needs one; the same height at the start and in full work."""
    empty = lines_of(screen(run_of(300), phase="running", width=width, height=height), width)
    busy = lines_of(screen(busy_run(), phase="running", width=width, height=height), width)
    assert len(empty) == len(busy) <= height - 1
    assert all(len(line.rstrip()) <= width for line in busy)


def test_nothing_of_the_table_is_cut_in_eighty_columns() -> None:
    """Every heading, number and limit is whole on the smallest usual terminal."""
    text = "\n".join(lines_of(screen(busy_run(), phase="running", width=80, height=24), 80))
    headings = "job queue queued waiting starting running in flight succeeded failed cancelled"
    assert headings.split() == next(line for line in text.splitlines() if line.startswith("job queue")).split()
    for words in ("http://127.0.0.1:39999/metrics", "/25", "paused", "limit 28 of 40", "1234 duplicates dropped"):
        assert words in text


def test_the_rates_are_those_of_the_readings() -> None:
    """Forty SubmitJob in a second are shown as 40.0/s."""
    text = "\n".join(lines_of(screen(busy_run(), phase="running", width=80, height=24), 80))
    assert "40.0/s" in text
    assert "100 jobs per call" in text


def test_the_summary_is_one_line_per_statement_in_eighty_columns() -> None:
    """A row per kind of message and per check, marked, and a verdict."""
    lines = lines_of(summary(proof(), seed=1, total=4, elapsed_s=2.0), 80)
    marked = [line for line in lines if line.startswith("✓")]
    assert len(marked) == len(proof().rows) + len(proof().checks)
    assert lines[-1] == "4 messages (seed 1) in 2 s: everything ended as it must."


def test_the_summary_names_what_is_wrong() -> None:
    """A wrong end is marked in its row and told in words, and the verdict says so."""
    altered = events()
    altered["m1"] |= {"exit_code": 4}
    text = "\n".join(lines_of(summary(proof(altered.values()), seed=1, total=4, elapsed_s=2.0), 80))
    assert "0 ≠ 1" in text
    assert "exit_code 4 instead of 3" in " ".join(text.split())
    assert "NOT everything ended as it must" in text


def test_plain_lines_are_plain() -> None:
    """For logs: one printable line for a run, one for the end of a request."""
    ended = events()
    for line in (plain_line(busy_run()), event_line(ended["m1"]), event_line(ended["m2"])):
        assert line.isprintable()
    assert event_line(ended["m1"]) == "failing failed: exit code 3"


def test_the_command_to_paste_is_whole() -> None:
    """Queue, end point and Region stand in the command; the body is JSON."""
    text = addresses(run_of(3))
    assert "--endpoint-url http://127.0.0.1:4566 " in text
    assert "--queue-url http://127.0.0.1:4566/111122223333/requests " in text
    assert """--message-body '{"jobName": "hello", "jobQueue": "high", "jobDefinition": "render"}'""" in text
