"""Clients that only ask: in rounds over all jobs they wait for, so many ids per call, so long from round to round.

Periods and ids per call are read from the sources of Nextflow (2aad02f), Flyte (f177fb5), Toil (8593a3e) and the
Snakemake plugin (47e8027). Each model is kinder than what it stands for: one process follows all jobs, however many
(Nextflow has at most 1,000 alive, Flyte 10,000), calls never fail, nothing is throttled, since every client keeps to
the same rate by itself, and a round has no other cost than its calls.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.peers.account import SERVICE_S, WAY_S
from benchmarks.tracking.result import Result, result_of
from benchmarks.tracking.workload import Day

CALL_S = WAY_S + sum(SERVICE_S) / 2 + WAY_S

Progress = Callable[[str, float], None]
"""Told the client's name and how much of the day is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poller:
    name: str
    ids_per_call: int
    every_s: float = 0.0
    """From the start of a round to the next one's, which begins once the calls of the last one are sent."""
    pause_s: float = 0.0
    """From the last answer of a round to the start of the next one; calls are then made one after the other."""

    def run(self, day: Day, *, jobs_a_day: int, rate_per_s: float, progress: Progress) -> Result:
        began, seen_at = time.process_time(), array("d", [math.inf]) * len(day)
        live: list[int] = []
        ended_at, calls, arrived, now, free_at = day.ended_at, 0, 0, 0.0, 0.0
        while now < day.length_s:
            progress(self.name, now / day.length_s)
            while arrived < len(day) and day.arrived_at[arrived] <= now:
                live.append(arrived)
                arrived += 1
            round_at, left = now, []
            for start in range(0, len(live), self.ids_per_call):
                now = max(now, free_at)
                if now >= day.length_s:
                    break
                free_at = now + 1 / rate_per_s
                calls += 1
                seen = now + WAY_S
                for job in live[start : start + self.ids_per_call]:
                    if ended_at[job] > seen:
                        left.append(job)
                    else:
                        seen_at[job] = now + CALL_S
                if self.pause_s:
                    now += CALL_S
            live = left
            now = now + self.pause_s if self.pause_s else max(now, round_at + self.every_s)
        return result_of(
            self.name,
            day,
            seen_at,
            jobs_a_day=jobs_a_day,
            calls=calls,
            rate_per_s=rate_per_s,
            took_s=time.process_time() - began,
        )


POLLERS = (
    Poller(name="rounds of 10 s (Nextflow)", ids_per_call=100, every_s=10.0),
    Poller(name="rounds of 30 s (Flyte)", ids_per_call=100, every_s=30.0),
    Poller(name="rounds 1 s apart (Toil)", ids_per_call=100, pause_s=1.0),
    Poller(name="one id per call, 5 s apart (Snakemake)", ids_per_call=1, pause_s=5.0),
)
