"""docs/install.md and docs/operations.md are run as they stand, as far as no cluster and no account are needed."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from controller.__main__ import _message_schema
from tests.chart.page_programs import DIGEST, PROGRAMS
from tests.chart.pod_security import violations
from tests.chart.tools import KUBERNETES, ROOT, Tools, container_of, kinds, loaded, of_kind

PAGE = ROOT / "docs" / "install.md"
OPERATIONS = ROOT / "docs" / "operations.md"


def blocks(page: Path = PAGE) -> list[str]:
    """The page's shell blocks, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


class Ran:
    """The page's script, run in a folder that looks like the repository."""

    def __init__(self, folder: Path, chart: Path, tools: Tools, text: str) -> None:
        self.folder = folder
        self.log = folder / "calls.jsonl"
        programs = folder / "programs"
        programs.mkdir()
        for name in PROGRAMS:
            file = programs / name
            file.write_text(f"#!{sys.executable}\n" + (Path(__file__).parent / "page_programs.py").read_text())
            file.chmod(0o755)
        (folder / "helm").mkdir()
        (folder / "helm" / chart.name).symlink_to(chart)
        for name in ("deploy", "Dockerfile"):
            (folder / name).symlink_to(ROOT / name)
        environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "HOME": str(folder),
            "PAGE_LOG": str(self.log),
            "PAGE_ROOT": str(ROOT),
            "PAGE_HELM": str(tools.helm),
        }
        self.ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def calls(self, program: str) -> list[list[str]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [words for name, *words in lines if name == program]


@pytest.fixture(scope="module")
def ran(tools: Tools, chart: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return Ran(tmp_path_factory.mktemp("page"), chart, tools, "\n".join(blocks()))


def test_the_page_runs_from_top_to_bottom(ran: Ran) -> None:
    """Every command ends well: helm lints and renders, the controller takes its configuration, AWS's and Kubernetes'
    commands name what there is."""
    assert ran.ended.returncode == 0, ran.ended.stderr[-3000:]
    assert "0 chart(s) failed" in ran.ended.stdout
    assert [words[0] for words in ran.calls("docker")] == ["login", "build", "push", "run"]
    assert [words[0] for words in ran.calls("helm")] == [
        "lint", "template", "upgrade", "test", "upgrade", "upgrade",
    ]  # fmt: skip


def test_the_installed_objects_are_those_of_the_page(ran: Ran) -> None:
    """Image by digest, the role, the queues of the stack, and in the end monitoring and the bigger volume, which stays
    in the values for later upgrades."""
    manifests = loaded((ran.folder / "objects.yaml").read_text())
    assert container_of(manifests)["image"].endswith(f"/batch-job-controller@{DIGEST}")
    annotations = of_kind(manifests, "ServiceAccount")["metadata"]["annotations"]
    assert annotations["eks.amazonaws.com/role-arn"].startswith("arn:aws:iam::")
    assert of_kind(manifests, "ServiceAccount")["metadata"]["name"] == "batch-job-controller"
    assert {"ServiceMonitor", "PrometheusRule", "NetworkPolicy"} <= kinds(manifests)
    (claim,) = of_kind(manifests, "StatefulSet")["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert yaml.safe_load((ran.folder / "values.yaml").read_text())["persistence"]["size"] == "20Gi"
    config = yaml.safe_load((ran.folder / "config.yaml").read_text())
    assert config["controller"]["name"] == "batch.batch-job-controller"
    assert config["intake"]["queue_urls"][0].endswith("/RequestQueueUrl")
    effective = yaml.safe_load((ran.folder / "effective.yaml").read_text())
    assert effective["queues"]["*"]["max_in_flight"] == 500


def test_what_comes_later_runs_after_it(tools: Tools, chart: Path, tmp_path: Path) -> None:
    """docs/operations.md on an installed release: snapshots, claims and the helper fit the StatefulSet, the store with
    the log of a killed process comes out as one whole file and goes in again, and an upgrade takes the new image."""
    (tmp_path / "state").mkdir()
    store = sqlite3.connect(tmp_path / "state" / "state.db")
    store.executescript("PRAGMA journal_mode = WAL; CREATE TABLE jobs (id); INSERT INTO jobs VALUES (1);")
    assert (tmp_path / "state" / "state.db-wal").stat().st_size > 0
    ran = Ran(tmp_path, chart, tools, "\n".join([*blocks(), *blocks(OPERATIONS)]))
    assert ran.ended.returncode == 0, ran.ended.stderr[-3000:]
    store.close()
    applied = [one for one in loaded((tmp_path / "applied.yaml").read_text()) if one["kind"] != "VolumeSnapshot"]
    assert tools.kubernetes_errors(applied, [KUBERNETES[0], KUBERNETES[-1]]) == []
    assert violations(of_kind(applied, "Pod")["spec"]) == []
    for copy in (tmp_path / "state.db", tmp_path / "state" / "state.db"):
        assert sqlite3.connect(copy).execute("SELECT id FROM jobs").fetchall() == [(1,)], copy
    assert "4c7599ae" in (tmp_path / "jobs.txt").read_text()
    assert [words[0] for words in ran.calls("helm")][-4:] == ["upgrade", "uninstall", "upgrade", "rollback"]
    tags = {words[words.index("--tag") + 1] for words in ran.calls("docker") if words[0] == "build"}
    assert len(tags) == 2, "a tag that is there can't be pushed again"


def test_the_role_is_for_the_account_that_is_installed(ran: Ran) -> None:
    """Namespace and name of the ServiceAccount in the stack are those of the release."""
    (deploy,) = [words for words in ran.calls("aws") if words[:2] == ["cloudformation", "deploy"]]
    parameters = dict(word.split("=", 1) for word in deploy if word.startswith(("ServiceAccount", "Oidc")))
    account = of_kind(loaded((ran.folder / "objects.yaml").read_text()), "ServiceAccount")["metadata"]
    assert parameters["ServiceAccountNamespace"] == account["namespace"]
    assert parameters["ServiceAccountName"] == account["name"]
    assert parameters["OidcProviderArn"] == "arn:aws:iam::111122223333:oidc-provider/oidc.example.com/id/ABC"


def test_the_first_message_is_one_that_the_controller_takes(ran: Ran) -> None:
    """It keeps the schema of messages, and goes to the queue that is consumed."""
    (send,) = [words for words in ran.calls("aws") if words[:2] == ["sqs", "send-message"]]
    options: dict[str, Any] = dict(zip(send[2::2], send[3::2], strict=True))
    jsonschema.validate(json.loads(options["--message-body"]), _message_schema())
    assert options["--queue-url"].endswith("/RequestQueueUrl")


@pytest.mark.parametrize(
    ("page", "folder"), [("README.md", "."), ("helm/batch-job-controller/README.md", "helm/batch-job-controller")]
)
def test_the_short_ways_of_the_readmes_work(tools: Tools, chart: Path, tmp_path: Path, page: str, folder: str) -> None:
    """The installation in one command, as both READMEs give it, from the folder that each is read in."""
    (block,) = [one for one in blocks(ROOT / page) if "helm upgrade --install" in one]
    queue = "https://sqs.eu-central-1.amazonaws.com/111122223333/requests"
    ran = Ran(tmp_path, chart, tools, f"REQUESTS={queue}\ncd {folder}\n{block}")
    assert ran.ended.returncode == 0, ran.ended.stderr
    config = of_kind(loaded((tmp_path / "objects.yaml").read_text()), "ConfigMap")["data"]["config.yaml"]
    assert yaml.safe_load(config)["intake"]["queue_urls"] == [queue]


@pytest.mark.parametrize(
    ("right", "broken"),
    [
        ("claimName: state-batch-job-controller-0", "claimName: state-0"),
        ("component: controller", "component: store"),
        ("'/state/restored.db', 0o600", "'/state/restore.db', 0o600"),
    ],
)
def test_a_mistake_on_the_second_page_is_found(
    tools: Tools, chart: Path, tmp_path: Path, right: str, broken: str
) -> None:
    """A claim or a label that is not the StatefulSet's, or a command that fails in the pod, ends the script."""
    (tmp_path / "state").mkdir()
    text = "\n".join([*blocks(), *blocks(OPERATIONS)])
    assert right in text
    assert Ran(tmp_path, chart, tools, text.replace(right, broken)).ended.returncode != 0


@pytest.mark.parametrize(
    ("right", "broken"),
    [
        ("OidcProviderArn=", "OidcProvider="),
        ("output RequestQueueUrl", "output RequestQueueURL"),
        ("--image-ids", "--image"),
        ("max_in_flight", "max_inflight"),
        ("logs statefulset/", "logs deployment/"),
        ("max_waiting: 200", "max_waiting: 0"),
        ("--kube-version 1.30.0 ", ""),
    ],
)
def test_a_mistake_on_the_page_is_found(tools: Tools, chart: Path, tmp_path: Path, right: str, broken: str) -> None:
    """A wrong option, name, output, key or object ends the script (so that running through means something)."""
    text = "\n".join(blocks())
    assert right in text
    assert Ran(tmp_path, chart, tools, text.replace(right, broken)).ended.returncode != 0
