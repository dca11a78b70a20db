"""Who is it, really? Attestation, SVIDs, the local authority.

Below are `inventory` (what exists), `providers`, `ledger` and `kernel`; `access` above asks who a subject is.
"""

from remit.trust.authority.bundle import Bundle
from remit.trust.authority.lifecycle import AuthorityPolicy
from remit.trust.model import (
    Authority,
    AuthorityKind,
    AuthorityState,
    Entry,
    Evidence,
    JwtSvid,
    Selector,
    SvidClaims,
    X509Svid,
)
from remit.trust.ports import Admission, Attestor, TrustRows, TrustUnit
from remit.trust.process import Peer, peer_of_pid, peer_of_socket
from remit.trust.service import TrustService, X509Set
from remit.trust.spiffe import SpiffeId, TrustDomain

__all__ = [
    "Admission",
    "Attestor",
    "Authority",
    "AuthorityKind",
    "AuthorityPolicy",
    "AuthorityState",
    "Bundle",
    "Entry",
    "Evidence",
    "JwtSvid",
    "Peer",
    "Selector",
    "SpiffeId",
    "SvidClaims",
    "TrustDomain",
    "TrustRows",
    "TrustService",
    "TrustUnit",
    "X509Set",
    "X509Svid",
    "peer_of_pid",
    "peer_of_socket",
]
