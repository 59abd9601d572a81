"""Sharing one rate as properties: minimums hold, nothing is left unused, nobody waits long."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.core.sharing import FairTurns

_UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Many small draws: slow on a busy machine, which says nothing of what is tested."""
_SHARES = st.lists(st.floats(min_value=0.05, max_value=1.0), min_size=2, max_size=6).map(
    lambda weights: {number: weight / sum(weights) for number, weight in enumerate(weights)}
)


def _serve(turns: FairTurns[int], waiting: set[int]) -> int:
    chosen = turns.next()
    assert chosen is not None
    assert chosen in waiting, "work-conserving: whoever is chosen waits"
    turns.served(chosen)
    turns.leave(chosen)
    return chosen


@_UNHURRIED
@given(_SHARES, st.data())
def test_the_minimum_holds_whatever_the_others_do(shares: dict[int, float], data: st.DataObject) -> None:
    """One that always has a call to send gets its share of any run of calls, less one call of each other."""
    steady = data.draw(st.sampled_from(sorted(shares)))
    turns: FairTurns[int] = FairTurns(shares)
    waiting: set[int] = set()
    served: Counter[int] = Counter()
    for calls in range(1, 121):
        for purpose in shares:
            if purpose not in waiting and (purpose == steady or data.draw(st.booleans())):
                turns.join(purpose)
                waiting.add(purpose)
        chosen = _serve(turns, waiting)
        waiting.discard(chosen)
        served[chosen] += 1
        slack = shares[steady] * (len(shares) - 1) + 1
        assert served[steady] >= calls * shares[steady] - slack


@_UNHURRIED
@given(_SHARES, st.data())
def test_one_that_comes_after_a_pause_is_next(shares: dict[int, float], data: st.DataObject) -> None:
    """However long the others have been served, one that was idle is ahead of all that wait, or level with them."""
    late = data.draw(st.sampled_from(sorted(shares)))
    turns: FairTurns[int] = FairTurns(shares)
    waiting = set(shares) - {late}
    for purpose in waiting:
        turns.join(purpose)
    for _ in range(data.draw(st.integers(min_value=1, max_value=60))):
        turns.join(_serve(turns, waiting))
    turns.join(late)
    ahead = 0
    while (chosen := _serve(turns, waiting | {late})) != late:
        ahead += 1
        turns.join(chosen)
    assert ahead <= len(waiting)


@_UNHURRIED
@given(_SHARES, st.lists(st.integers(min_value=0, max_value=5), max_size=60))
def test_nobody_waits_for_ever_and_who_leaves_is_forgotten(shares: dict[int, float], left: list[int]) -> None:
    """Calls that are given up while they wait cost the others nothing: there is always a next one while one waits."""
    turns: FairTurns[int] = FairTurns(shares)
    waiting: set[int] = set()
    for number in left:
        purpose = number % len(shares)
        if purpose in waiting:
            turns.leave(purpose)
            waiting.discard(purpose)
        else:
            turns.join(purpose)
            waiting.add(purpose)
        assert (turns.next() in waiting) if waiting else (turns.next() is None)
