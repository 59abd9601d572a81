"""This controller and other clients of AWS Batch against one simulated account: what each costs and how long it takes.

``python -m benchmarks.peers`` prints the table of ``docs/backpressure.md``; with ``--plots DIR`` it draws it, too.
"""
