"""The pages that people write: links lead somewhere, and what they count, list or show is what the code has."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import controller
from controller.__main__ import cli
from controller.adapters.sinks import cloud_event
from controller.config import load_settings
from controller.core.limits import SQS_WAIT_S_MAX
from controller.core.request_view import WAITS
from controller.ports import OutboxRow
from controller.stages.hints import RECEIVERS
from tests.docs.test_log_names import log_names
from tests.observability.files import alerts

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "helm").rglob("*.md")],
    key=lambda path: path.relative_to(ROOT),
)


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_to_a_file_and_a_heading_that_there_is() -> None:
    """Within the repository, anchors included."""
    broken = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
            if link.startswith("http"):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append((str(page.relative_to(ROOT)), link))
    assert broken == []


def test_the_number_of_alerts_is_told_as_it_is() -> None:
    """README and changelog count them."""
    for page in ("README.md", "CHANGELOG.md"):
        assert f"{len(alerts())} alerts" in (ROOT / page).read_text(), page


def test_the_readme_names_every_promise() -> None:
    """As many as docs/promises.md has, in its order, each by its first word at least."""
    promised = re.findall(r"^## (\d+)\. (\w+)", (ROOT / "docs" / "promises.md").read_text(), re.MULTILINE)
    listed = re.findall(r"^(\d+)\. \*\*(\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert listed == promised


def test_the_architecture_names_every_module() -> None:
    """Those of the package itself, and its folders."""
    assert controller.__file__ is not None
    package = Path(controller.__file__).parent
    text = (ROOT / "ARCHITECTURE.md").read_text()
    modules = {path.name for path in package.glob("*.py") if not path.name.startswith("config_")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert [name for name in sorted(modules | folders) if f"`{name}`" not in text] == []


def test_lines_of_the_log_that_the_page_names_are_written() -> None:
    """Each `event` of the table in docs/observability.md is one of a call in the package."""
    assert controller.__file__ is not None
    written = {name for path in Path(controller.__file__).parent.rglob("*.py") for name in log_names(path.read_text())}
    logs = (ROOT / "docs" / "observability.md").read_text().partition("\n## Logs\n")[2].partition("\n## ")[0]
    table = logs.partition("| `event` | means |")[2]
    named = {name for row in table.splitlines() for name in re.findall(r"`([^`]+)`", row.partition(" | ")[0])}
    assert len(named) > 10
    assert named <= written


def test_the_causes_of_waiting_are_told_as_they_are() -> None:
    """docs/observability.md has a row for each that `waits_for` may have, and for no other."""
    page = (ROOT / "docs" / "observability.md").read_text()
    table = page.partition("| `cause` | why it waits |\n|---|---|\n")[2].partition("\n\n")[0]
    assert table.splitlines() == [f"| `{cause}` | {meaning} |" for cause, meaning in WAITS.items()]


def test_the_help_of_list_shows_the_page_s_pipeline() -> None:
    """Which a test of its own runs."""
    page = (ROOT / "docs" / "observability.md").read_text()
    (pipeline,) = re.findall(r"```sh\n(batch-controller list [^`]*? jq .*?)```", page, re.DOTALL)
    (command,) = [each for each in cli.registered_commands if each.name == "list"]
    assert " ".join(pipeline.split()) in " ".join(str(command.help).split())


def test_idle_polls_are_counted_as_they_are_made() -> None:
    """docs/aws.md says what idle queues cost."""
    a_minute = 60 // SQS_WAIT_S_MAX
    defaults = load_settings(None, queue_urls=["https://sqs.eu-central-1.amazonaws.com/1/q"], environ={})
    text = (ROOT / "docs" / "aws.md").read_text()
    for kind, receivers in (("each request", defaults.intake.receivers), ("the events", RECEIVERS)):
        told = re.search(rf"^\| {kind} queue, idle \| (\d+) a minute .*, (\d+),000 in 30 days \|$", text, re.MULTILINE)
        assert told is not None, kind
        assert int(told[1]) == receivers * a_minute
        assert abs(int(told[2]) * 1_000 - receivers * a_minute * 60 * 24 * 30) < 2_000


def test_the_simulated_aws_shares_awss_numbers_and_nothing_else() -> None:
    """It is an independent model: of the controller it imports `core.limits` alone."""
    assert controller.__file__ is not None
    imported = {
        (node.module, name.name)
        for path in (Path(controller.__file__).parent / "simaws").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("controller")
        for name in node.names
    }
    beside = {each for each in imported if not str(each[0]).startswith("controller.simaws")}
    assert {each for each in beside if each != ("controller", "simaws")} == {("controller.core", "limits")}


def test_the_cloud_event_of_the_page_is_one() -> None:
    """What docs/events.md shows is what the `sqs` sink makes of that event."""
    (shown,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "events.md").read_text(), re.DOTALL)
    event = json.loads(shown)
    name = re.fullmatch(r"batch-controller\.(.+)\.v1", event["type"])
    assert name is not None
    row = OutboxRow(key=1, event_id=event["id"], name=name[1], body=b"")
    flat = {"event": name[1], "event_id": event["id"], "time": event["time"], **event["data"]}
    assert cloud_event(flat, row=row, source="batch-job-controller/default") == event
