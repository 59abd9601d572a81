"""Asks a running controller for requests, over the pages of ``request_pages.py``. For the command line.

The standard library's client, so that the commands start quickly. Proxies of the environment are not for the loopback.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import ProxyHandler, build_opener

from controller.core.errors import ControllerError
from controller.core.inquiry import PAGE_MAX

TIMEOUT_S: Final = 30.0
"""For an answer, which a slow disk may delay."""
_MESSAGE_MAX: Final = 1_000
"""Characters of an answer that is not ours which are shown."""


class NotAnswered(ControllerError):
    """No controller answered, or it answered that it can't. The message says what to do."""


class OpsClient:
    """One controller's pages of requests."""

    def __init__(self, url: str) -> None:
        """``url`` of its HTTP server, such as ``http://127.0.0.1:8080``. Raises NotAnswered if it is none."""
        try:
            parts = urlsplit(url)
            is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            is_url = False
        if not is_url:
            raise NotAnswered(f"--url {url}: is not the address of a controller; give one like http://127.0.0.1:8080")
        self._url = url.rstrip("/")
        self._opener = build_opener(ProxyHandler({}))

    def request(self, request_id: str) -> Mapping[str, Any]:
        """Every life of a request: ``request_id`` and ``lives``, newest first."""
        return self._asked(f"/requests/{quote(request_id, safe='')}")

    def requests(self, query: Mapping[str, Sequence[str]]) -> Iterator[Mapping[str, Any]]:
        """Every request that a query asks for, page by page as they are taken."""
        after: dict[str, Sequence[str]] = {}
        while True:
            page = self._asked(f"/requests?{urlencode({**query, **after, 'limit': PAGE_MAX}, doseq=True)}")
            yield from page["requests"]
            if "next" not in page:
                return
            after = {"after": [page["next"]]}

    def _asked(self, path: str) -> dict[str, Any]:
        try:
            with self._opener.open(f"{self._url}{path}", timeout=TIMEOUT_S) as answer:
                body = answer.read()
        except HTTPError as error:
            raise NotAnswered(self._refusal(error)) from error
        except (OSError, HTTPException) as error:
            reason = error.reason if isinstance(error, URLError) else error
            raise NotAnswered(
                f"no controller answers at {self._url} ({reason}); is it running here? Give its address and http.port "
                "with --url, or run this in its container"
            ) from error
        record = _json_of(body)
        if not isinstance(record, dict) or not record.keys() & {"lives", "requests"}:
            raise NotAnswered(f"what answers at {self._url} is no controller, or one of another version")
        return record

    def _refusal(self, error: HTTPError) -> str:
        text = error.read(10 * _MESSAGE_MAX).decode("utf-8", "replace")
        record = _json_of(text)
        if isinstance(record, dict) and record.keys() == {"error", "message"}:
            return str(record["message"])
        return (
            f"what answers at {self._url} is no controller, or one of another version: status {error.code}: "
            f"{text[:_MESSAGE_MAX].strip()}"
        )


def _json_of(text: bytes | str) -> Any:
    """None if it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None
