"""The profile's rules can fail: each thing that it forbids is found in a pod that is otherwise well."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.chart.conftest import Rendering
from tests.chart.pod_security import violations
from tests.chart.tools import pod_of

Break = Callable[[dict[str, Any], dict[str, Any]], Any]
"""Given the pod's spec and its first container."""

BREAKS: dict[str, Break] = {
    "hostNetwork is true": lambda pod, _: pod.update(hostNetwork=True),
    "hostPID is true": lambda pod, _: pod.update(hostPID=True),
    "hostIPC is true": lambda pod, _: pod.update(hostIPC=True),
    "volume x is of a forbidden kind": lambda pod, _: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "sysctl kernel.x is forbidden": lambda pod, _: pod["securityContext"].update(sysctls=[{"name": "kernel.x"}]),
    "runAsUser is 0": lambda pod, _: pod["securityContext"].update(runAsUser=0),
    "controller: runAsUser is 0": lambda _, one: one["securityContext"].update(runAsUser=0),
    "controller: runAsNonRoot is not true": lambda pod, _: pod["securityContext"].pop("runAsNonRoot"),
    "controller: runAsNonRoot is false": lambda _, one: one["securityContext"].update(runAsNonRoot=False),
    "controller: seccompProfile is not set": lambda pod, _: pod["securityContext"].pop("seccompProfile"),
    "controller: seccompProfile is unconfined": lambda _, one: one["securityContext"].update(
        seccompProfile={"type": "Unconfined"}
    ),
    "controller: appArmorProfile is unconfined": lambda _, one: one["securityContext"].update(
        appArmorProfile={"type": "Unconfined"}
    ),
    "seLinuxOptions are forbidden": lambda pod, _: pod["securityContext"].update(seLinuxOptions={"role": "r"}),
    "controller: hostProcess is true": lambda _, one: one["securityContext"].update(
        windowsOptions={"hostProcess": True}
    ),
    "controller: privileged is true": lambda _, one: one["securityContext"].update(privileged=True),
    "controller: allowPrivilegeEscalation is not false": lambda _, one: one["securityContext"].pop(
        "allowPrivilegeEscalation"
    ),
    "controller: procMount is forbidden": lambda _, one: one["securityContext"].update(procMount="Unmasked"),
    "controller: capabilities are not all dropped": lambda _, one: one["securityContext"].pop("capabilities"),
    "controller: capabilities are added": lambda _, one: one["securityContext"]["capabilities"].update(
        add=["SYS_ADMIN"]
    ),
    "controller: a hostPort is used": lambda _, one: one["ports"][0].update(hostPort=80),
    "controller: a probe or hook names a host": lambda _, one: one["livenessProbe"]["httpGet"].update(host="10.0.0.1"),
    "first: allowPrivilegeEscalation is not false": lambda pod, _: pod.update(
        initContainers=[{"name": "first", "securityContext": {"capabilities": {"drop": ["ALL"]}}}]
    ),
}


@pytest.mark.parametrize("problem", BREAKS)
def test_each_violation_is_found(render: Rendering, problem: str) -> None:
    """The chart's pod is well; broken in one thing, that thing is named."""
    spec = copy.deepcopy(pod_of(render())["spec"])
    assert violations(spec) == []
    BREAKS[problem](spec, spec["containers"][0])
    assert problem in violations(spec)


def test_values_can_break_the_profile_and_that_is_found(render: Rendering) -> None:
    """A user may loosen the defaults; the check sees the rendered pod, not the defaults."""
    loosened = {"podSecurityContext": {"runAsUser": 0, "runAsNonRoot": False}}
    assert "runAsUser is 0" in violations(pod_of(render(loosened))["spec"])
