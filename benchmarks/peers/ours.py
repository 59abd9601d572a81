"""This controller as a policy: its own pacing, sharing and polling values, driven by events instead of tasks.

``core.pacing``, ``core.sharing`` and ``core.polling`` are the real ones, with the default settings. Left out are the
store, SQS and what goes wrong; ``tests/simulation`` runs the real application against the same kind of limiter.
"""

from __future__ import annotations

from collections import deque

from benchmarks.peers.account import Account, Progress
from controller.budgets import SHARES, Purpose
from controller.core.job import BatchStatus, RowKey
from controller.core.pacing import Pace, SendWindow, throttled_together
from controller.core.polling import Schedule, Tracked
from controller.core.sharing import FairTurns
from controller.ports import TrackedRow

SUBMIT_PER_S, DESCRIBE_PER_S, TOTAL_PER_S = 40.0, 8.0, 48.0
SUBMITS, DESCRIBES = 32, 8
MAX_WAITING, MAX_IN_FLIGHT = 2_000, 10_000


class Controller:
    name = "this controller"

    def __init__(self, account: Account, requests: int) -> None:
        self.progress = Progress(requests)
        self._account = account
        self._backlog = deque(range(requests))
        self._paces = {
            Purpose.SUBMIT: Pace.start(SUBMIT_PER_S, now=0.0),
            Purpose.DESCRIBE: Pace.start(DESCRIBE_PER_S, now=0.0),
        }
        self._under_way = dict.fromkeys(self._paces, 0)
        self._total = SendWindow(TOTAL_PER_S, now=0.0)
        self._turns = FairTurns(SHARES)
        self._schedule = Schedule(interval_s_min=2.0, interval_s_max=60.0)
        self._waiting = self._in_flight = 0
        self._pump_at = float("inf")
        self._wake(0.0)

    def _wake(self, at: float) -> None:
        if at < self._pump_at:
            self._pump_at = at
            self._account.at(at, self._pump)

    def _wanted_at(self, purpose: Purpose) -> float | None:
        """When the next call of this purpose is wanted and allowed by its own budget."""
        if purpose is Purpose.SUBMIT:
            has_slot = self._waiting < MAX_WAITING and self._in_flight < MAX_IN_FLIGHT
            is_wanted = self._backlog and has_slot and self._under_way[purpose] < SUBMITS
            return self._paces[purpose].next_send_at if is_wanted else None
        due_at = self._schedule.next_due_at()
        if due_at is None or self._under_way[purpose] >= DESCRIBES:
            return None
        return max(due_at, self._paces[purpose].next_send_at)

    def _pump(self) -> None:
        """Send what may be sent now, in the order of the turns; come back when the next may."""
        if self._account.now < self._pump_at:
            return
        self._pump_at = float("inf")
        now = self._account.now
        while True:
            wanted = {purpose: at for purpose in self._paces if (at := self._wanted_at(purpose)) is not None}
            if not wanted:
                return
            free_at = now + self._total.wait_s(now)
            if free_at > now or min(wanted.values()) > now:
                self._wake(max(free_at, min(wanted.values())))
                return
            ready = [purpose for purpose, at in wanted.items() if at <= now]
            for purpose in ready:
                self._turns.join(purpose)
            chosen = self._turns.next()
            assert chosen is not None
            self._turns.served(chosen)
            for purpose in ready:
                self._turns.leave(purpose)
            self._send(chosen, now)

    def _send(self, purpose: Purpose, now: float) -> None:
        if purpose is Purpose.DESCRIBE:
            chunk = self._schedule.take_chunk(now)
            if not chunk:
                return
            self._account.describe([row.key for row in chunk], lambda seen: self._described(chunk, seen))
        else:
            request = self._backlog.popleft()
            self._waiting += 1
            self._in_flight += 1
            self._account.submit(request, lambda is_ok: self._submitted(request, is_ok))
        self._total.sent(now)
        self._paces[purpose] = self._paces[purpose].sent(now)
        self._under_way[purpose] += 1

    def _answered(self, purpose: Purpose, *, is_ok: bool) -> None:
        now = self._account.now
        if is_ok:
            self._paces[purpose] = self._paces[purpose].succeeded(now)
        else:
            self._paces = throttled_together(self._paces, purpose, now)
        self._under_way[purpose] -= 1
        self._wake(now)

    def _submitted(self, request: int, is_ok: bool) -> None:
        now = self._account.now
        if is_ok:
            row = TrackedRow(
                key=RowKey(request),
                job_id=str(request),
                batch_status=BatchStatus.SUBMITTED,
                attempts=0,
                submitted_at=now,
                observed_at=now,
                is_missed=False,
            )
            self._schedule.add(row, due_at=now + 2.0)
        else:
            self._waiting -= 1
            self._in_flight -= 1
            self._backlog.appendleft(request)
        self._answered(Purpose.SUBMIT, is_ok=is_ok)

    def _described(self, chunk: tuple[Tracked, ...], seen: dict[int, str] | None) -> None:
        now = self._account.now
        for row in chunk:
            if seen is None:
                self._schedule.returned(row.key, now=now, delay=0.0)
                continue
            status = BatchStatus(seen[row.key])
            if row.status.is_waiting and not status.is_waiting:
                self._waiting -= 1
            if status is BatchStatus.SUCCEEDED:
                self._schedule.remove(row.key)
                self._in_flight -= 1
                self.progress.ended.add(row.key)
            else:
                self._schedule.observed(row.key, status=status, attempts=0, now=now)
        self._answered(Purpose.DESCRIBE, is_ok=seen is not None)
