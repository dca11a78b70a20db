"""The inventory's records, and the facts from which connectors build them.

A connector emits *facts*: what one source showed at one moment. The registry reconciles them into identities,
credentials, resources, entitlements and edges, and remembers which source said what. Facts never hold a secret:
a secret value becomes a keyed fingerprint before it becomes a fact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from remit.inventory.use.model import UseFact
from remit.kernel.ids import Name

Attribute: TypeAlias = str | int | bool | None


class IdentityKind(StrEnum):
    """What sort of machine identity it is."""

    SERVICE_ACCOUNT = "service-account"
    UNIX_ACCOUNT = "unix-account"
    DATABASE_ROLE = "database-role"
    CLOUD_USER = "cloud-user"
    CLOUD_ROLE = "cloud-role"
    CLOUD_GROUP = "cloud-group"
    GROUP = "group"
    WORKLOAD = "workload"
    PIPELINE = "pipeline"
    BOT = "bot"
    VENDOR = "vendor"
    AI_AGENT = "ai-agent"
    CERTIFICATE_HOLDER = "certificate-holder"
    TASK = "task"
    UNBOUND = "unbound"


class CredentialKind(StrEnum):
    """What proves it."""

    PASSWORD = "password"
    API_KEY = "api-key"
    TOKEN = "token"
    SSH_KEY = "ssh-key"
    CERTIFICATE = "certificate"
    PRIVATE_KEY = "private-key"
    ACCESS_KEY = "access-key"
    SECRET = "secret"


class Autonomy(StrEnum):
    """Who moves it."""

    HUMAN_OPERATED = "human-operated"
    PIPELINE = "pipeline"
    AUTONOMOUS = "autonomous"


class State(StrEnum):
    """Where an identity is in its life; transitions are `governance.lifecycle`'s."""

    REQUESTED = "requested"
    ACTIVE = "active"
    ROTATING = "rotating"
    QUARANTINED = "quarantined"
    SUSPENDED = "suspended"
    RETIRED = "retired"


class Sensitivity(StrEnum):
    """How much harm reaching a resource can do."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    RESTRICTED = "restricted"


class Severity(StrEnum):
    """How bad a finding is."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Relation(StrEnum):
    """Why compromising the source of an edge gives its target."""

    SECRET_OF = "secret-of"
    """credential → the identity that it proves"""
    HOLDS = "holds"
    """place, workload, identity or resource → a credential that can be read there"""
    ASSUME = "assume"
    """identity → an identity that it may become"""
    IMPERSONATE = "impersonate"
    MEMBER_OF = "member-of"
    """identity → a group or role whose rights it has"""
    RUNS_AS = "runs-as"
    """workload → the identity under which it runs"""
    DEPLOYS = "deploys"
    """pipeline → a workload or identity that it can change"""
    CAN_REACH = "can-reach"
    """identity → a resource, with the actions allowed there"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something was seen: a system's instance, a path within it, and a line or object where there is one."""

    system: str
    path: str
    line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFact:
    """A source shows an identity.

    `aliases` are other names of the same thing (ARN-derived, SPIFFE ID): they are how two connectors' sightings are
    joined. `attributes` use the inventory's words where one exists: `environment`, `service`, `purpose`, `autonomy`,
    `tier`, `created`, `last_used`, `can_login`, `privileged`, and the system's own words otherwise.
    """

    name: Name
    kind: IdentityKind
    title: str
    place: Place
    aliases: tuple[Name, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    confidence: int = 100
    """0–100: how sure the source is. Of two that disagree the system of record counts, then this, then the later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFact:
    """A source shows a credential: never its value.

    `fingerprint` is `sha256:<hex>` of public material (SPKI of a key pair or certificate key, key id) or
    `hmac:<hex>` of a secret under the installation's key. `identity` is the identity it proves, `None` when the
    source cannot say (the registry then gives it an identity of kind `unbound`).
    """

    fingerprint: str
    kind: CredentialKind
    title: str
    place: Place
    identity: Name | None = None
    issued: datetime | None = None
    expires: datetime | None = None
    last_used: datetime | None = None
    manager: str | None = None
    exposed: bool = False
    """True where the secret itself lies outside a manager, readable at `place`."""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    confidence: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceFact:
    """A source shows something that can be reached."""

    name: Name
    kind: str
    title: str
    place: Place
    sensitivity: Sensitivity | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeFact:
    """A source shows that who has `source` has, or can get, `target`.

    A credential's node is `credential_name(fingerprint)`.
    """

    source: Name
    relation: Relation
    target: Name
    evidence: str
    place: Place
    actions: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    """Conditions under which it holds that were not evaluated; an edge with some is shown as conditional."""
    cut: str = ""
    """How to remove it, in the target's own language."""
    confidence: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerFact:
    """Evidence that `owner` answers for `identity`: a proposal, until somebody claims or assigns."""

    identity: Name
    owner: str
    method: str
    """`codeowners`, `git`, `label`, `tag`, `annotation`, `comment`, `ticket` or `editor` (who changed it last)."""
    evidence: str
    confidence: int
    """0–100."""
    place: Place
    at: datetime | None = None
    """When it was so, where the source says: a line that somebody wrote years ago says less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingFact:
    """Something is wrong at a place. `rule` is `<connector>.<what>` and stable; `subject` is the node it concerns."""

    rule: str
    severity: Severity
    title: str
    detail: str
    next_step: str
    place: Place
    subject: Name | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """What could not be seen, and why: reported, never silently left out."""

    what: str
    reason: str
    """A stable code: `unreadable`, `too-large`, `malformed`, `encrypted`, `not-permitted`, `not-supported`,
    `unreachable`, `changed-while-read`, `pruned`."""
    detail: str = ""


Fact: TypeAlias = IdentityFact | CredentialFact | ResourceFact | EdgeFact | OwnerFact | FindingFact | UseFact | Skipped
