"""AWS's numbers and ours, by name, with their relations asserted.

Sources: AWS Batch service quotas and API reference (2016-08-10), Amazon SQS API reference (2012-11-05).
"""

from __future__ import annotations

from typing import Final

# --- AWS Batch -----------------------------------------------------------------------------------------
BATCH_API_RATE_PER_S: Final = 50
"""SubmitJob per account and Region; by some AWS statements all Batch calls together."""
DESCRIBE_JOBS_MAX: Final = 100
DESCRIBE_QUEUES_MAX: Final = 100
LIST_JOBS_FILTERED_PAGE_MAX: Final = 100
LIST_JOBS_PAGE_MAX: Final = 1_000
"""Of children in a status: no filter applies to them."""
DESCRIBE_ENVIRONMENTS_MAX: Final = 100
QUEUE_FRONT_MAX: Final = 100
"""Jobs that GetJobQueueSnapshot tells."""
JOB_NAME_LENGTH_MAX: Final = 128
ARRAY_SIZE_MIN: Final = 2
ARRAY_SIZE_MAX: Final = 10_000
DEPENDENCIES_MAX: Final = 20
ATTEMPTS_MIN: Final = 1
ATTEMPTS_MAX: Final = 10
EVALUATE_ON_EXIT_MAX: Final = 5
TIMEOUT_S_MIN: Final = 60
TAGS_MAX: Final = 50
TAG_KEY_LENGTH_MAX: Final = 128
TAG_VALUE_LENGTH_MAX: Final = 256
SCHEDULING_PRIORITY_MAX: Final = 9_999
SHARE_IDENTIFIER_LENGTH_MAX: Final = 255
PAYLOAD_BYTES_MAX: Final = 30 * 1024
OVERRIDES_LENGTH_MAX: Final = 8_192
"""ECS RunTask's limit on serialised container overrides: SubmitJob takes more, then the job FAILs."""
TERMINATE_REASON_LENGTH_MAX: Final = 1_024

# --- Amazon SQS ----------------------------------------------------------------------------------------
SQS_BATCH_MAX: Final = 10
SQS_WAIT_S_MAX: Final = 20
SQS_MESSAGE_BYTES_MAX: Final = 1_048_576
SQS_VISIBILITY_S_MAX: Final = 43_200

# --- ours ----------------------------------------------------------------------------------------------
REQUEST_ID_LENGTH_MAX: Final = 128
REQUEST_ID_PATTERN: Final = r"[A-Za-z0-9_.:/=+@-]{1,128}"
PRIORITY_MIN: Final = -1_000
PRIORITY_MAX: Final = 1_000
JOB_NAME_KEPT: Final = 115
"""What is kept of a request's jobName in the Batch job name."""
JOB_NAME_HASH_LENGTH: Final = 12
REQUEST_ID_TAG: Final = "batch-controller/request-id"
IN_DOUBT_MAX: Final = 200
"""Rows in doubt at which admission stops but for one probe."""
ADOPTION_SKEW_S: Final = 300.0
"""A job found by name is ours if it was created no earlier than the first intent less this: AWS's own
tolerance for a client's clock."""
HOLD_PROBE_S: Final = 15.0
"""How often a held queue is asked for with DescribeJobQueues."""
LOST_MISSES_MIN: Final = 3
BODY_NESTING_MAX: Final = 64
SETTLE_S_DEFAULT: Final = 330.0
"""Life of a request signature (300 s) plus ListJobs' lag."""
PACING_GUARD: Final = 0.05
"""Share of a second by which sends may bunch between our clock and the wire."""

assert JOB_NAME_KEPT + 1 + JOB_NAME_HASH_LENGTH <= JOB_NAME_LENGTH_MAX
assert SETTLE_S_DEFAULT >= 300 + 30
assert REQUEST_ID_LENGTH_MAX <= TAG_VALUE_LENGTH_MAX, "the request id is a tag value"
assert len(REQUEST_ID_TAG) <= TAG_KEY_LENGTH_MAX
assert ATTEMPTS_MIN <= ATTEMPTS_MAX
assert ARRAY_SIZE_MIN <= ARRAY_SIZE_MAX
