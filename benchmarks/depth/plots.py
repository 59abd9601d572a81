"""The plot of ``docs/backpressure.md``: what runs and what waits over time, with each depth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from benchmarks.depth.runs import NO_LIMIT, Result

mpl.use("Agg")

STYLES: dict[int | str, tuple[str, str, str]] = {
    "auto": ("#0b6e4f", "-", "auto"),
    50: ("#c1440e", "--", "50"),
    500: ("#6a4c93", "-.", "500"),
    2_000: ("#1f77b4", ":", "2,000"),
    NO_LIMIT: ("#777777", "-", "no limit"),
}
STEP_S = 5


def draw(results: Sequence[Result], directory: Path) -> Path:
    """Two rows (vCPUs used, jobs waiting), a column for the first variant and one for the last."""
    directory.mkdir(parents=True, exist_ok=True)
    shown = [results[0].variant, results[-1].variant]
    figure, panels = pyplot.subplots(2, len(shown), figsize=(11, 7), sharex="col", layout="constrained")
    for column, variant in enumerate(dict.fromkeys(shown)):
        used, waiting = panels[0][column], panels[1][column]
        for depth, (colour, line, label) in STYLES.items():
            result = next(r for r in results if r.variant == variant and r.max_waiting == depth)
            for panel, points in ((used, result.running), (waiting, result.waiting)):
                kept = points[::STEP_S]
                panel.plot([at for at, _ in kept], [n for _, n in kept], line, color=colour, label=label, linewidth=1.6)
        used.set_title(variant.name, fontsize=10)
        waiting.set_yscale("symlog", linthresh=10)
        waiting.set_xlabel("seconds")
        for panel in (used, waiting):
            panel.set_ylim(bottom=0)
            panel.grid(visible=True, alpha=0.3)
    panels[0][0].set_ylabel("vCPUs used")
    panels[1][0].set_ylabel("jobs waiting in Batch (linear up to 10)")
    panels[0][0].legend(fontsize=8, loc="lower right", title="max_waiting")
    path = directory / "depth.png"
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return path
