"""The overview: what a person on call needs in ten seconds. Is it flowing? Late? Failing? And why?

The top row answers with colours; each row below asks one of the questions, with time on the x axis.
"""

from __future__ import annotations

from dataclasses import replace

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import (
    BLUE,
    GREEN,
    OVERVIEW,
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
    rows,
    states,
    with_urls,
)

I = 'instance=~"$instance"'  # noqa: E741 - the selector that is in every query
P = "batch_controller_"
RATE = "$__rate_interval"


def build() -> Dashboard:
    board = new_dashboard(
        OVERVIEW,
        "Batch job controller: overview",
        "Is it flowing, late or failing, and why? Start here; then the job queue's dashboard or the internals.",
    )
    with_urls(board)
    _now(board)
    _flowing(board)
    _late(board)
    _failing(board)
    _why(board)
    return board


def _now(board: Dashboard) -> None:
    leaders = Spec(
        title="Leader",
        description="Processes that lead: exactly one per controller. A standby waits; with none, nothing is done.",
        queries=[Query(f"sum({P}leader{{{I}}}) / count(count by (name) ({P}build_info{{{I}}}))")],
        steps=((None, RED), (1, GREEN), (1.5, RED)),
        texts={0: ("none", RED), 1: ("yes", GREEN)},
        runbooks=["BatchControllerNoLeader", "BatchControllerDown"],
    )
    alerts = Spec(
        title="Alerts firing",
        description="Alerts of this project that fire now, for all controllers; the table at the bottom names them.",
        queries=[Query('count(ALERTS{alertname=~"BatchController.+", alertstate="firing"}) or vector(0)')],
        steps=((None, GREEN), (1, YELLOW), (3, RED)),
    )
    intake = Spec(
        title="Intake",
        description="Whether messages are received. Paused for a full backlog, a failing store or refused credentials.",
        queries=[Query(f'max({P}intake_paused{{{I}, reason!="standby"}})')],
        texts={0: ("open", GREEN), 1: ("paused", RED)},
        steps=((None, GREEN), (1, RED)),
        runbooks=["BatchControllerIntakeBlocked", "BatchControllerIntakeFull"],
    )
    held = Spec(
        title="Queues held",
        description="Job queues that get no SubmitJob now: disabled, invalid, access denied, or an unknown error.",
        queries=[Query(f"sum(max by (job_queue) ({P}queue_held{{{I}}})) or vector(0)")],
        steps=((None, GREEN), (1, YELLOW)),
        runbooks=["BatchControllerQueueHeld"],
    )
    oldest = Spec(
        title="Oldest waiting",
        description="Age of the oldest request that is stored and not yet submitted, over all job queues.",
        queries=[Query(f"max({P}backlog_oldest_seconds{{{I}}}) or vector(0)")],
        unit="s",
        decimals=0,
        steps=((None, GREEN), (900, YELLOW), (3600, RED)),
        runbooks=["BatchControllerBacklogOld"],
    )
    failed = Spec(
        title="Jobs failed (30 min)",
        description="Share of the jobs that ended in the last 30 minutes as failed or lost, cancelled ones left out.",
        queries=[Query(failed_share(I))],
        unit="percentunit",
        decimals=0,
        steps=((None, GREEN), (0.1, YELLOW), (0.25, RED)),
        runbooks=["BatchControllerJobsFailing"],
    )
    doubt = Spec(
        title="In doubt",
        description="Submissions of which it is not known whether Batch accepted them. From 200 on, submission stops.",
        queries=[Query(f"max({P}submissions_in_doubt{{{I}}})")],
        steps=((None, GREEN), (1, YELLOW), (200, RED)),
        runbooks=["BatchControllerSubmissionsInDoubt", "BatchControllerSubmissionsStopped"],
    )
    dead = Spec(
        title="Dead letters (1 h)",
        description="Requests put into the dead-letter queue within the hour. How many lie there is CloudWatch's "
        "ApproximateNumberOfMessagesVisible of that SQS queue.",
        queries=[
            Query(
                f'sum(increase({P}events_published_total{{{I}, sink="dead_letter", outcome="published"}}[1h]))'
                " or vector(0)"
            )
        ],
        decimals=0,
        steps=((None, GREEN), (0.5, YELLOW)),
        runbooks=["BatchControllerDeadLetters", "BatchControllerDeadLettersStuck"],
    )
    for spec in (leaders, alerts, intake, held, oldest, failed, doubt, dead):
        board.with_panel(number(replace(spec, width=3, height=4)))


def _flowing(board: Dashboard) -> None:
    board.with_row(row("Flowing?"))
    board.with_panel(
        lines(
            Spec(
                title="Received, by outcome",
                description="Messages per second settled at intake: stored, known already, or rejected.",
                queries=[Query(f"sum by (outcome) (rate({P}requests_received_total{{{I}}}[{RATE}]))", "{{outcome}}")],
                unit="reqps",
                runbooks=["BatchControllerRequestsRejected"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Submitted, by outcome",
                description="SubmitJob calls per second. Adopted: found by look-up after a lost answer.",
                queries=[Query(f"sum by (outcome) (rate({P}submissions_total{{{I}}}[{RATE}]))", "{{outcome}}")],
                unit="reqps",
                runbooks=["BatchControllerSubmitErrors", "BatchControllerSubmissionsRefused"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Ended, by outcome",
                description="Requests per second that ended, each reported by exactly one final event.",
                queries=[Query(f"sum by (outcome) (rate({P}jobs_finished_total{{{I}}}[{RATE}]))", "{{outcome}}")],
                unit="reqps",
                runbooks=["BatchControllerJobsFailing", "BatchControllerJobsLost"],
            )
        )
    )


def _late(board: Dashboard) -> None:
    board.with_row(row("Late?"))
    runbooks = ("BatchControllerBacklogOld", "BatchControllerIntakeFull")
    board.with_panel(
        lines(
            Spec(
                title="Backlog, by job queue",
                description="Requests that are stored and not yet submitted.",
                queries=[Query(f"max by (job_queue) ({P}backlog_jobs{{{I}}})", "{{job_queue}}")],
                runbooks=runbooks,
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Oldest request, by job queue",
                description="Age of the oldest request of each backlog; the alert is at one hour.",
                queries=[Query(f"max by (job_queue) ({P}backlog_oldest_seconds{{{I}}})", "{{job_queue}}")],
                unit="s",
                runbooks=runbooks,
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Seen after a job's end",
                description="From a job's end, as Batch reports it, to the moment the controller saw it.",
                queries=quantiles(f"{P}detection_lag_seconds_bucket{{{I}}}", "", 0.5, 0.95),
                unit="s",
                runbooks=["BatchControllerTrackingStale", "BatchControllerEventsMissed"],
            )
        )
    )


def _failing(board: Dashboard) -> None:
    board.with_row(row("Failing?"))
    board.with_panel(
        lines(
            Spec(
                title="Failed share, by job queue",
                description="Share that failed or were lost, over 30 minutes, not cancelled; the alert is at 25 %.",
                queries=[Query(failed_share(I, by="job_queue"), "{{job_queue}}")],
                unit="percentunit",
                steps=((None, GREEN), (0.25, RED)),
                runbooks=["BatchControllerJobsFailing"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Failures, by reason class",
                description="Why jobs failed: the jobs' own fault (exit code, memory, time-out) or the platform's.",
                queries=[
                    Query(f"sum by (reason_class) (rate({P}job_failures_total{{{I}}}[{RATE}]))", "{{reason_class}}")
                ],
                unit="ops",
                runbooks=["BatchControllerJobsFailing"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Calls to AWS that failed, by outcome",
                description="Calls per second to SQS, Batch and STS that were not answered with success.",
                queries=[
                    Query(
                        f'sum by (outcome) (rate({P}aws_requests_total{{{I}, outcome!="ok"}}[{RATE}]))', "{{outcome}}"
                    )
                ],
                unit="reqps",
                runbooks=["BatchControllerThrottled", "BatchControllerAwsAccessRefused"],
            )
        )
    )


def _why(board: Dashboard) -> None:
    board.with_row(row("Why?"))
    board.with_panel(
        states(
            Spec(
                title="Paused and held",
                description="When intake was paused, and which job queues got nothing, for which reason.",
                queries=[
                    Query(f'max by (reason) ({P}intake_paused{{{I}, reason!="standby"}})', "intake: {{reason}}"),
                    Query(f"max by (reason) ({P}submission_paused{{{I}}})", "submission: {{reason}}"),
                    Query(
                        f"max by (job_queue, reason) ({P}queue_held{{{I}}}) > 0 or"
                        f" max by (job_queue, reason) (max_over_time({P}queue_held{{{I}}}[1h]) > 0) * 0",
                        "{{job_queue}}: {{reason}}",
                    ),
                ],
                texts={0: ("no", GREEN), 1: ("yes", RED)},
                steps=((None, GREEN), (1, RED)),
                runbooks=[
                    "BatchControllerQueueHeld",
                    "BatchControllerIntakeBlocked",
                    "BatchControllerSubmissionPaused",
                ],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="In Batch, by status",
                description="Jobs that hold a slot. Many RUNNABLE and few RUNNING: Batch has no capacity for them.",
                queries=[
                    Query(
                        f"sum by (batch_status) (max by (job_queue, batch_status) ({P}inflight_jobs{{{I}}}))",
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
                title="What ready work waits for",
                description="Share of the time in which work that was ready stood still, by what it waited for; "
                "1 is always.",
                queries=[Query(f"sum by (cause) (rate({P}wait_seconds_total{{{I}}}[{RATE}])) > 0", "{{cause}}")],
                runbooks=["BatchControllerBacklogOld"],
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
                        f"sum by (cause) (max by (job_queue, cause) ({P}stuck_jobs{{{I}}}))",
                        "{{cause}}",
                    )
                ],
                height=7,
                steps=((None, GREEN), (1, YELLOW)),
                runbooks=["BatchControllerJobsStuckRunnable"],
            )
        )
    )
    board.with_panel(
        rows(
            Spec(
                title="Alerts that fire",
                description="Each alert's name leads to its runbook page.",
                queries=[Query('ALERTS{alertname=~"BatchController.+", alertstate="firing"}')],
                width=10,
                height=7,
                no_value="none",
            ),
            columns={
                "alertname": "Alert",
                "severity": "Severity",
                "job_queue": "Job queue",
                "reason": "Reason",
                "operation": "Operation",
                "job": "Scrape job",
            },
            link=("alertname", "Runbook", "${runbooks}/${__data.fields.Alert}.md"),
        )
    )
    board.with_panel(
        rows(
            Spec(
                title="Job queues",
                description="Requests waiting, by job queue; the name leads to the queue's own dashboard.",
                queries=[Query(f"max by (job_queue) ({P}backlog_jobs{{{I}}})")],
                width=6,
                height=7,
                steps=((None, BLUE),),
            ),
            columns={"job_queue": "Job queue", "Value": "Backlog"},
            link=(
                "job_queue",
                "Dashboard of this job queue",
                f"/d/{QUEUE}?var-job_queue=${{__value.text}}&${{__url_time_range}}",
            ),
        )
    )
