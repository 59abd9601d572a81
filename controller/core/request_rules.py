"""AWS Batch's documented rules for SubmitJob, by shape and member: what the SDK's model does not say or not check.

``MEMBER_RULES`` are the rules of one member, checked by ``request_check.py`` and printed by ``request_schema.py``;
``STRUCTURE_RULES`` relate the members of one structure. They apply wherever the shape stands. Rules that relate
distant members, or need the configuration, are in ``request.py``.

Sources: API reference of AWS Batch (2016-08-10), SubmitJob and the types it names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from controller.core import limits
from controller.core.problems import ErrorCode, Problems
from controller.core.request_json import JSON
from controller.core.shapes import Kind, Shape

RESERVED_ENVIRONMENT_PREFIX: Final = "AWS_BATCH"
RESERVED_TAG_PREFIX: Final = "aws:"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRule:
    """The rule of one member, beyond its type. ``says`` completes "must …" and never quotes a value."""

    says: str
    min: int | None = None
    """Least value of a number; least length of a string or list."""
    max: int | None = None
    pattern: re.Pattern[str] | None = None
    """A string must match it whole. Written so that JSON Schema's dialect means the same."""
    has_filled_entries: bool = False
    """No entry of the list of strings is empty."""
    is_any_case: bool = False
    """The model's choices are compared without case."""


def _matches(pattern: str, says: str) -> MemberRule:
    return MemberRule(pattern=re.compile(pattern), says=says)


_NAME: Final = "[A-Za-z0-9_-]{1,128}"
_ARN: Final = "arn:aws[a-z-]*:batch:[a-z0-9-]+:[0-9]{12}"

_COMMAND: Final = MemberRule(has_filled_entries=True, says="hold no empty string")
_VARIABLE: Final = _matches(
    f"(?!{RESERVED_ENVIRONMENT_PREFIX})[\\s\\S]*",
    f"not begin with {RESERVED_ENVIRONMENT_PREFIX}, which is reserved for AWS Batch",
)
_GLOB: Final = _matches(r"[^*]{1,512}|[^*]{0,511}\*", "be 1 to 512 characters with * only at the end")

REQUEST_ID_RULE: Final = _matches(
    limits.REQUEST_ID_PATTERN, f"be 1 to {limits.REQUEST_ID_LENGTH_MAX} of letters, digits and _ . : / = + @ -"
)
DEPENDENCY_REQUEST_ID: Final = "requestId"
"""Our own member of a dependency: another request, which may not be submitted yet."""

MEMBER_RULES: Final[Mapping[str, Mapping[str, MemberRule]]] = {
    "SubmitJobRequest": {
        "jobName": _matches(
            "[A-Za-z0-9][A-Za-z0-9_-]{0,127}",
            "be 1 to 128 letters, digits, hyphens and underscores, beginning with a letter or digit",
        ),
        "jobQueue": _matches(
            f"({_ARN}:job-queue/)?{_NAME}",
            "be a job queue's name (1 to 128 letters, digits, hyphens and underscores) "
            "or ARN (arn:aws:batch:REGION:ACCOUNT:job-queue/NAME)",
        ),
        "jobDefinition": _matches(
            f"({_ARN}:job-definition/)?{_NAME}(:[1-9][0-9]{{0,9}})?",
            "be a job definition's name (1 to 128 letters, digits, hyphens and underscores) "
            "or ARN (arn:aws:batch:REGION:ACCOUNT:job-definition/NAME), with or without :REVISION",
        ),
        "shareIdentifier": _matches(
            f"[A-Za-z0-9]{{1,{limits.SHARE_IDENTIFIER_LENGTH_MAX}}}\\*?",
            f"be 1 to {limits.SHARE_IDENTIFIER_LENGTH_MAX} letters and digits, with or without a final *",
        ),
        "schedulingPriorityOverride": MemberRule(
            min=0, max=limits.SCHEDULING_PRIORITY_MAX, says=f"be from 0 to {limits.SCHEDULING_PRIORITY_MAX:,}"
        ),
    },
    "ArrayProperties": {
        "size": MemberRule(
            min=limits.ARRAY_SIZE_MIN,
            max=limits.ARRAY_SIZE_MAX,
            says=f"be from {limits.ARRAY_SIZE_MIN} to {limits.ARRAY_SIZE_MAX:,}",
        ),
    },
    "JobDependency": {
        "jobId": MemberRule(min=1, says="not be empty"),
        DEPENDENCY_REQUEST_ID: REQUEST_ID_RULE,
    },
    "JobTimeout": {
        "attemptDurationSeconds": MemberRule(min=limits.TIMEOUT_S_MIN, says=f"be at least {limits.TIMEOUT_S_MIN}"),
    },
    "RetryStrategy": {
        "attempts": MemberRule(
            min=limits.ATTEMPTS_MIN,
            max=limits.ATTEMPTS_MAX,
            says=f"be from {limits.ATTEMPTS_MIN} to {limits.ATTEMPTS_MAX}",
        ),
        "evaluateOnExit": MemberRule(
            max=limits.EVALUATE_ON_EXIT_MAX, says=f"have at most {limits.EVALUATE_ON_EXIT_MAX} entries"
        ),
    },
    "EvaluateOnExit": {
        "action": MemberRule(is_any_case=True, says="be RETRY or EXIT, in any case"),
        "onStatusReason": _GLOB,
        "onReason": _GLOB,
        "onExitCode": _matches(r"[0-9]{1,512}|[0-9]{0,511}\*", "be 1 to 512 digits with * only at the end"),
    },
    "ContainerOverrides": {"command": _COMMAND},
    "TaskContainerOverrides": {"command": _COMMAND},
    "KeyValuePair": {"name": _VARIABLE},
    "EksContainerEnvironmentVariable": {"name": _VARIABLE},
    "EcsPropertiesOverride": {"taskProperties": MemberRule(max=1, says="have at most 1 entry")},
    "NodeOverrides": {"numNodes": MemberRule(min=1, says="be at least 1")},
    "NodePropertyOverride": {
        "targetNodes": _matches("[0-9]*:[0-9]*|[0-9]+", "be a range of node indexes such as 0:3, :3 or 4:"),
    },
}

PRIORITY_RULE: Final = MemberRule(
    min=limits.PRIORITY_MIN, max=limits.PRIORITY_MAX, says=f"be from {limits.PRIORITY_MIN:,} to {limits.PRIORITY_MAX:,}"
)
REASON_RULE: Final = MemberRule(
    max=limits.TERMINATE_REASON_LENGTH_MAX, says=f"be at most {limits.TERMINATE_REASON_LENGTH_MAX:,} characters"
)
"""Our own members' rules."""

OWN_MEMBERS: Final[Mapping[str, Mapping[str, Shape]]] = {
    "JobDependency": {DEPENDENCY_REQUEST_ID: Shape(name="RequestId", kind=Kind.STRING)},
}
"""By shape of SubmitJob: members that the message has beside the model's."""


def _resource(kind: str, value: str) -> str:
    entry = f'{{"type": "{kind}", "value": "{value}"}}'
    return f"it is an entry of containerOverrides.resourceRequirements, such as {entry}"


_OF_THE_MESSAGE: Final = "it is an attribute of the SQS message, beside the body"
_OF_SENDING: Final = "it is a parameter of SQS's SendMessage, beside the body"

ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(("vcpus", "vcpu", "cpu"), _resource("VCPU", "4")),
    "memory": _resource("MEMORY", "8192"),
    **dict.fromkeys(("gpus", "gpu"), _resource("GPU", "1")),
    **{
        member.lower(): f"it belongs below another: {owner}.{member}"
        for owner, members in {
            "containerOverrides": ("command", "environment", "resourceRequirements", "instanceType"),
            "retryStrategy": ("attempts", "evaluateOnExit"),
            "timeout": ("attemptDurationSeconds",),
            "arrayProperties": ("size",),
        }.items()
        for member in members
    },
    **dict.fromkeys(("tenant", "traceparent", "tracestate"), _OF_THE_MESSAGE),
    **dict.fromkeys(("delayseconds", "messagegroupid", "messagededuplicationid", "messageattributes"), _OF_SENDING),
}
"""Where names belong that are no members of the message, in lower case."""

NO_RULES: Final[Mapping[str, MemberRule]] = {}


# --- relations between the members of one structure -----------------------------------------------------


def _check_retry_strategy(value: Mapping[str, JSON], path: str, problems: Problems) -> None:
    if "evaluateOnExit" in value and "attempts" not in value:
        problems.add(f"{path}.attempts", "required with evaluateOnExit")


def _check_dependency(value: Mapping[str, JSON], path: str, problems: Problems) -> None:
    named = [name for name in ("jobId", DEPENDENCY_REQUEST_ID) if name in value]
    if value.get("type") == "SEQUENTIAL":
        for name in named:
            problems.add(
                f"{path}.{name}", "must be left out with type SEQUENTIAL, which orders the array's own children"
            )
    elif not named:
        problems.add(f"{path}.jobId", f"required, or {DEPENDENCY_REQUEST_ID}, unless type is SEQUENTIAL")
    elif len(named) > 1:
        problems.add(f"{path}.{DEPENDENCY_REQUEST_ID}", "must be left out beside jobId: give one of the two")


STRUCTURE_RULES: Final[Mapping[str, Callable[[Mapping[str, JSON], str, Problems], None]]] = {
    "RetryStrategy": _check_retry_strategy,
    "JobDependency": _check_dependency,
}


# --- rules of the request as a whole that need no configuration -------------------------------------------


def check_relations(members: Mapping[str, JSON], problems: Problems) -> None:
    """What ties distant members together: dependencies and the array."""
    dependencies = members.get("dependsOn")
    if not isinstance(dependencies, list):
        return
    types = [entry.get("type") if isinstance(entry, dict) else None for entry in dependencies]
    if len(dependencies) - types.count("SEQUENTIAL") > limits.DEPENDENCIES_MAX:
        problems.add("dependsOn", f"must name at most {limits.DEPENDENCIES_MAX} jobs")
    if types.count("SEQUENTIAL") > 1:
        problems.add("dependsOn", "must have at most 1 entry of type SEQUENTIAL")
    array = members.get("arrayProperties")
    if "SEQUENTIAL" in types and not (isinstance(array, dict) and "size" in array):
        problems.add(f"dependsOn[{types.index('SEQUENTIAL')}].type", "SEQUENTIAL needs arrayProperties.size")


def check_tags(tags: JSON, *, own_tag: str | None, own_value: str | None, problems: Problems) -> None:
    """Number, lengths and reserved names. ``own_tag`` is the key the controller adds, if it adds one;
    ``own_value`` the value it must have, None if that is not known."""
    if not isinstance(tags, dict):
        return
    room = limits.TAGS_MAX - (own_tag is not None and own_tag not in tags)
    if len(tags) > room:
        added = " beside the one that the controller adds" if room < limits.TAGS_MAX else ""
        problems.add("tags", f"must have at most {room} entries{added}", ErrorCode.INVALID_REQUEST)
    if any(key[: len(RESERVED_TAG_PREFIX)].casefold() == RESERVED_TAG_PREFIX for key in tags):
        problems.add("tags", f"must have no key that begins with {RESERVED_TAG_PREFIX}, which is reserved for AWS")
    # Another value under our key would hide the job from the look-up that settles a submission in doubt.
    given = tags.get(limits.REQUEST_ID_TAG, own_value)
    if own_value is not None and given != own_value:
        problems.add(f"tags.{limits.REQUEST_ID_TAG}", "must be the request's own id, or left out")


def check_overrides_length(members: Mapping[str, JSON], problems: Problems, measure: Callable[[JSON], int]) -> None:
    """Container overrides as ECS would get them; ``measure`` is a value's length as compact JSON.

    SubmitJob takes longer ones, and the job ends FAILED with "Container Overrides length must be at most 8192".
    """

    def check(value: JSON, path: str) -> None:
        if isinstance(value, (dict, list)) and (length := measure(value)) > limits.OVERRIDES_LENGTH_MAX:
            text = f"{length:,} characters as compact JSON; Amazon ECS takes at most {limits.OVERRIDES_LENGTH_MAX:,}"
            problems.add(path, text, ErrorCode.TOO_LARGE)

    def check_all(owner: Mapping[str, JSON], prefix: str) -> None:
        check(owner.get("containerOverrides"), f"{prefix}containerOverrides")
        properties = owner.get("ecsPropertiesOverride")
        for index, task in enumerate(entries_of(properties, "taskProperties")):
            path = f"{prefix}ecsPropertiesOverride.taskProperties[{index}].containers"
            check(task.get("containers") if isinstance(task, dict) else None, path)

    check_all(members, "")
    for index, node in enumerate(entries_of(members.get("nodeOverrides"), "nodePropertyOverrides")):
        if isinstance(node, dict):
            check_all(node, f"nodeOverrides.nodePropertyOverrides[{index}].")


def entries_of(owner: JSON, member: str) -> list[JSON]:
    """Of a list that a structure may have; none if it has none, or something else in its place."""
    entries = owner.get(member) if isinstance(owner, dict) else None
    return entries if isinstance(entries, list) else []
