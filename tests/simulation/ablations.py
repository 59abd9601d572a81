"""Safeguards, each switched off in turn: some seed must then fail, and break the promise that rests on it.

``python -m tests.simulation.ablations --markdown`` prints the table of ``docs/promises.md``. A safeguard is switched
off by a substitution made here; the application has no switch for it. A seed counts only if it is green with the
safeguard. Where random seeds hit upon the one situation that needs a safeguard too seldom, the scenario is bent
towards it.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

from controller import lookup
from controller.adapters import aws_errors
from controller.adapters.store import sqlite, writes
from controller.core import admission, job, lifecycle, pacing
from controller.core.lifecycle import NotAccepted, NotFound, RefusedForGood, Transition
from controller.ports import DeleteOutbox, ListPage
from controller.stages import admit, ingest, publish, rescue, submit, track
from tests.simulation import checkers
from tests.simulation.scenario import Disruption, Foreign, Scenario, draw
from tests.simulation.sweep import run_scenario

SEEDS_MAX = 60
"""Within so many seeds a missing safeguard must show."""

Bend = Callable[[Scenario], Scenario]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """A safeguard and what breaks without it."""

    safeguard: str
    where: str
    promises: tuple[str, ...]
    """Those that must break: the first problem of the failing seed names one of them."""
    off: Callable[[], Any]
    """A context manager in which it is off."""
    bend: Bend = lambda scenario: scenario
    means: str = ""
    """How it was switched off, for the table."""


@dataclass(frozen=True, slots=True)
class Outcome:
    ablation: Ablation
    seed: int | None
    """The first seed that failed without the safeguard and is green with it."""
    tried: int
    problem: str


def judge(ablation: Ablation, *, first: int = 1, seeds_max: int = SEEDS_MAX) -> Outcome:
    """Look for a seed that needs the safeguard."""
    for tried, seed in enumerate(range(first, first + seeds_max), start=1):
        scenario = ablation.bend(draw(seed))
        with ablation.off():
            problems = run_scenario(scenario)[0].problems
        if problems and not run_scenario(scenario)[0].problems:
            return Outcome(ablation, seed, tried, _most_telling(problems, ablation.promises))
    return Outcome(ablation, None, seeds_max, "")


def _most_telling(problems: Sequence[str], promises: Sequence[str]) -> str:
    return next((each for each in problems if each.split(":")[0] in promises), problems[0])


# --- bending scenarios ------------------------------------------------------------------------------------


def _calm(scenario: Scenario) -> Scenario:
    return replace(
        scenario,
        call_faults={},
        service_faults={},
        network_faults={},
        disruptions=(),
        kill_at_steps=(),
        foreign=(),
        interval_factor=5.0,
        settings={**scenario.settings, "submit": {**scenario.settings["submit"], "settle_s": 5.0}},
    )


def _submits(settle_s: float | None = None, **chances: float) -> Bend:
    """Nothing but faults of SubmitJob, and late acceptances within the settle time."""

    def bend(scenario: Scenario) -> Scenario:
        calm = _calm(scenario)
        lag_s = scenario.profile.list_lag_s[1]
        service = {"late_s": (0.0, max(0.1, 4.8 - lag_s))}
        settings = calm.settings
        if settle_s is not None:
            settings = {**settings, "submit": {**settings["submit"], "settle_s": settle_s}}
        return replace(calm, call_faults={"SubmitJob": chances}, service_faults=service, settings=settings)

    return bend


def _kills(*, count: int = 4, factor: float = 5.0) -> Bend:
    """Nothing but kills, at steps that the seed says."""

    def bend(scenario: Scenario) -> Scenario:
        steps = tuple(200 + 137 * (n + scenario.seed) % 900 for n in range(count))
        return replace(_calm(scenario), kill_at_steps=steps, restart_s=0.01, interval_factor=factor, faults_end_s=20.0)

    return bend


def _disrupted(kind: str, at: float = 1.0, for_s: float = 10.0, size: float = 0.5) -> Bend:
    def bend(scenario: Scenario) -> Scenario:
        hit = [Disruption(at=at, kind=kind, for_s=for_s, what=queue, size=size) for queue in scenario.job_queues]
        return replace(_calm(scenario), disruptions=tuple(hit), faults_end_s=max(scenario.faults_end_s, at + for_s + 1))

    return bend


def _strangers(at: float = 0.0, **members: Any) -> Bend:
    """SubmitJob's first answers are lost before it took effect, and Batch has jobs of nearly our names."""

    def bend(scenario: Scenario) -> Scenario:
        calm = _calm(scenario)
        foreign = tuple(
            Foreign(at=at, request_id=f"r{n}", job_name=f"job-{n}", job_queue=queue, **members)
            for n in range(len(scenario.requests))
            for queue in scenario.job_queues
        )
        return replace(calm, foreign=foreign, scripted={"SubmitJob": ("reset",) * 30})

    return bend


def _crowd(scenario: Scenario) -> Scenario:
    """More than a page of jobs whose names differ from ours in case only came after ours, whose answer was lost."""
    bent = _strangers(at=0.0, is_upper_case=True, count=101)(scenario)
    few = [sent for sent in bent.requests if sent.kind == "submit" and sent.request_id is not None][:2]
    names = {sent.request_id for sent in few}
    foreign = tuple(
        replace(each, at=2.0, job_queue=next(iter(scenario.job_queues)))
        for each in bent.foreign
        if each.request_id in names
    )
    requests = tuple(replace(sent, at=0.1) for sent in few)
    profile = replace(bent.profile, list_lag_s=(0.0, 0.0))
    return replace(
        bent, requests=requests, foreign=foreign, scripted={"SubmitJob": ("reset_after",) * 4}, profile=profile
    )


def _tight(bend: Bend) -> Bend:
    """Few slots, so that every one is fought for."""

    def bent(scenario: Scenario) -> Scenario:
        made = bend(scenario)
        limits = {name: {"max_in_flight": 2, "max_waiting": 2} for name in made.job_queues}
        return replace(made, settings={**made.settings, "queues": limits})

    return bent


def _cancelled_in_flight(scenario: Scenario) -> Scenario:
    """Every request is cancelled at about the time at which it is sent, and the store is slow."""
    made = _submits(slow=0.9)(scenario)
    named = [sent for sent in made.requests if sent.kind == "submit" and sent.request_id is not None]
    cancels = [
        replace(
            sent,
            at=sent.at + 0.1 * (number % 20),
            kind="cancel",
            body=f'{{"action": "cancel", "requestId": "{sent.request_id}"}}',
        )
        for number, sent in enumerate(named)
    ]
    requests = tuple(sorted((*made.requests, *cancels), key=lambda sent: sent.at))
    slow = Disruption(at=0.0, kind="disk_slow", for_s=60.0, size=0.5)
    return replace(
        made,
        requests=requests,
        disruptions=(slow,),
        service_faults={"slow_s": (0.1, 1.0)},
        faults_end_s=made.faults_end_s + 10.0,
    )


def _beyond_settling(scenario: Scenario) -> Scenario:
    """What AWS promises nobody: stray copies are accepted after the settle time, while the request waits for a slot."""
    made = _tight(_submits(late=0.25))(scenario)
    settings = {**made.settings, "submit": {**made.settings["submit"], "settle_s": 1.0}}
    profile = replace(made.profile, running_s=(8.0, 12.0), list_lag_s=(0.0, 0.0))
    return replace(made, settings=settings, profile=profile, service_faults={"late_s": (2.5, 4.0)})


# --- switching off ----------------------------------------------------------------------------------------


def _patched(target: Any, name: str, value: Any) -> Callable[[], Any]:
    return lambda: mock.patch.object(target, name, value)


async def _recover_as_unsent(self: rescue.Rescue) -> int:
    rows = await self._store.submitting()
    await self._ledger.record([(each, NotAccepted()) for each in rows if not each.is_in_doubt])
    return len(rows)


async def _never_finds(self: lookup.LookUp, row: job.Job) -> None:
    return None


async def _first_page_only(self: lookup.LookUp, row: job.Job) -> list[job.ListedJob]:
    return list((await self._page(row, None)).jobs)


def _unmarked(row: job.Job, fact: Any, now: float) -> Transition:
    made = lifecycle._requeue(row, fact, now)
    return replace(made, job=replace(made.job, doubted_at=None))


@contextmanager
def _without_mark() -> Iterator[None]:
    table = dict(lifecycle.TABLE)
    table[job.JobState.SUBMITTING, NotFound] = _unmarked
    with mock.patch.object(lifecycle, "TABLE", table):
        yield


async def _delete_first(self: ingest.Ingest, group: Any) -> None:
    await self._delete([held.message.receipt_handle for held in group])
    await _COMMIT_GROUP(self, group)


_COMMIT_GROUP = ingest.Ingest._commit_group


@contextmanager
def _events_in_the_next_transaction() -> Iterator[None]:
    """What a commit reports is put into the outbox with the next one."""
    held: dict[int, list[Any]] = {}
    flush = writes.Changes.flush

    def late(self: writes.Changes) -> None:
        mine, self._outbox = self._outbox, held.pop(id(self._context), [])
        held[id(self._context)] = mine
        flush(self)

    with mock.patch.object(writes.Changes, "flush", late):
        yield


async def _publish_after_deleting(self: publish.Publish) -> float | None:
    rows = await self._store.outbox(self._sink.name, limit=publish.CHUNK)
    if not rows:
        return None
    await self._store.commit([DeleteOutbox(keys=tuple(row.key for row in rows))])
    await self._sink.publish(rows)
    return 0.0


def _only_tracked(usage: Any) -> dict[str, admission.QueueCounts]:
    return admission.queue_counts(line for line in usage if line.state is not job.JobState.SUBMITTING)


@contextmanager
def _without_versions() -> Iterator[None]:
    update = writes.Changes._update_job

    def forced(self: writes.Changes, write: Any) -> bool:
        was = self._standing.get(write.job.key)
        if was is not None:
            write = replace(write, job=replace(write.job, version=was.version))
        return update(self, write)

    with mock.patch.object(writes.Changes, "_update_job", forced):
        yield


@contextmanager
def _names_compared_loosely() -> Iterator[None]:
    from controller.adapters import batch

    async def listed(self: batch.Batch, *, job_queue: str, job_name: str, next_token: str | None = None) -> Any:
        answer = await self._client.list_jobs(jobQueue=job_queue, filters=[{"name": "JOB_NAME", "values": [job_name]}])
        return ListPage(jobs=[batch._listed(row) for row in answer["jobSummaryList"]], next_token=None)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(batch.Batch, "list_jobs_named", listed))
        stack.enter_context(mock.patch.object(lookup.LookUp, "_all_pages", _first_page_only))
        yield


def _any_age(target: Any = lookup) -> Any:
    return mock.patch.object(target, "ADOPTION_SKEW_S", math.inf)


async def _all_ours(self: lookup.LookUp, row: job.Job, candidates: Any) -> Any:
    return candidates


async def _refused_at_once(self: submit.Submit, row: job.Job, error: Any) -> Any:
    return RefusedForGood(reason=str(error), error_code="refused")


def _start_full(cls: Any, ceiling_per_s: float, *, now: float) -> pacing.Pace:
    return pacing.Pace(ceiling_per_s=ceiling_per_s, rate_per_s=pacing._whole(ceiling_per_s), last_sent_at=-math.inf)


async def _first_exact_page_only(self: lookup.LookUp, row: job.Job) -> list[job.ListedJob]:
    page = await self._page(row, None)
    return [each for each in page.jobs if each.job_name == row.batch_job_name]


_RESCUE_INIT = rescue.Rescue.__init__


def _settled_at_once(self: rescue.Rescue, **parts: Any) -> None:
    _RESCUE_INIT(self, **{**parts, "settle_s": 0.0})


_OUTCOME = submit.Submit._outcome


async def _sent_unseen(self: submit.Submit, row: job.Job, body: str) -> Any:
    return await _OUTCOME(self, replace(row, doubted_at=None), body)


ABLATIONS: tuple[Ablation, ...] = (
    Ablation(
        safeguard="The intent is committed before the call, and a restart takes it for a doubt",
        where="stages/rescue.py, recover",
        promises=(checkers.EXACTLY_ONE,),
        off=_patched(rescue.Rescue, "recover", _recover_as_unsent),
        bend=_kills(),
        means="rows being sent at a crash count as not sent",
    ),
    Ablation(
        safeguard="Look-up before every resend",
        where="lookup.py",
        promises=(checkers.EXACTLY_ONE,),
        off=_patched(lookup.LookUp, "find", _never_finds),
        bend=_submits(reset_after=0.3),
        means="the look-up finds nothing",
    ),
    Ablation(
        safeguard="Settle time",
        where="stages/rescue.py",
        promises=(checkers.EXACTLY_ONE,),
        off=lambda: mock.patch.object(rescue.Rescue, "__init__", _settled_at_once),
        bend=_submits(late=0.3),
        means="settle time 0",
    ),
    Ablation(
        safeguard="Look-up right before a resend, after the settle time",
        where="stages/submit.py",
        promises=(checkers.EXACTLY_ONE,),
        off=lambda: mock.patch.object(submit.Submit, "_outcome", _sent_unseen),
        bend=_beyond_settling,
        means="a marked row is sent like any other; AWS accepts stray copies later than it says",
    ),
    Ablation(
        safeguard="Memory of doubt",
        where="core/lifecycle.py",
        promises=(checkers.EXACTLY_ONE,),
        off=_without_mark,
        bend=_beyond_settling,
        means="the mark is cleared once the settle time is over; AWS accepts stray copies later than it says",
    ),
    Ablation(
        safeguard="An answer of 5xx to SubmitJob is a doubt",
        where="adapters/aws_errors.py",
        promises=(checkers.EXACTLY_ONE,),
        off=_patched(aws_errors, "_is_surely_rejected", lambda error: True),
        bend=_submits(error_500_after=0.3),
        means="5xx counts as not accepted",
    ),
    Ablation(
        safeguard="A job older than the first intent is not adopted",
        where="lookup.py",
        promises=(checkers.TRUTH,),
        off=_any_age,
        bend=_strangers(at=-1_300.0),
        means="a job of any age is",
    ),
    Ablation(
        safeguard="A job with another's request-id tag is not adopted",
        where="lookup.py",
        promises=(checkers.TRUTH,),
        off=_patched(lookup.LookUp, "_tagged_as_ours", _all_ours),
        bend=_strangers(tag="somebody-else"),
        means="tags are not looked at",
    ),
    Ablation(
        safeguard="Names are compared exactly",
        where="adapters/batch.py, lookup.py",
        promises=(checkers.TRUTH,),
        off=_names_compared_loosely,
        bend=_strangers(is_upper_case=True),
        means="compared as Batch does, without case",
    ),
    Ablation(
        safeguard="ListJobs is paged to the end",
        where="lookup.py",
        promises=(checkers.EXACTLY_ONE,),
        off=_patched(lookup.LookUp, "_all_pages", _first_exact_page_only),
        bend=_crowd,
        means="the first page is all",
    ),
    Ablation(
        safeguard="A ClientException is not yet a refusal",
        where="stages/submit.py",
        promises=(checkers.NOTHING_LOST,),
        off=_patched(submit.Submit, "_refused", _refused_at_once),
        bend=_disrupted("queue_disabled"),
        means="it rejects the request",
    ),
    Ablation(
        safeguard="The store belongs to one account",
        where="adapters/store/sqlite.py",
        promises=("one store, one account",),
        off=_patched(sqlite, "_check_same", lambda bound, identity: None),
        bend=_disrupted("other_account", at=6.0, for_s=8.0),
        means="any account may open it",
    ),
    Ablation(
        safeguard="Delete after commit",
        where="stages/ingest.py",
        promises=("deleted after commit",),
        off=_patched(ingest.Ingest, "_commit_group", _delete_first),
        bend=_kills(),
        means="messages are deleted as soon as they are received",
    ),
    Ablation(
        safeguard="LOST needs three misses, spread over time",
        where="core/polling.py",
        promises=(checkers.TRUTH,),
        off=_patched(track, "is_lost", lambda **_: True),
        bend=lambda s: replace(_calm(s), profile=replace(s.profile, describe_lag_s=(1.0, 4.0))),
        means="the first miss is enough",
    ),
    Ablation(
        safeguard="Events in the transaction of the change",
        where="adapters/store/writes.py",
        promises=(checkers.REPORTED, checkers.ONE_FINAL, checkers.NOTHING_LOST, "everything ends"),
        off=_events_in_the_next_transaction,
        bend=_kills(),
        means="events are put into the outbox one transaction later",
    ),
    Ablation(
        safeguard="An event leaves the outbox after its delivery",
        where="stages/publish.py",
        promises=(checkers.REPORTED, checkers.ONE_FINAL, checkers.NOTHING_LOST, "everything ends"),
        off=_patched(publish.Publish, "turn", _publish_after_deleting),
        bend=_disrupted("stdout_down", at=2.0, for_s=3.0),
        means="before",
    ),
    Ablation(
        safeguard="A slot is reserved with the intent",
        where="core/admission.py",
        promises=(checkers.SLOTS,),
        off=_patched(admit, "queue_counts", _only_tracked),
        bend=_tight(_submits(slow=0.9)),
        means="only jobs with an id count as in flight",
    ),
    Ablation(
        safeguard="A write names the version it was computed from",
        where="adapters/store/writes.py",
        promises=(
            checkers.EXACTLY_ONE,
            checkers.TRUTH,
            checkers.ONE_FINAL,
            checkers.NOTHING_LOST,
            checkers.SOUND,
            "everything ends",
        ),
        off=_without_versions,
        bend=_cancelled_in_flight,
        means="the last write wins",
    ),
    Ablation(
        safeguard="Sends are spaced with a guard for the way to AWS",
        where="core/pacing.py",
        promises=(checkers.RATES,),
        off=_patched(pacing, "PACING_GUARD", 0.0),
        bend=_calm,
        means="spaced by exactly 1 / rate",
    ),
    Ablation(
        safeguard="Budgets start empty",
        where="core/pacing.py",
        promises=(checkers.RATES,),
        off=_patched(pacing.Pace, "start", classmethod(_start_full)),
        bend=_kills(count=8),
        means="a restart may send at once",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.ablations", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/promises.md")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX)
    given = parser.parse_args(arguments)
    outcomes = [judge(each, seeds_max=given.seeds) for each in ABLATIONS]
    sys.stdout.write(table(outcomes) if given.markdown else listing(outcomes))
    return 0 if all(is_as_promised(outcome) for outcome in outcomes) else 1


def is_as_promised(outcome: Outcome) -> bool:
    return outcome.seed is not None and outcome.problem.split(":")[0] in outcome.ablation.promises


def table(outcomes: Sequence[Outcome]) -> str:
    rows = ["| safeguard | without it | promise that breaks | seed |", "|---|---|---|---|"]
    for outcome in outcomes:
        each = outcome.ablation
        broken = outcome.problem.split(":")[0] or "none"
        rows.append(f"| {each.safeguard} (`{each.where}`) | {each.means} | {broken} | {outcome.seed} |")
    return "\n".join(rows) + "\n"


def listing(outcomes: Sequence[Outcome]) -> str:
    return "".join(
        f"{'ok ' if is_as_promised(each) else 'BAD'} {each.ablation.safeguard}: "
        f"seed {each.seed}, tried {each.tried}: {each.problem[:300]}\n"
        for each in outcomes
    )


if __name__ == "__main__":
    sys.exit(main())
