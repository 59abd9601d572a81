"""End to end: a real controller under trouble, scraped by a real Prometheus with the shipped rules.

Every panel's query returns data, every rule evaluates, and an alert gets through a real Alertmanager to a receiver.
The shipped alerts are loaded as they are. For the one that has to arrive, a copy with `for` shortened to 2 s is loaded
beside them: its own is 15 minutes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from controller.metric_table import METRICS, PREFIX, Kind
from tests.e2e.service import wait_for
from tests.observability.files import NAME, RUNBOOK_BASE, PanelQuery, alerts, boards, queries, rules
from tests.observability.known import COMING, NO_DATA, metric_of
from tests.observability.stack import Stack
from tests.observability.workload import Feed

pytestmark = [pytest.mark.observability, pytest.mark.e2e]

ARRIVING = "BatchControllerQueueHeld"
SETTINGS = {
    "SUBMIT__SETTLE_S": "2",
    "SUBMIT__TIMEOUT_S": "2",
    "TRACK__INTERVAL_S_MIN": "1",
    "TRACK__INTERVAL_S_MAX": "3",
    "QUEUES": '{"nightly": {"max_in_flight": 5}}',
}
PROFILE = {"operation_rates_per_s": {"SubmitJob": 20}, "running_s": [1, 4]}
VARIABLES = {"$__rate_interval": "15s", "$__range": "1m", "$__interval": "5s", "$job_queue": ".+"}


@dataclass(frozen=True, slots=True)
class Live:
    stack: Stack
    began_at: float


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The stack after a minute of trouble, still running."""
    directory = tmp_path_factory.mktemp("stack")
    assert alerts()[ARRIVING]["for"] == "15m", "as the page says; no test waits that long"
    hurried = {**alerts()[ARRIVING], "for": "2s"}
    hurried["labels"] = {**hurried["labels"], "copy": "hurried"}
    copy = directory / "hurried.yaml"
    copy.write_text(yaml.safe_dump({"groups": [{"name": "hurried", "rules": [hurried]}]}))
    with Stack(directory, settings=SETTINGS, profile=PROFILE, extra_rules=[copy]) as stack:
        began_at = time.time()
        feed = Feed(stack.service, stack.sim)
        feed.round(20)
        stack.wait_query(f'{PREFIX}submissions_total{{job_queue="nightly", outcome="accepted"}} > 0')
        feed.trouble(held="low")
        for _ in range(8):
            feed.round(20, failing=8, held="low")
            _settle(stack, 3)
        for needed in (
            f"sum({PREFIX}submissions_total{{outcome='adopted'}}) > 0",
            f"sum({PREFIX}jobs_finished_total{{outcome='failed'}}) > 5",
            f"sum({PREFIX}jobs_finished_total{{outcome='rejected'}}) > 0",
            f"sum({PREFIX}aws_requests_total{{outcome='throttled'}}) > 0",
            f"max({PREFIX}queue_held) == 1",
        ):
            stack.wait_query(needed)
        yield Live(stack, began_at)


def _settle(stack: Stack, scrapes: int) -> None:
    """Until Prometheus has scraped so many times more."""
    count = "count_over_time(up[10m])"
    before = float(stack.wait_query(count)[0]["value"][1])
    stack.wait_query(f"{count} >= {before + scrapes:g}")


def put_in(expr: str, instance: str) -> str:
    """A panel's expression with the dashboard's variables replaced, as Grafana does."""
    for name, value in {**VARIABLES, "$instance": instance}.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, expr
    return expr


def is_number(text: str) -> bool:
    return not math.isnan(float(text))


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.id)
def test_a_panels_query_returns_data(live: Live, query: PanelQuery) -> None:
    """Each query of each panel, with its variables replaced, has at least one number to show."""
    expr = put_in(query.expr, f"127.0.0.1:{live.stack.service.port}")
    if query.is_instant:
        found = any(is_number(series["value"][1]) for series in live.stack.query(expr))
    else:
        answer = live.stack.query_range(expr, start=live.began_at, end=time.time(), step=5)
        found = any(is_number(value) for series in answer for _, value in series["values"])
    is_coming = any(metric_of(series) in COMING for series in NAME.findall(query.expr))
    assert found or is_coming or query.expr in NO_DATA, expr
    assert not (found and query.expr in NO_DATA), "it returns data: take it out of NO_DATA"


@pytest.mark.parametrize("name", sorted(boards()))
def test_variables_have_values(live: Live, name: str) -> None:
    """What Grafana looks up for each variable is there: `label_values(metric, label)`, asked of Prometheus."""
    looked_up = [v for v in boards()[name]["templating"]["list"] if v["type"] == "query"]
    assert looked_up
    for variable in looked_up:
        expr, _, label = variable["query"]["query"].removeprefix("label_values(").removesuffix(")").rpartition(", ")
        expr = expr.replace("$controller", ".+").replace("$instance", ".+")
        values = live.stack.ask(f"label/{label}/values", **{"match[]": expr})
        assert values, variable["name"]


def test_every_exported_metric_is_in_prometheus(live: Live) -> None:
    """The table of metrics is what a scrape finds, no more and no less."""
    names = live.stack.ask(
        "label/__name__/values", **{"match[]": f'{{job="batch-controller", __name__=~"{PREFIX}.+"}}'}
    )
    exported = {metric_of(name) for name in names if ":" not in name}
    assert exported == set(METRICS)
    histograms = {name for name, spec in METRICS.items() if spec.kind is Kind.HISTOGRAM}
    assert {f"{PREFIX}{name}_bucket" for name in histograms} <= set(names)


def test_every_rule_evaluates(live: Live) -> None:
    """No rule errs, no template of an alert that fires or waits is broken, every recording rule records something."""
    groups = live.stack.ask("rules")["groups"]
    evaluated = [rule for group in groups for rule in group["rules"]]
    assert len(evaluated) == len(rules()) + 1
    for rule in evaluated:
        assert rule["health"] == "ok", rule
        for alert in rule.get("alerts", []):
            assert not [note for note in alert["annotations"].values() if "<" in note or "{{" in note], alert
    for rule in rules():
        if "record" in rule:
            assert live.stack.query(rule["record"]), rule["record"]


def test_an_alert_arrives_with_its_runbook(live: Live) -> None:
    """Alertmanager's webhook gets the alert about the held queue: which queue, why, what to do first, which page."""

    def arrived() -> list[dict[str, Any]]:
        return [alert for alert in live.stack.webhook.alerts if alert["labels"]["alertname"] == ARRIVING]

    alert = wait_for(arrived, what="the webhook was called")[0]
    assert alert["status"] == "firing"
    assert alert["labels"]["job_queue"] == "low"
    assert alert["labels"]["reason"] == "queue_disabled"
    assert alert["annotations"]["summary"] == "Job queue low gets nothing: queue_disabled"
    assert "First: " in alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOK_BASE}/{ARRIVING}.md"
    assert alert["annotations"]["dashboard_url"].endswith("/d/batch-controller-queue?var-job_queue=low")


def test_an_alert_fires_as_shipped(live: Live) -> None:
    """The dead letters' alert has no `for`: the shipped rule itself fires."""
    live.stack.wait_query('ALERTS{alertname="BatchControllerDeadLetters", alertstate="firing"}')
