"""``batch-controller validate``: what intake would say of messages, told before they are sent.

``__main__.py`` calls ``validate``. Messages are judged by the very ``parse`` that intake uses, with the rules of the
configuration, and nothing is asked of AWS. What only AWS, the store or other messages know is named as not checked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import typer

from controller.adapters.sqs_text import cleaned
from controller.config import Settings
from controller.core.errors import Misconfigured
from controller.core.limits import SQS_MESSAGE_BYTES_MAX
from controller.core.problems import ErrorCode
from controller.core.request import CancelRequest, Rejection, Rules, Scope, parse
from controller.core.shapes import Shape
from controller.core.text import escaped
from controller.intake import TRACEPARENT

STANDARD_INPUT: Final = "-"
EXIT_REFUSED: Final = 1

_MESSAGE_ID: Final = "00000000-0000-4000-8000-000000000000"
"""In place of the id that SQS gives; as long as any."""
_ATTRIBUTE_TYPE: Final = "String"
_ATTRIBUTE_NAME: Final = re.compile(r"(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_NOT_KNOWN_HERE: Final = (
    "what AWS Batch knows: whether the job queue and the definition are there, and may be used",
    "what the controller knows: whether the requestId is taken, and whether a request that is named or cancelled came",
)


@dataclass(frozen=True, slots=True)
class Document:
    """One message as it would be sent."""

    place: str
    """For people: file and line."""
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What intake would say of one message."""

    request_id: str | None
    """None: the message names none, or none that is valid."""
    is_cancel: bool = False
    error_code: str | None = None
    """None: it would be accepted."""
    problems: Sequence[str] = ()


def validate(
    names: Sequence[str],
    *,
    settings: Settings,
    is_configured: bool,
    shapes: Shape,
    account: str | None,
    attributes: Sequence[str],
    has_lines: bool,
) -> int:
    """Judge every message in the files, ``-`` being standard input, and print what is said; the exit code.

    ``is_configured``: the settings are not the defaults alone. ``attributes``: of every message, as NAME=VALUE. Raises
    Misconfigured for a file that can't be read, for no message at all, and for an account or attribute that is none.
    """
    if account is not None and not _ACCOUNT.fullmatch(account):
        raise Misconfigured("--account: must be the 12 digits of an AWS account")
    carried = attributes_of(attributes)
    rules = settings.request_rules(shapes=shapes, scope=Scope(region=settings.aws.region, account=account))
    count = refused = 0
    for document in documents(names, has_lines=has_lines):
        judgement = judged(document.body, rules=rules, attributes=carried)
        typer.echo("\n".join(map(escaped, told(document.place, judgement))))
        count += 1
        refused += judgement.error_code is not None
    if not count:
        raise Misconfigured("no message in what was given; with --lines, each line that is not blank is one")
    for text in (*_not_carried(carried), *not_checked(rules, is_configured=is_configured)):
        typer.echo(text, err=True)
    return EXIT_REFUSED if refused else 0


def judged(body: bytes, *, rules: Rules, attributes: Mapping[str, str]) -> Judgement:
    """As intake would, and SQS before it."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return _refused(ErrorCode.INVALID_JSON, "the body is not UTF-8 text, which is all that SQS takes")
    asked = parse(text, message_id=_MESSAGE_ID, rules=rules)
    if isinstance(asked, Rejection):
        return Judgement(request_id=asked.request_id, error_code=asked.error_code, problems=asked.problems)
    if cleaned(text) != text:
        return _refused(
            ErrorCode.INVALID_JSON,
            "the body holds a character that SQS takes in no message (such as U+FFFE): write it as an escape of JSON",
            asked.request_id,
        )
    if (size := len(body) + _size(attributes)) > SQS_MESSAGE_BYTES_MAX:
        says = f"the message is {size:,} bytes with its attributes; SQS takes at most {SQS_MESSAGE_BYTES_MAX:,}"
        return _refused(ErrorCode.TOO_LARGE, f"{says}: pass a reference in place of the data", asked.request_id)
    return Judgement(
        request_id=None if asked.request_id == _MESSAGE_ID else asked.request_id,
        is_cancel=isinstance(asked, CancelRequest),
    )


def _refused(code: ErrorCode, problem: str, request_id: str | None = None) -> Judgement:
    shown = None if request_id == _MESSAGE_ID else request_id
    return Judgement(request_id=shown, error_code=code.value, problems=[problem])


def told(place: str, judgement: Judgement) -> list[str]:
    """The lines for a person: ``ok ID (place)``, or ``refused ID (place): code`` and every problem below."""
    shown = judgement.request_id or "-"
    if judgement.error_code is None:
        if judgement.is_cancel:
            return [f"ok {shown} ({place}: a cancel)"]
        more = "" if judgement.request_id else ": no requestId, so SQS's MessageId is its id"
        return [f"ok {shown} ({place}{more})"]
    return [f"refused {shown} ({place}): {judgement.error_code}", *(f"  {problem}" for problem in judgement.problems)]


# --- what is read ---------------------------------------------------------------------------------------


def documents(names: Sequence[str], *, has_lines: bool) -> Iterator[Document]:
    """Every message, in order: a file each, or a line each that is not blank. Raises Misconfigured."""
    for name in names:
        shown = "standard input" if name == STANDARD_INPUT else name
        with _opened(name) as file:
            if not has_lines:
                yield Document(shown, file.read())
                continue
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield Document(f"{shown}, line {number}", line)


@contextmanager
def _opened(name: str) -> Iterator[IO[bytes]]:
    try:
        if name == STANDARD_INPUT:
            yield sys.stdin.buffer
        else:
            with Path(name).open("rb") as file:
                yield file
    except OSError as error:
        raise Misconfigured(
            f"{name}: can't be read ({error.strerror}); give files of messages, or - for standard input"
        ) from None


def attributes_of(given: Sequence[str]) -> dict[str, str]:
    """Message attributes by name. Raises Misconfigured for what SQS would not take."""
    attributes: dict[str, str] = {}
    for text in given:
        name, _, value = text.partition("=")
        if not _ATTRIBUTE_NAME.fullmatch(name) or not value or cleaned(value) != value:
            raise Misconfigured("--attribute: must be NAME=VALUE as SQS takes it, such as tenant=film")
        attributes[name] = value
    return attributes


def _size(attributes: Mapping[str, str]) -> int:
    """Bytes as SQS counts them: name, type and value."""
    return sum(len(name) + len(_ATTRIBUTE_TYPE) + len(value.encode()) for name, value in attributes.items())


# --- what is told beside -----------------------------------------------------------------------------------


def _not_carried(attributes: Mapping[str, str]) -> Iterator[str]:
    traceparent = attributes.get("traceparent")
    if traceparent is not None and not TRACEPARENT.fullmatch(traceparent):
        yield "not carried: traceparent and tracestate, as traceparent is not as W3C Trace Context writes it"
    elif traceparent is None and "tracestate" in attributes:
        yield "not carried: tracestate, as there is no traceparent"


def not_checked(rules: Rules, *, is_configured: bool) -> Iterator[str]:
    """A line for each thing that intake or AWS will judge and this could not."""
    if not is_configured:
        yield "not checked: the policy and the other settings of the controller: give its file, --config FILE"
    if rules.scope.region is None:
        yield "not checked: the Region of ARNs: give aws.region in the file, or AWS_REGION"
    if rules.scope.account is None:
        yield "not checked: the account of ARNs: give --account"
    for text in _NOT_KNOWN_HERE:
        yield f"not checked: {text}"
