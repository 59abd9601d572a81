"""Pictures of the dashboards from a live run, for the documentation: ``python -m deploy.grafana.render``.

Only on demand: it needs Prometheus, Node.js with npm, Chromium, some 450 MB for Grafana's own component library, and
about eight minutes. ``docs/observability.md`` says what is drawn by whom.
"""
