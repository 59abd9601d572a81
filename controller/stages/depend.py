"""QUEUED requests that depend on other requests: let go once each of those has a job, ended if one never will.

The store marks what is to be considered, in the transaction that changes a request that others depend on, so nothing is
missed whenever the process ends. ``core.dependencies`` judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from controller.core.dependencies import circular, judge
from controller.core.job import Dependencies
from controller.core.lifecycle import Fact
from controller.ledger import Ledger
from controller.ports import Clock, Considered, Dependent, JobStore

CHUNK: Final = 100


class Depend:
    """One turn considers a chunk of requests."""

    def __init__(self, *, store: JobStore, ledger: Ledger, clock: Clock, wait_s: float) -> None:
        """``wait_s`` is for how long at most a request waits for others."""
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._wait_s = wait_s

    async def turn(self) -> float | None:
        """0: there is more to consider; None: nothing more before something changes."""
        if not self._store.has_dependents:
            return None
        now = self._clock.now()
        dependents = await self._store.dependents(received_by=now - self._wait_s, limit=CHUNK)
        await self._consider(dependents, now)
        return 0.0 if len(dependents) >= CHUNK else None

    async def _consider(self, dependents: Sequence[Dependent], now: float) -> None:
        ids = {each.request_id for dependent in dependents for each in dependent.dependencies}
        if not ids:
            return
        lives = await self._store.find_requests(sorted(ids))
        facts: dict[int, Fact] = {}
        undecided: list[Dependent] = []
        for index, dependent in enumerate(dependents):
            names = [each.request_id for each in dependent.dependencies]
            fact = judge(dependent.job, names, lives, now=now, wait_s=self._wait_s)
            if fact is not None:
                facts[index] = fact
            elif dependent.job.dependencies is Dependencies.UNMET:
                undecided.append(dependent)
        closed = await self._store.circular([each.job.key for each in undecided]) if undecided else frozenset()
        for index, dependent in enumerate(dependents):
            if dependent.job.key in closed:
                facts[index] = circular(dependent.job.request_id)
        await self._ledger.record([(dependents[index].job, fact) for index, fact in sorted(facts.items())])
        considered = [Considered(key=each.job.key, dependencies=each.dependencies) for each in dependents]
        await self._store.commit(considered)
