"""The shipped files as the tests see them: rules, alerts, dashboards, their queries."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules"
RULE_TESTS = ROOT / "deploy" / "prometheus" / "tests" / "alerts_test.yaml"
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
RUNBOOKS = ROOT / "docs" / "runbooks"
RUNBOOK_BASE = "https://runbooks.example.com"
GRAFANA_BASE = "https://grafana.example.com"
NAME = re.compile(r"(?<![\w:$])(?:[a-z_]+:)?batch_controller_[a-z0-9_]+(?::[a-z0-9_]+)?")
"""Series of ours in an expression: exported ones, and recorded ones, which have colons."""


def tool(name: str) -> str:
    """Path of a program. In CI its absence is a failure, elsewhere a skip that says what to install."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is missing (Debian, Ubuntu: apt-get install prometheus prometheus-alertmanager)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def rules() -> list[dict[str, Any]]:
    """All rules of all files."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yaml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def boards() -> dict[str, dict[str, Any]]:
    """Dashboards by file name without the ending."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """One query of one panel."""

    board: str
    panel: str
    expr: str
    is_instant: bool

    @property
    def id(self) -> str:
        return f"{self.board}: {self.panel}: {self.expr[:40]}"


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel that is not a row, with its dashboard's name."""
    for name, board in boards().items():
        for panel in board["panels"]:
            if panel["type"] != "row":
                yield name, panel


def queries() -> list[PanelQuery]:
    return [
        PanelQuery(board, panel["title"], target["expr"], bool(target.get("instant")))
        for board, panel in panels()
        for target in panel["targets"]
    ]
