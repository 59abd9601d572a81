"""Dashboards: up to date with their code, complete, and naming only what exists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from controller.metric_table import METRICS, PREFIX
from deploy.grafana.__main__ import differences
from tests.observability.files import DASHBOARDS, NAME, ROOT, RUNBOOKS, alerts, boards, panels, queries, tool
from tests.observability.known import COMING, NOT_ON_A_PANEL, labels, metric_of

TARGET_LABELS = {"instance", "job", "namespace", "pod", "alertname", "alertstate", "severity"}
PANELS = [pytest.param(board, panel, id=f"{board}: {panel['title']} ({panel['id']})") for board, panel in panels()]


def test_the_files_are_what_the_code_makes() -> None:
    """deploy/grafana/dashboards differs in nothing from what `python -m deploy.grafana` would write."""
    assert differences(DASHBOARDS) == []


def test_a_difference_is_found(tmp_path: Path) -> None:
    """A changed file, a missing one and a stray one are named; `--check` ends with 0 on the shipped ones."""
    (tmp_path / "overview.json").write_text("{}")
    (tmp_path / "stray.json").write_text("{}")
    assert differences(tmp_path) == ["internals.json", "overview.json", "queue.json", "stray.json"]
    ended = subprocess.run([sys.executable, "-m", "deploy.grafana", "--check"], cwd=ROOT, timeout=60)
    assert ended.returncode == 0


def test_every_exported_metric_is_on_a_panel_or_listed_as_not() -> None:
    """No metric is exported for nobody; none is listed without need."""
    shown = {metric_of(series) for query in queries() for series in NAME.findall(query.expr)}
    assert set(METRICS) - shown == set(NOT_ON_A_PANEL)
    assert set(COMING) <= shown


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.id)
def test_a_query_names_only_series_and_labels_that_exist(query: Any) -> None:
    """Each series is exported or coming, and each label in braces, `by` or the legend is one that it has."""
    named = NAME.findall(query.expr)
    assert all(series in labels() for series in named), query.expr
    if "ALERTS" in query.expr:
        return
    has = TARGET_LABELS.union(*(labels()[series] for series in named))
    used = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", query.expr))
    used |= {label.strip() for group in re.findall(r"by \(([^)]*)\)", query.expr) for label in group.split(",")}
    assert used <= has, query.expr
    assert "$instance" in query.expr, "would mix controllers"


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_explains_itself(board: str, panel: dict[str, Any]) -> None:
    """Description, unit and thresholds; the data source is the variable; linked runbooks exist."""
    assert len(panel["description"]) > 25
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for link in panel.get("links", []):
        page = re.fullmatch(r"\$\{runbooks\}/(\w+\.md)", link["url"])
        assert page is not None
        assert (RUNBOOKS / page[1]).exists()


@pytest.mark.parametrize("name", sorted(boards()))
def test_a_dashboard_can_be_imported(name: str) -> None:
    """Unique panel ids, no overlaps within 24 columns, no id of somebody's database, all variables there and used."""
    board = boards()[name]
    assert board["uid"] == f"batch-controller-{name}"
    assert board.get("id") is None
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    variables = {variable["name"] for variable in board["templating"]["list"]}
    assert {"datasource", "controller", "instance", "runbooks", "logs"} <= variables
    text = (DASHBOARDS / f"{name}.json").read_text()
    mentioned = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert variables <= mentioned
    assert {link["title"] for link in board["links"]} >= {"Runbooks", "Logs"}


def test_every_alert_is_linked_from_a_panel() -> None:
    """From the panel that shows its metric one gets to the alert's page; the absent controller has no panel."""
    linked = {link["title"].removeprefix("Runbook: ") for _, panel in panels() for link in panel.get("links", [])}
    assert set(alerts()) - linked == {"BatchControllerAbsent"}


def test_addresses_are_put_in(tmp_path: Path) -> None:
    """`make rules` leaves no placeholder of what is given, names what is not, and refuses what is no URL."""
    command = [str(ROOT / "deploy" / "with-urls"), str(tmp_path)]
    ours = ["https://wiki.corp/runbooks/", "https://grafana.corp", "https://logs.corp/app?x=1"]
    subprocess.run([*command, *ours], check=True, timeout=60, capture_output=True)
    texts = [path.read_text() for path in tmp_path.rglob("*.*")]
    assert len(texts) == 5
    assert not any("example.com" in text for text in texts)
    assert any("https://wiki.corp/runbooks/BatchControllerDown.md" in text for text in texts)
    some = subprocess.run([*command, ours[0], "", ""], check=True, timeout=60, capture_output=True, text=True)
    assert "GRAFANA is not given" in some.stderr
    assert subprocess.run([*command, "https://a|b", "", ""], timeout=60, capture_output=True).returncode == 1


@pytest.mark.parametrize("name", sorted(boards()))
def test_grafanas_own_schema_knows_every_member(name: str) -> None:
    """Decoded into the SDK's types and encoded again, a dashboard is the same: nothing is unknown or lost."""
    register_default_plugins()
    board = boards()[name]
    again = json.loads(json.dumps(Dashboard.from_json(board), cls=JSONEncoder))
    assert again == board


@pytest.mark.observability
def test_what_waits_stands_beside_the_limit_of_its_own_queue(tmp_path: Path) -> None:
    """Of each job queue, what counts towards its limit: array jobs, PENDING while their children run, do not."""
    waiting, limit = (query.expr for query in queries() if query.panel == "Waiting in Batch, and its limit")
    now = {
        'inflight_jobs{job_queue="high", batch_status="PENDING"': 30,
        'inflight_jobs{job_queue="high", batch_status="RUNNABLE"': 4,
        'inflight_jobs{job_queue="high", batch_status="unsubmitted"': 1,
        'inflight_jobs{job_queue="low", batch_status="RUNNING"': 3,
        'inflight_jobs{job_queue="low", batch_status="RUNNABLE"': 0,
        'inflight_arrays{job_queue="high"': 30,
        'inflight_arrays{job_queue="low"': 0,
        'job_queue_max_waiting{job_queue="high"': 5,
        'job_queue_max_waiting{job_queue="low"': 2000,
    }
    test = {
        "interval": "1m",
        "input_series": [
            {"series": f'{PREFIX}{series}, instance="c:8080"}}', "values": f"{value}x5"}
            for series, value in now.items()
        ],
        "promql_expr_test": [
            {
                "expr": expr.replace("$instance", ".+").replace("$job_queue", ".+"),
                "eval_time": "5m",
                "exp_samples": [
                    {"labels": f'{{job_queue="{queue}"}}', "value": value} for queue, value in expected.items()
                ],
            }
            for expr, expected in ((waiting, {"high": 5, "low": 0}), (limit, {"high": 5, "low": 2000}))
        ],
    }
    file = tmp_path / "waiting.yaml"
    file.write_text(yaml.safe_dump({"tests": [test]}))
    ended = subprocess.run(
        [tool("promtool"), "test", "rules", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
