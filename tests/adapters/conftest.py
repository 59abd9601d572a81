"""Clients of the real SDK, pointed at servers on this machine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from controller.adapters.aws import Aws, open_aws
from controller.adapters.aws_door import Door
from controller.adapters.batch import Batch
from controller.adapters.clock import SystemClock

REGION = "eu-west-1"


@dataclass(slots=True)
class Seen:
    """What the observer was told."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, operation: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((operation, outcome))


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> pytest.MonkeyPatch:
    """No AWS settings of the machine, no metadata service, no proxy."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/credentials")
    return monkeypatch


@pytest.fixture
def credentials(bare_environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    bare_environment.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    bare_environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return bare_environment


OpenAws = Callable[..., AbstractAsyncContextManager[Aws]]
OpenBatch = Callable[..., AbstractAsyncContextManager[Batch]]


@pytest.fixture
def open_clients(credentials: pytest.MonkeyPatch) -> OpenAws:
    """Opens the application's own clients against a URL."""

    @asynccontextmanager
    async def opened(
        url: str,
        *,
        queue_urls: Sequence[str] = (),
        submit_timeout_s: float = 10,
        submit_connections: int = 4,
        door: Door | None = None,
    ) -> AsyncIterator[Aws]:
        credentials.setenv("AWS_ENDPOINT_URL", url)
        async with open_aws(
            region=REGION,
            environment={},
            queue_urls=queue_urls,
            submit_timeout_s=submit_timeout_s,
            submit_connections=submit_connections,
            batch_connections=4,
            sqs_connections=4,
            door=door,
        ) as aws:
            yield aws

    return opened


@pytest.fixture
def open_batch(open_clients: OpenAws, seen: Seen) -> OpenBatch:
    """Opens the Batch adapter against a URL."""

    @asynccontextmanager
    async def opened(url: str, *, read_deadline_s: float = 5, **options: Any) -> AsyncIterator[Batch]:
        async with open_clients(url, **options) as aws:
            yield Batch(
                submit_client=aws.batch_submit,
                client=aws.batch,
                clock=SystemClock(),
                observe=seen,
                fetch_credentials=aws.fetch_credentials,
                read_deadline_s=read_deadline_s,
            )

    return opened
