"""Reading a forge's REST API: pages by `Link`, conditional requests, limits of rate that are waited for, within bounds.

Spec: RFC 8288 (`Link`), RFC 9110 §10.2.3 (`Retry-After`), §13.1.2 (`If-None-Match`); GitHub Docs, "Rate limits for the
REST API"; GitLab Docs, "REST API: pagination" and "Rate limits".
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

import msgspec

from remit.kernel.errors import Denied, Misconfigured, NotFound, Rejected, Unavailable
from remit.providers.pausing import pause

if TYPE_CHECKING:
    import httpx2

MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_PAGES = 2_000
TRIES = 4
_NUMBER = re.compile(r"[0-9]{1,15}")
_LONGEST_LINK = 8_000
_NEXT = re.compile(r'<([^<>\s]{1,2000})>\s*;[^,]*\brel="?next"?')


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said. `data` is `None` where nothing changed since `etag` (304)."""

    data: Any = field(repr=False)
    etag: str = ""
    next: str = ""
    changed: bool = True


class ForgeClient:
    """Asks one server, always the same: the token goes to no other, wherever a redirect or a link points.

    `wait` sleeps; at most `patience` is spent on waiting in all, then `Unavailable` says when to try again.
    """

    def __init__(
        self, address: str, headers: Mapping[str, str], *, ca: str = "",
        patience: timedelta = timedelta(minutes=15), wait: Callable[[float], None] = pause,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        parts = urlsplit(address)
        plain = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
        if not parts.hostname or parts.username or not (parts.scheme == "https" or plain):
            raise Rejected(
                "providers.forge.bad-address", "the address of the API is no https URL without a login",
                next_step="write https://HOST, and give the token by its variable or `--secret-stdin`",
            )  # fmt: skip
        self._address = address.rstrip("/")
        self._origin = (parts.scheme, parts.netloc)
        self._headers = dict(headers)
        self._ca = ca
        self._left = patience.total_seconds()
        self._wait = wait
        self._clock = clock
        self._client: httpx2.Client | None = None
        self.waiting: Callable[[str], None] = lambda why: None
        """Told before each wait."""

    def __repr__(self) -> str:
        return f"ForgeClient({self._address!r})"

    def close(self) -> None:
        """Hang up; twice is harmless."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def get(self, path: str, *, etag: str = "") -> Answer:
        """Ask for `path` (or a full URL of the same server).

        Raises `Misconfigured` (the token is refused), `Denied`, `NotFound`, `Unavailable` (down, or limited for longer
        than the patience), `Rejected` for an answer that is none.
        """
        url = self._of_same_origin(path if "://" in path else f"{self._address}/{path.lstrip('/')}")
        for hop in range(3):
            status, headers, raw = self._patiently(url, etag)
            if status not in (301, 302, 307, 308) or hop == 2:
                break
            url = self._of_same_origin(urljoin(url, headers.get("location", "")))
        return self._answer(url, status, headers, raw, etag)

    def pages(self, path: str, *, inside: str = "", etags: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
        """Every row of a list (below the key `inside`, where it lies in an object), page after page.

        With `etags` a page that did not change since they were noted is passed over, and what is new is noted.
        """
        notes = etags if etags is not None else {}
        url = path
        for _ in range(MAX_PAGES):
            answer = self.get(url, etag=notes.get(url, "") if etags is not None else "")
            if answer.etag:
                notes[url] = answer.etag
            if answer.changed:
                rows = answer.data.get(inside) if inside and isinstance(answer.data, dict) else answer.data
                yield from (row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else ()
                notes[f"{url} next"] = answer.next
            url = answer.next if answer.changed else notes.get(f"{url} next", "")
            if not url:
                return
        raise Rejected("providers.forge.too-long", f"a list has more than {MAX_PAGES} pages")

    def _of_same_origin(self, url: str) -> str:
        parts = urlsplit(url)
        if (parts.scheme, parts.netloc) != self._origin:
            raise Rejected(
                "providers.forge.elsewhere", f"the server points to `{(parts.hostname or '?')[:80]}`",
                next_step="nothing was sent there; give the address of the API itself as `endpoint`",
            )  # fmt: skip
        return url

    def _patiently(self, url: str, etag: str) -> tuple[int, Mapping[str, str], bytes]:
        """One answer that is neither a limit nor a failure of the server."""
        for attempt in range(TRIES * 5):
            try:
                status, headers, raw = self._ask(url, etag)
            except Unavailable:
                if attempt + 1 >= TRIES:
                    raise
                self._rest(2.0**attempt, "the server does not answer")
                continue
            if (pause := self._limited(status, headers, raw)) is not None:
                self._rest(pause, "the server limits the rate of requests")
            elif status >= 500 and attempt + 1 < TRIES:
                self._rest(2.0**attempt, f"the server answers {status}")
            else:
                return status, headers, raw
        raise self._down("it limits every request")

    def _rest(self, seconds: float, why: str) -> None:
        if seconds > self._left:
            raise Unavailable(
                "providers.forge.limited", f"{why}: {int(seconds)} more seconds",
                next_step="run the command again later: it goes on where it stopped",
                retry_after=timedelta(seconds=seconds),
            )  # fmt: skip
        self._left -= seconds
        self.waiting(f"{why}: waiting {int(seconds)} seconds")
        self._wait(seconds)

    def _limited(self, status: int, headers: Mapping[str, str], raw: bytes) -> float | None:
        """Seconds to wait, when this is a limit rather than an answer."""
        after = headers.get("retry-after", "")
        spent = headers.get("x-ratelimit-remaining", headers.get("ratelimit-remaining", "")) == "0"
        if not (status == 429 or (status == 403 and (after or spent or b"rate limit" in raw[:2000].lower()))):
            return None
        if _NUMBER.fullmatch(after):
            return float(min(int(after), 86_400))
        reset = headers.get("x-ratelimit-reset", headers.get("ratelimit-reset", ""))
        return max(1.0, min(float(reset) - self._clock() + 1, 86_400.0)) if spent and _NUMBER.fullmatch(reset) else 60.0

    def _ask(self, url: str, etag: str) -> tuple[int, Mapping[str, str], bytes]:
        import httpx2

        try:
            if self._client is None:
                import ssl

                context = ssl.create_default_context(cafile=self._ca or None)
                self._client = httpx2.Client(
                    follow_redirects=False, trust_env=False, timeout=30, verify=context, headers=self._headers
                )
            conditional = {"If-None-Match": etag} if etag else {}
            with self._client.stream("GET", url, headers=conditional) as answer:
                read = bytearray()
                for chunk in answer.iter_bytes():
                    read += chunk
                    if len(read) > MAX_ANSWER_BYTES:
                        raise Rejected("providers.forge.too-large", "an answer is larger than 32 MiB")
                return int(answer.status_code), {k.lower(): v for k, v in answer.headers.items()}, bytes(read)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise self._down(type(error).__name__) from None

    def _down(self, why: str) -> Unavailable:
        host = urlsplit(self._address).hostname
        return Unavailable(
            "providers.forge.down", f"`{host}` does not answer: {why}",
            next_step="look at its address, or try again later", retry_after=timedelta(minutes=1),
        )  # fmt: skip

    def _answer(self, url: str, status: int, headers: Mapping[str, str], raw: bytes, etag: str) -> Answer:
        where = urlsplit(url).path[:200]
        match status:
            case 304:
                return Answer(data=None, etag=etag, changed=False)
            case 401:
                raise Misconfigured(
                    "providers.forge.refused", "the token is refused",
                    next_step="give one that is valid, by its variable or `--secret-stdin`",
                )  # fmt: skip
            case 403:
                raise Denied("providers.forge.not-permitted", f"the token may not read `{where}`")
            case 404 | 410:
                raise NotFound("providers.forge.not-found", f"there is no `{where}` for this token")
            case 200:
                pass
            case _ if status >= 500:
                raise self._down(f"status {status}")
            case _:
                raise Rejected("providers.forge.strange", f"`{where}` answers with status {status}")
        try:
            data = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            raise Rejected("providers.forge.strange", f"`{where}` answers with no JSON") from None
        following = _NEXT.search(headers.get("link", "")[:_LONGEST_LINK])
        return Answer(data=data, etag=headers.get("etag", ""), next=following.group(1) if following else "")
