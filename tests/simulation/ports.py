"""The SDK's clients on the simulated AWS, and a clock: what the real adapters are given in a simulated run.

The adapters in ``controller/adapters`` run as they are, so that their tables of errors and their deadlines are under
test too. A call travels in the world, not in its process: what a process has sent arrives even if it dies or its
deadline ends. Answers come back through one future.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
from aiohttp.client_reqrep import ConnectionKey
from botocore import exceptions as _sdk

from controller.simaws.answers import Answer, AwsError, Delivery
from controller.simaws.history import BATCH_OPERATIONS
from tests.simulation.loop_process import in_world

if TYPE_CHECKING:
    from tests.simulation.world import SimWorld

sdk: Any = _sdk
"""Untyped."""

SKEW_S_MAX = 300.0
"""AWS refuses requests signed further off its own clock."""
HUNG_S = 120.0
"""Longer than every deadline of the adapters: an answer after it need not be simulated."""

_KEY = ConnectionKey("sim", 443, True, True, None, None, None)
_URL = "https://sim.amazonaws.com/"

_OPERATIONS = {
    "submit_job": "SubmitJob",
    "describe_jobs": "DescribeJobs",
    "list_jobs": "ListJobs",
    "describe_job_queues": "DescribeJobQueues",
    "describe_compute_environments": "DescribeComputeEnvironments",
    "get_job_queue_snapshot": "GetJobQueueSnapshot",
    "terminate_job": "TerminateJob",
    "receive_message": "ReceiveMessage",
    "delete_message_batch": "DeleteMessageBatch",
    "change_message_visibility_batch": "ChangeMessageVisibilityBatch",
    "send_message_batch": "SendMessageBatch",
    "get_caller_identity": "GetCallerIdentity",
}


class SimClock:
    """``ports.Clock``: wall time is AWS's own, off by what the world says; monotonic time is the loop's."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.aws_now() + self._world.clock_offset_s

    def monotonic(self) -> float:
        return self._world.loop.time()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class _Events:
    """The part of botocore's event emitter that the adapters use."""

    def __init__(self) -> None:
        self.handlers: dict[str, list[Callable[..., None]]] = {}

    def register(self, name: str, handler: Callable[..., None]) -> None:
        self.handlers.setdefault(name, []).append(handler)


class SimClient:
    """An aiobotocore client of any service, for one process."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self.account = world.account
        """Whose credentials it has."""
        self.was_told = False
        """Whether STS has told the process its account."""
        self.meta = SimpleNamespace(
            config=SimpleNamespace(retries={"total_max_attempts": 1}), events=(events := _Events())
        )
        self._handlers = events.handlers

    def __getattr__(self, name: str) -> Callable[..., Any]:
        operation = _OPERATIONS[name]

        async def call(**arguments: Any) -> Mapping[str, Any]:
            return await self._call(operation, arguments)

        setattr(self, name, call)
        return call

    def fetch_credentials(self) -> Awaitable[None] | None:
        """The SDK's look for credentials: those that are due are renewed, and everybody waits for that."""
        self._world.check_alive("credentials")
        return self._renewed() if self._world.network.credentials_at > self._world.loop.time() else None

    async def _renewed(self) -> None:
        network = self._world.network
        while (wait_s := network.credentials_at - self._world.loop.time()) > 0:
            await asyncio.sleep(wait_s)

    async def _call(self, operation: str, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        world = self._world
        world.check_alive(operation)
        network = world.network
        await self._renewed()
        if network.is_drawn(network.no_credentials_p):
            raise sdk.CredentialRetrievalError(provider="sim", error_msg="the metadata service did not answer")
        for handler in self._handlers.get(f"before-send.batch.{operation}", ()):
            handler()
        if network.is_drawn(network.connect_refused_p):
            raise _never_connected()
        exchange = _Exchange(world, self, operation, arguments)
        with in_world():
            world.loop.call_later(network.way_s(), exchange.arrive)
        return await exchange.answered


class Network:
    """What happens between a process and AWS."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.way_s_max = 0.02
        """One way. Well below ``PACING_GUARD``: rates are kept as seen on the wire as far as ways differ by less."""
        self.no_credentials_p = 0.0
        """The SDK can't refresh its credentials; nothing is sent."""
        self.connect_refused_p = 0.0
        self.credentials_at = 0.0
        """When the credentials that are being renewed will be there, on the loop's clock."""

    def is_drawn(self, probability: float) -> bool:
        return probability > 0 and self.rng.random() < probability

    def way_s(self) -> float:
        return self.rng.random() * self.way_s_max

    def heal(self) -> None:
        self.no_credentials_p = self.connect_refused_p = 0.0


class _Exchange:
    """One request and its answer; lives in the world."""

    __slots__ = ("_arguments", "_client", "_operation", "_signed_off_s", "_world", "answered")

    def __init__(self, world: SimWorld, client: SimClient, operation: str, arguments: Mapping[str, Any]) -> None:
        self._world = world
        self._client = client
        self._operation = operation
        self._arguments = arguments
        self._signed_off_s = world.clock_offset_s
        self.answered: asyncio.Future[Mapping[str, Any]] = world.loop.create_future()

    def arrive(self) -> None:
        world = self._world
        if abs(self._signed_off_s) > SKEW_S_MAX:
            world.skewed_calls += 1
            error = AwsError("InvalidSignatureException", "Signature expired", status=403)
            self._answer(Answer(error=error))
            return
        if self._operation == "DeleteMessageBatch":
            world.deletes_asked(self._arguments)
        if self._client.was_told and self._client.account != world.sim.account and self._operation in BATCH_OPERATIONS:
            world.problems.append(f"one store, one account: {self._operation} for account {self._client.account}")
        answer = world.sim.call(self._operation, self._arguments, now=world.aws_now())
        if self._operation == "GetCallerIdentity" and answer.result and answer.delivery is Delivery.ANSWER:
            answer = replace(answer, result={"Account": self._client.account})
        is_empty = self._operation == "ReceiveMessage" and answer.result is not None and not answer.result
        if is_empty and answer.delivery is Delivery.ANSWER and (wait_s := self._arguments["WaitTimeSeconds"]) > 0:
            LongPoll(world, self._arguments, wait_s, self._answer).wait()
        else:
            if self._operation == "ReceiveMessage":
                world.received(answer.result)
            self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        if answer.delivery is Delivery.HANG and answer.delay_s >= HUNG_S:
            return
        self._world.loop.call_later(answer.delay_s + self._world.network.way_s(), self._deliver, answer)

    def _deliver(self, answer: Answer) -> None:
        if self.answered.done():
            return  # its caller waits no longer: whatever it says, nobody was told
        failure = _failure(answer, self._operation, self._world.network.rng)
        if failure is not None:
            self.answered.set_exception(failure)
        else:
            is_lost = answer.delivery is Delivery.NOT_JSON
            if self._operation == "GetCallerIdentity" and answer.result and not is_lost:
                self._client.was_told = True
            self.answered.set_result({} if is_lost or answer.result is None else answer.result)


class LongPoll:
    """A ReceiveMessage that waits for messages; it goes on if its caller dies."""

    def __init__(
        self, world: SimWorld, arguments: Mapping[str, Any], wait_s: float, answer: Callable[[Answer], None]
    ) -> None:
        self._world = world
        self._arguments = arguments
        self._until = world.aws_now() + wait_s
        self._answer = answer
        self._timer: asyncio.TimerHandle | None = None
        self._queue = str(arguments["QueueUrl"]).rpartition("/")[2]
        self._is_looking = False
        self._is_over = False

    def wait(self) -> None:
        self._world.polls[self._queue].append(self)
        self._sleep()

    def wake(self) -> None:
        """A message may be there."""
        if not self._is_looking:
            self._is_looking = True
            with in_world():
                self._world.loop.call_soon(self._look)

    def _sleep(self) -> None:
        visible_at = self._world.sim.sqs.next_visible_at(self._arguments)
        at = self._until if visible_at is None else min(self._until, visible_at)
        delay_s = max(0.001, at - self._world.aws_now())
        self._timer = self._world.loop.call_later(delay_s, self.wake)

    def _look(self) -> None:
        self._is_looking = False
        if self._timer is not None:
            self._timer.cancel()
        if self._is_over:
            return
        world = self._world
        result = world.sim.receive_again(self._arguments, now=world.aws_now())
        if not result and world.aws_now() < self._until:
            self._sleep()
            return
        self._is_over = True
        world.polls[self._queue].remove(self)
        world.received(result)
        self._answer(Answer(result=result))


def _failure(answer: Answer, operation: str, rng: random.Random) -> Exception | None:
    """What the SDK raises for an answer, or for none."""
    if answer.delivery in (Delivery.CLOSE, Delivery.HANG):
        closed: Exception = sdk.ConnectionClosedError(endpoint_url=_URL)
        return closed
    if answer.delivery is Delivery.RESET:
        reset: Exception = sdk.EndpointConnectionError(
            endpoint_url=_URL, error=aiohttp.ClientOSError(104, "reset by peer")
        )
        return reset
    if answer.delivery is Delivery.TRUNCATE:
        return aiohttp.ClientPayloadError("Response payload is not completed")
    if answer.delivery is Delivery.BLOCKED:
        return _client_error(operation, "403", "Forbidden", 403)
    if answer.error is not None and answer.delivery is not Delivery.NOT_JSON:
        return _client_error(operation, answer.error.code, answer.error.message, answer.error.status)
    return None


def _client_error(operation: str, code: str, message: str, status: int) -> Exception:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": {"x-amzn-requestid": "simulated"}}
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    error: Exception = sdk.ClientError(response, operation)
    return error


def _never_connected() -> Exception:
    refused = aiohttp.ClientConnectorError(_KEY, OSError(111, "Connection refused"))
    failure: Exception = sdk.EndpointConnectionError(endpoint_url=_URL, error=refused)
    return failure
