"""What the registry keeps: one record for each identity, credential and resource, joined from all sources."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

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
class ResourceFilter:
    """Which resources are listed; empty fields leave all."""

    text: str = ""
    system: str = ""
    sensitivity: str = ""
    unconfirmed: bool = False
    """Only those whose sensitivity nobody confirmed."""
    limit: int = 100
    offset: int = 0


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
    key: str = ""
    run: str = ""
    record_of: tuple[str, ...] = ()
    """Systems of which its source is the system of record."""

    @property
    def confidence(self) -> int:
        """0–100."""
        said = self.fact.get("confidence", 100)
        return said if isinstance(said, int) else 100


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
    confidence: int = 100


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
    at: datetime | None = None


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
    record_of: tuple[str, ...] = ()
    attempt: str = ""
    """Changes when a run is resumed: whoever was at it before is out."""
    asked: str = ""
    """Digest of what the run was asked to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRecord:
    """Why two names are one identity: who said so, where, and when."""

    name: str
    other: str
    how: str
    """`arn`, `spiffe-id`, `oidc-subject`, `e-mail`, `key-fingerprint`, `secret-fingerprint`, `name` or `hand`."""
    by: str
    """`connector:<name>`, or `person:<name>` for one by hand."""
    evidence: str
    since: datetime
    last_seen: datetime
    source: str | None = None
    confidence: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ApartRecord:
    """Two identities that no source may join again."""

    one: str
    other: str
    name: str
    by: str
    reason: str
    since: datetime


CONCLUDED: Final = "graph"
"""The connector of findings that Remit concludes from everything: no source is read for it, and it is not listed."""
COUNTED: Final = 10_000
"""How far the identities that match a filter are counted where it takes counting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityFilter:
    """Which identities to list. Empty fields do not restrict.

    Their number is exact up to `COUNTED`, or where none or one of kind, system, state, environment, unowned and
    privileged is given; `COUNTED` + 1 stands for more.
    """

    text: str = ""
    kind: str = ""
    state: str = ""
    system: str = ""
    environment: str = ""
    owner: str = ""
    unowned: bool = False
    privileged: bool = False
    exposed: bool = False
    finding: str = ""
    """With a finding of this rule, by the name that the finding is about; `*` in it stands for anything."""
    connector: str = ""
    """Shown by this connector."""
    tier: str = ""
    """`0` to `3`: of which a person said it; `none`: of which nobody said one."""
    service: str = ""
    autonomy: str = ""
    expires_before: datetime | None = None
    """With a credential that is active and ends, or has ended, before this."""
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
