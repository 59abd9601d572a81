"""Chaos over the wire: the real ``batch-controller`` process on a served simulated AWS that goes wrong in every way it
can, killed again and again, judged by what AWS itself recorded.

``python -m tests.chaos --requests 2000 --kills 50 --seed N``; see ``docs/chaos.md``.
"""
