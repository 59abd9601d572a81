"""The operators' HTTP server, over real sockets on the loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import pytest

from controller.adapters.ops_server import CONNECTIONS_MAX, OpsServer
from controller.adapters.request_pages import RequestPages
from controller.core.errors import StoreUnavailable
from controller.core.inquiry import Inquiry


def yes() -> tuple[bool, dict[str, Any]]:
    return True, {"ok": True}


async def text() -> bytes:
    return b"up 1\n"


async def no_request(request_id: str) -> list[Any]:
    return []


async def no_page(asked: Inquiry) -> dict[str, Any]:
    return {"requests": []}


NO_REQUESTS = RequestPages(request=no_request, page=no_page, kept_s=60.0)


def server(
    *,
    metrics: Callable[[], Awaitable[bytes]] = text,
    live: Callable[[], tuple[bool, dict[str, Any]]] = yes,
    ready: Callable[[], tuple[bool, dict[str, Any]]] = yes,
    port: int = 0,
    host: str = "127.0.0.1",
    requests: RequestPages = NO_REQUESTS,
) -> OpsServer:
    return OpsServer(host, port, metrics=metrics, live=live, ready=ready, requests=requests)


async def asked(ops: OpsServer, path: str, method: str = "GET") -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{ops.port}{path}") as answer,
    ):
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_failing_health_is_503_with_the_reason() -> None:
    """/livez and /readyz answer 503 and the reason as JSON when all is not well."""

    def no() -> tuple[bool, dict[str, Any]]:
        return False, {"ready": False, "why": "store"}

    async with server(live=no, ready=no) as ops:
        for path in ("/livez", "/readyz"):
            status, kind, body = await asked(ops, path)
            assert status == 503
            assert kind == "application/json"
            assert '"why": "store"' in body


async def test_healthy_answers_are_200() -> None:
    """/livez and /readyz answer 200 while all is well, / names the pages."""
    async with server() as ops:
        assert (await asked(ops, "/livez"))[0] == 200
        assert (await asked(ops, "/readyz"))[0] == 200
        status, _, body = await asked(ops, "/")
        assert status == 200
        assert "/metrics" in body


async def test_metrics_have_prometheus_s_content_type() -> None:
    """/metrics serves the rendered text as the exposition format."""
    async with server() as ops:
        assert await asked(ops, "/metrics") == (200, "text/plain; version=0.0.4; charset=utf-8", "up 1\n")


async def test_other_paths_and_methods_are_refused() -> None:
    """What is not there is 404, what can't be done to it 405."""
    async with server() as ops:
        assert (await asked(ops, "/admin"))[0] == 404
        assert (await asked(ops, "/metrics", "POST"))[0] == 405
        assert (await asked(ops, "/livez", "DELETE"))[0] == 405


async def test_a_store_that_fails_makes_metrics_503() -> None:
    """If the store does not answer, the scrape fails with the reason and the server goes on."""
    answers = iter([StoreUnavailable("disk full"), None])

    async def failing() -> bytes:
        error = next(answers)
        if error is not None:
            raise error
        return b"up 1\n"

    async with server(metrics=failing) as ops:
        assert await asked(ops, "/metrics") == (503, "text/plain; charset=utf-8", "disk full\n")
        assert (await asked(ops, "/metrics"))[0] == 200


async def test_scrapes_at_the_same_time_share_one_rendering() -> None:
    """Scrapes never render twice at a time; a scraper that hangs up takes the answer from nobody."""
    renderings, at_a_time, most = 0, 0, 0
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> bytes:
        nonlocal renderings, at_a_time, most
        renderings += 1
        at_a_time += 1
        most = max(most, at_a_time)
        begun.set()
        await go_on.wait()
        at_a_time -= 1
        return b"up 1\n"

    async with server(metrics=slow) as ops:
        impatient = asyncio.create_task(asked(ops, "/metrics"))
        await begun.wait()
        patient = [asyncio.create_task(asked(ops, "/metrics")) for _ in range(8)]
        impatient.cancel()
        await asyncio.gather(impatient, return_exceptions=True)
        assert (await asked(ops, "/livez"))[0] == 200, "others are answered meanwhile"
        go_on.set()
        assert {answer[2] for answer in await asyncio.gather(*patient)} == {"up 1\n"}
        assert most == 1
        assert renderings < 1 + len(patient)


NOT_FOR_US = {
    "a length below zero": b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a path without end": b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "no URL": b"GET http://[bad/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a chunk of no size": b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
}


@pytest.mark.parametrize("sent", NOT_FOR_US.values(), ids=NOT_FOR_US)
async def test_what_is_no_http_is_refused_and_not_logged(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A scanner or a client at the wrong port gets 400; it can't fill the log, and others are answered."""
    async with server() as ops:
        reader, writer = await asyncio.open_connection("127.0.0.1", ops.port)
        writer.write(sent)
        assert b" 400 " in await reader.readline()
        writer.close()
        assert (await asked(ops, "/livez"))[0] == 200
    assert not caplog.records


async def test_a_body_that_can_t_be_read_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A body is of no use here, and one that is not what its headers say is its sender's mistake."""
    async with server() as ops:
        reader, writer = await asyncio.open_connection("127.0.0.1", ops.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
        writer.write(b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello")
        assert b" 200 " in await reader.read()
        writer.close()
    assert not caplog.records


async def test_a_mistake_of_ours_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What fails in an answer is 500, and its traceback is in the log."""

    async def wrong() -> bytes:
        raise RuntimeError("no such series")

    async with server(metrics=wrong) as ops:
        assert (await asked(ops, "/metrics"))[0] == 500
    assert "RuntimeError: no such series" in caplog.text


async def test_connections_that_are_kept_end_the_oldest(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever opens connections and says nothing on them, or does not read the answer, holds a bounded number: the
    oldest are cut off, and others are answered."""
    large = b"x" * 20_000_000

    async def rendered() -> bytes:
        return large

    async with server(metrics=rendered) as ops, asyncio.timeout(20):
        kept = [await asyncio.open_connection("127.0.0.1", ops.port, limit=1_000) for _ in range(2)]
        for _, writer in kept:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for reader, _ in kept:
            assert b" 200 " in await reader.readline(), "and reads no further"
        kept += [await asyncio.open_connection("127.0.0.1", ops.port) for _ in range(2 * CONNECTIONS_MAX)]
        assert (await asked(ops, "/livez"))[0] == 200
        for reader, _ in kept[: CONNECTIONS_MAX + 2]:
            with suppress(ConnectionResetError):
                assert len(await reader.read()) < len(large), "cut off"
        late, writer = kept[-1]
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in await late.readline(), "the latest are kept"
        for _, writer in kept:
            writer.close()
    assert not caplog.records


async def test_a_port_in_use_is_told() -> None:
    """If the port is taken the error names address, port and the key to change, and nothing is left open."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            OSError,
            match=rf"^http\.host, http\.port: can't listen on 127.0.0.1 port {port}.*BATCH_CONTROLLER_HTTP__PORT",
        ):
            await server(port=port).__aenter__()


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "192.0.2.1"])
async def test_an_address_that_can_t_be_is_told(host: str) -> None:
    """What is no host's name fails in another way than one that nobody has, or that is another host's. Nothing uses it
    that could be ended."""
    with pytest.raises(
        OSError, match=rf"^http\.host, http\.port: can't listen on {host} port 0 \(.+\); give an address"
    ):
        await server(host=host).__aenter__()


async def test_leaving_ends_a_rendering_and_frees_the_port() -> None:
    """A stop does not wait for a slow scrape, and the port can be taken again at once."""
    begun = asyncio.Event()

    async def endless() -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    async with server(metrics=endless) as ops:
        scrape = asyncio.create_task(asked(ops, "/metrics"))
        await begun.wait()
        port = ops.port
    await asyncio.gather(scrape, return_exceptions=True)
    async with server(port=port) as again:
        assert again.port == port
        assert (await asked(again, "/livez"))[0] == 200
