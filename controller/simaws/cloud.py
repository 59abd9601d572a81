"""One simulated AWS account in one Region: the services, their faults, their limits, and the record of it all.

``call`` is the only way in that counts as an API call. Time is passed in with every call and never runs backwards: an
earlier ``now`` is taken as the latest one seen. What is due by itself (late acceptances, events) happens in
``advance``, which every call begins with; ``next_change_at`` says when it is worth calling without a call.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from heapq import heappop, heappush
from typing import Any, Final

from controller.simaws.answers import Answer, AwsError, Delivery
from controller.simaws.batch import Batch
from controller.simaws.batch_resources import Environment, Place
from controller.simaws.batch_scaling import Scaling
from controller.simaws.events import EventBridge, Rule
from controller.simaws.faults import Fault, FaultPlan
from controller.simaws.history import AcceptedJob, History
from controller.simaws.profile import FAST, Profile
from controller.simaws.rates import ApiLimits
from controller.simaws.sqs import Sqs

Shape = Mapping[str, Any]
Request = Mapping[str, Any]


class SimAws:
    """A simulated account. Same seed, same calls at the same times: same answers."""

    def __init__(
        self,
        *,
        seed: int = 0,
        profile: Profile = FAST,
        account: str = "123456789012",
        region: str = "us-east-1",
        base_url: str = "",
    ) -> None:
        """``base_url``: what queue URLs begin with; default: AWS's own."""
        self.seed, self.account, self.region = seed, account, region
        self.now = 0.0
        place = Place(account, region)
        self.history = History()
        self.faults = FaultPlan(self._random("faults"))
        self.limits = ApiLimits(profile)
        self.sqs = Sqs(
            account=account,
            region=region,
            rng=self._random("sqs"),
            faults=self.faults,
            history=self.history,
            base_url=base_url,
        )
        self.events = EventBridge(
            place=place,
            rng=self._random("events"),
            profile=profile,
            faults=self.faults,
            history=self.history,
            sqs=self.sqs,
        )
        self.batch = Batch(
            place=place,
            rng=self._random("batch"),
            profile=profile,
            on_planned=self.events.planned,
            omits=lambda job_id: self.faults.chance(self.faults.service.describe_omits_p),
            refuses=lambda job: self.faults.refuses_to_describe(job.tags),
            fails=lambda job: self.faults.fails_to_describe(job.tags),
        )
        self._latency = self._random("latency")
        self._late: list[tuple[float, int, Request]] = []
        self._late_serial = 0
        self._operations: Final[Mapping[str, Callable[[Request, float], Shape]]] = {
            **self.batch.operations,
            **self.sqs.operations,
            "GetCallerIdentity": self._get_caller_identity,
        }

    # --- settings -----------------------------------------------------------------------------------------

    @property
    def profile(self) -> Profile:
        return self.batch.profile

    @profile.setter
    def profile(self, profile: Profile) -> None:
        """For jobs submitted, and calls made, from now on."""
        self.batch.profile = self.events.profile = self.limits.profile = profile

    def add_job_queue(self, name: str, *, slots: float | None = None) -> None:
        self.batch.add_queue(name, slots=slots, now=self.now)

    def scale_job_queue(self, name: str, scaling: Scaling) -> None:
        """Let a compute environment scale a job queue's vCPUs by demand, from its minimum on."""
        self.batch.scheduler.scale(self.batch.queues[name], scaling, self.now)

    def set_job_queue(self, name: str, *, state: str | None = None, status: str | None = None) -> None:
        """Change what a job queue says of itself; only ENABLED and VALID queues accept jobs."""
        queue = self.batch.queues[name]
        queue.state, queue.status = state or queue.state, status or queue.status

    def set_job_queue_slots(self, name: str, slots: float | None) -> None:
        """Change a job queue's vCPUs; None: no limit."""
        self.batch.scheduler.limit(self.batch.queues[name], slots, self.now)

    def block_job_queue(self, name: str, reason: str | None) -> None:
        """Place no job of a queue any more, and let the one at its head tell why; None: go on, without a limit."""
        queue = self.batch.queues[name]
        queue.blocked_reason = reason
        self.set_job_queue_slots(name, None if reason is None else 0.0)

    def set_compute_environment(self, name: str, **members: Any) -> None:
        """Change what a compute environment says of itself (members of ``Environment``). Queues without one of their
        own share one called ``simulated``."""
        known = self.batch.environments.get(name, Environment())
        self.batch.environments[name] = replace(known, **members)

    def add_job_definition(self, name: str, body: Mapping[str, Any] | None = None) -> None:
        self.batch.add_definition(name, body)

    def add_sqs_queue(self, name: str, attributes: Mapping[str, str] | None = None) -> str:
        """Create a queue; returns its URL."""
        return str(self.sqs.create_queue({"QueueName": name, "Attributes": attributes or {}}, self.now)["QueueUrl"])

    def put_rule(self, rule: Rule) -> None:
        """Send job state changes to an SQS queue from now on."""
        self.events.put_rule(rule, list(self.batch.jobs.values()), self.now)

    def reset(self) -> None:
        """Forget all jobs, messages, faults and history; queues, definitions, rules and the profile stay."""
        self._late.clear()
        self.faults.clear()
        self.history.clear()
        self.batch.forget_all(self.now)
        self.events.forget_all()
        self.sqs.forget_all()

    # --- calls --------------------------------------------------------------------------------------------

    def call(self, operation: str, arguments: Request, *, now: float) -> Answer:
        """One API call. Never raises for what a caller may do wrong: that is the answer."""
        self.advance(now)
        act = self._operations.get(operation)
        if act is None:
            return Answer(error=AwsError("UnknownOperationException", f"Unknown operation {operation}", status=404))
        is_batch = operation in self.batch.operations
        fault = self.faults.draw(operation, arguments)
        if fault is not None and fault.is_before:
            self._record(operation, arguments, fault.value)
            return self._before(operation, fault)
        if is_batch and not self.limits.take(operation, self.now, factor=self.faults.service.rate_factor):
            self._record(operation, arguments, "TooManyRequestsException")
            return Answer(error=self._throttled(operation), delay_s=self._latency_s())
        if fault is Fault.LATE and operation == "SubmitJob":
            return self._accept_late(arguments)
        try:
            result = self._act(operation, act, arguments)
        except AwsError as error:
            self._record(operation, arguments, error.code)
            return self._after(operation, fault, Answer(error=error, delay_s=self._latency_s()))
        self._record(operation, arguments, "ok" if fault in (None, Fault.SLOW) else fault.value)
        return self._after(operation, fault, Answer(result=result, delay_s=self._latency_s()))

    def receive_again(self, arguments: Request, *, now: float) -> Shape:
        """A waiting ReceiveMessage looks again: no further call, no further fault."""
        self.advance(now)
        try:
            return self.sqs.receive_message(arguments, self.now)
        except AwsError:
            return {}

    def advance(self, now: float) -> None:
        """Let everything happen that is due up to ``now``, in order of time."""
        while (at := self.next_change_at()) is not None and at <= now:
            self.now = max(self.now, at)
            while self._late and self._late[0][0] <= at:
                self._submit_late(heappop(self._late)[2])
            self.batch.scheduler.run_until(self.now)
            self.events.advance(self.now)
        self.now = max(self.now, now)

    def next_change_at(self) -> float | None:
        """When something happens next without a call."""
        instants = [self._late[0][0]] if self._late else []
        if self.events.rules:
            instants += [at for at in (self.events.next_at(), self.batch.scheduler.next_at()) if at is not None]
        return min(instants, default=None)

    # --- inner parts --------------------------------------------------------------------------------------

    def _random(self, name: str) -> random.Random:
        return random.Random(f"{self.seed}/{name}")  # noqa: S311 - simulation

    def _act(self, operation: str, act: Callable[[Request, float], Shape], arguments: Request) -> Shape:
        result = act(arguments, self.now)
        if operation == "SubmitJob":
            job = self.batch.jobs[result["jobId"]]
            size = None if job.children is None else job.children.size
            self.history.job(AcceptedJob(self.now, job.id, job.name, job.queue.name, job.tags, size))
        return result

    def _accept_late(self, arguments: Request) -> Answer:
        self._record("SubmitJob", arguments, Fault.LATE.value)
        self._late_serial += 1
        at = self.now + self.faults.seconds(self.faults.service.late_s)
        heappush(self._late, (at, self._late_serial, arguments))
        return self._hang()

    def _submit_late(self, arguments: Request) -> None:
        try:
            self._act("SubmitJob", self.batch.submit_job, arguments)
        except AwsError:
            return  # refused at last, and nobody is there to hear it

    def _before(self, operation: str, fault: Fault) -> Answer:
        if fault is Fault.RESET:
            return Answer(delivery=Delivery.RESET)
        if fault is Fault.CLOSE:
            return Answer(delivery=Delivery.CLOSE)
        if fault is Fault.HANG:
            return self._hang()
        return Answer(error=self._refusal(operation, fault), delay_s=self._latency_s())

    def _refusal(self, operation: str, fault: Fault) -> AwsError:
        if fault is Fault.THROTTLE:
            return self._throttled(operation)
        if fault is Fault.ERROR_503:
            return AwsError("ServiceUnavailable", "Service is unavailable.", status=503)
        if fault is Fault.ACCESS_DENIED:
            who = f"User: arn:aws:iam::{self.account}:user/simulated is not authorized to perform: {operation}"
            code = "AccessDenied" if operation in self.sqs.operations else "AccessDeniedException"
            return AwsError(code, who, status=403)
        if fault is Fault.EXPIRED_TOKEN:
            code = "ExpiredToken" if operation in self.sqs.operations else "ExpiredTokenException"
            return AwsError(code, "The security token included in the request is expired", status=403)
        return self._server_error(operation)

    def _server_error(self, operation: str) -> AwsError:
        code = "ServerException" if operation in self.batch.operations else "InternalFailure"
        return AwsError(code, "An internal error occurred.", status=500)

    def _throttled(self, operation: str) -> AwsError:
        if operation in self.batch.operations:
            return AwsError("TooManyRequestsException", "Too Many Requests", status=429)
        code = "RequestThrottled" if operation in self.sqs.operations else "Throttling"
        return AwsError(code, "Rate exceeded", status=400)

    def _after(self, operation: str, fault: Fault | None, answer: Answer) -> Answer:
        """The call took effect (or was refused); what the caller sees of it."""
        if fault is None:
            return answer
        if fault is Fault.ERROR_500_AFTER:
            return Answer(error=self._server_error(operation), delay_s=answer.delay_s)
        if fault is Fault.EMPTY_AFTER:
            return Answer(result={}, delay_s=answer.delay_s)
        if fault in (Fault.HANG_AFTER, Fault.LATE):
            return self._hang()
        if fault is Fault.SLOW:
            slow_s = self.faults.seconds(self.faults.service.slow_s)
            return Answer(result=answer.result, error=answer.error, delay_s=answer.delay_s + slow_s)
        return Answer(delivery=_DELIVERIES[fault], result=answer.result, error=answer.error, delay_s=answer.delay_s)

    def _hang(self) -> Answer:
        return Answer(delivery=Delivery.HANG, delay_s=self.faults.service.hang_s)

    def _latency_s(self) -> float:
        least, most = self.profile.latency_s
        return least if least == most else self._latency.uniform(least, most)

    def _record(self, operation: str, arguments: Request, outcome: str) -> None:
        if operation in self.sqs.operations:
            url = arguments.get("QueueUrl") or arguments.get("QueueName")
            subject, size = str(url).rpartition("/")[2], len(arguments.get("Entries") or (None,))
        elif operation == "SubmitJob":
            subject, size = str(arguments.get("jobName")), 1
        else:
            of = arguments.get("jobId") or arguments.get("jobQueue") or arguments.get("arrayJobId")
            subject = str(of) if of else ""
            size = len(arguments.get("jobs") or arguments.get("jobQueues") or (None,))
        self.history.call(self.now, operation, outcome, subject or None, size)

    def _get_caller_identity(self, request: Request, now: float) -> Shape:
        arn = f"arn:aws:iam::{self.account}:user/simulated"
        return {"UserId": "AIDASIMULATED", "Account": self.account, "Arn": arn}


_DELIVERIES: Final[Mapping[Fault, Delivery]] = {
    Fault.RESET_AFTER: Delivery.RESET,
    Fault.CLOSE_AFTER: Delivery.CLOSE,
    Fault.TRUNCATE_AFTER: Delivery.TRUNCATE,
    Fault.NOT_JSON_AFTER: Delivery.NOT_JSON,
    Fault.BLOCKED_AFTER: Delivery.BLOCKED,
}
