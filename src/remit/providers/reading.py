"""Reading JSON over HTTP from a server whose answers are bounded, whose throttling is waited for, and whose names may
hold anything. Redirects are not followed and proxies of the environment not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from remit.kernel.errors import Rejected, Unavailable
from remit.providers.pausing import pause

if TYPE_CHECKING:
    import httpx2

MOST_BYTES: Final = 64 << 20
"""Of one answer."""
_SECONDS: Final = 15.0
_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_WAITS: Final = (0.2, 0.6, 2.0)
"""Seconds before each further try, where the server does not say."""
_LONGEST_WAIT: Final = 20.0


class JsonReader:
    """One server; for one thread. Nothing of what it signs in with is in a message or repr."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        basic: tuple[str, str] | None = None,
        ca: str = "",
        most_bytes: int = MOST_BYTES,
        sleep: Callable[[float], None] = pause,
    ) -> None:
        import ssl

        import httpx2

        self._url = url
        self._most = most_bytes
        self._sleep = sleep
        verify = ssl.create_default_context(cafile=ca or None) if url.startswith("https:") else False
        self._client = httpx2.Client(
            headers=dict(headers or {}), auth=httpx2.BasicAuth(*basic) if basic else None, verify=verify,
            timeout=_SECONDS, trust_env=False, follow_redirects=False,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"JsonReader({self._url!r})"

    def close(self) -> None:
        import httpx2

        with suppress(httpx2.HTTPError, OSError):
            self._client.close()

    def ask(self, path: str, *, method: str = "GET", body: object = None) -> tuple[int, Any]:
        """Status and document of `path`; refusals (4xx) included, whatever the document is.

        Raises `Unavailable` (`providers.reading.unreachable`) when the server goes on to fail or to throttle, and
        `Rejected` (`providers.reading.unfit`) when an answer is larger than the bound, or a success is no JSON.
        """
        for wait in (*_WAITS, None):
            status, raw, later = self._once(method, path, body)
            if status not in _AGAIN:
                return status, self._decoded(raw, status)
            if wait is None:
                break
            self._sleep(min(later or wait, _LONGEST_WAIT))
        raise Unavailable(
            "providers.reading.unreachable", f"`{self._url}` answers with {status}",
            next_step="nothing that was known before is dropped; run it again when the server has recovered",
        )  # fmt: skip

    def _once(self, method: str, path: str, body: object) -> tuple[int, bytes, float]:
        import httpx2

        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"content-type": "application/json"}
        try:
            with self._client.stream(method, f"{self._url}/{path}", content=content, headers=headers) as answer:
                return int(answer.status_code), self._bounded(answer), _later(answer.headers.get("retry-after", ""))
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Unavailable(
                "providers.reading.unreachable", f"`{self._url}` does not answer: {type(error).__name__}",
                next_step="check that it runs, and that the address, its scheme and its CA are right",
            ) from None  # fmt: skip

    def _bounded(self, answer: httpx2.Response) -> bytes:
        read = bytearray()
        for chunk in answer.iter_bytes():
            read += chunk
            if len(read) > self._most:
                raise Rejected(
                    "providers.reading.unfit", f"`{self._url}` answers with more than {self._most >> 20} MiB",
                    next_step="this is not the server that was meant, or one list of it is beyond the bound",
                )  # fmt: skip
        return bytes(read)

    def _decoded(self, raw: bytes, status: int) -> Any:
        try:
            return msgspec.json.decode(raw) if raw.strip() else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if status >= 300:
                return None
            raise Rejected(
                "providers.reading.unfit", f"`{self._url}` does not answer in JSON", next_step="correct the address"
            ) from None


def part(text: str) -> str:
    """One segment of a path, whatever it holds."""
    return quote(text, safe="")


def _later(said: str) -> float:
    return float(said) if said.isascii() and said.isdecimal() and len(said) < 6 else 0.0
