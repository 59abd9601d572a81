"""Send sample requests of several kinds to a queue of the simulated AWS, at a steady rate, then end.

Run by deploy/compose.yaml in the controller's image, on the standard library alone. Every request has an id of its own,
so that a second run sends new ones. Not for AWS: it signs nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import time
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

WAIT_S: Final = 60
KINDS: Final = {"plain": 80, "memory": 5, "failing": 5, "array": 3, "urgent": 3, "duplicate": 3, "invalid": 1}
"""Of a hundred."""


def request(kind: str, number: int, run: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "requestId": f"sample-{run}-{number}",
        "jobName": f"sample-{kind}",
        "jobQueue": "high" if number % 3 else "low",
        "jobDefinition": "work",
    }
    if kind == "memory":
        made["containerOverrides"] = {"environment": [{"name": "SIM_ENDING", "value": "out-of-memory"}]}
    elif kind == "failing":
        made["containerOverrides"] = {"environment": [{"name": "SIM_ENDING", "value": "application"}]}
        made["retryStrategy"] = {"attempts": 2}
    elif kind == "array":
        made["arrayProperties"] = {"size": 5}
    elif kind == "urgent":
        made["priority"] = 100
    elif kind == "invalid":
        made["jobQueue"] = ""
    return made


def call(endpoint: str, operation: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{operation}"}
    with urlopen(Request(endpoint, json.dumps(body).encode(), headers), timeout=10) as answer:
        return json.load(answer)


def queue_url(endpoint: str, name: str) -> str:
    """Waits for the end point: it may be starting."""
    end = time.monotonic() + WAIT_S
    while True:
        try:
            return str(call(endpoint, "GetQueueUrl", {"QueueName": name})["QueueUrl"])
        except (URLError, ConnectionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True, help="of the simulated AWS")
    parser.add_argument("--queue", required=True, help="name of the SQS queue")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rate", type=float, default=5.0, help="messages per second")
    options = parser.parse_args()
    url, run = queue_url(options.endpoint, options.queue), secrets.token_hex(4)
    chance = random.Random(run)
    bodies: list[dict[str, Any]] = []
    for number in range(options.count):
        (kind,) = chance.choices(list(KINDS), list(KINDS.values()))
        is_duplicate = kind == "duplicate" and bodies
        bodies.append(chance.choice(bodies) if is_duplicate else request(kind, number, run))
        call(options.endpoint, "SendMessage", {"QueueUrl": url, "MessageBody": json.dumps(bodies[-1])})
        time.sleep(1 / options.rate)
    print(f"sent {options.count} messages as sample-{run}-*", flush=True)


if __name__ == "__main__":
    main()
