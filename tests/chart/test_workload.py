"""The pod and what belongs to it: image, configuration, identity, store, life, scheduling, extras; on and off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import Rendering
from tests.chart.tools import CHART, KUBERNETES, Manifest, Tools, container_of, kinds, loaded, merged, of_kind, pod_of

DIGEST = "sha256:" + "c" * 64
REPOSITORY = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/batch-job-controller"


def config_of(manifests: list[Manifest]) -> dict[str, Any]:
    configs = [one for one in manifests if one["kind"] == "ConfigMap" and "config.yaml" in one["data"]]
    config: dict[str, Any] = yaml.safe_load(configs[0]["data"]["config.yaml"])
    return config


def volumes_of(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {volume["name"]: volume for volume in pod_of(manifests)["spec"]["volumes"]}


# --- image and command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, ":0.1.0"),
        ({"tag": "1.2"}, ":1.2"),
        ({"digest": DIGEST}, f"@{DIGEST}"),
        ({"tag": "1", "digest": DIGEST}, f"@{DIGEST}"),
    ],
)
def test_the_image_is_the_tag_or_better_the_digest(render: Rendering, image: dict[str, str], reference: str) -> None:
    """The appVersion by default; a digest wins over a tag; the test's pod uses the same image."""
    manifests = render({"image": image})
    assert container_of(manifests)["image"] == REPOSITORY + reference
    assert of_kind(manifests, "Pod")["spec"]["containers"][0]["image"] == REPOSITORY + reference


def test_a_registry_may_have_a_port(render: Rendering) -> None:
    """Its colon is no tag's."""
    repository = "localhost:5000/batch-job-controller"
    assert container_of(render({"image": {"repository": repository}}))["image"] == f"{repository}:0.1.0"


def test_pull_secrets_reach_both_pods(render: Rendering) -> None:
    """imagePullSecrets are on the StatefulSet's pod and on the test's, or on neither."""
    assert "imagePullSecrets" not in pod_of(render())["spec"]
    manifests = render({"imagePullSecrets": [{"name": "registry"}]})
    assert pod_of(manifests)["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert of_kind(manifests, "Pod")["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_the_container_runs_the_controller_without_a_shell(render: Rendering) -> None:
    """Command and arguments name the program and the mounted configuration."""
    container = container_of(render())
    assert container["command"] + container["args"] == [
        "batch-controller",
        "run",
        "--config",
        "/etc/batch-controller/config.yaml",
    ]
    assert {"name": "config", "mountPath": "/etc/batch-controller", "readOnly": True} in container["volumeMounts"]


# --- configuration ------------------------------------------------------------------------------------


def test_the_controllers_name_is_namespace_and_release(render: Rendering) -> None:
    """Unique in a cluster, unless another is given."""
    assert config_of(render())["controller"]["name"] == "jobs.rel"
    assert config_of(render({"config": {"controller": {"name": "own"}}}))["controller"]["name"] == "own"


def test_a_long_name_is_cut_and_stays_unique(render: Rendering) -> None:
    """63 characters are what the controller takes; two long names that begin alike differ."""
    names = {
        config_of(render(release="r" * 50 + end, namespace="n" * 63))["controller"]["name"] for end in ("aa", "bb")
    }
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


def test_numbers_and_text_reach_the_configuration_as_given(render: Rendering) -> None:
    """No number turns into text or into powers of ten, no text into a number."""
    given = {
        "retention": {"final_s": 1296000},
        "submit": {"rate_per_s": 12.5, "default_tags": {"cost": "4711", "on": "yes"}},
    }
    config = config_of(render({"config": given}))
    assert config["retention"] == given["retention"]
    assert config["submit"] == given["submit"]


def test_a_change_of_the_configuration_restarts_the_pod(render: Rendering) -> None:
    """The checksum annotation changes with the configuration, and with nothing else."""

    def checksum(values: dict[str, Any]) -> str:
        found: str = pod_of(render(values))["metadata"]["annotations"]["checksum/config"]
        return found

    assert checksum({}) == checksum({"resources": {"requests": {"cpu": "1"}}})
    assert checksum({}) != checksum({"config": {"log": {"level": "debug"}}})


def test_secrets_come_by_reference(render: Rendering) -> None:
    """env and envFrom are passed on, with templates filled in, and are absent by default."""
    assert "envFrom" not in container_of(render())
    assert [one["name"] for one in container_of(render())["env"]] == ["BATCH_CONTROLLER_STORE__URL"]
    by_key = {
        "name": "AWS_SECRET_ACCESS_KEY",
        "valueFrom": {"secretKeyRef": {"name": "{{ .Release.Name }}-aws", "key": "k"}},
    }
    container = container_of(render({"env": [by_key], "envFrom": [{"secretRef": {"name": "more"}}]}))
    assert container["env"][-1]["valueFrom"]["secretKeyRef"]["name"] == "rel-aws"
    assert container["envFrom"] == [{"secretRef": {"name": "more"}}]


# --- identity -----------------------------------------------------------------------------------------


def test_irsa_is_an_annotation_of_the_service_account(render: Rendering) -> None:
    """The role's ARN is on the ServiceAccount that the pod uses."""
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/batch"}
    manifests = render({"serviceAccount": {"annotations": role}})
    account = of_kind(manifests, "ServiceAccount")
    assert account["metadata"]["annotations"] == role
    assert pod_of(manifests)["spec"]["serviceAccountName"] == account["metadata"]["name"]
    assert "annotations" not in of_kind(render(), "ServiceAccount")["metadata"]


def test_pod_identity_needs_only_a_name(render: Rendering) -> None:
    """The name can be chosen, for an account that is made here or is there already."""
    made = render({"serviceAccount": {"name": "batch"}})
    assert of_kind(made, "ServiceAccount")["metadata"]["name"] == "batch"
    there = render({"serviceAccount": {"create": False, "name": "batch"}})
    assert "ServiceAccount" not in kinds(there)
    assert pod_of(made)["spec"]["serviceAccountName"] == pod_of(there)["spec"]["serviceAccountName"] == "batch"
    assert pod_of(render({"serviceAccount": {"create": False}}))["spec"]["serviceAccountName"] == "default"


def test_no_token_of_the_kubernetes_api_is_mounted(render: Rendering) -> None:
    """Neither by the ServiceAccount nor by a pod; nothing asks for rights in the cluster."""
    manifests = render()
    assert of_kind(manifests, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod_of(manifests)["spec"]["automountServiceAccountToken"] is False
    assert of_kind(manifests, "Pod")["spec"]["automountServiceAccountToken"] is False
    assert not {kind for kind in kinds(manifests) if "Role" in kind}


# --- the store ----------------------------------------------------------------------------------------


def test_the_store_is_on_a_claim_of_its_own(render: Rendering) -> None:
    """One pod of the cluster may have it, and it stays when the release goes."""
    manifests = render()
    spec = of_kind(manifests, "StatefulSet")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"] == {"accessModes": ["ReadWriteOncePod"], "resources": {"requests": {"storage": "8Gi"}}}
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    mount = next(one for one in container_of(manifests)["volumeMounts"] if one["name"] == claim["metadata"]["name"])
    assert config_of(manifests)["store"]["url"] == f"sqlite:///{mount['mountPath']}/state.db"


def test_the_store_is_where_the_configuration_says(render: Rendering) -> None:
    """The image sets the store's variable, which would win over the file: the pod's says the same as the file."""
    for values in ({}, {"config": {"store": {"url": "sqlite:////var/lib/batch-controller/nightly.db"}}}):
        manifests = render(values)
        variable = {"name": "BATCH_CONTROLLER_STORE__URL", "value": config_of(manifests)["store"]["url"]}
        assert container_of(manifests)["env"] == [variable]


def test_the_claim_is_made_as_asked(render: Rendering) -> None:
    """Class, mode, size, labels, annotations and the end of the claim."""
    spec = of_kind(render(yaml.safe_load((CHART / "ci" / "volume-values.yaml").read_text())), "StatefulSet")["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "gp3"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert claim["metadata"]["labels"]["backup"] == "daily"
    assert claim["metadata"]["annotations"] == {"example.com/snapshot": "daily"}
    assert spec["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"


def test_an_existing_claim_or_none(render: Rendering) -> None:
    """Then no claim is made, and the volume is the claim that is there, or one that goes with the pod."""
    for persistence, volume in (
        ({"existingClaim": "mine"}, {"persistentVolumeClaim": {"claimName": "mine"}}),
        ({"enabled": False}, {"emptyDir": {}}),
    ):
        manifests = render({"persistence": persistence})
        assert not {"volumeClaimTemplates", "persistentVolumeClaimRetentionPolicy"} & set(
            of_kind(manifests, "StatefulSet")["spec"]
        )
        assert volumes_of(manifests)["state"] == {"name": "state", **volume}


def test_only_the_store_and_tmp_can_be_written(render: Rendering) -> None:
    """The root is read-only, the configuration too; /tmp is bounded."""
    manifests = render()
    container = container_of(manifests)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    writable = {one["mountPath"] for one in container["volumeMounts"] if not one.get("readOnly")}
    assert writable == {"/var/lib/batch-controller", "/tmp"}
    assert volumes_of(manifests)["tmp"]["emptyDir"] == {"sizeLimit": "64Mi"}
    assert pod_of(manifests)["spec"]["securityContext"]["fsGroup"] == 65532


def test_an_upgrade_of_the_chart_touches_nothing_that_is_immutable(
    tools: Tools, render: Rendering, tmp_path: Path
) -> None:
    """A StatefulSet of the next version, with other labels, differs only in what Kubernetes lets be changed."""
    import shutil

    newer = shutil.copytree(render.chart, tmp_path / "newer")
    text = (newer / "Chart.yaml").read_text().replace("version: 0.1.0", "version: 9.9.9")
    (newer / "Chart.yaml").write_text(text.replace('appVersion: "0.1.0"', 'appVersion: "9.9.8"'))
    before = of_kind(render(), "StatefulSet")["spec"]
    after = of_kind(tools.render(newer, {**render.least, "commonLabels": {"new": "label"}}), "StatefulSet")["spec"]
    mutable = ("replicas", "template", "updateStrategy", "persistentVolumeClaimRetentionPolicy", "minReadySeconds")
    assert before != after
    assert {key: value for key, value in before.items() if key not in mutable} == {
        key: value for key, value in after.items() if key not in mutable
    }


# --- start, life, stop --------------------------------------------------------------------------------


def test_each_probe_asks_its_own_path(render: Rendering) -> None:
    """Start and life ask /livez, readiness /readyz, all on the container's port; timing can be changed."""
    container = container_of(render({"livenessProbe": {"periodSeconds": 33}}))
    paths = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert paths == {
        "startup": {"path": "/livez", "port": "http"},
        "liveness": {"path": "/livez", "port": "http"},
        "readiness": {"path": "/readyz", "port": "http"},
    }
    assert container["livenessProbe"]["periodSeconds"] == 33
    assert container["livenessProbe"]["timeoutSeconds"] == 5


@pytest.mark.parametrize(("drain_s", "seconds"), [(None, 60), (45, 75), (90.5, 121), (0, 30)])
def test_the_pod_has_longer_than_its_drain(render: Rendering, drain_s: float | None, seconds: int) -> None:
    """SIGKILL comes after the grace time, a long poll and a margin."""
    values = {} if drain_s is None else {"config": {"controller": {"drain_s": drain_s}}}
    assert pod_of(render(values))["spec"]["terminationGracePeriodSeconds"] == seconds


def test_the_grace_period_can_be_given(render: Rendering) -> None:
    """A longer one stands."""
    assert pod_of(render({"terminationGracePeriodSeconds": 600}))["spec"]["terminationGracePeriodSeconds"] == 600


def test_a_broken_rollout_can_be_rolled_back(render: Rendering) -> None:
    """A pod that never gets ready does not keep its replacement from being made."""
    spec = of_kind(render(), "StatefulSet")["spec"]
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["updateStrategy"] == {"type": "RollingUpdate"}
    assert spec["replicas"] == 1
    assert of_kind(render({"replicas": 0}), "StatefulSet")["spec"]["replicas"] == 0


def test_the_port_is_the_configurations(render: Rendering) -> None:
    """Container, Services and test's pod follow http.port; the Service may have a port of its own."""
    manifests = render({"config": {"http": {"port": 9999}}, "metrics": {"service": {"port": 80}}})
    assert container_of(manifests)["ports"] == [{"name": "http", "containerPort": 9999, "protocol": "TCP"}]
    assert of_kind(manifests, "Service", "-headless")["spec"]["ports"][0]["port"] == 9999
    assert of_kind(manifests, "Service", "controller")["spec"]["ports"][0]["port"] == 80
    assert "http://rel-batch-job-controller:80" in of_kind(manifests, "Pod")["spec"]["containers"][0]["args"]
    without = render({"config": {"http": {"port": 9999}}, "metrics": {"service": {"enabled": False}}})
    assert "http://rel-batch-job-controller-headless:9999" in of_kind(without, "Pod")["spec"]["containers"][0]["args"]


def test_resources_have_no_cpu_limit_by_default(render: Rendering) -> None:
    """Memory is bounded, CPU is only asked for."""
    assert container_of(render())["resources"] == {
        "requests": {"cpu": "100m", "memory": "192Mi"},
        "limits": {"memory": "512Mi"},
    }


# --- scheduling and extras ----------------------------------------------------------------------------

_PLACES: dict[str, Any] = {
    "priorityClassName": "high",
    "schedulerName": "own",
    "runtimeClassName": "gvisor",
    "nodeSelector": {"a": "b"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}},
    "dnsPolicy": "ClusterFirst",
    "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
    "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
}


@pytest.mark.parametrize("name", _PLACES)
def test_where_the_pod_runs(render: Rendering, name: str) -> None:
    """Passed on as given; absent by default."""
    assert name not in pod_of(render())["spec"]
    assert pod_of(render({name: _PLACES[name]}))["spec"][name] == _PLACES[name]


def test_the_tests_pod_runs_on_such_nodes_too(render: Rendering) -> None:
    """The image is the same, and may not run on others; which pods the controller's wants near is not the test's."""
    term = {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]}
    node = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    places = {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a", "operator": "Exists"}]}
    spec = of_kind(render({**places, "affinity": {"nodeAffinity": node, "podAffinity": {}}}), "Pod")["spec"]
    assert {name: spec[name] for name in places} == places
    assert spec["affinity"] == {"nodeAffinity": node}
    assert "affinity" not in of_kind(render({"affinity": {"podAffinity": {}}}), "Pod")["spec"]


def test_a_spread_without_selector_gets_the_pods_own(render: Rendering) -> None:
    """So that it counts the controller's pods; a selector of the user's stays."""
    spread = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
    own = {**spread, "labelSelector": {"matchLabels": {"app": "other"}}}
    manifests = render({"topologySpreadConstraints": [spread, own]})
    selector = of_kind(manifests, "StatefulSet")["spec"]["selector"]
    assert pod_of(manifests)["spec"]["topologySpreadConstraints"] == [{**spread, "labelSelector": selector}, own]
    assert "topologySpreadConstraints" not in pod_of(render())["spec"]


def test_labels_and_annotations_with_templates(render: Rendering) -> None:
    """commonLabels reach every object and the pod, never a selector or a claim; templates are filled in."""
    values = {
        "commonLabels": {"owner": "platform"},
        "podLabels": {"of": "{{ .Release.Name }}"},
        "podAnnotations": {"note": "{{ .Release.Namespace }}"},
        "statefulSetAnnotations": {"reload": "true"},
    }
    manifests = render(values)
    assert all(one["metadata"]["labels"]["owner"] == "platform" for one in manifests)
    pod = pod_of(manifests)["metadata"]
    assert pod["labels"]["owner"] == "platform"
    assert pod["labels"]["of"] == "rel"
    assert pod["annotations"]["note"] == "jobs"
    stateful_set = of_kind(manifests, "StatefulSet")
    assert stateful_set["metadata"]["annotations"] == {"reload": "true"}
    assert "owner" not in stateful_set["spec"]["selector"]["matchLabels"]
    assert "owner" not in stateful_set["spec"]["volumeClaimTemplates"][0]["metadata"]["labels"]


def test_selectors_meet_the_controllers_pod_and_no_other(render: Rendering) -> None:
    """Services, disruption budget, network policy: all select the pod, none the test's pod."""
    manifests = render({"podDisruptionBudget": {"enabled": True}, "networkPolicy": {"enabled": True}})
    labels = pod_of(manifests)["metadata"]["labels"]
    others = of_kind(manifests, "Pod")["metadata"]["labels"]
    selectors = [one["spec"]["selector"] for one in manifests if one["kind"] == "Service"]
    selectors.append(of_kind(manifests, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"])
    selectors.append(of_kind(manifests, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    selectors.append(of_kind(manifests, "StatefulSet")["spec"]["selector"]["matchLabels"])
    assert len(selectors) == 5
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert not any(selector.items() <= others.items() for selector in selectors)


def test_names_fit_into_labels(render: Rendering) -> None:
    """However long the release's name, the pod's revision label (name and 11 characters) fits."""
    for values in ({}, {"fullnameOverride": "f" * 80}):
        name = of_kind(render(values, release="r" * 53), "StatefulSet")["metadata"]["name"]
        assert len(name) <= 52


@pytest.mark.parametrize("values", [{}, {"fullnameOverride": "r" * 50 + "---x"}])
def test_a_name_that_is_cut_ends_in_no_dash(render: Rendering, values: dict[str, Any]) -> None:
    """However many dashes there were where it is cut."""
    assert of_kind(render(values, release="r" * 50 + "--x"), "StatefulSet")["metadata"]["name"] == "r" * 50


@pytest.mark.parametrize("text", ["1234", "1e3", "yes", "null"])
def test_names_that_look_like_numbers_stay_text(tools: Tools, render: Rendering, text: str) -> None:
    """YAML takes them for a number, a truth or nothing where they are not quoted, and Kubernetes refuses the object."""
    values: dict[str, Any] = {
        "nameOverride": text,
        "fullnameOverride": "yes",
        "persistence": {"storageClassName": text},
        "serviceAccount": {"name": text},
        **dict.fromkeys(("priorityClassName", "schedulerName", "runtimeClassName"), text),
        "metrics": {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule")},
        **{name: {"enabled": True} for name in ("networkPolicy", "podDisruptionBudget", "dashboards")},
    }
    manifests = render(values, release=text, namespace=text)
    assert tools.kubernetes_errors(manifests, [KUBERNETES[0]]) == []
    others = render(
        {
            "metrics": {"podMonitor": {"enabled": True, "jobLabel": text, "namespace": text}},
            "persistence": {"existingClaim": text},
        },
        namespace=text,
    )
    assert tools.kubernetes_errors(others, [KUBERNETES[0]]) == []
    assert tools.operator_errors([one for one in manifests + others if one["kind"].endswith("Monitor")]) == []
    (name,) = {one["metadata"]["namespace"] for one in manifests + others}
    assert name == text


def test_a_release_that_has_the_charts_name_is_not_named_twice(render: Rendering) -> None:
    """`helm install batch-job-controller` makes objects of that name; nameOverride and fullnameOverride change it."""
    assert of_kind(render(release="batch-job-controller"), "StatefulSet")["metadata"]["name"] == "batch-job-controller"
    assert of_kind(render({"nameOverride": "x"}), "StatefulSet")["metadata"]["name"] == "rel-x"
    assert of_kind(render({"fullnameOverride": "y"}), "StatefulSet")["metadata"]["name"] == "y"


def test_extras_are_added_with_templates(render: Rendering) -> None:
    """Volumes, mounts, containers before and beside, objects as maps and as text."""
    manifests = render(yaml.safe_load((CHART / "ci" / "everything-values.yaml").read_text()))
    spec = pod_of(manifests)["spec"]
    assert volumes_of(manifests)["ca"]["configMap"]["name"] == "rel-ca"
    assert container_of(manifests)["volumeMounts"][-1]["mountPath"] == "/etc/ssl/own"
    assert spec["initContainers"][0]["command"] == ["first", "jobs"]
    assert [container["name"] for container in spec["containers"]] == ["controller", "beside"]
    assert of_kind(manifests, "ConfigMap", "rel-ca")["data"] == {"ca.crt": "none"}
    assert of_kind(manifests, "ConfigMap", "submitter-text")["data"] == {"namespace": "jobs"}
    plain = render()
    assert "initContainers" not in pod_of(plain)["spec"]
    assert [one["metadata"]["name"] for one in plain if one["kind"] == "ConfigMap"] == ["rel-batch-job-controller"]


def test_the_chart_can_be_part_of_another(tools: Tools, render: Rendering, tmp_path: Path) -> None:
    """A parent chart's `global` values pass the strict schema."""
    import shutil

    parent = tmp_path / "parent"
    shutil.copytree(render.chart, parent / "charts" / "batch-job-controller")
    (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 1.0.0\n")
    values = {"global": {"region": "x"}, "batch-job-controller": render.least}
    assert of_kind(tools.render(parent, values), "StatefulSet")


def test_the_tests_pod_can_be_left_out(render: Rendering) -> None:
    """tests.enabled makes the hook's pod; it stays after its end, so that its output can be read."""
    assert "Pod" not in kinds(render({"tests": {"enabled": False}}))
    annotations = of_kind(render({"tests": {"annotations": {"a": "b"}}}), "Pod")["metadata"]["annotations"]
    assert annotations == {"helm.sh/hook": "test", "helm.sh/hook-delete-policy": "before-hook-creation", "a": "b"}


def test_the_tests_hook_can_be_changed_and_no_key_comes_twice(tools: Tools, render: Rendering) -> None:
    """Of two equal keys YAML knows only one, and Kubernetes refuses them."""
    own = {"helm.sh/hook-delete-policy": "hook-succeeded", "helm.sh/hook-weight": "5"}
    given = json.dumps(merged(render.least, {"tests": {"annotations": own}}))
    kubernetes = f"{KUBERNETES[0]}.0"
    text = tools.run_helm(
        "template", "rel", str(render.chart), "--kube-version", kubernetes, "--values", "-", given=given
    )
    assert [text.count(f"{key}:") for key in ("helm.sh/hook", *own)] == [1, 1, 1]
    assert of_kind(loaded(text), "Pod")["metadata"]["annotations"] == {"helm.sh/hook": "test", **own}


def test_loaded_leaves_empty_documents_out() -> None:
    """A template that makes nothing makes no object."""
    assert loaded("---\n# nothing\n---\nkind: A\n") == [{"kind": "A"}]
