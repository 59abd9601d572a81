"""The live screen: where the requests stand, how fast they go, what failed last. Pure: a run in, a renderable out.

Fits 80 × 24 and grows with the terminal up to WIDTH_MAX columns; its height does not change while it runs.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from controller.demo.cases import BULK, JOB_QUEUES, NIGHTLY
from controller.demo.run import Run
from controller.demo.watch import COLUMNS, IN_FLIGHT, QUEUED, RUNNING, STARTING, WAITING, Failure, QueueSeen

WIDTH_MAX: Final = 112
FIXED_LINES: Final = 18
"""Everything but the failures' lines."""
FAILURES_MIN: Final = 3
FAILURES_MAX: Final = 12
SPARK_WIDTH: Final = 20
CEILINGS: Final = {"submit": 40, "describe": 8, "list": 5}
"""Rates by default, per second."""
SPARKS: Final = "▁▂▃▄▅▆▇█"

FLYING: Final = "in flight"

STYLES: Final = {
    "succeeded": "green",
    "failed": "red",
    "rejected": "yellow",
    "cancelled": "magenta",
    "lost": "bright_red",
    FLYING: "cyan",
    RUNNING: "cyan",
    STARTING: "blue",
    WAITING: "blue",
    QUEUED: "grey58",
}
OUTCOMES: Final = ("succeeded", "failed", "cancelled", "rejected")
LEGEND: Final = (*OUTCOMES, FLYING, QUEUED)


def screen(run: Run, *, phase: str, width: int, height: int) -> RenderableType:
    """The whole screen, at most ``height - 1`` lines."""
    width = min(width, WIDTH_MAX)
    counts = _counts(run)
    lines = max(FAILURES_MIN, min(FAILURES_MAX, height - 1 - FIXED_LINES))
    return _Narrowed(
        Group(
            _title(run, phase),
            Text(f"metrics  {run.base_url}/metrics", style="dim", no_wrap=True),
            Text(),
            _bar(counts, run.endings, width),
            _legend(counts),
            Text(),
            _queues(run),
            Text(),
            _rates(run),
            _weather(run),
            Text(),
            Text("not succeeded, latest first", style="bold"),
            _failures(list(run.seen.failures), lines),
        ),
        width,
    )


class _Narrowed:
    """A renderable on a part of the width; rich's own Padding and Align do not narrow what expands."""

    def __init__(self, inner: RenderableType, width: int) -> None:
        self._inner = inner
        self._width = width

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._inner, options.update(width=self._width))


def _title(run: Run, phase: str) -> RenderableType:
    minutes, seconds = divmod(int(run.elapsed_s), 60)
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    sent = f"  {len(run.sent)} of {run.total} messages sent to a simulated AWS"
    left = Text.assemble(("batch-controller", "bold"), (sent, "dim"), no_wrap=True)
    grid.add_row(left, Text.assemble((f"{phase} ", "dim"), (f"{minutes}:{seconds:02}", "bold")))
    return grid


# --- where the requests stand ---------------------------------------------------------------------------


def _counts(run: Run) -> Counter[str]:
    standing = run.seen.standing()
    in_flight = sum(standing[column] for column in IN_FLIGHT)
    return run.seen.outcomes + Counter({FLYING: in_flight, QUEUED: standing[QUEUED]})


def _bar(counts: Counter[str], total: int, width: int) -> RenderableType:
    """One line of the full width: every request has a share of it, ended ones on the left."""
    parts = [(name, counts[name]) for name in LEGEND if counts[name]]
    total = max(total, sum(count for _, count in parts), 1)
    text, done, at = Text(no_wrap=True), 0, 0
    for name, count in parts:
        done += count
        end = max(at + 1, round(done / total * width))
        text.append("━" * (end - at), style=STYLES[name])
        at = end
    text.append("─" * (width - at), style="grey19")
    text.truncate(width)
    return text


def _legend(counts: Counter[str]) -> RenderableType:
    """Numbers and names in the colours of the bar."""
    text = Text(no_wrap=True, overflow="crop")
    for name in LEGEND:
        text.append(f"{counts[name]}", style=f"bold {STYLES[name]}")
        text.append(f" {name}  ", style=STYLES[name])
    return text


def _queues(run: Run) -> RenderableType:
    table = Table(box=None, expand=True, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    table.add_column("job queue", no_wrap=True)
    for name in (*COLUMNS, FLYING, *OUTCOMES[:3]):
        table.add_column(name, justify="right", no_wrap=True)
    for name in JOB_QUEUES:
        seen = run.seen.queues.get(name) or QueueSeen()
        table.add_row(
            name,
            *(_number(seen.standing[column], "" if column == QUEUED else STYLES[column]) for column in COLUMNS),
            _in_flight(name, seen, run.limits.bulk_max),
            *(_number(seen.ended[outcome], STYLES[outcome]) for outcome in OUTCOMES[:3]),
        )
    return table


def _number(value: int, style: str) -> Text:
    return Text(str(value), style=style) if value else Text("·", style="grey35")


def _in_flight(name: str, seen: QueueSeen, limit: int) -> Text:
    """With its limit where there is one, marked while it holds jobs back."""
    if name == NIGHTLY:
        return Text("paused", style="yellow" if seen.standing[QUEUED] else "dim")
    if name != BULK:
        return _number(seen.in_flight, STYLES[FLYING])
    is_full = seen.in_flight >= limit and seen.standing[QUEUED] > 0
    return Text(f"{seen.in_flight}/{limit}", style="bold yellow" if is_full else STYLES[FLYING])


# --- how fast they go -----------------------------------------------------------------------------------


def _rates(run: Run) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for justify in ("left", "right", "left", "left", "left"):
        grid.add_column(justify=justify, no_wrap=True)
    readings, latest = run.readings, run.readings.latest
    limits = latest.limits if latest is not None else {}
    ids = f"{readings.ids_per_call():.0f} jobs per call"
    rows = (("SubmitJob", "submit", ""), ("DescribeJobs", "describe", ids), ("look-ups", "list", ""))
    for title, budget, note in rows:
        limit = limits.get(budget, 0.0)
        operations = ("ListJobs", "DescribeJobQueues") if budget == "list" else (title,)
        rate = sum(readings.rate(operation) for operation in operations)
        history = [readings.per_second(operation, SPARK_WIDTH) for operation in operations]
        spark = _spark([sum(values) for values in zip(*history, strict=True)], limit)
        grid.add_row(
            Text(title), Text(f"{rate:.1f}/s", style="bold"), _limit(limit, CEILINGS[budget]), spark,
            Text(note, style="dim"),
        )  # fmt: skip
    return grid


def _limit(limit: float, ceiling: float) -> Text:
    """What the budget allows now; marked while throttling has cut it."""
    is_cut = 0 < limit < ceiling - 0.5
    return Text(f"limit {limit:.0f}" + (f" of {ceiling}" if is_cut else ""), style="yellow" if is_cut else "dim")


def _spark(values: list[float], limit: float) -> Text:
    top = max(limit, *values, 1.0) if values else 1.0
    bars = "".join(SPARKS[min(len(SPARKS) - 1, int(value / top * len(SPARKS)))] for value in values)
    return Text(bars.ljust(SPARK_WIDTH), style="cyan")


def _weather(run: Run) -> RenderableType:
    """What went wrong on the way, and what became of it."""
    latest = run.readings.latest
    duplicates = latest.received["duplicate"] if latest is not None else 0
    throttled = latest.throttled if latest is not None else 0
    doubted, adopted = run.seen.names["submission.in_doubt"], run.seen.names["submission.adopted"]
    return Text.assemble(
        (f"{doubted}", "bold"), (" answers lost, ", "dim"), (f"{adopted}", "bold"), (" jobs found again   ", "dim"),
        (f"{throttled}", "bold"), (" throttled   ", "dim"),
        (f"{duplicates}", "bold"), (" duplicates dropped", "dim"),
    )  # fmt: skip


# --- what failed last -----------------------------------------------------------------------------------


def _failures(failures: list[Failure], lines: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for failure in failures[: -lines - 1 : -1]:
        style = STYLES[failure.outcome]
        table.add_row(
            Text(failure.outcome, style=style), failure.name, Text(failure.job_queue, style="dim"), Text(failure.reason)
        )
    missing = lines - min(lines, len(failures))
    return Group(table, *(Text() for _ in range(missing))) if failures else Group(*(Text() for _ in range(lines)))


class Fixed:
    """A renderable cut to a number of lines, so that a small terminal does not scroll."""

    def __init__(self, inner: RenderableType, lines: int) -> None:
        self._inner = inner
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rendered = console.render_lines(self._inner, options, pad=False)
        for line in rendered[: self._lines]:
            yield from line
            yield Segment.line()
