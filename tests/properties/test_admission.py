"""Admission as properties: limits hold, nothing idles, shares follow the weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.admission import (
    AdmissionSnapshot,
    IntakeMarks,
    Plan,
    QueueLimits,
    QueueView,
    heads_to_read,
    intake_is_open,
    kept_for_others,
    plan_admission,
    wanted,
)
from controller.core.job import Job, RowKey
from controller.core.limits import IN_DOUBT_MAX

NOW = 1_000.0
DEFINITIONS = ("a", "b")


def _job(key: int, queue: str, definition: str, expires_at: float | None, is_cancelled: bool) -> Job:
    return Job(
        key=RowKey(key),
        request_id=str(key),
        message_id=str(key),
        source="s",
        content_hash=b"",
        job_name="n",
        batch_job_name="n",
        job_queue=queue,
        job_queue_ref=queue,
        job_definition=definition,
        received_at=0.0,
        expires_at=expires_at,
        cancel_requested_at=1.0 if is_cancelled else None,
    )


@st.composite
def _views(draw: st.DrawFn, name: str) -> QueueView:
    heads = draw(
        st.lists(
            st.tuples(st.sampled_from(DEFINITIONS), st.sampled_from([None, NOW, NOW - 1, NOW + 1]), st.booleans()),
            max_size=8,
        )
    )
    head = tuple(_job(n, name, *fields) for n, fields in enumerate(heads))
    return QueueView(
        name=name,
        limits=QueueLimits(
            max_in_flight=draw(st.integers(0, 10)),
            max_waiting=draw(st.integers(0, 10)),
            weight=draw(st.floats(0.01, 100.0)),
            paused=draw(st.booleans()),
        ),
        in_flight=draw(st.integers(0, 12)),
        waiting=draw(st.integers(0, 12)),
        queued=len(head) + draw(st.integers(0, 3)),
        is_held=draw(st.booleans()),
        head=head,
    )


@st.composite
def _snapshots(draw: st.DrawFn) -> AdmissionSnapshot:
    names = [f"q{n}" for n in range(draw(st.integers(0, 4)))]
    return AdmissionSnapshot(
        queues=tuple(draw(_views(name)) for name in names),
        free_sends=draw(st.integers(-2, 20)),
        in_doubt=draw(st.sampled_from([0, IN_DOUBT_MAX - 1, IN_DOUBT_MAX, IN_DOUBT_MAX + 5])),
        undoubted=draw(st.integers(0, 2)),
        credits=draw(st.dictionaries(st.sampled_from([*names, "gone"]), st.floats(0.0, 100.0))),
        now=NOW,
        held_definitions=frozenset(
            draw(st.sets(st.tuples(st.sampled_from([*names, "gone"]), st.sampled_from(DEFINITIONS))))
        ),
    )


def _may_go(job: Job, snapshot: AdmissionSnapshot) -> bool:
    return (
        job.cancel_requested_at is None
        and (job.expires_at is None or job.expires_at > snapshot.now)
        and (job.job_queue, job.job_definition) not in snapshot.held_definitions
    )


def _sends(snapshot: AdmissionSnapshot) -> int:
    if snapshot.in_doubt >= IN_DOUBT_MAX and snapshot.undoubted > 0:
        return 0
    return max(0, min(snapshot.free_sends, 1 if snapshot.in_doubt >= IN_DOUBT_MAX else snapshot.free_sends))


@given(_snapshots())
def test_no_limit_is_ever_passed(snapshot: AdmissionSnapshot) -> None:
    """Whatever the snapshot, a plan stays within every limit and admits only rows that may go."""
    plan = plan_admission(snapshot)
    counts = Counter(job.job_queue for job in plan.admit)
    assert len(plan.admit) <= _sends(snapshot)
    assert all(_may_go(job, snapshot) for job in plan.admit)
    for view in snapshot.queues:
        admitted = counts[view.name]
        if admitted:
            assert not view.limits.paused
            assert not view.is_held
            assert view.in_flight + admitted <= view.limits.max_in_flight
            assert view.waiting + admitted <= view.limits.max_waiting


@given(_snapshots())
def test_nothing_idles(snapshot: AdmissionSnapshot) -> None:
    """If sends are left over, no queue has both a slot and a row that may go."""
    plan = plan_admission(snapshot)
    possible = sum(min(view.slots, sum(_may_go(job, snapshot) for job in view.head)) for view in snapshot.queues)
    assert len(plan.admit) == min(_sends(snapshot), possible)


@given(_snapshots())
def test_the_order_of_a_queue_is_kept(snapshot: AdmissionSnapshot) -> None:
    """What is admitted of a queue is the first of those of its head that may go."""
    plan = plan_admission(snapshot)
    for view in snapshot.queues:
        admitted = [job for job in plan.admit if job.job_queue == view.name]
        assert admitted == [job for job in view.head if _may_go(job, snapshot)][: len(admitted)]


@given(_snapshots(), st.sets(st.sampled_from(["q0", "q1", "q2", "q3"])))
def test_heads_that_are_not_read_would_change_nothing(snapshot: AdmissionSnapshot, unconfirmed: set[str]) -> None:
    """With only the heads that ``heads_to_read`` asks for, a plan is what it is with all of them."""
    names = {view.name for view in snapshot.queues}
    everything = replace(snapshot, unconfirmed=frozenset(unconfirmed & names))
    heads = {view.name: view.head[: wanted(view)] for view in everything.queues}
    everything = replace(everything, queues=tuple(replace(view, head=heads[view.name]) for view in everything.queues))
    known = replace(
        everything,
        queues=tuple(replace(view, head=None) if wanted(view) else view for view in everything.queues),
    )
    while missing := heads_to_read(known):
        assert all(view.head is None for view in known.queues if view.name in missing)
        known = replace(
            known,
            queues=tuple(
                replace(view, head=heads[view.name]) if view.name in missing else view for view in known.queues
            ),
        )
    with_all, with_some = plan_admission(everything), plan_admission(known)
    assert with_some.admit == with_all.admit
    assert with_some.credits == with_all.credits


@given(_snapshots())
def test_a_stopped_queue_slows_nobody(snapshot: AdmissionSnapshot) -> None:
    """Without its paused and held queues a snapshot gives the same plan."""
    going = tuple(view for view in snapshot.queues if not view.limits.paused and not view.is_held)
    without = AdmissionSnapshot(
        queues=going,
        free_sends=snapshot.free_sends,
        in_doubt=snapshot.in_doubt,
        undoubted=snapshot.undoubted,
        credits=snapshot.credits,
        now=snapshot.now,
        held_definitions=snapshot.held_definitions,
    )
    assert plan_admission(without).admit == plan_admission(snapshot).admit


@given(_snapshots())
def test_every_queue_gets_a_reason(snapshot: AdmissionSnapshot) -> None:
    """Each queue of the snapshot says why it gets nothing more."""
    assert set(plan_admission(snapshot).waiting_on) == {view.name for view in snapshot.queues}


def _backlogged(name: str, weight: float) -> QueueView:
    head = tuple(_job(n, name, "a", None, False) for n in range(16))
    limits = QueueLimits(weight=weight)
    return QueueView(name=name, limits=limits, in_flight=0, waiting=0, queued=16, is_held=False, head=head)


@settings(max_examples=50)
@given(
    st.lists(st.floats(0.1, 10.0), min_size=2, max_size=4),
    st.lists(st.integers(0, 16), min_size=5, max_size=40),
)
def test_shares_follow_the_weights(weights: list[float], sends: list[int]) -> None:
    """Between queues that always have rows to send, admitted jobs divided by weight differ by at most one job each,
    however the sends are cut into plans."""
    views = tuple(_backlogged(f"q{n}", weight) for n, weight in enumerate(weights))
    admitted: Counter[str] = Counter()
    plan = Plan(admit=(), credits={}, waiting_on={})
    for free_sends in sends:
        plan = plan_admission(
            AdmissionSnapshot(
                queues=views, free_sends=free_sends, in_doubt=0, undoubted=0, credits=plan.credits, now=NOW
            )
        )
        # A head that runs out within a plan is not backlogged; 16 rows for 16 sends never run out.
        admitted.update(job.job_queue for job in plan.admit)
        assert all(0 <= plan.credits[v.name] <= 1 / v.limits.weight + 1e-9 for v in views if v.name in plan.credits)
    served = {view.name: admitted[view.name] / view.limits.weight for view in views}
    for a in views:
        for b in views:
            assert abs(served[a.name] - served[b.name]) <= 1 / a.limits.weight + 1 / b.limits.weight + 1e-6


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), min_size=5, max_size=40), st.booleans())
def test_a_stream_of_new_names_starves_nobody(turns: list[tuple[int, int]], are_confirmed: bool) -> None:
    """However many new names come with each plan, a job queue with a backlog gets every second send; if Batch has
    confirmed them all, its share among those that wait."""
    carried: dict[str, float] = {}
    sent = real = 0
    waiting: dict[str, QueueView] = {}
    most = 1
    for plan_number, (new, free_sends) in enumerate(turns):
        for n in range(new):
            name = f"new-{plan_number}-{n}"
            waiting[name] = replace(_backlogged(name, 1.0), head=(_job(n, name, "a", None, False),), queued=1)
        most = max(most, len(waiting) + 1)
        snapshot = AdmissionSnapshot(
            queues=(_backlogged("real", 1.0), *waiting.values()),
            free_sends=min(free_sends, 16),
            in_doubt=0,
            undoubted=0,
            credits=carried,
            now=NOW,
            unconfirmed=frozenset() if are_confirmed else frozenset(waiting),
        )
        plan = plan_admission(snapshot)
        carried = dict(plan.credits)
        sent += len(plan.admit)
        real += sum(job.job_queue == "real" for job in plan.admit)
        for job in plan.admit:
            waiting.pop(job.job_queue, None)
    if are_confirmed:
        assert real >= sent // most - 2
    else:
        assert real >= sent // 2 - 1


def test_three_to_one() -> None:
    """Weights of 3 and 1 give three quarters and one quarter of the sends."""
    views = (_backlogged("a", 3.0), _backlogged("b", 1.0))
    admitted: Counter[str] = Counter()
    carried: dict[str, float] = {}
    for _ in range(100):
        plan = plan_admission(
            AdmissionSnapshot(queues=views, free_sends=7, in_doubt=0, undoubted=0, credits=carried, now=NOW)
        )
        carried = dict(plan.credits)
        admitted.update(job.job_queue for job in plan.admit)
    assert abs(admitted["a"] - 525) <= 2


@given(
    st.integers(1, 1_000),
    st.integers(0, 1_000),
    st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), max_size=100),
)
def test_intake_opens_only_well_below_where_it_closes(high: int, others: int, steps: list[tuple[int, int]]) -> None:
    """Between closing and opening at least the distance of the (shrunken) marks is worked off, and it never stays
    closed with nothing of its own queued and room left."""
    marks = IntakeMarks(high=high, low=high * 8 // 10, maximum=1_000)
    countable, is_open = 0, True
    for step, other_step in steps:
        countable = max(0, countable + step)
        others = min(999, max(0, others + other_step))
        room = min(marks.high, marks.maximum - others)
        was_open = is_open
        is_open = intake_is_open(was_open=was_open, countable=countable, total=countable + others, marks=marks)
        if is_open:
            assert countable < room
            assert was_open or countable <= room * marks.low / marks.high
        else:
            assert countable > room * marks.low / marks.high
            assert countable > 0


@given(
    st.integers(1, 5),
    st.integers(1, 60),
    st.integers(0, 200),
    st.lists(st.tuples(st.integers(0, 4), st.integers(-30, 80)), max_size=60),
)
def test_each_source_is_sure_of_its_part_and_all_stay_within_the_maximum(
    count: int, high: int, above: int, steps: list[tuple[int, int]]
) -> None:
    """Whatever the others have brought, as far as they had room, a source with less than its part has the rest of it;
    nothing is left over that somebody could not use."""
    marks = IntakeMarks(high=high, low=high - 1, maximum=high + above)
    sources = [f"s{n}" for n in range(count)]
    part = min(high, marks.maximum // count)
    rows = dict.fromkeys(sources, 0)

    def room(source: str) -> int:
        return marks.maximum - rows[source] - kept_for_others(rows, source, sources=sources, marks=marks)

    for which, change in steps:
        source = sources[which % count]
        rows[source] = max(0, rows[source] + min(change, max(0, room(source))))
        assert sum(rows.values()) <= marks.maximum
        for each in sources:
            assert room(each) >= part - rows[each]
        if all(rows[each] >= part for each in sources):
            assert all(room(each) == marks.maximum - sum(rows.values()) for each in sources)
