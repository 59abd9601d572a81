"""A configuration that can't work: one line per problem, with key, source, problem and remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from controller.adapters.batch_model import submit_job_shape
from controller.config import load_settings
from controller.core.errors import Misconfigured

QUEUE = "https://sqs.eu-central-1.amazonaws.com/111122223333/requests"
P = "BATCH_CONTROLLER_"


def problems(
    environ: Mapping[str, str] | None = None, file: Path | None = None, urls: tuple[str, ...] = (QUEUE,)
) -> str:
    with pytest.raises(Misconfigured) as caught:
        load_settings(file, queue_urls=urls, environ=environ or {}, submit_job=submit_job_shape)
    return str(caught.value)


def in_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return problems(file=path).replace(str(path), "c.yaml")


def test_a_missing_queue_url_says_how_to_give_one() -> None:
    """Without a queue the message names the key and the flag."""
    text = problems(urls=())
    assert text.startswith("intake.queue_urls (not set): must be given")
    assert "--queue-url" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sumbit: {rate_per_s: 1}", "sumbit (file c.yaml): no such key; did you mean submit?"),
        ("submit: {rate_pers: 1}", "submit.rate_pers (file c.yaml): no such key; did you mean submit.rate_per_s?"),
        ("track: {settle_s: 1}", "track.settle_s (file c.yaml): no such key; did you mean submit.settle_s?"),
        ("settle_s: 1", "settle_s (file c.yaml): no such key; did you mean submit.settle_s?"),
        ("queues: {a: {wieght: 1}}", "queues.a.wieght (file c.yaml): no such key; did you mean queues.a.weight?"),
        ("sinks: [{type: log, event: []}]", "sinks[0].event (file c.yaml): no such key; did you mean sinks[0].events?"),
    ],
)
def test_an_unknown_key_names_the_nearest(tmp_path: Path, text: str, expected: str) -> None:
    """At any depth of the file an unknown key is an error that names the nearest one."""
    assert in_file(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("submit.rate_per_s: 20", "submit: {rate_per_s: …}"),
        ("submit.rate: 20", "submit: {rate_per_s: …}"),
        ("queues.high.max_in_flight: 5", "queues: {high: {max_in_flight: …}}"),
        ("sinks.type: log", "sinks: [{type: …}]"),
        ("queues: {high.max_in_flight: 5}", "queues: {high: {max_in_flight: …}}"),
        ("queues: {high: {max.in_flight: 5}}", "queues: {high: {max_in_flight: …}}"),
    ],
)
def test_a_key_with_a_dot_is_shown_as_a_section(tmp_path: Path, text: str, expected: str) -> None:
    """As documentation names keys, and a file does not."""
    first = in_file(tmp_path, text).splitlines()[0]
    assert first.endswith(f"(file c.yaml): is one name with a dot in it; write it as a section: {expected}")


def test_the_chart_s_values_are_known_when_seen(tmp_path: Path) -> None:
    """Once, in place of a line for each of their keys."""
    assert in_file(tmp_path, "image: {repository: x}\nconfig: {intake: {queue_urls: []}}\n") == (
        "--config c.yaml: looks like the values of the Helm chart; give a file of what is under their key 'config'"
    )
    assert "config (file c.yaml): no such key" in in_file(tmp_path, "config: 5")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("low-*", "is a pattern, and limits go by name: give each job queue an entry, or '*' for all that have none"),
        ("h?gh", "is a pattern, and limits go by name: give each job queue an entry, or '*' for all that have none"),
        ("a b", "must be the name of a Batch job queue, which has 1 to 128 letters, digits, '-' and '_'; or '*'"),
    ],
)
def test_what_is_no_job_queue_s_name_is_told_why(tmp_path: Path, name: str, reason: str) -> None:
    """A pattern is no name, though policies have patterns."""
    assert in_file(tmp_path, f"queues: {{{json.dumps(name)}: {{}}}}") == f"queues.{name} (file c.yaml): {reason}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"intake: {{queue_urls: '{QUEUE}'}}", "intake.queue_urls"),
        ("intake: {tenant_from: source}", "intake.tenant_from"),
        ("submit: {default_tags: team=film}", "submit.default_tags"),
        ("queues: [high]", "queues"),
        ("sinks: {type: log}", "sinks"),
        ("sinks: [{type: log, events: 'job.*'}]", "sinks[0].events"),
        *(
            (f"policy: {{allowed_{name}: high}}", f"policy.allowed_{name}")
            for name in ("job_queues", "job_definitions")
        ),
        ("policy: {allowed_overrides: timeout}", "policy.allowed_overrides"),
    ],
)
def test_a_list_or_map_is_shown_by_an_example_that_is_taken(tmp_path: Path, text: str, key: str) -> None:
    """What is shown can be put there."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    told = problems(file=path, urls=())
    (line,) = [line for line in told.splitlines() if line.startswith(f"{key} (")]
    kind, _, example = line.partition(": must be a ")[2].partition(", such as ")
    assert kind in ("list", "map")
    if key.startswith("sinks[0]."):
        key, example = "sinks", f'[{{"type": "log", "events": {example}}}]'
    meant = example.replace("REGION", "eu-central-1").replace("ACCOUNT", "111122223333")
    name = P + key.upper().replace(".", "__")
    load_settings(None, queue_urls=[QUEUE], environ={name: meant}, submit_job=submit_job_shape)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("submit: 5", "submit (file c.yaml): must be a section with keys of its own, such as {rate_per_s: …}"),
        (
            "queues: {a: 5}",
            "queues.a (file c.yaml): must be a section with keys of its own, such as {max_in_flight: …}",
        ),
        ("sinks: [log]", "sinks[0] (file c.yaml): must be a section with keys of its own, such as {type: …}"),
    ],
)
def test_a_section_is_shown_by_its_first_key(tmp_path: Path, text: str, expected: str) -> None:
    """Where something else stands in its place."""
    assert in_file(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("QUEUE_URL", """INTAKE__QUEUE_URLS='["https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"]'"""),
        ("QUEUE_URLS", """INTAKE__QUEUE_URLS='["https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"]'"""),
        ("QUEUES__HIGH__MAX_IN_FLIGHT", """QUEUES='{"high": {"max_in_flight": 50}}'"""),
        ("REGION", "AWS__REGION"),
        ("DEAD_LETTER_QUEUE_URL", "INTAKE__DEAD_LETTER_QUEUE_URL"),
    ],
)
def test_a_variable_is_known_by_the_last_part_of_its_key(variable: str, meant: str) -> None:
    """The section is what is forgotten; the form of a list or map is shown."""
    assert f"no such setting; did you mean {P}{meant}?" in problems({P + variable: "x"})


def test_an_unknown_variable_names_the_nearest() -> None:
    """A variable with our prefix that sets nothing is an error, in whatever case it is written."""
    assert problems({P + "SUBMIT_RATE_PER_S": "1"}) == (
        "BATCH_CONTROLLER_SUBMIT_RATE_PER_S (environment): no such setting; "
        "did you mean BATCH_CONTROLLER_SUBMIT__RATE_PER_S? Correct the name or unset it"
    )
    assert "BATCH_CONTROLLER_LOG__LEVEL?" in problems({"batch_controller_log__level": "info"})
    assert "no such setting" in problems({P + "QUEUES__HIGH__MAX_IN_FLIGHT": "5"})
    assert "no such setting" in problems({P + "SUBMIT": '{"rate_per_s": 1}'})


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("SUBMIT__RATE_PER_S", "0", "must be greater than 0"),
        ("SUBMIT__RATE_PER_S", "many", "must be a number of calls per second, such as 40, without the unit"),
        ("SUBMIT__SETTLE_S", "inf", "must be a finite number of seconds, such as 330, without the unit"),
        ("SUBMIT__RATE_PER_S", "", "is empty; unset the variable or give it a value"),
        ("SUBMIT__TIMEOUT_S", "0.5", "must be at least 1"),
        ("SUBMIT__CONCURRENCY", "1.5", "must be a whole number of calls, such as 32"),
        ("SUBMIT__SETTLE_S", "-1", "must be at least 0"),
        ("SUBMIT__TAG_REQUEST_ID", "perhaps", "must be true or false"),
        ("SUBMIT__DEFAULT_TAGS", '["a"]', 'must be a map, such as {"team": "film"}'),
        ("SUBMIT__DEFAULT_TAGS", "team=x", """is not JSON; write it like '{"team": "film"}'"""),
        ("QUEUES", '{"a": {"weight": 2, "weight": 3}}', "the key weight is given twice; leave one out"),
        ("QUEUES", '{"a": {"max_in_flight": 5}, "a": {}}', "the key a is given twice; leave one out"),
        ("INTAKE__VISIBILITY_TIMEOUT_S", "43201", "must be at most 43200"),
        ("INTAKE__TENANT_FROM", '["source", "source"]', "names something twice; leave one out"),
        (
            "INTAKE__QUEUE_URLS",
            QUEUE,
            """is not JSON; write it like '["https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"]'""",
        ),
        ("STORE__FREE_MIB_MIN", "1Gi", "must be a whole number of MiB, without the unit"),
        ("HTTP__PORT", "http", "must be a whole number, such as 8080"),
        ("CONTROLLER__DRAIN_S", "30s", "must be a number of seconds, such as 30, without the unit"),
        ("RETENTION__FINAL_S", "15d", "must be a number of seconds, such as 1296000, without the unit"),
        ("TRACK__LOST_AFTER_S", "0", "must be at least 1"),
        ("LOG__LEVEL", "loud", "must be 'debug', 'info', 'warning' or 'error'"),
        ("HTTP__PORT", "65536", "must be at most 65535"),
        ("AWS__REGION", "Frankfurt", "must be the code of a Region, such as eu-central-1"),
        ("STORE__URL", "state.db", "must be sqlite:///relative/path.db or sqlite:////absolute/path.db"),
    ],
)
def test_a_wrong_value_names_key_source_and_rule(variable: str, value: str, expected: str) -> None:
    """The message has the key, the variable it came from, and what would be right; and nothing else."""
    text = problems({P + variable: value}, urls=() if variable == "INTAKE__QUEUE_URLS" else (QUEUE,))
    key = variable.lower().replace("__", ".")
    assert text.splitlines() == [f"{key} (environment {P}{variable}): {expected}"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("INTAKE__BACKLOG_HIGH", "10"), ("INTAKE__BACKLOG_LOW", "10"), "must be below backlog_high, which is 10"),
        (("INTAKE__BACKLOG_HIGH", "10"), ("INTAKE__BACKLOG_MAX", "9"), "must be at least backlog_high, which is 10"),
        (("INTAKE__BACKLOG_MAX", "9"), ("INTAKE__BACKLOG_LOW", "9"), "must be below backlog_high, which is 9"),
        (("TRACK__INTERVAL_S_MIN", "2"), ("TRACK__INTERVAL_S_MAX", "1"), "must be at least interval_s_min, which is 2"),
    ],
)
def test_two_that_contradict_each_other_are_refused(
    first: tuple[str, str], second: tuple[str, str], expected: str
) -> None:
    """Both were given, so neither can follow the other."""
    key = second[0].lower().replace("__", ".")
    text = problems({P + first[0]: first[1], P + second[0]: second[1]})
    assert f"{key} (environment {P}{second[0]}): {expected}" in text.splitlines()


def test_what_names_no_tenant_is_refused_with_what_does() -> None:
    """An entry of the list that means nothing is answered with those that do."""
    assert problems({P + "INTAKE__TENANT_FROM": '["source", "queue"]'}) == (
        f"intake.tenant_from[1] (environment {P}INTAKE__TENANT_FROM): "
        "must be 'share_identifier', 'attribute', 'message_group' or 'source'"
    )


def test_yaml_truth_values_are_no_numbers(tmp_path: Path) -> None:
    """``rate_per_s: on`` is a mistake, not a rate of 1."""
    assert "must be a number, not a truth value" in in_file(tmp_path, "submit: {rate_per_s: on}")


def test_all_problems_are_told_at_once() -> None:
    """Three mistakes make three lines, so that they can be corrected in one go."""
    text = problems({P + "HTTP__PORT": "x", P + "LOG__FORMAT": "xml", P + "NOTHING": "1"})
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize(
    ("variable", "value", "what"),
    [
        ("STORE__URL", "postgresql://user:hidden@db/x", "PostgreSQL"),
        ("STORE__URL", "postgresql+asyncpg://user:hidden@db/x", "PostgreSQL"),
        ("SINKS", '[{"type": "sns"}]', "sns"),
        ("SINKS", '[{"type": "eventbridge"}]', "eventbridge"),
        ("SINKS", '[{"type": "webhook", "url": "https://u:hidden@h/"}]', "webhook"),
    ],
)
def test_what_is_not_built_yet_is_refused_and_says_so(variable: str, value: str, what: str) -> None:
    """Names of the contract that this version lacks are refused with a message that says so, and quote no secret."""
    text = problems({P + variable: value})
    assert "not built yet" in text
    assert what in text
    assert "hidden" not in text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("arn:aws:sqs:eu-central-1:111122223333:requests", "is an ARN"),
        ("requests", "is not a URL"),
        ("https://sqs.eu-central-1.amazonaws.com/requests", "does not end in /ACCOUNT/QUEUE_NAME"),
        ("https://sqs.eu-central-1.api.aws/requests", "does not end in /ACCOUNT/QUEUE_NAME"),
        ("http://localhost:4566/", "does not end in /ACCOUNT/QUEUE_NAME"),
        ("https://key:hidden@sqs.eu-central-1.amazonaws.com/1/q", "must have no user name"),
        ("https://host:port/1/q", "is not a URL"),
        ("ftp://host/1/q", "is not a URL"),
        ("", "is not a URL"),
    ],
)
def test_a_wrong_queue_url_is_told_with_the_flag(url: str, expected: str) -> None:
    """The message names the flag and the place in the list, and quotes no password."""
    text = problems(urls=(url,))
    assert text.startswith(f"intake.queue_urls[0] (flag --queue-url): {expected}")
    assert "hidden" not in text


@pytest.mark.parametrize(
    ("consumed", "other"),
    [
        (QUEUE, QUEUE),
        (QUEUE, "https://eu-central-1.queue.amazonaws.com/111122223333/requests"),
        (QUEUE, "https://sqs.eu-central-1.api.aws/111122223333/requests"),
        (QUEUE, "https://SQS.eu-central-1.amazonaws.com:443/111122223333/requests"),
        (QUEUE, "https://vpce-0a1b-2c3d.sqs.eu-central-1.vpce.amazonaws.com/111122223333/requests"),
        ("http://sqs.test:80/1/q", "http://SQS.test/1/q"),
    ],
)
def test_queues_that_feed_themselves_are_refused(consumed: str, other: str) -> None:
    """Dead letters and events must not be sent to a queue that is consumed; no queue is consumed twice. By whatever
    URL: a queue of AWS has several."""
    urls = (consumed,)
    assert "is also consumed" in problems({P + "INTAKE__DEAD_LETTER_QUEUE_URL": other}, urls=urls)
    assert "is also consumed" in problems({P + "SINKS": f'[{{"type": "sqs", "queue_url": "{other}"}}]'}, urls=urls)
    assert "names a queue twice" in problems(urls=(consumed, other))
    assert "is used for something else too" in problems({P + "TRACK__EVENTS_QUEUE_URL": other}, urls=urls)


def test_queues_of_one_name_are_not_taken_for_one() -> None:
    """Another Region, account, name or port is another queue."""
    others = ("https://sqs.eu-west-1.amazonaws.com/111122223333/requests", QUEUE.replace("1111", "9999"), f"{QUEUE}-2")
    stand_ins = ("http://localhost:4566/1/requests", "http://localhost:4567/1/requests")
    settings = load_settings(None, queue_urls=(QUEUE, *others, *stand_ins), environ={})
    assert len(settings.intake.queue_urls) == 6


@pytest.mark.parametrize(
    ("sinks", "expected"),
    [
        (
            '[{"type": "log", "name": "a"}, {"type": "log", "name": "a"}]',
            "sinks[1].name (environment BATCH_CONTROLLER_SINKS): 'a' is another",
        ),
        ('[{"type": "sqs"}]', "sinks[0].queue_url (environment BATCH_CONTROLLER_SINKS): must be given for an sqs sink"),
        ('[{"name": "x"}]', "sinks[0].type (environment BATCH_CONTROLLER_SINKS): must be given"),
        ('[{"type": "log", "events": []}]', "sinks[0].events (environment BATCH_CONTROLLER_SINKS): is empty"),
        ('[{"type": "log", "events": ["job.done"]}]', "matches no event; the events are request.accepted"),
        ('[{"type": "log", "name": "dead_letter"}]', "is the dead-letter queue's own"),
        ('[{"type": "log", "name": "A b"}]', "lower-case letters"),
        ('[{"type": "kafka"}]', "must be 'log' or 'sqs'"),
    ],
)
def test_wrong_sinks_are_told_by_their_place(sinks: str, expected: str) -> None:
    """Sinks need a type that is built, what the type needs, and a name of their own."""
    assert expected in problems({P + "SINKS": sinks})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({f"k{n}": "v" for n in range(51)}, "has more than 50 tags"),
        ({f"k{n}": "v" for n in range(50)}, "at most 49"),
        ({"aws:x": "v"}, "AWS's"),
        ({"batch-controller/request-id": "v"}, "the controller's"),
        ({"k": "v" * 257}, "values up to 256"),
    ],
)
def test_default_tags_keep_the_rules_of_batch(tags: dict[str, str], expected: str) -> None:
    """Tags that Batch would refuse with every job are refused at start."""
    assert expected in problems({P + "SUBMIT__DEFAULT_TAGS": json.dumps(tags)})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("submit: {rate_per_s: 1\n", ", line 2: is not valid"),
        (
            "submit: {rate_per_s: 1}\nsubmit: {concurrency: 1}\n",
            ", line 2: is not valid (the key submit is given twice)",
        ),
        ("on: 1\n", ", line 1: is not valid (a key that is not text)"),
        ("- a\n", ": must be a mapping of sections"),
        ("submit: 5\n", "submit (file c.yaml): must be a section with keys of its own"),
        ("controller: {name: 5}\n", "controller.name (file c.yaml): must be text"),
        ("queues: {'arn:aws:batch:r:1:job-queue/q': {}}\n", "is an ARN; give the job queue's name"),
        ("store: {url: !!python/object/apply:os.getcwd []}\n", "line 1: is not valid"),
        ("log: {level: null}\n", "log.level (file c.yaml): must be 'debug'"),
        ("submit: {rate_per_s: 2026-02-30}\n", "submit.rate_per_s (file c.yaml): must be a number"),
        ("submit: {rate_per_s: 0x_}\n", "submit.rate_per_s (file c.yaml): must be a number"),
        ("submit: {tag_request_id: !!bool maybe}\n", "submit.tag_request_id (file c.yaml): must be true or false"),
        ("submit: {concurrency: !!int maybe}\n", "submit.concurrency (file c.yaml): must be a whole number"),
        ("controller: {name: !!binary gIGC}\n", "controller.name (file c.yaml): must be UTF-8 text"),
    ],
)
def test_a_broken_file_is_told_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    """A file that is no YAML, no mapping or has a key twice is told with file and line."""
    assert expected in in_file(tmp_path, text)


@pytest.mark.parametrize("value", ["*c4n4ry", "!c4n4ry x", "!c4n4ry!y x", "&c4n4ry x, b: &c4n4ry y"])
def test_what_yaml_takes_for_a_name_is_not_quoted(tmp_path: Path, value: str) -> None:
    """A value that is not in quotes and begins with a sign of YAML's may be a secret."""
    told = in_file(tmp_path, f"submit: {{default_tags: {{a: {value}}}}}\n")
    assert "c.yaml" in told
    assert "c4n4ry" not in told


def test_a_variable_that_is_not_utf_8_is_told() -> None:
    """The environment may hold any bytes; Python gives those that are no UTF-8 as halves of surrogate pairs."""
    assert problems({P + "CONTROLLER__NAME": "caf\udce9"}) == (
        "controller.name (environment BATCH_CONTROLLER_CONTROLLER__NAME): must be UTF-8 text"
    )


def test_a_file_that_can_t_be_read_is_told(tmp_path: Path) -> None:
    """A missing file, a folder and a file that is not text are told with the path."""
    assert "can't be read (No such file or directory)" in problems(file=tmp_path / "none.yaml")
    assert "can't be read" in problems(file=tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8" in problems(file=tmp_path / "binary")


def test_syntax_errors_quote_nothing_of_the_file(tmp_path: Path) -> None:
    """The parser's own text has an excerpt of the file, which may hold a secret."""
    assert "hidden" not in in_file(tmp_path, "store: {url: 'postgresql://u:hidden@h'\nx: [hidden\n")


@pytest.mark.parametrize("value", ["0", "-3", "many", "true", "1.5", "null", "Auto", ".inf"])
def test_a_limit_of_waiting_jobs_is_a_count_or_auto(tmp_path: Path, value: str) -> None:
    """One message, not one per kind of value that it might have been."""
    assert in_file(tmp_path, f"queues: {{a: {{max_waiting: {value}}}}}") == (
        "queues.a.max_waiting (file c.yaml): must be a whole number of at least 1, or auto"
    )


@pytest.mark.parametrize("entry", ["containerOverride", "containeroverrides.environment"])
def test_an_override_that_submit_job_does_not_have_is_an_error(entry: str) -> None:
    """Misspelt, it would let nothing through, and every request that carries the member would be rejected."""
    (line,) = problems({P + "POLICY__ALLOWED_OVERRIDES": f'["timeout", "{entry}"]'}).splitlines()
    assert "policy.allowed_overrides[1]" in line
    assert "names no member of SubmitJob; did you mean containerOverrides?" in line


def test_an_override_like_none_is_answered_with_all_of_them() -> None:
    """A suggestion would mislead."""
    assert "names no member of SubmitJob; those that can be listed are arrayProperties, " in problems(
        {P + "POLICY__ALLOWED_OVERRIDES": '["memory"]'}
    )


@pytest.mark.parametrize(
    "entry",
    [
        "containerOverrides.env",
        "containerOverrides.environment.names",
        "containerOverrides.Environment",
        "timeout.attemptDurationSeconds.x",
        "nodeOverrides.nodePropertyOverrides.environment",
        "tags.team.x",
    ],
)
def test_a_part_that_an_override_does_not_have_is_an_error(entry: str) -> None:
    """At every depth as at the first: it would let nothing through."""
    assert problems({P + "POLICY__ALLOWED_OVERRIDES": f'["timeout", "{entry}"]'}) == (
        f"policy.allowed_overrides[1] (environment {P}POLICY__ALLOWED_OVERRIDES): names no part of that member of "
        "SubmitJob; `batch-controller schema` shows all (such as containerOverrides.environment)"
    )


def test_parts_that_overrides_have_are_taken() -> None:
    """Through lists and maps, by patterns, and the controller's own member of a dependency."""
    entries = [
        "containerOverrides.environment.name",
        "nodeOverrides.nodePropertyOverrides.*.environment",
        "parameters.scene",
        "tags.cost*",
        "dependsOn.requestId",
        "*.command",
        "*",
    ]
    environ = {P + "POLICY__ALLOWED_OVERRIDES": json.dumps(entries)}
    settings = load_settings(None, queue_urls=[QUEUE], environ=environ, submit_job=submit_job_shape)
    assert settings.policy.allowed_overrides == tuple(entries)


@pytest.mark.parametrize("text", ["null", "~", ""])
def test_no_list_of_overrides_is_not_all_of_them(tmp_path: Path, text: str) -> None:
    """A list whose entries were all commented out would let everything through, without a word."""
    told = in_file(tmp_path, f"policy:\n  allowed_overrides: {text}\n")
    assert told.startswith("policy.allowed_overrides (file c.yaml): is null, which is no list: leave the key out")
    assert "is null" in problems({P + "POLICY__ALLOWED_OVERRIDES": "null"})


@pytest.mark.parametrize(
    ("key", "resource"), [("job_queues", "job-queue/high"), ("job_definitions", "job-definition/r:3")]
)
@pytest.mark.parametrize("arn", ["arn:aws:batch:eu-central-1:111122223333:{}", "arn:*:{}", "arn*{}"])
def test_an_arn_is_no_pattern_of_names(key: str, resource: str, arn: str) -> None:
    """It would match nothing, and every request would be refused."""
    variable = f"{P}POLICY__ALLOWED_{key.upper()}"
    assert problems({variable: json.dumps(["a*", arn.format(resource)])}) == (
        f"policy.allowed_{key}[1] (environment {variable}): is an ARN, and patterns are compared with the name: "
        "give what stands behind the last '/'"
    )


@pytest.mark.parametrize(
    ("key", "pattern", "is_taken"),
    [
        ("job_queues", "high-[!a]?_*", True),
        ("job_queues", "high:1", False),
        ("job_queues", "job-queue/high", False),
        ("job_queues", "high, low", False),
        ("job_queues", "", False),
        ("job_definitions", "render:[0-9]", True),
        ("job_definitions", "job-definition/render", False),
    ],
)
def test_a_pattern_that_no_name_can_match_is_an_error(key: str, pattern: str, is_taken: bool) -> None:
    """Names have letters, digits, hyphens and underscores, and a definition's may have a revision."""
    environ = {f"{P}POLICY__ALLOWED_{key.upper()}": json.dumps([pattern])}
    if is_taken:
        assert getattr(load_settings(None, queue_urls=[QUEUE], environ=environ).policy, f"allowed_{key}") == (pattern,)
    else:
        assert f"must be a pattern of {key.replace('_', ' ')[:-1]}s' names" in problems(environ)
