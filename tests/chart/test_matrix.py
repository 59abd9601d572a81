"""Every supported shape (``ci/*-values.yaml``), rendered by both engines and held against every schema there is."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.pod_security import violations
from tests.chart.tools import CHART, KUBERNETES, NAMESPACE, Manifest, Tools, of_kind

SHAPES = sorted((CHART / "ci").glob("*-values.yaml"))
VALUES: dict[str, dict[str, Any]] = {
    path.name.removesuffix("-values.yaml"): yaml.safe_load(path.read_text()) for path in SHAPES
}


@pytest.fixture(scope="module")
def rendered(tools: Tools, chart: Path) -> dict[str, list[Manifest]]:
    """The objects of every shape, by helm 3."""
    return {name: tools.render(chart, values) for name, values in VALUES.items()}


def test_the_shapes_are_those_that_are_supported() -> None:
    """The matrix is not empty, and has the shapes that people ask for."""
    assert {"minimal", "irsa", "pod-identity", "network-policy", "existing-claim", "everything"} <= set(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_lint_finds_nothing(tools: Tools, chart: Path, name: str) -> None:
    """`helm lint --strict` takes each shape without a warning."""
    said = tools.run_helm("lint", "--strict", str(chart), "--values", str(CHART / "ci" / f"{name}-values.yaml"))
    assert "0 chart(s) failed" in said
    assert "[WARNING]" not in said
    assert "[ERROR]" not in said


def test_both_engines_make_the_same(tools: Tools, chart: Path, rendered: dict[str, list[Manifest]]) -> None:
    """Helm 4 makes the very objects that helm 3 makes."""
    by_helm_4 = dict(zip(VALUES, tools.render_with_helm_4(chart, list(VALUES.values())), strict=True))

    def sorted_(manifests: list[Manifest]) -> list[Manifest]:
        return sorted(manifests, key=lambda one: (one["kind"], one["metadata"]["name"]))

    for name, manifests in rendered.items():
        assert sorted_(by_helm_4[name]) == sorted_(manifests), name


def test_every_kubernetes_takes_the_objects(tools: Tools, rendered: dict[str, list[Manifest]]) -> None:
    """The schemas of the lowest and the newest supported Kubernetes take every object, strictly (no unknown member);
    those between take the shape that uses every value."""
    everything = [one for all_ in rendered.values() for one in all_]
    assert tools.kubernetes_errors(everything, [KUBERNETES[0], KUBERNETES[-1]]) == []
    assert tools.kubernetes_errors(rendered["everything"], KUBERNETES[1:-1]) == []


def test_the_lowest_kubernetes_is_the_charts(tools: Tools, chart: Path) -> None:
    """What is validated is what Chart.yaml promises; an older Kubernetes is refused."""
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert metadata["kubeVersion"] == f">={KUBERNETES[0]}.0-0"


def test_the_kubernetes_schemas_can_refuse(tools: Tools, rendered: dict[str, list[Manifest]]) -> None:
    """A misspelt member and a wrong type are found (so that finding nothing means something)."""
    one = copy.deepcopy(of_kind(rendered["minimal"], "StatefulSet"))
    one["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    two = copy.deepcopy(of_kind(rendered["minimal"], "StatefulSet"))
    two["spec"]["replicas"] = "one"
    errors = tools.kubernetes_errors([one, two], [KUBERNETES[0], KUBERNETES[-1]])
    assert len(errors) == 4
    assert "terminationGracePeriod" in errors[0]


def test_the_prometheus_operator_takes_its_objects(tools: Tools, rendered: dict[str, list[Manifest]]) -> None:
    """ServiceMonitor, PodMonitor and PrometheusRule keep the operator's schemas, and the matrix has all three."""
    custom = [one for all_ in rendered.values() for one in all_ if one["apiVersion"] == "monitoring.coreos.com/v1"]
    assert {one["kind"] for one in custom} == {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert tools.operator_errors(custom) == []
    broken = copy.deepcopy(custom)
    for one in broken:
        one["spec"]["groups" if one["kind"] == "PrometheusRule" else "selector"] = 7
    assert len(tools.operator_errors(broken)) == len(broken)


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_keeps_the_restricted_profile(rendered: dict[str, list[Manifest]], name: str) -> None:
    """The StatefulSet's pod and the test's pod may run in a namespace that enforces the restricted profile."""
    pods = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"] if one["kind"] == "StatefulSet" else one["spec"]
        for one in rendered[name]
        if one["kind"] in ("StatefulSet", "Pod")
    }
    assert len(pods) == (1 if name == "existing-claim" else 2)
    assert {pod: violations(spec) for pod, spec in pods.items()} == {pod: [] for pod in pods}


@pytest.mark.parametrize("name", VALUES)
def test_objects_are_told_apart(rendered: dict[str, list[Manifest]], name: str) -> None:
    """No two objects of a kind have one name; all are of the release's namespace or the one that was asked for."""
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in rendered[name]]
    assert len(set(names)) == len(names)
    spaces = {one["metadata"].get("namespace") for one in rendered[name] if "labels" in one["metadata"]}
    assert spaces <= {NAMESPACE, "monitoring"}


def test_every_value_is_used_in_the_matrix() -> None:
    """Each value that has a line in the table is set by at least one shape."""
    from helm.generate import documented

    def is_set(key: str, values: Any) -> bool:
        for part in key.split("."):
            if not isinstance(values, dict) or part not in values:
                return False
            values = values[part]
        return True

    keys = {value.key for value in documented((CHART / "values.yaml").read_text())}
    unused = {key for key in keys if not any(is_set(key, values) for values in VALUES.values())}
    assert unused == set()


def test_a_package_renders_as_its_folder(tools: Tools, chart: Path, tmp_path: Path) -> None:
    """`helm package` loses nothing, and leaves the test values out."""
    tools.run_helm("package", str(chart), "--destination", str(tmp_path))
    (package,) = tmp_path.glob("*.tgz")
    assert package.name == "batch-job-controller-0.1.0.tgz"
    for name in ("everything", "monitoring-service"):
        assert tools.render(package, VALUES[name]) == tools.render(chart, VALUES[name])
    import tarfile

    with tarfile.open(package) as archive:
        members = archive.getnames()
    assert not [member for member in members if "/ci/" in member]
    assert any("/files/rules/" in member for member in members)
