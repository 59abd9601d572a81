"""``python -m benchmarks.depth [--processes N] [--plots DIR] [--write FILE]``: every depth on every kind of compute."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.depth.runs import NO_LIMIT, Result, Variant, measure

VARIANTS: Final = (
    Variant(name="30 vCPUs, jobs of 3–7 s", vcpus=30, runs_s=(3, 7), requests=4_500, warm_s=60, until_s=480),
    Variant(
        name="the same, with events", vcpus=30, runs_s=(3, 7), requests=4_500, warm_s=60, until_s=480, has_events=True
    ),
    Variant(name="60 vCPUs, jobs of 1–3 min", vcpus=60, runs_s=(60, 180), requests=2_000, warm_s=300, until_s=1_500),
    Variant(
        name="the same, each 30–90 s in starting on free compute",
        vcpus=60,
        runs_s=(60, 180),
        ready_s=(30, 90),
        requests=2_000,
        warm_s=600,
        until_s=1_500,
    ),
    Variant(
        name="60 vCPUs, jobs of 30–90 min", vcpus=60, runs_s=(1_800, 5_400), requests=2_500, warm_s=600, until_s=5_400
    ),
    Variant(
        name="scaling by demand, 0–300 vCPUs, jobs of 2–6 min",
        vcpus=300,
        is_scaling=True,
        runs_s=(120, 360),
        requests=20_000,
        warm_s=1_500,
        until_s=2_700,
    ),
)
DEPTHS: Final[tuple[int | str, ...]] = ("auto", 50, 500, 2_000, NO_LIMIT)
SEEDS_OF_AUTO: Final = (1,)
BEGIN: Final = "<!-- Made by `make bench-plots`: depth -->\n"
END: Final = "<!-- end of depth -->\n"


def runs() -> list[tuple[Variant, int | str, int]]:
    """The unlimited ones take longest, so they are first."""
    return [
        (variant, depth, seed)
        for depth in reversed(DEPTHS)
        for variant in VARIANTS
        for seed in (SEEDS_OF_AUTO if depth == "auto" else SEEDS_OF_AUTO[:1])
    ]


def table(results: Sequence[Result]) -> str:
    """A row per variant and depth; of several seeds the least that was used and the deepest mean."""
    lines = [
        "| compute and jobs | `max_waiting` | compute used | of what it is without a limit | waiting, mean | of that |",
        "|---|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        (free,) = (r for r in results if r.variant == variant and r.max_waiting == NO_LIMIT)
        for depth in DEPTHS:
            these = [r for r in results if r.variant == variant and r.max_waiting == depth]
            used, there = min((r.used_s, r.there_s) for r in these)
            waiting = max(r.waiting_mean for r in these)
            name = "no limit" if depth == NO_LIMIT else f"{depth:,}" if isinstance(depth, int) else f"**{depth}**"
            lines.append(
                f"| {variant.name} | {name} | {used / there:.1%} | {used / free.used_s:.1%} "
                f"| {waiting:,.0f} | {waiting / free.waiting_mean:.1%} |"
            )
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Put the table between its marks."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{path} has no marks for the table"
    path.write_text(before + BEGIN + text + END + after, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.depth", description=__doc__)
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count(), help="(default: %(default)s)")
    parser.add_argument("--plots", type=Path, help="directory for PNG files; needs matplotlib")
    parser.add_argument("--write", type=Path, help="page to put the table into")
    arguments = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(arguments.processes, maxtasksperchild=1) as pool:
        results = pool.starmap(measure, runs(), chunksize=1)
    assert all(result.left > 0 for result in results), "a backlog was too small for its time"
    text = table(results)
    print(text)
    if arguments.write is not None:
        write(arguments.write, text)
    if arguments.plots is not None:
        from benchmarks.depth.plots import draw

        print(f"wrote {draw(results, arguments.plots)}")


if __name__ == "__main__":
    main()
