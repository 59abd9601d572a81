"""``python -m benchmarks [path] [backlog] [restart] [calls]``: all of them if none is named."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.calls import calls
from benchmarks.path import whole_path
from benchmarks.restart import backlog, restart


def main() -> None:
    benchmarks: dict[str, Callable[[], None]] = {
        "calls": calls,
        "path": lambda: whole_path(arguments.requests),
        "backlog": backlog,
        "restart": restart,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"which of {', '.join(benchmarks)} (default: all)")
    parser.add_argument("--requests", type=int, default=20_000, help="of the whole path (default: %(default)s)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.what if name not in benchmarks]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(benchmarks)}")
    for name in arguments.what or benchmarks:
        benchmarks[name]()


if __name__ == "__main__":
    main()
