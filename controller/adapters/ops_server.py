"""The HTTP server for operators: ``/metrics``, ``/livez``, ``/readyz``, and ``/requests`` (``request_pages.py``).

Listens inside the running loop; ``app.py`` enters and leaves it. It knows neither store nor stages: what to answer is
handed in. It is meant for the cluster's inside: there is no authentication, and nothing here changes anything.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from controller.adapters.request_pages import RequestPages
from controller.core.errors import ControllerError
from controller.core.text import escaped, escaped_json
from controller.metrics import CONTENT_TYPE

SHUTDOWN_S: Final = 1.0
"""How long open connections may delay a stop."""
CONNECTIONS_MAX: Final = 64
"""Open at a time; a Prometheus or two, probes and a few people need far fewer. One more ends the oldest, whatever it
does: whoever opens connections and keeps them must not use up the file descriptors, or the memory, that AWS's calls and
the store need, nor keep others out."""
BACKLOG: Final = 32
"""Connections accepted in one turn of the event loop, beyond which the system lets them wait."""

Answer = Callable[[], tuple[bool, dict[str, Any]]]
"""(whether all is well, why): 200 or 503, and the body."""

_INDEX: Final = """batch-job-controller

/metrics        Prometheus metrics
/livez          liveness
/readyz         readiness
/requests       requests, page by page; from this machine itself only, as the next one
/requests/{id}  one request
"""


def _is_for_us(record: logging.LogRecord) -> bool:
    """What is no HTTP is its sender's mistake, and is answered with 400: scanners and misdirected clients must not fill
    the log, with a traceback each."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (HttpProcessingError, web.RequestPayloadError))


_LOG: Final = logging.getLogger("aiohttp.server.ops")
_LOG.addFilter(_is_for_us)


class OpsServer:
    """Async context manager: listens while it is entered. Raises OSError if it can't listen."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        metrics: Callable[[], Awaitable[bytes]],
        live: Answer,
        ready: Answer,
        requests: RequestPages,
    ) -> None:
        """``port`` 0 takes a free one."""
        self._host = host
        self._port = port
        self._metrics = metrics
        self._live = live
        self._ready = ready
        self._requests = requests
        self._rendering: asyncio.Task[bytes] | None = None
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._port

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/", self._get_index)
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/livez", self._get_live)
        app.router.add_get("/readyz", self._get_ready)
        app.router.add_routes(self._requests.routes())
        runner = web.AppRunner(app, access_log=None, logger=_LOG, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
        await runner.setup()
        assert runner.server is not None, "there once it is set up"
        accepted = partial(_accepted, runner.server)
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                accepted, self._host, self._port, backlog=BACKLOG
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host, such as "a..b"
            await runner.cleanup()
            raise OSError(self._refusal(error)) from error  # with an errno its text would begin with that
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._rendering is not None:
            self._rendering.cancel()
            await asyncio.gather(self._rendering, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    def _refusal(self, error: OSError | UnicodeError) -> str:
        what = getattr(error, "strerror", None) or str(error)
        match getattr(error, "errno", None):  # none where the address is not this machine's, from Python 3.13 on
            case errno.EADDRINUSE:
                remedy = (
                    "end what uses it, or give others with BATCH_CONTROLLER_HTTP__HOST, BATCH_CONTROLLER_HTTP__PORT"
                )
            case errno.EACCES:
                remedy = "give a port from 1024 on with BATCH_CONTROLLER_HTTP__PORT"
            case _:
                remedy = "give an address of this machine, 0.0.0.0 for all of them, with BATCH_CONTROLLER_HTTP__HOST"
        return f"http.host, http.port: can't listen on {self._host} port {self._port} ({what}); {remedy}"

    # --- answers --------------------------------------------------------------------------------------

    async def _get_index(self, _: web.Request) -> web.Response:
        return web.Response(text=_INDEX)

    async def _get_live(self, _: web.Request) -> web.Response:
        return _told(self._live())

    async def _get_ready(self, _: web.Request) -> web.Response:
        return _told(self._ready())

    async def _get_metrics(self, _: web.Request) -> web.Response:
        """Scrapes that come while one is rendered get the same text: a slow store is not asked twice at a time."""
        if self._rendering is None or self._rendering.done():
            self._rendering = asyncio.create_task(self._rendered(), name="render metrics")
        try:
            # Shielded: a scraper that hangs up must not take the answer from the others.
            body = await asyncio.shield(self._rendering)
        except ControllerError as error:
            return web.Response(status=503, text=f"{escaped(str(error))}\n")
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _rendered(self) -> bytes:
        return await self._metrics()


def _accepted(server: web.Server) -> asyncio.Protocol:
    """What answers one more connection; the oldest of too many are cut off."""
    connections = server.connections
    for oldest in connections[: max(0, len(connections) + 1 - CONNECTIONS_MAX)]:
        if oldest.transport is not None:
            oldest.transport.abort()  # closing would wait until all that was written is read
    return server()


def _told(answer: tuple[bool, dict[str, Any]]) -> web.Response:
    is_well, why = answer
    return web.Response(
        status=200 if is_well else 503,
        body=escaped_json(orjson.dumps(why, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_INDENT_2)),
        content_type="application/json",
    )
