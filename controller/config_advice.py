"""What a configuration may say and had better not: every warning, with the reason.

``config.Settings.warnings`` calls it; ``check-config`` prints and ``run`` logs what it returns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from controller.core.admission import AUTO
from controller.core.events import CATALOGUE
from controller.core.limits import ADOPTION_SKEW_S, BATCH_API_RATE_PER_S, SETTLE_S_DEFAULT, SQS_WAIT_S_MAX

if TYPE_CHECKING:
    from controller.config import Settings

VISIBILITY_S_WISE: Final = 10
SQS_RETENTION_S_MAX: Final = 1_209_600
"""14 days: the longest time that an SQS queue can be told to keep a message."""
LOST_AFTER_S_WISE: Final = 60.0
"""Batch has been seen not to know a job for some time right after SubmitJob."""
STUCK_AFTER_S_WISE: Final = 300.0
"""Scaling a compute environment up from nothing takes some minutes."""
INTERVAL_S_WISE: Final = 3_600.0
"""Far below the time for which Batch keeps ended jobs (a day in the oldest reports, 7 days as documented)."""


_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}")
"""All that there are, of every partition: ``us-gov-west-1``, ``us-isob-east-1``, ``eusc-de-east-1``."""


def unwise(settings: Settings) -> list[str]:
    """One sentence each, the key first."""
    return [
        *_about_region(settings),
        *_about_rates(settings),
        *_about_intake(settings),
        *_about_submission(settings),
        *_about_tracking(settings),
        *_about_queues(settings),
        *_about_policy(settings),
        *_about_sinks(settings),
    ]


def _about_region(settings: Settings) -> Iterator[str]:
    if settings.aws.region is not None and not _REGION.fullmatch(settings.aws.region):
        yield (
            "aws.region: is not of the form of AWS's Regions, such as eu-central-1; "
            "unless it is a stand-in's, no end point of AWS answers to it"
        )


def _about_rates(settings: Settings) -> Iterator[str]:
    rates = {
        "aws.total_rate_per_s": settings.aws.total_rate_per_s,
        "submit.rate_per_s": settings.submit.rate_per_s,
        "track.rate_per_s": settings.track.rate_per_s,
        "list.rate_per_s": settings.list.rate_per_s,
        "terminate.rate_per_s": settings.terminate.rate_per_s,
    }
    for key, rate in rates.items():
        if rate > BATCH_API_RATE_PER_S:
            yield f"{key}: {rate:g} calls/s is above the {BATCH_API_RATE_PER_S} that AWS Batch allows in a Region"
    total = rates.pop("aws.total_rate_per_s")
    beyond = [key for key, rate in rates.items() if rate > total]
    if beyond:
        yield f"aws.total_rate_per_s: {total:g} calls/s is below {', '.join(beyond)}, which can't be reached"
    elif settings.submit.rate_per_s + settings.track.rate_per_s > total:
        yield (
            f"aws.total_rate_per_s: {total:g} calls/s is below submit.rate_per_s and track.rate_per_s together; "
            "under load they slow each other down"
        )


def _about_intake(settings: Settings) -> Iterator[str]:
    if settings.intake.paused:
        yield (
            "intake.paused: no requests and no cancels are received until a start without it; SQS keeps them as long "
            "as its retention lasts"
        )
    if settings.intake.dead_letter_queue_url is None:
        yield (
            "intake.dead_letter_queue_url: is not given, so the bodies of rejected requests are kept nowhere; "
            "give a queue to be able to mend them and send them again"
        )
    if settings.intake.visibility_timeout_s < VISIBILITY_S_WISE:
        yield (
            f"intake.visibility_timeout_s: {settings.intake.visibility_timeout_s} s leaves half of it for a commit; "
            "a slow one makes SQS deliver the messages again"
        )
    if settings.retention.final_s < SQS_RETENTION_S_MAX:
        yield (
            f"retention.final_s: {settings.retention.final_s:.15g} s is below the 14 days that SQS can keep a message; "
            "a duplicate that comes later than that runs again"
        )
    if settings.retention.final_s < ADOPTION_SKEW_S:
        yield (
            f"retention.final_s: below {ADOPTION_SKEW_S:g} s, the job of an earlier request may be taken for that of a "
            "later one with the same id whose submission is in doubt"
        )


def _about_submission(settings: Settings) -> Iterator[str]:
    if settings.submit.settle_s < SETTLE_S_DEFAULT:
        yield (
            f"submit.settle_s: {settings.submit.settle_s:g} s is below {SETTLE_S_DEFAULT:g} s, the life of a request's "
            "signature and ListJobs' lag; a request may become two jobs"
        )
    least = max(settings.submit.timeout_s, float(SQS_WAIT_S_MAX))
    if settings.controller.drain_s < least:
        yield (
            f"controller.drain_s: {settings.controller.drain_s:g} s is below {least:g} s, what one call may take; "
            "a stop may cut it short; what it had received or sent is settled only after the next start"
        )


def _about_tracking(settings: Settings) -> Iterator[str]:
    if settings.track.lost_after_s < LOST_AFTER_S_WISE:
        yield (
            f"track.lost_after_s: {settings.track.lost_after_s:g} s is short; Batch may not know a new job at first, "
            "and it would end as LOST while it runs"
        )
    if settings.track.interval_s_max > INTERVAL_S_WISE:
        yield (
            f"track.interval_s_max: {settings.track.interval_s_max:g} s is long; "
            "ends are reported late, and Batch forgets ended jobs after some days"
        )


def _about_queues(settings: Settings) -> Iterator[str]:
    for name, entry in settings.queues.items():
        if "*" in name and entry.paused:
            yield 'queues."*".paused: every job queue without an entry that says otherwise is paused'
        limits = settings.queue_limits(name)
        is_given = "max_waiting" in entry.model_fields_set
        if is_given and limits.max_waiting != AUTO and limits.max_waiting > limits.max_in_flight:
            yield f'queues."{name}".max_waiting: is above max_in_flight and never reached'
        if 0 < limits.stuck_after_s < STUCK_AFTER_S_WISE:
            yield (
                f'queues."{name}".stuck_after_s: {limits.stuck_after_s:g} s is short; '
                "instances alone take some minutes to come up, and every job would be told as stuck"
            )


def _about_policy(settings: Settings) -> Iterator[str]:
    for key in ("allowed_job_queues", "allowed_job_definitions"):
        if not getattr(settings.policy, key):
            yield f"policy.{key}: is empty, so every request is rejected"


def _about_sinks(settings: Settings) -> Iterator[str]:
    missing = [
        name
        for name, spec in CATALOGUE.items()
        if spec.is_final and not any(fnmatchcase(name, pattern) for sink in settings.sinks for pattern in sink.events)
    ]
    if missing:
        yield f"sinks: no sink gets {', '.join(missing)}; how those requests end is reported nowhere"
    unnamed = [sink for sink in settings.sinks if "name" not in sink.model_fields_set]
    for kind in dict.fromkeys(sink.type for sink in unnamed):
        names = [sink.name for sink in unnamed if sink.type == kind]
        if len(names) > 1:
            yield (
                f"sinks: {', '.join(names)} have these names by their places; when one is taken out, what waits for it "
                "goes to another: give names"
            )
