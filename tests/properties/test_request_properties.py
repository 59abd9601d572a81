"""Whatever a message holds: it is judged without a crash, by the SDK's own measure, and no value of it leaks."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from dataclasses import replace
from typing import Any

import botocore.session
import jsonschema
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.adapters.batch_model import submit_job_shape
from controller.core.job import Job
from controller.core.request import (
    CancelRequest,
    Policy,
    Rejection,
    Rules,
    Scope,
    SubmitRequest,
    batch_job_name,
    message_schema,
    parse,
    submit_arguments,
)
from controller.core.request_rules import MEMBER_RULES, NO_RULES, OWN_MEMBERS, REQUEST_ID_RULE, MemberRule
from controller.core.shapes import Kind, Shape

SHAPE = submit_job_shape()
SCHEMA = jsonschema.Draft202012Validator(message_schema(SHAPE))
MODEL = botocore.session.get_session().get_service_model("batch").operation_model("SubmitJob").input_shape
RULES = Rules(
    shapes=SHAPE,
    policy=Policy(),
    scope=Scope(region="eu-west-1", account=None),
    default_tags={"team": "default", "cost": "7"},
)
MESSAGE_ID = "5fea7756-0ea4-451a-a703-a558b933e274"
NAMES = sorted({"jobName", "jobQueue", "jobDefinition", "requestId", "priority", "expiresAt", "action", *SHAPE.members})
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def judged(body: str) -> SubmitRequest | CancelRequest | Rejection:
    return parse(body, message_id=MESSAGE_ID, rules=RULES)


def arguments_of(body: str, request: SubmitRequest) -> dict[str, Any]:
    job = Job(
        request_id=request.request_id,
        message_id=MESSAGE_ID,
        source="",
        content_hash=request.content_hash,
        job_name=request.job_name,
        batch_job_name=batch_job_name(request.job_name, store_id="s", request_id=request.request_id),
        job_queue=request.job_queue,
        job_queue_ref=request.job_queue_ref,
        job_definition=request.job_definition,
        received_at=0.0,
    )
    return submit_arguments(
        body,
        job=job,
        job_ids=dict.fromkeys(request.depends_on, "j"),
        default_tags=RULES.default_tags,
        tag_request_id=True,
    )


# --- messages ----------------------------------------------------------------------------------------------


def values(shape: Shape, rule: MemberRule | None = None) -> st.SearchStrategy[Any]:
    """Values of a shape that keep its rules."""
    if shape.kind is Kind.STRUCTURE:
        rules = MEMBER_RULES.get(shape.name, NO_RULES)
        own = OWN_MEMBERS.get(shape.name, {})
        members = {name: values(member, rules.get(name)) for name, member in {**shape.members, **own}.items()}
        required = {name: members.pop(name) for name in shape.required}
        return st.fixed_dictionaries(required, optional=members)
    if shape.kind is Kind.LIST:
        assert shape.element is not None
        filled = rule is not None and rule.has_filled_entries
        entries = values(shape.element).filter(bool) if filled else values(shape.element)
        return st.lists(entries, max_size=1 if rule is not None and rule.max == 1 else 2)
    if shape.kind is Kind.MAP:
        assert shape.element is not None
        return st.dictionaries(st.from_regex("[A-Za-z]{1,5}", fullmatch=True), values(shape.element), max_size=3)
    if shape.kind is Kind.BOOLEAN:
        return st.booleans()
    if shape.kind is Kind.STRING:
        if shape.choices:
            return st.sampled_from(shape.choices)
        if rule is not None and rule.pattern is not None:
            return EXAMPLES[rule.pattern.pattern]
        return TEXT.filter(bool) if shape.min or (rule is not None and rule.min) else TEXT
    low, high = (rule.min, rule.max) if rule is not None else (None, None)
    return st.integers(-(2**31) if low is None else low, 2**31 - 1 if high is None else high)


def _examples() -> dict[str, st.SearchStrategy[str]]:
    arn = "arn:aws:batch:eu-west-1:123456789012"
    of = {name: rule.pattern.pattern for name, rule in MEMBER_RULES["SubmitJobRequest"].items() if rule.pattern}
    exit_rules, variable = MEMBER_RULES["EvaluateOnExit"], MEMBER_RULES["KeyValuePair"]["name"].pattern
    nodes, glob, code = (
        MEMBER_RULES["NodePropertyOverride"]["targetNodes"].pattern,
        exit_rules["onReason"].pattern,
        exit_rules["onExitCode"].pattern,
    )
    assert variable is not None
    assert nodes is not None
    assert glob is not None
    assert code is not None
    assert REQUEST_ID_RULE.pattern is not None
    return {
        REQUEST_ID_RULE.pattern.pattern: st.from_regex("[A-Za-z0-9_.:/=+@-]{20,24}", fullmatch=True),
        of["jobName"]: st.from_regex("[A-Za-z0-9][A-Za-z0-9_-]{0,127}", fullmatch=True),
        of["jobQueue"]: st.sampled_from(["high", "0_low", f"{arn}:job-queue/high"]),
        of["jobDefinition"]: st.sampled_from(["d", "d:1", f"{arn}:job-definition/d", f"{arn}:job-definition/d:9"]),
        of["shareIdentifier"]: st.sampled_from(["teamA", "t*"]),
        variable.pattern: TEXT.filter(lambda name: not name.startswith("AWS_BATCH")),
        nodes.pattern: st.sampled_from(["0:3", ":3", "4:", ":", "7"]),
        glob.pattern: st.sampled_from(["*", "Host EC2*", "x"]),
        code.pattern: st.sampled_from(["*", "13*", "137"]),
    }


EXAMPLES = _examples()
EXTRAS = st.fixed_dictionaries(
    {},
    optional={
        "requestId": st.from_regex("[A-Za-z0-9_.:/=+@-]{1,12}", fullmatch=True),
        "priority": st.integers(-1_000, 1_000),
        "expiresAt": st.datetimes().map(lambda at: at.isoformat(timespec="seconds") + "Z"),
        "action": st.just("submit"),
    },
)


@st.composite
def valid_messages(draw: st.DrawFn) -> dict[str, Any]:
    """Messages that keep every rule."""
    message = draw(values(SHAPE)) | draw(EXTRAS)
    for dependency in message.get("dependsOn", ()):
        if "requestId" in dependency:
            dependency.pop("jobId", None)
        else:
            dependency["jobId"] = "id"
        if dependency.get("type") == "SEQUENTIAL":
            del dependency["type"]
    retry = message.get("retryStrategy", {})
    if "evaluateOnExit" in retry:
        retry.setdefault("attempts", 1)
    return message


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key or index) of every value inside."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        container = waiting.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        for key in keys:
            found.append((container, key))
            if isinstance(container[key], (dict, list)):
                waiting.append(container[key])
    return found


@st.composite
def mutated_messages(draw: st.DrawFn) -> dict[str, Any]:
    """Valid messages with up to three places changed: another value, no value, or a member too many."""
    message = draw(valid_messages())
    for _ in range(draw(st.integers(1, 3))):
        if not message:
            break
        container, key = draw(st.sampled_from(places(message)))
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "replace":
            container[key] = draw(JSON_VALUES)
        elif change == "remove":
            del container[key]
        elif isinstance(container, dict):
            container[draw(st.sampled_from(NAMES) | st.text(max_size=6))] = draw(JSON_VALUES)
        else:
            container.append(draw(JSON_VALUES))
    return message


# --- no crash ---------------------------------------------------------------------------------------------


def check_judgement(judgement: SubmitRequest | CancelRequest | Rejection) -> None:
    assert isinstance(judgement, (SubmitRequest, CancelRequest, Rejection))
    if isinstance(judgement, Rejection):
        assert 0 < len(judgement.reason.encode()) <= 1_024
        assert judgement.problems
        assert judgement.reason.isprintable()


@settings(deadline=None)
@given(st.text(st.characters(codec=None)) | st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")))
def test_any_text_is_judged(body: str) -> None:
    """No text makes the judgement raise, not even one that is no Unicode."""
    check_judgement(judged(body))


@settings(deadline=None)
@given(JSON_VALUES, st.booleans())
def test_any_json_is_judged(value: Any, escaped: bool) -> None:
    """No JSON value makes the judgement raise, with NaN, infinities, surrogates and huge integers in it."""
    check_judgement(judged(json.dumps(value, ensure_ascii=escaped)))


@settings(deadline=None)
@given(
    valid_messages(),
    st.integers(0, 10**6),
    st.sampled_from(['"', "\\", "{", "]", ",", "\\u0000", "\\ud800", "9" * 30, "\ud800"]),
)
def test_any_damage_to_a_message_is_judged(message: dict[str, Any], at: int, damage: str) -> None:
    """Text put anywhere into a valid message never makes the judgement raise."""
    body = json.dumps(message)
    at %= len(body)
    check_judgement(judged(body[:at] + damage + body[at:]))


# --- the SDK's measure ------------------------------------------------------------------------------------


def check_by_sdk(body: str) -> None:
    judgement = judged(body)
    check_judgement(judgement)
    if isinstance(judgement, SubmitRequest):
        report = ParamValidator().validate(arguments_of(body, judgement), MODEL)
        assert not report.has_errors(), report.generate_report()
    if not isinstance(judgement, Rejection):
        SCHEMA.validate(json.loads(body))


@settings(max_examples=200, deadline=None)
@given(valid_messages())
def test_messages_that_keep_the_rules_are_accepted(message: dict[str, Any]) -> None:
    """Every combination of members within their ranges is accepted, by us, by the SDK and by the schema."""
    body = json.dumps(message)
    assert isinstance(judged(body), SubmitRequest), judged(body)
    check_by_sdk(body)


@settings(max_examples=400, deadline=None)
@given(mutated_messages())
def test_what_is_accepted_is_accepted_by_the_sdk(message: dict[str, Any]) -> None:
    """Nothing passes that the SDK or the printed schema refuses."""
    check_by_sdk(json.dumps(message))


# --- secrets ----------------------------------------------------------------------------------------------

CANARY = "hunter2-CANARY"


def plant(message: Any, chance: random.Random) -> None:
    """Put the canary into values of any kind of member that may hold a secret."""
    message.setdefault("parameters", {})
    if isinstance(message["parameters"], dict):
        message["parameters"]["token"] = CANARY
    overrides = message.setdefault("containerOverrides", {})
    if isinstance(overrides, dict):
        overrides["command"] = ["login", f"--password={CANARY}"]
        overrides["environment"] = [{"name": "PASSWORD", "value": CANARY}]
    for container, key in places(message):
        if isinstance(container[key], str) and chance.random() < 0.5:
            container[key] = chance.choice([CANARY, f"x {CANARY}", f"AWS_BATCH_{CANARY}", f"arn:aws:batch:{CANARY}"])


@settings(max_examples=300, deadline=None)
@given(mutated_messages(), st.randoms(use_true_random=False), st.integers(0, 10**6), st.booleans())
def test_no_value_is_ever_quoted(message: dict[str, Any], chance: random.Random, at: int, is_cut: bool) -> None:
    """A secret in any value, of a body whole or cut off anywhere, is in no text of a rejection (its id is its id)."""
    planted = copy.deepcopy(message)
    plant(planted, chance)
    body = json.dumps(planted)
    judgement = judged(body[: at % len(body)] if is_cut else body)
    if isinstance(judgement, Rejection):
        shown = repr(replace(judgement, request_id=None))
        assert "CANARY" not in shown
        assert "hunter2" not in shown


# --- content ----------------------------------------------------------------------------------------------


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(value[key], chance) for key in chance.sample(list(value), len(value))}
    return [shuffled(entry, chance) for entry in value] if isinstance(value, list) else value


@settings(deadline=None)
@given(valid_messages(), st.randoms(use_true_random=False), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_content_hash_ignores_layout_and_request_id(
    message: dict[str, Any], chance: random.Random, indent: int | str | None, escaped: bool
) -> None:
    """The hash is SHA-256 of the canonical JSON without ``requestId``, whatever the body looks like."""
    content = {name: value for name, value in message.items() if name != "requestId"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    body = json.dumps(shuffled(content | {"requestId": "another"}, chance), indent=indent, ensure_ascii=escaped)
    request = judged(body)
    assert isinstance(request, SubmitRequest), request
    assert request.content_hash == hashlib.sha256(canonical.encode()).digest()
