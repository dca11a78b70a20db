"""Grants: the authority given for one run of one task, signed, with a hard expiry; approvals as values.

Either a run is allowed by policy alone and gets a grant of its own, or somebody asked beforehand (`request`), people
answered for that very digest (`approve`), and one run may use it until its expiry. What changes afterwards voids it.
"""

from __future__ import annotations

from remit.access.grants.content import (
    DEFAULT_LIFE,
    DEFAULT_PENDING,
    LEASE_ACTION,
    LONGEST_EMERGENCY,
    LONGEST_LIFE,
    LONGEST_PENDING,
    SHORTEST_LIFE,
    approval_content,
    content_of,
    lease_request,
    life_of,
    review_content,
)
from remit.access.grants.ports import GrantJudge, Outlook
from remit.access.grants.service import Grants

__all__ = [
    "DEFAULT_LIFE",
    "DEFAULT_PENDING",
    "LEASE_ACTION",
    "LONGEST_EMERGENCY",
    "LONGEST_LIFE",
    "LONGEST_PENDING",
    "SHORTEST_LIFE",
    "GrantJudge",
    "Grants",
    "Outlook",
    "approval_content",
    "content_of",
    "lease_request",
    "life_of",
    "review_content",
]
