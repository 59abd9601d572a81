"""Error kinds, named by the reaction they need.

Adapters raise these and chain the SDK's own error as the cause; stages react to the kind and never
look at a code. The tables that sort AWS's codes into kinds live in ``adapters/aws_errors.py``.
"""

from __future__ import annotations


class ControllerError(Exception):
    """Base of every error this program raises on purpose."""


class OutwardError(ControllerError):
    """An outward call did not give an answer that can be used.

    ``call`` is ``service:Operation`` (closed set), ``code`` the service's error code or the name of
    the transport fault. Neither ever quotes a value of the request.
    """

    def __init__(self, message: str, *, call: str = "", code: str = "") -> None:
        super().__init__(message)
        self.call = call
        self.code = code


class Throttled(OutwardError):
    """Refused because of the rate; surely nothing was done. Reaction: slow down, try again."""


class Unavailable(OutwardError):
    """No answer, and surely (or harmlessly) nothing was done. Reaction: back off, try again.

    For a call that changes nothing every missing answer is of this kind; for SubmitJob only one
    that surely never left: refused connection, failed name look-up, connect time-out.
    """


class Refused(OutwardError):
    """The service looked at the request and said no (ClientException). Reaction: find out why."""


class NotAllowed(OutwardError):
    """AccessDenied: the caller is known but may not. Reaction: hold what was asked, say which call."""


class BadCredentials(OutwardError):
    """Expired, missing or invalid credentials. Reaction: not ready, pause, reject nothing."""


class Unexpected(OutwardError):
    """A 4xx of the service that is in no table. Surely not accepted. Reaction: hold, never reject."""


class InDoubt(OutwardError):
    """The call may or may not have taken effect. Reaction: look before repeating."""


class StoreUnavailable(ControllerError):
    """The store did not commit; nothing of the commit took effect. Reaction: back off, try again."""


class StoreLocked(ControllerError):
    """Another process holds the store."""


class StoreMismatch(ControllerError):
    """The store belongs to another account or Region."""


class Misconfigured(ControllerError):
    """The configuration can't work. The message names the key and the remedy."""


class StoreUnwritable(Misconfigured):
    """The store's path can't be written to: not a matter of the configuration's form, but of the machine."""
