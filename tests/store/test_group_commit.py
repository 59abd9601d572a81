"""Group commit: what is shared, and what one caller can never do to another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import anyio
import pytest

from controller.adapters.runner import InlineRunner, ThreadRunner
from controller.adapters.store.group import GROUP_WRITES_MAX, Answer, GroupCommit
from controller.core.errors import StoreUnavailable
from controller.ports import DeleteOutbox, InsertJob, UpdateJob, Write
from tests.store.engines import BODY, AuditedStore, SqliteEngine, insert, queued, tracked, uid


def write(number: int) -> Write:
    return DeleteOutbox(keys=(number,))


class Ledger:
    """An ``apply`` that remembers its groups and answers as it is told."""

    def __init__(self) -> None:
        self.groups: list[list[list[int]]] = []
        self.failure: Exception | None = None

    def apply(self, calls: Sequence[Sequence[Write]]) -> Sequence[Answer]:
        self.groups.append([[w.keys[0] for w in writes if isinstance(w, DeleteOutbox)] for writes in calls])
        if self.failure is not None:
            raise self.failure
        return [[True] * len(writes) for writes in calls]


class GatedRunner:
    """A runner whose calls begin and end when the test says so; what has begun is not abandoned."""

    def __init__(self) -> None:
        self.begin, self.end = asyncio.Event(), asyncio.Event()

    async def run(self, function: Callable[[], object]) -> object:
        await self.begin.wait()
        result = function()
        with anyio.CancelScope(shield=True):
            await self.end.wait()
        return result


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_commits_that_arrive_together_share_a_transaction() -> None:
    """What arrives while a transaction runs forms the next one, in order of arrival."""
    ledger, runner = Ledger(), GatedRunner()
    commits = GroupCommit(ledger.apply, runner=runner)
    first = asyncio.create_task(commits.commit([write(0)]))
    await turns()
    others = [asyncio.create_task(commits.commit([write(n), write(n)])) for n in (1, 2, 3)]
    await turns()
    runner.begin.set()
    runner.end.set()

    assert list(await first) == [True]
    assert [list(await other) for other in others] == [[True, True]] * 3
    assert ledger.groups == [[[0]], [[1, 1], [2, 2], [3, 3]]]


async def test_leader_lingers_once_for_others() -> None:
    """With a linger, callers that come during it join the group that is being gathered."""
    ledger, gate, lingers = Ledger(), asyncio.Event(), []

    async def linger() -> None:
        lingers.append(1)
        await gate.wait()

    commits = GroupCommit(ledger.apply, runner=InlineRunner(), linger=linger)
    tasks = [asyncio.create_task(commits.commit([write(n)])) for n in range(3)]
    await turns()
    gate.set()
    await asyncio.gather(*tasks)

    assert ledger.groups == [[[0], [1], [2]]]
    assert len(lingers) == 1


async def test_groups_are_bounded() -> None:
    """A group takes no more writes than its bound, but a single larger call goes whole; order is kept."""
    half = GROUP_WRITES_MAX // 2
    sizes = (half, half, 1, half, 3 * half, 1)
    ledger, runner = Ledger(), GatedRunner()
    commits = GroupCommit(ledger.apply, runner=runner)
    tasks = [asyncio.create_task(commits.commit([write(n)] * size)) for n, size in enumerate(sizes)]
    runner.begin.set()
    runner.end.set()
    await asyncio.gather(*tasks)

    assert [[call[0] for call in group] for group in ledger.groups] == [[0, 1], [2, 3], [4], [5]]
    assert [len(call) for group in ledger.groups for call in group] == list(sizes)


@pytest.mark.parametrize(("victim", "where"), [(0, "linger"), (1, "linger"), (0, "runner")])
async def test_cancelled_before_the_transaction_takes_no_effect(victim: int, where: str) -> None:
    """A caller cancelled before its group is closed, or a leader before the transaction begins, is withdrawn; the
    others commit all the same."""
    ledger, runner, gate = Ledger(), GatedRunner(), asyncio.Event()
    commits = GroupCommit(ledger.apply, runner=runner, linger=gate.wait if where == "linger" else None)
    tasks = [asyncio.create_task(commits.commit([write(n)])) for n in range(3)]
    await turns()
    tasks[victim].cancel()
    await turns()
    is_withdrawn = tasks[victim].cancelled()
    gate.set()
    runner.begin.set()
    runner.end.set()

    assert is_withdrawn
    survivors = [number for number in range(3) if number != victim]
    assert [list(await tasks[number]) for number in survivors] == [[True]] * 2
    assert [call[0] for group in ledger.groups for call in group] == survivors


@pytest.mark.parametrize("victim", [0, 1], ids=["leader", "follower"])
async def test_cancelled_during_the_transaction_waits_for_its_end(victim: int) -> None:
    """A caller cancelled while its writes are in a transaction leaves when that has ended; the others get answers."""
    ledger, runner, gate = Ledger(), ThreadRunner(), asyncio.Event()
    begun, end = threading.Event(), threading.Event()

    def apply(calls: Sequence[Sequence[Write]]) -> Sequence[Answer]:
        begun.set()
        end.wait(10)
        return ledger.apply(calls)

    commits = GroupCommit(apply, runner=runner, linger=gate.wait)
    scopes = [anyio.CancelScope() for _ in range(3)]
    answers: dict[int, Sequence[bool]] = {}
    left: list[int] = []

    async def caller(number: int) -> None:
        with scopes[number]:
            try:
                answers[number] = await commits.commit([write(number)])
                await asyncio.sleep(0)
            finally:
                left.append(number)

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(caller, number)
        await turns()
        gate.set()
        await asyncio.to_thread(begun.wait, 10)
        scopes[victim].cancel()
        await turns()
        left_early = list(left)
        end.set()
    runner.close()

    assert left_early == []
    assert ledger.groups == [[[0], [1], [2]]]
    assert scopes[victim].cancelled_caught
    assert {number for number in range(3) if number != victim} <= answers.keys()
    assert all(list(answer) == [True] for answer in answers.values())


async def test_mistake_in_the_store_reaches_everyone() -> None:
    """An error nobody expected is the leader's to raise; the others get StoreUnavailable, and the next group runs."""
    ledger, runner = Ledger(), GatedRunner()
    ledger.failure = RuntimeError("a bug")
    gate = asyncio.Event()
    commits = GroupCommit(ledger.apply, runner=runner, linger=gate.wait)
    tasks = [asyncio.create_task(commits.commit([write(n)])) for n in range(2)]
    await turns()
    gate.set()
    runner.begin.set()
    runner.end.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(result) for result in results] == [RuntimeError, StoreUnavailable]
    ledger.failure = None
    assert list(await commits.commit([write(9)])) == [True]


def meeting(size: int) -> Callable[[], Awaitable[None]]:
    """A linger that lasts until the other callers of a test have come."""

    async def linger() -> None:
        await turns(size)

    return linger


async def test_guilty_caller_does_not_poison_the_others(engine: SqliteEngine) -> None:
    """Of callers that share a transaction only the one whose write breaks a rule fails; the others are committed."""
    store = await engine.open(linger=meeting(20))
    (job,) = await insert(store, queued(1))
    broken = tracked(job, batch_job_id=None, batch_job_arn=None)

    results = await asyncio.gather(
        store.commit([InsertJob(job=queued(2), body=BODY)]),
        store.commit(
            [InsertJob(job=queued(3, job_queue="new", job_queue_ref="new"), body=BODY), UpdateJob(job=broken)]
        ),
        store.commit([InsertJob(job=queued(4, job_queue="newer", job_queue_ref="newer"), body=BODY)]),
        return_exceptions=True,
    )

    assert isinstance(results[1], AssertionError)
    assert [list(results[0]), list(results[2])] == [[True], [True]]
    found = await store.find_requests([uid(n) for n in range(5)])
    assert found.keys() == {uid(1), uid(2), uid(4)}
    assert found[uid(4)][0].job_queue == "newer"
    assert await store.audit() == []


async def test_cancelled_callers_of_a_real_store(engine: SqliteEngine) -> None:
    """However callers are cancelled, every one that got an answer is stored, and the store stays consistent."""
    store = await engine.open(linger=meeting(3))
    acknowledged: set[str] = set()

    async def caller(number: int) -> None:
        await store.commit([InsertJob(job=queued(number), body=BODY)])
        acknowledged.add(uid(number))

    tasks = [asyncio.create_task(caller(number)) for number in range(60)]
    for number in range(0, 60, 3):
        await turns(1)
        tasks[number].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    stored = (await store.find_requests([uid(number) for number in range(60)])).keys()
    assert len(acknowledged) >= 40
    assert acknowledged <= stored
    assert await store.audit() == []


async def test_concurrent_inserts_of_one_id(store: AuditedStore) -> None:
    """Many callers that insert the same id get one True between them."""
    answers = await asyncio.gather(*(store.commit([InsertJob(job=queued(1), body=BODY)]) for _ in range(10)))
    assert sorted(applied for answer in answers for applied in answer) == [False] * 9 + [True]


async def test_follower_put_back_and_cancelled_hands_the_lead_on() -> None:
    """A leader cancelled before its transaction puts its group back; a cancelled follower of it must not keep the
    lead it is then given."""
    ledger, gate = Ledger(), asyncio.Event()

    class HeldRunner:
        """Holds the first call before it begins."""

        async def run(self, function: Callable[[], None]) -> None:
            await gate.wait()
            function()

    commits = GroupCommit(ledger.apply, runner=HeldRunner())
    tasks = [asyncio.create_task(commits.commit([write(n)])) for n in range(3)]
    await turns()
    tasks[1].cancel()
    await turns()
    tasks[0].cancel()
    await turns()
    gate.set()

    assert list(await asyncio.wait_for(tasks[2], 5)) == [True]
    assert tasks[0].cancelled()
    assert ledger.groups[-1][-1] == [2]
