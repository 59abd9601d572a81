"""The bill of materials in the image: it is valid, and it is true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.container.podman import ROOT, Engine, Failed
from tests.container.test_image import python
from tests.container.tools import Tools

SBOM = "/usr/local/share/sbom/batch-job-controller.cdx.json"
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(str(error) if error else 0)
"""
ELSEWHERE = {"colorama"}
"""Locked for Windows alone."""


@pytest.fixture(scope="module")
def text(engine: Engine, image: str) -> str:
    return python(engine, image, f"print(open({SBOM!r}).read())")


@pytest.fixture(scope="module")
def sbom(text: str) -> Any:
    return json.loads(text)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, str]:
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)(.*)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    return {canonical(name): version for name, version, _ in found if name not in ELSEWHERE}


def test_it_is_valid_cyclonedx(text: str, tools: Tools, tmp_path: Path) -> None:
    """By the strict JSON schema of the version that it names, 1.6; and the check does find a mistake."""
    (tmp_path / "sbom.json").write_text(text)
    tools.call("python", "-c", VALIDATE, str(tmp_path / "sbom.json"))
    (tmp_path / "wrong.json").write_text(text.replace('"library"', '"libary"', 1))
    with pytest.raises(Failed, match="libary"):
        tools.call("python", "-c", VALIDATE, str(tmp_path / "wrong.json"))


def test_it_lists_exactly_the_locked_runtime_packages(sbom: Any) -> None:
    """Names and versions are those of requirements.txt: nothing of the build, nothing missing."""
    listed = {canonical(each["name"]): each["version"] for each in sbom["components"]}
    assert len(listed) == len(sbom["components"])
    assert listed == locked()
    assert all(each["purl"].startswith(f"pkg:pypi/{canonical(each['name'])}@") for each in sbom["components"])


def test_it_lists_exactly_what_is_installed_in_the_image(engine: Engine, image: str, sbom: Any) -> None:
    """The distributions that Python finds in the image are those of the list, and our own."""
    code = "import importlib.metadata as m, json; print(json.dumps([[d.name, d.version] for d in m.distributions()]))"
    installed = {canonical(name): version for name, version in json.loads(python(engine, image, code))}
    installed.pop("batch-job-controller")
    assert installed == {canonical(each["name"]): each["version"] for each in sbom["components"]}


def test_it_is_about_the_controller(engine: Engine, image: str, sbom: Any) -> None:
    """Its subject is the application in its version, with a licence and its direct dependencies."""
    subject = sbom["metadata"]["component"]
    version = engine.podman("run", "--rm", "--network", "none", image, "version").split()[1]
    assert (subject["name"], subject["type"], subject["version"]) == ("batch-job-controller", "application", version)
    assert subject["licenses"][0]["license"]["id"] == "Apache-2.0"
    (direct,) = [each["dependsOn"] for each in sbom["dependencies"] if each["ref"] == subject["bom-ref"]]
    assert len(direct) > 5


def test_debian_packages_are_told_to_scanners(engine: Engine, image: str) -> None:
    """Each library of Debian's has its package's record, where scanners look if there is no dpkg, and its licence."""
    code = """
import pathlib
records = {path.name for path in pathlib.Path("/var/lib/dpkg/status.d").iterdir()}
licences = {path.name for path in pathlib.Path("/usr/share/doc").iterdir()}
print(sorted(records), sorted(records - licences))
"""
    told = python(engine, image, code)
    for package in ("libc6", "libssl3t64", "libsqlite3-0", "ca-certificates", "base-files"):
        assert f"'{package}'" in told
    assert told.strip().endswith("[]")
