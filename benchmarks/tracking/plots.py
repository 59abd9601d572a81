"""The plot of ``docs/tracking.md``: how late ends are seen, and what each load costs in calls."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from benchmarks.tracking.result import Result

mpl.use("Agg")

COLOURS = ("#0b6e4f", "#55a630", "#8a9a5b", "#c1440e", "#6a4c93", "#1f77b4", "#7f7f7f", "#bcbd22")
"""Ours in greens, then the others, in the order of the table."""
LINES = ("-", "-", "--", "--", "-.", ":", "--", ":")
POINTS = 400
LAG_S_MIN, LAG_S_MAX = 0.1, 20_000.0


def draw(results: Sequence[Result], directory: Path) -> Path:
    """A panel of lags at the highest load, and one of calls per job over the loads."""
    directory.mkdir(parents=True, exist_ok=True)
    most = max(result.jobs_a_day for result in results)
    names = list(dict.fromkeys(result.client for result in results))
    style = {name: (COLOURS[n % len(COLOURS)], LINES[n % len(LINES)]) for n, name in enumerate(names)}
    figure, (lags, calls) = pyplot.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    for name in names:
        mine = [result for result in results if result.client == name]
        colour, line = style[name]
        for result in mine:
            if result.jobs_a_day == most:
                shares = [(point + 1) / POINTS for point in range(POINTS)]
                lags.plot(
                    [max(LAG_S_MIN, result.lag_s(share)) for share in shares],
                    [100 * share for share in shares],
                    line,
                    color=colour,
                    label=name,
                    linewidth=1.8,
                )
        calls.plot(
            [result.jobs_a_day for result in mine],
            [result.calls_per_job for result in mine],
            line,
            color=colour,
            label=name,
            marker="o",
            markersize=4,
            linewidth=1.8,
        )
    lags.set_title(f"{most:,} jobs a day", fontsize=10)
    lags.set_xscale("log")
    lags.set_xlim(LAG_S_MIN, LAG_S_MAX)
    lags.set_xlabel("seconds from the end in Batch until it is seen")
    lags.set_ylabel("% of the ends")
    lags.set_ylim(0, 100)
    calls.set_title("calls per job", fontsize=10)
    calls.set_xscale("log")
    calls.set_yscale("log")
    calls.set_xlabel("jobs a day")
    calls.legend(fontsize=7.5)
    for panel in (lags, calls):
        panel.grid(visible=True, alpha=0.3)
    path = directory / "tracking-day.png"
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return path
