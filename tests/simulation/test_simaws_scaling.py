"""The simulated compute environment: it orders what waits, up to its maximum, and gives back what is idle."""

from __future__ import annotations

import pytest

from controller.simaws.batch_scaling import Scaling
from controller.simaws.cloud import SimAws
from controller.simaws.profile import Profile

START = 1_000_000.0


@pytest.fixture
def sim() -> SimAws:
    sim = SimAws(profile=Profile(running_s=(300.0, 300.0)))
    sim.advance(START)
    sim.add_job_queue("q")
    sim.add_job_definition("d")
    return sim


def _submit(sim: SimAws, count: int, at: float) -> None:
    for number in range(count):
        sim.call("SubmitJob", {"jobName": f"j{number}", "jobQueue": "q", "jobDefinition": "d"}, now=START + at)


def _counts(sim: SimAws, at: float) -> tuple[int, int]:
    """(waiting, having a vCPU)."""
    sim.call("DescribeJobs", {"jobs": ["none"]}, now=START + at)
    jobs = [job.status_at(START + at) for job in sim.batch.queues["q"].jobs]
    return jobs.count("RUNNABLE"), jobs.count("RUNNING")


def test_what_waits_is_ordered_and_comes_later(sim: SimAws) -> None:
    """From nothing: ten jobs wait for the look and the instances, then all run at once."""
    sim.scale_job_queue("q", Scaling(vcpus_max=100))
    _submit(sim, 10, 1.0)
    assert _counts(sim, 170.0) == (10, 0)
    assert _counts(sim, 250.0) == (0, 10)


def test_no_more_than_its_maximum_comes(sim: SimAws) -> None:
    """The rest waits for those that end."""
    scaling = Scaling(vcpus_max=4)
    sim.scale_job_queue("q", scaling)
    _submit(sim, 10, 1.0)
    assert _counts(sim, 250.0) == (6, 4)
    assert max(vcpus for _, vcpus in scaling.changes) == 4


def test_what_is_ordered_is_not_ordered_twice(sim: SimAws) -> None:
    """Looks while instances are on their way order nothing for the same jobs."""
    scaling = Scaling(vcpus_max=100)
    sim.scale_job_queue("q", scaling)
    _submit(sim, 10, 1.0)
    _counts(sim, 280.0)
    assert [vcpus for _, vcpus in scaling.changes] == [0, 10]


def test_what_is_idle_is_given_back(sim: SimAws) -> None:
    """Down to the minimum, some time after the last job has ended, and not before."""
    scaling = Scaling(vcpus_max=100, vcpus_min=2)
    sim.scale_job_queue("q", scaling)
    _submit(sim, 10, 1.0)
    _counts(sim, 600.0)
    assert scaling.changes[-1][1] == 10
    _counts(sim, 3_000.0)
    assert scaling.changes[-1][1] == 2
