"""The restricted Pod Security profile (which includes the baseline), as Kubernetes documents it, for one pod's spec."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]

_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}  # fmt: skip
_SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def violations(spec: Spec) -> list[str]:
    """What the profile forbids and the pod has; empty if it may run."""
    return list(_of_pod(spec)) + [
        f"{container['name']}: {problem}"
        for group in _CONTAINERS
        for container in spec.get(group, ())
        for problem in _of_container(container, spec.get("securityContext") or {})
    ]


def _of_pod(spec: Spec) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name} is true"
    for volume in spec.get("volumes", ()):
        if not (set(volume) - {"name"}) <= _VOLUMES:
            yield f"volume {volume['name']} is of a forbidden kind"
    for sysctl in (spec.get("securityContext") or {}).get("sysctls", ()):
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']} is forbidden"
    yield from _of_context(spec.get("securityContext") or {})


def _of_context(context: Spec) -> Iterator[str]:
    """What is forbidden for pods and for containers alike."""
    if context.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if context.get("runAsNonRoot") is False:
        yield "runAsNonRoot is false"
    if context.get("seccompProfile", {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile is unconfined"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
        yield "appArmorProfile is unconfined"
    options = context.get("seLinuxOptions", {})
    if options.get("type", "") not in _SELINUX_TYPES or options.get("user") or options.get("role"):
        yield "seLinuxOptions are forbidden"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess is true"


def _of_container(container: Spec, above: Spec) -> Iterator[str]:
    own = container.get("securityContext") or {}
    yield from _of_context(own)
    if own.get("privileged"):
        yield "privileged is true"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if own.get("procMount", "Default") != "Default":
        yield "procMount is forbidden"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield "capabilities are not all dropped"
    if set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if own.get("runAsNonRoot", above.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot is not true"
    if "type" not in own.get("seccompProfile", above.get("seccompProfile", {})):
        yield "seccompProfile is not set"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "a hostPort is used"
    probes = [container.get(name) or {} for name in ("startupProbe", "livenessProbe", "readinessProbe")]
    hooks = list((container.get("lifecycle") or {}).values())
    if any((check.get(kind) or {}).get("host") for check in probes + hooks for kind in ("httpGet", "tcpSocket")):
        yield "a probe or hook names a host"
