"""The shape of SubmitJob's input, as an immutable tree that knows no SDK.

``adapters/batch_model.py`` fills it from the SDK's own service model; ``request_check.py`` compares a message
with it and ``request_schema.py`` prints it. Batch's documented ranges, which the model lacks, are in
``request_rules.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Kind(StrEnum):
    """What a value must be."""

    STRUCTURE = "structure"
    LIST = "list"
    MAP = "map"
    STRING = "string"
    INTEGER = "integer"
    """32 bits, signed."""
    LONG = "long"
    """64 bits, signed."""
    BOOLEAN = "boolean"
    FLOAT = "float"
    TIMESTAMP = "timestamp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One node of the tree. Which fields mean something depends on ``kind``."""

    name: str
    """The model's name of the shape, such as ``ContainerOverrides``; key of the rules."""
    kind: Kind
    members: Mapping[str, Shape] = field(default_factory=dict)
    """Of a structure."""
    required: tuple[str, ...] = ()
    """Members that a structure must have."""
    element: Shape | None = None
    """Of a list: what each entry is; of a map: what each value is."""
    key: Shape | None = None
    """Of a map: what each key is."""
    min: int | None = None
    """Least length of a string or list, least value of a number. The SDK ignores it for maps, and so do we."""
    max: int | None = None
    choices: tuple[str, ...] = ()
    """Values that a string may have; empty: any."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", MappingProxyType(dict(self.members)))
        assert (self.element is not None) == (self.kind in (Kind.LIST, Kind.MAP)), self.name
        assert (self.key is not None) == (self.kind is Kind.MAP), self.name
        assert set(self.required) <= set(self.members), self.name
