"""SimAWS's SQS: delivery, visibility, dead letters, batches, FIFO and its limits, under virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.simaws import AwsError, SimAws


def call(sim: SimAws, operation: str, now: float = 0.0, **arguments: Any) -> dict[str, Any]:
    answer = sim.call(operation, arguments, now=now)
    assert answer.result is not None, answer.error
    return dict(answer.result)


def refusal(sim: SimAws, operation: str, now: float = 0.0, **arguments: Any) -> AwsError:
    error = sim.call(operation, arguments, now=now).error
    assert error is not None
    return error


def queue(attributes: dict[str, str] | None = None, *, name: str = "q") -> tuple[SimAws, str]:
    sim = SimAws(seed=1)
    return sim, sim.add_sqs_queue(name, attributes)


def receive(sim: SimAws, url: str, now: float = 0.0, most: int = 10, **arguments: Any) -> list[dict[str, Any]]:
    return list(
        call(sim, "ReceiveMessage", now, QueueUrl=url, MaxNumberOfMessages=most, **arguments).get("Messages", [])
    )


def send(sim: SimAws, url: str, *bodies: str, now: float = 0.0) -> None:
    for body in bodies:
        call(sim, "SendMessage", now, QueueUrl=url, MessageBody=body)


ELEVEN = [{"Id": f"{n}", "MessageBody": "x"} for n in range(11)]
TOO_LONG = [{"Id": f"{n}", "MessageBody": "x" * 600_000} for n in range(2)]


@pytest.mark.parametrize(
    ("operation", "arguments", "code"),
    [
        ("SendMessage", {"QueueUrl": "http://x/1/none", "MessageBody": "b"}, "QueueDoesNotExist"),
        ("SendMessage", {"MessageBody": ""}, "MissingParameter"),
        ("SendMessage", {"MessageBody": "\x00"}, "InvalidMessageContents"),
        ("SendMessage", {"MessageBody": "x" * 1_048_577}, "InvalidParameterValue"),
        ("SendMessage", {"MessageBody": "x", "DelaySeconds": 901}, "InvalidParameterValue"),
        ("SendMessageBatch", {"Entries": []}, "EmptyBatchRequest"),
        ("SendMessageBatch", {"Entries": ELEVEN}, "TooManyEntriesInBatchRequest"),
        ("SendMessageBatch", {"Entries": [{"Id": "a", "MessageBody": "x"}] * 2}, "BatchEntryIdsNotDistinct"),
        ("SendMessageBatch", {"Entries": [{"Id": "a b", "MessageBody": "x"}]}, "InvalidBatchEntryId"),
        ("SendMessageBatch", {"Entries": TOO_LONG}, "BatchRequestTooLong"),
        ("ReceiveMessage", {"MaxNumberOfMessages": 11}, "InvalidParameterValue"),
        ("ReceiveMessage", {"WaitTimeSeconds": 21}, "InvalidParameterValue"),
        ("ReceiveMessage", {"VisibilityTimeout": 43_201}, "InvalidParameterValue"),
        ("DeleteMessage", {"ReceiptHandle": "nonsense"}, "ReceiptHandleIsInvalid"),
        ("SetQueueAttributes", {"Attributes": {"VisibilityTimeout": "soon"}}, "InvalidAttributeValue"),
        ("CreateQueue", {"QueueName": "a b"}, "InvalidParameterValue"),
    ],
)  # fmt: skip
def test_calls_that_sqs_refuses_are_refused(operation: str, arguments: dict[str, Any], code: str) -> None:
    """Every limit and rule has SQS's own error."""
    sim, url = queue()
    assert refusal(sim, operation, **{"QueueUrl": url, **arguments}).code == code


def test_a_message_is_invisible_while_in_flight_and_comes_back() -> None:
    """A received message is hidden for the visibility timeout, then received again with a raised count."""
    sim, url = queue()
    send(sim, url, "body")
    [first] = receive(sim, url, 0, AttributeNames=["All"])
    assert receive(sim, url, 29.9) == []
    [second] = receive(sim, url, 30, MessageSystemAttributeNames=["ApproximateReceiveCount"])
    assert second["Attributes"] == {"ApproximateReceiveCount": "2"}
    assert first["MessageId"] == second["MessageId"]
    assert first["ReceiptHandle"] != second["ReceiptHandle"]


def test_an_old_handle_deletes_nothing() -> None:
    """DeleteMessage with the handle of an earlier receive succeeds and leaves the message."""
    sim, url = queue()
    send(sim, url, "body")
    [first], [second] = receive(sim, url, 0), receive(sim, url, 30)
    call(sim, "DeleteMessage", 31, QueueUrl=url, ReceiptHandle=first["ReceiptHandle"])
    assert len(receive(sim, url, 61)) == 1
    call(sim, "DeleteMessage", 91, QueueUrl=url, ReceiptHandle=second["ReceiptHandle"])
    assert len(receive(sim, url, 200)) == 1


def test_a_handle_deletes_its_message_even_after_the_timeout() -> None:
    """The latest handle works as long as nobody else received the message."""
    sim, url = queue()
    send(sim, url, "body")
    [message] = receive(sim, url, 0)
    call(sim, "DeleteMessage", 100, QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert receive(sim, url, 101) == []


def test_visibility_can_be_changed_only_in_flight_and_within_twelve_hours() -> None:
    """ChangeMessageVisibility lengthens, shortens to nothing, and is refused once the message is not in flight."""
    sim, url = queue()
    send(sim, url, "body")
    [message] = receive(sim, url, 0)
    handle = {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]}
    call(sim, "ChangeMessageVisibility", 10, **handle, VisibilityTimeout=100)
    assert receive(sim, url, 109) == []
    too_long = refusal(sim, "ChangeMessageVisibility", 109, **handle, VisibilityTimeout=43_200)
    assert too_long.code == "InvalidParameterValue"
    call(sim, "ChangeMessageVisibility", 109, **handle, VisibilityTimeout=0)
    assert refusal(sim, "ChangeMessageVisibility", 109, **handle, VisibilityTimeout=5).code == "MessageNotInflight"
    assert len(receive(sim, url, 109)) == 1


def test_a_batch_fails_by_entry() -> None:
    """A batch call answers 200 and names the entries that failed."""
    sim, url = queue()
    send(sim, url, "body")
    [message] = receive(sim, url)
    entries = [{"Id": "bad", "ReceiptHandle": "x"}, {"Id": "good", "ReceiptHandle": message["ReceiptHandle"]}]
    answer = call(sim, "DeleteMessageBatch", QueueUrl=url, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["good"]
    assert [(entry["Id"], entry["Code"], entry["SenderFault"]) for entry in answer["Failed"]] == [
        ("bad", "ReceiptHandleIsInvalid", True)
    ]


def test_a_message_received_too_often_goes_to_the_dead_letter_queue() -> None:
    """Once received more than maxReceiveCount times, a message is moved instead of being handed out."""
    sim, url = queue()
    dead = sim.add_sqs_queue("dead")
    policy = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead", "maxReceiveCount": 2}
    call(sim, "SetQueueAttributes", QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(policy)})
    send(sim, url, "poison")
    assert len(receive(sim, url, 0)) == len(receive(sim, url, 30)) == 1
    assert receive(sim, url, 60) == []
    [message] = receive(sim, dead, 60, AttributeNames=["All"])
    assert message["Body"] == "poison"
    assert message["Attributes"]["DeadLetterQueueSourceArn"].endswith(":q")


def test_delayed_and_expired_messages() -> None:
    """A delayed message appears after its delay; one past the queue's retention is gone, even while in flight."""
    sim, url = queue({"MessageRetentionPeriod": "60"})
    call(sim, "SendMessage", 0, QueueUrl=url, MessageBody="b", DelaySeconds=10)
    assert receive(sim, url, 9.9) == []
    assert len(receive(sim, url, 10)) == 1
    assert receive(sim, url, 60) == []
    attributes = call(sim, "GetQueueAttributes", 60, QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_counts_and_purge() -> None:
    """The approximate counts say how many wait and how many are in flight; a purge drops both."""
    sim, url = queue()
    send(sim, url, *"abcde")
    receive(sim, url, most=2)
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = call(sim, "GetQueueAttributes", QueueUrl=url, AttributeNames=names)["Attributes"]
    assert counts == {"ApproximateNumberOfMessages": "3", "ApproximateNumberOfMessagesNotVisible": "2"}
    call(sim, "PurgeQueue", QueueUrl=url)
    assert receive(sim, url, 1_000) == []


def test_too_many_in_flight_is_an_error() -> None:
    """A standard queue with 120,000 messages in flight answers OverLimit until one is deleted."""
    sim, url = queue()
    for _ in range(12_001):
        entries = [{"Id": str(n), "MessageBody": "x"} for n in range(10)]
        call(sim, "SendMessageBatch", QueueUrl=url, Entries=entries)
    messages = [message for _ in range(12_000) for message in receive(sim, url)]
    assert len(messages) == 120_000
    assert refusal(sim, "ReceiveMessage", QueueUrl=url).code == "OverLimit"
    call(sim, "DeleteMessage", QueueUrl=url, ReceiptHandle=messages[0]["ReceiptHandle"])
    assert len(receive(sim, url)) == 10


FIFO = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}


def send_fifo(sim: SimAws, url: str, body: str, group: str, now: float = 0.0) -> str:
    return str(call(sim, "SendMessage", now, QueueUrl=url, MessageBody=body, MessageGroupId=group)["MessageId"])


def test_a_fifo_group_is_locked_while_a_message_of_it_is_in_flight() -> None:
    """The rest of a group waits, other groups do not; a message that comes back is first again."""
    sim, url = queue(FIFO, name="q.fifo")
    for body, group in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        send_fifo(sim, url, body, group)
    [first] = receive(sim, url, 0, most=1)
    assert first["Body"] == "a1"
    assert [m["Body"] for m in receive(sim, url, 1)] == ["b1"]
    assert receive(sim, url, 2) == []
    assert [m["Body"] for m in receive(sim, url, 30)] == ["a1", "a2"]


def test_a_dead_lettered_fifo_message_does_not_lock_its_group() -> None:
    """After a message of a group went to the dead-letter queue, the next one of the group is handed out."""
    sim, url = queue(FIFO, name="q.fifo")
    sim.add_sqs_queue("dead.fifo", FIFO)
    policy = {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:123456789012:dead.fifo", "maxReceiveCount": 1}
    call(sim, "SetQueueAttributes", QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(policy)})
    send_fifo(sim, url, "a1", "a")
    receive(sim, url, 0)
    send_fifo(sim, url, "a2", "a", 1)
    [second] = receive(sim, url, 30)
    assert second["Body"] == "a2"
    call(sim, "DeleteMessage", 31, QueueUrl=url, ReceiptHandle=second["ReceiptHandle"])
    send_fifo(sim, url, "a3", "a", 32)
    assert [m["Body"] for m in receive(sim, url, 33)] == ["a3"]


def test_fifo_drops_duplicates_for_five_minutes_even_after_delete() -> None:
    """The same content within 300 s is the same message; later it is a new one."""
    sim, url = queue(FIFO, name="q.fifo")
    first = send_fifo(sim, url, "a", "g")
    [message] = receive(sim, url)
    call(sim, "DeleteMessage", 1, QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert send_fifo(sim, url, "a", "g", 299) == first
    assert receive(sim, url, 299) == []
    assert send_fifo(sim, url, "a", "g", 300) != first
    assert len(receive(sim, url, 300)) == 1


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "receive", "delete", "release"]), st.floats(0, 40), st.integers(0, 9)),
        max_size=60,
    )
)
def test_every_message_is_deleted_or_still_there(actions: list[tuple[str, float, int]]) -> None:
    """Whatever is sent, received, released and deleted: no message is lost, none is in two hands, counts add up."""
    sim, url = queue()
    now, sent = 0.0, 0
    handles: dict[str, str] = {}
    deleted: set[str] = set()
    visible_from: dict[str, float] = {}
    for action, wait_s, number in actions:
        now += wait_s
        chosen = sorted(handles)[number % len(handles)] if handles else None
        if action == "send":
            send(sim, url, str(sent), now=now)
            sent += 1
        elif action == "receive":
            for message in receive(sim, url, now, most=number + 1):
                body = message["Body"]
                assert body not in deleted
                assert visible_from.get(body, 0.0) <= now
                visible_from[body] = now + 30
                handles[body] = message["ReceiptHandle"]
        elif chosen is not None and action == "delete":
            call(sim, "DeleteMessage", now, QueueUrl=url, ReceiptHandle=handles.pop(chosen))
            deleted.add(chosen)
        elif chosen is not None and visible_from[chosen] > now:
            handle = handles[chosen]
            call(sim, "ChangeMessageVisibility", now, QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
            visible_from[chosen] = now
    left: set[str] = set()
    while messages := receive(sim, url, now + 100):
        left |= {message["Body"] for message in messages}
    assert left == {str(number) for number in range(sent)} - deleted
    counts = call(sim, "GetQueueAttributes", now + 100, QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert int(counts["ApproximateNumberOfMessagesNotVisible"]) == len(left)


def test_message_attributes_are_given_only_if_asked_for() -> None:
    """Message attributes come back, with their digest, by name, prefix or All."""
    sim, url = queue()
    attributes = {
        "trace.id": {"DataType": "String", "StringValue": "1"},
        "other": {"DataType": "Number", "StringValue": "2"},
    }
    call(sim, "SendMessage", QueueUrl=url, MessageBody="b", MessageAttributes=attributes)
    [bare] = receive(sim, url, 0)
    assert "MessageAttributes" not in bare
    [one] = receive(sim, url, 30, MessageAttributeNames=["trace.*"])
    assert set(one["MessageAttributes"]) == {"trace.id"}
    [both] = receive(sim, url, 60, MessageAttributeNames=["All"])
    assert both["MessageAttributes"] == attributes
    assert one["MD5OfMessageAttributes"] != both["MD5OfMessageAttributes"]
