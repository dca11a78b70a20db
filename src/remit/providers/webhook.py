"""A webhook: one JSON document to one address, with a key by which the receiver knows a repeat.

HTTPS to anywhere, HTTP to this machine alone. Redirects are not followed and proxies of the environment not used, so
that a document never goes where the operator did not point it.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from remit.kernel.canonical import Json, canonical
from remit.kernel.errors import Misconfigured, Rejected, Unavailable

if TYPE_CHECKING:
    from ssl import SSLContext

TIMEOUT: Final = timedelta(seconds=10)
"""For all of it: connecting, sending, and the answer's status."""
MAX_BODY: Final = 262_144
_RETRY: Final = frozenset({408, 425, 429})


class Webhook:
    """Posts to one address. `secret` is a header's value; it never appears in a message, repr or log."""

    def __init__(
        self,
        url: str,
        *,
        secret: str = "",
        secret_header: str = "authorization",  # noqa: S107
        timeout: timedelta = TIMEOUT,
        ca_file: str | None = None,
    ) -> None:
        self._url = require_address(url)
        self._headers = {"content-type": "application/json", "user-agent": "remit"}
        if secret:
            self._headers[_header(secret_header)] = _value(secret)
        self._timeout = timeout
        self._ca_file = ca_file

    def __repr__(self) -> str:
        return f"Webhook({urlsplit(self._url).hostname!r})"

    async def post(self, body: Mapping[str, Json], *, key: str) -> None:
        """Send `body`; `key` goes as `Idempotency-Key`.

        Raises `Unavailable` (`webhook.unreachable`, `webhook.busy`) to be tried again, `Rejected` (`webhook.refused`,
        `webhook.too_large`) when trying again would not help.
        """
        content = canonical(body)
        if len(content) > MAX_BODY:
            raise Rejected("webhook.too_large", f"a document of {len(content)} bytes is not sent")
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                status = await self._send(content, key)
        except TimeoutError:
            raise self._unreachable("no answer in time") from None
        if 200 <= status < 300:
            return
        if status >= 500 or status in _RETRY:
            raise Unavailable(
                "webhook.busy",
                f"the webhook answered {status}",
                next_step="it is tried again",
                retry_after=timedelta(seconds=30),
            )
        raise Rejected(
            "webhook.refused",
            f"the webhook answered {status}",
            next_step="correct the address or the secret of the webhook; redirects are not followed",
        )

    async def _send(self, content: bytes, key: str) -> int:
        import httpx2

        try:
            async with (
                httpx2.AsyncClient(
                    follow_redirects=False,
                    trust_env=False,
                    timeout=self._timeout.total_seconds(),
                    verify=_trust(self._ca_file),
                ) as client,
                client.stream(
                    "POST", self._url, content=content, headers={**self._headers, "idempotency-key": key}
                ) as answer,
            ):
                # The status says everything: a body of any size is not read.
                return int(answer.status_code)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise self._unreachable(type(error).__name__) from None

    def _unreachable(self, why: str) -> Unavailable:
        host = urlsplit(self._url).hostname
        return Unavailable(
            "webhook.unreachable",
            f"the webhook at `{host}` does not answer: {why}",
            next_step="check its address; it is tried again",
            retry_after=timedelta(seconds=30),
        )


def require_address(url: str) -> str:
    """Accept `https://…` and, for this machine alone, `http://…`; `Misconfigured` (`webhook.address`) otherwise."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _bad_address("it is no URL") from None
    if not parts.hostname or len(url) > 2000 or any(ord(c) <= 32 for c in url):
        raise _bad_address("it is no URL")
    if parts.username is not None or parts.password is not None:
        raise _bad_address("it has a user or password in it; give the secret as a header")
    if parts.scheme == "https" or (parts.scheme == "http" and _loopback(parts.hostname)):
        return url
    raise _bad_address("only https is allowed, or http to this machine")


def _loopback(host: str) -> bool:
    # A name could point anywhere: only literal addresses count.
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _trust(ca_file: str | None) -> SSLContext:
    import ssl

    return ssl.create_default_context(cafile=ca_file)


def _header(name: str) -> str:
    if not name or not all(c.isalnum() or c == "-" for c in name) or not name.isascii():
        raise Misconfigured("webhook.header", "the name of the secret's header is not one")
    return name.lower()


def _value(secret: str) -> str:
    if not secret.isascii() or not secret.isprintable():
        raise Misconfigured("webhook.secret", "the webhook's secret holds characters that a header cannot carry")
    return secret


def _bad_address(why: str) -> Misconfigured:
    return Misconfigured(
        "webhook.address", f"the webhook's address cannot be used: {why}", next_step="give an https address"
    )
