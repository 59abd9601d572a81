"""Requests that touch everything a dashboard shows: good, failing, array, cancelled, expired, waiting for another one,
invalid, conflicting, held, throttled and lost in doubt."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from controller.simaws.process import SimProcess
from tests.e2e.service import Service, request

FAULTS = {
    "calls": {
        "SubmitJob": {"throttle": 0.08, "error_503": 0.04, "reset_after": 0.03},
        "DescribeJobs": {"throttle": 0.08},
    }
}


WAITS_S = 20
"""For how long a request waits for one that never comes: some scrapes."""


def ending(code: int, **more: str) -> dict[str, Any]:
    """Overrides of a job that ends with this exit code."""
    variables = {"SIM_EXIT": str(code), **more}
    return {"containerOverrides": {"environment": [{"name": n, "value": v} for n, v in variables.items()]}}


class Feed:
    """Sends one mixed round after another; ids never repeat but on purpose."""

    def __init__(self, service: Service, sim: SimProcess) -> None:
        self._service = service
        self._sim = sim
        self._numbers = itertools.count()

    def trouble(self, *, held: str) -> None:
        """From now on calls fail now and then, and the job queue ``held`` is disabled."""
        self._sim.control("faults", FAULTS)
        self._sim.control("job-queues", {"name": held, "state": "DISABLED"})

    def calm(self, *, held: str) -> None:
        self._sim.control("faults", method="DELETE")
        self._sim.control("job-queues", {"name": held, "state": "ENABLED"})

    def round(self, size: int, *, failing: int = 0, held: str | None = None) -> None:
        """``size`` good requests and some of every other kind."""
        bodies = [*self._good(size), *self._failing(failing), *self._odd()]
        if held is not None:
            bodies += [self._body(jobQueue=held) for _ in range(3)]
        self._service.send(bodies)

    def _good(self, count: int) -> Iterator[str]:
        queues = itertools.cycle(["high", "high", "nightly"])
        return (self._body(jobQueue=next(queues)) for _ in range(count))

    def _failing(self, count: int) -> Iterator[str]:
        kinds = [ending(3), ending(137, SIM_ENDING="out-of-memory"), ending(1, SIM_ENDING="spot"), ending(2)]
        return (self._body(jobQueue="nightly", **kinds[n % len(kinds)]) for n in range(count))

    def _odd(self) -> Iterator[str]:
        yield self._body(arrayProperties={"size": 6})
        yield self._body(expiresAt="2020-01-01T00:00:00Z")
        soon = (datetime.now(UTC) + timedelta(seconds=WAITS_S)).isoformat(timespec="seconds")
        yield self._body(dependsOn=[{"requestId": "never-sent"}], expiresAt=soon)
        yield "not json"
        yield self._body(jobDefinition="missing")
        known = next(self._numbers)
        yield json.dumps(request(known))
        yield json.dumps(request(known))
        yield json.dumps(request(known, jobName="another"))
        yield json.dumps({"action": "cancel", "requestId": f"r{known}"})

    def _body(self, **members: Any) -> str:
        return json.dumps(request(next(self._numbers), **members))
