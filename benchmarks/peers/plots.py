"""The plots of ``docs/backpressure.md``: what was accepted, and how many calls were throttled, over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib import pyplot

if TYPE_CHECKING:
    from benchmarks.peers.__main__ import Result

mpl.use("Agg")

STYLES = {
    "this controller": ("#0b6e4f", "-"),
    "Nextflow": ("#c1440e", "--"),
    "Flyte": ("#6a4c93", "-."),
    "SDK loop, adaptive": ("#1f77b4", ":"),
}
UNTIL_S = 1_000.0
BIN_S = 10.0


def draw(results: Sequence[Result], directory: Path) -> list[Path]:
    """One file for jobs accepted, one for throttled calls; a panel for each weather."""
    directory.mkdir(parents=True, exist_ok=True)
    weathers = list(dict.fromkeys(result.weather for result in results))
    paths = []
    for name, label in (
        ("accepted", "jobs accepted by Batch"),
        ("throttled", "throttled calls in 10 s (linear up to 10)"),
    ):
        figure, panels = pyplot.subplots(1, len(weathers), figsize=(11, 4), sharey=True, layout="constrained")
        for panel, weather in zip(panels, weathers, strict=True):
            for result in results:
                if result.weather == weather:
                    xs, ys = _accepted(result) if name == "accepted" else _throttled(result)
                    colour, line = STYLES[result.client]
                    panel.plot(xs, ys, line, color=colour, label=result.client, linewidth=1.8)
            panel.set_title(f"limit: {weather}", fontsize=10)
            panel.set_xlabel("seconds")
            panel.set_xlim(0, UNTIL_S)
            if name == "throttled":
                panel.set_yscale("symlog", linthresh=10)
            panel.grid(visible=True, alpha=0.3)
        panels[0].set_ylim(bottom=0, auto=None)
        panels[0].set_ylabel(label)
        panels[0].legend(fontsize=8)
        path = directory / f"peers-{name}.png"
        figure.savefig(path, dpi=110, metadata={"Software": None})
        pyplot.close(figure)
        paths.append(path)
    return paths


def _accepted(result: Result) -> tuple[list[float], list[int]]:
    """A point in fifty is enough for a line; the last one is kept."""
    points = [(at, number + 1) for number, at in enumerate(result.accepted_at)]
    kept = points[::50] + points[-1:]
    return [at for at, _ in kept], [number for _, number in kept]


def _throttled(result: Result) -> tuple[list[float], list[int]]:
    counts = Counter(int(call.at // BIN_S) for call in result.calls if call.is_throttled)
    bins = range(int(min(UNTIL_S, result.ended_at) // BIN_S) + 1)
    return [number * BIN_S for number in bins], [counts[number] for number in bins]
