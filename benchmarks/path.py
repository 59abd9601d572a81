"""The whole path: requests from SQS to their final events at six polls a job, and where the CPU went."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.measure import Table
from benchmarks.served import Controller, request, send, simulated_aws, wait_for

PORT = 18_471
SETTINGS = {"TRACK__INTERVAL_S_MIN": "0.3", "TRACK__INTERVAL_S_MAX": "0.3"}
"""Jobs of the simulated AWS live for about two seconds: looked at this often, each is described about six times."""
GOAL_MS = 1.2


def whole_path(table: Table, count: int = 20_000) -> None:
    """CPU per request; fails if a request is lost or doubled."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, simulated_aws() as sim:
        send(sim, (request(number) for number in range(count)))
        controller = Controller(Path(directory), sim, port=PORT, settings=SETTINGS)
        try:
            wait_for(lambda: controller.metric("requests_received_total") > 0, what="it receives", within_s=30)
            cpu_before_s = controller.cpu_s()
            path_s = wait_for(
                lambda: controller.metric("jobs_finished_total") >= count,
                what="all requests are final",
                within_s=400,
                poll_s=1.0,
            )
            calls = {
                operation: controller.metric("aws_requests_total", operation=operation)
                for operation in ("ReceiveMessage", "DeleteMessageBatch", "SubmitJob", "DescribeJobs")
            }
            polls = controller.metric("describe_ids_per_call_sum") / count
            commits = controller.metric("store_commit_seconds_count")
            cpu_s = controller.cpu_s() - cpu_before_s
            report = controller.stop()
        except BaseException:
            controller.kill()
            raise
        jobs = Counter(sim.control("history/names?tag=batch-controller/request-id")["counts"])
    assert jobs == Counter(f"request-{number}" for number in range(count)), "a request was lost or doubled"
    table.at_most(
        f"whole path, {count:,} requests, {polls:.1f} polls a job: CPU a request",
        1000 * cpu_s / count,
        GOAL_MS,
        " ms",
    )
    for part, cpu_s in sorted(report["parts"].items(), key=lambda item: -item[1]):
        table.told(f"whole path: {part}", f"{1000 * cpu_s / count:.3f} ms")
    table.told("whole path: peak memory", f"{report['peak_mib']:.0f} MiB")
    table.told("whole path: requests a second", f"{count / path_s:,.0f}")
    for name, number in (*calls.items(), ("commits", commits)):
        table.told(f"whole path: {name}", f"{number:,.0f}")
