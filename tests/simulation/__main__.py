"""``python -m tests.simulation``: sweep over many seeds, or replay one.

Exit code 1 if a seed failed. A failing seed prints the command that replays it and what it broke.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.history import printed
from tests.simulation.profile import profiled, table
from tests.simulation.sweep import Verdict, run_seed, sweep

FAILURES_SHOWN = 10
TELL_EVERY_S = 60.0
"""Where there is no terminal for the bar."""
OUT = Console(highlight=False, soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--max-seconds", type=float, help="stop after so long")
    parser.add_argument("--seed", type=int, help="run one seed, and say what it broke")
    parser.add_argument("--history", action="store_true", help="with --seed: print all that happened")
    parser.add_argument("--about", default="", help="with --history: only what names this request, message or job")
    parser.add_argument("--profile", action="store_true", help="say what the seeds' CPU time goes to; judges nothing")
    given = parser.parse_args(arguments)
    if given.profile:
        return _profile(range(given.first, given.first + given.seeds))
    if given.seed is not None:
        return _replay(given.seed, is_told=given.history or bool(given.about), about=given.about)
    return _sweep(given.first, given.seeds, given.jobs, given.max_seconds)


def _replay(seed: int, *, is_told: bool, about: str) -> int:
    verdict, world = run_seed(seed)
    if is_told and world is not None:
        OUT.print(printed(world, about=about), markup=False)
    OUT.print(
        f"seed {seed}: {verdict.requests} requests, {verdict.virtual_s:.0f} virtual seconds, {verdict.steps} steps"
    )
    for problem in verdict.problems:
        OUT.print(problem, markup=False)
    return 1 if verdict.problems else 0


def _profile(seeds: range) -> int:
    profile, count, requests = profiled(seeds)
    total_s = sum(cost.took_s for cost in profile.costs.values())
    OUT.print(
        f"{count} seeds, {requests / count:.0f} requests each: {total_s / count * 1000:.0f} ms of CPU a seed, "
        f"{total_s / requests * 1000:.2f} ms a request"
    )
    OUT.print(table(profile, count))
    return 0


def _sweep(first: int, count: int, jobs: int, max_s: float | None) -> int:
    began = told_at = time.monotonic()
    met: Counter[str] = Counter()
    failed: list[Verdict] = []
    done, cpu_s = 0, 0.0
    columns = (
        TextColumn("seeds"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=OUT, disable=not OUT.is_terminal) as progress:
        bar = progress.add_task("seeds", total=count, note="")
        for verdict in sweep(first, count, jobs=jobs, max_s=max_s):
            done += 1
            cpu_s += verdict.took_s
            met += verdict.met
            if verdict.problems:
                failed.append(verdict)
                if len(failed) <= FAILURES_SHOWN:
                    _tell(verdict, progress.console)
            rate = done / max(1e-9, time.monotonic() - began)
            note = f"{rate:.1f}/s, {len(failed)} failed"
            progress.update(bar, advance=1, note=note)
            if not OUT.is_terminal and time.monotonic() - told_at >= TELL_EVERY_S:
                told_at = time.monotonic()
                OUT.print(f"{done} of {count} seeds, {note}")
    took_s = time.monotonic() - began
    OUT.print(f"{done} seeds in {took_s:.0f} s: {done / took_s:.1f} seeds/s, {done / cpu_s:.1f} per second of CPU")
    OUT.print("faults met: " + ", ".join(f"{name} {number}" for name, number in sorted(met.items())), markup=False)
    OUT.print(f"{len(failed)} failed" + "".join(f" {verdict.seed}" for verdict in failed))
    return 1 if failed else 0


def _tell(verdict: Verdict, console: Console) -> None:
    console.print(f"seed {verdict.seed} FAILED; replay: make sim SEED={verdict.seed}", style="bold red")
    console.print(f"  with all that happened: python -m tests.simulation --seed {verdict.seed} --history")
    for problem in verdict.problems[:5]:
        console.print(f"  {problem}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
