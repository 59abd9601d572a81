"""Admission: what is counted, what is left out and why, and when intake stops."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from controller.core.admission import (
    HEAD_MAX,
    AdmissionSnapshot,
    IntakeMarks,
    QueueCounts,
    QueueLimits,
    QueueView,
    WaitingOn,
    intake_is_open,
    plan_admission,
    queue_counts,
    wanted,
)
from controller.core.job import BatchStatus, Job, JobState, RowKey
from controller.core.limits import IN_DOUBT_MAX
from controller.ports import UsageRow

NOW = 1_000.0


def _job(
    key: int,
    queue: str = "high",
    *,
    definition: str = "train:1",
    expires_at: float | None = None,
    cancel_requested_at: float | None = None,
) -> Job:
    return Job(
        key=RowKey(key),
        request_id=f"{queue}-{key}",
        message_id=f"m-{key}",
        source="https://sqs/q",
        content_hash=b"",
        job_name="n",
        batch_job_name=f"n-{key}",
        job_queue=queue,
        job_queue_ref=queue,
        job_definition=definition,
        received_at=NOW - 10,
        expires_at=expires_at,
        cancel_requested_at=cancel_requested_at,
    )


def _view(
    name: str = "high",
    head: Sequence[Job] | int = 5,
    *,
    limits: QueueLimits | None = None,
    in_flight: int = 0,
    waiting: int = 0,
    is_held: bool = False,
) -> QueueView:
    jobs = tuple(_job(n + 1, name) for n in range(head)) if isinstance(head, int) else tuple(head)
    return QueueView(
        name=name,
        limits=limits or QueueLimits(),
        in_flight=in_flight,
        waiting=waiting,
        queued=len(jobs),
        is_held=is_held,
        head=jobs,
    )


def _snapshot(
    *queues: QueueView,
    free_sends: int = 32,
    in_doubt: int = 0,
    undoubted: int = 0,
    carried: dict[str, float] | None = None,
    held_definitions: frozenset[tuple[str, str]] = frozenset(),
) -> AdmissionSnapshot:
    return AdmissionSnapshot(
        queues=queues,
        free_sends=free_sends,
        in_doubt=in_doubt,
        undoubted=undoubted,
        credits=carried or {},
        now=NOW,
        held_definitions=held_definitions,
    )


def _usage(
    state: JobState,
    count: int,
    *,
    queue: str = "high",
    source: str = "s1",
    status: BatchStatus | None = None,
    is_in_doubt: bool = False,
    is_array: bool = False,
) -> UsageRow:
    return UsageRow(
        source=source,
        job_queue=queue,
        state=state,
        batch_status=status,
        is_in_doubt=is_in_doubt,
        is_array=is_array,
        count=count,
    )


# --- counts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        (_usage(JobState.QUEUED, 3), QueueCounts(queued=3)),
        (_usage(JobState.SUBMITTING, 3), QueueCounts(in_flight=3, waiting=3)),
        (_usage(JobState.SUBMITTING, 3, is_in_doubt=True), QueueCounts(in_flight=3, waiting=3)),
        (_usage(JobState.TRACKED, 3, status=BatchStatus.SUBMITTED), QueueCounts(in_flight=3, waiting=3)),
        (_usage(JobState.TRACKED, 3, status=BatchStatus.PENDING), QueueCounts(in_flight=3, waiting=3, pending=3)),
        (_usage(JobState.TRACKED, 3, status=BatchStatus.PENDING, is_array=True), QueueCounts(in_flight=3)),
        (_usage(JobState.TRACKED, 3, status=BatchStatus.RUNNABLE), QueueCounts(in_flight=3, waiting=3)),
        (_usage(JobState.TRACKED, 3, status=BatchStatus.SUBMITTED, is_array=True), QueueCounts(in_flight=3, waiting=3)),
        (_usage(JobState.TRACKED, 3, status=BatchStatus.STARTING), QueueCounts(in_flight=3, running=3)),
        (_usage(JobState.TRACKED, 3, status=BatchStatus.RUNNING), QueueCounts(in_flight=3, running=3)),
    ],
)
def test_what_counts(row: UsageRow, counts: QueueCounts) -> None:
    """Rows count as in flight from the intent on, and as waiting until Batch starts them; array parents in PENDING
    do not wait, and the others there are counted apart, too."""
    assert queue_counts([row]) == {"high": counts}


def test_counts_add_up_over_sources() -> None:
    """Limits are per Batch job queue, whichever SQS queue the requests came from."""
    usage = [_usage(JobState.QUEUED, 2, source="s1"), _usage(JobState.QUEUED, 5, source="s2")]
    assert queue_counts([*usage, _usage(JobState.QUEUED, 1, queue="low")]) == {
        "high": QueueCounts(queued=7),
        "low": QueueCounts(queued=1),
    }


def test_reads_no_more_of_a_backlog_than_can_be_admitted() -> None:
    """The head that is worth reading is bounded by slots, by what is queued and by the cap; a stopped queue needs
    none."""
    limits = QueueLimits(max_in_flight=10, max_waiting=8)
    assert wanted(_view(head=100, limits=limits, in_flight=5, waiting=4)) == 4
    assert wanted(_view(head=100, limits=limits, in_flight=8, waiting=4)) == 2
    assert wanted(_view(head=1, limits=limits)) == 1
    assert wanted(_view(head=100, limits=limits, in_flight=50)) == 0
    assert wanted(_view(head=1_000)) == HEAD_MAX
    assert wanted(_view(head=5, limits=QueueLimits(paused=True))) == 0
    assert wanted(_view(head=5, is_held=True)) == 0


# --- what is left out -----------------------------------------------------------------------------------


def test_expired_and_cancelled_rows_are_never_admitted() -> None:
    """A row whose time is up, to the second, or that somebody cancelled is skipped, and those behind it go."""
    head = [_job(1, expires_at=NOW), _job(2, cancel_requested_at=1.0), _job(3, expires_at=NOW + 1), _job(4)]
    plan = plan_admission(_snapshot(_view(head=head)))
    assert [job.key for job in plan.admit] == [3, 4]


def test_a_held_definition_holds_only_its_own_requests() -> None:
    """Requests with a held job definition stay; others of the same queue, and the same definition elsewhere, go."""
    high = _view("high", [_job(1, definition="bad"), _job(2)])
    low = _view("low", [_job(3, "low", definition="bad")])
    plan = plan_admission(_snapshot(high, low, held_definitions=frozenset({("high", "bad")})))
    assert sorted(job.key for job in plan.admit) == [2, 3]
    assert plan.waiting_on["high"] is WaitingOn.HELD


def test_a_queue_says_what_it_waits_on() -> None:
    """Each queue names the one reason why it gets nothing more."""
    plan = plan_admission(
        _snapshot(
            _view("paused", limits=QueueLimits(paused=True)),
            _view("held", is_held=True),
            _view("empty", 1),
            _view("in_flight", limits=QueueLimits(max_in_flight=2), in_flight=1),
            _view("waiting", limits=QueueLimits(max_waiting=2), waiting=2),
        )
    )
    assert plan.waiting_on == {name: WaitingOn(name) for name in ("paused", "held", "empty", "in_flight", "waiting")}
    assert plan_admission(_snapshot(_view(), free_sends=1)).waiting_on["high"] is WaitingOn.SENDS


def test_a_lowered_limit_admits_nothing() -> None:
    """More in flight than a limit that was lowered allows is no error, and nothing is added."""
    assert plan_admission(_snapshot(_view(limits=QueueLimits(max_in_flight=5), in_flight=50))).admit == ()


def test_no_free_sends_admit_nothing() -> None:
    """Neither zero nor a negative number of free sends admits anything."""
    assert plan_admission(_snapshot(_view(), free_sends=0)).admit == ()
    assert plan_admission(_snapshot(_view(), free_sends=-3)).admit == ()


def test_in_much_doubt_one_probe_at_a_time_goes_out() -> None:
    """At the doubt limit a single probe is admitted if nothing is being sent, and none otherwise."""
    assert len(plan_admission(_snapshot(_view(), in_doubt=IN_DOUBT_MAX)).admit) == 1
    busy = plan_admission(_snapshot(_view(), in_doubt=IN_DOUBT_MAX, undoubted=1))
    assert busy.admit == ()
    assert busy.waiting_on["high"] is WaitingOn.DOUBT
    assert len(plan_admission(_snapshot(_view(), in_doubt=IN_DOUBT_MAX - 1, undoubted=1)).admit) == 5


# --- fairness -------------------------------------------------------------------------------------------


def test_credits_carry_the_turns_over() -> None:
    """With one send per plan, queues take turns from plan to plan."""
    names = []
    carried: dict[str, float] = {}
    for _ in range(6):
        plan = plan_admission(_snapshot(_view("a"), _view("b"), _view("c"), free_sends=1, carried=carried))
        names.append(plan.admit[0].job_queue)
        carried = dict(plan.credits)
    assert names == ["a", "b", "c", "a", "b", "c"]


def test_an_idle_queue_saves_nothing_up() -> None:
    """A queue that was empty for a hundred plans comes back level with the others, not with a hundred turns."""
    carried: dict[str, float] = {}
    for _ in range(100):
        carried = dict(plan_admission(_snapshot(_view("a"), free_sends=1, carried=carried)).credits)
    plan = plan_admission(_snapshot(_view("a", 10), _view("b", 10), free_sends=6, carried=carried))
    assert sum(job.job_queue == "b" for job in plan.admit) in (3, 4)


# --- intake ---------------------------------------------------------------------------------------------

MARKS = IntakeMarks(high=100, low=80, maximum=1_000)


@pytest.mark.parametrize(
    ("was_open", "countable", "total", "is_open"),
    [
        (True, 99, 99, True),
        (True, 100, 100, False),
        (False, 81, 81, False),
        (False, 80, 80, True),
        (True, 0, 1_000, False),
        (True, 0, 999, True),
        (False, 0, 1_000, False),
        # 950 rows that do not count leave room for 50: the marks are 50 and 40.
        (True, 49, 999, True),
        (True, 50, 1_000, False),
        (False, 41, 991, False),
        (False, 40, 990, True),
    ],
)
def test_intake_has_two_marks(was_open: bool, countable: int, total: int, is_open: bool) -> None:
    """Intake closes at the high mark and opens at the low one; what does not count still fills the maximum."""
    assert intake_is_open(was_open=was_open, countable=countable, total=total, marks=MARKS) is is_open
