"""What surrounds the pod: Services, monitors, rules, dashboards, network policy, disruption budget; on and off."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.chart.conftest import Rendering
from tests.chart.tools import Manifest, Refused, kinds, of_kind, pod_of

_LABELS = {
    "app.kubernetes.io/name": "batch-job-controller",
    "app.kubernetes.io/instance": "rel",
}


def test_by_default_nothing_is_made_that_needs_more_than_kubernetes(render: Rendering) -> None:
    """The smallest installation: the pod with its identity, configuration, Services and test."""
    assert kinds(render()) == {"ServiceAccount", "ConfigMap", "Service", "StatefulSet", "Pod"}


# --- Services -----------------------------------------------------------------------------------------


def test_the_stateful_set_has_its_headless_service(render: Rendering) -> None:
    """The Service that the StatefulSet names exists, is headless, and knows pods that are not ready."""
    manifests = render()
    name = of_kind(manifests, "StatefulSet")["spec"]["serviceName"]
    service = of_kind(manifests, "Service", name)
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_the_service_for_metrics(render: Rendering) -> None:
    """Reaches a pod that is not ready, for then its metrics are wanted most; can be shaped and left out."""
    service = of_kind(render(), "Service", "controller")
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["ports"] == [{"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}]
    assert not {"ipFamilies", "ipFamilyPolicy"} & set(service["spec"])
    shaped = {
        "annotations": {"a": "b"},
        "labels": {"c": "d"},
        "ipFamilyPolicy": "PreferDualStack",
        "ipFamilies": ["IPv6"],
    }
    service = of_kind(render({"metrics": {"service": shaped}}), "Service", "controller")
    assert service["metadata"]["annotations"] == {"a": "b"}
    assert service["metadata"]["labels"]["c"] == "d"
    assert (service["spec"]["ipFamilyPolicy"], service["spec"]["ipFamilies"]) == ("PreferDualStack", ["IPv6"])
    left = [one for one in render({"metrics": {"service": {"enabled": False}}}) if one["kind"] == "Service"]
    assert len(left) == 1


# --- monitors -----------------------------------------------------------------------------------------


def test_the_service_monitor_selects_one_service(render: Rendering) -> None:
    """The metrics Service and not the headless one, or every sample would come twice; also from another namespace."""
    manifests = render(
        {"metrics": {"serviceMonitor": {"enabled": True, "namespace": "monitoring", "labels": {"release": "p"}}}}
    )
    monitor = of_kind(manifests, "ServiceMonitor")
    selector = monitor["spec"]["selector"]["matchLabels"]
    services = [one for one in manifests if one["kind"] == "Service"]
    met = [one["metadata"]["name"] for one in services if selector.items() <= one["metadata"]["labels"].items()]
    assert met == ["rel-batch-job-controller"]
    assert monitor["metadata"]["namespace"] == "monitoring"
    assert monitor["metadata"]["labels"]["release"] == "p"
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["jobs"]}
    # Without it, `job` is the Service's name: two releases of one namespace are told apart.
    assert "jobLabel" not in monitor["spec"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint == {"port": "http", "path": "/metrics", "interval": "30s", "honorLabels": False}


def test_the_pod_monitor_selects_the_pod(render: Rendering) -> None:
    """By the port's name in the container."""
    manifests = render({"metrics": {"podMonitor": {"enabled": True}}})
    monitor = of_kind(manifests, "PodMonitor")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod_of(manifests)["metadata"]["labels"].items()
    assert monitor["spec"]["podMetricsEndpoints"][0]["port"] == "http"
    assert monitor["metadata"]["namespace"] == "jobs"


@pytest.mark.parametrize(
    ("value", "kind", "endpoints"),
    [("serviceMonitor", "ServiceMonitor", "endpoints"), ("podMonitor", "PodMonitor", "podMetricsEndpoints")],
)
def test_how_a_monitor_scrapes_can_be_said(render: Rendering, value: str, kind: str, endpoints: str) -> None:
    """Interval, time-out, relabelings of target and samples."""
    how = {
        "interval": "5s",
        "scrapeTimeout": "4s",
        "honorLabels": True,
        "relabelings": [{"targetLabel": "a", "replacement": "b"}],
        "metricRelabelings": [{"regex": "x", "action": "labeldrop"}],
    }
    monitor = of_kind(render({"metrics": {value: {"enabled": True, "jobLabel": "team", **how}}}), kind)
    assert monitor["spec"]["jobLabel"] == "team"
    assert monitor["spec"][endpoints] == [{"port": "http", "path": "/metrics", **how}]


@pytest.mark.parametrize("how", [{"interval": "5s"}, {"interval": "1m30s", "scrapeTimeout": "90s"}])
def test_a_scrape_never_takes_longer_than_its_interval(render: Rendering, how: dict[str, str]) -> None:
    """A short interval brings no longer time-out along, which the operator would refuse; as long as it may be given."""
    for value, kind, endpoints in (
        ("serviceMonitor", "ServiceMonitor", "endpoints"),
        ("podMonitor", "PodMonitor", "podMetricsEndpoints"),
    ):
        (endpoint,) = of_kind(render({"metrics": {value: {"enabled": True, **how}}}), kind)["spec"][endpoints]
        assert {name: endpoint[name] for name in ("interval", "scrapeTimeout") if name in endpoint} == how


_OPERATOR: dict[str, Any] = {
    "ServiceMonitor": {"serviceMonitor": {"enabled": True}},
    "PodMonitor": {"podMonitor": {"enabled": True}},
    "PrometheusRule": {"prometheusRule": {"enabled": True}},
}


@pytest.mark.parametrize("kind", _OPERATOR)
def test_a_value_and_not_the_cluster_alone_decides_what_is_rendered(render: Rendering, kind: str) -> None:
    """alwaysRender does not ask; skipIfMissing and failIfMissing do."""
    api = ["--api-versions", f"monitoring.coreos.com/v1/{kind}"]

    def rendered(mode: str, *arguments: str) -> set[str]:
        return kinds(render({"metrics": {"renderMode": mode, **_OPERATOR[kind]}}, *arguments))

    assert kind in rendered("alwaysRender")
    assert kind not in rendered("skipIfMissing")
    assert kind in rendered("skipIfMissing", *api)
    assert kind in rendered("failIfMissing", *api)
    with pytest.raises(Refused) as refused:
        rendered("failIfMissing")
    assert (
        f"the cluster does not know monitoring.coreos.com/v1 {kind}; install the Prometheus Operator"
        in refused.value.said
    )


# --- rules and dashboards -----------------------------------------------------------------------------


def source_groups(render: Rendering) -> list[dict[str, Any]]:
    files = sorted((render.chart / "files" / "rules").glob("*.yaml"))
    return [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]


def rule_of(render: Rendering, **values: Any) -> Manifest:
    return of_kind(render({"metrics": {"prometheusRule": {"enabled": True, **values}}}), "PrometheusRule")


def test_the_rules_are_the_files(render: Rendering) -> None:
    """Every group of every file, unchanged: Prometheus's own templates are not taken for helm's."""
    assert rule_of(render)["spec"]["groups"] == source_groups(render)
    assert "{{" in json.dumps(rule_of(render)["spec"])


def test_alerts_get_labels_and_can_be_left_out(render: Rendering) -> None:
    """alertLabels are on alerts and not on recording rules; a disabled alert is gone, all else stays."""
    rules = [rule for group in source_groups(render) for rule in group["rules"]]
    alerts = [rule["alert"] for rule in rules if "alert" in rule]
    labelled = [r for g in rule_of(render, alertLabels={"team": "batch"})["spec"]["groups"] for r in g["rules"]]
    assert [rule.get("labels", {}).get("team") for rule in labelled] == [
        "batch" if "alert" in r else None for r in rules
    ]
    groups = rule_of(render, disabledAlerts=alerts[:1])["spec"]["groups"]
    left = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert left == [name for name in alerts if name != alerts[0]]


def test_groups_of_ones_own_are_added(render: Rendering) -> None:
    """After the chart's, with labels and annotations of the object as asked."""
    own = {"name": "own", "rules": [{"record": "a:b", "expr": "1"}]}
    rule = rule_of(render, extraGroups=[own], namespace="monitoring", labels={"release": "p"}, annotations={"a": "b"})
    assert rule["spec"]["groups"][-1] == own
    assert len(rule["spec"]["groups"]) == len(source_groups(render)) + 1
    assert rule["metadata"]["namespace"] == "monitoring"
    assert rule["metadata"]["labels"]["release"] == "p"
    assert rule["metadata"]["annotations"] == {"a": "b"}


def test_each_dashboard_is_a_config_map_that_grafana_finds(render: Rendering) -> None:
    """With the sidecar's label, its text byte for byte the file's."""
    files = {path.name: path.read_text() for path in (render.chart / "files" / "dashboards").glob("*.json")}
    manifests = render({"dashboards": {"enabled": True}})
    found = [one for one in manifests if one["metadata"]["labels"].get("grafana_dashboard") == "1"]
    texts = {name: text for one in found for name, text in one["data"].items()}
    assert texts == {f"batch-job-controller-{name}": text for name, text in files.items()}
    assert all(json.loads(text)["title"] for text in texts.values())
    assert all(len(text) < 1_000_000 for text in texts.values())
    shaped = {
        "enabled": True,
        "label": "ours",
        "labelValue": "yes",
        "namespace": "grafana",
        "annotations": {"f": "Batch"},
    }
    (one, *_) = [one for one in render({"dashboards": shaped}) if one["metadata"]["labels"].get("ours") == "yes"]
    assert one["metadata"]["namespace"] == "grafana"
    assert one["metadata"]["annotations"] == {"f": "Batch"}
    assert not [one for one in render() if "grafana_dashboard" in one["metadata"]["labels"]]


def test_links_lead_to_ones_own_places(render: Rendering) -> None:
    """The placeholders in alerts and dashboards are replaced by the addresses given, each by itself."""
    monitoring = {"metrics": {"prometheusRule": {"enabled": True}}, "dashboards": {"enabled": True}}
    links = {"runbooks": "https://wiki.own/run/", "grafana": "https://grafana.own", "logs": "https://logs.own"}
    text = json.dumps(render({**monitoring, "links": links}))
    assert "https://wiki.own/run/BatchController" in text
    assert "https://grafana.own/d/" in text
    assert "https://logs.own" in text
    assert not [name for name in links if f"https://{name}.example.com" in text]
    some = json.dumps(render({**monitoring, "links": {"grafana": "https://grafana.own"}}))
    assert "https://runbooks.example.com" in some
    assert "https://grafana.example.com" not in some


# --- network and disruption ---------------------------------------------------------------------------


def policy_of(render: Rendering, **values: Any) -> Manifest:
    policy: Manifest = of_kind(render({"networkPolicy": {"enabled": True, **values}}), "NetworkPolicy")["spec"]
    return policy


def test_the_network_policy_lets_out_dns_https_and_the_identity_agent(render: Rendering) -> None:
    """Nothing else, and in only to the port."""
    policy = policy_of(render)
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    ports = [sorted({port["port"] for port in rule["ports"]}) for rule in policy["egress"]]
    assert ports == [[53], [443], [80]]
    agent = {peer["ipBlock"]["cidr"] for peer in policy["egress"][2]["to"]}
    assert agent == {"169.254.170.23/32", "fd00:ec2::23/128"}
    assert len(policy_of(render, podIdentityAgent=False)["egress"]) == 2


def test_the_network_policy_can_be_narrowed_and_widened(render: Rendering) -> None:
    """Peers for metrics, DNS and HTTPS; further rules; the test's pod stays let in."""
    peer = {"podSelector": {"matchLabels": {"a": "b"}}}
    extra = {"ports": [{"port": 1, "protocol": "TCP"}]}
    policy = policy_of(
        render, metricsFrom=[peer], dnsTo=[peer], httpsTo=[peer], extraIngress=[extra], extraEgress=[extra]
    )
    test_pod = {"podSelector": {"matchLabels": {**_LABELS, "app.kubernetes.io/component": "test"}}}
    assert policy["ingress"][0]["from"] == [peer, test_pod]
    assert policy["ingress"][1] == policy["egress"][3] == extra
    assert policy["egress"][0]["to"] == policy["egress"][1]["to"] == [peer]
    labels = of_kind(render(), "Pod")["metadata"]["labels"]
    assert test_pod["podSelector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"maxUnavailable": 1}),
        ({"maxUnavailable": "50%"}, {"maxUnavailable": "50%"}),
        ({"maxUnavailable": 0}, {"maxUnavailable": 0}),
        ({"minAvailable": 1}, {"minAvailable": 1}),
        ({"minAvailable": 0}, {"minAvailable": 0}),
    ],
)
def test_the_disruption_budget(render: Rendering, given: dict[str, Any], expected: dict[str, Any]) -> None:
    """As given, by default one pod may be away; a pod that is not ready never stops a drain of its node."""
    spec = of_kind(render({"podDisruptionBudget": {"enabled": True, **given}}), "PodDisruptionBudget")["spec"]
    assert {key: value for key, value in spec.items() if key.endswith("vailable")} == expected
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert "PodDisruptionBudget" not in kinds(render())
