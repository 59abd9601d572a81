"""The controller over its ports: every stage, wired, started, drained.

``Application`` knows stages and core but no SDK, socket, thread or clock, and runs unchanged under a virtual clock.
``controller.app`` puts the real adapters behind the ports.

Order of a stop: receivers let their long poll end; what was received is committed; admission ends; rows not yet sent go
back to QUEUED, calls under way are answered; then the outbox is emptied as far as the grace time allows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio
import structlog

from controller.budgets import SHARES, Budgets, Purpose
from controller.children import ChildLookUp
from controller.config import ANY_QUEUE, Settings, routes
from controller.core.admission import IntakeMarks
from controller.core.errors import OutwardError, StoreUnavailable
from controller.core.hints import EventOutcome, HintBook
from controller.core.job import BatchStatus, Job
from controller.core.limits import PACING_GUARD
from controller.core.polling import Schedule, interval_s
from controller.core.request import Rules, Scope, submit_arguments
from controller.core.shapes import Shape
from controller.depths import Depths
from controller.exposition import Exposition
from controller.gate import IntakeGate
from controller.health import CREDENTIALS, Health
from controller.holds import HoldBook
from controller.identity import Identity
from controller.inspection import Inspection
from controller.intake import Decider
from controller.ledger import Ledger, Wakes
from controller.lookup import LookUp
from controller.loop import Backoff, Drain, Outage, StageLoop, Wake
from controller.metrics import Metrics
from controller.ports import (
    AccountApi,
    BatchApi,
    Clock,
    EventSink,
    JobStore,
    MessageSource,
    Write,
)
from controller.room import StoreRoom
from controller.stages.admit import Admit
from controller.stages.depend import Depend
from controller.stages.diagnose import Diagnose
from controller.stages.discover import Discover
from controller.stages.expire import Expire
from controller.stages.hints import RECEIVERS, Decode, Hints
from controller.stages.ingest import Ingest
from controller.stages.prune import Prune
from controller.stages.publish import Publish
from controller.stages.release import Release
from controller.stages.rescue import Rescue
from controller.stages.submit import JobIds, Submit
from controller.stages.terminate import Terminate
from controller.stages.track import Track

LIVE_S: Final = 120.0
"""A stage that has not turned for so long fails ``/livez``: longer than any bounded wait inside a turn."""
IN_LINE: Final = 16
"""Callers that may stand in one line of the budgets, which are few: eight look-ups at most, and a stage or two each of
the others. Where the rates are so low that the last of them waits for longer than ``LIVE_S``, it may do so."""
PUBLISH_SHARE: Final = 0.2
"""Share of the grace time that is kept for publishing what the other stages left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything outside the application."""

    clock: Clock
    store: JobStore
    batch: BatchApi
    account: AccountApi
    sources: Sequence[MessageSource]
    sinks: Sequence[EventSink]
    """Event sinks and, if one is configured, the dead-letter sink."""
    chance: Callable[[], float]
    """Draws from [0, 1): jitter only."""
    batch_events: MessageSource | None = None
    """The queue that EventBridge feeds, if there is one."""
    decode_event: Decode = lambda body: EventOutcome.OTHER


class Application:
    """The controller over its ports. One instance runs once."""

    def __init__(
        self, settings: Settings, ports: Ports, *, shapes: Shape, region: str, metrics: Metrics, health: Health
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.health = health
        self.drain = Drain()
        self._ports = ports
        self._shapes = shapes
        self._last_words = Drain()
        self._log = structlog.get_logger(stage="app")
        clock, store = ports.clock, ports.store
        self.identity = Identity(
            region=region, store=store, api=ports.account, health=health, drain=self.drain, chance=ports.chance
        )
        self._wakes = Wakes(publish={sink.name: Wake() for sink in ports.sinks}, sinks_of=routes(settings))
        self.budgets = Budgets(
            clock,
            {
                Purpose.SUBMIT: settings.submit.rate_per_s,
                Purpose.DESCRIBE: settings.track.rate_per_s,
                Purpose.LIST: settings.list.rate_per_s,
                Purpose.TERMINATE: settings.terminate.rate_per_s,
            },
            settings.aws.total_rate_per_s,
            quiet_s=1 + PACING_GUARD,
            fetch_credentials=self._fetch_credentials,
            waited=metrics.waited,
        )
        self.holds = HoldBook(store=store, clock=clock, on_commit=self._hold_changed, counted=metrics.hold_changed)
        self.ledger = Ledger(store=store, clock=clock, metrics=metrics, wakes=self._wakes)
        self.schedule = Schedule(
            interval_s_min=settings.track.interval_s_min, interval_s_max=settings.track.interval_s_max
        )
        self.depths = Depths(clock=clock, limits_of=settings.queue_limits, look_s=self._look_s)
        self.hint_book = HintBook(self.schedule, self._count_event, is_fed=ports.batch_events is not None)
        self.room = StoreRoom(store=store, clock=clock, health=health, free_mib_min=settings.store.free_mib_min)
        self.gate = IntakeGate(
            store=store,
            holds=self.holds,
            health=health,
            limits_of=settings.queue_limits,
            marks=IntakeMarks(
                high=settings.intake.backlog_high,
                low=settings.intake.backlog_low,
                maximum=settings.intake.backlog_max,
            ),
            sources=[source.url for source in ports.sources],
            room=self.room,
            is_paused=settings.intake.paused,
        )
        self._build_stages()

    def _build_stages(self) -> None:
        settings, ports = self.settings, self._ports
        clock, store, batch, ledger, budgets = ports.clock, ports.store, ports.batch, self.ledger, self.budgets
        look_up = LookUp(batch=batch, budgets=budgets, clock=clock, health=self.health)
        decider = Decider(
            store=store, ledger=ledger, clock=clock, rules=self._rules, tenant_from=settings.intake.tenant_from
        )
        self.ingests = [
            Ingest(
                source=source,
                store=store,
                decider=decider,
                clock=clock,
                drain=self.drain,
                health=self.health,
                metrics=self.metrics,
                wakes=self._wakes,
                chance=ports.chance,
                gate=self.gate,
                visibility_timeout_s=settings.intake.visibility_timeout_s,
                receivers=settings.intake.receivers,
            )
            for source in ports.sources
        ]
        self.admit = Admit(
            store=store,
            ledger=ledger,
            holds=self.holds,
            budgets=budgets,
            clock=clock,
            limits_of=self.depths.limits,
            concurrency=settings.submit.concurrency,
            waited=self.metrics.waited,
            is_confirmed=self.metrics.knows_queue,
            is_short=lambda: self.room.is_short,
        )
        self.submit = Submit(
            store=store,
            ledger=ledger,
            batch=batch,
            budgets=budgets,
            holds=self.holds,
            look_up=look_up,
            clock=clock,
            drain=self.drain,
            health=self.health,
            metrics=self.metrics,
            chance=ports.chance,
            arguments=self._arguments,
            timeout_s=settings.submit.timeout_s,
        )
        self.rescue = Rescue(
            store=store,
            ledger=ledger,
            look_up=look_up,
            clock=clock,
            settle_s=settings.submit.settle_s,
        )
        self.depend = Depend(store=store, ledger=ledger, clock=clock, wait_s=settings.retention.final_s)
        self.expire = Expire(store=store, ledger=ledger, look_up=look_up, clock=clock)
        self.track = Track(
            store=store,
            ledger=ledger,
            batch=batch,
            budgets=budgets,
            clock=clock,
            health=self.health,
            metrics=self.metrics,
            chance=ports.chance,
            schedule=self.schedule,
            hints=self.hint_book,
            concurrency=settings.track.concurrency,
            lost_after_s=settings.track.lost_after_s,
            children=ChildLookUp(batch=batch, budgets=budgets, clock=clock, health=self.health, chance=ports.chance),
            drain=self.drain,
        )
        self.diagnose = Diagnose(
            store=store,
            ledger=ledger,
            batch=batch,
            budgets=budgets,
            clock=clock,
            drain=self.drain,
            schedule=self.schedule,
            limits_of=settings.queue_limits,
            arrays=self.track.arrays,
            queue_names=(*settings.queues, ANY_QUEUE),
            on_commit=self._wakes.published_soon,
        )
        self.track.on_waiting = self.diagnose.heard
        self.hints = None if ports.batch_events is None else self._build_hints(ports.batch_events)
        self.terminate = Terminate(store=store, batch=batch, budgets=budgets, clock=clock, health=self.health)
        self.release = Release(holds=self.holds, batch=batch, budgets=budgets, health=self.health, metrics=self.metrics)
        self.discover = Discover(
            store=store, batch=batch, budgets=budgets, clock=clock, health=self.health, metrics=self.metrics
        )
        self.prune = Prune(store=store, clock=clock, final_s=settings.retention.final_s)
        self.publishers = [
            Publish(store=store, sink=sink, clock=clock, metrics=self.metrics, health=self.health)
            for sink in ports.sinks
        ]
        self.exposition = Exposition(
            clock=clock,
            store=store,
            metrics=self.metrics,
            health=self.health,
            budgets=budgets,
            schedule=self.schedule,
            holds=self.holds,
            gate=self.gate,
            room=self.room,
            depths=self.depths,
            hint_book=self.hint_book,
            track=self.track,
            diagnose=self.diagnose,
        )
        self.inspection = Inspection(
            clock=clock,
            store=store,
            holds=self.holds,
            room=self.room,
            budgets=budgets,
            admit=self.admit,
            limits_of=settings.queue_limits,
        )
        ledger.on_tracked = self._tracked
        ledger.on_changed = self.depths.left
        self.track.on_returned = self._wakes.track.set

    def _build_hints(self, source: MessageSource) -> Hints:
        return Hints(
            source=source,
            decode=self._ports.decode_event,
            book=self.hint_book,
            count=self._count_event,
            clock=self._ports.clock,
            drain=self.drain,
            health=self.health,
            wake_track=self._wakes.track,
        )

    # --- small parts that stages are given ---------------------------------------------------------------

    def _rules(self) -> Rules:
        scope = Scope(region=self.identity.region, account=self.identity.account)
        return self.settings.request_rules(shapes=self._shapes, scope=scope)

    def _arguments(self, body: str, job: Job, job_ids: JobIds) -> dict[str, Any]:
        submit = self.settings.submit
        return submit_arguments(
            body,
            job=job,
            job_ids=job_ids,
            default_tags=submit.default_tags,
            tag_request_id=submit.tag_request_id,
        )

    def _look_s(self, waited_s: float) -> float:
        """Within what time a job that has been RUNNABLE for so long is described again."""
        track = self.settings.track
        interval = interval_s(BatchStatus.RUNNABLE, waited_s, min_s=track.interval_s_min, max_s=track.interval_s_max)
        return interval + self.schedule.sweep_s(self.budgets.least_rate_per_s(Purpose.DESCRIBE))

    async def _fetch_credentials(self) -> None:
        with self.health.watched(CREDENTIALS):
            await self._ports.batch.fetch_credentials()

    @property
    def _live_s(self) -> float:
        """Within what time a stage that waits for its turn to call AWS Batch turns."""
        settings = self.settings
        rates = (settings.submit, settings.track, settings.list, settings.terminate)
        least = min(settings.aws.total_rate_per_s * min(SHARES.values()), *(each.rate_per_s for each in rates))
        return max(LIVE_S, IN_LINE * (1 + PACING_GUARD) / least)

    def _hold_changed(self, writes: Sequence[Write]) -> None:
        self._wakes.admit.set()
        self._wakes.published_soon(writes)

    def _count_event(self, outcome: EventOutcome) -> None:
        self.metrics.batch_events_received_total.labels(outcome=outcome.value).inc()

    def _tracked(self, job: Job) -> None:
        self.metrics.know_queue(job.job_queue)
        self.track.follow(job)

    # --- running ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until drained. Raises StoreMismatch (before any Batch call where STS tells the account) and StageGivenUp."""
        self.health.leads(is_leader=True)
        for source in self._ports.sources:
            self.health.expect_queue(source.url)
        if self._ports.batch_events is not None:
            self.health.expect_queue(self._ports.batch_events.url)
        await self._start_unless_drained()
        if self.drain.is_requested:
            return
        async with anyio.create_task_group() as tasks:
            deadline = anyio.CancelScope()
            tasks.start_soon(self._enforce_grace, deadline)
            for publisher in self.publishers:
                tasks.start_soon(self._publish, publisher, self._wakes.publish[publisher.sink_name])
            with deadline:
                await self._work()
            self._last_words.request()
            with anyio.move_on_after(self.settings.controller.drain_s * PUBLISH_SHARE):
                await self._published()
            tasks.cancel_scope.cancel()

    async def _start_unless_drained(self) -> None:
        """A drain ends even a call that hangs: nothing has been received or sent yet."""
        with anyio.CancelScope() as starting:
            self.drain.on_request(starting.cancel)
            try:
                await self._start()
            finally:
                self.drain.forget(starting.cancel)

    async def _start(self) -> None:
        """Everything before the first stage turns; waits out a store or credentials that fail."""
        await self.identity.settle()
        backoff = Backoff(self._ports.chance)
        steps: tuple[Callable[[], Awaitable[object]], ...] = (
            self.identity.recall,
            self._name_lost_sinks,
            self._set_aging,
            self.holds.load,
            self.rescue.recover,
            self.track.begin,
            self.diagnose.load,
            self.gate.refresh,
        )
        for step in steps:
            while not self.drain.is_requested:
                try:
                    await step()
                    break
                except StoreUnavailable as error:
                    self._log.warning("store not ready", reason=str(error))
                    await self.drain.sleep(backoff.failed())

    async def _name_lost_sinks(self) -> None:
        """Events of a sink that is no longer configured stay, and keep their rows from being pruned."""
        known = {sink.name for sink in self._ports.sinks}
        for sink, count in sorted((await self._ports.store.outbox_counts()).items()):
            if sink not in known and count:
                self._log.warning("events of a sink that is not configured wait for it", sink=sink, events=count)

    async def _set_aging(self) -> None:
        limits = self.settings.queue_limits
        named = {name: limits(name).aging_s for name in self.settings.queues}
        await self._ports.store.set_aging(named, limits("*").aging_s)

    async def _work(self) -> None:
        """Every stage but publishing, until all have stopped."""
        async with anyio.create_task_group() as tasks:
            for ingest in self.ingests:
                for stage, part in ingest.parts:
                    self.health.expect(stage, LIVE_S, part=part)
                tasks.start_soon(ingest.receive)
                tasks.start_soon(ingest.commit)
            tasks.start_soon(self._loop("gate", 1.0).run, self._turn_gate)
            tasks.start_soon(self._admit_and_submit)
            tasks.start_soon(self._loop("rescue", 30.0, self._wakes.rescue).run, self.rescue.turn)
            tasks.start_soon(self._loop("expire", 1.0).run, self.expire.turn)
            tasks.start_soon(self._loop("depend", 1.0, self._wakes.depend).run, self.depend.turn)
            tasks.start_soon(self._track)
            if self.hints is not None:
                outage = Outage(self._ports.clock)
                for number in range(RECEIVERS):
                    tasks.start_soon(self._loop("hints", 1.0, outage=outage, part=str(number)).run, self.hints.turn)
            tasks.start_soon(self._loop("terminate", 30.0, self._wakes.terminate).run, self.terminate.turn)
            tasks.start_soon(self._loop("release", 1.0).run, self.release.turn)
            tasks.start_soon(self._loop("prune", 60.0).run, self.prune.turn)
            tasks.start_soon(self._loop("discover", 1.0).run, self.discover.turn)
            tasks.start_soon(self._loop("diagnose", 30.0).run, self.diagnose.turn)
            if not self.identity.is_known:
                tasks.start_soon(self.identity.learn, lambda: self.track.any_job_arn)

    def _loop(
        self,
        name: str,
        interval_s: float,
        wake: Wake | None = None,
        drain: Drain | None = None,
        outage: Outage | None = None,
        part: str = "",
    ) -> StageLoop:
        self.health.expect(name, self._live_s, part=part)
        return StageLoop(
            name,
            clock=self._ports.clock,
            heartbeat=self.health,
            drain=drain or self.drain,
            chance=self._ports.chance,
            interval_s=interval_s,
            wake=wake,
            outage=outage,
            part=part,
        )

    async def _turn_gate(self) -> None:
        """This alone finds that a store that failed is well again: what is received to find out is a message whose
        redrive count goes up. A disk that takes no changes can be read."""
        try:
            await self.gate.refresh()
            if self.health.has_store_failed:
                await self._ports.store.check_writes()
        except StoreUnavailable as error:
            self.health.store_failed(str(error))
            raise
        self.health.store_ok()

    async def _admit_and_submit(self) -> None:
        """Submission outlives admission by one turn, so that what was admitted last goes back instead of into doubt."""
        admit = self._loop("admit", 1.0, self._wakes.admit)
        submit = self._loop("submit", 1.0, self._wakes.submit)
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as loops:
                loops.start_soon(admit.run, self.admit.turn)
                loops.start_soon(submit.run, partial(self.submit.turn, tasks))
            try:
                await self.submit.turn(tasks)
            except StoreUnavailable as error:
                self._log.warning("rows stay SUBMITTING; the next start settles them", reason=str(error))

    async def _track(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._load_schedule)
            await self._loop("track", 1.0, self._wakes.track).run(partial(self.track.turn, tasks))

    async def _load_schedule(self) -> None:
        """The rest of the jobs in flight, while the first are being described."""
        backoff = Backoff(self._ports.chance)
        with anyio.CancelScope() as loading:
            self.drain.on_request(loading.cancel)
            try:
                while True:
                    try:
                        await self.track.load()
                        break
                    except StoreUnavailable as error:
                        self._log.warning("jobs in flight not all loaded yet", reason=str(error))
                        await self.drain.sleep(backoff.failed())
            finally:
                self.drain.forget(loading.cancel)
        self._wakes.track.set()

    # --- publishing and the end -----------------------------------------------------------------------------

    async def _publish(self, publisher: Publish, wake: Wake) -> None:
        await self._loop(f"publish:{publisher.sink_name}", 1.0, wake, self._last_words).run(publisher.turn)

    async def _published(self) -> None:
        """Empty every outbox; a sink that is down keeps its rows for the next start."""
        async with anyio.create_task_group() as tasks:
            for publisher in self.publishers:
                tasks.start_soon(self._empty, publisher)

    async def _empty(self, publisher: Publish) -> None:
        try:
            while await publisher.turn() is not None:
                pass
        except (OutwardError, StoreUnavailable) as error:
            self._log.warning("events stay in the outbox", sink=publisher.sink_name, reason=str(error))
        except anyio.get_cancelled_exc_class():
            self._log.warning("events stay in the outbox", sink=publisher.sink_name, reason="the grace time is over")
            raise

    async def _enforce_grace(self, work: anyio.CancelScope) -> None:
        """After the grace time nothing waits any longer; a call that is cut off is in doubt at the next start."""
        await self.drain.wait()
        grace_s = self.settings.controller.drain_s * (1 - PUBLISH_SHARE)
        self._log.info("draining", grace_s=grace_s)
        await anyio.sleep(grace_s)
        self._log.warning("grace time is over", grace_s=grace_s)
        work.cancel()
