"""An AWS end point that answers some SubmitJob calls with errors which quote everything that they were sent.

It stands in front of a simulated AWS and passes every other call on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

ANSWERS: Final[dict[str, tuple[int, str]]] = {
    "refused": (400, "ClientException"),
    "denied": (403, "AccessDeniedException"),
    "strange": (400, "SomethingNewException"),
    "broken": (500, "ServerException"),
}
"""Start of the job's name → status and code of the answer."""


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for name, member in node.items():
            yield name
            yield from _texts(member)
    elif isinstance(node, list):
        for member in node:
            yield from _texts(member)


class _Quoting(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: str

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/v1/submitjob":
            arguments = json.loads(body)
            if answer := ANSWERS.get(arguments["jobName"].partition("-")[0]):
                status, code = answer
                said = " ".join(_texts(arguments))
                text = json.dumps({"message": f"Bad request: {said} in {body.decode()}", "code": code})
                self._answer(status, text.encode(), {"x-amzn-ErrorType": code, "Content-Type": "application/json"})
                return
        headers = {n: v for n, v in self.headers.items() if n.lower() not in ("host", "connection", "content-length")}
        try:
            with urlopen(Request(self.upstream + self.path, body, headers), timeout=60) as passed:
                self._answer(passed.status, passed.read(), dict(passed.headers))
        except HTTPError as error:
            self._answer(error.code, error.read(), dict(error.headers))
        except OSError:  # the simulated AWS has ended
            self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing: the test reads what the controller writes."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A controller that ends closes its connections; that is no error."""


@contextmanager
def quoting_aws(upstream: str) -> Iterator[str]:
    """The address of an end point in front of ``upstream``."""
    handler = type("Quoting", (_Quoting,), {"upstream": upstream})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
