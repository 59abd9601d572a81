"""AWS STS on the wire: the query protocol, form in, XML out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from controller.simaws.answers import AwsError

CONTENT_TYPE: Final = b"text/xml"
_NAMESPACE: Final = "https://sts.amazonaws.com/doc/2011-06-15/"


def operation(body: bytes) -> str | None:
    """``Action`` of a form, if it is one that is simulated."""
    action = parse_qs(body.decode("latin-1")).get("Action", [""])[0]
    return action if action == "GetCallerIdentity" else None


def write(result: Mapping[str, Any]) -> bytes:
    members = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in result.items())
    return (
        f'<GetCallerIdentityResponse xmlns="{_NAMESPACE}"><GetCallerIdentityResult>{members}</GetCallerIdentityResult>'
        "<ResponseMetadata><RequestId>simulated</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    ).encode()


def write_error(error: AwsError) -> tuple[bytes, tuple[tuple[bytes, bytes], ...]]:
    fault = "Receiver" if error.status >= 500 else "Sender"
    parts = f"<Type>{fault}</Type><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    text = f'<ErrorResponse xmlns="{_NAMESPACE}"><Error>{parts}</Error><RequestId>simulated</RequestId></ErrorResponse>'
    return text.encode(), ()
