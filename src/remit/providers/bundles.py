"""Bundle endpoints of other trust domains: one GET, of a bounded document, from exactly whom the operator named.

The client shows no credential and sends nothing but the request. A redirect is followed only if it is temporary, goes
to HTTPS, and to the same identity: the same host by the Web PKI, the same SPIFFE ID otherwise.

Spec: SPIFFE Federation §5 (bundle endpoints), §5.2.1 (https_web), §5.2.2 (https_spiffe); RFC 9110 §15.4.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.providers.tls import harden, load_roots, peer_chain

MAX_DOCUMENT_BYTES: Final = 1024 * 1024
TIMEOUT: Final = timedelta(seconds=20)
"""For all of it, redirects included."""
MAX_REDIRECTS: Final = 3
_TEMPORARY: Final = frozenset({302, 303, 307})
_HEADERS: Final = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "remit"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpiffeServer:
    """Whom the other end must prove to be, by an X509-SVID."""

    roots: tuple[bytes, ...]
    """DER of the roots of its trust domain: no other is looked at."""
    verify: Callable[[Sequence[bytes]], None]
    """Takes the DER chain of the handshake, leaf first; raises `Rejected` when it is not the expected id."""


class BundleClient:
    """Fetches bundles; `ca_file` (PEM) takes the place of the system's CAs for endpoints of the Web PKI."""

    def __init__(self, *, ca_file: Path | None = None, timeout: timedelta = TIMEOUT) -> None:
        self._ca_file = ca_file
        self._timeout = timeout

    async def fetch(self, url: str, *, server: SpiffeServer | None = None) -> bytes:
        """GET the document; at most 1 MiB, of the type `application/json`, in 20 seconds.

        Raises `Unavailable` (`providers.bundle.unreachable`, `.busy`) or `Rejected` (`providers.bundle.untrusted`,
        `.redirected`, `.status`, `.media_type`, `.too_large`, `.address`).
        """
        host = urlsplit(require_endpoint(url)).hostname
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                context = await asyncio.to_thread(self._context, server)
                for _ in range(MAX_REDIRECTS + 1):
                    answer = await self._get(url, context, server)
                    if isinstance(answer, bytes):
                        return answer
                    url = _redirected(url, answer.location, host=None if server else host)
        except TimeoutError:
            raise _unreachable(url, "no answer in time") from None
        raise Rejected("providers.bundle.redirected", f"the bundle endpoint redirects more than {MAX_REDIRECTS} times")

    async def _get(self, url: str, context: ssl.SSLContext, server: SpiffeServer | None) -> bytes | _Elsewhere:
        import httpx2

        try:
            async with (
                httpx2.AsyncClient(
                    follow_redirects=False,
                    trust_env=False,
                    verify=context,
                    timeout=self._timeout.total_seconds(),
                ) as client,
                client.stream("GET", url, headers=_HEADERS) as answer,
            ):
                # The handshake has shown a path to one of the roots and possession of the key; this says of whom.
                # Nothing of the answer is looked at before.
                if server is not None:
                    stream = answer.extensions["network_stream"]
                    server.verify(peer_chain(stream.get_extra_info("ssl_object")))
                if answer.status_code in _TEMPORARY:
                    return _Elsewhere(answer.headers.get("location", ""))
                _check_head(answer.status_code, answer.headers)
                return await _body(answer.aiter_raw())
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise _failed(url, error) from None

    def _context(self, server: SpiffeServer | None) -> ssl.SSLContext:
        if server is None:
            return _web_context(self._ca_file)
        if not server.roots:
            raise Rejected("providers.bundle.untrusted", "the endpoint's trust domain has no roots that we hold")
        context = harden(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        # A SPIFFE ID is no host name: `verify` compares the identity.
        context.check_hostname = False
        load_roots(context, server.roots)
        return context


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    location: str


def require_endpoint(url: str) -> str:
    """Accept `https://HOST[:PORT]/…` without user, password or fragment; `Rejected` (`providers.bundle.address`)."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _bad_address("it is no URL") from None
    if parts.scheme != "https" or not parts.hostname:
        raise _bad_address("it does not begin with `https://HOST`")
    if len(url) > 2000 or not url.isascii() or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise _bad_address("it is longer than 2,000 characters, or has one that a URL cannot have")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _bad_address("it has a user, a password or a fragment")
    return url


def _web_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError):
        raise Misconfigured(
            "providers.bundle.ca", f"`{ca_file}` holds no CA certificates", next_step="correct `federation.ca`"
        ) from None
    return harden(context)


def _redirected(url: str, location: str, *, host: str | None) -> str:
    """Where a temporary redirect leads; `host`, where given, must stay what it is."""
    try:
        target = require_endpoint(urljoin(url, location))
    except (Rejected, ValueError):
        raise Rejected("providers.bundle.redirected", "the bundle endpoint redirects to what is not HTTPS") from None
    if not location or (host is not None and urlsplit(target).hostname != host):
        raise Rejected(
            "providers.bundle.redirected",
            f"the bundle endpoint redirects away from `{host}`",
            next_step="ask the partner, and give the new address explicitly",
        )
    return target


def _check_head(status: int, headers: Any) -> None:
    if status >= 500 or status in (408, 425, 429):
        raise Unavailable(
            "providers.bundle.busy", f"the bundle endpoint answered {status}", next_step="try again later"
        )
    if status != 200:
        raise Rejected(
            "providers.bundle.status",
            f"the bundle endpoint answered {status}",
            next_step="compare the URL with what the partner gave; permanent redirects are not followed",
        )
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" or headers.get("content-encoding", "identity").lower() != "identity":
        raise Rejected("providers.bundle.media_type", "the bundle endpoint did not answer plain `application/json`")


async def _body(chunks: Any) -> bytes:
    read: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_DOCUMENT_BYTES:
            raise Rejected("providers.bundle.too_large", "the bundle endpoint sent more than 1 MiB")
        read.append(chunk)
    return b"".join(read)


def _failed(url: str, error: BaseException) -> Rejected | Unavailable:
    for each in _causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            why = str(each.verify_message or "its certificate does not verify")[:200]
            return Rejected(
                "providers.bundle.untrusted",
                f"the bundle endpoint at `{_host(url)}` is not who it should be: {why}",
                next_step="compare profile, endpoint id, CA and bundle with what the partner gave",
            )
    return _unreachable(url, type(error).__name__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 16:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1


def _unreachable(url: str, why: str) -> Unavailable:
    return Unavailable(
        "providers.bundle.unreachable",
        f"the bundle endpoint at `{_host(url)}` does not answer: {why}",
        next_step="check its address; it is tried again at the next interval",
    )


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "")[:200]


def _bad_address(why: str) -> Rejected:
    return Rejected(
        "providers.bundle.address",
        f"this is no bundle endpoint's address: {why}",
        next_step="write it as `https://HOST/PATH`",
    )
