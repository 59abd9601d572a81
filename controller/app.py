"""The composition root: the only file that knows every concrete class.

Opens the real adapters, serves metrics and health, turns signals into a drain and errors into exit codes:
0 drained; 1 port in use, path unwritable, store locked, a stage given up; 2 wrong configuration, no Region, no source
of credentials, a store that is another account's, damaged, or newer.
"""

from __future__ import annotations

import gc
import os
import random
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

import anyio
import structlog
from anyio.abc import TaskStatus

from controller import __version__, logs
from controller.adapters.aws import Aws, open_aws
from controller.adapters.aws_door import Door
from controller.adapters.batch import Batch
from controller.adapters.batch_events import decode_event
from controller.adapters.batch_model import submit_job_shape
from controller.adapters.clock import SystemClock
from controller.adapters.loop_watch import WatchedSelector
from controller.adapters.ops_server import OpsServer
from controller.adapters.request_pages import RequestPages
from controller.adapters.runner import ThreadRunner, Unhurried
from controller.adapters.sinks import DeadLetterSink, LineWriter, LogSink, SqsSink, event_source
from controller.adapters.sqs import Queue
from controller.adapters.store.sqlite import open_sqlite_store
from controller.adapters.sts import Account
from controller.application import Application, Ports
from controller.config import Settings, routes
from controller.core.errors import (
    Misconfigured,
    OutwardError,
    StoreLocked,
    StoreMismatch,
    StoreUnavailable,
    StoreUnwritable,
)
from controller.core.text import escaped
from controller.health import Health
from controller.loop import Drain, StageGivenUp
from controller.metrics import Metrics, exposed
from controller.ports import DEAD_LETTER, Clock, EventSink, JobStore, MessageSource
from controller.stages.hints import RECEIVERS

EXIT_DRAINED: Final = 0
EXIT_FAILED: Final = 1
EXIT_MISCONFIGURED: Final = 2

LINGER_S: Final = 0.01
"""How long a commit waits for others to join it: a disk's flush costs as much for one row as for a hundred."""
COUNTED_WITHIN_S: Final = 2.0
"""For how long a scrape waits for the store; then it gets what was counted last. Prometheus gives up after 10 s, or the
scrape's own time-out, and would tell that the controller is gone."""
BATCH_CALLS_BESIDE: Final = 16
"""Batch calls beside DescribeJobs that may be under way: look-ups, queue questions, terminations."""
SQS_CALLS_BESIDE: Final = 16
"""SQS calls beside long polls: deletes and sends."""


def run(settings: Settings) -> int:
    """Run the controller until SIGTERM or SIGINT; the exit code. An error at start is one line on stderr."""
    try:
        selector = WatchedSelector()
        anyio.run(
            partial(_run, settings, selector), backend="asyncio", backend_options={"loop_factory": selector.event_loop}
        )
    except BaseExceptionGroup as group:
        return _ended_by(list(_leaves(group)))
    except Exception as error:
        return _ended_by([error])
    return EXIT_DRAINED


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _ended_by(errors: Sequence[BaseException]) -> int:
    """Exit code of what ended the process; the gravest error speaks. What nobody expected keeps its traceback."""
    for error in errors:
        if isinstance(error, StoreUnwritable):
            return _said(error, EXIT_FAILED)
        if isinstance(error, (Misconfigured, StoreMismatch)):
            return _said(error, EXIT_MISCONFIGURED)
    for error in errors:
        if isinstance(error, (StoreLocked, StoreUnavailable, StageGivenUp, OutwardError, OSError)):
            return _said(error, EXIT_FAILED)
    raise errors[0]


def _said(error: BaseException, code: int) -> int:
    logs.say(f"batch-controller: {escaped(str(error))}")
    return code


async def _run(settings: Settings, selector: WatchedSelector) -> None:
    """Signals are heard before anything is opened. One that comes before the application is there ends the start,
    which has received and sent nothing yet."""
    stop = _Stop()
    async with anyio.create_task_group() as tasks:
        await tasks.start(stop.listen)
        with stop.starting:
            await _opened(settings, selector, stop)
        tasks.cancel_scope.cancel()


async def _opened(settings: Settings, selector: WatchedSelector, stop: _Stop) -> None:
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        metrics = Metrics(name=settings.controller.name, sinks=_sink_names(settings))
        health = Health(clock)
        aws = await stack.enter_async_context(_aws(settings, clock))
        store = await stack.enter_async_context(_store(settings, metrics))
        events_url = settings.track.events_queue_url
        ports = Ports(
            clock=clock,
            store=store,
            batch=Batch(
                submit_client=aws.batch_submit,
                client=aws.batch,
                clock=clock,
                observe=metrics.observe_call,
                fetch_credentials=aws.fetch_credentials,
            ),
            account=Account(client=aws.sts, clock=clock, observe=metrics.observe_call, is_apart=aws.is_sts_apart),
            sources=[_queue(url, aws, clock, metrics) for url in settings.intake.queue_urls],
            sinks=_sinks(settings, aws, clock, metrics, stack),
            chance=random.random,
            batch_events=_queue(events_url, aws, clock, metrics) if events_url else None,
            decode_event=decode_event,
        )
        application = Application(
            settings, ports, shapes=submit_job_shape(), region=aws.region, metrics=metrics, health=health
        )
        server = OpsServer(
            settings.http.host,
            settings.http.port,
            metrics=_rendering(application, stack),
            live=health.is_live,
            ready=health.is_ready,
            requests=RequestPages(
                request=application.inspection.request,
                page=application.inspection.page,
                kept_s=settings.retention.final_s,
            ),
        )
        await stack.enter_async_context(server)
        stop.drain = application.drain
        # What was made until now stays for good: a full collection need not look at it again.
        gc.collect()
        gc.freeze()
        selector.watch(metrics.event_loop_stall_seconds.observe)
        await _serve(application, port=server.port)


def _rendering(application: Application, stack: AsyncExitStack) -> Callable[[], Awaitable[bytes]]:
    """``/metrics``: collected on the event loop in small steps, made into text in a thread. A disk that hangs must not
    keep Prometheus from the metrics that tell of it."""
    runner = ThreadRunner("metrics")
    stack.callback(runner.close)
    exposition = application.exposition
    counting = Unhurried(exposition.count)
    stack.push_async_callback(counting.close)

    async def rendered() -> bytes:
        await counting.within(COUNTED_WITHIN_S if exposition.has_counted else None)
        families = await exposition.collect()
        return await runner.run(partial(exposed, families))

    return rendered


async def _serve(application: Application, *, port: int) -> None:
    log = structlog.get_logger(stage="app")
    log.info("started", version=__version__, controller=application.settings.controller.name, http_port=port)
    await application.run()
    log.info("stopped")


class _Stop:
    """The first signal drains, or ends a start; a second one ends the process as the system would."""

    def __init__(self) -> None:
        self.starting = anyio.CancelScope()
        self.drain: Drain | None = None
        """The application's, once there is one."""

    async def listen(self, *, task_status: TaskStatus[None]) -> None:
        is_heard = False
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                if is_heard:
                    os._exit(128 + number)
                is_heard = True
                structlog.get_logger(stage="app").info("signal received", signal=signal.Signals(number).name)
                if self.drain is None:
                    self.starting.cancel()
                else:
                    self.drain.request()


# --- adapters ---------------------------------------------------------------------------------------------------


def _queue_urls(settings: Settings) -> list[str]:
    """Every SQS queue that is read from or written to."""
    dead_letters = settings.intake.dead_letter_queue_url
    return [
        *settings.intake.queue_urls,
        *([settings.track.events_queue_url] if settings.track.events_queue_url else []),
        *([dead_letters] if dead_letters else []),
        *(sink.queue_url for sink in settings.sinks if sink.queue_url),
    ]


@asynccontextmanager
async def _aws(settings: Settings, clock: Clock) -> AsyncIterator[Aws]:
    polls = settings.intake.receivers * len(settings.intake.queue_urls)
    if settings.track.events_queue_url:
        polls += RECEIVERS
    async with open_aws(
        region=settings.aws.region,
        environment=os.environ,
        queue_urls=_queue_urls(settings),
        submit_timeout_s=settings.submit.timeout_s,
        submit_connections=settings.submit.concurrency,
        batch_connections=settings.track.concurrency + BATCH_CALLS_BESIDE,
        sqs_connections=polls + SQS_CALLS_BESIDE,
        door=Door(
            clock,
            submit_per_s=settings.submit.rate_per_s,
            describe_per_s=settings.track.rate_per_s,
            terminate_per_s=settings.terminate.rate_per_s,
            list_per_s=settings.list.rate_per_s,
            total_per_s=settings.aws.total_rate_per_s,
        ),
    ) as aws:
        yield aws


@asynccontextmanager
async def _store(settings: Settings, metrics: Metrics) -> AsyncIterator[JobStore]:
    runner = ThreadRunner("store")
    log = structlog.get_logger(stage="store")

    def new_id() -> str:
        log.warning("a new store was made", url=settings.store.url, reason="what an earlier one knew is not known here")
        return secrets.token_hex(16)

    try:
        store = await open_sqlite_store(
            settings.store.url,
            runner=runner,
            sinks_of=routes(settings),
            dead_letters=bool(settings.intake.dead_letter_queue_url),
            random_id=new_id,
            linger=partial(anyio.sleep, LINGER_S),
            timed=metrics.store_commit_seconds.time,
            report=lambda difference: log.error("stored counts were corrected", difference=difference),
        )
        try:
            yield store
        finally:
            with anyio.CancelScope(shield=True):
                await store.close()
    finally:
        runner.close()


def _sink_names(settings: Settings) -> list[str]:
    dead_letters = [DEAD_LETTER] if settings.intake.dead_letter_queue_url else []
    return [*(sink.name for sink in settings.sinks), *dead_letters]


def _queue(url: str, aws: Aws, clock: Clock, metrics: Metrics) -> MessageSource:
    return Queue(url=url, client=aws.sqs(url), clock=clock, observe=metrics.observe_call)


def _sinks(settings: Settings, aws: Aws, clock: Clock, metrics: Metrics, stack: AsyncExitStack) -> list[EventSink]:
    sinks: list[EventSink] = []
    for each in settings.sinks:
        if each.type == "log":
            if sys.__stdout__ is None:
                raise Misconfigured(
                    f"sinks: standard output, which the sink {each.name} writes to, is closed; open it, if need be to "
                    "/dev/null, or give other sinks"
                )
            runner = ThreadRunner(each.name)
            stack.callback(runner.close)
            sinks.append(LogSink(name=each.name, write=LineWriter(sys.stdout.fileno()), runner=runner, clock=clock))
        else:
            assert each.queue_url is not None, "checked by the configuration"
            sinks.append(
                SqsSink(
                    name=each.name,
                    queue_url=each.queue_url,
                    client=aws.sqs(each.queue_url),
                    source=event_source(settings.controller.name),
                    clock=clock,
                    observe=metrics.observe_call,
                )
            )
    dead_letters = settings.intake.dead_letter_queue_url
    if dead_letters:
        sinks.append(
            DeadLetterSink(
                name=DEAD_LETTER,
                queue_url=dead_letters,
                client=aws.sqs(dead_letters),
                clock=clock,
                observe=metrics.observe_call,
            )
        )
    return sinks
