"""What the simulation has found in the application, as small worlds that show it.

Each finding is a scenario that keeps every promise now and broke one before it was mended: ``undone`` takes the mending
back, so that the test of it can fail. Told in the words of an operator in ``story``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import orjson

from controller import budgets, health, intake, lookup
from controller.adapters.store import names, sqlite
from controller.adapters.store.sqlite import SqliteStore
from controller.application import Application
from controller.core import lifecycle, polling
from controller.core.job import BatchStatus, Job, JobState, RowKey
from controller.core.limits import REQUEST_ID_TAG
from controller.core.polling import Tracked
from controller.health import Health
from controller.identity import Identity
from controller.stages import track
from tests.simulation import checkers
from tests.simulation.checkers_why import WHY
from tests.simulation.scenario import REGION, Disruption, Foreign, Scenario, Sent, draw_common, forgetful


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    story: str
    promises: tuple[str, ...]
    """What it broke."""
    world: Callable[[int], Scenario]
    """By seed."""
    undone: Callable[[], Any]
    """A context manager in which it is not mended."""
    found_by: int
    """The seed that found it, in the scenarios as they were drawn then."""


def calm(seed: int, **changes: Any) -> Scenario:
    """The scenario of a seed with nothing going wrong but what ``changes`` say."""
    drawn = draw_common(seed)
    settings = {**drawn.settings, "submit": {**drawn.settings["submit"], "settle_s": 5.0}}
    quiet = replace(
        drawn,
        call_faults={},
        service_faults={},
        network_faults={},
        disruptions=(),
        kill_at_steps=(),
        foreign=(),
        interval_factor=5.0,
        settings=settings,
    )
    return replace(quiet, **changes)


def _patched(target: Any, name: str, value: Any) -> Callable[[], Any]:
    return lambda: mock.patch.object(target, name, value)


# --- a look-up that is refused ------------------------------------------------------------------------------


def _unknown_queue(seed: int) -> Scenario:
    body = '{"requestId": "r1", "jobName": "job-1", "jobQueue": "no-such-queue", "jobDefinition": "work"}'
    sent = Sent(at=0.1, source="source-0", body=body, kind="no_queue", request_id="r1")
    return calm(seed, requests=(sent,), scripted={"SubmitJob": ("reset",)}, drain_bound_s=300.0)


# --- a clock that is set back -------------------------------------------------------------------------------


def _clock_ahead(seed: int) -> Scenario:
    """Intents are written a quarter of an hour ahead, and refused; later answers are lost at a right clock."""
    jump = Disruption(at=0.3, kind="clock_jump", for_s=6.0, size=0.95)
    return calm(seed, disruptions=(jump,), call_faults={"SubmitJob": {"reset_after": 0.4}}, faults_end_s=40.0)


def _kept_as_written(first_at: float | None, now: float) -> float:
    return now if first_at is None else first_at


# --- a clock that jumps while DescribeJobs lags ---------------------------------------------------------------


def _lagging(seed: int) -> Scenario:
    jump = Disruption(at=3.0, kind="clock_jump", for_s=8.0, size=0.84)
    drawn = calm(seed, disruptions=(jump,), faults_end_s=15.0)
    settings = {**drawn.settings, "track": {**drawn.settings["track"], "lost_after_s": 60.0, "interval_s_min": 0.5}}
    return replace(drawn, settings=settings, profile=replace(drawn.profile, describe_lag_s=(4.0, 8.0)))


def _lost_by_the_wall_clock(self: track.Track, job: Job) -> bool:
    if job.state is not JobState.TRACKED or job.first_missed_at is None:
        return False
    return polling.is_lost(
        misses=job.misses,
        first_missed_at=job.first_missed_at,
        now=self._clock.now(),
        lost_after_s=self._lost_after_s,
        sweep_s=0.0,
    )


# --- somebody else's job, not described yet -------------------------------------------------------------------


def _unseen_stranger(seed: int) -> Scenario:
    drawn = calm(seed, scripted={"SubmitJob": ("reset",) * 30})
    queues = tuple(drawn.job_queues)
    foreign = tuple(
        Foreign(at=0.0, request_id=f"r{n}", job_name=f"job-{n}", job_queue=queue, tag="somebody-else")
        for n in range(len(drawn.requests))
        for queue in queues
    )
    profile = replace(drawn.profile, describe_lag_s=(3.0, 5.0), list_lag_s=(0.0, 0.0))
    return replace(drawn, foreign=foreign, profile=profile)


async def _ours_if_unseen(self: lookup.LookUp, job: Job, candidates: Any) -> Any:
    seen = await self._described([found.job_id for found in candidates])
    tags = {job_id: each.tags.get(REQUEST_ID_TAG, job.request_id) for job_id, each in seen.items()}
    return [found for found in candidates if tags.get(found.job_id, job.request_id) == job.request_id]


# --- a burst, a kill, a burst ---------------------------------------------------------------------------------


def _killed_in_bursts(seed: int) -> Scenario:
    steps = tuple(300 + 137 * (n + seed) % 900 for n in range(8))
    drawn = calm(seed, kill_at_steps=steps, restart_s=0.01, faults_end_s=20.0)
    settings = {
        **drawn.settings,
        "aws": {"region": REGION, "total_rate_per_s": 8.0},
        "submit": {**drawn.settings["submit"], "rate_per_s": 40.0, "concurrency": 32},
    }
    return replace(drawn, settings=settings)


@contextmanager
def _sent_at_once() -> Iterator[None]:
    init = budgets.Budgets.__init__

    def evenly(self: budgets.Budgets, *parts: Any, **_: Any) -> None:
        init(self, *parts)

    with mock.patch.object(budgets.Budgets, "__init__", evenly):
        yield


# --- a commit that took effect and was reported as failed -----------------------------------------------------


def _flaky(seed: int) -> Scenario:
    return calm(seed, disruptions=(Disruption(at=0.0, kind="disk_flaky", for_s=15.0),), faults_end_s=16.0)


# --- rules that change between two deliveries -----------------------------------------------------------------


def _account_learned_late(seed: int) -> Scenario:
    """A first life does not know its account and accepts an ARN of another; a second one gets the message again."""
    arn = f"arn:aws:batch:{REGION}:999999999999:job-queue/theirs"
    sent = Sent(
        at=0.5,
        source="source-0",
        body=f'{{"jobName": "bad", "jobDefinition": "work", "jobQueue": "{arn}"}}',
        kind="invalid",
        request_id=None,
        is_valid=False,
        is_rejected=True,
    )
    return calm(
        seed,
        requests=(sent,),
        scripted={"GetCallerIdentity": ("reset",) * 3},
        service_faults={"sqs_undelete_p": 0.9, "sqs_undelete_s": (6.0, 9.0)},
        disruptions=(Disruption(at=12.0, kind="kill"),),
        faults_end_s=25.0,
    )


@contextmanager
def _known_by_no_message() -> Iterator[None]:
    """Neither while its request stands nor once Batch has refused that."""
    with (
        mock.patch.object(intake, "_id_of", lambda message, parsed: parsed.request_id or "-"),
        mock.patch.object(sqlite, "_REFUSED_MESSAGES", sqlite._REJECTED_MESSAGES),
    ):
        yield


# --- SIGTERM while the start hangs ----------------------------------------------------------------------------


def _stopped_at_start(seed: int) -> Scenario:
    drawn = calm(seed, disruptions=(Disruption(at=0.5, kind="sigterm"),), faults_end_s=1.0)
    settings = {**drawn.settings, "controller": {"name": "sim", "drain_s": 1.0}}
    return replace(drawn, settings=settings, scripted={"GetCallerIdentity": ("hang",)})


# --- killed before the first job's account was stored ---------------------------------------------------------


def _killed_with_an_unbound_store(seed: int) -> Scenario:
    """STS does not answer the first life, and the next one has another account's credentials."""
    drawn = calm(seed, scripted={"GetCallerIdentity": ("reset",) * 3}, faults_end_s=20.0)
    account = Disruption(at=0.0, kind="other_account_at_first_job", for_s=10.0)
    return replace(drawn, disruptions=(account,))


async def _no_stored_account(self: Identity) -> None:
    return None


def _killed_when_the_first_jobs_had_ended(seed: int) -> Scenario:
    """Neither STS answers nor the store takes the account, until the first jobs have ended; then more is sent."""
    locked_at = 2.4 + 0.03 * seed
    locked = Disruption(at=locked_at, kind="disk_locked", for_s=8.0)
    account = Disruption(at=locked_at + 11.0, kind="other_account", for_s=10.0)
    drawn = calm(seed, scripted={"GetCallerIdentity": ("reset",) * 3}, disruptions=(locked, account))
    requests = tuple(replace(sent, at=0.1 if number < 3 else 17.0) for number, sent in enumerate(drawn.requests))
    profile = replace(drawn.profile, submitted_s=(0.1, 0.2), runnable_s=(0.1, 0.2), running_s=(0.5, 1.0))
    return replace(drawn, requests=requests, profile=profile, faults_end_s=30.0)


async def _arn_of_a_job_in_flight(self: SqliteStore) -> str | None:
    rows = await self.tracked(after=RowKey(0), limit=1)
    jobs = await self.load([row.key for row in rows])
    return next((job.batch_job_arn for job in jobs.values()), None)


# --- credentials that were refused to a call that nobody makes any more ---------------------------------------


def _idle_after_a_refusal(seed: int) -> Scenario:
    """DescribeJobQueues alone is told that the credentials have expired, and then there is no work. Messages come back
    after their delete; requests are remembered for a minute or two."""
    back = {"sqs_undelete_p": 0.9, "sqs_undelete_s": (2.0, 4.0)}
    refused = {"DescribeJobQueues": {"expired_token": 1.0}}
    drawn = calm(seed, call_faults=refused, service_faults=back, interval_factor=1.0, faults_end_s=60.0)
    return forgetful(replace(drawn, requests=tuple(replace(sent, at=0.1) for sent in drawn.requests)))


@contextmanager
def _refusals_of_each_call_alone() -> Iterator[None]:
    def worked(self: Health, call: str, *, subject: str = "") -> None:
        self._refusals.pop((call, subject), None)
        self._refusals.pop((call, ""), None)
        if call == health.RECEIVE:
            self._reached(subject, None)

    with mock.patch.object(Health, "worked", worked), mock.patch.object(health, "INTAKE_WAITS_S", 300.0):
        yield


# --- a look-up of children that is over at once ----------------------------------------------------------------


def _children_denied(seed: int) -> Scenario:
    """Arrays fail where ListJobs is not allowed: the second one's look-up takes no time."""
    drawn = calm(seed, scripted={"ListJobs": ("access_denied",) * 50}, drain_bound_s=600.0)
    arrays = tuple(_array(number) for number in range(12))
    return replace(drawn, requests=arrays, profile=replace(drawn.profile, application_failure_p=0.5))


def _array(number: int) -> Sent:
    body = {
        "requestId": f"r{number}",
        "jobName": f"job-{number}",
        "jobQueue": "batch-0",
        "jobDefinition": "work",
        "arrayProperties": {"size": 3},
    }
    return Sent(
        at=0.4 * number, source="source-0", body=orjson.dumps(body).decode(), kind="submit", request_id=f"r{number}"
    )


async def _whoever_is_not_aside_now(self: track.Track, chunk: Sequence[Tracked], seen: Any, tasks: Any) -> None:
    for row in chunk:
        found = seen.get(row.job_id)
        if found is not None and found.status is BatchStatus.FAILED:
            ended = found.observation()
            if track.wants_look_up(ended):
                self._aside.add(row.key)
                tasks.start_soon(self._end_parent, row, ended)
    await self._notice(chunk, seen)
    await self._store_chunk([row for row in chunk if row.key not in self._aside], seen)


FINDINGS: Mapping[str, Finding] = {
    "a queue that does not exist": Finding(
        story="A request to a job queue that does not exist, whose first answer was lost, was in doubt for ever: "
        "ListJobs refuses such a queue.",
        promises=("everything ends",),
        world=_unknown_queue,
        undone=lambda: mock.patch.object(lookup.LookUp, "_listed", lookup.LookUp._all_pages),
        found_by=1,
    ),
    "a clock set back": Finding(
        story="An intent written while the clock was ahead hid the job from the look-up once the clock was right "
        "again: a second job.",
        promises=(checkers.EXACTLY_ONE,),
        world=_clock_ahead,
        undone=_patched(lifecycle, "_earlier", _kept_as_written),
        found_by=317,
    ),
    "a clock that jumps ahead": Finding(
        story="A clock that jumped ahead made a running job LOST that DescribeJobs did not show yet.",
        promises=(checkers.TRUTH,),
        world=_lagging,
        undone=_patched(track.Track, "_is_lost", _lost_by_the_wall_clock),
        found_by=10306,
    ),
    "a job listed before it is described": Finding(
        story="A job of another's, listed by ListJobs and not yet shown by DescribeJobs, was adopted without a look at "
        "its tag.",
        promises=(checkers.TRUTH,),
        world=_unseen_stranger,
        undone=_patched(lookup.LookUp, "_tagged_as_ours", _ours_if_unseen),
        found_by=10145,
    ),
    "a restart after a burst": Finding(
        story="A restart right after a burst of calls sent more in one second than the total rate allows.",
        promises=(checkers.RATES,),
        world=_killed_in_bursts,
        undone=_sent_at_once,
        found_by=10165,
    ),
    "a commit that was reported as failed": Finding(
        story="A commit that took effect and was reported as failed left names in the store that the process did not "
        "know; it could not read its own rows.",
        promises=("the run ends", checkers.SOUND),
        world=_flaky,
        undone=_patched(names.Vocabulary, "refresh", lambda self: None),
        found_by=9,
    ),
    "a message accepted by earlier rules": Finding(
        story="A message accepted before the account was known was rejected a second time when it was delivered again.",
        promises=(checkers.ONE_FINAL,),
        world=_account_learned_late,
        undone=_known_by_no_message,
        found_by=11157,
    ),
    "SIGTERM while the start hangs": Finding(
        story="SIGTERM while GetCallerIdentity hung was not obeyed before the call's deadline.",
        promises=("drain in time",),
        world=_stopped_at_start,
        undone=lambda: mock.patch.object(Application, "_start_unless_drained", Application._start),
        found_by=444,
    ),
    "children that may not be listed": Finding(
        story="An array that failed where ListJobs is denied told nothing of its children, not even that they "
        "could not be looked up: the look-up was over before the rest of the answer was stored.",
        promises=(WHY,),
        world=_children_denied,
        undone=_patched(track.Track, "_took", _whoever_is_not_aside_now),
        found_by=301225,
    ),
    "an idle controller with an old refusal": Finding(
        story="Credentials that were refused to a call which nobody made any more kept intake closed for five minutes, "
        "though they were good again; what waited in SQS meanwhile came after its first copy had been forgotten.",
        promises=("one request, one job",),
        world=_idle_after_a_refusal,
        undone=_refusals_of_each_call_alone,
        found_by=912722,
    ),
    "killed right after the first job": Finding(
        story="Where STS did not answer, a process killed right after its first job left a store of no account, which "
        "the next one bound to another.",
        promises=("one store, one account",),
        world=_killed_with_an_unbound_store,
        undone=_patched(Identity, "_account_of_stored_jobs", _no_stored_account),
        found_by=20514,
    ),
    "killed when the first jobs had ended": Finding(
        story="Where STS did not answer and the store failed for a while, a process killed when its first jobs had "
        "ended left a store of no account, which the next one bound to another.",
        promises=("one store, one account",),
        world=_killed_when_the_first_jobs_had_ended,
        undone=_patched(SqliteStore, "any_job_arn", _arn_of_a_job_in_flight),
        found_by=2002102,
    ),
}
