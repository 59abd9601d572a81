"""Values that can't work are refused before anything is installed, in words that name the value and the remedy."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from helm.generate import documented
from tests.chart.conftest import Rendering
from tests.chart.tools import CHART, KUBERNETES, ROOT, Manifest, Refused, Tools, container_of, merged

SECURITY = ROOT / "docs" / "security.md"

FAILS: dict[str, tuple[dict[str, Any], str, str]] = {
    "two pods on one store": ({"replicas": 2}, "replicas: 2 pods", "set replicas to 1"),
    "no image": ({"image": {"repository": ""}}, "image.repository: must be given", "where you pushed the image"),
    "a tag in the repository": (
        {"image": {"repository": "localhost:5000/batch-job-controller:1.2"}},
        "image.repository: localhost:5000/batch-job-controller:1.2 has a tag",
        "put 1.2 into image.tag",
    ),
    "no queue": ({"config": {"intake": {"queue_urls": []}}}, "config.intake.queue_urls: must be given", "the URLs of"),
    "a store beside the volume": (
        {"config": {"store": {"url": "sqlite:////data/state.db"}}},
        "config.store.url: sqlite:////data/state.db is not on the pod's volume",
        "leave it out",
    ),
    "a hidden store": (
        {"env": [{"name": "BATCH_CONTROLLER_STORE__URL", "value": "sqlite:////x.db"}]},
        "env: BATCH_CONTROLLER_STORE__URL would be hidden",
        "set config.store.url instead",
    ),
    "a hidden port": (
        {"env": [{"name": "BATCH_CONTROLLER_HTTP__PORT", "value": "1"}]},
        "env: BATCH_CONTROLLER_HTTP__PORT would be hidden",
        "set config.http.port instead",
    ),
    "any port": ({"config": {"http": {"port": 0}}}, "config.http.port: 0 takes a free port", "give a number"),
    "loopback": (
        {"config": {"http": {"host": "127.0.0.1"}}},
        "config.http.host: 127.0.0.1 can't be reached by the kubelet's probes",
        "say by networkPolicy who may, and leave it out",
    ),
    "another loopback": (
        {"config": {"http": {"host": "127.0.0.2"}}},
        "config.http.host: 127.0.0.2 can't be reached by the kubelet's probes",
        "leave it out",
    ),
    "killed while it drains": (
        {"terminationGracePeriodSeconds": 30},
        "terminationGracePeriodSeconds: 30 s is not above config.controller.drain_s (30 s)",
        "leave it out, or give 60",
    ),
    "killed while it drains for longer": (
        {"terminationGracePeriodSeconds": 90, "config": {"controller": {"drain_s": 90.5}}},
        "terminationGracePeriodSeconds: 90 s is not above config.controller.drain_s (91 s)",
        "give 121",
    ),
    "a claim that is not used": (
        {"persistence": {"enabled": False, "existingClaim": "mine"}},
        "persistence.existingClaim: is not used",
        "set persistence.enabled to true",
    ),
    "annotations of no account": (
        {"serviceAccount": {"create": False, "annotations": {"eks.amazonaws.com/role-arn": "arn"}}},
        "serviceAccount.annotations, serviceAccount.labels: do nothing",
        "set it to true",
    ),
    "two kinds of budget": (
        {"podDisruptionBudget": {"enabled": True, "minAvailable": 0, "maxUnavailable": 0}},
        "podDisruptionBudget: Kubernetes takes minAvailable or maxUnavailable",
        "leave one out",
    ),
    "samples taken twice": (
        {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
        "metrics.podMonitor.enabled: with metrics.serviceMonitor.enabled every sample would be taken twice",
        "enable one of them",
    ),
    "a monitor of no Service": (
        {"metrics": {"serviceMonitor": {"enabled": True}, "service": {"enabled": False}}},
        "metrics.serviceMonitor.enabled: needs metrics.service.enabled",
        "use metrics.podMonitor",
    ),
    "a scrape longer than its interval": (
        {"metrics": {"serviceMonitor": {"enabled": True, "interval": "9s", "scrapeTimeout": "10s"}}},
        "metrics.serviceMonitor.scrapeTimeout: 10s is longer than metrics.serviceMonitor.interval (9s)",
        "leave it out, or give at most 9s",
    ),
    "a scrape of a pod longer than its interval": (
        {"metrics": {"podMonitor": {"enabled": True, "interval": "1m", "scrapeTimeout": "1m0s1ms"}}},
        "metrics.podMonitor.scrapeTimeout: 1m0s1ms is longer than metrics.podMonitor.interval (1m)",
        "leave it out, or give at most 1m",
    ),
    "an alert that is not there": (
        {"metrics": {"prometheusRule": {"disabledAlerts": ["NoSuchAlert"]}}},
        "metrics.prometheusRule.disabledAlerts: no alert is called NoSuchAlert",
        "the alerts are ",
    ),
    "a limit below the request by default": (
        {"resources": {"limits": {"memory": "128Mi"}}},
        "resources.requests.memory: 192Mi is more than resources.limits.memory (128Mi)",
        "give at most 128Mi",
    ),
    "a limit of another unit below the request": (
        {"resources": {"limits": {"cpu": 0.05}}},
        "resources.requests.cpu: 100m is more than resources.limits.cpu (0.05)",
        "give at most 0.05",
    ),
    "no name server": ({"dnsPolicy": "None"}, "dnsPolicy: None leaves the pod without", "give dnsConfig.nameservers"),
    "another selector": (
        {"commonLabels": {"app.kubernetes.io/name": "x"}},
        "commonLabels: app.kubernetes.io/name selects the pods",
        "set nameOverride",
    ),
    "a checksum of one's own": (
        {"podAnnotations": {"checksum/config": "x"}},
        "podAnnotations: checksum/config is the chart's own",
        "leave it out",
    ),
    "a checksum by a template": (
        {"podAnnotations": {"checksum/{{ print `config` }}": "x"}},
        "podAnnotations: checksum/config is the chart's own",
        "give it another key",
    ),
    **{
        f"a second volume {name}": (
            {"extraVolumes": [{"name": name, "emptyDir": {}}]},
            f"extraVolumes: {name} is a volume of the chart's own",
            "give yours another name",
        )
        for name in ("config", "state", "tmp")
    },
    "a second volume by a template": (
        {"extraVolumes": [{"name": "{{ print `state` }}", "emptyDir": {}}]},
        "extraVolumes: state is a volume of the chart's own",
        "give yours another name",
    ),
    "a mount of the chart's volume": (
        {"extraVolumeMounts": [{"name": "tmp", "mountPath": "/own"}]},
        "extraVolumeMounts: tmp is a volume of the chart's own",
        "name one of extraVolumes",
    ),
    **{
        f"a mount at {path}": (
            {"extraVolumes": [{"name": "a", "emptyDir": {}}], "extraVolumeMounts": [{"name": "a", "mountPath": path}]},
            f"extraVolumeMounts: the chart mounts a volume of its own at {own}",
            "mount a at another path",
        )
        for path, own in (
            ("/tmp", "/tmp"),
            ("/var/lib/batch-controller/", "/var/lib/batch-controller"),
            ("/etc/batch-controller", "/etc/batch-controller"),
            # A ConfigMap's volume is read-only: nothing can be mounted inside of it.
            ("/etc/batch-controller/more.yaml", "/etc/batch-controller"),
        )
    },
    "a second container controller": (
        {"extraContainers": [{"name": "controller", "image": "x"}]},
        "extraContainers: controller is the chart's own container",
        "give yours another name",
    ),
    "a container controller before it": (
        {"extraInitContainers": [{"name": "controller", "image": "x"}]},
        "extraInitContainers: controller is the chart's own container",
        "give yours another name",
    ),
    "another selector of the pod": (
        {"podLabels": {"app.kubernetes.io/component": "x"}},
        "podLabels: app.kubernetes.io/component selects the pods",
        "leave it out",
    ),
}


@pytest.mark.parametrize("name", FAILS)
def test_what_cannot_work_is_refused_with_the_remedy(render: Rendering, name: str) -> None:
    """One line names the value, what is wrong with it, and what to do."""
    values, problem, remedy = FAILS[name]
    with pytest.raises(Refused) as refused:
        render(values)
    lines = [line for line in refused.value.said.splitlines() if line.startswith("  - ")]
    assert len(lines) == 1, refused.value.said
    assert problem in lines[0]
    assert remedy in lines[0]


@pytest.mark.parametrize(
    ("release", "values", "called", "better"),
    [
        ("my.rel", {}, "my.rel-batch-job-controller", "my-rel-batch-job-controller"),
        ("2nd", {}, "2nd-batch-job-controller", "nd-batch-job-controller"),
        ("rel", {"nameOverride": "a.b"}, "rel-a.b", "rel-a-b"),
        ("rel", {"fullnameOverride": "3.a"}, "3.a", "a"),
        ("rel", {"fullnameOverride": "42"}, "42", "batch-job-controller"),
    ],
)
def test_a_name_that_no_service_can_have_is_refused(
    render: Rendering, release: str, values: dict[str, Any], called: str, better: str
) -> None:
    """Helm takes releases with dots and leading digits; the name that is proposed works."""
    with pytest.raises(Refused) as refused:
        render(values, release=release)
    assert f"fullnameOverride: the objects would be called {called}, and a Service's name" in refused.value.said
    assert f"set fullnameOverride, to {better} say\n" in refused.value.said
    assert render({**values, "fullnameOverride": better}, release=release)


def test_the_page_on_security_recommends_nothing_that_is_refused(render: Rendering) -> None:
    """The loopback is for hosts, and the page says that the chart does not take it; what it names instead works."""
    (paragraph,) = [part for part in SECURITY.read_text().split("\n\n") if "http.host: 127.0.0.1" in part]
    told = " ".join(paragraph.split())
    assert "On a host without Kubernetes, `http.host: 127.0.0.1`" in told
    assert "In a pod that can't be: the kubelet's probes come to the pod's address, and the chart refuses it." in told
    assert "`networkPolicy.metricsFrom`" in told
    assert render({"networkPolicy": {"enabled": True, "metricsFrom": [{"podSelector": {}}]}})


def test_all_problems_are_told_at_once(tools: Tools, render: Rendering) -> None:
    """The values of the chart alone lack what must be given; both engines say so."""
    with pytest.raises(Refused) as refused:
        tools.render(render.chart, {"replicas": 3})
    said = refused.value.said
    assert all(value in said for value in ("replicas:", "image.repository:", "config.intake.queue_urls:"))
    with pytest.raises(AssertionError) as refused_too:
        tools.render_with_helm_4(render.chart, [{"replicas": 3}])
    assert "set replicas to 1" in str(refused_too.value)


def test_the_queue_may_come_from_the_environment(render: Rendering) -> None:
    """By its variable, or from a Secret or ConfigMap that can't be looked into."""
    for values in (
        {"env": [{"name": "BATCH_CONTROLLER_INTAKE__QUEUE_URLS", "value": "[]"}]},
        {"envFrom": [{"secretRef": {"name": "queues"}}]},
    ):
        assert render({"config": {"intake": {"queue_urls": []}}, **values})


@pytest.mark.parametrize(
    ("request_", "limit"),
    [("100m", 0.1), ("1Gi", 1073741824), ("1G", "1Gi"), ("2Ti", "1Pi"), ("1e9", "1G"), ("900M", "1Gi"), (1, "1500m")],
)
def test_a_request_that_the_limit_holds_is_taken(render: Rendering, request_: Any, limit: Any) -> None:
    """In whatever unit each of them is; one alone is, too."""
    for resources in ({"requests": {"a/b": request_}, "limits": {"a/b": limit}}, {"limits": {"a/b": limit}}):
        assert container_of(render({"resources": resources}))["resources"]["limits"]["a/b"] == limit


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown value": ({"replicaCount": 1}, "replicaCount"),
    "unknown member": ({"image": {"name": "x"}}, "name"),
    "unknown section of the configuration": ({"config": {"submitt": {}}}, "submitt"),
    "unknown key of the configuration": ({"config": {"submit": {"rate": 5}}}, "rate"),
    "key of the wrong type": ({"config": {"submit": {"rate_per_s": "fast"}}}, "rate_per_s"),
    "key out of range": ({"config": {"intake": {"visibility_timeout_s": 50000}}}, "visibility_timeout_s"),
    "an ARN where the policy has names": (
        {"config": {"policy": {"allowed_job_queues": ["arn:aws:batch:eu-central-1:111122223333:job-queue/high"]}}},
        "allowed_job_queues",
    ),
    "unknown sink": ({"config": {"sinks": [{"type": "kafka"}]}}, "type"),
    "unknown limit of a queue": ({"config": {"queues": {"high": {"max": 1}}}}, "max"),
    "digest that is none": ({"image": {"digest": "sha256:short"}}, "digest"),
    "access by many nodes": ({"persistence": {"accessMode": "ReadWriteMany"}}, "accessMode"),
    "size without unit": ({"persistence": {"size": "8"}}, "size"),
    "number as a label": ({"podLabels": {"a": 1}}, "podLabels"),
    "render mode": ({"metrics": {"renderMode": "maybe"}}, "renderMode"),
    "a duration that Prometheus does not read": ({"metrics": {"serviceMonitor": {"interval": "5s1m"}}}, "interval"),
    "more than one success of a probe of life": ({"livenessProbe": {"successThreshold": 2}}, "livenessProbe"),
    "more than one success of a probe of the start": ({"startupProbe": {"successThreshold": 2}}, "startupProbe"),
    "a grace period of readiness": ({"readinessProbe": {"terminationGracePeriodSeconds": 5}}, "readinessProbe"),
    "negative replicas": ({"replicas": -1}, "replicas"),
    "toleration with a typing error": ({"tolerations": [{"keys": "a"}]}, "keys"),
    "variable without a name": ({"env": [{"value": "a"}]}, "name"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_schema_refuses(tools: Tools, render: Rendering, name: str) -> None:
    """Unknown, of the wrong type or out of range: the message names the value. Helm 4 refuses too."""
    values, named = BAD[name]
    with pytest.raises(Refused) as refused:
        render(values)
    assert "values don't meet the specifications of the schema" in refused.value.said
    assert named in refused.value.said


def test_helm_4_refuses_what_helm_3_refuses(tools: Tools, render: Rendering) -> None:
    """Each of the bad values, one by one."""
    taken = tools.taken_by_helm_4(render.chart, [merged(render.least, values) for values, _ in BAD.values()])
    assert dict(zip(BAD, taken, strict=True)) == dict.fromkeys(BAD, False)
    assert tools.taken_by_helm_4(render.chart, [render.least]) == [True]


_ALL_ON: dict[str, Any] = {
    "metrics": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
    **{name: {"enabled": True} for name in ("dashboards", "networkPolicy", "podDisruptionBudget")},
}
_SECTIONS = ["image", "serviceAccount", "persistence", "podDisruptionBudget", "metrics", "dashboards", "links", "tests"]


def test_a_value_taken_away_is_none_or_required(tools: Tools, render: Rendering) -> None:
    """null takes a default away, and the schema does not see it: what is rendered without is taken by Kubernetes, and
    all else is refused by name, never by a template that ends in the middle."""

    def without(key: str) -> list[Manifest] | str:
        nothing: Any = None
        for part in reversed(key.split(".")):
            nothing = {part: nothing}
        try:
            return render(merged(_ALL_ON, nothing))
        except Refused as refused:
            return refused.said

    keys = [value.key for value in documented((CHART / "values.yaml").read_text())]
    keys += [*_SECTIONS, "networkPolicy", "config.intake", "metrics.service", "metrics.podMonitor"]
    with ThreadPoolExecutor(2) as threads:
        answers = dict(zip(keys, threads.map(without, keys), strict=True))
    refused = {key: said for key, said in answers.items() if isinstance(said, str)}
    unclear = {
        key: said
        for key, said in refused.items()
        if f"{key.rpartition('.')[2]} is required" not in said and f"  - {key}" not in said
    }
    assert unclear == {}
    assert {"startupProbe", "persistence.enabled", "replicas", "metrics.podMonitor", *_SECTIONS} <= set(refused)
    assert not {"commonLabels", "podLabels", "persistence.labels", "resources", "tests.annotations"} & set(refused)
    rendered = {key: found for key, found in answers.items() if not isinstance(found, str)}
    distinct = {json.dumps(one): one for found in rendered.values() for one in found}
    assert tools.kubernetes_errors(list(distinct.values()), [KUBERNETES[0]]) == []
