"""Intake: SQS messages into stored requests; a message is deleted only after its commit.

One ``Ingest`` consumes one SQS queue: a few receivers long-poll, one committer takes what has come, decides about each
message (``core.request`` and what the store knows of its id) and commits the group, then the messages are deleted. A
message is held for one commit, at most half its visibility timeout; what could not be stored by then stays in SQS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
import anyio.abc
import structlog

from controller.core.errors import (
    BadCredentials,
    NotAllowed,
    OutwardError,
    StoreUnavailable,
)
from controller.core.limits import SQS_BATCH_MAX
from controller.deleter import REFUSED_PAUSE_S, Deleter
from controller.gate import IntakeGate
from controller.health import RECEIVE, Health
from controller.intake import Decider, Verdict
from controller.ledger import Wakes
from controller.loop import Backoff, Drain, Outage, Wake, guarded
from controller.metrics import Metrics
from controller.ports import Clock, JobStore, Message, MessageSource, UpdateJob
from controller.receiver import Receiver

GROUP_MAX: Final = 100
"""Messages of one commit."""
GROUP_BYTES: Final = 8 * 1024 * 1024
"""Memory of the texts of one commit, and one message more: each may have a megabyte, and four times that as text."""
BUFFERED_MAX: Final = 200
"""Messages received and not yet decided, per source: receivers wait at it. Where groups take long, one group."""
BUFFERED_BYTES: Final = 16 * 1024 * 1024
"""The same for the memory of their texts; what the polls under way bring comes on top."""
ROUNDS_MAX: Final = 10
"""Decisions about one message that meet another writer's change."""
GATE_CHECK_S: Final = 0.5
STORE_PAUSE_S: Final = 5.0
"""Nothing is received for at least so long after a commit that failed."""
DRAINING_PAUSE_S: Final = 0.5
"""Between tries to commit once a drain cuts every other pause short."""


@dataclass(frozen=True, slots=True)
class _Held:
    message: Message
    hold_until: float
    """Monotonic: past it the message is left to be delivered again."""
    size: int
    """Bytes of memory. SQS's megabyte is for the body and the attributes together: either may have all of it."""


def _memory(message: Message) -> int:
    return sys.getsizeof(message.body) + sum(map(sys.getsizeof, message.attributes.values()))


class Ingest:
    """Consumes one SQS queue."""

    def __init__(
        self,
        *,
        source: MessageSource,
        store: JobStore,
        decider: Decider,
        clock: Clock,
        drain: Drain,
        health: Health,
        metrics: Metrics,
        wakes: Wakes,
        chance: Callable[[], float],
        gate: IntakeGate,
        visibility_timeout_s: int,
        receivers: int,
    ) -> None:
        self._source = source
        self._store = store
        self._decider = decider
        self._clock = clock
        self._drain = drain
        self._health = health
        self._metrics = metrics
        self._wakes = wakes
        self._chance = chance
        self._gate = gate
        self._standing = metrics.standing("store", clock)
        self._hold_s = visibility_timeout_s / 2
        self._receiver = Receiver(source, clock, health, visibility_timeout_s)
        self._finished = Drain()
        """Requested when everything is committed."""
        self._deleter = Deleter(
            source=source,
            clock=clock,
            drain=self._finished,
            health=health,
            chance=chance,
            visibility_timeout_s=visibility_timeout_s,
        )
        self._receivers = receivers
        self._outage = Outage(clock)
        """Of the receivers together."""
        self._unstored = Outage(clock)
        self._receiving = 0
        self._asked = 0
        """Messages that the polls under way may bring."""
        self._deciding = 0
        """Messages that are taken from the buffer and not committed yet."""
        self._taken_at: float | None = None
        """Monotonic; since when a group is in hand."""
        self._group_s = 0.0
        """How long the last group that was committed was in hand."""
        self._buffer: list[_Held] = []
        self._paused_until = 0.0
        """Monotonic; after a commit that failed."""
        self._room = Wake()
        drain.on_request(self._room.set)
        self.arrived = Wake()
        self._log = structlog.get_logger(stage="ingest", queue_url=source.url)

    # --- receiving ------------------------------------------------------------------------------------

    async def receive(self) -> None:
        """Run the receivers until drained; a long poll that is under way is let end, never cancelled."""
        self._receiving = self._receivers
        try:
            async with anyio.create_task_group() as tasks:
                for number in range(self._receivers):
                    tasks.start_soon(self._receive, self._receiver_part(number), name=f"receiver {number}")
        finally:
            self._receiving = 0
            self.arrived.set()

    @property
    def parts(self) -> Sequence[tuple[str, str]]:
        """Stage and part, as ``Health`` hears of them, of everything here that turns by itself."""
        receivers = [("receive", self._receiver_part(number)) for number in range(self._receivers)]
        return [("ingest", self._source.url), *receivers]

    def _receiver_part(self, number: int) -> str:
        return f"{self._source.url} {number}"

    async def _receive(self, part: str) -> None:
        backoff = Backoff(self._chance)
        while not self._drain.is_requested:
            self._health.turned("receive", part=part)
            room = self._gate.room(self._source.url)
            if self._deleter.is_refused:
                await self._room.wait(GATE_CHECK_S)
            elif room <= 0 or self._clock.monotonic() < self._paused_until:
                if self._gate.is_closed(self._source.url):
                    self._health.not_asked(self._source.url)
                await self._room.wait(GATE_CHECK_S)
            elif self._is_buffer_full() or not self._is_timely():
                await self._room.wait(GATE_CHECK_S)
            else:
                await self._receive_once(backoff, min(SQS_BATCH_MAX, room))
        self._health.dismiss("receive", part=part)

    def _is_buffer_full(self) -> bool:
        is_slow = 4 * self._group_s > self._hold_s
        if len(self._buffer) >= BUFFERED_MAX or (is_slow and len(self._buffer) + self._asked >= GROUP_MAX):
            return True
        return sum(held.size for held in self._buffer) >= BUFFERED_BYTES

    def _is_timely(self) -> bool:
        """Whether what is received now can be committed before it is left, if the group in hand takes as long as the
        last one did. Of one that takes longer, nobody knows how long."""
        if self._taken_at is None:
            return True
        taken_s = self._clock.monotonic() - self._taken_at
        return self._group_s - self._hold_s / 2 <= taken_s <= max(self._group_s, self._hold_s / 4)

    def _claim(self) -> None:
        self._gate.claim(self._source.url, self._asked + len(self._buffer) + self._deciding)

    async def _receive_once(self, backoff: Backoff, most: int) -> None:
        self._asked += most
        self._claim()
        try:
            await self._poll(backoff, most)
        finally:
            self._asked -= most
            self._claim()

    async def _poll(self, backoff: Backoff, most: int) -> None:
        try:
            with self._health.watched(RECEIVE, subject=self._source.url):
                messages, pause_s = await self._receiver.receive(most)
        except (BadCredentials, NotAllowed):
            await self._drain.sleep(REFUSED_PAUSE_S)
        except OutwardError as error:
            pause_s = backoff.failed()
            if failures := self._outage.failed(backoff):
                self._log.warning("receive failed", reason=str(error), failures=failures, pause_s=round(pause_s, 3))
            await self._drain.sleep(pause_s)
        else:
            if failures := self._outage.worked(backoff):
                self._log.info("receive works again", failures=failures)
            backoff.worked()
            hold_until = self._clock.monotonic() + self._hold_s
            self._buffer.extend(_Held(message, hold_until, _memory(message)) for message in messages)
            if messages:
                self.arrived.set()
            elif pause_s:
                await self._drain.sleep(pause_s)

    @property
    def is_finished(self) -> bool:
        """Drained: nobody receives and nothing is left to commit."""
        return self._drain.is_requested and not self._receiving and not self._buffer

    # --- committing -----------------------------------------------------------------------------------

    async def commit(self) -> None:
        """Turn until drained and empty."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._deleter.run)
            await self._commit()
            self._finished.request()

    async def _commit(self) -> None:
        backoff = Backoff(self._chance)
        while not self.is_finished:
            self._health.turned("ingest", part=self._source.url)
            if not self._buffer:
                await self.arrived.wait(1.0)
                continue
            group = self._take_group()
            self._deciding = len(group)
            self._taken_at = self._clock.monotonic()
            self._room.set()
            await guarded(
                partial(self._commit_or_keep, group, backoff), stage="ingest", on_error=partial(self._left, backoff)
            )
            self._deciding = 0
            self._taken_at = None
            self._room.set()
            self._claim()
        self._health.dismiss("ingest", part=self._source.url)

    def _take_group(self) -> Sequence[_Held]:
        size = count = 0
        while count < min(GROUP_MAX, len(self._buffer)) and size < GROUP_BYTES:
            size += self._buffer[count].size
            count += 1
        group, self._buffer = self._buffer[:count], self._buffer[count:]
        return group

    async def _commit_or_keep(self, group: Sequence[_Held], backoff: Backoff) -> None:
        undecided = self._still_held(group)
        if not undecided:
            return  # nothing was tried
        try:
            await self._commit_group(undecided)
        except StoreUnavailable as error:
            self._health.store_failed(str(error))
            if failures := self._unstored.failed():
                self._log.warning("messages not stored yet", reason=str(error), failures=failures)
            self._buffer = self._still_held(undecided) + self._buffer
            self._deciding = 0
            await self._back_off(backoff)
        else:
            assert self._taken_at is not None
            self._group_s = self._clock.monotonic() - self._taken_at
            backoff.worked()
            if failures := self._unstored.worked():
                self._log.info("messages are stored again", failures=failures)

    async def _left(self, backoff: Backoff, _: Exception) -> None:
        """A mistake of ours: what of the group is not committed is delivered again, perhaps in better company."""
        await self._back_off(backoff)

    async def _back_off(self, backoff: Backoff) -> None:
        """Nothing is received meanwhile: a received message counts towards its redrive policy."""
        pause_s = backoff.failed()
        self._paused_until = self._clock.monotonic() + max(STORE_PAUSE_S, pause_s)
        self._metrics.waited("store", pause_s)
        if await self._drain.sleep(pause_s):
            await anyio.sleep(DRAINING_PAUSE_S)

    def _still_held(self, group: Sequence[_Held]) -> list[_Held]:
        now = self._clock.monotonic()
        kept = [held for held in group if held.hold_until > now]
        if len(kept) < len(group):
            self._log.warning("left to be delivered again: not stored in time", messages=len(group) - len(kept))
        return kept

    async def _commit_group(self, undecided: list[_Held]) -> None:
        """Takes out of ``undecided`` what is settled: if the store fails between two rounds, the rest is left."""
        for _ in range(ROUNDS_MAX):
            if not undecided:
                return
            verdicts = await self._decider.decide([held.message for held in undecided], source=self._source.url)
            writes = [verdict.write for verdict in verdicts if verdict.write is not None]
            with self._standing.waiting():
                applied = iter(await self._store.commit(writes) if writes else ())
            settled, left = [], []
            for held, verdict in zip(undecided, verdicts, strict=True):
                is_settled = not verdict.is_deferred and (verdict.write is None or next(applied))
                (settled.append(verdict) if is_settled else left.append(held))
                if is_settled and verdict.write is not None:
                    self._gate.took(held.size)
            undecided[:] = left
            await self._settled(settled)
        raise AssertionError("a message met another writer's change at every decision")

    async def _settled(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            self._metrics.requests_received_total.labels(outcome=verdict.outcome).inc()
            self._decider.committed(verdict)
        if writes := [verdict.write for verdict in verdicts if verdict.write is not None]:
            self._wakes.admit.set()
            if any(isinstance(write, UpdateJob) and not write.job.state.is_final for write in writes):  # a cancel
                self._wakes.terminate.set()
            if self._store.has_dependents:
                self._wakes.depend.set()
            self._wakes.published_soon(writes)
        with suppress(StoreUnavailable):  # what is committed is deleted all the same; the gate's own loop asks again
            await self._gate.refresh()
        self._deciding -= len(verdicts)
        self._claim()
        self._room.set()
        await self._deleter.delete([verdict.message.receipt_handle for verdict in verdicts])
