"""Messages that SQS did not delete at once are deleted later, within bounds and in nobody's way."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest
from structlog.testing import capture_logs

from controller.core.errors import BadCredentials, NotAllowed, OutwardError, Throttled, Unavailable
from controller.deleter import LEFT_MAX, REFUSED_PAUSE_S, Deleter
from controller.health import Health
from controller.loop import Drain
from controller.ports import Message
from tests.stages.conftest import ManualClock

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/requests"
VISIBILITY_S = 60


class Queue:
    """Fails, or leaves what it is told to, for so many calls."""

    url = URL

    def __init__(self) -> None:
        self.failures: list[Exception | set[str]] = []
        self.calls: list[list[str]] = []
        self.deleted: set[str] = set()

    async def receive(self, *, max_messages: int, wait_s: float, visibility_timeout_s: int) -> Sequence[Message]:
        return ()

    async def delete(self, receipt_handles: Sequence[str]) -> Sequence[str]:
        await anyio.lowlevel.checkpoint()
        self.calls.append(list(receipt_handles))
        failure = self.failures.pop(0) if self.failures else set()
        if isinstance(failure, Exception):
            raise failure
        self.deleted |= set(receipt_handles) - failure
        return [handle for handle in receipt_handles if handle in failure]


class Pauses(Drain):
    """Its sleeps only move the clock; it ends when nothing more is to be slept for."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> bool:
        await anyio.lowlevel.checkpoint()
        self.slept.append(seconds)
        self.clock.move(seconds)
        return self.is_requested


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def pauses(clock: ManualClock) -> Pauses:
    return Pauses(clock)


@pytest.fixture
def health(clock: ManualClock) -> Health:
    return Health(clock)


@pytest.fixture
def deleter(queue: Queue, clock: ManualClock, pauses: Pauses, health: Health) -> Deleter:
    return Deleter(
        source=queue,
        clock=clock,
        drain=pauses,
        health=health,
        chance=lambda: 1.0,
        visibility_timeout_s=VISIBILITY_S,
    )


async def delete(deleter: Deleter, pauses: Pauses, *handles: str) -> None:
    """Delete, and go on until there is nothing left to be tried again."""
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deleter.run)
            await deleter.delete(handles)
            await anyio.wait_all_tasks_blocked()
            pauses.request()


@pytest.mark.parametrize(
    "failure", [Unavailable("reset"), Throttled("slow down"), {"h1"}], ids=["call", "rate", "entry"]
)
async def test_what_was_not_deleted_is_deleted_soon_after(
    deleter: Deleter, queue: Queue, pauses: Pauses, failure: OutwardError | set[str]
) -> None:
    """By itself, after a pause that grows, and only what is left."""
    queue.failures = [failure] * 3
    await delete(deleter, pauses, "h1", "h2")
    assert queue.deleted == {"h1", "h2"}
    assert pauses.slept == [0.5, 1.0, 2.0]
    again = ["h1"] if isinstance(failure, set) else ["h1", "h2"]
    assert queue.calls == [["h1", "h2"], again, again, again]


async def test_a_mistake_of_ours_in_a_retry_ends_nothing(deleter: Deleter, queue: Queue, pauses: Pauses) -> None:
    """It is tried again, like everything else that is left."""
    queue.failures = [Unavailable("reset"), KeyError("Successful"), KeyError("Successful")]
    with capture_logs() as lines:
        await delete(deleter, pauses, "h1")
    assert queue.deleted == {"h1"}
    assert [line["error"] for line in lines if line["event"] == "piece of work failed"] == ["KeyError"] * 2


async def test_once_it_works_again_all_that_is_left_is_deleted_at_once(
    deleter: Deleter, queue: Queue, pauses: Pauses
) -> None:
    """Ten in a call, without a pause between calls that work."""
    handles = [f"h{n}" for n in range(45)]
    queue.failures = [Unavailable("reset")] * 5
    await delete(deleter, pauses, *handles)
    assert queue.deleted == set(handles)
    assert pauses.slept == [0.5]
    assert sorted(map(len, queue.calls[5:])) == [5, 10, 10, 10, 10]


async def test_it_is_given_up_once_others_may_have_the_message(deleter: Deleter, queue: Queue, pauses: Pauses) -> None:
    """After half the visibility timeout; the message comes again. What fails later is tried again soon."""
    queue.failures = [{"h1"}] * 7
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deleter.run)
        await deleter.delete(["h1"])
        await anyio.wait_all_tasks_blocked()
        assert pauses.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0]
        assert sum(pauses.slept) >= VISIBILITY_S / 2
        queue.failures = [{"h2"}]
        await deleter.delete(["h2"])
        await anyio.wait_all_tasks_blocked()
        pauses.request()
    assert pauses.slept[6:] == [0.5]
    assert queue.deleted == {"h2"}


async def test_a_receipt_that_is_not_taken_does_not_hold_up_the_others(
    deleter: Deleter, queue: Queue, pauses: Pauses
) -> None:
    """Not even one in every call: all others are deleted at the first try, and none is kept for longer than that."""
    handles = [f"h{n}" for n in range(200)]
    stuck = set(handles[::10])
    queue.failures = [Unavailable("reset")] * 20
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deleter.run)
        await deleter.delete(handles)
        queue.failures = [stuck] * 1_000
        await anyio.wait_all_tasks_blocked()
        assert queue.deleted == set(handles) - stuck
        assert sum(len(call) for call in queue.calls[20:40]) == len(handles)
        assert sum(pauses.slept) < VISIBILITY_S
        pauses.request()


async def test_all_are_given_up_in_time_while_nothing_is_deleted(
    deleter: Deleter, queue: Queue, pauses: Pauses
) -> None:
    """Also those that no call was made for again: by then others have them."""
    queue.failures = [Unavailable("reset")] * 1_000
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deleter.run)
        await deleter.delete([f"h{n}" for n in range(200)])
        await anyio.wait_all_tasks_blocked()
        assert VISIBILITY_S / 2 <= sum(pauses.slept) < VISIBILITY_S
        pauses.request()


async def test_no_more_receipts_are_kept_than_a_bound(deleter: Deleter, queue: Queue, pauses: Pauses) -> None:
    """Of more, the oldest are left to come again."""
    handles = [f"h{n}" for n in range(LEFT_MAX + 100)]
    queue.failures = [Unavailable("reset")] * (len(handles) // 10)
    await delete(deleter, pauses, *handles)
    assert queue.deleted == set(handles[100:])


@pytest.mark.parametrize("error", [NotAllowed("denied"), BadCredentials("expired")])
async def test_while_deleting_is_refused_it_is_asked_on(
    deleter: Deleter, queue: Queue, pauses: Pauses, health: Health, error: OutwardError
) -> None:
    """With all that is left, however long it takes: nothing is received meanwhile, so that nobody else gets them."""
    queue.failures = [error] * 20
    async with anyio.create_task_group() as tasks:
        await deleter.delete([f"h{n}" for n in range(25)])
        assert deleter.is_refused
        assert health.intake_refusals([URL])["delete_refused"]
        tasks.start_soon(deleter.run)
        await anyio.wait_all_tasks_blocked()
        assert not deleter.is_refused
        assert not health.intake_refusals([URL])["delete_refused"]
        pauses.request()
    assert queue.deleted == {f"h{n}" for n in range(25)}
    assert pauses.slept == [REFUSED_PAUSE_S] * 18


async def test_what_is_refused_for_long_is_told_once(deleter: Deleter, queue: Queue, pauses: Pauses) -> None:
    """By the health, not with every try."""
    queue.failures = [Unavailable("reset"), Unavailable("reset"), *[NotAllowed("denied")] * 20]
    with capture_logs() as lines:
        await delete(deleter, pauses, "h1")
    assert [line["event"] for line in lines] == [
        "delete failed",
        "call refused",
        "call works again",
        "delete works again",
    ]


@pytest.mark.parametrize("is_over", [True, False], ids=["it works", "it fails"])
async def test_in_the_end_what_is_left_is_tried_once_more(
    deleter: Deleter, queue: Queue, pauses: Pauses, is_over: bool
) -> None:
    """As long as it works; a process that stops waits for no more than one call that does not."""
    queue.failures = [Unavailable("reset")] * (3 if is_over else 1_000)
    handles = [f"h{n}" for n in range(25)]
    await deleter.delete(handles)
    pauses.request()
    await deleter.run()
    assert queue.deleted == (set(handles) if is_over else set())
    assert len(queue.calls) == (6 if is_over else 4)
    assert pauses.slept == []
