"""What a person is told of a configuration that can't work: key, source, problem, remedy; one line each.

Made from pydantic's errors without their texts, which quote values. ``config.load_settings`` calls it.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from controller.config_sources import KeyProblem, Layers, nearest

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
    "queues": "must be the name of a Batch job queue, not an ARN, or '*'",
    "policy.allowed_job_queues": "must be a pattern of job queues' names: letters, digits, '-', '_' and * ? […]",
    "policy.allowed_job_definitions": "must be a pattern of job definitions' names: letters, digits, '-', '_' and "
    "* ? […], with or without :REVISION",
    "sinks": "must be 1 to 63 lower-case letters, digits, '_' or '-', the first a letter or digit",
}
"""By the start of the key."""


def described(
    error: ValidationError, layers: Layers, *, known: Sequence[str], unread: Collection[str] = ()
) -> list[str]:
    """One line per problem. ``known`` are all keys, for the nearest one to an unknown; of ``unread`` ones it is told
    already why they have no value."""
    lines = []
    for detail in error.errors(include_url=False, include_input=False):
        location = _location(detail)
        key = _dotted(location)
        if key in unread:
            continue
        lines.append(f"{key} ({layers.origin(location)}): {_problem(detail, key, known)}")
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


def _problem(detail: ErrorDetails, key: str, known: Sequence[str]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return f"no such key; did you mean {_nearest(key, known)}?"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return next((text for start, text in _PATTERNS.items() if key.startswith(start)), "is not of the right form")
    template = _TEXTS.get(kind)
    assert template is not None, f"no text for pydantic's error {kind}"
    return template.format(**_plain(context))


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
