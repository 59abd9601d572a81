"""``python -m benchmarks [NAME …]``: all of them if none is named; a table of goals and verdicts at the end."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.calls import calls
from benchmarks.exposition import exposition
from benchmarks.measure import Table
from benchmarks.path import whole_path
from benchmarks.restart import backlog, restart
from benchmarks.tracking import million, sweep_of_many


def main() -> None:
    benchmarks: dict[str, Callable[[Table], None]] = {
        "calls": calls,
        "sweep": sweep_of_many,
        "path": lambda table: whole_path(table, arguments.requests),
        "metrics": exposition,
        "million": lambda table: million(table, arguments.jobs),
        "backlog": backlog,
        "restart": restart,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"which of {', '.join(benchmarks)} (default: all)")
    parser.add_argument("--requests", type=int, default=20_000, help="of the whole path (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="in flight of `million` (default: %(default)s)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.what if name not in benchmarks]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(benchmarks)}")
    table = Table()
    for name in arguments.what or benchmarks:
        print(name, flush=True)
        benchmarks[name](table)
    table.show()


if __name__ == "__main__":
    main()
