"""A server with ready answers: ``python -m benchmarks.canned`` prints its port and serves until its input ends.

The simulated AWS computes what it answers, which would hide what a client costs: it runs on the other core, but a call
that waits for it is a call in which the client's caches grow cold. This one looks up bytes. It knows DescribeJobs (jobs
of about 2.5 KB, as a job with an environment, resources, secrets and an attempt has; see ``job``), SubmitJob,
ReceiveMessage (ten messages, or from the queue ``empty`` none after a second) and GetCallerIdentity, and reads no more
of a request than where it ends and which ids it names. ``GET /describes`` tells how many DescribeJobs there were.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from typing import Any, Final, Self
from urllib.request import urlopen

ACCOUNT: Final = "123456789012"
REGION: Final = "eu-central-1"
KEPT_MAX: Final = 1_200
"""Answers that are kept, of 250 KB each."""
_IDS: Final = re.compile(rb'"([0-9a-f-]{36})"')
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

# 25 % RUNNABLE, 3 % STARTING, 60 % RUNNING, 9 % SUCCEEDED, 3 % FAILED
_SHARES: Final = (("RUNNABLE", 25), ("STARTING", 28), ("RUNNING", 88), ("SUCCEEDED", 97), ("FAILED", 100))


def job_id(number: int) -> str:
    """Job ids tell their number, and the number its status (``status_of``)."""
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def status_of(number: int) -> str:
    return next(status for status, bound in _SHARES if number * 37 % 100 < bound)


def job(number: int, status: str) -> dict[str, Any]:
    """One JobDetail of about 2.5 KB."""
    identifier, is_final = job_id(number), status in ("SUCCEEDED", "FAILED")
    has_run = is_final or status == "RUNNING"
    log_stream = f"work/default/{number:032x}"
    exit_code = {"exitCode": int(status == "FAILED")} if is_final else {}
    times = {"startedAt": 1_790_000_100_000} if has_run else {}
    times |= {"stoppedAt": 1_790_000_900_000} if is_final else {}
    task = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/default/{number:032x}"
    running = {"logStreamName": log_stream, "taskArn": task} if has_run else {}
    return {
        "jobArn": f"arn:aws:batch:{REGION}:{ACCOUNT}:job/{identifier}",
        "jobName": f"align-{number}-0123456789ab",
        "jobId": identifier,
        "jobQueue": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/high",
        "status": status,
        "shareIdentifier": "genomics",
        "schedulingPriority": 0,
        "attempts": [
            {
                "container": {
                    "containerInstanceArn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:container-instance/default/{number:032x}",
                    **running,
                    **exit_code,
                    "networkInterfaces": [],
                },
                "statusReason": "Essential container in task exited",
                **times,
            }
        ]
        if is_final
        else [],
        "statusReason": "Essential container in task exited" if is_final else "",
        "createdAt": 1_790_000_000_000,
        "retryStrategy": {"attempts": 3, "evaluateOnExit": []},
        **times,
        "dependsOn": [],
        "jobDefinition": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-definition/work:7",
        "parameters": {"sample": f"s3://samples/{number}/reads.bam", "reference": "GRCh38"},
        "container": {
            "image": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/work:2026.11",
            "command": ["run", "--sample", str(number), "--threads", "8"],
            "jobRoleArn": f"arn:aws:iam::{ACCOUNT}:role/work",
            "executionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/execution",
            "volumes": [],
            "environment": [{"name": f"SETTING_{n}", "value": f"value-{n}-{'x' * 24}"} for n in range(12)],
            "mountPoints": [],
            "ulimits": [],
            **running,
            **exit_code,
            "networkInterfaces": [],
            "resourceRequirements": [{"type": "VCPU", "value": "8"}, {"type": "MEMORY", "value": "16384"}],
            "secrets": [
                {"name": "TOKEN", "valueFrom": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:token-{n}"}
                for n in range(2)
            ],
        },
        "tags": {"batch-controller/request-id": f"request-{number}", "team": "genomics"},
        "propagateTags": False,
        "platformCapabilities": ["EC2"],
        "eksAttempts": [],
        "isCancelled": False,
        "isTerminated": False,
    }


def describe_answer(numbers: list[int]) -> bytes:
    """The body of a DescribeJobs answer."""
    return json.dumps({"jobs": [job(number, status_of(number)) for number in numbers]}, separators=(",", ":")).encode()


def _receive_answer() -> bytes:
    """Ten requests of about 900 bytes."""
    environment = [{"name": f"SETTING_{n}", "value": f"value-{n}-{'x' * 24}"} for n in range(8)]
    messages = [
        {
            "MessageId": job_id(number),
            "ReceiptHandle": f"handle-{number:0128x}",
            "MD5OfBody": f"{number:032x}",
            "Body": json.dumps({"requestId": str(number), "containerOverrides": {"environment": environment}}),
            "Attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1790000000000"},
        }
        for number in range(10)
    ]
    return json.dumps({"Messages": messages}).encode()


class _Served(asyncio.Protocol):
    """One connection: HTTP/1.1, kept alive."""

    kept: Final[dict[bytes, bytes]] = {}
    """Answers by request body: the same hundred is asked for again and again."""
    queues = json.dumps(
        {
            "jobQueues": [
                {
                    "jobQueueName": "high",
                    "jobQueueArn": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/high",
                    "state": "ENABLED",
                    "status": "VALID",
                }
            ]
        }
    ).encode()
    describes = 0
    caller = (
        "<GetCallerIdentityResponse><GetCallerIdentityResult>"
        f"<Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
    ).encode()
    received = _receive_answer()
    submitted = json.dumps({"jobId": job_id(1), "jobName": "align-1", "jobArn": f"arn:aws:batch:::job/{job_id(1)}"})

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            found = _LENGTH.search(head)
            whole = end + 4 + (int(found.group(1)) if found else 0)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            if b"ReceiveMessage" in head and b"/empty" in body:
                asyncio.get_running_loop().call_later(1.0, self._write, b"{}")
            else:
                self._write(self._answer(head, body))

    def _write(self, answer: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nx-amzn-RequestId: 1\r\n\r\n%b"
            % (len(answer), answer)
        )

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if b"/v1/describejobs" in head[:64]:
            _Served.describes += 1
            answer = self.kept.get(body)
            if answer is None:
                answer = describe_answer([int(each[:8], 16) for each in _IDS.findall(body)])
                if len(self.kept) < KEPT_MAX:
                    self.kept[body] = answer
            return answer
        if b"/v1/describejobqueues" in head[:64]:
            return self.queues
        if head.startswith(b"GET"):
            return b"%d" % self.describes
        if b"GetCallerIdentity" in body:
            return self.caller
        return self.received if b"ReceiveMessage" in head else self.submitted.encode()


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Served, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


class CannedAws:
    """Context manager: the server as a process of its own."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.canned"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"
        self.queue_urls = {"requests": f"{self.url}/{ACCOUNT}/empty"}
        self.ready = {"region": REGION, "account": ACCOUNT}
        return self

    def describes(self) -> int:
        """DescribeJobs calls so far."""
        with urlopen(f"{self.url}/describes", timeout=10) as answer:
            return int(answer.read())

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


if __name__ == "__main__":
    asyncio.run(_serve())
