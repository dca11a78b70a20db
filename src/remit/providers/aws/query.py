"""The Query APIs of AWS (IAM, STS), signed by Signature Version 4, over strict TLS and with bounded answers.

Spec: AWS Signature Version 4 (`AWS4-HMAC-SHA256`); IAM and STS API references, "Making Query requests".
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

import httpx2

from remit.kernel.errors import Denied, Misconfigured, Rejected, RemitError, Unavailable
from remit.providers.documents import require_address
from remit.providers.tls import harden

_SECONDS: Final = 10.0
_MAX_BYTES: Final = 4 << 20
_FORM: Final = "application/x-www-form-urlencoded; charset=utf-8"
_AGAIN: Final = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "ConcurrentModification"})
_WAITS: Final = (0.1, 0.3, 0.9)
_NOT_PERMITTED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_NOBODY: Final = frozenset(
    {"InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "AuthFailure"}
    | {"UnrecognizedClientException", "IncompleteSignature", "InvalidToken", "RequestExpired"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """As whom a request is signed."""

    id: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)
    """Of a session alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What AWS said to one request."""

    action: str
    """As `iam:GetRole`."""
    status: int
    code: str = ""
    """Of an error, as `NoSuchEntity`; empty for a success."""
    message: str = ""
    date: datetime | None = None
    """The server's own clock."""
    content: ElementTree.Element | None = None

    @property
    def refused(self) -> bool:
        """Whether it was the credential that was refused, and not what was asked."""
        return self.code in _NOT_PERMITTED or self.code in _NOBODY

    def text(self, name: str) -> str:
        """The first element of that name; empty where there is none."""
        found = None if self.content is None else self.content.findtext(f".//{{*}}{name}")
        return (found or "").strip()

    def each(self, name: str) -> Iterator[ElementTree.Element]:
        """The members of a list."""
        if self.content is not None:
            yield from self.content.findall(f".//{{*}}{name}/{{*}}member")

    def judged(self) -> Answer:
        """Itself where it is a success; else it is raised."""
        if self.code:
            raise self.error()
        return self

    def error(self) -> RemitError:
        if self.code in _NOT_PERMITTED:
            return Denied(
                "providers.aws.not-permitted",
                f"AWS refuses `{self.action}`",
                next_step=f"allow `{self.action}` to the principal that Remit uses",
            )
        if self.code in _NOBODY:
            return Misconfigured(
                "providers.aws.credentials-refused",
                f"AWS refuses the credentials (`{self.code}`)",
                next_step="renew them, and check the machine's clock",
            )
        if self.status >= 500 or self.status == 429 or self.code in _AGAIN:
            return Unavailable(
                "providers.aws.failed",
                f"AWS answers `{self.action}` with `{self.code}`",
                next_step="try again later",
                retry_after=timedelta(seconds=1),
            )
        return Rejected(
            "providers.aws.refused",
            f"AWS answers `{self.action}` with `{self.code}`: {self.message}",
            next_step="correct what the answer names",
        )


class Query:
    """One service at one address; safe for concurrent calls. Raises `Unavailable` (`providers.aws.unreachable`)."""

    def __init__(
        self, service: str, url: str, *, region: str, version: str, now: Callable[[], datetime], ca: str = ""
    ) -> None:
        self._service, self._url, self._region, self._version = service, require_address(url), region, version
        self._now = now
        self._client = httpx2.AsyncClient(
            verify=_context(ca), timeout=_SECONDS, trust_env=False, follow_redirects=False
        )

    def __repr__(self) -> str:
        return f"Query({self._service!r}, {self._url!r})"

    async def close(self) -> None:
        with suppress(httpx2.HTTPError, OSError):
            await self._client.aclose()

    async def ask(self, keys: Keys, action: str, **parameters: str) -> Answer:
        """One request; errors of AWS are answers. One that was throttled is asked again three times."""
        return await self.ask_with(keys, action, parameters)

    async def ask_with(self, keys: Keys, action: str, parameters: Mapping[str, str]) -> Answer:
        """As `ask`, for parameters whose names are no identifiers."""
        body = urlencode({"Action": action, "Version": self._version, **parameters}).encode()
        answer = await self._once(keys, action, body)
        for wait in _WAITS:
            if answer.code not in _AGAIN:
                break
            await asyncio.sleep(wait)
            answer = await self._once(keys, action, body)
        return answer

    async def _once(self, keys: Keys, action: str, body: bytes) -> Answer:
        headers = sign(
            self._url, body, keys=keys, service=self._service, region=self._region, at=self._now(),
            headers={"content-type": _FORM},
        )  # fmt: skip
        name = f"{self._service}:{action}"
        try:
            async with (
                asyncio.timeout(_SECONDS),
                self._client.stream("POST", self._url, content=body, headers=headers) as response,
            ):
                return _read(name, response, await _bounded(response))
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            raise Unavailable(
                "providers.aws.unreachable",
                f"AWS does not answer `{name}` ({type(error).__name__})",
                next_step="check network and endpoint, then try again",
                retry_after=timedelta(seconds=10),
            ) from None


def sign(
    url: str, body: bytes, *, keys: Keys, service: str, region: str, at: datetime, headers: Mapping[str, str]
) -> dict[str, str]:
    """The headers of a POST of `body` to `url`: these, and those that signing adds. `at` is aware, in UTC."""
    parts, stamp = urlsplit(url), at.strftime("%Y%m%dT%H%M%SZ")
    signed = {**headers, "host": parts.netloc, "x-amz-date": stamp}
    signed |= {"x-amz-security-token": keys.token} if keys.token else {}
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in sorted(signed))
    canonical = "\n".join(("POST", parts.path or "/", parts.query, lines, names, hashlib.sha256(body).hexdigest()))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    said = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{keys.secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, said.encode(), "sha256").hex()
    proof = f"AWS4-HMAC-SHA256 Credential={keys.id}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {**signed, "authorization": proof}


def _context(ca: str) -> ssl.SSLContext:
    try:
        return harden(ssl.create_default_context(cafile=ca or None))
    except (OSError, ValueError):
        raise Misconfigured(
            "providers.aws.ca",
            f"the file of certificate authorities `{ca[:120]}` cannot be read",
            next_step="name a PEM file, or leave it out for the system's own",
        ) from None


async def _bounded(response: httpx2.Response) -> bytes:
    held = bytearray()
    async for part in response.aiter_bytes():
        held += part
        if len(held) > _MAX_BYTES:
            raise Rejected("providers.aws.refused", "AWS answered with more than 4 MiB")
    return bytes(held)


def _read(action: str, response: httpx2.Response, raw: bytes) -> Answer:
    content = None
    # What AWS sends has no document type: entities, which could grow without bound, need one.
    if b"<!" not in raw:
        with suppress(ElementTree.ParseError):
            content = ElementTree.fromstring(raw)  # noqa: S314
    date = None
    with suppress(ValueError, KeyError):
        date = parsedate_to_datetime(response.headers["date"])
    told = Answer(action=action, status=response.status_code, date=date, content=content)
    if response.status_code < 300 and content is not None:
        return told
    return Answer(
        action=action,
        status=response.status_code,
        code=told.text("Code")[:80] or f"HTTP {response.status_code}",
        message=" ".join(told.text("Message").split())[:240],
        date=date,
    )
