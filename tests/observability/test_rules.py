"""Alert rules: each has a page, names only what exists, fires when it should and not before (promtool)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from controller.core.events import WAIT_CAUSES
from controller.core.limits import IN_DOUBT_MAX
from controller.core.waiting import BLOCKING
from controller.metric_table import METRICS, PREFIX
from controller.metrics import Metrics
from tests.core.test_metrics import rendered, snapshot
from tests.observability.files import (
    GRAFANA_BASE,
    NAME,
    RULE_TESTS,
    RULES,
    RUNBOOK_BASE,
    RUNBOOKS,
    alerts,
    boards,
    panels,
    rules,
    tool,
)
from tests.observability.known import COMING, labels, metric_of

SECTIONS = ["Impact", "See why", "What to do", "When to silence it"]


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    """docs/runbooks holds exactly one page per alert."""
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(alerts())


@pytest.mark.parametrize("name", sorted(alerts()))
def test_a_page_answers_the_five_questions(name: str) -> None:
    """What it means, its impact, how to see why, what to do, when to silence it; links lead to pages."""
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS
    assert all(len(part.strip()) > 25 for part in re.split(r"^## .+$", text, flags=re.MULTILINE))
    for linked in re.findall(r"\]\(([^)]+)\)", text):
        assert (RUNBOOKS / linked.partition("#")[0]).exists(), linked  # headings: tests/docs/test_pages.py


@pytest.mark.parametrize("name", sorted(alerts()))
def test_a_page_names_panels_by_their_titles(name: str) -> None:
    """What is in italics on a page is a panel that can be found."""
    text = " ".join((RUNBOOKS / f"{name}.md").read_text().split())
    titles = {panel["title"] for _, panel in panels()}
    assert set(re.findall(r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)", text)) <= titles


@pytest.mark.parametrize("name", sorted(alerts()))
def test_an_alert_says_what_to_do_first(name: str) -> None:
    """Severity, summary, a description with the first step, and links to its page and to a dashboard that exists."""
    alert = alerts()[name]
    notes = alert["annotations"]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(notes) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert "First: " in notes["description"]
    assert len(notes["summary"]) <= 120
    assert notes["runbook_url"] == f"{RUNBOOK_BASE}/{name}.md"
    uid = re.match(rf"{re.escape(GRAFANA_BASE)}/d/([\w-]+)", notes["dashboard_url"])
    assert uid is not None
    assert uid[1] in {board["uid"] for board in boards().values()}


def test_the_documentation_lists_the_alerts_as_they_are() -> None:
    """docs/observability.md names each alert once, with its severity."""
    text = (RUNBOOKS.parent / "observability.md").read_text()
    listed = re.findall(r"^\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", text, re.MULTILINE)
    assert sorted(listed) == sorted((name, alert["labels"]["severity"]) for name, alert in alerts().items())


def test_rules_name_only_what_exists() -> None:
    """Every series in a rule is exported, coming, or recorded by another rule."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    known = labels()
    for rule in rules():
        named = NAME.findall(rule["expr"])
        assert named, rule
        for series in named:
            assert series in (recorded if ":" in series else known), (series, rule)


def test_what_is_exported_is_no_longer_coming() -> None:
    """A metric that the controller exports must leave `COMING`, so that its panels are held to return data."""
    assert not set(COMING) & set(METRICS), "take these out of tests/observability/known.py: COMING"


def test_every_metric_that_is_coming_is_in_use() -> None:
    """A name in `COMING` that no rule and no panel uses has no business there."""
    texts = [rule["expr"] for rule in rules()]
    texts += [target["expr"] for board in boards().values() for p in board["panels"] for target in p.get("targets", [])]
    used = {metric_of(series) for text in texts for series in NAME.findall(text)}
    assert set(COMING) <= used


def test_limits_in_the_rules_are_the_codes_own() -> None:
    """The doubt alert fires where submission stops."""
    assert alerts()["BatchControllerSubmissionsStopped"]["expr"].endswith(f">= {IN_DOUBT_MAX}")


def test_stuck_jobs_alert_for_the_causes_that_block_a_queue() -> None:
    """Jobs that wait because their queue is in full use call nobody, and each cause that does is on the page."""
    left_out = re.search(r'cause!~"([^"]+)"', alerts()["BatchControllerJobsStuckRunnable"]["expr"])
    assert left_out is not None
    assert set(left_out[1].split("|")) == set(WAIT_CAUSES) - BLOCKING
    page = (RUNBOOKS / "BatchControllerJobsStuckRunnable.md").read_text()
    assert [cause for cause in WAIT_CAUSES if f"`{cause}`" not in page] == []


def test_every_alert_is_tested_to_fire_and_to_stay_quiet() -> None:
    """The promtool tests have both cases for each alert."""
    names = [test["name"] for test in yaml.safe_load(RULE_TESTS.read_text())["tests"]]
    for alert in alerts():
        assert f"{alert} fires" in names
        assert any(name.startswith(f"{alert} is quiet: ") for name in names), alert
    assert len(names) == 2 * len(alerts())


# --- with promtool ------------------------------------------------------------------------------------


def promtool(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("promtool"), *arguments], capture_output=True, text=True, timeout=120, cwd=cwd)


@pytest.mark.observability
def test_promtool_accepts_the_rules() -> None:
    """Syntax, names and templates are right."""
    ended = promtool("check", "rules", *map(str, sorted(RULES.glob("*.yaml"))))
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.observability
def test_alerts_fire_when_they_should_and_not_before() -> None:
    """The promtool tests pass."""
    ended = promtool("test", "rules", str(RULE_TESTS))
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.observability
@pytest.mark.parametrize(
    ("expr", "failing"), [("vector(0) > 1", "ALERTS{alertname="), ("vector(1)", "max_over_time(ALERTS{alertname=")]
)
def test_the_rule_tests_can_fail(tmp_path: Path, expr: str, failing: str) -> None:
    """An alert that never fires fails its first case, one that always fires its second; for every alert."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / RULE_TESTS.name).write_text(RULE_TESTS.read_text())
    for path in RULES.glob("*.yaml"):
        file = yaml.safe_load(path.read_text())
        for group in file["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    rule.update(expr=expr)
                    rule.pop("for", None)
        (tmp_path / "rules" / path.name).write_text(yaml.safe_dump(file))
    ended = promtool("test", "rules", str(tmp_path / "tests" / RULE_TESTS.name))
    assert ended.returncode != 0
    failed = ended.stdout + ended.stderr
    for alert in alerts():
        assert f'expr: "{failing}\\"{alert}\\"' in failed, alert


@pytest.mark.observability
def test_the_first_refusals_for_a_job_queue_that_is_not_there_are_told(tmp_path: Path) -> None:
    """A producer's first twenty requests name a job queue that Batch does not have: all are refused between two scrapes
    of the controller's own counter, and BatchControllerSubmissionsRefused fires."""
    metrics = Metrics()
    before = rendered(metrics, snapshot())
    for _ in range(20):
        label = metrics.queue_label("no-such-queue")
        metrics.jobs_finished_total.labels(job_queue=label, outcome="rejected").inc()
    series = []
    for sample, after in rendered(metrics, snapshot()).items():
        name, labels = sample
        if name == "jobs_finished_total":
            text = ", ".join(f'{label}="{value}"' for label, value in (*labels, ("job", "c"), ("instance", "c:8080")))
            first = f"{before[sample]:g}" if sample in before else "_"
            series.append({"series": f"{PREFIX}{name}{{{text}}}", "values": f"{first}x5 {after:g}x20"})
    fires = {
        "expr": 'ALERTS{alertname="BatchControllerSubmissionsRefused", alertstate="firing"}',
        "eval_time": "15m",
        "exp_samples": [
            {
                "labels": 'ALERTS{alertname="BatchControllerSubmissionsRefused", alertstate="firing", job="c", '
                'job_queue="unknown", severity="warning"}',
                "value": 1,
            }
        ],
    }
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [fires]}
    file = tmp_path / "refused.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(path) for path in RULES.glob("*.yaml")], "tests": [test]}))
    ended = promtool("test", "rules", str(file))
    assert ended.returncode == 0, ended.stdout + ended.stderr
