"""SQS and STS against servers that misbehave."""

from __future__ import annotations

import pytest

from controller.adapters.clock import SystemClock
from controller.adapters.sqs import Queue
from controller.adapters.sts import Account
from controller.core.endpoints import is_of_aws
from controller.core.errors import (
    BadCredentials,
    NotAllowed,
    OutwardError,
    Refused,
    Throttled,
    Unavailable,
    Unexpected,
)
from tests.adapters.conftest import OpenAws, Seen
from tests.adapters.faulty_server import Behaviour, answer, close, fault, faulty_server, reset, sts_fault, truncate

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/requests"


def old_fault(status: int, code: str, old_code: str) -> Behaviour:
    """An error of SQS with the code of its former query protocol beside the new one."""
    return answer(
        status,
        {"__type": f"com.amazonaws.sqs#{code}", "message": "no"},
        x_amzn_query_error=f"{old_code};Sender",
    )


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        pytest.param(close, Unavailable, id="reads, closes"),
        pytest.param(reset, Unavailable, id="reads, resets"),
        pytest.param(truncate, Unavailable, id="truncated body"),
        pytest.param(fault(500, "InternalError"), Unavailable, id="500"),
        pytest.param(
            old_fault(400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"), Refused, id="no queue"
        ),
        pytest.param(old_fault(400, "InvalidAddress", "InvalidAddress"), Refused, id="no queue's URL"),
        pytest.param(old_fault(403, "OverLimit", "OverLimit"), Throttled, id="too many in flight"),
        pytest.param(old_fault(403, "RequestThrottled", "RequestThrottled"), Throttled, id="throttled"),
        pytest.param(old_fault(400, "KmsThrottled", "KMS.ThrottlingException"), Throttled, id="KMS throttled"),
        pytest.param(old_fault(400, "KmsAccessDenied", "KMS.AccessDeniedException"), NotAllowed, id="KMS denied"),
        pytest.param(old_fault(400, "KmsDisabled", "SomethingNew"), Refused, id="new code known, old one not"),
        pytest.param(fault(403, "AccessDenied"), NotAllowed, id="denied"),
        pytest.param(fault(403, "InvalidClientTokenId"), BadCredentials, id="invalid key"),
        pytest.param(fault(400, "NeverHeardOf"), Unexpected, id="unknown"),
    ],
)
async def test_fault_is_one_request_and_its_kind(
    open_clients: OpenAws, seen: Seen, behaviour: Behaviour, kind: type[OutwardError]
) -> None:
    """No call to SQS is repeated by the SDK, and codes old and new are sorted into kinds."""
    async with faulty_server(behaviour) as server, open_clients(server.url, queue_urls=[URL]) as aws:
        queue = Queue(url=URL, client=aws.sqs(URL), clock=SystemClock(), observe=seen)
        with pytest.raises(OutwardError) as received:
            await queue.receive(max_messages=10, wait_s=0, visibility_timeout_s=60)
        with pytest.raises(OutwardError) as deleted:
            await queue.delete(["h"])
    assert [type(caught.value) for caught in (received, deleted)] == [kind] * 2
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", [b"<html>please log in</html>", b" OK", b"[]"])
async def test_a_page_of_something_else_is_no_empty_queue(open_clients: OpenAws, seen: Seen, body: bytes) -> None:
    """A proxy that answers in place of SQS, with HTTP 200, has not reached it; SQS without messages says ``{}``."""
    empty = answer(200, {})
    async with faulty_server(empty, answer(200, body)) as server, open_clients(server.url, queue_urls=[URL]) as aws:
        queues = [Queue(url=URL, client=aws.sqs(URL), clock=SystemClock(), observe=seen) for _ in range(2)]
        assert list(await queues[0].receive(max_messages=10, wait_s=0, visibility_timeout_s=60)) == []
        for queue in queues:
            with pytest.raises(Unavailable):
                await queue.receive(max_messages=10, wait_s=0, visibility_timeout_s=60)
    assert [outcome for _, outcome in seen.calls] == ["ok", "unavailable", "unavailable"]


async def test_handles_not_named_as_deleted_are_given_back(open_clients: OpenAws, seen: Seen) -> None:
    """A handle that SQS failed, or said nothing of, is not deleted."""
    failed = {"Id": "1", "SenderFault": False, "Code": "InternalError"}
    behaviour = answer(200, {"Successful": [{"Id": "0"}], "Failed": [failed]})
    async with faulty_server(behaviour) as server, open_clients(server.url, queue_urls=[URL]) as aws:
        queue = Queue(url=URL, client=aws.sqs(URL), clock=SystemClock(), observe=seen)
        assert list(await queue.delete(["a", "b", "c"])) == ["b", "c"]


async def test_nothing_to_delete_is_no_call(open_clients: OpenAws, seen: Seen) -> None:
    """SQS refuses empty batches, so none is sent."""
    async with faulty_server(close) as server, open_clients(server.url, queue_urls=[URL]) as aws:
        queue = Queue(url=URL, client=aws.sqs(URL), clock=SystemClock(), observe=seen)
        assert list(await queue.delete([])) == []
    assert server.requests == []
    assert seen.calls == []


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (sts_fault(403, "AccessDenied"), NotAllowed),
        (sts_fault(403, "InvalidClientTokenId"), BadCredentials),
        (sts_fault(400, "Throttling"), Throttled),
        (answer(200, b"<html>", content_type="text/html"), Unavailable),
        (answer(200, b"<GetCallerIdentityResponse/>", content_type="text/xml"), Unavailable),
        (close, Unavailable),
    ],
)
async def test_account_that_is_not_told(
    open_clients: OpenAws, seen: Seen, behaviour: Behaviour, kind: type[OutwardError]
) -> None:
    """STS's faults are sorted like every other, and an answer without an account is none."""
    async with faulty_server(behaviour) as server, open_clients(server.url) as aws:
        with pytest.raises(OutwardError) as caught:
            await Account(client=aws.sts, clock=SystemClock(), observe=seen).account()
    assert type(caught.value) is kind, caught.value


async def test_an_sts_that_knows_nothing_of_a_stand_in_for_batch_is_done_without(
    open_clients: OpenAws, seen: Seen
) -> None:
    """AWS's own STS refuses the keys of a stand-in at an end point of its own: not known, instead of not good."""
    async with faulty_server(sts_fault(403, "InvalidClientTokenId")) as server, open_clients(server.url) as aws:
        with pytest.raises(Unavailable, match="AWS_ENDPOINT_URL_STS"):
            await Account(client=aws.sts, clock=SystemClock(), observe=seen, is_apart=True).account()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://sts.eu-west-1.amazonaws.com", True),
        ("https://vpce-0a1b-2c3d.batch.eu-west-1.vpce.amazonaws.com", True),
        ("https://batch.cn-north-1.amazonaws.com.cn", True),
        ("https://batch.eu-west-1.api.aws", True),
        ("http://localhost:4566", False),
        ("https://amazonaws.com.example.org", False),
    ],
)
def test_whose_end_point_it_is(url: str, expected: bool) -> None:
    """AWS's own are known by their domain, whatever the service."""
    assert is_of_aws(url) is expected
