"""Access in records: requests and decisions, tasks and grants, targets, leases and proofs of revocation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

import msgspec

from remit.access.tasks.kinds import CgroupTask as CgroupTask
from remit.access.tasks.kinds import ProcessTask as ProcessTask
from remit.access.tasks.kinds import Task
from remit.kernel.canonical import Json, digest
from remit.kernel.clock import rfc3339


class Entity(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A subject or resource as a caller names it: a type, and an id (any name that the registry knows)."""

    type: str
    id: str
    properties: Mapping[str, Json] = msgspec.field(default_factory=dict)


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """May `subject` do `action` on `resource`?

    `claimed` is what the caller says (policies see it under `context.claimed`). `proven` is what an enforcement point
    derived from proof (attestation, grant, source address, sender binding) and comes under `context` itself.
    """

    subject: Entity
    action: str
    resource: Entity
    claimed: Mapping[str, Json] = msgspec.field(default_factory=dict)
    proven: Mapping[str, Json] = msgspec.field(default_factory=dict)

    def proving(self, **facts: Json) -> Request:
        """The same, with these proven facts besides."""
        return msgspec.structs.replace(self, proven={**self.proven, **facts})


class Effect(StrEnum):
    PERMIT = "permit"
    FORBID = "forbid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One policy, or one rule of the decision point itself, that determined the answer."""

    id: str
    effect: Effect
    text: str
    """For a person: the policy's `@reason` or first line, or the rule's sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obligation:
    """What the enforcement point must still do before it lets the request pass."""

    kind: str
    detail: str


STALE = "remit:stale"
"""Id of the reason of a decision point that has not heard from the control plane for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The answer, why, and what would have changed it."""

    id: str
    time: datetime
    request: Request
    allowed: bool
    reasons: tuple[Reason, ...]
    errors: tuple[str, ...] = ()
    """Policies that erred, as `policy: message`. An erring forbid that applied denies."""
    facts: Mapping[str, Json] = field(default_factory=dict)
    """The facts on which it rests: principal, resource, context, as the policies saw them."""
    needed: tuple[str, ...] = ()
    """What would have allowed it, where that is known, in sentences."""
    obligations: tuple[Obligation, ...] = ()
    snapshot: str = ""
    """Epoch and sequence of the snapshot that decided."""
    policies: str = ""
    """Digest of the policies in force then: by it they are found, and the decision is run again."""
    bounds: str = ""
    """The same of the bounds that hold partners; empty for who is nobody's partner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a task asks for on a target, from `SYSTEM://TARGET[/DATABASE]?role=ROLE`."""

    system: str
    target: str
    role: str
    database: str = ""

    def __str__(self) -> str:
        database = f"/{self.database}" if self.database else ""
        return f"{self.system}://{self.target}{database}?role={self.role}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A system on which leases are minted. Its admin credential rests sealed and is not part of this record."""

    name: str
    system: str
    host: str
    """A host name, an address, or the absolute directory of a Unix socket."""
    port: int
    database: str
    user: str
    roles: Mapping[str, str]
    """Role as needs name it → group role on the target."""
    options: Mapping[str, str] = field(default_factory=dict)
    instance: str = ""
    """The target's own stable fingerprint, read when it was added."""


class GrantState(StrEnum):
    REQUESTED = "requested"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    VOIDED = "voided"
    """Something changed after its approval: it is not what was approved."""
    ENDED = "ended"


class GrantKind(StrEnum):
    USUAL = "usual"
    BREAK_GLASS = "break-glass"
    """An emergency: one person's own signature, a hard cap, an alert, and a review afterwards."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's word over the digest of exactly one grant."""

    approver: str
    time: datetime
    digest: str
    signature: str
    """Ours, over approver, time and digest."""
    evidence: Mapping[str, Json] = field(default_factory=dict)
    """The person's own: the signed command, its signature, and the body that it covers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantTerms:
    """What was asked for beside scope and task, and under which conditions it may be answered."""

    life: timedelta
    """How long it holds, from its approval."""
    pending: datetime
    """Until when it can be answered."""
    asker: str
    """`person:NAME`, or the identity that asked for itself."""
    policies: str = ""
    """Digest of the policies in force when it was asked for."""
    subject: str = ""
    """Digest of what the identity was then: its names and its keys."""
    requires: tuple[str, ...] = ()
    """Who must approve, as the permits say it (`access.policy.approvals`)."""
    kind: GrantKind = GrantKind.USUAL

    def as_json(self) -> dict[str, Json]:
        return {
            "life": int(self.life.total_seconds()),
            "pending": rfc3339(self.pending),
            "asker": self.asker,
            "policies": self.policies,
            "subject": self.subject,
            "requires": list(self.requires),
            "kind": self.kind.value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The authority given for one task: any change of what was approved changes the digest and voids it."""

    id: str
    identity: str
    task: str
    """The name of the task's definition."""
    task_digest: str
    """Digest of the definition (binary, script, tools) at approval."""
    needs: tuple[str, ...]
    decision: str
    created: datetime
    expires: datetime
    """Hard expiry; of one that waits, when it can be answered no more."""
    state: GrantState
    reason: str = ""
    approvals: tuple[Approval, ...] = ()
    terms: GrantTerms | None = None
    """`None` for a run that policy allowed by itself."""

    @property
    def digest(self) -> str:
        """`sha256:<hex>` over what an approver answers for."""
        said: dict[str, Json] = {
            "id": self.id,
            "identity": self.identity,
            "task": self.task,
            "task_digest": self.task_digest,
            "needs": list(self.needs),
        }
        if self.terms is None:
            return digest({**said, "expires": rfc3339(self.expires)})
        return digest({**said, "reason": self.reason, "terms": self.terms.as_json()})


class LeaseState(StrEnum):
    SPARE = "spare"
    """Made ahead and parked: it admits nobody, and nobody holds it."""
    ISSUING = "issuing"
    """The name is committed; the credential may or may not exist on the target."""
    ACTIVE = "active"
    REVOKING = "revoking"
    REVOKED = "revoked"
    """Revoked, and a refused attempt proved it."""
    UNPROVED = "unproved"
    """Revoked on the target, but the refusal could not be shown; tried again."""
    FAILED = "failed"
    """Never came to exist on the target, and a sweep confirmed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A credential minted on a target under a grant. The secret rests sealed, apart from this record."""

    id: str
    grant: str
    identity: str
    task: str
    target: str
    need: str
    principal: str
    """The credential's name on the target: `remit_<instance>_<ulid>`."""
    state: LeaseState
    process: Task | None
    """What it is bound to: a process of this machine, or another kind of task."""
    created: datetime
    expires: datetime
    """Native expiry on the target, renewed while the task lives."""
    revoked: datetime | None = None
    reason: str = ""
    proof: Mapping[str, Json] = field(default_factory=dict)
    attempts: int = 0


# What a broker is asked, and what it answers.


@dataclass(frozen=True, slots=True, kw_only=True)
class MintOrder:
    """Mint one credential. The name was committed before; minting the same order again is the same credential."""

    principal: str
    role: str
    """The group role on the target (already mapped)."""
    database: str
    secret: str
    """Chosen and sealed by the lease engine before the call, so that a crash leaves nothing unknown."""
    expires: datetime
    label: str
    """`identity=… task=… lease=…`, written beside the credential on the target where it has a place for it."""
    until: datetime | None = None
    """When the grant ends whatever happens: the expiry of credentials that cannot be renewed."""

    def __repr__(self) -> str:
        return f"MintOrder(principal={self.principal!r}, role={self.role!r}, database={self.database!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A credential that exists, and works: the broker logged in with it once."""

    principal: str
    settings: Mapping[str, str] = field(repr=False)
    """How to connect, without the secret: `host`, `port`, `dbname`, `user` … as the target's clients name it; and what
    the target itself chose, where it takes no secret of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeOrder:
    """Revoke one credential, and prove it with its own secret."""

    principal: str
    secret: str
    database: str

    def __repr__(self) -> str:
        return f"RevokeOrder(principal={self.principal!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """The target refused this very credential, while the same path served another login in the same run."""

    refusal: str
    """The target's own words and code, e.g. `28P01 password authentication failed`."""
    control: str
    """What worked on the same path: e.g. `login as broker`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unproved:
    """The credential is gone as far as we could do it, but a refusal could not be shown."""

    why: str


Proof: TypeAlias = Proved | Unproved


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftBehind:
    """Something the credential made or changed on the target, and what became of it."""

    what: str
    fate: str
    """`re-owned`, `quarantined`, `removed`; `kept` by the operator's wish; `reported` (a guess), or `not seen`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What happened to one credential: its principal is gone only if `gone`."""

    principal: str
    gone: bool
    sessions_ended: int
    proof: Proof
    left_behind: tuple[LeftBehind, ...] = ()
    duration: timedelta = timedelta(0)
