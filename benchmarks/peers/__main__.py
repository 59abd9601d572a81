"""``python -m benchmarks.peers [--requests N] [--plots DIR]``: every client in every weather, as table and plots."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.account import RATE_PER_S, Account, Call, Progress
from benchmarks.peers.others import Flyte, Nextflow, PlainLoop
from benchmarks.peers.ours import Controller

CLIENTS: tuple[Callable[[Account, int], Any], ...] = (Controller, Nextflow, Flyte, PlainLoop)
WEATHERS: dict[str, tuple[tuple[float, float], ...]] = {
    "50 per second": (),
    "50, 10 from 60 s to 360 s, 50": ((60.0, 10.0), (360.0, RATE_PER_S)),
}
GIVE_UP_S = 4 * 3_600.0


@dataclass(frozen=True, slots=True)
class Result:
    client: str
    weather: str
    calls: list[Call]
    accepted_at: list[float]
    progress: Progress
    ended_at: float

    @property
    def throttled(self) -> int:
        return sum(call.is_throttled for call in self.calls)


def run(make: Callable[[Account, int], Any], weather: str, requests: int, seed: int = 1) -> Result:
    """One client with a burst of requests that are all there from the start."""
    account = Account(seed)
    for at, per_s in WEATHERS[weather]:
        account.at(at, lambda per_s=per_s: _limit(account, per_s))
    client = make(account, requests)
    account.run(until=GIVE_UP_S, is_over=lambda: client.progress.is_over)
    return Result(
        client.name, weather, account.calls, sorted(account.accepted_at.values()), client.progress, account.now
    )


def _limit(account: Account, per_s: float) -> None:
    account.bucket.refill(account.now)
    account.bucket.rate_per_s = account.bucket.burst = per_s


def table(results: list[Result]) -> str:
    lines = [
        "| limit | client | calls | throttled | accepted by | all ended by | given up |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        share = result.throttled / len(result.calls)
        lines.append(
            f"| {result.weather} | {result.client} | {len(result.calls):,} | {result.throttled:,} ({share:.1%}) "
            f"| {result.accepted_at[-1]:,.0f} s | {result.ended_at:,.0f} s | {len(result.progress.given_up):,} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="(default: %(default)s)")
    parser.add_argument("--plots", type=Path, help="directory for PNG files; needs matplotlib")
    arguments = parser.parse_args()
    results = [run(make, weather, arguments.requests) for weather in WEATHERS for make in CLIENTS]
    print(table(results))
    if arguments.plots is not None:
        from benchmarks.peers.plots import draw

        for path in draw(results, arguments.plots):
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
