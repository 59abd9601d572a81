"""What all dashboards share: variables, links, and panels that always have a description, a unit and thresholds.

The dashboards' own modules say what is shown and why; here is how it is put to Grafana's builders. Queries select by
``instance``, a hidden variable that is looked up from ``controller`` (``build_info{name}``), so that no query needs a
join and panels of the past still find the pods of the past.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

OVERVIEW: Final = "batch-controller-overview"
QUEUE: Final = "batch-controller-queue"
INTERNALS: Final = "batch-controller-internals"
RUNBOOKS: Final = "https://runbooks.example.com"
"""As in the alert rules: whoever installs the dashboards replaces it by where docs/runbooks/ can be read."""
LOGS: Final = "https://logs.example.com"
"""Likewise: a page of the log store that shows the controller's lines."""

DATASOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN: Final = "green"
YELLOW: Final = "#EAB839"
RED: Final = "red"
BLUE: Final = "blue"
NO_THRESHOLD: Final = ((None, GREEN),)
COLOURS: Final[Mapping[str, str]] = {
    "accepted": "green",
    "adopted": "blue",
    "cancel": "purple",
    "cancelled": "purple",
    "conflict": "orange",
    "duplicate": "#8e8e8e",
    "failed": "red",
    "in_doubt": "orange",
    "lost": "dark-red",
    "published": "green",
    "refused": "dark-red",
    "rejected": "dark-orange",
    "succeeded": "green",
    "throttled": "yellow",
    "unavailable": "red",
}
"""Outcomes look the same on every panel."""
STATUS_COLOURS: Final[Mapping[str, str]] = {
    "unsubmitted": "#8e8e8e",
    "SUBMITTED": "light-blue",
    "PENDING": "purple",
    "RUNNABLE": "yellow",
    "STARTING": "blue",
    "RUNNING": "green",
    "SUCCEEDED": "dark-green",
    "FAILED": "red",
}
QUANTILE_COLOURS: Final[Mapping[str, str]] = {"p50": "green", "p95": "yellow", "p99": "red"}

Steps = Sequence[tuple[float | None, str]]


SHARE_SHOWN: Final = 0.1
"""Shares are drawn on an axis up to this at least."""


@dataclass(frozen=True, slots=True)
class Query:
    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What every panel says."""

    title: str
    description: str
    queries: Sequence[Query]
    unit: str = "short"
    width: int = 8
    height: int = 8
    decimals: int | None = None
    steps: Steps = NO_THRESHOLD
    runbooks: Sequence[str] = ()
    """Alerts whose pages are linked."""
    texts: Mapping[float, tuple[str, str]] = field(default_factory=dict)
    """Value → text and colour."""
    no_value: str = "–"


# --- panels -------------------------------------------------------------------------------------------


def number(spec: Spec, *, sparkline: bool = False, names: bool = False) -> stat.Panel:
    """One big number, coloured by its thresholds; ``names`` shows each series by its legend."""
    panel = stat.Panel()
    _common(panel, spec, instant=not sparkline)
    mode = common.BigValueTextMode.VALUE_AND_NAME if names else common.BigValueTextMode.VALUE
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
    panel.graph_mode(common.BigValueGraphMode.AREA if sparkline else common.BigValueGraphMode.NONE)
    panel.color_mode(common.BigValueColorMode.VALUE if sparkline else common.BigValueColorMode.BACKGROUND)
    panel.text_mode(mode)
    panel.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
    return panel


def lines(spec: Spec, *, stacked: bool = False, floor: float | None = 0) -> timeseries.Panel:
    """Series over time. Thresholds beyond the first are drawn as dashed lines."""
    panel = timeseries.Panel()
    _common(panel, spec)
    panel.legend(
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel.tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    panel.line_width(1 if stacked else 2).fill_opacity(40 if stacked else 8)
    panel.show_points(common.VisibilityMode.NEVER)
    if floor is not None:
        panel.min(floor)
    if spec.unit == "percentunit":
        panel.axis_soft_max(SHARE_SHOWN)  # a share that is 0 throughout would be drawn on an axis up to 10,000 %
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if len(spec.steps) > 1:
        dashed = common_builders.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
        panel.thresholds_style(dashed)
    panel.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC))
    for name, colour in _fixed_colours({query.legend for query in spec.queries}).items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(name, [dashboard.DynamicConfigValue(id_val="color", value=fixed)])
    return panel


def _fixed_colours(legends: set[str]) -> Mapping[str, str]:
    """Colours of the series that these legends can name."""
    if "{{outcome}}" in legends:
        return COLOURS
    if "{{batch_status}}" in legends:
        return STATUS_COLOURS
    return {name: colour for name, colour in QUANTILE_COLOURS.items() if name in legends}


def states(spec: Spec) -> statetimeline.Panel:
    """What held when: a bar per series, coloured by its value's text."""
    panel = statetimeline.Panel()
    _common(panel, spec)
    panel.show_value(common.VisibilityMode.NEVER).row_height(0.8).merge_values(True).line_width(0).fill_opacity(80)
    panel.legend(common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM))
    panel.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
    return panel


def rows(spec: Spec, *, columns: Mapping[str, str], link: tuple[str, str, str] | None = None) -> table.Panel:
    """An instant query as a table: ``columns`` maps labels to headings, in order; all else is hidden.

    ``link`` puts a link (column, title, URL) on the cells of a column.
    """
    panel = table.Panel()
    _common(panel, spec, instant=True, as_table=True)
    panel.show_header(True)
    panel.with_transformation(
        dashboard.DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": list(columns)}})
    )
    order = {name: index for index, name in enumerate(columns)}
    panel.with_transformation(
        dashboard.DataTransformerConfig(
            id_val="organize", options={"indexByName": order, "renameByName": dict(columns), "excludeByName": {}}
        )
    )
    if link is not None:
        column, title, url = link
        cell = [{"title": title, "url": url, "targetBlank": True}]
        panel.override_by_name(columns[column], [dashboard.DynamicConfigValue(id_val="links", value=cell)])
    return panel


def _common(panel: Any, spec: Spec, *, instant: bool = False, as_table: bool = False) -> None:
    assert spec.description.endswith("."), spec.title
    panel.title(spec.title).description(spec.description).datasource(DATASOURCE)
    panel.unit(spec.unit).span(spec.width).height(spec.height).no_value(spec.no_value)
    if spec.decimals is not None:
        panel.decimals(spec.decimals)
    panel.thresholds(
        builders.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps([dashboard.Threshold(value=value, color=colour) for value, colour in spec.steps])
    )
    if spec.texts:
        results = {
            f"{value:g}": dashboard.ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in enumerate(spec.texts.items())
        }
        panel.mappings([dashboard.ValueMap(options=results)])
    for index, query in enumerate(spec.queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id("ABCDEFGH"[index]).legend_format(query.legend)
        target = target.instant() if instant else target.range()
        if as_table:
            target = target.format(PromQueryFormat.TABLE)
        panel.with_target(target)
    if spec.runbooks:
        panel.links([link(f"Runbook: {alert}", f"${{runbooks}}/{alert}.md") for alert in spec.runbooks])


# --- dashboards ---------------------------------------------------------------------------------------


def link(title: str, url: str, *, new_tab: bool = True) -> builders.DashboardLink:
    return builders.DashboardLink(title).type(dashboard.DashboardLinkType.LINK).url(url).target_blank(new_tab)


def new_dashboard(uid: str, title: str, description: str) -> builders.Dashboard:
    """An empty one with time range, refresh, variables and links to its siblings, the runbooks and the logs."""
    board = (
        builders.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["batch-job-controller"])
        .editable()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
    )
    for name, label in ((OVERVIEW, "Overview"), (QUEUE, "Job queue"), (INTERNALS, "Internals")):
        if name != uid:
            sibling = link(label, f"/d/{name}", new_tab=False).include_vars(True).keep_time(True)
            board.link(sibling)
    board.link(link("Runbooks", "${runbooks}")).link(link("Logs", "${logs}"))
    board.with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus").multi(False))
    board.with_variable(
        _looked_up("controller", "label_values(batch_controller_build_info, name)")
        .label("Controller")
        .description("controller.name, as in build_info")
        .multi(True)
        .include_all(True)
        .current(_everything())
    )
    board.with_variable(
        _looked_up("instance", 'label_values(batch_controller_build_info{name=~"$controller"}, instance)')
        .label("Instance")
        .description("The processes of the controllers chosen")
        .hide(dashboard.VariableHide.HIDE_VARIABLE)
        .multi(True)
        .include_all(True)
        .current(_everything())
    )
    return board


def with_job_queue(board: builders.Dashboard) -> builders.Dashboard:
    """Adds the variable ``job_queue``."""
    query = 'label_values(batch_controller_backlog_jobs{instance=~"$instance"}, job_queue)'
    return board.with_variable(
        _looked_up("job_queue", query)
        .label("Job queue")
        .description("Batch job queue; `unknown` stands for names that Batch has not confirmed")
        .multi(True)
        .include_all(True)
        .current(_everything())
    )


def with_urls(board: builders.Dashboard) -> builders.Dashboard:
    """Adds the text variables ``runbooks`` and ``logs``: last, since they are set once and then left alone."""
    for name, label, value in (("runbooks", "Runbooks at", RUNBOOKS), ("logs", "Logs at", LOGS)):
        option = dashboard.VariableOption(text=value, value=value, selected=True)
        variable = builders.TextBoxVariable(name).label(label).default_value(value).current(option)
        board.with_variable(variable.hide(dashboard.VariableHide.HIDE_VARIABLE))
    return board


def _looked_up(name: str, query: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .datasource(DATASOURCE)
        .query({"query": query, "refId": name})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )


def _everything() -> dashboard.VariableOption:
    return dashboard.VariableOption(text=["All"], value=["$__all"], selected=True)


def row(title: str) -> builders.Row:
    return builders.Row(title)


def failed_share(selector: str, *, by: str = "") -> str:
    """PromQL: of the jobs that ended by themselves within 30 minutes, the share that failed or were lost. Those that a
    cancel terminates end as failed in AWS Batch, and are left out; the alert does so, too."""
    aggregated = f"sum by ({by})" if by else "sum"
    cancelled = f'{aggregated} (rate(batch_controller_job_failures_total{{{selector}, reason_class="cancelled"}}[30m]))'

    def ended(outcomes: str) -> str:
        total = f'batch_controller_jobs_finished_total{{{selector}, outcome=~"{outcomes}"}}'
        return f"({aggregated} (rate({total}[30m])) - {cancelled})"

    return f"{ended('failed|lost')} / {ended('succeeded|failed|lost')}"


def quantiles(metric: str, by: str, *wanted: float, legend: str = "") -> list[Query]:
    """Quantiles of a histogram over the rate interval; ``by`` is empty or labels with a trailing comma."""
    return [
        Query(
            f"histogram_quantile({q:g}, sum by ({by}le) (rate({metric}[$__rate_interval])))",
            f"{legend + ' ' if legend else ''}p{q * 100:g}",
        )
        for q in wanted
    ]
