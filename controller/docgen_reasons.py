"""``docs/reasons.md``: why a job waits and why it failed, for operators, made from the tables of the core.

Called by ``docgen.py``; a module of its own because of the prose.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controller.children import BEGIN_S, DEADLINE_S
from controller.core import reasons, waiting
from controller.core.admission import QueueLimits
from controller.core.children import GROUPS_MAX
from controller.core.events import REASON_CLASSES, WAIT_CAUSES
from controller.stages.diagnose import ASK_S_MAX, ASK_S_MIN, DENIED_S, JOBS_TOLD_MAX

_PAGE: Final = """# My job waits. My job failed.

{made}
## My job waits

Where is it? `batch-controller show REQUEST_ID` [tells](observability.md#find-a-request-its-job-and-why-it-waits); from
outside:

| what you see | what it means | look at |
| --- | --- | --- |
| `backlog_dependent_jobs` counts it | It waits until the requests in its `dependsOn` are submitted. | `depends_on` of \
its `request.accepted`, and the events of those requests; one that never comes is waited for for `retention.final_s` |
| `backlog_jobs` counts it, no `job.submitted` | It is not submitted yet: limits, a pause, a hold, or others before \
it. | `batch-controller show REQUEST_ID`: `waits_for` is the cause with its numbers, and how many of its tenant are \
before it ([what each means](observability.md#find-a-request-its-job-and-why-it-waits)); for all of a job queue \
`wait_seconds_total`, `queue_held`, `inflight_jobs`, `job_queue_max_waiting`, `rate_limit_per_second`, the event \
`job_queue.held`. With `expiresAt` it ends unsent at that time |
| `submission.in_doubt` | The answer of SubmitJob was lost; it is looked for before it is sent again. | \
`submissions_in_doubt` |
| `inflight_jobs{{batch_status="PENDING"}}`, and it is an array job | Its children wait or run: an array stays PENDING \
until the last has ended. | `array_children`, `inflight_arrays` |
| `inflight_jobs{{batch_status="PENDING"}}`, and it is no array | It waits for a job that it depends on. | its \
`dependsOn` |
| `inflight_jobs{{batch_status="RUNNABLE"}}` | Batch has not placed it yet. | below |

A job that is RUNNABLE for longer than `queues.<name>.stuck_after_s` ({stuck_after:g} s by default; 0 switches all of
this off) is *stuck*: the controller asks AWS Batch about its queue, tells `job.stuck` with a cause, counts it in
`stuck_jobs{{job_queue,cause}}`, and tells `job_queue.blocked` and later `job_queue.unblocked` if the cause is one for
which no job of the queue gets placed. If Batch itself calls a job the one that blocks its queue, that is told without
waiting for the threshold.

An array job is PENDING whether its children run or wait. It is stuck, as one job and told once, when some of its
children have been RUNNABLE for that long while none was STARTING or RUNNING and none ended; `position` is that of the
first of them. How long they have waited is not known across a restart, and counts from it.

{causes}
Batch states a reason only for the job at the head of a queue, and only if it has found one:

{stated}
**What it costs.** Per queue with stuck jobs, never per job: one GetJobQueueSnapshot and one DescribeJobs, and for all
such queues together one DescribeJobQueues and one DescribeComputeEnvironments; at once, again after {ask_min:g} s, and
then ever more seldom, down to once in {ask_max:g} s. They spend the list and describe budgets. Of each queue, each
time, at most {jobs_told} jobs nearest its head are told, and each only once per time of being RUNNABLE.

**Permissions.** `batch:GetJobQueueSnapshot` and `batch:DescribeComputeEnvironments`, beside `batch:DescribeJobQueues`.
Without one of them positions or the state of compute environments are not known, and the cause is less certain; the
controller logs it once, tries again after {denied:g} s, and stays ready. So it is where what answers for AWS Batch
does not have such a call, but for the pause.

## My job failed

`job.finished` (and the metric `job_failures_total{{job_queue,reason_class}}`) says why in `reason_class`; `reason`
holds Batch's own words, `attempts` each attempt with its exit code, reason and log stream.

{classes}
Beginnings of Batch's own status reason are looked at first; then whether somebody stopped the job; then what the
container, the task or the pod says; then the exit code. The first match decides:

{rules}
### Arrays

When an array job has failed, its failed children are looked up with ListJobs before its end is told, 1,000 a call,
within the list budget and {deadline:g} s: so long may the end of an array be told later than it was seen.
`job.finished` carries `array_summary` (children by status) and `failed_children`: groups of equal exit code and
reason, with their indexes as ranges.

```json
{{"event":"job.finished","outcome":"failed","reason_class":"array_child_failed","array_size":100,
 "array_summary":{{"SUCCEEDED":94,"FAILED":6}},
 "failed_children":{{"count":6,"groups":[
   {{"indexes":"0-3,7","count":5,"reason_class":"application_exit_code","exit_code":1,
     "reason":"Essential container in task exited"}},
   {{"indexes":"42","count":1,"reason_class":"spot_reclaim","reason":"Host EC2 (instance i-0a1b2c3d) terminated."}}]}}}}
```

At most {groups} groups are told, the others are counted. If the look-up was not allowed, failed, or was not done in
time, `incomplete` says so, and `array_summary` still tells how many failed. If more arrays fail than the list budget
can begin to look up within {begin:.0f} s, the others are told at once, as `too_many`. `unaccounted_children` counts
those that Batch itself counts neither as SUCCEEDED nor as FAILED at the end.

### Multi-node jobs

`failed_nodes` tells the nodes that failed in the same way. The main node decides how the job ends; if it failed,
`exit_code` is its exit code, and its reason is the job's where the job itself tells none.
"""


def page(made: str) -> str:
    """``docs/reasons.md``."""
    return _PAGE.format(
        made=made,
        stuck_after=QueueLimits().stuck_after_s,
        ask_min=ASK_S_MIN,
        ask_max=ASK_S_MAX,
        jobs_told=JOBS_TOLD_MAX,
        denied=DENIED_S,
        begin=BEGIN_S,
        deadline=DEADLINE_S,
        groups=GROUPS_MAX,
        causes=_table(
            ("cause", "queue counts as blocked", "what to do"),
            ((f"`{name}`", _blocks(name), waiting.MEANINGS[name]) for name in WAIT_CAUSES),
        ),
        stated=_table(
            ("status reason begins with", "cause"),
            ((f"`{text}`", f"`{cause}`") for text, cause in waiting.STATUS_REASONS),
        ),
        classes=_table(
            ("reason class", "what it means"),
            ((f"`{name}`", reasons.MEANINGS[name]) for name in REASON_CLASSES),
        ),
        rules=_table(
            ("text, in any case", "where", "reason class"),
            (
                *((f"`{rule.text}…`", "status reason", f"`{rule.reason_class}`") for rule in reasons.BATCH_SAYS),
                ("–", "cancelled or terminated, not by us", "`terminated`"),
                *(
                    (f"`{rule.text}`{f' and `{rule.also}`' if rule.also else ''}", "anywhere", f"`{rule.reason_class}`")
                    for rule in reasons.CONTAINER_SAYS
                ),
                ("–", "an exit code other than 0", "`application_exit_code`"),
                ("–", "nothing of all this", "`unknown`"),
            ),
        ),
    )


def _blocks(cause: str) -> str:
    if cause == "undetermined":
        return "if Batch says so"
    return "yes" if cause in waiting.BLOCKING else ""


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
