"""Helm 4's engine, run in the tools' own environment: the chart rendered with each of the values on standard input.

With ``is_asked_only`` the answer is whether the schema takes each of the values.
"""

import json
import sys
from typing import Any

from helm_python import Chart  # type: ignore[import-not-found]
from helm_python.errors import HelmError  # type: ignore[import-not-found]

given = json.load(sys.stdin)


def rendered(chart: Any, values: Any) -> list[str]:
    texts = chart.render(values, name=given["release"], namespace=given["namespace"])
    return [text for name, text in texts.items() if not name.endswith("NOTES.txt")]


def is_taken(chart: Any, values: Any) -> bool:
    try:
        chart.validate_schema(values)
    except HelmError:
        return False
    return True


with Chart.load(given["chart"]) as chart:
    answer = is_taken if given["is_asked_only"] else rendered
    json.dump([answer(chart, values) for values in given["cases"]], sys.stdout)
