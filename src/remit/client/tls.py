"""TLS contexts from an X.509-SVID, and the check of who the peer is: by SPIFFE ID, never by host name.

Python's `ssl` verifies the path against the roots that it is given; which trust domain may vouch for which SPIFFE ID
is checked after the handshake, before a byte is exchanged (`peer_of`).

Spec: X509-SVID §5; RFC 8446.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from remit.client.workload import X509Context, X509Identity
from remit.kernel.errors import Denied
from remit.trust.bundle import pem_certificate
from remit.trust.model import PresentedSvid
from remit.trust.spiffe import SpiffeId
from remit.trust.validate import validate_x509_svid

Accepts = Callable[[SpiffeId], bool]


def context_for(held: X509Context, *, server: bool, svid: X509Identity | None = None) -> ssl.SSLContext:
    """A context of TLS 1.2 or newer that shows our SVID and demands one of a trust domain that we know."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.check_hostname = False  # a SPIFFE ID is no host name: `peer_of` checks it
    made.verify_mode = ssl.CERT_REQUIRED
    roots = [pem_certificate(one) for roots in held.roots.values() for one in roots]
    made.load_verify_locations(cadata=b"".join(roots).decode("ascii"))
    load_identity(made, svid or held.default)
    return made


def load_identity(context: ssl.SSLContext, svid: X509Identity) -> None:
    """Let `context` show this SVID from its next handshake on; the key touches no disk."""
    handle = os.memfd_create("svid", os.MFD_CLOEXEC)
    try:
        os.write(handle, svid.key_pem() + svid.chain_pem)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def peer_of(connection: Any, held: X509Context, accept: Accepts, *, now: datetime | None = None) -> PresentedSvid:
    """Who is at the other end of an established TLS connection (`ssl.SSLSocket` or `ssl.SSLObject`).

    Its chain is verified against the bundle of the trust domain that it names, and of no other.
    Raises `Rejected` (`trust.x509_svid.…`), or `Denied` (`client.peer.refused`) when `accept` says no.
    """
    found = validate_x509_svid(presented_chain(connection), held.bundle_of, now or datetime.now(UTC))
    if not accept(found.spiffe_id):
        raise Denied("client.peer.refused", f"the peer is `{found.spiffe_id}`, which is not accepted here")
    return found


def presented_chain(connection: Any) -> list[bytes]:
    """The DER certificates that the peer sent, leaf first."""
    inner = getattr(connection, "_sslobj", connection)
    inner = getattr(inner, "_sslobj", inner)
    leaf = connection.getpeercert(binary_form=True)
    if leaf is None:
        return []
    # INVARIANT: public from Python 3.13 on; before, the same method is there under the private object.
    sent = [_der(one) for one in (inner.get_unverified_chain() or ())]
    return sent or [leaf]


def _der(certificate: Any) -> bytes:
    if isinstance(certificate, bytes):
        return certificate
    import _ssl

    return bytes(certificate.public_bytes(_ssl.ENCODING_DER))


def only(accepted: str | SpiffeId | Collection[str]) -> Accepts:
    """Accept these SPIFFE IDs; `spiffe://domain/path/*` accepts everything below the path."""
    texts = (
        {accepted}
        if isinstance(accepted, str)
        else {str(accepted)}
        if isinstance(accepted, SpiffeId)
        else set(accepted)
    )
    exact = {one for one in texts if not one.endswith("/*")}
    below = tuple(one[:-1] for one in texts if one.endswith("/*"))
    return lambda found: str(found) in exact or str(found).startswith(below) if below else str(found) in exact
