"""What is printed at the end, and the plain lines of a run without a terminal. Pure: text and tables from a proof."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from controller.demo.proof import Check, Proof, Row
from controller.demo.run import Run
from controller.demo.screen import STYLES
from controller.demo.watch import IN_FLIGHT, QUEUED, Event, reason_of

DIFFERENCES_SHOWN: Final = 20
RIGHT: Final = Text("✓", style="green")
WRONG: Final = Text("✗", style="bold red")
HELLO: Final = '{"jobName": "hello", "jobQueue": "high", "jobDefinition": "render"}'


def plain_line(run: Run) -> str:
    """Where the run stands, in one line."""
    standing, outcomes = run.seen.standing(), run.seen.outcomes
    in_flight = sum(standing[column] for column in IN_FLIGHT)
    return (
        f"{run.elapsed_s:5.1f} s  {len(run.sent)} sent  {standing[QUEUED]} queued  {in_flight} in flight  "
        f"{outcomes['succeeded']} succeeded  {outcomes['failed']} failed  {outcomes['rejected']} rejected  "
        f"{outcomes['cancelled']} cancelled  {run.readings.rate('SubmitJob'):.0f} SubmitJob/s"
    )


def event_line(event: Event) -> str:
    """A final event, in one line."""
    name = event.get("request_id") or event["message_id"]
    job = f" as {event['job_id']}" if event.get("job_id") else ""
    return f"{name} {event['outcome']}{job}" + (f": {reason_of(event)}" if event["outcome"] != "succeeded" else "")


# --- the proof ----------------------------------------------------------------------------------------------


def summary(proof: Proof, *, seed: int, total: int, elapsed_s: float) -> RenderableType:
    """The proof as tables, the verdict last."""
    return Group(
        _kinds(proof.rows),
        Text(),
        _checks(proof.checks),
        *_differences(proof.differences),
        Text(),
        _verdict(proof, seed=seed, total=total, elapsed_s=elapsed_s),
    )


def _kinds(rows: Sequence[Row]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("", width=1)
    table.add_column("messages", no_wrap=True)
    table.add_column("must end", no_wrap=True)
    for title in ("expected", "reported", "AWS jobs"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            _mark(row.is_right),
            row.title,
            Text(row.outcome or "dropped", style=STYLES.get(row.outcome or "", "dim")),
            str(row.expected),
            _compared(row.seen, row.expected),
            _compared(row.jobs, row.jobs_expected),
        )
    return table


def _compared(value: int, expected: int) -> Text:
    if value != expected:
        return Text(f"{value} ≠ {expected}", style="bold red")
    return Text(str(value), style="" if value else "dim")


def _checks(checks: Sequence[Check]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column(width=1)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for check in checks:
        table.add_row(
            _mark(check.is_right), check.title, Text(check.detail, style="" if check.is_right else "bold red")
        )
    return table


def _mark(is_right: bool) -> Text:
    return RIGHT if is_right else WRONG


def _differences(differences: Sequence[str]) -> list[RenderableType]:
    lines: list[RenderableType] = [Text(f"  {line}", style="red") for line in differences[:DIFFERENCES_SHOWN]]
    if len(differences) > DIFFERENCES_SHOWN:
        lines.append(Text(f"  … and {len(differences) - DIFFERENCES_SHOWN} more", style="red"))
    return [Text(), *lines] if lines else []


def _verdict(proof: Proof, *, seed: int, total: int, elapsed_s: float) -> RenderableType:
    what = f"{total} messages (seed {seed}) in {elapsed_s:.0f} s"
    if proof.is_right:
        return Text(f"{what}: everything ended as it must.", style="bold green")
    return Text(f"{what}: NOT everything ended as it must.", style="bold red")


# --- what can be looked at while it stays -------------------------------------------------------------------


def addresses(run: Run) -> str:
    """Where a run that is kept can be looked at, and how to send it a message."""
    return "\n".join(
        (
            "Running until Ctrl-C:",
            f"  metrics   {run.base_url}/metrics",
            f"  health    {run.base_url}/readyz",
            f"  events    {run.controller.out}",
            f"  AWS       {run.cloud.url} (SQS and Batch, simulated)",
            "",
            "Send a message of your own:",
            "  AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo aws sqs send-message \\",
            f"    --region {run.cloud.region} --endpoint-url {run.cloud.url} \\",
            f"    --queue-url {run.cloud.queue_url} \\",
            f"    --message-body '{HELLO}'",
            "",
        )
    )
