"""The reference pages, made from the tables in the code: settings, metrics, events and their schemas.

``python -m controller.docgen`` writes ``docs/configuration.md``, ``docs/metrics.md``, ``docs/events.md``,
``docs/states.md``, ``docs/reasons.md`` and ``docs/schemas/``; with ``--check`` it writes nothing and ends with exit
code 1 if a page differs from its table.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from controller import docgen_reasons
from controller.config import keys
from controller.config_table import JSON_KINDS, KeySpec
from controller.core.events import CATALOGUE, COMMON_FIELDS, EventSpec, FieldSpec, json_schema
from controller.core.lifecycle import LEADS_TO
from controller.metric_table import METRICS, PREFIX, Kind, MetricSpec

_MADE: Final = "<!-- Made by `python -m controller.docgen` from the code. Change it there. -->\n"


def pages() -> Mapping[str, str]:
    """Text of every page, by its path below ``docs/``."""
    schemas = {f"schemas/{schema_name(spec)}": _schema_text(spec) for spec in CATALOGUE.values()}
    return {
        "configuration.md": configuration(),
        "metrics.md": metrics(),
        "events.md": events(),
        "states.md": states(),
        "reasons.md": docgen_reasons.page(_MADE),
        **schemas,
    }


def schema_name(spec: EventSpec) -> str:
    """File name of an event's schema."""
    return f"{spec.name}.v{spec.version}.json"


def _schema_text(spec: EventSpec) -> str:
    return json.dumps(json_schema(spec), indent=2, ensure_ascii=False) + "\n"


# --- states -------------------------------------------------------------------------------------------

_STATES: Final = """# States

{made}
A request is QUEUED until it is admitted, SUBMITTING from the commit of the intent until the outcome of SubmitJob is
known, TRACKED from then on until AWS Batch reports its end. Batch's own status is another field, verbatim. SUCCEEDED,
FAILED, LOST, REJECTED and CANCELLED are final: nothing happens to a request any more. What is not in this table can't
happen.

```mermaid
stateDiagram-v2
    [*] --> QUEUED: valid request committed
{arrows}
```

| from | on | to |
| --- | --- | --- |
{rows}
"""


def states() -> str:
    """``docs/states.md``."""
    arrows = [
        f"    {before} --> {after}: {fact.__name__}"
        for (before, fact), results in LEADS_TO.items()
        for after in results
        if after is not before
    ]
    rows = [
        f"| {before} | {_first_sentences(fact)} | {', '.join(results)} |"
        for (before, fact), results in LEADS_TO.items()
    ]
    return _STATES.format(made=_MADE, arrows="\n".join(arrows), rows="\n".join(rows))


def _first_sentences(fact: type) -> str:
    """The first paragraph of what it says of itself."""
    paragraph = " ".join(inspect.cleandoc(fact.__doc__ or "").partition("\n\n")[0].split())
    return f"{fact.__name__}: {paragraph.replace('``', '`')}"


# --- configuration ------------------------------------------------------------------------------------

_CONFIGURATION: Final = """# Configuration

{made}
Settings come from a YAML file (`--config FILE`), environment variables and flags. A flag wins over the environment, the
environment over the file. A key's value comes from one source: lists and maps are replaced, never merged. The SQS
queues to consume (`--queue-url`, or `intake.queue_urls`) are the only thing that must be given. They are read at the
start: a change takes a restart, which the chart does by itself ([operations.md](operations.md#less-load-stop-go-on)).

```yaml
intake:
  queue_urls: [https://sqs.eu-central-1.amazonaws.com/111122223333/requests]
  dead_letter_queue_url: https://sqs.eu-central-1.amazonaws.com/111122223333/rejected
store:
  url: sqlite:////var/lib/batch-controller/state.db
queues:
  high: {{max_in_flight: 50, weight: 3}}
  "*": {{max_waiting: 500}}
sinks:
  - type: log
  - type: sqs
    queue_url: https://sqs.eu-central-1.amazonaws.com/111122223333/job-events
    events: ["job.*", request.rejected]
```

The variable of a key is `BATCH_CONTROLLER_` and the key in capitals, with `__` between section and key:
`submit.rate_per_s` is `BATCH_CONTROLLER_SUBMIT__RATE_PER_S`. Lists and maps are JSON in one variable:

```sh
BATCH_CONTROLLER_QUEUES='{{"high": {{"max_in_flight": 50}}}}'
BATCH_CONTROLLER_INTAKE__QUEUE_URLS='["https://sqs.eu-central-1.amazonaws.com/111122223333/requests"]'
```

An unknown key, or an unknown variable with this prefix, is an error that names the nearest one. (Variables that
Kubernetes makes for a Service called `batch-controller…`, such as `BATCH_CONTROLLER_SERVICE_HOST`, are let be.) Every
problem is one line on standard error with key, source, problem and remedy, and the exit code is 2. What is allowed but
unwise is told as a warning.

`batch-controller check-config` prints the effective configuration, secrets removed, and the warnings. It asks nothing
of AWS. Credentials come from the SDK's own chain (IRSA, Pod Identity, profiles), end points from its own variables
(`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_SQS`, `AWS_ENDPOINT_URL_BATCH`, `AWS_ENDPOINT_URL_STS`).
"""

_SECTIONS: Final[Mapping[str, str]] = {
    "controller": "",
    "aws": "",
    "store": "One process holds the store; it is refused on a network file system. `postgresql://` is not built yet.",
    "intake": "",
    "submit": "",
    "track": "",
    "list": "",
    "terminate": "",
    "queues": 'By the *name* of a Batch job queue. A key that an entry leaves out is taken from the entry `"*"`, then '
    'from the default; job queues without an entry use `"*"`.',
    "policy": "Patterns are shell-style (`*`, `?`, `[…]`) and compared with case.",
    "sinks": "A list, by default `[{type: log}]`. Each sink gets every event that one of its patterns matches, at "
    "least once; see [events](events.md).",
    "retention": "",
    "http": "",
    "log": "Logs are JSON lines on standard error.",
}


def configuration() -> str:
    """``docs/configuration.md``."""
    specs = keys()
    parts = [_CONFIGURATION.format(made=_MADE)]
    for section, text in _SECTIONS.items():
        parts.append(f"\n## {section}\n")
        if text:
            parts.append(f"\n{text}\n")
        members = [spec for spec in specs if spec.name.partition(".")[0].removesuffix("[]") == section]
        rows = [(f"`{s.name}`", _default(s), _rules(s), s.meaning) for s in members]
        parts.append("\n" + _table(("key", "default", "value", "meaning"), rows))
    assert {spec.name.partition(".")[0].removesuffix("[]") for spec in specs} == set(_SECTIONS)
    return "".join(parts)


def _default(spec: KeySpec) -> str:
    if spec.name == "intake.queue_urls" or spec.default is ...:
        return "must be given"
    if spec.default is None or spec.default == "":
        return "–"
    if spec.kind in JSON_KINDS:
        return f"`{json.dumps(spec.default)}`"
    if isinstance(spec.default, bool):
        return f"`{str(spec.default).lower()}`"
    return f"`{spec.default:.12g}`" if isinstance(spec.default, (int, float)) else f"`{spec.default}`"


def _rules(spec: KeySpec) -> str:
    return ", ".join(part for part in (spec.kind, spec.unit, spec.bounds) if part)


# --- metrics ------------------------------------------------------------------------------------------

_METRICS: Final = """# Metrics

{made}
`/metrics` serves them in the Prometheus text format; every name begins with `{prefix}`. Labels come from closed sets,
never from ids. `job_queue` is the name of a Batch job queue once Batch has confirmed it, and `unknown` until then: a
name that only a request has used makes no series. Gauges are counted when they are asked for (where the store takes
more than 2 s to answer, they are those of the last time), counters and histograms since the process started. All
durations are in seconds.

"""


def metrics() -> str:
    """``docs/metrics.md``."""
    rows = [(f"`{PREFIX}{spec.name}`", spec.kind.value, _labels(spec), spec.meaning) for spec in METRICS.values()]
    return "".join(
        (
            _METRICS.format(made=_MADE, prefix=PREFIX),
            _table(("metric", "kind", "labels", "meaning"), rows),
            "\n## Labels\n\n",
            _table(("metric", "label", "values"), _label_rows()),
            "\n## Buckets\n\nUpper bounds; `+Inf` is added to each.\n\n",
            _table(
                ("histogram", "buckets"),
                [(f"`{s.name}`", _numbers(s.buckets)) for s in METRICS.values() if s.kind is Kind.HISTOGRAM],
            ),
        )
    )


def _labels(spec: MetricSpec) -> str:
    return ", ".join(f"`{label.name}`" for label in spec.labels) or "–"


def _label_rows() -> Iterable[tuple[str, str, str]]:
    for spec in METRICS.values():
        for label in spec.labels:
            values = ", ".join(f"`{value}`" for value in label.values) or label.meaning
            yield f"`{spec.name}`", f"`{label.name}`", values


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.12g}" for value in values)


# --- events -------------------------------------------------------------------------------------------

_EVENTS: Final = """# Events

{made}
Each request ends with exactly one *final* event. Every event is delivered at least once to each sink that takes it;
`event_id` is the same at every delivery, so that duplicates can be dropped. On standard output (the `log` sink) an
event is a flat JSON line as described here; on other sinks it is a [CloudEvent](#as-a-cloudevent). Members without a
value are left out. Environment values and parameters of jobs are never part of an event.

Times are RFC 3339 in UTC. The JSON Schemas are in [schemas](schemas); `batch-controller schema --events` prints them.

"""

_CLOUD_EVENT: Final = """
## As a CloudEvent

The body of a message of an `sqs` sink:

```json
{
  "specversion": "1.0",
  "id": "1457d022-4607-5b55-a8d8-705024449c19",
  "source": "batch-job-controller/default",
  "type": "batch-controller.job.submitted.v1",
  "time": "2026-01-02T03:04:05.678Z",
  "datacontenttype": "application/json",
  "subject": "hello-1",
  "data": {"request_id": "hello-1", "job_id": "4c7599ae-0a82-49aa-ba5a-4727fcce14a8", "job_queue": "high"}
}
```

`id` is the `event_id`, `time` the `time`, and `type` holds the event's name and version; `data` has every other member.
`source` ends in `controller.name`. `subject` is the request's id; an event of a job queue, and a rejection that has no
`request_id`, come without.

An event that is larger than the queue takes (SQS: 1 MiB, or the queue's own `MaximumMessageSize`) comes without
`attempts`, then without `tags`, then without all lists and objects and with texts cut to 1,024 characters, and
`"truncated": true` in `data` says so. The line on standard output is whole.
"""


def events() -> str:
    """``docs/events.md``."""
    overview = [
        (f"[`{spec.name}`](#{_anchor(spec.name)})", "yes" if spec.is_final else "", spec.meaning)
        for spec in CATALOGUE.values()
    ]
    parts = [
        _EVENTS.format(made=_MADE),
        _table(("event", "final", "meaning"), overview),
        "\n## Members of every event\n\n",
        _fields(COMMON_FIELDS, [field.name for field in COMMON_FIELDS]),
        _CLOUD_EVENT,
    ]
    for spec in CATALOGUE.values():
        final = " It is final." if spec.is_final else ""
        link = f"[JSON Schema](schemas/{schema_name(spec)})"
        parts.append(f"\n## {spec.name}\n\n{spec.meaning}{final} {link}\n\n")
        parts.append(_fields(spec.fields, spec.required))
    return "".join(parts)


def _fields(fields: Iterable[FieldSpec], required: Sequence[str]) -> str:
    rows = [(f"`{f.name}`", _kind(f.schema), "always" if f.name in required else "", f.meaning) for f in fields]
    return _table(("member", "type", "present", "meaning"), rows)


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("format") == "date-time":
        return "time"
    if schema["type"] == "array" and "properties" in schema.get("items", {}):
        return "list of objects: " + ", ".join(f"`{name}`" for name in schema["items"]["properties"])
    if schema["type"] == "object" and schema.get("additionalProperties"):
        return f"object of {schema['additionalProperties']['type']}s"
    if "properties" in schema:
        return "object: " + ", ".join(f"`{name}`" for name in schema["properties"])
    return str(schema["type"])


def _anchor(heading: str) -> str:
    """GitHub's anchor of a heading."""
    return heading.lower().replace(".", "").replace(" ", "-")


# --- writing ------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def differences(docs: Path) -> list[str]:
    """Pages below ``docs`` that are not as the tables say, and schemas that no event has."""
    wanted = pages()
    found = [name for name, text in wanted.items() if not (docs / name).is_file() or (docs / name).read_text() != text]
    strays = {path.relative_to(docs).as_posix() for path in (docs / "schemas").glob("*.json")} - set(wanted)
    return sorted([*found, *strays])


def write(docs: Path) -> None:
    """Write every page below ``docs`` and remove schemas that no event has."""
    (docs / "schemas").mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for path in (docs / "schemas").glob("*.json"):
        if path.relative_to(docs).as_posix() not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (docs / name).write_text(text)


def _main(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 if a page differs.")] = False,
    docs: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path("docs"),
) -> None:
    """Write the reference pages from the tables in the code."""
    if not check:
        write(docs)
        return
    for name in (different := differences(docs)):
        typer.echo(f"{docs / name} differs from the code; run: python -m controller.docgen", err=True)
    raise typer.Exit(1 if different else 0)


if __name__ == "__main__":
    typer.run(_main)
