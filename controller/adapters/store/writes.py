"""The writes of one transaction: each is decided in order, then carried out in few statements.

Whether a write applies is decided in memory, from rows read ahead and from the writes before it, so a write that
does not apply has touched nothing. Statements on ``jobs`` keep the order of the writes; those on other tables do not
depend on each other and go last, one ``executemany`` each. Runs inside the store's runner: no await, no clock.
"""

from __future__ import annotations

import functools
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from controller.adapters.store.backlog import Passed
from controller.adapters.store.dependents import Dependents
from controller.adapters.store.names import Vocabulary
from controller.adapters.store.rows import (
    ASKED,
    KEYED,
    PLAIN,
    QUEUED,
    REJECTED,
    STATE_CODES,
    STATUS_CODES,
    SUBMITTING,
    TRACKED,
    UNMET,
    Value,
    encode_asked,
    encode_keyed,
    encode_plain,
    pack_id,
    rows_in,
    storable,
)
from controller.core.events import Event, event_id, flat
from controller.core.job import Dependencies, Job, JobState
from controller.ports import (
    DEAD_LETTER,
    Considered,
    DeadLetter,
    DeleteOutbox,
    EndBlock,
    InsertJob,
    InsertRejection,
    PutBlock,
    PutHold,
    ReleaseHold,
    RememberCancel,
    UpdateJob,
    Write,
)

_INSERT_JOB: Final = "INSERT INTO jobs ({}) VALUES ({})".format(  # noqa: S608 - column names of rows.py
    ", ".join(("key", *ASKED, *KEYED, *PLAIN)), ", ".join("?" * (1 + len(ASKED) + len(KEYED) + len(PLAIN)))
)
_STANDING: Final = (
    "SELECT key, version, source, job_queue, array_size IS NOT NULL, request_id, batch_status, is_in_doubt, "
    "state, life, rank, cancel_requested_at, dependencies, batch_job_id, finished_at FROM jobs WHERE key IN (:these)"
)
_INSERT_OUTBOX: Final = "INSERT INTO outbox (key, sink, row_key, event_id, name, body) VALUES (?, ?, ?, ?, ?, ?)"
_ADD_USAGE: Final = (
    "INSERT INTO usage (source, job_queue, state, batch_status, is_in_doubt, is_array, is_unmet, count) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO NOTHING"
)
_COUNT_USAGE: Final = (
    "UPDATE usage SET count = count + ? WHERE source = ? AND job_queue = ? AND state = ? AND batch_status = ? "
    "AND is_in_doubt = ? AND is_array = ? AND is_unmet = ?"
)
_DEPENDENT: Final = "INSERT INTO dependencies (row_key, request_id, due) VALUES (?, ?, 1)"
_CONSIDERED: Final = "UPDATE dependencies SET due = 0 WHERE row_key = ? AND request_id = ? AND due = ?"
_DEPENDENTS_DUE: Final = "UPDATE dependencies INDEXED BY dependencies_on SET due = due + 1 WHERE request_id IN (:these)"
_DUE_AGAIN: Final = "UPDATE dependencies SET due = due + 1 WHERE row_key = ?"
_REMEMBER_CANCEL: Final = (
    "INSERT INTO cancels (request_id, source, reason, sent_at, received_at) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (request_id, source) DO UPDATE SET reason = excluded.reason, sent_at = excluded.sent_at, "
    "received_at = excluded.received_at WHERE excluded.sent_at > cancels.sent_at"
)

_SAYS_NOTHING: Final = frozenset({QUEUED, SUBMITTING, STATE_CODES[JobState.SUCCEEDED]})
"""States of a request from which nothing follows for those that depend on it: what SUCCEEDED was TRACKED before."""
_RANK: Final = KEYED.index("rank")
_DEPENDENCIES: Final = KEYED.index("dependencies")

Place = tuple[int, int, int, int, int, int, int]
"""A line of ``usage``: source, job queue, state, batch status or −1, in doubt, array, waits for another request."""


@dataclass(slots=True)
class Sequences:
    """Next keys; never given back, so a key names one row for ever."""

    row: int
    outbox: int


@dataclass(frozen=True, slots=True)
class Context:
    """What every transaction of a store shares."""

    store_id: str
    names: Vocabulary
    sequences: Sequences
    passed: Passed
    dependents: Dependents
    sinks_of: Callable[[str], Sequence[str]]
    dead_letters: bool


@dataclass(slots=True)
class _Standing:
    """A stored row as far as deciding needs it, kept up to date with the writes applied to it."""

    version: int
    source: int
    job_queue: int
    is_array: int
    request_id: str | bytes
    place: Place | None
    keyed: tuple[Value, ...]


class Changes:
    """One transaction's worth of writes. ``apply`` each, then ``flush``."""

    def __init__(self, connection: sqlite3.Connection, context: Context, writes: Sequence[Write]) -> None:
        self._connection = connection
        self._context = context
        self._names = context.names
        self._runs: list[tuple[str, list[tuple[Value, ...]]]] = []
        self._bodies: dict[int, bytes] = {}
        self._erased: list[tuple[int]] = []
        self._depend: list[tuple[int, str | bytes]] = []
        self._independent: list[tuple[int]] = []
        """Rows that depend on nobody any more."""
        self._returned: list[tuple[int]] = []
        """Rows that depend on others and were not sent after all: what changed meanwhile was passed over."""
        self._told: dict[str | bytes, None] = {}
        """Requests that have become what others may wait for."""
        self._outbox: list[tuple[Value, ...]] = []
        self._usage: Counter[Place] = Counter()
        self._first = (context.sequences.row, context.sequences.outbox)
        self._live = self._read_live(writes)
        self._standing = self._read_standing(writes)

    def apply(self, write: Write) -> bool:
        """Whether the write applies; if not, it leaves no trace."""
        if isinstance(write, UpdateJob):
            return self._update_job(write)
        if isinstance(write, InsertJob):
            return self._insert_job(write)
        if isinstance(write, DeleteOutbox):
            return self._delete_outbox(write)
        if isinstance(write, InsertRejection):
            return self._insert_rejection(write)
        if isinstance(write, RememberCancel):
            return self._remember_cancel(write)
        if isinstance(write, Considered):
            return self._considered(write)
        if isinstance(write, PutHold):
            return self._put_hold(write)
        if isinstance(write, PutBlock):
            return self._put_block(write)
        if isinstance(write, EndBlock):
            return self._end_block(write)
        return self._release_hold(write)

    def flush(self) -> None:
        """Carry out what was decided."""
        execute_many = self._connection.executemany
        for sql, rows in self._runs:
            done = execute_many(sql, rows).rowcount
            assert done == len(rows), "a row was changed behind the store's back"
        if self._bodies:
            execute_many("INSERT INTO bodies (key, body) VALUES (?, ?)", self._bodies.items())
        if self._erased:
            execute_many("DELETE FROM bodies WHERE key = ?", self._erased)
        if self._independent:
            execute_many("DELETE FROM dependencies WHERE row_key = ?", self._independent)
        if self._depend:
            execute_many(_DEPENDENT, self._depend)
        if self._returned:
            execute_many(_DUE_AGAIN, self._returned)
        if self._told and self._context.dependents.any:
            for _ in rows_in(self._connection, _DEPENDENTS_DUE, list(self._told)):
                pass
        if self._outbox:
            execute_many(_INSERT_OUTBOX, self._outbox)
        self._flush_usage()
        sequences = self._context.sequences
        if self._first != (sequences.row, sequences.outbox):
            self._connection.execute(
                "UPDATE store SET next_key = ?, next_outbox_key = ?", (sequences.row, sequences.outbox)
            )

    # --- jobs

    def _insert_job(self, write: InsertJob) -> bool:
        job = write.job
        request_id = pack_id(job.request_id)
        if request_id in self._live:
            return False
        key = self._next_key()
        asked, keyed = encode_asked(job, self._names), encode_keyed(job, key, self._names)
        self._run(_INSERT_JOB, (key, *asked, *keyed, *encode_plain(job, 1, self._names)))
        self._queued(job, keyed)
        state = STATE_CODES[job.state]
        if state != REJECTED:
            self._live.add(request_id)
        if state in (QUEUED, SUBMITTING):
            self._bodies[key] = write.body.encode("utf-8", "surrogatepass")
            self._depend.extend((key, pack_id(each)) for each in write.depends_on)
        else:
            self._told[request_id] = None
        if write.depends_on:
            self._context.dependents.any = True
        source, job_queue = self._names.sources.id_of(job.source), self._names.job_queues.id_of(job.job_queue)
        self._count(None, _place(job, source, job_queue, int(job.is_array)))
        self._report(write.events, key)
        self._bury(write.dead_letter, key, write.body)
        return True

    def _update_job(self, write: UpdateJob) -> bool:
        job = write.job
        was = self._standing.get(job.key)
        if was is None or was.version != job.version:
            return False
        version = was.version + 1
        keyed = encode_keyed(job, job.key, self._names)
        changed = tuple(map(_differ, was.keyed, keyed))
        moved = [value for value, is_changed in zip(keyed, changed, strict=True) if is_changed]
        self._run(_update_statement(changed), (*encode_plain(job, version, self._names), *moved, job.key))
        self._queued(job, keyed)
        if keyed[0] == REJECTED and was.keyed[0] != REJECTED:
            self._live.discard(was.request_id)
        place = _place(job, was.source, was.job_queue, was.is_array)
        self._count(was.place, place)
        self._report(write.events, job.key)
        had_body, keeps_body = was.keyed[0] in (QUEUED, SUBMITTING), keyed[0] in (QUEUED, SUBMITTING)
        if write.dead_letter is not None:
            self._bury(write.dead_letter, job.key, self._stored_body(job.key) if had_body else "")
        if had_body and not keeps_body:
            self._erased.append((job.key,))
            if keyed[_DEPENDENCIES]:
                self._independent.append((job.key,))
        if keyed[0] == QUEUED != was.keyed[0] and keyed[_DEPENDENCIES]:
            self._returned.append((job.key,))
        if keyed[0] != was.keyed[0] and keyed[0] not in _SAYS_NOTHING:
            self._told[was.request_id] = None
        was.version, was.keyed, was.place = version, keyed, place
        return True

    def _queued(self, job: Job, keyed: Sequence[Value]) -> None:
        """Tell where a QUEUED row stands; if the transaction fails after all, that costs a look and nothing else."""
        if (rank := keyed[_RANK]) is not None:
            names = self._names
            assert isinstance(rank, float)
            self._context.passed.queued(names.job_queues.id_of(job.job_queue), names.tenants.id_of(job.tenant), rank)

    def _stored_body(self, key: int) -> str:
        body = self._bodies.get(key)
        if body is None:
            row = self._connection.execute("SELECT body FROM bodies WHERE key = ?", (key,)).fetchone()
            body = row[0] if row else b""
        return body.decode("utf-8", "surrogatepass")

    # --- everything else: single statements that apply or don't

    def _insert_rejection(self, write: InsertRejection) -> bool:
        key = self._next_key()
        done = self._connection.execute(
            "INSERT INTO rejections (key, message_id, source, received_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (key, pack_id(write.message_id), self._names.sources.id_of(write.source), write.received_at),
        )
        if done.rowcount == 0:
            return False
        self._report(write.events, key)
        self._bury(write.dead_letter, key, "")
        return True

    def _remember_cancel(self, write: RememberCancel) -> bool:
        done = self._connection.execute(
            _REMEMBER_CANCEL,
            (
                pack_id(write.request_id),
                self._names.sources.id_of(write.source),
                storable(write.reason),
                write.sent_at,
                write.received_at,
            ),
        )
        return done.rowcount == 1

    def _considered(self, write: Considered) -> bool:
        values = [(write.key, pack_id(each.request_id), each.due) for each in write.dependencies]
        return self._connection.executemany(_CONSIDERED, values).rowcount == len(values)

    def _put_hold(self, write: PutHold) -> bool:
        hold = write.hold
        done = self._connection.execute(
            "INSERT INTO holds (job_queue, job_definition, reason, held_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (hold.job_queue, hold.job_definition, hold.reason, hold.held_at),
        )
        if done.rowcount == 0:
            return False
        self._report(write.events, None)
        return True

    def _release_hold(self, write: ReleaseHold) -> bool:
        done = self._connection.execute(
            "DELETE FROM holds WHERE job_queue = ? AND job_definition = ?", (write.job_queue, write.job_definition)
        )
        if done.rowcount == 0:
            return False
        self._report(write.events, None)
        return True

    def _put_block(self, write: PutBlock) -> bool:
        block = write.block
        self._connection.execute(
            "INSERT OR REPLACE INTO blocked_queues (job_queue, cause, blocked_at) VALUES (?, ?, ?)",
            (block.job_queue, block.cause, block.blocked_at),
        )
        self._report(write.events, None)
        return True

    def _end_block(self, write: EndBlock) -> bool:
        done = self._connection.execute("DELETE FROM blocked_queues WHERE job_queue = ?", (write.job_queue,))
        if done.rowcount == 0:
            return False
        self._report(write.events, None)
        return True

    def _delete_outbox(self, write: DeleteOutbox) -> bool:
        done = self._connection.executemany("DELETE FROM outbox WHERE key = ?", ((key,) for key in write.keys))
        return done.rowcount > 0

    # --- the outbox

    def _report(self, events: Iterable[Event], row_key: int | None) -> None:
        for event in events:
            assert row_key is not None or event.subject is not None, "an event without a row needs a subject"
            sinks = self._context.sinks_of(event.name)
            if sinks:
                identifier = event_id(self._context.store_id, event, row_key)
                body = _encoded(flat(event, identifier))
                for sink in sinks:
                    self._put_outbox(sink, row_key, identifier, event.name, body)

    def _bury(self, dead_letter: DeadLetter | None, row_key: int, body: str) -> None:
        if dead_letter is None or not self._context.dead_letters:
            return
        record = asdict(dead_letter)
        record["body"] = dead_letter.body or body
        identifier = event_id(self._context.store_id, Event(name=DEAD_LETTER, time=0.0), row_key)
        self._put_outbox(DEAD_LETTER, row_key, identifier, DEAD_LETTER, _encoded(record))

    def _put_outbox(self, sink: str, row_key: int | None, identifier: str, name: str, body: bytes) -> None:
        sequences = self._context.sequences
        key, sequences.outbox = sequences.outbox, sequences.outbox + 1
        self._outbox.append((key, self._names.sinks.id_of(sink), row_key, pack_id(identifier), name, body))

    # --- bookkeeping

    def _next_key(self) -> int:
        sequences = self._context.sequences
        key, sequences.row = sequences.row, sequences.row + 1
        return key

    def _run(self, sql: str, row: tuple[Value, ...]) -> None:
        if not self._runs or self._runs[-1][0] is not sql:
            self._runs.append((sql, []))
        self._runs[-1][1].append(row)

    def _count(self, left: Place | None, entered: Place | None) -> None:
        if left == entered:
            return
        if left is not None:
            self._usage[left] -= 1
        if entered is not None:
            self._usage[entered] += 1

    def _flush_usage(self) -> None:
        deltas = [(delta, *place) for place, delta in self._usage.items() if delta]
        if deltas:
            self._connection.executemany(_ADD_USAGE, (place for _, *place in deltas))
            self._connection.executemany(_COUNT_USAGE, deltas)
            self._connection.execute("DELETE FROM usage WHERE count = 0")

    def _read_live(self, writes: Sequence[Write]) -> set[str | bytes]:
        ids = list({pack_id(write.job.request_id): None for write in writes if isinstance(write, InsertJob)})
        sql = "SELECT request_id FROM jobs WHERE life = 0 AND request_id IN (:these)"
        return {row[0] for row in rows_in(self._connection, sql, ids)}

    def _read_standing(self, writes: Sequence[Write]) -> dict[int, _Standing]:
        keys = list({write.job.key: None for write in writes if isinstance(write, UpdateJob)})
        standing: dict[int, _Standing] = {}
        for row in rows_in(self._connection, _STANDING, keys):
            key, version, source, job_queue, is_array, request_id, status, is_in_doubt, *keyed = row
            is_unmet = keyed[_DEPENDENCIES] == UNMET
            place = _line(source, job_queue, keyed[0], status, is_in_doubt, is_array, is_unmet)
            standing[key] = _Standing(version, source, job_queue, is_array, request_id, place, tuple(keyed))
        return standing


def _differ(old: Value, new: Value) -> bool:
    return old != new


@functools.cache
def _update_statement(changed: tuple[bool, ...]) -> str:
    """UPDATE of the plain columns and of the keyed ones that changed: a constant per combination."""
    keyed = [name for name, is_changed in zip(KEYED, changed, strict=True) if is_changed]
    columns = ", ".join(f"{name} = ?" for name in (*PLAIN, *keyed))
    return f"UPDATE jobs SET {columns} WHERE key = ?"  # noqa: S608 - column names of rows.py


def _place(job: Job, source: int, job_queue: int, is_array: int) -> Place | None:
    status = None if job.batch_status is None else STATUS_CODES[job.batch_status]
    is_unmet = job.dependencies is Dependencies.UNMET
    return _line(source, job_queue, STATE_CODES[job.state], status, int(job.is_in_doubt), is_array, is_unmet)


def _line(
    source: int, job_queue: int, state: int, status: int | None, is_in_doubt: int, is_array: int, is_unmet: bool
) -> Place | None:
    """Where a row counts; final rows count nowhere."""
    if state > TRACKED:
        return None
    shown = status if state == TRACKED and status is not None else -1
    return (source, job_queue, state, shown, is_in_doubt if state == SUBMITTING else 0, is_array, int(is_unmet))


def _encoded(record: dict[str, Any]) -> bytes:
    """JSON in UTF-8; half a surrogate pair in other people's text becomes a question mark."""
    try:
        return orjson.dumps(record)
    except TypeError:
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
