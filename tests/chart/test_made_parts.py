"""The made parts of the chart are in step with what they are made from, and the configuration with the controller."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from controller import __version__
from controller.config import keys, load_settings
from helm import generate
from tests.chart.conftest import DASHBOARD, RULES, Rendering
from tests.chart.test_matrix import VALUES
from tests.chart.tools import CHART, ROOT


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of the chart with sources of rules and dashboards of its own, made anew."""
    shutil.copytree(CHART, tmp_path / "helm" / CHART.name, ignore=shutil.ignore_patterns("files"))
    rules, dashboards = tmp_path / "deploy" / "prometheus" / "rules", tmp_path / "deploy" / "grafana" / "dashboards"
    rules.mkdir(parents=True)
    dashboards.mkdir(parents=True)
    (rules / "alerts.yaml").write_text(yaml.safe_dump(RULES))
    (rules / "alerts.test.yaml").write_text("rule_files: [alerts.yaml]\n")
    (dashboards / "overview.json").write_text(json.dumps(DASHBOARD))
    generate.write(tmp_path)
    return tmp_path


def test_the_made_parts_are_up_to_date() -> None:
    """Schema, table, copies and appVersion are what `make chart` would write."""
    assert generate.differences(ROOT) == []


def test_rules_and_dashboards_are_copied_and_nothing_else(repository: Path) -> None:
    """The copies equal their sources; tests of rules stay out."""
    files = repository / "helm" / CHART.name / "files"
    found = {path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file()}
    assert found == {"rules/alerts.yaml", "dashboards/overview.json"}
    assert (files / "rules" / "alerts.yaml").read_text() == yaml.safe_dump(RULES)


def test_every_difference_is_found_and_mended(repository: Path) -> None:
    """A changed source, a copy without a source, a changed default, an edited schema, another version."""
    chart = repository / "helm" / CHART.name
    (repository / "deploy" / "prometheus" / "rules" / "alerts.yaml").write_text("groups: []\n")
    (chart / "files" / "dashboards" / "gone.json").write_text("{}")
    (chart / "values.yaml").write_text((chart / "values.yaml").read_text().replace("replicas: 1", "replicas: 0"))
    schema = json.loads((chart / "values.schema.json").read_text())
    del schema["properties"]["config"]["properties"]["submit"]["properties"]["settle_s"]
    (chart / "values.schema.json").write_text(json.dumps(schema, indent=2))
    (chart / "Chart.yaml").write_text((chart / "Chart.yaml").read_text().replace("appVersion: ", "appVersion:  "))
    (chart / "Chart.yaml").write_text(
        re.sub(r"appVersion:  .*", 'appVersion: "0.0.0"', (chart / "Chart.yaml").read_text())
    )
    expected = [
        "Chart.yaml",
        "README.md",
        "files/dashboards/gone.json",
        "files/rules/alerts.yaml",
        "values.schema.json",
    ]
    assert generate.differences(repository) == [f"helm/{CHART.name}/{name}" for name in expected]
    generate.write(repository)
    assert generate.differences(repository) == []


def test_check_fails_with_exit_code_1_and_writes_nothing(repository: Path) -> None:
    """`--check` is for CI: exit code 1, the file named."""
    copy = repository / "helm" / CHART.name / "files" / "rules" / "alerts.yaml"
    copy.write_text("stale: true\n")
    command = [sys.executable, str(ROOT / "helm" / "generate.py"), "--check", "--root", str(repository)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert ended.returncode == 1
    assert "files/rules/alerts.yaml differs from what it is made from; run: make chart" in ended.stderr
    assert copy.read_text() == "stale: true\n"


def test_a_value_without_a_comment_is_refused(repository: Path) -> None:
    """It could have no line in the table."""
    values = repository / "helm" / CHART.name / "values.yaml"
    values.write_text(values.read_text() + "\nsilent:\n  value: 1\n")
    with pytest.raises(Exception, match=r"no '# --' comment for silent\.value"):
        generate.write(repository)


def test_the_table_has_every_value() -> None:
    """Each documented value of values.yaml has one line, with its default."""
    values = list(generate.documented((CHART / "values.yaml").read_text()))
    readme = (CHART / "README.md").read_text()
    assert len(values) > 80
    assert all(readme.count(f"\n| `{value.key}` |") == 1 for value in values)
    assert '| `persistence.accessMode` | `"ReadWriteOncePod"` |' in readme


# --- the schema ---------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return found


def test_the_schema_is_strict_everywhere() -> None:
    """Every object with named members refuses others; what is free is free on purpose."""

    def loose(node: Any, path: str) -> list[str]:
        if isinstance(node, list):
            return [found for part in node for found in loose(part, path)]
        if not isinstance(node, dict):
            return []
        own = (
            [path]
            if "properties" in node and node.get("type") == "object" and "additionalProperties" not in node
            else []
        )
        return own + [found for name, part in node.items() for found in loose(part, f"{path}/{name}")]

    jsonschema.Draft7Validator.check_schema(schema())
    assert set(loose(schema(), "")) == {"/definitions/named/items"}


def test_the_defaults_keep_the_schema_and_have_no_value_that_it_lacks() -> None:
    """values.yaml and values.schema.json name the same values."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator(schema()).validate(values)
    assert set(schema()["properties"]) == set(values)
    for name, part in schema()["properties"].items():
        if "properties" in part and name not in ("config", "affinity", "dnsConfig", "resources"):
            assert set(part["properties"]) == set(values[name]), name


def test_every_key_of_the_controller_can_be_given_and_is_in_the_matrix() -> None:
    """No key of the configuration is missing from the schema; one shape sets them all."""
    config = VALUES["full-configuration"]["config"]

    def names(values: dict[str, Any]) -> set[str]:
        found: set[str] = set()
        for section, members in values.items():
            if section == "sinks":
                found |= {f"sinks[].{name}" for sink in members for name in sink}
            elif section == "queues":
                found |= {f"queues.<name>.{name}" for queue in members.values() for name in queue}
            else:
                found |= {f"{section}.{name}" for name in members}
        return found

    known = {spec.name for spec in keys()}
    not_built = {spec.name for spec in keys() if "Not built yet" in spec.meaning}
    assert names(config) == known - not_built


# --- the rendered configuration -----------------------------------------------------------------------


@pytest.mark.parametrize("name", VALUES)
def test_the_controller_takes_the_rendered_configuration(render: Rendering, tmp_path: Path, name: str) -> None:
    """`batch-controller check-config` accepts the ConfigMap of every shape, and what was given is in effect."""
    manifests = render.tools.render(render.chart, VALUES[name])
    text = next(one["data"]["config.yaml"] for one in manifests if "config.yaml" in one.get("data", {}))
    file = tmp_path / "config.yaml"
    file.write_text(text)
    more = [] if VALUES[name].get("config") else ["--queue-url", "https://sqs.eu-central-1.amazonaws.com/1/requests"]
    ended = subprocess.run(
        [sys.executable, "-m", "controller", "check-config", "--config", str(file), *more],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={"PATH": "/usr/bin"},
    )
    assert ended.returncode == 0, ended.stderr
    effective = yaml.safe_load(ended.stdout)
    for section, members in VALUES[name].get("config", {}).items():
        if section not in ("queues", "sinks"):
            assert {key: effective[section][key] for key in members} == members


def test_the_controller_refuses_what_only_it_can_judge(render: Rendering, tmp_path: Path) -> None:
    """A configuration that no schema can find wrong is refused at start, in one line (so the test above can fail)."""
    values = {"config": {"intake": {"backlog_low": 100, "backlog_high": 100}}}
    manifests = render(values)
    file = tmp_path / "config.yaml"
    file.write_text(next(one["data"]["config.yaml"] for one in manifests if "config.yaml" in one.get("data", {})))
    with pytest.raises(Exception, match="backlog_low"):
        load_settings(file, environ={})


def test_the_app_version_is_the_packages() -> None:
    """The image that the chart installs by default is of this very version."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__
