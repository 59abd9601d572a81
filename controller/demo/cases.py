"""What the demonstration sends, kind by kind, and how each kind must end. The table that everything else reads.

A *case* is a kind of message. Its share says how often it comes among the messages, its ``outcome`` and ``has_job``
what must become of it: the proof at the end compares them with what the controller reported and with what AWS recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Case(StrEnum):
    PLAIN = "plain"
    ARRAY = "array"
    DEPENDENT = "dependent"
    RETRIED = "retried"
    RECLAIMED = "reclaimed"
    EXIT_CODE = "exit_code"
    BROKEN = "broken"
    CANCELLED_RUNNING = "cancelled_running"
    CANCELLED_QUEUED = "cancelled_queued"
    EXPIRED = "expired"
    ORPHANED = "orphaned"
    INVALID = "invalid"
    NOT_ALLOWED = "not_allowed"
    CONFLICT = "conflict"
    REFUSED = "refused"
    DUPLICATE = "duplicate"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSpec:
    """How one kind of message ends."""

    title: str
    outcome: str | None
    """``outcome`` of its final event; None: it has none of its own."""
    has_job: bool
    """Whether AWS Batch must have a job for it: exactly one, or none."""
    share: float = 0.0
    """Of all messages. PLAIN takes what is left; CANCEL comes with the requests that it ends."""


CASES: Final[Mapping[Case, CaseSpec]] = {
    Case.PLAIN: CaseSpec(title="plain jobs", outcome="succeeded", has_job=True),
    Case.ARRAY: CaseSpec(title="array jobs of 20 children", outcome="succeeded", has_job=True, share=0.007),
    Case.DEPENDENT: CaseSpec(title="depends on another request", outcome="succeeded", has_job=True, share=0.03),
    Case.RETRIED: CaseSpec(title="fail once, succeed when retried", outcome="succeeded", has_job=True, share=0.03),
    Case.RECLAIMED: CaseSpec(title="spot host reclaimed, retried", outcome="succeeded", has_job=True, share=0.03),
    Case.EXIT_CODE: CaseSpec(title="exit code other than 0", outcome="failed", has_job=True, share=0.05),
    Case.BROKEN: CaseSpec(title="out of memory, no image, host lost", outcome="failed", has_job=True, share=0.03),
    Case.CANCELLED_RUNNING: CaseSpec(title="cancelled while running", outcome="failed", has_job=True, share=0.007),
    Case.CANCELLED_QUEUED: CaseSpec(title="cancelled while queued", outcome="cancelled", has_job=False, share=0.007),
    Case.EXPIRED: CaseSpec(title="expired before submission", outcome="cancelled", has_job=False, share=0.01),
    Case.ORPHANED: CaseSpec(title="depends on a refused request", outcome="cancelled", has_job=False, share=0.007),
    Case.INVALID: CaseSpec(title="invalid: not JSON, wrong type, …", outcome="rejected", has_job=False, share=0.05),
    Case.NOT_ALLOWED: CaseSpec(title="not allowed by policy", outcome="rejected", has_job=False, share=0.007),
    Case.CONFLICT: CaseSpec(title="known id, other content", outcome="rejected", has_job=False, share=0.01),
    Case.REFUSED: CaseSpec(title="unknown job queue or definition", outcome="rejected", has_job=False, share=0.014),
    Case.DUPLICATE: CaseSpec(title="sent twice: the second one", outcome=None, has_job=False, share=0.03),
    Case.CANCEL: CaseSpec(title="cancel messages", outcome=None, has_job=False),
}

assert sum(spec.share for spec in CASES.values()) < 0.5, "most messages are plain"

# --- the place: names in the simulated account ------------------------------------------------------------

REGION: Final = "eu-central-1"
ACCOUNT: Final = "111122223333"
HIGH: Final = "high"
DEFAULT: Final = "default"
BULK: Final = "bulk"
NIGHTLY: Final = "nightly"
"""Paused by the controller's configuration: its requests wait until they are cancelled or expire."""
JOB_QUEUES: Final = (HIGH, DEFAULT, BULK, NIGHTLY)
JOB_DEFINITIONS: Final = ("render", "transcode", "report", "train")
RETIRED: Final = "retired"
"""A job queue, and a job definition, that policy lets through and AWS Batch does not know."""
FORBIDDEN: Final = "debug-shell"
"""A job definition that policy does not let through."""
