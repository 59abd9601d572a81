"""Opening the session: Region, credentials, clients and their options."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.aws import Aws, open_aws
from controller.core.endpoints import region_of
from controller.core.errors import BadCredentials, Misconfigured
from controller.simaws import SimAws, serve
from tests.adapters.conftest import OpenAws


def opened(
    region: str | None,
    *,
    environment: Mapping[str, str] | None = None,
    queue_urls: Sequence[str] = (),
    submit_timeout_s: float = 10,
) -> AbstractAsyncContextManager[Aws]:
    return open_aws(
        region=region,
        environment=environment or {},
        queue_urls=queue_urls,
        submit_timeout_s=submit_timeout_s,
        submit_connections=32,
        batch_connections=12,
        sqs_connections=8,
    )


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/q", "eu-west-1"),
        ("https://SQS.eu-west-1.amazonaws.com/123456789012/q.fifo", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q", "cn-north-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/q", "us-gov-west-1"),
        ("https://sqs.us-east-2.api.aws/123456789012/q", "us-east-2"),
        ("https://vpce-0a-1b.sqs.us-east-2.vpce.amazonaws.com/123456789012/q", "us-east-2"),
        ("https://eu-central-1.queue.amazonaws.com/123456789012/q", "eu-central-1"),
        ("https://cn-north-1.queue.amazonaws.com.cn/123456789012/q", "cn-north-1"),
        ("https://queue.amazonaws.com/123456789012/q", "us-east-1"),
        ("http://localhost:4566/000000000000/q", None),
        ("http://sqs.us-east-1.localhost.localstack.cloud:4566/000000000000/q", None),
        ("https://sqs.eu-west-1.amazonaws.com.evil.example/1/q", None),
        ("not a url", None),
    ],
)
def test_region_comes_from_the_queue_url(url: str, region: str | None) -> None:
    """Every form of AWS's queue URLs names its Region; others name none."""
    assert region_of(url) == region


@pytest.mark.usefixtures("credentials")
async def test_no_region_is_misconfigured() -> None:
    """Without a Region the message names where to set it."""
    with pytest.raises(Misconfigured, match="AWS_REGION"):
        async with opened(None):
            pass


async def test_no_credentials_is_misconfigured(bare_environment: pytest.MonkeyPatch) -> None:
    """Without any source of credentials the message names the remedies."""
    with pytest.raises(Misconfigured, match="service account"):
        async with opened("eu-west-1"):
            pass


async def test_unknown_profile_is_misconfigured(bare_environment: pytest.MonkeyPatch) -> None:
    """AWS_PROFILE naming no profile is told as such."""
    bare_environment.setenv("AWS_PROFILE", "absent")
    for region in (None, "eu-west-1"):
        with pytest.raises(Misconfigured, match="absent"):
            async with opened(region):
                pass


async def test_credential_source_that_fails_is_no_misconfiguration(
    bare_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A source that is there but gives nothing now is a fault that may pass."""
    (tmp_path / "config").write_text("[default]\ncredential_process = false\n")
    with pytest.raises(BadCredentials, match="the next start will find it"):
        async with opened("eu-west-1"):
            pass


@pytest.mark.usefixtures("credentials")
async def test_region_that_is_no_region_is_misconfigured() -> None:
    """A Region that can't be part of a host name is refused."""
    with pytest.raises(Misconfigured, match="eu west"):
        async with opened("eu west 1"):
            pass


@pytest.mark.parametrize(
    ("configured", "environment", "sdk", "found"),
    [
        ("eu-west-1", {"AWS_REGION": "eu-west-2"}, "eu-west-3", "eu-west-1"),
        (None, {"AWS_REGION": "eu-west-2"}, "eu-west-3", "eu-west-2"),
        (None, {}, "eu-west-3", "eu-west-3"),
    ],
)
async def test_region_is_taken_in_order(
    credentials: pytest.MonkeyPatch, configured: str | None, environment: dict[str, str], sdk: str, found: str
) -> None:
    """The configured Region, then AWS_REGION, then the SDK's own chain."""
    credentials.setenv("AWS_DEFAULT_REGION", sdk)
    async with opened(configured, environment=environment) as aws:
        assert aws.region == aws.batch.meta.region_name == found


async def test_profile_region_and_credentials_are_enough(bare_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A profile may hold both the Region and the credentials."""
    (tmp_path / "config").write_text("[profile p]\nregion = ap-south-1\n")
    (tmp_path / "credentials").write_text("[p]\naws_access_key_id = A\naws_secret_access_key = s\n")
    bare_environment.setenv("AWS_PROFILE", "p")
    async with opened(None) as aws:
        assert aws.region == "ap-south-1"


async def test_every_client_repeats_nothing(credentials: pytest.MonkeyPatch) -> None:
    """No client retries by itself, whatever the environment says, and each has its own bounds."""
    credentials.setenv("AWS_RETRY_MODE", "adaptive")
    credentials.setenv("AWS_MAX_ATTEMPTS", "9")
    queues = ["https://sqs.eu-west-2.amazonaws.com/1/a", "http://localhost/1/b", "http://localhost/1/c"]
    async with opened("eu-west-1", queue_urls=queues) as aws:
        assert aws.sqs(queues[1]) is aws.sqs(queues[2])
        assert {url: aws.sqs(url).meta.region_name for url in queues} == {
            queues[0]: "eu-west-2",
            queues[1]: "eu-west-1",
            queues[2]: "eu-west-1",
        }
        clients = [aws.batch_submit, aws.batch, aws.sts, *aws.sqs_by_region.values()]
        for client in clients:
            config = client.meta.config
            assert config.retries["total_max_attempts"] == 1
            assert config.retries["mode"] == "standard"
            assert config.user_agent.startswith("batch-job-controller/")
            assert config.connect_timeout <= 4
        assert aws.batch_submit.meta.config.connector_args["keepalive_timeout"] == 4
        assert [c.meta.config.max_pool_connections for c in clients] == [33, 13, 2, 9, 9]
        assert all(c.meta.config.read_timeout > 20 for c in aws.sqs_by_region.values())


@pytest.mark.usefixtures("credentials")
async def test_connect_timeout_ends_before_the_deadline() -> None:
    """With a short deadline the connect time-out is shorter still, so that it decides what was not sent."""
    async with opened("eu-west-1", submit_timeout_s=1) as aws:
        assert aws.batch_submit.meta.config.connect_timeout == 0.5


class CountingExecutor(ThreadPoolExecutor):
    """Runs what it is given and counts it."""

    def __init__(self) -> None:
        super().__init__(max_workers=2)
        self.count = 0

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        self.count += 1
        return super().submit(function, *args, **kwargs)


async def test_the_first_calls_to_batch_wait_for_nothing_but_the_wire(open_clients: OpenAws) -> None:
    """TLS is set up when the session opens: paced calls that waited for a thread to do it would go out all at once."""
    threads = CountingExecutor()
    asyncio.get_running_loop().set_default_executor(threads)
    server = await serve(sim := SimAws())
    sim.add_job_queue("q")
    sim.add_job_definition("d")
    try:
        async with open_clients(sim.sqs.base_url) as aws:
            before = threads.count
            await aws.batch_submit.submit_job(jobName="n", jobQueue="q", jobDefinition="d")
            await aws.batch.describe_job_queues()
            assert before > 0, "the bundle of CA certificates was read in a thread"
            assert threads.count == before
    finally:
        await server.stop()


async def test_a_ca_bundle_that_cant_be_read_is_misconfigured(credentials: pytest.MonkeyPatch) -> None:
    """It is told at start, not at the first call."""
    credentials.setenv("AWS_CA_BUNDLE", "/nowhere/bundle.pem")
    with pytest.raises(Misconfigured, match="TLS"):
        async with opened("eu-west-1"):
            pass
