"""One job queue: what waits, what runs, how it ends, and what keeps it."""

from __future__ import annotations

from dataclasses import replace

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import (
    BLUE,
    GREEN,
    QUEUE,
    RED,
    YELLOW,
    Query,
    Spec,
    failed_share,
    lines,
    new_dashboard,
    number,
    quantiles,
    row,
    states,
    with_job_queue,
    with_urls,
)

Q = 'instance=~"$instance", job_queue=~"$job_queue"'
P = "batch_controller_"
RATE = "$__rate_interval"
WAITING = (
    f"sum by (job_queue) (max by (job_queue, batch_status) ({P}inflight_jobs{{{Q}, "
    'batch_status=~"unsubmitted|SUBMITTED|PENDING|RUNNABLE"}))'
    f" - max by (job_queue) ({P}inflight_arrays{{{Q}}})"
)
"""What counts towards ``max_waiting``, but for the first seconds of array jobs, which are PENDING for as long as their
children wait or run and don't count then."""


def build() -> Dashboard:
    board = new_dashboard(
        QUEUE,
        "Batch job controller: job queue",
        "One or several Batch job queues: what waits and why, what runs, how jobs end.",
    )
    with_urls(with_job_queue(board))
    _now(board)
    _waiting(board)
    _running(board)
    _ending(board)
    return board


def _status(statuses: str) -> str:
    return f'sum(max by (job_queue, batch_status) ({P}inflight_jobs{{{Q}, batch_status=~"{statuses}"}}))'


def _now(board: Dashboard) -> None:
    blue = ((None, BLUE),)
    specs = (
        Spec(
            title="Held",
            description="Whether the job queue, or a job definition in it, gets no SubmitJob now.",
            queries=[Query(f"max({P}queue_held{{{Q}}}) or vector(0)")],
            texts={0: ("no", GREEN), 1: ("held", RED)},
            steps=((None, GREEN), (1, RED)),
            runbooks=["BatchControllerQueueHeld"],
        ),
        Spec(
            title="Backlog",
            description="Requests that are stored and not yet submitted.",
            queries=[Query(f"sum(max by (job_queue) ({P}backlog_jobs{{{Q}}}))")],
            steps=blue,
            runbooks=["BatchControllerBacklogOld"],
        ),
        Spec(
            title="Oldest waiting",
            description="Age of the oldest request of the backlog.",
            queries=[Query(f"max({P}backlog_oldest_seconds{{{Q}}})")],
            unit="s",
            decimals=0,
            steps=((None, GREEN), (900, YELLOW), (3600, RED)),
            runbooks=["BatchControllerBacklogOld"],
        ),
        Spec(
            title="Waiting in Batch",
            description="Jobs that are being submitted, SUBMITTED, PENDING or RUNNABLE, array jobs left out. At "
            "queues.NAME.max_waiting nothing more is submitted.",
            queries=[Query(f"sum({WAITING})")],
            steps=blue,
            runbooks=["BatchControllerQueueNotStarting"],
        ),
        Spec(
            title="Running",
            description="Jobs whose containers start or run (STARTING, RUNNING).",
            queries=[Query(_status("STARTING|RUNNING"))],
            steps=blue,
        ),
        Spec(
            title="Failed (30 min)",
            description="Of the jobs that ended in the last 30 minutes, those failed or lost; cancelled ones left out.",
            queries=[Query(failed_share(Q))],
            unit="percentunit",
            decimals=0,
            steps=((None, GREEN), (0.1, YELLOW), (0.25, RED)),
            runbooks=["BatchControllerJobsFailing"],
        ),
    )
    for spec in specs:
        board.with_panel(number(replace(spec, width=4, height=4)))


def _waiting(board: Dashboard) -> None:
    board.with_row(row("Waiting"))
    board.with_panel(
        lines(
            Spec(
                width=24,
                title="Waiting in Batch, and its limit",
                description="Jobs that are being submitted, SUBMITTED, PENDING or RUNNABLE, array jobs left out, and "
                "queues.NAME.max_waiting as it is in force: with auto it follows how fast jobs start.",
                queries=[
                    Query(WAITING, "{{job_queue}}"),
                    Query(f"max by (job_queue) ({P}job_queue_max_waiting{{{Q}}})", "{{job_queue}}, limit"),
                ],
                runbooks=["BatchControllerQueueNotStarting"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                width=8,
                title="Backlog",
                description="Requests that are stored and not yet submitted, and those of them that wait for another.",
                queries=[
                    Query(f"max by (job_queue) ({P}backlog_jobs{{{Q}}})", "{{job_queue}}"),
                    Query(
                        f"max by (job_queue) ({P}backlog_dependent_jobs{{{Q}}}) > 0",
                        "{{job_queue}}, for another request",
                    ),
                ],
                runbooks=["BatchControllerBacklogOld"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                width=8,
                title="Oldest request",
                description="Age of the oldest request of the backlog; the alert is at one hour.",
                queries=[Query(f"max by (job_queue) ({P}backlog_oldest_seconds{{{Q}}})", "{{job_queue}}")],
                unit="s",
                runbooks=["BatchControllerBacklogOld"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                width=8,
                title="Tenants in the backlog",
                description="How many take turns: each gets one send out of so many.",
                queries=[Query(f"max by (job_queue) ({P}backlog_tenants{{{Q}}})", "{{job_queue}}")],
            )
        )
    )
    board.with_panel(
        states(
            Spec(
                width=12,
                title="Held, by reason",
                description="When the queue got no SubmitJob, and for which reasons within the last hour.",
                queries=[
                    Query(f"max by (job_queue) ({P}queue_held{{{Q}}})", "{{job_queue}}"),
                    Query(
                        f"max by (job_queue, reason) ({P}queue_held{{{Q}}}) > 0 or"
                        f" max by (job_queue, reason) (max_over_time({P}queue_held{{{Q}}}[1h]) > 0) * 0",
                        "{{job_queue}}: {{reason}}",
                    ),
                ],
                texts={0: ("no", GREEN), 1: ("held", RED)},
                steps=((None, GREEN), (1, RED)),
                runbooks=["BatchControllerQueueHeld"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Holds that began and ended",
                description="Per hour, by reason. A queue that is held and released again and again is not well.",
                queries=[
                    Query(
                        f"sum by (reason, change) (increase({P}queue_hold_changes_total{{{Q}}}[1h]))",
                        "{{reason}}: {{change}}",
                    )
                ],
                width=12,
                runbooks=["BatchControllerQueueHeld"],
            )
        )
    )


def _running(board: Dashboard) -> None:
    board.with_row(row("In Batch"))
    board.with_panel(
        lines(
            Spec(
                title="Submitted, by outcome",
                description="SubmitJob calls per second, by outcome.",
                queries=[Query(f"sum by (outcome) (rate({P}submissions_total{{{Q}}}[{RATE}]))", "{{outcome}}")],
                unit="reqps",
                runbooks=["BatchControllerSubmitErrors", "BatchControllerSubmissionsRefused"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="In flight, by status",
                description="Jobs that hold a slot, by Batch's status as last seen; against max_in_flight.",
                queries=[
                    Query(
                        f"sum by (batch_status) (max by (job_queue, batch_status) ({P}inflight_jobs{{{Q}}}))",
                        "{{batch_status}}",
                    )
                ],
                runbooks=["BatchControllerQueueNotStarting"],
            ),
            stacked=True,
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Status changes",
                description="Changes of Batch's status per second that were seen, by the new status.",
                queries=[
                    Query(f"sum by (batch_status) (rate({P}status_changes_total{{{Q}}}[{RATE}]))", "{{batch_status}}")
                ],
                unit="ops",
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Stuck in RUNNABLE, by cause",
                description="Jobs RUNNABLE beyond the threshold, by cause. With max_vcpus_reached and "
                "behind_other_jobs the job queue works, at its limit.",
                queries=[
                    Query(
                        f"max by (job_queue, cause) ({P}stuck_jobs{{{Q}}})",
                        "{{job_queue}}: {{cause}}",
                    )
                ],
                steps=((None, GREEN), (1, YELLOW)),
                runbooks=["BatchControllerJobsStuckRunnable"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Array jobs",
                description="Array jobs in flight: each holds one slot for as long as its children wait or run.",
                queries=[Query(f"max by (job_queue) ({P}inflight_arrays{{{Q}}})", "{{job_queue}}")],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Children of array jobs, by status",
                description="Children of the array jobs in flight, from their parents' summaries.",
                queries=[
                    Query(
                        f"sum by (batch_status) (max by (job_queue, batch_status) ({P}array_children{{{Q}}}))",
                        "{{batch_status}}",
                    )
                ],
            ),
            stacked=True,
        )
    )


def _ending(board: Dashboard) -> None:
    board.with_row(row("Ending"))
    board.with_panel(
        lines(
            Spec(
                title="Ended, by outcome",
                description="Requests per second that ended.",
                queries=[Query(f"sum by (outcome) (rate({P}jobs_finished_total{{{Q}}}[{RATE}]))", "{{outcome}}")],
                unit="reqps",
                width=12,
                runbooks=["BatchControllerJobsFailing", "BatchControllerJobsLost"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Failures by reason class",
                description="Why jobs failed: the jobs' own fault (exit code, memory, time-out) or the platform's.",
                queries=[
                    Query(f"sum by (reason_class) (rate({P}job_failures_total{{{Q}}}[{RATE}]))", "{{reason_class}}")
                ],
                unit="ops",
                width=12,
                runbooks=["BatchControllerJobsFailing"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Wait, from request to start",
                description="From the receipt of a request to the start of its job, as Batch reports it. Quantiles are "
                "read from wide buckets: an order of magnitude, not a measurement.",
                queries=quantiles(f"{P}job_wait_seconds_bucket{{{Q}}}", "", 0.5, 0.95),
                unit="s",
                width=12,
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Run time (median), by outcome",
                description="From the start of a job to its end, as Batch reports them. Failing fast and failing after "
                "hours have different causes. Read from wide buckets.",
                queries=[
                    Query(
                        "histogram_quantile(0.5, sum by (outcome, le) "
                        f"(rate({P}job_run_seconds_bucket{{{Q}}}[{RATE}])))",
                        "{{outcome}}",
                    )
                ],
                unit="s",
                width=12,
                runbooks=["BatchControllerJobsFailing"],
            )
        )
    )
