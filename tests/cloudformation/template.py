"""The CloudFormation template as Python sees it, and its IAM statements with every condition taken as true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PATH = Path(__file__).parents[2] / "deploy" / "aws" / "cloudformation" / "batch-job-controller.yaml"


class _Loader(yaml.SafeLoader):
    """Short forms of CloudFormation's functions as their long ones."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _function)


def load() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(PATH.read_text(), _Loader)
    return loaded


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy."""

    sid: str
    actions: frozenset[str]
    body: dict[str, Any]


def statements(resource: str) -> list[Statement]:
    """Of a managed policy; of ``Fn::If`` the first branch."""
    found = load()["Resources"][resource]["Properties"]["PolicyDocument"]["Statement"]
    bodies = [entry["Fn::If"][1] if "Fn::If" in entry else entry for entry in found]
    return [Statement(body["Sid"], frozenset(_listed(body["Action"])), body) for body in bodies]


def _listed(value: str | list[str]) -> Iterator[str]:
    yield from [value] if isinstance(value, str) else value
