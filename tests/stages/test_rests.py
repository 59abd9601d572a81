"""What is remembered of requests that rest."""

from controller.rests import (
    DENIED_REST_S_MAX,
    DENIED_REST_S_MIN,
    REFUSED_REST_S,
    RESTS_MAX,
    UNANSWERED_REST_S_MAX,
    UNASKED_REST_S,
    Rests,
)
from tests.stages.conftest import ManualClock

PAIR = ("high", "bwa:3")


def test_a_rest_ends(clock: ManualClock) -> None:
    rests = Rests(clock)
    assert (rests.resting(()), rests.next_s()) == (frozenset(), None)
    rests.refused(PAIR, 1)
    rests.denied(PAIR, 2)
    assert (rests.resting(()), rests.next_s()) == ({1, 2}, REFUSED_REST_S)
    clock.move(REFUSED_REST_S)
    assert (rests.resting(()), rests.next_s()) == ({2}, DENIED_REST_S_MIN - REFUSED_REST_S)
    clock.move(DENIED_REST_S_MIN)
    assert (rests.resting(()), rests.next_s()) == (frozenset(), None)


def test_without_news_of_others_a_denial_is_remembered_and_nothing_rests(clock: ManualClock) -> None:
    """What was lacking may be mended for all of them."""
    rests = Rests(clock)
    rests.denied(PAIR, 1, rests=False)
    assert (rests.resting(()), rests.denied_at(1)) == (frozenset(), clock.monotonic())
    rests.denied(PAIR, 1)
    assert rests.next_s() == DENIED_REST_S_MIN


def test_nothing_of_a_held_pair_rests(clock: ManualClock) -> None:
    """One of its requests is to find out whether the pair may go on."""
    rests = Rests(clock)
    rests.denied(PAIR, 1)
    rests.denied(("high", "star:1"), 2)
    assert rests.resting({PAIR}) == {2}


def test_without_answers_a_request_rests_for_longer_and_longer(clock: ManualClock) -> None:
    """Up to a bound; that it was denied is not forgotten for it, nor a longer rest cut short."""
    rests = Rests(clock)
    lengths = []
    for _ in range(2_000):
        rests.unanswered(PAIR, 1)
        lengths.append(rests.next_s())
        clock.move(UNANSWERED_REST_S_MAX)
    assert lengths[:5] == [5, 10, 20, 40, UNANSWERED_REST_S_MAX]
    assert lengths[-1] == UNANSWERED_REST_S_MAX
    rests.denied(PAIR, 2)
    denied_at = clock.monotonic()
    rests.unanswered(PAIR, 2)
    assert rests.denied_at(2) == denied_at
    clock.move(DENIED_REST_S_MIN - 1)
    assert 2 in rests.resting(())


def test_who_waits_for_others_look_ups_rests_for_a_moment(clock: ManualClock) -> None:
    """And no longer the next time."""
    rests = Rests(clock)
    for _ in range(3):
        rests.unasked(PAIR, 1)
        assert rests.next_s() == UNASKED_REST_S
        clock.move(UNASKED_REST_S)
    assert rests.resting(()) == frozenset()


def test_a_rest_gets_twice_as_long_each_time_up_to_a_bound(clock: ManualClock) -> None:
    rests = Rests(clock)
    lengths = []
    for _ in range(2_000):
        rests.denied(PAIR, 1)
        lengths.append(rests.next_s())
        clock.move(DENIED_REST_S_MAX)
    assert lengths[:4] == [DENIED_REST_S_MIN, 2 * DENIED_REST_S_MIN, 4 * DENIED_REST_S_MIN, DENIED_REST_S_MAX]
    assert lengths[-1] == DENIED_REST_S_MAX


def test_no_more_are_remembered_than_the_bound(clock: ManualClock) -> None:
    """Those that were refused last."""
    rests = Rests(clock)
    for key in range(RESTS_MAX + 10):
        rests.denied(PAIR, key)
    assert rests.resting(()) == set(range(10, RESTS_MAX + 10))


def test_denials_are_forgotten_and_refusals_are_not(clock: ManualClock) -> None:
    rests = Rests(clock)
    rests.refused(PAIR, 1)
    rests.denied(PAIR, 2)
    rests.forget_denials()
    assert rests.resting(()) == {1}
    assert rests.denied_at(2) is None
