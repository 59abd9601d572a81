"""The comparison of ``docs/tracking.md``: a lawful day, models that keep their rules, results that are as written."""

from __future__ import annotations

import math
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.tracking.comparison import BEGIN, CLIENTS, END, JOBS, RATE_PER_S, run, table, write_into
from benchmarks.tracking.ours import EVENT_S, INFORMED, INTERVAL_S_MAX, OURS, Ours, Run, hazard
from benchmarks.tracking.pollers import CALL_S, POLLERS, Poller
from benchmarks.tracking.result import Result
from benchmarks.tracking.workload import ATTEMPTS_MAX, Day, make_day
from controller.core.job import BatchStatus
from controller.core.polling import END_SPACING_S

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "tracking.md"
LOAD, HOURS = 48_000, 1.0
HIGH_LOAD, HIGH_HOURS = 1_000_000, 0.2
WITH_EVENTS, SOME_LOST, WITHOUT = OURS
NEXTFLOW, FLYTE, TOIL, ONE_ID = POLLERS


def _silent(name: str, share: float) -> None:
    assert 0 <= share <= 1


@cache
def _result(client: Ours | Poller, *, jobs: int = LOAD, hours: float = HOURS) -> Result:
    return run(client, jobs=jobs, hours=hours, seed=1, progress=_silent)


@cache
def _day() -> Day:
    return make_day(jobs=LOAD, hours=HOURS, seed=1)


# --- the day --------------------------------------------------------------------------------------------


def test_a_day_is_the_same_for_a_seed_and_another_for_another() -> None:
    """Every client meets the same jobs, and a seed replays them."""
    again, other = make_day(jobs=LOAD, hours=HOURS, seed=1), make_day(jobs=LOAD, hours=HOURS, seed=2)
    assert (again.at, again.codes) == (_day().at, _day().codes)
    assert other.at != again.at


def test_jobs_live_as_batch_lets_them() -> None:
    """Each job goes from SUBMITTED to one end, forward in time, round again only with one more attempt."""
    day, attempts_seen = _day(), set()
    assert len(day) == pytest.approx(LOAD * HOURS / 24, rel=0.15)
    for job in range(len(day)):
        states = [day.state(transition) for transition in day.transitions(job)]
        times = [day.at[transition] for transition in day.transitions(job)]
        statuses = [status for status, _ in states]
        assert times == sorted(times)
        assert (statuses[0], day.arrived_at[job], day.ended_at[job]) == (BatchStatus.SUBMITTED, times[0], times[-1])
        assert [status.is_final for status in statuses] == [False] * (len(statuses) - 1) + [True]
        for (before, attempts), (after, attempts_after) in pairwise(states):
            assert attempts_after - attempts == (before is BatchStatus.RUNNING)
            assert after is not BatchStatus.RUNNABLE or before in {BatchStatus.SUBMITTED, BatchStatus.RUNNING}
        attempts_seen.add(states[-1][1])
    assert attempts_seen == set(range(ATTEMPTS_MAX + 1)), "arrays, single runs and retries occur"


# --- every client ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [*CLIENTS, INFORMED], ids=lambda client: client.name)
def test_no_client_sees_an_end_before_it_comes_or_exceeds_the_rate(client: Ours | Poller) -> None:
    """Lags are of all jobs that ended, none below what a call takes at least, and the budget is the same for all."""
    result = _result(client)
    assert result.ended == len(result.lags_s) == _day().ended()
    seen = result.ended - result.unseen
    assert sum(lag_s > 0.04 for lag_s in result.lags_s) >= seen > 0
    assert 0 < result.calls <= result.budget + 1


@pytest.mark.parametrize("client", [NEXTFLOW, FLYTE, TOIL], ids=lambda client: client.name)
def test_rounds_see_every_end_within_their_period(client: Poller) -> None:
    """With few jobs a poller is late by one period and one call at most, and by half of it as a rule."""
    result = _result(client)
    calls_per_round = 30
    period_s = client.every_s or client.pause_s + calls_per_round * CALL_S
    assert result.lags_s[-1] <= period_s + CALL_S + calls_per_round / RATE_PER_S
    assert result.lag_s(0.5) == pytest.approx(client.every_s / 2 or 1.0, abs=1.5)


def test_one_id_per_call_falls_behind() -> None:
    """At the rate that all have, asking for one job at a time takes minutes, and what it hasn't seen is told."""
    result = _result(ONE_ID)
    assert result.lag_s(0.5) > 15.0
    assert result.calls_per_job > 3 * _result(NEXTFLOW).calls_per_job
    behind = _result(ONE_ID, jobs=HIGH_LOAD, hours=HIGH_HOURS)
    assert behind.is_behind
    assert "≥" in table([behind])


# --- this controller ------------------------------------------------------------------------------------


def test_with_events_ends_are_seen_within_a_second_for_few_calls() -> None:
    """At a million jobs a day: half of the ends within a second, 95 % within three, for a call in 0.95 s and a few."""
    result = _result(WITH_EVENTS, jobs=HIGH_LOAD, hours=HIGH_HOURS)
    assert EVENT_S < result.lag_s(0.5) <= 1.0
    assert result.lag_s(0.95) <= 3.0
    # Ends share a call for so long: a number of calls an hour, whatever the jobs.
    assert result.calls <= 1.1 * HIGH_HOURS * 3_600 / END_SPACING_S
    for poller in (NEXTFLOW, TOIL):
        assert result.calls < 0.5 * _result(poller, jobs=HIGH_LOAD, hours=HIGH_HOURS).calls


def test_lost_events_cost_time_within_the_bound() -> None:
    """With a tenth of the events lost most ends are seen at once, and none later than polling alone sees them."""
    result = _result(SOME_LOST)
    assert result.lag_s(0.5) <= 1.0
    assert result.lags_s[-1] <= INTERVAL_S_MAX + 5.0
    assert result.lag_s(0.95) < _result(WITHOUT).lag_s(0.95)


def test_without_events_ends_are_seen_sooner_than_in_rounds_of_ten_seconds() -> None:
    """Half of the ends, for about as many calls; the interval follows the age, so that the last ones are later."""
    result, rounds = _result(WITHOUT), _result(NEXTFLOW)
    assert result.lag_s(0.5) < rounds.lag_s(0.5)
    assert result.lags_s[-1] <= INTERVAL_S_MAX + 5.0
    assert result.calls < 2.5 * rounds.calls


@pytest.mark.parametrize("client", OURS, ids=lambda client: client.name)
@pytest.mark.parametrize(("jobs", "hours"), [(LOAD, HOURS), (HIGH_LOAD, HIGH_HOURS)])
def test_no_job_is_asked_for_later_than_the_bound(client: Ours, jobs: int, hours: float) -> None:
    """Whenever it is looked at, the oldest answer is no older than the gauge of the bound says, and a call's time."""
    day = make_day(jobs=jobs, hours=hours, seed=2)
    one = Run(client, day, RATE_PER_S)
    one.run(_silent)
    assert -math.inf < one.staleness_excess_s <= 0.2


def test_hazard_is_the_share_that_ends_next() -> None:
    """It is the relative loss of the survivors, up to the far tail."""

    def alive(age_s: float) -> float:
        return 0.5 * math.erfc(math.log(age_s / 120.0) / 0.8 / math.sqrt(2))

    for age_s in (20.0, 120.0, 900.0):
        lost = (alive(age_s - 0.01) - alive(age_s + 0.01)) / 0.02 / alive(age_s)
        assert hazard(age_s, 120.0, 0.8) == pytest.approx(lost, rel=1e-3)
    assert hazard(14_600.0, 120.0, 0.8) == pytest.approx(hazard(14_500.0, 120.0, 0.8), rel=0.05)


# --- the document ---------------------------------------------------------------------------------------


def test_the_document_has_a_row_for_each_client_at_each_load() -> None:
    """The table of the document is a whole one, and the goal of a million jobs a day with events is met in it."""
    rows = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].splitlines()
    for jobs in JOBS:
        for client in CLIENTS:
            start = f"| {jobs:,} | {client.name}"
            assert sum(row.startswith((f"{start} |", f"{start} (")) for row in rows) == 1
    goal = next(row for row in rows if row.startswith(f"| 1,000,000 | {WITH_EVENTS.name}"))
    cells = [cell.strip() for cell in goal.split("|")]
    assert float(cells[3].removesuffix(" s")) <= 1.0
    assert float(cells[8]) <= 0.1


def test_the_table_is_written_between_its_marks(tmp_path: Path) -> None:
    """What stands around it stays, and writing it again changes nothing."""
    document = tmp_path / "document.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        write_into(document, "| new |")
        assert document.read_text(encoding="utf-8") == f"before\n{BEGIN}\n| new |\n{END}\nafter\n"


def test_the_program_prints_the_table() -> None:
    """A small run from the command line prints one row for each client that was asked for."""
    options = ["--jobs", "5000", "--hours", "0.3", "--client", "Nextflow"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.tracking", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert f"| 5,000 | {NEXTFLOW.name} (0.3 h) |" in done.stdout
    assert done.stdout.count("\n| 5,000 |") == 1
