"""``python -m tests.chaos``: one run and its verdict. Exit codes: 0 every promise was kept; 1 one was not."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.chaos.judge import Check, Finding, judge
from tests.chaos.plan import BRISK, STANDARD, Options
from tests.chaos.report import Line, coverage, summarise, tell_failure
from tests.chaos.run import Outcome, Run

REQUESTS_FOR_ALL = 2_000
"""From so many requests on, a fault that never struck is a finding: the run did not try what it says."""


def _options(arguments: Sequence[str] | None) -> tuple[Options, bool]:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000, help="requests to send (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of all that is left to chance (default: any)")
    parser.add_argument("--max-seconds", type=float, default=600.0, help="of the whole run (default: %(default)g)")
    parser.add_argument("--brisk", action="store_true", help="shorter times, for small runs")
    parser.add_argument("--keep-files", action="store_true", help="keep events, logs and store of a run that passed")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting of the controller, such as SUBMIT__SETTLE_S=0, to see a promise break",
    )
    given = parser.parse_args(arguments)
    if given.requests < 1 or given.kills < 0:
        parser.error("--requests must be at least 1, --kills at least 0")
    options = Options(
        requests=given.requests,
        kills=given.kills,
        seed=random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed,
        directory=Path(tempfile.mkdtemp(prefix="batch-controller-chaos-")),
        max_s=given.max_seconds,
        timings=BRISK if given.brisk else STANDARD,
        settings=dict(pair.partition("=")[::2] for pair in given.set),
    )
    return options, given.keep_files


def checks_of(outcome: Outcome, options: Options) -> list[Check]:
    """The verdict; for a run of full size also whether everything went wrong that can."""
    missing, total = coverage(outcome)
    findings = [Finding(what=f"never struck: {name}") for name in missing]
    is_full = options.requests >= REQUESTS_FOR_ALL
    detail = f"{total - len(missing)} of {total} faults × operations"
    return [*judge(outcome.record), Check(title="all faults met", detail=detail, findings=findings if is_full else [])]


def _stopped(number: int, _: object) -> None:
    """Leave in order, so that no process is left behind."""
    sys.exit(f"stopped by {signal.Signals(number).name}")


def main(arguments: Sequence[str] | None = None) -> int:
    options, is_kept = _options(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=150, color_system=None)
    console.print(options.command, highlight=False, soft_wrap=True)
    signal.signal(signal.SIGTERM, _stopped)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # else nohup has asked to ignore it
        signal.signal(signal.SIGHUP, _stopped)
    try:
        with Line(console) as line:
            outcome = Run(options, show=line.show).play()
    except BaseException:
        console.print(f"files: {options.directory}", highlight=False, soft_wrap=True)
        raise
    checks = checks_of(outcome, options)
    summarise(outcome, checks, options, console)
    is_right = not any(check.findings for check in checks)
    if not is_right:
        tell_failure(outcome, checks, options, console)
    elif is_kept:
        console.print(f"files: {options.directory}", highlight=False, soft_wrap=True)
    else:
        shutil.rmtree(options.directory)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
