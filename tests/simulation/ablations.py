"""Safeguards, each switched off in turn: a world that keeps its promises with it must break one without it.

``python -m tests.simulation.ablations`` runs the recorded seeds, ``--search NAME`` looks for the first seed that
shows a safeguard, ``--markdown`` writes the table into ``docs/promises.md``. The application has no switch for any of
this: ``ablation_switches.py`` substitutes parts of it, ``ablation_worlds.py`` bends the seeds' scenarios.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller import application, holds, queue_questions, rests
from controller.adapters import aws_errors, batch
from controller.budgets import Budgets
from controller.core import polling
from controller.core.hints import HintBook
from controller.core.pacing import Pace
from controller.holds import HoldBook
from controller.isolation import Isolation
from controller.lookup import LookUp
from controller.metrics import Metrics
from controller.stages import track
from controller.stages.diagnose import Diagnose
from controller.stages.expire import Expire
from controller.stages.ingest import Ingest
from controller.stages.publish import Publish
from controller.stages.rescue import Rescue
from controller.stages.submit import Submit
from controller.stages.track import Track
from tests.simulation import ablation_switches as off
from tests.simulation import ablation_switches_dependencies as dependencies_off
from tests.simulation import ablation_switches_events as events_off
from tests.simulation import ablation_switches_pressure as pressure_off
from tests.simulation import ablation_worlds as worlds
from tests.simulation import ablation_worlds_dependencies as depending
from tests.simulation import ablation_worlds_pressure as pressure
from tests.simulation import (
    checkers,
    checkers_dependencies,
    checkers_events,
    checkers_extra,
    checkers_pressure,
    checkers_tenants,
    checkers_why,
)
from tests.simulation.ablation_switches import Switch, put
from tests.simulation.ablation_worlds import Bend, called, calm, disrupted, killed, slow_store, tight
from tests.simulation.scenario import Scenario, draw_common, flooded
from tests.simulation.sweep import run_scenario

SEEDS_MAX: Final = 300
"""Within so many seeds a missing safeguard must show."""
NEXT_MAX: Final = 60
"""Seeds tried after a recorded one that shows nothing any more."""
SAID_MAX: Final = 130
PROMISES_FILE: Final = Path(__file__).parents[2] / "docs" / "promises.md"
BEGIN: Final = "<!-- ablations: begin -->"
END: Final = "<!-- ablations: end -->"

ENDS: Final = "everything ends"
DELETED: Final = "deleted after commit"
ACCOUNT: Final = "one store, one account"

NUMBERS: Final[Mapping[str, str]] = {
    DELETED: "1",
    checkers.NOTHING_LOST: "1",
    checkers_extra.NOT_BURNED: "1",
    checkers.EXACTLY_ONE: "2",
    ACCOUNT: "2",
    checkers_extra.EXPIRED: "2",
    checkers_dependencies.IN_ORDER: "2",
    checkers.SOUND: "2",
    checkers.RATES: "3",
    checkers.SLOTS: "3",
    checkers_extra.LEFT_ALONE: "3",
    checkers_extra.NOT_HASTY: "2",
    checkers.TRUTH: "4",
    checkers_why.WHY: "4",
    checkers_events.SOON: "4",
    checkers_events.TOLD: "4",
    checkers_events.FOLLOWED: "4",
    checkers.REPORTED: "5",
    checkers.ONE_FINAL: "5",
    ENDS: "5",
    checkers_extra.DRAINED: "6",
    checkers.SMALL_OUTAGE: "3",
    checkers_pressure.USED: "3",
    checkers_pressure.ROOM: "1",
    checkers_pressure.NO_QUEUE: "3",
    checkers_pressure.THEIRS: "7",
    checkers_pressure.MADE_UP: "7",
    checkers_tenants.TURNS: "7",
    checkers_tenants.OPEN: "7",
}
"""Promises of ``docs/promises.md``, by what their checkers call them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """A safeguard and what breaks without it."""

    name: str
    safeguard: str
    where: str
    without: str
    """What happens in its place once it is off."""
    promise: str
    """As a checker calls it: the one that must break."""
    off: Switch
    bend: Bend = calm
    inside: Switch = nullcontext
    """A world that is unlike the others, with the safeguard and without it."""
    seed: int = 1
    """The first seed that shows it."""
    note: str = ""
    """For the table: what the bent scenario needs to be known of."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a seed showed of a safeguard."""

    with_it: list[str]
    """Broken promises, the safeguard being on: must be empty."""
    without: list[str]

    def breaks(self, promise: str) -> bool:
        return any(problem.split(":")[0] == promise for problem in self.without)

    def said(self, promise: str) -> str:
        return next((problem for problem in self.without if problem.split(":")[0] == promise), "")


def problems_of(scenario: Scenario) -> list[str]:
    verdict, world = run_scenario(scenario)
    return verdict.problems + checkers_extra.check_more(world)


def show(ablation: Ablation, seed: int) -> Shown:
    """Run a seed's scenario with the safeguard and without it."""
    scenario = ablation.bend(draw_common(seed))
    with ablation.inside():
        with ablation.off():
            without = problems_of(scenario)
        return Shown(problems_of(scenario) if without else [], without)


def search(ablation: Ablation, *, first: int = 1, seeds_max: int = SEEDS_MAX) -> tuple[int, Shown] | None:
    """The first seed that is green with the safeguard and breaks the promise without it."""
    for seed in range(first, first + seeds_max):
        shown = show(ablation, seed)
        if not shown.with_it and shown.breaks(ablation.promise):
            return seed, shown
    return None


BEYOND: Final = "AWS accepts stray copies later than it says"

ABLATIONS: Final = (
    Ablation(
        name="intent-first",
        safeguard="The intent is committed before the call",
        where="stages/admit.py",
        without="SubmitJob first, intent and answer are committed after it",
        promise=checkers.EXACTLY_ONE,
        off=off.call_before_intent,
        bend=killed(),
    ),
    Ablation(
        name="intent-is-doubt",
        safeguard="A row that was being sent when the process died is in doubt",
        where="stages/rescue.py, recover",
        without="it counts as not sent",
        promise=checkers.EXACTLY_ONE,
        off=put(Rescue, "recover", off.recover_as_unsent),
        bend=killed(),
    ),
    Ablation(
        name="no-sdk-retries",
        safeguard="The SDK's retries are off",
        where="adapters/aws.py",
        without="a SubmitJob whose connection breaks is sent again by the SDK",
        promise=checkers.EXACTLY_ONE,
        off=off.sdk_retries,
        bend=called(reset_after=0.3),
    ),
    Ablation(
        name="doubt",
        safeguard="A lost answer to SubmitJob is a doubt",
        where="stages/submit.py",
        without="it counts as not accepted, and the request is sent again",
        promise=checkers.EXACTLY_ONE,
        off=put(Submit, "_sorted", off.doubt_is_no),
        bend=called(reset_after=0.3),
    ),
    Ablation(
        name="doubt-5xx",
        safeguard="A 5xx answer to SubmitJob is a doubt",
        where="adapters/aws_errors.py",
        without="it counts as not accepted",
        promise=checkers.EXACTLY_ONE,
        off=off.answer_5xx_is_no,
        bend=called(error_500_after=0.3),
    ),
    Ablation(
        name="doubt-no-id",
        safeguard="An answer of 200 without a job id is a doubt",
        where="adapters/batch.py",
        without="it counts as not accepted",
        promise=checkers.EXACTLY_ONE,
        off=put(batch, "_submitted", off.no_job_id_is_no),
        bend=called(empty_after=0.3),
    ),
    Ablation(
        name="look-up",
        safeguard="What is in doubt is looked up before it is sent again",
        where="lookup.py",
        without="the look-up finds nothing",
        promise=checkers.EXACTLY_ONE,
        off=put(LookUp, "find", off.never_finds),
        bend=called(reset_after=0.3),
    ),
    Ablation(
        name="error-no-answer",
        safeguard="A look-up that fails is no answer",
        where="stages/rescue.py, stages/submit.py",
        without='it counts as "not found"',
        promise=checkers.EXACTLY_ONE,
        off=put(LookUp, "find", off.error_is_not_found),
        bend=worlds.and_called(called(reset_after=0.3), "ListJobs", error_500=0.7),
    ),
    Ablation(
        name="incomplete-answer",
        safeguard="An answer without the member it must have is an error",
        where="adapters/batch.py",
        without="it is read as an empty list",
        promise=checkers.EXACTLY_ONE,
        off=put(batch, "_entries", off.nothing_is_an_empty_list),
        bend=worlds.and_called(called(reset_after=0.3), "ListJobs", empty_after=0.7),
    ),
    Ablation(
        name="settle",
        safeguard='"Not found" counts only after the settle time',
        where="stages/rescue.py",
        without="it counts at once",
        promise=checkers.EXACTLY_ONE,
        off=put(Rescue, "__init__", off.settled_at_once),
        bend=called(late=0.3),
        seed=4,
    ),
    Ablation(
        name="settle-anew",
        safeguard="The settle time counts from the latest send",
        where="stages/rescue.py",
        without="it counts from the first intent",
        promise=checkers.EXACTLY_ONE,
        off=put(Rescue, "_remember", off.settled_from_first_intent),
        bend=called(late=0.3, reset=0.3),
        seed=65,
    ),
    Ablation(
        name="look-up-marked",
        safeguard="A row that was in doubt once is looked up right before it is sent again",
        where="stages/submit.py",
        without="it is sent like any other",
        promise=checkers.EXACTLY_ONE,
        off=put(Submit, "_outcome", off.sent_unseen),
        bend=worlds.beyond_settling,
        note=BEYOND,
        seed=9,
    ),
    Ablation(
        name="memory-of-doubt",
        safeguard="Doubt is remembered for life",
        where="core/lifecycle.py",
        without="the mark goes when the row goes back to the backlog",
        promise=checkers.EXACTLY_ONE,
        off=off.no_mark,
        bend=worlds.beyond_settling,
        note=BEYOND,
        seed=9,
    ),
    Ablation(
        name="look-up-before-end",
        safeguard="A row that was in doubt once is looked up before it is cancelled or expires",
        where="stages/expire.py",
        without="it ends without a look",
        promise=checkers.EXACTLY_ONE,
        off=put(Expire, "_looked_up", off.ended_unseen),
        bend=worlds.held_in_doubt,
        note=BEYOND,
    ),
    Ablation(
        name="expiry",
        safeguard="A request that has expired is neither admitted nor sent",
        where="core/admission.py, stages/submit.py",
        without="it is, until the stage that ends it comes round",
        promise=checkers_extra.EXPIRED,
        off=off.expired_is_sent,
        bend=worlds.expiring(tight(calm), after_s=1.0, spread_s=30.0),
        seed=7,
    ),
    Ablation(
        name="cancel-waits",
        safeguard="A cancel waits for the answer of a SubmitJob that is under way",
        where="core/lifecycle.py",
        without="the request is cancelled at once",
        promise=checkers.EXACTLY_ONE,
        off=off.cancel_at_once,
        bend=worlds.cancelled(called(slow=0.9, service={"slow_s": (0.1, 1.0)}), after_s=0.0, spread_s=2.0),
    ),
    Ablation(
        name="first-intent",
        safeguard="A job older than the first intent is not adopted",
        where="lookup.py",
        without="a job of any age is",
        promise=checkers.TRUTH,
        off=off.any_age,
        bend=worlds.strangers(at=-1_300.0),
    ),
    Ablation(
        name="tag",
        safeguard="A job with another's request-id tag is not adopted",
        where="lookup.py",
        without="tags are not looked at",
        promise=checkers.TRUTH,
        off=put(LookUp, "_tagged_as_ours", off.all_ours),
        bend=worlds.strangers(tag="somebody-else"),
    ),
    Ablation(
        name="exact-name",
        safeguard="Names are compared exactly",
        where="adapters/batch.py, lookup.py",
        without="as Batch compares them, without case",
        promise=checkers.TRUTH,
        off=off.names_in_any_case,
        bend=worlds.strangers(is_upper_case=True),
    ),
    Ablation(
        name="all-pages",
        safeguard="ListJobs is paged to the end",
        where="lookup.py",
        without="the first page is all",
        promise=checkers.EXACTLY_ONE,
        off=put(LookUp, "_all_pages", off.first_page_only),
        bend=worlds.crowd,
    ),
    Ablation(
        name="account",
        safeguard="The store belongs to one account",
        where="adapters/store/sqlite.py",
        without="any account may open it",
        promise=ACCOUNT,
        off=off.any_account,
        bend=disrupted("other_account", 6.0, for_s=8.0),
    ),
    Ablation(
        name="in-hand",
        safeguard="Rows in hand are noted before the store is read",
        where="stages/submit.py",
        without="after it",
        promise=checkers.EXACTLY_ONE,
        off=put(Submit, "turn", off.in_hand_after_the_read),
        bend=called(throttle=0.4),
        inside=off.late_answers,
        seed=10,
        note="the store's answers come late, in any order",
    ),
    Ablation(
        name="recorded",
        safeguard="An answer is recorded until it is committed",
        where="stages/submit.py",
        without="one try",
        promise=checkers.EXACTLY_ONE,
        off=put(Submit, "_record", off.recorded_if_possible),
        bend=disrupted("disk_flaky", 1.0, for_s=15.0),
    ),
    Ablation(
        name="version",
        safeguard="A write names the version it was computed from",
        where="adapters/store/writes.py",
        without="the last write wins",
        promise=checkers.REPORTED,
        off=off.no_versions,
        bend=slow_store(worlds.cancelled(called(slow=0.9, service={"slow_s": (0.1, 1.0)}), after_s=0.0, spread_s=2.0)),
        seed=6,
    ),
    Ablation(
        name="duplicates",
        safeguard="A message of a known request is a duplicate",
        where="intake.py, adapters/store/writes.py",
        without="it is a request of its own",
        promise=checkers.EXACTLY_ONE,
        off=off.no_duplicates,
        bend=calm,
    ),
    Ablation(
        name="delete-after-commit",
        safeguard="A message is deleted after its commit",
        where="stages/ingest.py",
        without="as soon as it is received",
        promise=DELETED,
        off=put(Ingest, "_commit_group", off.delete_first),
        bend=killed(),
    ),
    Ablation(
        name="receive-nothing",
        safeguard="Nothing is received while the store fails",
        where="stages/ingest.py, gate.py",
        without="receiving goes on",
        promise=checkers_extra.NOT_BURNED,
        off=off.receive_while_failing,
        bend=disrupted("disk_broken", 1.0, for_s=40.0),
        seed=3,
    ),
    Ablation(
        name="half-visibility",
        safeguard="A message is held for half its visibility timeout at most",
        where="stages/ingest.py",
        without="until it is stored",
        promise="",
        off=put(Ingest, "_still_held", off.hold_for_ever),
        bend=disrupted("disk_locked", 1.0, for_s=20.0),
        note="a message that is delivered again meanwhile is found to be a duplicate",
    ),
    Ablation(
        name="client-exception",
        safeguard="A ClientException is not yet a refusal",
        where="stages/submit.py",
        without="it rejects the request",
        promise=checkers.NOTHING_LOST,
        off=put(Submit, "_refused", off.refused_at_once),
        bend=disrupted("queue_disabled", 1.0),
    ),
    Ablation(
        name="second-refusal",
        safeguard="A refusal by a job queue that takes jobs is tried once more",
        where="stages/submit.py",
        without="it rejects the request",
        promise=checkers.NOTHING_LOST,
        off=put(Submit, "_refused", off.refused_the_first_time),
        bend=disrupted("queue_disabled", *(1.0 + 0.5 * n for n in range(24)), for_s=0.15),
        seed=8,
    ),
    Ablation(
        name="hold",
        safeguard="A job queue that takes no jobs is held",
        where="holds.py",
        without="its requests are sent again and again",
        promise=checkers_extra.LEFT_ALONE,
        off=put(HoldBook, "hold", off.hold_pairs_only),
        bend=disrupted("queue_disabled", 1.0, for_s=20.0),
    ),
    Ablation(
        name="lost-misses",
        safeguard="LOST needs three misses",
        where="core/polling.py",
        without="one",
        promise=checkers.TRUTH,
        off=put(polling, "LOST_MISSES_MIN", 1),
        bend=worlds.overlooked(0.05, lost_after_s=1.0, interval_s_min=2.0, interval_s_max=3.0),
    ),
    Ablation(
        name="lost-spread",
        safeguard="LOST needs misses that are spread over `track.lost_after_s`",
        where="core/polling.py",
        without="they may follow at once",
        promise=checkers.TRUTH,
        off=put(track, "is_lost", off.lost_without_waiting),
        bend=worlds.new_jobs_unknown,
    ),
    Ablation(
        name="lost-cleared",
        safeguard="Misses are cleared when the job is seen",
        where="core/lifecycle.py",
        without="they add up",
        promise=checkers.TRUTH,
        off=off.misses_add_up,
        bend=worlds.overlooked(0.2, lost_after_s=3.0, interval_s_min=0.5),
        seed=8,
    ),
    Ablation(
        name="one-hand",
        safeguard="A job is in one DescribeJobs call at a time, so answers can't overtake each other",
        where="core/polling.py",
        without="calls overlap",
        promise=checkers.TRUTH,
        off=put(polling.Schedule, "take_chunk", off.in_several_hands),
        bend=called("DescribeJobs", service={"slow_s": (0.5, 4.0)}, slow=0.5),
    ),
    Ablation(
        name="hint-no-truth",
        safeguard="An event is a hint, and the answer of DescribeJobs the truth",
        where="stages/track.py",
        without="what the latest event said stands",
        promise=checkers.TRUTH,
        off=events_off.events_are_believed,
        bend=worlds.listening(service={"sqs_reorder_p": 0.9, "event_duplicate_p": 0.5}, lag_s=3.0),
    ),
    Ablation(
        name="late-event",
        safeguard="An event that says less than what was seen is passed over",
        where="core/hints.py",
        without="it is a hint like any other",
        promise="",
        off=put(HintBook, "_is_stale", events_off.nothing_is_stale),
        bend=worlds.listening(service={"sqs_reorder_p": 0.9, "event_duplicate_p": 0.5}, lag_s=3.0),
        note="a needless look changes nothing",
    ),
    Ablation(
        name="safety-net",
        safeguard="Polling goes on beneath the events",
        where="core/polling.py, core/event_watch.py",
        without="only jobs that an event names are described",
        promise=ENDS,
        off=events_off.never_polled,
        bend=worlds.listening(service={"event_drop_p": 0.5}),
        seed=3,
    ),
    Ablation(
        name="told-end",
        safeguard="An end that an event tells of makes its job due at once",
        where="core/polling.py",
        without="it is due when it would be without events",
        promise=checkers_events.SOON,
        off=put(polling.Schedule, "hint", events_off.ends_are_like_any_hint),
        bend=worlds.listening(),
    ),
    Ablation(
        name="early-event",
        safeguard="An event that comes before SubmitJob's answer is remembered",
        where="core/hints.py",
        without="it counts as somebody else's",
        promise=checkers_events.SOON,
        off=put(HintBook, "_keep", events_off.early_is_foreign),
        bend=worlds.listening(called(slow=0.5, service={"slow_s": (3.0, 9.0)})),
        seed=5,
    ),
    Ablation(
        name="told-forgotten",
        safeguard="The final event of a job that Batch no longer knows is the observation",
        where="stages/track.py",
        without="the job ends as LOST",
        promise=checkers_events.TOLD,
        off=put(track.Track, "_missed", events_off.missed_whatever_was_told),
        bend=worlds.listening(
            disrupted("amnesia", 4.0, 7.0), interval_s_min=2.0, interval_s_max=6.0, lost_after_s=20.0
        ),
    ),
    Ablation(
        name="describe-budget",
        safeguard="Hints wait for the describe budget",
        where="stages/track.py",
        without="jobs are described as soon as they are due",
        promise=checkers.RATES,
        off=put(Budgets, "acquire", events_off.described_at_once),
        bend=worlds.listening(rate_per_s=1.0),
    ),
    Ablation(
        name="lost-commit",
        safeguard="A commit that was reported as failed may have taken effect",
        where="ledger.py",
        without="the job it tracked is not followed, and nobody counts later",
        promise=ENDS,
        off=off.commit_failed_means_undone,
        bend=disrupted("disk_flaky", 1.0, for_s=15.0),
    ),
    Ablation(
        name="outbox",
        safeguard="Events are in the transaction of their change",
        where="adapters/store/writes.py",
        without="they are put into the outbox by the next one",
        promise=checkers.REPORTED,
        off=off.events_in_the_next_transaction,
        bend=killed(),
        seed=5,
    ),
    Ablation(
        name="publish-then-delete",
        safeguard="An event leaves the outbox after its delivery",
        where="stages/publish.py",
        without="before it",
        promise=checkers.REPORTED,
        off=put(Publish, "turn", off.publish_after_deleting),
        bend=disrupted("stdout_down", 2.0, for_s=3.0),
    ),
    Ablation(
        name="terminate-again",
        safeguard="TerminateJob is repeated until the job has ended",
        where="stages/terminate.py",
        without="it is sent once",
        promise=ENDS,
        off=off.told_once,
        bend=worlds.told_too_seldom,
        seed=2,
    ),
    Ablation(
        name="slot",
        safeguard="A slot is reserved with the intent",
        where="stages/admit.py",
        without="only jobs with an id count as in flight",
        promise=checkers.SLOTS,
        off=off.count_only_tracked,
        bend=tight(called(slow=0.9)),
    ),
    Ablation(
        name="in-doubt-bound",
        safeguard="With 200 rows in doubt, admission stops but for one probe at a time",
        where="stages/admit.py, core/admission.py",
        without="an outage turns the backlog into doubt",
        promise=checkers.SMALL_OUTAGE,
        off=off.no_doubt_bound,
        bend=lambda scenario: flooded(scenario.seed),
        seed=2,
    ),
    Ablation(
        name="spacing",
        safeguard="Sends are spaced",
        where="core/pacing.py",
        without="they may follow at once",
        promise=checkers.RATES,
        off=put(Pace, "wait_s", off.no_spacing),
        bend=calm,
    ),
    Ablation(
        name="missed-slots",
        safeguard="Missed slots are not made up",
        where="core/pacing.py",
        without="they are",
        promise=checkers.RATES,
        off=put(Pace, "sent", off.missed_slots_count),
        bend=calm,
    ),
    Ablation(
        name="guard",
        safeguard="The spacing has a guard for the way to AWS",
        where="core/pacing.py",
        without="sends are spaced by exactly 1 / rate",
        promise=checkers.RATES,
        off=off.no_guard,
        bend=calm,
    ),
    Ablation(
        name="start-empty",
        safeguard="Budgets start empty",
        where="core/pacing.py, budgets.py",
        without="a restart may send at once",
        promise=checkers.RATES,
        off=off.start_full,
        bend=killed(8),
        seed=4,
    ),
    Ablation(
        name="credentials-first",
        safeguard="Credentials are fetched before a slot is spent",
        where="budgets.py",
        without="paced calls wait for them inside the SDK, and leave together",
        promise=checkers.RATES,
        off=put(application.Application, "_fetch_credentials", off.fetch_nothing),
        bend=worlds.slow_credentials,
    ),
    Ablation(
        name="children-first",
        safeguard="The children that failed are looked up before the end of their array is stored",
        where="stages/track.py, children.py",
        without="the end is stored without them",
        promise=checkers_why.WHY,
        off=put(Track, "_with_children", off.ended_without_children),
        bend=worlds.failing_arrays,
    ),
    Ablation(
        name="children-all-pages",
        safeguard="The failed children are paged to the end",
        where="children.py",
        without="the first page is all",
        promise=checkers_why.WHY,
        off=off.first_children_only,
        bend=worlds.failing_arrays,
        inside=put(batch, "LIST_JOBS_PAGE_MAX", 2),
        note="a page holds 2 children",
    ),
    Ablation(
        name="stuck-confirmed",
        safeguard="A job is told as stuck only if an answer of that moment shows it RUNNABLE",
        where="stages/diagnose.py",
        without="as soon as the schedule takes it for RUNNABLE",
        promise=checkers_why.WHY,
        off=put(Diagnose, "_is_stuck_still", lambda self, each, seen: True),
        bend=worlds.gone_meanwhile,
        seed=8,
        inside=put(track, "DESCRIBE_JOBS_MAX", 1),
        note="a call of the tracking stage describes one job",
    ),
    Ablation(
        name="total",
        safeguard="One budget over all calls to Batch",
        where="core/pacing.py",
        without="each kind of call has only its own",
        promise=checkers.RATES,
        off=off.no_total,
        bend=worlds.low_total,
        seed=7,
    ),
    Ablation(
        name="drain",
        safeguard="Rows that were not sent go back when the process is stopped",
        where="stages/submit.py",
        without="they wait for their turn",
        promise=checkers_extra.DRAINED,
        off=put(Submit, "__init__", off.undrained),
        bend=worlds.stopped,
        seed=10,
    ),
    Ablation(
        name="disk-intake",
        safeguard="Nothing is received while the disk has little room",
        where="room.py",
        without="it is, until the disk is full",
        promise=ENDS,
        off=pressure_off.received_without_room,
        bend=pressure.dead_letters_pile_up,
    ),
    Ablation(
        name="disk-submit",
        safeguard="Nothing is submitted while the disk has little room",
        where="stages/admit.py",
        without="it is, and its events fill the disk",
        promise=checkers_pressure.ROOM,
        off=pressure_off.submitted_without_room,
        bend=pressure.events_pile_up,
        seed=7,
    ),
    Ablation(
        name="noise",
        safeguard="Throttles that no slowing down prevents are told from a limit",
        where="core/throttle_noise.py",
        without="each of them cuts the rate",
        promise=checkers_pressure.USED,
        off=pressure_off.every_throttle_is_a_limit,
        bend=pressure.noisy,
        seed=2,
    ),
    Ablation(
        name="shares",
        safeguard="The total is shared, with a minimum for each kind of call",
        where="core/sharing.py",
        without="SubmitJob goes first",
        promise=checkers_pressure.NO_QUEUE,
        off=pressure_off.submits_before_all,
        bend=pressure.cancels_in_a_backlog,
    ),
    Ablation(
        name="held-denials",
        safeguard="Denied pairs stop nobody while others are allowed",
        where="holds.py",
        without="any three of them stop all of submission",
        promise=checkers_pressure.THEIRS,
        off=pressure_off.each_denial_counts,
        bend=pressure.denied_pairs,
    ),
    Ablation(
        name="blocked-answer",
        safeguard="A refusal counts only if it is AWS's",
        where="adapters/aws_errors.py",
        without="what a filter says is taken for Batch's word",
        promise=checkers.EXACTLY_ONE,
        off=put(aws_errors, "_is_of_the_service", lambda error: True),
        bend=called(blocked_after=0.3),
    ),
    Ablation(
        name="refused-describe",
        safeguard="A DescribeJobs call that is refused is made again in halves",
        where="isolation.py",
        without="its jobs wait together",
        promise=checkers_events.FOLLOWED,
        off=put(Isolation, "failed", events_off.a_chunk_waits_as_a_chunk),
        bend=worlds.undescribed_jobs,
    ),
    Ablation(
        name="failing-describe",
        safeguard="So is one that goes on failing while others are answered",
        where="isolation.py",
        without="it is taken for an outage",
        promise=checkers_events.FOLLOWED,
        off=put(Isolation, "failed", events_off.only_what_is_refused_is_divided),
        bend=worlds.indescribable_jobs,
    ),
    Ablation(
        name="many-undescribed",
        safeguard="Any number of jobs may be such",
        where="isolation.py",
        without="more than eight are a matter of all",
        promise=checkers_events.FOLLOWED,
        off=put(Isolation, "failed", events_off.eight_jobs_are_asked_for_alone),
        bend=worlds.many_undescribed_jobs,
    ),
    Ablation(
        name="denied-alone",
        safeguard="A request that is denied while others of its pair are not holds it once",
        where="holds.py, rests.py",
        without="each time that it is denied",
        promise=checkers_pressure.THEIRS,
        off=put(HoldBook, "_is_at_fault_alone", lambda self, pair, key: False),
        bend=pressure.denied_requests,
    ),
    Ablation(
        name="good-pair",
        safeguard="A pair that was allowed a moment ago is soon tried again",
        where="holds.py",
        without="after a minute",
        promise=checkers_pressure.THEIRS,
        off=put(holds, "GOOD_PAIR_PROBE_S", 60.0),
        bend=pressure.denied_requests,
    ),
    Ablation(
        name="denied-by-chance",
        safeguard="A pair that was allowed a moment ago stops nobody before its probe is denied, too",
        where="holds.py",
        without="one denied call of it and two of others stop all of submission",
        promise=checkers_pressure.THEIRS,
        off=pressure_off.one_denial_is_enough,
        bend=pressure.denied_by_chance,
    ),
    Ablation(
        name="lines-of-probes",
        safeguard="Pairs that were allowed wait in a line of their own for their probes",
        where="core/probe_lines.py",
        without="all held pairs are in one",
        promise=checkers_pressure.THEIRS,
        off=pressure_off.one_line_of_probes,
        bend=pressure.denied_by_chance,
    ),
    Ablation(
        name="held-tries",
        safeguard="While submission is stopped, half of what is tried are held pairs",
        where="stages/admit.py",
        without="they are tried when there are no others",
        promise=checkers_pressure.THEIRS,
        off=pressure_off.held_ones_last,
        bend=pressure.denied_for_a_while,
    ),
    Ablation(
        name="second-chance",
        safeguard="A refused request rests before it is sent again",
        where="rests.py",
        without="it is sent again at once",
        promise=checkers_extra.NOT_HASTY,
        off=put(rests, "REFUSED_REST_S", 0.0),
        seed=7,
    ),
    Ablation(
        name="unconfirmed",
        safeguard="Job queues that Batch has not confirmed have one place in the turns together",
        where="core/admission.py",
        without="each has its own",
        promise=checkers_pressure.MADE_UP,
        off=put(Metrics, "knows_queue", lambda self, job_queue: True),
        bend=pressure.made_up_names,
    ),
    Ablation(
        name="shared-question",
        safeguard="One DescribeJobQueues call asks for all job queues that refused",
        where="queue_questions.py",
        without="each is asked for in its own",
        promise=checkers_pressure.MADE_UP,
        off=put(queue_questions, "DESCRIBE_QUEUES_MAX", 1),
        bend=pressure.made_up_names,
    ),
    Ablation(
        name="turns",
        safeguard="Tenants of a job queue take turns",
        where="core/tenants.py, adapters/store/backlog.py",
        without="requests go by priority and age, whoever's they are",
        promise=checkers_tenants.TURNS,
        off=pressure_off.no_tenants,
        bend=pressure.flooding_tenant(6.0),
    ),
    Ablation(
        name="turn-kept",
        safeguard="A round goes on from plan to plan",
        where="stages/admit.py",
        without="each plan begins a new one",
        promise=checkers_tenants.TURNS,
        off=pressure_off.rounds_begin_anew,
        bend=pressure.flooding_tenant(2.0, is_known_first=False),
    ),
    Ablation(
        name="source-part",
        safeguard="Each SQS queue is sure of a part of the backlog",
        where="core/admission.py, gate.py",
        without="who comes first takes it all",
        promise=checkers_tenants.OPEN,
        off=pressure_off.first_come,
        bend=pressure.flooding_source,
        seed=2,
    ),
    Ablation(
        name="dependencies",
        safeguard="A request waits until those that it depends on have jobs, and names these",
        where="core/dependencies.py, stages/depend.py",
        without="it is sent at once, with those that have",
        promise=checkers_dependencies.IN_ORDER,
        off=dependencies_off.never_waits,
        bend=depending.dependents(),
    ),
    Ablation(
        name="dependency-due",
        safeguard="A request's change makes those due that depend on it, in the same transaction",
        where="adapters/store/writes.py",
        without="they are considered when they come, and never again",
        promise=ENDS,
        off=dependencies_off.never_due,
        bend=depending.dependents(),
    ),
    Ablation(
        name="dependency-as-read",
        safeguard="What has changed since it was read is considered again",
        where="adapters/store/writes.py",
        without="a change during the judgement is missed",
        promise=ENDS,
        off=dependencies_off.considered_anyway,
        bend=depending.cancelled_meanwhile,
    ),
    Ablation(
        name="dependency-circle",
        safeguard="A request that closes a circle is ended",
        where="stages/depend.py",
        without="all of the circle wait",
        promise=ENDS,
        off=dependencies_off.no_circles,
        bend=depending.circle,
    ),
    Ablation(
        name="dependency-succeeded",
        safeguard="A dependency that has SUCCEEDED is left out of the call",
        where="core/dependencies.py",
        without="it is named, and Batch has forgotten it",
        promise=checkers.NOTHING_LOST,
        off=dependencies_off.named_though_succeeded,
        bend=depending.late_dependent,
    ),
    Ablation(
        name="dependency-kept",
        safeguard="A request is remembered for as long as another that is not sent depends on it",
        where="adapters/store/sqlite.py",
        without="it is pruned",
        promise=checkers.SOUND,
        off=dependencies_off.pruned_though_needed,
        bend=depending.long_wait,
    ),
)
"""By promise."""

BY_NAME: Final[Mapping[str, Ablation]] = {each.name: each for each in ABLATIONS}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.ablations", description=__doc__)
    parser.add_argument("--search", metavar="NAME", choices=["all", *BY_NAME], help="the first seed that shows it")
    parser.add_argument("--first", type=int, default=1, help="with --search: the first seed to try")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="with --search: how many to try")
    parser.add_argument("--markdown", action="store_true", help="write the table into docs/promises.md")
    given = parser.parse_args(arguments)
    if given.search is not None:
        chosen = ABLATIONS if given.search == "all" else (BY_NAME[given.search],)
        return max(_search(each, given.first, given.seeds) for each in chosen)
    return _recorded(is_written=given.markdown)


def show_recorded(ablation: Ablation) -> tuple[int, Shown]:
    """What the recorded seed shows; if the application has changed so that it shows nothing any more, what the next
    one does that shows something."""
    shown = show(ablation, ablation.seed)
    if is_as_recorded(ablation, shown) or shown.with_it:
        return ablation.seed, shown
    return search(ablation, first=ablation.seed + 1, seeds_max=NEXT_MAX) or (ablation.seed, shown)


def is_as_recorded(ablation: Ablation, shown: Shown) -> bool:
    """Green with the safeguard; without it, its promise is broken, or nothing is if it protects none."""
    if shown.with_it:
        return False
    return shown.breaks(ablation.promise) if ablation.promise else not shown.without


def _recorded(*, is_written: bool) -> int:
    shown = [(each, *show_recorded(each)) for each in ABLATIONS]
    wrong = [each.name for each, _, seen in shown if not is_as_recorded(each, seen)]
    for each, seed, seen in shown:
        sys.stdout.write(f"{'BAD' if each.name in wrong else 'ok '} {each.name}, seed {seed}: {_said(each, seen)}\n")
        if seen.with_it:
            sys.stdout.write(f"      with the safeguard: {seen.with_it[0][:300]}\n")
    if is_written and not wrong:
        text = PROMISES_FILE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        PROMISES_FILE.write_text(f"{before}{BEGIN}\n{table(shown)}{END}{after}", encoding="utf-8")
    return 1 if wrong else 0


def table(shown: Sequence[tuple[Ablation, int, Shown]]) -> str:
    """Markdown, one line per safeguard."""
    rows = ["| safeguard | without it | breaks promise | seed | what the checker said |", "|---|---|---|---|---|"]
    for each, seed, seen in shown:
        without = f"{each.without} ({each.note})" if each.note else each.without
        number = NUMBERS.get(each.promise, "none")
        rows.append(
            f"| {each.safeguard} (`{each.where}`) | {without} | {number} | `{each.name}` {seed} | {_said(each, seen)} |"
        )
    return "\n".join(rows) + "\n"


_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def _said(ablation: Ablation, shown: Shown) -> str:
    """The checker's words, short: ids tell nobody anything."""
    said = _ID.sub("…", shown.said(ablation.promise) if ablation.promise else "; ".join(shown.without))
    said = said.replace("|", "/")
    return said if len(said) <= SAID_MAX else said[:SAID_MAX].rstrip() + " …"


def _search(ablation: Ablation, first: int, seeds_max: int) -> int:
    found = search(ablation, first=first, seeds_max=seeds_max)
    if found is None:
        sys.stdout.write(f"{ablation.name}: no seed of {seeds_max}\n")
    else:
        seed, shown = found
        sys.stdout.write(f"{ablation.name}: seed {seed}: {shown.said(ablation.promise)[:200]}\n")
    sys.stdout.flush()
    return found is None


if __name__ == "__main__":
    sys.exit(main())
