"""Where settings come from: a YAML file, environment variables, flags; and how a wrong one is reported.

``config.py`` owns the keys and their rules; this module reads the sources, lays them over one another (a flag wins over
the environment, the environment over the file) and remembers for each key where its value came from, so that an error
can say so. A key's value comes from one source: maps and lists are replaced, never merged. No value that could be a
secret is quoted in a message.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from controller.core.errors import Misconfigured

ENVIRONMENT_PREFIX: Final = "BATCH_CONTROLLER_"
NESTING: Final = "__"

_NO_TYPES: Final = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
"""Of YAML 1.1, for dates and for ``=``: what stands unquoted in such a form is text here."""

_KUBERNETES_SERVICE: Final = re.compile(
    r"(?:.+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
"""What Kubernetes puts into every container of a namespace for a Service called ``batch-controller…``; such a
variable is no setting of ours."""
_KUBERNETES_PORT_VALUE: Final = re.compile(r"(?:tcp|udp|sctp)://")

EXAMPLES: Final[Mapping[str, str]] = {
    "intake.queue_urls": '["https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"]',
    "intake.tenant_from": '["share_identifier", "source"]',
    "submit.default_tags": '{"team": "film"}',
    "queues": '{"high": {"max_in_flight": 50}}',
    "policy.allowed_job_queues": '["high", "low-*"]',
    "policy.allowed_job_definitions": '["render", "join:3"]',
    "policy.allowed_overrides": '["timeout", "containerOverrides.environment"]',
    "sinks": '[{"type": "log"}]',
    "sinks[].events": '["job.*", "request.rejected"]',
}
"""A value of each list and map, as JSON, which is YAML too."""


class KeyProblem(ValueError):
    """A rule about several keys is broken; ``key`` is the one to change, relative to the model that says so."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def variable_of(key: str) -> str:
    """Name of the environment variable of a key: ``submit.rate_per_s`` → ``BATCH_CONTROLLER_SUBMIT__RATE_PER_S``."""
    return ENVIRONMENT_PREFIX + key.replace(".", NESTING).upper()


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like ``name``: as a whole, or by its last part if that was put into the wrong section."""

    def likeness(candidate: str) -> float:
        whole = difflib.SequenceMatcher(None, name.lower(), candidate.lower()).ratio()
        last = difflib.SequenceMatcher(None, name.rpartition(".")[2].lower(), candidate.rpartition(".")[2].lower())
        return max(whole, last.ratio() - 0.05)

    return max(sorted(known), key=likeness)


class Layers(PydanticBaseSettingsSource):
    """All sources laid over one another, as the one source that ``Settings`` is built from."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self._values: dict[str, Any] = {}
        self._origins: dict[str, str] = {}
        self._below = "not set"

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Part of the base class's interface: the value of one section."""
        return self._values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._values

    def put_file(self, values: dict[str, Any], path: Path) -> None:
        """The lowest layer. A section without a value (all of it commented out) is as good as absent."""
        self._values = {name: value for name, value in values.items() if value is not None}
        self._below = f"file {path}"

    def put(self, key: str, value: Any, *, origin: str) -> None:
        """Lay one key's value over what is there."""
        section, _, name = key.partition(".")
        self._origins[key] = origin
        if not name:
            self._values[section] = value
            return
        members = self._values.get(section)
        if members is None:
            self._values[section] = {name: value}
        elif isinstance(members, dict):
            members[name] = value
        # else: the file has no mapping there, which is reported when it is validated

    def value(self, key: str) -> Any:
        """Of one key of a section; None if it has none."""
        section, _, name = key.partition(".")
        members = self._values.get(section)
        return members.get(name) if isinstance(members, dict) else None

    def origin(self, location: Sequence[str | int]) -> str:
        """Where the value at a location came from."""
        parts = [str(part) for part in location]
        for length in (2, 1):
            found = self._origins.get(".".join(parts[:length]))
            if found is not None:
                return found
        return self._below if parts and parts[0] in self._values else "not set"


# --- the file -----------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML as people expect it of a configuration: a key given twice is a mistake, keys are text, and so is what YAML
    1.1 alone takes for something else: no key is a time, and what writes the file (Helm, in Go) does not quote texts
    that have a date's or number's form and are none, such as ``1234-56-78``."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """What has the form of a number, or a tag, and is none is text; its key's kind tells what is wrong with it."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError):  # Python's, of what should make a value of it
            if not isinstance(node, yaml.ScalarNode):
                raise
            return self.construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "a key that is not text", key_node.start_mark)
            if key_node.value in seen:
                text = f"the key {key_node.value} is given twice"
                raise yaml.constructor.ConstructorError(None, None, text, key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag not in _NO_TYPES]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty one. Raises Misconfigured."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Misconfigured(
            f"--config {path}: can't be read ({error.strerror}); give the path of a YAML file"
        ) from None
    except UnicodeDecodeError:
        raise Misconfigured(f"--config {path}: is not UTF-8 text; save the file as UTF-8") from None
    try:
        values = yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise Misconfigured(f"--config {path}{_place(error)}; correct the file") from None
    except RecursionError:
        raise Misconfigured(f"--config {path}: is nested too deeply; correct the file") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise Misconfigured(f"--config {path}: must be a mapping of sections, such as 'intake:'; correct the file")
    if isinstance(values.get("config"), dict):
        raise Misconfigured(
            f"--config {path}: looks like the values of the Helm chart; give a file of what is under their key 'config'"
        )
    return values


def _place(error: yaml.YAMLError) -> str:
    """Line and problem, without the excerpt and the names that the parser's own text quotes from the file: text that
    begins with ``*``, ``&`` or ``!`` and is not quoted counts as such a name."""
    mark = getattr(error, "problem_mark", None)
    problem = re.sub(r"\b(alias|anchor|handle|tag) '.*?'", r"\1", getattr(error, "problem", None) or "not YAML")
    line = f", line {mark.line + 1}" if mark is not None else ""
    return f"{line}: is not valid ({problem})"


# --- the environment ----------------------------------------------------------------------------------


def read_environment(environ: Mapping[str, str], *, keys: Mapping[str, bool]) -> tuple[dict[str, Any], dict[str, str]]:
    """(values by key, problems by key or unknown variable) of the variables with our prefix. ``keys`` says of each
    whether it is given as JSON."""
    by_variable = {variable_of(key): key for key in keys}
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    for variable, text in sorted(environ.items()):
        if not variable.upper().startswith(ENVIRONMENT_PREFIX) or _is_of_kubernetes(variable, text):
            continue
        key = by_variable.get(variable)
        if key is None:
            problems[variable] = (
                f"{variable} (environment): no such setting; did you mean {_setting_meant(variable, keys)}? "
                "Correct the name or unset it"
            )
        elif not text:
            problems[key] = f"{key} (environment {variable}): is empty; unset the variable or give it a value"
        elif keys[key]:
            try:
                values[key] = json.loads(text, object_pairs_hook=_members)
            except _GivenTwice as twice:
                problems[key] = f"{key} (environment {variable}): the key {twice} is given twice; leave one out"
            except (ValueError, RecursionError):
                problems[key] = f"{key} (environment {variable}): is not JSON; write it like '{EXAMPLES[key]}'"
        else:
            values[key] = text
    return values, problems


class _GivenTwice(ValueError):
    """A key of a JSON map, which Python's decoder would give the last of its values."""


def _members(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise _GivenTwice(name)
        members[name] = value
    return members


def _is_of_kubernetes(variable: str, text: str) -> bool:
    name = variable.removeprefix(ENVIRONMENT_PREFIX)
    if _KUBERNETES_SERVICE.fullmatch(name):
        return True
    return (name == "PORT" or name.endswith("_PORT")) and _KUBERNETES_PORT_VALUE.match(text) is not None


def _setting_meant(variable: str, keys: Mapping[str, bool]) -> str:
    """The variable of the key most like an unknown one, with the form of its value if that is JSON."""
    name = variable[len(ENVIRONMENT_PREFIX) :].lower().replace(NESTING, ".")
    group = name.partition(".")[0]
    key = group if group in keys else nearest(name, keys)
    return f"{variable_of(key)}='{EXAMPLES[key]}'" if keys[key] else variable_of(key)
