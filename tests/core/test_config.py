"""The configuration: where values come from, which one wins, and what is made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.config import Settings, keys, load_settings
from controller.config_sources import variable_of
from controller.config_values import without_secrets
from controller.core.admission import QueueLimits
from controller.core.errors import Misconfigured

QUEUE = "https://sqs.eu-central-1.amazonaws.com/111122223333/requests"


def loaded(environ: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    return load_settings(file, queue_urls=[QUEUE], environ=environ or {})


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "controller.yaml"
    path.write_text(text)
    return path


def test_one_queue_url_is_all_that_must_be_given() -> None:
    """With nothing but a queue URL the configuration is complete."""
    settings = load_settings(None, queue_urls=[QUEUE], environ={})
    assert settings.intake.queue_urls == (QUEUE,)
    assert settings.submit.settle_s == 330
    assert [sink.type for sink in settings.sinks] == ["log"]
    assert settings.store.path == Path("batch-controller.db")


def test_environment_wins_over_file(tmp_path: Path) -> None:
    """A variable beats the same key in the file and leaves the file's other keys alone."""
    file = written(tmp_path, "submit: {rate_per_s: 11, concurrency: 7}\n")
    settings = loaded({"BATCH_CONTROLLER_SUBMIT__RATE_PER_S": "12.5"}, file)
    assert settings.submit.rate_per_s == 12.5
    assert settings.submit.concurrency == 7


def test_queue_url_flag_wins_over_all(tmp_path: Path) -> None:
    """--queue-url replaces the queues of the file and of the environment."""
    file = written(tmp_path, "intake: {queue_urls: ['https://h/1/from-file']}\n")
    environ = {"BATCH_CONTROLLER_INTAKE__QUEUE_URLS": '["https://h/1/from-environment"]'}
    assert load_settings(file, environ={}).intake.queue_urls == ("https://h/1/from-file",)
    assert load_settings(file, environ=environ).intake.queue_urls == ("https://h/1/from-environment",)
    assert load_settings(file, queue_urls=[QUEUE], environ=environ).intake.queue_urls == (QUEUE,)


def test_a_map_in_a_variable_replaces_the_file_s(tmp_path: Path) -> None:
    """A key's value comes from one source: maps are not merged."""
    file = written(tmp_path, "queues: {low: {paused: true}}\n")
    settings = loaded({"BATCH_CONTROLLER_QUEUES": '{"high": {"max_in_flight": 50}}'}, file)
    assert set(settings.queues) == {"high"}
    assert settings.queue_limits("high").max_in_flight == 50


def test_an_automatic_depth_is_inherited_and_overridden() -> None:
    """``auto`` is a value like others: of all job queues, or of one; the effective configuration shows it."""
    settings = loaded({"BATCH_CONTROLLER_QUEUES": '{"*": {"max_waiting": "auto"}, "high": {"max_waiting": 50}}'})
    assert settings.queue_limits("any").max_waiting == "auto"
    assert settings.queue_limits("high").max_waiting == 50
    assert settings.effective()["queues"]["*"]["max_waiting"] == "auto"
    assert not any("max_waiting" in text for text in settings.warnings())


def test_the_process_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the environment that is handed over counts."""
    monkeypatch.setenv("BATCH_CONTROLLER_SUBMIT__RATE_PER_S", "3")
    monkeypatch.setenv("LOG", '{"level": "error"}')
    assert loaded().submit.rate_per_s == 40
    assert Settings(intake={"queue_urls": [QUEUE]}).log.level == "info"  # type: ignore[arg-type]


def test_region_falls_back_to_aws_region(tmp_path: Path) -> None:
    """aws.region wins over AWS_REGION; without both the SDK's chain decides, which is None here."""
    environ = {"AWS_REGION": "eu-west-1"}
    assert loaded(environ).aws.region == "eu-west-1"
    assert loaded(environ, written(tmp_path, "aws: {region: us-east-1}\n")).aws.region == "us-east-1"
    assert loaded(environ, written(tmp_path, "aws: {region: null}\n")).aws.region == "eu-west-1"
    assert loaded({**environ, "BATCH_CONTROLLER_AWS__REGION": "us-west-2"}).aws.region == "us-west-2"
    assert loaded().aws.region is None


def test_an_empty_section_is_as_good_as_absent(tmp_path: Path) -> None:
    """A section of which every line is commented out keeps its defaults."""
    assert loaded(file=written(tmp_path, "submit:\n#  rate_per_s: 1\n")).submit.rate_per_s == 40
    assert loaded(file=written(tmp_path, "")).submit.rate_per_s == 40


def test_what_only_looks_like_a_date_is_text(tmp_path: Path) -> None:
    """No key is a time. Helm writes texts of that form without quotes where they are no dates, and job queues may be
    called so."""
    text = "queues: {2026-01-31: {weight: 2}}\nsubmit: {default_tags: {cost-centre: 1234-56-78, sign: =}}\n"
    settings = loaded(file=written(tmp_path, text))
    assert settings.queue_limits("2026-01-31").weight == 2
    assert settings.submit.default_tags == {"cost-centre": "1234-56-78", "sign": "="}


def test_anchors_and_merges_of_yaml_work(tmp_path: Path) -> None:
    """YAML's own way to say things once is let be."""
    file = written(tmp_path, "queues:\n  a: &a {weight: 2}\n  b: {<<: *a, paused: true}\n")
    limits = loaded(file=file).queue_limits("b")
    assert (limits.weight, limits.paused) == (2, True)


def test_kubernetes_service_variables_are_let_be() -> None:
    """A Service called batch-controller puts variables with our prefix into the pod; they are no settings."""
    environ = {
        "BATCH_CONTROLLER_SERVICE_HOST": "10.0.0.1",
        "BATCH_CONTROLLER_SERVICE_PORT": "8080",
        "BATCH_CONTROLLER_SERVICE_PORT_HTTP": "8080",
        "BATCH_CONTROLLER_PORT": "tcp://10.0.0.1:8080",
        "BATCH_CONTROLLER_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "BATCH_CONTROLLER_PORT_8080_TCP_PROTO": "tcp",
        "BATCH_CONTROLLER_PORT_8080_TCP_PORT": "8080",
        "BATCH_CONTROLLER_PORT_8080_TCP_ADDR": "10.0.0.1",
        "BATCH_CONTROLLER_METRICS_SERVICE_HOST": "10.0.0.2",
        "BATCH_CONTROLLER_METRICS_PORT": "tcp://10.0.0.2:9090",
    }
    assert loaded(environ).http.port == 8080
    with pytest.raises(Misconfigured, match="BATCH_CONTROLLER_HTTP__PORT"):
        loaded({"BATCH_CONTROLLER_PORT": "9090"})


def test_queue_entries_inherit_from_the_star() -> None:
    """A key that an entry leaves out is taken from "*", then from the default; a given default value counts."""
    environ = {
        "BATCH_CONTROLLER_QUEUES": json.dumps(
            {"*": {"max_in_flight": 5, "weight": 2, "paused": True}, "high": {"paused": False, "weight": 1}}
        )
    }
    settings = loaded(environ)
    assert settings.queue_limits("high") == QueueLimits(max_in_flight=5, weight=1, paused=False)
    assert settings.queue_limits("other") == QueueLimits(max_in_flight=5, weight=2, paused=True)
    assert loaded().queue_limits("any") == QueueLimits()


def test_every_key_can_be_set_by_its_variable() -> None:
    """Each key of the table that has a variable of its own takes its default from there again."""
    environ = {}
    for spec in keys():
        if not spec.has_own_variable or spec.default is None or spec.name == "intake.queue_urls":
            continue
        is_text = isinstance(spec.default, str)
        environ[spec.variable] = spec.default if is_text else json.dumps(spec.default)
    assert len(environ) > 25
    assert loaded(environ).effective() == loaded().effective()


def test_sinks_are_named_by_their_type() -> None:
    """A sink without a name is called like its type, and takes the events that its patterns match."""
    sinks = '[{"type": "log"}, {"type": "sqs", "queue_url": "https://h/1/events", "events": ["job.*"]}]'
    log, sqs = loaded({"BATCH_CONTROLLER_SINKS": sinks}).sinks
    assert (log.name, sqs.name) == ("log", "sqs")
    assert log.takes("request.rejected")
    assert sqs.takes("job.finished")
    assert not sqs.takes("job_queue.held")


def test_the_second_sink_of_a_type_has_a_name_of_its_own() -> None:
    """Numbered in the order given; a name that somebody else has been given is left to them."""
    sqs = {"type": "sqs", "queue_url": "https://h/1/events"}
    sinks = [sqs, {"type": "log"}, sqs, {**sqs, "name": "sqs-2"}]
    names = [sink.name for sink in loaded({"BATCH_CONTROLLER_SINKS": json.dumps(sinks)}).sinks]
    assert names == ["sqs", "log", "sqs-3", "sqs-2"]


@pytest.mark.parametrize(
    ("given", "marks"),
    [
        ({}, (80_000, 100_000, 1_000_000)),
        ({"HIGH": "10"}, (8, 10, 1_000_000)),
        ({"HIGH": "1"}, (0, 1, 1_000_000)),
        ({"HIGH": "2000000"}, (80_000, 2_000_000, 2_000_000)),
        ({"LOW": "200000"}, (200_000, 250_001, 1_000_000)),
        ({"LOW": "2000000"}, (2_000_000, 2_500_001, 2_500_001)),
        ({"MAX": "1000"}, (800, 1_000, 1_000)),
        ({"MAX": "1"}, (0, 1, 1)),
        ({"LOW": "5", "MAX": "50"}, (5, 50, 50)),
    ],
)
def test_marks_that_are_not_given_follow_those_that_are(given: dict[str, str], marks: tuple[int, int, int]) -> None:
    """One mark alone is enough; whatever was given stands."""
    intake = loaded({f"BATCH_CONTROLLER_INTAKE__BACKLOG_{name}": value for name, value in given.items()}).intake
    assert (intake.backlog_low, intake.backlog_high, intake.backlog_max) == marks


@pytest.mark.parametrize(("name", "value"), [("MIN", "100"), ("MAX", "1")])
def test_one_interval_alone_moves_the_other(name: str, value: str) -> None:
    """The shortest interval is never longer than the longest."""
    track = loaded({f"BATCH_CONTROLLER_TRACK__INTERVAL_S_{name}": value}).track
    assert track.interval_s_min == track.interval_s_max == float(value)


def test_the_log_level_may_be_written_in_capitals() -> None:
    """As other programs write it."""
    assert loaded({"BATCH_CONTROLLER_LOG__LEVEL": "WARNING"}).log.level == "warning"


@pytest.mark.parametrize(
    "url",
    [
        "https://sqs.eu-central-1.amazonaws.com/111122223333/requests.fifo",
        "https://queue.amazonaws.com/111122223333/requests",
        "http://127.0.0.1:4566/000000000000/requests",
        "http://localhost:4566/queue/us-east-1/000000000000/requests",
        "http://[::1]:4566/000000000000/requests",
        "http://sqs:9324/requests",
    ],
)
def test_queue_urls_of_aws_and_of_its_stand_ins_are_taken(url: str) -> None:
    """Whatever form of queue URL a service gives out is accepted."""
    assert load_settings(None, queue_urls=[url], environ={}).intake.queue_urls == (url,)


def test_settings_are_frozen() -> None:
    """No part of the program changes the configuration of another."""
    settings = loaded()
    with pytest.raises(ValidationError):
        settings.submit.rate_per_s = 1


def test_effective_configuration_holds_every_key_and_no_secret() -> None:
    """check-config shows all keys; what looks like a secret is replaced."""
    effective = loaded({"BATCH_CONTROLLER_SUBMIT__DEFAULT_TAGS": '{"api_key": "hidden", "team": "t"}'}).effective()
    for spec in keys():
        section, _, name = spec.name.partition(".")
        if section in effective and section not in ("queues", "sinks"):
            assert name in effective[section], spec.name
    assert effective["queues"]["*"]["max_in_flight"] == 10_000
    assert effective["submit"]["default_tags"] == {"api_key": "***", "team": "t"}
    assert without_secrets({"url": "amqp://user:pass@host/x", "all": ["https://u@h/"]}) == {
        "url": "amqp://***@host/x",
        "all": ["https://***@h/"],
    }


@given(st.dictionaries(st.sampled_from([spec.name for spec in keys() if spec.has_own_variable]), st.text()))
def test_no_text_in_a_variable_gets_past_as_anything_but_settings_or_a_message(values: dict[str, str]) -> None:
    """Whatever a variable holds, the outcome is a configuration, or an error that names the variable."""
    environ = {variable_of(name): text for name, text in values.items()}
    message = ""
    try:
        loaded(environ)
    except Misconfigured as error:
        message = str(error)
    assert all("environment BATCH_CONTROLLER_" in line for line in message.splitlines())


def test_the_effective_configuration_can_be_given_back(tmp_path: Path) -> None:
    """What check-config prints is a file that the controller takes, with the same effect."""
    effective = loaded().effective()
    assert effective["policy"]["allowed_overrides"] == ["*"]
    file = written(tmp_path, json.dumps(effective))
    assert loaded(file=file).effective() == effective
