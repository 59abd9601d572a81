"""Stand-ins for the programs of docs/install.md, for a shell that has no account, cluster or registry.

Copied as ``aws``, ``docker``, ``kubectl`` and ``helm`` to the PATH of the page's script; the name says which one is
asked. Each call is written to ``$PAGE_LOG``. What needs no cluster is really done: helm lints and renders, the
controller checks its configuration. What needs one is held against what is known: AWS's own models of its APIs, the
CloudFormation template, and the objects that helm has rendered. A call that can't be right ends the script with its
reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import jmespath  # type: ignore[import-untyped]
import yaml

LOG = Path(os.environ.get("PAGE_LOG", "calls.jsonl"))
OBJECTS = LOG.with_name("objects.yaml")
"""What helm has rendered for the installation, as the cluster would have it."""
EFFECTIVE = LOG.with_name("effective.yaml")
"""What the controller has made of its configuration."""
PROGRAMS = ("aws", "docker", "kubectl", "helm")
ACCOUNT = "111122223333"
DIGEST = "sha256:" + "d" * 64


def wrong(reason: str) -> NoReturn:
    sys.exit(f"{' '.join(sys.argv)[:200]}: {reason}")


def options_of(words: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Plain words, and the values of each option."""
    plain: list[str] = []
    options: dict[str, list[str]] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, _, value = word[2:].partition("=")
            options.setdefault(name, [])
            if value:
                options[name].append(value)
        elif name:
            options[name].append(word)
        else:
            plain.append(word)
    return plain, options


# --- aws ----------------------------------------------------------------------------------------------

CUSTOM = {
    ("ecr", "get-login-password"): set[str](),
    ("cloudformation", "deploy"): {"stack-name", "template-file", "capabilities", "parameter-overrides"},
}
"""Commands of the command line that are no operation of an API, and their options."""


class _CloudFormation(yaml.SafeLoader):
    """YAML with CloudFormation's short functions."""


_CloudFormation.add_multi_constructor("!", lambda _loader, tag, _node: tag)


def template() -> dict[str, Any]:
    text = Path("deploy/aws/cloudformation/batch-job-controller.yaml").read_text()
    return dict(yaml.load(text, Loader=_CloudFormation))


def answers(service: str, operation: str) -> dict[str, Any]:
    queue = f"https://sqs.{os.environ['AWS_REGION']}.amazonaws.com/{ACCOUNT}/"
    outputs = {name: queue + name for name in template()["Outputs"]} if service == "cloudformation" else {}
    outputs["ControllerRoleArn"] = f"arn:aws:iam::{ACCOUNT}:role/controller"
    known: dict[tuple[str, str], dict[str, Any]] = {
        ("sts", "get-caller-identity"): {"Account": ACCOUNT},
        ("ecr", "describe-images"): {"imageDetails": [{"imageDigest": DIGEST}]},
        ("eks", "describe-cluster"): {"cluster": {"identity": {"oidc": {"issuer": "https://oidc.example.com/id/ABC"}}}},
        ("cloudformation", "describe-stacks"): {
            "Stacks": [{"Outputs": [{"OutputKey": name, "OutputValue": value} for name, value in outputs.items()]}]
        },
    }
    return known.get((service, operation), {})


def aws(words: list[str]) -> None:
    (service, operation, *rest), options = options_of(words)
    if rest:
        wrong(f"stray words {rest}")
    if (service, operation) in CUSTOM:
        if unknown := set(options) - CUSTOM[service, operation]:
            wrong(f"no such option: {unknown}")
        if operation == "deploy":
            given = {word.partition("=")[0] for word in options["parameter-overrides"]}
            if unknown := given - set(template()["Parameters"]):
                wrong(f"the template has no parameter {unknown}")
        return
    import botocore.session

    model = botocore.session.get_session().get_service_model(service)
    names = {"".join(part.title() for part in operation.split("-")).lower(): operation}
    found = [name for name in model.operation_names if name.lower() in names]
    if not found:
        wrong("no such operation")
    shape = model.operation_model(found[0]).input_shape
    members = {name.lower() for name in shape.members} if shape is not None else set()
    asked = {name.replace("-", "").lower() for name in options} - {"query", "output"}
    if unknown := asked - members:
        wrong(f"no such option: {unknown}")
    if "query" in options:
        answer = jmespath.search(" ".join(options["query"]), answers(service, operation))
        if isinstance(answer, list):
            answer = answer[0] if answer else None
        if not answer:
            wrong("the query finds nothing")
        print(answer)  # noqa: T201


# --- docker, kubectl, helm ----------------------------------------------------------------------------


def docker(words: list[str]) -> None:
    if words[0] == "build":
        if not Path("Dockerfile").is_file():
            wrong("there is no Dockerfile")
    elif words[0] == "run":
        _, options = options_of(words[1:])
        file, _, inside = options["volume"][0].partition(":")
        command = options["volume"][2:]
        if options["config"] != [inside.removesuffix(":ro")]:
            wrong("--config is not what is mounted")
        controller = [sys.executable, "-m", "controller", *command, "--config", file]
        ended = subprocess.run(controller, env={"PYTHONPATH": os.environ["PAGE_ROOT"]}, capture_output=True, text=True)
        sys.stderr.write(ended.stderr)
        EFFECTIVE.write_text(ended.stdout)
        sys.exit(ended.returncode)
    elif words[0] == "login":
        sys.stdin.read()
    elif words[0] != "push":
        wrong("not expected")


def kubectl(words: list[str]) -> None:
    objects = list(yaml.safe_load_all(OBJECTS.read_text()))
    if words[0] != "--namespace" or words[1] != objects[0]["metadata"]["namespace"]:
        wrong("not the release's namespace")
    there = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in objects if one}
    stateful_set = next(one for one in objects if one and one["kind"] == "StatefulSet")
    name = stateful_set["metadata"]["name"]
    there.add(f"pod/{name}-0")
    there |= {f"pvc/{one['metadata']['name']}-{name}-0" for one in stateful_set["spec"]["volumeClaimTemplates"]}
    verb, *rest = words[2:]
    if verb == "get":
        path = rest[rest.index("--raw") + 1].split("/")
        named = "service/" + path[path.index("services") + 1].partition(":")[0]
    else:
        named = rest[0] if "/" in rest[0] else f"{rest[0]}/{rest[1]}"
    if named not in there:
        wrong(f"{named} is not among {sorted(there)}")
    if "--container" in rest:
        containers = [one["name"] for one in stateful_set["spec"]["template"]["spec"]["containers"]]
        if rest[rest.index("--container") + 1] not in containers:
            wrong("no such container")


def helm(words: list[str]) -> None:
    real = [os.environ["PAGE_HELM"]]
    if words[0] == "lint":
        sys.exit(subprocess.run([*real, *words]).returncode)
    if words[0] in ("test", "uninstall", "rollback"):
        if not OBJECTS.is_file() or f"instance: {words[1]}\n" not in OBJECTS.read_text():
            wrong("no such release")
        return
    if words[0] not in ("template", "upgrade"):
        wrong("not expected")
    dropped = {"--install", "--create-namespace", "--wait"}
    kept = [word for word in words[1:] if word not in dropped]
    if "--timeout" in kept:
        at = kept.index("--timeout")
        del kept[at : at + 2]
    ended = subprocess.run([*real, "template", *kept, "--kube-version", "1.30.0"], capture_output=True, text=True)
    sys.stderr.write(ended.stderr)
    if words[0] == "template":
        sys.stdout.write(ended.stdout)
    elif not ended.returncode:
        OBJECTS.write_text(ended.stdout)
    sys.exit(ended.returncode)


if __name__ == "__main__":
    program, asked_for = Path(sys.argv[0]).name, sys.argv[1:]
    with LOG.open("a") as log:
        log.write(json.dumps([program, *asked_for]) + "\n")
    {"aws": aws, "docker": docker, "kubectl": kubectl, "helm": helm}[program](asked_for)
