"""Containers for tests: tools, base image, our image, and containers that end with the test.

Called by the tests of the image, the Compose file and the chart. Everything is kept apart from the machine's own
containers (``.ci/containers`` makes the set-up and says where). Containers are ended by their ids. It knows nothing of
what runs in them.

    engine = Engine.ready()                # raises Unavailable with the reason; takes a minute the first time
    image = engine.build()                 # localhost/batch-job-controller:test, cached
    with engine.run(image, "run", options=["--network", "host", "--read-only"]) as container:
        container.logs() ...
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).parents[2]
IMAGE = "localhost/batch-job-controller:test"
SETUP_S = 900
BUILD_S = 900
CALL_S = 120
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


class Unavailable(Exception):
    """Containers can't be run on this machine; the text says why."""


class Failed(Exception):
    """A tool ended with an error; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Engine:
    """podman and buildah on private storage."""

    cache: Path

    @classmethod
    def ready(cls) -> Engine:
        """Tools installed, base image made. Raises Unavailable."""
        done = subprocess.run([str(ROOT / ".ci/containers")], capture_output=True, text=True, timeout=SETUP_S)
        if done.returncode:
            raise Unavailable(f".ci/containers: {done.stderr.strip()[-1000:]}")
        return cls(Path(done.stdout.strip().splitlines()[-1]))

    @property
    def environment(self) -> dict[str, str]:
        """For every call of podman, buildah, skopeo and podman-compose."""
        return {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self.cache / "storage.conf"),
            "CONTAINERS_CONF": str(self.cache / "containers.conf"),
        }

    def call(self, *command: str, within_s: float = CALL_S) -> str:
        """Run a tool; its standard output. Raises Failed."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=within_s, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            told = "\n".join(part for part in (done.stdout[-2000:], done.stderr[-4000:]) if part)
            raise Failed(f"{' '.join(command)}: exit code {done.returncode}\n{told}")
        return done.stdout

    def podman(self, *arguments: str, within_s: float = CALL_S) -> str:
        return self.call("podman", *arguments, within_s=within_s)

    def inspect(self, kind: str, name: str) -> Any:
        """``podman <kind> inspect`` of one image, container, pod …"""
        return json.loads(self.podman(kind, "inspect", name))[0]

    def build(self, tag: str = IMAGE, *, arguments: Mapping[str, str] | None = None, context: Path = ROOT) -> str:
        """Build the Dockerfile, from the cache where nothing has changed; the tag.

        ``arguments`` are VERSION, REVISION, SOURCE and PYTHON_IMAGE. buildah takes no notice of them when it looks into
        its cache (containers/buildah#5501), so an image with other labels may be what it answers: then all is built
        again without the cache, which takes a minute. To remove the image first is not enough, it may have other names.
        """
        values = [f"--build-arg={name}={value}" for name, value in (arguments or {}).items()]
        self._build(tag, values, context)
        labels = self.inspect("image", tag)["Labels"]
        told = {name: value for name, value in (arguments or {}).items() if name in ("VERSION", "REVISION", "SOURCE")}
        wanted = {f"org.opencontainers.image.{name.lower()}": value for name, value in told.items()}
        if not wanted.items() <= labels.items():
            self._build(tag, ["--no-cache", *values], context)
        return tag

    def _build(self, tag: str, options: Sequence[str], context: Path) -> None:
        with self._machine_settings() as mounts:
            self.call(
                "buildah", "bud", "--isolation", "chroot", "--pull-never", "--network", "host", "--format", "docker",
                "--layers", "--tag", tag, *mounts, *options, "--file", str(context / "Dockerfile"), str(context),
                within_s=BUILD_S,
            )  # fmt: skip

    def run(self, image: str, *command: str, options: Sequence[str] = ()) -> Container:
        """Start a container in the background. Options are podman's; it is removed when the ``with`` block ends."""
        return Container(self, self.podman("run", "--detach", *options, image, *command).strip())

    @contextmanager
    def _machine_settings(self) -> Iterator[list[str]]:
        """The machine's package index and certificates for pip in the build; the Dockerfile knows of neither."""
        kept = [f"{name}={value}" for name, value in _pip_settings().items()]
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write("\n".join(["[global]", *kept, ""]))
            file.flush()
            mounts = [f"--volume={file.name}:/etc/pip.conf:ro"]
            if Path(CA_BUNDLE).exists():
                mounts.append(f"--volume={CA_BUNDLE}:{CA_BUNDLE}:ro")
            yield mounts


def _pip_settings() -> dict[str, str]:
    index = os.environ.get("PIP_INDEX_URL")
    return {
        "disable-pip-version-check": "true",
        **({"cert": CA_BUNDLE} if Path(CA_BUNDLE).exists() else {}),
        **({"index-url": index} if index else {}),
    }


@dataclass(frozen=True, slots=True)
class Container:
    """One started container."""

    engine: Engine
    id: str

    def exec(self, *command: str) -> str:
        return self.engine.podman("exec", self.id, *command)

    def logs(self) -> tuple[str, str]:
        """Standard output and standard error so far."""
        done = subprocess.run(
            ["podman", "logs", self.id], env=self.engine.environment, capture_output=True, text=True, timeout=CALL_S
        )
        return done.stdout, done.stderr

    def is_running(self) -> bool:
        return bool(self.engine.inspect("container", self.id)["State"]["Running"])

    def exit_code(self, *, within_s: float = CALL_S) -> int:
        """Of a container that ends by itself."""
        return int(self.engine.podman("wait", self.id, within_s=within_s).strip())

    def stop(self, *, within_s: int = 30) -> int:
        """The image's stop signal, SIGKILL after ``within_s``; the exit code."""
        self.engine.podman("stop", "--time", str(within_s), self.id, within_s=within_s + CALL_S)
        return self.exit_code()

    def remove(self) -> None:
        self.engine.podman("rm", "--force", "--time", "0", "--volumes", self.id)

    @property
    def process_id(self) -> int:
        """Of its process 1, as the host counts."""
        return int(self.engine.inspect("container", self.id)["State"]["Pid"])

    @property
    def cgroup(self) -> Path:
        """Path of its control group, below the mount of a controller (version 1) or of them all (version 2)."""
        lines = Path(f"/proc/{self.process_id}/cgroup").read_text().splitlines()
        split = [line.split(":", 2) for line in lines]
        by_controller = {name: path for _, names, path in split for name in names.split(",")}
        return Path((by_controller.get("memory") or by_controller[""]).lstrip("/"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()
