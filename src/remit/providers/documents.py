"""JSON documents over HTTPS, from hosts that the operator named: bounded in size, time and redirects.

HTTP is for literal addresses of this machine alone. A redirect stays on its own origin; proxies of the environment are
not used; a document is strict JSON, not compressed. A bearer token is read from its file for each request and never
kept.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urljoin, urlsplit

from remit.kernel.canonical import Json, canonical
from remit.kernel.errors import Misconfigured, Unavailable
from remit.kernel.strict import NotStrict, read_object

if TYPE_CHECKING:
    from ssl import SSLContext

TIMEOUT: Final = timedelta(seconds=8)
"""For all of it: connecting, redirects, the body."""
MAX_BYTES: Final = 512 * 1024
MAX_DEPTH: Final = 16
MAX_MEMBERS: Final = 4096
MAX_REDIRECTS: Final = 3
MAX_SECRET_BYTES: Final = 16 * 1024
_AGE = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})(?:$|[,\s])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a server answered."""

    content: Mapping[str, Json]
    max_age: timedelta | None
    """How long it may be kept, where the server says so (RFC 9111 §5.2.2.1)."""


class Shape(NamedTuple):
    """What a document may be at most."""

    max_bytes: int
    depth: int
    members: int


class Documents:
    """Fetches from, and posts to, servers of one operator's choice.

    `ca_file` (PEM) takes the place of the system's authorities. `bearer_file` holds a token for the servers asked.
    """

    def __init__(
        self, *, ca_file: Path | None = None, bearer_file: Path | None = None, timeout: timedelta = TIMEOUT
    ) -> None:
        self._ca_file = ca_file
        self._bearer_file = bearer_file
        self._timeout = timeout
        self._context: tuple[object, SSLContext] | None = None

    async def get(
        self, url: str, *, max_bytes: int = MAX_BYTES, depth: int = MAX_DEPTH, members: int = MAX_MEMBERS
    ) -> Document:
        """GET one JSON object. `Unavailable` (`providers.document.…`), `Misconfigured` (`….secret`, `….authority`)."""
        return await self._ask("GET", url, None, Shape(max_bytes, depth, members))

    async def post(self, url: str, body: Mapping[str, Json], *, max_bytes: int = MAX_BYTES) -> Document:
        """POST one JSON object and read another; errors as of `get`. Redirects are not followed."""
        return await self._ask("POST", url, canonical(body), Shape(max_bytes, MAX_DEPTH, MAX_MEMBERS))

    async def lines(self, url: str, *, max_bytes: int = MAX_BYTES) -> AsyncIterator[Mapping[str, Json]]:
        """GET one JSON object a line, each as it comes, until the server ends; errors as of `get`.

        Only the beginning is bounded in time: the caller bounds the rest. A line is at most `max_bytes` long.
        """
        import httpx2

        require_address(url)
        try:
            headers, context = await asyncio.to_thread(self._prepare)
            waits = httpx2.Timeout(self._timeout.total_seconds(), read=None)
            async with (
                httpx2.AsyncClient(verify=context, trust_env=False, follow_redirects=False, timeout=waits) as client,
                client.stream("GET", url, headers=headers) as answer,
            ):
                if answer.status_code != 200:
                    raise _unreachable(url, f"it answered {answer.status_code}")
                held = b""
                async for chunk in answer.aiter_raw():
                    *whole, held = (held + chunk).split(b"\n")
                    if max(map(len, (*whole, held))) > max_bytes:
                        raise _malformed(url, f"longer than {max_bytes} bytes")
                    for line in filter(None, whole):
                        yield _line(url, line, max_bytes)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise _unreachable(url, type(error).__name__) from None

    async def _ask(self, method: str, url: str, body: bytes | None, shape: Shape) -> Document:
        import httpx2

        require_address(url)
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                headers, context = await asyncio.to_thread(self._prepare)
                async with httpx2.AsyncClient(
                    verify=context, trust_env=False, follow_redirects=False, timeout=self._timeout.total_seconds()
                ) as client:
                    for _ in range(MAX_REDIRECTS + 1):
                        answer = await _exchange(client, method, url, headers, body, shape)
                        if isinstance(answer, Document):
                            return answer
                        url = _same_origin(url, answer, method)
        except TimeoutError:
            raise _unreachable(url, "no answer in time") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise _unreachable(url, type(error).__name__) from None
        raise _unreachable(url, "too many redirects")

    def _prepare(self) -> tuple[dict[str, str], SSLContext]:
        headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "remit"}
        if self._bearer_file is not None:
            headers["authorization"] = "Bearer " + _secret(self._bearer_file)
        return headers, self._trust()

    def _trust(self) -> SSLContext:
        """The authorities, read again when their file changed: a cluster replaces its own from time to time."""
        import ssl

        try:
            seen = self._ca_file.stat().st_mtime_ns if self._ca_file is not None else 0
            if self._context is None or self._context[0] != seen:
                self._context = (seen, ssl.create_default_context(cafile=self._ca_file))
        except (OSError, ssl.SSLError):
            raise Misconfigured(
                "providers.document.authority",
                f"`{self._ca_file}` holds no certificate authorities in PEM",
                next_step="correct `ca_file`",
            ) from None
        return self._context[1]


async def _exchange(
    client: Any, method: str, url: str, headers: Mapping[str, str], body: bytes | None, shape: Shape
) -> Document | str:
    """One request: the document, or where the server sends us."""
    if body is not None:
        headers = {**headers, "content-type": "application/json"}
    async with client.stream(method, url, headers=headers, content=body) as answer:
        if answer.status_code in (301, 302, 303, 307, 308):
            return str(answer.headers.get("location", ""))
        if not 200 <= answer.status_code < 300:
            raise _unreachable(url, f"it answered {answer.status_code}")
        if answer.headers.get("content-encoding", "identity") != "identity":
            raise _malformed(url, "compressed")
        raw = bytearray()
        async for chunk in answer.aiter_raw():
            raw += chunk
            if len(raw) > shape.max_bytes:
                raise _malformed(url, f"longer than {shape.max_bytes} bytes")
        try:
            content = read_object(bytes(raw), max_bytes=shape.max_bytes, depth=shape.depth, members=shape.members)
        except NotStrict as why:
            raise _malformed(url, str(why)) from None
        found = _AGE.search(answer.headers.get("cache-control", ""))
        return Document(content=content, max_age=timedelta(seconds=int(found[1])) if found else None)


def _line(url: str, raw: bytes, max_bytes: int) -> Mapping[str, Json]:
    try:
        return read_object(raw, max_bytes=max_bytes, depth=64, members=16_384)
    except NotStrict as why:
        raise _malformed(url, str(why)) from None


def require_address(url: str) -> str:
    """Accept `https://…` and, for addresses of this machine, `http://…`.

    `Misconfigured` (`providers.document.address`) for another scheme, a user, a fragment, anything that is no URL.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _bad_address("it is no URL") from None
    if not parts.hostname or len(url) > 2000 or not url.isascii() or any(ord(c) <= 32 for c in url):
        raise _bad_address("it is no URL")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _bad_address("it has a user, a password or a fragment")
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)):
        return url
    raise _bad_address("only https is allowed, or http to an address of this machine")


def is_loopback(host: str) -> bool:
    """Whether it is a literal address of this machine: a name could point anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _same_origin(url: str, location: str, method: str) -> str:
    target = urljoin(url, location)
    try:
        here, there = urlsplit(url), urlsplit(target)
        same = (here.scheme, here.hostname, here.port) == (there.scheme, there.hostname, there.port)
    except ValueError:
        same = False
    if not location or not same or method != "GET" or "@" in there.netloc:
        raise _unreachable(url, "it redirects elsewhere")
    return target


def _secret(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SECRET_BYTES + 1).strip().decode("ascii")
    except (OSError, UnicodeDecodeError):
        text = ""
    if not text or len(text) > MAX_SECRET_BYTES or not text.isprintable() or " " in text:
        raise Misconfigured(
            "providers.document.secret",
            f"`{path}` cannot be read, or holds no token",
            next_step="let it hold the token alone, readable by Remit",
        )
    return text


def _unreachable(url: str, why: str) -> Unavailable:
    return Unavailable(
        "providers.document.unreachable",
        f"`{urlsplit(url).hostname}` does not answer as it should: {why}",
        next_step="check its address, its certificate and the way to it",
        retry_after=timedelta(seconds=30),
    )


def _malformed(url: str, why: str) -> Unavailable:
    return Unavailable(
        "providers.document.malformed",
        f"what `{urlsplit(url).hostname}` answered is {why}",
        next_step="check its address",
        retry_after=timedelta(minutes=5),
    )


def _bad_address(why: str) -> Misconfigured:
    return Misconfigured(
        "providers.document.address", f"an address cannot be used: {why}", next_step="give an https URL"
    )
