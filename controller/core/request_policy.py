"""What a controller lets through: job queues, job definitions and overrides by policy, ARNs by account and Region."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from controller.core.problems import ErrorCode, Problems, key_path
from controller.core.request_json import JSON
from controller.core.request_rules import OWN_MEMBERS
from controller.core.shapes import Kind, Shape

REQUIRED_MEMBERS: Final = frozenset({"jobName", "jobQueue", "jobDefinition"})
"""What every request carries; every other member of SubmitJob is an override."""
OVERRIDES: Final = (
    "arrayProperties",
    "consumableResourcePropertiesOverride",
    "containerOverrides",
    "dependsOn",
    "ecsPropertiesOverride",
    "eksPropertiesOverride",
    "nodeOverrides",
    "parameters",
    "propagateTags",
    "retryStrategy",
    "schedulingPriorityOverride",
    "shareIdentifier",
    "tags",
    "timeout",
)
"""As the SDK's model has them; for the configuration, which is read without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Shell-style patterns, compared with case; see ``docs/messages.md``."""

    allowed_job_queues: tuple[str, ...] = ("*",)
    """On the queue's name."""
    allowed_job_definitions: tuple[str, ...] = ("*",)
    """On the definition's name, without and with ``:revision``."""
    allowed_overrides: tuple[str, ...] | None = None
    """Dotted paths of members that a request may carry beside the required ones; None: all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose jobs this controller submits."""

    region: str | None
    """None: not known, as where messages are judged without a controller; then the Regions of ARNs are not checked."""
    account: str | None
    """None: not known yet, then the accounts of ARNs are not checked."""


def name_of(reference: str) -> str:
    """The name in a name or ARN of a job queue or job definition; a definition's with its revision, if it has one."""
    return reference.rpartition("/")[2]


def check_scope(reference: str, path: str, scope: Scope, problems: Problems) -> None:
    """An ARN must be of the controller's own account and Region; ``reference`` is well formed."""
    if not reference.startswith("arn:"):
        return
    _, _, _, region, account, _ = reference.split(":", 5)
    if scope.region is not None and region != scope.region:
        text = f"the ARN is of another Region than the controller's, {scope.region}"
        problems.add(path, text, ErrorCode.WRONG_SCOPE)
    if scope.account is not None and account != scope.account:
        problems.add(path, "the ARN is of another account than the controller's", ErrorCode.WRONG_SCOPE)


def check_queue_allowed(reference: str, policy: Policy, problems: Problems) -> None:
    if not _is_matched([name_of(reference)], policy.allowed_job_queues):
        text = "policy.allowed_job_queues does not let this job queue through"
        problems.add("jobQueue", text, ErrorCode.NOT_ALLOWED)


def check_definition_allowed(reference: str, policy: Policy, problems: Problems) -> None:
    name = name_of(reference)
    if not _is_matched([name.partition(":")[0], name], policy.allowed_job_definitions):
        text = "policy.allowed_job_definitions does not let this job definition through"
        problems.add("jobDefinition", text, ErrorCode.NOT_ALLOWED)


def _is_matched(names: Iterable[str], patterns: Iterable[str]) -> bool:
    patterns = tuple(patterns)
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


# --- overrides ----------------------------------------------------------------------------------------------


def check_overrides_allowed(members: Mapping[str, JSON], policy: Policy, problems: Problems) -> None:
    """Every member beside the required ones must be named by an entry of ``allowed_overrides``, or lie below one."""
    if policy.allowed_overrides is None:
        return
    entries = [tuple(entry.split(".")) for entry in policy.allowed_overrides]
    for name, value in members.items():
        if name not in REQUIRED_MEMBERS:
            _check_member_allowed(name, value, name, entries, problems)


def _check_member_allowed(
    name: str, value: JSON, path: str, entries: Sequence[tuple[str, ...]], problems: Problems
) -> None:
    below = [entry[1:] for entry in entries if fnmatchcase(name, entry[0])]
    if () in below:
        return
    if not below or not isinstance(value, (dict, list)):
        problems.add(path, "policy.allowed_overrides does not let this member through", ErrorCode.NOT_ALLOWED)
        return
    for member_name, member, member_path in _members_below(value, path):
        _check_member_allowed(member_name, member, member_path, below, problems)
        if problems.is_full:
            return


def override_exists(path: str, shapes: Shape) -> bool:
    """Whether an entry of ``allowed_overrides`` can let anything through; ``shapes`` is the input of SubmitJob."""
    return _exists(path.split("."), shapes)


def _exists(parts: Sequence[str], shape: Shape) -> bool:
    while shape.kind is Kind.LIST:
        assert shape.element is not None
        shape = shape.element
    if not parts:
        return True
    if shape.kind is Kind.MAP:
        assert shape.element is not None
        return _exists(parts[1:], shape.element)
    members = {**shape.members, **OWN_MEMBERS.get(shape.name, {})}
    return any(_exists(parts[1:], member) for name, member in members.items() if fnmatchcase(name, parts[0]))


def _members_below(value: JSON, path: str) -> Iterable[tuple[str, JSON, str]]:
    """(name, value, path) of the members of an object, or of the objects in a list: paths of policy skip lists."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield name, member, key_path(path, name)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _members_below(entry, f"{path}[{index}]")
