"""Waiting for a turn: order, limits, cancellation and throttles, on a clock that only the tests move."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable

import anyio
import pytest

from controller.budgets import SHARES, Budgets, Purpose
from controller.core.errors import BadCredentials
from controller.core.limits import PACING_GUARD
from controller.core.pacing import CUT

CEILINGS = {Purpose.SUBMIT: 40.0, Purpose.DESCRIBE: 8.0, Purpose.LIST: 5.0, Purpose.TERMINATE: 10.0}


class _HandClock:
    """Time stands still until every task waits, then jumps to the next waker."""

    def __init__(self) -> None:
        self._now = 1_000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), done))
        await done

    async def settle(self) -> None:
        """Let every task run until it waits for something."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def run(self, seconds: float) -> None:
        end = self._now + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, done = heapq.heappop(self._sleepers)
            if not done.done():
                self._now = max(self._now, at)
                done.set_result(None)
                await self.settle()
        self._now = end

    def stall(self, seconds: float) -> None:
        """Time passes and nobody gets to run."""
        self._now += seconds


@pytest.fixture
def clock() -> _HandClock:
    return _HandClock()


def _budgets(clock: _HandClock, total_per_s: float = 48.0, **ceilings: float) -> Budgets:
    return Budgets(clock, {**CEILINGS, **{Purpose(name): rate for name, rate in ceilings.items()}}, total_per_s)


class _Callers:
    """Tasks that call as fast as they may, and when each call was sent."""

    def __init__(self, clock: _HandClock, budgets: Budgets) -> None:
        self.clock = clock
        self.budgets = budgets
        self.sent: list[tuple[float, Purpose]] = []

    async def forever(self, purpose: Purpose) -> None:
        while True:
            await self.once(purpose)

    async def once(self, purpose: Purpose) -> None:
        await self.budgets.acquire(purpose)
        self.sent.append((self.clock.monotonic(), purpose))

    def times(self, purpose: Purpose | None = None) -> list[float]:
        return [at for at, sent in self.sent if purpose is None or sent is purpose]


async def _with_tasks(body: Callable[[anyio.abc.TaskGroup], Awaitable[None]]) -> None:
    async with anyio.create_task_group() as tasks:
        await body(tasks)
        tasks.cancel_scope.cancel()


def _most_in_a_second(times: list[float]) -> int:
    return max((sum(first <= at < first + 1 for at in times) for first in times), default=0)


async def test_a_full_budget_holds_in_every_window(clock: _HandClock) -> None:
    """32 callers of one purpose never send more than its ceiling in any second, and nearly as much on average."""
    callers = _Callers(clock, _budgets(clock))

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        for _ in range(32):
            tasks.start_soon(callers.forever, Purpose.SUBMIT)
        await clock.run(20.0)

    await _with_tasks(body)
    assert _most_in_a_second(callers.times()) <= 40
    assert len(callers.times()) >= 20 * 40 / (1 + PACING_GUARD) - 1


async def test_the_total_holds_and_nobody_starves(clock: _HandClock) -> None:
    """With every purpose asking for all it may have and a total below their sum, the total holds in every second, and
    each purpose gets its share of it."""
    callers = _Callers(clock, _budgets(clock, total_per_s=30.0))

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        for purpose in Purpose:
            for _ in range(8):
                tasks.start_soon(callers.forever, purpose)
        await clock.run(21.0)

    await _with_tasks(body)
    assert _most_in_a_second(callers.times()) <= 30
    counts = Counter(purpose for _, purpose in callers.sent)
    assert sum(counts.values()) >= 30 * 20 - 2
    for purpose, share in SHARES.items():
        assert counts[purpose] >= 0.9 * min(CEILINGS[purpose], share * 30) * 20, purpose
    for purpose, ceiling in CEILINGS.items():
        assert _most_in_a_second(callers.times(purpose)) <= ceiling


async def test_a_total_that_suffices_costs_nothing(clock: _HandClock) -> None:
    """With the default rates, submits and describes together come to the total, and both are served in full."""
    callers = _Callers(clock, _budgets(clock))

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        for _ in range(8):
            tasks.start_soon(callers.forever, Purpose.SUBMIT)
            tasks.start_soon(callers.forever, Purpose.DESCRIBE)
        await clock.run(42.0)

    await _with_tasks(body)
    assert _most_in_a_second(callers.times()) <= 48
    assert len(callers.times(Purpose.SUBMIT)) >= 40 * 40 * 0.99
    assert len(callers.times(Purpose.DESCRIBE)) >= 40 * 8 * 0.99


async def test_a_tight_total_is_shared_by_the_minimums(clock: _HandClock) -> None:
    """When the total is less than what each purpose may have, each gets its minimum."""
    callers = _Callers(clock, _budgets(clock, total_per_s=4.0))

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        for purpose in Purpose:
            for _ in range(3):
                tasks.start_soon(callers.forever, purpose)
        await clock.run(42.5)

    await _with_tasks(body)
    counts = Counter(purpose for _, purpose in callers.sent)
    assert sum(counts.values()) >= 160
    for purpose, share in SHARES.items():
        assert counts[purpose] == pytest.approx(share * sum(counts.values()), abs=3), purpose
        assert counts[purpose] >= 42.0 * callers.budgets.least_rate_per_s(purpose) / (1 + PACING_GUARD) - 1, purpose


@pytest.mark.parametrize("idle", list(Purpose))
async def test_what_one_purpose_does_not_use_the_others_get(clock: _HandClock, idle: Purpose) -> None:
    """Whichever purpose is idle, the total is used up by the others, each with its minimum at least."""
    callers = _Callers(clock, _budgets(clock, total_per_s=10.0))

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        for purpose in set(Purpose) - {idle}:
            for _ in range(3):
                tasks.start_soon(callers.forever, purpose)
        await clock.run(42.5)

    await _with_tasks(body)
    counts = Counter(purpose for _, purpose in callers.sent)
    assert sum(counts.values()) >= 400
    for purpose in set(Purpose) - {idle}:
        assert counts[purpose] >= SHARES[purpose] * 400 - 2


async def test_a_terminate_does_not_wait_behind_submits(clock: _HandClock) -> None:
    """With hundreds of submits in line and a total that is used up by them and by reads, a terminate that comes once a
    second goes out as soon as the total has a slot for anybody."""
    callers = _Callers(clock, _budgets(clock, total_per_s=10.0))
    waits: list[float] = []

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        async def terminate() -> None:
            since = clock.monotonic()
            await callers.once(Purpose.TERMINATE)
            waits.append(clock.monotonic() - since)

        for _ in range(200):
            tasks.start_soon(callers.forever, Purpose.SUBMIT)
        tasks.start_soon(callers.forever, Purpose.DESCRIBE)
        tasks.start_soon(callers.forever, Purpose.LIST)
        await clock.run(5.0)
        for _ in range(20):
            tasks.start_soon(terminate)
            await clock.run(1.0)

    await _with_tasks(body)
    gaps = [later - at for at, later in itertools.pairwise(callers.times())]
    assert len(waits) == 20
    assert max(waits) <= max(gaps) + 1e-9


async def test_credentials_are_fetched_before_a_slot_is_spent(clock: _HandClock) -> None:
    """While the SDK fetches credentials for ten seconds nothing is spent, and what waited for them leaves at the
    budget's rate instead of together."""
    fetched_at = 1_010.0

    async def fetch() -> None:
        if clock.monotonic() < fetched_at:
            await clock.sleep(fetched_at - clock.monotonic())

    callers = _Callers(clock, Budgets(clock, CEILINGS, 48.0, fetch_credentials=fetch))

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        for _ in range(32):
            tasks.start_soon(callers.once, Purpose.SUBMIT)
        await clock.run(20.0)

    await _with_tasks(body)
    assert len(callers.times()) == 32
    assert callers.times()[0] >= fetched_at
    spacings = [later - at for at, later in itertools.pairwise(callers.times())]
    assert min(spacings) >= (1 + PACING_GUARD) / 40 - 1e-3


async def test_without_credentials_no_slot_is_spent_and_the_line_goes_on(clock: _HandClock) -> None:
    """A caller that gets no credentials is told so; the next one has the slot."""
    errors = [BadCredentials("expired", call="sts:credentials")]

    async def fetch() -> None:
        if errors:
            raise errors.pop()

    callers = _Callers(clock, Budgets(clock, CEILINGS, 48.0, fetch_credentials=fetch))
    refused: list[BadCredentials] = []

    async def call() -> None:
        try:
            await callers.once(Purpose.LIST)
        except BadCredentials as error:
            refused.append(error)

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        tasks.start_soon(call)
        tasks.start_soon(call)
        await clock.run(5.0)

    await _with_tasks(body)
    assert len(refused) == 1
    assert callers.times() == pytest.approx([1_000 + (1 + PACING_GUARD) / 5])


async def test_each_wait_is_told_with_its_cause(clock: _HandClock) -> None:
    """A budget that is used up is named as the cause, and the total where that is what is lacking; nobody is told of
    waits that were none."""
    waited: dict[str, float] = defaultdict(float)

    def told(cause: str, seconds: float) -> None:
        assert seconds > 0
        waited[cause] += seconds

    async def until(total_per_s: float) -> None:
        waited.clear()
        callers = _Callers(clock, Budgets(clock, CEILINGS, total_per_s, waited=told))

        async def body(tasks: anyio.abc.TaskGroup) -> None:
            for _ in range(8):
                tasks.start_soon(callers.forever, Purpose.SUBMIT)
            await clock.run(10.0)

        await _with_tasks(body)

    await until(1_000.0)
    assert waited["budget_submit"] == pytest.approx(10.0, rel=0.02)
    assert waited["budget_total"] <= 0.1
    await until(5.0)
    assert waited["budget_total"] >= 8.5
    assert sum(waited.values()) == pytest.approx(10.0, rel=0.02)


async def test_first_come_first_served(clock: _HandClock) -> None:
    """Callers of one purpose get their turns in the order in which they came."""
    budgets = _budgets(clock)
    served: list[int] = []

    async def call(number: int) -> None:
        await budgets.acquire(Purpose.LIST)
        served.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(call, number)
            await clock.settle()
        assert budgets.waiting(Purpose.LIST) == 10
        await clock.run(10.0)
    assert served == list(range(10))
    assert budgets.waiting(Purpose.LIST) == 0


async def test_a_stall_is_not_made_up_for(clock: _HandClock) -> None:
    """After ten seconds in which the loop did not run, no second holds more than the ceiling."""
    callers = _Callers(clock, _budgets(clock))

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        for _ in range(8):
            tasks.start_soon(callers.forever, Purpose.DESCRIBE)
        await clock.run(3.0)
        clock.stall(10.0)
        await clock.run(3.0)

    await _with_tasks(body)
    assert _most_in_a_second(callers.times()) <= 8
    assert len(callers.times()) <= 6 * 8


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_a_cancelled_caller_gives_its_place_up(clock: _HandClock, victim: int) -> None:
    """Cancelled at the head of the line or behind it, a caller delays nobody, spends nothing and is not counted."""
    budgets = _budgets(clock)
    served: list[tuple[int, float]] = []

    async def call(number: int, scope: anyio.CancelScope) -> None:
        with scope:
            await budgets.acquire(Purpose.LIST)
            served.append((number, clock.monotonic()))

    scopes = [anyio.CancelScope() for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for number, scope in enumerate(scopes):
            tasks.start_soon(call, number, scope)
            await clock.settle()
        scopes[victim].cancel()
        await clock.settle()
        assert budgets.waiting(Purpose.LIST) == 2
        await clock.run(5.0)
    spacing_s = (1 + PACING_GUARD) / 5
    assert [number for number, _ in served] == [number for number in range(3) if number != victim]
    assert [at for _, at in served] == pytest.approx([1_000 + spacing_s, 1_000 + 2 * spacing_s])


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.105, 0.2, 0.21])
async def test_whenever_callers_are_cancelled_the_rest_go_on(clock: _HandClock, delay: float) -> None:
    """Cancelling every second caller again and again, at the moment of a hand-over too, stops no line."""
    budgets = _budgets(clock, total_per_s=10.0)
    callers = _Callers(clock, budgets)

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        tasks.start_soon(callers.forever, Purpose.LIST)
        tasks.start_soon(callers.forever, Purpose.SUBMIT)
        for _ in range(20):
            async with anyio.create_task_group() as doomed:
                doomed.start_soon(callers.forever, Purpose.LIST)
                doomed.start_soon(callers.forever, Purpose.SUBMIT)
                await clock.run(delay)
                doomed.cancel_scope.cancel()
            await clock.settle()
            assert budgets.waiting(Purpose.LIST) == budgets.waiting(Purpose.SUBMIT) == 1
        began_at = clock.monotonic()
        await clock.run(10.0)
        assert sum(at > began_at for at in callers.times(Purpose.LIST)) >= 22
        assert sum(at > began_at for at in callers.times()) >= 94

    await _with_tasks(body)
    assert _most_in_a_second(callers.times()) <= 10


async def test_a_throttle_cuts_only_its_own_budget(clock: _HandClock) -> None:
    """A throttled describe slows describes; the rates say so, and the total and the ceilings stay."""
    budgets = _budgets(clock)
    await clock.run(5.0)
    budgets.throttled(Purpose.DESCRIBE)
    assert budgets.rates() == pytest.approx(
        {"submit": 40.0, "describe": 8.0 * CUT, "list": 5.0, "terminate": 10.0, "total": 48.0}
    )
    assert budgets.ceilings() == {"submit": 40.0, "describe": 8.0, "list": 5.0, "terminate": 10.0, "total": 48.0}


def test_a_ceiling_is_the_rate_that_is_reached_without_throttling(clock: _HandClock) -> None:
    """A configured rate with a fraction is rounded down from 1 on, and so is the ceiling that is shown."""
    budgets = _budgets(clock, submit=1.9, describe=0.25)
    assert budgets.ceilings() == budgets.rates()


async def test_a_throttle_holds_for_who_waits_already(clock: _HandClock) -> None:
    """A caller that waits when its budget is cut waits by the new rate, and blocks no other purpose meanwhile."""
    budgets = _budgets(clock, total_per_s=10.0, describe=1.0)
    callers = _Callers(clock, budgets)

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        tasks.start_soon(callers.once, Purpose.DESCRIBE)
        tasks.start_soon(callers.forever, Purpose.LIST)
        await clock.run(1.0)
        budgets.throttled(Purpose.DESCRIBE)
        await clock.run(1.0)

    await _with_tasks(body)
    (described_at,) = callers.times(Purpose.DESCRIBE)
    assert described_at - 1_000 >= (1 + PACING_GUARD) / CUT - 1e-9
    gaps = [b - a for a, b in itertools.pairwise(callers.times(Purpose.LIST))]
    assert max(gaps) <= (1 + PACING_GUARD) * (1 / 5 + 1 / 10) + 1e-9


async def test_a_throttle_holds_for_who_waits_for_the_total(clock: _HandClock) -> None:
    """A caller whose own turn had come, and that waits for the total when its budget is cut, waits by the new rate."""
    budgets = _budgets(clock, total_per_s=9.0, terminate=10.0)
    callers = _Callers(clock, budgets)

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        tasks.start_soon(callers.once, Purpose.TERMINATE)
        await clock.run(0.11)
        budgets.throttled(Purpose.TERMINATE)
        await clock.run(1.0)

    await _with_tasks(body)
    (terminated_at,) = callers.times()
    assert terminated_at - 1_000 == pytest.approx((1 + PACING_GUARD) / 10 / CUT)


async def test_success_brings_a_cut_rate_back(clock: _HandClock) -> None:
    """Used fully and without another throttle, a budget is at its ceiling again within a minute."""
    budgets = _budgets(clock)
    await clock.run(1.0)
    budgets.throttled(Purpose.DESCRIBE)

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        async def call() -> None:
            while True:
                await budgets.acquire(Purpose.DESCRIBE)
                budgets.succeeded(Purpose.DESCRIBE)

        tasks.start_soon(call)
        await clock.run(60.0)

    await _with_tasks(body)
    assert budgets.rates()["describe"] == 8.0


async def test_says_how_long_a_caller_would_wait(clock: _HandClock) -> None:
    """The expected wait counts those in line, at the slower of the purpose's rate and the total's."""
    budgets = _budgets(clock)
    spacing_s = (1 + PACING_GUARD) / 5
    assert budgets.expected_wait_s(Purpose.LIST) == pytest.approx(spacing_s)

    async def body(tasks: anyio.abc.TaskGroup) -> None:
        for _ in range(3):
            tasks.start_soon(budgets.acquire, Purpose.LIST)
        await clock.settle()
        assert budgets.expected_wait_s(Purpose.LIST) == pytest.approx(4 * spacing_s)

    await _with_tasks(body)
