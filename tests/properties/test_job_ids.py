"""Ids by slot against plain dicts, with ids that meet in one table and ids that are no UUIDs."""

from __future__ import annotations

import uuid

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controller.core.job_ids import NO_SLOT, JobIds

uuids = st.integers(0, 40).map(lambda number: str(uuid.UUID(int=number)))
texts = st.sampled_from(
    ["job-1", "", str(uuid.UUID(int=1)) + ":7", str(uuid.UUID(int=0xAB << 120)).upper(), "0" * 36, "ä" * 36]
)


class JobIdsMachine(RuleBasedStateMachine):
    """Every sequence of calls, compared with a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = JobIds()
        self.slots: dict[str, int] = {}
        self.free: list[int] = list(range(60))

    @rule(job_id=uuids | texts, data=st.data())
    def put(self, job_id: str, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(self.free))
        is_new = job_id not in self.slots
        assert self.ids.put(slot, job_id) is is_new
        if is_new:
            self.slots[job_id] = slot
            self.free.remove(slot)

    @rule(data=st.data())
    @precondition(lambda self: self.slots)
    def remove(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.slots)))
        slot = self.slots.pop(job_id)
        self.ids.remove(slot)
        self.free.append(slot)

    @rule(job_id=uuids | texts)
    def look_up(self, job_id: str) -> None:
        assert self.ids.slot_of(job_id) == self.slots.get(job_id, NO_SLOT)

    @invariant()
    def holds_the_same(self) -> None:
        assert len(self.ids) == len(self.slots)
        assert {self.ids.text(slot): slot for slot in self.slots.values()} == self.slots


TestJobIdsMachine = JobIdsMachine.TestCase
TestJobIdsMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5_000), st.integers(0, 2**64))
def test_many_ids_are_all_found(count: int, seed: int) -> None:
    """Tables that grow, and shrink again where most has gone, lose nothing and invent nothing."""
    ids = JobIds()
    names = [str(uuid.UUID(int=(seed + n) * 0x9E3779B97F4A7C15 % 2**128)) for n in range(count)]
    for slot, name in enumerate(names):
        assert ids.put(slot, name)
    for slot in range(0, count, 2):
        ids.remove(slot)
    for slot, name in enumerate(names):
        assert ids.slot_of(name) == (NO_SLOT if slot % 2 == 0 else slot)
    for slot in range(0, count, 2):
        assert ids.put(slot, names[slot])
    assert [ids.slot_of(name) for name in names] == list(range(count))
