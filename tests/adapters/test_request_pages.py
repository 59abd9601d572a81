"""The operators' pages of requests, over real sockets on the loopback."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any
from urllib.parse import quote

import pytest

from controller.adapters.ops_server import OpsServer
from controller.adapters.request_pages import RequestPages
from controller.core.errors import StoreUnavailable
from controller.core.inquiry import Inquiry, Place, Walk
from controller.core.job import JobState
from tests.adapters.test_ops_server import asked as asked_ops
from tests.adapters.test_ops_server import server

KNOWN = {"r1": [{"state": "QUEUED"}, {"state": "REJECTED"}], "a/b:c=1+2@x.": [{"state": "LOST"}]}


class Asked:
    """Answers, and keeps what was asked for."""

    def __init__(self) -> None:
        self.pages: list[Inquiry] = []
        self.requests: list[str] = []

    async def request(self, request_id: str) -> list[Any]:
        self.requests.append(request_id)
        return KNOWN.get(request_id, [])

    async def page(self, asked: Inquiry) -> dict[str, Any]:
        self.pages.append(asked)
        return {"requests": [{"job_name": "\u202etxt.exe"}], "next": "all:17"}


def pages(asked: Asked) -> OpsServer:
    return server(requests=RequestPages(request=asked.request, page=asked.page, kept_s=1_296_000.0))


async def told(ops: OpsServer, path: str, method: str = "GET") -> tuple[int, Any]:
    status, kind, body = await asked_ops(ops, path, method)
    assert kind.startswith("application/json"), body
    return status, json.loads(body)


async def raw(ops: OpsServer, path: str, *headers: str, of: str = "127.0.0.1") -> tuple[int, Any]:
    """An answer to exactly these headers, for a client with this address."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ops.port, local_addr=(of, 0))
    lines = (f"GET {path} HTTP/1.1", *headers, "Connection: close", "", "")
    writer.write("\r\n".join(lines).encode())
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_a_request_is_shown_with_all_its_lives() -> None:
    """By its id, whatever characters an id may have, quoted or not; nobody keeps a copy."""
    asked = Asked()
    async with pages(asked) as ops:
        assert await told(ops, "/requests/r1") == (200, {"request_id": "r1", "lives": KNOWN["r1"]})
        for name in ("a/b:c=1+2@x.", quote("a/b:c=1+2@x.", safe="")):
            assert (await raw(ops, f"/requests/{name}", "Host: localhost"))[1]["lives"] == [{"state": "LOST"}]
    assert asked.requests == ["r1", "a/b:c=1+2@x.", "a/b:c=1+2@x."]


async def test_an_id_that_is_not_known_is_404() -> None:
    """With what may be the reason, and without the control characters that were asked for."""
    async with pages(Asked()) as ops:
        status, body = await told(ops, "/requests/r2%0A%1B")
    assert (status, body["error"]) == (404, "not_found")
    assert "no request r2\\u000a\\u001b is known" in body["message"]
    assert "forgotten after retention.final_s, 1296000 s" in body["message"]


async def test_a_list_is_narrowed_by_its_parameters() -> None:
    """A page has its requests and where the next one begins; texts of others can't drive a terminal."""
    asked = Asked()
    async with pages(asked) as ops:
        query = "state=QUEUED&state=LOST&job_queue=high&tenant=a%20b&job_definition=d&after=ended:3&limit=7"
        status, _, body = await asked_ops(ops, f"/requests?{query}")
        assert status == 200
        assert body == '{"requests":[{"job_name":"\\u202etxt.exe"}],"next":"all:17"}\n'
        assert (await told(ops, "/requests"))[0] == 200
    assert asked.pages == [
        Inquiry(
            states=frozenset({JobState.QUEUED, JobState.LOST}),
            job_queue="high",
            tenant="a b",
            job_definition="d",
            after=Place(walk=Walk.ENDED, key=3),
            limit=7,
        ),
        Inquiry(),
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/requests?states=QUEUED", "states: no such parameter"),
        ("/requests?state=WAITING", "state: must be one of QUEUED"),
        ("/requests?limit=2000", "limit: must be a whole number from 1 to 1000"),
        ("/requests?after=x", "after: must be the 'next' of a page before"),
        ("/requests?tenant=a&tenant=b", "tenant: must be given once"),
        ("/requests/r1?limit=1", "one request is asked for without parameters"),
    ],
)
async def test_a_bad_parameter_is_400(path: str, message: str) -> None:
    """The message names it."""
    async with pages(Asked()) as ops:
        status, body = await told(ops, path)
    assert (status, body["error"]) == (400, "bad_parameter")
    assert body["message"].startswith(message)


async def test_nothing_can_be_changed() -> None:
    """Other methods are refused."""
    asked = Asked()
    async with pages(asked) as ops:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert (await asked_ops(ops, "/requests", method))[0] == 405
            assert (await asked_ops(ops, "/requests/r1", method))[0] == 405
    assert asked.requests == []


@pytest.mark.parametrize("path", ["/requests", "/requests/r1", "/requests/none", "/requests?limit=0"])
async def test_other_addresses_are_refused(path: str) -> None:
    """Before anything is looked up or looked at, so that nobody learns which ids there are. An address of the
    loopback's network, from which a mesh's proxy hands on what comes from outside, is such another one."""
    asked = Asked()
    async with pages(asked) as ops:
        status, body = await raw(ops, path, "Host: localhost", of="127.0.0.6")
        assert (status, body["error"]) == (403, "loopback_only")
        assert "kubectl exec" in body["message"]
        reader, writer = await asyncio.open_connection("127.0.0.1", ops.port, local_addr=("127.0.0.6", 0))
        writer.write(b"GET /livez HTTP/1.1\r\nHost: pod\r\n\r\n")
        assert b" 200 " in await reader.readline(), "probes and Prometheus are answered"
        writer.close()
    assert asked.requests == []
    assert asked.pages == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: 127.0.0.1:8080"], 200),
        (["Host: localhost:9000"], 200),
        (["Host: LOCALHOST"], 200),
        (["Host: [::1]:8080"], 200),
        (["Host: controller.batch.svc:8080"], 403),
        (["Host: 127.0.0.1.attacker.example"], 403),
        (["Host: attacker.example:8080"], 403),
        (["Host: [::1"], 403),
        (["Host: user@127.0.0.1:8080@attacker.example"], 403),
        (["Host: 127.0.0.1", "X-Forwarded-For: 10.0.0.9"], 403),
        (["Host: 127.0.0.1", "Forwarded: for=10.0.0.9"], 403),
        (["Host: 127.0.0.1", "Via: 1.1 proxy"], 403),
    ],
)
async def test_what_comes_through_the_loopback_for_others_is_refused(headers: list[str], status: int) -> None:
    """A proxy on the same machine, and a browser there that somebody's page and DNS have misled."""
    async with pages(Asked()) as ops:
        assert (await raw(ops, "/requests/r1", *headers))[0] == status


async def test_the_loopback_of_ipv6_is_one_too() -> None:
    """Where there is one."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    asked = Asked()
    requests = RequestPages(request=asked.request, page=asked.page, kept_s=1.0)
    async with server(requests=requests, host="::1") as ops:
        reader, writer = await asyncio.open_connection("::1", ops.port)
        writer.write(b"GET /requests/r1 HTTP/1.1\r\nHost: [::1]\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.close()


async def test_a_store_that_fails_is_503() -> None:
    """With its reason, as at /metrics."""

    async def failing(_: Any) -> Any:
        raise StoreUnavailable("disk full")

    async with server(requests=RequestPages(request=failing, page=failing, kept_s=1.0)) as ops:
        for path in ("/requests", "/requests/r1"):
            assert await told(ops, path) == (503, {"error": "unavailable", "message": "disk full"})
