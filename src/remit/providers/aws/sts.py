"""STS, as an oracle: sends a GetCallerIdentity that somebody else signed, and returns what it says.

HTTPS with the system's CAs, no redirects, no proxies of the environment, a bounded answer. `endpoint` replaces the
address of AWS for a server that stands in for it: https, or http to this machine alone; the `Host` header stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from remit.kernel.errors import Unavailable
from remit.providers.documents import require_address

TIMEOUT: Final = timedelta(seconds=10)
MAX_ANSWER_BYTES: Final = 16 * 1024
_AT_ONCE = 16


class StsClient:
    """At most 16 questions at once: who asks more waits."""

    def __init__(self, *, endpoint: str = "", ca_file: str = "", timeout: timedelta = TIMEOUT) -> None:
        self._endpoint = require_address(endpoint) if endpoint else ""
        self._ca_file = ca_file
        self._timeout = timeout
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def ask(self, host: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """Send it to `host`, which the caller has checked. Raises `Unavailable` (`providers.aws.unreachable`)."""
        import httpx2

        try:
            async with asyncio.timeout(self._timeout.total_seconds()), self._room:
                return await self._send(self._endpoint or f"https://{host}/", {**headers, "host": host}, body)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            raise Unavailable(
                "providers.aws.unreachable",
                f"AWS does not answer `sts:GetCallerIdentity` ({type(error).__name__})",
                next_step="check network and endpoint, then try again",
                retry_after=timedelta(seconds=10),
            ) from None

    async def _send(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        import ssl

        import httpx2

        trust = ssl.create_default_context(cafile=self._ca_file or None)
        seconds = self._timeout.total_seconds()
        async with (
            httpx2.AsyncClient(follow_redirects=False, trust_env=False, timeout=seconds, verify=trust) as client,
            client.stream("POST", url, content=body, headers={**headers, "accept": "application/json"}) as answer,
        ):
            found = bytearray()
            async for chunk in answer.aiter_raw(4096):
                found += chunk
                if len(found) > MAX_ANSWER_BYTES:
                    return 502, b""
            return int(answer.status_code), bytes(found)
