"""The AWS session and its clients: opened once, closed with the application. Knows no port.

Every client has SDK retries off and explicit time-outs: this program is the only one that repeats a call, so that one
call is one request, paced and counted. Credentials, proxies, CA bundles and end points come from the SDK's own
settings (``AWS_ENDPOINT_URL``, ``AWS_ENDPOINT_URL_SQS``, ``AWS_ENDPOINT_URL_BATCH``, ``AWS_ENDPOINT_URL_STS``).
"""

from __future__ import annotations

import asyncio
import math
import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import aiobotocore
import anyio
import botocore
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from aiohttp import ClientConnectorError, ClientError, ClientResponseError, ClientTimeout
from aiohttp.client_proto import ResponseHandler
from botocore import exceptions as sdk

from controller import __version__
from controller.adapters import aws_signing, sqs
from controller.adapters.aws_credentials import Credentials
from controller.adapters.aws_door import Door
from controller.adapters.aws_errors import CALL_FAULTS, classify
from controller.core.endpoints import is_of_aws, region_of
from controller.core.errors import BadCredentials, Misconfigured
from controller.core.limits import SQS_WAIT_S_MAX

CONNECT_TIMEOUT_S: Final = 4.0
"""The wait for a place in the pool, name look-up, TCP, proxy and TLS together. A connection that can't be made in this
time is surely not used: for SubmitJob that is a clear "not sent" where the call's own deadline would leave a doubt, so
it must end well before the deadline. One address of a host has half of it, so that another's turn comes, too."""
READ_TIMEOUT_S: Final = 15.0
SUBMIT_KEEPALIVE_S: Final = 4.0
"""How long an idle connection is kept for SubmitJob. A request sent on one that the server is just closing is in
doubt, and costs a settle time of minutes. AWS closes idle connections after about 20 s (the figure aiobotocore's own
default of 12 s rests on): 4 s keeps a wide distance. At 40 calls a second a connection is idle for well under a
second, so that nearly every call still saves the two or three round trips of TCP and TLS; ``force_close`` would pay
them, and the key exchange's CPU, on every one. Below one call in 4 s each pays for its own handshake, which then does
not matter."""
KEEPALIVE_S: Final = 12.0

_NO_REGION: Final = "no AWS Region: set aws.region, AWS_REGION or AWS_DEFAULT_REGION, or a region in the AWS profile"
_NO_CREDENTIALS: Final = (
    "no AWS credentials found: give the pod's service account a role (IRSA or EKS Pod Identity), give the instance a "
    "profile, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
_NO_SOURCE: Final = (
    "where the AWS credentials come from does not give any: check the role of the service account or instance, and "
    "whether the agent or service that hands them out is there; if it is just starting, the next start will find it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aws:
    """Open clients. They are Any because the SDK makes them at run time; they stop in the adapters."""

    region: str
    batch_submit: Any
    """For SubmitJob alone."""
    batch: Any
    sts: Any
    sqs_by_region: Mapping[str, Any]
    fetch_credentials: Callable[[], Awaitable[object] | None]
    """Has the SDK renew the session's credentials, which every client uses; None if they are not due. Raises the SDK's
    errors when awaited."""

    @property
    def is_sts_apart(self) -> bool:
        """Whether STS is AWS's own while AWS Batch is a stand-in at an end point of its own."""
        return is_of_aws(self.sts.meta.endpoint_url) and not is_of_aws(self.batch.meta.endpoint_url)

    def sqs(self, queue_url: str) -> Any:
        """The client of the queue's own Region; only for queues named when the session was opened."""
        return self.sqs_by_region[region_of(queue_url) or self.region]


@asynccontextmanager
async def open_aws(
    *,
    region: str | None,
    environment: Mapping[str, str],
    queue_urls: Iterable[str],
    submit_timeout_s: float,
    submit_connections: int,
    batch_connections: int,
    sqs_connections: int,
    door: Door | None = None,
) -> AsyncIterator[Aws]:
    """One session with its clients, closed at the end.

    ``region`` is the configured one, if any; ``environment`` is asked for AWS_REGION, which the SDK does not read.
    ``queue_urls`` are all SQS queues of the application, sources and sinks. Connections are the number of calls that
    may be in flight at once, per client (for SQS: per Region, long polls included); a call beyond would wait. Calls to
    AWS Batch leave by ``door``; None: as soon as they can.

    Raises Misconfigured if there is no Region or no source of credentials, and BadCredentials if there is a source that
    does not give any.
    """
    session: Any = AioSession()  # type: ignore[no-untyped-call]
    chosen = resolve_region(session, configured=region, environment=environment)
    credentials = Credentials(session)
    await _check(credentials)
    async with AsyncExitStack() as stack:

        async def client(service: str, config: AioConfig, *, of_region: str = chosen) -> Any:
            try:
                made = await stack.enter_async_context(
                    session.create_client(service, region_name=of_region, config=config)
                )
            except (sdk.BotoCoreError, ValueError) as error:
                raise Misconfigured(f"the AWS SDK can't make a client for {service} in {of_region}: {error}") from error
            aws_signing.register(made.meta.events)
            return made

        # At least one connection more than calls in flight: one that was cut off is still being closed.
        aws = Aws(
            region=chosen,
            batch_submit=await client(
                "batch", submit_config(timeout_s=submit_timeout_s, connections=submit_connections + 1, door=door)
            ),
            batch=await client("batch", read_config(connections=batch_connections + 1, door=door)),
            sts=await client("sts", read_config(connections=2)),
            sqs_by_region={
                each: await client(
                    "sqs",
                    read_config(connections=sqs_connections + 1, read_timeout_s=SQS_WAIT_S_MAX + sqs.RECEIVE_MARGIN_S),
                    of_region=each,
                )
                for each in sorted({region_of(url) or chosen for url in queue_urls})
            },
            fetch_credentials=credentials.fetch,
        )
        for each in aws.sqs_by_region.values():
            sqs.register(each.meta.events)
        for paced in (aws.batch_submit, aws.batch):
            await _prepare_connections(paced)
        yield aws


async def _prepare_connections(client: Any) -> None:
    """Have the SDK set up TLS for a client now instead of at its first call.

    It reads the CA bundle in a thread, which takes a tenth of a second and more, while every call that has begun waits:
    calls that were paced by then would go out all at once. It also tells a bundle or proxy that can't be used at start.
    The SDK has no public way; if a later one lacks this one, first calls bunch and nothing else is lost.
    """
    try:
        http = client._endpoint.http_session
        proxy, get_session = http._proxy_config.proxy_url_for(client.meta.endpoint_url), http._get_session
    except AttributeError:
        return
    try:
        await get_session(proxy)
    except (sdk.BotoCoreError, OSError) as error:
        raise Misconfigured(f"the AWS SDK can't set up TLS for {client.meta.endpoint_url}: {error}") from error


def resolve_region(session: Any, *, configured: str | None, environment: Mapping[str, str]) -> str:
    """The configured Region, then AWS_REGION, then the SDK's chain (AWS_DEFAULT_REGION, profile)."""
    try:
        found = configured or environment.get("AWS_REGION") or session.get_config_variable("region")
    except sdk.BotoCoreError as error:  # AWS_PROFILE names no profile, or the file can't be read
        raise Misconfigured(f"the AWS configuration can't be read: {error}") from error
    if not found:
        raise Misconfigured(_NO_REGION)
    return str(found)


def submit_config(*, timeout_s: float, connections: int, door: Door | None = None) -> AioConfig:
    """For SubmitJob."""
    return _config(
        connections=connections,
        # Half the deadline at most, so that a connection that is never made is known as such.
        connect_timeout_s=min(CONNECT_TIMEOUT_S, timeout_s / 2),
        # Beyond the call's own deadline, which also bounds everything that this one does not.
        read_timeout_s=timeout_s + 5,
        keepalive_s=SUBMIT_KEEPALIVE_S,
        door=door,
    )


def read_config(*, connections: int, read_timeout_s: float = READ_TIMEOUT_S, door: Door | None = None) -> AioConfig:
    """For every other call."""
    return _config(
        connections=connections,
        connect_timeout_s=CONNECT_TIMEOUT_S,
        read_timeout_s=read_timeout_s,
        keepalive_s=KEEPALIVE_S,
        door=door,
    )


class _Transport(AIOHTTPSession):
    """The SDK's own, but that a redirection is an answer, as it is to botocore, that an answer belongs to the request
    before it, that what is not connected within ``connect_timeout`` is known as such, and that calls leave by a door.

    aiohttp follows redirections by itself. One call would be several requests, whose bodies and tokens go wherever the
    answer says; and what the last one meets (no connection, a 404 of an error page) would be taken for proof that the
    first, which a gateway may have passed on to Batch, was not accepted.
    """

    def __init__(self, *, door: Door | None, **settings: Any) -> None:
        super().__init__(**settings)
        self._door = door
        # What the SDK sets, sock_connect, bounds each address of a host by itself, and neither the name look-up nor a
        # proxy's answer to CONNECT.
        given: Any = self._timeout
        self._timeout: Any = ClientTimeout(
            connect=given.sock_connect, sock_connect=given.sock_connect / 2, sock_read=given.sock_read
        )

    async def _create_connector(self, proxy_url: str | None) -> Any:
        connector: Any = await super()._create_connector(proxy_url)  # type: ignore[no-untyped-call]
        connector._factory = partial(_Connection, loop=asyncio.get_running_loop())
        connector.connect = partial(_connected, connector.connect, self._door)
        return connector

    async def _get_session(self, proxy_url: str | None) -> Any:
        return _Unredirected(await super()._get_session(proxy_url))  # type: ignore[no-untyped-call]


async def _connected(connect: Callable[..., Awaitable[Any]], door: Door | None, request: Any, **arguments: Any) -> Any:
    """A connection for a request, which leaves at once. The connect time-out bounds the wait at the door, too, in which
    the connection may be closed, or something come on it.

    What a proxy does instead of making a connection is told in the same way as one that is refused: aiohttp has the
    errors for it that it has for requests that were sent, and in one a proxy's password.
    """
    until = anyio.current_time() + (arguments["timeout"].connect or math.inf)
    try:
        connection = await connect(request, **arguments)
    except (ClientConnectorError, TimeoutError):
        raise
    except ClientResponseError as error:
        reason = f"the proxy answered {error.status}: {error.message}"
    except (ClientError, OSError) as error:
        reason = f"the proxy: {error}"
    else:
        try:
            if door is not None:
                await door.leave(request.url.raw_path, within_s=max(0.0, until - anyio.current_time()))
        except BaseException:
            connection.release()
            raise
        if connection.protocol.is_connected():
            return connection
        connection.close()
        reason = "the connection was not fit for use any more when the call might leave"
    raise ClientConnectorError(request.connection_key, OSError(None, reason))


class _Connection(ResponseHandler):
    """Used no more once something came on it that nobody had asked for: an answer that was sent twice, a notice that it
    has been idle for too long.

    aiohttp keeps that, and gives it to the next request as its answer, and that one's to the one after it: a SubmitJob
    would have another's job, or would be sent again, refused by what was not meant for it.
    """

    def is_connected(self) -> bool:
        """What aiohttp asks of an idle connection before it takes it."""
        return super().is_connected() and not self.should_close


@dataclass(frozen=True, slots=True)
class _Unredirected:
    session: Any

    async def request(self, method: str, **arguments: Any) -> Any:
        # The SDK's other transports have no jar. What a gateway sets would be sent with every call, and grow.
        self.session.cookie_jar.clear()
        return await self.session.request(method, allow_redirects=False, **arguments)


def _config(
    *, connections: int, connect_timeout_s: float, read_timeout_s: float, keepalive_s: float, door: Door | None
) -> AioConfig:
    return AioConfig(
        # "standard" only names the mode, so that AWS_RETRY_MODE and AWS_NEW_RETRIES_2026 have no say.
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=connect_timeout_s,
        read_timeout=read_timeout_s,
        max_pool_connections=connections,
        connector_args={"keepalive_timeout": keepalive_s},
        http_session_cls=partial(_Transport, door=door),
        # SubmitJob's arguments were validated at intake; those of other calls are made here, from typed values.
        parameter_validation=False,
        user_agent=_USER_AGENT,  # given whole: the SDK builds its own anew for every request
        warm_up_loader_caches=True,  # reads the service model in a thread
    )


_USER_AGENT: Final = (
    f"batch-job-controller/{__version__} aiobotocore/{aiobotocore.__version__} botocore/{botocore.__version__} "
    f"Python/{platform.python_version()}"
)


async def _check(credentials: Credentials) -> None:
    try:
        is_there = await credentials.find()
    except (sdk.ProfileNotFound, sdk.ConfigParseError, sdk.PartialCredentialsError, sdk.InvalidConfigError) as error:
        raise Misconfigured(f"the AWS credentials are configured wrongly: {error}") from error
    except CALL_FAULTS as error:
        kind = classify(error, call="sts:credentials")
        raise BadCredentials(f"{kind}; {_NO_SOURCE}", call=kind.call, code=kind.code) from error
    if not is_there:
        raise Misconfigured(_NO_CREDENTIALS)
