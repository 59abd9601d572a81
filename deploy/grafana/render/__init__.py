"""Pictures of the dashboards from a live run, for the documentation: ``python -m deploy.grafana.render``.

Only on demand: it needs Prometheus, Alertmanager, Node.js with npm, Chromium, pngquant and the font Inter, some 450 MB
for Grafana's own component library, and about seven minutes. ``docs/observability.md`` says what is drawn by whom.
"""
