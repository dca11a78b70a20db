"""The Remit above this one, over mutual TLS: a question and an answer, both JSON, both bounded.

Who is asked proves its SPIFFE ID in the same handshake in which we show ours; nothing of its answer is looked at before
that. Proxies of the environment are not used and redirects not followed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import msgspec

from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.providers.tls import harden, load_identity, load_roots, peer_chain

TIMEOUT: Final = timedelta(seconds=15)
MAX_ANSWER_BYTES: Final = 1024 * 1024
_LATER: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What we show in the handshake, and whom we believe, at this moment."""

    identity: bytes = field(repr=False)
    """PEM: private key, then our certificate and what is above it."""
    roots: tuple[bytes, ...]
    """DER of the roots that the other end must lead to."""


class UpstreamRemit:
    """Asks the control plane at `address` (HOST:PORT). `show` is called, in a thread, for each question."""

    def __init__(
        self,
        address: str,
        *,
        show: Callable[[], Shown],
        verify: Callable[[Sequence[bytes]], None],
        timeout: timedelta = TIMEOUT,
    ) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536 or "/" in address:
            raise Misconfigured(
                "providers.upstream.address", f"`{address[:200]}` is no HOST:PORT", next_step="e.g. remit.example:8421"
            )
        self._address = address
        self._show = show
        self._verify = verify
        self._timeout = timeout

    async def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The JSON object that it answers.

        Raises `Unavailable` (`providers.upstream.unreachable`, `.busy`), `Rejected` (`.refused`, `.untrusted`).
        """
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                shown = await asyncio.to_thread(self._show)
                context = await asyncio.to_thread(_context, shown)
                status, raw = await self._send(context, method, path, body)
        except TimeoutError:
            raise self._unreachable("no answer in time") from None
        answer = _object(raw)
        if status == 200:
            return answer
        why = str(answer.get("title") or "no reason given")[:200].replace("`", "'")
        if status >= 500 or status in (408, 425, 429):
            raise Unavailable(
                "providers.upstream.busy", f"the Remit above answered {status}: {why}", next_step="it is tried again",
                retry_after=_LATER,
            )  # fmt: skip
        raise Rejected(
            "providers.upstream.refused",
            f"the Remit above answered {status}: {why}",
            next_step="register this one there: `remit downstream add SPIFFE-ID`",
        )

    async def _send(
        self, context: ssl.SSLContext, method: str, path: str, body: Mapping[str, Any] | None
    ) -> tuple[int, bytes]:
        import httpx2

        content = None if body is None else msgspec.json.encode(body)
        try:
            async with (
                httpx2.AsyncClient(
                    follow_redirects=False, trust_env=False, verify=context, timeout=self._timeout.total_seconds()
                ) as client,
                client.stream(
                    method, f"https://{self._address}{path}", content=content,
                    headers={"content-type": "application/json"},
                ) as answer,
            ):  # fmt: skip
                stream = answer.extensions["network_stream"]
                self._verify(peer_chain(stream.get_extra_info("ssl_object")))
                return int(answer.status_code), await _bounded(answer.aiter_raw())
        except (httpx2.HTTPError, OSError) as error:
            raise self._unreachable(type(error).__name__) from None

    def _unreachable(self, why: str) -> Unavailable:
        return Unavailable(
            "providers.upstream.unreachable",
            f"the Remit above at `{self._address}` does not answer: {why}",
            next_step="check its address, and that `remit x509 write` keeps our certificate fresh",
            retry_after=_LATER,
        )


def _context(shown: Shown) -> ssl.SSLContext:
    context = harden(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    # A SPIFFE ID is no host name: `verify` compares the identity.
    context.check_hostname = False
    try:
        load_identity(context, shown.identity)
        load_roots(context, shown.roots)
    except ssl.SSLError:
        raise Misconfigured(
            "providers.upstream.identity", "our certificate for the Remit above, its key or its roots are no PEM"
        ) from None
    return context


async def _bounded(chunks: Any) -> bytes:
    read = bytearray()
    async for chunk in chunks:
        read += chunk
        if len(read) > MAX_ANSWER_BYTES:
            raise Rejected("providers.upstream.too_large", "the Remit above sent more than 1 MiB")
    return bytes(read)


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}
