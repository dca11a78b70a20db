"""Trust in records: selectors and evidence, registration entries, authorities, SVIDs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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

    @classmethod
    def joined(cls, seen: Sequence[Evidence]) -> Evidence:
        """What several attestors saw of the same workload, as one: every selector, and the facts of each under its id.

        The facts of the first stay at the top, so that a process's pid is found in one place. The moment is the oldest.
        """
        first, *others = seen
        if not others:
            return first
        return cls(
            attestor="+".join(one.attestor for one in seen),
            selectors=frozenset().union(*(one.selectors for one in seen)),
            facts={**first.facts, **{one.attestor: dict(one.facts) for one in others}},
            unseen=first.unseen + tuple(f"{one.attestor}: {what}" for one in others for what in one.unseen),
            observed=min(one.observed for one in seen),
        )

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

    def value(self, key: str, *, attestor: str = "unix") -> str | None:
        """The value of an attestor's selector `key`, where there is exactly one such key (`path`, `sha256`)."""
        return next((s.value for s in self.selectors if s.attestor == attestor and s.key == key), None)


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
    federates_with: tuple[str, ...] = ()
    """Names of the foreign trust domains whose bundles the workload gets."""
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
            "federates_with": list(self.federates_with),
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
    TOKEN = "token"
    """Signs access tokens and transaction tokens: another key and key set than those of JWT-SVIDs."""


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
    """Also the `kid` of a JWT or token authority."""
    kind: AuthorityKind
    state: AuthorityState
    public: bytes
    """DER: the CA certificate (x509), or the SubjectPublicKeyInfo (jwt)."""
    chain: tuple[bytes, ...] = ()
    """DER of the CA certificates from its issuer upwards, the root last; empty when it is a root itself."""
    created: datetime
    expires: datetime
    activated: datetime | None = None
    ended: datetime | None = None
    """When it was revoked, or retired after its expiry."""
    signature: str = ""

    @property
    def roots(self) -> tuple[bytes, ...]:
        """DER of the certificate that verifiers anchor in: its own, or its upstream's root."""
        return (self.chain[-1] if self.chain else self.public,)

    @property
    def intermediates(self) -> tuple[bytes, ...]:
        """DER of what a leaf must bring along to reach the root: itself and what is between, when it is no root."""
        return (self.public, *self.chain[:-1]) if self.chain else ()

    def as_json(self) -> dict[str, Json]:
        """What its signature covers."""
        return {
            "id": self.id,
            "kind": self.kind.value,
            "state": self.state.value,
            "public": self.public.hex(),
            "chain": [one.hex() for one in self.chain],
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
    """DER, the leaf alone."""
    chain: bytes = b""
    """DER after DER of the intermediates between the leaf and a root of the bundle; empty under a root."""
    key: bytes = field(repr=False)
    """DER, PKCS#8, not encrypted; empty where the workload's agent made the key and showed only its public half."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedSvid:
    """An X.509-SVID that a peer proved to hold the key of, verified against its own trust domain's bundle."""

    spiffe_id: SpiffeId
    certificate: bytes
    """DER of the leaf."""
    serial: int
    thumbprint: str
    """`x5t#S256` of RFC 8705 §3.1: SHA-256 of the leaf, base64url without padding."""
    issued: datetime
    """Its `notBefore`: we date back ours by half a minute."""
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """One SVID or token that is still valid: what revocation needs to know of it. It holds no secret."""

    id: str
    """The certificate's serial in lower-case hexadecimal, or the token's `jti`: 128 random bits at least."""
    kind: str
    """`x509-svid`, `jwt-svid`, `access-token` or `transaction-token`."""
    spiffe_id: str
    """Whom it names; for a token, its subject."""
    entry: str = ""
    identity: str = ""
    agent: str = ""
    """The agent (`ag_…`) through which it went; empty for the control plane's own."""
    authority: str = ""
    grant: str = ""
    status: str = ""
    """Its place in a token status list (`LIST/INDEX`), where it has one."""
    issued: datetime
    expires: datetime
