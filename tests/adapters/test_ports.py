"""The adapters are what the ports ask for; mypy checks the assignments."""

from __future__ import annotations

from controller.adapters.batch import Batch
from controller.adapters.clock import SystemClock
from controller.adapters.sinks import DeadLetterSink, LogSink, SqsSink
from controller.adapters.sqs import Queue
from controller.adapters.sts import Account
from controller.ports import AccountApi, BatchApi, Clock, EventSink, MessageSource

BATCH: type[BatchApi] = Batch
SOURCE: type[MessageSource] = Queue
ACCOUNT: type[AccountApi] = Account
SINKS: tuple[type[EventSink], ...] = (LogSink, SqsSink, DeadLetterSink)
CLOCK: type[Clock] = SystemClock


async def test_system_clock_never_runs_backwards() -> None:
    """Monotonic time passes while sleeping, and wall time is the epoch's."""
    clock = SystemClock()
    began_at = clock.monotonic()
    await clock.sleep(0.001)
    assert clock.monotonic() - began_at >= 0.001
    assert clock.now() > 1_700_000_000
