"""What agent and control plane say to each other, as JSON over mutual TLS. Fields are added, never changed.

Bytes are base64. A field that a reader does not know is ignored, so that both sides may be of different versions.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from remit.trust.model import Entry, Evidence, Selector
from remit.trust.spiffe import SpiffeId

MAX_BATCH = 100
"""SVIDs or reports in one request."""
MAX_SELECTORS = 256
"""That an agent may claim of one process."""


class NodeProof(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown to one attestor."""

    attestor: str
    payload: dict[str, Any]


class Attestation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Proofs, or the answers to what they led to, and the key that is to be certified."""

    proofs: list[NodeProof] = []
    session: str = ""
    """Of the `Question` that is answered; empty with proofs."""
    answers: dict[str, dict[str, Any]] = {}
    """By attestor."""
    public_key: bytes
    """SubjectPublicKeyInfo in DER, on P-256."""
    software: str = ""


class Question(msgspec.Struct, frozen=True, kw_only=True, tag="question"):
    """Only the holder of the keys that the proofs name can answer it."""

    session: str
    questions: dict[str, dict[str, Any]]
    """By attestor."""


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    """The agent is admitted, or renewed."""

    agent: str
    name: str
    spiffe_id: str
    chain: list[bytes]
    authority: str
    issued: datetime
    expires: datetime
    renews: bool
    """Whether it renews by its own SVID; otherwise it attests anew."""
    bundle: bytes
    """In the SPIFFE format."""


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's next key."""

    public_key: bytes


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the agent's own attestors saw of a process of its node."""

    attestor: str
    selectors: list[str]
    facts: dict[str, Any] = {}
    unseen: list[str] = []
    observed: datetime

    @classmethod
    def of(cls, evidence: Evidence) -> Seen:
        return cls(
            attestor=evidence.attestor,
            selectors=sorted(str(one) for one in evidence.selectors)[:MAX_SELECTORS],
            facts=dict(evidence.facts),
            unseen=list(evidence.unseen),
            observed=evidence.observed,
        )


class SvidRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One X.509-SVID: for an entry and a key that the agent made."""

    entry: str
    public_key: bytes
    seen: Seen | None = None
    """Absent when it is fetched ahead of any process."""


class SvidBatch(msgspec.Struct, frozen=True, kw_only=True):
    requests: list[SvidRequest]


class SvidAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The certificate for one request, or why there is none."""

    entry: str
    chain: list[bytes] = []
    authority: str = ""
    problem: str = ""
    """An error's code."""


class JwtRequest(msgspec.Struct, frozen=True, kw_only=True):
    """JWT-SVIDs of these entries for a process that was seen."""

    entries: list[str]
    audience: list[str]
    seen: Seen


class JwtAnswer(msgspec.Struct, frozen=True, kw_only=True):
    entry: str
    token: str
    token_id: str
    authority: str
    issued: datetime
    expires: datetime


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """An SVID that the agent handed to a process."""

    entry: str
    serial: str
    """Lower-case hexadecimal, or the token's id."""
    seen: Seen
    at: datetime
    offline: bool = False
    """Whether the control plane was away."""


class Report(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the agent did, and what it has."""

    handed: list[Handed] = []
    revocations: int = -1
    """The version of the revocations that it applied; -1 for none."""


class WireEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    id: str
    spiffe_id: str
    selectors: list[str]
    x509_ttl: int
    jwt_ttl: int
    hint: str = ""
    identity: str = ""
    federates_with: list[str] = []
    created: datetime

    @classmethod
    def of(cls, entry: Entry) -> WireEntry:
        return cls(
            id=entry.id,
            spiffe_id=str(entry.spiffe_id),
            selectors=sorted(str(one) for one in entry.selectors),
            x509_ttl=int(entry.x509_ttl.total_seconds()),
            jwt_ttl=int(entry.jwt_ttl.total_seconds()),
            hint=entry.hint,
            identity=entry.identity,
            federates_with=list(entry.federates_with),
            created=entry.created,
        )

    def read(self) -> Entry:
        """The entry, believed because the control plane says it."""
        return Entry(
            id=self.id,
            spiffe_id=SpiffeId.parse(self.spiffe_id),
            selectors=frozenset(Selector.parse(one) for one in self.selectors),
            x509_ttl=timedelta(seconds=self.x509_ttl),
            jwt_ttl=timedelta(seconds=self.jwt_ttl),
            hint=self.hint,
            identity=self.identity,
            federates_with=tuple(self.federates_with),
            created=self.created,
        )


class State(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the stream: what changed since the line before; nothing at all is a sign of life."""

    node: list[str] | None = None
    """Selectors of the node itself."""
    entries: list[WireEntry] | None = None
    """All of them: what is absent is withdrawn."""
    bundle: bytes | None = None
    """In the SPIFFE format."""
    federated: dict[str, bytes] | None = None
    """Bundles by the name of their trust domain: all of them."""
    crls: list[bytes] | None = None
    authorities: list[str] | None = None
    """Whose certificates need no replacement."""
    revocations: int | None = None
    problem: dict[str, Any] | None = None
    """The stream ends, for this reason (RFC 9457)."""
    kind: str = ""
