"""The whole path: 20,000 requests from SQS to their final events, and where the CPU went."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.served import Controller, request, send, simulated_aws, wait_for

PORT = 18_471


def whole_path(count: int) -> None:
    """Prints requests per second, CPU by part, peak memory; fails if a request is lost or doubled."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, simulated_aws() as sim:
        send(sim, (request(number) for number in range(count)))
        controller = Controller(Path(directory), sim, port=PORT, settings={})
        try:
            wait_for(lambda: controller.metric("requests_received_total") > 0, what="it receives", within_s=30)
            path_s = wait_for(
                lambda: controller.metric("jobs_finished_total") >= count, what="all requests are final", within_s=400
            )
            calls = {
                operation: controller.metric("aws_requests_total", operation=operation)
                for operation in ("ReceiveMessage", "DeleteMessageBatch", "SubmitJob", "DescribeJobs")
            }
            polls = controller.metric("describe_ids_per_call_sum")
            report = controller.stop()
        except BaseException:
            controller.kill()
            raise
        jobs = Counter(sim.control("history/names?tag=batch-controller/request-id")["counts"])
    assert jobs == Counter(f"request-{number}" for number in range(count)), "a request was lost or doubled"
    print(f"whole path, {count:,} requests, synchronous=FULL: nothing lost or doubled")
    print(
        f"  {count / path_s:,.0f} requests/s; {polls / count:.1f} polls a job; peak memory {report['peak_mib']:.0f} MiB"
    )
    print(f"  CPU {1000 * report['cpu_s'] / count:.2f} ms a request, start and stop included; by part:")
    for part, cpu_s in sorted(report["parts"].items(), key=lambda item: -item[1]):
        print(f"    {part:28} {1000 * cpu_s / count:6.3f} ms")
    print("  calls: " + ", ".join(f"{name} {number:,.0f}" for name, number in calls.items()))
