"""How a simulated run can end other than with its result. Each message names seed, step and virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class SimulationEnd(Exception):
    """Raised out of ``run``; no code of the application runs after it."""

    def __init__(self, reason: str, *, seed: object, step: int, now: float, standing: Sequence[str] = ()) -> None:
        self.reason = reason
        self.seed = seed
        self.step = step
        """Steps taken before the end."""
        self.now = now
        """Virtual seconds, as ``loop.time()``."""
        self.standing = tuple(standing)
        """One line per task that was not finished: its process, its name and where it stood."""
        lines = [f"{reason} (seed {seed!r}, step {step}, time {now})", *self.standing]
        super().__init__("\n  ".join(lines))

    def __reduce__(self) -> tuple[Callable[..., SimulationEnd], tuple[object, ...]]:
        """Ends cross process borders: a sweep may be spread over several."""
        return _rebuild, (type(self), self.reason, self.seed, self.step, self.now, self.standing)


class SimulationKilled(SimulationEnd):
    """The world was stopped at the step asked for."""


class SimulationDeadlock(SimulationEnd):
    """Nothing is ready, no timer is set, and the main coroutine has not returned."""


class SimulationRunaway(SimulationEnd):
    """Too many steps or too much virtual time without an end or noted progress."""


class SimulationUnhandled(SimulationEnd):
    """Something failed and nobody looked: a callback, a task or a process; the failure is the cause."""


def _rebuild(
    kind: type[SimulationEnd], reason: str, seed: object, step: int, now: float, standing: Sequence[str]
) -> SimulationEnd:
    return kind(reason, seed=seed, step=step, now=now, standing=standing)


class RefusedInSimulation(RuntimeError):
    """The application asked for something a deterministic run can't give: a thread, a socket, a subprocess, a
    signal handler, a pipe. Ends the run even if the caller swallows it."""


class CallAfterDeath(BaseException):
    """A fake was called by code of a dead process or world. Not an ``Exception``: a stage loop must not carry on."""
