"""Federation in records: the relation with a partner, the bundle that we hold of it, what may be asked of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from remit.kernel.canonical import Json
from remit.kernel.clock import rfc3339
from remit.trust.spiffe import SpiffeId, TrustDomain


class Profile(StrEnum):
    """How the partner's bundle endpoint proves what it is. Spec: SPIFFE Federation §5.2."""

    HTTPS_WEB = "https_web"
    """By a certificate of a CA that we trust for the host in the URL."""
    HTTPS_SPIFFE = "https_spiffe"
    """By an X509-SVID of the configured SPIFFE ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """With whom we federate, where its bundle is, and how far it may go here. It counts only while it verifies."""

    id: str
    """`fd_<ULID>`."""
    trust_domain: TrustDomain
    url: str
    profile: Profile
    endpoint_id: SpiffeId | None = None
    """Whom an endpoint of `https_spiffe` must be; `None` for `https_web`."""
    until: datetime
    ids: tuple[str, ...]
    """SPIFFE IDs of the partner that may act here; one that ends with `/*` is every id below it."""
    resources: tuple[str, ...]
    """Names of resources that they may reach; one that ends with `*` is every name that begins so."""
    reason: str
    by: str
    created: datetime
    policy: str
    """The bounds as Cedar: what the decision point enforces before every other policy."""
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        """What its signature covers: everything but the signature."""
        return {
            "id": self.id,
            "trust_domain": self.trust_domain.name,
            "url": self.url,
            "profile": self.profile.value,
            "endpoint_id": str(self.endpoint_id or ""),
            "until": rfc3339(self.until),
            "ids": list(self.ids),
            "resources": list(self.resources),
            "reason": self.reason,
            "by": self.by,
            "created": rfc3339(self.created),
            "policy": self.policy,
        }

    def admits(self, spiffe_id: SpiffeId, now: datetime) -> bool:
        """Whether this id of the partner may act here now."""
        if spiffe_id.trust_domain != self.trust_domain or now >= self.until:
            return False
        name = str(spiffe_id)
        return any(name.startswith(each[:-1]) if each.endswith("/*") else name == each for each in self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBundle:
    """The newest document that a partner's endpoint served, byte for byte."""

    trust_domain: TrustDomain
    document: bytes
    fetched: datetime
    """When this content came first."""
    signature: str = ""

    @property
    def sha256(self) -> str:
        """Lower-case hexadecimal."""
        return hashlib.sha256(self.document).hexdigest()

    def as_json(self) -> dict[str, Json]:
        """What its signature covers."""
        return {"trust_domain": self.trust_domain.name, "sha256": self.sha256, "fetched": rfc3339(self.fetched)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Polling:
    """How fetching the bundle of one partner goes."""

    tried: datetime | None = None
    succeeded: datetime | None = None
    error: str = ""
    """What went wrong the last time; empty when it went well."""
    code: str = ""
