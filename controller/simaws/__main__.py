"""``python -m controller.simaws``: serve a simulated AWS account on 127.0.0.1.

Prints one JSON line with the address and the queues' URLs when it is ready. Ends on SIGTERM or SIGINT, when the process
that started it dies, and after ``--max-seconds``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from controller.simaws.answers import AwsError
from controller.simaws.cloud import SimAws
from controller.simaws.events import Rule
from controller.simaws.http import SimServer
from controller.simaws.profile import PROFILES, changed

PARENT_CHECK_S: Final = 0.5
PORT_MAX: Final = 65_535
FIFO: Final = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
"""Attributes of queues whose names end in ``.fifo``."""


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > PORT_MAX:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to {PORT_MAX}")
    return int(text)


def _job_queue(text: str) -> tuple[str, float | None]:
    name, _, vcpus = text.partition(":")
    try:
        return name, float(vcpus) if vcpus else None
    except ValueError:
        raise argparse.ArgumentTypeError("must be NAME or NAME:VCPUS, VCPUS a number") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m controller.simaws", description="Serve a simulated AWS account.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=0, help="port; 0: a free one (default)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that is left to chance")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="fast", help="how jobs behave")
    parser.add_argument("--set", type=_json, default={}, metavar="JSON", help="members of the profile to change")
    parser.add_argument("--faults", type=_json, default={}, metavar="JSON", help="what goes wrong from the start")
    parser.add_argument("--account", default="123456789012")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument(
        "--job-queue", type=_job_queue, action="append", default=[], metavar="NAME[:VCPUS]", help="repeatable"
    )
    parser.add_argument("--job-definition", action="append", default=[], metavar="NAME", help="repeatable")
    parser.add_argument("--sqs-queue", action="append", default=[], metavar="NAME", help="repeatable")
    parser.add_argument("--events-queue", metavar="NAME", help="SQS queue to create and feed with job state changes")
    parser.add_argument("--require-signature", action="store_true", help="refuse unsigned calls")
    parser.add_argument("--parent", type=int, metavar="PID", help="end when this process dies (default: the starter)")
    parser.add_argument("--max-seconds", type=float, help="end by itself after so long")
    return parser


def _account(options: argparse.Namespace) -> SimAws:
    profile = changed(PROFILES[options.profile], options.set)
    sim = SimAws(seed=options.seed, profile=profile, account=options.account, region=options.region)
    sim.advance(time.time())
    for name, vcpus in options.job_queue or [("demo", None)]:
        sim.add_job_queue(name, slots=vcpus)
    for name in options.job_definition or ["demo"]:
        sim.add_job_definition(name)
    sim.faults.update(options.faults)
    return sim


def _add_queues(sim: SimAws, options: argparse.Namespace) -> dict[str, str]:
    names = [*options.sqs_queue, *([options.events_queue] if options.events_queue else [])]
    urls = {name: sim.add_sqs_queue(name, FIFO if name.endswith(".fifo") else None) for name in names}
    if options.events_queue:
        sim.put_rule(Rule(name="default", queue=options.events_queue))
    return urls


async def _run(options: argparse.Namespace) -> None:
    parent = options.parent or os.getppid()
    sim = _account(options)
    server = SimServer(sim, requires_signature=options.require_signature)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    url = await server.start(options.host, options.port)
    ready: dict[str, Any] = {
        "url": url,
        "account": sim.account,
        "region": sim.region,
        "seed": sim.seed,
        "pid": os.getpid(),
        "job_queues": sorted(sim.batch.queues),
        "sqs_queues": _add_queues(sim, options),
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)  # a million live jobs make full collections long
    await _until(over, parent=parent, max_s=options.max_seconds)
    await server.stop()


async def _until(over: asyncio.Event, *, parent: int, max_s: float | None) -> None:
    """Wait for a signal, the parent's death or the end of the allowed time."""
    loop = asyncio.get_running_loop()
    ends_at = None if max_s is None else loop.time() + max_s
    while not over.is_set() and os.getppid() == parent:
        left_s = PARENT_CHECK_S if ends_at is None else min(PARENT_CHECK_S, ends_at - loop.time())
        if left_s <= 0:
            return
        try:
            await asyncio.wait_for(over.wait(), left_s)
        except TimeoutError:
            continue


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_run(options))
    except (ValueError, OSError, AwsError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
