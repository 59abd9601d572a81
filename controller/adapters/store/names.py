"""Names that rows hold as small integers: SQS queues, job queues, job definitions, tenants, ARN prefixes, sinks.

Each kind is a table (id, name) and a copy in memory. A name that a transaction adds counts as known only once the
transaction is committed.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from typing import Final

AGING_S_DEFAULT: Final = 60.0
"""Until ``set_aging`` says otherwise; the default of ``queues.aging_s``."""
TENANTS_MAX: Final = 10_000
"""Tenants with a name of their own. Whoever comes after shares one of ``TENANTS_SHARED`` names, until a start finds
names that no row has any more."""
TENANTS_SHARED: Final = 256
KEPT: Final = {"job_definitions": 10_000, "job_queues": 1_000, "tenants": TENANTS_MAX // 2}
"""More of these than so many, and those without a row are forgotten when the store is opened."""


class Names:
    """One kind of name."""

    def __init__(self, connection: sqlite3.Connection, *, select: str, insert: str) -> None:
        self._connection = connection
        self._select = select
        self._insert = insert
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._added: list[str] = []
        self.read()

    def read(self) -> None:
        """Learn what is stored."""
        for identifier, name in self._connection.execute(self._select):
            self._ids[name] = identifier
            self._names[identifier] = name

    def id_of(self, name: str) -> int:
        """The name's id; a new name is inserted by the transaction that is open."""
        identifier = self.find(name)
        if identifier is None:
            identifier = self._connection.execute(self._insert, self._values(name)).lastrowid
            assert identifier is not None
            self._ids[name] = identifier
            self._names[identifier] = name
            self._added.append(name)
        return identifier

    def find(self, name: str) -> int | None:
        """The name's id, if it is known."""
        return self._ids.get(name)

    def name_of(self, identifier: int) -> str:
        return self._names[identifier]

    def keep(self) -> None:
        """The transaction is committed."""
        self._added.clear()

    def forget(self) -> None:
        """The transaction has failed: what it added is not known."""
        for name in self._added:
            del self._names[self._ids.pop(name)]
        self._added.clear()

    def _values(self, name: str) -> tuple[str | float, ...]:
        return (name,)


class JobQueueNames(Names):
    """Job queues, with the aging that their QUEUED rows are ranked by."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__(
            connection,
            select="SELECT id, name FROM job_queues",
            insert="INSERT INTO job_queues (name, aging_s) VALUES (?, ?)",
        )
        self._stored_s: dict[str, float] = dict(connection.execute("SELECT name, aging_s FROM job_queues"))
        self._named_s: Mapping[str, float] = {}
        self._default_s = AGING_S_DEFAULT

    def rank(self, job_queue: str, received_at: float, priority: int) -> float:
        """Place in the backlog of a queue, lowest first. Computed as the re-ranking SQL does, to the last bit."""
        return received_at - priority * self._stored_s.get(job_queue, self._wanted_s(job_queue))

    def stale(self, aging_s: Mapping[str, float], default_s: float) -> dict[str, float]:
        """Known queues that are ranked by another aging than the one wanted now, and that one."""
        wanted = {name: aging_s.get(name, default_s) for name in self._names.values()}
        return {name: seconds for name, seconds in wanted.items() if self._stored_s.get(name) != seconds}

    def adopt(self, aging_s: Mapping[str, float], default_s: float) -> None:
        """Stored rows are ranked by these from now on."""
        self._named_s, self._default_s = dict(aging_s), default_s
        self._stored_s = {name: self._wanted_s(name) for name in self._names.values()}

    def keep(self) -> None:
        self._stored_s.update((name, self._wanted_s(name)) for name in self._added)
        super().keep()

    def _wanted_s(self, name: str) -> float:
        return self._named_s.get(name, self._default_s)

    def _values(self, name: str) -> tuple[str | float, ...]:
        return (name, self._wanted_s(name))


class TenantNames(Names):
    """Tenants: a number of them that is bounded, whatever producers put into their messages."""

    def id_of(self, name: str) -> int:
        if self.find(name) is None and len(self._ids) >= TENANTS_MAX:
            name = shared_tenant(name)
        return super().id_of(name)


def shared_tenant(name: str) -> str:
    """One of ``TENANTS_SHARED`` names, always the same one for the same tenant."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return f"shared-{int.from_bytes(digest[:4], 'big') % TENANTS_SHARED}"


class Vocabulary:
    """Every kind of name that rows refer to."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.sources = Names(
            connection, select="SELECT id, name FROM sources", insert="INSERT INTO sources (name) VALUES (?)"
        )
        self.job_queues = JobQueueNames(connection)
        self.job_definitions = Names(
            connection,
            select="SELECT id, name FROM job_definitions",
            insert="INSERT INTO job_definitions (name) VALUES (?)",
        )
        self.tenants = TenantNames(
            connection, select="SELECT id, name FROM tenants", insert="INSERT INTO tenants (name) VALUES (?)"
        )
        self.arn_prefixes = Names(
            connection, select="SELECT id, name FROM arn_prefixes", insert="INSERT INTO arn_prefixes (name) VALUES (?)"
        )
        self.sinks = Names(
            connection, select="SELECT id, name FROM sinks", insert="INSERT INTO sinks (name) VALUES (?)"
        )
        self._kinds = (
            self.sources,
            self.job_queues,
            self.job_definitions,
            self.tenants,
            self.arn_prefixes,
            self.sinks,
        )
        self._is_sure = True

    def keep(self) -> None:
        for kind in self._kinds:
            kind.keep()

    def forget(self) -> None:
        self._is_sure = False
        for kind in self._kinds:
            kind.forget()

    def refresh(self) -> None:
        """Read again after a commit that was reported as failed: it may have taken effect all the same. Not within a
        transaction that is to be rolled back."""
        if not self._is_sure:
            for kind in self._kinds:
                kind.read()
            self._is_sure = True


def forget_unused(connection: sqlite3.Connection, kept: Mapping[str, int] = KEPT) -> None:
    """Job definitions are revised for ever, tenants come and go, job queues may be made up: those that no row names any
    more are dropped once there are more than are kept."""
    for table, count in kept.items():
        (known,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - names given here
        if known > count:
            column = table.removesuffix("s")
            connection.execute(
                f"DELETE FROM {table} WHERE id <> 0 AND id NOT IN (SELECT {column} FROM jobs)"  # noqa: S608
            )
