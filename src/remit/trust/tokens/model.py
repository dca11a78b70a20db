"""Tokens in records: clients and their proof, what a request asks, what a grant gives, what is issued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

from remit.inventory.model import Sensitivity
from remit.kernel.canonical import Json, digest
from remit.kernel.clock import rfc3339

MAX_SCOPES: Final = 16
MAX_RESOURCES: Final = 4
MAX_ACTORS: Final = 4
"""Links of a delegation chain: who acts for whom who acts for whom."""

Details: TypeAlias = tuple[Mapping[str, Json], ...]
"""RFC 9396 `authorization_details`: objects with a `type`."""


class TokenKind(StrEnum):
    ACCESS = "access-token"
    TRANSACTION = "transaction-token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An OAuth client that an administrator registered. It counts only while `signature` verifies."""

    id: str
    """`cl_<ULID>`: its `client_id`."""
    name: str
    identity: str
    """The inventory's identity (`id_…`) that it is."""
    spiffe_id: str = ""
    """Who proves this SPIFFE ID is this client."""
    keys: tuple[Mapping[str, Json], ...] = ()
    """Public JWKs, each with a `kid`, for `private_key_jwt`."""
    resources: tuple[str, ...] = ()
    """Resources that it serves: it may introspect tokens for them, and act for who called it there."""
    sensitivity: str = Sensitivity.RESTRICTED.value
    """Of the resources that it serves, as its registration says."""
    may_act: str = ""
    """Who, and nobody else, may act for its tokens: a subject, as RFC 8693 §4.4 has it."""
    created: datetime
    created_by: str
    signature: str = ""

    @property
    def subject(self) -> str:
        """How tokens name it."""
        return self.spiffe_id or self.identity

    def as_json(self) -> dict[str, Json]:
        """What its signature covers."""
        return {
            "id": self.id,
            "name": self.name,
            "identity": self.identity,
            "spiffe_id": self.spiffe_id,
            "keys": [dict(key) for key in self.keys],
            "resources": list(self.resources),
            "sensitivity": self.sensitivity,
            "may_act": self.may_act,
            "created": rfc3339(self.created),
            "created_by": self.created_by,
        }

    @property
    def digest(self) -> str:
        """`sha256:<hex>` over everything that it may."""
        return digest(self.as_json())


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """What the sender of a token must prove to hold (RFC 7800 `cnf`); empty for a bearer token."""

    x5t: str = ""
    """`x5t#S256` of its certificate (RFC 8705 §3.1)."""
    jkt: str = ""
    """Thumbprint of its DPoP key (RFC 9449 §6.1)."""

    def __bool__(self) -> bool:
        return bool(self.x5t or self.jkt)

    @property
    def kind(self) -> str:
        """`mtls`, `dpop`, both with a `+`, or empty."""
        return "+".join(name for name, value in (("mtls", self.x5t), ("dpop", self.jkt)) if value)

    def as_json(self) -> dict[str, Json]:
        return {
            **({"x5t#S256": self.x5t} if self.x5t else {}),
            **({"jkt": self.jkt} if self.jkt else {}),
        }

    @classmethod
    def of(cls, claims: Mapping[str, Json]) -> Confirmation:
        """Read the `cnf` of a token that we signed."""
        found = claims.get("cnf")
        if not isinstance(found, Mapping):
            return cls()
        return cls(x5t=str(found.get("x5t#S256", "")), jkt=str(found.get("jkt", "")))

    def met_by(self, shown: Confirmation) -> bool:
        """Whether what a sender proved is what this asks for."""
        return (not self.x5t or self.x5t == shown.x5t) and (not self.jkt or self.jkt == shown.jkt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """Something that counts once: its name is remembered until `until`."""

    key: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """Who somebody is, derived from proof: a client, or the subject of a token that vouches for an identity."""

    subject: str
    """A SPIFFE ID, or the id of an identity."""
    method: str
    """`x509-svid`, `jwt-svid`, `private_key_jwt`, `access-token`, or the attestor of a platform's proof."""
    attested: bool
    """Whether a workload was looked at; a key that somebody stored proves no more than its possession."""
    attested_at: datetime | None = None
    expires: datetime | None = None
    """When the proof itself ends."""
    client: Client | None = None
    """Its registration, where there is one."""
    confirmation: Confirmation = Confirmation()
    spends: tuple[Spend, ...] = ()
    credential: str = ""
    """Serial or `jti` of the SVID that it rests on."""
    evidence: str = ""
    """Digest of what was proven, for the ledger."""

    @property
    def client_id(self) -> str:
        return self.client.id if self.client is not None else self.subject

    @property
    def names(self) -> frozenset[str]:
        """Every audience that means this client."""
        served = self.client.resources if self.client is not None else ()
        return frozenset({self.client_id, self.subject, *served})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A token request as its form says it, within bounds; nothing of it is believed."""

    grant_type: str
    client_id: str = ""
    assertion: str = field(default="", repr=False)
    assertion_type: str = ""
    scopes: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    """RFC 8707 `resource`, and RFC 8693 `audience`."""
    details: Details = ()
    subject_token: str = field(default="", repr=False)
    subject_token_type: str = ""
    actor_token: str = field(default="", repr=False)
    actor_token_type: str = ""
    wanted: TokenKind = TokenKind.ACCESS
    grant: str = ""
    """A grant (`gr_…`) that an approval gave, under which the token is asked for."""
    request_context: Mapping[str, Json] = field(default_factory=dict)
    request_details: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A token that was verified: what it says, which is the most that may come of it."""

    subject: str
    identity_proof: bool
    """It says who somebody is, and grants nothing: a JWT-SVID, a platform's token."""
    kind: TokenKind | None = None
    """Which of our own it is."""
    expires: datetime
    token_id: str = ""
    client_id: str = ""
    actors: tuple[str, ...] = ()
    """Who acts, newest first."""
    scopes: frozenset[str] = frozenset()
    audience: tuple[str, ...] = ()
    details: Details = ()
    confirmation: Confirmation = Confirmation()
    may_act: str = ""
    grant: str = ""
    key: str = ""
    """The authority that signed it."""
    issued: datetime | None = None
    proof: Proven | None = None
    """What a token that proves an identity proved."""
    claims: Mapping[str, Json] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantAsk:
    """What the grant source is asked: may this subject have these scopes there, through these actors?"""

    proof: Proven
    """The client, as it proved itself."""
    source: Proven | None
    """What proved the subject: the client itself, or a proof of identity that it presents; else see `before`."""
    before: str = ""
    """The grant of the token that it presents."""
    subject: str
    actors: tuple[str, ...]
    """Newest first; empty when the client asks for itself."""
    resources: tuple[str, ...]
    resource_kind: str
    """`api` for a resource server, `trust-domain` for a transaction, `token-service` for ourselves."""
    scopes: tuple[str, ...]
    details: Details
    confirmation: str
    """`mtls`, `dpop`, `mtls+dpop`, or empty: nothing holds a thief off."""
    named: str = ""
    """An approved grant that the request names."""
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrant:
    """The authority for tokens of one subject: scopes are what it says, never what was asked. Kept, signed, ended."""

    id: str
    identity: str
    subject: str
    actors: tuple[str, ...]
    resources: tuple[str, ...]
    scopes: tuple[str, ...]
    details: Details
    anchor: str = ""
    """The approved grant on which it rests; it ends with it."""
    decisions: tuple[str, ...]
    """Ids of the decisions that gave it."""
    method: str
    """How the subject was proven, when it was."""
    attested: bool
    attested_at: datetime | None
    created: datetime
    expires: datetime
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        """What its signature covers."""
        return {
            "id": self.id,
            "identity": self.identity,
            "subject": self.subject,
            "actors": list(self.actors),
            "resources": list(self.resources),
            "scopes": list(self.scopes),
            "details": [dict(each) for each in self.details],
            "anchor": self.anchor,
            "decisions": list(self.decisions),
            "method": self.method,
            "attested": self.attested,
            "attested_at": rfc3339(self.attested_at) if self.attested_at else None,
            "created": rfc3339(self.created),
            "expires": rfc3339(self.expires),
        }

    @property
    def digest(self) -> str:
        """`sha256:<hex>` over all of it."""
        return digest(self.as_json())


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a client gets."""

    token: str = field(repr=False)
    kind: TokenKind
    token_type: str
    """`Bearer`, `DPoP`, or `N_A` for a transaction token."""
    scopes: tuple[str, ...]
    details: Details
    expires: datetime
    lifetime_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the token service is reached, as clients know it: URLs without a slash at the end."""

    issuer: str
    base: str
    """Of the plain listener."""
    mtls: str = ""
    """Of the listener that asks for an X.509-SVID."""

    def endpoints(self, path: str) -> frozenset[str]:
        """Every URL of one endpoint."""
        return frozenset(f"{base}{path}" for base in (self.issuer, self.base, self.mtls) if base)

    @property
    def audiences(self) -> frozenset[str]:
        """What an assertion may be meant for: the issuer, or the token endpoint, exactly."""
        return frozenset({self.issuer}) | self.endpoints("/oauth2/token")
