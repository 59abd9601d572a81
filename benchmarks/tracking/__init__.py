"""A day of jobs, and how late and at what price each way of tracking sees them end.

``python -m benchmarks.tracking`` prints the table of ``docs/tracking.md``; with ``--plots DIR`` it draws it, too.
"""
