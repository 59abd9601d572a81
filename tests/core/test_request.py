"""What a message body becomes: a request, a cancel, or a rejection that names every problem and quotes no value."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from botocore.serialize import create_serializer
from botocore.session import get_session

from controller.adapters.batch_model import submit_job_shape
from controller.core import limits
from controller.core.job import Job
from controller.core.request import (
    CancelRequest,
    Policy,
    Rejection,
    Rules,
    Scope,
    SubmitRequest,
    batch_job_name,
    parse,
    submit_arguments,
)
from controller.core.request_rules import REQUEST_ID_RULE

RULES = Rules(shapes=submit_job_shape(), policy=Policy(), scope=Scope(region="eu-west-1", account="123456789012"))
MESSAGE_ID = "5fea7756-0ea4-451a-a703-a558b933e274"
BASE = {"jobName": "render", "jobQueue": "high", "jobDefinition": "render:3"}


def parsed(members: Any = None, *, rules: Rules = RULES, **more: Any) -> SubmitRequest | CancelRequest | Rejection:
    body = json.dumps({**BASE, **more} if members is None else members)
    return parse(body, message_id=MESSAGE_ID, rules=rules)


def accepted(rules: Rules = RULES, **more: Any) -> SubmitRequest:
    request = parsed(rules=rules, **more)
    assert isinstance(request, SubmitRequest), request
    return request


def rejected(members: Any = None, *, rules: Rules = RULES, **more: Any) -> Rejection:
    rejection = parsed(members, rules=rules, **more)
    assert isinstance(rejection, Rejection), rejection
    return rejection


def raw(body: str) -> Rejection:
    rejection = parse(body, message_id=MESSAGE_ID, rules=RULES)
    assert isinstance(rejection, Rejection), rejection
    return rejection


def job_of(request: SubmitRequest) -> Job:
    return Job(
        request_id=request.request_id,
        message_id=MESSAGE_ID,
        source="https://sqs.eu-west-1.amazonaws.com/123456789012/requests",
        content_hash=request.content_hash,
        job_name=request.job_name,
        batch_job_name=batch_job_name(request.job_name, store_id="s" * 32, request_id=request.request_id),
        job_queue=request.job_queue,
        job_queue_ref=request.job_queue_ref,
        job_definition=request.job_definition,
        received_at=0.0,
    )


def sent(rules: Rules = RULES, **more: Any) -> dict[str, Any]:
    request = accepted(rules, **more)
    return submit_arguments(
        json.dumps({**BASE, **more}),
        job=job_of(request),
        job_ids={},
        default_tags=rules.default_tags,
        tag_request_id=rules.tag_request_id,
    )


# --- bodies that can't be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "the body is empty; it must be a JSON object"),
        (" \n\t", "the body is empty; it must be a JSON object"),
        ("{", "the body is not JSON: a member name in double quotes is missing (line 1, column 2)"),
        ('{"jobName": secret}', "the body is not JSON: a value is missing (line 1, column 13)"),
        ('{"jobName": "secret}', "the body is not JSON: a string is not closed (line 1, column 13)"),
        ('{"jobName" "secret"}', "the body is not JSON: a colon is missing (line 1, column 12)"),
        ('{"a": 1\n"b": 2}', "the body is not JSON: a comma or closing bracket is missing (line 2, column 1)"),
        ('{"a": "\\q"}', "the body is not JSON: a string holds an escape that JSON does not know (line 1, column 8)"),
        ("{} {}", "the body is not JSON: something follows the object (line 1, column 4)"),
        ("\ufeff{}", "the body is not JSON: it begins with a byte order mark (line 1, column 1)"),
        ('{"jobName": "a\0"}', "the body is not JSON: a string holds a control character that is not escaped"),
        ('{"priority": NaN}', "the body is not JSON: NaN is not a JSON number"),
        ('{"priority": -Infinity}', "the body is not JSON: -Infinity is not a JSON number"),
        ("null", "the body must be a JSON object, not null"),
        ("[]", "the body must be a JSON object, not an array"),
        ('"secret"', "the body must be a JSON object, not a string"),
        ("true", "the body must be a JSON object, not a boolean"),
        ("12", "the body must be a JSON object, not an integer"),
        ("1e999", "the body must be a JSON object, not a number too large to represent"),
    ],
)
def test_body_that_is_no_json_object_is_refused_with_the_place_and_no_value(body: str, reason: str) -> None:
    """A body that is not one JSON object is refused, saying what is wrong where."""
    rejection = raw(body)
    assert rejection.reason.startswith(reason)
    assert rejection.error_code == "invalid_json"
    assert rejection.reason_class == "invalid_request"
    assert rejection.request_id is None


@pytest.mark.parametrize(
    ("envelope", "remedy"),
    [
        (
            {
                "Type": "Notification",
                "MessageId": "m",
                "TopicArn": "arn:aws:sns:eu-west-1:1:t",
                "Message": json.dumps(BASE),
            },
            "raw message delivery",
        ),
        (
            {
                "Type": "SubscriptionConfirmation",
                "MessageId": "m",
                "Token": "t",
                "TopicArn": "arn:aws:sns:eu-west-1:1:t",
                "Message": "You have chosen to subscribe to the topic",
                "SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription",
            },
            "to confirm it, open its SubscribeURL",
        ),
        ({"Records": [{"eventSource": "aws:s3", "s3": {}}]}, "make a request of it"),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b", "HostId": "h"}, "make requests of them"),
        (
            {"QueueUrl": "https://sqs.test/1/q", "MessageBody": json.dumps(BASE)},
            "what it has as MessageBody as the body",
        ),
        ({"version": "0", "id": "e", "source": "shop", "detail-type": "order", "detail": BASE}, "input path $.detail"),
    ],
)
def test_a_request_in_an_envelope_is_told_by_what_wraps_it(envelope: dict[str, Any], remedy: str) -> None:
    """One problem with its remedy, not one for each member of SNS or EventBridge."""
    rejection = rejected(envelope)
    (problem,) = rejection.problems
    assert problem.startswith("the body is ")
    assert problem.endswith(remedy)
    assert (rejection.error_code, rejection.request_id) == ("invalid_request", None)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("depth", [65, 1_000, 100_000])
def test_deep_nesting_is_refused_and_never_a_recursion_error(opening: str, depth: int) -> None:
    """However deep a body is nested, open or closed, it is refused by name."""
    assert raw(opening * depth).reason == "the body is nested deeper than 64 levels"


def test_nesting_up_to_the_limit_and_brackets_in_strings_are_read() -> None:
    """64 levels are decoded; brackets inside a string are no levels."""
    deep = raw('{"x":' + "[" * 63 + "]" * 63 + "}")
    assert deep.problems[0].startswith("x: not a member of the message")
    accepted(parameters={"expression": "[" * 500 + '"{\\"'})


def test_oversized_body_is_refused_unread() -> None:
    """A body longer than any SQS message is refused before it is decoded."""
    rejection = raw("[" * (limits.SQS_MESSAGE_BYTES_MAX + 1))
    assert rejection.error_code == "too_large"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (r'{"jobName": "a\u0000b"}', "jobName: must not hold a NUL character"),
        (r'{"parameters": {"k": "\ud83d"}}', "parameters.k: must not hold half of a surrogate pair"),
        (r'{"parameters": {"\udc00": "v"}}', "parameters: has a member whose name holds half of a surrogate pair"),
        (
            r'{"containerOverrides": {"command": ["a", "\u0000"]}}',
            "containerOverrides.command[1]: must not hold a NUL character",
        ),
        ('{"tags": {"k": "\udfff"}}', "tags.k: must not hold half of a surrogate pair"),
    ],
)
def test_text_that_can_not_be_sent_is_refused_with_its_path(body: str, problem: str) -> None:
    """NUL and lone surrogates make a body invalid, wherever they stand."""
    assert problem in raw(body).problems


def test_surrogate_pairs_and_escaped_backslashes_are_text_like_any_other() -> None:
    """A pair of surrogates is one character, and an escaped backslash before ``u0000`` is no NUL."""
    body = json.dumps(BASE)[:-1] + r', "parameters": {"smile": "\ud83d\ude00", "path": "C:\\u0000"}}'
    assert isinstance(parse(body, message_id=MESSAGE_ID, rules=RULES), SubmitRequest)


@pytest.mark.parametrize("number", ["1" + "0" * 5_000, "-" + "9" * 400, "1e400", "-1e999", "9223372036854775808"])
def test_huge_numbers_are_refused_with_their_path(number: str) -> None:
    """Numbers that neither a double nor 64 bits hold are refused where they stand, however many digits they have."""
    rejection = raw(f'{{"priority": {number}, "arrayProperties": {{"size": {number}}}}}')
    assert "priority: must be an integer and be from -1,000 to 1,000, not a number too large to represent" in (
        rejection.problems
    )
    assert any(problem.startswith("arrayProperties.size: must be an integer") for problem in rejection.problems)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('{"jobName": "a", "jobName": "a"}', "jobName: given more than once"),
        ('{"tags": {"team": "a", "team": "b"}}', "tags.team: given more than once"),
        (
            '{"containerOverrides": {"environment": [{"name": "A", "value": "1", "value": "2"}]}}',
            "containerOverrides.environment[0].value: given more than once",
        ),
        ('{"action": "cancel", "requestId": "r", "action": "cancel"}', "action: given more than once"),
    ],
)
def test_member_given_twice_is_refused(body: str, problem: str) -> None:
    """An object that names a member twice is refused at any depth, even if both values agree."""
    assert problem in raw(body).problems


def test_request_id_given_twice_is_not_taken_for_the_requests_id() -> None:
    """Which of two ids was meant is unknown: the rejection names none."""
    assert raw('{"requestId": "a", "requestId": "b"}').request_id is None


# --- how problems are reported ------------------------------------------------------------------------------


def test_missing_members_and_all_other_problems_are_reported_at_once() -> None:
    """A body with many problems is told all of them, each with its path."""
    rejection = rejected(
        {"requestId": "r-1", "jobname": "x", "priority": "high", "timeout": {"attemptDurationSeconds": 1}}
    )
    assert set(rejection.problems) == {
        "priority: must be an integer and be from -1,000 to 1,000, not a string",
        "jobname: not a member of the message; the nearest is jobName",
        "timeout.attemptDurationSeconds: must be at least 60",
        "jobName: required",
        "jobQueue: required",
        "jobDefinition: required",
    }
    assert rejection.reason == "; ".join(rejection.problems)
    assert rejection.request_id == "r-1"


def test_requests_that_a_request_depends_on_are_named_once_each() -> None:
    """``dependsOn[].requestId`` stands beside ``jobId``; the same one may be named with and without a type."""
    named = accepted(dependsOn=[{"jobId": "j"}, {"requestId": "r-2"}, {"requestId": "r-2", "type": "N_TO_N"}])
    assert named.depends_on == ("r-2",)
    assert accepted(dependsOn=[{"jobId": "j"}]).depends_on == ()


@pytest.mark.parametrize(
    ("depends_on", "problem"),
    [
        ([{"requestId": MESSAGE_ID}], "dependsOn: must not name the request's own requestId"),
        ([{"requestId": ""}], f"dependsOn[0].requestId: must {REQUEST_ID_RULE.says}"),
        ([{"requestId": 3}], "dependsOn[0].requestId: must be a string, not a number: write it in quotes"),
        ([{"requestID": "r-2"}], "dependsOn[0].requestID: not a member of dependsOn[0]; the nearest is requestId"),
        (
            [{"requestId": "r-2", "jobId": "j"}],
            "dependsOn[0].requestId: must be left out beside jobId: give one of the two",
        ),
        ([{"type": "N_TO_N"}], "dependsOn[0].jobId: required, or requestId, unless type is SEQUENTIAL"),
        ([{"requestId": f"r-{n}"} for n in range(2, 23)], "dependsOn: must name at most 20 jobs"),
    ],
)
def test_what_a_dependency_on_a_request_must_be(depends_on: list[dict[str, Any]], problem: str) -> None:
    """Each broken rule names the entry and what would be right."""
    assert problem in rejected(dependsOn=depends_on).problems


@pytest.mark.parametrize("entry", [5, None, "r-3", {"requestId": 3}, {"requestId": ["r-3"]}, {"requestId": None}])
def test_a_large_body_with_a_broken_dependency_is_judged(entry: Any) -> None:
    """Its size is that of what would be sent, which is worked out beside whatever else is wrong with it."""
    rejection = rejected(dependsOn=[{"requestId": "r-2"}, entry], parameters={"p": "x" * 4_000})
    assert any(problem.startswith("dependsOn[1]") for problem in rejection.problems), rejection.problems


def test_job_ids_take_the_place_of_request_ids() -> None:
    """Batch gets job ids; what has SUCCEEDED already is left out, and with it a list that would be empty."""
    entries = [{"requestId": "r-2", "type": "N_TO_N"}, {"jobId": "j-1"}, {"requestId": "r-3"}]

    def resolved(depends_on: list[dict[str, str]]) -> dict[str, Any]:
        request = accepted(dependsOn=depends_on)
        body = json.dumps({**BASE, "dependsOn": depends_on})
        ids = {"r-2": "j-2", "r-3": None}
        return submit_arguments(body, job=job_of(request), job_ids=ids, default_tags={}, tag_request_id=False)

    assert resolved(entries)["dependsOn"] == [{"type": "N_TO_N", "jobId": "j-2"}, {"jobId": "j-1"}]
    assert "dependsOn" not in resolved([{"requestId": "r-3"}])


def test_reason_is_cut_at_one_kibibyte_and_counts_what_is_left_out() -> None:
    """A long list of problems ends with how many more there are; all stay in ``problems``."""
    rejection = rejected(parameters={f"parameter_{n}": n for n in range(100)})
    assert len(rejection.problems) == 100
    assert 900 < len(rejection.reason.encode()) <= 1_024
    shown = rejection.reason.split("; ")
    assert shown[:-1] == list(rejection.problems[: len(shown) - 1])
    assert shown[-1] == f"… and {100 - len(shown) + 1} more"


def test_long_and_strange_names_are_not_quoted_whole() -> None:
    """Unknown names are quoted only if they look like one, and never beyond 64 characters."""
    rejection = rejected(**{"s" * 5_000: 1, "se cret": 1})
    assert rejection.problems[0].startswith("s" * 63 + "…: not a member of the message")
    assert "se cret" not in str(rejection)


def test_problems_of_a_hostile_body_are_bounded() -> None:
    """A body with half a million problems costs no more than a thousand."""
    rejection = raw('{"containerOverrides":{"command":[' + ",".join(["1"] * 400_000) + "]}}")
    assert len(rejection.problems) == 1_000
    assert len(rejection.reason.encode()) <= 1_024


# --- sizes --------------------------------------------------------------------------------------------------


def serialized(arguments: dict[str, Any]) -> bytes:
    """What the SDK puts on the wire."""
    operation = get_session().get_service_model("batch").operation_model("SubmitJob")
    body = create_serializer("rest-json").serialize_to_request(arguments, operation)["body"]
    assert isinstance(body, bytes)
    return body


@pytest.mark.parametrize("character", ["a", "é", "😀", '"', "\n", "\x7f"])
def test_payload_limit_holds_to_the_byte_on_what_the_sdk_sends(character: str) -> None:
    """30 KiB is what AWS Batch takes, of the body as the SDK writes it, with the longer job name and our tags."""
    rules = replace(RULES, default_tags={"team": "Zürich", "cost": "1"})
    step = len(json.dumps(character)) - 2
    room = limits.PAYLOAD_BYTES_MAX - len(serialized(sent(rules, jobName="a" * 120, parameters={"p": ""})))
    fits = character * (room // step) + "a" * (room % step)
    arguments = sent(rules, jobName="a" * 120, parameters={"p": fits})
    assert len(serialized(arguments)) == limits.PAYLOAD_BYTES_MAX
    rejection = rejected(rules=rules, jobName="a" * 120, parameters={"p": fits + "a"})
    assert rejection.error_code == "too_large"
    assert "the request is 30,721 bytes as SubmitJob" in rejection.reason


@pytest.mark.parametrize(
    ("path", "wrap"),
    [
        ("containerOverrides", lambda c: {"containerOverrides": c}),
        (
            "nodeOverrides.nodePropertyOverrides[1].containerOverrides",
            lambda c: {
                "nodeOverrides": {
                    "nodePropertyOverrides": [{"targetNodes": "0"}, {"targetNodes": "1:", "containerOverrides": c}]
                }
            },
        ),
    ],
)
def test_container_overrides_longer_than_ecs_takes_are_refused(path: str, wrap: Any) -> None:
    """8192 characters of overrides pass, one more would make the job FAIL: it is refused here."""
    frame = len(json.dumps({"command": [""]}, separators=(",", ":")))
    accepted(**wrap({"command": ["é" * 500 + "a" * (7_692 - frame)]}))
    rejection = rejected(**wrap({"command": ["é" * 500 + "a" * (7_693 - frame)]}))
    assert rejection.problems[0] == f"{path}: 8,193 characters as compact JSON; Amazon ECS takes at most 8,192"
    assert rejection.error_code == "too_large"


def test_ecs_task_overrides_count_all_containers_of_the_task() -> None:
    """The containers of one task share the limit of 8192 characters."""
    rejection = rejected(
        ecsPropertiesOverride={
            "taskProperties": [{"containers": [{"command": ["x" * 4_500]}, {"command": ["x" * 4_500]}]}]
        }
    )
    assert rejection.problems[0].startswith("ecsPropertiesOverride.taskProperties[0].containers: 9,")


def test_short_body_that_grows_on_its_way_is_measured_too() -> None:
    """The SDK writes one character beyond the basic plane as 12 bytes: 3,000 of them are over 30 KiB."""
    body = json.dumps({**BASE, "parameters": {"p": "😀" * 3_000}}, ensure_ascii=False)
    assert len(body) < 3_200
    assert raw(body).error_code == "too_large"


# --- ids, names, times -----------------------------------------------------------------------------------


def test_request_has_what_the_body_says() -> None:
    """Every field of the request comes from the body, the queue's name from its ARN."""
    queue = "arn:aws:batch:eu-west-1:123456789012:job-queue/high"
    request = accepted(
        requestId="order/1",
        jobQueue=queue,
        priority=7,
        arrayProperties={"size": 9},
        expiresAt="1970-01-02T01:00:00.25+01:00",
    )
    assert request.request_id == "order/1"
    assert request.job_name == "render"
    assert (request.job_queue, request.job_queue_ref) == ("high", queue)
    assert request.job_definition == "render:3"
    assert request.priority == 7
    assert request.array_size == 9
    assert request.expires_at == 86_400.25


def test_message_id_is_the_id_of_a_request_without_one() -> None:
    """Without ``requestId`` the SQS MessageId stands in; the rest has its defaults."""
    request = accepted()
    assert request.request_id == MESSAGE_ID
    assert (request.priority, request.array_size, request.expires_at) == (0, None, None)


def test_request_id_can_be_demanded() -> None:
    """With ``intake.require_request_id`` a body without an id is refused."""
    rejection = rejected(rules=replace(RULES, require_request_id=True))
    assert rejection.problems == ("requestId: required by intake.require_request_id",)
    accepted(replace(RULES, require_request_id=True), requestId="r")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01 00:00:01z", 1.0),
        ("1969-12-31T23:00:00-01:00", 0.0),
        ("1970-01-01T00:00:00.123456789012345678901234567890Z", 0.123456789),
        ("2016-12-31T23:59:60Z", 1_483_228_800.0),
        ("9999-12-31T23:59:59-23:59", 253_402_387_139.0),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140.0),
    ],
)
def test_expiry_is_read_as_rfc_3339(text: str, seconds: float) -> None:
    """Offsets, fractions, leap seconds and the ends of the calendar are read."""
    assert accepted(expiresAt=text).expires_at == pytest.approx(seconds, abs=1e-6)


def test_batch_job_name_is_cut_and_unique_per_store_and_request() -> None:
    """The Batch job name keeps 115 characters and adds 12 hex digits of store and request id."""
    digest = hashlib.sha256(b"store\0r-1").hexdigest()[:12]
    assert batch_job_name("a" * 128, store_id="store", request_id="r-1") == "a" * 115 + "-" + digest
    assert batch_job_name("a", store_id="store", request_id="r-1") != batch_job_name(
        "a", store_id="s", request_id="r-1"
    )
    assert batch_job_name("a", store_id="s1", request_id="1") != batch_job_name("a", store_id="s", request_id="11")


# --- content ------------------------------------------------------------------------------------------------


def content_hash(body: str) -> bytes:
    request = parse(body, message_id=MESSAGE_ID, rules=RULES)
    assert isinstance(request, SubmitRequest), request
    return request.content_hash


def test_content_is_the_same_whatever_the_layout_and_the_request_id() -> None:
    """Order, white space, escapes and ``requestId`` do not change the content; any other member does."""
    first = content_hash('{"jobName":"a","jobQueue":"q","jobDefinition":"d","parameters":{"x":"é","y":"/"}}')
    second = content_hash(
        '{ "requestId": "r", "parameters": {"y": "\\/", "x": "\\u00e9"},\n "jobDefinition":"d",'
        '"jobQueue":"q","jobName":"a"}'
    )
    assert first == second
    assert len(first) == 32
    assert first != content_hash('{"jobName":"a","jobQueue":"q","jobDefinition":"d","parameters":{"x":"é","y":"."}}')
    assert first != content_hash(
        '{"jobName":"a","jobQueue":"q","jobDefinition":"d","parameters":{"x":"é","y":"/"},"priority":0}'
    )


def test_content_hash_never_changes_between_versions() -> None:
    """Hashes are stored and compared for weeks: the canonical form is fixed."""
    body = '{"jobQueue":"q","jobName":"a","jobDefinition":"d","tags":{"é":"\\u007f😀"},"priority":-0}'
    canonical = '{"jobDefinition":"d","jobName":"a","jobQueue":"q","priority":0,"tags":{"é":"\x7f😀"}}'
    assert content_hash(body) == hashlib.sha256(canonical.encode()).digest()


# --- cancel -------------------------------------------------------------------------------------------------


def test_cancel_needs_nothing_but_the_id() -> None:
    """A cancel names a request, with a reason if it likes; an empty reason is none."""
    assert parsed({"action": "cancel", "requestId": "r-1"}) == CancelRequest(request_id="r-1", reason=None)
    assert parsed({"action": "cancel", "requestId": "r-1", "reason": ""}) == CancelRequest(
        request_id="r-1", reason=None
    )
    long = "x" * 1_024
    assert parsed({"action": "cancel", "requestId": "r-1", "reason": long}) == CancelRequest(
        request_id="r-1", reason=long
    )


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({}, "requestId: required: it names the request to cancel"),
        ({"requestId": "a b"}, "requestId: must be 1 to 128 of letters"),
        ({"requestId": "r", "reason": "x" * 1_025}, "reason: must be at most 1,024 characters"),
        ({"requestId": "r", "reason": None}, "reason: must be a string, not null"),
        ({"requestId": "r", "requestid": "j"}, "requestid: not a member of a cancel message; the nearest is requestId"),
        (
            {"requestId": "r", "priority": 1},
            "priority: not a member of a cancel message, which has action, requestId, reason",
        ),
    ],
)
def test_cancel_that_breaks_a_rule_is_refused(members: dict[str, Any], problem: str) -> None:
    """A cancel takes only action, requestId and reason."""
    rejection = rejected({"action": "cancel", **members})
    assert len(rejection.problems) == 1
    assert rejection.problems[0].startswith(problem)


# --- what is sent ------------------------------------------------------------------------------------------


def test_arguments_are_the_body_without_our_members_under_the_stored_name() -> None:
    """SubmitJob gets the body, the Batch job name, the queue as given, and the request-id tag."""
    arguments = sent(
        requestId="r-1", priority=3, expiresAt="2030-01-01T00:00:00Z", action="submit", parameters={"a": "b"}
    )
    assert arguments == {
        "jobName": batch_job_name("render", store_id="s" * 32, request_id="r-1"),
        "jobQueue": "high",
        "jobDefinition": "render:3",
        "parameters": {"a": "b"},
        "tags": {"batch-controller/request-id": "r-1"},
    }


def test_own_tags_win_over_default_tags_which_fill_what_is_left() -> None:
    """The request's tags come first, then ours, then default tags in their order until 50."""
    defaults = {"team": "default", "batch-controller/request-id": "x", **{f"d{n}": "v" for n in range(5)}}
    own = {"team": "own", **{f"k{n}": "v" for n in range(45)}}
    tags = sent(replace(RULES, default_tags=defaults), tags=own, requestId="r-1")["tags"]
    assert len(tags) == 50
    assert tags["team"] == "own"
    assert tags["batch-controller/request-id"] == "r-1"
    assert [key for key in tags if key.startswith("d")] == ["d0", "d1", "d2"]


def test_no_tags_are_sent_if_there_are_none() -> None:
    """An empty map of tags is left out: AWS Batch wants at least one entry."""
    assert "tags" not in sent(replace(RULES, tag_request_id=False), tags={})
    accepted(replace(RULES, tag_request_id=False), tags={f"k{n}": "v" for n in range(50)})


def test_request_id_tag_gives_way_if_the_configuration_changed_since_intake() -> None:
    """50 tags accepted while our tag was off stay 50 tags when it is on."""
    tags = {f"k{n}": "v" for n in range(50)}
    request = accepted(replace(RULES, tag_request_id=False), tags=tags)
    body = json.dumps({**BASE, "tags": tags})
    arguments = submit_arguments(body, job=job_of(request), job_ids={}, default_tags={"d": "v"}, tag_request_id=True)
    assert arguments["tags"] == tags
