"""One request with a secret, to say whether it is still good: no redirect is followed, no answer is kept."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from remit.kernel.errors import Rejected

SECONDS = 5.0
_LONGEST = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Status and the beginning of the body; status 0 where nobody answered."""

    status: int
    body: bytes = b""
    error: str = ""


def endpoint(url: str) -> str:
    """`url` as it may be used. Raises `Rejected` (`providers.try.endpoint`): plain HTTP is for this machine alone."""
    split = urlsplit(url)
    local = split.hostname in ("127.0.0.1", "::1", "localhost")
    if not split.hostname or split.scheme not in ("https", "http") or (split.scheme == "http" and not local):
        raise Rejected(
            "providers.try.endpoint",
            "a secret is tried over HTTPS alone",
            next_step="give the endpoint as https://…; http:// is for this machine",
        )
    return url.rstrip("/")


def ask(method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Answer:
    """Send one request; at most `SECONDS` for each step."""
    split = urlsplit(endpoint(url))
    try:
        made: http.client.HTTPConnection
        if split.scheme == "https":
            context = ssl.create_default_context()
            made = http.client.HTTPSConnection(split.hostname or "", split.port, timeout=SECONDS, context=context)
        else:
            made = http.client.HTTPConnection(split.hostname or "", split.port, timeout=SECONDS)
        try:
            made.request(method, (split.path or "/") + (f"?{split.query}" if split.query else ""), body, dict(headers))
            answer = made.getresponse()
            return Answer(status=answer.status, body=answer.read(_LONGEST))
        finally:
            made.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(status=0, error=type(error).__name__)
