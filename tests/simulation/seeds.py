"""Seeds that once failed, each with what it found; ``test_simulation`` runs them for ever.

A seed stands for a scenario only as long as nothing before it in ``scenario.py`` draws anew; what a seed showed is
therefore told in words too, and held by a test of its own where it can be built by hand (``test_findings.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

REGRESSIONS: Mapping[int, str] = {
    1: "A request to a job queue that does not exist was in doubt for ever, as ListJobs refuses such a queue.",
    9: "A commit that took effect and was reported as failed left names in the store that the process did not know.",
    317: "An intent written while the clock was ahead hid the job from the look-up once the clock was right again.",
    444: "SIGTERM while GetCallerIdentity hung was not obeyed before the call's deadline.",
    10145: "A job that ListJobs shows before DescribeJobs does was adopted without a look at its tag.",
    10165: "A restart right after a burst sent more calls in one second than the total rate allows.",
    10306: "A clock that jumped made a job lost that DescribeJobs did not show yet.",
}
