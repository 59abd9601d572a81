"""How each safeguard is switched off: substitutions of parts of the application, made here and nowhere else.

Each is a context manager. That they reach into private parts is the point: the application has no switch for any of
these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import aiohttp
import anyio
from botocore import exceptions as sdk

from controller import application, children, gate, holds, intake, ledger, lookup
from controller.adapters import aws_errors, batch
from controller.adapters.store import sqlite, writes
from controller.adapters.store.rows import encode_keyed
from controller.budgets import Purpose
from controller.core import admission, lifecycle, limits, pacing, polling
from controller.core.errors import InDoubt, OutwardError, StoreUnavailable, Unavailable
from controller.core.job import Job, JobState, ListedJob
from controller.core.lifecycle import Accepted, Admitted, CancelAsked, Described, NotAccepted, NotFound, Transition
from controller.core.limits import LOST_MISSES_MIN
from controller.loop import Drain
from controller.ports import ChildPage, DeleteOutbox, ListPage
from controller.stages import admit, expire, ingest, publish, rescue, submit, terminate, track
from tests.simulation.disk import Disk, SimRunner
from tests.simulation.ports import SimClient

Switch = Callable[[], AbstractContextManager[object]]


def put(target: Any, name: str, value: Any) -> Switch:
    """Another value in the place of an attribute."""
    return lambda: mock.patch.object(target, name, value)


def both(*switches: Switch) -> Switch:
    @contextmanager
    def switched() -> Iterator[None]:
        with ExitStack() as stack:
            for switch in switches:
                stack.enter_context(switch())
            yield

    return switched


def step(state: JobState, fact: type, function: Callable[[Job, Any, float], Transition]) -> Switch:
    """Another step in the table of the state machine."""
    return lambda: mock.patch.dict(lifecycle.TABLE, {(state, fact): function})


# --- one request, one job -----------------------------------------------------------------------------------


@contextmanager
def call_before_intent() -> Iterator[None]:
    """Admission sends each request itself, and commits intent and answer afterwards."""
    build = application.Application._build_stages

    def built(self: application.Application) -> None:
        build(self)
        self.admit.turn = partial(_send_and_write, self)  # type: ignore[method-assign]

    with mock.patch.object(application.Application, "_build_stages", built):
        yield


async def _send_and_write(app: application.Application) -> float | None:
    store, calls = app._ports.store, app._ports.batch
    for job in admission.plan_admission(await app.admit._snapshot()).admit:
        body = (await store.bodies([job.key]))[job.key]
        await app.budgets.acquire(Purpose.SUBMIT)
        answer = await calls.submit_job(app._arguments(body, job, {}), timeout_s=app.settings.submit.timeout_s)
        (sent,) = await app.ledger.record([(job, Admitted())])
        await app.ledger.record([(sent, Accepted(job_id=answer.job_id, job_arn=answer.job_arn))])
    return None


async def recover_as_unsent(self: rescue.Rescue) -> int:
    rows = await self._store.submitting()
    await self._ledger.record([(each, NotAccepted()) for each in rows if not each.is_in_doubt])
    return len(rows)


@contextmanager
def sdk_retries() -> Iterator[None]:
    """A SubmitJob whose connection breaks is sent once more by the SDK, as botocore does by default."""
    call = SimClient._call

    async def called(self: SimClient, operation: str, arguments: Any) -> Any:
        try:
            return await call(self, operation, arguments)
        except (sdk.HTTPClientError, sdk.ConnectionError, aiohttp.ClientError):
            if operation != "SubmitJob":
                raise
            return await call(self, operation, arguments)

    with mock.patch.object(SimClient, "_call", called):
        yield


async def fetch_nothing(self: application.Application) -> None:
    pass


_SORTED = submit.Submit._sorted


async def doubt_is_no(self: submit.Submit, job: Job, error: OutwardError, began_at: float) -> Any:
    return NotAccepted() if isinstance(error, InDoubt) else await _SORTED(self, job, error, began_at)


def no_job_id_is_no(answer: Any, **about: Any) -> Any:
    if not answer.get("jobId"):
        raise Unavailable("an answer without a jobId")
    return _SUBMITTED(answer, **about)


_SUBMITTED = batch._submitted


async def never_finds(self: lookup.LookUp, job: Job) -> None:
    return None


_FIND = lookup.LookUp.find


async def error_is_not_found(self: lookup.LookUp, job: Job) -> ListedJob | None:
    try:
        return await _FIND(self, job)
    except OutwardError:
        return None


def nothing_is_an_empty_list(answer: Any, member: str, operation: str) -> Any:
    return answer.get(member) or []


def _unmarked(job: Job, fact: Any, now: float) -> Transition:
    made = lifecycle._requeue(job, fact, now)
    return replace(made, job=replace(made.job, doubted_at=None))


no_mark = both(
    step(JobState.SUBMITTING, NotFound, _unmarked),
    step(JobState.SUBMITTING, NotAccepted, _unmarked),
)

_OUTCOME = submit.Submit._outcome


async def sent_unseen(self: submit.Submit, job: Job, body: str, ids: submit.JobIds) -> Any:
    return await _OUTCOME(self, replace(job, doubted_at=None), body, ids)


async def ended_unseen(self: expire.Expire, job: Job) -> Any:
    return lifecycle.NeverFound()


_RESCUE_INIT = rescue.Rescue.__init__


def settled_at_once(self: rescue.Rescue, **parts: Any) -> None:
    _RESCUE_INIT(self, **{**parts, "settle_s": 0.0})


_REMEMBER = rescue.Rescue._remember


def settled_from_first_intent(self: rescue.Rescue, rows: Any, now: float) -> None:
    _REMEMBER(self, rows, now)
    for job in rows:
        age_s = self._clock.now() - job.first_intent_at
        self._doubts[job.key].settled_at = min(self._doubts[job.key].settled_at, now + self._settle_s - age_s)


async def all_ours(self: lookup.LookUp, job: Job, candidates: Any) -> Any:
    return candidates


async def first_page_only(self: lookup.LookUp, job: Job) -> list[ListedJob]:
    page = await self._page(job, None)
    return [each for each in page.jobs if each.job_name == job.batch_job_name]


async def _any_case(self: lookup.LookUp, job: Job) -> list[ListedJob]:
    return list((await self._page(job, None)).jobs)


async def _listed_in_any_case(
    self: batch.Batch, *, job_queue: str, job_name: str, next_token: str | None = None
) -> Any:
    answer = await self._client.list_jobs(jobQueue=job_queue, filters=[{"name": "JOB_NAME", "values": [job_name]}])
    return ListPage(jobs=[batch._listed(row) for row in answer["jobSummaryList"]], next_token=None)


names_in_any_case = both(
    put(batch.Batch, "list_jobs_named", _listed_in_any_case), put(lookup.LookUp, "_all_pages", _any_case)
)


async def in_hand_after_the_read(self: submit.Submit, tasks: Any) -> float | None:
    rows = [
        job for job in await self._store.submitting() if not job.is_in_doubt and job.key not in frozenset(self._in_hand)
    ]
    bodies = await self._store.bodies([job.key for job in rows]) if rows else {}
    for job in rows:
        if job.key in bodies:
            self._in_hand.add(job.key)
            tasks.start_soon(self._carry, job, bodies[job.key], {})
    return None


async def recorded_if_possible(self: submit.Submit, job: Job, fact: Any) -> None:
    try:
        await self._ledger.record([(job, fact)])
    except StoreUnavailable:
        return


def _cancelled_in_flight(job: Job, fact: CancelAsked, now: float) -> Transition:
    return lifecycle._cancel(replace(job, cancel_requested_at=now, cancel_reason=fact.reason), now)


cancel_at_once = step(JobState.SUBMITTING, CancelAsked, _cancelled_in_flight)


@contextmanager
def late_answers() -> Iterator[None]:
    """No safeguard, but a world in which it matters: the store's answers come late, in whatever order."""
    run = SimRunner.run

    async def ran(self: SimRunner, function: Callable[[], Any]) -> Any:
        try:
            return await run(self, function)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1 * self._disk.rng.random())

    with mock.patch.object(SimRunner, "run", ran):
        yield


@contextmanager
def no_versions() -> Iterator[None]:
    """The last write wins."""
    update = writes.Changes._update_job

    def forced(self: writes.Changes, write: Any) -> bool:
        was = self._standing.get(write.job.key)
        if was is not None:
            write = replace(write, job=replace(write.job, version=was.version))
        return update(self, write)

    with mock.patch.object(writes.Changes, "_update_job", forced):
        yield


# --- nothing is lost, every end is reported -------------------------------------------------------------------


@contextmanager
def no_duplicates() -> Iterator[None]:
    """Each message is a request of its own, whatever its id; the schema's rule of one life per id is off too."""
    decide, encode, connect = intake._Group._submit, encode_keyed, Disk.connect

    def decided(self: intake._Group, message: Any, request: Any, lives: Any) -> Any:
        return decide(self, message, request, ())

    def encoded(job: Job, key: int, names: Any) -> Any:
        state, _, *rest = encode(job, key, names)
        return (state, key, *rest)

    def connected(self: Disk, path: str) -> Any:
        connection = connect(self, path)
        connection.execute("PRAGMA ignore_check_constraints = ON")
        return connection

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(intake._Group, "_submit", decided))
        stack.enter_context(mock.patch.object(writes, "encode_keyed", encoded))
        stack.enter_context(mock.patch.object(writes.Changes, "_read_live", side_effect=lambda *_: set()))
        stack.enter_context(mock.patch.object(Disk, "connect", connected))
        yield


_COMMIT_GROUP = ingest.Ingest._commit_group


async def delete_first(self: ingest.Ingest, group: Any) -> None:
    await self._deleter.delete([held.message.receipt_handle for held in group])
    await _COMMIT_GROUP(self, group)


def hold_for_ever(self: ingest.Ingest, group: Any) -> Any:
    return list(group)


async def _back_off_receiving(self: ingest.Ingest, backoff: Any) -> None:
    await self._drain.sleep(backoff.failed())


def _room_whatever_fails(self: gate.IntakeGate, source: str) -> int:
    return self._unclaimed(source) if self._is_open[source] else 0


receive_while_failing = both(
    put(ingest.Ingest, "_back_off", _back_off_receiving), put(gate.IntakeGate, "room", _room_whatever_fails)
)


@contextmanager
def events_in_the_next_transaction() -> Iterator[None]:
    """What a commit reports is put into the outbox with the next one."""
    held: dict[int, list[Any]] = {}
    flush = writes.Changes.flush

    def late(self: writes.Changes) -> None:
        mine, self._outbox = self._outbox, held.pop(id(self._context), [])
        held[id(self._context)] = mine
        flush(self)

    with mock.patch.object(writes.Changes, "flush", late):
        yield


async def publish_after_deleting(self: publish.Publish) -> float | None:
    rows = await self._store.outbox(self._sink.name, limit=publish.CHUNK)
    if not rows:
        return None
    await self._store.commit([DeleteOutbox(keys=tuple(row.key for row in rows))])
    await self._sink.publish(rows)
    return 0.0


async def refused_at_once(self: submit.Submit, job: Job, error: Any) -> Any:
    return lifecycle.RefusedForGood(reason=str(error), error_code="refused")


_REFUSED = submit.Submit._refused


async def refused_the_first_time(self: submit.Submit, job: Job, error: Any) -> Any:
    return await _REFUSED(self, replace(job, refusals=1), error)


# --- the truth ------------------------------------------------------------------------------------------------


def lost_without_waiting(*, misses: int, **_: float) -> bool:
    return misses >= LOST_MISSES_MIN


_DESCRIBE = lifecycle.TABLE[JobState.TRACKED, Described]


def _misses_add_up(job: Job, fact: Any, now: float) -> Transition:
    made = _DESCRIBE(job, fact, now)
    if not made.is_changed or made.job.state is not JobState.TRACKED:
        return made
    return replace(made, job=replace(made.job, first_missed_at=job.first_missed_at, misses=job.misses))


misses_add_up = step(JobState.TRACKED, Described, _misses_add_up)

_TAKE_CHUNK = polling.Schedule.take_chunk
OVERLAP_S = 0.3


def in_several_hands(self: polling.Schedule, now: float, **options: Any) -> Any:
    chunk = _TAKE_CHUNK(self, now, **options)
    for row in chunk:
        slot = self._slot_of_key.get(row.key)
        self._flags[slot] = 0
        self._put(slot, polling._tick(now + OVERLAP_S))
    return chunk


@contextmanager
def commit_failed_means_undone() -> Iterator[None]:
    """A conflict with a write of one's own that was reported as failed is nobody's; and nobody counts later."""

    async def not_at_all(self: track.Track) -> None:
        self._reconcile_at = math.inf

    original = ledger.Ledger._reload

    async def reloaded(self: ledger.Ledger, *given: Any) -> Any:
        announce, self._tracked = self._tracked, lambda job: None  # type: ignore[method-assign]
        try:
            return await original(self, *given)
        finally:
            self._tracked = announce  # type: ignore[method-assign]

    with (
        mock.patch.object(ledger.Ledger, "_reload", reloaded),
        mock.patch.object(track.Track, "_reconcile", not_at_all),
    ):
        yield


told_once = put(terminate, "REPEAT_S", 1e9)


# --- limits ---------------------------------------------------------------------------------------------------


def _only_tracked(usage: Any) -> dict[str, admission.QueueCounts]:
    return admission.queue_counts(line for line in usage if line.state is not JobState.SUBMITTING)


def _may_be_sent_though_expired(job: Job, snapshot: admission.AdmissionSnapshot) -> bool:
    return _MAY_BE_SENT(replace(job, expires_at=None), snapshot)


_MAY_BE_SENT = admission._may_be_sent
_GOES_BACK = submit.Submit._goes_back


def _goes_back_though_expired(self: submit.Submit, job: Job) -> bool:
    return _GOES_BACK(self, replace(job, expires_at=None))


expired_is_sent = both(
    put(admission, "_may_be_sent", _may_be_sent_though_expired),
    put(submit.Submit, "_goes_back", _goes_back_though_expired),
)

count_only_tracked = put(admit, "queue_counts", _only_tracked)


def no_spacing(self: pacing.Pace, now: float) -> float:
    return 0.0


def missed_slots_count(self: pacing.Pace, now: float) -> pacing.Pace:
    return replace(self, last_sent_at=self.next_send_at)


def _start_full(cls: type[pacing.Pace], ceiling_per_s: float, *, now: float) -> pacing.Pace:
    return cls(ceiling_per_s=ceiling_per_s, rate_per_s=pacing._whole(ceiling_per_s), last_sent_at=-math.inf)


_WINDOW_INIT = pacing.SendWindow.__init__


def _window_open(self: pacing.SendWindow, ceiling_per_s: float, *, now: float) -> None:
    _WINDOW_INIT(self, ceiling_per_s, now=now - 10.0)


start_full = both(put(pacing.Pace, "start", classmethod(_start_full)), put(pacing.SendWindow, "__init__", _window_open))

_HOLD = holds.HoldBook.hold


async def hold_pairs_only(self: holds.HoldBook, queue: str, definition: str, **why: Any) -> None:
    if definition:
        await _HOLD(self, queue, definition, **why)


# --- stopping -------------------------------------------------------------------------------------------------

_SUBMIT_INIT = submit.Submit.__init__


def undrained(self: submit.Submit, **parts: Any) -> None:
    _SUBMIT_INIT(self, **{**parts, "drain": Drain()})


any_account = put(sqlite, "_check_same", lambda bound, identity: None)
answer_5xx_is_no = put(aws_errors, "_is_surely_rejected", lambda error: True)
any_age = put(lookup, "ADOPTION_SKEW_S", math.inf)
no_total = put(pacing.SendWindow, "wait_s", lambda self, now: 0.0)
no_guard = put(pacing, "PACING_GUARD", 0.0)
no_doubt_bound = both(put(limits, "IN_DOUBT_MAX", math.inf), put(admission, "IN_DOUBT_MAX", math.inf))


async def ended_without_children(self: Any, seen: Any) -> Any:
    await anyio.lowlevel.checkpoint()
    return seen


def first_children_only() -> AbstractContextManager[object]:
    """The first page looks like the last."""
    asked = batch.Batch.list_failed_children

    async def first_page(self: Any, **arguments: Any) -> ChildPage:
        return replace(await asked(self, **arguments), next_token=None)

    return both(
        put(batch.Batch, "list_failed_children", first_page),
        put(children.ChildLookUp, "_is_enough", lambda self, found, expected: True),
    )()
