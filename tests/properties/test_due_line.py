"""The line of due jobs against a sorted list, whatever is put, put again, removed and taken."""

from __future__ import annotations

from array import array

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controller.core.due_line import NO_ENTRY, SLACK, DueLine

SLOTS = 30
ticks = st.integers(0, 60) | st.integers(0, 100_000)


class DueLineMachine(RuleBasedStateMachine):
    """Two lines over the same slots, compared with dicts."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = array("q", [NO_ENTRY]) * SLOTS
        self.lines = [DueLine(number, self.entries) for number in (0, 1)]
        self.due: list[dict[int, int]] = [{}, {}]

    @rule(slot=st.integers(0, SLOTS - 1), tick=ticks, line=st.integers(0, 1))
    def put(self, slot: int, tick: int, line: int) -> None:
        self.lines[line].put(slot, tick)
        self.due[1 - line].pop(slot, None)
        self.due[line][slot] = tick

    @rule(slot=st.integers(0, SLOTS - 1))
    def remove(self, slot: int) -> None:
        self.entries[slot] = NO_ENTRY
        for due in self.due:
            due.pop(slot, None)

    @rule(until=ticks, size=st.integers(1, SLOTS), line=st.integers(0, 1))
    def take(self, until: int, size: int, line: int) -> None:
        taken: list[int] = []
        self.lines[line].take(until, taken, size)
        due = self.due[line]
        expected = sorted((tick, slot) for slot, tick in due.items() if tick <= until)[:size]
        assert [due.pop(slot) for slot in taken] == [tick for tick, _ in expected]
        assert len(taken) == len(expected)

    @rule()
    def clear_out(self) -> None:
        for line in self.lines:
            line.clear_out(sum(map(len, self.due)))

    @rule(slot=st.integers(0, SLOTS - 1), spread=st.integers(1, 5_000))
    def flood(self, slot: int, spread: int) -> None:
        """One job is rescheduled again and again, and what is left of it stays within bounds."""
        for tick in range(2 * SLACK):
            self.put(slot, 100 + tick * spread, 0)
            self.clear_out()
        assert self.lines[0].size <= 3 * SLACK

    @invariant()
    def knows_who_is_next(self) -> None:
        for line, due in zip(self.lines, self.due, strict=True):
            assert line.next_tick() == min(due.values(), default=None)


TestDueLineMachine = DueLineMachine.TestCase
TestDueLineMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
