"""What Python's TLS leaves out: identities from memory instead of files, and the chain that a peer really sent."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

CIPHERS_TLS12 = "ECDHE+AESGCM:ECDHE+CHACHA20"


def harden(context: ssl.SSLContext) -> ssl.SSLContext:
    """TLS 1.2 or 1.3 with forward secrecy, no renegotiation, no compression, and each connection proved anew."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_TLS12)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    return context


def load_identity(context: ssl.SSLContext, pem: bytes) -> None:
    """Give `context` a private key and a certificate chain, in one PEM text that never lies on a disk."""
    with _memory_file(pem) as path:
        context.load_cert_chain(path)


def load_roots(context: ssl.SSLContext, roots: Sequence[bytes]) -> None:
    """Let `context` trust these DER certificates; none is fine, and then it trusts nobody."""
    if roots:
        context.load_verify_locations(cadata=b"".join(roots))


def peer_chain(connection: Any) -> list[bytes]:
    """The DER certificates that the peer of an established connection sent, leaf first; empty when it sent none.

    `connection` is a transport's `ssl_object`. The chain is as it was sent: verified by nobody beyond the handshake.
    """
    sent = connection._sslobj.get_unverified_chain()
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in sent or () if one is not None]


def split_der(chain: bytes) -> list[bytes]:
    """Certificates that stand DER after DER, one by one. `ValueError` when they do not."""
    found = []
    while chain:
        if len(chain) < 2:
            raise ValueError("the certificate is cut off")
        length, head = chain[1], 2
        if length & 0x80:
            head += length & 0x7F
            length = int.from_bytes(chain[2:head], "big")
        if head + length > len(chain):
            raise ValueError("the certificate is cut off")
        found.append(chain[: head + length])
        chain = chain[head + length :]
    return found


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    handle = os.memfd_create("remit", os.MFD_CLOEXEC)
    try:
        os.write(handle, content)
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)
