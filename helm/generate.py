"""Keep the chart in step with what it is made from: ``python helm/generate.py`` writes, ``--check`` only tells.

- ``values.schema.json``: the part ``config`` comes from the controller's ``Settings``, so that a key that the
  controller does not know is refused before anything is installed; descriptions come from the ``# --`` comments.
- ``README.md``: the table of values, from the same comments.
- ``files/``: copies of the alert rules and dashboards in ``deploy/``, since a chart can read only what is inside it.
- ``Chart.yaml``: the appVersion is the package's version.

``make chart`` and ``make check`` call it. It renders nothing: that is ``tests/chart``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml

from controller import __version__
from controller.config import Settings

ROOT: Final = Path(__file__).resolve().parents[1]
NAME: Final = "batch-job-controller"
BEGIN: Final = "<!-- values: begin, made by `make chart` from the comments in values.yaml -->"
END: Final = "<!-- values: end -->"

_DROPPED: Final = ("title", "default", "unit")
"""Members of the controller's schema that say nothing in a chart's."""


# --- the controller's configuration -------------------------------------------------------------------


def config_schema() -> dict[str, Any]:
    """JSON Schema of the value ``config``: the keys of ``Settings``, with references resolved and nulls left out (Helm
    drops a null)."""
    schema = Settings.model_json_schema()
    definitions = schema.pop("$defs")
    resolved = _plain(schema, definitions)
    assert isinstance(resolved, dict)
    return resolved


def _plain(schema: Any, definitions: Mapping[str, Any], *, are_names: bool = False) -> Any:
    """``are_names``: the members are names of properties, not words of JSON Schema."""
    if isinstance(schema, list):
        return [_plain(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = definitions[schema["$ref"].removeprefix("#/$defs/")]
        return _plain({**target, **{key: value for key, value in schema.items() if key != "$ref"}}, definitions)
    if not are_names and "anyOf" in schema:
        choices = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
        if len(choices) == 1:
            rest = {key: value for key, value in schema.items() if key != "anyOf"}
            return _plain({**choices[0], **rest}, definitions)
    return {
        key: _plain(value, definitions, are_names=key == "properties" and not are_names)
        for key, value in schema.items()
        if are_names or key not in _DROPPED
    }


# --- the comments of values.yaml ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A value that has a ``# --`` comment."""

    key: str
    default: Any
    meaning: str


_KEY: Final = re.compile(r"^(?P<indent> *)(?P<name>[A-Za-z]\w*):")
_COMMENT: Final = re.compile(r"^ *# -- (?P<text>.*)$")
_MORE: Final = re.compile(r"^ *# (?P<text>.*)$")


def documented(text: str) -> Iterator[Value]:
    """Every commented value of ``values.yaml``, in its order."""
    defaults = yaml.safe_load(text)
    path: list[str] = []
    meaning: list[str] = []
    for line in text.splitlines():
        if begins := _COMMENT.match(line):
            meaning = [begins["text"]]
        elif meaning and (more := _MORE.match(line)):
            meaning.append(more["text"])
        elif key := _KEY.match(line):
            del path[len(key["indent"]) // 2 :]
            path.append(key["name"])
            if meaning:
                yield Value(key=".".join(path), default=_at(defaults, path), meaning=" ".join(meaning))
            meaning = []
        else:
            meaning = []


def undocumented(text: str) -> list[str]:
    """Values that neither have a comment nor are part of one that has."""
    known = {value.key for value in documented(text)}

    def missing(values: Mapping[str, Any], above: str) -> Iterator[str]:
        for name, value in values.items():
            key = f"{above}{name}"
            if key in known:
                continue
            if isinstance(value, dict) and value:
                yield from missing(value, f"{key}.")
            else:
                yield key

    return list(missing(yaml.safe_load(text), ""))


def _at(values: Any, path: list[str]) -> Any:
    for name in path:
        values = values[name]
    return values


def table(values: Iterator[Value]) -> str:
    """The table of README.md."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for value in values:
        default = json.dumps(value.default, ensure_ascii=False)
        rows.append(f"| `{value.key}` | `{default}` | {value.meaning} |".replace("||", "\\|\\|"))
    return "\n".join(rows)


# --- what is made -------------------------------------------------------------------------------------


def made(root: Path) -> dict[Path, str]:
    """Text of every file that is made, or made in part, by its path."""
    chart = root / "helm" / NAME
    values = (chart / "values.yaml").read_text()
    if missing := undocumented(values):
        raise typer.BadParameter(f"values.yaml: no '# --' comment for {', '.join(missing)}")
    return {
        chart / "Chart.yaml": _chart((chart / "Chart.yaml").read_text()),
        chart / "values.schema.json": _schema((chart / "values.schema.json").read_text(), values),
        chart / "README.md": _readme((chart / "README.md").read_text(), values),
        **{chart / "files" / name: text for name, text in _copies(root / "deploy").items()},
    }


def _chart(text: str) -> str:
    return re.sub(r'^appVersion: ".*"$', f'appVersion: "{__version__}"', text, flags=re.MULTILINE)


def _schema(text: str, values: str) -> str:
    schema = json.loads(text)
    schema["properties"]["config"] = config_schema()
    for value in documented(values):
        parent: Any = schema
        *above, name = value.key.split(".")
        for part in above:
            parent = parent["properties"][part]
        rest = {key: rule for key, rule in parent["properties"][name].items() if key != "description"}
        parent["properties"][name] = {"description": value.meaning, **rest}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _readme(text: str, values: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(documented(values))}\n\n{END}{after}"


def _copies(deploy: Path) -> dict[str, str]:
    """The rule files (those with groups of rules, not their tests) and the dashboards."""
    rules = {path.name: path.read_text() for path in sorted((deploy / "prometheus" / "rules").glob("*.yaml"))}
    dashboards = {path.name: path.read_text() for path in sorted((deploy / "grafana" / "dashboards").glob("*.json"))}
    return {
        **{f"rules/{name}": text for name, text in rules.items() if "groups" in (yaml.safe_load(text) or {})},
        **{f"dashboards/{name}": text for name, text in dashboards.items()},
    }


def differences(root: Path) -> list[str]:
    """Files that are not as they would be made, and copies of what is gone."""
    wanted = made(root)
    changed = [path for path, text in wanted.items() if not path.is_file() or path.read_text() != text]
    strays = [path for path in (root / "helm" / NAME / "files").rglob("*") if path.is_file() and path not in wanted]
    return sorted(path.relative_to(root).as_posix() for path in {*changed, *strays})


def write(root: Path) -> None:
    """Make every file, and remove copies of what is gone."""
    wanted = made(root)
    for path in (root / "helm" / NAME / "files").rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 if a file differs.")] = False,
    root: Annotated[Path, typer.Option(help="The repository.")] = ROOT,
) -> None:
    """Write the made parts of the chart anew."""
    if not check:
        write(root)
        return
    for name in (different := differences(root)):
        typer.echo(f"{name} differs from what it is made from; run: make chart", err=True)
    raise typer.Exit(1 if different else 0)


if __name__ == "__main__":
    typer.run(_main)
