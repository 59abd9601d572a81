"""Decides when jobs may start: dependencies, capacity, stops. All of it lazily, in the order of simulated time.

A job's life is known to its end as soon as its first attempt has a place. Until then it waits for another job's end
(dependencies) or for vCPUs (a queue with a limit); the moment that is known, what depends on it is planned too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from controller.simaws.batch_capacity import Capacity, UnitKey
from controller.simaws.batch_resources import Job, JobQueue
from controller.simaws.batch_scaling import Scaling
from controller.simaws.batch_timeline import FAILED, NEVER, Stop, end_of

WHOLE = -1
"""Index that means the job itself, not one of its children."""


class Scheduler:
    """Plans jobs; ``on_planned(job, index)`` is told whenever a job's (or child's) known future has changed."""

    def __init__(self, on_planned: Callable[[Job, int], None]) -> None:
        self._on_planned = on_planned
        self._dependencies: dict[str, Sequence[Job]] = {}
        self._dependants: dict[str, list[Job]] = {}
        self._units: dict[int, Job] = {}
        """Jobs of queues with a limit, by serial number."""
        self._limited: dict[str, Capacity] = {}
        self._scaled: dict[str, Scaling] = {}
        """Of queues with a limit, by the name of the queue."""

    def limit(self, queue: JobQueue, slots: float | None, now: float) -> None:
        """Give a queue so many vCPUs; None: no limit. Jobs that have a place keep it."""
        self.run_until(now)
        if slots is None:
            freed, queue.capacity = queue.capacity, None
            self._limited.pop(queue.name, None)
            self._scaled.pop(queue.name, None)
            for key in freed.drain() if freed is not None else ():
                self._place(key, max(now, self._wants(key)))
        elif queue.capacity is not None:
            queue.capacity.slots = slots
        else:
            queue.capacity = Capacity(slots, self._place, self._wants, at=now)
            self._limited[queue.name] = queue.capacity

    def scale(self, queue: JobQueue, scaling: Scaling, now: float) -> None:
        """Let a compute environment decide from now on how many vCPUs the queue has."""
        self.limit(queue, scaling.vcpus_min, now)
        scaling.changes.append((now, scaling.vcpus_min))
        self._scaled[queue.name] = scaling

    def run_until(self, now: float) -> None:
        """Hand out capacity up to ``now``. A place given in one queue may make work for another: repeat till quiet."""
        while self._limited:
            at = self.next_at()
            if at is None or at > now:
                break
            for capacity in self._limited.values():
                capacity.run_until(at)
            for name, scaling in self._scaled.items():
                scaled_at = scaling.next_at(self._limited[name])
                if scaled_at is not None and scaled_at <= at:
                    scaling.step(self._limited[name], at)
        for capacity in self._limited.values():
            capacity.run_until(now)

    def next_at(self) -> float | None:
        """When capacity is handed out next, if anything waits for it."""
        instants = [at for capacity in self._limited.values() if (at := capacity.next_at()) is not None]
        for name, scaling in self._scaled.items():
            if (at := scaling.next_at(self._limited[name])) is not None:
                instants.append(at)
        return min(instants, default=None)

    def add(self, job: Job, dependencies: Sequence[Job]) -> None:
        """Plan a job that was just accepted."""
        if not dependencies:
            self._ready(job, job.settled_at)
            return
        self._dependencies[job.id] = dependencies
        for dependency in dependencies:
            self._dependants.setdefault(dependency.id, []).append(job)
        self._resolve(job)

    def stop(self, job: Job, index: int, stop: Stop) -> None:
        """Carry out an accepted TerminateJob or CancelJob; the first stop of a job stands."""
        if index != WHOLE:
            assert job.children is not None
            job.children.stop_child(index, stop)
            self._child_stopped(job, index)
        elif job.children is not None and job.children.ready_at <= stop.at:
            job.children.stop_all(stop)
            for child in range(job.children.size):
                self._child_stopped(job, child)
        elif job.stop is None:
            job.stop = stop
            if job.children is not None:
                job.children.ready_at = NEVER
        self._planned(job, WHOLE)
        if job.queue.capacity is not None and job.children is None:
            job.queue.capacity.end_changed((job.serial, WHOLE), job.ends_at)

    def forget(self, job: Job) -> None:
        for dependency in self._dependencies.pop(job.id, ()):
            if job in (others := self._dependants.get(dependency.id, [])):
                others.remove(job)
        self._dependants.pop(job.id, None)
        self._units.pop(job.serial, None)

    def forget_all(self) -> None:
        for known in (self._dependencies, self._dependants, self._units, self._limited, self._scaled):
            known.clear()

    def _resolve(self, job: Job) -> None:
        """Look at what a job waits for: it fails with the first that fails, and is ready when all succeeded."""
        ends = [dependency.end() for dependency in self._dependencies[job.id]]
        failures = [end.at for end in ends if end is not None and end.status == FAILED]
        if failures:
            job.dependency_failed_at = max(job.settled_at, min(failures))
            self._planned(job, WHOLE)
        elif None not in ends:
            self._ready(job, max(job.settled_at, *(end.at for end in ends if end is not None)))

    def _ready(self, job: Job, at: float) -> None:
        capacity = job.queue.capacity
        if capacity is not None:
            self._units[job.serial] = job
        if job.children is not None:
            job.children.ready_at = at
            if capacity is None:
                job.children.place_all()
            for index in range(job.children.size) if capacity is not None else ():
                self._push((job.serial, index), capacity, job)
        else:
            job.ready_at = at
            if capacity is None:
                job.placed_at = at + job.attempts[0].runnable_s
            else:
                self._push((job.serial, WHOLE), capacity, job)
        self._planned(job, WHOLE)

    def _push(self, key: UnitKey, capacity: Capacity | None, job: Job) -> None:
        if capacity is not None and (at := self._wants(key)) < NEVER:
            capacity.push(key, ready_at=at, vcpus=job.vcpus)

    def _wants(self, key: UnitKey) -> float:
        serial, index = key
        job = self._units.get(serial)
        if job is None:
            return NEVER
        if job.children is not None:
            return job.children.starts_at(index)
        if job.stop is not None or job.placed_at < NEVER or job.dependency_failed_at < NEVER:
            return NEVER
        return job.ready_at + job.attempts[0].runnable_s

    def _place(self, key: UnitKey, at: float) -> float:
        serial, index = key
        job = self._units[serial]
        if job.children is None:
            job.placed_at = at
        else:
            job.children.place(index, at)
        self._planned(job, index)
        if job.children is None:
            return job.ends_at
        end = end_of(job.children.child(index))
        assert end is not None, "a child with a place has an end"
        return end.at

    def _child_stopped(self, job: Job, index: int) -> None:
        assert job.children is not None
        end = end_of(job.children.child(index))
        if job.queue.capacity is not None and end is not None:
            job.queue.capacity.end_changed((job.serial, index), end.at)
        self._on_planned(job, index)

    def _planned(self, job: Job, index: int) -> None:
        job.replanned()
        self._on_planned(job, index)
        dependants = self._dependants.get(job.id)
        if dependants and job.end() is not None:
            for dependant in dependants:
                self._resolve(dependant)
