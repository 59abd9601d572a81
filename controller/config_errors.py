"""What a person is told of a configuration that can't work: key, source, problem, remedy; one line each.

Made from pydantic's errors without their texts, which quote values. ``config.load_settings`` calls it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from controller.config_sources import EXAMPLES, KeyProblem, Layers, nearest
from controller.config_table import KeySpec

_NUMBER: Final = "must be a number"
_TEXTS: Final[Mapping[str, str]] = {
    "missing": "must be given",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "string_type": "must be text; quote it if it looks like a number",
    "string_unicode": "must be UTF-8 text",
    "tuple_type": "must be a list",
    "mapping_type": "must be a map",
    "dict_type": "must be a map",
    "model_type": "must be a section with keys of its own",
    "model_attributes_type": "must be a section with keys of its own",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "string_too_short": "must not be empty",
    "too_short": "must have at least {min_length} entry",
}
"""By pydantic's error types; ``{…}`` from the error's context, which holds bounds and choices, never the value."""

_PATTERNS: Final[Mapping[str, str]] = {
    "controller.name": "must be 1 to 63 letters, digits, '_', '.' or '-', the first a letter or digit",
    "aws.region": "must be the code of a Region, such as eu-central-1",
    "policy.allowed_job_queues": "must be a pattern of job queues' names: letters, digits, '-', '_' and * ? […]",
    "policy.allowed_job_definitions": "must be a pattern of job definitions' names: letters, digits, '-', '_' and "
    "* ? […], with or without :REVISION",
    "sinks": "must be 1 to 63 lower-case letters, digits, '_' or '-', the first a letter or digit",
}
"""By the start of the key."""

_OF_NUMBERS: Final = ("float_type", "float_parsing", "finite_number", "int_type", "int_parsing", "int_from_float")
_OF_LISTS_AND_MAPS: Final = ("tuple_type", "mapping_type", "dict_type")
_OF_SECTIONS: Final = ("model_type", "model_attributes_type")
_UNITS: Final[Mapping[str, str]] = {"s": "seconds", "calls/s": "calls per second", "MiB": "MiB"}
"""Those that people write behind a number; in words."""


def described(
    error: ValidationError, layers: Layers, *, specs: Sequence[KeySpec], unread: Collection[str] = ()
) -> list[str]:
    """One line per problem. ``specs`` are all keys, for the nearest one to an unknown and for examples; of ``unread``
    ones it is told already why they have no value."""
    lines = []
    for detail in error.errors(include_url=False, include_input=False):
        location = _location(detail)
        key = _dotted(location)
        if key in unread:
            continue
        lines.append(f"{key} ({layers.origin(location)}): {_problem(detail, location, specs)}")
    return list(dict.fromkeys(lines))


def _location(detail: ErrorDetails) -> tuple[str | int, ...]:
    problem = detail.get("ctx", {}).get("error")
    location = tuple(part for part in detail["loc"] if part != "[key]")
    if isinstance(problem, KeyProblem):
        return (*location, *(part for part in problem.key.replace("[", ".").replace("]", "").split(".")))
    return location


def _dotted(location: Sequence[str | int]) -> str:
    text = ""
    for part in map(str, location):
        text += f"[{part}]" if part.isdigit() else f".{part}" if text else part
    return text


def _problem(detail: ErrorDetails, location: Sequence[str | int], specs: Sequence[KeySpec]) -> str:
    kind, context, key = detail["type"], detail.get("ctx", {}), _dotted(location)
    if kind == "extra_forbidden":
        return _unknown(location, [spec.name for spec in specs])
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        if location[0] == "queues":
            return _not_a_queue(str(location[1]), [spec.name for spec in specs])
        return next((text for start, text in _PATTERNS.items() if key.startswith(start)), "is not of the right form")
    template = _TEXTS.get(kind)
    assert template is not None, f"no text for pydantic's error {kind}"
    return template.format(**_plain(context)) + _example(kind, _general(location), specs)


def _example(kind: str, key: str, specs: Sequence[KeySpec]) -> str:
    """What would be right, behind the rule; empty if the rule says it."""
    if kind in _OF_NUMBERS:
        spec = next(spec for spec in specs if spec.name == key)
        of = f" of {_UNITS.get(spec.unit, spec.unit)}" if spec.unit else ""
        such = "" if spec.default is None else f", such as {spec.default:.15g}"
        return of + such + (", without the unit" if spec.unit in _UNITS else "")
    if kind in _OF_LISTS_AND_MAPS:
        return f", such as {EXAMPLES[key]}"
    if kind in _OF_SECTIONS:
        first = next(spec.name for spec in specs if spec.name.startswith(f"{key}."))
        return f", such as {{{first.removeprefix(f'{key}.')}: …}}"
    return ""


def _general(location: Sequence[str | int]) -> str:
    """The key as the table of keys has it: ``queues.<name>.weight``, ``sinks[].type``."""
    match location:
        case ("queues", _, *more):
            return ".".join(["queues.<name>", *map(str, more)])
        case ("sinks", _, *more):
            return ".".join(["sinks[]", *map(str, more)])
    return _dotted(location)


def _unknown(location: Sequence[str | int], known: Sequence[str]) -> str:
    meant = _nearest(_dotted(location), known)
    if "." in str(location[-1]):
        return f"is one name with a dot in it; write it as a section: {_as_sections(meant.split('.'))}"
    return f"no such key; did you mean {meant}?"


def _as_sections(parts: Sequence[str]) -> str:
    """``submit.rate_per_s`` as a file has it: ``submit: {rate_per_s: …}``."""
    head, *below = parts
    value = f"{{{_as_sections(below)}}}" if below else "…"
    return f"{head.removesuffix('[]')}: [{value}]" if head.endswith("[]") else f"{head}: {value}"


def _not_a_queue(name: str, known: Sequence[str]) -> str:
    """Of a key of ``queues``."""
    if name.startswith("arn:"):
        return "is an ARN; give the job queue's name, which stands behind the last '/'"
    if any(sign in name for sign in "*?["):
        return "is a pattern, and limits go by name: give each job queue an entry, or '*' for all that have none"
    if "." in name:
        meant = _nearest(f"queues.{name}", known)
        return f"is one name with a dot in it; write it as a section: {_as_sections(meant.split('.'))}"
    return "must be the name of a Batch job queue, which has 1 to 128 letters, digits, '-' and '_'; or '*'"


def _plain(context: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in context.items() if isinstance(value, (str, int, float))}


def _nearest(key: str, known: Sequence[str]) -> str:
    """The known key most like an unknown one; a wrong section is answered with a section."""
    if key.startswith("queues."):
        name = key.split(".")[1]
        return nearest(key, [one.replace("<name>", name) for one in known if one.startswith("queues.")])
    if key.startswith("sinks["):
        return nearest(
            key, [one.replace("[]", key[5 : key.index("]") + 1]) for one in known if one.startswith("sinks")]
        )
    if "." in key:
        return nearest(key, known)
    sections = sorted({one.partition(".")[0].removesuffix("[]") for one in known})
    close = difflib.get_close_matches(key, sections, n=1, cutoff=0.6)
    return close[0] if close else nearest(key, [*sections, *known])
