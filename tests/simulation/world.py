"""One simulated world: an AWS account, a disk, a standard output, and the pods that run the real application on them.

``simulate(scenario)`` runs a scenario to its end and returns the world, whose records ``checkers.py`` judges. What is
recorded is seen from outside the application: AWS's own history, what sinks received, what was logged, what became
durable and when.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import anyio
import orjson
import structlog

from controller.adapters.batch import Batch
from controller.adapters.batch_events import decode_event
from controller.adapters.batch_model import submit_job_shape
from controller.adapters.sinks import DeadLetterSink, LogSink, SqsSink
from controller.adapters.sqs import Queue
from controller.adapters.store.sqlite import open_sqlite_store
from controller.adapters.sts import Account
from controller.application import Application, Ports
from controller.config import Settings, routes
from controller.core.errors import StoreLocked, StoreMismatch, StoreUnavailable
from controller.core.limits import REQUEST_ID_TAG
from controller.core.request import batch_job_name
from controller.deleter import REFUSED_PAUSE_S
from controller.health import Health
from controller.loop import StageLoop
from controller.metrics import Metrics
from controller.ports import InsertJob, InsertRejection, RememberCancel, UpdateJob
from controller.simaws.answers import AwsError
from controller.simaws.cloud import SimAws
from controller.simaws.history import MessageAction
from tests.simulation import batch_events, faults
from tests.simulation.disk import Disk, SimRunner, observe_commits
from tests.simulation.loop_process import Ending
from tests.simulation.loop_world import World
from tests.simulation.pods import Pod, terminate
from tests.simulation.ports import LongPoll, Network, SimClient, SimClock
from tests.simulation.scenario import ACCOUNT, EPOCH, REGION, Foreign, Scenario, Sent
from tests.simulation.seeded_loop import SeededLoop, run, running_loop

START_AT = 1_000.0
"""Monotonic time at which a world begins."""
EVENTS_QUEUE = "events-out"
DEAD_QUEUE = "dead-letters"
GIVEN_UP_QUEUE = "given-up"
"""Where SQS's own redrive policy puts what was received too often."""
PROBE_S = 10.0
METRICS_EVERY = 4
"""``/metrics`` is read in one seed of so many: a tenth of what a seed costs."""
NOT_STARTED = (StoreLocked, StoreMismatch, StoreUnavailable)
"""What ends a start, and is right to."""


@dataclass(slots=True)
class Line:
    """One event line that arrived at a sink."""

    at: float
    event: Mapping[str, Any]


class Stdout:
    """The log sink's far end: whole lines, unless it is down, breaks half-way, or loses the answer."""

    def __init__(self, rng: random.Random) -> None:
        self.lines: list[Line] = []
        self.is_down = False
        self.breaks_p = 0.0
        self._rng = rng
        self.now: Callable[[], float] = float
        self.watch: Callable[[bytes], None] = lambda block: None
        """Told of every block that has arrived whole."""

    def write(self, block: bytes) -> None:
        if self.is_down:
            raise BrokenPipeError(32, "Broken pipe")
        rows = block.splitlines()
        is_broken = self.breaks_p > 0 and self._rng.random() < self.breaks_p
        if is_broken:
            rows = rows[: int(self._rng.random() * (len(rows) + 1))]
        at = self.now()
        self.lines.extend(Line(at, orjson.loads(row)) for row in rows)
        if is_broken:
            raise BrokenPipeError(32, "Broken pipe")
        self.watch(block)


@dataclass(slots=True)
class Durable:
    """What has become durable, as far as deleting a message is concerned."""

    messages: set[str] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)
    cancels: set[str] = field(default_factory=set)

    def note(self, writes: Sequence[Any]) -> None:
        for write in writes:
            if isinstance(write, InsertJob):
                self.messages.add(write.job.message_id)
                self.requests.add(write.job.request_id)
            elif isinstance(write, InsertRejection):
                self.messages.add(write.message_id)
            elif isinstance(write, RememberCancel):
                self.cancels.add(write.request_id)
            elif isinstance(write, UpdateJob) and write.job.cancel_requested_at is not None:
                self.cancels.add(write.job.request_id)


class SimWorld(World):
    """Everything outside the application, and the records of it."""

    def __init__(self, scenario: Scenario) -> None:
        super().__init__()
        self.scenario = scenario
        self.sim = SimAws(seed=scenario.seed, profile=scenario.profile, account=ACCOUNT, region=REGION)
        self.network = Network(self.random("network"))
        self.disk = Disk(self.random("disk"), size=scenario.disk_size)
        self.stdout = Stdout(self.random("stdout"))
        self.stdout.now = self.aws_now
        self.clock_offset_s = 0.0
        self.account = ACCOUNT
        """Whose credentials a pod gets that starts now."""
        self.store_id = f"{self.random('pod-1/1').getrandbits(128):032x}"
        """As the first life will draw it."""
        self.loop: SeededLoop
        self.settings: Settings
        self.polls: dict[str, list[LongPoll]] = defaultdict(list)
        self.pods: list[Pod] = []
        self.sent: dict[str, Sent] = {}
        """By message id."""
        self.handles: dict[str, str] = {}
        """Receipt handle → message id."""
        self.durable = Durable()
        self.logs: list[Mapping[str, Any]] = []
        self.logged_at: list[float] = []
        self.exposed: list[bytes] = []
        """What ``/metrics`` served."""
        self.problems: list[str] = []
        """Broken promises that can be seen only while it runs, ``promise: what``."""
        self.met: dict[str, int] = defaultdict(int)
        """Faults that were met, for the summary."""
        self.forgotten: dict[str, tuple[float, Any]] = {}
        """Jobs that Batch was made to forget: when, and the job."""
        self.told_ends: dict[str, float] = {}
        """Jobs whose final event an application was handed: when."""
        self.kept: list[str] = []
        """What an application still held in memory when there was nothing left to do."""
        self.remembered = 0
        """Rows that the store still has of requests after the time for which it is to remember them."""
        self.skewed_calls = 0
        self.kills: list[tuple[float, str, int]] = []
        self.is_healed = False
        self.drained_at: float | None = None
        self.is_over = False
        self.start_pod: Callable[[Pod], object]

    def random(self, name: str) -> random.Random:
        return random.Random(f"{self.scenario.seed}/{name}")

    def aws_now(self) -> float:
        return EPOCH + self.loop.time() - START_AT

    # --- what faces report --------------------------------------------------------------------------------

    def received(self, result: Mapping[str, Any] | None) -> None:
        for message in (result or {}).get("Messages") or ():
            self.handles[message["ReceiptHandle"]] = message["MessageId"]
            batch_events.note_received(self, message["Body"])

    def deletes_asked(self, arguments: Mapping[str, Any]) -> None:
        """A DeleteMessageBatch has arrived: everything in it must be durable by now."""
        for entry in arguments["Entries"]:
            message_id = self.handles[entry["ReceiptHandle"]]
            sent = self.sent.get(message_id)
            if sent is not None and not self._is_durable(message_id, sent):
                self.problems.append(f"deleted after commit: message {message_id} ({sent.kind}) was not stored")

    def _is_durable(self, message_id: str, sent: Sent) -> bool:
        if message_id in self.durable.messages:
            return True
        request_id = sent.request_id or message_id
        if sent.kind == "cancel":
            return request_id in self.durable.cancels or request_id in self.durable.requests
        return sent.is_valid and request_id in self.durable.requests

    def given_up(self) -> frozenset[str]:
        """Ids of messages that SQS has given up: received too often, by its own redrive policy."""
        if self.scenario.redrive_after is None:
            return frozenset()
        return frozenset(
            record.message_id for record in self.sim.history.messages() if record.action is MessageAction.DEAD_LETTERED
        )

    def visible(self, queue: str) -> None:
        for poll in self.polls[queue]:
            poll.wake()


# --- the pods ---------------------------------------------------------------------------------------------


class _Unhurried(Application):
    """The application, whose stages look by themselves less often than once a second.

    Most of what a run costs is stages that look and find nothing. In most seeds they rely on being woken, which is
    worth being tested; in the others they look as often as in production.
    """

    interval_factor = 1.0

    def _loop(self, name: str, interval_s: float, *wakes: Any, **options: Any) -> StageLoop:
        return super()._loop(name, interval_s * self.interval_factor, *wakes, **options)


async def controller(world: SimWorld, pod: Pod) -> None:
    """What ``controller.app`` does, with the simulated outside."""
    settings, disk = world.settings, world.disk
    runner = SimRunner(world, disk)
    clock = SimClock(world)
    rng = world.random(f"{pod.name}/{pod.lives}")
    metrics = Metrics(name=settings.controller.name, sinks=[sink.name for sink in settings.sinks])
    health = Health(clock)
    store = await open_sqlite_store(
        "sqlite:///:memory:",
        runner=runner,
        sinks_of=routes(settings),
        dead_letters=settings.intake.dead_letter_queue_url is not None,
        random_id=lambda: f"{rng.getrandbits(128):032x}",
        linger=partial(anyio.sleep, 0.01),
        report=lambda difference: world.problems.append(f"store: counts corrected: {difference}"),
        connect=disk.connect,
        disk=disk.usage,
    )
    observe_commits(store, world.durable.note, disk)
    client = SimClient(world)
    observe = metrics.observe_call
    ports = Ports(
        clock=clock,
        store=store,
        batch=Batch(
            submit_client=client,
            client=client,
            clock=clock,
            observe=observe,
            fetch_credentials=client.fetch_credentials,
        ),
        account=Account(client=client, clock=clock, observe=observe),
        sources=[Queue(url=url, client=client, clock=clock, observe=observe) for url in settings.intake.queue_urls],
        sinks=_sinks(world, client, clock, observe, runner),
        chance=rng.random,
        batch_events=_batch_events(settings, client, clock, observe),
        decode_event=decode_event,
    )
    application = _Unhurried(settings, ports, shapes=submit_job_shape(), region=REGION, metrics=metrics, health=health)
    application.interval_factor = world.scenario.interval_factor
    pod.application = application
    try:
        await application.run()
    finally:
        with anyio.CancelScope(shield=True):
            await store.close()


def _batch_events(settings: Settings, client: SimClient, clock: SimClock, observe: Any) -> Queue | None:
    url = settings.track.events_queue_url
    return None if url is None else Queue(url=url, client=client, clock=clock, observe=observe)


def _sinks(world: SimWorld, client: SimClient, clock: SimClock, observe: Any, runner: SimRunner) -> list[Any]:
    sinks: list[Any] = []
    for each in world.settings.sinks:
        if each.type == "log":
            sinks.append(LogSink(name=each.name, write=world.stdout.write, runner=_PlainRunner(world), clock=clock))
        else:
            assert each.queue_url is not None
            sinks.append(
                SqsSink(
                    name=each.name,
                    queue_url=each.queue_url,
                    client=client,
                    source="batch-job-controller/sim",
                    clock=clock,
                    observe=observe,
                )
            )
    dead = world.settings.intake.dead_letter_queue_url
    if dead:
        sinks.append(DeadLetterSink(name="dead_letter", queue_url=dead, client=client, clock=clock, observe=observe))
    return sinks


class _PlainRunner:
    """The log sink's own thread."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world

    async def run(self, function: Callable[[], Any]) -> Any:
        await anyio.lowlevel.checkpoint()
        self._world.check_alive("stdout")
        return function()


async def tend(world: SimWorld, pod: Pod) -> None:
    """Start the application in a pod, again and again."""
    kills = world.scenario.kill_at_steps
    while pod.is_wanted and not world.is_over:
        kill_at = kills[len(world.kills)] if len(world.kills) < len(kills) and not world.is_healed else None
        pod.lives += 1
        pod.application = None
        pod.process = world.loop.spawn(f"{pod.name}.{pod.lives}", controller, world, pod, kill_at_step=kill_at)
        try:
            ending = await pod.process.join()
        except NOT_STARTED:
            world.met["start refused"] += 1
            await asyncio.sleep(1.0)
        except BaseExceptionGroup as group:
            if group.split(NOT_STARTED)[1] is not None:
                raise
        else:
            if ending is Ending.KILLED:
                world.kills.append((world.aws_now(), pod.name, pod.process.steps))
                world.met["kill"] += 1
        if pod.is_wanted and not world.is_over:
            await asyncio.sleep(pod.restart_s)


# --- the run ----------------------------------------------------------------------------------------------


def simulate(scenario: Scenario, **bounds: Any) -> SimWorld:
    """Run a scenario to its end. Raises SimulationEnd's kinds, and what a pod failed with."""
    world = SimWorld(scenario)
    _capture_logs(world)
    try:
        run(scenario.seed, _main, world, start_at=START_AT, world=world, **bounds)
    finally:
        world.disk.end()
    return world


_logging: SimWorld | None = None


def _capture_logs(world: SimWorld) -> None:
    """Log lines of the application go to the world, unrendered."""
    global _logging
    _logging = world
    if structlog.get_config()["processors"] != [_capture]:
        structlog.configure(
            processors=[_capture],
            wrapper_class=structlog.make_filtering_bound_logger(20),
            cache_logger_on_first_use=False,
        )


def _capture(_: Any, level: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    line["level"] = level
    failure = line.get("exc_info")
    if isinstance(failure, BaseException):
        # Its frames would keep the world alive.
        line["exc_info"] = f"{type(failure).__name__}: {failure}"
        line["where"] = _where(failure)
    assert _logging is not None
    _logging.logs.append(line)
    _logging.logged_at.append(_logging.aws_now())
    raise structlog.DropEvent


def _where(failure: BaseException) -> str:
    trace, place = failure.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} {code.co_name}"
        trace = trace.tb_next
    return place


@lru_cache(maxsize=4096)
def _settings(given: str) -> Settings:
    return Settings(**orjson.loads(given))


async def _main(world: SimWorld) -> None:
    world.loop = running_loop()
    scenario = world.scenario
    world.settings = _settings(orjson.dumps(scenario.settings).decode())
    _furnish(world)
    for sent in scenario.requests:
        world.loop.call_later(sent.at, _send, world, sent)
    for disruption in scenario.disruptions:
        world.loop.call_later(disruption.at, faults.begin, world, disruption)
    faults.switch_on(world)
    if scenario.interval_factor == 1.0:
        world.loop.call_later(PROBE_S, _probe, world)
    pod = Pod("pod-1", restart_s=scenario.restart_s)
    world.pods.append(pod)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tend(world, pod))
        world.start_pod = lambda new: tasks.create_task(tend(world, new))
        await asyncio.sleep(scenario.faults_end_s)
        faults.heal(world)
        await _until_drained(world)
        if scenario.idle_s:
            await asyncio.sleep(scenario.idle_s)
            world.remembered = _remembered(world)
        await _stop(world)
    world.sim.advance(world.aws_now() + 1_000.0)


def _furnish(world: SimWorld) -> None:
    sim = world.sim
    sim.advance(EPOCH - 2_000.0)
    for name, slots in world.scenario.job_queues.items():
        sim.add_job_queue(name, slots=slots)
    for name in world.scenario.job_definitions:
        sim.add_job_definition(name)
    for name in (EVENTS_QUEUE, DEAD_QUEUE, GIVEN_UP_QUEUE):
        sim.add_sqs_queue(name)
    for name in world.scenario.sources:
        sim.add_sqs_queue(name, _redrive(world.scenario.redrive_after))
    sim.sqs.on_visible = world.visible
    for foreign in sorted(world.scenario.foreign, key=lambda each: each.at):
        if foreign.at < 0:
            _submit_foreign(world, foreign, EPOCH + foreign.at)
        else:
            world.loop.call_later(foreign.at, _submit_foreign, world, foreign, EPOCH + foreign.at)
    sim.advance(EPOCH)
    batch_events.furnish(world)


def _redrive(after: int | None) -> dict[str, str]:
    if after is None:
        return {}
    target = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{GIVEN_UP_QUEUE}"
    return {"RedrivePolicy": orjson.dumps({"deadLetterTargetArn": target, "maxReceiveCount": after}).decode()}


def _submit_foreign(world: SimWorld, foreign: Foreign, at: float) -> None:
    """Straight into Batch: not in the history of what was accepted for us."""
    world.sim.advance(at)
    name = batch_job_name(foreign.job_name, store_id=world.store_id, request_id=foreign.request_id)
    request: dict[str, Any] = {
        "jobName": name.upper() if foreign.is_upper_case else name,
        "jobQueue": foreign.job_queue,
        "jobDefinition": world.scenario.job_definitions[0],
    }
    if foreign.tag is not None:
        request["tags"] = {REQUEST_ID_TAG: foreign.tag}
    for _ in range(foreign.count):
        try:
            world.sim.batch.submit_job(request, world.sim.now)
        except AwsError:
            return  # the job queue is disabled just now


def _send(world: SimWorld, sent: Sent) -> None:
    world.sim.advance(world.aws_now())
    entry: dict[str, Any] = {"QueueUrl": world.sim.sqs.url(sent.source), "MessageBody": sent.body}
    attributes = {"traceparent": sent.traceparent, "tenant": sent.tenant}
    if any(attributes.values()):
        entry["MessageAttributes"] = {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items() if value
        }
    message_id = world.sim.sqs.send_message(entry, world.aws_now())["MessageId"]
    world.sent[message_id] = sent


def _probe(world: SimWorld) -> None:
    """Kubernetes' liveness probe: whatever goes wrong outside, stages turn."""
    for pod in world.pods:
        if pod.application is not None and pod.process is not None and not pod.process.is_dead:
            is_live, stages = pod.application.health.is_live()
            if not is_live:
                stuck = [name for name, stage in stages["stages"].items() if not stage["ok"]]
                world.problems.append(f"stages turn: {pod.process.name} is not live: {', '.join(stuck)}")
    if not world.problems:
        world.loop.call_later(PROBE_S, _probe, world)


async def _until_drained(world: SimWorld) -> None:
    until = world.loop.time() + world.scenario.drain_bound_s
    waits_for = _Outstanding(world)
    while (left := waits_for.left()) and world.loop.time() < until:
        await asyncio.sleep(1.0)
    if left:
        world.problems.append(f"everything ends: after {world.scenario.drain_bound_s:.0f} s without faults: {left}")
    world.drained_at = world.aws_now()


class _Outstanding:
    """What has not ended yet, seen from outside."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._read = 0
        self._ended_requests: set[str] = set()
        self._ended_messages: set[str] = set()
        self._accepted: set[str] = set()

    def left(self) -> str:
        world = self._world
        if len(world.sent) < len(world.scenario.requests):
            return "messages not sent yet"
        queued = {name: len(world.sim.sqs.queues[name].messages) for name in world.scenario.sources}
        if any(queued.values()):
            return f"messages in {queued}"
        for line in world.stdout.lines[self._read :]:
            if "outcome" in line.event:
                self._ended_messages.add(line.event.get("message_id", ""))
                self._ended_requests.add(line.event.get("request_id", ""))
            elif line.event["event"] == "request.accepted":
                self._accepted.add(line.event["message_id"])
        self._read = len(world.stdout.lines)
        if unfinished := self._accepted - self._ended_messages:
            return f"accepted messages {sorted(unfinished)[:3]}"
        given_up = world.given_up()
        for message_id, sent in world.sent.items():
            if message_id in given_up:
                continue
            if sent.is_valid and sent.kind != "cancel":
                if (sent.request_id or message_id) not in self._ended_requests:
                    return f"request {sent.request_id or message_id} ({sent.kind})"
            elif sent.is_rejected and message_id not in self._ended_messages:
                return f"rejection of {message_id} ({sent.kind})"
        return self._undelivered()

    def _undelivered(self) -> str:
        """What standard output has and the other sinks have not yet."""
        world = self._world
        dead = world.sim.sqs.queues[DEAD_QUEUE].messages.values()
        buried = {message.attributes["message_id"]["StringValue"] for message in dead if message.attributes}
        rejected = {
            line.event["message_id"] for line in world.stdout.lines if line.event["event"] == "request.rejected"
        }
        if rejected - buried:
            return f"dead letters of {len(rejected - buried)} messages"
        if len(world.settings.sinks) > 1:
            events = {line.event["event_id"] for line in world.stdout.lines}
            arrived = {orjson.loads(m.body)["id"] for m in world.sim.sqs.queues[EVENTS_QUEUE].messages.values()}
            if events - arrived:
                return f"{len(events - arrived)} events for the SQS sink"
        return ""


def _remembered(world: SimWorld) -> int:
    tables = ("jobs", "bodies", "rejections", "cancels", "outbox")
    return sum(int(world.disk.rows(f"SELECT count(*) AS rows FROM {name}")[0]["rows"]) for name in tables)


def _kept(application: Application) -> Iterator[str]:
    """What is left in memory of requests that have ended."""
    if len(application.schedule):
        yield f"memory is bounded: {len(application.schedule)} jobs are still in the schedule"
    if application.submit._in_hand:
        yield f"memory is bounded: {len(application.submit._in_hand)} rows are still in hand"
    if len(application.hint_book._ends):
        yield "memory is bounded: ends that events told are still remembered"
    for ingest in application.ingests:
        if ingest._buffer:
            yield "memory is bounded: messages are still in the buffer"
        # A pause that began while deleting was refused may still go on.
        late_s = ingest._deleter._clock.monotonic() - min(ingest._deleter._left.values(), default=math.inf)
        if late_s > REFUSED_PAUSE_S:
            yield f"memory is bounded: messages are still to be deleted, {late_s:.0f} s after they should be given up"


async def _stop(world: SimWorld) -> None:
    """The end: metrics once more, then SIGTERM to all."""
    world.is_over = True
    for pod in world.pods:
        pod.is_wanted = False
        if pod.application is not None and pod.process is not None and not pod.process.is_dead:
            if world.scenario.seed % METRICS_EVERY == 0:
                world.exposed.append(await pod.application.exposition.render())
            world.kept.extend(_kept(pod.application))
        terminate(world, pod)
