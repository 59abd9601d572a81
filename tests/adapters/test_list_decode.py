"""ListJobs decoded past the SDK's parser, held against that parser."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest
from botocore.parsers import create_parser
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.adapters.list_decode import _decode_before_parse

_MODEL = botocore.session.Session().get_service_model("batch").operation_model("ListJobs")  # type: ignore[no-untyped-call]
_PARSER = create_parser("rest-json")  # type: ignore[no-untyped-call]


def parsed(body: bytes, *, status: int = 200, is_lean: bool) -> tuple[bool, dict[str, Any]]:
    """Whether the hook decoded the body, and the answer that the SDK would return."""
    response: dict[str, Any] = {"status_code": status, "headers": {}, "body": body, "context": {}}
    customized: dict[str, Any] = {}
    if is_lean:
        _decode_before_parse(response_dict=response, customized_response_dict=customized)
    answer: dict[str, Any] = _PARSER.parse(response, _MODEL.output_shape)
    answer.update(customized)
    return bool(customized), answer


texts = st.text(max_size=10)
numbers = st.integers(0, 2**53)


def some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with any of the members, each of its type, null or missing."""
    return st.fixed_dictionaries({}, optional={name: st.none() | each for name, each in members.items()})


summaries = some(
    jobId=texts,
    jobName=texts,
    jobArn=texts,
    createdAt=numbers,
    startedAt=numbers,
    stoppedAt=numbers,
    status=texts,
    statusReason=texts,
    jobDefinition=texts,
    container=some(exitCode=st.integers(-1, 255), reason=texts),
    arrayProperties=some(size=st.integers(0, 10), index=st.integers(0, 10)),
    nodeProperties=some(isMainNode=st.booleans(), numNodes=st.integers(1, 9), nodeIndex=st.integers(0, 9)),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(summaries, max_size=3), st.none() | texts)
def test_the_answer_is_that_of_the_sdk(rows: list[dict[str, Any]], token: str | None) -> None:
    """For every page the hook gives what botocore's parser gives, nulls included."""
    body = json.dumps({"jobSummaryList": rows} | ({} if token is None else {"nextToken": token})).encode()
    was_decoded, ours = parsed(body, is_lean=True)
    _, theirs = parsed(body, is_lean=False)
    assert was_decoded is (b"null" not in body)
    assert ours == theirs


def test_an_unknown_member_breaks_nothing() -> None:
    """What a later Batch adds stands beside what is known."""
    body = b'{"jobSummaryList": [{"jobId": "a", "brandNew": {"x": [1]}}], "alsoNew": 7}'
    was_decoded, answer = parsed(body, is_lean=True)
    assert was_decoded
    assert answer["jobSummaryList"][0]["jobId"] == "a"


@pytest.mark.parametrize(
    "body", [b"", b"<html/>", b"{}", b'{"jobSummaryList": {}}', b'{"jobSummaryList": [7]}', b"\xff"]
)
def test_what_does_not_decode_is_left_to_the_sdk(body: bytes) -> None:
    """A body that is no page reaches botocore's parser untouched."""
    response: dict[str, Any] = {"status_code": 200, "body": body}
    customized: dict[str, Any] = {}
    _decode_before_parse(response_dict=response, customized_response_dict=customized)
    assert (customized, response["body"]) == ({}, body)


def test_errors_are_left_to_the_sdk() -> None:
    """A status of 300 and above is an error, whatever its body looks like."""
    was_decoded, answer = parsed(b'{"jobSummaryList": [], "message": "slow down"}', status=429, is_lean=True)
    assert not was_decoded
    assert answer["Error"]["Message"] == "slow down"
