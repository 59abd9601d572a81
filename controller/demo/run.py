"""One run of the demonstration, turn by turn: send what is due, read what was reported, know when it is over.

A turn takes some milliseconds and never waits; ``main.py`` calls it, and shows the state in between.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from http.client import HTTPException
from typing import Final

from controller.demo.cases import BULK, Case
from controller.demo.children import Child, LineReader
from controller.demo.cloud import Cloud
from controller.demo.proof import Limits, Sent
from controller.demo.readings import Readings, read_metrics
from controller.demo.watch import Event, Seen
from controller.demo.workload import Planned

SUBMIT_RATE_PER_S: Final = 40.0
"""The default of ``submit.rate_per_s``, which the demonstration leaves as it is."""
SENT_PER_TURN_MIN: Final = 20
SENDING_TURNS: Final = 40
"""However many messages there are, they are sent in about so many turns."""
SCRAPE_S: Final = 0.5
SETTLED_CHECK_S: Final = 0.5
DYING_S: Final = 1.0
"""A call that fails may be the first sign of a process that is about to be gone."""
LOST_SHARE: Final = 0.03
"""Of SubmitJob calls: the job is made, the answer never arrives."""
REDELIVERED_SHARE: Final = 0.03
"""Of SQS messages: delivered a second time."""


class Run:
    """Messages on their way, and everything known about them."""

    def __init__(
        self,
        messages: Sequence[Planned],
        *,
        cloud: Cloud,
        sim: Child,
        controller: Child,
        base_url: str,
        bulk_max: int,
        monotonic: Callable[[], float],
    ) -> None:
        self.cloud = cloud
        self.sim = sim
        self.controller = controller
        self.base_url = base_url
        self.limits = Limits(submit_rate_per_s=SUBMIT_RATE_PER_S, bulk_queue=BULK, bulk_max=bulk_max)
        self.total = len(messages)
        self.endings = sum(message.ending is not None for message in messages)
        """Final events that must come."""
        self.rejections = sum(
            message.ending is not None and message.ending.outcome == "rejected" for message in messages
        )
        self.sent: list[Sent] = []
        self.seen = Seen()
        self.readings = Readings()
        self.is_spoiled = False
        """Answers are being lost on purpose."""
        self._monotonic = monotonic
        self.started_at = monotonic()
        self._events = LineReader(controller.out)
        self._pending = deque(message for message in messages if message.after is None)
        self._held = deque(message for message in messages if message.after is not None)
        self._refused = sum(message.case is Case.REFUSED for message in messages)
        self._per_turn = max(SENT_PER_TURN_MIN, len(messages) // SENDING_TURNS)
        self._scraped_at = -SCRAPE_S
        self._settled_checked_at = -SETTLED_CHECK_S
        cloud.deliver_again(REDELIVERED_SHARE)

    @property
    def elapsed_s(self) -> float:
        return self._monotonic() - self.started_at

    @property
    def unsent(self) -> int:
        return len(self._pending) + len(self._held)

    def turn(self) -> None:
        """Raises ChildDied if a process has ended, OSError or HTTPException if one does not answer."""
        self.sim.check()
        self.controller.check()
        try:
            self._turn()
        except (OSError, HTTPException):
            for child in (self.sim, self.controller):
                child.check(within_s=DYING_S)
            raise

    def _turn(self) -> None:
        self.read_events()
        if self._monotonic() - self._scraped_at >= SCRAPE_S:
            self.scrape()
        self._send(self._due())
        if not self.is_spoiled and self._are_refused_through():
            self.is_spoiled = True
            self.cloud.lose_answers(LOST_SHARE)

    def read_events(self) -> list[Event]:
        """Take in what was written since the last call; the events that are new."""
        return [event for event in self._events.new() if self.seen.fold(event)]

    def scrape(self) -> None:
        self._scraped_at = self._monotonic()
        text = self.cloud.get(f"{self.base_url}/metrics")
        self.readings.add(read_metrics(text, at=self._scraped_at))

    def is_settled(self) -> bool:
        """Every message has ended, SQS is empty and all that must be delivered is; looked at now and then only."""
        if self.unsent or self.seen.ended < self.endings:
            return False
        if self._monotonic() - self._settled_checked_at < SETTLED_CHECK_S:
            return False
        self._settled_checked_at = self._monotonic()
        reading = self.readings.latest
        is_delivered = reading is not None and not reading.outbox
        return is_delivered and self.cloud.queues() == (0, self.rejections)

    # --- sending ------------------------------------------------------------------------------------------

    def _due(self) -> list[Planned]:
        due = [self._pending.popleft() for _ in range(min(self._per_turn, len(self._pending)))]
        for _ in range(len(self._held)):
            message = self._held.popleft()
            assert message.after is not None
            (due if self.seen.has_reached(*message.after) else self._held).append(message)
        return due

    def _send(self, due: Sequence[Planned]) -> None:
        if due:
            message_ids = self.cloud.send([message.body for message in due])
            self.sent += [Sent(planned=m, message_id=i) for m, i in zip(due, message_ids, strict=True)]

    def _are_refused_through(self) -> bool:
        """Nothing that AWS Batch refuses is on its way any more: a lost answer of one would be in doubt for minutes."""
        through = Counter(
            each.planned.case for each in self.sent[: self._refused] if each.message_id in self.seen.finals
        )
        return through[Case.REFUSED] == self._refused
