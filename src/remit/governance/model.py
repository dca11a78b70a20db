"""Governance in records: people and teams, owners, what a leaver leaves, exceptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from remit.kernel.canonical import Json, digest
from remit.kernel.clock import rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An accountable human. A person is never an identity: no grant, lease or SVID can name one."""

    name: str
    """Lower case, stable, never given to anybody else."""
    email: str
    public_key: str
    """The person's own Ed25519 key, 64 hex characters. The private half never reaches Remit."""
    active: bool
    enrolled: datetime
    enrolled_by: str
    deactivated: datetime | None = None

    @property
    def actor(self) -> str:
        """How ledger entries and owner columns name this person."""
        return f"person:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """A group of people that the directory registered, with one person who answers for it."""

    name: str
    lead: str
    """The name of a person."""
    active: bool
    registered: datetime
    registered_by: str
    members: tuple[str, ...] = ()
    """Names of persons besides the lead, sorted."""

    @property
    def actor(self) -> str:
        """How owner columns name this team."""
        return f"team:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamProposal:
    """A team that waits for a second person. Signed by this installation."""

    id: str
    team: str
    lead: str
    members: tuple[str, ...]
    reason: str
    by: str
    at: datetime
    approval: Mapping[str, Json] = field(default_factory=dict)
    signature: str = ""

    def content(self) -> dict[str, Json]:
        """What the signature covers."""
        return {
            "id": self.id, "team": self.team, "lead": self.lead, "members": list(self.members), "reason": self.reason,
            "by": self.by, "at": rfc3339(self.at), "approval": dict(self.approval),
        }  # fmt: skip


class OrphanOutcome(StrEnum):
    """How the case of an identity whose owner left ended."""

    OPEN = "open"
    REASSIGNED = "reassigned"
    SUSPENDED = "suspended"
    GONE = "gone"
    """The identity was retired, or suspended by somebody else, in the meantime."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """An identity whose owner left: it has a new owner before `deadline`, or it is suspended."""

    identity: str
    owner: str
    """The owner who left, as the owner column has it."""
    opened: datetime
    deadline: datetime
    outcome: OrphanOutcome = OrphanOutcome.OPEN
    closed: datetime | None = None


class ExceptionStatus(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    REFUSED = "refused"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionDraft:
    """What somebody asks to be excepted from, for whom, for what, and until when."""

    rule: str
    """The id of the policy, control or detection rule that is not applied."""
    identities: tuple[str, ...]
    actions: tuple[str, ...]
    """Exact action names; at least one, no wildcard."""
    resource: str
    """A resource's name, or a prefix of names that ends in `*`."""
    reason: str
    compensating: tuple[str, ...]
    """What limits the harm meanwhile, in sentences; at least one."""
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyException:
    """A documented, temporary deviation. Its scope is frozen: whoever joins later is not excepted."""

    id: str
    rule: str
    identities: tuple[str, ...]
    """Sorted, without duplicates: the frozen scope."""
    actions: tuple[str, ...]
    resource: str
    reason: str
    compensating: tuple[str, ...]
    requester: str
    created: datetime
    expires: datetime
    status: ExceptionStatus
    approver: str = ""
    approved: datetime | None = None
    renewals: int = 0
    approvers: tuple[str, ...] = ()
    """Everybody who approved it or a renewal, in order."""
    signature: str = ""
    ended: datetime | None = None
    ended_by: str = ""
    ended_reason: str = ""

    @property
    def scope_digest(self) -> str:
        """`sha256:<hex>` of the frozen scope."""
        return digest(list(self.identities))

    @property
    def digest(self) -> str:
        """`sha256:<hex>` over what an approver answers for: any change of it voids the approval."""
        return digest(self.terms())

    def terms(self) -> dict[str, Json]:
        """What is asked, without what became of it."""
        return {
            "id": self.id,
            "rule": self.rule,
            "scope": self.scope_digest,
            "actions": list(self.actions),
            "resource": self.resource,
            "reason": self.reason,
            "compensating": list(self.compensating),
            "requester": self.requester,
            "expires": rfc3339(self.expires),
            "renewals": self.renewals,
        }

    def authority(self) -> dict[str, Json]:
        """What is signed at approval: the terms, and who approved them when."""
        approved = rfc3339(self.approved) if self.approved else ""
        return {**self.terms(), "approver": self.approver, "approved": approved, "approvers": list(self.approvers)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionFact:
    """What the decision point needs of an exception in force."""

    id: str
    rule: str
    identities: frozenset[str]
    actions: frozenset[str]
    resource: str
    expires: datetime

    def covers(self, *, identity: str, action: str, resource: str, now: datetime) -> bool:
        """Tell whether it holds for this request at this moment; at `expires` it has ended."""
        if now >= self.expires or identity not in self.identities or action not in self.actions:
            return False
        if self.resource.endswith("*"):
            return resource.startswith(self.resource[:-1])
        return resource == self.resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One sighting that speaks for an owner."""

    method: str
    text: str
    place: str
    confidence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A possible owner, with what speaks for it. It becomes a fact only when claimed or assigned."""

    owner: str
    """`person:NAME` or `team:NAME` where the directory knows it, else the source's own words."""
    known: bool
    score: int
    """0–99: how strongly the evidence points there; never certain."""
    evidence: tuple[Evidence, ...] = field(default_factory=tuple)
