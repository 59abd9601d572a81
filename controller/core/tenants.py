"""Whose request is it, and whose turn: fairness between the tenants of one Batch job queue.

Intake names the tenant of each request (``tenant_of``); admission asks for the next rows in turn (``in_turns``).
Both are pure: the store keeps the names, the admit stage remembers who was served last.

Tenants take turns, one request each, and a tenant's own requests go by effective priority, then age. This is deficit
round robin with a quantum of one request: a request takes one send and one slot whatever it is (an array job too), so
that a deficit is only ever "has had its turn of this round", which the place in the round tells. The order of the
turns is the store's own: newest tenant first, then down to the oldest, and around. A tenant that is new is therefore
never put before one that waits for its turn of the current round, so that even a stream of new names starves nobody.

Between two turns of a tenant that has requests to send, every other tenant has one turn at most. Priorities don't
cross tenants: a priority is what a producer says of its own request, and waiting behind one's own flood would age a
tenant past all others (a backlog of ten minutes would weigh as much as ten steps of priority).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.core.job import Job

NAME_LENGTH_MAX: Final = 256
"""Longer names are stored as a hash. Share identifiers have 255 characters at most, SQS's group ids 128, and the URLs
of its queues some 150."""
HASH_LENGTH: Final = 32


class NamedBy(StrEnum):
    """What may name a tenant: ``intake.tenant_from``."""

    SHARE_IDENTIFIER = "share_identifier"
    ATTRIBUTE = "attribute"
    MESSAGE_GROUP = "message_group"
    SOURCE = "source"


TENANT_FROM_DEFAULT: Final = (NamedBy.SHARE_IDENTIFIER, NamedBy.ATTRIBUTE, NamedBy.SOURCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What a message says of its tenant."""

    source: str
    """URL of the SQS queue that it came from."""
    share_identifier: str | None = None
    """SubmitJob's member."""
    attribute: str | None = None
    """The message attribute ``tenant``."""
    message_group: str | None = None
    """SQS's MessageGroupId."""


def tenant_of(naming: Naming, named_by: Iterable[NamedBy]) -> str:
    """The first name that is given; ``""``, one tenant for all, if none is."""
    given = {
        NamedBy.SHARE_IDENTIFIER: naming.share_identifier,
        NamedBy.ATTRIBUTE: naming.attribute,
        NamedBy.MESSAGE_GROUP: naming.message_group,
        NamedBy.SOURCE: naming.source,
    }
    return next((name for each in named_by if (name := _cleaned(given[each]))), "")


def _cleaned(name: str | None) -> str:
    """What is long or not printable becomes a hash, so that it still is a name of its own."""
    stripped = (name or "").strip()
    if len(stripped) <= NAME_LENGTH_MAX and stripped.isprintable():
        return stripped
    return "sha256:" + hashlib.sha256(stripped.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_LENGTH]


def in_turns(rows: Sequence[Job], limit: int) -> list[Job]:
    """The first ``limit`` of the rows in the order of turns.

    ``rows`` come tenant by tenant, the tenant whose turn is next first, and each tenant's in its own order.
    """
    waiting: dict[str, list[Job]] = {}
    for job in rows:
        waiting.setdefault(job.tenant, []).append(job)
    order: list[Job] = []
    for turn in range(max((len(own) for own in waiting.values()), default=0)):
        order.extend(own[turn] for own in waiting.values() if turn < len(own))
        if len(order) >= limit:
            break
    return order[:limit]
