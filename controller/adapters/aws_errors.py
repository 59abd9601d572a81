"""Tables that sort what the AWS SDK raises into the error kinds of ``core/errors.py``.

Two questions decide the kind: *did the request leave*, and *what did the service say*. Calls that may be repeated
(everything but SubmitJob) need only the second: a missing answer is ``Unavailable``. For SubmitJob a missing, broken
or 5xx answer is ``InDoubt``, unless it is known that no byte of the request was sent.

Sources of the codes: botocore's models (Batch 2016-08-10, SQS 2012-11-05), botocore's own list of throttle codes
(``botocore.retries.standard``), and AWS's "Common errors" pages. SQS answers with the codes of its former query
protocol (``awsQueryCompatible``): both names are listed.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import aiohttp
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from controller.core.errors import (
    BadCredentials,
    InDoubt,
    NotAllowed,
    OutwardError,
    Refused,
    Throttled,
    Unavailable,
    Unexpected,
)

DETAIL_LENGTH_MAX: Final = 300
"""What is kept of a service's own words in a message."""
SHORT_LENGTH_MAX: Final = 3
"""Values up to this length are replaced in texts only where they stand alone: inside words and numbers they say
nothing, and would blank out all of it."""

_CODE_FAULTS: Final[tuple[type[Exception], ...]] = (ValueError, TypeError, LookupError, AttributeError, RuntimeError)
"""What the SDK's serializers and parsers let through for members of the wrong type."""
CALL_FAULTS: Final[tuple[type[Exception], ...]] = (
    OutwardError,  # an answer that can't be used
    sdk.BotoCoreError,
    sdk.ClientError,
    ResponseParserError,  # a body that is not what the protocol wants, e.g. XML from a proxy
    aiohttp.ClientError,
    EOFError,
    OSError,  # TimeoutError of our own deadline is one
    *_CODE_FAULTS,
)
"""Everything that a call of the SDK can raise: its own errors, and what its parsers and transport let through.
CancelledError is none of them."""

THROTTLE_CODES: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "KMS.ThrottlingException",
        "KmsThrottled",
        "OverLimit",  # SQS: too many messages in flight
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
CREDENTIAL_CODES: Final = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotSignedUp",
        "RequestExpired",  # clock skew
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
NOT_ALLOWED_CODES: Final = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "AuthorizationErrorException",
        "InvalidSecurity",  # SQS: not over HTTPS, or not signed with version 4
        "KMS.AccessDeniedException",
        "KMS.OptInRequired",
        "KmsAccessDenied",
        "KmsOptInRequired",
        "NotAuthorized",
        "OptInRequired",
        "UnauthorizedOperation",
    }
)
REFUSED_CODES: Final = frozenset(
    {
        # AWS Batch: its only modelled client fault, and the ones of the front end for a body it can't take.
        "ClientException",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "SerializationException",
        "ValidationError",
        "ValidationException",
        # Amazon SQS
        "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
        "AWS.SimpleQueueService.BatchRequestTooLong",
        "AWS.SimpleQueueService.EmptyBatchRequest",
        "AWS.SimpleQueueService.InvalidBatchEntryId",
        "AWS.SimpleQueueService.MessageNotInflight",
        "AWS.SimpleQueueService.NonExistentQueue",
        "AWS.SimpleQueueService.QueueDeletedRecently",
        "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        "AWS.SimpleQueueService.UnsupportedOperation",
        "BatchEntryIdsNotDistinct",
        "BatchRequestTooLong",
        "EmptyBatchRequest",
        "InvalidAddress",
        "InvalidAttributeName",
        "InvalidAttributeValue",
        "InvalidBatchEntryId",
        "InvalidIdFormat",
        "InvalidMessageContents",
        "InvalidParameterCombination",
        "KMS.DisabledException",
        "KMS.InvalidKeyUsageException",
        "KMS.InvalidStateException",
        "KMS.NotFoundException",
        "KmsDisabled",
        "KmsInvalidKeyUsage",
        "KmsInvalidState",
        "KmsNotFound",
        "MessageNotInflight",
        "MissingParameter",
        "QueueDeletedRecently",
        "QueueDoesNotExist",
        "ReceiptHandleIsInvalid",
        "ResourceNotFoundException",
        "TooManyEntriesInBatchRequest",
        "UnsupportedOperation",
    }
)
_TABLE: Final[Mapping[str, type[OutwardError]]] = {
    **dict.fromkeys(REFUSED_CODES, Refused),
    **dict.fromkeys(NOT_ALLOWED_CODES, NotAllowed),
    **dict.fromkeys(CREDENTIAL_CODES, BadCredentials),
    **dict.fromkeys(THROTTLE_CODES, Throttled),
}
_NOT_PASSED_ON: Final = frozenset({401, 407, 411, 413, 414, 415, 417, 421, 425, 426, 428, 429, 431})
"""Statuses that find fault with the request itself, or with the rate of them: who says that has not passed it on."""
_FORM_OF_A_CODE: Final = re.compile(r"[A-Z][A-Za-z]+(?:Exception|Error|Fault)")
"""Of AWS's services (their models in botocore); what gateways and filters give is a number or a word of their own."""
_CREDENTIAL_FAULTS: Final = (
    sdk.NoCredentialsError,
    sdk.PartialCredentialsError,
    sdk.CredentialRetrievalError,
    sdk.MetadataRetrievalError,
    sdk.NoAuthTokenError,
    sdk.TokenRetrievalError,
    sdk.UnknownTokenProviderError,
    sdk.UnknownCredentialError,
    sdk.RefreshWithMFAUnsupportedError,
    sdk.SSOError,
    sdk.LoginError,
    sdk.ProfileNotFound,
    sdk.ConfigNotFound,
    sdk.ConfigParseError,
    sdk.InvalidConfigError,
)
"""What resolving or refreshing credentials raises, always before the call itself is sent; with what has no class of its
own (``_is_of_credentials``)."""
_STILL_EXPIRED: Final = "Credentials were refreshed, but the refreshed credentials are still expired."
"""The SDK's words, in a RuntimeError: the source gave old ones, or this machine's clock is ahead."""
_MISSING_ANSWERS: Final = (
    sdk.HTTPClientError,
    sdk.ConnectionError,  # refused, reset, name not found, TLS, proxy: no HTTPClientError
    sdk.IncompleteReadError,
    ResponseParserError,
    aiohttp.ClientError,
    EOFError,
    OSError,
)
_NAMING_THEIR_HOST: Final = (
    sdk.EndpointConnectionError,
    sdk.ConnectTimeoutError,
    sdk.ProxyConnectionError,
    sdk.SSLError,
)
_SSL_CONTEXT: Final = re.compile(r" ssl:<[^>]*>")
"""What aiohttp tells of a host beside its name and port where it has been given a context: an address in memory."""
_OUTCOMES: Final[Mapping[type[OutwardError], str]] = {
    Throttled: "throttled",
    Unavailable: "unavailable",
    Refused: "refused",
    NotAllowed: "not_allowed",
    BadCredentials: "bad_credentials",
    Unexpected: "unexpected",
    InDoubt: "in_doubt",
}
OUTCOMES: Final = ("ok", *_OUTCOMES.values())
"""Closed set of what a call is reported as to the observer."""


def outcome_of(error: OutwardError) -> str:
    """The member of OUTCOMES for an error."""
    return _OUTCOMES[type(error)]


def classify(error: Exception, *, call: str, redact: Sequence[str] = (), is_quoted: bool = True) -> OutwardError:
    """The kind of a failed call that may be repeated. ``call`` is ``service:Operation``.

    ``redact`` are values that must not show in the message; ``is_quoted=False`` leaves the service's words out
    altogether, for calls whose arguments are secrets as a whole (message bodies).
    """
    if isinstance(error, OutwardError):
        return error
    if isinstance(error, sdk.ClientError):
        kind = _kind_of_answer(error, call)
        return _made(kind, error, call=call, redact=redact, is_quoted=is_quoted)
    if _is_of_credentials(error):
        return _made(BadCredentials, error, call=call)
    if isinstance(error, sdk.ParamValidationError):
        return _made(Refused, error, call=call)
    if isinstance(error, _MISSING_ANSWERS):
        return _made(Unavailable, error, call=call)
    # What remains: the SDK can't make the call, or (the built-in ones) can't read the answer.
    return _made(Unexpected if isinstance(error, sdk.BotoCoreError) else Unavailable, error, call=call)


def classify_submit(error: Exception, *, call: str, was_sent: bool, redact: Sequence[str]) -> OutwardError:
    """The kind of a failed SubmitJob.

    ``was_sent`` says whether the SDK had begun to send: before that (no credentials, a refresh that hangs, our
    deadline) nothing can have been accepted. After it, only an answer below 500 or a connection that was never made
    proves that Batch did not take the job; whatever is not known to prove it is in doubt.
    """
    if isinstance(error, OutwardError):
        return error
    if not was_sent:
        # A request that the SDK can't put on the wire would only come back if it were called unavailable.
        is_code = isinstance(error, _CODE_FAULTS) and not isinstance(error, sdk.BotoCoreError)
        if is_code and not _is_of_credentials(error):
            return _made(Unexpected, error, call=call)
        return classify(error, call=call, redact=redact)
    if isinstance(error, sdk.ClientError):
        kind = _kind_of_answer(error, call) if _is_surely_rejected(error) else InDoubt
        return _made(kind, error, call=call, redact=redact)
    if _never_connected(error):
        return _made(Unavailable, error, call=call)
    return _made(InDoubt, error, call=call)


def values_to_redact(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """Values of parameters, environment and commands anywhere in SubmitJob's arguments, longest first."""
    return tuple(sorted(set(_secret_values(arguments)), key=len, reverse=True))


def code_of(error: Exception) -> str:
    """The service's error code, or the name of the transport fault."""
    if isinstance(error, sdk.ClientError):
        return str(error.response.get("Error", {}).get("Code") or "Unknown")
    if isinstance(error, TimeoutError):
        return "DeadlineExceeded"
    return type(error).__name__


def kind_of_code(code: str) -> type[OutwardError] | None:
    """The kind of a code alone, as entries of SQS's batch answers carry it; None if it is in no table."""
    return _TABLE.get(code)


def _kind_of_answer(error: sdk.ClientError, call: str) -> type[OutwardError]:
    status = _status(error)
    kind = _TABLE.get(code_of(error)) or _TABLE.get(str(error.response.get("Error", {}).get("QueryErrorCode")))
    if error.operation_name != call.partition(":")[2]:
        # Another call, made by the SDK to get credentials (STS, SSO). Its throttle says nothing of our rate.
        return Unavailable if kind is Throttled or status == 429 or status >= 500 else BadCredentials
    if status == 429 or kind is Throttled:
        return Throttled
    if status >= 500 or status == 408:
        return Unavailable
    return kind or Unexpected


def _is_surely_rejected(error: sdk.ClientError) -> bool:
    """An answer that says the request was looked at and not accepted. What is not Batch may have passed the request on
    before it answered: a gateway that lost patience (408, 499), or whose error page is missing (404); a filter that
    blocks what Batch answered (403). And 400 is what servers say to a connection as such, whatever was sent on it."""
    status = _status(error)
    return 400 <= status < 500 and status != 408 and (_is_of_the_service(error) or status in _NOT_PASSED_ON)


def _is_of_the_service(error: sdk.ClientError) -> bool:
    """Batch names a code. One that is in no table is known by its header, or by its form. That there is a request id
    says nothing: an answer that a filter has put its own in place of may have kept it."""
    code, headers = code_of(error), error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return code in _TABLE or "x-amzn-errortype" in headers or _FORM_OF_A_CODE.fullmatch(code) is not None


def _status(error: sdk.ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)


def _is_of_credentials(error: Exception) -> bool:
    """Whether there are none to sign the call with. The system names the file that it can't read, and never one for a
    connection; and the only files that are read for a call hold a token: of a web identity, of Pod Identity, of SSO."""
    return (
        isinstance(error, _CREDENTIAL_FAULTS)
        or (isinstance(error, OSError) and isinstance(error.filename, str))
        or (isinstance(error, RuntimeError) and str(error) == _STILL_EXPIRED)
    )


def _never_connected(error: Exception) -> bool:
    """Whether there was never a connection to send on: refused, name not found, connect time-out, TLS or proxy.

    aiohttp raises ClientConnectorError only while it connects. A reset after the request was read is an
    EndpointConnectionError too, but wraps ClientOSError.
    """
    if isinstance(error, (sdk.ConnectTimeoutError, sdk.ProxyConnectionError)):
        return True
    if isinstance(error, (sdk.EndpointConnectionError, sdk.SSLError)):
        return isinstance(error.kwargs.get("error"), (aiohttp.ClientConnectorError, socket.gaierror))
    return False


def _made(
    kind: type[OutwardError],
    error: Exception,
    *,
    call: str,
    redact: Sequence[str] = (),
    is_quoted: bool = True,
) -> OutwardError:
    code = code_of(error)
    text = f"{call}: {code}"
    if isinstance(error, sdk.ClientError):
        said = _clean(str(error.response.get("Error", {}).get("Message") or ""), redact) if is_quoted else ""
        asked = "" if error.operation_name == call.partition(":")[2] else f"{error.operation_name}: "
        text = f"{call}: {asked}{code} (HTTP {_status(error)}){f': {said}' if said else ''}"
    elif _is_of_credentials(error):
        text = f"{call}: {code}: {_clean(str(error), redact)}"
    elif isinstance(error, _NAMING_THEIR_HOST):
        # The name alone stands for a host that is not known, a port that is closed and a reset alike.
        said = _SSL_CONTEXT.sub("", str(error.kwargs.get("error") or error))
        text = f"{call}: {code}: {_clean(said, redact)}"
    if isinstance(error, (sdk.ClientError, sdk.ParamValidationError)):
        error.args = (text,)  # a traceback shows the cause too, and the service's own words may quote values
    made = kind(text, call=call, code=code)
    made.__cause__ = error
    return made


def _clean(text: str, redact: Sequence[str]) -> str:
    for value in redact:
        if len(value) > SHORT_LENGTH_MAX:
            text = text.replace(value, "***")
        elif value.strip("* "):
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])", "***", text)
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= DETAIL_LENGTH_MAX else text[: DETAIL_LENGTH_MAX - 1] + "…"


_SECRET_MEMBERS: Final = frozenset({"parameters", "environment", "env", "command", "args"})


def _secret_values(node: Any, *, is_secret: bool = False, is_listed: bool = False) -> Iterator[str]:
    """``is_listed``: the node is a member of a list, as the {name, value} pairs of an environment are; their names
    are not secret."""
    if isinstance(node, str):
        if is_secret and node:
            yield node
            yield json.dumps(node)[1:-1]
            yield json.dumps(node, ensure_ascii=False)[1:-1]
    elif isinstance(node, Mapping):
        for name, member in node.items():
            if not (is_secret and is_listed and name == "name"):
                yield from _secret_values(member, is_secret=is_secret or name in _SECRET_MEMBERS)
    elif isinstance(node, (list, tuple)):
        for member in node:
            yield from _secret_values(member, is_secret=is_secret, is_listed=True)
