"""Which end points are AWS's own."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

DOMAIN: Final = r"(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|api\.aws|api\.amazonwebservices\.com\.cn)"
"""Pattern of the domains that they are in."""
_HOST: Final = re.compile(rf"(?:.+\.)?{DOMAIN}")


def is_of_aws(url: str) -> bool:
    """Whether an end point is AWS's own, of whatever service."""
    return _HOST.fullmatch((urlsplit(url).hostname or "").lower()) is not None
