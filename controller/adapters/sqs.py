"""One SQS queue to consume, behind the MessageSource port.

The SQS client is shared by all queues of a Region (see ``aws.py``). Long polls hold a connection each for up to 20 s:
its pool must have room for every receiver and for the deletes beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from controller.adapters.aws_call import Calls, Observe
from controller.core.errors import Unavailable
from controller.core.limits import SQS_BATCH_MAX, SQS_VISIBILITY_S_MAX, SQS_WAIT_S_MAX
from controller.ports import Clock, Message

RECEIVE_MARGIN_S: Final = 10.0
"""What a ReceiveMessage may take beyond its long poll."""
BATCH_DEADLINE_S: Final = 10.0
"""For deletes: a message held for long is received again."""
MESSAGE_ATTRIBUTES: Final = ("traceparent", "tracestate", "tenant")


def register(events: Any) -> None:
    """Have an SQS client (``client.meta.events``) refuse answers of something else to ReceiveMessage."""
    events.register("before-parse.sqs.ReceiveMessage", _see_json)


class Queue:
    """MessageSource on an aiobotocore SQS client."""

    def __init__(self, *, url: str, client: Any, clock: Clock, observe: Observe) -> None:
        self._url = url
        self._client = client
        self._calls = Calls("sqs", clock=clock, observe=observe)

    @property
    def url(self) -> str:
        return self._url

    async def receive(self, *, max_messages: int, wait_s: float, visibility_timeout_s: int) -> Sequence[Message]:
        """One long poll. SQS counts whole seconds of waiting; a fraction is cut off.

        Cancelling it does not call it off in SQS: what it would have received stays hidden for its visibility timeout.
        """
        assert 1 <= max_messages <= SQS_BATCH_MAX
        assert 0 <= wait_s <= SQS_WAIT_S_MAX
        assert 0 <= visibility_timeout_s <= SQS_VISIBILITY_S_MAX

        async def call() -> Sequence[Message]:
            answer = await self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=max_messages,
                WaitTimeSeconds=int(wait_s),
                VisibilityTimeout=visibility_timeout_s,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"],
                MessageAttributeNames=list(MESSAGE_ATTRIBUTES),
            )
            # Messages is absent when nothing came.
            return [_message(m) for m in answer.get("Messages") or () if m.get("MessageId") and m.get("ReceiptHandle")]

        return await self._calls.send("ReceiveMessage", call, deadline_s=wait_s + RECEIVE_MARGIN_S)

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[str]:
        """A handle counts as deleted only if the answer names it as such."""
        if not receipt_handles:
            return ()
        assert len(receipt_handles) <= SQS_BATCH_MAX
        entries = [{"Id": str(n), "ReceiptHandle": handle} for n, handle in enumerate(receipt_handles)]

        async def call() -> Sequence[str]:
            answer = await self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
            deleted = {entry.get("Id") for entry in answer.get("Successful") or ()}
            return [handle for n, handle in enumerate(receipt_handles) if str(n) not in deleted]

        return await self._calls.send("DeleteMessageBatch", call, deadline_s=BATCH_DEADLINE_S)


def _see_json(*, response_dict: Mapping[str, Any], **_: object) -> None:
    """Read by the SDK, a page of a proxy with HTTP 200 would be an answer without messages, of a queue that is
    reached."""
    if response_dict["status_code"] < 300 and response_dict["body"].strip()[:1] not in (b"", b"{"):
        call = "sqs:ReceiveMessage"
        raise Unavailable(f"{call}: an answer that is not JSON", call=call, code="IncompleteAnswer")


def _message(entry: Mapping[str, Any]) -> Message:
    system = entry.get("Attributes") or {}
    sent_at = _number(system.get("SentTimestamp"))
    attributes = {
        name: value["StringValue"]
        for name, value in (entry.get("MessageAttributes") or {}).items()
        if isinstance(value.get("StringValue"), str)
    }
    return Message(
        message_id=entry["MessageId"],
        receipt_handle=entry["ReceiptHandle"],
        body=entry.get("Body") or "",
        receive_count=_number(system.get("ApproximateReceiveCount")) or 1,
        sent_at=sent_at / 1000 if sent_at is not None else None,
        attributes=attributes,
        group=system.get("MessageGroupId"),
    )


def _number(text: str | None) -> int | None:
    """SQS gives counts and epoch milliseconds as decimal strings."""
    return int(text) if text and text.isdecimal() else None
