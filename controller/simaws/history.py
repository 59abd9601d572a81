"""What happened, for checkers: an append-only record that no fault, retention or deletion touches.

Every API call with its time and outcome, every job ever accepted, every message sent, received, deleted, dead-lettered.
Kept in columns, a few tens of bytes per entry; it grows until ``clear``.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Any, NamedTuple

BATCH_OPERATIONS = frozenset(
    {
        "SubmitJob",
        "DescribeJobs",
        "ListJobs",
        "CancelJob",
        "TerminateJob",
        "DescribeJobQueues",
        "DescribeComputeEnvironments",
        "DescribeJobDefinitions",
        "GetJobQueueSnapshot",
        "RegisterJobDefinition",
        "CreateJobQueue",
        "UpdateJobQueue",
    }
)


class Call(NamedTuple):
    """One API call, as it came in."""

    at: float
    operation: str
    outcome: str
    """``ok``, an error's code, or the fault that struck."""
    subject: str | None
    """SubmitJob: jobName; other Batch calls on one job: its id; SQS: the queue's name."""
    size: int
    """Ids or entries it carried; 1 where there are none."""


class AcceptedJob(NamedTuple):
    """A job that AWS Batch accepted."""

    at: float
    job_id: str
    job_name: str
    job_queue: str
    tags: Mapping[str, str]
    array_size: int | None


class MessageAction(IntEnum):
    SENT = 0
    RECEIVED = 1
    DELETED = 2
    DEAD_LETTERED = 3
    DUPLICATED = 4
    """Became visible again by a fault, while in flight or after its deletion."""
    EVENT_DROPPED = 5
    """An event that never got to its queue; the id is the job's."""


class MessageRecord(NamedTuple):
    at: float
    action: MessageAction
    queue: str
    message_id: str


class History:
    """Append-only; ``is_recording_messages`` may be switched off for long load runs."""

    def __init__(self) -> None:
        self.is_recording_messages = True
        self.clear()

    def clear(self) -> None:
        self.jobs: list[AcceptedJob] = []
        self._names: dict[str, int] = {}
        self._call_at = array("d")
        self._call_operation = array("H")
        self._call_outcome = array("H")
        self._call_size = array("I")
        self._call_subject: list[str | None] = []
        self._message_at = array("d")
        self._message_action = bytearray()
        self._message_queue = array("H")
        self._message_id: list[str] = []
        self._words: list[str] = []

    # --- recording ----------------------------------------------------------------------------------------

    def call(self, at: float, operation: str, outcome: str, subject: str | None, size: int) -> None:
        self._call_at.append(at)
        self._call_operation.append(self._word(operation))
        self._call_outcome.append(self._word(outcome))
        self._call_subject.append(subject)
        self._call_size.append(size)

    def job(self, job: AcceptedJob) -> None:
        self.jobs.append(job)

    def message(self, at: float, action: MessageAction, queue: str, message_id: str) -> None:
        if self.is_recording_messages:
            self._message_at.append(at)
            self._message_action.append(action)
            self._message_queue.append(self._word(queue))
            self._message_id.append(message_id)

    # --- reading ------------------------------------------------------------------------------------------

    def calls(self, operation: str | None = None) -> Iterator[Call]:
        """Calls in order, of one operation or all."""
        wanted = None if operation is None else self._names.get(operation, -1)
        for index, number in enumerate(self._call_operation):
            if wanted is None or number == wanted:
                yield Call(
                    self._call_at[index],
                    self._words[number],
                    self._words[self._call_outcome[index]],
                    self._call_subject[index],
                    self._call_size[index],
                )

    def messages(self, queue: str | None = None) -> Iterator[MessageRecord]:
        for index, number in enumerate(self._message_queue):
            if queue is None or self._words[number] == queue:
                action = MessageAction(self._message_action[index])
                yield MessageRecord(self._message_at[index], action, self._words[number], self._message_id[index])

    def call_counts(self) -> dict[str, dict[str, int]]:
        """Calls per operation and outcome."""
        counts: dict[str, dict[str, int]] = {}
        pairs = Counter(zip(self._call_operation, self._call_outcome, strict=True))
        for (operation, outcome), count in pairs.items():
            counts.setdefault(self._words[operation], {})[self._words[outcome]] = count
        return counts

    def jobs_per_name(self) -> Counter[str]:
        return Counter(job.job_name for job in self.jobs)

    def jobs_per_tag(self, tag: str) -> Counter[str]:
        """Jobs per value of a tag; jobs without it are left out."""
        return Counter(job.tags[tag] for job in self.jobs if tag in job.tags)

    def message_counts(self, queue: str | None = None) -> dict[str, int]:
        counts = Counter(record.action.name.lower() for record in self.messages(queue))
        return dict(counts)

    def calls_in_window_max(self, operations: Iterable[str] | None = None, *, window_s: float = 1.0) -> int:
        """Most calls in any window of ``window_s`` (half open); None: all Batch operations together."""
        wanted = {self._names.get(name, -1) for name in (BATCH_OPERATIONS if operations is None else operations)}
        instants = [at for at, o in zip(self._call_at, self._call_operation, strict=True) if o in wanted]
        most = first = 0
        for last, at in enumerate(instants):
            while at - instants[first] >= window_s:
                first += 1
            most = max(most, last - first + 1)
        return most

    def summary(self) -> dict[str, Any]:
        names = self.jobs_per_name()
        operations = sorted(self.call_counts())
        return {
            "jobs_accepted": len(self.jobs),
            "jobs_per_queue": dict(Counter(job.job_queue for job in self.jobs)),
            "job_names": len(names),
            "job_names_used_twice": sum(1 for count in names.values() if count > 1),
            "calls": self.call_counts(),
            "calls_per_second_max": {name: self.calls_in_window_max([name]) for name in operations},
            "batch_calls_per_second_max": self.calls_in_window_max(),
            "messages": self.message_counts(),
        }

    def _word(self, word: str) -> int:
        number = self._names.get(word)
        if number is None:
            number = self._names[word] = len(self._words)
            self._words.append(word)
        return number
