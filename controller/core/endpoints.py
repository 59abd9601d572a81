"""Which end points are AWS's own, and which SQS queue a URL means."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

DOMAIN: Final = r"(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|api\.aws|api\.amazonwebservices\.com\.cn)"
"""Pattern of the domains that they are in."""
_HOST: Final = re.compile(rf"(?:.+\.)?{DOMAIN}")
_QUEUE_HOSTS: Final = (
    re.compile(rf"(?:[a-z0-9-]+\.)?sqs(?:-fips)?\.([a-z0-9-]+)\.(?:vpce\.)?{DOMAIN}"),
    re.compile(rf"([a-z0-9-]+)\.queue\.{DOMAIN}"),
)
_LEGACY_HOST: Final = "queue.amazonaws.com"
"""us-east-1's first end point; queues created through it still show it in their URL."""


def is_of_aws(url: str) -> bool:
    """Whether an end point is AWS's own, of whatever service."""
    return _HOST.fullmatch((urlsplit(url).hostname or "").lower()) is not None


def region_of(queue_url: str) -> str | None:
    """The Region an SQS queue URL of AWS names; None for any other URL.

    Forms: ``sqs.REGION.amazonaws.com``, FIPS, dual-stack, VPC end points, China, and the legacy ``REGION.queue…``.
    """
    host = (urlsplit(queue_url).hostname or "").lower()
    if host == _LEGACY_HOST:
        return "us-east-1"
    return next((found.group(1) for pattern in _QUEUE_HOSTS if (found := pattern.fullmatch(host))), None)


def queue_meant(queue_url: str) -> tuple[str, str]:
    """The same for all URLs of one SQS queue: of those of AWS the Region and the path tell, as every end point of a
    Region knows all its queues; of others the host, however it is written."""
    parts = urlsplit(queue_url)
    if (region := region_of(queue_url)) is not None:
        return region, parts.path
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.hostname}:{port}", parts.path
