"""The engines that the conformance suite runs against, and what every test builds its rows from.

An engine opens a store and opens the same data again. A further engine is one more class here and one more line in
ENGINES.
"""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from controller.adapters.runner import InlineRunner, ThreadRunner
from controller.adapters.store.sqlite import SqliteStore, open_sqlite_store
from controller.core.events import FINAL, Event
from controller.core.job import BatchStatus, Job, JobState
from controller.ports import HeadOf, InsertJob, JobStore, RowKey, Runner, UpdateJob

STORE_ID = "0123456789abcdef" * 2
SOURCE = "https://sqs.eu-west-1.amazonaws.com/123456789012/requests"
NOON = 1_700_000_000.0
BODY = '{"jobName": "nightly", "jobQueue": "high", "jobDefinition": "train:3"}'


class AuditedStore(JobStore, Protocol):
    """What the suite asks beyond the port."""

    async def audit(self) -> Sequence[str]: ...


class Engine(Protocol):
    name: str

    async def open(self, **changes: Any) -> AuditedStore:
        """A store on this engine's data: new at first, the same afterwards."""


class SqliteEngine:
    """A SQLite file in a directory of the test's own."""

    def __init__(self, directory: Path, runner: Runner, name: str) -> None:
        self.path = directory / "state.db"
        self.runner = runner
        self.name = name
        self._opened: list[SqliteStore] = []

    async def open(self, **changes: Any) -> SqliteStore:
        options: dict[str, Any] = {
            "runner": self.runner,
            "sinks_of": lambda name: ("log",),
            "dead_letters": True,
            "random_id": lambda: STORE_ID,
        }
        store = await open_sqlite_store(f"sqlite:///{self.path}", **(options | changes))
        self._opened.append(store)
        return store

    async def close(self) -> None:
        for store in self._opened:
            await store.close()
        if isinstance(self.runner, ThreadRunner):
            self.runner.close()


ENGINES = {
    "sqlite-thread": lambda directory: SqliteEngine(directory, ThreadRunner(), "sqlite-thread"),
    "sqlite-inline": lambda directory: SqliteEngine(directory, InlineRunner(), "sqlite-inline"),
}


def uid(number: int) -> str:
    """A UUID that is the same in every run."""
    return str(uuid.UUID(bytes=hashlib.sha256(str(number).encode()).digest()[:16], version=4))


def queued(number: int = 1, **changes: Any) -> Job:
    """A valid request as ingest would insert it."""
    identifier = uid(number)
    digest = hashlib.sha256(identifier.encode())
    values: dict[str, Any] = {
        "request_id": identifier,
        "message_id": identifier,
        "source": SOURCE,
        "content_hash": digest.digest(),
        "job_name": f"nightly-{number}",
        "batch_job_name": f"nightly-{number}-{digest.hexdigest()[:12]}",
        "job_queue": "high",
        "job_queue_ref": "high",
        "job_definition": "train:3",
        "received_at": NOON + number,
    }
    return Job(**(values | changes))


def submitting(job: Job, **changes: Any) -> Job:
    return dataclasses.replace(job, state=JobState.SUBMITTING, **({"first_intent_at": NOON + 100} | changes))


def doubted(job: Job, **changes: Any) -> Job:
    return submitting(job, **({"doubted_at": NOON + 110, "is_in_doubt": True} | changes))


def tracked(job: Job, **changes: Any) -> Job:
    job_id = uid(1_000_000 + job.key)
    values = {
        "state": JobState.TRACKED,
        "is_in_doubt": False,
        "first_intent_at": NOON + 100,
        "batch_job_id": job_id,
        "batch_job_arn": f"arn:aws:batch:eu-west-1:123456789012:job/{job_id}",
        "batch_status": BatchStatus.SUBMITTED,
        "submitted_at": NOON + 101,
        "observed_at": NOON + 101,
    }
    return dataclasses.replace(job, **(values | changes))


def finished(job: Job, state: JobState = JobState.SUCCEEDED, **changes: Any) -> Job:
    return dataclasses.replace(job, **({"state": state, "finished_at": NOON + 500} | changes))


def accepted(number: int = 1) -> Event:
    return Event(name="request.accepted", time=NOON, data={"request_id": uid(number)})


def ended() -> Event:
    return Event(name="job.finished", time=NOON, serial=FINAL, data={"outcome": "succeeded"})


async def insert(store: JobStore, *jobs: Job, body: str = BODY) -> list[Job]:
    """Insert rows and load them again, in order."""
    assert all(await store.commit([InsertJob(job=job, body=body) for job in jobs]))
    lives = await store.find_requests([job.request_id for job in jobs])
    return [lives[job.request_id][-1] for job in jobs]


async def update(store: JobStore, *jobs: Job) -> list[Job]:
    """Write changed rows and load them again, in order."""
    assert all(await store.commit([UpdateJob(job=job) for job in jobs]))
    loaded = await store.load([job.key for job in jobs])
    return [loaded[job.key] for job in jobs]


async def load(store: JobStore, key: RowKey) -> Job:
    return (await store.load([key]))[key]


async def head(
    store: JobStore, job_queue: str = "high", *, limit: int = 100, now: float = 0.0, **options: Any
) -> Sequence[Job]:
    """The head of one job queue's backlog."""
    (rows,) = await store.heads([HeadOf(job_queue=job_queue, limit=limit, **options)], now=now)
    return rows
