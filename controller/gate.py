"""Whether more messages may be received: backlog marks per SQS queue, and trouble that would burn messages.

A message that is received counts towards its redrive policy whether or not it can be stored; so nothing is received
while the store fails or credentials are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from controller.core.admission import IntakeMarks, QueueLimits, intake_is_open, kept_for_others
from controller.core.job import JobState
from controller.health import Health
from controller.holds import HoldBook
from controller.ports import JobStore, UsageRow
from controller.room import StoreRoom


class IntakeGate:
    """Keeps, per SQS queue, whether intake is open and for how many rows more.

    What receivers have asked for and what is not committed yet is *claimed*: it will be rows in a moment, and is
    counted with them, so that marks hold exactly and nobody's part of the maximum is used up by another's haste.
    """

    def __init__(
        self,
        *,
        store: JobStore,
        holds: HoldBook,
        health: Health,
        limits_of: Callable[[str], QueueLimits],
        marks: IntakeMarks,
        sources: Sequence[str],
        room: StoreRoom,
        is_paused: bool = False,
    ) -> None:
        """``is_paused``: by the configuration, for as long as this process lives."""
        self._is_paused = is_paused
        self._room = room
        self._store = store
        self._holds = holds
        self._health = health
        self._limits_of = limits_of
        self._marks = marks
        self._is_open = dict.fromkeys(sources, True)
        self._queued: Counter[str] = Counter()
        """QUEUED rows per SQS queue, of any that was ever consumed."""
        self._countable = dict.fromkeys(sources, 0)
        self._claimed: Counter[str] = Counter()

    def took(self, size: int) -> None:
        """Messages of so many bytes were stored."""
        self._room.took(size)

    async def refresh(self) -> None:
        """Count again, and see what room the disk has. Raises StoreUnavailable."""
        await self._room.look()
        usage = [row for row in await self._store.usage() if row.state is JobState.QUEUED]
        queued: Counter[str] = Counter()
        for row in usage:
            queued[row.source] += row.count
        for source, was_open in self._is_open.items():
            countable = sum(row.count for row in usage if row.source == source and self._counts(row))
            others = kept_for_others(queued, source, sources=self._is_open, marks=self._marks)
            self._is_open[source] = intake_is_open(
                was_open=was_open, countable=countable, total=queued[source] + others, marks=self._marks
            )
            self._countable[source] = countable
        self._queued = queued

    def _counts(self, row: UsageRow) -> bool:
        """Rows of held or paused Batch queues wait for something else than for us; so do those that wait for another
        request, which may be the next message."""
        return (
            not row.is_unmet
            and not self._holds.is_queue_held(row.job_queue)
            and not self._limits_of(row.job_queue).paused
        )

    def claim(self, source: str, messages: int) -> None:
        """So many are asked for, or received and not committed yet."""
        self._claimed[source] = messages

    def room(self, source: str) -> int:
        """Messages that may still be asked for; 0 or less while intake is closed or all room is claimed."""
        if self._is_paused or any(self._health.intake_blockers().values()) or not self._is_open[source]:
            return 0
        return min(self._unclaimed(source), self._room.messages(len(self._is_open)) - self._claimed[source])

    def is_closed(self, source: str) -> bool:
        """On purpose: by the marks of the backlog or the configuration, whatever else may be in the way."""
        return self._is_paused or not self._is_open[source] or self._unclaimed(source) + self._claimed[source] <= 0

    def _unclaimed(self, source: str) -> int:
        rows = self._queued + self._claimed
        others = kept_for_others(rows, source, sources=self._is_open, marks=self._marks)
        marks = self._marks
        below_high = marks.high - self._countable[source] - self._claimed[source]
        return min(below_high, marks.maximum - rows[source] - others)

    def pauses(self) -> Mapping[str, bool]:
        """``intake_paused{reason}``: closed set of reasons, each with whether it holds now."""
        is_full = not all(self._is_open.values())
        refusals = self._health.intake_refusals(self._is_open)
        is_unreached = self._health.is_unreached(self._is_open)
        return {
            "backlog": is_full,
            "configured": self._is_paused,
            **self._health.intake_blockers(),
            **refusals,
            "not_reached": is_unreached,
        }
