"""CPU of one call, against what a user would otherwise run: plain aiobotocore, and a boto3 loop.

Variants run in one process, in shuffled blocks against the same server; the ratio is the median of the blocks' ratios.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import boto3
from aiobotocore.session import get_session

from benchmarks.served import request, simulated_aws
from controller.adapters.aws import read_config, submit_config
from controller.adapters.batch import Batch
from controller.adapters.clock import SystemClock

BLOCKS = 9
DESCRIBES, SUBMITS = 12, 60
"""Calls of one block."""

Variant = Callable[[], Awaitable[None]]


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _measured(variants: dict[str, Variant], calls: int) -> dict[str, list[float]]:
    """CPU milliseconds per call, a value per block."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for _ in range(BLOCKS + 1):
        random.shuffle(order)
        for name in order:
            before = _cpu_s()
            for _ in range(calls):
                await variants[name]()
            found[name].append(1000 * (_cpu_s() - before) / calls)
    return {name: values[1:] for name, values in found.items()}  # the first block warms up


def _print(what: str, found: dict[str, list[float]]) -> None:
    ours = found["batch-controller"]
    print(f"{what}: client CPU per call, median of {BLOCKS} blocks")
    for name, values in found.items():
        ratios = [theirs / mine for theirs, mine in zip(values, ours, strict=True)]
        print(f"  {name:24} {median(values):7.3f} ms   {median(ratios):5.1f} x")


def _arguments(number: int) -> dict[str, Any]:
    body = json.loads(request(number))
    del body["requestId"]
    return dict(body)


async def _run() -> None:
    with simulated_aws() as sim:
        keys = {"aws_access_key_id": "simulated", "aws_secret_access_key": "simulated"}
        where = {"endpoint_url": sim.url, "region_name": sim.ready["region"], **keys}
        threaded = boto3.client("batch", **where)
        session = get_session()
        async with (
            session.create_client("batch", **where) as plain,
            session.create_client("batch", config=submit_config(timeout_s=10, connections=8), **where) as submit,
            session.create_client("batch", config=read_config(connections=8), **where) as read,
        ):
            ours = Batch(
                submit_client=submit,
                client=read,
                clock=SystemClock(),
                observe=lambda *_: None,
                fetch_credentials=session.get_credentials,
            )
            ids = [(await plain.submit_job(**_arguments(number)))["jobId"] for number in range(100)]

            async def describe_ours() -> None:
                assert len(await ours.describe_jobs(ids)) == 100

            async def describe_plain() -> None:
                assert len((await plain.describe_jobs(jobs=ids))["jobs"]) == 100

            async def describe_threaded() -> None:
                assert len(threaded.describe_jobs(jobs=ids)["jobs"]) == 100

            async def submit_ours() -> None:
                await ours.submit_job(_arguments(1), timeout_s=10)

            async def submit_plain() -> None:
                await plain.submit_job(**_arguments(1))

            async def submit_threaded() -> None:
                threaded.submit_job(**_arguments(1))

            describes = {
                "batch-controller": describe_ours,
                "aiobotocore, defaults": describe_plain,
                "boto3": describe_threaded,
            }
            submits = {
                "batch-controller": submit_ours,
                "aiobotocore, defaults": submit_plain,
                "boto3": submit_threaded,
            }
            _print("DescribeJobs of 100", await _measured(describes, DESCRIBES))
            _print("SubmitJob", await _measured(submits, SUBMITS))


def calls() -> None:
    """Prints CPU per DescribeJobs of 100 jobs and per SubmitJob, and the ratios."""
    asyncio.run(_run())
