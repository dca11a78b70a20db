"""Small requests to an HTTP API that keeps credentials: JSON, bounded, in time, and never with a secret in an error.

HTTPS to anywhere, HTTP to this machine alone. Redirects are not followed and proxies of the environment not used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from remit.kernel.canonical import Json
from remit.kernel.errors import Rejected, Unavailable
from remit.providers.webhook import require_address

MAX_ANSWER_BYTES: Final = 1024 * 1024
_SECONDS: Final = 15
_AGAIN: Final = frozenset({408, 425, 429})


class Rest:
    """One API. A connection lasts for one request: they are rare."""

    def __init__(self, address: str, *, ca_file: str | None = None) -> None:
        self._address = require_address(address).rstrip("/")
        self._ca_file = ca_file

    def __repr__(self) -> str:
        return f"Rest({urlsplit(self._address).hostname!r})"

    async def ask(
        self, method: str, path: str, body: Mapping[str, Json] | None = None, *, headers: Mapping[str, str],
        absent_ok: bool = False,
    ) -> Mapping[str, Any]:  # fmt: skip
        """One request; the answer's object, empty for 404 where that is all right.

        Raises `Unavailable` (`providers.rest.unreachable`, `.busy`), `Rejected` (`providers.rest.refused`).
        """
        import httpx2

        content = None if body is None else msgspec.json.encode(body)
        sent = {"content-type": "application/json", "user-agent": "remit", **headers}
        try:
            async with asyncio.timeout(_SECONDS):
                status, raw = await self._send(method, path, content, sent)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            raise Unavailable(
                "providers.rest.unreachable",
                f"`{urlsplit(self._address).hostname}` does not answer: {type(error).__name__}",
                next_step="check its address; it is tried again",
                retry_after=timedelta(seconds=30),
            ) from None
        if status == 404 and absent_ok:
            return {}
        if status >= 500 or status in _AGAIN:
            raise Unavailable(
                "providers.rest.busy", f"`{urlsplit(self._address).hostname}` answered {status}",
                next_step="it is tried again", retry_after=timedelta(seconds=30),
            )  # fmt: skip
        if not 200 <= status < 300:
            # The answer's own words may repeat what was sent.
            raise Rejected(
                "providers.rest.refused",
                f"`{urlsplit(self._address).hostname}` answered {status} to {method} {path.partition('?')[0][:200]}",
                next_step="check the path, and what the token may do there",
            )
        return _object(raw)

    async def _send(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        import ssl

        import httpx2

        context = await asyncio.to_thread(ssl.create_default_context, cafile=self._ca_file)
        async with (
            httpx2.AsyncClient(follow_redirects=False, trust_env=False, timeout=_SECONDS, verify=context) as client,
            client.stream(method, self._address + path, content=content, headers=dict(headers)) as answer,
        ):
            read = bytearray()
            async for chunk in answer.aiter_bytes():
                read += chunk
                if len(read) > MAX_ANSWER_BYTES:
                    raise Rejected("providers.rest.too_large", "the answer is larger than 1 MiB")
            return int(answer.status_code), bytes(read)


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(raw) if raw.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}
