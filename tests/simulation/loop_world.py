"""What a harness gives to a run and keeps of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.loop_errors import CallAfterDeath
from tests.simulation.loop_process import CURRENT_PROCESS

MAX_STEPS = 20_000_000
MAX_STEPS_AT_ONCE = 1_000_000
"""Steps at one instant: a loop that spins never lets time pass."""
MAX_VIRTUAL_S = 366 * 86_400.0


@dataclass(slots=True)
class World:
    """What a harness keeps of a run; may be passed to one run after another, as lives of the same world."""

    is_dead: bool = False
    """Set before the first task is abandoned, cleared when the next run begins."""
    steps: int = 0
    now: float = 0.0
    calls_after_death: list[str] = field(default_factory=list)
    """Always empty, unless code of the dead ran."""

    def check_alive(self, call: str) -> None:
        """For fakes, at the start of each call: raises CallAfterDeath if the caller's process or the world is dead."""
        process = CURRENT_PROCESS.get()
        if self.is_dead or (process is not None and process.is_dead):
            self.calls_after_death.append(call)
            raise CallAfterDeath(call)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where a run ends by itself; steps and time count from the start or the last ``note_progress``."""

    steps: int = MAX_STEPS
    steps_at_once: int = MAX_STEPS_AT_ONCE
    virtual_s: float = MAX_VIRTUAL_S
    kill_at_step: int | None = None
