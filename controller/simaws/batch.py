"""AWS Batch, simulated: the operations, over jobs whose status is a function of time.

Every operation takes the request in the API's own shape and ``now`` (seconds since the epoch), returns the response in
the API's own shape or raises ``AwsError``. Nothing here reads a clock; chance comes from the ``Random`` it is given.

Not modelled: multi-node jobs run as plain ones; ``N_TO_N`` waits for the whole other array, ``SEQUENTIAL`` does not
order an array's own children; fair-share policies do not order anything.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from controller.core import limits
from controller.simaws import batch_views as views
from controller.simaws.answers import AwsError, client_error
from controller.simaws.batch_arrays import ArrayChildren
from controller.simaws.batch_listing import list_children, list_queue
from controller.simaws.batch_requests import check_submission, require_list, run_spec, vcpus_of
from controller.simaws.batch_resources import Definition, Definitions, Environment, Job, JobQueue, Place
from controller.simaws.batch_schedule import WHOLE, Scheduler
from controller.simaws.batch_timeline import FINAL, PENDING, RUNNABLE, SUBMITTED, Stop, draw, draw_attempts
from controller.simaws.batch_timeline import status_at as execution_status_at
from controller.simaws.profile import Profile

Shape = dict[str, Any]
Request = Mapping[str, Any]

JOBS_FORGOTTEN_PER_SWEEP: Final = 10_000
"""Finished jobs are dropped from memory in passes of about this many: one pass costs as much as all the jobs kept."""


class Batch:
    """One account's AWS Batch in one Region."""

    def __init__(
        self,
        *,
        place: Place,
        rng: random.Random,
        profile: Profile,
        on_planned: Callable[[Job, int], None] = lambda job, index: None,
        omits: Callable[[str], bool] = lambda job_id: False,
        refuses: Callable[[Job], bool] = lambda job: False,
        fails: Callable[[Job], bool] = lambda job: False,
    ) -> None:
        """``on_planned(job, index)``: a job's future became known or changed. ``omits(job_id)``: DescribeJobs is to
        leave this id out of one answer; ``refuses(job)``: it is to refuse a call that names this job;
        ``fails(job)``: such a call is to end in an error of its own."""
        self.place = place
        self.profile = profile
        self.queues: dict[str, JobQueue] = {}
        self.environments: dict[str, Environment] = {}
        """Those that are not as they are by default."""
        self.definitions = Definitions(place)
        self.jobs: dict[str, Job] = {}
        self.scheduler = Scheduler(on_planned)
        self._rng = rng
        self._omits = omits
        self._refuses = refuses
        self._fails = fails
        self._serial = 0
        self._swept_at_serial = 0
        self.operations: Final[Mapping[str, Callable[[Request, float], Shape]]] = {
            "SubmitJob": self.submit_job,
            "DescribeJobs": self.describe_jobs,
            "ListJobs": self.list_jobs,
            "CancelJob": self.cancel_job,
            "TerminateJob": self.terminate_job,
            "DescribeJobQueues": self.describe_job_queues,
            "DescribeComputeEnvironments": self.describe_compute_environments,
            "DescribeJobDefinitions": self.describe_job_definitions,
            "GetJobQueueSnapshot": self.get_job_queue_snapshot,
            "RegisterJobDefinition": self.register_job_definition,
            "CreateJobQueue": self.create_job_queue,
            "UpdateJobQueue": self.update_job_queue,
        }

    # --- jobs ---------------------------------------------------------------------------------------------

    def submit_job(self, request: Request, now: float) -> Shape:
        """SubmitJob: every accepted call makes a job; there is no client token."""
        payload = check_submission(request)
        queue = self.find_queue(request["jobQueue"])
        definition = self.definitions.find(request["jobDefinition"])
        if queue.state != "ENABLED" or queue.status != "VALID":
            raise client_error(f"Job Queue is not in ENABLED and VALID state: {queue.name}")
        dependencies = self._dependencies(request, now)
        job = self._make_job(request, payload, queue, definition, now)
        self.jobs[job.id] = job
        queue.add(job)
        self.scheduler.add(job, dependencies)
        if self._serial - self._swept_at_serial >= JOBS_FORGOTTEN_PER_SWEEP:
            self._forget_finished(now)
        return {"jobArn": self.place.arn("job", job.id), "jobName": job.name, "jobId": job.id}

    def describe_jobs(self, request: Request, now: float) -> Shape:
        """DescribeJobs: ids (or ARNs) that are unknown, too new or forgotten are left out."""
        text = "Error executing request, Exception : Maximum number of jobs supported is 100"
        references = require_list(request, "jobs", most=limits.DESCRIBE_JOBS_MAX, text=text)
        self.scheduler.run_until(now)
        shapes = []
        for reference in references:
            found = self._find(self.place.name(reference, "job"), now)
            if found is None:
                continue
            job, index = found
            if self._refuses(job):
                raise client_error("Error executing request, Exception : Job is not valid.")
            if self._fails(job):
                raise AwsError("ServerException", "An internal error occurred.", status=500)
            if not self._omits(reference):
                shapes.append(views.detail(job, now) if index == WHOLE else views.child_detail(job, index, now))
        self._explain_heads(shapes, now)
        return {"jobs": shapes}

    def list_jobs(self, request: Request, now: float) -> Shape:
        """ListJobs: by queue or by array job, newest first."""
        selectors = [name for name in ("jobQueue", "arrayJobId", "multiNodeJobId") if request.get(name)]
        if len(selectors) != 1:
            raise client_error("Error executing request, Exception : Exactly one of jobQueue, arrayJobId is required.")
        self.scheduler.run_until(now)
        if selectors == ["jobQueue"]:
            answer = list_queue(request, self.find_queue(request["jobQueue"]), now, is_listed=self.is_listed)
            self._explain_heads(answer["jobSummaryList"], now)
            return answer
        job = self.jobs.get(str(request.get("arrayJobId")))
        if job is None or job.children is None or not self.is_listed(job, now):
            return {"jobSummaryList": []}
        return list_children(request, job, now)

    def cancel_job(self, request: Request, now: float) -> Shape:
        """CancelJob: on STARTING and RUNNING jobs it succeeds and does nothing."""
        return self._stop(request, now, is_cancel=True)

    def terminate_job(self, request: Request, now: float) -> Shape:
        """TerminateJob: stops a job in any state that is not final. Unknown ids are accepted, as the bulk call does."""
        return self._stop(request, now, is_cancel=False)

    def is_listed(self, job: Job, now: float) -> bool:
        return job.listable_at <= now and not self.is_forgotten(job, now)

    def is_forgotten(self, job: Job, now: float) -> bool:
        retention_s = self.profile.retention_s
        return now - job.submitted_at >= retention_s and now - job.ends_at >= retention_s

    def forget_all(self, now: float) -> None:
        """Forget every job, finished or not; queues keep their limits."""
        self.jobs.clear()
        slots = {q.name: q.capacity.slots for q in self.queues.values() if q.capacity is not None}
        self.scheduler.forget_all()
        for queue in self.queues.values():
            queue.forget(list(queue.jobs))
            queue.capacity = None
            if queue.name in slots:
                self.scheduler.limit(queue, slots[queue.name], now)

    # --- queues and definitions ---------------------------------------------------------------------------

    def add_queue(self, name: str, *, slots: float | None = None, now: float = 0.0) -> JobQueue:
        """A new job queue, ENABLED and VALID, with so many vCPUs (None: no limit)."""
        queue = JobQueue(name, self.place.arn("job-queue", name))
        self.queues[name] = queue
        if slots is not None:
            self.scheduler.limit(queue, slots, now)
        return queue

    def add_definition(self, name: str, body: Mapping[str, Any] | None = None) -> Definition:
        """A new revision of a container job definition."""
        default = {"type": "container", "containerProperties": {"image": "busybox", "command": ["true"]}}
        return self.definitions.register(name, dict(body or default))

    def find_queue(self, reference: str) -> JobQueue:
        queue = self.queues.get(self.place.name(reference, "job-queue"))
        if queue is None:
            raise client_error(f"Error executing request, Exception : Job queue {reference} does not exist.")
        return queue

    def describe_job_queues(self, request: Request, now: float) -> Shape:
        """DescribeJobQueues: unknown names are left out."""
        return {"jobQueues": [_queue_shape(queue) for queue in self._queues_asked(request)]}

    def create_job_queue(self, request: Request, now: float) -> Shape:
        name = str(request.get("jobQueueName", ""))
        if not name or name in self.queues:
            raise client_error(f"Error executing request, Exception : Job queue {name!r} cannot be created.")
        queue = self.add_queue(name)
        queue.state = str(request.get("state", "ENABLED"))
        queue.priority = int(request.get("priority", 1))
        orders = request.get("computeEnvironmentOrder") or ()
        queue.compute_environments = tuple(str(order["computeEnvironment"]) for order in orders)
        return {"jobQueueName": name, "jobQueueArn": queue.arn}

    def update_job_queue(self, request: Request, now: float) -> Shape:
        queue = self.find_queue(str(request.get("jobQueue", "")))
        queue.state = str(request.get("state", queue.state))
        queue.priority = int(request.get("priority", queue.priority))
        return {"jobQueueName": queue.name, "jobQueueArn": queue.arn}

    def describe_compute_environments(self, request: Request, now: float) -> Shape:
        """DescribeComputeEnvironments: one MANAGED environment, which all queues without one of their own share."""
        names = {name for queue in self.queues.values() for name in queue.compute_environments} or {"simulated"}
        asked = request.get("computeEnvironments")
        wanted = names if not asked else {self.place.name(n, "compute-environment") for n in asked} & names
        shapes = [
            {
                "computeEnvironmentName": name,
                "computeEnvironmentArn": self.place.arn("compute-environment", name),
                "type": "MANAGED",
                "state": (environment := self.environments.get(name, _USUAL)).state,
                "status": environment.status,
                "statusReason": environment.status_reason,
                "computeResources": {
                    "type": "EC2",
                    "minvCpus": 0,
                    "maxvCpus": environment.vcpus_max,
                    "desiredvCpus": environment.vcpus_desired,
                    "subnets": [],
                },
            }
            for name in sorted(wanted)
        ]
        return {"computeEnvironments": shapes}

    def register_job_definition(self, request: Request, now: float) -> Shape:
        body = {name: value for name, value in request.items() if name != "jobDefinitionName"}
        definition = self.definitions.register(str(request.get("jobDefinitionName", "")), body)
        return {
            "jobDefinitionName": definition.name,
            "jobDefinitionArn": definition.arn,
            "revision": definition.revision,
        }

    def describe_job_definitions(self, request: Request, now: float) -> Shape:
        """DescribeJobDefinitions: by ``jobDefinitions``, else by ``jobDefinitionName`` and ``status``."""
        every = [d for revisions in self.definitions.by_name.values() for d in revisions]
        asked = request.get("jobDefinitions")
        if asked:
            names = {self.place.name(reference, "job-definition") for reference in asked}
            every = [d for d in every if d.name in names or f"{d.name}:{d.revision}" in names]
        else:
            name, status = request.get("jobDefinitionName"), request.get("status")
            every = [d for d in every if name in (None, d.name) and status in (None, d.status)]
        return {"jobDefinitions": [_definition_shape(d) for d in every]}

    def get_job_queue_snapshot(self, request: Request, now: float) -> Shape:
        """GetJobQueueSnapshot: the first 100 RUNNABLE jobs of a queue."""
        self.scheduler.run_until(now)
        queue = self.find_queue(str(request.get("jobQueue", "")))
        front = [
            {"jobArn": self.place.arn("job", job_id), "earliestTimeAtPosition": views.millis(ready_at)}
            for job_id, ready_at in islice(self._runnable(queue, now), limits.QUEUE_FRONT_MAX)
        ]
        return {"frontOfQueue": {"jobs": front, "lastUpdatedAt": views.millis(now)}}

    def _runnable(self, queue: JobQueue, now: float) -> Iterator[tuple[str, float]]:
        """Ids of jobs, and of children of arrays, in order, and since when they are."""
        for job in queue.jobs:
            if not self.is_listed(job, now):
                continue
            if job.children is None:
                if job.status_at(now) == RUNNABLE:
                    yield job.id, job.ready_at
            elif job.children.counts(now)[RUNNABLE]:
                for index in range(job.children.size):
                    if execution_status_at(job.children.child(index), now) == RUNNABLE:
                        yield f"{job.id}:{index}", job.children.ready_at

    def _explain_heads(self, shapes: list[Shape], now: float) -> None:
        """Of a blocked queue the RUNNABLE job at the head tells why; no other job does."""
        for queue in self.queues.values():
            if queue.blocked_reason is None:
                continue
            head, _ = next(self._runnable(queue, now), (None, 0.0))
            for shape in shapes:
                if head is not None and shape["jobId"] == head and shape["status"] == RUNNABLE:
                    shape["statusReason"] = queue.blocked_reason

    # --- inner parts ----------------------------------------------------------------------------------------

    def _make_job(self, request: Request, payload: bytes, queue: JobQueue, definition: Definition, now: float) -> Job:
        profile, rng, spec = self.profile, self._rng, run_spec(request, definition.body)
        size = (request.get("arrayProperties") or {}).get("size")
        seed = rng.getrandbits(64) if size is not None else 0
        self._serial += 1
        job = Job(
            job_id=self._new_id(),
            serial=self._serial,
            queue=queue,
            definition=definition,
            request=request,
            payload=payload,
            vcpus=vcpus_of(request, definition.body),
            submitted_at=now,
            settled_at=now + draw(rng, profile.submitted_s),
            describable_at=now + draw(rng, profile.describe_lag_s),
            listable_at=now + draw(rng, profile.list_lag_s),
            children=None if size is None else ArrayChildren(size, seed=seed, profile=profile, spec=spec),
        )
        if job.children is None:
            job.attempts = draw_attempts(rng, profile, spec)
        return job

    def _new_id(self) -> str:
        digits = f"{self._rng.getrandbits(128):032x}"
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{digits[16:20]}-{digits[20:]}"

    def _dependencies(self, request: Request, now: float) -> list[Job]:
        jobs = []
        for dependency in request.get("dependsOn") or ():
            if job_id := dependency.get("jobId"):
                job = self.jobs.get(job_id)
                if job is None or self.is_forgotten(job, now):
                    raise client_error(
                        f"Error executing request, Exception : Job {job_id} in dependsOn does not exist."
                    )
                jobs.append(job)
        return jobs

    def _find(self, job_id: str, now: float) -> tuple[Job, int] | None:
        """A job, or an array job's child, that DescribeJobs shows at ``now``."""
        parent_id, colon, index = job_id.partition(":")
        job = self.jobs.get(parent_id)
        if job is None or job.describable_at > now or self.is_forgotten(job, now):
            return None
        if not colon:
            return job, WHOLE
        if job.children is None or not index.isdecimal() or int(index) >= job.children.size:
            return None
        return (job, int(index)) if job.children.ready_at <= now else None

    def _stop(self, request: Request, now: float, *, is_cancel: bool) -> Shape:
        job_id, reason = request.get("jobId"), request.get("reason")
        if not job_id or not reason:
            raise client_error("Error executing request, Exception : jobId and reason are required.")
        if len(reason) > limits.TERMINATE_REASON_LENGTH_MAX:
            raise client_error("Error executing request, Exception : reason is longer than 1024 characters.")
        self.scheduler.run_until(now)
        parent_id, colon, index = str(job_id).partition(":")
        job = self.jobs.get(parent_id)
        at = now + draw(self._rng, self.profile.stop_s)
        if job is None or (colon and not self._has_child(job, index, now)):
            return {}
        number = int(index) if colon else WHOLE
        status = self._status(job, number, now)
        is_waiting = status in (SUBMITTED, PENDING, RUNNABLE)
        if status not in FINAL and (is_waiting or not is_cancel):
            waits = number == WHOLE and job.children is None and job.has_dependencies and status in (SUBMITTED, PENDING)
            is_cancelled = is_cancel or (is_waiting and number == WHOLE and job.children is None)
            self.scheduler.stop(job, number, Stop(at, reason, is_cancelled, waits))
        return {}

    def _has_child(self, job: Job, index: str, now: float) -> bool:
        children = job.children
        return children is not None and index.isdecimal() and int(index) < children.size and children.ready_at <= now

    def _status(self, job: Job, index: int, now: float) -> str:
        if index == WHOLE:
            return job.status_at(now)
        assert job.children is not None
        return execution_status_at(job.children.child(index), now)

    def _queues_asked(self, request: Request) -> Iterator[JobQueue]:
        if not request.get("jobQueues"):
            yield from self.queues.values()
            return
        text = "Error executing request, Exception : Maximum number of job queues supported is 100"
        for reference in require_list(request, "jobQueues", most=limits.DESCRIBE_QUEUES_MAX, text=text):
            queue = self.queues.get(self.place.name(reference, "job-queue"))
            if queue is not None:
                yield queue

    def _forget_finished(self, now: float) -> None:
        """Drop what Batch no longer knows; called once per so many submissions."""
        self._swept_at_serial = self._serial
        gone = [job for job in self.jobs.values() if self.is_forgotten(job, now)]
        for job in gone:
            del self.jobs[job.id]
            self.scheduler.forget(job)
        for queue in {job.queue.name: job.queue for job in gone}.values():
            queue.forget(job for job in gone if job.queue is queue)


_USUAL: Final = Environment()


def _queue_shape(queue: JobQueue) -> Shape:
    environments = queue.compute_environments or ("simulated",)
    return {
        "jobQueueName": queue.name,
        "jobQueueArn": queue.arn,
        "state": queue.state,
        "status": queue.status,
        "statusReason": "JobQueue Healthy" if queue.status == "VALID" else "JobQueue Unhealthy",
        "priority": queue.priority,
        "computeEnvironmentOrder": [
            {"order": order, "computeEnvironment": name} for order, name in enumerate(environments, 1)
        ],
        "jobQueueType": "ECS",
        "tags": {},
    }


def _definition_shape(definition: Definition) -> Shape:
    return {
        **definition.body,
        "jobDefinitionName": definition.name,
        "jobDefinitionArn": definition.arn,
        "revision": definition.revision,
        "status": definition.status,
        "type": definition.body.get("type", "container"),
    }
