"""Trust in records: selectors and evidence, registration entries, authorities, SVIDs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from remit.kernel.canonical import Json, digest
from remit.kernel.clock import rfc3339
from remit.kernel.errors import Rejected
from remit.trust.spiffe import SpiffeId

_SELECTOR = re.compile(r"([a-z][a-z0-9_]{0,31}):([a-z][a-z0-9_]{0,31}):([^\x00-\x1f\x7f]{1,4096})")


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """One fact about a workload, `<attestor>:<key>:<value>`, for example `unix:uid:1000`."""

    attestor: str
    key: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Split the text form; whether the attestor knows the key is the attestor's to say.

        Raises `Rejected` (`trust.selector.malformed`).
        """
        found = _SELECTOR.fullmatch(text)
        if found is None or any("\ud800" <= character <= "\udfff" for character in text):
            raise Rejected(
                "trust.selector.malformed",
                f"`{ascii(text)[1:-1][:200]}` is no selector",
                next_step="write it as `ATTESTOR:KEY:VALUE`, for example `unix:uid:1000`",
            )
        return cls(found[1], found[2], found[3])

    def __str__(self) -> str:
        return f"{self.attestor}:{self.key}:{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an attestor saw of one workload, and the selectors that follow from it."""

    attestor: str
    selectors: frozenset[Selector]
    facts: Mapping[str, Json]
    """What was seen, for the ledger and for people: pid, start time, boot, executable, digest."""
    unseen: tuple[str, ...] = ()
    """What could not be seen, and why; no selector is made of it."""
    observed: datetime

    @property
    def digest(self) -> str:
        """`sha256:<hex>` over everything but the moment: the same workload, seen again, has the same digest."""
        return digest(
            {
                "attestor": self.attestor,
                "selectors": sorted(str(selector) for selector in self.selectors),
                "facts": dict(self.facts),
                "unseen": list(self.unseen),
            }
        )

    def value(self, key: str) -> str | None:
        """The value of this attestor's selector `key`, where there is exactly one such key (`path`, `sha256`)."""
        return next((s.value for s in self.selectors if s.attestor == self.attestor and s.key == key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A registration: who shows all `selectors` is `spiffe_id`. It counts only while `signature` verifies."""

    id: str
    spiffe_id: SpiffeId
    selectors: frozenset[Selector]
    x509_ttl: timedelta
    jwt_ttl: timedelta
    hint: str = ""
    """Tells a workload with several SVIDs what this one is for; at most 1,024 bytes."""
    identity: str = ""
    """The inventory's identity (`id_…`) that it is, when that is known."""
    created: datetime
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        """What its signature covers: everything but the signature."""
        return {
            "id": self.id,
            "spiffe_id": str(self.spiffe_id),
            "selectors": sorted(str(selector) for selector in self.selectors),
            "x509_ttl": int(self.x509_ttl.total_seconds()),
            "jwt_ttl": int(self.jwt_ttl.total_seconds()),
            "hint": self.hint,
            "identity": self.identity,
            "created": rfc3339(self.created),
        }

    @property
    def key(self) -> str:
        """`sha256:<hex>` of SPIFFE ID and selectors: two entries never share it."""
        return entry_key(self.spiffe_id, self.selectors)


def entry_key(spiffe_id: SpiffeId, selectors: frozenset[Selector]) -> str:
    """Name the claim that an entry makes, whatever its times and hints."""
    return digest({"spiffe_id": str(spiffe_id), "selectors": sorted(str(selector) for selector in selectors)})


class AuthorityKind(StrEnum):
    X509 = "x509"
    JWT = "jwt"


class AuthorityState(StrEnum):
    """`prepared → active → old → tainted → revoked`; see `authority.lifecycle` for the legal steps."""

    PREPARED = "prepared"
    """Published, so that everyone trusts it before it signs."""
    ACTIVE = "active"
    """Signs."""
    OLD = "old"
    """Signs no more, published until what it signed has expired."""
    TAINTED = "tainted"
    """Not to be relied on: what it signed is replaced now. Still published, so that nothing breaks on the way."""
    REVOKED = "revoked"
    """Not published; its key is destroyed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A signing key of the trust domain, without its private half. It counts only while `signature` verifies."""

    id: str
    """Also the `kid` of a JWT authority."""
    kind: AuthorityKind
    state: AuthorityState
    public: bytes
    """DER: the CA certificate (x509), or the SubjectPublicKeyInfo (jwt)."""
    created: datetime
    expires: datetime
    activated: datetime | None = None
    ended: datetime | None = None
    """When it was revoked, or retired after its expiry."""
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        """What its signature covers."""
        return {
            "id": self.id,
            "kind": self.kind.value,
            "state": self.state.value,
            "public": self.public.hex(),
            "created": rfc3339(self.created),
            "expires": rfc3339(self.expires),
            "activated": rfc3339(self.activated) if self.activated else None,
            "ended": rfc3339(self.ended) if self.ended else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Svid:
    """An X.509-SVID with its private key, as the Workload API hands it over."""

    spiffe_id: SpiffeId
    entry: str
    authority: str
    serial: int
    certificate: bytes
    """DER, the leaf alone: the authority is a root of the bundle."""
    key: bytes = field(repr=False)
    """DER, PKCS#8, not encrypted."""
    issued: datetime
    expires: datetime
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSvid:
    """A JWT-SVID in compact form."""

    spiffe_id: SpiffeId
    entry: str
    authority: str
    token_id: str
    """The claim `jti`."""
    token: str = field(repr=False)
    audience: tuple[str, ...]
    issued: datetime
    expires: datetime
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SvidClaims:
    """The claims of a JWT-SVID whose signature, audience and expiry were verified."""

    spiffe_id: SpiffeId
    audience: tuple[str, ...]
    expires: datetime
    claims: Mapping[str, Json]
