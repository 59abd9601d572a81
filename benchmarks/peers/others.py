"""Other clients as small policies: how each limits its rate, what it repeats, how it asks for status.

Constants are read from their sources: Nextflow at 2aad02f, Flyte at f177fb5; the plain loop uses botocore's own
classes for its rate. Only the calls to Batch are modelled: neither what runs the workflow, nor how long its own
bookkeeping takes. Where the source leaves something to its surroundings, the comment says what is assumed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from botocore.retries.adaptive import RateClocker
from botocore.retries.throttling import CubicCalculator

from benchmarks.peers.account import Account, Progress


class Nextflow:
    """One pool and one rate for submits and reads together; halved when throttled, a fifth more after 100 successes."""

    name = "Nextflow"
    THREADS = 40  # CPUs × 5; 8 CPUs are assumed
    LIVE_MAX = 1_000
    START_PER_S = 50.0
    FLOOR_PER_S = 1 / 60
    RETRIES = 10
    POLL_S = 10.0

    def __init__(self, account: Account, requests: int) -> None:
        self.progress = Progress(requests)
        self._account = account
        self._backlog = deque(range(requests))
        self._live: set[int] = set()
        self._reads: deque[Callable[[], None]] = deque()  # of priority 10: ahead of submits
        self._submits: deque[Callable[[], None]] = deque()
        self._busy = 0
        self._rate = self.START_PER_S
        self._next_at = 0.0
        self._slowed_at = -math.inf
        self._successes = 0
        self._is_pumping = False
        account.at(0.0, self._feed)
        account.at(self.POLL_S, self._poll)

    def _feed(self) -> None:
        while self._backlog and len(self._live) < self.LIVE_MAX:
            request = self._backlog.popleft()
            self._live.add(request)
            self._submits.append(lambda request=request: self._submit(request, 0))
        self._pump()

    def _pump(self) -> None:
        while (self._reads or self._submits) and self._busy < self.THREADS:
            if self._account.now < self._next_at:
                if not self._is_pumping:
                    self._is_pumping = True
                    self._account.at(self._next_at, self._pump_again)
                return
            self._next_at = max(self._account.now, self._next_at) + 1 / self._rate
            self._busy += 1
            (self._reads or self._submits).popleft()()

    def _pump_again(self) -> None:
        self._is_pumping = False
        self._pump()

    def _answered(self, is_ok: bool) -> None:
        now = self._account.now
        if is_ok:
            self._successes += 1
            if self._successes >= 100 and (self._reads or self._submits):  # the limiter was binding; no ceiling
                self._successes, self._rate = 0, self._rate * 1.2
        elif now - self._slowed_at >= 1.0:
            self._slowed_at, self._successes = now, 0
            self._rate = max(self.FLOOR_PER_S, self._rate / 2)

    def _done(self) -> None:
        self._busy -= 1
        self._pump()

    def _submit(self, request: int, retried: int) -> None:
        def answered(is_ok: bool) -> None:
            self._answered(is_ok)
            if not is_ok and retried < self.RETRIES:  # the thread sleeps
                self._account.at(self._account.now + retried + 1.0, lambda: self._submit(request, retried + 1))
                return
            if not is_ok:
                self._live.discard(request)
                self.progress.given_up.add(request)
                self._feed()
            self._done()

        self._account.submit(request, answered)

    def _poll(self) -> None:
        accepted = sorted(request for request in self._live if request in self._account.accepted_at)
        for start in range(0, len(accepted), 100):
            chunk = accepted[start : start + 100]
            self._reads.append(lambda chunk=chunk: self._describe(chunk, 0))
        self._pump()
        self._account.at(self._account.now + self.POLL_S, self._poll)

    def _describe(self, chunk: list[int], retried: int) -> None:
        def answered(seen: dict[int, str] | None) -> None:
            self._answered(seen is not None)
            if seen is None and retried < self.RETRIES:
                self._account.at(self._account.now + retried + 1.0, lambda: self._describe(chunk, retried + 1))
                return
            for request, status in (seen or {}).items():
                if status == "SUCCEEDED" and request in self._live:
                    self._live.discard(request)
                    self.progress.ended.add(request)
            self._feed()
            self._done()

        self._account.describe(chunk, answered)


class Flyte:
    """Two fixed buckets, 15 per second each; what was throttled waits for the next round of 30 s."""

    name = "Flyte"
    PER_S, BURST = 15.0, 20
    ROUND_S = 30.0
    JOBS_MAX = 10_000
    PARALLEL = 20

    def __init__(self, account: Account, requests: int) -> None:
        self.progress = Progress(requests)
        self._account = account
        self._backlog = deque(range(requests))
        self._again: list[int] = []
        self._live: set[int] = set()
        self._lanes = {"write": _Bucket(self.PER_S, self.BURST), "read": _Bucket(self.PER_S, self.BURST)}
        self._queued: dict[str, deque[Callable[[], None]]] = {"write": deque(), "read": deque()}
        self._busy = dict.fromkeys(self._lanes, 0)
        self._is_waiting = dict.fromkeys(self._lanes, False)
        account.at(0.0, self._round)

    def _round(self) -> None:
        self._backlog.extendleft(reversed(self._again))
        self._again.clear()
        self._feed()
        asked = sorted(request for request in self._live if request in self._account.accepted_at)
        for start in range(0, len(asked), 100):
            chunk = asked[start : start + 100]
            self._queued["read"].append(lambda chunk=chunk: self._describe(chunk))
        self._pump("read")
        self._account.at(self._account.now + self.ROUND_S, self._round)

    def _feed(self) -> None:
        while self._backlog and len(self._live) < self.JOBS_MAX:
            request = self._backlog.popleft()
            self._live.add(request)
            self._queued["write"].append(lambda request=request: self._submit(request))
        self._pump("write")

    def _pump(self, lane: str) -> None:
        while self._queued[lane] and self._busy[lane] < self.PARALLEL:
            wait_s = self._lanes[lane].wait_s(self._account.now)
            if wait_s > 1e-9:
                if not self._is_waiting[lane]:
                    self._is_waiting[lane] = True
                    self._account.at(self._account.now + wait_s, lambda: self._pump_again(lane))
                return
            self._lanes[lane].take()
            self._busy[lane] += 1
            self._queued[lane].popleft()()

    def _pump_again(self, lane: str) -> None:
        self._is_waiting[lane] = False
        self._pump(lane)

    def _submit(self, request: int) -> None:
        def answered(is_ok: bool) -> None:
            self._busy["write"] -= 1
            if not is_ok:
                self._live.discard(request)
                self._again.append(request)
            self._pump("write")

        self._account.submit(request, answered)

    def _describe(self, chunk: list[int]) -> None:
        def answered(seen: dict[int, str] | None) -> None:
            self._busy["read"] -= 1
            for request, status in (seen or {}).items():
                if status == "SUCCEEDED":
                    self._live.discard(request)
                    self.progress.ended.add(request)
            self._feed()
            self._pump("read")

        self._account.describe(chunk, answered)


class PlainLoop:
    """A pool of 16 threads on one SDK client in ``adaptive`` mode, 3 attempts; one loop that asks for status."""

    name = "SDK loop, adaptive"
    THREADS = 16
    ATTEMPTS = 3
    SLEEP_S = 10.0

    def __init__(self, account: Account, requests: int) -> None:
        self.progress = Progress(requests)
        self._account = account
        self._backlog = deque(range(requests))
        self._live: set[int] = set()
        clock: Any = SimpleNamespace(current_time=lambda: account.now)
        self._cubic = CubicCalculator(starting_max_rate=0, start_time=0.0)
        self._clocker = RateClocker(clock)
        self._is_enabled = False
        self._bucket = _Bucket(1.0, 1.0)
        for _ in range(self.THREADS):
            account.at(0.0, self._thread)
        account.at(self.SLEEP_S, self._poll)

    def _in_turn(self, send: Callable[[], None]) -> None:
        """botocore's ``before-send``: unlimited until the first throttle."""
        if not self._is_enabled:
            send()
            return
        wait_s = self._bucket.wait_s(self._account.now)
        if wait_s > 1e-9:
            self._account.at(self._account.now + wait_s, lambda: self._in_turn(send))
            return
        self._bucket.take()
        send()

    def _answered(self, is_ok: bool) -> None:
        """botocore's ``needs-retry``, with its own calculator and clocker."""
        now, measured = self._account.now, self._clocker.record()
        if is_ok:
            rate = self._cubic.success_received(now)
        else:
            used = min(measured, self._bucket.per_s) if self._is_enabled else measured
            rate = self._cubic.error_received(used, now)
            self._is_enabled = True
        self._bucket.change(max(0.5, min(rate, 2.0 * measured)), now)

    def _retry(self, attempt: int, again: Callable[[], None]) -> None:
        delay_s = min(20.0, self._account.chance() * 2 ** (attempt - 1))
        self._account.at(self._account.now + delay_s, again)

    def _thread(self) -> None:
        if self._backlog:
            request = self._backlog.popleft()
            self._in_turn(lambda: self._submit(request, 1))

    def _submit(self, request: int, attempt: int) -> None:
        def answered(is_ok: bool) -> None:
            self._answered(is_ok)
            if not is_ok and attempt < self.ATTEMPTS:
                self._retry(attempt, lambda: self._in_turn(lambda: self._submit(request, attempt + 1)))
                return
            (self._live if is_ok else self.progress.given_up).add(request)
            self._thread()

        self._account.submit(request, answered)

    def _poll(self) -> None:
        live = sorted(self._live)
        self._ask([live[start : start + 100] for start in range(0, len(live), 100)])

    def _ask(self, chunks: list[list[int]]) -> None:
        if not chunks:
            self._account.at(self._account.now + self.SLEEP_S, self._poll)
            return
        self._in_turn(lambda: self._describe(chunks, 1))

    def _describe(self, chunks: list[list[int]], attempt: int) -> None:
        def answered(seen: dict[int, str] | None) -> None:
            self._answered(seen is not None)
            if seen is None and attempt < self.ATTEMPTS:
                self._retry(attempt, lambda: self._in_turn(lambda: self._describe(chunks, attempt + 1)))
                return
            for request, status in (seen or {}).items():
                if status == "SUCCEEDED":
                    self._live.discard(request)
                    self.progress.ended.add(request)
            self._ask(chunks[1:])

        self._account.describe(chunks[0], answered)


class _Bucket:
    """A client's own token bucket."""

    def __init__(self, per_s: float, burst: float) -> None:
        self.per_s, self._burst, self._tokens, self._at = per_s, burst, burst, 0.0

    def wait_s(self, now: float) -> float:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self.per_s)
        self._at = now
        return max(0.0, (1.0 - self._tokens) / self.per_s)

    def take(self) -> None:
        self._tokens -= 1.0

    def change(self, per_s: float, now: float) -> None:
        self.wait_s(now)
        self.per_s, self._burst = per_s, max(1.0, per_s)
        self._tokens = min(self._tokens, self._burst)
