"""The container at work: restricted as in production, on a simulated AWS."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

from controller.simaws.process import SimProcess
from tests.container.podman import Engine
from tests.container.service import ContainerService
from tests.e2e.service import assert_one_job_each, bodies, free_port, get_json, request, wait_for

Make = Callable[..., ContainerService]


def sample(metrics: str, name: str, **labels: str) -> float:
    """The value of one series of the text format."""
    for line in metrics.splitlines():
        if line.startswith(f"batch_controller_{name}") and all(
            f'{key}="{value}"' in line for key, value in labels.items()
        ):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no series {name} {labels}")


def test_every_request_is_carried_out_once_and_reported(service: Make, sim: SimProcess) -> None:
    """Read-only, without capabilities, in 256 MB: requests end SUCCEEDED, bad ones are dead letters, metrics agree."""
    controller = service()
    controller.start()
    controller.wait_ready()
    controller.send([*bodies(60), *bodies(60), json.dumps(request(99, jobQueue="")), "not JSON"])
    finals = controller.wait_finals(62)
    outcomes = sorted(event["outcome"] for event in finals.values())
    assert outcomes == ["rejected"] * 2 + ["succeeded"] * 60
    assert_one_job_each(sim, [f"r{number}" for number in range(60)])
    assert len(controller.dead_letters()) == 2
    metrics = controller.metrics()
    assert sample(metrics, "requests_received_total", outcome="accepted") == 60
    assert sample(metrics, "requests_received_total", outcome="duplicate") == 60
    assert sample(metrics, "jobs_finished_total", job_queue="high", outcome="succeeded") == 60
    assert get_json(f"http://127.0.0.1:{controller.port}/livez")[0] == 200


def test_a_command_in_the_container_asks_the_controller_there(service: Make) -> None:
    """As ``kubectl exec`` does it: without a shell, found by the image's own PATH, over the container's loopback."""
    controller = service()
    controller.start()
    controller.wait_ready()
    controller.send(bodies(2))
    controller.wait_finals(2)
    ask = ("exec", controller.running.id, "batch-controller")
    url = ("--url", f"http://127.0.0.1:{controller.port}")
    (life,) = json.loads(controller.engine.podman(*ask, "show", "r0", "--json", *url))["lives"]
    assert life["outcome"] == "succeeded"
    assert controller.engine.podman(*ask, "list", "--state", "SUCCEEDED", "--ids", *url).split() == ["r0", "r1"]


def test_sigterm_drains_and_ends_with_0(service: Make) -> None:
    """``podman stop`` sends SIGTERM to the process itself, which says that it drains and leaves with 0."""
    controller = service()
    controller.start()
    controller.wait_ready()
    assert controller.stop() == 0
    logged = [json.loads(line)["event"] for line in controller.log_tail().splitlines() if line.startswith("{")]
    assert logged[-3:] == ["signal received", "draining", "stopped"]


def test_a_container_that_is_stopped_while_it_starts_ends_at_once(service: Make) -> None:
    """Process 1 gets no signal that it does not ask for: SIGTERM before the controller listens is heard, too."""
    controller = service(options=("--cpus", "0.1"))  # a tenth of a core: the start takes seconds
    controller.start()
    process = Path(f"/proc/{controller.running.process_id}")

    def hears_sigterm() -> bool:
        """The controller, that is: runc's own start, in the same process, catches every signal and drops it."""
        if b"batch-controller" not in (process / "cmdline").read_bytes():
            return False
        caught = int((process / "status").read_text().partition("SigCgt:")[2].split()[0], 16)
        return bool(caught & 1 << signal.SIGTERM - 1)

    wait_for(hears_sigterm, what="SIGTERM is listened to")
    controller.engine.podman("kill", "--signal", "TERM", controller.running.id)
    assert controller.running.exit_code(within_s=25) == 0
    assert "started" not in controller.log_tail()


def test_the_volume_remembers_what_a_killed_container_knew(engine: Engine, service: Make, sim: SimProcess) -> None:
    """After SIGKILL, a new container on the same volume follows the jobs to their ends and submits none again."""
    volume = engine.podman("volume", "create").strip()
    try:
        first = service(options=(f"--volume={volume}:/var/lib/batch-controller",))
        first.start()
        first.wait_ready()
        first.send(bodies(20, containerOverrides={"environment": [{"name": "SIM_SECONDS", "value": "8"}]}))
        wait_for(lambda: len(first.events_named("job.submitted")) >= 10, what="ten jobs submitted")
        first.kill()
        first.close()
        second = service(options=(f"--volume={volume}:/var/lib/batch-controller",), SUBMIT__SETTLE_S=5)
        second.start()
        second.send(bodies(20, containerOverrides={"environment": [{"name": "SIM_SECONDS", "value": "8"}]}))
        finals = second.wait_finals(20)
        assert {event["outcome"] for event in finals.values()} == {"succeeded"}
        assert_one_job_each(sim, [f"r{number}" for number in range(20)])
        second.close()
    finally:
        engine.podman("volume", "rm", "--force", volume)


def test_a_wrong_configuration_ends_the_container_with_2(engine: Engine, image: str) -> None:
    """Without a queue it says what is missing and leaves with the exit code of a wrong configuration."""
    with engine.run(image, options=["--network", "none", "--read-only"]) as container:
        assert container.exit_code() == 2
        assert "queue" in container.logs()[1]


def test_the_port_is_reached_from_outside(engine: Engine, image: str) -> None:
    """It listens on every address of the container: a published port answers, and is alive though AWS is not there."""
    variables = ["AWS_ENDPOINT_URL=http://127.0.0.1:9", "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=x",
                 "AWS_SECRET_ACCESS_KEY=x"]  # fmt: skip
    port = free_port()
    options = ["--publish", f"127.0.0.1:{port}:8080", "--read-only", *(f"--env={each}" for each in variables)]
    with engine.run(image, "run", "--queue-url", "http://127.0.0.1:9/1/q", options=options) as container:

        def live() -> int:
            assert container.is_running(), container.logs()[1]
            try:
                return get_json(f"http://127.0.0.1:{port}/livez")[0]
            except OSError:
                return 0

        assert wait_for(live, what="an answer through the published port") == 200
        assert get_json(f"http://127.0.0.1:{port}/readyz")[0] == 503
