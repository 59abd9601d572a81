"""From one seed, what happens in a world: requests, settings, how Batch behaves, what goes wrong and when.

Everything is drawn here, before the run, so that a scenario can be read, printed and changed by a test. A random
subset of faults is on in each seed: few seeds have all of them, many have only some, so that rare combinations and
pure cases both occur.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson

from controller.core.limits import REQUEST_ID_TAG
from controller.simaws.profile import Profile
from tests.simulation.batch_events import QUEUE as BATCH_EVENTS
from tests.simulation.batch_events import with_events
from tests.simulation.dependents import with_dependents

ACCOUNT = "123456789012"
REGION = "us-east-1"
EPOCH = 1_900_000_000.0
"""AWS's time at the beginning of a world."""
CANARY = "c4n4ry"
"""In environment values and parameters; must show nowhere."""
REQUESTS_MEAN = 50
EVENTS_SHARE = 0.4
"""Of the seeds: the controller listens to EventBridge."""
DENIED_SHARE = 0.05
"""Of the seeds: single requests are denied, or their jobs can't be described."""
BLOCKED_SHARE = 0.05
"""Of the seeds: a filter blocks answers."""
DEPENDENTS_SHARE = 0.35
"""Of the seeds: requests depend on other requests."""
TENANTS_SHARE = 0.5
"""Of the seeds: producers name tenants."""
CRAMPED_SHARE = 0.03
CRAMPED_MIB = (0.5, 1.0)
"""Of disk for the schema and all that waits, beside a megabyte for the log and one for what is in flight."""
MIB = 1024 * 1024
FLOOD_SHARE = 0.005
FLOOD_REQUESTS = 400
"""Twice as many as may be in doubt: few seeds, since each costs as much as ten others."""
FLOOD_S = 30.0

QUEUE_URL = f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message on its way to a source queue."""

    at: float
    source: str
    body: str
    kind: str
    request_id: str | None
    """None: the message's own id."""
    is_valid: bool = True
    """Fit to be accepted (or, for a cancel, to be honoured) by itself."""
    is_rejected: bool = False
    """Surely to be rejected at intake, by its own event."""
    traceparent: str | None = None
    tenant: str | None = None
    """The message attribute of this name."""


def invalid_message(at: float, source: str, body: str) -> Sent:
    """What is no request, and is rejected at intake."""
    return Sent(at=at, source=source, body=body, kind="invalid", request_id=None, is_valid=False, is_rejected=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disruption:
    """Something that begins at ``at`` and is over ``for_s`` seconds later."""

    at: float
    kind: str
    for_s: float = 0.0
    what: str = ""
    size: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """Jobs of somebody else whose name is, but for what is said here, that of a request's job."""

    at: float
    """May lie before the beginning."""
    request_id: str
    job_name: str
    job_queue: str
    is_upper_case: bool = False
    tag: str | None = None
    """Their request-id tag."""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A world to be run."""

    seed: int
    settings: Mapping[str, Any]
    requests: tuple[Sent, ...]
    sources: tuple[str, ...]
    job_queues: Mapping[str, float | None]
    """Batch job queues and their vCPUs."""
    job_definitions: tuple[str, ...]
    profile: Profile
    call_faults: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    service_faults: Mapping[str, Any] = field(default_factory=dict)
    network_faults: Mapping[str, float] = field(default_factory=dict)
    disruptions: tuple[Disruption, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    scripted: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    """Faults of the first calls of an operation."""
    kill_at_steps: tuple[int | None, ...] = ()
    """Of one life after the other, as long as faults go on."""
    restart_s: float = 0.5
    faults_end_s: float = 30.0
    drain_bound_s: float = 900.0
    has_retries: bool = False
    interval_factor: float = 1.0
    """How much less often than in production stages look without being woken."""
    redrive_after: int | None = None
    """SQS gives a message up to a queue of its own after so many receives."""
    idle_s: float = 0.0
    """How long everything still runs when all has ended: longer than requests are remembered, if it is set."""
    event_statuses: tuple[str, ...] | None = None
    """Statuses whose events EventBridge's rule lets through; None: all."""
    disk_size: int | None = None
    """Bytes of the disk under the store; None: it has no end."""
    junk_events: tuple[tuple[float, str], ...] = ()
    """When, and what, somebody puts into the queue of events that belongs not there."""
    is_flood: bool = False
    """Nothing but an outage that meets more requests than may ever be in doubt."""
    flooding_source: str | None = None
    """This one is sent more than the store takes, and the others next to nothing."""


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    rng = random.Random(f"{seed}/rare")
    if rng.random() < FLOOD_SHARE:
        return flooded(seed)
    drawn = draw_common(seed)
    if rng.random() < 0.1:
        drawn = replace(drawn, redrive_after=rng.choice((1, 1, 2, 3)))
    if rng.random() < 0.05:
        drawn = forgetful(drawn)
    for name, share, bend in _BENDS:
        own = random.Random(f"{seed}/{name}")
        if own.random() < share:
            drawn = bend(drawn, own)
    return drawn


def cramped(scenario: Scenario, rng: random.Random) -> Scenario:
    """A disk with an end, of which a megabyte is kept for what is in flight and a little more is there for all that
    waits; somebody sends large messages that are no requests, and sinks take nothing for as long as faults go on."""
    settings = {**scenario.settings, "store": {"free_mib_min": 1}}
    size = int(MIB * (2 + CRAMPED_MIB[0] + (CRAMPED_MIB[1] - CRAMPED_MIB[0]) * rng.random()))
    down = Disruption(at=0.0, kind="stdout_down", for_s=scenario.faults_end_s)
    junk = [
        invalid_message(scenario.faults_end_s * rng.random(), rng.choice(scenario.sources), CANARY * 6_000)
        for _ in range(20)
    ]
    return replace(
        scenario,
        settings=settings,
        disk_size=size,
        interval_factor=1.0,
        requests=tuple(sorted((*scenario.requests, *junk), key=lambda each: each.at)),
        disruptions=(down, *scenario.disruptions),
        call_faults={**scenario.call_faults, "SendMessageBatch": {"error_503": 1.0}},
    )


def with_denied(scenario: Scenario, rng: random.Random) -> Scenario:
    """Some requests are denied, each by itself, as by a policy with a condition on tags: by the one that names them. Or
    their jobs can't be described."""
    kind = rng.choice(("tag_denied", "undescribed"))
    ids = sorted({sent.request_id for sent in scenario.requests if sent.request_id is not None})
    hit = rng.sample(ids, min(len(ids), rng.choice((1, 2, 5))))
    if kind == "undescribed" and rng.random() < 0.5:
        kind = "indescribable"
    denied = tuple(
        Disruption(at=0.0, kind=kind, for_s=scenario.faults_end_s, what=f"{REQUEST_ID_TAG}={request_id}")
        for request_id in hit
    )
    return replace(scenario, disruptions=(*denied, *scenario.disruptions))


def with_blocked(scenario: Scenario, rng: random.Random) -> Scenario:
    """A filter on the way to AWS does not let some answers to SubmitJob pass."""
    others = scenario.call_faults.get("SubmitJob", {})
    chance = min(rng.choice((0.05, 0.2)), 1.0 - sum(others.values()))
    return replace(
        scenario, call_faults={**scenario.call_faults, "SubmitJob": {**others, "blocked_after": max(0.0, chance)}}
    )


def with_tenants(scenario: Scenario, rng: random.Random) -> Scenario:
    """Most messages name a tenant, some in ways that nobody should."""
    names = [f"tenant-{n}" for n in range(rng.choice((1, 2, 4)))]
    odd = (" ", "x" * 300, "t\u00e9n\u00e4nt", "\u202etnanet")

    def name() -> str | None:
        if rng.random() < 0.2:
            return None
        return rng.choice(odd) if rng.random() < 0.1 else rng.choice(names)

    return replace(scenario, requests=tuple(replace(sent, tenant=name()) for sent in scenario.requests))


_BENDS: tuple[tuple[str, float, Callable[[Scenario, random.Random], Scenario]], ...] = (
    ("batch-events", EVENTS_SHARE, lambda drawn, rng: with_events(drawn, rng, url=QUEUE_URL + BATCH_EVENTS)),
    ("room", CRAMPED_SHARE, cramped),
    ("dependents", DEPENDENTS_SHARE, with_dependents),
    ("denied", DENIED_SHARE, with_denied),
    ("blocked", BLOCKED_SHARE, with_blocked),
    ("tenants", TENANTS_SHARE, with_tenants),
)
"""What some of the seeds have, and how many: each by draws of its own, so that another one leaves the seeds as they
are."""


def draw_common(seed: int) -> Scenario:
    """The scenario of a seed, without what is set up for few seeds only."""
    return _Draw(seed).scenario()


def forgetful(scenario: Scenario) -> Scenario:
    """Requests are remembered for a short time only, and the run goes on until all of them are forgotten.

    A clock that jumps by more than that time would end it: with the default of 15 days none does.
    """
    settle_s = scenario.settings["submit"]["settle_s"]
    # A backlog of requests in doubt keeps intake closed for as long; a duplicate that waits in SQS must be known still.
    final_s = 100.0 if settle_s < 100.0 else settle_s + 100.0
    prune_s = 60.0 * scenario.interval_factor
    settings = {**scenario.settings, "retention": {"final_s": final_s}}
    steady = tuple(each for each in scenario.disruptions if each.kind != "clock_jump")
    return replace(scenario, settings=settings, disruptions=steady, idle_s=final_s + 2 * prune_s)


def flooded(seed: int) -> Scenario:
    """SubmitJob stops answering while hundreds of requests wait, for less than the settle time: no doubt is settled."""
    scenario = _Draw(seed, requests_mean=FLOOD_REQUESTS).scenario()
    settings = {
        **scenario.settings,
        "aws": {**scenario.settings["aws"], "total_rate_per_s": 48.0},
        "intake": {**scenario.settings["intake"], "backlog_high": 1_000, "backlog_low": 500, "backlog_max": 2_000},
        "submit": {**scenario.settings["submit"], "rate_per_s": 40.0, "concurrency": 32, "timeout_s": 1.0}
        | {"settle_s": FLOOD_S + 5.0},
        "queues": {},
    }
    return replace(
        scenario,
        settings=settings,
        requests=tuple(replace(sent, at=sent.at / 4) for sent in scenario.requests),
        call_faults={},
        service_faults={},
        network_faults={},
        disruptions=(Disruption(at=0.0, kind="submit_silent", for_s=FLOOD_S),),
        foreign=(),
        kill_at_steps=(),
        faults_end_s=FLOOD_S + 1.0,
        profile=replace(scenario.profile, batch_rate_per_s=None),
        is_flood=True,
    )


_SUBMIT_FAULTS = (
    "error_500", "error_503", "reset", "close", "hang", "error_500_after", "reset_after", "close_after", "hang_after",
    "truncate_after", "empty_after", "not_json_after", "late", "slow", "throttle",
)  # fmt: skip
_READ_FAULTS = (
    "error_500", "error_503", "reset", "close", "hang", "truncate_after", "empty_after", "not_json_after", "slow",
    "throttle",
)  # fmt: skip
_SERVICE_FAULTS: tuple[tuple[str, tuple[float, float]], ...] = (
    ("describe_omits_p", (0.01, 0.1)),
    ("sqs_entry_fails_p", (0.05, 0.4)),
    ("sqs_duplicate_p", (0.05, 0.4)),
    ("sqs_undelete_p", (0.05, 0.3)),
    ("sqs_reorder_p", (0.1, 0.9)),
    ("sqs_empty_receive_p", (0.05, 0.4)),
)
_OPERATIONS = (
    "DescribeJobs", "ListJobs", "DescribeJobQueues", "TerminateJob", "ReceiveMessage", "DeleteMessageBatch",
    "SendMessageBatch", "GetCallerIdentity",
)  # fmt: skip
DISRUPTIONS = (
    "queue_disabled", "queue_invalid", "credentials_expired", "submit_denied", "pair_denied", "delete_denied",
    "throttle_burst", "rate_lowered", "submit_hangs", "submit_outage", "stdout_down", "disk_broken", "disk_full",
    "disk_locked", "disk_flaky", "disk_slow", "clock_jump", "sigterm", "kill", "rolling", "amnesia", "outage",
    "other_account",
)  # fmt: skip

WHY_DISRUPTIONS = ("queue_blocked", "snapshot_denied", "environments_denied", "list_denied")
BLOCKED_REASONS = (
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for instance type [x]",
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is too high",
    "ACTION_REQUIRED - CE(s) associated with the job queue are invalid.",
    "UNDETERMINED - Batch job is blocked, root cause is undetermined.",
)


class _Draw:
    """Draws one scenario."""

    def __init__(self, seed: int, *, requests_mean: int = REQUESTS_MEAN) -> None:
        self.seed = seed
        self.requests_mean = requests_mean
        self.rng = random.Random(f"{seed}/scenario")
        self.is_calm = self.rng.random() < 0.05
        """No faults at all."""
        self.share = self.rng.choice((0.1, 0.25, 0.5))
        """Of the faults that are on."""
        self.settle_s = 330.0 if self.rng.random() < 0.03 else self.uniform(4.0, 15.0)
        self.list_lag_s = self.rng.choice((0.0, 0.0, self.uniform(0.0, 2.0)))
        self.spread_s = self.uniform(1.0, 12.0)
        self.faults_end_s = self.spread_s + self.uniform(2.0, 15.0)
        self.queues = [f"batch-{n}" for n in range(self.rng.choice((1, 1, 2, 3)))]
        self.sources = tuple(f"source-{n}" for n in range(self.rng.choice((1, 1, 1, 2))))
        self.definitions = ("work", "other")
        self.has_retries = self.rng.random() < 0.4
        self.why = random.Random(f"{seed}/why")
        """Draws of its own: seeds in which nobody asks why stay as they were."""
        self.asks_why = self.why.random() < 0.35
        """Jobs count as stuck soon, queues are blocked, more children fail."""

    def uniform(self, least: float, most: float) -> float:
        return least + (most - least) * self.rng.random()

    def is_on(self) -> bool:
        return not self.is_calm and self.rng.random() < self.share

    def scenario(self) -> Scenario:
        requests = self.requests()
        lives = 0 if self.is_calm or self.rng.random() < 0.5 else self.rng.choice((1, 1, 2, 4))
        return Scenario(
            seed=self.seed,
            settings=self.settings(),
            requests=requests,
            sources=self.sources,
            job_queues={name: self.rng.choice((None, None, 3.0, 10.0)) for name in self.queues},
            job_definitions=self.definitions,
            profile=self.more_failures(self.profile()),
            call_faults=self.call_faults() | self.why_faults(),
            service_faults=self.service_faults(),
            network_faults=self.network_faults(),
            disruptions=tuple(sorted((*self.disruptions(), *self.blocks()), key=lambda each: each.at)),
            foreign=self.foreign(requests),
            kill_at_steps=tuple(int(10 ** self.uniform(0.5, 3.7)) for _ in range(lives)),
            restart_s=self.rng.choice((0.01, 0.5, 3.0)),
            faults_end_s=self.faults_end_s,
            drain_bound_s=1_500.0 + 6 * self.settle_s,
            has_retries=self.has_retries,
            interval_factor=self.rng.choice((1.0, 3.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0)),
        )

    # --- settings -----------------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        rng = self.rng
        high = rng.choice((5, 20, 1_000))
        return {
            "controller": {"name": "sim", "drain_s": rng.choice((0.5, 1.0, 4.0))},
            "aws": {"region": REGION, "total_rate_per_s": rng.choice((8.0, 20.0, 48.0))},
            "intake": {
                "queue_urls": [QUEUE_URL + name for name in self.sources],
                "dead_letter_queue_url": QUEUE_URL + "dead-letters",
                "receivers": rng.choice((1, 2)),
                "visibility_timeout_s": rng.choice((4, 10, 30)),
                "backlog_high": high,
                "backlog_low": high // 2,
                "backlog_max": 2 * high,
            },
            "submit": {
                "rate_per_s": rng.choice((3.5, 8.0, 20.0, 40.0)),
                "concurrency": rng.choice((1, 4, 32)),
                "timeout_s": rng.choice((1.0, 3.0, 10.0)),
                "settle_s": self.settle_s,
                "default_tags": rng.choice(({}, {"team": "sim"})),
            },
            "track": {
                "rate_per_s": rng.choice((1.0, 4.0, 8.0)),
                "concurrency": rng.choice((1, 8)),
                "interval_s_min": rng.choice((0.5, 2.0)),
                "interval_s_max": rng.choice((3.0, 6.0)),
                "lost_after_s": rng.choice((110.0, 130.0)),
            },
            "list": {"rate_per_s": rng.choice((1.0, 5.0))},
            "terminate": {"rate_per_s": rng.choice((1.0, 10.0))},
            "queues": {name: self.queue_settings() for name in self.queues if rng.random() < 0.7} | self.any_queue(),
            "sinks": [
                {"type": "log"},
                {"type": "sqs", "queue_url": QUEUE_URL + "events-out"},
            ][: rng.choice((1, 2))],
        }

    def queue_settings(self) -> dict[str, Any]:
        rng = self.rng
        return {
            "max_in_flight": rng.choice((3, 6, 20, 1_000)),
            "max_waiting": rng.choice((2, 5, 10, 1_000)),
            "weight": rng.choice((1.0, 1.0, 3.0)),
            "aging_s": rng.choice((1.0, 60.0)),
        }

    def any_queue(self) -> dict[str, Any]:
        return {"*": {"stuck_after_s": self.why.choice((1.5, 3.0, 5.0))}} if self.asks_why else {}

    def more_failures(self, profile: Profile) -> Profile:
        """So that most arrays have a child that failed, and some in more ways than one."""
        if not self.asks_why:
            return profile
        return replace(profile, application_failure_p=0.2, spot_reclaim_p=0.1, out_of_memory_p=0.05)

    def why_faults(self) -> dict[str, dict[str, float]]:
        if not self.asks_why or self.is_calm:
            return {}
        drawn = {}
        for operation in ("GetJobQueueSnapshot", "DescribeComputeEnvironments"):
            if self.why.random() < self.share:
                drawn[operation] = dict.fromkeys(self.why.sample(_READ_FAULTS, 3), 0.1)
        return drawn

    def blocks(self) -> list[Disruption]:
        """Queues that place no jobs for a while, and reads that are not allowed."""
        drawn: list[Disruption] = []
        if not self.asks_why or self.is_calm:
            return drawn
        for kind in WHY_DISRUPTIONS:
            if self.why.random() < 0.6:
                at = self.faults_end_s * 0.6 * self.why.random()
                for_s = min(4.0 + 12.0 * self.why.random(), self.faults_end_s - at)
                what = self.why.choice(self.queues)
                drawn.append(Disruption(at=at, kind=kind, for_s=for_s, what=what, size=self.why.random()))
        return drawn

    def profile(self) -> Profile:
        fails = 0.1 if self.has_retries else 0.03
        return Profile(
            submitted_s=(0.0, self.uniform(0.1, 2.0)),
            runnable_s=(0.0, self.uniform(0.1, 3.0)),
            starting_s=(0.0, self.uniform(0.1, 3.0)),
            running_s=(0.1, self.uniform(0.2, 5.0)),
            application_failure_p=fails,
            spot_reclaim_p=fails,
            out_of_memory_p=fails / 2,
            image_pull_p=fails / 2,
            describe_lag_s=self.rng.choice(((0.0, 0.0), (0.0, 4.0))),
            list_lag_s=(0.0, self.list_lag_s),
            stop_s=(0.0, 3.0),
            latency_s=(0.001, self.rng.choice((0.02, 0.2))),
            batch_rate_per_s=self.rng.choice((None, None, 10.0)),
            batch_burst=10.0,
        )

    # --- faults -------------------------------------------------------------------------------------------

    def chances(self, names: tuple[str, ...]) -> dict[str, float]:
        total = self.rng.choice((0.1, 0.3, 0.6))
        chosen = [name for name in names if self.is_on()]
        return {name: total / len(chosen) for name in chosen}

    def call_faults(self) -> dict[str, dict[str, float]]:
        faults = {"SubmitJob": self.chances(_SUBMIT_FAULTS)}
        faults.update({name: self.chances(_READ_FAULTS) for name in _OPERATIONS if self.is_on()})
        return {name: chances for name, chances in faults.items() if chances}

    def service_faults(self) -> dict[str, Any]:
        # A stray copy may be accepted until the settle time is over, as long as ListJobs shows it by then.
        late_s = self.settle_s - self.list_lag_s - 0.1
        drawn: dict[str, Any] = {"late_s": (0.0, late_s), "slow_s": (0.5, 12.0)}
        drawn["sqs_undelete_s"] = (0.0, 20.0)
        drawn.update({name: self.uniform(*bounds) for name, bounds in _SERVICE_FAULTS if self.is_on()})
        return drawn

    def network_faults(self) -> dict[str, float]:
        names = ("no_credentials_p", "connect_refused_p", "stdout_breaks_p")
        return {name: self.uniform(0.02, 0.2) for name in names if self.is_on()}

    def disruptions(self) -> tuple[Disruption, ...]:
        drawn = []
        for kind in DISRUPTIONS:
            if self.is_on() and self.rng.random() < 0.6:
                at = self.uniform(0.0, self.faults_end_s * 0.8)
                for_s = min(self.uniform(1.0, 10.0), self.faults_end_s - at)
                what = self.rng.choice(self.queues)
                drawn.append(Disruption(at=at, kind=kind, for_s=for_s, what=what, size=self.rng.random()))
        return tuple(sorted(drawn, key=lambda each: each.at))

    def foreign(self, requests: tuple[Sent, ...]) -> tuple[Foreign, ...]:
        if not self.is_on():
            return ()
        named = [sent for sent in requests if sent.kind == "submit" and sent.request_id is not None]
        return tuple(self.foreign_job(sent) for sent in self.rng.sample(named, min(5, len(named))))

    def foreign_job(self, sent: Sent) -> Foreign:
        assert sent.request_id is not None
        kind = self.rng.choice(("old", "tagged", "upper"))
        body = orjson.loads(sent.body)
        return Foreign(
            at=-1_300.0 if kind == "old" else self.uniform(0.0, self.spread_s),
            request_id=sent.request_id,
            job_name=body["jobName"],
            job_queue=body["jobQueue"],
            is_upper_case=kind == "upper",
            tag="somebody-else" if kind == "tagged" else None,
        )

    # --- requests -----------------------------------------------------------------------------------------

    def requests(self) -> tuple[Sent, ...]:
        count = max(1, int(self.rng.gauss(self.requests_mean, 15)))
        drawn: list[Sent] = []
        while len(drawn) < count:
            drawn.extend(self.request(len(drawn)))
        return tuple(sorted(drawn, key=lambda each: each.at))

    def request(self, number: int) -> list[Sent]:
        """One request, and what belongs to it: duplicates, a conflict, a cancel."""
        rng = self.rng
        at, source = self.uniform(0.0, self.spread_s), rng.choice(self.sources)
        if rng.random() < 0.08:
            return [self.invalid(at, source)]
        request_id = f"r{number}" if rng.random() < 0.85 else None
        body = self.body(request_id, number, at)
        kind = "submit"
        if rng.random() < 0.04:
            body["jobQueue"], kind = "no-such-queue", "no_queue"
        elif rng.random() < 0.03:
            body["jobDefinition"], kind = "no-such-definition", "no_definition"
        trace = f"00-{rng.getrandbits(128) | 1:032x}-{rng.getrandbits(64) | 1:016x}-01" if rng.random() < 0.2 else None
        text = orjson.dumps(body).decode()
        sent = [Sent(at=at, source=source, body=text, kind=kind, request_id=request_id, traceparent=trace)]
        if request_id is None:
            return sent
        if rng.random() < 0.15:
            later = self.uniform(0.0, self.spread_s)
            sent.append(
                Sent(at=later, source=rng.choice(self.sources), body=text, kind="duplicate", request_id=request_id)
            )
        if rng.random() < 0.12:
            sent.append(self.cancel(at, source, request_id))
        return sent

    def cancel(self, at: float, source: str, request_id: str) -> Sent:
        body = {"action": "cancel", "requestId": request_id, "reason": "no longer wanted"}
        later = max(0.0, at + self.uniform(-2.0, 12.0))
        return Sent(
            at=min(later, self.faults_end_s),
            source=source,
            body=orjson.dumps(body).decode(),
            kind="cancel",
            request_id=request_id,
        )

    def body(self, request_id: str | None, number: int, at: float) -> dict[str, Any]:
        rng = self.rng
        queue = rng.choice(self.queues)
        body: dict[str, Any] = {
            "jobName": f"job-{number}",
            "jobQueue": f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{queue}" if rng.random() < 0.2 else queue,
            "jobDefinition": rng.choice(self.definitions),
        }
        if request_id is not None:
            body["requestId"] = request_id
        if rng.random() < 0.5:
            environment = [{"name": "SECRET", "value": f"{CANARY}-{number}"}]
            body["containerOverrides"] = {"environment": environment}
        if rng.random() < 0.3:
            body["parameters"] = {"input": f"{CANARY}-p{number}"}
        if rng.random() < 0.3:
            body["priority"] = rng.randint(-5, 5)
        if rng.random() < 0.1:
            body["arrayProperties"] = {"size": rng.randint(2, 4)}
        if self.has_retries and rng.random() < 0.5:
            body["retryStrategy"] = {"attempts": rng.randint(2, 3)}
        if rng.random() < 0.1:
            expires = datetime.fromtimestamp(EPOCH + at + self.uniform(0.0, 30.0), UTC)
            body["expiresAt"] = expires.isoformat(timespec="milliseconds")
        return body

    def invalid(self, at: float, source: str) -> Sent:
        rng = self.rng
        good = {"jobName": "bad", "jobQueue": self.queues[0], "jobDefinition": "work"}
        text = rng.choice(
            (
                f'{{"jobName": "{CANARY}',
                orjson.dumps({**good, "parameters": {"input": [CANARY]}}).decode(),
                orjson.dumps({**good, "jobNam": CANARY}).decode(),
                orjson.dumps({**good, "containerOverrides": {"environment": [CANARY]}}).decode(),
                orjson.dumps({**good, "jobQueue": "arn:aws:batch:us-east-1:999999999999:job-queue/theirs"}).decode(),
                "",
            )
        )
        return invalid_message(at, source, text or " ")
