"""SPIFFE IDs and trust domains.

Spec: SPIFFE-ID, §2 (SPIFFE Identity), §2.1 (trust domain), §2.2 (path), §2.3 (maximum length).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from remit.kernel.errors import Rejected

MAX_ID_BYTES = 2048
_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")
_SCHEME = "spiffe://"


@dataclass(frozen=True, slots=True, order=True)
class TrustDomain:
    """The name of a trust domain: 1 to 255 of `a-z0-9.-_`. One that looks like an address means nothing by it."""

    name: str

    def __post_init__(self) -> None:
        if _DOMAIN.fullmatch(self.name) is None:
            raise Rejected(
                "trust.trust_domain.malformed",
                f"`{self.name[:80]}` is no trust domain",
                next_step="use 1 to 255 of a-z, 0-9, `.`, `-`, `_`, for example `remit.local`",
            )

    @classmethod
    def parse(cls, text: str) -> TrustDomain:
        """Read a name, or the trust domain's own SPIFFE ID (`spiffe://NAME`, the scheme in any case)."""
        named = text[: len(_SCHEME)].lower() == _SCHEME
        return cls(text[len(_SCHEME) :] if named else text)

    @property
    def id(self) -> str:
        """Its SPIFFE ID, `spiffe://NAME`: the key of its bundle."""
        return _SCHEME + self.name

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """A SPIFFE ID with a path: a workload's. `path` begins with `/`, and case counts in it."""

    trust_domain: TrustDomain
    path: str

    def __post_init__(self) -> None:
        if not _is_path(self.path):
            raise _malformed(f"{self.trust_domain.id}{self.path}", "its path is empty or has an illegal segment")
        if len(str(self)) > MAX_ID_BYTES:
            raise _malformed(str(self), f"it is longer than {MAX_ID_BYTES} bytes")

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Read `spiffe://DOMAIN/PATH`; the scheme may be in any case, nothing else is normalised.

        Raises `Rejected` (`trust.spiffe_id.malformed`) for anything else: another scheme, a user, a port, a query, a
        fragment, percent-encoding, an empty or dotted segment, a trailing slash, a missing path.
        """
        if len(text) > MAX_ID_BYTES:
            raise _malformed(text, f"it is longer than {MAX_ID_BYTES} bytes")
        if text[: len(_SCHEME)].lower() != _SCHEME:
            raise _malformed(text, "it does not begin with `spiffe://`")
        domain, slash, path = text[len(_SCHEME) :].partition("/")
        if _DOMAIN.fullmatch(domain) is None:
            raise _malformed(text, "its trust domain is not 1 to 255 of a-z, 0-9, `.`, `-`, `_`")
        return cls(TrustDomain(domain), slash + path)

    def __str__(self) -> str:
        return self.trust_domain.id + self.path


def _is_path(path: str) -> bool:
    if not path.startswith("/"):
        return False
    return all(_SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in path[1:].split("/"))


def _malformed(text: str, why: str) -> Rejected:
    return Rejected(
        "trust.spiffe_id.malformed",
        f"`{text[:200]}` is no SPIFFE ID of a workload: {why}",
        next_step="write it as `spiffe://DOMAIN/PATH`, for example `spiffe://remit.local/billing/nightly`",
    )
