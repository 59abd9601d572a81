"""Amazon SQS, simulated: the operations, over queues that cost O(log n) per message.

``receive`` never waits: long polling is the faces' part, who ask again when ``on_visible`` names the queue or when
``next_visible_at`` has come. Errors and limits as in the API reference (2012-11-05).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from controller.core import limits
from controller.simaws.answers import AwsError
from controller.simaws.faults import FaultPlan
from controller.simaws.history import History, MessageAction
from controller.simaws.sqs_encoding import (
    attributes_md5,
    check_attributes,
    check_body,
    md5,
    message_size,
    read_receipt_handle,
    receipt_handle,
)
from controller.simaws.sqs_messages import SqsQueue, StandardOrder, StoredMessage

Shape = dict[str, Any]
Request = Mapping[str, Any]

IN_FLIGHT_MAX: Final = 120_000
DEDUPLICATION_S: Final = 300.0
REORDER_DEPTH: Final = 100
_ENTRY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}(?:\.fifo)?")
_SETTINGS: Final[Mapping[str, tuple[str, float, float]]] = {
    "VisibilityTimeout": ("visibility_s", 0, limits.SQS_VISIBILITY_S_MAX),
    "MessageRetentionPeriod": ("retention_s", 60, 1_209_600),
    "DelaySeconds": ("delay_s", 0, 900),
    "ReceiveMessageWaitTimeSeconds": ("wait_s", 0, limits.SQS_WAIT_S_MAX),
    "MaximumMessageSize": ("message_bytes_max", 1_024, limits.SQS_MESSAGE_BYTES_MAX),
}


class Sqs:
    """All queues of an account in one Region."""

    def __init__(
        self, *, account: str, region: str, rng: random.Random, faults: FaultPlan, history: History, base_url: str = ""
    ) -> None:
        self.account, self.region = account, region
        self.base_url = base_url or f"https://sqs.{region}.amazonaws.com"
        self.queues: dict[str, SqsQueue] = {}
        self.on_visible: Callable[[str], None] | None = None
        """Told a queue's name when a message has become visible in it."""
        self._rng, self._faults, self._history = rng, faults, history
        self._serial = 0
        self.operations: Final[Mapping[str, Callable[[Request, float], Shape]]] = {
            "CreateQueue": self.create_queue,
            "GetQueueUrl": self.get_queue_url,
            "ListQueues": self.list_queues,
            "GetQueueAttributes": self.get_queue_attributes,
            "SetQueueAttributes": self.set_queue_attributes,
            "SendMessage": self.send_message,
            "SendMessageBatch": self.send_message_batch,
            "ReceiveMessage": self.receive_message,
            "DeleteMessage": self.delete_message,
            "DeleteMessageBatch": self.delete_message_batch,
            "ChangeMessageVisibility": self.change_message_visibility,
            "ChangeMessageVisibilityBatch": self.change_message_visibility_batch,
            "PurgeQueue": self.purge_queue,
        }

    # --- queues -------------------------------------------------------------------------------------------

    def url(self, name: str) -> str:
        return f"{self.base_url}/{self.account}/{name}"

    def find(self, request: Request) -> SqsQueue:
        """The queue a request names by URL (its last part is the name)."""
        queue = self.queues.get(str(request.get("QueueUrl", "")).rpartition("/")[2])
        if queue is None:
            raise AwsError("QueueDoesNotExist", "The specified queue does not exist.")
        return queue

    def create_queue(self, request: Request, now: float) -> Shape:
        name, attributes = str(request.get("QueueName", "")), dict(request.get("Attributes") or {})
        is_fifo = name.endswith(".fifo")
        if not _QUEUE_NAME.fullmatch(name) or is_fifo != (str(attributes.get("FifoQueue", "false")).lower() == "true"):
            text = "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"
            raise AwsError("InvalidParameterValue", text)
        known = self.queues.get(name)
        if known is not None:
            if any(known.attributes.get(key, value) != value for key, value in attributes.items()):
                text = "A queue already exists with the same name and a different value for an attribute"
                raise AwsError("QueueNameExists", text)
            return {"QueueUrl": self.url(name)}
        queue = SqsQueue(name, f"arn:aws:sqs:{self.region}:{self.account}:{name}", is_fifo, created_at=now)
        self._set(queue, attributes)
        self.queues[name] = queue
        return {"QueueUrl": self.url(name)}

    def get_queue_url(self, request: Request, now: float) -> Shape:
        return {"QueueUrl": self.url(self.find({"QueueUrl": request.get("QueueName")}).name)}

    def list_queues(self, request: Request, now: float) -> Shape:
        prefix = str(request.get("QueueNamePrefix") or "")
        return {"QueueUrls": [self.url(name) for name in sorted(self.queues) if name.startswith(prefix)]}

    def get_queue_attributes(self, request: Request, now: float) -> Shape:
        queue = self.find(request)
        queue.refresh(now)
        values = {
            "QueueArn": queue.arn,
            "ApproximateNumberOfMessages": str(len(queue.messages) - queue.in_flight - queue.delayed),
            "ApproximateNumberOfMessagesNotVisible": str(queue.in_flight),
            "ApproximateNumberOfMessagesDelayed": str(queue.delayed),
            "CreatedTimestamp": str(int(queue.created_at)),
            **{name: str(int(getattr(queue, member))) for name, (member, _, _) in _SETTINGS.items()},
            **queue.attributes,
        }
        names = request.get("AttributeNames") or []
        return {"Attributes": {n: v for n, v in values.items() if "All" in names or n in names}}

    def set_queue_attributes(self, request: Request, now: float) -> Shape:
        self._set(self.find(request), dict(request.get("Attributes") or {}))
        return {}

    def purge_queue(self, request: Request, now: float) -> Shape:
        self.find(request).clear()
        return {}

    def forget_all(self) -> None:
        """Drop every message of every queue."""
        for queue in self.queues.values():
            queue.clear()
            queue.deduplicated.clear()

    def _set(self, queue: SqsQueue, attributes: Mapping[str, str]) -> None:
        for name, value in attributes.items():
            if name in _SETTINGS:
                member, least, most = _SETTINGS[name]
                number = self._number(name, value, least, most, code="InvalidAttributeValue")
                setattr(queue, member, number)
            elif name == "RedrivePolicy":
                queue.redrive = self._redrive(value)
        queue.attributes.update({name: str(value) for name, value in attributes.items()})

    def _number(
        self, name: str, value: object, least: float, most: float, *, code: str = "InvalidParameterValue"
    ) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise AwsError(code, f"Value {value} for parameter {name} is invalid. Reason: Must be {least} to {most}.")
        return number

    def _redrive(self, value: str) -> tuple[str, int] | None:
        if not value:
            return None
        try:
            policy = json.loads(value)
            return str(policy["deadLetterTargetArn"]), int(policy["maxReceiveCount"])
        except (ValueError, KeyError, TypeError) as error:
            raise AwsError("InvalidAttributeValue", "Invalid value for the parameter RedrivePolicy.") from error

    # --- sending ------------------------------------------------------------------------------------------

    def send_message(self, request: Request, now: float) -> Shape:
        return self._send(self.find(request), request, now)

    def send_message_batch(self, request: Request, now: float) -> Shape:
        queue, entries = self.find(request), self._entries(request)
        sizes = [message_size(str(e.get("MessageBody", "")), e.get("MessageAttributes")) for e in entries]
        if sum(sizes) > limits.SQS_MESSAGE_BYTES_MAX:
            text = f"Batch requests cannot be longer than 1048576 bytes. You have sent {sum(sizes)} bytes."
            raise AwsError("BatchRequestTooLong", text)
        return self._each(entries, lambda entry: self._send(queue, entry, now))

    def deliver(self, name: str, body: str, now: float) -> str | None:
        """Put a message into a queue on a service's behalf; its id, or None if there is no such queue."""
        queue = self.queues.get(name)
        if queue is None:
            return None
        group = {"MessageGroupId": "events", "MessageDeduplicationId": str(self._serial)} if queue.is_fifo else {}
        return str(self._send(queue, {"MessageBody": body, **group}, now)["MessageId"])

    def _send(self, queue: SqsQueue, entry: Request, now: float) -> Shape:
        body, attributes = check_body(entry.get("MessageBody")), entry.get("MessageAttributes") or None
        check_attributes(attributes)
        if message_size(body, attributes) > queue.message_bytes_max:
            rule = f"Message must be shorter than {int(queue.message_bytes_max)} bytes."
            raise AwsError("InvalidParameterValue", f"One or more parameters are invalid. Reason: {rule}")
        message = self._message(body, attributes, entry, now)
        delay_s = self._number("DelaySeconds", entry.get("DelaySeconds", queue.delay_s), 0, 900)
        if queue.is_fifo:
            known = self._deduplicate(queue, message, now)
            if known is not None:
                return self._sent(known)
            delay_s = queue.delay_s
        queue.put(message, visible_at=now + delay_s, now=now)
        self._history.message(now, MessageAction.SENT, queue.name, message.message_id)
        if delay_s == 0:
            self._woke(queue)
        return self._sent(message)

    def _message(self, body: str, attributes: Request | None, entry: Request, now: float) -> StoredMessage:
        self._serial += 1
        return StoredMessage(
            self._serial,
            self._new_id(),
            body,
            md5(body),
            now,
            attributes,
            attributes_md5(attributes),
            entry.get("MessageGroupId"),
            entry.get("MessageDeduplicationId"),
            self.account,
        )

    def _sent(self, message: StoredMessage) -> Shape:
        shape: Shape = {"MessageId": message.message_id, "MD5OfMessageBody": message.md5}
        if message.attributes_md5 is not None:
            shape["MD5OfMessageAttributes"] = message.attributes_md5
        if message.deduplication_id is not None and message.group is not None:
            shape["SequenceNumber"] = f"{message.serial:020d}"
        return shape

    def _deduplicate(self, queue: SqsQueue, message: StoredMessage, now: float) -> StoredMessage | None:
        """The message sent before with the same deduplication id, within 5 minutes, even if deleted since."""
        if message.group is None:
            raise AwsError("MissingParameter", "The request must contain the parameter MessageGroupId.")
        if message.deduplication_id is None:
            if queue.attributes.get("ContentBasedDeduplication", "false").lower() != "true":
                text = (
                    "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided"
                )
                raise AwsError("InvalidParameterValue", text)
            message.deduplication_id = f"md5-{message.md5}"
        seen = queue.deduplicated
        while seen and next(iter(seen.values()))[0] <= now - DEDUPLICATION_S:
            del seen[next(iter(seen))]
        if message.deduplication_id in seen:
            return seen[message.deduplication_id][1]
        seen[message.deduplication_id] = (now, message)
        return None

    # --- receiving ----------------------------------------------------------------------------------------

    def receive_message(self, request: Request, now: float) -> Shape:
        """Whatever is visible now, up to MaxNumberOfMessages; no ``Messages`` member if that is nothing."""
        queue = self.find(request)
        most = int(self._number("MaxNumberOfMessages", request.get("MaxNumberOfMessages", 1), 1, limits.SQS_BATCH_MAX))
        self._number("WaitTimeSeconds", request.get("WaitTimeSeconds", 0), 0, limits.SQS_WAIT_S_MAX)
        asked_s = request.get("VisibilityTimeout", queue.visibility_s)
        visibility_s = self._number("VisibilityTimeout", asked_s, 0, limits.SQS_VISIBILITY_S_MAX)
        queue.refresh(now)
        if queue.in_flight >= IN_FLIGHT_MAX:
            if queue.is_fifo:
                return {}
            raise AwsError("OverLimit", "Too many messages in flight.", status=403)
        if self._faults.chance(self._faults.service.sqs_empty_receive_p):
            return {}
        if self._faults.chance(self._faults.service.sqs_reorder_p):
            self._shuffle(queue)
        messages = self._take(queue, most, visibility_s, now)
        queue.visible.settle()
        if visibility_s == 0:
            queue.refresh(now)
        return {"Messages": [self._received(queue, message, request) for message in messages]} if messages else {}

    def wait_s(self, request: Request) -> float:
        """How long a receive may wait for its first message."""
        return float(request.get("WaitTimeSeconds", self.find(request).wait_s))

    def next_visible_at(self, request: Request) -> float | None:
        """When a hidden message of the queue comes back, if one does."""
        return self.find(request).next_visible_at()

    def _take(self, queue: SqsQueue, most: int, visibility_s: float, now: float) -> list[StoredMessage]:
        taken: list[StoredMessage] = []
        while len(taken) < most:
            message = queue.take(now, visibility_s)
            if message is None:
                break
            if queue.redrive is not None and message.received > queue.redrive[1]:
                self._dead_letter(queue, message, now)
                continue
            self._history.message(now, MessageAction.RECEIVED, queue.name, message.message_id)
            taken.append(message)
        for message in taken:
            if not queue.is_fifo and self._faults.chance(self._faults.service.sqs_duplicate_p):
                queue.reveal(message)
                self._history.message(now, MessageAction.DUPLICATED, queue.name, message.message_id)
                self._woke(queue)
        return taken

    def _received(self, queue: SqsQueue, message: StoredMessage, request: Request) -> Shape:
        shape: Shape = {
            "MessageId": message.message_id,
            "ReceiptHandle": receipt_handle(queue.name, message.serial, message.received),
            "MD5OfBody": message.md5,
            "Body": message.body,
        }
        asked = [*(request.get("MessageSystemAttributeNames") or ()), *(request.get("AttributeNames") or ())]
        if asked:
            system = self._system_attributes(message)
            shape["Attributes"] = {n: v for n, v in system.items() if "All" in asked or n in asked}
        names = request.get("MessageAttributeNames") or ()
        if names and message.attributes:
            found = {n: v for n, v in message.attributes.items() if _is_asked(n, names)}
            if found:
                shape["MessageAttributes"] = found
                shape["MD5OfMessageAttributes"] = attributes_md5(found)
        return shape

    def _system_attributes(self, message: StoredMessage) -> dict[str, str]:
        first = message.first_received_at if message.first_received_at is not None else message.received_at
        attributes = {
            "SenderId": message.sender,
            "SentTimestamp": str(round(message.sent_at * 1000)),
            "ApproximateReceiveCount": str(message.received),
            "ApproximateFirstReceiveTimestamp": str(round(first * 1000)),
        }
        if message.group is not None:
            attributes["MessageGroupId"] = message.group
        if message.group is not None and message.deduplication_id is not None:
            attributes["MessageDeduplicationId"] = message.deduplication_id
            attributes["SequenceNumber"] = f"{message.serial:020d}"
        if message.source_arn is not None:
            attributes["DeadLetterQueueSourceArn"] = message.source_arn
        return attributes

    def _dead_letter(self, queue: SqsQueue, message: StoredMessage, now: float) -> None:
        assert queue.redrive is not None
        target = self.queues.get(queue.redrive[0].rpartition(":")[2])
        queue.discard(message)
        self._history.message(now, MessageAction.DEAD_LETTERED, queue.name, message.message_id)
        if target is None:
            return
        self._serial += 1
        moved = StoredMessage(
            self._serial,
            message.message_id,
            message.body,
            message.md5,
            message.sent_at,
            message.attributes,
            message.attributes_md5,
            message.group,
            message.deduplication_id,
            message.sender,
            queue.arn,
            message.received - 1,
            message.first_received_at,
        )
        target.put(moved, visible_at=now, now=now)
        self._woke(target)

    def _shuffle(self, queue: SqsQueue) -> None:
        if isinstance(queue.visible, StandardOrder):
            waiting = queue.visible.messages
            front = [waiting.popleft() for _ in range(min(REORDER_DEPTH, len(waiting)))]
            self._faults.rng.shuffle(front)
            waiting.extendleft(front)

    # --- deleting and hiding ------------------------------------------------------------------------------

    def delete_message(self, request: Request, now: float) -> Shape:
        self._delete(self.find(request), request, now)
        return {}

    def delete_message_batch(self, request: Request, now: float) -> Shape:
        queue = self.find(request)
        return self._each(self._entries(request), lambda entry: self._delete(queue, entry, now))

    def change_message_visibility(self, request: Request, now: float) -> Shape:
        self._change_visibility(self.find(request), request, now)
        return {}

    def change_message_visibility_batch(self, request: Request, now: float) -> Shape:
        queue = self.find(request)
        return self._each(self._entries(request), lambda entry: self._change_visibility(queue, entry, now))

    def _delete(self, queue: SqsQueue, entry: Request, now: float) -> Shape:
        """With the latest handle the message goes; an older handle is accepted and does nothing."""
        serial, receive = read_receipt_handle(entry.get("ReceiptHandle"), queue.name)
        queue.refresh(now)
        message = queue.messages.get(serial)
        if message is None or message.received != receive:
            return {}
        if queue.is_fifo and not message.is_in_flight:
            text = "Value for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
            raise AwsError("InvalidParameterValue", text)
        self._history.message(now, MessageAction.DELETED, queue.name, message.message_id)
        if not queue.is_fifo and self._faults.chance(self._faults.service.sqs_undelete_p):
            queue.keep_hidden(message, now + self._faults.seconds(self._faults.service.sqs_undelete_s))
            self._history.message(now, MessageAction.DUPLICATED, queue.name, message.message_id)
        else:
            queue.discard(message)
            if queue.is_fifo:
                self._woke(queue)
        return {}

    def _change_visibility(self, queue: SqsQueue, entry: Request, now: float) -> Shape:
        timeout = entry.get("VisibilityTimeout")
        seconds = self._number("VisibilityTimeout", timeout, 0, limits.SQS_VISIBILITY_S_MAX)
        serial, receive = read_receipt_handle(entry.get("ReceiptHandle"), queue.name)
        queue.refresh(now)
        message = queue.messages.get(serial)
        if message is None or message.received != receive or not message.is_in_flight:
            raise AwsError("MessageNotInflight", "The message referred to isn't in flight.")
        if now + seconds > message.received_at + limits.SQS_VISIBILITY_S_MAX:
            text = f"Value {timeout} for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]."  # noqa: E501
            raise AwsError("InvalidParameterValue", text)
        if seconds == 0:
            queue.reveal(message)
            self._woke(queue)
        else:
            queue.hide(message, now + seconds)
        return {}

    # --- batches ------------------------------------------------------------------------------------------

    def _entries(self, request: Request) -> Sequence[Request]:
        entries = request.get("Entries") or []
        if not entries:
            raise AwsError(
                "EmptyBatchRequest", "There should be at least one SendMessageBatchRequestEntry in the request."
            )
        if len(entries) > limits.SQS_BATCH_MAX:
            text = f"Maximum number of entries per request are 10. You have sent {len(entries)}."
            raise AwsError("TooManyEntriesInBatchRequest", text)
        ids = [str(entry.get("Id", "")) for entry in entries]
        if not all(map(_ENTRY_ID.fullmatch, ids)):
            text = "A batch entry id can only contain alphanumeric characters, hyphens and underscores, at most 80."
            raise AwsError("InvalidBatchEntryId", text)
        if len(set(ids)) < len(ids):
            raise AwsError("BatchEntryIdsNotDistinct", "Two or more batch entries in the request have the same Id.")
        return list(entries)

    def _each(self, entries: Sequence[Request], act: Callable[[Request], Shape]) -> Shape:
        """One call's entries, each on its own: 200 with ``Successful`` and ``Failed``."""
        shape: Shape = {"Successful": []}
        for entry in entries:
            try:
                if self._faults.chance(self._faults.service.sqs_entry_fails_p):
                    raise AwsError("InternalError", "We encountered an internal error. Please try again.", status=500)
                shape["Successful"].append({"Id": entry["Id"], **act(entry)})
            except AwsError as error:
                is_sender_fault = error.status < 500
                failure = {"Id": entry["Id"], "Code": error.code, "Message": error.message}
                shape.setdefault("Failed", []).append({**failure, "SenderFault": is_sender_fault})
        return shape

    def _woke(self, queue: SqsQueue) -> None:
        if self.on_visible is not None:
            self.on_visible(queue.name)

    def _new_id(self) -> str:
        digits = f"{self._rng.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{digits[16:20]}-{digits[20:]}"


def _is_asked(name: str, names: Sequence[str]) -> bool:
    return any(n in ("All", ".*", name) or (n.endswith(".*") and name.startswith(n[:-2])) for n in names)
