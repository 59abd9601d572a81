"""Whether events announce what ends: counted over a window, judged with hysteresis."""

from __future__ import annotations

from controller.core import event_watch
from controller.core.event_watch import GRACE_S, PROVEN_MIN, WINDOW_S, EventWatch

NOW = 1_000.0
LATER = NOW + GRACE_S + 0.1


def _healthy(count: int = 100) -> EventWatch:
    watch = EventWatch()
    for _ in range(count):
        watch.announced(NOW)
    assert watch.is_healthy
    return watch


def _missed(watch: EventWatch, count: int, now: float) -> None:
    """Ends found at ``now`` that no event ever tells of; judged after the grace time."""
    for n in range(count):
        watch.unannounced(f"job-{now}-{n}", now)
    watch.advance(now + GRACE_S + 0.1)


def test_events_are_not_relied_on_before_they_have_proven_themselves() -> None:
    """At first, and with a few ends only, polling goes on as without events."""
    watch = EventWatch()
    for _ in range(PROVEN_MIN - 1):
        watch.announced(NOW)
    watch.advance(NOW)
    assert not watch.is_healthy
    watch.announced(NOW)
    assert watch.is_healthy


def test_an_end_without_an_event_is_missed_after_the_grace_time() -> None:
    """A poll that is faster than the event finds nothing amiss; an event that comes too late is none."""
    watch = EventWatch()
    for name in ("in time", "late", "never"):
        watch.unannounced(name, NOW)
    watch.told("in time", NOW + 1.0)
    watch.told("late", LATER)
    assert watch.missed_ratio() == 0.5
    watch.advance(LATER)
    assert watch.missed_ratio() == 2 / 3


def test_events_of_other_jobs_change_nothing() -> None:
    """Only ends that were found count: an event for a job that nobody found ended is no merit."""
    watch = EventWatch()
    for n in range(100):
        watch.told(f"job-{n}", NOW)
    assert not watch.is_healthy
    assert watch.missed_ratio() == 0.0


def test_quiet_events_are_noticed() -> None:
    """When ends are found that no event announced, events are no longer relied on, until the window is past it."""
    watch = _healthy()
    _missed(watch, 6, NOW + 60.0)
    assert not watch.is_healthy
    watch.advance(NOW + WINDOW_S)
    assert not watch.is_healthy
    assert watch.missed_ratio() == 1.0
    watch.advance(NOW + 60.0 + 2 * WINDOW_S)
    assert watch.missed_ratio() == 0.0
    for _ in range(PROVEN_MIN):
        watch.announced(NOW + 60.0 + 2 * WINDOW_S)
    assert watch.is_healthy


def test_two_missed_events_are_bad_luck() -> None:
    """Among few ends, single missed events do not end the reliance."""
    watch = _healthy(5)
    _missed(watch, 2, NOW)
    assert watch.is_healthy
    _missed(watch, 1, NOW)
    assert not watch.is_healthy


def test_events_that_stop_are_noticed_where_ends_are_rare() -> None:
    """An end in ten minutes is never three in a window: the third in a row that no event tells of is enough."""
    watch = _healthy()
    for number in range(1, 4):
        assert watch.is_healthy
        _missed(watch, 1, NOW + number * 2 * WINDOW_S)
    assert not watch.is_healthy


def test_single_missed_events_among_rare_ends_are_bad_luck() -> None:
    """With others between them that are told, however long it goes on."""
    watch = _healthy()
    for number in range(1, 20):
        now = NOW + number * 2 * WINDOW_S
        _missed(watch, 2, now)
        watch.advance(now + WINDOW_S)
        watch.announced(now + WINDOW_S)
    assert watch.is_healthy


def test_a_judgement_stands_between_the_marks() -> None:
    """Around one ratio it does not flap: it fails above the upper mark and recovers at the lower one."""
    watch = _healthy(100)
    _missed(watch, 4, NOW)
    assert event_watch.HEALTHY_RATIO < watch.missed_ratio() < event_watch.FAILING_RATIO
    assert watch.is_healthy
    _missed(watch, 4, NOW)
    assert not watch.is_healthy
    for _ in range(100):
        watch.announced(NOW)
    assert event_watch.HEALTHY_RATIO < watch.missed_ratio() < event_watch.FAILING_RATIO
    assert not watch.is_healthy


def test_nothing_that_ends_is_nothing_to_judge_by() -> None:
    """A night without ends leaves the judgement as it was."""
    watch = _healthy()
    watch.advance(NOW + 100 * WINDOW_S)
    assert watch.is_healthy


def test_memory_is_bounded() -> None:
    """However many ends wait for their event and however long it goes on, little is kept."""
    watch = EventWatch()
    for n in range(event_watch.PENDING_MAX + 500):
        watch.unannounced(f"job-{n}", NOW)
    assert len(watch._pending) == event_watch.PENDING_MAX
    for second in range(5_000):
        watch.announced(NOW + second)
        watch.advance(NOW + second)
    assert len(watch._parts) <= WINDOW_S / event_watch.PART_S + 1
    assert not watch._pending
