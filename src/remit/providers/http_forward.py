"""Connections of HTTP gateways to where requests go: names resolved once, private addresses refused, TLS verified.

The address that was looked at is the address that is connected: a name that answers differently the second time
(DNS rebinding) is not asked a second time.

Spec: RFC 6890 and the IANA special-purpose registries; RFC 6052 §2.1, RFC 4380, RFC 3056 for addresses in addresses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from remit.kernel.errors import Denied, Misconfigured, Unavailable

CONNECT_SECONDS: Final = 10.0
LIMIT: Final = 64 * 1024
Pipe: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")


def is_public(text: str) -> bool:
    """Whether an address is one of the open internet: also of those that are written inside of another."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if "%" in text:
            return False
        inner = _inside(address)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name. `Unavailable` (`providers.forward.unresolved`)."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError, TimeoutError):
        raise Unavailable(
            "providers.forward.unresolved", f"`{host[:200]}` has no address", next_step="check its name"
        ) from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


async def connect(
    host: str, port: int, *, tls: ssl.SSLContext | None, private: bool, resolver: Resolve = resolve
) -> Pipe:
    """A connection to a host; with `tls`, to the one that a certificate names so.

    Raises `Denied` (`providers.forward.private`) where any of its addresses is private and `private` is not given, and
    `Unavailable` (`providers.forward.unresolved`, `.unreachable`, `.untrusted`).
    """
    addresses = await resolver(host, port)
    hidden = [] if private else [each for each in addresses if not is_public(each)]
    if hidden:
        raise Denied(
            "providers.forward.private",
            f"`{host[:200]}` leads to the private address {hidden[0][:45]}",
            next_step="a route of the gateway's file may permit it: `private = true`",
        )
    for address in addresses:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_connection(
                    address, port, ssl=tls, server_hostname=host if tls is not None else None, limit=LIMIT
                )
        except ssl.SSLError as error:
            raise Unavailable(
                "providers.forward.untrusted",
                f"`{host[:200]}` cannot be verified: {getattr(error, 'verify_message', '') or 'the handshake failed'}",
                next_step="name its roots by `ca`",
            ) from None
        except (OSError, TimeoutError):
            continue
    raise Unavailable(
        "providers.forward.unreachable", f"`{host[:200]}` does not answer at port {port}", next_step="try again later"
    )


@lru_cache(maxsize=256)
def tls_context(ca: str = "") -> ssl.SSLContext:
    """A context that verifies the other side, by the roots in the file `ca`, or those of this machine."""
    try:
        made = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        raise Misconfigured(
            "providers.forward.roots", f"`{ca[:200]}` cannot be used: {error.strerror or 'no PEM'}"
        ) from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    return made


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that is written in an IPv6 one."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _NAT64) or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
