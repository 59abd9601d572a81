"""What goes wrong in a run, drawn from its seed: random subsets of faults, changed every few seconds.

Each operation of the simulated AWS has its own faults and every fault of ``controller.simaws.faults`` has its turn;
beside them whole stretches: credentials expired, a sink refused, a job queue disabled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import Any, Final

from controller.simaws.faults import Fault
from tests.chaos.plan import TOTAL_RATE_PER_S, Timings

Json = dict[str, Any]
Control = Callable[[str, Json], object]
Met = Callable[[], Mapping[str, Collection[str]]]

READS: Final = ("DescribeJobs", "ListJobs", "DescribeJobQueues", "GetCallerIdentity")
OPERATIONS: Final = (
    "SubmitJob",
    *READS,
    "TerminateJob",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibilityBatch",
    "SendMessageBatch",
)
"""What the controller calls. The harness itself sends with SendMessage, which is left alone."""
FREQUENT: Final = (
    "SubmitJob",
    "DescribeJobs",
    "ListJobs",
    "ReceiveMessage",
    "DeleteMessageBatch",
    "SendMessageBatch",
)
"""A long run meets every fault of these."""
STRUCK_MAX: Final = 5
"""Different faults of one operation at a time."""
LONG_PAUSES: Final = frozenset({Fault.ACCESS_DENIED, Fault.EXPIRED_TOKEN})
"""The controller answers these with pauses of 15 s and more: rare, or nothing else would be seen."""
SWITCHED_S: Final = (1.5, 5.0)
CLEAR_P: Final = 0.2
STRETCH_P: Final = 0.35
STRETCH_S: Final = (2.0, 7.0)


def faults_of(operation: str) -> list[Fault]:
    return [fault for fault in Fault if fault is not Fault.LATE or operation == "SubmitJob"]


def _chances(operation: str, fault: Fault, *, is_new: bool) -> tuple[float, float]:
    """Bounds of a fault's probability: what is called or met seldom is struck often. Five of them are below 1."""
    if operation == "SubmitJob":
        return (0.005, 0.02) if fault in LONG_PAUSES else (0.02, 0.1)
    if is_new or operation not in FREQUENT:
        return (0.1, 0.19)
    return (0.02, 0.06) if fault in LONG_PAUSES else (0.05, 0.15)


class Weather:
    """Turned by the run's loop.

    ``control`` posts to the simulated AWS; ``met`` says which outcomes each operation has had: what has not struck yet
    comes first.
    """

    def __init__(self, *, seed: int, timings: Timings, control: Control, met: Met) -> None:
        self._random = Random(f"{seed}/weather")
        self._timings = timings
        self._control = control
        self._met = met
        self._decks: dict[str, list[Fault]] = {}
        """Faults of an operation whose turn comes next, so that all come round."""
        self._switch_at = 0.0
        self._stretch_ends_at = 0.0
        self._stretches: list[Callable[[], None]] = []
        self.switches = 0
        self.switched_on: set[str] = set()
        """Stretches and service faults that were switched on."""

    def turn(self, now: float) -> None:
        """``now``: monotonic seconds."""
        if now >= self._stretch_ends_at > 0:
            self._end_stretch()
        if now >= self._switch_at:
            self._switch_at = now + self._random.uniform(*SWITCHED_S)
            self.switches += 1
            self._control("faults", self._drawn())
            if not self._stretch_ends_at and self._random.random() < STRETCH_P:
                self._begin_stretch(now)

    def clear(self) -> None:
        """From now on nothing goes wrong."""
        self._end_stretch()
        self._control("faults", {"calls": {name: {} for name in OPERATIONS}, "service": _FAIR})

    # --- faults -------------------------------------------------------------------------------------------

    def _drawn(self) -> Json:
        if self._random.random() < CLEAR_P:
            return {"calls": {name: {} for name in OPERATIONS}, "service": _FAIR}
        met = self._met()
        return {"calls": {name: self._calls(name, met) for name in OPERATIONS}, "service": self._service()}

    def _calls(self, operation: str, met: Mapping[str, Collection[str]]) -> Mapping[str, float]:
        """Probabilities of a few faults of one operation, together less than 1."""
        deck = self._decks.setdefault(operation, [])
        if len(deck) < STRUCK_MAX:
            known = met.get(operation, ())
            shuffled = self._random.sample(faults_of(operation), len(faults_of(operation)))
            deck[:0] = sorted(shuffled, key=lambda fault: fault.value not in known)  # taken from the end
        struck = {deck.pop() for _ in range(self._random.choice((1, 3, STRUCK_MAX)))}
        known = met.get(operation, ())
        return {
            fault.value: self._random.uniform(*_chances(operation, fault, is_new=fault.value not in known))
            for fault in sorted(struck)
        }

    def _service(self) -> Json:
        random, late_s = self._random, self._timings.late_s_max
        drawn = {
            "describe_omits_p": random.choice((0.0, 0.05, 0.15)),
            "sqs_entry_fails_p": random.choice((0.0, 0.1, 0.3)),
            "sqs_duplicate_p": random.choice((0.0, 0.1, 0.3)),
            "sqs_undelete_p": random.choice((0.0, 0.05, 0.2)),
            "sqs_reorder_p": random.choice((0.0, 0.5, 1.0)),
            "sqs_empty_receive_p": random.choice((0.0, 0.2, 0.5)),
            "event_drop_p": random.choice((0.0, 0.1, 0.5)),
            "event_duplicate_p": random.choice((0.0, 0.3)),
            "event_delay_p": random.choice((0.0, 0.3)),
        }
        if random.random() < 0.2:
            drawn["rate_factor"] = random.uniform(2 / TOTAL_RATE_PER_S, 0.5)
        self.switched_on |= {name for name, value in drawn.items() if value}
        return {
            **_FAIR,
            **drawn,
            "late_s": [0.1, late_s],
            "slow_s": [0.1, 2.5],
            "hang_s": random.choice((3.0, 3.0, 3_600.0)),
            "sqs_undelete_s": [0.0, self._timings.undelete_s_max],
            "event_delay_s": [1.0, 20.0],
        }

    # --- stretches ----------------------------------------------------------------------------------------

    def _begin_stretch(self, now: float) -> None:
        if not self._stretches:
            self._stretches = [self._expire, self._deny_sink, self._deny_intake, self._deny_pair, self._disable]
            self._random.shuffle(self._stretches)
        self._stretches.pop()()
        self._stretch_ends_at = now + self._random.uniform(*STRETCH_S)

    def _end_stretch(self) -> None:
        self._stretch_ends_at = 0.0
        self._control("faults", {"denied": [], "are_credentials_expired": False})
        self._control("job-queues", {"name": "flaky", "state": "ENABLED", "status": "VALID"})

    def _deny(self, *operations: str) -> None:
        self.switched_on |= {f"denied {name}" for name in operations}
        self._control("faults", {"denied": list(operations)})

    def _expire(self) -> None:
        self.switched_on.add("credentials expired")
        self._control("faults", {"are_credentials_expired": True})

    def _deny_sink(self) -> None:
        self._deny("SendMessageBatch")

    def _deny_intake(self) -> None:
        self._deny(self._random.choice(("ReceiveMessage", "DeleteMessageBatch")))

    def _deny_pair(self) -> None:
        self._deny("SubmitJob/high/spare")

    def _disable(self) -> None:
        change = self._random.choice(({"state": "DISABLED"}, {"status": "INVALID"}))
        self.switched_on.add("job queue not ENABLED and VALID")
        self._control("job-queues", {"name": "flaky", **change})


_FAIR: Final[Json] = {
    "describe_omits_p": 0.0,
    "sqs_entry_fails_p": 0.0,
    "sqs_duplicate_p": 0.0,
    "sqs_undelete_p": 0.0,
    "sqs_reorder_p": 0.0,
    "sqs_empty_receive_p": 0.0,
    "event_drop_p": 0.0,
    "event_duplicate_p": 0.0,
    "event_delay_p": 0.0,
    "rate_factor": 1.0,
}
