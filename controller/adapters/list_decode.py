"""ListJobs answers, decoded without the SDK's walk over the service model.

A page may hold a thousand jobs, over which botocore walks for 7 ms while everything else waits; msgspec takes half of
one.
``register`` hooks into the SDK's ``before-parse`` event. What the SDK's answer then holds is what its own parser would
have put there, and members that its model does not know beside it. Errors (status 300 and above), bodies that do not
decode, and those with a null, which the SDK's parser leaves out, go to that parser.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec


class _Answer(msgspec.Struct, gc=False, rename="camel"):
    job_summary_list: list[dict[str, Any]]
    next_token: str | None = None


_DECODER: Final = msgspec.json.Decoder(_Answer)


def register(events: Any) -> None:
    """Hook the decoder into a Batch client's events (``client.meta.events``)."""
    events.register("before-parse.batch.ListJobs", _decode_before_parse)


def _decode_before_parse(
    *, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    body = response_dict["body"]
    if response_dict["status_code"] >= 300 or b"null" in body:
        return
    try:
        answer = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    customized_response_dict["jobSummaryList"] = answer.job_summary_list
    if answer.next_token is not None:
        customized_response_dict["nextToken"] = answer.next_token
    response_dict["body"] = b"{}"
