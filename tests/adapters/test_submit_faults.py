"""SubmitJob over real HTTP against servers that misbehave: one request each, and the right kind of error."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controller.adapters.aws_errors import outcome_of
from controller.core.errors import (
    BadCredentials,
    InDoubt,
    NotAllowed,
    OutwardError,
    Refused,
    Throttled,
    Unavailable,
    Unexpected,
)
from tests.adapters.conftest import OpenBatch, Seen
from tests.adapters.faulty_server import (
    Behaviour,
    answer,
    close,
    fault,
    faulty_server,
    garbage,
    half_head,
    never,
    reset,
    sts_fault,
    truncate,
)

ARGUMENTS: dict[str, Any] = {"jobName": "a-1", "jobQueue": "queue", "jobDefinition": "definition:1"}
ACCEPTED = answer(200, {"jobId": "j-1", "jobArn": "arn:aws:batch:eu-west-1:123456789012:job/j-1", "jobName": "a-1"})


def use_web_identity(environment: pytest.MonkeyPatch, directory: Path, sts_url: str) -> None:
    """Credentials as IRSA gives them: a role, taken from STS with a token from a file."""
    token = directory / "token"
    token.write_text("token")
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
    environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    environment.setenv("AWS_ENDPOINT_URL_STS", sts_url)
    environment.setenv("AWS_MAX_ATTEMPTS", "1")  # of the SDK's own call to STS; ours never repeat


def sts_credentials(*, expires: str) -> Behaviour:
    """AssumeRoleWithWebIdentity's answer."""
    given = "".join(
        f"<{name}>{text}</{name}>"
        for name, text in [
            ("AccessKeyId", "A"),
            ("SecretAccessKey", "s"),
            ("SessionToken", "t"),
            ("Expiration", expires),
        ]
    )
    name = "AssumeRoleWithWebIdentity"
    text = f"<{name}Response><{name}Result><Credentials>{given}</Credentials></{name}Result></{name}Response>"
    return answer(200, text.encode(), content_type="text/xml")


HTML = answer(200, b"<html>welcome</html>", content_type="text/html")


@pytest.mark.parametrize(
    ("behaviour", "kind", "code"),
    [
        # No answer, or none that can be trusted: Batch may have accepted the job.
        pytest.param(never, InDoubt, "DeadlineExceeded", id="never answers"),
        pytest.param(close, InDoubt, "ConnectionClosedError", id="reads, closes"),
        pytest.param(reset, InDoubt, "EndpointConnectionError", id="reads, resets"),
        pytest.param(truncate, InDoubt, "ConnectionClosedError", id="truncated body"),
        pytest.param(half_head, InDoubt, None, id="truncated head"),
        pytest.param(garbage, InDoubt, None, id="not HTTP"),
        pytest.param(HTML, InDoubt, "NoJobId", id="200 not JSON"),
        pytest.param(answer(200, {}), InDoubt, "NoJobId", id="200 empty object"),
        pytest.param(answer(200, {"jobId": ""}), InDoubt, "NoJobId", id="200 empty id"),
        pytest.param(answer(200, {"jobId": 7}), InDoubt, "NoJobId", id="200 id of another type"),
        pytest.param(answer(200, [1]), InDoubt, None, id="200 not an object"),
        pytest.param(answer(200, {"jobId": "j-2", "jobName": "b-2"}), InDoubt, "OtherJob", id="200 of another job"),
        pytest.param(answer(204, b""), InDoubt, "NoJobId", id="204"),
        pytest.param(answer(304, b""), InDoubt, None, id="304"),
        pytest.param(answer(302, b"", Location="http://127.0.0.1:1/error"), InDoubt, "302", id="302 to nowhere"),
        pytest.param(answer(302, b"", Location="/v1/submitjob"), InDoubt, "302", id="302 to itself"),
        pytest.param(answer(307, b"", Location="/v1/submitjob"), InDoubt, "307", id="307 to itself"),
        pytest.param(fault(500, "ServerException"), InDoubt, "ServerException", id="500"),
        pytest.param(answer(502, b"<html/>", content_type="text/html"), InDoubt, "502", id="502"),
        pytest.param(answer(503, b""), InDoubt, "503", id="503"),
        pytest.param(fault(503, "SlowDown"), InDoubt, "SlowDown", id="503 with a throttle code"),
        pytest.param(fault(500, "AuthorizerConfigurationException"), InDoubt, None, id="500 authorizer"),
        pytest.param(fault(500, "ClientException"), InDoubt, "ClientException", id="500 ClientException"),
        pytest.param(fault(408, "RequestTimeout"), InDoubt, "RequestTimeout", id="408"),
        # Not from Batch: whoever answers may have passed the request on.
        pytest.param(answer(403, b"<html/>", content_type="text/html"), InDoubt, "403", id="403 of a filter"),
        pytest.param(answer(404, b"<html/>", content_type="text/html"), InDoubt, "404", id="404 of a gateway"),
        pytest.param(answer(499, b""), InDoubt, "499", id="499"),
        pytest.param(answer(400, b""), InDoubt, "400", id="400 without a code"),
        pytest.param(
            answer(403, {"code": 403, "message": "blocked"}), InDoubt, "403", id="403 with a number for a code"
        ),
        pytest.param(answer(403, {"code": "BLOCKED"}), InDoubt, "BLOCKED", id="403 with a code of its own"),
        # Surely not accepted.
        pytest.param(fault(429, "TooManyRequestsException"), Throttled, "TooManyRequestsException", id="429"),
        pytest.param(answer(429, b"busy", content_type="text/plain"), Throttled, "429", id="429 without a code"),
        pytest.param(fault(400, "ThrottlingException"), Throttled, "ThrottlingException", id="400 throttling"),
        pytest.param(fault(400, "TooManyRequestsException"), Throttled, None, id="400 too many requests"),
        pytest.param(fault(400, "ClientException"), Refused, "ClientException", id="400 ClientException"),
        pytest.param(fault(400, "ValidationException"), Refused, None, id="400 ValidationException"),
        pytest.param(fault(403, "AccessDeniedException"), NotAllowed, "AccessDeniedException", id="403 denied"),
        pytest.param(fault(403, "ExpiredTokenException"), BadCredentials, None, id="403 expired"),
        pytest.param(fault(403, "UnrecognizedClientException"), BadCredentials, None, id="403 unrecognized"),
        pytest.param(fault(403, "InvalidSignatureException"), BadCredentials, None, id="403 signature"),
        pytest.param(fault(403, "SignatureDoesNotMatch"), BadCredentials, None, id="403 signature, old code"),
        pytest.param(fault(400, "RequestExpired"), BadCredentials, "RequestExpired", id="400 clock skew"),
        pytest.param(fault(403, "MissingAuthenticationTokenException"), BadCredentials, None, id="403 no token"),
        pytest.param(fault(400, "NeverHeardOf"), Unexpected, "NeverHeardOf", id="400 unknown code"),
        pytest.param(
            answer(403, {"message": "no"}, x_amzn_RequestId="r-1"), InDoubt, "403", id="403 with a request id alone"
        ),
        pytest.param(
            answer(404, {"__type": "com.amazon#NewException"}), Unexpected, "NewException", id="404 with a new code"
        ),
        pytest.param(answer(407, b""), Unexpected, "407", id="407"),
        pytest.param(answer(413, b""), Unexpected, "413", id="413"),
    ],
)
async def test_fault_is_one_request_and_its_kind(
    open_batch: OpenBatch, seen: Seen, behaviour: Behaviour, kind: type[OutwardError], code: str | None
) -> None:
    """Whatever the server does, exactly one request reaches it, and the error says whether the job may exist."""
    async with faulty_server(behaviour) as server, open_batch(server.url) as batch:
        with pytest.raises(OutwardError) as caught:
            # Only what waits for the deadline should meet it.
            await batch.submit_job(ARGUMENTS, timeout_s=1.0 if behaviour is never else 20.0)
    assert type(caught.value) is kind, caught.value
    assert caught.value.call == "batch:SubmitJob"
    if code is not None:
        assert caught.value.code == code
    assert len(server.requests) == 1
    assert seen.calls == [("SubmitJob", outcome_of(caught.value))]


async def test_a_redirection_to_an_error_page_leaves_the_submission_in_doubt(open_batch: OpenBatch) -> None:
    """A gateway may pass SubmitJob on, lose patience and send us to a page of its own: what the page says is not
    what Batch made of the job, and nothing is asked for it."""
    page = fault(404, "NotFound")
    async with faulty_server(answer(302, b"", Location="/error"), page) as server, open_batch(server.url) as batch:
        with pytest.raises(InDoubt):
            await batch.submit_job(ARGUMENTS, timeout_s=5)
    assert [path for path, _, _ in server.requests] == ["/v1/submitjob"]


async def test_accepted_job_has_its_id_and_arn(open_batch: OpenBatch, seen: Seen) -> None:
    """An answer with a job id is a submission, and the request carries the arguments as given."""
    async with faulty_server(ACCEPTED) as server, open_batch(server.url) as batch:
        submitted = await batch.submit_job(ARGUMENTS, timeout_s=5)
    assert (submitted.job_id, submitted.job_arn) == ("j-1", "arn:aws:batch:eu-west-1:123456789012:job/j-1")
    (path, headers, body), *others = server.requests
    assert not others
    assert path == "/v1/submitjob"
    assert json.loads(body) == ARGUMENTS
    assert headers["user-agent"].startswith("batch-job-controller/")
    assert seen.calls == [("SubmitJob", "ok")]


async def test_refused_port_is_unavailable(open_batch: OpenBatch, seen: Seen) -> None:
    """A refused connection is surely not a submission, and the error names the host."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    async with open_batch(url) as batch:
        with pytest.raises(Unavailable) as caught:
            await batch.submit_job(ARGUMENTS, timeout_s=5)
    assert caught.value.code == "EndpointConnectionError"
    assert f"EndpointConnectionError: Cannot connect to host {url.removeprefix('http://')}" in str(caught.value)
    assert seen.calls == [("SubmitJob", "unavailable")]


async def test_unknown_host_is_unavailable(open_batch: OpenBatch) -> None:
    """A name that can't be looked up is surely not a submission, and is told (RFC 6761 reserves .invalid)."""
    async with open_batch("http://batch.invalid:1") as batch:
        with pytest.raises(Unavailable, match=r"EndpointConnectionError: .*batch\.invalid"):
            await batch.submit_job(ARGUMENTS, timeout_s=5)


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """Nobody answers there, as behind a firewall that drops."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # a full accept queue: Linux drops further SYNs
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_connect_timeout_is_unavailable(open_batch: OpenBatch, deaf_port: int) -> None:
    """A connection that is never made is known as such before the call's own deadline, and the host is named."""
    async with open_batch(f"http://127.0.0.1:{deaf_port}", submit_timeout_s=0.4) as batch:
        with pytest.raises(Unavailable, match=f"ConnectTimeoutError: .*127.0.0.1:{deaf_port}") as caught:
            await batch.submit_job(ARGUMENTS, timeout_s=0.4)
    assert caught.value.code == "ConnectTimeoutError"


async def test_connect_timeout_is_one_for_all_addresses_of_a_host(
    open_batch: OpenBatch, monkeypatch: pytest.MonkeyPatch, deaf_port: int
) -> None:
    """An end point has up to eight; if each had its own time, the deadline would come first and leave a doubt."""
    found = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", deaf_port))

    async def found_often(*_: object, **__: object) -> list[object]:
        return [found] * 8

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found_often)
    async with open_batch(f"http://batch.invalid:{deaf_port}", submit_timeout_s=0.4) as batch:
        with pytest.raises(Unavailable) as caught:
            await batch.submit_job(ARGUMENTS, timeout_s=0.4)
    assert caught.value.code == "ConnectTimeoutError"


async def test_an_address_that_is_silent_leaves_time_for_the_next(
    open_batch: OpenBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes the connection and never greets is as useless as one that does not take it."""
    greeted: list[str] = []

    async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted.append(writer.get_extra_info("sockname")[0])
        await reader.read()  # until the other side gives up
        writer.close()

    async with contextlib.AsyncExitStack() as servers:
        first = await servers.enter_async_context(await asyncio.start_server(stay_silent, "127.0.0.1", 0))
        port = first.sockets[0].getsockname()[1]
        await servers.enter_async_context(await asyncio.start_server(stay_silent, "127.0.0.2", port))

        async def found(*_: object, **__: object) -> list[object]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.1", "127.0.0.2")]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
        async with open_batch(f"https://batch.invalid:{port}", submit_timeout_s=1.0) as batch:
            with pytest.raises(Unavailable):
                await batch.submit_job(ARGUMENTS, timeout_s=1.0)
    assert greeted == ["127.0.0.1", "127.0.0.2"]


async def test_a_name_look_up_that_hangs_is_unavailable(open_batch: OpenBatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name servers that don't answer are waited for longer than for the call."""

    async def hang(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang)
    async with open_batch("http://batch.invalid:1", submit_timeout_s=0.4) as batch:
        with pytest.raises(Unavailable) as caught:
            await batch.submit_job(ARGUMENTS, timeout_s=0.4)
    assert caught.value.code == "ConnectTimeoutError"


async def test_tls_failure_is_unavailable(open_batch: OpenBatch) -> None:
    """A server that fails the handshake never sees the request."""
    greeted: list[bytes] = []

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted.append(await reader.read(1))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server, open_batch(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}") as batch:
        with pytest.raises(Unavailable) as caught:
            await batch.submit_job(ARGUMENTS, timeout_s=5)
    assert caught.value.code == "SSLError"
    assert greeted == [b"\x16"]  # a TLS handshake record, and nothing was asked before it


async def test_unreachable_proxy_is_unavailable(open_batch: OpenBatch, credentials: pytest.MonkeyPatch) -> None:
    """A proxy that refuses the connection has passed nothing on."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        credentials.setenv("HTTPS_PROXY", f"http://127.0.0.1:{unused.getsockname()[1]}")
    async with open_batch("https://batch.eu-west-1.example.invalid") as batch:
        with pytest.raises(Unavailable) as caught:
            await batch.submit_job(ARGUMENTS, timeout_s=5)
    assert caught.value.code == "ProxyConnectionError"
    assert "ProxyConnectionError: Cannot connect to host 127.0.0.1:" in str(caught.value)
    assert "SSLContext" not in str(caught.value)


@pytest.mark.parametrize(
    ("behaviour", "told"),
    [
        pytest.param(answer(407, b""), "the proxy answered 407: X", id="wants a password"),
        pytest.param(answer(503, b""), "the proxy answered 503: X", id="is overloaded"),
        pytest.param(garbage, "the proxy answered 400", id="is no proxy"),
        pytest.param(close, "the proxy: Server disconnected", id="closes"),
        pytest.param(reset, "the proxy: ", id="resets"),
        pytest.param(never, "ConnectTimeoutError", id="never answers"),
    ],
)
async def test_a_proxy_that_makes_no_tunnel_is_unavailable(
    open_batch: OpenBatch, credentials: pytest.MonkeyPatch, behaviour: Behaviour, told: str
) -> None:
    """Without a tunnel nothing has reached Batch, whatever became of CONNECT. The reason is told, and no password."""
    async with faulty_server(behaviour) as proxy:
        credentials.setenv("HTTPS_PROXY", f"http://user:hunter2@127.0.0.1:{proxy.port}")
        async with open_batch("https://batch.example.invalid", submit_timeout_s=1.0) as batch:
            with pytest.raises(Unavailable, match=told) as caught:
                await batch.submit_job(ARGUMENTS, timeout_s=1.0)
    assert "hunter2" not in str(caught.value)
    assert [path for path, _, _ in proxy.requests] == ["batch.example.invalid:443"]


async def test_deadline_within_credentials_is_unavailable(
    open_batch: OpenBatch, credentials: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A deadline that ends while credentials are fetched is no doubt: the request was never sent."""
    async with faulty_server(ACCEPTED) as batch_server, faulty_server(never) as sts_server:
        use_web_identity(credentials, tmp_path, sts_server.url)
        async with open_batch(batch_server.url) as batch:
            with pytest.raises(Unavailable) as caught:
                await batch.submit_job(ARGUMENTS, timeout_s=0.2)
    assert caught.value.code == "DeadlineExceeded"
    assert batch_server.requests == []


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        pytest.param(sts_fault(403, "AccessDenied"), BadCredentials, id="denied"),
        pytest.param(sts_fault(400, "ExpiredTokenException"), BadCredentials, id="expired"),
        pytest.param(sts_fault(400, "InvalidIdentityToken"), BadCredentials, id="unknown to us"),
        pytest.param(sts_fault(400, "Throttling"), Unavailable, id="throttled"),
        pytest.param(sts_fault(500, "InternalFailure"), Unavailable, id="500"),
        pytest.param(close, Unavailable, id="closed"),
        pytest.param(reset, Unavailable, id="reset"),
        pytest.param(answer(403, b"{}"), Unavailable, id="not XML"),
    ],
)
async def test_role_that_is_not_given_is_no_doubt(
    open_batch: OpenBatch,
    credentials: pytest.MonkeyPatch,
    tmp_path: Path,
    behaviour: Behaviour,
    kind: type[OutwardError],
) -> None:
    """STS refusing or failing is a matter of credentials or of waiting, and nothing reaches Batch."""
    async with faulty_server(ACCEPTED) as batch_server, faulty_server(behaviour) as sts_server:
        use_web_identity(credentials, tmp_path, sts_server.url)
        async with open_batch(batch_server.url) as batch:
            with pytest.raises(OutwardError) as caught:
                await batch.submit_job(ARGUMENTS, timeout_s=20)
    assert type(caught.value) is kind, caught.value
    assert batch_server.requests == []


async def test_a_token_that_can_t_be_read_is_told_by_its_file(
    open_batch: OpenBatch, credentials: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A web identity's token that is not mounted is a matter of credentials, for every call, and the file is named."""
    async with faulty_server(ACCEPTED) as batch_server, faulty_server(never) as sts_server:
        use_web_identity(credentials, tmp_path, sts_server.url)
        missing = tmp_path / "not mounted"
        credentials.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(missing))
        async with open_batch(batch_server.url) as batch:
            with pytest.raises(BadCredentials, match=re.escape(str(missing))):
                await batch.submit_job(ARGUMENTS, timeout_s=5)
            with pytest.raises(BadCredentials, match=re.escape(str(missing))):
                await batch.describe_jobs(["j-1"])
            with pytest.raises(BadCredentials, match=re.escape(str(missing))):
                await batch.fetch_credentials()
    assert batch_server.requests == []


async def test_credentials_that_come_expired_are_told_as_such(
    open_batch: OpenBatch, credentials: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A source that hands out old ones, or a clock that is ahead: nothing is the matter with Batch or the network."""
    expired = sts_credentials(expires="2020-01-01T00:00:00Z")
    async with faulty_server(ACCEPTED) as batch_server, faulty_server(*[expired] * 9) as sts_server:
        use_web_identity(credentials, tmp_path, sts_server.url)
        async with open_batch(batch_server.url) as batch:
            with pytest.raises(BadCredentials, match="still expired"):
                await batch.submit_job(ARGUMENTS, timeout_s=5)
            with pytest.raises(BadCredentials, match="still expired"):
                await batch.describe_jobs(["j-1"])
            with pytest.raises(BadCredentials, match="still expired"):
                await batch.fetch_credentials()
    assert batch_server.requests == []


async def test_cut_off_call_leaves_the_client_usable(open_batch: OpenBatch) -> None:
    """After a deadline the next call goes out on another connection and succeeds."""
    async with faulty_server(never, ACCEPTED) as server, open_batch(server.url) as batch:
        with pytest.raises(InDoubt):
            await batch.submit_job(ARGUMENTS, timeout_s=1.0)
        assert (await batch.submit_job(ARGUMENTS, timeout_s=5)).job_id == "j-1"
    assert (len(server.requests), server.connections) == (2, 2)


async def test_kept_connection_closed_by_server_is_not_resent(open_batch: OpenBatch) -> None:
    """A connection that dies under the second request is a doubt, not a silent resend."""
    async with faulty_server(ACCEPTED, close) as server, open_batch(server.url) as batch:
        await batch.submit_job(ARGUMENTS, timeout_s=5)
        with pytest.raises(InDoubt):
            await batch.submit_job(ARGUMENTS, timeout_s=5)
    assert (len(server.requests), server.connections) == (2, 1)


@pytest.mark.parametrize(
    "unasked",
    [
        pytest.param(ACCEPTED, id="an answer twice"),
        pytest.param(answer(408, b""), id="a notice of having been idle"),
    ],
)
async def test_what_comes_unasked_is_no_answer_to_the_next_call(open_batch: OpenBatch, unasked: Behaviour) -> None:
    """Taken for one, it would give each request the answer of the one before it from then on."""
    writers: list[asyncio.StreamWriter] = []

    async def accept(writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await ACCEPTED(writer)

    async with faulty_server(accept, answer(200, {"jobId": "j-2"})) as server, open_batch(server.url) as batch:
        await batch.submit_job(ARGUMENTS, timeout_s=5)
        await unasked(writers[0])
        for _ in range(10):  # turns of the event loop, in which the client reads it
            await asyncio.sleep(0)
        assert (await batch.submit_job(ARGUMENTS, timeout_s=5)).job_id == "j-2"
    assert (len(server.requests), server.connections) == (2, 2)


async def test_cookies_are_not_sent_back(open_batch: OpenBatch) -> None:
    """A gateway that names each cookie anew would get longer and longer requests, until it takes none."""
    baked = answer(200, {"jobId": "j-1"}, Set_Cookie="visit-1=a; Path=/")
    async with faulty_server(baked) as server, open_batch(server.url.replace("127.0.0.1", "localhost")) as batch:
        for _ in range(2):
            await batch.submit_job(ARGUMENTS, timeout_s=5)
    assert ["cookie" in headers for _, headers, _ in server.requests] == [False, False]


async def test_cancellation_passes_through(open_batch: OpenBatch, seen: Seen) -> None:
    """Cancelling the caller is not turned into an error kind."""
    async with faulty_server(never) as server, open_batch(server.url) as batch:
        task = asyncio.ensure_future(batch.submit_job(ARGUMENTS, timeout_s=5))
        await server.received.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert seen.calls == []


async def test_concurrent_calls_do_not_share_what_was_sent(open_batch: OpenBatch) -> None:
    """Whether a request has left is known for each call of its own."""
    async with faulty_server(never) as server, open_batch(server.url) as batch:
        first = asyncio.ensure_future(batch.submit_job(ARGUMENTS, timeout_s=1.0))
        await server.received.wait()
        # Not a SubmitJob that can be put on the wire: the serializer fails before anything is sent.
        with pytest.raises(Unexpected):
            await batch.submit_job({**ARGUMENTS, "containerOverrides": 3}, timeout_s=5)
        with pytest.raises(InDoubt):
            await first
    assert len(server.requests) == 1


async def test_refusal_never_quotes_what_the_request_holds(open_batch: OpenBatch) -> None:
    """Batch's own words are kept, but for values of parameters, environment and command."""
    arguments = {
        **ARGUMENTS,
        "parameters": {"name": "hunter2hunter2"},
        "containerOverrides": {
            "environment": [{"name": "PASSWORD", "value": 'top "secret"'}, {"name": "N", "value": "7"}],
            "command": ["--token=abcdef"],
        },
    }
    words = (
        'definition:1 can\'t take hunter2hunter2, PASSWORD=top "secret" '
        r'{"value": "top \"secret\""} or --token=abcdef at 7'
    )
    async with faulty_server(fault(400, "ClientException", words)) as server, open_batch(server.url) as batch:
        with pytest.raises(Refused) as caught:
            await batch.submit_job(arguments, timeout_s=5)
    message = str(caught.value)
    assert "ClientException" in message
    assert "definition:1 can't take ***, PASSWORD=***" in message
    assert message.endswith("at ***"), "a value of one character, where it stands alone"
    for secret in ("hunter2", "secret", "abcdef"):
        assert secret not in message


async def test_long_words_are_cut(open_batch: OpenBatch) -> None:
    """A service's words take at most 300 characters of a message."""
    async with faulty_server(fault(400, "ClientException", "x" * 5000)) as server, open_batch(server.url) as batch:
        with pytest.raises(Refused) as caught:
            await batch.submit_job(ARGUMENTS, timeout_s=5)
    assert str(caught.value).count("x") < 301
