"""Where the application runs, and how it is told to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.application import Application
from tests.simulation.loop_process import Process, context_of

if TYPE_CHECKING:
    from tests.simulation.world import SimWorld

EXIT_SLACK_S = 3.0
"""What a drained process may take beyond its grace time: calls of the store that can't be abandoned."""


@dataclass(slots=True, eq=False)
class Pod:
    """A place where the application is started again whenever it ends, as Kubernetes does."""

    name: str
    lives: int = 0
    process: Process | None = None
    application: Application | None = None
    is_wanted: bool = True
    restart_s: float = 0.5


def terminate(world: SimWorld, pod: Pod) -> None:
    """SIGTERM, and SIGKILL when the grace time is over."""
    process, application = pod.process, pod.application
    if process is None or process.is_dead:
        return
    if application is None:
        process.kill()
        return
    world.loop.call_soon(application.drain.request, context=context_of(process))
    grace_s = world.settings.controller.drain_s + EXIT_SLACK_S
    world.loop.call_later(grace_s, _kill_late, world, process)


def _kill_late(world: SimWorld, process: Process) -> None:
    if not process.is_dead:
        if world.is_healed:
            world.problems.append(f"drain in time: {process.name} did not end within its grace time")
        process.kill()
