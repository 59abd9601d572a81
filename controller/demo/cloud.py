"""The demonstration's own hands on the simulated AWS: sends messages, and asks the simulator what happened.

Plain HTTP, as SQS's wire protocol wants it: an SDK would look at profiles, certificates and proxies of this machine.
``history`` is the independent witness of the proof: it is what AWS recorded, not what the controller says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from controller.core.limits import REQUEST_ID_TAG, SQS_BATCH_MAX, SQS_MESSAGE_BYTES_MAX
from controller.demo.children import REJECTED, REQUESTS

TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the simulated AWS has recorded."""

    jobs_per_name: Counter[str]
    jobs_per_request: Counter[str]
    """By the request-id tag."""
    statuses: Counter[str]
    """Jobs now, by AWS Batch's status."""
    submits: Counter[str]
    """SubmitJob calls by outcome: ``ok``, an error's code, or what was done to the call on purpose."""
    submits_per_second_max: int
    """Most SubmitJob calls in any window of one second, as they arrived."""
    messages: Counter[str]
    """Of the request queue: sent, received, deleted, duplicated."""
    messages_left: int
    dead_letters: int
    """Messages in the dead-letter queue."""

    @property
    def jobs(self) -> int:
        return sum(self.jobs_per_name.values())

    @property
    def answers_lost(self) -> int:
        """SubmitJob calls that made a job and whose answer never arrived."""
        return self.submits["reset_after"]


class Cloud:
    """One simulated account."""

    def __init__(self, ready: Mapping[str, Any]) -> None:
        """``ready`` is the line that the simulator prints when it serves."""
        self.url: str = ready["url"]
        self.region: str = ready["region"]
        self.queue_url: str = ready["sqs_queues"][REQUESTS]
        self._open = build_opener(ProxyHandler({})).open

    def send(self, bodies: Sequence[str]) -> list[str]:
        """Send messages to the request queue; their MessageIds, in order."""
        message_ids: list[str] = []
        for chunk in _chunks(bodies):
            entries = [{"Id": str(number), "MessageBody": body} for number, body in enumerate(chunk)]
            answer = self._send_message_batch({"QueueUrl": self.queue_url, "Entries": entries})
            assert not answer.get("Failed"), answer["Failed"]
            by_entry = {each["Id"]: each["MessageId"] for each in answer["Successful"]}
            message_ids += [by_entry[entry["Id"]] for entry in entries]
        return message_ids

    def deliver_again(self, share: float) -> None:
        """From now on SQS delivers this share of the messages twice."""
        self._control("faults", body={"service": {"sqs_duplicate_p": share}})

    def lose_answers(self, share: float) -> None:
        """From now on this share of SubmitJob calls make a job and never get their answer."""
        self._control("faults", body={"calls": {"SubmitJob": {"reset_after": share}}})

    def lose_nothing(self) -> None:
        """From now on nothing goes wrong."""
        self._control("faults", method="DELETE")

    def queues(self) -> tuple[int, int]:
        """Messages in the request queue (waiting and in flight) and in the dead-letter queue."""
        queues = self._control("stats")["sqs_queues"]
        return queues[REQUESTS]["messages"], queues[REJECTED]["messages"]

    def history(self) -> History:
        calls = self._control("history/calls", operation="SubmitJob")
        statuses: Counter[str] = Counter()
        for queue in self._control("stats")["job_queues"].values():
            statuses.update(queue["jobs"])
        left, dead = self.queues()
        return History(
            jobs_per_name=Counter(self._control("history/names")["counts"]),
            jobs_per_request=Counter(self._control("history/names", tag=REQUEST_ID_TAG)["counts"]),
            statuses=statuses,
            submits=Counter(calls["calls"]["SubmitJob"]),
            submits_per_second_max=calls["in_window_max"],
            messages=Counter(self._control("history/messages", queue=REQUESTS)["messages"]),
            messages_left=left,
            dead_letters=dead,
        )

    def get(self, url: str) -> str:
        """GET a page of this machine as text; raises OSError."""
        with self._open(url, timeout=TIMEOUT_S) as answer:
            return str(answer.read().decode())

    def _send_message_batch(self, body: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.SendMessageBatch"}
        request = Request(self.url, data=json.dumps(body).encode(), headers=headers)  # noqa: S310 - 127.0.0.1
        with self._open(request, timeout=TIMEOUT_S) as answer:
            return json.load(answer)

    def _control(
        self, path: str, *, body: Mapping[str, Any] | None = None, method: str | None = None, **query: str
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.url}/_sim/{path}?{urlencode(query)}"
        with self._open(Request(url, data=data, method=method), timeout=TIMEOUT_S) as answer:  # noqa: S310 - 127.0.0.1
            return json.load(answer)


def _chunks(bodies: Sequence[str]) -> list[list[str]]:
    """At most ten messages, and less than SQS's limit of bytes, per call."""
    chunks: list[list[str]] = []
    size = 0
    for body in bodies:
        length = len(body.encode())
        if not chunks or len(chunks[-1]) == SQS_BATCH_MAX or size + length > SQS_MESSAGE_BYTES_MAX:
            chunks.append([])
            size = 0
        chunks[-1].append(body)
        size += length
    return chunks
