"""The message as JSON Schema, for editors, producers' tests and gateways.

Everything ``parse`` accepts is valid under it. It is wider than ``parse`` where JSON Schema can't say the rule
or the rule is the operator's: sizes, policy, account and Region, repeated members.
"""

from __future__ import annotations

from typing import Any, Final

from controller.core import limits
from controller.core.request_check import INTEGER_RANGES
from controller.core.request_rules import (
    MEMBER_RULES,
    NO_RULES,
    OWN_MEMBERS,
    PRIORITY_RULE,
    REASON_RULE,
    REQUEST_ID_RULE,
    RESERVED_TAG_PREFIX,
    MemberRule,
)
from controller.core.shapes import Kind, Shape

Schema = dict[str, Any]

_REQUEST_ID: Final[Schema] = {
    "type": "string",
    "pattern": f"^(?:{limits.REQUEST_ID_PATTERN})$",
    "description": f"Idempotency key. Must {REQUEST_ID_RULE.says}. Default: the SQS MessageId.",
}
_TIME_PATTERN: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)


def message_schema(shapes: Shape) -> Schema:
    """JSON Schema 2020-12 of the message; ``shapes`` is the input of SubmitJob."""
    definitions: dict[str, Schema] = {}
    submit = _structure(shapes, definitions)
    submit["title"] = "Submit a job"
    submit["properties"].update(
        requestId=_REQUEST_ID,
        priority={
            "type": "integer",
            "minimum": PRIORITY_RULE.min,
            "maximum": PRIORITY_RULE.max,
            "default": 0,
            "description": "Higher goes first within its Batch job queue.",
        },
        expiresAt={"type": "string", "pattern": _TIME_PATTERN, "description": "RFC 3339; not submitted after it."},
        action={"const": "submit", "default": "submit"},
    )
    submit["properties"]["tags"].update(
        maxProperties=limits.TAGS_MAX,
        propertyNames={
            **submit["properties"]["tags"].get("propertyNames", {}),
            "pattern": f"^(?!{_any_case(RESERVED_TAG_PREFIX)})",
        },
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "batch-controller message",
        "description": "Body of an SQS message: SubmitJob's input with members of the controller, or a cancel.",
        "type": "object",
        "if": {"properties": {"action": {"const": "cancel"}}, "required": ["action"]},
        "then": _cancel(),
        "else": submit,
        "$defs": definitions,
    }


def _cancel() -> Schema:
    return {
        "title": "Cancel a request",
        "type": "object",
        "properties": {
            "action": {"const": "cancel"},
            "requestId": _REQUEST_ID,
            "reason": {"type": "string", "maxLength": REASON_RULE.max},
        },
        "required": ["action", "requestId"],
        "additionalProperties": False,
    }


def _schema(shape: Shape, rule: MemberRule | None, definitions: dict[str, Schema]) -> Schema:
    if shape.kind is Kind.STRUCTURE:
        if shape.name not in definitions:
            definitions[shape.name] = _structure(shape, definitions)
        return {"$ref": f"#/$defs/{shape.name}"}
    if shape.kind is Kind.LIST:
        return _list(shape, rule, definitions)
    if shape.kind is Kind.MAP:
        return _map(shape, definitions)
    if shape.kind is Kind.STRING:
        return _string(shape, rule)
    if shape.kind in INTEGER_RANGES:
        lowest, highest = INTEGER_RANGES[shape.kind]
        least, most = _bounds(shape, rule)
        return {
            "type": "integer",
            "minimum": lowest if least is None else least,
            "maximum": highest if most is None else most,
        }
    if shape.kind is Kind.BOOLEAN:
        return {"type": "boolean"}
    return {"type": "number"} if shape.kind is Kind.FLOAT else {"type": "string", "pattern": _TIME_PATTERN}


def _structure(shape: Shape, definitions: dict[str, Schema]) -> Schema:
    rules = MEMBER_RULES.get(shape.name, NO_RULES)
    members = {**shape.members, **OWN_MEMBERS.get(shape.name, {})}
    schema: Schema = {
        "type": "object",
        "properties": {name: _schema(member, rules.get(name), definitions) for name, member in members.items()},
        "required": list(shape.required),
        "additionalProperties": False,
        **_RELATIONS.get(shape.name, {}),
    }
    for name, rule in rules.items():
        if name in schema["properties"]:
            schema["properties"][name]["description"] = f"Must {rule.says}."
    return schema


_RELATIONS: Final[dict[str, Schema]] = {
    "RetryStrategy": {"dependentRequired": {"evaluateOnExit": ["attempts"]}},
    "JobDependency": {
        "if": {"properties": {"type": {"const": "SEQUENTIAL"}}, "required": ["type"]},
        "then": {"properties": {"jobId": False, "requestId": False}},
        "else": {"oneOf": [{"required": ["jobId"]}, {"required": ["requestId"]}]},
    },
}
"""What ``request_rules.STRUCTURE_RULES`` says, in JSON Schema's words."""


def _list(shape: Shape, rule: MemberRule | None, definitions: dict[str, Schema]) -> Schema:
    assert shape.element is not None
    items = _schema(shape.element, None, definitions)
    if rule is not None and rule.has_filled_entries:
        items = {**items, "minLength": 1}
    return _bounded({"type": "array", "items": items}, shape, rule, "minItems", "maxItems")


def _map(shape: Shape, definitions: dict[str, Schema]) -> Schema:
    assert shape.element is not None
    assert shape.key is not None
    schema: Schema = {"type": "object", "additionalProperties": _schema(shape.element, None, definitions)}
    names = _bounded({}, shape.key, None, "minLength", "maxLength")
    return {**schema, "propertyNames": names} if names else schema


def _string(shape: Shape, rule: MemberRule | None) -> Schema:
    if shape.choices:
        if rule is not None and rule.is_any_case:
            return {"type": "string", "pattern": f"^(?:{'|'.join(map(_any_case, shape.choices))})$"}
        return {"type": "string", "enum": list(shape.choices)}
    if rule is not None and rule.pattern is not None:
        return {"type": "string", "pattern": f"^(?:{rule.pattern.pattern})$"}
    return _bounded({"type": "string"}, shape, rule, "minLength", "maxLength")


def _bounds(shape: Shape, rule: MemberRule | None) -> tuple[int | None, int | None]:
    ruled = (rule.min, rule.max) if rule is not None else (None, None)
    return (shape.min if ruled[0] is None else ruled[0], shape.max if ruled[1] is None else ruled[1])


def _bounded(schema: Schema, shape: Shape, rule: MemberRule | None, least: str, most: str) -> Schema:
    bounds = zip((least, most), _bounds(shape, rule), strict=True)
    return {**schema, **{word: bound for word, bound in bounds if bound is not None}}


def _any_case(word: str) -> str:
    return "".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else c for c in word)
