"""Lay out the image's file system: what the controller needs at run time, and nothing else.

Run by the Dockerfile in its build stage, on the standard library alone. Takes the interpreter and the virtual
environment of that stage and writes three trees, one per layer of the image:

    runtime        Python, the shared libraries it is linked with, certificates, the user
    dependencies   the virtual environment without our package
    application    our package and the bill of materials

There is no shell, package manager or pip in them. Byte code is compiled here, for a root that can't be written to.
"""

from __future__ import annotations

import argparse
import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

VERSION: Final = f"python{sys.version_info[0]}.{sys.version_info[1]}"
SITE_PACKAGES: Final = f"lib/{VERSION}/site-packages"
USER: Final = 65532
"""``nonroot`` of the distroless images: a number no machine gives to a person or a service."""
STATE: Final = "var/lib/batch-controller"
SBOM: Final = "usr/local/share/sbom/batch-job-controller.cdx.json"

BOTOCORE_SERVICES: Final = frozenset(
    {
        "batch", "sqs", "sts",  # called by the controller
        "events", "sns",  # for events that leave by other ways
        "sso", "sso-oidc", "signin",  # called by the SDK to get credentials, as sts is
    }
)  # fmt: skip
"""Of more than 400; each is a description of an API that the SDK reads when a client is made."""

STDLIB_LEFT_OUT: Final = frozenset(
    {
        "__pycache__", "dist-packages", "ensurepip", "idlelib", "idle_test", "lib2to3", "pydoc_data", "site-packages",
        "test", "tests", "tkinter", "turtle.py", "turtledemo", "venv",
    }
)  # fmt: skip
EXTENSIONS_LEFT_OUT: Final = re.compile(r"(_?xx|_test|_ctypes_test|_tkinter|_curses|_dbm|_gdbm|readline)")
"""Extension modules for terminals, old databases and Python's own tests; they would bring libraries with them."""
ETC: Final = ("ssl", "ca-certificates.conf", "os-release", "debian_version", "nsswitch.conf", "protocols", "services",
              "ld.so.conf", "ld.so.conf.d", "host.conf", "netconfig")  # fmt: skip
PASSWD: Final = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{0}:{0}:nonroot:/home/nonroot:/sbin/nologin\n"
GROUP: Final = "root:x:0:\nnonroot:x:{0}:\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, required=True, help="virtual environment, in its final place")
    parser.add_argument("--package", required=True, help="our import package; everything else is a dependency")
    parser.add_argument("--distribution", required=True, help="our distribution")
    parser.add_argument("--script", required=True, help="our command")
    parser.add_argument("--sbom", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    stdlib = Path(sysconfig.get_path("stdlib"))
    runtime, dependencies, application = (options.out / name for name in ("runtime", "dependencies", "application"))
    put_environment(options.environment, dependencies)
    dist_info = f"{options.distribution.replace('-', '_')}-*.dist-info"
    ours = [f"{SITE_PACKAGES}/{options.package}", f"{SITE_PACKAGES}/{dist_info}", f"bin/{options.script}"]
    split_off(options.environment, dependencies, application, ours=ours)
    drop_commands(dependencies / options.environment.relative_to("/") / "bin")
    put_interpreter(stdlib, runtime)
    put_libraries(runtime, [runtime, dependencies])
    put_settings(runtime)
    put_user(runtime)
    copy(options.sbom, application / SBOM)
    for tree in (runtime, dependencies, application):
        compile_all(tree)
    check_call("ldconfig", "-r", str(runtime))
    for tree in (runtime, dependencies, application):
        print(f"{tree.name}: {size_of(tree) / 1e6:.1f} MB")


# --- layers -----------------------------------------------------------------------------------------------------


def put_environment(environment: Path, tree: Path) -> None:
    """The virtual environment without what only developers and package managers need."""
    kept = shutil.ignore_patterns(
        "__pycache__", "tests", "test", "*.pyi", "*.pyx", "*.pxd", "*.c", "*.h", "activate*", "Activate.ps1", "include"
    )
    target = tree / environment.relative_to("/")
    shutil.copytree(environment, target, symlinks=True, ignore=kept)
    data = target / SITE_PACKAGES / "botocore/data"
    for service in sorted(data.iterdir()):
        if service.is_dir() and service.name not in BOTOCORE_SERVICES:
            shutil.rmtree(service)
    missing = BOTOCORE_SERVICES - {each.name for each in data.iterdir()}
    assert not missing, f"the SDK has no longer: {missing}"


def split_off(environment: Path, tree: Path, into: Path, *, ours: Iterable[str]) -> None:
    """Move our own package to its own layer, so that a new version is a small download."""
    source, target = (each / environment.relative_to("/") for each in (tree, into))
    for pattern in ours:
        (found,) = source.glob(pattern)
        moved = target / found.relative_to(source)
        moved.parent.mkdir(parents=True, exist_ok=True)
        found.rename(moved)


def drop_commands(directory: Path) -> None:
    """The dependencies' own commands; the interpreter stays."""
    for path in directory.iterdir():
        if not path.name.startswith("python"):
            path.unlink()


def put_interpreter(stdlib: Path, tree: Path) -> None:
    copy(stdlib.parents[1] / "bin" / VERSION, tree / "usr/local/bin" / VERSION)
    for link in ("python3", "python"):
        (tree / "usr/local/bin" / link).symlink_to(VERSION)

    def left_out(directory: str, names: list[str]) -> set[str]:
        is_dynload = Path(directory).name == "lib-dynload"
        return {
            name
            for name in names
            if name in STDLIB_LEFT_OUT
            or name.startswith("config-")
            or (is_dynload and EXTENSIONS_LEFT_OUT.match(name))
            or not os.path.exists(os.path.join(directory, name))  # a link to nowhere
        }

    shutil.copytree(stdlib, tree / "usr/local/lib" / VERSION, ignore=left_out)


def put_libraries(tree: Path, trees: Iterable[Path]) -> None:
    """Every shared library that a program or extension in ``trees`` is linked with, under its own path."""
    packages = {"ca-certificates", "base-files", "netbase"}
    for library in sorted(linked_libraries(trees) | set(loaded_by_libc())):
        copy(library, tree / str(library).lstrip("/"))
        packages.update(owners(library))
    for package in sorted(packages):
        # Where scanners look for Debian packages in an image that has no package manager.
        described = subprocess.run(["dpkg", "-s", package], capture_output=True, text=True)
        if described.returncode == 0:
            record = tree / "var/lib/dpkg/status.d" / package
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(described.stdout)
        licence = Path("/usr/share/doc") / package / "copyright"
        if licence.exists():
            copy(licence, tree / "usr/share/doc" / package / "copyright")


def put_settings(tree: Path) -> None:
    for name in ETC:
        source = Path("/etc") / name
        if source.is_dir():
            shutil.copytree(source, tree / "etc" / name, symlinks=False, ignore=shutil.ignore_patterns("private"))
        elif source.exists():
            copy(source, tree / "etc" / name)


def put_user(tree: Path) -> None:
    (tree / "etc/passwd").write_text(PASSWD.format(USER))
    (tree / "etc/group").write_text(GROUP.format(USER))
    for path, mode, owner in (
        ("tmp", 0o1777, 0),
        ("root", 0o700, 0),
        ("home/nonroot", 0o700, USER),
        (STATE, 0o700, USER),
    ):
        (tree / path).mkdir(parents=True, exist_ok=True)
        (tree / path).chmod(mode)
        os.chown(tree / path, owner, owner)


def compile_all(tree: Path) -> None:
    """Byte code that is never compared with its source: files in an image have no times to go by."""
    done = compileall.compile_dir(
        tree, quiet=1, workers=0, stripdir=str(tree), prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )  # fmt: skip
    assert done, f"{tree} was not compiled"


# --- the machine ------------------------------------------------------------------------------------------------


def linked_libraries(trees: Iterable[Path]) -> set[Path]:
    found: set[Path] = set()
    for path in programs(trees):
        linked = subprocess.run(["ldd", str(path)], capture_output=True, text=True).stdout
        assert "not found" not in linked, f"{path}:\n{linked}"
        names = re.findall(r"(?:=> |^\s*)(/\S+) \(0x", linked, re.MULTILINE)
        # Wheels bring libraries of their own, which are in the tree already.
        found.update(Path(name) for name in names if not any(Path(name).is_relative_to(tree) for tree in trees))
    return found


def programs(trees: Iterable[Path]) -> Iterator[Path]:
    for tree in trees:
        for path in tree.rglob("*"):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    if file.read(4) == b"\x7fELF":
                        yield path


def loaded_by_libc() -> list[Path]:
    """What the C library opens by name when it is needed: to end a thread."""
    cache = check_call("ldconfig", "-p")
    return [Path(path) for path in re.findall(r"libgcc_s\.so\.1 .*=> (\S+)", cache)[:1]]


def owners(library: Path) -> set[str]:
    """The Debian package that a library came with; the C library's links have two paths."""
    for path in (library, library.resolve()):
        for name in {str(path), str(path).removeprefix("/usr"), f"/usr{path}"}:
            found = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True)
            if found.returncode == 0:
                return {line.split(":")[0] for line in found.stdout.splitlines()}
    return set()


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def size_of(tree: Path) -> int:
    return sum(path.lstat().st_size for path in tree.rglob("*") if path.is_symlink() or path.is_file())


def check_call(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
