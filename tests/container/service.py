"""The controller in a container on a simulated AWS of the host; and what its control group says that it costs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controller.simaws.process import SimProcess
from tests.container.podman import Container, Engine
from tests.e2e.service import Service, get_json, wait_for

CGROUPS = Path("/sys/fs/cgroup")
RESTRICTED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges",
              "--memory", "256m", "--pids-limit", "100")  # fmt: skip
"""As strict as the restricted Pod Security profile, and stricter: nothing but /tmp and the volume can be written."""


class ContainerService(Service):
    """``Service`` with a container in the place of the process. It is reached through the host's own loopback."""

    def __init__(
        self,
        engine: Engine,
        image: str,
        directory: Path,
        sim: SimProcess,
        *,
        settings: Mapping[str, str] | None = None,
        options: Sequence[str] = RESTRICTED,
    ) -> None:
        super().__init__(directory, sim, settings=settings)
        self.engine = engine
        self.image = image
        self.options = tuple(options)
        self.container: Container | None = None

    def environment(self) -> dict[str, str]:
        """Only what is meant for it: the image's own settings stand."""
        whole = super().environment()
        whole.pop("BATCH_CONTROLLER_STORE__URL")
        return {name: value for name, value in whole.items() if name.startswith(("AWS_", "BATCH_CONTROLLER_"))}

    def start(self) -> None:
        variables = [f"--env={name}={value}" for name, value in self.environment().items()]
        self.container = self.engine.run(
            self.image, "run", "--queue-url", self.queue_url, options=["--network", "host", *self.options, *variables]
        )

    @property
    def running(self) -> Container:
        assert self.container is not None
        return self.container

    def wait_ready(self) -> None:
        def is_ready() -> bool:
            assert self.running.is_running(), self.log_tail()
            try:
                return get_json(f"http://127.0.0.1:{self.port}/readyz")[0] == 200
            except OSError:
                return False

        wait_for(is_ready, what="the controller in the container is ready")

    def kill(self) -> None:
        self.engine.podman("kill", self.running.id)

    def stop(self) -> int:
        return self.running.stop()

    def close(self) -> None:
        if self.container is not None:
            self.container.remove()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.running.logs()[0].splitlines() if line.endswith("}")]

    def events_named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["event"] == name]

    def log_tail(self) -> str:
        return self.running.logs()[1][-4000:]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a control group has used so far."""

    cpu_s: float
    working_set_bytes: int
    """As Kubernetes counts it: without file pages that can be dropped at once."""
    rss_bytes: int


def cost_of(container: Container) -> Cost:
    """Read from the kernel's accounts of the container, version 1 or 2 of control groups."""
    path = container.cgroup
    if (CGROUPS / "cgroup.controllers").exists():
        group = CGROUPS / path
        memory = _numbers(group / "memory.stat")
        used = int((group / "memory.current").read_text())
        cpu_s = _numbers(group / "cpu.stat")["usage_usec"] / 1e6
        return Cost(cpu_s, used - memory["inactive_file"], memory["anon"])
    memory = _numbers(CGROUPS / "memory" / path / "memory.stat")
    used = int((CGROUPS / "memory" / path / "memory.usage_in_bytes").read_text())
    cpu_s = int((CGROUPS / "cpuacct" / path / "cpuacct.usage").read_text()) / 1e9
    return Cost(cpu_s, used - memory["total_inactive_file"], memory["total_rss"])


def _numbers(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}
