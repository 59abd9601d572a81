"""Is what the limits allow used, and by everybody? Judged by AWS's history in worlds where only that is at stake.

Part of ``checkers.py``, which calls it with the world.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Final

import orjson

from controller.budgets import SHARES, Purpose
from controller.core.limits import PACING_GUARD, REQUEST_ID_TAG
from controller.holds import GOOD_PAIR_PROBE_S, STOPPED_PAUSE_S
from tests.simulation.scenario import EPOCH
from tests.simulation.world import SimWorld

USED: Final = "what is allowed is used"
ROOM: Final = "what is in flight has room on the disk"
NO_QUEUE: Final = "a terminate waits for no backlog"

THEIRS: Final = "who is denied stops nobody else"
HELD_ONCE_S: Final = 100.0
"""By then the pair's first holds are over: one of a minute as nothing had been accepted, and short ones as the others
that are denied have their first turns."""

MADE_UP: Final = "made-up names take one place in the turns"
MADE_UP_MIN: Final = 100
"""Requests for job queues that there are not, from which on the others' rate is judged."""
PLACE: Final = 0.4
"""Of the submit rate, for the only job queue that there is: half of it, less what learning its backlog takes."""

DENIED_AFTER_S: Final = 20.0
"""By then a stop is over that the first denials brought, as nothing had been accepted before them."""
SENT_WITHIN_S: Final = 6.0
"""From SQS, where nothing but denied requests stands in the way."""
HELD_NO_MORE_S: Final = 3.0
"""From SQS, where the pair is not held."""
MOMENT_S_MAX: Final = 1.0
"""A pair that is denied for no longer is one that is allowed."""
RELEASED_S: Final = MOMENT_S_MAX + GOOD_PAIR_PROBE_S
"""Such a pair is held for no longer."""
MENDED_S: Final = 3 * STOPPED_PAUSE_S
"""From the end of a denial of everything: three times single requests have found out by then."""
FAST_PER_S: Final = 20.0
"""Slower, and a backlog of a stop takes longer than that."""
NOISE_MAX: Final = 0.05
USED_MIN: Final = 0.7
LEARNT_AFTER_S: Final = 5.0
SENT_MIN: Final = 300
REACTION_S: Final = 4.0
"""From a cancel's message in SQS to the wish to call TerminateJob: intake, and a look of the stage."""


def noise_is_no_limit(world: SimWorld) -> Iterator[str]:
    """Where a few SubmitJob calls are throttled whatever their rate, and nothing else goes wrong, a backlog is sent at
    seven tenths of the configured rate at least, learning included."""
    scenario = world.scenario
    noise = scenario.call_faults.get("SubmitJob", {})
    others = set(scenario.call_faults) - {"SubmitJob"} or scenario.disruptions or scenario.kill_at_steps
    if set(noise) != {"throttle"} or noise["throttle"] > NOISE_MAX or others or scenario.service_faults:
        return
    calls = [call for call in world.sim.history.calls("SubmitJob") if call.at > EPOCH + LEARNT_AFTER_S]
    if len(calls) < SENT_MIN:
        return
    rate = world.settings.submit.rate_per_s / (1 + PACING_GUARD)
    used = sum(call.outcome == "ok" for call in calls) / (calls[-1].at - calls[0].at) / rate
    if used < USED_MIN:
        yield f"{USED}: {used:.0%} of the submit rate, {noise['throttle']:.0%} of the calls being throttled at random"


def a_terminate_waits_for_no_backlog(world: SimWorld) -> Iterator[str]:
    """A cancel of a job that is in Batch becomes TerminateJob at once, but for the cancels before it: its share of the
    total is its own, whatever else there is to send."""
    scenario = world.scenario
    faults = scenario.call_faults or scenario.service_faults or scenario.network_faults or scenario.disruptions
    if faults or scenario.kill_at_steps or scenario.scripted or scenario.profile.batch_rate_per_s is not None:
        return
    settings = world.settings
    rate = min(settings.terminate.rate_per_s, SHARES[Purpose.TERMINATE] * settings.aws.total_rate_per_s)
    jobs = {job.tags[REQUEST_ID_TAG]: job for job in world.sim.history.jobs}
    first: dict[str, float] = {}
    for call in world.sim.history.calls("TerminateJob"):
        first.setdefault(call.subject or "", call.at - EPOCH)
    cancels = sorted(
        (sent.at, str(orjson.loads(sent.body)["requestId"])) for sent in world.sent.values() if sent.kind == "cancel"
    )
    times = [at for at, _ in cancels]
    for at, request_id in cancels:
        job = jobs.get(request_id)
        if job is None or job.job_id not in first or job.at - EPOCH > at - 1.0:
            continue
        number = bisect_right(times, at)
        late_s, allowed_s = first[job.job_id] - at, REACTION_S + scenario.interval_factor + number / rate
        if late_s > allowed_s:
            yield f"{NO_QUEUE}: TerminateJob of {request_id} came {late_s:.0f} s late, {allowed_s:.0f} s are allowed"
            return


def denied_pairs_stop_nobody_else(world: SimWorld) -> Iterator[str]:
    """Where pairs of a job queue and a definition are denied and nothing else goes wrong, requests for other job queues
    are sent at once, but for the first seconds; and soon, once a denial of everything is over, or of a moment."""
    scenario = world.scenario
    faults = scenario.call_faults or scenario.service_faults or scenario.network_faults
    if faults or scenario.kill_at_steps or scenario.scripted or scenario.profile.batch_rate_per_s is not None:
        return
    rate = min(world.settings.submit.rate_per_s, world.settings.aws.total_rate_per_s / 2)
    kinds = {each.kind for each in scenario.disruptions}
    if not {"pair_denied"} <= kinds <= {"pair_denied", "submit_denied"} or rate < FAST_PER_S:
        return
    if world.settings.intake.backlog_high < len(world.sent):
        return
    by_chance = [each for each in scenario.disruptions if each.kind == "pair_denied" and each.for_s <= MOMENT_S_MAX]
    denied = {each.what for each in scenario.disruptions if each not in by_chance}
    stops = [(-math.inf, DENIED_AFTER_S)]
    stops += [(each.at, each.at + each.for_s + MENDED_S) for each in scenario.disruptions if each.kind != "pair_denied"]
    stops += [(each.at, each.at + each.for_s) for each in by_chance]  # what is denied itself rests for longer
    jobs = {job.tags[REQUEST_ID_TAG]: job for job in world.sim.history.jobs}
    for sent in world.sent.values():
        if sent.kind != "submit" or sent.request_id not in jobs:
            continue
        if any(begin - SENT_WITHIN_S <= sent.at < end for begin, end in stops):
            continue
        allowed_s = SENT_WITHIN_S
        if any(each.at - SENT_WITHIN_S <= sent.at < each.at + RELEASED_S for each in by_chance):
            allowed_s += RELEASED_S
        late_s = jobs[sent.request_id].at - EPOCH - sent.at
        if orjson.loads(sent.body)["jobQueue"] not in denied and late_s > allowed_s:
            yield f"{THEIRS}: {sent.request_id} was sent {late_s:.0f} s late, {allowed_s:.0f} s are allowed"
            return


def who_is_denied_alone_holds_nobody_up(world: SimWorld) -> Iterator[str]:
    """Where requests with some tag are denied and nothing else goes wrong, others of their pair wait for the first time
    that each of those is denied, and for no other."""
    scenario = world.scenario
    faults = scenario.call_faults or scenario.service_faults or scenario.network_faults
    if faults or scenario.kill_at_steps or scenario.scripted or scenario.profile.batch_rate_per_s is not None:
        return
    if {each.kind for each in scenario.disruptions} != {"tag_denied"}:
        return
    for job in world.sim.history.jobs:
        sent = next(each for each in world.sent.values() if each.request_id == job.tags[REQUEST_ID_TAG])
        late_s = job.at - EPOCH - sent.at
        if sent.at > HELD_ONCE_S and late_s > HELD_NO_MORE_S:
            yield f"{THEIRS}: {sent.request_id} was sent {late_s:.0f} s late, {HELD_NO_MORE_S:.0f} s are allowed"
            return


def made_up_names_take_one_place(world: SimWorld) -> Iterator[str]:
    """However many job queues requests name that there are not, the one that there is gets its turns as beside one
    other: its backlog is sent at nearly half the submit rate."""
    scenario = world.scenario
    faults = scenario.call_faults or scenario.service_faults or scenario.network_faults or scenario.disruptions
    if faults or scenario.kill_at_steps or scenario.scripted or scenario.profile.batch_rate_per_s is not None:
        return
    made_up = sum(sent.kind == "no_queue" for sent in world.sent.values())
    if len(scenario.job_queues) != 1 or made_up < MADE_UP_MIN:
        return
    backlog = [sent.at for sent in world.sent.values() if sent.kind == "submit"]
    came_at = EPOCH + max(backlog)
    times = [job.at for job in world.sim.history.jobs if job.at > came_at]
    if len(times) < len(backlog) / 2:
        return
    rate = len(times) / (max(times) - came_at) / world.settings.submit.rate_per_s
    if rate < PLACE:
        yield f"{MADE_UP}: a backlog was sent at {rate:.0%} of the submit rate, {PLACE:.0%} is its place"


def the_disk_has_room(world: SimWorld) -> Iterator[str]:
    """On a disk of which a part is kept free, however much is sent and whatever takes no events, every commit finds
    room."""
    space = world.disk.space
    if space is not None and space.refused:
        yield f"{ROOM}: {space.refused} commits found the disk full"


CHECKERS: Final[tuple[Callable[[SimWorld], Iterator[str]], ...]] = (
    noise_is_no_limit,
    the_disk_has_room,
    a_terminate_waits_for_no_backlog,
    denied_pairs_stop_nobody_else,
    who_is_denied_alone_holds_nobody_up,
    made_up_names_take_one_place,
)
