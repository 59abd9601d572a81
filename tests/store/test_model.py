"""Conformance: random histories, compared with a model that keeps every row in a list."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.core.job import BatchStatus, Dependencies, Job, JobState, RowKey
from controller.ports import Considered, InsertJob, UpdateJob, UsageRow, Write
from tests.store.engines import (
    BODY,
    ENGINES,
    NOON,
    AuditedStore,
    doubted,
    ended,
    finished,
    head,
    queued,
    submitting,
    tracked,
    uid,
)

UNSENT = (JobState.QUEUED, JobState.SUBMITTING)


@dataclasses.dataclass(frozen=True)
class Step:
    """One write: an insert of an id, or a change of the row that ``pick`` falls on."""

    kind: str
    pick: int
    number: int
    is_stale: bool = False


KINDS = (
    "insert",
    "insert",
    "meet",
    "admit",
    "doubt",
    "requeue",
    "track",
    "observe",
    "cancel",
    "reject",
    "end",
    "close",
)
STEPS = st.builds(
    Step, st.sampled_from(KINDS), st.integers(0, 50), st.integers(0, 6), st.sampled_from([False, False, False, True])
)
HISTORIES = st.lists(st.lists(st.lists(STEPS, min_size=1, max_size=4), min_size=1, max_size=3), max_size=12)
"""Rounds of concurrent commits of some steps each."""


def changed(job: Job, step: Step) -> Job:
    """A legal change of a row, or the row itself if the step does not fit its state."""
    is_unmet = job.dependencies is Dependencies.UNMET
    fits = {
        "meet": (
            JobState.QUEUED if is_unmet else None,
            lambda: dataclasses.replace(job, dependencies=Dependencies.MET),
        ),
        "admit": (
            None if is_unmet else JobState.QUEUED,
            lambda: submitting(job, first_intent_at=job.first_intent_at or NOON),
        ),
        "doubt": (JobState.SUBMITTING, lambda: doubted(job)),
        "requeue": (JobState.SUBMITTING, lambda: dataclasses.replace(job, state=JobState.QUEUED, is_in_doubt=False)),
        "track": (JobState.SUBMITTING, lambda: tracked(job)),
        "observe": (
            JobState.TRACKED,
            lambda: dataclasses.replace(job, batch_status=list(BatchStatus)[step.number % 5], attempts=step.number),
        ),
        "cancel": (
            job.state if not job.state.is_final else None,
            lambda: dataclasses.replace(job, cancel_requested_at=NOON + step.number, cancel_reason="why"),
        ),
        "reject": (JobState.SUBMITTING, lambda: finished(job, JobState.REJECTED, is_in_doubt=False)),
        "end": (JobState.TRACKED, lambda: finished(job, [JobState.FAILED, JobState.LOST][step.number % 2])),
        "close": (JobState.QUEUED, lambda: finished(job, JobState.CANCELLED)),
    }
    state, change = fits[step.kind]
    return change() if job.state is state else job


class Model:
    """Every row ever stored, by key, and how many events must wait in the outbox."""

    def __init__(self) -> None:
        self.rows: dict[RowKey, Job] = {}
        self.new: list[Job] = []
        self.events = 0
        self.depends_on: dict[str, tuple[str, ...]] = {}
        """By request id, which decides about it."""
        self.due: set[tuple[RowKey, str]] = set()

    def write(self, step: Step) -> Write:
        if step.kind == "insert" or not self.rows:
            depends_on = tuple(uid((step.number + n) % 7) for n in (1, 3))[: step.number % 3]
            self.depends_on[uid(step.number)] = depends_on
            job = queued(
                step.number,
                dependencies=Dependencies.UNMET if depends_on else Dependencies.NONE,
                received_at=NOON + step.pick,
                priority=step.pick % 3,
                job_queue=f"q{step.pick % 2}",
                source=f"s{step.pick % 3}",
                tenant=f"t{step.pick % 4 % 3}",
                job_definition=f"d{step.pick % 7 % 3}",
                array_size=5 if step.pick % 5 == 0 else None,
                expires_at=NOON + step.pick if step.pick % 4 == 0 else None,
            )
            return InsertJob(job=job, body=BODY, depends_on=depends_on, events=(ended(),))
        job = list(self.rows.values())[step.pick % len(self.rows)]
        row = changed(job, step)
        return UpdateJob(job=dataclasses.replace(row, version=job.version - step.is_stale), events=(ended(),))

    def apply(self, write: Write) -> bool:
        applies = self._insert(write.job) if isinstance(write, InsertJob) else self._update(write)
        self.events += applies
        return applies

    def _insert(self, job: Job) -> bool:
        lives = (*self.rows.values(), *self.new)
        if any(row.request_id == job.request_id and row.state is not JobState.REJECTED for row in lives):
            return False
        self.new.append(dataclasses.replace(job, version=1))
        return True

    def _update(self, write: Write) -> bool:
        assert isinstance(write, UpdateJob)
        if self.rows[write.job.key].version != write.job.version:
            return False
        before = self.rows[write.job.key]
        self.rows[write.job.key] = dataclasses.replace(write.job, version=write.job.version + 1)
        if before.state is JobState.SUBMITTING and write.job.state is JobState.QUEUED:
            self.due |= {(before.key, request_id) for request_id in self.depends_on[before.request_id]}
        if before.state is not write.job.state and write.job.state not in (*UNSENT, JobState.SUCCEEDED):
            self.due |= {
                (row.key, before.request_id)
                for row in self.rows.values()
                if before.request_id in self.depends_on[row.request_id]
            }
        return True

    def learn_keys(self, stored: dict[str, list[Job]]) -> None:
        """New rows get the keys that the store gave them; everything else must agree."""
        for job in self.new:
            life = stored[job.request_id][-1]
            assert life.key > max(self.rows, default=0)
            assert life == dataclasses.replace(job, key=life.key)
        for job in self.new:
            life = stored[job.request_id][-1]
            self.rows[life.key] = life
            self.due |= {(life.key, request_id) for request_id in self.depends_on[life.request_id]}
        self.rows = dict(sorted(self.rows.items()))
        self.new.clear()

    def dependents(self) -> set[RowKey]:
        return {key for key, _ in self.due if self.rows[key].state in UNSENT}

    def usage(self) -> Counter[UsageRow]:
        return Counter(
            UsageRow(
                source=row.source,
                job_queue=row.job_queue,
                state=row.state,
                batch_status=row.batch_status if row.state is JobState.TRACKED else None,
                is_in_doubt=row.is_in_doubt,
                is_array=row.is_array,
                is_unmet=row.dependencies is Dependencies.UNMET and row.state is JobState.QUEUED,
                count=0,
            )
            for row in self.rows.values()
            if not row.state.is_final
        )


async def compare(store: AuditedStore, model: Model) -> None:
    """Every answer of the store, worked out from the model's rows."""
    rows = list(model.rows.values())
    assert {dataclasses.replace(row, count=0): row.count for row in await store.usage()} == dict(model.usage())
    assert await store.load(list(model.rows)) == model.rows
    assert await store.audit() == []
    assert sum((await store.outbox_counts()).values()) == model.events
    waiting = [row for row in rows if row.state is JobState.QUEUED]
    for job_queue in ("q0", "q1"):
        here = [row for row in waiting if row.job_queue == job_queue]
        ranked = sorted(here, key=lambda row: (row.received_at - row.priority * 7.0, row.key))
        here = [row for row in here if row.dependencies is not Dependencies.UNMET]
        open_rows = [row for row in ranked if row in here and row.cancel_requested_at is None]
        offered = await head(store, job_queue)
        assert sorted(offered, key=ranked.index) == open_rows
        for held in (["d0"], ["d0", "d1"], ["d1"]):
            free = await head(store, job_queue, without_definitions=held)
            assert sorted(free, key=ranked.index) == [row for row in open_rows if row.job_definition not in held]
        for tenant in ("t0", "t1", "t2"):
            assert [row for row in offered if row.tenant == tenant] == [r for r in open_rows if r.tenant == tenant]
        assert len(list(itertools.groupby(offered, key=lambda row: row.tenant))) == len({r.tenant for r in open_rows})
        assert (await store.backlog_tenants()).get(job_queue, 0) == len({row.tenant for row in open_rows})
        oldest = (await store.oldest_backlog()).get(job_queue)
        assert oldest == min((row.received_at for row in here), default=None)
    assert await store.submitting() == [row for row in rows if row.state is JobState.SUBMITTING]
    tracked_rows = [row for row in rows if row.state is JobState.TRACKED]
    assert [row.key for row in await store.tracked(after=RowKey(0), limit=99)] == [row.key for row in tracked_rows]
    assert await store.terminating(after=RowKey(0), limit=99) == [
        row for row in tracked_rows if row.cancel_requested_at is not None
    ]
    dependents = await store.dependents(received_by=NOON + 20, limit=99)
    old = {row.key for row in waiting if row.dependencies is Dependencies.UNMET and row.received_at <= NOON + 20}
    assert {each.job.key for each in dependents} == model.dependents() | old
    for each in dependents:
        assert each.job == model.rows[each.job.key]
        assert {named.request_id for named in each.dependencies} == set(model.depends_on[each.job.request_id])
    due = NOON + 20
    assert sorted(row.key for row in await store.closing(due, limit=99)) == [
        row.key
        for row in waiting
        if row.cancel_requested_at is not None or (row.expires_at is not None and row.expires_at <= due)
    ]


async def play(name: str, history: list[list[list[Step]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        engine = ENGINES[name](Path(directory))
        store, model = await engine.open(), Model()
        await store.set_aging({}, 7.0)
        for commits in history:
            writes = [[model.write(step) for step in steps] for steps in commits]
            answers = await asyncio.gather(*(store.commit(group) for group in writes))
            assert [list(answer) for answer in answers] == [[model.apply(write) for write in group] for group in writes]
            model.learn_keys(dict(await store.find_requests([uid(number) for number in range(7)])))
            await compare(store, model)
            some = (await store.dependents(received_by=0.0, limit=99))[::2]
            await store.commit([Considered(key=each.job.key, dependencies=each.dependencies) for each in some])
            for each in some:
                model.due -= {(each.job.key, named.request_id) for named in each.dependencies}
        await store.close()
        store = await engine.open(report=pytest.fail)
        await store.set_aging({}, 7.0)
        await compare(store, model)
        await engine.close()


@pytest.mark.parametrize("name", ENGINES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=HISTORIES)
def test_store_agrees_with_the_model(name: str, history: list[list[list[Step]]]) -> None:
    """After any history of concurrent commits, stale ones among them, every answer is that of the model, counts are
    those of the rows, and so it is after a restart."""
    asyncio.run(play(name, history))
