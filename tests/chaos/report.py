"""What a person sees of a run: a line while it goes on, the verdict at its end, an extract for what went wrong."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from controller.simaws.faults import Fault
from tests.chaos.judge import Check, Finding
from tests.chaos.plan import Options
from tests.chaos.record import extract, faults_met
from tests.chaos.run import Outcome
from tests.chaos.run import Progress as State
from tests.chaos.weather import FREQUENT, faults_of

PLAIN_LINE_S: Final = 10.0
FINDINGS_SHOWN: Final = 10
EXTRACTS: Final = 5


class Line:
    """A progress bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._said_at = 0.0

    def __enter__(self) -> Line:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._bar.start()
            self._task = self._bar.add_task("starting", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, state: State) -> None:
        text = f"{state.phase}: {state.messages} messages, {state.kills} kills, {state.in_doubt} in doubt"
        if self._bar is not None:
            self._bar.update(self._task, description=text, completed=state.ended, total=max(1, state.expected))
        elif time.monotonic() - self._said_at >= PLAIN_LINE_S:
            self._said_at = time.monotonic()
            self._console.print(
                f"{state.elapsed_s:5.0f} s  {text}, {state.ended} of {state.expected} ended", highlight=False
            )


def coverage(outcome: Outcome) -> tuple[list[str], int]:
    """(faults of frequent calls that never struck, as operation and fault; how many there are). Slow answers leave no
    trace."""
    met = set(faults_met(outcome.record))
    wanted = [(name, fault.value) for name in FREQUENT for fault in faults_of(name) if fault is not Fault.SLOW]
    return [f"{operation} {fault}" for operation, fault in wanted if (operation, fault) not in met], len(wanted)


def summarise(outcome: Outcome, checks: Sequence[Check], options: Options, console: Console) -> None:
    """The verdict, what was met, how long it took."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for check in checks:
        mark = "[green]✓[/]" if not check.findings else f"[red]✗ {len(check.findings)}[/]"
        table.add_row(mark, check.title, check.detail)
    console.print(table)
    counts, seconds = outcome.counts, outcome.seconds
    events = Counter(event["event"] for _, event in outcome.record.events)
    lines = [
        f"done to the controller: {_counted(counts)}; processes started: {counts['SIGKILL'] + counts['SIGTERM'] + 1}",
        f"submissions in doubt {events['submission.in_doubt']}, adopted {events['submission.adopted']}, "
        f"queues held {events['job_queue.held']}",
        f"stretches and service faults: {', '.join(sorted(outcome.met))}",
        _struck(outcome),
        f"chaos {seconds['chaos']:.0f} s, then drained within {seconds['drain']:.0f} s; seed {options.seed}",
    ]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} × {name}" for name, count in counts.items())


def _struck(outcome: Outcome) -> str:
    per_operation: dict[str, int] = defaultdict(int)
    for (operation, what), count in faults_met(outcome.record).items():
        if what in {fault.value for fault in Fault}:
            per_operation[operation] += count
    struck = ", ".join(f"{operation} {count}" for operation, count in sorted(per_operation.items()))
    return f"calls struck: {struck}"


def tell_failure(outcome: Outcome, checks: Sequence[Check], options: Options, console: Console) -> None:
    """What is wrong, where the files are, how to run it again."""
    extracts = 0
    for check in checks:
        for finding in check.findings[:FINDINGS_SHOWN]:
            console.print(
                f"✗ {check.title}: {finding.what}", style="red", markup=False, highlight=False, soft_wrap=True
            )
            if finding.message_ids and extracts < EXTRACTS:
                extracts += 1
                console.print(f"  see {_written(outcome, finding, options, extracts)}", markup=False, highlight=False)
        if (more := len(check.findings) - FINDINGS_SHOWN) > 0:
            console.print(f"  … and {more} more", style="red")
    console.print(f"seed {options.seed}; again: {options.command}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"files: {options.directory}", markup=False, highlight=False, soft_wrap=True)


def _written(outcome: Outcome, finding: Finding, options: Options, number: int) -> str:
    path = options.directory / f"extract-{number}.txt"
    path.write_text(f"{finding.what}\n\n{extract(outcome.record, finding.message_ids)}")
    return str(path)
