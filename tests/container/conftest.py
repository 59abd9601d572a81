"""The engine and the image, once per run; a controller in a container that ends with the test.

These tests are asked for by name (``make image-test``), because they install packages. On a person's machine where
containers can't be run they are skipped with the reason; in CI that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.simaws.process import SimProcess
from tests.container.podman import Engine, Unavailable
from tests.container.service import ContainerService
from tests.container.tools import Tools

SIM = ["--job-queue", "high", "--job-queue", "low", "--job-definition", "work", "--sqs-queue", "requests",
       "--sqs-queue", "dead", "--max-seconds", "300"]  # fmt: skip
REVISION = "0123456789abcdef0123456789abcdef01234567"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Left out unless this folder, or something in it, is named on the command line."""
    here = Path(__file__).parent
    named = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    return None if any(each.is_relative_to(here) for each in named) else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.container)
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def engine() -> Engine:
    try:
        return Engine.ready()
    except Unavailable as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"containers can't be run here: {error}")


@pytest.fixture(scope="session")
def tools(engine: Engine) -> Tools:
    return Tools.ready(engine.cache)


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    return engine.build(
        "localhost/batch-job-controller:image-test", arguments={"VERSION": "1.2.3", "REVISION": REVISION}
    )


@pytest.fixture
def sim() -> Iterator[SimProcess]:
    with SimProcess(SIM) as process:
        yield process


@pytest.fixture
def service(engine: Engine, image: str, tmp_path: Path, sim: SimProcess) -> Iterator[Callable[..., ContainerService]]:
    """Makes a controller in a container, not started; settings as environment names without the prefix."""
    made: list[ContainerService] = []

    def make(*, options: tuple[str, ...] = (), **settings: Any) -> ContainerService:
        one = ContainerService(
            engine, image, tmp_path, sim, settings={name: str(value) for name, value in settings.items()}
        )
        one.options += options
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()
