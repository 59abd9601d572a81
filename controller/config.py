"""Settings: every key of the configuration with its default, unit, bounds and meaning, in one place.

``__main__.py`` calls ``load_settings``; everything else gets a frozen ``Settings``. The bounds here are only what can't
work; what is merely unwise is told by ``Settings.warnings``. ``config_sources.py`` reads the file and the environment,
``docs/configuration.md`` is made from the fields below.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from controller.config_advice import unwise
from controller.config_errors import described
from controller.config_sources import KeyProblem, Layers, read_environment, read_file, variable_of
from controller.config_table import JSON_KINDS, KeySpec, key_specs
from controller.config_values import (
    Count,
    DefaultTags,
    EventPattern,
    JobDefinitionPattern,
    JobQueueName,
    JobQueuePattern,
    LogLevel,
    Number,
    OverridePaths,
    QueueUrl,
    SinkType,
    StoreUrl,
    WaitingLimit,
    without_secrets,
)
from controller.core.admission import QueueLimits
from controller.core.depth import DEPTH_MAX, DEPTH_MIN
from controller.core.endpoints import queue_meant
from controller.core.errors import Misconfigured
from controller.core.limits import REQUEST_ID_TAG, SETTLE_S_DEFAULT, SQS_VISIBILITY_S_MAX, TAGS_MAX
from controller.core.request import Policy, Rules, Scope
from controller.core.request_policy import override_exists
from controller.core.shapes import Shape
from controller.core.tenants import TENANT_FROM_DEFAULT, NamedBy

ANY_QUEUE: Final = "*"
"""Key of ``queues`` for every job queue without an entry of its own."""


def _key(default: Any, meaning: str, *, unit: str = "", **bounds: Any) -> Any:
    """One documented key."""
    return Field(default, description=meaning, json_schema_extra={"unit": unit}, validate_default=False, **bounds)


class Section(BaseModel):
    """A group of keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def _follow(self, key: str, value: Any) -> None:
        """Set a key that was not given to what goes with those that were; for validators only."""
        if key not in self.model_fields_set:
            object.__setattr__(self, key, value)


# --- the keys -----------------------------------------------------------------------------------------


class ControllerSettings(Section):
    name: str = _key(
        "default",
        "Name of this controller, in the source of events and in `build_info`.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$",
    )
    drain_s: Number = _key(
        30.0,
        "Grace time after SIGTERM: four fifths of it for work in hand, the rest to publish its events.",
        unit="s",
        ge=0,
    )


class AwsSettings(Section):
    region: str | None = _key(
        None,
        "Region of AWS Batch. Default: `AWS_REGION`, then the SDK's chain. "
        "An SQS client's Region comes from its queue URL.",
        pattern=r"^[a-z0-9-]{1,63}$",
    )
    total_rate_per_s: Number = _key(48.0, "Ceiling of all AWS Batch calls together.", unit="calls/s", gt=0)


class StoreSettings(Section):
    url: StoreUrl = _key(
        "sqlite:///batch-controller.db",
        "The store: `sqlite:///relative/path` or `sqlite:////absolute/path`, on a local disk. "
        "The image uses `/var/lib/batch-controller/state.db`.",
    )

    free_mib_min: Count | None = _key(
        None,
        "Room that is kept on the store's disk for what is in flight: with less, nothing new is received or submitted. "
        "Default: a tenth of the disk, at most 256. 0: never.",
        unit="MiB",
        ge=0,
    )

    @property
    def path(self) -> Path:
        """File of the SQLite store."""
        return Path(self.url.removeprefix("sqlite:///"))


def _is_among(queue_url: str, others: Iterable[str | None]) -> bool:
    """Whether one of the others is the same queue, by whatever URL."""
    return queue_meant(queue_url) in {queue_meant(other) for other in others if other is not None}


class IntakeSettings(Section):
    queue_urls: tuple[QueueUrl, ...] = _key((), "URLs of the SQS queues to consume (`--queue-url`, repeatable).")
    dead_letter_queue_url: QueueUrl | None = _key(
        None, "URL of the SQS queue that rejected bodies are sent to, with the reason. Default: none."
    )
    paused: bool = _key(
        False,
        "Receive no requests and no cancels; what was accepted goes on to its end. "
        "For draining, before a move or the end.",
    )
    receivers: Count = _key(2, "Parallel long polls per SQS queue.", unit="calls", ge=1)
    visibility_timeout_s: Count = _key(
        60,
        "How long a received message is hidden from others. It is held for a commit at most half of it.",
        unit="s",
        ge=1,
        le=SQS_VISIBILITY_S_MAX,
    )
    backlog_high: Count = _key(
        100_000, "Requests waiting in the store, per SQS queue, at which receiving stops.", unit="requests", ge=1
    )
    backlog_low: Count = _key(
        80_000,
        "Requests waiting at which receiving goes on. Of the three marks, those not given follow those that are.",
        unit="requests",
        ge=0,
    )
    backlog_max: Count = _key(
        1_000_000,
        "Requests waiting in the store in all, also those of held and paused job queues and those that wait for other "
        "requests. Each SQS queue is sure of an equal part of it, at most of `backlog_high`.",
        unit="requests",
        ge=1,
    )
    tenant_from: tuple[NamedBy, ...] = _key(
        TENANT_FROM_DEFAULT,
        "What names the tenant of a request, the first that is given: `share_identifier` (its member "
        "`shareIdentifier`), `attribute` (the message attribute `tenant`), `message_group` (the message's "
        "MessageGroupId), `source` (its SQS queue). Tenants of a job queue take turns; `[]`: all are one tenant.",
    )
    require_request_id: bool = _key(
        False,
        "Reject requests without a `requestId`. "
        "For those who redrive dead letters: a redriven message has a new MessageId.",
    )

    @model_validator(mode="after")
    def _check(self) -> IntakeSettings:
        if self.backlog_low >= self.backlog_high:
            self._follow("backlog_high", self.backlog_low * 5 // 4 + 1)
        self._follow("backlog_max", max(self.backlog_max, self.backlog_high))
        if self.backlog_high > self.backlog_max:
            self._follow("backlog_high", self.backlog_max)
        self._follow("backlog_low", min(self.backlog_low, self.backlog_high * 4 // 5))
        if self.backlog_low >= self.backlog_high:
            raise KeyProblem("backlog_low", f"must be below backlog_high, which is {self.backlog_high}")
        if self.backlog_max < self.backlog_high:
            raise KeyProblem("backlog_max", f"must be at least backlog_high, which is {self.backlog_high}")
        if len(set(self.tenant_from)) < len(self.tenant_from):
            raise KeyProblem("tenant_from", "names something twice; leave one out")
        if len(set(map(queue_meant, self.queue_urls))) < len(self.queue_urls):
            raise KeyProblem("queue_urls", "names a queue twice; leave one out (receivers sets the parallel polls)")
        if self.dead_letter_queue_url is not None and _is_among(self.dead_letter_queue_url, self.queue_urls):
            raise KeyProblem(
                "dead_letter_queue_url", "is also consumed: each dead letter would come back; give another queue"
            )
        return self


class SubmitSettings(Section):
    rate_per_s: Number = _key(40.0, "Ceiling of SubmitJob calls.", unit="calls/s", gt=0)
    concurrency: Count = _key(32, "SubmitJob calls in flight.", unit="calls", ge=1)
    timeout_s: Number = _key(10.0, "Time-out of one SubmitJob call, after which it is in doubt.", unit="s", ge=1)
    default_tags: DefaultTags = _key(
        {},
        "Tags added to every job. The request's own win, and over 50 these are dropped first. "
        "Needs `batch:TagResource`.",
    )
    tag_request_id: bool = _key(
        True, f"Tag every job with its request id, as `{REQUEST_ID_TAG}`. Needs `batch:TagResource`."
    )
    settle_s: Number = _key(
        SETTLE_S_DEFAULT,
        "How long a submission in doubt is looked for before it is sent again: the life of a request's signature "
        "(300 s) plus ListJobs' lag. With less, a request may become two jobs.",
        unit="s",
        ge=0,
    )


class TrackSettings(Section):
    rate_per_s: Number = _key(8.0, "Ceiling of DescribeJobs calls, each for up to 100 jobs.", unit="calls/s", gt=0)
    concurrency: Count = _key(8, "DescribeJobs calls in flight.", unit="calls", ge=1)
    interval_s_min: Number = _key(
        2.0,
        "Least interval between two looks at a job. Not given, it follows a smaller maximum.",
        unit="s",
        gt=0,
    )
    interval_s_max: Number = _key(
        60.0,
        "Longest interval between two looks at a job, if the budget allows; "
        "up to 10 times as much while events announce what ends.",
        unit="s",
        gt=0,
    )
    lost_after_s: Number = _key(
        600.0, "How long Batch must not know a job before it ends as LOST, at least 3 looks.", unit="s", ge=1
    )
    events_queue_url: QueueUrl | None = _key(
        None, "URL of the SQS queue that an EventBridge rule for AWS Batch feeds. Default: none; polling alone."
    )

    @model_validator(mode="after")
    def _check(self) -> TrackSettings:
        self._follow("interval_s_min", min(self.interval_s_min, self.interval_s_max))
        self._follow("interval_s_max", max(self.interval_s_min, self.interval_s_max))
        if self.interval_s_max < self.interval_s_min:
            raise KeyProblem("interval_s_max", f"must be at least interval_s_min, which is {self.interval_s_min:g}")
        return self


class ListSettings(Section):
    rate_per_s: Number = _key(5.0, "Ceiling of ListJobs, DescribeJobQueues and other reads.", unit="calls/s", gt=0)


class TerminateSettings(Section):
    rate_per_s: Number = _key(10.0, "Ceiling of TerminateJob calls.", unit="calls/s", gt=0)


_LIMITS: Final = QueueLimits()


class QueueSettings(Section):
    """Limits of one Batch job queue. What is not given is taken from ``"*"``, then from the defaults."""

    max_in_flight: Count = _key(
        _LIMITS.max_in_flight, "Jobs submitted and not yet at their end. An array job is one.", unit="jobs", ge=1
    )
    max_waiting: WaitingLimit = _key(
        _LIMITS.max_waiting,
        "Jobs SUBMITTED, PENDING or RUNNABLE in Batch; bounds what is added. An array job counts only until it is "
        "PENDING, and its children never. `auto`: as many as keep compute fed, from how fast they start, within "
        f"{DEPTH_MIN} and {DEPTH_MAX:,}.",
        unit="jobs",
    )
    weight: Number = _key(_LIMITS.weight, "Share of the submissions relative to other job queues.", gt=0)
    paused: bool = _key(_LIMITS.paused, "Submit nothing to it; its requests wait.")
    aging_s: Number = _key(_LIMITS.aging_s, "Waiting so long weighs as much as one step of priority.", unit="s", gt=0)
    stuck_after_s: Number = _key(
        _LIMITS.stuck_after_s,
        "A job RUNNABLE for longer is stuck: why is looked for and told (`job.stuck`, `job_queue.blocked`). 0: never.",
        unit="s",
        ge=0,
    )


class PolicySettings(Section):
    allowed_job_queues: tuple[JobQueuePattern, ...] = _key(
        ("*",), "Patterns of the names of job queues that requests may name."
    )
    allowed_job_definitions: tuple[JobDefinitionPattern, ...] = _key(
        ("*",), "Patterns of the names of job definitions, with or without `:revision`."
    )
    allowed_overrides: OverridePaths = _key(
        None, "Dotted paths of the SubmitJob members that a request may carry beside the required ones. Default: all."
    )


class SinkSettings(Section):
    """Where events go."""

    type: SinkType = Field(
        description="`log` (standard output) or `sqs`. `sns`, `eventbridge` and `webhook` are not built yet.",
        json_schema_extra={"unit": ""},
    )
    name: str = _key(
        "",
        "Name in metrics, unique. Default: the type, of a second one `sqs-2` and so on. Events that wait belong to the "
        "name: give names before you change the order of sinks.",
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
    )
    queue_url: QueueUrl | None = _key(None, "Queue of an `sqs` sink.")
    events: tuple[EventPattern, ...] = _key(("*",), "Patterns of the names of the events it gets.")

    @model_validator(mode="after")
    def _check(self) -> SinkSettings:
        if self.type == "sqs" and self.queue_url is None:
            raise KeyProblem("queue_url", "must be given for an sqs sink")
        if self.type != "sqs" and self.queue_url is not None:
            raise KeyProblem("queue_url", f"means nothing for a {self.type} sink; leave it out")
        if not self.events:
            raise KeyProblem("events", 'is empty, so that nothing would go there; leave it out, or give ["*"]')
        if self.name in ("dead_letter", "dead-letter"):
            raise KeyProblem("name", "is the dead-letter queue's own; give another")
        return self

    def takes(self, event: str) -> bool:
        """Whether an event of this name goes to this sink."""
        return any(fnmatchcase(event, pattern) for pattern in self.events)


class RetentionSettings(Section):
    final_s: Number = _key(
        1_296_000.0,
        "How long an ended request is remembered, so that its duplicates are known; and for how long at most a request "
        "waits for one that it depends on.",
        unit="s",
        gt=0,
    )


class HttpSettings(Section):
    host: str = _key(
        "0.0.0.0",  # noqa: S104 - a pod's own
        "Address to serve metrics and health on. Requests (`/requests`) are shown to the loopback alone: with another "
        "address than `0.0.0.0` or the loopback's, to nobody.",
        min_length=1,
    )
    port: Count = _key(8080, "Port; 0 takes a free one.", ge=0, le=65_535)


class LogSettings(Section):
    level: LogLevel = _key("info", "Least level of what is logged.")
    format: Literal["json", "console"] = _key("json", "`json` lines, or `console` for people.")


class Settings(BaseSettings):
    """The configuration, complete and checked. Made by ``load_settings``."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    controller: ControllerSettings = ControllerSettings()
    aws: AwsSettings = AwsSettings()
    store: StoreSettings = StoreSettings()
    intake: IntakeSettings = IntakeSettings()
    submit: SubmitSettings = SubmitSettings()
    track: TrackSettings = TrackSettings()
    list: ListSettings = ListSettings()
    terminate: TerminateSettings = TerminateSettings()
    queues: Mapping[JobQueueName, QueueSettings] = Field(
        default_factory=dict, description="Limits per Batch job queue, by name; `*` for the rest."
    )
    policy: PolicySettings = PolicySettings()
    sinks: tuple[SinkSettings, ...] = Field(
        default=(SinkSettings(type="log", name="log"),),
        description="Where events go.",
    )
    retention: RetentionSettings = RetentionSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing is read from the process's surroundings behind the back of ``load_settings``."""
        return (init_settings,)

    @field_validator("sinks", mode="after")
    @classmethod
    def _named_by_type(cls, sinks: tuple[SinkSettings, ...]) -> tuple[SinkSettings, ...]:
        taken = {sink.name for sink in sinks}
        for sink in sinks:
            if not sink.name:
                names = (sink.type if number == 1 else f"{sink.type}-{number}" for number in count(1))
                name = next(each for each in names if each not in taken)
                taken.add(name)
                sink._follow("name", name)
        return sinks

    @model_validator(mode="after")
    def _check(self) -> Settings:
        if not self.intake.queue_urls:
            raise KeyProblem("intake.queue_urls", "must be given: --queue-url URL, or a list of SQS queue URLs")
        if self.submit.tag_request_id and len(self.submit.default_tags) >= TAGS_MAX:
            raise KeyProblem("submit.default_tags", f"with the request id's tag at most {TAGS_MAX - 1}; leave some out")
        names = [sink.name for sink in self.sinks]
        for index, sink in enumerate(self.sinks):
            if sink.name in names[:index]:
                raise KeyProblem(f"sinks[{index}].name", f"'{sink.name}' is another sink's; give one of its own")
            if sink.queue_url is not None and _is_among(sink.queue_url, self.intake.queue_urls):
                raise KeyProblem(
                    f"sinks[{index}].queue_url", "is also consumed: each event would come back; give another queue"
                )
        self._check_events_queue()
        return self

    def _check_events_queue(self) -> None:
        url = self.track.events_queue_url
        if url is None:
            return
        others = (*self.intake.queue_urls, self.intake.dead_letter_queue_url, *(sink.queue_url for sink in self.sinks))
        if _is_among(url, others):
            raise KeyProblem(
                "track.events_queue_url",
                "is used for something else too; give EventBridge's events a queue of their own",
            )

    def queue_limits(self, name: str) -> QueueLimits:
        """Limits of a Batch job queue: its own keys, then those of ``"*"``, then the defaults."""
        given: dict[str, Any] = {}
        for entry in (self.queues.get(ANY_QUEUE), self.queues.get(name)):
            if entry is not None:
                given.update({key: getattr(entry, key) for key in entry.model_fields_set})
        return QueueLimits(**given)

    def request_rules(self, *, shapes: Shape, scope: Scope) -> Rules:
        """Everything a message is judged by; ``shapes`` is the input of SubmitJob."""
        return Rules(
            shapes=shapes,
            policy=Policy(**dict(self.policy)),
            scope=scope,
            require_request_id=self.intake.require_request_id,
            default_tags=self.submit.default_tags,
            tag_request_id=self.submit.tag_request_id,
        )

    def warnings(self) -> builtins.list[str]:
        """What is allowed and unwise, one sentence each, with the key first."""
        return unwise(self)

    def effective(self) -> dict[str, Any]:
        """The whole configuration as plain values, secrets removed, the limits of queues completed."""
        values: dict[str, Any] = self.model_dump(mode="json")
        if values["policy"]["allowed_overrides"] is None:
            values["policy"]["allowed_overrides"] = ["*"]  # the same, in a form that a file may have
        values["queues"] = {name: asdict(self.queue_limits(name)) for name in sorted({ANY_QUEUE, *self.queues})}
        cleaned: dict[str, Any] = without_secrets(values)
        return cleaned


def routes(settings: Settings) -> Callable[[str], Sequence[str]]:
    """Event name → names of the sinks that get it. The catalogue is small, so each name is matched once."""

    @cache
    def sinks_of(event: str) -> tuple[str, ...]:
        return tuple(sink.name for sink in settings.sinks if sink.takes(event))

    return sinks_of


# --- loading ------------------------------------------------------------------------------------------

_GROUPS: Final[Mapping[str, tuple[str, type[BaseModel]]]] = {
    "queues": ("queues.<name>.", QueueSettings),
    "sinks": ("sinks[].", SinkSettings),
}


_NO_QUEUE_URL: Final = "https://no-queue.invalid/0/none"


def keys() -> tuple[KeySpec, ...]:
    """Every key of the configuration, in the order of ``Settings``."""
    return tuple(key_specs(Settings, groups=_GROUPS))


def load_settings(
    config_file: Path | None,
    *,
    queue_urls: Sequence[str] = (),
    environ: Mapping[str, str],
    submit_job: Callable[[], Shape] | None = None,
    is_consuming: bool = True,
) -> Settings:
    """The configuration from ``--queue-url``, the environment, the file and the defaults; the first with a key wins.

    ``submit_job`` reads the input of SubmitJob, which costs about 0.1 s, and is called if ``policy.allowed_overrides``
    names parts of members; None: they are taken as they are. ``is_consuming``: without it no queue to consume need be
    given, for a command that receives nothing.

    Raises Misconfigured with one line per problem: key, source, what is wrong, what to do.
    """
    specs = keys()
    layers = Layers(Settings)
    if config_file is not None:
        layers.put_file(read_file(config_file), config_file)
    if environ.get("AWS_REGION") and layers.value("aws.region") is None:
        layers.put("aws.region", environ["AWS_REGION"], origin="environment AWS_REGION")
    is_json = {spec.name: spec.kind in JSON_KINDS for spec in specs if spec.has_own_variable}
    values, unread = read_environment(environ, keys=is_json | dict.fromkeys(_GROUPS, True))
    problems = list(unread.values())
    for key, value in values.items():
        layers.put(key, value, origin=f"environment {variable_of(key)}")
    if queue_urls:
        layers.put("intake.queue_urls", list(queue_urls), origin="flag --queue-url")
    if not is_consuming and not layers.value("intake.queue_urls"):
        layers.put("intake.queue_urls", [_NO_QUEUE_URL], origin="stand-in")
    try:
        settings = Settings(**_from(layers))
    except ValidationError as error:
        problems += described(error, layers, specs=specs, unread=unread)
    else:
        if submit_job is not None:
            problems += _unknown_overrides(settings.policy, layers, submit_job)
    if problems:
        raise Misconfigured("\n".join(problems))
    return settings


def _unknown_overrides(policy: PolicySettings, layers: Layers, submit_job: Callable[[], Shape]) -> Iterator[str]:
    """Entries whose member is SubmitJob's and whose part of it is not."""
    for index, path in enumerate(policy.allowed_overrides or ()):
        if "." in path and not override_exists(path, submit_job()):
            key = "policy.allowed_overrides"
            yield (
                f"{key}[{index}] ({layers.origin(key.split('.'))}): names no part of that member of SubmitJob; "
                "`batch-controller schema` shows all (such as containerOverrides.environment)"
            )


def _from(layers: Layers) -> dict[str, Any]:
    """Arguments that make ``Settings`` read these layers and nothing else."""
    return {"_build_sources": ((layers,), {})}
