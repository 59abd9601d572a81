"""Turns of tenants as properties, on the real backlog: nothing idles, nobody is passed over, nobody starves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.adapters.runner import InlineRunner
from controller.adapters.store.sqlite import SqliteStore, open_sqlite_store
from controller.core.job import Job, JobState, replace
from controller.core.tenants import in_turns
from controller.ports import InsertJob, UpdateJob
from tests.store.engines import BODY, NOON, STORE_ID, head, queued

TENANTS = "abcde"
HELD = "held:1"

Arrivals = list[tuple[str, int, bool]]
"""(tenant, priority, held) of each request that comes between two plans."""

ARRIVALS: st.SearchStrategy[Arrivals] = st.lists(
    st.tuples(st.sampled_from(TENANTS), st.integers(-5, 5), st.booleans()), max_size=8
)
STEPS = st.lists(st.tuples(ARRIVALS, st.integers(0, 6)), min_size=1, max_size=12)
"""What comes, and how many may then be sent."""


@dataclass
class Service:
    """The store and the stage's memory of who was served last."""

    store: SqliteStore
    numbers: Iterator[int]
    last: str | None = None
    served: list[Job] = field(default_factory=list)

    async def arrive(self, arrivals: Arrivals) -> None:
        writes = []
        for tenant, priority, is_held in arrivals:
            number = next(self.numbers)
            job = queued(
                number, tenant=tenant, priority=priority, job_definition=HELD if is_held else "train:3",
                received_at=NOON + number,
            )  # fmt: skip
            writes.append(InsertJob(job=job, body=BODY))
        if writes:
            assert all(await self.store.commit(writes))

    async def plan(self, sends: int) -> list[Job]:
        rows = await head(self.store, limit=sends, without_definitions=[HELD], after_tenant=self.last)
        chosen = in_turns(rows, sends)
        if chosen:
            await self.store.commit(
                [UpdateJob(job=replace(job, state=JobState.CANCELLED, finished_at=NOON)) for job in chosen]
            )
            self.last = chosen[-1].tenant
            self.served.extend(chosen)
        return chosen


def play(scene: Callable[[Service], object]) -> None:
    async def run() -> None:
        store = await open_sqlite_store(
            "sqlite:///:memory:",
            runner=InlineRunner(),
            sinks_of=lambda name: (),
            dead_letters=False,
            random_id=lambda: STORE_ID,
        )
        service = Service(store, iter(range(1, 1_000_000)))
        await scene(service)  # type: ignore[misc]
        await store.close()

    asyncio.run(run())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_nothing_idles_and_each_tenants_order_is_kept(steps: list[tuple[Arrivals, int]]) -> None:
    """Work-conserving: a plan sends as many as may be sent, whoever has them, and rows that are held take no turn.
    Within a tenant the first by effective priority goes first."""

    async def scene(service: Service) -> None:
        waiting: list[Job] = []
        await service.store.set_aging({}, 2.0)
        number = 0
        for arrivals, sends in steps:
            await service.arrive(arrivals)
            for tenant, priority, is_held in arrivals:
                number += 1
                if not is_held:
                    waiting.append(queued(number, tenant=tenant, priority=priority, received_at=NOON + number))
            chosen = await service.plan(sends)
            assert len(chosen) == min(sends, len(waiting))
            for job in chosen:
                own = [other for other in waiting if other.tenant == job.tenant]
                assert job.request_id == min(own, key=lambda each: each.received_at - 2.0 * each.priority).request_id
                waiting = [other for other in waiting if other.request_id != job.request_id]

    play(scene)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_between_two_turns_of_a_tenant_every_other_has_one_at_most(steps: list[tuple[Arrivals, int]]) -> None:
    """Bounded unfairness: while a tenant has a request to send, no other is served twice before it is served, however
    the sends are cut into plans and whatever the priorities say."""

    async def scene(service: Service) -> None:
        waiting: Counter[str] = Counter()
        since: dict[str, Counter[str]] = {}
        for arrivals, sends in steps:
            await service.arrive(arrivals)
            for tenant, _, is_held in arrivals:
                waiting[tenant] += not is_held
                if waiting[tenant]:
                    since.setdefault(tenant, Counter())
            for job in await service.plan(sends):
                for tenant, others in since.items():
                    others[job.tenant] += tenant != job.tenant
                    assert others[job.tenant] <= 1, (tenant, others)
                waiting[job.tenant] -= 1
                if waiting[job.tenant]:
                    since[job.tenant] = Counter()
                else:
                    del since[job.tenant]

    play(scene)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 6), st.integers(0, 4), st.integers(1, 4))
def test_a_stream_of_new_tenants_starves_nobody(known: int, new_each: int, sends: int) -> None:
    """With k tenants waiting and r new names for every request that is sent, for ever, each of the k is served within
    the rest of this round and the next one, k + k × (1 + r) requests, rounded up to whole plans."""

    async def scene(service: Service) -> None:
        await service.arrive([(f"known-{n}", 0, False) for n in range(known) for _ in range(3)])
        names = iter(range(1_000_000))
        bound = known + known * (1 + new_each) + 2 * sends * (1 + new_each)
        unserved = {f"known-{n}" for n in range(known)}
        while unserved:
            await service.arrive([(f"new-{next(names)}", 1_000, False) for _ in range(new_each * sends)])
            unserved -= {job.tenant for job in await service.plan(sends)}
            assert len(service.served) <= bound, unserved

    play(scene)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(-5, 5), st.integers(0, 8), st.booleans())
def test_a_low_priority_starves_nobody_within_a_tenant(low: int, above: int, is_shared: bool) -> None:
    """Against an endless stream of its own tenant's requests, n steps of priority above it and as many as are sent, a
    request is sent after n × aging_s; beside a tenant that floods it takes its turns, twice as many requests."""
    aging_s = 2.0

    async def scene(service: Service) -> None:
        await service.store.set_aging({}, aging_s)
        await service.arrive([("own", low, False)])
        first = queued(1).request_id
        turns = 2 if is_shared else 1
        for _ in range(int(aging_s * above) + 2):
            # One second passes with each arrival: that is how ``arrive`` dates them.
            await service.arrive([("own", low + above, False)])
            if is_shared:
                await service.store.commit(
                    [InsertJob(job=queued(10_000 + len(service.served) + n, tenant="flood"), body=BODY) for n in (0, 1)]
                )
            if first in {job.request_id for job in await service.plan(turns)}:
                return
        raise AssertionError(f"{above} steps above it for {aging_s * above} s, and not sent")

    play(scene)
