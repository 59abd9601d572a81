"""``/metrics`` with many job queues: what it costs, and for how long the event loop is held up by it."""

from __future__ import annotations

import time
from statistics import median

from benchmarks.measure import Table
from controller.core.job import BatchStatus, JobState
from controller.metrics import LedgerSnapshot, Metrics, exposed
from controller.ports import UsageRow

QUEUES = 100
ROUNDS = 5


def _filled() -> tuple[Metrics, LedgerSnapshot]:
    metrics = Metrics(sinks=["log"])
    for number in range(QUEUES):
        queue = f"queue-{number}"
        metrics.know_queue(queue)
        metrics.job_wait_seconds.labels(job_queue=queue).observe(number)
        for outcome in ("succeeded", "failed"):
            metrics.job_run_seconds.labels(job_queue=queue, outcome=outcome).observe(number)
    usage = [
        UsageRow(
            source="queue",
            job_queue=f"queue-{number}",
            state=JobState.TRACKED,
            batch_status=BatchStatus.RUNNING,
            is_in_doubt=False,
            is_array=False,
            count=number + 1,
        )
        for number in range(QUEUES)
    ]
    snapshot = LedgerSnapshot(
        usage=usage,
        oldest_received_at={},
        outbox={},
        holds=(),
        rates={},
        staleness_s=0.0,
        intake_paused={},
        submission_paused={},
        stage_turns={},
        is_leader=True,
        now=0.0,
    )
    return metrics, snapshot


def exposition(table: Table) -> None:
    """CPU of a scrape, of its longest step on the event loop, and of the part that runs in a thread."""
    metrics, snapshot = _filled()
    longest, collected, made = [], [], []
    for _ in range(ROUNDS):
        families, steps, before_s = [], [], time.thread_time()
        for family in metrics.families(snapshot):
            families.append(family)
            now_s = time.thread_time()
            steps.append(now_s - before_s)
            before_s = now_s
        text = exposed(families)
        made.append(time.thread_time() - before_s)
        longest.append(max(steps))
        collected.append(sum(steps))
    samples = sum(not line.startswith(b"#") for line in text.splitlines())
    table.at_most(
        f"/metrics of {samples:,} samples: longest step of the event loop", 1000 * median(longest), 50, " ms", digits=1
    )
    table.told("/metrics: all steps of the event loop", f"{1000 * median(collected):.1f} ms")
    table.told("/metrics: text, made in a thread", f"{1000 * median(made):.1f} ms")
