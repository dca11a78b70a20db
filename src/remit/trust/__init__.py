"""Who is it, really? Attestation, SVIDs, the local authority.

Below are `inventory` (what exists), `providers`, `ledger` and `kernel`; `access` above asks who a subject is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.trust.authority.lifecycle import AuthorityPolicy
    from remit.trust.bundle import Bundle
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
    from remit.trust.ports import (
        Admission,
        Attestor,
        Challenge,
        ProofAttestor,
        TrustRows,
        TrustUnit,
        WorkloadSource,
        X509Set,
    )
    from remit.trust.process import Peer, peer_of_pid, peer_of_socket
    from remit.trust.proofs import Proof, ProofDesk, Question
    from remit.trust.service import TrustService
    from remit.trust.spiffe import SpiffeId, TrustDomain

_HOMES = {
    "Admission": "remit.trust.ports",
    "Attestor": "remit.trust.ports",
    "Authority": "remit.trust.model",
    "AuthorityKind": "remit.trust.model",
    "AuthorityPolicy": "remit.trust.authority.lifecycle",
    "AuthorityState": "remit.trust.model",
    "Bundle": "remit.trust.bundle",
    "Challenge": "remit.trust.ports",
    "Entry": "remit.trust.model",
    "Evidence": "remit.trust.model",
    "JwtSvid": "remit.trust.model",
    "Peer": "remit.trust.process",
    "Proof": "remit.trust.proofs",
    "ProofAttestor": "remit.trust.ports",
    "ProofDesk": "remit.trust.proofs",
    "Question": "remit.trust.proofs",
    "Selector": "remit.trust.model",
    "SpiffeId": "remit.trust.spiffe",
    "SvidClaims": "remit.trust.model",
    "TrustDomain": "remit.trust.spiffe",
    "TrustRows": "remit.trust.ports",
    "TrustService": "remit.trust.service",
    "TrustUnit": "remit.trust.ports",
    "WorkloadSource": "remit.trust.ports",
    "X509Set": "remit.trust.ports",
    "X509Svid": "remit.trust.model",
    "peer_of_pid": "remit.trust.process",
    "peer_of_socket": "remit.trust.process",
}
__all__ = [
    "Admission",
    "Attestor",
    "Authority",
    "AuthorityKind",
    "AuthorityPolicy",
    "AuthorityState",
    "Bundle",
    "Challenge",
    "Entry",
    "Evidence",
    "JwtSvid",
    "Peer",
    "Proof",
    "ProofAttestor",
    "ProofDesk",
    "Question",
    "Selector",
    "SpiffeId",
    "SvidClaims",
    "TrustDomain",
    "TrustRows",
    "TrustService",
    "TrustUnit",
    "WorkloadSource",
    "X509Set",
    "X509Svid",
    "peer_of_pid",
    "peer_of_socket",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: a client that verifies an SVID loads no control plane."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
