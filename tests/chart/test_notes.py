"""NOTES.txt tells four commands, and each of them fits what was installed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml

from controller.__main__ import URL_DEFAULT, _message_schema
from tests.chart.conftest import Rendering
from tests.chart.test_matrix import VALUES
from tests.chart.tools import Manifest, kinds, merged, of_kind

PROBE = """apiVersion: v1
kind: ConfigMap
metadata: {name: notes-probe}
data:
  notes: {{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}
"""


@pytest.fixture(scope="module")
def notes(render: Rendering, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The text for values, and the objects. `helm template` does not show it: a template of ours takes it in."""
    import shutil

    chart = shutil.copytree(render.chart, tmp_path_factory.mktemp("notes") / render.chart.name)
    (chart / "templates" / "probe.yaml").write_text(PROBE)

    def told(values: dict[str, Any]) -> tuple[str, list[Manifest]]:
        manifests = render.tools.render(Path(chart), merged(render.least, values))
        probe = of_kind(manifests, "ConfigMap", "notes-probe")
        return probe["data"]["notes"], [one for one in manifests if one is not probe]

    return told


def commands(text: str) -> list[list[str]]:
    """The commands, split as a shell would."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith(("kubectl ", "helm ", "aws "))]
    return [command for line in lines for command in _split(shlex.split(line))]


def _split(words: list[str]) -> list[list[str]]:
    if "&&" not in words:
        return [words]
    at = words.index("&&")
    return [words[:at], *_split(words[at + 1 :])]


@pytest.mark.parametrize("name", VALUES)
def test_the_commands_name_what_was_installed(notes: Any, name: str) -> None:
    """kubectl's namespace, StatefulSet and container exist; helm's release is this one, where it has a test."""
    text, manifests = notes(VALUES[name])
    stateful_set = of_kind(manifests, "StatefulSet")
    told = commands(text)
    tests = [one for one in told if one[0] == "helm"]
    wait, _, logs, ask = [one for one in told if one[0] != "helm"]
    for command in (wait, logs, ask):
        assert command[1:3] == ["--namespace", stateful_set["metadata"]["namespace"]]
        assert f"statefulset/{stateful_set['metadata']['name']}" in command
    assert wait[3:5] == ["rollout", "status"]
    has_test = "Pod" in kinds(manifests)
    assert tests == ([["helm", "--namespace", "jobs", "test", "rel", "--logs"]] if has_test else [])
    assert ("let it be tested" in text) == has_test
    assert ("It is stopped, for replicas is 0" in text) == (stateful_set["spec"]["replicas"] == 0)
    containers = {one["name"]: one for one in stateful_set["spec"]["template"]["spec"]["containers"]}
    for command in (logs, ask):
        assert command[command.index("--container") + 1] in containers


@pytest.mark.parametrize("port", [8080, 9090])
def test_the_controller_is_asked_where_it_listens(notes: Any, port: int) -> None:
    """By its own program, which the image has, with options that this takes; the container has no shell."""
    text, manifests = notes({"config": {"http": {"port": port}}})
    (ask,) = [one for one in commands(text) if "exec" in one]
    program, *arguments = ask[ask.index("--") + 1 :]
    pod = of_kind(manifests, "StatefulSet")["spec"]["template"]["spec"]
    assert [program] == pod["containers"][0]["command"]
    assert pod["containers"][0]["ports"][0]["containerPort"] == port
    url = arguments[arguments.index("--url") + 1] if "--url" in arguments else URL_DEFAULT
    assert url == f"http://127.0.0.1:{port}"
    assert arguments[:2] == ["show", "hello-1"]


@pytest.mark.parametrize("queue", ["requests", "requests.fifo"])
def test_the_first_message_is_one_that_the_controller_takes(notes: Any, queue: str) -> None:
    """Its queue is the first that is consumed, its options are those of SendMessage, its body keeps the schema. A FIFO
    queue takes no message without a group, nor without content-based deduplication one without an id."""
    import jsonschema  # type: ignore[import-untyped]

    url = f"https://sqs.eu-central-1.amazonaws.com/111122223333/{queue}"
    text, manifests = notes({"config": {"intake": {"queue_urls": [url]}}})
    (send,) = [one for one in commands(text) if one[0] == "aws"]
    assert send[1:3] == ["sqs", "send-message"]
    options = dict(zip(send[3::2], send[4::2], strict=True))
    shape = botocore.session.get_session().get_service_model("sqs").operation_model("SendMessage").input_shape
    assert {"".join(part.title() for part in name.strip("-").split("-")) for name in options} <= set(shape.members)
    of_fifo = {"--message-group-id", "--message-deduplication-id"}
    assert of_fifo & set(options) == (of_fifo if queue.endswith(".fifo") else set())
    config = yaml.safe_load(of_kind(manifests, "ConfigMap")["data"]["config.yaml"])
    assert options["--queue-url"] == config["intake"]["queue_urls"][0]
    jsonschema.validate(json.loads(options["--message-body"]), _message_schema())


def test_the_notes_warn_of_what_is_missing(notes: Any) -> None:
    """A store that is forgotten, metrics that nobody takes; nothing where all is well."""
    text, _ = notes({"persistence": {"enabled": False}})
    assert "WARNING: persistence.enabled is false" in text
    assert "Nothing scrapes its metrics yet" in text
    text, _ = notes({"metrics": {"podMonitor": {"enabled": True}}})
    assert "WARNING" not in text
    assert "Nothing scrapes" not in text
    assert "placeholders" not in text
    text, _ = notes({"metrics": {"prometheusRule": {"enabled": True}}})
    assert "set links.runbooks and links.grafana" in text


def test_the_notes_tell_of_no_monitor_that_was_left_out(notes: Any) -> None:
    """skipIfMissing makes none where the cluster does not know the kind."""
    enabled = {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule")}
    text, manifests = notes({"metrics": {"renderMode": "skipIfMissing", **enabled}})
    assert not {"ServiceMonitor", "PrometheusRule"} & kinds(manifests)
    assert "Nothing scrapes its metrics yet" in text
    assert "placeholders" not in text


def test_the_notes_tell_where_events_go(notes: Any) -> None:
    """The log has them by default, and where it is one of the sinks; else they are looked for in vain there."""
    queue = {"type": "sqs", "queue_url": "https://sqs.eu-central-1.amazonaws.com/111122223333/done"}
    for sinks in ([], [{"type": "log"}, queue]):
        text, _ = notes({"config": {"sinks": sinks}} if sinks else {})
        assert "one JSON line per event" in text
    text, _ = notes({"config": {"sinks": [queue]}})
    assert "one JSON line per event" not in text
    assert "3. See what became of it in sqs, where config.sinks sends events" in text


def test_queues_from_the_environment_are_not_known(notes: Any) -> None:
    """Then the command takes the URL from a variable of the reader's shell."""
    text, _ = notes(merged(VALUES["static-credentials"], {"config": {"intake": {"queue_urls": []}}}))
    assert "the queues that the environment names" in text
    assert "--queue-url $QUEUE_URL" in text
