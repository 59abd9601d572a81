"""One run: start everything, send, let it go wrong, kill, then let it drain and gather the record."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final
from urllib.error import HTTPError

from controller.simaws.process import SimProcess
from tests.chaos.killer import STOPS_WITHIN_S, Killer
from tests.chaos.plan import Options, controller_settings, sim_arguments
from tests.chaos.prey import Prey
from tests.chaos.record import Record, gather
from tests.chaos.requests import Family, Planned, Sent, canary_of, planned_messages
from tests.chaos.watch import Watch
from tests.chaos.weather import Weather
from tests.e2e.service import FINAL

TURN_S: Final = 0.02
SENT_PER_TURN_MAX: Final = 20
EXPECTED_S_PER_KILL: Final = 0.45
"""Mean time between kills as a share of the sum of the mean calm and busy times; as measured."""
QUIET_S: Final = 2.0
"""Once everything has ended: how long nothing more may come."""


@dataclass(slots=True)
class Progress:
    """What a progress line shows."""

    phase: str = "starting"
    elapsed_s: float = 0.0
    messages: int = 0
    messages_planned: int = 0
    ended: int = 0
    expected: int = 0
    in_doubt: int = 0
    kills: int = 0


@dataclass(slots=True)
class Outcome:
    """A run that is over."""

    record: Record
    counts: Counter[str]
    """SIGKILL, SIGTERM, …"""
    met: set[str]
    """Stretches and service faults."""
    seconds: dict[str, float] = field(default_factory=dict)


class Run:
    """Owns the processes; ``show`` is called with the progress at every turn."""

    def __init__(self, options: Options, *, show: Callable[[Progress], None]) -> None:
        self._options = options
        self._show = show
        self._progress = Progress()
        self._sent: list[Sent] = []
        self._families: dict[str, Family] = {}
        """By MessageId."""
        self._ended: set[int] = set()
        """Families (by identity) of which a final event was told. Rejections of another content under a known id do not
        count: those are through once queue and outbox are empty."""
        self._events_seen = 0

    def play(self) -> Outcome:
        options = self._options
        with ExitStack() as stack:
            self._sim = stack.enter_context(SimProcess(sim_arguments(options)))
            settings = controller_settings(options, self._sim.queue_urls)
            self._prey = Prey(options.directory, self._sim, settings=settings)
            stack.callback(self._prey.close)
            canary = canary_of(options.seed)
            self._watch = Watch(controller_port=self._prey.port, sim_url=self._sim.url, canary=canary)
            self._watch.start()
            stack.callback(self._watch.stop)
            return self._play(canary)

    def _play(self, canary: str) -> Outcome:
        self._began_at = time.monotonic()
        weather = Weather(
            seed=self._options.seed, timings=self._options.timings, control=self._sim.control, met=self._met
        )
        killer = Killer(
            seed=self._options.seed,
            kills=self._options.kills,
            timings=self._options.timings,
            prey=self._prey,
            is_serving=self._is_serving,
        )
        self._prey.start()
        self._rage(weather, killer)
        raged_s = self._elapsed_s()
        weather.clear()
        is_drained = self._drain()
        drained_s = self._elapsed_s() - raged_s
        self._progress.phase = "reading the history"
        self._turn(killer)
        if not self._prey.has_ended():
            self._stop_prey()
        record = gather(
            sim=self._sim,
            prey=self._prey,
            sent=self._sent,
            pages=self._watch.pages,
            stall_s=self._watch.stall_s_max,
            is_drained=is_drained,
            canary=canary,
        )
        seconds = {"chaos": raged_s, "drain": drained_s}
        return Outcome(record=record, counts=killer.counts, met=weather.switched_on, seconds=seconds)

    # --- phases -------------------------------------------------------------------------------------------

    def _rage(self, weather: Weather, killer: Killer) -> None:
        """Until all messages are sent and all kills are done."""
        self._progress.phase = "chaos"
        planned = self._planned()
        self._progress.messages_planned = len(planned)
        while planned or not killer.is_done:
            now = time.monotonic()
            assert self._elapsed_s() < self._options.max_s, "the chaos itself takes longer than the run may"
            weather.turn(now)
            planned = self._send_due(planned)
            killer.turn(now)
            if self._prey.has_ended():
                self._prey.start()
            self._turn(killer)

    def _planned(self) -> list[Planned]:
        timings = self._options.timings
        mean_s = sum(timings.calm_s) / 2 + sum(timings.busy_s) / 2
        lasts_s = max(10.0, self._options.kills * mean_s * EXPECTED_S_PER_KILL)
        return planned_messages(self._options.requests, seed=self._options.seed, lasts_s=lasts_s, now=time.time())

    def _send_due(self, planned: list[Planned]) -> list[Planned]:
        """Send what is due, a few at a time; the rest. While credentials are refused, SQS refuses this sender too."""
        for number, message in enumerate(planned):
            if message.at_s > self._elapsed_s() or number == SENT_PER_TURN_MAX:
                return planned[number:]
            arguments = {"QueueUrl": self._prey.queue_url, "MessageBody": message.body}
            try:
                answer = self._prey.call_sqs("SendMessage", arguments)
            except HTTPError as error:
                error.close()
                return planned[number:]
            self._sent.append(Sent(planned=message, message_id=answer["MessageId"]))
            self._families[answer["MessageId"]] = message.family
        return []

    def _drain(self) -> bool:
        """Until every request has ended and every event is out; False if that takes too long."""
        self._progress.phase = "draining"
        until_s = min(self._elapsed_s() + self._options.timings.drain_s_max, self._options.max_s)
        quiet_since_s: float | None = None
        while self._elapsed_s() < until_s:
            if self._prey.has_ended():
                return False
            self._turn(None)
            if not self._is_settled():
                quiet_since_s = None
            elif quiet_since_s is None:
                quiet_since_s = self._elapsed_s()
            elif self._elapsed_s() - quiet_since_s >= QUIET_S:
                return True
            time.sleep(0.2)
        return False

    def _is_settled(self) -> bool:
        """As seen from outside; what is wrong with it is the judge's business."""
        if self._progress.ended < self._progress.expected or not self._is_serving():
            return False
        if any(self._watch.metric(name) for name in ("outbox_events{", "submissions_in_doubt ")):
            return False
        return bool(self._sim.control("stats")["sqs_queues"]["requests"]["messages"] == 0)

    def _stop_prey(self) -> None:
        """The last one is stopped in order."""
        was_serving = self._is_serving()
        self._prey.ask_to_stop()
        asked_at = time.monotonic()
        while not self._prey.has_stopped(
            was_serving=was_serving, is_overdue=time.monotonic() - asked_at > STOPS_WITHIN_S
        ):
            time.sleep(0.1)

    def _met(self) -> Mapping[str, Collection[str]]:
        calls: Mapping[str, Collection[str]] = self._sim.control("history/calls")["calls"]
        return calls

    # --- parts --------------------------------------------------------------------------------------------

    def _elapsed_s(self) -> float:
        return time.monotonic() - self._began_at

    def _is_serving(self) -> bool:
        return self._watch.scraped_at > self._prey.started_at

    def _turn(self, killer: Killer | None) -> None:
        self._read_finals()
        progress = self._progress
        progress.elapsed_s = self._elapsed_s()
        progress.messages = len(self._sent)
        progress.ended = len(self._ended)
        progress.expected = len({id(family) for family in self._families.values()})
        progress.in_doubt = int(self._watch.metric("submissions_in_doubt "))
        if killer is not None:
            progress.kills = killer.counts["SIGKILL"]
        self._show(progress)
        time.sleep(TURN_S)

    def _read_finals(self) -> None:
        events = self._prey.numbered_events()
        for _, event in events[self._events_seen :]:
            family = self._families.get(event.get("message_id", ""))
            if event["event"] in FINAL and event.get("error_code") != "conflict" and family is not None:
                self._ended.add(id(family))
        self._events_seen = len(events)
