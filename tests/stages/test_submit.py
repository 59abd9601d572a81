"""The last moment before a send: what is decided while a row waits for its turn."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import pytest

from controller.adapters.store.sqlite import SqliteStore
from controller.budgets import Budgets, Purpose
from controller.core.admission import QueueLimits
from controller.core.errors import BadCredentials, NotAllowed, Refused, Unavailable
from controller.core.job import JobState, QueueStatus, replace
from controller.core.lifecycle import Admitted, CancelAsked, LeftInDoubt, NotFound
from controller.health import Health
from controller.holds import PAIR_IDLE_S, PAIR_PROBE_S_MAX, PAIR_PROBE_S_MIN, STOPPED_PAUSE_S, HoldBook, Pause
from controller.ledger import Ledger
from controller.lookup import LookUp
from controller.loop import BACKOFF_BASE_S, Drain
from controller.metrics import Metrics
from controller.ports import HeadOf, InsertJob, ListPage, SubmittedJob
from controller.rests import REFUSED_REST_S, UNANSWERED_REST_S_MAX
from controller.stages.admit import SERVED_MAX, Admit
from controller.stages.release import Release
from controller.stages.submit import LOOKED_UP_AT_ONCE, Submit
from tests.stages.conftest import ManualClock
from tests.stages.test_long_turns import request, stored


class Batch:
    """Takes every job, unless it is told not to."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.sent: list[str] = []
        self.listed_at: list[float] = []
        """Monotonic: calls of ListJobs."""
        self.answers: anyio.Event | None = None
        """They wait for this."""
        self.no_answer: Exception | None = None
        """What they fail with."""
        self.failure: Exception | None = None
        self.denies: str | tuple[str, ...] | None = None
        """Beginnings of the names of jobs that are denied."""
        self.no_credentials: Exception | None = None
        self.knows_queues = False
        self.state = "ENABLED"

    async def fetch_credentials(self) -> None:
        if self.no_credentials is not None:
            raise self.no_credentials

    async def submit_job(self, arguments: Mapping[str, Any], *, timeout_s: float) -> SubmittedJob:
        name = arguments["jobName"]
        self.sent.append(name)
        job_id = f"id-{len(self.sent)}"
        await anyio.lowlevel.checkpoint()
        if self.failure is not None:
            raise self.failure
        if self.denies is not None and name.startswith(self.denies):
            raise NotAllowed("batch:SubmitJob: AccessDeniedException")
        return SubmittedJob(job_id=job_id, job_arn=None)

    async def list_jobs_named(self, **_: Any) -> ListPage:
        """It has none of any name, unless it is told not to answer."""
        self.listed_at.append(self.clock.monotonic())
        if self.answers is not None:
            await self.answers.wait()
        if self.no_answer is not None:
            raise self.no_answer
        return ListPage(jobs=())

    async def describe_job_queues(self, names: Sequence[str]) -> Sequence[QueueStatus]:
        """It knows none, or all."""
        if not self.knows_queues:
            return []
        return [
            QueueStatus(name=name, arn=f"arn:{name}", state=self.state, status="VALID", status_reason="")
            for name in names
        ]


class Bench:
    """Admission and submission on a real store."""

    def __init__(self, store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics, rate: float) -> None:
        self.batch = Batch(clock)
        api: Any = self.batch
        health = Health(clock)
        budgets = Budgets(clock, dict.fromkeys(Purpose, rate), 2 * rate, fetch_credentials=self.batch.fetch_credentials)
        self.health = health
        self.holds = HoldBook(store=store, clock=clock, on_commit=lambda writes: None, counted=metrics.hold_changed)
        self.admit = Admit(
            store=store,
            ledger=ledger,
            holds=self.holds,
            budgets=budgets,
            clock=clock,
            limits_of=lambda name, counts: QueueLimits(paused=name == "parked"),
            concurrency=32,
        )
        self.submit = Submit(
            store=store,
            ledger=ledger,
            batch=api,
            budgets=budgets,
            holds=self.holds,
            look_up=LookUp(batch=api, budgets=budgets, clock=clock, health=health),
            clock=clock,
            drain=Drain(),
            health=health,
            metrics=metrics,
            chance=lambda: 0.0,
            arguments=lambda body, job, job_ids: {"jobName": job.batch_job_name},
            timeout_s=10.0,
        )
        self.release = Release(holds=self.holds, batch=api, budgets=budgets, health=health, metrics=metrics)

    async def turn(self, *, admissions: int = 1) -> None:
        for _ in range(admissions):
            await self.admit.turn()
        async with anyio.create_task_group() as tasks:
            await self.submit.turn(tasks)


@pytest.fixture
def bench(store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics) -> Bench:
    return Bench(store, ledger, clock, metrics, rate=40.0)


async def test_a_request_that_expires_while_it_waits_for_the_budget_is_not_sent(
    store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics
) -> None:
    """``expiresAt`` is looked at when a row is admitted and again when its turn has come."""
    bench = Bench(store, ledger, clock, metrics, rate=0.1)
    await store.commit([InsertJob(job=request(1, expires_at=clock.now() + 5), body="{}")])
    await bench.turn()
    (job,) = (await store.find_requests(["r1"]))["r1"]
    assert (bench.batch.sent, job.state) == ([], JobState.QUEUED)
    assert job.first_intent_at is not None, "it had been admitted"


async def test_the_first_job_of_a_queue_is_counted_under_its_name(
    bench: Bench, store: SqliteStore, metrics: Metrics
) -> None:
    """Batch has just taken a job for it, whether or not DescribeJobQueues has told its name yet."""
    await store.commit([InsertJob(job=request(1), body="{}")])
    await bench.turn()
    assert metrics.submissions_total.labels(job_queue="high", outcome="accepted")._value.get() == 1


async def test_a_hold_is_counted_under_the_name_of_its_job_queue(
    bench: Bench, store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics
) -> None:
    """Batch has just told its state, whether or not anybody has asked for its name yet; after a restart, too."""
    bench.batch.failure = Refused("batch:SubmitJob: ClientException")
    bench.batch.knows_queues, bench.batch.state = True, "DISABLED"
    await store.commit([InsertJob(job=request(1), body="{}")])
    await bench.turn()
    changes = {"job_queue": "high", "reason": "queue_disabled"}
    assert metrics.queue_hold_changes_total.labels(**changes, change="held")._value.get() == 1

    anew = Bench(store, ledger, clock, again := Metrics(), rate=40.0)
    anew.batch.knows_queues = True
    await anew.holds.load()
    await anew.release.turn()
    assert again.queue_hold_changes_total.labels(**changes, change="released")._value.get() == 1


async def test_a_turn_reads_the_heads_of_those_whose_turn_may_come(
    bench: Bench, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many job queues have a backlog: 20 sends ahead at 40 a second can fall on 20 of them. Where those have
    nothing that may be sent, others are asked for, in few reads."""
    asked: list[Sequence[HeadOf]] = []
    read = store.heads

    def recorded(heads: Sequence[HeadOf], *, now: float) -> Any:
        asked.append(heads)
        return read(heads, now=now)

    monkeypatch.setattr(store, "heads", recorded)
    names = [f"queue-{n:03}" for n in range(300)]
    await store.commit(
        [
            InsertJob(job=replace(request(n), job_queue=name, job_queue_ref=name), body="{}")
            for n, name in enumerate(names)
        ]
    )
    await bench.turn()
    assert len(bench.batch.sent) == 20
    assert [len(heads) for heads in asked] == [20]
    asked.clear()
    for name in names[20:250]:
        await bench.holds.hold(name, "bwa:3", reason="access_denied", detail="no")
    await bench.turn()
    assert len(bench.batch.sent) == 40
    assert [len(heads) for heads in asked] == [20, 20, 40, 80, 120]


async def test_nothing_is_kept_of_job_queues_that_requests_make_up(bench: Bench, store: SqliteStore) -> None:
    """Each of their requests was sent once and rejected."""
    bench.batch.failure = Refused("batch:SubmitJob: ClientException")
    for begin in range(0, 2 * SERVED_MAX, 20):
        names = [f"made-up-{begin + number}" for number in range(20)]
        jobs = [
            replace(request(begin + number), job_queue=name, job_queue_ref=name) for number, name in enumerate(names)
        ]
        await store.commit([InsertJob(job=job, body="{}") for job in jobs])
        await bench.turn()
    assert len(bench.batch.sent) == 2 * SERVED_MAX
    assert not await store.usage()
    assert len(bench.admit._served) <= SERVED_MAX + 20


async def test_one_request_of_a_held_pair_is_let_through_however_often_admission_turns(
    bench: Bench, store: SqliteStore, clock: ManualClock
) -> None:
    """Until it is answered; refused, it holds the pair on, accepted, it releases it."""
    await store.commit([InsertJob(job=request(n), body="{}") for n in range(10)])
    await bench.holds.hold("high", "bwa:3", reason="access_denied", detail="no")
    await bench.turn()
    assert bench.batch.sent == []
    clock.move(PAIR_PROBE_S_MIN)
    bench.batch.failure = NotAllowed("batch:SubmitJob: AccessDeniedException")
    await bench.turn(admissions=5)
    assert len(bench.batch.sent) == 1
    clock.move(2 * PAIR_PROBE_S_MIN)
    bench.batch.failure = None
    await bench.turn(admissions=5)
    assert len(bench.batch.sent) == 2
    assert not list(bench.holds.all())
    await bench.turn()
    assert len(bench.batch.sent) == 11


async def test_a_held_pair_goes_on_when_its_probe_is_refused_for_a_reason_of_its_own(
    bench: Bench, store: SqliteStore, clock: ManualClock
) -> None:
    """Batch has judged a request, so calls are let through again: the others do not follow one per probe."""
    await store.commit([InsertJob(job=request(n), body="{}") for n in range(10)])
    await bench.holds.hold("high", "bwa:3", reason="access_denied", detail="no")
    clock.move(PAIR_PROBE_S_MIN)
    bench.batch.failure = Refused("batch:SubmitJob: ClientException: Job queue high does not exist")
    await bench.turn()
    assert not list(bench.holds.all())
    await bench.turn()
    lives = await store.find_requests([f"r{n}" for n in range(10)])
    assert {job.state for jobs in lives.values() for job in jobs} == {JobState.REJECTED}


async def test_a_job_queue_that_there_is_not_is_named_as_the_request_names_it(bench: Bench, store: SqliteStore) -> None:
    """There may be one of that name: what is wrong with the ARN is not in it."""
    arn = "arn:aws-cn:batch:eu-west-1:123456789012:job-queue/high"
    await store.commit([InsertJob(job=replace(request(1), job_queue_ref=arn), body="{}")])
    bench.batch.failure = Refused("batch:SubmitJob: ClientException: no")
    await bench.turn()
    (job,) = (await store.find_requests(["r1"]))["r1"]
    assert (job.state, job.reason) == (JobState.REJECTED, f"job queue {arn} does not exist")


async def test_a_row_in_hand_is_sent_once_however_often_the_stage_turns(
    bench: Bench, store: SqliteStore, ledger: Ledger
) -> None:
    """A turn that finds a row which another turn has taken leaves it alone."""
    await store.commit([InsertJob(job=request(1), body="{}")])
    (job,) = (await store.find_requests(["r1"]))["r1"]
    await ledger.record([(job, Admitted())])
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            await bench.submit.turn(tasks)
    await bench.turn()
    assert len(bench.batch.sent) == 1


async def test_the_next_probe_of_a_held_pair_is_another_request(
    bench: Bench, store: SqliteStore, clock: ManualClock
) -> None:
    """What was refused may be one request alone: it must not hold the others for ever."""
    await store.commit([InsertJob(job=request(n), body="{}") for n in range(3)])
    await bench.holds.hold("high", "bwa:3", reason="unexpected_error", detail="no")
    bench.batch.failure = NotAllowed("batch:SubmitJob: AccessDeniedException")
    for probe in range(4):
        clock.move(16 * PAIR_PROBE_S_MIN)
        await bench.turn()
        assert len(bench.batch.sent) == probe + 1
    assert all(first != second for first, second in zip(bench.batch.sent, bench.batch.sent[1:], strict=False))


async def test_the_first_probe_of_a_held_pair_is_not_the_request_that_was_refused(
    bench: Bench, store: SqliteStore, clock: ManualClock
) -> None:
    """It may be that one alone, as with a policy that has a condition on tags or share identifiers. The others then
    wait for the first probe and not for the second."""
    bench.batch.denies = "job-0-"
    await store.commit([InsertJob(job=request(0), body="{}")])
    await bench.turn()
    await store.commit([InsertJob(job=request(n), body="{}") for n in (1, 2)])
    await bench.turn()
    clock.move(PAIR_PROBE_S_MIN)
    await bench.turn()
    assert bench.batch.sent == [request(n).batch_job_name for n in (0, 2)]
    assert not list(bench.holds.all())


async def test_a_refused_request_rests_before_it_is_sent_again(
    bench: Bench, store: SqliteStore, clock: ManualClock
) -> None:
    """Its job definition may have been registered a moment ago, or the job queue been disabled for one: a second send
    at once would be refused, too, and for good. Others of its pair don't wait for it."""
    bench.batch.knows_queues = True
    bench.batch.failure = Refused("batch:SubmitJob: ClientException: JobDefinition is not ACTIVE")
    await store.commit([InsertJob(job=request(0), body="{}")])
    await bench.turn()
    bench.batch.failure = None
    await store.commit([InsertJob(job=request(1), body="{}")])
    for _ in range(3):
        await bench.turn()
    assert bench.batch.sent == [request(n).batch_job_name for n in (0, 1)]
    assert 0 < (await bench.admit.turn() or 0) <= REFUSED_REST_S
    clock.move(REFUSED_REST_S)
    await bench.turn()
    lives = await store.find_requests(["r0", "r1"])
    assert [lives[name][0].state for name in lives] == [JobState.TRACKED, JobState.TRACKED]


async def test_a_request_that_is_denied_alone_costs_its_pair_one_hold(
    bench: Bench, store: SqliteStore, clock: ManualClock
) -> None:
    """Once another of its pair was accepted, the pair is not held for it again: it would let through some requests of
    the others each minute. It is tried less and less often."""
    bench.batch.denies = "job-0-"
    await store.commit([InsertJob(job=request(0), body="{}")])
    await bench.turn()
    clock.move(PAIR_PROBE_S_MIN)
    tried_at = []
    for n in range(1, 400):
        await store.commit([InsertJob(job=request(n), body="{}")])
        before = len(bench.batch.sent)
        await bench.turn()
        new = bench.batch.sent[before:]
        assert request(n).batch_job_name in new, "the others wait for nothing"
        if request(0).batch_job_name in new:
            tried_at.append(n * 10)
            assert not list(bench.holds.all())
        clock.move(10)
    waits = [later - earlier for earlier, later in itertools.pairwise(tried_at)]
    assert waits == [120, 240, 480, 900, 900, 900]


async def test_when_a_pair_s_permission_is_mended_none_of_its_requests_rests(
    bench: Bench, store: SqliteStore, clock: ManualClock
) -> None:
    """Nothing of the pair was ever accepted, so that nothing tells single requests from it."""
    await _all_denied(bench, store)
    clock.move(PAIR_PROBE_S_MIN)
    await _all_go_on(bench, store)


async def _all_denied(bench: Bench, store: SqliteStore) -> None:
    bench.batch.denies = "job-"
    await store.commit([InsertJob(job=request(n), body="{}") for n in range(3)])
    await bench.turn()


async def _all_go_on(bench: Bench, store: SqliteStore) -> None:
    """The permissions are mended: one finds out, the others follow at once."""
    bench.batch.denies = None
    for _ in range(2):
        await bench.turn()
    lives = await store.find_requests([f"r{n}" for n in range(3)])
    assert {life.state for found in lives.values() for life in found} == {JobState.TRACKED}


async def test_what_was_denied_does_not_rest_once_submission_goes_on(
    bench: Bench, store: SqliteStore, clock: ManualClock
) -> None:
    """Everything was denied, so it was the permissions, which have been mended."""
    await _all_denied(bench, store)
    bench.holds.pause(STOPPED_PAUSE_S, reason=Pause.DENIED)
    clock.move(PAIR_PROBE_S_MIN)
    await _all_go_on(bench, store)


async def test_a_held_pair_of_which_no_request_is_left_is_released(
    bench: Bench, store: SqliteStore, ledger: Ledger, clock: ManualClock
) -> None:
    """Nothing else would end the hold, nor the alert on it. As long as a request waits, it is tried again and again."""
    await store.commit([InsertJob(job=request(1), body="{}")])
    bench.batch.failure = NotAllowed("batch:SubmitJob: AccessDeniedException")
    for _ in range(60):
        bench.holds.answered("high", "star:1")
        await bench.turn()
        await bench.release.turn()
        clock.move(PAIR_PROBE_S_MIN)
        assert [hold.job_definition for hold in bench.holds.all()] == ["bwa:3"]
    (job,) = (await store.find_requests(["r1"]))["r1"]
    await ledger.record([(job, CancelAsked(reason=None))])
    clock.move(PAIR_PROBE_S_MAX + PAIR_IDLE_S)
    await bench.release.turn()
    assert not list(bench.holds.all())
    assert not await store.holds()


async def test_while_everything_is_denied_no_pair_counts_as_without_requests(bench: Bench, clock: ManualClock) -> None:
    """Few requests are tried then, and for long none of most pairs; each has its time again when it is over."""
    for definition in ("bwa:1", "bwa:2", "bwa:3"):
        await bench.holds.hold("high", definition, reason="access_denied", detail="no")
    assert bench.holds.stopped_by is Pause.DENIED
    clock.move(10 * PAIR_PROBE_S_MAX)
    assert not bench.holds.idle()
    bench.holds.answered("high", "bwa:4")
    assert not bench.holds.idle()
    clock.move(PAIR_IDLE_S)
    assert len(bench.holds.idle()) == 3


@pytest.mark.parametrize(
    ("failure", "reason"), [(BadCredentials("expired"), "credentials"), (NotAllowed("denied"), "denied")]
)
async def test_submission_is_stopped_no_more_when_nothing_waits(
    bench: Bench, store: SqliteStore, ledger: Ledger, clock: ManualClock, failure: Exception, reason: str
) -> None:
    """The last request is cancelled: none is left to find out with, and none stands still. The next one finds out."""
    await store.commit([InsertJob(job=request(1), body="{}")])
    bench.batch.failure = failure
    for _ in range(3):
        clock.move(PAIR_PROBE_S_MAX)
        await bench.turn()
        assert (await store.find_requests(["r1"]))["r1"][0].state is JobState.QUEUED
    assert bench.holds.submission_paused()[reason]
    (job,) = (await store.find_requests(["r1"]))["r1"]
    await ledger.record([(job, CancelAsked(reason=None))])
    clock.move(STOPPED_PAUSE_S)
    await bench.turn()
    assert not any(bench.holds.submission_paused().values())
    await store.commit([InsertJob(job=request(2), body="{}")])
    await bench.turn()
    assert len(bench.batch.sent) == 4


@pytest.mark.parametrize("others", ["parked", "disabled"])
async def test_requests_of_paused_and_held_job_queues_do_not_keep_submission_stopped(
    bench: Bench, store: SqliteStore, ledger: Ledger, clock: ManualClock, others: str
) -> None:
    """They wait for somebody else, and are never tried meanwhile: that nothing is submitted, nor a pair released, would
    be told until another request comes."""
    await bench.holds.hold("disabled", "", reason="queue_disabled", detail="DISABLED")
    parked = replace(request(2), job_queue=others, job_queue_ref=others)
    await store.commit([InsertJob(job=request(1), body="{}"), InsertJob(job=parked, body="{}")])
    bench.batch.failure = NotAllowed("denied")
    for _ in range(3):
        clock.move(PAIR_PROBE_S_MAX)
        await bench.turn()
    assert bench.holds.submission_paused()["denied"]
    (job,) = (await store.find_requests(["r1"]))["r1"]
    await ledger.record([(job, CancelAsked(reason=None))])
    clock.move(STOPPED_PAUSE_S)
    await bench.turn()
    assert not any(bench.holds.submission_paused().values())
    clock.move(PAIR_PROBE_S_MAX + PAIR_IDLE_S)
    assert bench.holds.idle() == (("high", "bwa:3"),)


@pytest.mark.parametrize("calls", [1, 20])
async def test_calls_that_meet_one_moment_without_a_network_count_once(
    store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics, calls: int
) -> None:
    """However many were under way: the next one that began later counts."""
    bench = Bench(store, ledger, clock, metrics, rate=40.0)
    await store.commit([InsertJob(job=request(n), body="{}") for n in range(calls)])
    all_under_way = anyio.Event()

    async def submit_job(arguments: Mapping[str, Any], *, timeout_s: float) -> SubmittedJob:
        bench.batch.sent.append(arguments["jobName"])
        if len(bench.batch.sent) >= calls:
            all_under_way.set()
        await all_under_way.wait()
        raise Unavailable("batch:SubmitJob: ConnectTimeoutError", call="batch:SubmitJob")

    bench.batch.submit_job = submit_job  # type: ignore[method-assign]
    await bench.turn()
    first_s = bench.holds.pause_left_s()
    assert len(bench.batch.sent) == calls
    clock.move(first_s)
    await bench.turn()
    assert (first_s, bench.holds.pause_left_s()) == (BACKOFF_BASE_S / 2, BACKOFF_BASE_S)


async def test_without_credentials_nothing_is_sent_and_nothing_is_rejected(
    bench: Bench, store: SqliteStore, clock: ManualClock
) -> None:
    """Rows go back, submission stops and says so; then one request at a time finds out, and one that is accepted lets
    the others follow."""
    await store.commit([InsertJob(job=request(n), body="{}") for n in range(6)])
    bench.batch.no_credentials = BadCredentials("expired", call="sts:credentials")
    await bench.turn()
    assert bench.batch.sent == []
    assert bench.holds.stopped_by is Pause.CREDENTIALS
    assert not bench.health.is_ready()[0]
    assert {row.state for row in await store.usage()} == {JobState.QUEUED}
    await bench.turn()
    assert bench.batch.sent == [], "paused"
    clock.move(STOPPED_PAUSE_S)
    bench.batch.no_credentials = None
    await bench.turn(admissions=3)
    assert len(bench.batch.sent) == 1
    assert bench.holds.stopped_by is None
    await bench.turn()
    assert len(bench.batch.sent) == 6


@pytest.mark.parametrize("theirs", ["high", "low"])
async def test_the_denied_requests_of_one_producer_stop_nobody_else_for_long(
    bench: Bench, store: SqliteStore, clock: ManualClock, theirs: str
) -> None:
    """Eight definitions are denied from the first request on, and theirs are the older ones: submission may stop until
    a request of somebody else is tried, and never again."""
    bench.batch.denies = "denied"
    for number in range(40):
        job = replace(
            request(number), job_queue=theirs, job_definition=f"denied-{number % 8}", batch_job_name=f"denied-{number}"
        )
        await store.commit([InsertJob(job=job, body="{}")])
    for number in range(100, 200):
        await store.commit([InsertJob(job=replace(request(number), batch_job_name=f"fine-{number}"), body="{}")])
    fine = 0
    for _ in range(180):
        was_stopped = bench.holds.stopped_by is not None
        await bench.turn()
        fine = sum(name.startswith("fine") for name in bench.batch.sent)
        assert not (fine and was_stopped and bench.holds.stopped_by), "stopped again"
        if fine == 100:
            break
        clock.move(1.0)
    assert fine == 100
    assert bench.holds.stopped_by is None
    assert {row.state for row in await store.usage() if row.job_queue == "low"} <= {JobState.QUEUED}


async def test_a_pair_that_is_allowed_does_not_stand_behind_many_that_are_not(
    bench: Bench, store: SqliteStore, clock: ManualClock
) -> None:
    """While submission is stopped, requests of eight pairs are tried at the same time; that one of them is denied sends
    none of the others back."""
    bench.batch.denies = "denied"

    async def add(*numbers: int) -> None:
        for number in numbers:
            name = f"denied-{number}"
            job = replace(request(number), job_queue=name, job_queue_ref=name, batch_job_name=name)
            await store.commit([InsertJob(job=job, body="{}")])

    await add(1, 2, 3)
    await bench.turn()
    assert bench.holds.stopped_by is Pause.DENIED
    await add(*range(4, 16))
    await store.commit([InsertJob(job=replace(request(99), batch_job_name="fine"), body="{}")])
    for tried in (8, 13):
        clock.move(STOPPED_PAUSE_S)
        await bench.turn()
        assert len(bench.batch.sent) == 3 + tried
    assert "fine" in bench.batch.sent
    assert bench.holds.stopped_by is None


async def test_denial_of_everything_is_told_as_not_ready_and_of_one_pair_is_not(
    bench: Bench, store: SqliteStore, clock: ManualClock
) -> None:
    """One denied pair is its producer's business; three with nothing accepted between are the service's."""
    bench.health.leads(is_leader=True)
    bench.health.store_ok()
    bench.batch.failure = NotAllowed("batch:SubmitJob: AccessDeniedException")
    for number, definition in enumerate(("a:1", "b:1", "c:1")):
        assert bench.health.is_ready()[0], definition
        await store.commit([InsertJob(job=replace(request(number), job_definition=definition), body="{}")])
        await bench.turn()
    assert bench.holds.stopped_by is Pause.DENIED
    assert not bench.health.is_ready()[0]
    assert {row.state for row in await store.usage()} == {JobState.QUEUED}
    bench.batch.failure = None
    clock.move(STOPPED_PAUSE_S)
    await store.commit([InsertJob(job=replace(request(9), job_definition="d:1"), body="{}")])
    await bench.turn()
    assert bench.holds.stopped_by is None
    assert bench.health.is_ready()[0]
    await bench.turn()
    assert len(bench.batch.sent) == 7, "every denied pair is tried again at once"


# --- requests that are looked up first ------------------------------------------------------------------


async def test_a_request_whose_look_up_gives_no_answer_stops_nobody_else(
    bench: Bench, store: SqliteStore, ledger: Ledger, clock: ManualClock
) -> None:
    """It was in doubt once, and stands at the head of its job queue; ListJobs fails. It rests, for longer and longer,
    and is never sent; the others of its job queue and pair are."""
    (marked,) = await stored(store, ledger, 1, Admitted(), LeftInDoubt(reason="lost", error_code="lost"), NotFound())
    began_at, asked_at = clock.monotonic(), bench.batch.listed_at
    bench.batch.no_answer = Unavailable("batch:ListJobs: ServerException", call="batch:ListJobs")
    for number in range(1, 121):
        await store.commit([InsertJob(job=request(number), body="{}")])
        await bench.turn()
        assert bench.batch.sent[-1] == request(number).batch_job_name
        clock.move(began_at + number - clock.monotonic())
    assert len(bench.batch.sent) == 120
    waits = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    assert [wait // 5 * 5 for wait in waits] == [5, 10, 20, 40]
    bench.batch.no_answer = None
    clock.move(UNANSWERED_REST_S_MAX)
    await bench.turn()
    assert bench.batch.sent[-1] == marked.batch_job_name


async def test_many_requests_that_are_looked_up_first_leave_hands_for_the_others(
    bench: Bench, store: SqliteStore, ledger: Ledger, clock: ManualClock
) -> None:
    """After an outage they stand at the head of the backlog, and ListJobs is slow: a few are looked up at a time, the
    others of the job queue are sent meanwhile. In the end each of them is sent, too."""
    await stored(store, ledger, 60, Admitted(), LeftInDoubt(reason="lost", error_code="lost"), NotFound())
    await store.commit([InsertJob(job=request(number), body="{}") for number in range(100, 150)])
    bench.batch.answers = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            await bench.admit.turn()
            await bench.submit.turn(tasks)
            await anyio.wait_all_tasks_blocked()
        assert set(bench.batch.sent) == {request(number).batch_job_name for number in range(100, 150)}
        assert len(bench.batch.listed_at) == LOOKED_UP_AT_ONCE
        bench.batch.answers.set()
    for _ in range(60):
        clock.move(1.0)
        await bench.turn()
    assert len(bench.batch.sent) == 110


# --- somebody floods with what is denied ----------------------------------------------------------------


class Flooded:
    """Ten requests a second come in, each of another definition that somebody made up and that is denied, and as many
    of a pair that is allowed."""

    def __init__(self, bench: Bench, store: SqliteStore, clock: ManualClock, *, tenant: str = "flood") -> None:
        """``tenant`` is that of the flood; that of the others is empty."""
        self._bench = bench
        self._store = store
        self._clock = clock
        self._tenant = tenant
        self._count = 0
        bench.batch.denies = "made-up"

    async def last(self, seconds: float) -> int:
        """How many of the pair that is allowed are sent meanwhile."""
        sent, end = len(self._bench.batch.sent), self._clock.monotonic() + seconds
        while self._clock.monotonic() < end:
            began_at = self._clock.monotonic()
            numbers = range(self._count, self._count + 5)
            self._count += 5
            jobs = [replace(request(n), batch_job_name=f"good-{n}") for n in numbers]
            for n in numbers:
                job = request(10**6 + n)
                jobs.append(
                    replace(job, batch_job_name=f"made-up-{n}", job_definition=f"made-up-{n}", tenant=self._tenant)
                )
            await self._store.commit([InsertJob(job=job, body="{}") for job in jobs])
            await self._bench.turn()
            self._clock.move(max(0.0, 0.5 - (self._clock.monotonic() - began_at)))
        return sum(name.startswith("good") for name in self._bench.batch.sent[sent:])


async def test_a_good_pair_that_is_denied_for_a_moment_amid_a_flood_of_others_stops_nobody(
    store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics
) -> None:
    """Some calls are denied by chance, as policies take a while to be the same everywhere: their pair waits for 5 s, as
    without the flood, and nothing else does."""
    bench = Bench(store, ledger, clock, metrics, rate=10.0)
    flooded = Flooded(bench, store, clock)
    usual = await flooded.last(30)
    assert usual > 100
    bench.batch.denies = ("made-up", "good")
    await flooded.last(1.0)
    bench.batch.denies = "made-up"
    assert bench.holds.stopped_by is None
    assert await flooded.last(30) > usual * 22 / 30
    assert bench.holds.stopped_by is None


@pytest.mark.parametrize("rate", [10.0, 2.0])
@pytest.mark.parametrize("tenant", ["flood", ""])
async def test_a_stop_ends_though_somebody_makes_up_pairs_that_were_never_tried(
    store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics, tenant: str, rate: float
) -> None:
    """Permissions are taken away and given back. What is allowed then is held since, and half of the tries are for what
    is held; whose the made-up ones are, and how many stand before it, does not matter."""
    bench = Bench(store, ledger, clock, metrics, rate=rate)
    flooded = Flooded(bench, store, clock, tenant=tenant)
    await flooded.last(20)
    bench.batch.failure = NotAllowed("batch:SubmitJob: AccessDeniedException")
    await flooded.last(60)
    assert bench.holds.stopped_by is Pause.DENIED
    bench.batch.failure = None
    assert await flooded.last(3 * STOPPED_PAUSE_S) > 0
    assert bench.holds.stopped_by is None


async def test_a_stop_ends_with_a_pair_of_which_nothing_was_known(
    store: SqliteStore, ledger: Ledger, clock: ManualClock, metrics: Metrics
) -> None:
    """Permissions were lacking from the start: of those that are held each tenant's have their turn, too."""
    bench = Bench(store, ledger, clock, metrics, rate=10.0)
    flooded = Flooded(bench, store, clock)
    bench.batch.failure = NotAllowed("batch:SubmitJob: AccessDeniedException")
    await flooded.last(120)
    assert bench.holds.stopped_by is Pause.DENIED
    bench.batch.failure = None
    for _ in range(40):
        await flooded.last(STOPPED_PAUSE_S / 2)
        if bench.holds.stopped_by is None:
            break
    assert bench.holds.stopped_by is None
