"""The audit of locked packages says what it found, and loudly if it could not look."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "audit"
TOOL = """#!/bin/sh
# Stands in for pip-audit: knows of holes in the packages that are named in the file "holes".
for last; do :; done
case "$*" in *"--vulnerability-service {reachable} "*) ;; *) echo "ConnectionError: no route" >&2; exit 1 ;; esac
if grep -q -f holes "$last"; then echo "Found 1 known vulnerability in 1 package" >&2; echo "Name ID"; exit 1; fi
echo "No known vulnerabilities found" >&2
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / ".venv-audit" / "bin").mkdir(parents=True)
    (tmp_path / "shipped.txt").write_text("good==1\n")
    (tmp_path / "dev.txt").write_text("tool==1\n")
    return tmp_path


def audit(directory: Path, *, reachable: str, holes: str) -> tuple[int, str]:
    tool = directory / ".venv-audit" / "bin" / "pip-audit"
    tool.write_text(TOOL.replace("{reachable}", reachable))
    tool.chmod(0o755)
    (directory / "holes").write_text(holes)
    command = ["bash", str(SCRIPT), sys.executable, "shipped.txt", "dev.txt"]
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout


@pytest.mark.parametrize("reachable", ["pypi", "osv"])
def test_a_hole_in_what_ships_fails(directory: Path, reachable: str) -> None:
    """Whichever database can be reached, a known hole in a shipped package fails the run."""
    code, said = audit(directory, reachable=reachable, holes="requests==2.19.0\ngood==1\n")
    assert code == 1
    assert f"auditing shipped.txt ({reachable})" in said
    assert "Found 1 known vulnerability" in said


def test_a_hole_in_a_development_tool_is_told(directory: Path) -> None:
    """It does not ship, so it does not fail."""
    code, said = audit(directory, reachable="pypi", holes="requests==2.19.0\ntool==1\n")
    assert code == 0
    assert "!!! dev.txt is used in development only" in said
    assert "SKIPPED" not in said


def test_nothing_found_passes_quietly(directory: Path) -> None:
    """A database that knows holes, and none of ours."""
    code, said = audit(directory, reachable="pypi", holes="requests==2.19.0\n")
    assert code == 0
    assert "!!!" not in said


@pytest.mark.parametrize(("reachable", "holes"), [("none", "requests==2.19.0\n"), ("pypi", "nothing\n")])
def test_no_database_is_said_loudly(directory: Path, reachable: str, holes: str) -> None:
    """Nobody answers, or a mirror that knows of no hole at all: nothing was audited, and the run says so."""
    code, said = audit(directory, reachable=reachable, holes=holes)
    assert code == 0
    assert said.count("!!! SKIPPED") == 2
    assert "was NOT audited" in said
