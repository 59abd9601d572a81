"""Worlds under pressure: somebody floods, calls are throttled at random, cancels meet a backlog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from tests.simulation.ablation_worlds import calm, with_disruptions, with_settings
from tests.simulation.scenario import MIB, QUEUE_URL, Disruption, Scenario, Sent, invalid_message

FLOOD = 150
"""Requests of the one that floods; the others have a tenth of it together."""
MOMENT_S = 0.8
"""Some calls of a good pair fall into it, and no probe after them."""
MADE_UP = 300
"""Job queues that there are not, twenty a second."""
BACKLOG = 120
"""Requests for the one that there is."""
FLOODING = "source-0"
MODEST = "source-1"


def _request(at: float, source: str, job_queue: str, number: int, **members: Any) -> Sent:
    tenant = members.pop("tenant", None)
    body = {
        "requestId": f"r{number}",
        "jobName": f"job-{number}",
        "jobQueue": job_queue,
        "jobDefinition": "work",
        **members,
    }
    text = orjson.dumps(body).decode()
    return Sent(at=at, source=source, body=text, kind="submit", request_id=f"r{number}", tenant=tenant)


def flooding_tenant(rate_per_s: float, *, is_known_first: bool = True) -> Any:
    """One tenant's requests, with priorities, are all there before the few of two others come, one after the other;
    one names its tenant by the share identifier. With ``is_known_first`` false the others had requests before."""

    def bend(scenario: Scenario) -> Scenario:
        made = with_settings(
            calm(scenario),
            intake={"backlog_high": 1_000, "backlog_low": 500, "backlog_max": 2_000},
            submit={"rate_per_s": rate_per_s, "concurrency": 8, "timeout_s": 10.0},
            aws={"total_rate_per_s": 48.0},
            queues={
                name: {"max_in_flight": 1_000, "max_waiting": 1_000, "aging_s": 1.0} for name in scenario.job_queues
            },
        )
        job_queue = next(iter(made.job_queues))
        source = made.sources[0]
        modest = [{"tenant": "modest"}, {"shareIdentifier": "sharing"}]
        sent: list[Sent] = []
        if not is_known_first:
            sent += [_request(0.1, source, job_queue, number, **modest[number]) for number in range(2)]
        for number in range(FLOOD):
            at = 0.5 + 0.5 * number / FLOOD
            sent.append(_request(at, source, job_queue, len(sent), tenant="flood", priority=number % 3))
        for number in range(FLOOD // 10):
            at = 5.0 + (number * (1 + scenario.seed % 7)) % 9
            sent.append(_request(at, source, job_queue, len(sent), **modest[number % 2]))
        return replace(
            made,
            requests=tuple(sorted(sent, key=lambda each: each.at)),
            profile=replace(made.profile, batch_rate_per_s=None),
            job_queues=dict.fromkeys(made.job_queues),
            faults_end_s=20.0,
        )

    return bend


def flooding_source(scenario: Scenario) -> Scenario:
    """One SQS queue brings more requests for a job queue that is disabled than the store takes in all; another brings
    two a second for a job queue that is open."""
    for_s = 40.0
    made = with_settings(
        calm(scenario),
        intake={
            "queue_urls": [QUEUE_URL + FLOODING, QUEUE_URL + MODEST],
            "backlog_high": 20,
            "backlog_low": 10,
            "backlog_max": 40,
            "receivers": 2,
            "visibility_timeout_s": 30,
        },
        submit={"rate_per_s": 20.0, "concurrency": 8},
        queues={},
    )
    sent = [_request(0.1, FLOODING, "closed", number) for number in range(FLOOD)]
    sent += [_request(8.0 + number / 2, MODEST, "open", FLOOD + number) for number in range(60)]
    made = replace(
        made,
        sources=(FLOODING, MODEST),
        job_queues={"closed": None, "open": None},
        requests=tuple(sent),
        profile=replace(made.profile, batch_rate_per_s=None),
        flooding_source=FLOODING,
    )
    made = with_disruptions(made, "queue_disabled", 0.0, for_s=for_s)
    hit = tuple(each for each in made.disruptions if each.what == "closed")
    return replace(made, disruptions=hit)


def _denied(scenario: Scenario) -> Scenario:
    """Calm, with room for what is denied and what is not."""
    return with_settings(
        calm(scenario),
        intake={"backlog_high": 1_000, "backlog_low": 500, "backlog_max": 2_000},
        submit={"rate_per_s": 20.0, "concurrency": 8},
        aws={"total_rate_per_s": 48.0},
        queues={},
    )


def denied_pairs(scenario: Scenario) -> Scenario:
    """One producer's requests for six job queues are denied all the time; others bring two a second for another one."""
    theirs = [f"theirs-{number}" for number in range(6)]
    made = _denied(scenario)
    source = made.sources[0]
    sent = [_request(0.1, source, theirs[number % 6], number) for number in range(60)]
    sent += [_request(5.0 + number / 2, source, "open", 60 + number) for number in range(280)]
    made = replace(
        made,
        job_queues=dict.fromkeys([*theirs, "open"]),
        requests=tuple(sent),
        profile=replace(made.profile, batch_rate_per_s=None),
    )
    denied = tuple(Disruption(at=0.0, kind="pair_denied", for_s=150.0, what=job_queue) for job_queue in theirs)
    return replace(made, disruptions=denied)


def _amid_denied_pairs(scenario: Scenario, other: Disruption, *, pairs: int) -> Scenario:
    """One producer's requests, two a second, are denied, each for another job queue; others bring two a second for one
    that they may use, but for what ``other`` says."""
    made = _denied(scenario)
    source = made.sources[0]
    theirs = [f"theirs-{number}" for number in range(pairs)]
    end = 20.0 + pairs / 2
    sent = [_request(0.1 + number / 2, source, job_queue, number) for number, job_queue in enumerate(theirs)]
    sent += [_request(0.3 + number / 2, source, "open", pairs + number) for number in range(int(2 * end))]
    made = replace(
        made,
        job_queues=dict.fromkeys([*theirs, "open"]),
        requests=tuple(sorted(sent, key=lambda each: each.at)),
        profile=replace(made.profile, batch_rate_per_s=None),
        faults_end_s=end + 1.0,
    )
    denied = tuple(Disruption(at=0.0, kind="pair_denied", for_s=end, what=job_queue) for job_queue in theirs)
    return replace(made, disruptions=(*denied, other))


def denied_by_chance(scenario: Scenario) -> Scenario:
    """For a moment the others are denied, too."""
    other = Disruption(at=35.0, kind="pair_denied", for_s=MOMENT_S, what="open")
    return _amid_denied_pairs(scenario, other, pairs=80)


def denied_for_a_while(scenario: Scenario) -> Scenario:
    """For a quarter of a minute everything is denied."""
    return _amid_denied_pairs(scenario, Disruption(at=22.0, kind="submit_denied", for_s=15.0), pairs=160)


def denied_requests(scenario: Scenario) -> Scenario:
    """Some requests of a pair have a tag with which they are denied; others of it come one a second."""
    made = _denied(scenario)
    source = made.sources[0]
    sent = [_request(0.1 + number / 2, source, "open", number, tags={"team": "none"}) for number in range(4)]
    sent += [_request(5.0 + number, source, "open", 4 + number) for number in range(220)]
    made = replace(
        made,
        job_queues={"open": None},
        requests=tuple(sent),
        profile=replace(made.profile, batch_rate_per_s=None),
        faults_end_s=231.0,
    )
    return replace(made, disruptions=(Disruption(at=0.0, kind="tag_denied", for_s=230.0, what="team=none"),))


def _roomy(scenario: Scenario, *, rate_per_s: float, total_rate_per_s: float, **sections: Any) -> Scenario:
    """Calm, and with room for every backlog in the store and in Batch: only rates hold it up."""
    made = with_settings(
        calm(scenario),
        intake={"backlog_high": 2_000, "backlog_low": 1_000, "backlog_max": 4_000},
        submit={"rate_per_s": rate_per_s, "concurrency": 32},
        aws={"total_rate_per_s": total_rate_per_s},
        **sections,
    )
    return replace(made, settings={**made.settings, "queues": {"*": {"max_in_flight": 10_000, "max_waiting": 10_000}}})


def made_up_names(scenario: Scenario) -> Scenario:
    """One producer names a job queue of its own in every request, and there is none; another one's backlog is for a
    job queue that there is."""
    made = _roomy(scenario, rate_per_s=20.0, total_rate_per_s=48.0, list={"rate_per_s": 5.0})
    source = made.sources[0]
    sent = [_request(0.1, source, "open", number) for number in range(10)]
    for number in range(10, 10 + MADE_UP):
        sent.append(replace(_request(2.0 + number / 20, source, f"made-up-{number}", number), kind="no_queue"))
    sent += [_request(5.0, source, "open", 10 + MADE_UP + number) for number in range(BACKLOG)]
    return replace(
        made,
        job_queues={"open": None},
        requests=tuple(sorted(sent, key=lambda each: each.at)),
        profile=replace(made.profile, batch_rate_per_s=None),
        faults_end_s=2.0 + MADE_UP / 20,
    )


def noisy(scenario: Scenario) -> Scenario:
    """A long backlog, and one SubmitJob call in fifty that is throttled whatever the rate."""
    made = _roomy(scenario, rate_per_s=20.0, total_rate_per_s=48.0)
    job_queue = next(iter(made.job_queues))
    return replace(
        made,
        requests=tuple(_request(0.1, made.sources[0], job_queue, number) for number in range(600)),
        call_faults={"SubmitJob": {"throttle": 0.02}},
        profile=replace(made.profile, batch_rate_per_s=None),
        job_queues=dict.fromkeys(made.job_queues),
        faults_end_s=60.0,
    )


def cancels_in_a_backlog(scenario: Scenario) -> Scenario:
    """Long jobs are cancelled while more requests wait than the total lets through."""
    made = _roomy(scenario, rate_per_s=40.0, total_rate_per_s=6.0, terminate={"rate_per_s": 10.0})
    job_queue, source = next(iter(made.job_queues)), made.sources[0]
    sent = [_request(0.1, source, job_queue, number) for number in range(150)]
    for number in range(150):
        body = orjson.dumps({"action": "cancel", "requestId": f"r{number}"}).decode()
        at = 10.0 + number / 10 if number < 10 else 60.0
        sent.append(Sent(at=at, source=source, body=body, kind="cancel", request_id=f"r{number}"))
    return replace(
        made,
        requests=tuple(sent),
        profile=replace(made.profile, batch_rate_per_s=None, running_s=(3_600.0, 3_600.0)),
        job_queues=dict.fromkeys(made.job_queues),
        faults_end_s=61.0,
    )


def _cramped(scenario: Scenario, *, size_mib: int, free_mib_min: int, **sections: Any) -> Scenario:
    """A small disk, of which a part is kept free; stages look as often as in production."""
    made = with_settings(calm(scenario), store={"free_mib_min": free_mib_min}, **sections)
    return replace(made, disk_size=size_mib * MIB, interval_factor=1.0)


def dead_letters_pile_up(scenario: Scenario) -> Scenario:
    """A faulty producer sends large messages that are no requests, more than the disk holds, while the dead-letter
    queue takes none."""
    made = _cramped(scenario, size_mib=60, free_mib_min=36, intake={"receivers": 1})
    source = made.sources[0]
    text = "x" * 900_000
    junk = [invalid_message(1.0 + number / 2, source, text) for number in range(90)]
    return replace(
        made,
        requests=tuple(sorted((*made.requests, *junk), key=lambda each: each.at)),
        call_faults={"SendMessageBatch": {"error_503": 1.0}},
        faults_end_s=60.0,
    )


def events_pile_up(scenario: Scenario) -> Scenario:
    """A sink takes nothing while a long backlog is submitted, a few jobs at a time, and their events are more than the
    disk holds."""
    made = _cramped(
        scenario,
        size_mib=3,
        free_mib_min=1,
        intake={"backlog_high": 2_000, "backlog_low": 1_000, "backlog_max": 4_000},
        submit={"rate_per_s": 20.0, "concurrency": 4},
        aws={"total_rate_per_s": 48.0},
    )
    job_queue, source = next(iter(made.job_queues)), made.sources[0]
    return with_disruptions(
        replace(
            made,
            settings={**made.settings, "queues": {"*": {"max_in_flight": 20, "max_waiting": 20}}},
            requests=tuple(_request(0.1, source, job_queue, number) for number in range(900)),
            profile=replace(made.profile, batch_rate_per_s=None),
            job_queues=dict.fromkeys(made.job_queues),
        ),
        "stdout_down",
        0.0,
        for_s=120.0,
    )
