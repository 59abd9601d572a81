"""Hostile message bodies, generated: what a producer that is broken, careless or malicious may send.

``WIRE`` are bodies that Amazon SQS takes, by name; ``RAW`` hold characters that it refuses, which only a source that is
not SQS could deliver.
"""

from __future__ import annotations

import base64
import io
import json
import random
import zipfile
from collections.abc import Iterator
from typing import Any, Final

MIB: Final = 1024 * 1024

TEXTS: Final = {
    "clear screen": "\x1b[2J\x1b[31mred\x1b[0m",
    "window title": "\x1b]0;owned\x07",
    "C1 CSI": "\x9b31mred",
    "DEL and backspace": "good\x7f\x08\x08\x08\x08evil",
    "forged JSON line": '\n{"event":"job.finished","request_id":"forged","outcome":"succeeded"}\n',
    "forged console line": "x\n2026-01-01T00:00:00.000Z [info     ] forged",
    "carriage return": "x\r2026-01-01T00:00:00.000Z [info] forged",
    "right-to-left": "\u202egnp.exe\u2066",
    "line separator": "a\u2028b\u2029c\x85d",
    "NUL": "a\0b",
    "lone surrogate": "a\ud800b",
    "noncharacter": "a\ufffe\uffffb",
    "markup": "[bold red]x[/] {{7*7}} ${jndi:ldap://x/y} <script>alert(1)</script>",
    "formats": "%s%n%x {0.__class__.__mro__} {} \\u001b \\x1b",
    "SQL": "'; DROP TABLE jobs; --",
    "path": "../../../../etc/passwd",
    "label": 'x"} 1\nbatch_controller_leader 1\n#',
    "empty": "",
    "blank": " \t ",
    "astral": "\U0001f4a3" * 50,
    "combining": "e" + "\u0301" * 1_000,
}
"""Strings to put wherever a request holds one."""

NUMBERS: Final = (
    "1e400",
    "-1e400",
    "1e-400",
    "9" * 30,
    "9" * 100_000,
    "-0",
    "1.5",
    "1E+2",
    "0x10",
    "01",
    "NaN",
    "-Infinity",
)


def request(**members: Any) -> dict[str, Any]:
    return {"jobName": "hello", "jobQueue": "high", "jobDefinition": "work", **members}


def _written(value: Any, *, raw: bool) -> str:
    """As JSON; ``raw``: with everything unescaped that JSON and SQS let stand."""
    if not raw:
        return json.dumps(value)
    text = json.dumps(value, ensure_ascii=False)
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff" else c for c in text)


def _everywhere(text: str) -> dict[str, dict[str, Any]]:
    """A request with the text in one place, for each place that takes a string."""
    return {
        "requestId": request(requestId=text),
        "jobName": request(jobName=text),
        "jobQueue": request(jobQueue=text),
        "jobDefinition": request(jobDefinition=text),
        "shareIdentifier": request(shareIdentifier=text),
        "action": request(action=text),
        "expiresAt": request(expiresAt=text),
        "dependsOn": request(dependsOn=[{"jobId": text}]),
        "parameter": request(parameters={"p": text}),
        "parameter name": request(parameters={text: "x"}),
        "tag": request(tags={"team": text}),
        "tag key": request(tags={text: "x"}),
        "environment": request(containerOverrides={"environment": [{"name": "A", "value": text}]}),
        "environment name": request(containerOverrides={"environment": [{"name": text, "value": "x"}]}),
        "command": request(containerOverrides={"command": [text or "x", text]}),
        "requirement": request(containerOverrides={"resourceRequirements": [{"type": text, "value": text}]}),
        "unknown member": request(**{text or "x": text}),
        "unknown member below": request(containerOverrides={text or "x": text}),
        "wrong type": request(retryStrategy=text),
        "cancel reason": {"action": "cancel", "requestId": "never-seen", "reason": text},
        "cancel id": {"action": "cancel", "requestId": text},
        "cancel member": {"action": "cancel", "requestId": "never-seen", text or "x": text},
    }


def _texts() -> Iterator[tuple[str, str]]:
    for name, text in TEXTS.items():
        for place, body in _everywhere(text).items():
            yield f"{name} as {place}", _written(body, raw=False)
            yield f"{name} as {place}, raw", _written(body, raw=True)


def _structures() -> Iterator[tuple[str, str]]:
    plain = json.dumps(request())
    for number in NUMBERS:
        for member in ("priority", "requestId", "schedulingPriorityOverride", "timeout"):
            yield f"{number[:12]} as {member}", plain[:-1] + f', "{member}": {number}}}'
    for depth in (65, 1_000, 100_000, 500_000):
        yield f"{depth} arrays", "[" * depth + "]" * depth
        yield f"{depth} arrays, open", "[" * depth
        yield f"{depth} arrays below", plain[:-1] + ', "parameters": ' + "[" * depth + "]" * depth + "}"
    yield "100000 objects", '{"a":' * 100_000 + "1" + "}" * 100_000
    yield "brackets in a string", json.dumps(request(parameters={"p": "[" * 100_000}))
    yield "repeated members", plain[:-1] + ', "jobQueue": "other", "jobQueue": "high"}'
    yield "repeated id", '{"requestId": "a", "requestId": "b", ' + plain[1:]
    yield "repeated action", '{"action": "cancel", "action": "submit", "requestId": "x", ' + plain[1:]
    yield "one member 50000 times", "{" + ", ".join(['"jobName": "x"'] * 50_000) + "}"
    for name in ("__proto__", "constructor", "prototype", "__class__", "toString", "$ref", "!!python/object", "self"):
        yield f"member {name}", json.dumps(request(**{name: {"polluted": True}}))
        yield f"parameter {name}", json.dumps(request(parameters={name: "x"}))
    for name in ("j\u043ebName", "jobName\u200b", "job\u2010Name", "JOBNAME", "jobName ", "\ufb01le", "j" * 300_000):
        yield f"member {name[:12]!a}", json.dumps({**request(), name: "x"}, ensure_ascii=False)
    yield "50000 unknown members", json.dumps(request(**{f"m{n}": n for n in range(50_000)}))
    yield "50000 problems below", json.dumps(request(containerOverrides={"environment": [{"x": 1}] * 50_000}))
    yield "10000 dependencies", json.dumps(request(dependsOn=[{"jobId": "x"}] * 10_000))
    yield "100000 words", json.dumps(request(containerOverrides={"command": ["x"] * 100_000}))
    yield "10000 tags", json.dumps(request(tags={f"t{n}": "x" for n in range(10_000)}))
    yield "large value", json.dumps(request(parameters={"p": "x" * 900_000}))
    yield "everything null", json.dumps(dict.fromkeys(request()))
    yield "everything a list", json.dumps({name: [value] for name, value in request().items()})


def _not_json() -> Iterator[tuple[str, str]]:
    chance = random.Random(1)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", b"\0" * 5_000_000)
    yield "zip", base64.b64encode(packed.getvalue()).decode()
    yield "noise", base64.b85encode(chance.randbytes(100_000)).decode()
    yield "YAML", "jobName: hello\njobQueue: high\njobDefinition: &a [*a, *a]\n"
    yield "YAML object", "!!python/object/apply:os.system ['true']"
    yield "XML", '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "&b;&b;">]><x>&a;</x>'
    yield "form", "jobName=hello&jobQueue=high"
    yield "two objects", json.dumps(request()) * 2
    yield "lines", "\n".join([json.dumps(request())] * 3)
    yield "byte order mark", "\ufeff" + json.dumps(request())
    yield "comment", json.dumps(request())[:-1] + ", /* x */ }"
    yield "single quotes", str(request())
    for name, text in {
        "a": "a",
        "quotes": '"',
        "escaped quotes": '\\"',
        "NULs": "\\u0000",
        "open": '{"a":',
        "blank": " ",
    }.items():
        yield f"1 MiB of {name}", (text * MIB)[:MIB]
        yield f"1 MiB of {name}, quoted", f'{{"jobName": "{(text * MIB)[: MIB - 20]}"}}'
    for value in ("null", "true", "1", '""', "[]", "{}", '"cancel"', " ", "\u2028"):
        yield f"only {value!a}", value


def _mutations() -> Iterator[tuple[str, str]]:
    """A good body with a few characters changed, dropped or doubled; each seed is the same body for ever."""
    good = json.dumps(request(priority=3, tags={"team": "x"}, containerOverrides={"command": ["a", "b"]}))
    for seed in range(150):
        chance, body = random.Random(seed), list(good)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(body))
            body[at : at + chance.randint(0, 2)] = chance.choice(
                ['"', "{", "}", "\\", ",", "0", "e", "\u00e9", "\x9b", ""]
            )
        yield f"mutation {seed}", "".join(body)


WIRE: Final[dict[str, str]] = dict((*_texts(), *_structures(), *_not_json(), *_mutations()))
RAW: Final[dict[str, str]] = {
    **{f"raw {name}": json.dumps(request()) + text for name, text in TEXTS.items() if text},
    **{f"raw {name} in a string": f'{{"jobName": "{text}"}}' for name, text in TEXTS.items()},
    "empty": "",
    "beyond 1 MiB": json.dumps(request(parameters={"p": "x" * MIB})),
}
