"""Pressure: limits that change under way, a queue that is disabled, and stores, sinks and answers that are slow.

The real application on the simulated AWS for a few seeds, under virtual time; the pure core (``core.pacing``) against
the simulated limiters for hundreds. Which of the two, each test says.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from unittest import mock

import pytest
import structlog

from controller.application import Application
from controller.core import throttle_noise
from controller.simaws.limiters import Noise, TokenBucket
from controller.stages.ingest import BUFFERED_MAX, GROUP_MAX
from tests.simulation import checkers, checkers_extra, pressed
from tests.simulation.paced import relimit, saturate, use
from tests.simulation.scenario import Disruption
from tests.simulation.world import SimWorld

CHUNKS = 10
SEEDS_PER_CHUNK = 20
HIGH_PER_S, LOW_PER_S = 50.0, 10.0
CEILING_PER_S = 40.0


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def keeps_every_promise(world: SimWorld) -> bool:
    problems = [*checkers.check(world), *checkers_extra.check_more(world)]
    assert problems == []
    return True


# --- a limit that drops and is raised -----------------------------------------------------------------------


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_a_limit_that_drops_and_is_raised_is_found_within_a_minute(chunk: int) -> None:
    """The pure core, 200 seeds: AWS's true limit goes 50 → 10 → 50 per second, at times, with latencies and bursts that
    the seed draws. From a minute after each change on fewer than 2 % of the calls are throttled and at least 90 % of
    what is available is used; the ceiling is never exceeded."""
    for seed in range(chunk * SEEDS_PER_CHUNK, (chunk + 1) * SEEDS_PER_CHUNK):
        rng = random.Random(seed)
        burst_s, latency_s = rng.uniform(0.2, 2.0), rng.uniform(0.01, 0.5)
        dropped_at = rng.uniform(5.0, 20.0)
        raised_at = dropped_at + rng.uniform(120.0, 180.0)
        bucket = TokenBucket(HIGH_PER_S, HIGH_PER_S * burst_s)
        changes = [
            (dropped_at, relimit(bucket, LOW_PER_S, burst_s=burst_s)),
            (raised_at, relimit(bucket, HIGH_PER_S, burst_s=burst_s)),
        ]
        calls = saturate(bucket, seconds=raised_at + 70.0, latency_s=latency_s, seed=seed, changes=changes)
        low = use(calls, dropped_at + 60.0, raised_at, available=LOW_PER_S)
        high = use(calls, raised_at + 60.0, raised_at + 70.0, available=CEILING_PER_S)
        for seen in (low, high):
            assert seen.throttled < 0.02, (seed, seen)
            assert seen.used >= 0.9, (seed, seen)
        times = [call.at for call in calls]
        most = int(CEILING_PER_S)
        assert all(later - first > 1.0 for first, later in zip(times, times[most:], strict=False)), seed


def test_the_application_finds_a_limit_that_drops_and_is_raised() -> None:
    """The real application, with one limit over all Batch calls that goes 50 → 10 → 50 per second while it submits and
    describes: from a minute after each change on fewer than 2 % of all calls are throttled (of several runs together,
    since a run has some seven hundred calls), at least 90 % of what is available is used, and no limit of ours is
    exceeded in any second as AWS sees it.
    """
    dropped_at, raised_at = 12.0, 142.0
    drop = Disruption(at=dropped_at, kind="rate_lowered", for_s=raised_at - dropped_at, what="", size=0.5)
    throttles: Counter[float] = Counter()
    sends: Counter[float] = Counter()
    for seed in (1, 2, 8):
        world = pressed.simulate(pressed.scenario(seed, {"work": 3_700}, disruptions=[drop]))
        calls = pressed.batch_calls(world)
        for since, until, available in (
            (dropped_at + 60, raised_at, LOW_PER_S),
            (raised_at + 45, raised_at + 60, CEILING_PER_S),
        ):
            within = [throttled for at, _, throttled in calls if since <= at < until]
            throttles[since] += sum(within)
            sends[since] += len(within)
            assert sum(within) / len(within) < 0.03, (seed, since, sum(within), len(within))
            used = (len(within) - sum(within)) / ((until - since) * available)
            assert used >= 0.9, (seed, since, len(within))
        assert keeps_every_promise(world)
    assert all(throttles[since] / sends[since] < 0.02 for since in sends), (throttles, sends)


def test_without_a_memory_for_noise_one_throttle_in_a_hundred_costs_most_of_the_rate() -> None:
    """The pure core: what ``core.throttle_noise`` is for. With it at least 85 % is used, without it less than half."""

    def used() -> float:
        noise = Noise(0.01, random.Random(1).random)
        return use(saturate(noise, seconds=300.0), 60.0, 300.0, available=CEILING_PER_S).used

    assert used() >= 0.85
    with (
        mock.patch.object(throttle_noise, "GRACE_AFTER_CUT", 0.0),
        mock.patch.object(throttle_noise, "GRACE_BASE", 0.0),
        mock.patch.object(throttle_noise, "CONFIDENCE", 0.0),
    ):
        assert used() < 0.5


# --- a queue that is disabled -------------------------------------------------------------------------------


def test_a_disabled_queue_of_three_does_not_slow_the_others() -> None:
    """The real application, with a backlog of no more than 100: a disabled queue's requests are held, and the others
    are through no more than 5 % later than if it had none, on average: a single run is some 7 % faster or slower by
    chance. Its own end once it is enabled again."""
    settings = {"intake": {"backlog_high": 100, "backlog_low": 80, "queue_urls": [pressed.QUEUE_URL + pressed.SOURCE]}}
    good = {"one": 500, "two": 500}
    disabled = Disruption(at=0.0, kind="queue_disabled", for_s=60.0, what="three", size=0.5)
    alone_s = among_s = 0.0
    for seed in range(1, 7):
        alone_s += _through(pressed.simulate(pressed.scenario(seed, good, settings=settings)))
        among = pressed.simulate(
            pressed.scenario(seed, {**good, "three": 200}, disruptions=[disabled], settings=settings),
        )
        among_s += _through(among)
        _is_held_and_released(among)
    assert among_s <= 1.05 * alone_s


def _is_held_and_released(among: SimWorld) -> None:
    assert sum(job.job_queue == "three" for job in among.sim.history.jobs) == 200
    events = [line.event for line in among.stdout.lines if line.event["event"].startswith("job_queue.")]
    assert [(event["event"], event["job_queue"], event["reason"]) for event in events] == [
        ("job_queue.held", "three", "queue_disabled"),
        ("job_queue.released", "three", "queue_disabled"),
    ]
    assert keeps_every_promise(among)


def _through(world: SimWorld) -> float:
    """When the last request of the queues one and two was accepted, in seconds since the first call of all."""
    jobs = [job.at for job in world.sim.history.jobs if job.job_queue in ("one", "two")]
    assert len(jobs) == 1_000
    return max(jobs) - min(call.at for call in world.sim.history.calls())


# --- overload -----------------------------------------------------------------------------------------------

BACKLOG_HIGH = 60
OVERLOADS = {
    "slow answers of SubmitJob": "submit_concurrency",
    "a slow store": "store",
    "a sink that is down": "sink",
    "a small submit budget": "budget_submit",
    "a small total": "budget_total",
    "a limit of jobs in flight": "max_in_flight",
    "a disabled queue": "held",
    "expired credentials": "credentials",
}


@pytest.mark.parametrize("overload", OVERLOADS)
def test_what_is_waited_for_is_bounded_and_named(overload: str) -> None:
    """The real application, with ten times the requests that its high mark takes: whatever is slow, the backlog, what
    is in hand and what is received stay bounded, SQS keeps the rest, and the time is on the account of the cause."""
    settings: dict[str, dict[str, object]] = {
        "intake": {"backlog_high": BACKLOG_HIGH, "backlog_low": 40, "queue_urls": [pressed.QUEUE_URL + pressed.SOURCE]},
        "submit": {"settle_s": 5.0, "concurrency": 8},
    }
    latency_s, disruptions, lasts_s = (0.02, 0.12), [], 30.0
    match overload:
        case "slow answers of SubmitJob":
            latency_s = (3.0, 5.0)
        case "a slow store":
            disruptions = [Disruption(at=1.0, kind="disk_slow", for_s=lasts_s, what="", size=1.0)]
        case "a sink that is down":
            disruptions = [Disruption(at=1.0, kind="stdout_down", for_s=lasts_s, what="", size=0.5)]
        case "a small submit budget":
            settings["submit"]["rate_per_s"] = 8.0
        case "a small total":
            settings["aws"] = {"total_rate_per_s": 8.0, "region": "eu-central-1"}
        case "a limit of jobs in flight":
            settings["queues"] = {"*": {"max_in_flight": 20, "max_waiting": 20}}
        case "a disabled queue":
            disruptions = [Disruption(at=0.0, kind="queue_disabled", for_s=lasts_s, what="work", size=0.5)]
        case "expired credentials":
            settings["submit"]["rate_per_s"] = 8.0  # so that there is a backlog when they expire
            disruptions = [Disruption(at=5.0, kind="credentials_expired", for_s=lasts_s, what="", size=0.5)]
    waited: dict[float, dict[str, float]] = {}

    def look(at: float, application: Application) -> None:
        waited[at] = pressed.waits(application)
        (ingest,) = application.ingests
        assert len(ingest._buffer) <= BUFFERED_MAX
        assert len(application.submit._in_hand) <= 8

    world = pressed.simulate(
        pressed.scenario(
            1, {"work": 10 * BACKLOG_HIGH}, settings=settings, disruptions=disruptions, latency_s=latency_s
        ),
        look,
    )
    begin, end = 8.0, lasts_s
    spent = {cause: waited[end][cause] - waited[begin][cause] for cause in waited[end]}
    assert spent[OVERLOADS[overload]] >= 0.4 * (end - begin), spent
    assert keeps_every_promise(world)
    assert _most_undecided(world) <= BACKLOG_HIGH + GROUP_MAX or overload == "a disabled queue"


def _most_undecided(world: SimWorld) -> int:
    """The most requests that were accepted and not yet submitted at any time, by the events."""
    most = waiting = 0
    for line in sorted(world.stdout.lines, key=lambda line: str(line.event["time"])):
        if line.event["event"] == "request.accepted":
            waiting += 1
        elif line.event["event"] == "job.submitted":
            waiting -= 1
        most = max(most, waiting)
    return most


def test_a_request_that_expires_in_the_backlog_is_cancelled_unsent() -> None:
    """The real application: what has not been sent by its ``expiresAt`` never is, and ends with one event."""
    given = pressed.scenario(1, {"work": 120}, settings={"submit": {"rate_per_s": 2.0}}, expire_s=25.0)
    world = pressed.simulate(given)
    sent = {job.tags["batch-controller/request-id"] for job in world.sim.history.jobs}
    cancelled = {line.event["request_id"] for line in world.stdout.lines if line.event["event"] == "job.cancelled"}
    assert 30 <= len(sent) <= 50
    assert sent | cancelled == {f"r{number}" for number in range(120)}
    assert not sent & cancelled
    assert keeps_every_promise(world)
