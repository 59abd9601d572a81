"""deploy/compose.yaml: valid, pinned, restricted; its services with our image are started and used.

Prometheus and Grafana are not started: their images can't be had here. What they are given is checked instead.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
import yaml

from tests.container.podman import ROOT, Engine, Failed
from tests.container.test_running import sample
from tests.container.tools import Tools
from tests.e2e.service import free_port, get_json, wait_for

DEPLOY = ROOT / "deploy"
FILE = DEPLOY / "compose.yaml"
OURS = ("aws", "controller", "requests")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text())["services"])


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Folder or file of the repository → its path in the container."""
    triples = [each.split(":") for each in service.get("volumes", [])]
    return {triple[0]: triple[1] for triple in triples if triple[0].startswith("./")}


# --- the files ----------------------------------------------------------------------------------------


def test_it_is_valid_by_the_compose_specification(tools: Tools, tmp_path: Path) -> None:
    """The specification's own JSON schema accepts it; and refuses it with a key misspelt."""
    schema = ("--builtin-schema", "vendor.compose-spec")
    tools.call("check-jsonschema", *schema, str(FILE))
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text().replace("stop_grace_period:", "stop_grace_periode:"))
    with pytest.raises(Failed, match="stop_grace_periode"):
        tools.call("check-jsonschema", *schema, str(wrong))


def test_images_are_pinned_and_ports_are_on_the_loopback(services: dict[str, Any]) -> None:
    """No ``latest``; nothing is open to the network."""
    for name, service in services.items():
        if name not in OURS:
            assert re.fullmatch(r"[a-z.]+/[a-z-]+/[a-z-]+:v?\d+\.\d+\.\d+", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_our_services_are_restricted(services: dict[str, Any]) -> None:
    """Read-only root, no capability, no new privileges; time to drain before the kill."""
    for name in OURS:
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges"]
    assert int(services["controller"]["stop_grace_period"].removesuffix("s")) > 30


def test_what_is_mounted_is_there(services: dict[str, Any]) -> None:
    """Every file and folder of the repository that a service mounts exists and is not empty."""
    for service in services.values():
        for source in mounts(service):
            path = DEPLOY / source
            assert path.is_file() or any(path.iterdir()), source


def test_promtool_accepts_the_configuration_and_its_rules(tmp_path: Path) -> None:
    """Prometheus' own check reads prometheus.yml with the rules where the container has them."""
    if shutil.which("promtool") is None:
        reason = "promtool is not installed (Debian, Ubuntu: apt-get install prometheus)"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    shutil.copytree(DEPLOY / "prometheus", tmp_path, dirs_exist_ok=True)
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"SUCCESS: .*rule files found", done.stdout), done.stdout


def test_prometheus_scrapes_the_controller_where_it_listens(services: dict[str, Any]) -> None:
    """The target is the service's name and port; the rules are looked for where they are mounted."""
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    targets = [
        target for job in config["scrape_configs"] for each in job["static_configs"] for target in each["targets"]
    ]
    assert f"controller:{services['controller']['ports'][0].split(':')[-1]}" in targets
    assert config["rule_files"] == ["rules/*.yaml"]
    assert mounts(services["prometheus"])["./prometheus/rules"] == "/etc/prometheus/rules"


def test_grafana_finds_its_data_source_and_dashboards(services: dict[str, Any]) -> None:
    """The data source is the Prometheus service; the dashboards are where the provider and the home page look."""
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert source["url"] == f"http://prometheus:{services['prometheus']['ports'][0].split(':')[-1]}"
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/batch-job-controller.yaml").read_text())[
        "providers"
    ]
    mounted = mounts(services["grafana"])["./grafana/dashboards"]
    assert provider["options"]["path"] == mounted
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(mounted)
    assert (DEPLOY / "grafana/dashboards" / home.name).is_file()


# --- the services -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Project:
    """Our services, started under a name and on ports of their own."""

    compose: Callable[..., str]
    name: str
    port: int

    def metrics(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())


@pytest.fixture
def project(engine: Engine, image: str, tools: Tools) -> Iterator[Project]:
    ports = {name: str(free_port()) for name in ("AWS_PORT", "CONTROLLER_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")}
    environment = {**engine.environment, **ports, "BATCH_CONTROLLER_IMAGE": image}
    name = f"compose-test-{os.getpid()}"

    def compose(*arguments: str) -> str:
        return tools.call("podman-compose", "--in-pod=false", "-p", name, "-f", str(FILE), *arguments, env=environment)

    try:
        yield Project(compose, name, int(ports["CONTROLLER_PORT"]))
    finally:
        compose("down", "--volumes", "--timeout", "30")


def test_the_services_find_each_other_and_carry_out_the_sample_requests(engine: Engine, project: Project) -> None:
    """``up``, then ``run requests``: everything that was sent ends, and some of it badly, as it should."""
    project.compose("up", "--no-build", "--detach", "aws", "controller")

    def is_ready() -> bool:
        try:
            return get_json(f"http://127.0.0.1:{project.port}/readyz")[0] == 200
        except OSError:
            return False

    wait_for(is_ready, what="the controller is ready")
    assert "sent 90 messages" in project.compose("run", "--rm", "-T", "requests", "--count", "90", "--rate", "100")

    def ended() -> bool:
        text = project.metrics()
        received = {
            each: sample(text, "requests_received_total", outcome=each)
            for each in ("accepted", "duplicate", "rejected")
        }
        finished = sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith("batch_controller_jobs_finished_total{")
        )
        return sum(received.values()) == 90 and finished == received["accepted"]

    wait_for(ended, what="every accepted request ended", within_s=120)
    assert sample(project.metrics(), "jobs_finished_total", job_queue="high", outcome="failed") > 0
    for service in ("aws", "controller"):
        engine.podman("healthcheck", "run", f"{project.name}_{service}_1")
