"""For programs: fetch and keep SPIFFE identities, speak mutual TLS with them, and exchange them for tokens.

    from remit.client import Identity

    with Identity() as me:                                  # keeps its SVID fresh until the block ends
        context = me.tls_client("spiffe://remit.local/orders")
        token = me.jwt("https://vault.internal")

`Identity` is for plain programs; `FolderIdentity` speaks as the SVID of a directory that `remit x509 write` keeps;
`remit.client.workload.WorkloadApi` is what it stands on, for asyncio. Both speak the
SPIFFE Workload API alone, so they work with any SPIFFE agent; `remit.client.tokens` speaks OAuth to Remit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit.client.folder import FolderIdentity
    from remit.client.identity import Identity
    from remit.client.tokens import Token, TokenClient
    from remit.client.workload import WorkloadApi, X509Context

__all__ = ["FolderIdentity", "Identity", "Token", "TokenClient", "WorkloadApi", "X509Context"]
_HOMES = {
    "FolderIdentity": "folder",
    "Identity": "identity",
    "Token": "tokens",
    "TokenClient": "tokens",
    "WorkloadApi": "workload",
    "X509Context": "workload",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: the package itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
