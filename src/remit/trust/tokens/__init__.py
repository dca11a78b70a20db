"""Tokens for one task: proof is exchanged for what a grant gives, bound to its sender, and says who acts for whom.

Below are the SVIDs and authorities of `trust`; `access` gives the grants, by a port.
"""

from remit.trust.tokens.clients import ClientRequest, request_client
from remit.trust.tokens.model import (
    Answer,
    Client,
    Confirmation,
    Details,
    GrantAsk,
    Places,
    Proven,
    TokenGrant,
    TokenKind,
)
from remit.trust.tokens.ports import GrantSource, PlatformProofs, Revocations, StatusIndex, TokenRows, TokenUnit
from remit.trust.tokens.service import Lifetimes, Presented, TokenService

__all__ = [
    "Answer",
    "Client",
    "ClientRequest",
    "Confirmation",
    "Details",
    "GrantAsk",
    "GrantSource",
    "Lifetimes",
    "Places",
    "PlatformProofs",
    "Presented",
    "Proven",
    "Revocations",
    "StatusIndex",
    "TokenGrant",
    "TokenKind",
    "TokenRows",
    "TokenService",
    "TokenUnit",
    "request_client",
]
