"""Python tools that only these tests need, from their own hash-locked list, in an environment of their own."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.container.podman import ROOT, Failed

LOCK = ROOT / "requirements-image-test.txt"
INSTALL_S = 600


@dataclass(frozen=True, slots=True)
class Tools:
    """hadolint, check-jsonschema, podman-compose and the CycloneDX library."""

    directory: Path

    @classmethod
    def ready(cls, cache: Path) -> Tools:
        """Installed in ``cache``, once per version of the list and of Python."""
        key = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:12]
        tools = cls(cache / f"tools-{key}")
        mark = tools.directory / "installed"
        if not mark.exists():
            venv.create(tools.directory, with_pip=True, clear=True)
            tools.call("python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes",
                       "-r", str(LOCK))  # fmt: skip
            mark.touch()
        return tools

    def path(self, name: str) -> Path:
        return self.directory / "bin" / name

    def call(self, name: str, *arguments: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
        """Run a tool; what it wrote to both streams. Raises Failed."""
        done = subprocess.run(
            [str(self.path(name)), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd,
            stdin=subprocess.DEVNULL, timeout=INSTALL_S, env=env,
        )  # fmt: skip
        if done.returncode:
            raise Failed(f"{name} {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout[-4000:]}")
        return done.stdout
