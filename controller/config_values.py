"""Kinds of values in the configuration and the rules that each keeps.

A rule's text names the problem and the remedy and never quotes the value. ``config.py`` puts them behind its keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from controller.core.admission import AUTO
from controller.core.endpoints import is_of_aws
from controller.core.events import CATALOGUE
from controller.core.limits import REQUEST_ID_TAG, TAG_KEY_LENGTH_MAX, TAG_VALUE_LENGTH_MAX, TAGS_MAX
from controller.core.problems import nearest
from controller.core.request_policy import OVERRIDES

SINKS_BUILT: Final = ("log", "sqs")
SINKS_PLANNED: Final = ("sns", "eventbridge", "webhook")


def not_a_truth_value(value: Any) -> Any:
    """YAML's ``on`` and ``yes`` are truth values, which pydantic would take for 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not a truth value")
    return value


def queue_url(value: str) -> str:
    """An SQS queue URL: scheme, host, and a path that ends in the queue's name."""
    if value.startswith("arn:"):
        raise ValueError("is an ARN; give the queue's URL, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        is_url = False
    if not is_url:
        raise ValueError("is not a URL; give the queue's URL, https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must have no user name, query or fragment; credentials come from the SDK's own chain")
    account = "+" if is_of_aws(value) else "*"  # a stand-in may have none
    if not re.fullmatch(rf"(?:/[^/\s]+){account}/[A-Za-z0-9_-]{{1,80}}(?:\.fifo)?", parts.path):
        raise ValueError("does not end in /ACCOUNT/QUEUE_NAME; give the queue's URL as SQS shows it")
    return value


def store_url(value: str) -> str:
    scheme, separator, path = value.partition(":///")
    name = value.partition(":")[0].partition("+")[0].lower()
    if name in ("postgresql", "postgres"):
        raise ValueError("PostgreSQL is not built yet in this version; use sqlite:////absolute/path.db")
    if scheme != "sqlite" or not separator or "?" in path or "#" in path or "\0" in path:
        raise ValueError("must be sqlite:///relative/path.db or sqlite:////absolute/path.db")
    if not path or path.endswith("/") or path.startswith(":memory:"):
        raise ValueError("must name a file: a store in memory would lose what was accepted; use sqlite:////path.db")
    return value


def sink_type(value: Any) -> Any:
    if value in SINKS_PLANNED:
        raise ValueError(f"the {value} sink is not built yet in this version; use {' or '.join(SINKS_BUILT)}")
    return value


def event_pattern(value: str) -> str:
    if not any(fnmatchcase(name, value) for name in CATALOGUE):
        raise ValueError(f"matches no event; the events are {', '.join(CATALOGUE)}, with * as wildcard")
    return value


def default_tags(value: Mapping[str, str]) -> Mapping[str, str]:
    if len(value) > TAGS_MAX:
        raise ValueError(f"has more than {TAGS_MAX} tags, which AWS Batch refuses; leave some out")
    for key, text in value.items():
        if not 1 <= len(key) <= TAG_KEY_LENGTH_MAX or len(text) > TAG_VALUE_LENGTH_MAX:
            raise ValueError(f"tag keys have 1 to {TAG_KEY_LENGTH_MAX} characters, values up to {TAG_VALUE_LENGTH_MAX}")
        if key.lower().startswith("aws:") or key == REQUEST_ID_TAG:
            raise ValueError("tag keys that begin with aws: are AWS's, and the request id's tag is the controller's")
    return value


def override_path(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z*?]+(?:\.[^.\s]+)*", value):
        raise ValueError("entries are members of SubmitJob, such as timeout or containerOverrides.environment")
    member = value.partition(".")[0]
    if not any(fnmatchcase(name, member) for name in OVERRIDES):
        meant = nearest(member, OVERRIDES)
        which = f"did you mean {meant}?" if meant else f"those that can be listed are {', '.join(OVERRIDES)}"
        raise ValueError(f"names no member of SubmitJob; {which}")
    return value


def given_list(value: Any) -> Any:
    """For a list that lets everything through where it is not given: null there is a slip, and would do the same."""
    if value is None:
        raise ValueError(
            "is null, which is no list: leave the key out to let every member through, or give [] for none"
        )
    return value


def name_pattern(value: Any) -> Any:
    """A pattern of names; that of an ARN would match none."""
    if isinstance(value, str) and re.match(r"arn[:*?]", value):
        raise ValueError("is an ARN, and patterns are compared with the name: give what stands behind the last '/'")
    return value


def waiting_limit(value: Any) -> Any:
    """A whole number of at least 1, or ``auto``; one message for both."""
    if value == AUTO:
        return value
    try:
        count = -1 if isinstance(value, bool) or int(value) != float(value) else int(value)
    except (TypeError, ValueError, OverflowError):
        count = -1
    if count < 1:
        raise ValueError("must be a whole number of at least 1, or auto")
    return count


def lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(lower)]
Number = Annotated[float, BeforeValidator(not_a_truth_value), Field(allow_inf_nan=False)]
Count = Annotated[int, BeforeValidator(not_a_truth_value)]
WaitingLimit = Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], BeforeValidator(waiting_limit)]
QueueUrl = Annotated[str, AfterValidator(queue_url)]
StoreUrl = Annotated[str, AfterValidator(store_url)]
SinkType = Annotated[Literal["log", "sqs"], BeforeValidator(sink_type)]
EventPattern = Annotated[str, AfterValidator(event_pattern)]
DefaultTags = Annotated[Mapping[str, str], AfterValidator(default_tags)]
JobQueuePattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_*?\[\]!-]+$"), BeforeValidator(name_pattern)]
JobDefinitionPattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_*?\[\]!:-]+$"), BeforeValidator(name_pattern)]
OverridePath = Annotated[str, AfterValidator(override_path)]
OverridePaths = Annotated[tuple[OverridePath, ...] | None, BeforeValidator(given_list)]
JobQueueName = Annotated[str, Field(pattern=r"^(?:\*|[A-Za-z0-9][A-Za-z0-9_-]{0,127})$")]


# --- secrets ------------------------------------------------------------------------------------------

_SECRET_NAME: Final = re.compile(r"secret|password|passwd|token|credential|api[_-]?key|authorization", re.IGNORECASE)
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]*@")


def without_secrets(value: Any) -> Any:
    """The same value with everything that looks like a secret replaced: URLs' user parts, values of telling names."""
    if isinstance(value, dict):
        return {
            name: "***" if _SECRET_NAME.search(name) and isinstance(part, str) else without_secrets(part)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(part) for part in value]
    return _USERINFO.sub("***@", value) if isinstance(value, str) else value
