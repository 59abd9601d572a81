"""The keys of the configuration as a table, read from the models in ``config.py``.

``docgen.py`` prints it, ``config.load_settings`` takes from it the names of the environment variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from controller.config_sources import variable_of

JSON_KINDS: Final = ("list", "map")
"""Kinds of values that an environment variable holds as JSON."""

_KINDS: Final[Mapping[str, str]] = {
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
    "array": "list",
    "object": "map",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """One key as the documentation shows it."""

    name: str
    """Such as ``submit.rate_per_s``, ``queues.<name>.weight``, ``sinks[].type``."""
    variable: str
    """Environment variable that sets it, or the map or list that it is part of."""
    kind: str
    default: Any
    """``...`` if it must be given."""
    unit: str
    bounds: str
    meaning: str

    @property
    def has_own_variable(self) -> bool:
        return self.variable == variable_of(self.name)


def key_specs(settings: type[BaseModel], *, groups: Mapping[str, tuple[str, type[BaseModel]]]) -> Iterator[KeySpec]:
    """Every key, in the order of the models. ``groups`` are the sections that are a map or list of models: how a
    member's key begins, and the model."""
    for section, field in settings.model_fields.items():
        if section in groups:
            prefix, model = groups[section]
            yield from _members(model, prefix, variable_of(section))
        else:
            assert isinstance(field.annotation, type)
            assert issubclass(field.annotation, BaseModel), section
            yield from _members(field.annotation, f"{section}.", None)


def _members(model: type[BaseModel], prefix: str, variable: str | None) -> Iterator[KeySpec]:
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        schema = _without_null(properties[name])
        yield KeySpec(
            name=prefix + name,
            variable=variable or variable_of(prefix + name),
            kind=_kind(schema),
            default=... if field.is_required() else field.default,
            unit=str(schema.get("unit", "")),
            bounds=_bounds(schema),
            meaning=field.description or "",
        )


def _without_null(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of an optional key's value."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    return {**schema, **choices[0]} if choices else schema


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(f"`{choice}`" for choice in schema["enum"])
    words = [choice["const"] for choice in schema.get("anyOf", ()) if "const" in choice]
    return _KINDS.get(schema.get("type", ""), "text") + "".join(f" or `{word}`" for word in words)


def _bounds(schema: Mapping[str, Any]) -> str:
    low, above, high = schema.get("minimum"), schema.get("exclusiveMinimum"), schema.get("maximum")
    parts = []
    if low is not None:
        parts.append(f"≥ {low:,g}")
    if above is not None:
        parts.append(f"> {above:,g}")
    if high is not None:
        parts.append(f"≤ {high:,}")
    return ", ".join(parts)
