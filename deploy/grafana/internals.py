"""The internals: stages, store, calls to AWS, tracking, delivery. For whoever asks why the overview is red."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.panels import (
    GREEN,
    INTERNALS,
    RED,
    YELLOW,
    Query,
    Spec,
    lines,
    new_dashboard,
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
        INTERNALS,
        "Batch job controller: internals",
        "Stages, store, calls to AWS, tracking and delivery of one controller or several.",
    )
    with_urls(board)
    _process(board)
    _aws(board)
    _tracking(board)
    _delivery(board)
    return board


def _process(board: Dashboard) -> None:
    board.with_row(row("Process and store"))
    board.with_panel(
        rows(
            Spec(
                title="Processes",
                description="Which version runs where, under which controller.name.",
                queries=[Query(f"{P}build_info{{{I}}}")],
                width=8,
            ),
            columns={"name": "Controller", "version": "Version", "instance": "Instance", "job": "Scrape job"},
        )
    )
    board.with_panel(
        states(
            Spec(
                title="Role",
                description="Which process led when. One at a time; the others are standbys.",
                queries=[Query(f"max by (instance) ({P}leader{{{I}}})", "{{instance}}")],
                texts={0: ("standby", YELLOW), 1: ("leader", GREEN)},
                steps=((None, YELLOW), (1, GREEN)),
                runbooks=["BatchControllerNoLeader"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Time since a stage's last turn",
                description="/livez fails at the limit: 120 s, or more where calls are configured to be rare. Most "
                "stages turn every second, prune every minute; receiving waits up to 20 s for messages.",
                queries=[
                    Query(
                        f"time() - max by (stage) ({P}stage_last_turn_timestamp_seconds{{{I}}})",
                        "{{stage}}",
                    ),
                    Query(f"min({P}stage_turn_limit_seconds{{{I}}})", "limit"),
                ],
                unit="s",
                steps=((None, GREEN), (120, RED)),
                runbooks=["BatchControllerStageStopped"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Commits of the store",
                width=6,
                description="Duration of a commit. Everything waits for it; the alert is at 0.5 s (p99).",
                queries=quantiles(f"{P}store_commit_seconds_bucket{{{I}}}", "", 0.5, 0.99),
                unit="s",
                steps=((None, GREEN), (0.5, RED)),
                runbooks=["BatchControllerStoreSlow"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Commits per second",
                width=6,
                description="Several callers' changes share a commit, so that this grows more slowly than the work.",
                queries=[
                    Query(f"sum by (instance) (rate({P}store_commit_seconds_count{{{I}}}[{RATE}]))", "{{instance}}")
                ],
                unit="ops",
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="The store's disk",
                width=12,
                description="What the store's rows use, and what they may still grow by. With too little left nothing "
                "new is received or submitted (store.free_mib_min).",
                queries=[
                    Query(f"max by (instance) ({P}store_used_bytes{{{I}}})", "used, {{instance}}"),
                    Query(f"min by (instance) ({P}store_free_bytes{{{I}}})", "free, {{instance}}"),
                ],
                unit="bytes",
                runbooks=["BatchControllerIntakeBlocked"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Stalls of the event loop",
                description="How long its turns take: each keeps it from everything else.",
                queries=quantiles(f"{P}event_loop_stall_seconds_bucket{{{I}}}", "", 0.5, 0.99),
                unit="s",
                width=6,
                runbooks=["BatchControllerStageStopped"],
            )
        )
    )
    board.with_panel(
        states(
            Spec(
                title="Intake paused, by reason",
                width=6,
                description="backlog, disk: full. store, credentials: trouble. standby: another process leads.",
                queries=[Query(f"max by (reason) ({P}intake_paused{{{I}}})", "{{reason}}")],
                texts={0: ("no", GREEN), 1: ("paused", RED)},
                steps=((None, GREEN), (1, RED)),
                runbooks=["BatchControllerIntakeBlocked", "BatchControllerIntakeFull"],
            )
        )
    )


def _aws(board: Dashboard) -> None:
    board.with_row(row("Calls to AWS"))
    board.with_panel(
        lines(
            Spec(
                title="Calls, by operation",
                description="Requests per second on the wire; nothing is resent behind this count.",
                queries=[Query(f"sum by (operation) (rate({P}aws_requests_total{{{I}}}[{RATE}]))", "{{operation}}")],
                unit="reqps",
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Calls to AWS, by outcome",
                description="Those that failed, by operation and outcome.",
                queries=[
                    Query(
                        f'sum by (operation, outcome) (rate({P}aws_requests_total{{{I}, outcome!="ok"}}[{RATE}])) > 0',
                        "{{operation}}: {{outcome}}",
                    )
                ],
                unit="reqps",
                runbooks=[
                    "BatchControllerAwsAccessRefused",
                    "BatchControllerReceiveErrors",
                    "BatchControllerSubmitErrors",
                ],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Throttled share, by operation",
                description="Share of calls that AWS throttled over 5 minutes; the alert is at 10 % for 15 minutes.",
                queries=[
                    Query(
                        f'sum by (operation) (rate({P}aws_requests_total{{{I}, outcome="throttled"}}[5m]))'
                        f" / sum by (operation) (rate({P}aws_requests_total{{{I}}}[5m]))",
                        "{{operation}}",
                    )
                ],
                unit="percentunit",
                steps=((None, GREEN), (0.1, RED)),
                runbooks=["BatchControllerThrottled"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Rates in force",
                description="What each budget allows now: its configured ceiling, less after throttling. Of those that "
                "are below it, the ceiling is shown.",
                queries=[
                    Query(f"max by (budget) ({P}rate_limit_per_second{{{I}}})", "{{budget}}"),
                    Query(
                        f"max by (budget) ({P}rate_ceiling_per_second{{{I}}})"
                        f" > max by (budget) ({P}rate_limit_per_second{{{I}}})",
                        "{{budget}}, ceiling",
                    ),
                ],
                unit="reqps",
                runbooks=["BatchControllerRateCut", "BatchControllerThrottled"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Duration of calls (p95), by operation",
                description="Without ReceiveMessage, which waits up to 20 s for messages on purpose.",
                queries=[
                    Query(
                        "histogram_quantile(0.95, sum by (operation, le) (rate("
                        f'{P}aws_request_duration_seconds_bucket{{{I}, operation!="ReceiveMessage"}}[{RATE}])))',
                        "{{operation}}",
                    )
                ],
                unit="s",
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="SubmitJob duration",
                description="Near submit.timeout_s (10 s), answers come too late and calls end in doubt.",
                queries=quantiles(f"{P}submit_duration_seconds_bucket{{{I}}}", "", 0.5, 0.99),
                unit="s",
                runbooks=["BatchControllerSubmitErrors"],
            )
        )
    )


def _tracking(board: Dashboard) -> None:
    board.with_row(row("Submission and tracking"))
    board.with_panel(
        lines(
            Spec(
                title="Submissions in doubt",
                description="Settled by look-up within submit.settle_s (330 s). From 200 on, submission stops.",
                queries=[Query(f"max({P}submissions_in_doubt{{{I}}})", "in doubt")],
                runbooks=["BatchControllerSubmissionsInDoubt", "BatchControllerSubmissionsStopped"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Tracking staleness",
                description="Time since the job seen longest ago was seen, and the bound that the settings give.",
                queries=[
                    Query(f"max({P}tracking_staleness_seconds{{{I}}})", "staleness"),
                    Query(f"max({P}tracking_staleness_bound_seconds{{{I}}})", "bound"),
                ],
                unit="s",
                runbooks=["BatchControllerTrackingStale"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Job ids per DescribeJobs call",
                description="Near 100 the describe budget is what limits tracking.",
                queries=[
                    Query(
                        f"sum(rate({P}describe_ids_per_call_sum{{{I}}}[{RATE}]))"
                        f" / sum(rate({P}describe_ids_per_call_count{{{I}}}[{RATE}]))",
                        "mean",
                    )
                ],
                runbooks=["BatchControllerTrackingStale"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Batch events received, by outcome",
                description="Messages of the events queue: hints and finals are used, the others counted and deleted.",
                queries=[
                    Query(f"sum by (outcome) (rate({P}batch_events_received_total{{{I}}}[{RATE}]))", "{{outcome}}")
                ],
                unit="ops",
                width=12,
                runbooks=["BatchControllerEventsMissed"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Ends without an event",
                description="Share of the ends found of which no event came in time; the alert is at 5 %.",
                queries=[Query(f"max({P}events_missed_ratio{{{I}}})", "missed")],
                unit="percentunit",
                width=12,
                steps=((None, GREEN), (0.05, RED)),
                runbooks=["BatchControllerEventsMissed"],
            )
        )
    )


def _delivery(board: Dashboard) -> None:
    board.with_row(row("Delivery of events"))
    board.with_panel(
        lines(
            Spec(
                title="Outbox, by sink",
                description="Events, and dead letters, that are stored and not yet delivered.",
                queries=[Query(f"max by (sink) ({P}outbox_events{{{I}}})", "{{sink}}")],
                runbooks=["BatchControllerOutboxLag", "BatchControllerDeadLettersStuck"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Deliveries, by sink and outcome",
                description="Per second. Failed ones are repeated until the sink takes them.",
                queries=[
                    Query(
                        f"sum by (sink, outcome) (rate({P}events_published_total{{{I}}}[{RATE}]))",
                        "{{sink}}: {{outcome}}",
                    )
                ],
                unit="ops",
                runbooks=["BatchControllerOutboxLag"],
            )
        )
    )
    board.with_panel(
        lines(
            Spec(
                title="Seen after a job's end",
                description="From a job's end, as Batch reports it, to the moment the controller saw it.",
                queries=quantiles(f"{P}detection_lag_seconds_bucket{{{I}}}", "", 0.5, 0.95, 0.99),
                unit="s",
                runbooks=["BatchControllerTrackingStale"],
            )
        )
    )
