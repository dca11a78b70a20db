"""AWS Signature Version 4: what a signed request says that it signs, and whether it does.

Without the secret key a signature cannot be checked, and only AWS (or who stands in for it) has that. `parse_signed`
establishes what is needed before a request of a stranger is passed on: which headers the signature covers, for which
service, when. `verify_sigv4` is the whole check, for whoever holds the secret.

Spec: AWS General Reference, "Signature Version 4 signing process"; S3's exceptions are not for STS.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from remit.trust.attestors.payload import malformed, mismatch

MAX_HEADERS = 24
MAX_HEADER_BYTES = 4096
_ALGORITHM = "AWS4-HMAC-SHA256"
_HEADER = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_VALUE = re.compile(r"[\x20-\x7e]{1,4096}")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([A-Z0-9]{16,128})/([0-9]{8})/([a-z0-9-]{1,32})/([a-z0-9-]{1,32})/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]{1,1024}), ?Signature=([0-9a-f]{64})"
)
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request as it would be sent: names of headers in lower case, none twice."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What the `Authorization` header says, unverified."""

    access_key: str
    date: datetime
    region: str
    service: str
    headers: tuple[str, ...]
    """Names that the signature covers, sorted."""
    signature: str


def read_headers(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Headers by lower-case name. `Rejected` (`trust.proof.malformed`) for one that comes twice, or is none."""
    found: dict[str, str] = {}
    if len(pairs) > MAX_HEADERS:
        raise malformed(f"the request has more than {MAX_HEADERS} headers")
    for name, value in pairs:
        lower = name.lower()
        if _HEADER.fullmatch(lower) is None or _VALUE.fullmatch(value) is None or value != value.strip():
            raise malformed("a header of the request is none, or too long")
        if lower in found:
            raise malformed(f"the header `{lower}` comes twice")
        found[lower] = value
    return found


def parse_signed(headers: Mapping[str, str]) -> Signed:
    """Read `Authorization` and `X-Amz-Date`; what is said to be signed is there, `host` and `x-amz-date` with it.

    Raises `Rejected` (`trust.proof.malformed`).
    """
    form = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    date = headers.get("x-amz-date", "")
    if form is None or _DATE.fullmatch(date) is None:
        raise malformed("the request is not signed by Signature Version 4 in its headers")
    names = tuple(form[5].split(";"))
    if list(names) != sorted(set(names)) or not {"host", "x-amz-date"} <= set(names) <= set(headers):
        raise malformed("the signed headers are not sorted, not all there, or lack `host` or `x-amz-date`")
    try:
        moment = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise malformed("`x-amz-date` is no time") from None
    if form[2] != date[:8]:
        raise malformed("the signature is for another day than the request")
    return Signed(access_key=form[1], date=moment, region=form[3], service=form[4], headers=names, signature=form[6])


def verify_sigv4(request: HttpRequest, secret_of: Callable[[str], str | None]) -> Signed:
    """Check the signature of `request`; `secret_of` gives the secret of an access key, or `None`.

    The time is the caller's to judge. Raises `Rejected` (`trust.proof.malformed`, `.mismatch`).
    """
    signed = parse_signed(request.headers)
    secret = secret_of(signed.access_key)
    scope = f"{signed.date:%Y%m%d}/{signed.region}/{signed.service}/aws4_request"
    digest = hashlib.sha256(canonical_request(request, signed.headers)).hexdigest()
    text = "\n".join((_ALGORITHM, request.headers["x-amz-date"], scope, digest))
    key = f"AWS4{secret or ''}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    expected = hmac.new(key, text.encode(), "sha256").hexdigest()
    if not hmac.compare_digest(expected, signed.signature) or secret is None:
        raise mismatch("the request was not signed by the key that it names")
    return signed


def canonical_request(request: HttpRequest, signed_headers: Sequence[str]) -> bytes:
    """The bytes whose digest is signed."""
    lines = [f"{name}:{' '.join(request.headers[name].split())}" for name in signed_headers]
    digest = hashlib.sha256(request.body).hexdigest()
    parts = (request.method, quote(request.path or "/", safe="/-_.~"), _canonical_query(request.query), *lines, "")
    return "\n".join((*parts, ";".join(signed_headers), digest)).encode()


def _canonical_query(query: str) -> str:
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    coded = [(quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~")) for name, value in pairs]
    return "&".join(f"{name}={value}" for name, value in sorted(coded))
