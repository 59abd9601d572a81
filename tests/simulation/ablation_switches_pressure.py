"""How the safeguards of backpressure are switched off: fairness, noise, shares. Part of ``ablation_switches.py``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from controller import gate
from controller.adapters.store import backlog
from controller.adapters.store.sqlite import SqliteStore
from controller.budgets import Purpose
from controller.core import throttle_noise
from controller.core.admission import AdmissionSnapshot
from controller.core.job import Job
from controller.core.probe_lines import PROBES_PER_S, ProbeLines
from controller.core.sharing import FairTurns
from controller.health import Health
from controller.holds import DENIED_PAIRS_MIN, GOOD_FOR_S, STOPPED_PAUSE_S, HoldBook, Pause
from controller.ports import HeadOf
from controller.rests import Pair
from controller.stages import admit
from tests.simulation.ablation_switches import both, put

_BY_RANK = backlog.ROWS_BUT.replace("AND tenant = ? ", "")


def _first_by_rank(self: backlog.Backlog, after: int | None, limit: int) -> Iterator[Any]:
    values = (self._job_queue, -math.inf, self._now, self._held_ids, self._resting_ids, limit)
    return iter(self._connection.execute(_BY_RANK, values).fetchall())


def _as_they_come(rows: Sequence[Job], limit: int) -> list[Job]:
    return list(rows)[:limit]


no_tenants = both(put(backlog.Backlog, "next_rows", _first_by_rank), put(admit, "in_turns", _as_they_come))

_HEADS = SqliteStore.heads


async def _from_the_first(self: SqliteStore, asked: Sequence[HeadOf], *, now: float) -> Any:
    return await _HEADS(self, [replace(each, after_tenant=None) for each in asked], now=now)


rounds_begin_anew = put(SqliteStore, "heads", _from_the_first)


def _each_denial_counts(self: HoldBook, pair: Pair) -> None:
    self._denied.add(pair)
    if len(self._denied) >= DENIED_PAIRS_MIN:
        self.pause(STOPPED_PAUSE_S, reason=Pause.DENIED)


each_denial_counts = put(HoldBook, "_deny", _each_denial_counts)


def _one_denial_is_enough(self: HoldBook, now: float) -> bool:
    return any(now - at <= GOOD_FOR_S for at in self._good_at.values())


one_denial_is_enough = put(HoldBook, "_knows_good", _one_denial_is_enough)

_FIND_OUT = admit.Admit._find_out


async def _held_ones_last(self: admit.Admit, unheld: Sequence[Job], snapshot: AdmissionSnapshot) -> list[Job]:
    return self._most_telling(unheld)[: admit.TRIES_AT_ONCE] or await _FIND_OUT(self, unheld, snapshot)


held_ones_last = put(admit.Admit, "_find_out", _held_ones_last)


def _one_line(self: ProbeLines, pair: Pair) -> float:
    return len(self) / PROBES_PER_S


one_line_of_probes = put(ProbeLines, "turn_s", _one_line)


def _what_they_have(queued: Mapping[str, int], source: str, **_: Any) -> int:
    return sum(rows for name, rows in queued.items() if name != source)


first_come = put(gate, "kept_for_others", _what_they_have)

every_throttle_is_a_limit = both(
    put(throttle_noise, "GRACE_AFTER_CUT", 0.0),
    put(throttle_noise, "GRACE_BASE", 0.0),
    put(throttle_noise, "CONFIDENCE", 0.0),
)


def _submits_first(self: FairTurns[Purpose]) -> Purpose | None:
    return min(self._tags, key=lambda purpose: (purpose is not Purpose.SUBMIT, self._order[purpose]), default=None)


submits_before_all = put(FairTurns, "next", _submits_first)


def _unless_disk(self: Health) -> Mapping[str, bool]:
    return {**_BLOCKERS(self), "disk": False}


_BLOCKERS = Health.intake_blockers
received_without_room = put(Health, "intake_blockers", _unless_disk)


_ADMIT = admit.Admit.__init__


def _never_short(self: admit.Admit, **options: Any) -> None:
    _ADMIT(self, **{**options, "is_short": lambda: False})


submitted_without_room = put(admit.Admit, "__init__", _never_short)
