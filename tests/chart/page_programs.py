"""Stand-ins for the programs of docs/install.md and docs/operations.md, for a shell that has no account, cluster or
registry.

Copied as ``aws``, ``docker``, ``kubectl`` and ``helm`` to the PATH of the page's script; the name says which one is
asked. Each call is written to ``$PAGE_LOG``. What needs no cluster is really done: helm lints and renders, the
controller checks its configuration, what runs in a pod runs here. What needs one is held against what is known: AWS's
own models of its APIs, the CloudFormation template, and the objects that helm has rendered. A call that can't be right
ends the script with its reason.
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
APPLIED = LOG.with_name("applied.yaml")
"""What kubectl was given to apply."""
STATE = LOG.with_name("state")
"""The volume as a pod has it, in place of ``/state``."""
KUBERNETES = "1.30.0"
"""What the cluster says; helm's own is that of its release."""
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
        ("batch", "list-jobs"): {"jobSummaryList": [{"jobId": "4c7599ae"}]},
        ("batch", "describe-jobs"): {
            "jobs": [{"jobId": "4c7599ae", "status": "RUNNING", "tags": {"batch-controller/request-id": "hello-1"}}]
        },
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
        while isinstance(answer, list):
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
        if words[-1] == "version":
            sys.exit(
                subprocess.run([sys.executable, "-m", "controller", "version"], cwd=os.environ["PAGE_ROOT"]).returncode
            )
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
    objects = [one for one in yaml.safe_load_all(OBJECTS.read_text()) if one]
    if words[0] != "--namespace" or words[1] != objects[0]["metadata"]["namespace"]:
        wrong("not the release's namespace")
    there = {f"{one['kind'].lower()}/{one['metadata']['name']}" for one in [*objects, *applied()]}
    stateful_set = next(one for one in objects if one["kind"] == "StatefulSet")
    name = stateful_set["metadata"]["name"]
    there.add(f"pod/{name}-0")
    there |= {f"pvc/{one['metadata']['name']}-{name}-0" for one in stateful_set["spec"]["volumeClaimTemplates"]}
    verb, *rest = words[2:]
    if verb == "apply":
        apply(list(yaml.safe_load_all(sys.stdin)), stateful_set)
        return
    if "--raw" in rest:
        path = rest[rest.index("--raw") + 1].split("/")
        named = "service/" + path[path.index("services") + 1].partition(":")[0]
    else:
        named = next((word for word in rest if "/" in word and not word.startswith("-")), f"{rest[0]}/{rest[1]}")
        if verb == "exec" and not rest[0].startswith("statefulset/"):
            named = "pod/" + next(word for word in rest if not word.startswith("-"))
    if named not in there:
        wrong(f"{named} is not among {sorted(there)}")
    if "--container" in rest:
        containers = [one["name"] for one in stateful_set["spec"]["template"]["spec"]["containers"]]
        if rest[rest.index("--container") + 1] not in containers:
            wrong("no such container")
    if "--output" in rest:
        path = rest[rest.index("--output") + 1].removeprefix("jsonpath={.").removesuffix("}")
        print(jmespath.search(path, stateful_set), end="")  # noqa: T201
    if verb == "exec":
        run_in_pod(rest[rest.index("--") + 1 :])


def applied() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(APPLIED.read_text())) if APPLIED.is_file() else []


def apply(given: list[dict[str, Any]], stateful_set: dict[str, Any]) -> None:
    """Claims must be as the StatefulSet makes them, and images its own."""
    (template,) = stateful_set["spec"]["volumeClaimTemplates"]
    claim = f"{template['metadata']['name']}-{stateful_set['metadata']['name']}-0"
    containers = stateful_set["spec"]["template"]["spec"]["containers"]
    for one in given:
        if one["kind"] == "VolumeSnapshot":
            right = one["spec"]["source"] == {"persistentVolumeClaimName": claim}
        elif one["kind"] == "PersistentVolumeClaim":
            snapshots = {each["metadata"]["name"] for each in applied() if each["kind"] == "VolumeSnapshot"}
            spec, modes = one["spec"], template["spec"]["accessModes"]
            right = one["metadata"]["name"] == claim and spec["accessModes"] == modes
            right = right and one["metadata"]["labels"] == template["metadata"]["labels"]
            right = right and spec["dataSource"]["name"] in snapshots
        else:
            (volume,), (container,) = one["spec"]["volumes"], one["spec"]["containers"]
            right = volume["persistentVolumeClaim"]["claimName"] == claim
            right = right and container["image"] == containers[0]["image"]
        if not right:
            wrong(f"does not fit the StatefulSet: {one}")
    APPLIED.write_text(yaml.safe_dump_all([*applied(), *given]))


def run_in_pod(command: list[str]) -> NoReturn:
    program, *rest = command
    module: list[str] = {"python": [], "batch-controller": ["-m", "controller"]}[program]
    here = [word.replace("/state/", f"{STATE}/") for word in rest]
    folder = os.environ["PAGE_ROOT"]
    sys.exit(subprocess.run([sys.executable, *module, *here], cwd=folder).returncode)


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
    cluster = ["--kube-version", KUBERNETES] if words[0] == "upgrade" else []
    ended = subprocess.run([*real, "template", *kept, *cluster], capture_output=True, text=True)
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
