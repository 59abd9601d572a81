"""Every client through the same day of jobs, in a process of its own, and the table of what came of it.

Called by ``__main__``, and by the tests at a small size.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from benchmarks.tracking.ours import INFORMED, OURS
from benchmarks.tracking.pollers import POLLERS, Progress
from benchmarks.tracking.result import Result
from benchmarks.tracking.workload import DAY_S, Day, make_day

JOBS: Final = (10_000, 100_000, 1_000_000)
RATE_PER_S: Final = 8.0
"""DescribeJobs calls that everyone may make: the default of ``track.rate_per_s``."""
BEGIN: Final = "<!-- comparison: begin -->"
END: Final = "<!-- comparison: end -->"
PROGRESS_S: Final = 10.0


class Client(Protocol):
    @property
    def name(self) -> str: ...
    def run(self, day: Day, *, jobs_a_day: int, rate_per_s: float, progress: Progress) -> Result: ...


CLIENTS: Final[tuple[Client, ...]] = (*OURS, *POLLERS)
INFORMED_JOBS: Final = 100_000
"""What knowing run times would bring is shown where the budget is not short: elsewhere it decides."""


def run(client: Client, *, jobs: int, hours: float, seed: int, progress: Progress) -> Result:
    """One client through a day, or its first hours."""
    day = make_day(jobs=jobs, hours=hours, seed=seed)
    return client.run(day, jobs_a_day=jobs, rate_per_s=RATE_PER_S, progress=progress)


def _run_alone(client: Client, jobs: int, hours: float, seed: int) -> Result:
    """In a process of its own. Nothing here makes cycles, and a day has millions of objects to look through."""
    gc.disable()
    return run(client, jobs=jobs, hours=hours, seed=seed, progress=_told(jobs))


def _told(jobs: int) -> Progress:
    """Says on standard error how far it is, every few seconds."""
    told_at = time.monotonic()

    def tell(name: str, share: float) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= PROGRESS_S:
            told_at = time.monotonic()
            print(f"{jobs:,} jobs a day, {name}: {share:.0%}", file=sys.stderr, flush=True)

    return tell


def table(results: Sequence[Result]) -> str:
    lines = [
        "| jobs a day | client | half within | mean | 95 % | 99 % | longest | calls/job | of the budget | not seen |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        lags = (result.lag_s(0.5), result.mean_lag_s, result.lag_s(0.95), result.lag_s(0.99), result.lags_s[-1])
        lines.append(
            f"| {result.jobs_a_day:,} | {result.client}{_part(result.hours)} | "
            + " | ".join(f"{'≥ ' if result.is_behind else ''}{_seconds(lag)}" for lag in lags)
            + f" | {result.calls_per_job:.3f} | {result.calls / result.budget:.0%} | {result.unseen:,} |"
        )
    return "\n".join(lines)


def _part(hours: float) -> str:
    return "" if hours == DAY_S / 3_600.0 else f" ({hours:g} h)"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:,.0f} s"


def write_into(document: Path, text: str) -> None:
    """Between the two marks of a document."""
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    assert END in rest, f"{document} has no place for the table"
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def chosen(loads: Sequence[int], named: str) -> list[tuple[Client, int]]:
    """Client and load of each row of the table, in its order."""
    return [
        (client, jobs)
        for jobs in loads
        for client in (*CLIENTS, *([INFORMED] if jobs == INFORMED_JOBS else []))
        if named in client.name
    ]


def run_all(pairs: Sequence[tuple[Client, int]], *, hours: float, seed: int, processes: int) -> list[Result]:
    """So many processes side by side; the results are the same, however many."""
    with ProcessPoolExecutor(processes, max_tasks_per_child=1) as pool:
        pending = [pool.submit(_run_alone, client, jobs, hours, seed) for client, jobs in pairs]
        return [each.result() for each in pending]
