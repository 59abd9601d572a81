"""Which AWS calls the controller's code can make, read from the source of its adapters.

An AWS call is a call of a method that the SDK gives the client of a service which ``adapters/aws.py`` opens. Nothing
outside the adapters knows the SDK (import-linter holds that), so that this is all of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import botocore.session
from botocore import xform_name

from controller import adapters
from controller.health import IAM_ACTIONS

SOURCES = Path(adapters.__file__).parent
AMBIGUOUS = "?"


@dataclass(frozen=True, slots=True, order=True)
class AwsCall:
    service: str
    operation: str
    where: str

    @property
    def action(self) -> str:
        """IAM's name: bulk calls of SQS are allowed by the action of the single call."""
        call = f"{self.service}:{self.operation}"
        return IAM_ACTIONS.get(call, call)


def calls(sources: Sequence[Path] | None = None) -> list[AwsCall]:
    """Every call of ``sources``, by default of the adapters."""
    methods = _methods(services())
    found = []
    for path in sources if sources is not None else sorted(SOURCES.rglob("*.py")):
        for name, line in _attribute_calls(ast.parse(path.read_text())):
            if name in methods:
                service, operation = methods[name]
                assert service != AMBIGUOUS, f"{path.name}:{line}: which service's {operation} is it?"
                found.append(AwsCall(service, operation, f"{path.name}:{line}"))
    return sorted(found)


def operations_reported() -> set[str]:
    """The names under which the adapters report calls to the metrics: what is given to ``Calls.send`` and the like."""
    reported = set()
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            is_report = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            if is_report and node.func.attr in ("send", "succeeded", "failed") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    reported.add(first.value)
    return reported


@lru_cache
def services() -> tuple[str, ...]:
    """Services that ``aws.py`` opens a client for: the first argument of its ``client(…)`` calls."""
    tree = ast.parse((SOURCES / "aws.py").read_text())
    named = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "client"
        if node.args and isinstance(node.args[0], ast.Constant)
    }
    return tuple(sorted(str(name) for name in named))


@lru_cache
def _methods(names: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Method of a client → service and operation; a method that two services have is marked with ``AMBIGUOUS``."""
    session = botocore.session.get_session()
    found: dict[str, tuple[str, str]] = {}
    for service in names:
        for operation in session.get_service_model(service).operation_names:
            method = xform_name(operation)
            found[method] = (service, operation) if method not in found else (AMBIGUOUS, operation)
    return found


def _attribute_calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            # What is called, and what is handed on to be called: partial(client.method, …).
            for each in (node.func, *node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(each, ast.Attribute):
                    yield each.attr, each.lineno
