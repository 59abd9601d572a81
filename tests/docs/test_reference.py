"""The reference pages are what the tables in the code say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from controller import docgen
from controller.config import keys, load_settings
from controller.core.events import CATALOGUE, Event, event_id, flat
from controller.core.lifecycle import LEADS_TO
from controller.metric_table import METRICS, PREFIX

DOCS = Path(__file__).parents[2] / "docs"


def test_the_pages_are_up_to_date() -> None:
    """docs/ differs in nothing from what `python -m controller.docgen` would write."""
    assert docgen.differences(DOCS) == []


def test_a_difference_is_found_and_mended(tmp_path: Path) -> None:
    """A changed page, a missing one and a schema without an event are named; writing mends all three."""
    docgen.write(tmp_path)
    assert docgen.differences(tmp_path) == []
    (tmp_path / "metrics.md").write_text("stale")
    (tmp_path / "events.md").unlink()
    (tmp_path / "schemas" / "job.gone.v1.json").write_text("{}")
    assert docgen.differences(tmp_path) == ["events.md", "metrics.md", "schemas/job.gone.v1.json"]
    docgen.write(tmp_path)
    assert docgen.differences(tmp_path) == []


def test_check_fails_with_exit_code_1_and_writes_nothing(tmp_path: Path) -> None:
    """`--check` is for CI: exit code 1, the pages named, nothing changed."""
    command = [sys.executable, "-m", "controller.docgen", "--check", "--docs", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=DOCS.parent)
    assert ended.returncode == 1
    assert "configuration.md differs from the code" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_the_example_of_a_configuration_is_one_to_start_from(page: str, tmp_path: Path) -> None:
    """It is valid as it stands, and check-config has nothing to say against it."""
    text = (DOCS.parent / page).read_text()
    example = tmp_path / "controller.yaml"
    example.write_text(text.split("```yaml\n")[1].partition("```")[0])
    assert load_settings(example, environ={}).warnings() == []


def test_every_entry_of_the_tables_is_on_its_page() -> None:
    """Each key, metric and event is named on its page."""
    pages = docgen.pages()
    assert all(f"`{spec.name}`" in pages["configuration.md"] and spec.meaning for spec in keys())
    assert all(f"`{PREFIX}{name}`" in pages["metrics.md"] and spec.meaning for name, spec in METRICS.items())
    assert all(f"## {name}\n" in pages["events.md"] for name in CATALOGUE)


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_each_schema_is_valid_and_takes_its_event(name: str) -> None:
    """A schema takes an event with the required members, and refuses it without one of them or with a stray one."""
    spec = CATALOGUE[name]
    schema = json.loads((DOCS / "schemas" / docgen.schema_name(spec)).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    samples = {"string": "x", "integer": 1, "number": 1.0, "array": [], "object": {}}
    event = Event(
        name=name,
        time=1_700_000_000.0,
        data={
            f.name: f.schema.get("enum", [samples[f.schema["type"]]])[0] for f in spec.fields if f.name in spec.required
        },
    )
    record = flat(event, event_id("0" * 32, event, 7))
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(record)
    assert not validator.is_valid({**record, "environment": {}})
    for member in spec.required:
        assert not validator.is_valid({key: value for key, value in record.items() if key != member}), member


def test_every_required_member_of_an_event_is_a_member() -> None:
    """An event can't require what it does not have, nor name a member twice."""
    for spec in CATALOGUE.values():
        names = [field.name for field in spec.fields]
        assert set(spec.required) <= set(names), spec.name
        assert len(set(names)) == len(names), spec.name


def test_what_a_fact_means_is_said_to_its_end() -> None:
    """docs/states.md breaks off no sentence."""
    rows = [line.split(" | ") for line in docgen.states().splitlines() if line.startswith("| ") and ": " in line]
    assert len(rows) == len(LEADS_TO)
    assert [meaning for _, meaning, _ in rows if not meaning.endswith(".")] == []


def test_tables_can_be_read_as_tables() -> None:
    """Every row of a table has as many cells as its head."""
    for name, text in docgen.pages().items():
        if not name.endswith(".md"):
            continue
        width = 0
        for line in text.splitlines():
            if not line.startswith("|"):
                width = 0
                continue
            cells = line.replace("\\|", "").count("|")
            width = width or cells
            assert cells == width, (name, line)
