"""What events must and must not do, judged in worlds where nothing else stands in the way.

That they never make the controller report what is not so, call too often, or lose a job, is judged by the other
checkers in every world; here, that they are of use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from tests.simulation.world import SimWorld

SOON: Final = "ends are seen soon"
TOLD: Final = "an end that was told is not lost"
FOLLOWED: Final = "a job that can't be described hides no other"
FOLLOWED_S: Final = 12.0
"""After its end, where intervals are short and the describe budget has room."""

_NO_FAULTS: Final = frozenset({"late_s", "slow_s", "sqs_undelete_s", "event_delay_s"})
"""Bounds of faults."""
_HARMLESS: Final = _NO_FAULTS | {"event_duplicate_p", "sqs_reorder_p"}


def ends_are_seen_soon(world: SimWorld) -> Iterator[str]:
    """With every event delivered and calls answered, each end is reported within seconds, however seldom jobs are
    polled: counted from its event's arrival, or from the moment at which the controller knew the job, if that is
    later. The end of an array that failed waits for the look-up of its children."""
    scenario, track = world.scenario, world.settings.track
    if track.events_queue_url is None or not _are_events_delivered(world):
        return
    bound_s = scenario.profile.event_lag_s[1] + 2.5 + 3 / track.rate_per_s + 4 * scenario.profile.latency_s[1]
    submitted = {
        line.event["job_id"]: line.at
        for line in world.stdout.lines
        if line.event["event"] in ("job.submitted", "submission.adopted")
    }
    for line in world.stdout.lines:
        job = world.sim.batch.jobs.get(line.event.get("job_id", ""))
        end = None if job is None or line.event["event"] != "job.finished" else job.end()
        if end is None:
            continue
        if line.event.get("array_size") and line.event["outcome"] != "succeeded":
            continue
        lag_s = line.at - max(end.at, submitted.get(line.event["job_id"], end.at))
        if lag_s > bound_s:
            yield f"{SOON}: job {line.event['job_id']} was reported {lag_s:.1f} s late, {bound_s:.1f} s are allowed"


def others_are_followed(world: SimWorld) -> Iterator[str]:
    """Where DescribeJobs refuses calls for single jobs, or fails, and nothing else goes wrong, the ends of others are
    reported soon."""
    scenario, track = world.scenario, world.settings.track
    faults = scenario.call_faults or scenario.service_faults or scenario.network_faults or scenario.kill_at_steps
    kinds = {each.kind for each in scenario.disruptions}
    if faults or scenario.scripted or not kinds or not kinds <= {"undescribed", "indescribable"}:
        return
    if track.interval_s_max > FOLLOWED_S / 4 or scenario.profile.batch_rate_per_s is not None:
        return
    undescribed = {each.what.partition("=")[2] for each in scenario.disruptions}
    for line in world.stdout.lines:
        job = world.sim.batch.jobs.get(line.event.get("job_id", ""))
        end = None if job is None or line.event["event"] != "job.finished" else job.end()
        if end is None or line.event.get("array_size") or line.event["request_id"] in undescribed:
            continue
        if line.at - end.at > FOLLOWED_S:
            yield f"{FOLLOWED}: job {line.event['job_id']} was reported {line.at - end.at:.0f} s after its end"
            return


def _are_events_delivered(world: SimWorld) -> bool:
    scenario = world.scenario
    is_slow_only = all(
        operation == "SubmitJob" and set(chances) <= {"slow"} for operation, chances in scenario.call_faults.items()
    )
    return (
        is_slow_only
        and set(scenario.service_faults) <= _HARMLESS
        and not (scenario.network_faults or scenario.disruptions or scenario.kill_at_steps or scenario.scripted)
        and scenario.profile.describe_lag_s[1] == 0.0
        and scenario.profile.batch_rate_per_s is None
    )


def an_end_that_was_told_is_not_lost(world: SimWorld) -> Iterator[str]:
    """A job of which Batch knows nothing more ends as its event said, if the process that was handed it still runs."""
    scenario = world.scenario
    is_one_life = not scenario.kill_at_steps and {each.kind for each in scenario.disruptions} <= {"amnesia"}
    if not is_one_life or scenario.network_faults or "ReceiveMessage" in scenario.call_faults:
        return
    for line in world.stdout.lines:
        told_at = world.told_ends.get(line.event.get("job_id", ""))
        if line.event["event"] == "job.lost" and told_at is not None and told_at < line.at - 1.0:
            lost_s = line.at - told_at
            yield f"{TOLD}: job {line.event['job_id']} is reported lost {lost_s:.0f} s after its end was told"


CHECKERS: Final[tuple[Callable[[SimWorld], Iterator[str]], ...]] = (
    ends_are_seen_soon,
    an_end_that_was_told_is_not_lost,
    others_are_followed,
)
