"""What goes wrong in a world, begun and ended at the times that its scenario says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from controller.simaws.faults import Fault
from tests.simulation.disk import Trouble
from tests.simulation.pods import Pod, terminate
from tests.simulation.scenario import BLOCKED_REASONS

if TYPE_CHECKING:
    from tests.simulation.scenario import Disruption
    from tests.simulation.world import SimWorld


def switch_on(world: SimWorld) -> None:
    """The faults that may strike at any time."""
    scenario = world.scenario
    world.sim.faults.update({"calls": scenario.call_faults, "service": scenario.service_faults})
    for operation, faults in scenario.scripted.items():
        world.sim.faults.script(operation, [None if fault is None else Fault(fault) for fault in faults])
    for name, probability in scenario.network_faults.items():
        if name == "stdout_breaks_p":
            world.stdout.breaks_p = probability
        else:
            setattr(world.network, name, probability)


def heal(world: SimWorld) -> None:
    """From now on nothing goes wrong."""
    world.is_healed = True
    world.sim.faults.clear()
    world.network.heal()
    world.stdout.breaks_p = 0.0
    world.stdout.is_down = False
    world.disk.trouble = None
    world.disk.slow_s = 0.0
    world.clock_offset_s = 0.0
    world.account = world.sim.account
    for pod in [pod for pod in world.pods if pod.is_wanted][:-1]:
        pod.is_wanted = False
        terminate(world, pod)
    for name in world.sim.batch.queues:
        world.sim.set_job_queue(name, state="ENABLED", status="VALID")
        _unblock(world, name)


def begin(world: SimWorld, disruption: Disruption) -> None:
    """Start a disruption and see to its end."""
    if world.is_healed:
        return
    world.met[disruption.kind] += 1
    end = _KINDS[disruption.kind](world, disruption)
    if end is not None:
        world.loop.call_later(disruption.for_s, _unless_healed, world, end)


def _unless_healed(world: SimWorld, end: Callable[[], None]) -> None:
    if not world.is_healed:
        end()


End = Callable[[], None] | None


def _queue_disabled(world: SimWorld, d: Disruption) -> End:
    world.sim.set_job_queue(d.what, state="DISABLED")
    return lambda: world.sim.set_job_queue(d.what, state="ENABLED")


def _queue_invalid(world: SimWorld, d: Disruption) -> End:
    world.sim.set_job_queue(d.what, status="UPDATING")
    return lambda: world.sim.set_job_queue(d.what, status="VALID")


def _queue_blocked(world: SimWorld, d: Disruption) -> End:
    """Batch places no job of the queue, and says why of the one at its head."""
    world.sim.block_job_queue(d.what, BLOCKED_REASONS[int(d.size * len(BLOCKED_REASONS))])
    return lambda: _unblock(world, d.what)


def _unblock(world: SimWorld, name: str) -> None:
    if world.sim.batch.queues[name].blocked_reason is not None:
        world.sim.block_job_queue(name, None)
        world.sim.set_job_queue_slots(name, world.scenario.job_queues[name])


def _credentials_expired(world: SimWorld, d: Disruption) -> End:
    plan = world.sim.faults
    plan.are_credentials_expired = True
    return lambda: setattr(plan, "are_credentials_expired", False)


def _credentials_slow(world: SimWorld, d: Disruption) -> End:
    """The SDK renews its credentials, and that takes its time."""
    world.network.credentials_at = world.loop.time() + d.for_s
    return None


def _denied(what: Callable[[Disruption], str]) -> Callable[[SimWorld, Disruption], End]:
    def deny(world: SimWorld, d: Disruption) -> End:
        operation = what(d)
        world.sim.faults.denied.add(operation)
        return lambda: world.sim.faults.denied.discard(operation)

    return deny


def _undescribed(world: SimWorld, d: Disruption) -> End:
    plan = world.sim.faults
    plan.undescribed.add(d.what)
    return lambda: plan.undescribed.discard(d.what)


def _indescribable(world: SimWorld, d: Disruption) -> End:
    plan = world.sim.faults
    plan.indescribable.add(d.what)
    return lambda: plan.indescribable.discard(d.what)


def _calls(operation: str, **chances: float) -> Callable[[SimWorld, Disruption], End]:
    def strike(world: SimWorld, d: Disruption) -> End:
        calls = world.sim.faults.calls
        before = calls.get(operation)
        world.sim.faults.set_call(operation, chances)

        def restore() -> None:
            if before is None:
                calls.pop(operation, None)
            else:
                calls[operation] = before

        return restore

    return strike


def _rate_lowered(world: SimWorld, d: Disruption) -> End:
    service = world.sim.faults.service
    service.rate_factor = 0.05 + 0.3 * d.size
    return lambda: setattr(service, "rate_factor", 1.0)


def _stdout_down(world: SimWorld, d: Disruption) -> End:
    world.stdout.is_down = True
    return lambda: setattr(world.stdout, "is_down", False)


def _disk(trouble: Trouble) -> Callable[[SimWorld, Disruption], End]:
    def strike(world: SimWorld, d: Disruption) -> End:
        world.disk.trouble = trouble
        return lambda: setattr(world.disk, "trouble", None)

    return strike


def _disk_slow(world: SimWorld, d: Disruption) -> End:
    world.disk.slow_s = 0.01 + 0.5 * d.size
    return lambda: setattr(world.disk, "slow_s", 0.0)


def _clock_jump(world: SimWorld, d: Disruption) -> End:
    """Back or forth; beyond five minutes AWS refuses every call.

    A smaller jump that comes with a restart adds to the time for which a job counts as missing, so those drawn at
    random are smaller than the least ``track.lost_after_s``. The default of 600 s is safe by itself: from one end of
    what AWS accepts to the other it is as much.
    """
    world.clock_offset_s = (d.size - 0.5) * (2_000.0 if d.size > 0.85 or d.size < 0.15 else 280.0)
    return lambda: setattr(world, "clock_offset_s", 0.0)


def _sigterm(world: SimWorld, d: Disruption) -> End:

    for pod in world.pods:
        terminate(world, pod)
    return None


def _other_account(world: SimWorld, d: Disruption) -> End:
    """The next start gets another account's credentials, if the store is known to belong to one."""
    if not any(line.event["event"] == "job.submitted" for line in world.stdout.lines):
        return None
    world.account = "999999999999"
    for pod in world.pods:
        if pod.process is not None:
            pod.process.kill()
    return lambda: setattr(world, "account", world.sim.account)


def _other_account_at_first_job(world: SimWorld, d: Disruption) -> End:
    """In the step in which a first job is reported as submitted, the process dies; the next has other credentials."""
    stdout = world.stdout

    def watched(block: bytes) -> None:
        if b'"job.submitted"' in block and not world.is_healed:
            stdout.watch = lambda block: None
            _other_account(world, d)

    stdout.watch = watched
    return lambda: setattr(world, "account", world.sim.account)


def _kill(world: SimWorld, d: Disruption) -> End:
    for pod in world.pods:
        if pod.process is not None:
            pod.process.kill()
    return None


def _outage(world: SimWorld, d: Disruption) -> End:
    """Nothing runs for a while."""
    for pod in world.pods:
        pod.is_wanted = False
        if pod.process is not None:
            pod.process.kill()

    def end() -> None:
        new = Pod(f"pod-{len(world.pods) + 1}", restart_s=world.scenario.restart_s)
        world.pods.append(new)
        world.start_pod(new)

    if d.at + d.for_s >= world.scenario.faults_end_s - 0.1:
        end()
        return None
    return end


def _rolling(world: SimWorld, d: Disruption) -> End:
    """A second pod starts while the first lives; then the first is told to stop."""
    old = [pod for pod in world.pods if pod.is_wanted]
    new = Pod(f"pod-{len(world.pods) + 1}", restart_s=world.scenario.restart_s)
    world.pods.append(new)
    world.start_pod(new)

    def stop_old() -> None:
        for pod in old:
            pod.is_wanted = False
            terminate(world, pod)

    world.loop.call_later(d.for_s * 0.5, stop_old)
    return None


def _amnesia(world: SimWorld, d: Disruption) -> End:
    """Batch forgets some of the jobs that were reported as submitted."""
    rng = world.random("amnesia")
    batch = world.sim.batch
    known = sorted({line.event["job_id"] for line in world.stdout.lines if line.event["event"] == "job.submitted"})
    for job_id in known:
        job = batch.jobs.get(job_id)
        if job is not None and rng.random() < 0.3:
            world.forgotten[job_id] = (world.aws_now(), job)
            del batch.jobs[job_id]
            job.queue.forget([job])
    return None


_KINDS: dict[str, Callable[[SimWorld, Disruption], End]] = {
    "queue_disabled": _queue_disabled,
    "queue_invalid": _queue_invalid,
    "queue_blocked": _queue_blocked,
    "snapshot_denied": _denied(lambda d: "GetJobQueueSnapshot"),
    "environments_denied": _denied(lambda d: "DescribeComputeEnvironments"),
    "list_denied": _denied(lambda d: "ListJobs"),
    "credentials_expired": _credentials_expired,
    "credentials_slow": _credentials_slow,
    "submit_denied": _denied(lambda d: "SubmitJob"),
    "pair_denied": _denied(lambda d: f"SubmitJob/{d.what}/work"),
    "tag_denied": _denied(lambda d: f"SubmitJob#{d.what}"),
    "undescribed": _undescribed,
    "indescribable": _indescribable,
    "delete_denied": _denied(lambda d: "DeleteMessageBatch"),
    "throttle_burst": _calls("SubmitJob", throttle=1.0),
    "submit_hangs": _calls("SubmitJob", hang=0.5, hang_after=0.5),
    "submit_silent": _calls("SubmitJob", hang=1.0),
    "submit_outage": _calls("SubmitJob", error_500=0.5, error_500_after=0.5),
    "rate_lowered": _rate_lowered,
    "stdout_down": _stdout_down,
    "disk_broken": _disk(Trouble.BROKEN),
    "disk_full": _disk(Trouble.FULL),
    "disk_locked": _disk(Trouble.LOCKED),
    "disk_flaky": _disk(Trouble.FLAKY),
    "disk_slow": _disk_slow,
    "clock_jump": _clock_jump,
    "sigterm": _sigterm,
    "kill": _kill,
    "rolling": _rolling,
    "outage": _outage,
    "other_account": _other_account,
    "other_account_at_first_job": _other_account_at_first_job,
    "amnesia": _amnesia,
}
