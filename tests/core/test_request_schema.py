"""The message's JSON Schema, the SDK's model behind it, and the page that documents both."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest

from controller.adapters.batch_model import submit_job_shape
from controller.core.problems import ErrorCode
from controller.core.request import CancelRequest, Policy, Rules, Scope, SubmitRequest, message_schema, parse
from controller.core.request_rules import MEMBER_RULES, OWN_MEMBERS, STRUCTURE_RULES
from controller.core.shapes import Kind, Shape
from tests.core.test_request import BASE
from tests.core.test_request_members import INVALID, VALID

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
SCHEMA = jsonschema.Draft202012Validator(message_schema(submit_job_shape()))
BEYOND_SCHEMA = (
    "dependsOn: must name at most 20",
    "dependsOn: must have at most 1",
    "dependsOn[0].type: SEQUENTIAL needs",
    "tags: must have at most 49",
    "tags.batch-controller/request-id",
    "expiresAt: must be a time as RFC 3339 writes it",
    "arrayProperties.size: must be an integer",  # 5.0 is an integer to JSON Schema
    "jobName: must be 1 to 128 letters",  # "$" before a final newline
    "requestId: must be 1 to 128 of letters",
)
"""Rules that JSON Schema, or Python's reading of it, can't say in every case."""


def shapes_in(shape: Shape) -> dict[str, Shape]:
    found = {shape.name: shape}
    for child in (*shape.members.values(), *filter(None, (shape.element, shape.key))):
        found.update(shapes_in(child))
    return found


def test_tree_is_the_sdks_model_of_submit_job() -> None:
    """Every member, type, requirement, minimum and choice of the installed SDK's model is in the tree."""

    def compare(shape: Shape, model: Any) -> None:
        assert shape.name == model.name
        assert shape.kind.value == model.type_name
        assert (shape.min, shape.max) == (model.metadata.get("min"), model.metadata.get("max"))
        if shape.kind is Kind.STRUCTURE:
            assert list(shape.members) == list(model.members)
            assert list(shape.required) == model.required_members
            for name, member in shape.members.items():
                compare(member, model.members[name])
        elif shape.kind is Kind.LIST:
            assert shape.element is not None
            compare(shape.element, model.member)
        elif shape.kind is Kind.MAP:
            assert shape.element is not None
            assert shape.key is not None
            compare(shape.element, model.value)
            compare(shape.key, model.key)
        elif shape.kind is Kind.STRING:
            assert list(shape.choices) == model.enum

    model = botocore.session.get_session().get_service_model("batch").operation_model("SubmitJob").input_shape
    compare(submit_job_shape(), model)


def test_every_rule_is_of_a_member_that_the_model_has() -> None:
    """A rule whose shape or member the SDK renames would be lost silently; this names it."""
    shapes = shapes_in(submit_job_shape())
    for shape, rules in MEMBER_RULES.items():
        assert set(rules) <= {*shapes[shape].members, *OWN_MEMBERS.get(shape, ())}, shape
    assert set(STRUCTURE_RULES) <= set(shapes)
    assert all(not own.keys() & shapes[shape].members.keys() for shape, own in OWN_MEMBERS.items())


def test_schema_is_valid_json_schema() -> None:
    """The schema keeps its own dialect's rules and is plain JSON."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA.schema)
    assert json.loads(json.dumps(SCHEMA.schema)) == SCHEMA.schema


@pytest.mark.parametrize("members", VALID, ids=[json.dumps(members)[:50] for members in VALID])
def test_schema_takes_what_parse_takes(members: dict[str, Any]) -> None:
    """A valid message is valid under the schema."""
    SCHEMA.validate({**BASE, **members})


@pytest.mark.parametrize(
    ("members", "problem"),
    [(members, problem) for members, problem in INVALID if not problem.startswith(BEYOND_SCHEMA)],
    ids=[problem[:50] for _, problem in INVALID if not problem.startswith(BEYOND_SCHEMA)],
)
def test_schema_refuses_what_parse_refuses(members: dict[str, Any], problem: str) -> None:
    """What breaks a rule that JSON Schema can say is invalid under the schema too."""
    assert not SCHEMA.is_valid({**BASE, **members})


@pytest.mark.parametrize(
    ("message", "is_valid"),
    [
        ({"action": "cancel", "requestId": "r", "reason": "x"}, True),
        ({"action": "cancel"}, False),
        ({"action": "cancel", "requestId": "r", "jobName": "a"}, False),
        ({"requestId": "r", "reason": "x"}, False),
        ({"action": "other", **BASE}, False),
    ],
)
def test_schema_tells_submit_from_cancel(message: dict[str, Any], is_valid: bool) -> None:
    """``action`` decides which members a message has."""
    assert SCHEMA.is_valid(message) is is_valid


# --- docs/messages.md -------------------------------------------------------------------------------------


def test_every_example_of_the_page_is_a_valid_message() -> None:
    """What the page shows as a message is accepted, and valid under the schema."""
    rules = Rules(shapes=submit_job_shape(), policy=Policy(), scope=Scope(region="eu-west-1", account="123456789012"))
    examples = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) >= 3
    for example in examples:
        request = parse(example, message_id="m", rules=rules)
        assert isinstance(request, (SubmitRequest, CancelRequest)), request
        SCHEMA.validate(json.loads(example))


def test_every_error_code_is_on_the_page() -> None:
    """The table of codes lists each code that a message can be refused with."""
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert {code.value for code in ErrorCode} <= listed


def test_problems_shown_on_the_page_are_what_parse_says() -> None:
    """The rejection that the page explains is the one its body gets."""
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.search(r"```json5\n(.*?)```.*?```text\n(.*?)```", page, re.DOTALL)
    assert blocks is not None
    body, shown = blocks.groups()
    rules = Rules(shapes=submit_job_shape(), policy=Policy(), scope=Scope(region="eu-west-1", account=None))
    rejection = parse(body, message_id="m", rules=rules)
    assert rejection.problems == tuple(shown.splitlines())  # type: ignore[union-attr]
