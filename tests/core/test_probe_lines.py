"""Lines in which held pairs wait for their probes: what each line has is asked for as seconds between two probes."""

from __future__ import annotations

from controller.core.probe_lines import ALLOWED, PROBES_PER_S, Line, ProbeLines


def lines(**lengths: int) -> ProbeLines:
    """Of tenants by name, with so many pairs each."""
    made = ProbeLines()
    for tenant, length in lengths.items():
        add(made, tenant, length)
    return made


def add(made: ProbeLines, line: Line, length: int) -> None:
    for number in range(length):
        made.join((f"{line}", f"{number}"), line)


def probes_per_s(made: ProbeLines, **lengths: int) -> float:
    return sum(1 / made.turn_s((line, f"{number}")) for line, length in lengths.items() for number in range(length))


def test_one_line_has_all_probes() -> None:
    assert lines(flood=100).turn_s(("flood", "0")) == 100 / PROBES_PER_S


def test_tenants_have_equal_parts_whatever_they_hold() -> None:
    made = lines(flood=10_000, modest=1)
    assert made.turn_s(("modest", "0")) == 2 / PROBES_PER_S
    assert made.turn_s(("flood", "0")) == 20_000 / PROBES_PER_S


def test_half_of_the_probes_are_for_pairs_that_were_allowed() -> None:
    """However many tenants have how many others."""
    made = lines(**{f"tenant-{number}": 10 for number in range(100)})
    add(made, ALLOWED, 1)
    assert made.turn_s(("None", "0")) == 2 / PROBES_PER_S
    assert made.was_allowed(("None", "0"))
    assert not made.was_allowed(("tenant-0", "0"))


def test_all_lines_together_have_no_more_than_there_are() -> None:
    made = lines(a=1, b=20, c=300)
    add(made, ALLOWED, 7)
    total = probes_per_s(made, a=1, b=20, c=300) + 7 / made.turn_s(("None", "0"))
    assert abs(total - PROBES_PER_S) < 1e-9


def test_who_leaves_makes_no_line_longer_and_may_come_back() -> None:
    made = lines(a=2)
    add(made, ALLOWED, 1)
    made.leave(("None", "0"))
    made.leave(("None", "0"))
    assert made.turn_s(("a", "0")) == 2 / PROBES_PER_S
    made.join(("a", "0"), ALLOWED)
    assert len(made) == 2
    assert made.was_allowed(("a", "0"))
    for number in range(2):
        made.leave(("a", f"{number}"))
    assert not len(made)
