"""Encryption towards a server: the SSL context of an address."""

from __future__ import annotations

import ssl

from remit.kernel.errors import Misconfigured
from remit.providers.postgres.address import Address


def ssl_context(address: Address) -> ssl.SSLContext | None:
    """The context for `address`, or `None` where nothing is encrypted (Unix socket, loopback, or `disable`)."""
    mode = address.effective_ssl_mode
    if mode == "disable":
        return None
    try:
        context = ssl.create_default_context(cafile=address.ssl_root or None)
    except (OSError, ssl.SSLError):
        raise Misconfigured(
            "access.target.sslrootcert", f"the CA certificates in `{address.ssl_root}` cannot be read"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if mode != "verify-full":
        context.check_hostname = False
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return context
