"""The tools, and a copy of the chart that has rules and dashboards even where the repository has none yet."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.tools import CHART, HOME, Manifest, Tools, merged

RULES = {
    "groups": [
        {
            "name": "placeholder",
            "rules": [
                {"record": "batch_controller:backlog_jobs:sum", "expr": "sum(batch_controller_backlog_jobs)"},
                {
                    "alert": "BatchControllerPlaceholder",
                    "expr": "up == 0",
                    "for": "5m",
                    "labels": {"severity": "warning"},
                    "annotations": {
                        "summary": "{{ $labels.instance }} is down",
                        "runbook_url": "https://runbooks.example.com/BatchControllerPlaceholder.md",
                        "dashboard_url": "https://grafana.example.com/d/placeholder",
                    },
                },
            ],
        }
    ]
}
DASHBOARD = {
    "title": "Placeholder",
    "uid": "placeholder",
    "panels": [{"title": "{{ job_queue }}"}],
    "links": [{"url": "https://logs.example.com/?q=a"}],
}


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Skips loudly where the tools are missing; fails in CI."""
    if not (HOME / ".installed").is_file():
        reason = "the chart's tools are not installed: make chart-tools"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Tools()


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with its rules and dashboards, or placeholders for those that are not there."""
    copy = tmp_path_factory.mktemp("chart") / CHART.name
    shutil.copytree(CHART, copy)
    for folder, name, text in (
        ("rules", "placeholder.yaml", yaml.safe_dump(RULES)),
        ("dashboards", "placeholder.json", json.dumps(DASHBOARD, indent=2) + "\n"),
    ):
        target = copy / "files" / folder
        if not target.is_dir() or not any(target.iterdir()):
            target.mkdir(parents=True)
            (target / name).write_text(text)
    return copy


class Rendering:
    """The chart rendered with values laid over the least that must be given."""

    def __init__(self, tools: Tools, chart: Path) -> None:
        self.tools = tools
        self.chart = chart
        self.least = yaml.safe_load((CHART / "ci" / "minimal-values.yaml").read_text())

    def __call__(self, values: dict[str, Any] | None = None, *arguments: str, **names: str) -> list[Manifest]:
        return self.tools.render(self.chart, merged(self.least, values or {}), *arguments, **names)


@pytest.fixture(scope="session")
def render(tools: Tools, chart: Path) -> Rendering:
    return Rendering(tools, chart)
