"""CPU of one call as the application makes it, against what a user would otherwise run, and against the floor.

Plain aiobotocore, a boto3 loop, and for DescribeJobs a blocking socket that reads the same bytes and decodes them into
the same members: less than that can't be done in Python.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import boto3
import msgspec
from aiobotocore.session import get_session

from benchmarks.canned import REGION, CannedAws, job_id
from benchmarks.measure import Blocks, Table, full_collections, interleaved, watched_steps
from benchmarks.served import request
from controller.adapters import batch_decode
from controller.adapters.aws import Aws, open_aws
from controller.adapters.batch import Batch
from controller.adapters.clock import SystemClock
from controller.adapters.sqs import Queue
from controller.metrics import Metrics

BLOCKS = 15
OURS, PLAIN, THREADED, FLOOR = "batch-controller", "aiobotocore, defaults", "boto3", "socket and msgspec"


@contextmanager
def sdk_environment(url: str) -> Iterator[None]:
    """What the SDK reads, so that the clients are those that the application opens."""
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "canned", "AWS_SECRET_ACCESS_KEY": "canned"}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Aws]:
    with sdk_environment(url):
        async with open_aws(
            region=REGION,
            environment=os.environ,
            queue_urls=[f"{url}/123456789012/requests"],
            submit_timeout_s=10,
            submit_connections=32,
            batch_connections=24,
            sqs_connections=18,
        ) as aws:
            yield aws


class Floor:
    """DescribeJobs with nothing around it."""

    def __init__(self, port: int, ids: list[str]) -> None:
        body = json.dumps({"jobs": ids}).encode()
        self._request = (
            b"POST /v1/describejobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._decoder = msgspec.json.Decoder(batch_decode.Answer)
        self._buffer = bytearray(1 << 20)

    async def describe(self) -> None:
        self._socket.sendall(self._request)
        view, length, whole = memoryview(self._buffer), 0, 0
        while not whole or length < whole:
            length += self._socket.recv_into(view[length:])
            if not whole and (end := self._buffer.find(b"\r\n\r\n", 0, length)) >= 0:
                head = bytes(view[:end]).lower()
                whole = end + 4 + int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        assert len(self._decoder.decode(view[end + 4 : whole]).jobs) == 100


async def _run(table: Table) -> None:
    with CannedAws() as canned:
        where: dict[str, Any] = {"endpoint_url": canned.url, "region_name": REGION}
        where |= {"aws_access_key_id": "canned", "aws_secret_access_key": "canned"}
        threaded = boto3.client("batch", **where)
        session = get_session()
        queue_url = f"{canned.url}/123456789012/requests"
        async with (
            session.create_client("batch", **where) as plain,
            session.create_client("sqs", **where) as plain_sqs,
            opened(canned.url) as aws,
        ):
            observe = Metrics().observe_call
            ours = Batch(submit_client=aws.batch_submit, client=aws.batch, clock=SystemClock(), observe=observe)
            queue = Queue(url=queue_url, client=aws.sqs(queue_url), clock=SystemClock(), observe=observe)
            ids = [job_id(number) for number in range(100)]
            floor = Floor(canned.port, ids)
            arguments = dict(json.loads(request(1)))
            del arguments["requestId"]

            async def describe_ours() -> None:
                assert len(await ours.describe_jobs(ids)) == 100

            async def describe_plain() -> None:
                assert len((await plain.describe_jobs(jobs=ids))["jobs"]) == 100

            async def describe_threaded() -> None:
                assert len(threaded.describe_jobs(jobs=ids)["jobs"]) == 100

            async def submit_ours() -> None:
                await ours.submit_job(arguments, timeout_s=10)

            async def submit_plain() -> None:
                await plain.submit_job(**arguments)

            async def submit_threaded() -> None:
                threaded.submit_job(**arguments)

            async def receive_ours() -> None:
                assert len(await queue.receive(max_messages=10, wait_s=20, visibility_timeout_s=60)) == 10

            async def receive_plain() -> None:
                answer = await plain_sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=20)
                assert len(answer["Messages"]) == 10

            describes = await interleaved(
                {
                    OURS: (describe_ours, 40),
                    PLAIN: (describe_plain, 8),
                    THREADED: (describe_threaded, 8),
                    FLOOR: (floor.describe, 100),
                },
                blocks=BLOCKS,
            )
            _told(table, "DescribeJobs of 100", describes)
            table.at_least(
                "DescribeJobs of 100: less CPU than plain aiobotocore", describes.ratio(PLAIN, OURS), 9, " x"
            )
            table.at_most("DescribeJobs of 100: CPU against the floor", describes.ratio(OURS, FLOOR), 4, " x")
            gc.collect()
            before = full_collections()
            with watched_steps() as steps:
                for _ in range(1_000):
                    await describe_ours()
            table.at_most("full garbage collections in 1,000 calls", full_collections() - before, 0, digits=0)
            table.at_most("longest step of the event loop in them", 1000 * steps.longest_s, 3, " ms")
            submits = await interleaved(
                {OURS: (submit_ours, 100), PLAIN: (submit_plain, 60), THREADED: (submit_threaded, 60)}, blocks=BLOCKS
            )
            _told(table, "SubmitJob", submits)
            table.at_least(
                "SubmitJob: less CPU than plain aiobotocore", submits.ratio(PLAIN, OURS), 1.3, " x", digits=2
            )
            receives = await interleaved({OURS: (receive_ours, 100), PLAIN: (receive_plain, 60)}, blocks=BLOCKS)
            _told(table, "ReceiveMessage of 10", receives)


def _told(table: Table, what: str, blocks: Blocks) -> None:
    for name in blocks.values:
        against = "" if name == OURS else f", {blocks.ratio(name, OURS):.2f} x"
        table.told(f"{what}: {name}", f"{blocks.ms(name):.3f} ms{against}")


def calls(table: Table) -> None:
    """CPU per DescribeJobs of 100 jobs, SubmitJob and ReceiveMessage."""
    asyncio.run(_run(table))
