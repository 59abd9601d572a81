"""One SQS queue's messages: who is visible, who is in flight, who comes back when.

Every operation costs O(1) or O(log n) per message, whatever is queued. A standard queue hands out oldest first, as a
best effort; a FIFO queue keeps the order within a message group and locks a group while a message of it is in flight.

Source: Amazon SQS API reference (2012-11-05) and developer guide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any, Final, Protocol

RETENTION_S_DEFAULT: Final = 345_600.0
VISIBILITY_S_DEFAULT: Final = 30.0


@dataclass(slots=True, eq=False)
class StoredMessage:
    """A message in a queue. ``serial`` is its place in the order of arrival."""

    serial: int
    message_id: str
    body: str
    md5: str
    sent_at: float
    attributes: Mapping[str, Any] | None = None
    attributes_md5: str | None = None
    group: str | None = None
    deduplication_id: str | None = None
    sender: str = ""
    source_arn: str | None = None
    """ARN of the queue that it was moved from, if it is a dead letter."""
    received: int = 0
    first_received_at: float | None = None
    received_at: float = 0.0
    hidden_until: float | None = None
    """While delayed or in flight; None: visible."""
    is_in_flight: bool = False
    is_deleted: bool = False


class Visible(Protocol):
    """Visible messages, in the order of handing out."""

    def push(self, message: StoredMessage) -> None: ...

    def pop(self) -> StoredMessage | None:
        """The next message, removed; deleted ones are skipped. A FIFO group stays open until ``settle``."""

    def settle(self) -> None:
        """End of one receive."""

    def unlocked(self, message: StoredMessage) -> None:
        """A message is no longer in flight."""


class StandardOrder:
    """First in, first out; a message that comes back goes to the end."""

    def __init__(self) -> None:
        self.messages: deque[StoredMessage] = deque()

    def push(self, message: StoredMessage) -> None:
        self.messages.append(message)

    def pop(self) -> StoredMessage | None:
        while self.messages:
            message = self.messages.popleft()
            if not message.is_deleted and message.hidden_until is None:
                return message
        return None

    def settle(self) -> None:
        pass

    def unlocked(self, message: StoredMessage) -> None:
        pass


class FifoOrder:
    """In order of arrival within each message group; a group with a message in flight is locked."""

    def __init__(self) -> None:
        self._groups: dict[str, list[tuple[int, StoredMessage]]] = {}
        self._locks: dict[str, int] = {}
        self._open: dict[str, None] = {}
        self._taken: dict[str, int] = {}

    def push(self, message: StoredMessage) -> None:
        group = message.group or ""
        heappush(self._groups.setdefault(group, []), (message.serial, message))
        if group not in self._locks:
            self._open.setdefault(group)

    def pop(self) -> StoredMessage | None:
        while self._open:
            group = next(iter(self._open))
            waiting = self._groups.get(group, [])
            while waiting:
                message = heappop(waiting)[1]
                if not message.is_deleted and message.hidden_until is None:
                    self._taken[group] = self._taken.get(group, 0) + 1
                    return message
            self._groups.pop(group, None)
            del self._open[group]
        return None

    def settle(self) -> None:
        for group, count in self._taken.items():
            if count == 0:
                continue
            self._locks[group] = self._locks.get(group, 0) + count
            self._open.pop(group, None)
        self._taken.clear()

    def unlocked(self, message: StoredMessage) -> None:
        group = message.group or ""
        if group in self._taken:  # dead-lettered by the receive that took it: never in flight
            self._taken[group] -= 1
            return
        left = self._locks.pop(group, 0) - 1
        if left > 0:
            self._locks[group] = left
        elif group in self._groups:
            self._open.setdefault(group)


@dataclass(slots=True)
class SqsQueue:
    """A queue: its attributes and its messages."""

    name: str
    arn: str
    is_fifo: bool = False
    attributes: dict[str, str] = field(default_factory=dict)
    """As set; those that were not are at AWS's defaults."""
    visibility_s: float = VISIBILITY_S_DEFAULT
    retention_s: float = RETENTION_S_DEFAULT
    delay_s: float = 0.0
    wait_s: float = 0.0
    message_bytes_max: int = 1_048_576
    redrive: tuple[str, int] | None = None
    """(dead-letter queue's ARN, maxReceiveCount)."""
    created_at: float = 0.0
    messages: dict[int, StoredMessage] = field(default_factory=dict)
    """All that exist, by serial number, oldest first."""
    in_flight: int = 0
    delayed: int = 0
    visible: Visible = field(default_factory=StandardOrder)
    deduplicated: dict[str, tuple[float, StoredMessage]] = field(default_factory=dict)
    _hidden: list[tuple[float, int, StoredMessage]] = field(default_factory=list)
    _hides: int = 0

    def __post_init__(self) -> None:
        if self.is_fifo:
            self.visible = FifoOrder()

    def put(self, message: StoredMessage, *, visible_at: float, now: float) -> None:
        """A message arrives, at once or after its delay."""
        self.messages[message.serial] = message
        if visible_at > now:
            self.delayed += 1
            self.hide(message, visible_at)
        else:
            self.visible.push(message)

    def refresh(self, now: float) -> None:
        """Bring back what became visible up to ``now``, drop what is past its retention."""
        while self._hidden and self._hidden[0][0] <= now:
            until, _, message = heappop(self._hidden)
            if message.hidden_until == until and not message.is_deleted:
                self.reveal(message)
        while self.messages:
            oldest = next(iter(self.messages.values()))
            if oldest.sent_at + self.retention_s > now:
                break
            self.discard(oldest)

    def hide(self, message: StoredMessage, until: float) -> None:
        message.hidden_until = until
        self._hides += 1
        heappush(self._hidden, (until, self._hides, message))

    def keep_hidden(self, message: StoredMessage, until: float) -> None:
        """Keep a message in flight, or put it there."""
        if not message.is_in_flight:
            message.is_in_flight = True
            self.in_flight += 1
        self.hide(message, until)

    def reveal(self, message: StoredMessage) -> None:
        """Make a hidden message visible."""
        self._leave(message)
        self.visible.push(message)

    def take(self, now: float, visibility_s: float) -> StoredMessage | None:
        """Hand out the next visible message; it is in flight for ``visibility_s``."""
        message = self.visible.pop()
        if message is None:
            return None
        message.received += 1
        message.received_at = now
        if message.first_received_at is None:
            message.first_received_at = now
        message.is_in_flight = True
        self.in_flight += 1
        self.hide(message, now + visibility_s)
        return message

    def discard(self, message: StoredMessage) -> None:
        """Delete a message, wherever it is."""
        if message.is_deleted:
            return
        message.is_deleted = True
        del self.messages[message.serial]
        self._leave(message)

    def clear(self) -> None:
        for message in list(self.messages.values()):
            self.discard(message)

    def next_visible_at(self) -> float | None:
        """When the next hidden message comes back, if one does."""
        while self._hidden and (self._hidden[0][2].is_deleted or self._hidden[0][2].hidden_until != self._hidden[0][0]):
            heappop(self._hidden)
        return self._hidden[0][0] if self._hidden else None

    def _leave(self, message: StoredMessage) -> None:
        if message.is_in_flight:
            message.is_in_flight = False
            self.in_flight -= 1
            self.visible.unlocked(message)
        elif message.hidden_until is not None:
            self.delayed -= 1
        message.hidden_until = None
