"""What becomes of a message: decided against a real store, committed, decided again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio
import pytest

from controller.adapters.batch_model import submit_job_shape
from controller.adapters.store.sqlite import SqliteStore
from controller.core.events import CATALOGUE
from controller.core.job import JobState
from controller.core.lifecycle import Admitted, LeftInDoubt, RefusedForGood
from controller.core.request import Policy, Rules, Scope
from controller.core.tenants import NamedBy
from controller.intake import Decider, Verdict
from controller.ledger import Ledger
from controller.ports import LIVES_MAX, Message
from tests.stages.conftest import ManualClock

SOURCE = "https://sqs.eu-west-1.amazonaws.com/123456789012/requests"
OTHER = "https://sqs.eu-west-1.amazonaws.com/123456789012/others"


class Intake:
    """Decides and commits, as ``stages/ingest.py`` does."""

    def __init__(self, store: SqliteStore, ledger: Ledger, clock: ManualClock, **options: Any) -> None:
        self.store = store
        rules = Rules(
            shapes=submit_job_shape(),
            policy=Policy(),
            scope=Scope(region="eu-west-1", account="123456789012"),
            default_tags={},
        )
        self.decider = Decider(store=store, ledger=ledger, clock=clock, rules=lambda: rules, **options)

    async def take(self, *messages: Message, source: str = SOURCE) -> list[Verdict]:
        """Verdicts in order, as they were when they took effect."""
        final: dict[str, Verdict] = {}
        left: Sequence[Message] = messages
        while left:
            verdicts = await self.decider.decide(left, source=source)
            writes = [verdict.write for verdict in verdicts if verdict.write is not None]
            applied = iter(await self.store.commit(writes))
            again = []
            for verdict in verdicts:
                if verdict.is_deferred or (verdict.write is not None and not next(applied)):
                    again.append(verdict.message)
                else:
                    final[verdict.message.receipt_handle] = verdict
            left = again
        return [final[message.receipt_handle] for message in messages]

    async def outcomes(self, *messages: Message, source: str = SOURCE) -> list[str]:
        return [verdict.outcome for verdict in await self.take(*messages, source=source)]

    async def events(self) -> list[dict[str, Any]]:
        return [json.loads(row.body) for row in await self.store.outbox("log", limit=100)]

    async def job(self, request_id: str = "r1") -> Any:
        return (await self.store.find_requests([request_id]))[request_id][-1]


@pytest.fixture
def intake(store: SqliteStore, ledger: Ledger, clock: ManualClock) -> Intake:
    return Intake(store, ledger, clock)


_handles = iter(range(1_000_000))


def message(message_id: str, body: dict[str, Any] | str, **attributes: str) -> Message:
    text = body if isinstance(body, str) else json.dumps(body)
    return Message(message_id=message_id, receipt_handle=str(next(_handles)), body=text, attributes=attributes)


def later(message: Message, at: float) -> Message:
    """Sent ``at`` seconds after the first one, as SQS tells it."""
    return replace(message, sent_at=1_900_000_000.0 + at)


def submit(request_id: str = "r1", **members: Any) -> dict[str, Any]:
    return {"requestId": request_id, "jobName": "align", "jobQueue": "high", "jobDefinition": "bwa:3", **members}


def cancel(request_id: str = "r1", **members: Any) -> dict[str, Any]:
    return {"action": "cancel", "requestId": request_id, **members}


async def test_the_same_content_again_is_a_duplicate_and_other_content_a_conflict(intake: Intake) -> None:
    """Member order and the default id do not matter; the first request stands."""
    again = dict(reversed(submit().items()))
    assert await intake.outcomes(message("m1", submit()), message("m2", again)) == ["accepted", "duplicate"]
    assert await intake.outcomes(message("m3", submit(priority=5))) == ["conflict"]
    assert (await intake.job()).priority == 0
    names = [event["event"] for event in await intake.events()]
    assert names == ["request.accepted", "request.rejected"]


async def test_a_conflicts_event_names_the_message_but_not_the_request(intake: Intake) -> None:
    """The request's own final event is still to come: no other may carry its id."""
    await intake.take(message("m1", submit()), message("m2", submit(priority=5)))
    rejected = (await intake.events())[-1]
    assert rejected["message_id"] == "m2"
    assert "request_id" not in rejected
    assert rejected["reason_class"] == "conflict"


async def test_a_redelivered_message_changes_nothing(intake: Intake) -> None:
    """The same MessageId twice, in one group and later: accepted once, rejected once."""
    good, bad = message("m1", submit()), message("m2", "{")
    assert await intake.outcomes(good, message("m1", submit()), bad, message("m2", "{")) == [
        "accepted", "duplicate", "rejected", "duplicate",
    ]  # fmt: skip
    assert await intake.outcomes(message("m1", submit()), message("m2", "{")) == ["duplicate", "duplicate"]
    assert len(await intake.events()) == 2


async def test_a_rejected_id_may_be_sent_again_but_not_by_the_same_message(intake: Intake, ledger: Ledger) -> None:
    """Each life of an id has its own row and final event id; a redelivery of the old message is a duplicate."""
    await intake.take(message("m1", submit()))
    await refuse(intake, ledger)
    assert await intake.outcomes(message("m1", submit())) == ["duplicate"]
    assert await intake.outcomes(message("m2", submit())) == ["accepted"]
    lives = (await intake.store.find_requests(["r1"]))["r1"]
    assert [life.state for life in lives] == [JobState.REJECTED, JobState.QUEUED]
    letters = await intake.store.outbox("dead_letter", limit=10)
    assert json.loads(json.loads(letters[0].body)["body"])["requestId"] == "r1"


async def test_a_message_of_a_rejected_request_is_known_however_often_the_id_was_sent_again(
    intake: Intake, ledger: Ledger
) -> None:
    """Its request has had its final event: accepted once more, it could run after all."""
    for number in range(LIVES_MAX + 1):
        await intake.take(message(f"m{number}", submit()))
        await refuse(intake, ledger)
    assert await intake.outcomes(message("m0", submit()), message("m100", submit())) == ["duplicate"] * 2
    await intake.take(message("m101", submit(priority=1)))
    assert await intake.outcomes(message("m0", submit()), message("m102", submit())) == ["duplicate", "conflict"]


async def test_a_cancel_ends_a_queued_request_and_a_second_one_changes_nothing(intake: Intake) -> None:
    """CANCELLED with the cancel's own reason, one final event."""
    await intake.take(message("m1", submit()))
    assert await intake.outcomes(message("m2", cancel(reason="stop")), message("m3", cancel())) == ["cancel", "cancel"]
    job = await intake.job()
    assert (job.state, job.reason) == (JobState.CANCELLED, "stop")
    assert [event["event"] for event in await intake.events()] == ["request.accepted", "job.cancelled"]


async def test_a_cancel_that_comes_first_is_remembered(intake: Intake) -> None:
    """The request is accepted and cancelled in one commit; the cancel may come twice."""
    assert await intake.outcomes(message("m1", cancel(reason="never")), message("m2", cancel())) == ["cancel"] * 2
    assert await intake.outcomes(message("m3", submit())) == ["accepted"]
    assert (await intake.job()).state is JobState.CANCELLED
    assert [event["event"] for event in await intake.events()] == ["request.accepted", "job.cancelled"]


async def refuse(intake: Intake, ledger: Ledger) -> None:
    """The request that waits as r1 is sent, and Batch refuses it."""
    (admitted,) = await ledger.record([(await intake.job(), Admitted())])
    await ledger.record([(admitted, RefusedForGood(reason="no such queue", error_code="job_queue_not_found"))])


async def test_a_cancel_that_overtakes_what_is_sent_again_is_remembered(intake: Intake, ledger: Ledger) -> None:
    """SQS keeps no order: after a rejection, too, a cancel may come before the request that it is for; from whatever
    queue, since nobody knows yet from which one the request will come again."""
    await intake.take(later(message("m1", submit()), at=0))
    await refuse(intake, ledger)
    cancels = [later(message("m3", cancel(reason="stop")), at=20), later(message("m4", cancel()), at=20)]
    assert await intake.outcomes(cancels[0], source=OTHER) == ["cancel"]
    assert await intake.outcomes(cancels[1]) == ["cancel"]
    assert await intake.outcomes(later(message("m2", submit()), at=10), source=OTHER) == ["accepted"]
    job = await intake.job()
    assert (job.state, job.reason) == (JobState.CANCELLED, "stop")


async def test_a_cancel_of_what_was_rejected_leaves_alone_what_is_sent_again_after_it(
    intake: Intake, ledger: Ledger
) -> None:
    """Whoever mends a request and sends it again, later than a cancel, wants it. It goes by when they were sent, not by
    when they come, within one group as well."""
    await intake.take(later(message("m1", submit()), at=0))
    await refuse(intake, ledger)
    group = [later(message("m2", cancel()), at=10), later(message("m3", submit()), at=20)]
    assert await intake.outcomes(*group) == ["cancel", "accepted"]
    assert (await intake.job()).state is JobState.QUEUED

    await refuse(intake, ledger)
    group = [later(message("m4", cancel()), at=40), later(message("m5", submit()), at=30)]
    assert await intake.outcomes(*group) == ["cancel", "accepted"]
    assert (await intake.job()).state is JobState.CANCELLED


async def test_a_cancel_that_comes_late_or_again_leaves_alone_what_was_sent_after_it(
    intake: Intake, ledger: Ledger
) -> None:
    """SQS keeps no order and may deliver a message twice: one that is older than what was sent again stays one of what
    was rejected, whether it is new or was remembered."""
    await intake.take(later(message("m1", submit()), at=0))
    await refuse(intake, ledger)
    known, late = (later(message(name, cancel()), at=at) for name, at in (("m2", 10), ("m3", 15)))
    group = [known, later(message("m4", submit()), at=20), late, known]
    assert await intake.outcomes(*group) == ["cancel", "accepted", "cancel", "cancel"]
    assert await intake.outcomes(late, known) == ["cancel"] * 2
    assert (await intake.job()).state is JobState.QUEUED
    assert await intake.outcomes(later(message("m5", cancel()), at=30)) == ["cancel"]
    assert (await intake.job()).state is JobState.CANCELLED


async def test_where_sqs_does_not_tell_when_messages_were_sent_they_count_as_they_come(
    intake: Intake, ledger: Ledger, clock: ManualClock
) -> None:
    """A cancel before a request that comes again is then one of what was rejected."""
    await intake.take(message("m1", submit()))
    await refuse(intake, ledger)
    await intake.take(message("m2", cancel()))
    clock.move(1)
    assert await intake.outcomes(message("m3", submit())) == ["accepted"]
    assert (await intake.job()).state is JobState.QUEUED


async def test_a_cancel_that_is_repeated_is_remembered_from_the_latest_on(intake: Intake, clock: ManualClock) -> None:
    """Its sender still wants it; a redelivery of the same message says nothing new."""
    await intake.take(later(message("m1", cancel("r1")), at=0), later(message("m2", cancel("r2")), at=0))
    clock.move(1_000)
    await intake.take(later(message("m3", cancel("r1")), at=1_000), later(message("m2", cancel("r2")), at=0))
    assert await intake.store.prune(before=clock.now() - 500, limit=100) == 1
    await intake.take(message("m4", submit("r1")), message("m5", submit("r2")))
    assert [(await intake.job(name)).state for name in ("r1", "r2")] == [JobState.CANCELLED, JobState.QUEUED]


async def test_any_number_of_cancels_of_an_unknown_request_is_decided_at_once(intake: Intake) -> None:
    """A group takes a bounded number of rounds; a producer that cancels again and again costs one, and the latest
    cancel is the one that is told."""
    cancels = [later(message(f"c{n}", cancel(reason=f"reason {n}")), at=n) for n in range(50)]
    verdicts = await intake.decider.decide([*cancels, message("m1", submit())], source=SOURCE)
    assert [verdict.is_deferred for verdict in verdicts] == [False] * 50 + [True]
    assert await intake.outcomes(*cancels, message("m1", submit())) == ["cancel"] * 50 + ["accepted"]
    job = await intake.job()
    assert (job.state, job.reason) == (JobState.CANCELLED, "reason 49")


async def test_a_cancel_from_another_queue_is_not_honoured(intake: Intake) -> None:
    """Neither for a request that is known nor for one that comes later."""
    await intake.take(message("m1", submit("r1")))
    assert await intake.outcomes(message("m2", cancel("r1")), source=OTHER) == ["rejected"]
    assert await intake.outcomes(message("m3", cancel("r2")), source=OTHER) == ["cancel"]
    assert await intake.outcomes(message("m4", submit("r2"))) == ["accepted"]
    assert {(await intake.job(name)).state for name in ("r1", "r2")} == {JobState.QUEUED}


async def test_a_cancel_is_honoured_from_the_same_queue_by_another_of_its_urls(intake: Intake) -> None:
    """The configuration may name a VPC end point, or no longer the legacy one, after a restart."""
    other = "https://eu-west-1.queue.amazonaws.com/123456789012/requests"
    assert await intake.outcomes(message("m1", submit())) == ["accepted"]
    assert await intake.outcomes(message("m2", cancel()), source=other) == ["cancel"]
    assert (await intake.job()).state is JobState.CANCELLED
    assert await intake.outcomes(message("m3", cancel("r2"))) == ["cancel"]
    assert await intake.outcomes(message("m4", submit("r2")), source=other) == ["accepted"]
    assert (await intake.job("r2")).state is JobState.CANCELLED


async def test_a_cancel_of_a_request_in_doubt_is_remembered(intake: Intake, ledger: Ledger) -> None:
    """SUBMITTING stays SUBMITTING until it is settled."""
    await intake.take(message("m1", submit()))
    (admitted,) = await ledger.record([(await intake.job(), Admitted())])
    await ledger.record([(admitted, LeftInDoubt(reason="no answer", error_code="x"))])
    assert await intake.outcomes(message("m2", cancel())) == ["cancel"]
    job = await intake.job()
    assert (job.state, job.is_in_doubt) == (JobState.SUBMITTING, True)
    assert job.cancel_requested_at is not None


async def test_a_request_and_its_cancel_in_one_group_are_decided_in_order(intake: Intake) -> None:
    """Whichever comes first in the group is decided first."""
    assert await intake.outcomes(message("m1", submit()), message("m2", cancel())) == ["accepted", "cancel"]
    assert (await intake.job()).state is JobState.CANCELLED


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


async def test_trace_context_is_carried_and_nonsense_is_not(intake: Intake) -> None:
    """traceparent and tracestate as W3C writes them; a version to come may say more."""
    good = [f"00-{TRACE}-{SPAN}-01", f"01-{TRACE}-{SPAN}-01", f"fe-{TRACE}-{SPAN}-01-more"]
    bad = [
        "nonsense",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ]
    for number, traceparent in enumerate([*good, *bad]):
        sent = submit(f"r{number}")
        await intake.take(message(f"m{number}", sent, traceparent=traceparent, tracestate="a=1"))
    jobs = [await intake.job(f"r{number}") for number in range(len(good) + len(bad))]
    carried = [(job.traceparent, job.tracestate) for job in jobs]
    assert carried == [*((each, "a=1") for each in good), *((None, None) for _ in bad)]


async def test_a_long_trace_state_loses_whole_members(intake: Intake) -> None:
    """Those at its end, as W3C has it: half a value would be another."""
    good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    members = [f"vendor{number}={'x' * 90}{number}" for number in range(8)]
    await intake.take(message("m1", submit("r1"), traceparent=good, tracestate=",".join(members)))
    await intake.take(message("m2", submit("r2"), traceparent=good, tracestate="a=" + "x" * 600))
    await intake.take(message("m3", submit("r3"), traceparent=good, tracestate="a=" + "x" * 509 + ",b=2"))
    (first, second, third) = [await intake.job(f"r{number}") for number in (1, 2, 3)]
    assert first.tracestate == ",".join(members[:5])
    assert (second.tracestate, third.tracestate) == (None, "a=" + "x" * 509)


async def test_every_event_of_intake_keeps_to_the_catalogue(intake: Intake) -> None:
    """Only known members, and all that are required."""
    await intake.take(message("m1", cancel("r1")), message("m2", submit("r1")), message("m3", "[]"))
    for event in await intake.events():
        spec = CATALOGUE[event["event"]]
        assert set(event) <= {"event", "event_id", "time", *(each.name for each in spec.fields)}
        assert set(spec.required) <= set(event)


async def test_a_request_is_stored_with_its_tenant(intake: Intake) -> None:
    """The share identifier, else the message attribute, else the SQS queue; its event says which. Content of the same
    request under another tenant is a duplicate: the first one stands."""
    await intake.take(
        message("m1", submit("r1", shareIdentifier="film"), tenant="render"),
        message("m2", submit("r2"), tenant="render"),
        message("m3", submit("r3"), traceparent="x"),
    )
    assert [(await intake.job(f"r{n}")).tenant for n in (1, 2, 3)] == ["film", "render", SOURCE]
    assert [event["tenant"] for event in await intake.events()] == ["film", "render", SOURCE]
    assert await intake.outcomes(message("m4", submit("r2"), tenant="other")) == ["duplicate"]
    assert (await intake.job("r2")).tenant == "render"


async def test_operators_choose_what_names_a_tenant(store: SqliteStore, ledger: Ledger, clock: ManualClock) -> None:
    """Where producers are not to name themselves, the SQS queue alone does; with a list that is empty, nothing."""
    for number, (tenant_from, tenant) in enumerate(
        [([NamedBy.SOURCE], SOURCE), ([NamedBy.MESSAGE_GROUP, NamedBy.ATTRIBUTE], "group"), ([], "")]
    ):
        intake = Intake(store, ledger, clock, tenant_from=tenant_from)
        sent = message(f"m{number}", submit(f"r{number}", shareIdentifier="film"), tenant="render")
        await intake.take(replace(sent, group="group"))
        assert (await intake.job(f"r{number}")).tenant == tenant


@dataclass
class BusyClock(ManualClock):
    """Time passes with each look at it, and sleeping is told."""

    step_s: float = 0.0
    sleeps: int = 0

    def monotonic(self) -> float:
        self.elapsed += self.step_s
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(("step_s", "sleeps"), [(0.0, 0), (0.4, 14)], ids=["fast", "slow"])
async def test_large_bodies_do_not_keep_the_event_loop_from_the_others(
    store: SqliteStore, ledger: Ledger, step_s: float, sleeps: int
) -> None:
    """Whoever sends bodies that take long to judge delays other tasks by one of them, not by all of a group; and
    between those that do take long there is time for what needs several turns."""
    clock = BusyClock(step_s=step_s)
    body = submit(containerOverrides={"environment": [{}] * 12_000})
    turns = 0

    async def neighbour() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(neighbour)
        large = [message(f"m{n}", body) for n in range(15)]
        verdicts = await Intake(store, ledger, clock).decider.decide(large, source=SOURCE)
        tasks.cancel_scope.cancel()
    assert [verdict.outcome for verdict in verdicts] == ["rejected"] * 15
    assert turns >= 14
    assert clock.sleeps == sleeps
