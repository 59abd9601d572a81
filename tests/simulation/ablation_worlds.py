"""Scenarios bent towards the one situation that needs a safeguard.

Random seeds hit upon most of these situations too seldom. What is bent is what goes wrong and a few settings; requests,
times and the order of steps stay the seed's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson

from controller.core.limits import REQUEST_ID_TAG
from tests.simulation.batch_events import QUEUE
from tests.simulation.scenario import EPOCH, QUEUE_URL, Disruption, Foreign, Scenario, Sent

Bend = Callable[[Scenario], Scenario]
EVENTS_URL = QUEUE_URL + QUEUE


def calm(scenario: Scenario) -> Scenario:
    """Nothing goes wrong."""
    return with_settings(
        replace(
            scenario,
            call_faults={},
            service_faults={},
            network_faults={},
            disruptions=(),
            kill_at_steps=(),
            foreign=(),
            interval_factor=5.0,
        ),
        submit={"settle_s": 5.0},
    )


def with_settings(scenario: Scenario, **sections: Mapping[str, Any]) -> Scenario:
    """Some settings changed."""
    changed = {name: {**scenario.settings.get(name, {}), **members} for name, members in sections.items()}
    return replace(scenario, settings={**scenario.settings, **changed})


def called(operation: str = "SubmitJob", *, service: Mapping[str, Any] | None = None, **chances: float) -> Bend:
    """Nothing but faults of one operation; what is accepted late is so within the settle time."""

    def bend(scenario: Scenario) -> Scenario:
        late_s = max(0.1, 4.8 - scenario.profile.list_lag_s[1])
        faults = {"late_s": (0.0, late_s), **(service or {})}
        made = with_settings(calm(scenario), submit={"timeout_s": 1.0}) if "late" in chances else calm(scenario)
        return replace(made, call_faults={operation: chances}, service_faults=faults)

    return bend


def and_called(bend: Bend, operation: str, **chances: float) -> Bend:
    """Faults of one more operation."""

    def bent(scenario: Scenario) -> Scenario:
        made = bend(scenario)
        return replace(made, call_faults={**made.call_faults, operation: chances})

    return bent


def killed(count: int = 4) -> Bend:
    """Nothing but kills, at steps that the seed says."""

    def bend(scenario: Scenario) -> Scenario:
        steps = tuple(200 + 137 * (n + scenario.seed) % 900 for n in range(count))
        return replace(calm(scenario), kill_at_steps=steps, restart_s=0.01, faults_end_s=20.0)

    return bend


def disrupted(kind: str, *at: float, for_s: float = 10.0, size: float = 0.5) -> Bend:
    """Nothing but this, at these times, to every job queue."""

    def bend(scenario: Scenario) -> Scenario:
        return with_disruptions(calm(scenario), kind, *at, for_s=for_s, size=size)

    return bend


def with_disruptions(scenario: Scenario, kind: str, *at: float, for_s: float, size: float = 0.5) -> Scenario:
    queues = scenario.job_queues if kind.startswith("queue_") else list(scenario.job_queues)[:1]
    hit = tuple(Disruption(at=t, kind=kind, for_s=for_s, what=queue, size=size) for t in at for queue in queues)
    ends = max(scenario.faults_end_s, max(at) + for_s + 1.0)
    return replace(scenario, disruptions=(*scenario.disruptions, *hit), faults_end_s=ends)


def strangers(*, at: float = 0.0, **members: Any) -> Bend:
    """The first SubmitJob calls are lost before they take effect, and Batch has jobs of nearly our names."""

    def bend(scenario: Scenario) -> Scenario:
        foreign = tuple(
            Foreign(at=at, request_id=f"r{n}", job_name=f"job-{n}", job_queue=queue, **members)
            for n in range(len(scenario.requests))
            for queue in scenario.job_queues
        )
        return replace(calm(scenario), foreign=foreign, scripted={"SubmitJob": ("reset",) * 30})

    return bend


def crowd(scenario: Scenario) -> Scenario:
    """Two requests whose answers are lost; then more than a page of jobs whose names differ from theirs in case."""
    few = [replace(sent, at=0.1) for sent in named(scenario)[:2]]
    queue = next(iter(scenario.job_queues))
    foreign = tuple(
        Foreign(
            at=2.5,
            request_id=str(sent.request_id),
            job_name=orjson.loads(sent.body)["jobName"],
            job_queue=queue,
            is_upper_case=True,
            count=101,
        )
        for sent in few
    )
    return replace(
        with_settings(calm(scenario), submit={"timeout_s": 3.0}),
        requests=tuple(few),
        foreign=foreign,
        scripted={"SubmitJob": ("hang_after",) * 4},
        profile=replace(scenario.profile, list_lag_s=(0.0, 0.0)),
        faults_end_s=30.0,
    )


def listening(bend: Bend = calm, *, lag_s: float = 0.5, service: Mapping[str, Any] | None = None, **track: Any) -> Bend:
    """The controller listens to events, and polls seldom."""

    def bent(scenario: Scenario) -> Scenario:
        made = bend(scenario)
        polls = {"rate_per_s": 4.0, "interval_s_min": 25.0, "interval_s_max": 60.0, "events_queue_url": EVENTS_URL}
        lags: dict[str, Any] = {"event_lag_s": (0.0, lag_s), "describe_lag_s": (0.0, 0.0), "batch_rate_per_s": None}
        return replace(
            with_settings(made, track={**polls, **track}),
            profile=replace(made.profile, **lags),
            service_faults={**made.service_faults, **(service or {})},
            event_statuses=None,
            junk_events=(),
            drain_bound_s=6_000.0,
        )

    return bent


def tight(bend: Bend) -> Bend:
    """Few slots, so that every one is fought for."""

    def bent(scenario: Scenario) -> Scenario:
        made = bend(scenario)
        return with_settings(made, queues={name: {"max_in_flight": 2, "max_waiting": 2} for name in made.job_queues})

    return bent


def slow_store(bend: Bend, *, for_s: float = 60.0) -> Bend:
    """Calls of the store take up to a quarter of a second each."""

    def bent(scenario: Scenario) -> Scenario:
        return with_disruptions(bend(scenario), "disk_slow", 0.0, for_s=for_s)

    return bent


def beyond_settling(scenario: Scenario) -> Scenario:
    """What AWS promises nobody: stray copies are accepted after the settle time, while requests wait for a slot."""
    made = with_settings(tight(called(late=0.25))(scenario), submit={"settle_s": 1.0, "timeout_s": 1.0})
    profile = replace(made.profile, running_s=(8.0, 12.0), list_lag_s=(0.0, 0.0))
    return replace(made, profile=profile, service_faults={"late_s": (2.5, 4.0)})


def cancelled(bend: Bend, *, after_s: float, spread_s: float) -> Bend:
    """Every request is cancelled, so long after it was sent."""

    def bent(scenario: Scenario) -> Scenario:
        made = bend(scenario)
        kept = [sent for sent in made.requests if sent.kind != "cancel"]
        cancels = [
            replace(
                sent,
                at=sent.at + after_s + spread_s * (number % 20) / 20,
                kind="cancel",
                body=orjson.dumps({"action": "cancel", "requestId": sent.request_id}).decode(),
            )
            for number, sent in enumerate(named(made))
        ]
        requests = tuple(sorted((*kept, *cancels), key=lambda sent: sent.at))
        ends = max(made.faults_end_s, requests[-1].at + 1.0)
        return replace(made, requests=requests, faults_end_s=ends)

    return bent


def expiring(bend: Bend, *, after_s: float, spread_s: float) -> Bend:
    """Every request expires, so long after it was sent."""

    def bent(scenario: Scenario) -> Scenario:
        made = bend(scenario)
        requests = []
        for number, sent in enumerate(made.requests):
            if sent.kind == "submit" and sent.request_id is not None:
                at = EPOCH + sent.at + after_s + spread_s * (number % 20) / 20
                expires = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
                body = {**orjson.loads(sent.body), "expiresAt": expires}
                requests.append(replace(sent, body=orjson.dumps(body).decode()))
        return replace(made, requests=tuple(requests))

    return bent


def long_running(bend: Bend, seconds: float) -> Bend:
    """Jobs run for so long."""

    def bent(scenario: Scenario) -> Scenario:
        made = bend(scenario)
        return replace(made, profile=replace(made.profile, running_s=(seconds, seconds)))

    return bent


def overlooked(probability: float, **track: float) -> Bend:
    """DescribeJobs leaves out ids at random."""

    def bend(scenario: Scenario) -> Scenario:
        made = with_settings(long_running(calm, 8.0)(scenario), track=track)
        return replace(made, service_faults={"describe_omits_p": probability}, faults_end_s=made.faults_end_s + 20.0)

    return bend


def named(scenario: Scenario) -> list[Sent]:
    """Valid requests with an id of their own."""
    return [sent for sent in scenario.requests if sent.kind == "submit" and sent.request_id is not None]


def new_jobs_unknown(scenario: Scenario) -> Scenario:
    """DescribeJobs shows new jobs only after some seconds, and they are asked for often."""
    made = with_settings(calm(scenario), track={"interval_s_min": 0.5, "rate_per_s": 8.0, "lost_after_s": 40.0})
    return replace(made, profile=replace(made.profile, describe_lag_s=(4.0, 8.0)))


def low_total(scenario: Scenario) -> Scenario:
    """The total is less than the rates of the kinds of calls together."""
    return with_settings(calm(scenario), aws={"total_rate_per_s": 8.0}, submit={"rate_per_s": 7.0})


def stopped(scenario: Scenario) -> Scenario:
    """SIGTERM again and again, while more wait than may be sent."""
    made = with_settings(calm(scenario), controller={"drain_s": 1.0}, submit={"rate_per_s": 2.0, "timeout_s": 1.0})
    return with_disruptions(made, "sigterm", *(3.0 + 3.0 * n for n in range(6)), for_s=0.0)


def held_in_doubt(scenario: Scenario) -> Scenario:
    """Requests in doubt go back to the backlog and are held there; then, later than AWS says, stray copies of their
    calls are accepted; then they are cancelled."""
    made = with_settings(called(late=0.5)(scenario), submit={"settle_s": 1.0, "rate_per_s": 20.0})
    made = replace(
        made,
        requests=tuple(replace(sent, at=0.1) for sent in made.requests),
        profile=replace(made.profile, list_lag_s=(0.0, 0.0), batch_rate_per_s=None),
        service_faults={"late_s": (4.0, 5.0)},
    )
    made = with_disruptions(made, "submit_denied", 2.0, for_s=20.0)
    return cancelled(lambda same: same, after_s=10.0, spread_s=5.0)(made)


def told_too_seldom(scenario: Scenario) -> Scenario:
    """Jobs that would run for an hour are cancelled, and TerminateJob does not always get there."""
    bend = cancelled(long_running(called("TerminateJob", reset=0.6), 3_600.0), after_s=2.0, spread_s=5.0)
    made = bend(scenario)
    ids = {sent.request_id for sent in named(made)}
    return replace(made, requests=tuple(sent for sent in made.requests if sent.request_id in ids))


def slow_credentials(scenario: Scenario) -> Scenario:
    """Credentials are renewed for seconds, again and again, while requests come."""
    made = with_settings(calm(scenario), submit={"rate_per_s": 4.0, "concurrency": 32, "timeout_s": 10.0})
    return with_disruptions(made, "credentials_slow", 1.5, 8.0, 15.0, for_s=5.0)


def failing_arrays(scenario: Scenario) -> Scenario:
    """Every request is an array, of which most children fail."""
    made = with_settings(calm(scenario), list={"rate_per_s": 5.0})
    requests = []
    for sent in made.requests:
        if sent.kind == "submit":
            body = {**orjson.loads(sent.body), "arrayProperties": {"size": 6}}
            body.pop("retryStrategy", None)
            requests.append(replace(sent, body=orjson.dumps(body).decode()))
    profile = replace(made.profile, application_failure_p=0.6, spot_reclaim_p=0.2)
    return replace(made, requests=tuple(requests), profile=profile)


def undescribed_jobs(scenario: Scenario, *, kind: str = "undescribed", jobs: int = 3) -> Scenario:
    """DescribeJobs refuses every call that names one of so many jobs, for longer than the others run."""
    made = with_settings(
        calm(scenario),
        track={"rate_per_s": 8.0, "interval_s_min": 0.5, "interval_s_max": 2.0},
        aws={"total_rate_per_s": 48.0},
    )
    lags: dict[str, Any] = {"describe_lag_s": (0.0, 0.0), "batch_rate_per_s": None}
    profile = replace(made.profile, runnable_s=(1.0, 3.0), running_s=(10.0, 40.0), **lags)
    made = replace(made, profile=profile, faults_end_s=121.0, job_queues=dict.fromkeys(made.job_queues))
    ids = [sent.request_id for sent in made.requests if sent.kind == "submit" and sent.request_id is not None]
    hit = tuple(
        Disruption(at=0.0, kind=kind, for_s=120.0, what=f"{REQUEST_ID_TAG}={request_id}") for request_id in ids[:jobs]
    )
    return replace(made, disruptions=hit)


def indescribable_jobs(scenario: Scenario) -> Scenario:
    """The same, and it answers HTTP 500."""
    return undescribed_jobs(scenario, kind="indescribable")


def many_undescribed_jobs(scenario: Scenario) -> Scenario:
    """More of them than could be asked for one by one, each every few seconds."""
    return undescribed_jobs(scenario, jobs=16)


def gone_meanwhile(scenario: Scenario) -> Scenario:
    """Jobs wait for a short time; then nothing runs for a while, and afterwards they are described ever so slowly."""
    made = with_settings(
        calm(scenario),
        queues={"*": {"stuck_after_s": 5.0}},
        track={"rate_per_s": 1.0, "interval_s_min": 0.5, "interval_s_max": 1.0},
        list={"rate_per_s": 20.0},
    )
    profile = replace(made.profile, runnable_s=(1.0, 3.0), running_s=(30.0, 40.0))
    made = replace(made, profile=profile, faults_end_s=40.0, job_queues=dict.fromkeys(made.job_queues))
    return with_disruptions(made, "outage", *(3.0 + 11.0 * n for n in range(3)), for_s=8.0)
