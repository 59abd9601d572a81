"""Job queues, job definitions and the record of a job: what a simulated AWS Batch keeps.

Names and ARNs are both understood wherever AWS Batch takes both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from controller.simaws.answers import client_error
from controller.simaws.batch_arrays import ArrayChildren
from controller.simaws.batch_capacity import Capacity
from controller.simaws.batch_timeline import FINAL, NEVER, Execution, Step, end_of, status_at, steps


@dataclass(frozen=True, slots=True)
class Place:
    """Account and Region, and the ARNs in them."""

    account: str
    region: str

    def arn(self, kind: str, name: str) -> str:
        return f"arn:aws:batch:{self.region}:{self.account}:{kind}/{name}"

    def name(self, reference: str, kind: str) -> str:
        """The name in a name or ARN; an ARN of another account, Region or kind is returned as it is (unknown)."""
        prefix = self.arn(kind, "")
        return reference.removeprefix(prefix)


class Job(Execution):
    """A submitted job. What it asked for is kept as JSON: a fifth of the memory that the parsed request takes."""

    __slots__ = (
        "_end",
        "_is_end_known",
        "children",
        "definition",
        "describable_at",
        "id",
        "listable_at",
        "name",
        "payload",
        "queue",
        "serial",
        "tags",
        "vcpus",
    )

    def __init__(
        self, *, job_id: str, serial: int, queue: JobQueue, definition: Definition, request: Mapping[str, Any],
        payload: bytes, vcpus: float, submitted_at: float, settled_at: float, describable_at: float, listable_at: float,
        children: ArrayChildren | None,
    ) -> None:  # fmt: skip
        waits = bool(request.get("dependsOn")) or children is not None
        super().__init__(submitted_at, settled_at, has_dependencies=waits)
        self.id, self.serial, self.queue, self.definition = job_id, serial, queue, definition
        self.name: str = request["jobName"]
        self.payload = bytes(memoryview(payload))  # a copy: orjson's own bytes keep the memory they were written in
        self.tags: Mapping[str, str] = request.get("tags") or _NO_TAGS
        self.vcpus = vcpus
        self.describable_at = describable_at
        self.listable_at = listable_at
        self.children = children
        self._end: Step | None = None
        self._is_end_known = False

    @property
    def request(self) -> Mapping[str, Any]:
        """The SubmitJob request, parsed anew."""
        request: Mapping[str, Any] = orjson.loads(self.payload)
        return request

    def end(self) -> Step | None:
        """Its final step, as far as it is known now (it may lie in the future)."""
        if not self._is_end_known:
            own = end_of(self)
            self._end = own if self.children is None else own or self.children.end()
            self._is_end_known = self._end is not None
        return self._end

    def steps(self) -> Iterator[Step]:
        """Every change of status known so far; an array parent stays PENDING until its last child has ended."""
        last: Step | None = None
        for last in steps(self):
            yield last
        end = self.end()
        if end is not None and (last is None or last.status not in FINAL):
            yield end

    def status_at(self, now: float) -> str:
        if self.children is None:
            return status_at(self, now)
        return [step.status for step in self.steps() if step.at <= now][-1]

    def replanned(self) -> None:
        """Something about its life was decided or changed."""
        self._is_end_known = False

    @property
    def ends_at(self) -> float:
        end = self.end()
        return NEVER if end is None else end.at


@dataclass(slots=True)
class Environment:
    """A compute environment; every member may be changed at any time. It decides nothing, it only tells."""

    state: str = "ENABLED"
    status: str = "VALID"
    status_reason: str = "ComputeEnvironment Healthy"
    vcpus_max: int = 10_000
    vcpus_desired: int = 0


_NO_TAGS: Mapping[str, str] = {}


@dataclass(slots=True)
class JobQueue:
    """A job queue; ``state`` and ``status`` may be changed at any time."""

    name: str
    arn: str
    state: str = "ENABLED"
    status: str = "VALID"
    priority: int = 1
    compute_environments: tuple[str, ...] = ()
    blocked_reason: str | None = None
    """What Batch says of the RUNNABLE job at its head, which it does not place."""
    capacity: Capacity | None = None
    jobs: list[Job] = field(default_factory=list)
    """In order of submission."""
    _by_name: dict[str, Job | list[Job]] = field(default_factory=dict)
    """By lower-case name; nearly every name has one job only."""

    def add(self, job: Job) -> None:
        self.jobs.append(job)
        name = _lower(job.name)
        found = self._by_name.setdefault(name, job)
        if isinstance(found, list):
            found.append(job)
        elif found is not job:
            self._by_name[name] = [found, job]

    def named(self, name: str) -> list[Job]:
        """Jobs of a name, compared without case, in order of submission."""
        found = self._by_name.get(_lower(name), [])
        return found if isinstance(found, list) else [found]

    def forget(self, jobs: Iterable[Job]) -> None:
        """Drop jobs; costs one pass over all of the queue's."""
        gone = set(jobs)
        self.jobs = [job for job in self.jobs if job not in gone]
        for name in {_lower(job.name) for job in gone}:
            left = [job for job in self.named(name) if job not in gone]
            if left:
                self._by_name[name] = left
            else:
                del self._by_name[name]


def _lower(name: str) -> str:
    lowered = name.lower()
    return name if lowered == name else lowered


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One revision of a job definition; ``body`` as RegisterJobDefinition took it."""

    name: str
    revision: int
    arn: str
    body: Mapping[str, Any]
    status: str = "ACTIVE"


@dataclass(slots=True)
class Definitions:
    """All revisions of all job definitions of an account."""

    place: Place
    by_name: dict[str, list[Definition]] = field(default_factory=dict)

    def register(self, name: str, body: Mapping[str, Any]) -> Definition:
        revisions = self.by_name.setdefault(name, [])
        revision = len(revisions) + 1
        arn = self.place.arn("job-definition", f"{name}:{revision}")
        definition = Definition(name=name, revision=revision, arn=arn, body=body)
        revisions.append(definition)
        return definition

    def deregister(self, reference: str) -> None:
        found = self.find(reference)
        inactive = Definition(
            name=found.name, revision=found.revision, arn=found.arn, body=found.body, status="INACTIVE"
        )
        self.by_name[found.name][found.revision - 1] = inactive

    def find(self, reference: str) -> Definition:
        """By ``name``, ``name:revision`` or ARN; without a revision the latest ACTIVE one."""
        name, _, revision = self.place.name(reference, "job-definition").partition(":")
        active = [d for d in self.by_name.get(name, ()) if d.status == "ACTIVE"]
        if revision:
            active = [d for d in active if str(d.revision) == revision]
        if not active:
            raise client_error(f"JobDefinition name {reference} does not exist or is not in ACTIVE status")
        return active[-1]
