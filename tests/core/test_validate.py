"""Messages judged before they are sent: as intake judges them, and what SQS itself would not take."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.batch_model import submit_job_shape
from controller.config import Settings, load_settings
from controller.core.errors import Misconfigured
from controller.core.limits import SQS_MESSAGE_BYTES_MAX
from controller.core.request import Rules, Scope
from controller.validate import attributes_of, judged, validate

BASE = {"jobName": "a", "jobQueue": "high", "jobDefinition": "render:3"}
ARN = "arn:aws:batch:{}:{}:job-queue/high"
PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def settings(**environ: str) -> Settings:
    """Of variables: ``policy__allowed_job_queues='["low"]'``; without a queue to consume."""
    named = {f"BATCH_CONTROLLER_{name.upper()}": value for name, value in environ.items()}
    return load_settings(None, environ=named, submit_job=submit_job_shape, is_consuming=False)


def said(
    capsys: pytest.CaptureFixture[str], *names: Path | str, given: Settings | None = None, **more: Any
) -> tuple[int, list[str], list[str]]:
    """(exit code, lines on standard output, lines on standard error)."""
    options: dict[str, Any] = {"account": None, "attributes": (), "has_lines": False, "is_configured": True}
    exit_code = validate(
        list(map(str, names)), settings=given or settings(), shapes=submit_job_shape(), **options | more
    )
    out, err = capsys.readouterr()
    return exit_code, out.splitlines(), err.splitlines()


def written(tmp_path: Path, *messages: Any, name: str = "m.json") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(message if isinstance(message, str) else json.dumps(message) for message in messages))
    return path


def test_each_file_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A submission with and without an id, over several lines, and a cancel."""
    named = written(tmp_path, json.dumps({**BASE, "requestId": "r-1"}, indent=2), name="a.json")
    unnamed = written(tmp_path, BASE, name="b.json")
    cancel = written(tmp_path, {"action": "cancel", "requestId": "r-1"}, name="c.json")
    exit_code, lines, _ = said(capsys, named, unnamed, cancel)
    assert exit_code == 0
    assert lines == [
        f"ok r-1 ({named})",
        f"ok - ({unnamed}: no requestId, so SQS's MessageId is its id)",
        f"ok r-1 ({cancel}: a cancel)",
    ]


def test_every_problem_is_told_with_its_member(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in the event and the dead letter; of a cancel too, and the others are judged all the same."""
    lines = written(
        tmp_path,
        {**BASE, "requestId": "r-1", "jobname": "b", "timeout": {"attemptDurationSeconds": 5}},
        "",
        {"action": "cancel", "requestId": "r-2", "priority": 1},
        "[]",
        {**BASE, "requestId": "r-3"},
    )
    exit_code, out, _ = said(capsys, lines, has_lines=True)
    assert exit_code == 1
    assert out == [
        f"refused r-1 ({lines}, line 1): invalid_request",
        "  jobname: not a member of the message; the nearest is jobName",
        "  timeout.attemptDurationSeconds: must be at least 60",
        f"refused r-2 ({lines}, line 3): invalid_request",
        "  priority: not a member of a cancel message, which has action, requestId, reason",
        f"refused - ({lines}, line 4): invalid_json",
        "  the body must be a JSON object, not an array",
        f"ok r-3 ({lines}, line 5)",
    ]


def test_standard_input_is_read(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name ``-``."""
    given = io.TextIOWrapper(io.BytesIO(json.dumps({**BASE, "requestId": "r"}).encode()))
    monkeypatch.setattr(sys, "stdin", given)
    assert said(capsys, "-")[:2] == (0, ["ok r (standard input)"])


@pytest.mark.parametrize(
    ("given", "message", "problem"),
    [
        ({"policy__allowed_job_queues": '["low-*"]'}, {}, "jobQueue: policy.allowed_job_queues does not let"),
        (
            {"policy__allowed_overrides": '["containerOverrides.environment"]'},
            {"containerOverrides": {"command": ["a"]}},
            "containerOverrides.command: policy.allowed_overrides does not let",
        ),
        ({"intake__require_request_id": "true"}, {}, "requestId: required by intake.require_request_id"),
        ({"submit__tag_request_id": "true"}, {"tags": {f"k{n}": "v" for n in range(50)}}, "tags: must have at most 49"),
        (
            {"submit__default_tags": json.dumps({f"k{n}": "v" * 256 for n in range(30)})},
            {"parameters": {"a": "x" * 25_000}},
            "the request is ",
        ),
        (
            {"aws__region": "eu-west-1"},
            {"jobQueue": ARN.format("us-east-1", "1" * 12)},
            "jobQueue: the ARN is of anoth",
        ),
    ],
)
def test_the_settings_of_the_controller_are_applied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, str], message: dict[str, Any], problem: str
) -> None:
    """Policy, tags that are added, and what is required; without them the message is fine."""
    file = written(tmp_path, {**BASE, **message})
    exit_code, lines, _ = said(capsys, file, given=settings(**given))
    assert exit_code == 1
    assert lines[1].startswith(f"  {problem}")
    if "tag_request_id" not in next(iter(given)):
        assert said(capsys, file)[0] == 0


def test_scope_is_checked_as_far_as_it_is_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Region and account of ARNs, and what of it could not be is named."""
    file = written(tmp_path, {**BASE, "jobQueue": ARN.format("eu-west-1", "1" * 12)})
    exit_code, _, left = said(capsys, file, is_configured=False)
    assert exit_code == 0
    assert [line.partition(":")[2].split(":")[0] for line in left] == [
        " the policy and the other settings of the controller",
        " the Region of ARNs",
        " the account of ARNs",
        " what AWS Batch knows",
        " what the controller knows",
    ]
    known = settings(aws__region="eu-west-1")
    exit_code, _, left = said(capsys, file, given=known, account="1" * 12)
    assert (exit_code, len(left)) == (0, 2)
    assert said(capsys, file, given=known, account="2" * 12)[0] == 1


def test_what_sqs_itself_does_not_take_is_told() -> None:
    """Bytes that are no text, characters outside of its set, and a message that its attributes make too long."""
    rules = _rules()
    body = json.dumps(BASE).encode()
    (text,) = judged(b'{"jobName": "\xff"}', rules=rules, attributes={}).problems
    assert text.startswith("the body is not UTF-8")
    odd = json.dumps({**BASE, "parameters": {"a": "\ufffe"}}, ensure_ascii=False).encode()
    assert "write it as an escape" in judged(odd, rules=rules, attributes={}).problems[0]
    assert (
        judged(json.dumps({**BASE, "parameters": {"a": "\ufffe"}}).encode(), rules=rules, attributes={}).problems == ()
    )

    attributes = {"tenant": "film"}
    full = body + b" " * (SQS_MESSAGE_BYTES_MAX - len(body) - len("tenantStringfilm"))
    assert judged(full, rules=rules, attributes=attributes).error_code is None
    longer = judged(full + b" ", rules=rules, attributes=attributes)
    assert longer.error_code == "too_large"
    assert "is 1,048,577 bytes with its attributes; SQS takes at most 1,048,576" in longer.problems[0]
    assert judged(full + b" ", rules=rules, attributes={}).error_code is None


def _rules() -> Rules:
    return settings().request_rules(shapes=submit_job_shape(), scope=Scope(region=None, account=None))


@pytest.mark.parametrize("given", ["tenant", "=film", "tenant=", "a b=c", ".a=b", "a..b=c", "tenant=\0"])
def test_an_attribute_that_sqs_does_not_take_is_refused(given: str) -> None:
    """By its name or value."""
    with pytest.raises(Misconfigured, match="must be NAME=VALUE"):
        attributes_of([given])


def test_a_trace_context_that_is_not_carried_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is no reason to refuse the message."""
    file = written(tmp_path, BASE)
    for attributes, count in (
        ([f"traceparent={TRACEPARENT}", "tracestate=a=1"], 0),
        (["traceparent=00-1-2-01"], 1),
        (["tracestate=a=1"], 1),
        ([], 0),
    ):
        exit_code, _, left = said(capsys, file, attributes=attributes)
        assert exit_code == 0
        assert sum(line.startswith("not carried: ") for line in left) == count


def test_a_wrong_use_is_no_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to read, nothing in it, and an account that is none."""
    with pytest.raises(Misconfigured, match="can't be read"):
        said(capsys, tmp_path / "none.json")
    with pytest.raises(Misconfigured, match="can't be read"):
        said(capsys, tmp_path)
    with pytest.raises(Misconfigured, match="no message"):
        said(capsys, written(tmp_path, "", " "), has_lines=True)
    with pytest.raises(Misconfigured, match="--account"):
        said(capsys, written(tmp_path, BASE), account="12")
    assert said(capsys, written(tmp_path, ""))[:2] == (
        1,
        [f"refused - ({tmp_path / 'm.json'}): invalid_json", "  the body is empty; it must be a JSON object"],
    )


def test_what_is_shown_can_drive_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file's name is anybody's."""
    _, lines, _ = said(capsys, written(tmp_path, BASE, name="a\x1b[2J.json"))
    assert "\x1b" not in "".join(lines)


def test_the_page_shows_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/messages.md, "Check a message before sending"."""
    section = PAGE.read_text().partition("## Check a message before sending")[2]
    shown = section.partition("```text\n")[2].partition("```")[0]
    written(tmp_path, {**BASE, "requestId": "order-8812/frame-17"}, name="request.json")
    written(tmp_path, {"action": "cancel", "requestId": "order-8812/frame-18", "priority": 1}, name="cancel.json")
    monkeypatch.chdir(tmp_path)
    assert said(capsys, "request.json", "cancel.json")[:2] == (1, shown.splitlines())
