"""``python -m benchmarks.tracking``: every client through the same day of jobs, as a table and a plot."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.tracking.comparison import JOBS, chosen, run_all, table, write_into
from benchmarks.tracking.ours import EVENT_S


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tracking",
        description=f"{__doc__} All of it takes some 25 minutes of CPU time; --jobs 10000 one.",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        action="append",
        metavar="N",
        help=f"a day; repeatable (default: {JOBS[0]}, {JOBS[1]} and {JOBS[2]})",
    )
    parser.add_argument("--hours", type=float, default=24.0, help="of the day, from midnight on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the day (default: %(default)s)")
    parser.add_argument("--client", default="", help="only those whose name has this in it")
    parser.add_argument("--processes", type=int, default=1, help="side by side (default: %(default)s)")
    parser.add_argument("--write", type=Path, help="file to write the table into, between its marks")
    parser.add_argument("--plots", type=Path, help="directory for a PNG file; needs matplotlib")
    arguments = parser.parse_args()
    pairs = chosen(arguments.jobs or JOBS, arguments.client)
    if not pairs:
        parser.error(f"no client has {arguments.client!r} in its name")
    results = run_all(pairs, hours=arguments.hours, seed=arguments.seed, processes=arguments.processes)
    print(table(results))
    print(f"An event's way takes {EVENT_S} s at the median. CPU time: {sum(each.took_s for each in results):,.0f} s")
    if arguments.write is not None:
        write_into(arguments.write, table(results))
    if arguments.plots is not None:
        from benchmarks.tracking.plots import draw

        print(f"wrote {draw(results, arguments.plots)}")


if __name__ == "__main__":
    main()
