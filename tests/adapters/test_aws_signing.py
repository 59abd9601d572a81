"""Signing: the same bytes as botocore's own, with whatever credentials the SDK has at that moment."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore import UNSIGNED, awsrequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st

from controller.adapters import aws_signing
from controller.adapters.aws_credentials import LAST_S
from controller.adapters.aws_signing import CachedKeySigV4, auth
from tests.adapters.conftest import OpenAws
from tests.adapters.faulty_server import answer, faulty_server

untyped: Any = awsrequest
NOW = datetime(2026, 2, 28, 23, 59, 58, tzinfo=UTC)
URLS = (
    "https://batch.eu-west-1.amazonaws.com/v1/submitjob",
    "https://sqs.eu-west-1.amazonaws.com",
    "https://sqs.eu-west-1.amazonaws.com:443/",
    "http://LocalHost:4566//a/../b c/%7Eü",
    "http://[::1]:4566/v1/describejobs",
    "https://batch.eu-west-1.amazonaws.com/v1/jobs?b=2&a=1",
)
HEADER_NAMES = ("Content-Type", "X-Amz-Target", "x-amzn-query-mode", "User-Agent", "Host", "Date", "X-Amzn-Trace-Id")
HEADER_VALUES = st.text(" \ta,;=/Z", max_size=12)  # white space is what canonical values differ in


def _request(
    url: str, headers: list[tuple[str, str]], data: Any, context: dict[str, Any], params: dict[str, str] | None = None
) -> Any:
    request = untyped.AWSRequest(method="POST", url=url, data=data, params=params)
    for name, value in headers:
        request.headers[name] = value
    request.context.update(context)
    return request


def _signed_by(
    signer: Any,
    request: Any,
    credentials: ReadOnlyCredentials,
    now: datetime,
    *,
    service: str = "batch",
) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda: now)
        signer(credentials, service, "eu-west-1").add_auth(request)
    return request.headers.items(), request.url, request.context


def _text(value: str | bytes) -> str:
    """Sending a request makes bytes of some of its headers."""
    return value if isinstance(value, str) else value.decode()


@given(
    url=st.sampled_from(URLS),
    headers=st.lists(st.tuples(st.sampled_from(HEADER_NAMES), HEADER_VALUES), max_size=6),
    data=st.one_of(st.binary(max_size=200), st.binary(), st.text(max_size=20), st.just({"Action": "x"})),
    secret=st.sampled_from(("wJalrXUtnFEMI/K7MDENG", "another")),
    token=st.sampled_from((None, "token/+==")),
    context=st.sampled_from(
        ({}, {}, {"payload_signing_enabled": False}, {"checksum": {"request_algorithm": {"in": "trailer"}}})
    ),
    params=st.sampled_from(({}, {}, {"b": "2 3", "a": "1"})),
    days=st.integers(0, 2),
)
def test_every_request_is_signed_as_botocore_signs_it(
    url: str,
    headers: list[tuple[str, str]],
    data: Any,
    secret: str,
    token: str | None,
    context: dict[str, Any],
    params: dict[str, str],
    days: int,
) -> None:
    """URL, headers and context of a signed request equal botocore's byte for byte, whatever its shape."""
    now = NOW + timedelta(days=days)
    credentials = ReadOnlyCredentials("AKIDEXAMPLE", secret, token)
    request, same = (_request(url, headers, data, {**context}, params) for _ in range(2))
    ours = _signed_by(CachedKeySigV4, request, credentials, now)
    assert ours == _signed_by(auth.SigV4Auth, same, credentials, now)


def test_a_request_is_signed_anew_with_other_credentials() -> None:
    """Signed twice, a request carries the later signature and token only."""
    requests = [_request(URLS[0], [("Content-Type", "application/json")], b"{}", {}) for _ in range(2)]
    for credentials in (ReadOnlyCredentials("OLD", "old", "old token"), ReadOnlyCredentials("NEW", "new", "new token")):
        ours, botocores = (
            _signed_by(signer, request, credentials, NOW)
            for signer, request in zip((CachedKeySigV4, auth.SigV4Auth), requests, strict=True)
        )
        assert ours == botocores


def test_without_credentials_it_fails_as_botocore_does() -> None:
    """No credentials is the SDK's own error."""
    signer: Any = CachedKeySigV4
    with pytest.raises(NoCredentialsError):
        signer(None, "batch", "eu-west-1").add_auth(_request(URLS[0], [], b"{}", {}))


async def test_the_clients_sign_with_refreshed_credentials(
    open_clients: OpenAws, credentials: pytest.MonkeyPatch
) -> None:
    """Credentials and session token that were refreshed between two calls sign the second one; Batch and SQS alike."""
    soon = datetime.now(UTC) + timedelta(seconds=LAST_S / 2)  # they are renewed at every use
    credentials.setenv("AWS_CREDENTIAL_EXPIRATION", soon.isoformat())
    queue_url = "https://sqs.eu-west-1.amazonaws.com/123456789012/q"
    signed: list[Any] = []
    script = [answer(200, {"jobId": "1", "jobName": "a", "jobs": []})] * 6
    async with faulty_server(*script) as server, open_clients(server.url, queue_urls=[queue_url]) as aws:
        for client in (aws.batch_submit, aws.batch, aws.sqs(queue_url)):
            client.meta.events.register_last("request-created", lambda request, **_: signed.append(request))
        for key in ("FIRST", "SECOND"):
            credentials.setenv("AWS_ACCESS_KEY_ID", key)
            credentials.setenv("AWS_SECRET_ACCESS_KEY", f"secret of {key}")
            credentials.setenv("AWS_SESSION_TOKEN", f"token of {key}")
            await aws.batch_submit.submit_job(jobName="a", jobQueue="q", jobDefinition="d")
            await aws.batch.describe_jobs(jobs=["1"])
            await aws.sqs(queue_url).receive_message(QueueUrl=queue_url)
    for key, service, sent in zip(["FIRST"] * 3 + ["SECOND"] * 3, ["batch", "batch", "sqs"] * 2, signed, strict=True):
        authorization, token = sent.headers["Authorization"], f"token of {key}"
        assert sent.headers["X-Amz-Security-Token"] == token
        names = re.findall("SignedHeaders=(.*), ", authorization)[0].split(";")  # others were added after the signature
        headers = [(name, _text(sent.headers[name])) for name in names if name != "host"]
        at = datetime.strptime(sent.context["timestamp"], auth.SIGV4_TIMESTAMP).replace(tzinfo=UTC)
        frozen = ReadOnlyCredentials(key, f"secret of {key}", token)
        again = _request(sent.url, headers, sent.data, {})
        _signed_by(auth.SigV4Auth, again, frozen, at, service=service)
        assert authorization == again.headers["Authorization"]


async def test_the_clients_sign_through_the_cache(open_clients: OpenAws) -> None:
    """Every client of the application signs with the class that keeps the key: it is what the SDK chooses."""
    aws_signing._signing_key.cache_clear()
    queue_url = "https://sqs.eu-west-1.amazonaws.com/123456789012/q"
    script = [answer(200, {"jobId": "1", "jobName": "a", "jobs": []})] * 6
    async with faulty_server(*script) as server, open_clients(server.url, queue_urls=[queue_url]) as aws:
        for _ in range(2):
            await aws.batch_submit.submit_job(jobName="a", jobQueue="q", jobDefinition="d")
            await aws.batch.describe_jobs(jobs=["1"])
            await aws.sqs(queue_url).receive_message(QueueUrl=queue_url)
    found = aws_signing._signing_key.cache_info()
    assert (found.misses, found.hits) == (2, 4)


async def test_another_choice_of_the_sdk_stands(open_clients: OpenAws) -> None:
    """A handler that wants no signature, or another version, is heard first."""
    signed: list[Any] = []
    async with faulty_server(answer(200, {"jobId": "1", "jobName": "a"})) as server, open_clients(server.url) as aws:
        events = aws.batch_submit.meta.events
        events.register("choose-signer", lambda **_: UNSIGNED)  # where the SDK has its own
        events.register_last("request-created", lambda request, **_: signed.append(request))
        await aws.batch_submit.submit_job(jobName="a", jobQueue="q", jobDefinition="d")
    assert "Authorization" not in signed[0].headers
