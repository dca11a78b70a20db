"""What the registry keeps: one record for each identity, credential and resource, joined from all sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from remit.inventory.model import Attribute, IdentityKind, Sensitivity, Skipped, State
from remit.kernel.canonical import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRecord:
    """A non-human identity. `owner` is a fact (claimed or assigned), never a proposal."""

    id: str
    name: str
    kind: IdentityKind
    title: str
    system: str
    instance: str
    state: State
    first_seen: datetime
    last_seen: datetime
    owner: str | None = None
    environment: str | None = None
    service: str | None = None
    purpose: str | None = None
    autonomy: str | None = None
    tier: int | None = None
    privileged: bool = False
    created: datetime | None = None
    last_used: datetime | None = None
    present: bool = True
    merged_into: str | None = None
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRecord:
    """What proves an identity; `exposed` when its secret lies outside a manager."""

    fingerprint: str
    identity: str
    kind: str
    title: str
    state: str
    first_seen: datetime
    last_seen: datetime
    issued: datetime | None = None
    expires: datetime | None = None
    last_used: datetime | None = None
    manager: str | None = None
    exposed: bool = False
    present: bool = True
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRecord:
    """Something that can be reached. A sensitivity that only a source claims is not `sensitivity_confirmed`."""

    name: str
    kind: str
    title: str
    system: str
    first_seen: datetime
    last_seen: datetime
    sensitivity: Sensitivity | None = None
    sensitivity_confirmed: bool = False
    present: bool = True
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SightingRecord:
    """One fact, as one source said it."""

    source: str
    connector: str
    kind: str
    node: str
    place: str
    first_seen: datetime
    last_seen: datetime
    fact: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeRecord:
    """An edge of the access graph with its evidence."""

    tail: str
    relation: str
    head: str
    actions: tuple[str, ...]
    conditions: tuple[str, ...]
    evidence: str
    place: str
    cut: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingRecord:
    """Something wrong that a source shows now."""

    id: str
    rule: str
    severity: str
    title: str
    detail: str
    next_step: str
    place: str
    first_seen: datetime
    last_seen: datetime
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerProposal:
    """Evidence that somebody answers for an identity."""

    identity: str
    owner: str
    method: str
    evidence: str
    confidence: int
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRecord:
    """A source and its last run."""

    id: str
    connector: str
    instance: str
    scope: str
    run: str
    started: datetime
    finished: datetime | None
    counts: Mapping[str, int]
    skipped: tuple[Mapping[str, Json], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFilter:
    """Which identities to list. Empty fields do not restrict."""

    text: str = ""
    kind: str = ""
    state: str = ""
    system: str = ""
    environment: str = ""
    owner: str = ""
    unowned: bool = False
    privileged: bool = False
    exposed: bool = False
    include_gone: bool = False
    sort: str = "title"
    descending: bool = False
    limit: int = 50
    offset: int = 0


SORTABLE = ("title", "kind", "system", "environment", "owner", "state", "tier", "last_used", "first_seen", "last_seen")
"""Fields by which identities can be sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one run, or one batch of it, showed."""

    facts: Mapping[str, int] = field(default_factory=dict)
    identities_new: int = 0
    identities_joined: int = 0
    credentials_new: int = 0
    findings_new: int = 0
    refused: tuple[Skipped, ...] = ()
    """Facts that cannot be kept."""
