"""How long a receive waits, and when the next one comes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from controller.core.errors import NotAllowed, OutwardError, Refused, Throttled, Unavailable
from controller.core.limits import SQS_WAIT_S_MAX
from controller.health import Health
from controller.ports import Message
from controller.receiver import QUICK_PAUSE_S, QUICK_S, Receiver
from tests.stages.conftest import ManualClock

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/requests"


class Queue:
    """Answers after ``takes_s`` with what it has."""

    url = URL

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.messages: list[Message] = []
        self.takes_s = 0.0
        self.waits: list[float] = []
        self.failure: OutwardError | None = None

    async def receive(self, *, max_messages: int, wait_s: float, visibility_timeout_s: int) -> Sequence[Message]:
        self.waits.append(wait_s)
        self.clock.move(self.takes_s)
        if self.failure is not None:
            raise self.failure
        return self.messages[:max_messages]

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[str]:
        return ()


@pytest.fixture
def queue(clock: ManualClock) -> Queue:
    return Queue(clock)


@pytest.fixture
def health(clock: ManualClock) -> Health:
    health = Health(clock)
    health.expect_queue(URL)
    return health


@pytest.fixture
def receiver(queue: Queue, health: Health, clock: ManualClock) -> Receiver:
    return Receiver(queue, clock, health, visibility_timeout_s=60)


async def test_only_a_queue_that_was_reached_may_keep_it_waiting(
    receiver: Receiver, queue: Queue, health: Health
) -> None:
    """``/readyz`` needs an answer, not a message: the first receive is a short one, as is one after a failure."""
    await receiver.receive(10)
    health.worked("sqs:ReceiveMessage", subject=URL)
    await receiver.receive(10)
    health.not_reached(URL, "connection refused")
    await receiver.receive(10)
    assert queue.waits == [0, SQS_WAIT_S_MAX, 0]


@pytest.mark.parametrize(
    ("failure", "tries", "problem"),
    [
        (Refused("sqs:ReceiveMessage: NonExistentQueue"), 1, "NonExistentQueue; check the URL"),
        (Unavailable("sqs:ReceiveMessage: EndpointConnectionError"), 2, None),
        (Unavailable("sqs:ReceiveMessage: EndpointConnectionError"), 3, "EndpointConnectionError; check the URL"),
        (Throttled("sqs:ReceiveMessage: KmsThrottled"), 3, "KmsThrottled; SQS, or KMS for a queue that is encrypted,"),
        (NotAllowed("sqs:ReceiveMessage: AccessDenied"), 3, None),
    ],
)
async def test_a_queue_that_can_t_be_reached_is_named_with_its_own_remedy(
    receiver: Receiver, queue: Queue, health: Health, failure: OutwardError, tries: int, problem: str | None
) -> None:
    """At once if SQS knows no such queue, after some tries if nobody answers; credentials are not to blame, so neither
    they nor a refused receive are."""
    health.worked("sqs:ReceiveMessage", subject=URL)
    queue.failure = failure
    for _ in range(tries):
        with pytest.raises(type(failure)):
            await receiver.receive(10)
    checks = health.is_ready()[1]["checks"]
    assert checks["credentials"] == {"ok": True}
    assert not health.intake_refusals([URL])["receive_refused"]
    if problem is None:
        assert checks["queues"] == {"ok": True}
    else:
        (text,) = checks["queues"]["problem"]
        assert text.startswith(URL)
        assert problem in text
    health.not_asked(URL)
    assert health.is_ready()[1]["checks"]["queues"] == checks["queues"], "what was reported of it stands"


@pytest.mark.parametrize(
    ("takes_s", "messages", "pause_s"),
    [
        (0.01, 0, QUICK_PAUSE_S),
        (QUICK_S, 0, 0.0),
        (20.0, 0, 0.0),
        (0.01, 1, 0.0),
    ],
)
async def test_a_queue_that_does_not_hold_a_long_poll_is_not_asked_without_pause(
    receiver: Receiver, queue: Queue, health: Health, takes_s: float, messages: int, pause_s: float
) -> None:
    """An empty answer at once means that nobody waited for messages; one with messages is as quick as it likes."""
    health.worked("sqs:ReceiveMessage", subject=URL)
    queue.takes_s = takes_s
    queue.messages = [Message(message_id="m", receipt_handle="h", body="{}")] * messages
    received, then_s = await receiver.receive(10)
    assert (len(received), then_s) == (messages, pause_s)


async def test_a_first_empty_answer_is_followed_at_once(receiver: Receiver, queue: Queue) -> None:
    """It was not asked to wait."""
    queue.takes_s = 0.01
    assert await receiver.receive(10) == ([], 0.0)
