"""The operators' pages of requests, ``/requests``: read-only JSON, for this machine's own loopback address alone.

A part of ``ops_server.py``. In a pod the loopback is reached by ``kubectl exec`` and ``kubectl port-forward``, for
which Kubernetes asks who it is; the pod network, which asks nobody, is refused. What answers is handed in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import orjson
from aiohttp import web

from controller.core.errors import ControllerError
from controller.core.inquiry import BadInquiry, Inquiry, inquiry_of
from controller.core.text import escaped, escaped_json

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "::ffff:127.0.0.1"})
"""Addresses that only processes of this network namespace have. Not all of 127.0.0.0/8: the proxy of a service mesh
hands on what comes from outside as 127.0.0.6."""
_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""What a client of the loopback calls it. A browser there that somebody's page and DNS have misled calls it by that
page's name."""
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
"""What a proxy says of a request that is not its own."""

ShowRequest = Callable[[str], Awaitable[Sequence[Any]]]
"""Every life of a request id, newest first; none: it is not known."""
ShowPage = Callable[[Inquiry], Awaitable[Mapping[str, Any]]]


class RequestPages:
    """``GET /requests`` and ``GET /requests/{request_id}``."""

    def __init__(self, *, request: ShowRequest, page: ShowPage, kept_s: float) -> None:
        """``kept_s``: for how many seconds requests that have ended are kept."""
        self._request = request
        self._page = page
        self._kept_s = kept_s

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (
            web.get("/requests", self._told(self._get_page)),
            web.get("/requests/{request_id:(?s:.+)}", self._told(self._get_request)),  # an id may have slashes
        )

    async def _get_request(self, request: web.Request) -> web.Response:
        request_id = request.match_info["request_id"]
        if request.query:
            return _refused(400, "bad_parameter", "one request is asked for without parameters")
        lives = await self._request(request_id)
        if lives:
            return _json(200, {"request_id": request_id, "lives": lives})
        return _refused(
            404,
            "not_found",
            f"no request {request_id[:200]} is known: it was not received yet, or its message was rejected at intake "
            "(see the event request.rejected and the dead-letter queue), or it ended and was forgotten after "
            f"retention.final_s, {self._kept_s:.15g} s",
        )

    async def _get_page(self, request: web.Request) -> web.Response:
        query = {name: request.query.getall(name) for name in request.query}
        try:
            asked = inquiry_of(query)
        except BadInquiry as error:
            return _refused(400, "bad_parameter", str(error))
        return _json(200, await self._page(asked))

    def _told(self, answer: Callable[[web.Request], Awaitable[web.Response]]) -> Callable[..., Awaitable[web.Response]]:
        async def told(request: web.Request) -> web.Response:
            if not _is_of_this_machine(request):
                return _refused(
                    403,
                    "loopback_only",
                    "requests are shown to the loopback address of the controller's own machine or pod only: use "
                    "kubectl exec or kubectl port-forward, or a shell there, with 127.0.0.1 or localhost as the host's "
                    "name and no proxy between",
                )
            try:
                return await answer(request)
            except ControllerError as error:
                return _refused(503, "unavailable", str(error))

        return told


def _is_of_this_machine(request: web.Request) -> bool:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    if not isinstance(peer, tuple) or peer[0] not in LOOPBACK:
        return False
    if any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return urlsplit(f"//{request.headers.get('Host', '')}").hostname in _NAMES
    except ValueError:
        return False


def _json(status: int, record: Mapping[str, Any]) -> web.Response:
    body = escaped_json(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _refused(status: int, error: str, message: str) -> web.Response:
    return _json(status, {"error": error, "message": escaped(message)})
