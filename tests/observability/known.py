"""What the rules and dashboards may name, and the exceptions to their tests, each with its reason. All in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controller.metric_table import METRICS, PREFIX, Kind

COMING: Final[Mapping[str, frozenset[str]]] = {}
"""Metrics with rules and panels already, that the controller does not export yet, with their labels. A name is taken
out when the metric is exported (a test demands it); from then on its panels must return data."""

NOT_ON_A_PANEL: Final[Mapping[str, str]] = {}
"""Exported metric → why no panel shows it."""

NO_DATA: Final[Mapping[str, str]] = {}
"""Expression of a panel's query → why it returns nothing in the end-to-end test."""


def labels() -> Mapping[str, frozenset[str]]:
    """Labels by full name of a series: histograms as their three series, coming metrics too."""
    found = {PREFIX + name: names for name, names in COMING.items()}
    found |= {f"{PREFIX}{name}_bucket": names | {"le"} for name, names in COMING.items() if name.endswith("_seconds")}
    for name, spec in METRICS.items():
        names = frozenset(label.name for label in spec.labels)
        if spec.kind is Kind.HISTOGRAM:
            found[f"{PREFIX}{name}_bucket"] = names | {"le"}
            found[f"{PREFIX}{name}_sum"] = found[f"{PREFIX}{name}_count"] = names
        else:
            found[PREFIX + name] = names
    return found


def metric_of(series: str) -> str:
    """Name in the table (without the prefix) of a series, such as a histogram's ``_bucket``."""
    name = series.removeprefix(PREFIX)
    for suffix in ("_bucket", "_sum", "_count"):
        if name.removesuffix(suffix) in METRICS or name.removesuffix(suffix) in COMING:
            return name.removesuffix(suffix)
    return name
