"""``batch-controller demo``: a simulated AWS and the real controller as processes of their own, messages of every kind,
and a proof of what became of each.

Called by ``__main__.py``. Exit codes: 0 everything ended as it must; 1 something did not, or a process died; 130
stopped by Ctrl-C before the end. Nothing outlives it: both processes are ended by pid and the directory is removed,
unless something was wrong and it is needed to see what.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException
from pathlib import Path
from types import FrameType
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from controller.demo.children import ChildDied, start_controller, start_sim
from controller.demo.cloud import Cloud
from controller.demo.proof import Proof, prove
from controller.demo.run import Run
from controller.demo.screen import WIDTH_MAX, Fixed, screen
from controller.demo.summary import addresses, event_line, plain_line, summary
from controller.demo.watch import FINAL_EVENTS
from controller.demo.workload import plan

EXIT_RIGHT: Final = 0
EXIT_WRONG: Final = 1
EXIT_STOPPED: Final = 130
TURN_S: Final = 0.1
PLAIN_LINE_S: Final = 2.0
KEEP_TURN_S: Final = 0.5
DEADLINE_S: Final = 60.0
MESSAGES_PER_S_LEAST: Final = 8
"""The deadline grows with the number of messages: at least so many per second must be possible."""
QUIET_S: Final = 1.0
"""Once all has ended: how long nothing more may come."""
BULK_MAX: Final = 24
"""In-flight limit of the job queue that shows what a limit does; more for more messages."""
MESSAGES_PER_SLOT: Final = 12


def run_demo(*, requests: int, keep: bool, seed: int) -> int:
    """Run it; the exit code. ``requests``: how many messages are sent in all, those about other requests included."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the characters shows ? instead of failing
    is_terminal = sys.stdout.isatty() and not Console().is_dumb_terminal
    console = Console() if is_terminal else Console(width=WIDTH_MAX, color_system=None, force_terminal=False)
    view = LiveView(console) if is_terminal else PlainView(console)
    directory = Path(tempfile.mkdtemp(prefix="batch-controller-demo-"))
    try:
        with _interrupted_by_signals():
            code = _run(requests, keep, seed, directory, view, console)
    except KeyboardInterrupt:
        code = EXIT_STOPPED
    except (ChildDied, OSError, HTTPException) as error:
        code = EXIT_WRONG
        console.print(f"demo: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    if code == EXIT_WRONG:
        console.print(f"events, logs and configuration are kept in {directory}", highlight=False, soft_wrap=True)
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return code


def _run(requests: int, keep: bool, seed: int, directory: Path, view: LiveView | PlainView, console: Console) -> int:
    bulk_max = max(BULK_MAX, requests // MESSAGES_PER_SLOT)
    with ExitStack() as children, _told(console):
        with view.waiting("starting a simulated AWS and the controller …"):
            sim, ready = start_sim(directory, seed=seed, sleep=time.sleep)
            children.callback(sim.stop)
            controller, base_url = start_controller(directory, ready, bulk_max=bulk_max, sleep=time.sleep)
            children.callback(controller.stop)
        run = Run(
            plan(requests, seed=seed, now=time.time()),
            cloud=Cloud(ready),
            sim=sim,
            controller=controller,
            base_url=base_url,
            bulk_max=bulk_max,
            monotonic=time.monotonic,
        )
        with view.watching(run):
            _until_settled(run, view)
            elapsed_s = run.elapsed_s
            exit_code = None if keep else _stop(run, view)
        proof = _prove(run, exit_code)
        console.print()
        console.print(summary(proof, seed=seed, total=requests, elapsed_s=elapsed_s), highlight=False)
        if keep:
            _keep(run, console)
    return EXIT_RIGHT if proof.is_right else EXIT_WRONG


def _until_settled(run: Run, view: LiveView | PlainView) -> None:
    """Until everything has ended and a little longer, or the deadline."""
    deadline_s = DEADLINE_S + run.total / MESSAGES_PER_S_LEAST
    quiet_since: float | None = None
    while run.elapsed_s < deadline_s:
        run.turn()
        if quiet_since is None and run.is_settled():
            quiet_since = run.elapsed_s
        if quiet_since is not None and run.elapsed_s - quiet_since >= QUIET_S:
            break
        view.show(run, "running" if run.unsent or run.seen.ended < run.endings else "settling")
        time.sleep(TURN_S)
    run.scrape()


def _stop(run: Run, view: LiveView | PlainView) -> int:
    view.show(run, "stopping")
    code = run.controller.stop()
    run.read_events()
    return code


def _prove(run: Run, exit_code: int | None) -> Proof:
    reading = run.readings.latest
    assert reading is not None, "scraped at the end"
    return prove(run.sent, run.unsent, run.seen, reading, run.cloud.history(), run.limits, exit_code)


def _keep(run: Run, console: Console) -> None:
    """Serve until Ctrl-C; tell how each further request ends."""
    try:
        run.cloud.lose_nothing()
        console.print()
        console.print(addresses(run), highlight=False, markup=False, soft_wrap=True)
        while True:
            run.sim.check()
            run.controller.check()
            for event in run.read_events():
                if event["event"] in FINAL_EVENTS:
                    console.print(event_line(event), markup=False, highlight=False, soft_wrap=True)
            time.sleep(KEEP_TURN_S)
    except KeyboardInterrupt:
        console.print("stopping …", style="dim")


@contextmanager
def _told(console: Console) -> Iterator[None]:
    """Ctrl-C shows at once that it was heard; ending the processes takes a moment."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("stopping …", style="dim")
        raise


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP (the terminal was closed) end it as Ctrl-C does: in order."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, was in before.items():
            signal.signal(number, was)


# --- views --------------------------------------------------------------------------------------------------


class LiveView:
    """A screen that is drawn over itself and gives way to the summary."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        with self._console.status(Text(what, style="dim")):
            yield

    def show(self, run: Run, phase: str) -> None:
        assert self._live is not None, "shown while watching"
        width, height = self._console.size
        self._live.update(Fixed(screen(run, phase=phase, width=width, height=height), height - 1), refresh=True)

    @contextmanager
    def watching(self, run: Run) -> Iterator[None]:
        with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
            yield


class PlainView:
    """A line every few seconds, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said_at = -PLAIN_LINE_S

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        self._console.print(what, highlight=False)
        yield

    def show(self, run: Run, phase: str) -> None:
        if run.elapsed_s - self._said_at >= PLAIN_LINE_S:
            self._said_at = run.elapsed_s
            self._console.print(plain_line(run), highlight=False, soft_wrap=True)

    @contextmanager
    def watching(self, run: Run) -> Iterator[None]:
        self._console.print(f"metrics at {run.base_url}/metrics while it runs", highlight=False)
        yield
