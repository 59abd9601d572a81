"""Turns an SQS message body into a request, or into a rejection that tells a person what to change.

``parse`` is called by intake for each message, ``submit_arguments`` by the submit stage for each send. Both are
pure. A body is SubmitJob's input in JSON with a few members of our own (``docs/messages.md``); all problems of a
body are reported at once, and none quotes a value of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controller.core import limits
from controller.core.job import Job
from controller.core.problems import ErrorCode, Problems, joined
from controller.core.request_check import check_integer, check_repeated, check_request
from controller.core.request_json import JSON, RepeatedMembers, decode, kind_of
from controller.core.request_policy import (
    Policy,
    Scope,
    check_definition_allowed,
    check_overrides_allowed,
    check_queue_allowed,
    check_scope,
    name_of,
)
from controller.core.request_rules import (
    DEPENDENCY_REQUEST_ID,
    MEMBER_RULES,
    PRIORITY_RULE,
    REASON_RULE,
    REQUEST_ID_RULE,
    check_overrides_length,
    check_relations,
    check_tags,
    entries_of,
)
from controller.core.request_schema import message_schema
from controller.core.shapes import Shape
from controller.core.timestamps import instant

__all__ = [
    "CancelRequest",
    "Policy",
    "Rejection",
    "Rules",
    "Scope",
    "SubmitRequest",
    "batch_job_name",
    "message_schema",
    "parse",
    "submit_arguments",
]

SUBMIT_MEMBERS: Final = ("requestId", "priority", "expiresAt", "action")
"""Members of a submit message that are ours, not SubmitJob's."""
CANCEL_MEMBERS: Final = ("action", "requestId", "reason")
ENVELOPES: Final = (
    (
        {"Type", "TopicArn", "Message", "SubscribeURL"},
        "is no request but a message of SNS about the subscription itself: to confirm it, open its SubscribeURL",
    ),
    (
        {"Type", "TopicArn", "Message"},
        "is what SNS wraps a message in: switch on the subscription's raw message delivery",
    ),
    (
        {"Records"},
        "is a notification, as Amazon S3 sends them, and no request: "
        "have a function, or the input transformer of an EventBridge rule, make a request of it",
    ),
    (
        {"Service", "Event", "Bucket"},
        "is what Amazon S3 tries a notification out with, and its notifications are no requests: "
        "have a function, or the input transformer of an EventBridge rule, make requests of them",
    ),
    ({"MessageBody"}, "is the input of SQS's SendMessage: send what it has as MessageBody as the body"),
    ({"source", "detail-type", "detail"}, "is an event of EventBridge: give the rule's target the input path $.detail"),
)
"""By members that are none of SubmitJob's, the first that fits; one problem in place of one for each of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Everything a body is judged by."""

    shapes: Shape
    """Input of SubmitJob."""
    policy: Policy
    scope: Scope
    require_request_id: bool = False
    default_tags: Mapping[str, str] = field(default_factory=dict)
    tag_request_id: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRequest:
    """A valid request for one job."""

    request_id: str
    job_name: str
    job_queue: str
    """Name of the queue."""
    job_queue_ref: str
    """The queue as given, name or ARN."""
    job_definition: str
    """As given."""
    priority: int
    array_size: int | None
    expires_at: float | None
    """Seconds since the epoch."""
    share_identifier: str | None = None
    depends_on: tuple[str, ...] = ()
    """Ids of other requests, each once."""
    content_hash: bytes
    """SHA-256, 32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """A valid demand to cancel a request."""

    request_id: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A body that is refused."""

    reason: str
    """All problems, at most 1 KiB in UTF-8; no value of the body is quoted."""
    error_code: str
    """Of the gravest problem, see ``problems.ErrorCode``."""
    reason_class: str
    """``invalid_request`` or ``not_allowed``."""
    request_id: str | None
    """The body's own, if it has a valid one."""
    problems: tuple[str, ...]


def parse(body: str, *, message_id: str, rules: Rules) -> SubmitRequest | CancelRequest | Rejection:
    """What the message asks for. Never raises, whatever the body; ``message_id`` is the id of a request without one."""
    problems = Problems()
    message = decode(body, problems)
    if message is None:
        return _rejection(problems, None)
    for members, remedy in ENVELOPES:
        if members <= message.keys():
            problems.add("", f"the body {remedy}")
            return _rejection(problems, None)
    if _asks_for_cancel(message):
        return _parse_cancel(message, problems)
    return _parse_submit(body, message, message_id, rules, problems)


def _rejection(problems: Problems, request_id: str | None) -> Rejection:
    code, texts = problems.gravest(), problems.texts()
    return Rejection(
        reason=joined(texts),
        error_code=code.value,
        reason_class="not_allowed" if code is ErrorCode.NOT_ALLOWED else "invalid_request",
        request_id=request_id,
        problems=texts,
    )


# --- our own members ------------------------------------------------------------------------------------

_REQUEST_ID: Final = re.compile(limits.REQUEST_ID_PATTERN)
_JOB_QUEUE: Final = MEMBER_RULES["SubmitJobRequest"]["jobQueue"].pattern
_JOB_DEFINITION: Final = MEMBER_RULES["SubmitJobRequest"]["jobDefinition"].pattern
assert _JOB_QUEUE is not None
assert _JOB_DEFINITION is not None


def _asks_for_cancel(message: dict[str, JSON]) -> bool:
    return message.get("action") == "cancel"


def _request_id(message: dict[str, JSON], problems: Problems) -> str | None:
    """The body's own id if it is valid; given twice, it is anybody's guess."""
    if "requestId" not in message:
        return None
    value = message["requestId"]
    if type(value) is not str:
        problems.add("requestId", f"must be a string, not {kind_of(value)}")
    elif _REQUEST_ID.fullmatch(value) is None:
        problems.add("requestId", f"must {REQUEST_ID_RULE.says}")
    elif not (type(message) is RepeatedMembers and "requestId" in message.repeated):
        return value
    return None


def _priority(message: dict[str, JSON], problems: Problems) -> int:
    value = message.get("priority", 0)
    check_integer(value, "priority", problems, PRIORITY_RULE, limits.PRIORITY_MIN, limits.PRIORITY_MAX)
    return value if type(value) is int else 0


def _expires_at(message: dict[str, JSON], problems: Problems) -> float | None:
    if "expiresAt" not in message:
        return None
    value = message["expiresAt"]
    expires_at = instant(value) if type(value) is str else None
    if expires_at is None:
        problems.add("expiresAt", "must be a time as RFC 3339 writes it, with Z or an offset: 2030-01-31T12:00:00Z")
    return expires_at


def _parse_cancel(message: dict[str, JSON], problems: Problems) -> CancelRequest | Rejection:
    check_repeated(message, "", problems)
    for name in message:
        if name not in CANCEL_MEMBERS:
            problems.add_unknown_member("", name, CANCEL_MEMBERS, of="a cancel message")
    request_id = _request_id(message, problems)
    if "requestId" not in message:
        problems.add("requestId", "required: it names the request to cancel")
    reason = message.get("reason", "")
    if type(reason) is not str:
        problems.add("reason", f"must be a string, not {kind_of(reason)}")
    elif len(reason) > limits.TERMINATE_REASON_LENGTH_MAX:
        problems.add("reason", f"must {REASON_RULE.says}")
    if problems or request_id is None:
        return _rejection(problems, request_id)
    return CancelRequest(request_id=request_id, reason=reason or None)


# --- submit ---------------------------------------------------------------------------------------------


def _parse_submit(
    body: str, message: dict[str, JSON], message_id: str, rules: Rules, problems: Problems
) -> SubmitRequest | Rejection:
    check_repeated(message, "", problems)
    if message.get("action", "submit") != "submit":
        problems.add("action", "must be submit or cancel")
    given_id = _request_id(message, problems)
    if rules.require_request_id and "requestId" not in message:
        problems.add("requestId", "required by intake.require_request_id")
    priority = _priority(message, problems)
    expires_at = _expires_at(message, problems)
    members = {name: value for name, value in message.items() if name not in SUBMIT_MEMBERS}
    request_id = given_id if given_id is not None or "requestId" in message else message_id
    _check_members(body, members, request_id, rules, problems)
    depends_on = _depends_on(members)
    if request_id in depends_on:
        problems.add("dependsOn", "must not name the request's own requestId")
    if problems or request_id is None:
        return _rejection(problems, given_id)
    array = members.get("arrayProperties")
    return SubmitRequest(
        request_id=request_id,
        job_name=members["jobName"],
        job_queue=name_of(members["jobQueue"]),
        job_queue_ref=members["jobQueue"],
        job_definition=members["jobDefinition"],
        priority=priority,
        array_size=array.get("size") if array is not None else None,
        expires_at=expires_at,
        share_identifier=members.get("shareIdentifier"),
        depends_on=depends_on,
        content_hash=_content_hash(message),
    )


def _depends_on(members: Mapping[str, JSON]) -> tuple[str, ...]:
    """The request ids that a request depends on, each once."""
    named = map(_named_request, entries_of(members, "dependsOn"))
    return tuple(dict.fromkeys(request_id for request_id in named if request_id is not None))


def _named_request(entry: JSON) -> str | None:
    """The request that an entry of ``dependsOn`` names; None: it names none, whatever it is."""
    request_id = entry.get(DEPENDENCY_REQUEST_ID) if isinstance(entry, dict) else None
    return request_id if type(request_id) is str else None


def _check_members(
    body: str, members: dict[str, JSON], request_id: str | None, rules: Rules, problems: Problems
) -> None:
    """SubmitJob's own members: shape and ranges, relations, scope, policy, sizes."""
    check_request(members, rules.shapes, problems, also_known=SUBMIT_MEMBERS)
    check_relations(members, problems)
    if "tags" in members:
        own_tag = limits.REQUEST_ID_TAG if rules.tag_request_id else None
        check_tags(members["tags"], own_tag=own_tag, own_value=request_id, problems=problems)
    _check_references(members, rules, problems)
    check_overrides_allowed(members, rules.policy, problems)
    if len(body) > limits.OVERRIDES_LENGTH_MAX:
        check_overrides_length(members, problems, _compact_length)
    _check_payload(body, members, request_id, rules, problems)


def _check_references(members: dict[str, JSON], rules: Rules, problems: Problems) -> None:
    queue, definition = members.get("jobQueue"), members.get("jobDefinition")
    assert _JOB_QUEUE is not None
    assert _JOB_DEFINITION is not None
    if type(queue) is str and _JOB_QUEUE.fullmatch(queue):
        check_scope(queue, "jobQueue", rules.scope, problems)
        check_queue_allowed(queue, rules.policy, problems)
    if type(definition) is str and _JOB_DEFINITION.fullmatch(definition):
        check_scope(definition, "jobDefinition", rules.scope, problems)
        check_definition_allowed(definition, rules.policy, problems)


def _content_hash(message: dict[str, JSON]) -> bytes:
    """SHA-256 of the canonical JSON of every member but ``requestId``: keys sorted by code point at every depth, no
    white space, UTF-8, the fewest escapes. Stored and compared for the dedupe window: it must never change."""
    content = {name: value for name, value in message.items() if name != "requestId"}
    return hashlib.sha256(_CANONICAL.encode(content).encode()).digest()


_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_COMPACT: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=lambda _: 0)
_SENT: Final = json.JSONEncoder(default=lambda _: 0)
"""As the SDK writes a body: with blanks after commas and colons, and ASCII only."""

_ANY_JOB_ID: Final = "-" * 36
"""As long as a job's id."""
_GROWTH_MAX: Final = 12
"""Most bytes that one character of a body can become on its way: two escapes of six."""


def _compact_length(value: JSON) -> int:
    return len(_COMPACT.encode(value))


def _check_payload(
    body: str, members: dict[str, JSON], request_id: str | None, rules: Rules, problems: Problems
) -> None:
    """Batch's limit on SubmitJob, on what would be sent: the Batch job name and the tags we add count."""
    added = sum(len(key) + len(value) + 8 for key, value in rules.default_tags.items()) + 512
    if (len(body) + added) * _GROWTH_MAX <= limits.PAYLOAD_BYTES_MAX:
        return
    name = members.get("jobName")
    sent_name = batch_job_name(name, store_id="", request_id="") if type(name) is str else ""
    own_value = (request_id or "") if rules.tag_request_id else None
    sent = _resolved(members, dict.fromkeys(_depends_on(members), _ANY_JOB_ID))
    size = len(_SENT.encode(_arguments(sent, sent_name, members.get("jobQueue"), rules.default_tags, own_value)))
    if size > limits.PAYLOAD_BYTES_MAX:
        text = f"{size:,} bytes as SubmitJob with the tags that are added; AWS Batch takes at most"
        problems.add("", f"the request is {text} {limits.PAYLOAD_BYTES_MAX:,}", ErrorCode.TOO_LARGE)


# --- what is sent -----------------------------------------------------------------------------------------


def submit_arguments(
    body: str, *, job: Job, job_ids: Mapping[str, str | None], default_tags: Mapping[str, str], tag_request_id: bool
) -> dict[str, Any]:
    """SubmitJob's arguments for a body that ``parse`` accepted, with the name and queue stored with the intent.

    ``job_ids`` has the job of each request that it depends on; a dependency whose job is None is left out.
    """
    problems = Problems()
    message = decode(body, problems)
    assert message is not None, problems.texts()
    members = {name: value for name, value in message.items() if name not in SUBMIT_MEMBERS}
    own_value = job.request_id if tag_request_id else None
    return _arguments(_resolved(members, job_ids), job.batch_job_name, job.job_queue_ref, default_tags, own_value)


def _resolved(members: dict[str, JSON], job_ids: Mapping[str, str | None]) -> dict[str, JSON]:
    """The members with dependencies as Batch takes them: job ids in place of request ids."""
    if not _depends_on(members):
        return members
    resolved: list[JSON] = []
    for entry in entries_of(members, "dependsOn"):
        request_id = _named_request(entry)
        if request_id is None:
            resolved.append(entry)
        elif (job_id := job_ids[request_id]) is not None:
            others = {name: value for name, value in entry.items() if name != DEPENDENCY_REQUEST_ID}
            resolved.append({**others, "jobId": job_id})
    others = {name: value for name, value in members.items() if name != "dependsOn"}
    return {**others, "dependsOn": resolved} if resolved else others


def _arguments(
    members: Mapping[str, JSON], job_name: str, job_queue: JSON, default_tags: Mapping[str, str], own_value: str | None
) -> dict[str, Any]:
    arguments = {**members, "jobName": job_name, "jobQueue": job_queue}
    tags = members.get("tags", {})
    if isinstance(tags, dict):
        arguments["tags"] = _merged_tags(tags, default_tags, own_value)
        if not arguments["tags"]:
            del arguments["tags"]
    return arguments


def _merged_tags(tags: Mapping[str, JSON], default_tags: Mapping[str, str], own_value: str | None) -> dict[str, JSON]:
    """The request's tags, ours (unless they leave no room), then as many default tags as fit, in their order."""
    merged = dict(tags)
    if own_value is not None and len(merged) < limits.TAGS_MAX:
        merged[limits.REQUEST_ID_TAG] = own_value
    for key, value in default_tags.items():
        if len(merged) >= limits.TAGS_MAX:
            break
        if key != limits.REQUEST_ID_TAG:
            merged.setdefault(key, value)
    return merged


def batch_job_name(job_name: str, *, store_id: str, request_id: str) -> str:
    """The job's name in AWS Batch: tells apart what has one ``jobName``, and finds a submission in doubt again."""
    digest = hashlib.sha256(f"{store_id}\0{request_id}".encode()).hexdigest()
    return f"{job_name[: limits.JOB_NAME_KEPT]}-{digest[: limits.JOB_NAME_HASH_LENGTH]}"
