"""The rendered pod, run: podman plays it against a served simulated AWS, one request goes through it, it is stopped and
started again on its volume, and the pod of `helm test` looks at it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import yaml

from controller.simaws.process import SimProcess
from tests.chart.conftest import Rendering
from tests.chart.tools import Manifest, container_of, of_kind, pod_of
from tests.container.podman import Engine, Failed, Unavailable
from tests.e2e.service import free_port, get_json, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

RELEASE = f"chart-test-{os.getpid()}"
POD = f"{RELEASE}-0"


@pytest.fixture(scope="module")
def engine() -> Engine:
    """Skips loudly where containers can't be run; fails in CI."""
    try:
        return Engine.ready()
    except Unavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(f"containers can't be run: {error}")


@pytest.fixture(scope="module")
def sim() -> Iterator[SimProcess]:
    with SimProcess(["--job-queue", "high", "--job-definition", "work", "--sqs-queue", "requests"]) as process:
        yield process


@pytest.fixture(scope="module")
def manifests(render: Rendering, engine: Engine, sim: SimProcess) -> list[Manifest]:
    """The chart as a user would install it, on the image of this repository."""
    repository, _, tag = engine.build().rpartition(":")
    port = free_port()
    values = {
        "fullnameOverride": RELEASE,
        "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
        "config": {
            "aws": {"region": sim.ready["region"]},
            "intake": {"queue_urls": [sim.queue_urls["requests"]]},
            "http": {"port": port},
            "track": {"interval_s_min": 0.2, "interval_s_max": 1},
            # Not the image's own name, which is in its environment.
            "store": {"url": "sqlite:////var/lib/batch-controller/played.db"},
        },
        "env": [
            {"name": "AWS_ENDPOINT_URL", "value": sim.url},
            {"name": "AWS_ACCESS_KEY_ID", "value": "simulated"},
            {"name": "AWS_SECRET_ACCESS_KEY", "value": "simulated"},
        ],
        "metrics": {"service": {"port": port}},
    }
    return render(values, release=RELEASE)


def playable(manifests: list[Manifest], pod: Manifest, volumes: list[Manifest], *, are_bound: bool = False) -> str:
    """What podman can play of a pod: its ConfigMap and claims as they are, the pod with three changes.

    The pod is on the host's network, where the simulated AWS is (podman then takes no list of ports); its probes are
    left out, because podman makes them commands inside of the container, where there is no curl (the test asks them
    from outside, as a kubelet does); and its annotations, because podman takes none longer than 63 characters.
    ``are_bound``: the claims have their volumes already.
    """
    spec = json.loads(json.dumps(pod["spec"]))
    spec["hostNetwork"] = True
    for container in spec["containers"]:
        for name in ("startupProbe", "livenessProbe", "readinessProbe", "ports"):
            container.pop(name, None)
    claims = [{**one, "metadata": {**one["metadata"], "name": f"{one['metadata']['name']}-{POD}"}} for one in volumes]
    spec["volumes"] = [
        *spec.get("volumes", []),
        *(
            {
                "name": one["metadata"]["name"],
                "persistentVolumeClaim": {"claimName": f"{one['metadata']['name']}-{POD}"},
            }
            for one in volumes
        ),
    ]
    metadata = {name: pod["metadata"][name] for name in ("name", "labels")}
    played = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    config = of_kind(manifests, "ConfigMap")
    return yaml.safe_dump_all([config, *([] if are_bound else claims), played])


class Played:
    """A pod that podman plays; started and stopped by the StatefulSet's own numbers."""

    def __init__(self, engine: Engine, manifests: list[Manifest], folder: Path) -> None:
        self.engine = engine
        self.manifests = manifests
        self.first = folder / "first.yaml"
        self.again = folder / "again.yaml"
        template = pod_of(manifests)
        named = {"metadata": {**template["metadata"], "name": POD}, "spec": template["spec"]}
        claims = of_kind(manifests, "StatefulSet")["spec"]["volumeClaimTemplates"]
        self.first.write_text(playable(manifests, named, claims))
        self.again.write_text(playable(manifests, named, claims, are_bound=True))
        self.container = f"{POD}-controller"
        self.claims = [f"{one['metadata']['name']}-{POD}" for one in claims]

    def start(self) -> None:
        self.engine.podman("kube", "play", str(self.first))

    def start_again(self) -> None:
        self.engine.podman("kube", "play", str(self.again))

    def stop(self) -> int:
        """As a kubelet does: SIGTERM, and SIGKILL after the grace period. The exit code."""
        grace_s = pod_of(self.manifests)["spec"]["terminationGracePeriodSeconds"]
        self.engine.podman("stop", "--time", str(grace_s), self.container, within_s=grace_s + 30)
        return int(self.engine.inspect("container", self.container)["State"]["ExitCode"])

    def remove(self) -> None:
        self.engine.podman("kube", "down", str(self.again))

    def probe(self, name: str) -> int:
        """Status of the answer to one of the container's probes; 0 if there is none."""
        container = container_of(self.manifests)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        get = container[name]["httpGet"]
        try:
            return get_json(f"http://127.0.0.1:{ports[get['port']]}{get['path']}")[0]
        except (URLError, OSError, ValueError):
            return 0

    def metrics(self) -> str:
        port = container_of(self.manifests)["ports"][0]["containerPort"]
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def events(self) -> list[dict[str, Any]]:
        lines = self.engine.podman("logs", self.container).splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"event":"')]

    def ends(self) -> list[dict[str, Any]]:
        return [event for event in self.events() if event["event"] == "job.finished"]

    def python(self, text: str) -> str:
        return self.engine.podman("exec", self.container, "python", "-c", text).strip()


@pytest.fixture(scope="module")
def played(
    engine: Engine, manifests: list[Manifest], sim: SimProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Played]:
    """The pod, ready, when it has taken one request to its end."""
    one = Played(engine, manifests, tmp_path_factory.mktemp("played"))
    try:
        one.start()
        wait_for(lambda: one.probe("startupProbe") == 200, what="the startup probe answers")
        wait_for(lambda: one.probe("readinessProbe") == 200, what="the pod is ready")
        send(sim, REQUEST)
        wait_for(one.ends, what="the job has finished")
        yield one
    finally:
        one.remove()
        # podman keeps the ConfigMap as a volume of its name.
        for volume in (*one.claims, RELEASE):
            engine.podman("volume", "rm", "--force", volume)


def send(sim: SimProcess, body: dict[str, Any]) -> None:
    message = {"QueueUrl": sim.queue_urls["requests"], "MessageBody": json.dumps(body)}
    headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.SendMessage"}
    with urlopen(Request(sim.url, json.dumps(message).encode(), headers), timeout=30) as answer:
        assert answer.status == 200


REQUEST = {"requestId": "hello-1", "jobName": "hello", "jobQueue": "high", "jobDefinition": "work"}


def sample(name: str) -> Callable[[str], float]:
    def value(metrics: str) -> float:
        return next((float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(name)), 0.0)

    return value


def test_the_pod_takes_a_request_to_its_end(played: Played) -> None:
    """Probes answer, one request becomes one job that succeeds, and the metrics say so."""
    assert [played.probe(f"{name}Probe") for name in ("startup", "liveness", "readiness")] == [200, 200, 200]
    assert [(event["request_id"], event["outcome"]) for event in played.ends()] == [("hello-1", "succeeded")]
    finished = sample('batch_controller_jobs_finished_total{job_queue="high",outcome="succeeded"}')
    assert finished(played.metrics()) == 1
    assert f'name="jobs.{RELEASE}"' in played.metrics()


def test_the_pod_is_what_the_profile_asks_for(played: Played) -> None:
    """In the kernel's words: the user, no capability, no new privileges, a read-only root, the store on its volume."""
    assert played.python("import os; print(os.getuid(), os.getgid())") == "65532 65532"
    status = played.python("print(open('/proc/1/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    for path in ("/", "/etc/batch-controller", "/opt/batch-controller"):
        with pytest.raises(Failed, match=r"Read-only file system|Permission denied"):
            played.python(f"open({path!r} + '/x', 'w')")
    assert played.python("import os; print(sorted(os.listdir('/var/lib/batch-controller')))").startswith("['played.db'")
    assert played.python("open('/tmp/x', 'w').write('y')") == ""
    assert played.python("import os; print(os.path.exists('/var/run/secrets/kubernetes.io'))") == "False"


def test_the_test_hook_passes(engine: Engine, played: Played, tmp_path: Path) -> None:
    """The pod of `helm test` finds /readyz well and the metrics there; on a wrong port it fails."""
    pod = of_kind(played.manifests, "Pod")
    port = container_of(played.manifests)["ports"][0]["containerPort"]
    for name, url_port, expected in (("well", port, 0), ("broken", free_port(), 1)):
        one = json.loads(json.dumps(pod))
        one["metadata"]["name"] = f"{RELEASE}-{name}"
        args = one["spec"]["containers"][0]["args"]
        one["spec"]["containers"][0]["args"] = [args[0], f"http://127.0.0.1:{url_port}", "2"]
        assert args[1] == f"http://{RELEASE}:{port}"  # the Service's name, which only a cluster knows
        file = tmp_path / f"{name}.yaml"
        file.write_text(playable(played.manifests, one, []))
        engine.podman("kube", "play", str(file))
        try:
            container = f"{RELEASE}-{name}-test"
            assert int(engine.podman("wait", container).strip()) == expected, engine.podman("logs", container)
        finally:
            engine.podman("kube", "down", str(file))


def test_a_restart_forgets_nothing(played: Played, sim: SimProcess) -> None:
    """SIGTERM ends it with 0 within its grace period; on the same volume it knows the request again."""
    began = time.monotonic()
    assert played.stop() == 0
    assert time.monotonic() - began < pod_of(played.manifests)["spec"]["terminationGracePeriodSeconds"]
    played.remove()
    played.start_again()
    wait_for(lambda: played.probe("readinessProbe") == 200, what="the pod is ready again")
    send(sim, REQUEST)
    duplicates = sample('batch_controller_requests_received_total{outcome="duplicate"}')
    wait_for(lambda: duplicates(played.metrics()) == 1, what="the duplicate is known")
    assert [event for event in played.events() if event["event"] == "job.submitted"] == []
