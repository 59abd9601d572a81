"""What is in the image, whose it is, and what it says about itself."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.container.conftest import REVISION
from tests.container.podman import ROOT, Engine, Failed
from tests.container.tools import Tools

PYTHON = "/opt/batch-controller/bin/python"
LIST_FILES = """
import json, os, stat, sys
found = []
for directory, folders, names in os.walk("/"):
    folders[:] = [each for each in folders if os.path.join(directory, each) not in ("/proc", "/sys", "/dev", "/run")]
    for name in folders + names:
        path = os.path.join(directory, name)
        status = os.lstat(path)
        found.append([path, stat.S_IMODE(status.st_mode), status.st_uid, stat.S_IFMT(status.st_mode), status.st_size])
json.dump(found, sys.stdout)
"""
SIZE_MB_MAX = 130


def python(engine: Engine, image: str, code: str, *options: str) -> str:
    """What a program prints that runs in the image."""
    return engine.podman("run", "--rm", "--network", "none", *options, "--entrypoint", PYTHON, image, "-c", code)


@pytest.fixture(scope="module")
def files(engine: Engine, image: str) -> list[tuple[str, int, int, int, int]]:
    """Path, mode, owner, kind and size of all there is."""
    return [tuple(each) for each in json.loads(python(engine, image, LIST_FILES, "--user", "0"))]


@pytest.fixture(scope="module")
def described(engine: Engine, image: str) -> Any:
    return engine.inspect("image", image)


def test_hadolint_finds_nothing_in_the_dockerfile(tools: Tools) -> None:
    """The Dockerfile is clean without any exception."""
    assert tools.call("hadolint", "--no-color", str(ROOT / "Dockerfile")) == ""


def test_the_build_refuses_a_dependency_that_is_not_the_locked_one(engine: Engine, tmp_path: Path) -> None:
    """A changed hash in the runtime lock ends the build."""
    for name in ("Dockerfile", "requirements.txt", "requirements-image.txt"):
        shutil.copy(ROOT / name, tmp_path)
    locked = (tmp_path / "requirements.txt").read_text()
    (tmp_path / "requirements.txt").write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", locked))
    with pytest.raises(Failed, match="DO NOT MATCH THE HASHES"):
        engine.build("localhost/batch-job-controller:never", context=tmp_path)


def test_labels_say_what_it_is(described: Any) -> None:
    """Title, version, revision and licence are in the OCI labels; the source is left to whoever publishes it."""
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in described["Labels"].items()}
    assert labels["title"] == "batch-job-controller"
    assert labels["version"] == "1.2.3"
    assert labels["revision"] == REVISION
    assert labels["licenses"] == "Apache-2.0"
    assert labels["source"] == ""
    assert "exactly once" in labels["description"]


def test_the_configuration_is_for_an_orchestrator(described: Any) -> None:
    """A user by number, no shell before the process, SIGTERM, the port and one volume."""
    config = described["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["/opt/batch-controller/bin/batch-controller"]
    assert config["Cmd"] == ["run"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert list(config["Volumes"]) == ["/var/lib/batch-controller"]
    assert "BATCH_CONTROLLER_STORE__URL=sqlite:////var/lib/batch-controller/state.db" in config["Env"]


def test_it_is_small_and_comes_in_three_layers(described: Any) -> None:
    """Python, dependencies, application: a new version of the application is a download of a few megabytes."""
    assert described["Size"] < SIZE_MB_MAX * 1e6
    assert len(described["RootFS"]["Layers"]) == 3


def test_there_is_no_shell_package_manager_or_privileged_program(files: list[tuple[str, int, int, int, int]]) -> None:
    """The only programs are the interpreter and our command; none changes its user; only /tmp is open to all."""
    regular, folder = 0o100000, 0o040000
    commands = {path for path, mode, _, kind, _ in files if "/bin/" in path and kind == regular}
    assert commands == {"/usr/local/bin/python3.13", "/opt/batch-controller/bin/batch-controller"}
    assert not [path for path, mode, *_ in files if mode & 0o6000]
    writable = [path for path, mode, _, kind, _ in files if mode & 0o002 and kind in (regular, folder)]
    assert writable == ["/tmp"]
    names = {path.rsplit("/", 1)[-1] for path, *_ in files}
    assert not names & {"sh", "bash", "busybox", "apt", "pip", "ensurepip", "idlelib", "tests"}


def test_only_the_state_and_the_home_belong_to_the_user(files: list[tuple[str, int, int, int, int]]) -> None:
    """The process can't change its own code, whatever the options it is run with."""
    assert {path for path, _, owner, *_ in files if owner} == {"/home/nonroot", "/var/lib/batch-controller"}


def test_the_process_is_nobody_in_particular(engine: Engine, image: str) -> None:
    """uid and gid 65532, no other groups, a home that is its own."""
    code = "import os; print(os.getuid(), os.getgid(), os.getgroups(), os.path.expanduser('~'), os.getcwd())"
    assert python(engine, image, code).strip() in (
        "65532 65532 [65532] /home/nonroot /var/lib/batch-controller",
        "65532 65532 [] /home/nonroot /var/lib/batch-controller",
    )


@pytest.mark.parametrize("user", ["65532", "0"])
def test_a_read_only_root_refuses_every_write(engine: Engine, image: str, user: str) -> None:
    """With --read-only, even root gets EROFS outside of /tmp and the volume, which both can be written."""
    code = """
import errno, pathlib
def write(path):
    try:
        pathlib.Path(path).write_text("x")
    except OSError as error:
        return errno.errorcode[error.errno]
    return "written"
import controller
paths = (controller.__file__, "/etc/passwd", "/new", "/tmp/new", "/var/lib/batch-controller/new")
print([write(path) for path in paths])
"""
    result = python(engine, image, code, "--read-only", "--tmpfs", "/tmp", "--user", user)
    assert result.strip() == str(["EROFS"] * 3 + ["written"] * 2)


def test_all_code_is_compiled(engine: Engine, image: str) -> None:
    """Every module has byte code that is taken as it is: a read-only container never compiles anything twice."""
    code = """
import importlib.util, pathlib, struct
missing = []
sources = [path for root in ("/usr/local/lib", "/opt") for path in pathlib.Path(root).rglob("*.py")]
for path in sources:
    compiled = pathlib.Path(importlib.util.cache_from_source(str(path)))
    if not compiled.exists() or struct.unpack("<I", compiled.read_bytes()[4:8])[0] != 0b01:
        missing.append(str(path))
print(len(sources) > 1000, missing)
"""
    assert python(engine, image, code).strip() == "True []"


def test_every_module_of_the_package_can_be_imported(engine: Engine, image: str) -> None:
    """Nothing that was left out of the image is missed, by the controller or by the simulated AWS."""
    code = """
import controller, importlib, pkgutil
names = [each.name for each in pkgutil.walk_packages(controller.__path__, "controller.")]
print(len([importlib.import_module(name) for name in names if not name.endswith("__main__")]))
"""
    assert int(python(engine, image, code)) > 80


def test_the_command_answers_without_network_or_volume(engine: Engine, image: str) -> None:
    """``version`` and ``check-config`` run in any image, restricted or not."""
    options = ("--rm", "--network", "none", "--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges")
    assert engine.podman("run", *options, image, "version").startswith("batch-controller ")
    told = engine.podman(
        "run", *options, image, "check-config", "--queue-url", "https://sqs.eu-west-1.amazonaws.com/1/q"
    )
    assert "url: sqlite:////var/lib/batch-controller/state.db" in told
