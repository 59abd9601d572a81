"""Helm 4's engine, run in the tools' own environment: the chart rendered with each of the values on standard input."""

import json
import sys

from helm_python import Chart  # type: ignore[import-not-found]

given = json.load(sys.stdin)
with Chart.load(given["chart"]) as chart:
    json.dump(
        [
            [
                text
                for name, text in chart.render(values, name=given["release"], namespace=given["namespace"]).items()
                if not name.endswith("NOTES.txt")
            ]
            for values in given["cases"]
        ],
        sys.stdout,
    )
