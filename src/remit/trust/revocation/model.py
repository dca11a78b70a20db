"""Revocations in records: what is named, what falls with it, and what stays blocked until it is restored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from remit.kernel.canonical import Json
from remit.kernel.clock import parse_rfc3339, rfc3339
from remit.kernel.errors import Rejected
from remit.kernel.ids import is_id
from remit.trust.model import Issued
from remit.trust.spiffe import SpiffeId

MAX_REASON = 1000
_SERIAL = re.compile(r"[0-9a-f]{1,40}")
_TOKEN_ID = re.compile(r"[A-Za-z0-9_.~-]{8,64}")
_LOOSE = re.compile(r"[^\x00-\x1f\x7f]{1,256}")
_PREFIXES = {"en": "entry", "ag": "agent", "au": "authority", "gr": "grant"}


class SubjectKind(StrEnum):
    """What can be revoked."""

    SERIAL = "serial"
    """One X.509-SVID, by its serial in hexadecimal."""
    JTI = "jti"
    """One JWT-SVID, access token or transaction token."""
    SPIFFE = "spiffe"
    """Everything of one SPIFFE ID."""
    ENTRY = "entry"
    IDENTITY = "identity"
    AGENT = "agent"
    """An agent, and everything that went through it."""
    NODE = "node"
    """Every agent of one host."""
    AUTHORITY = "authority"
    """Everything that one authority signed; it leaves the bundle."""
    GRANT = "grant"
    OWNER = "owner"
    """Every identity that a person or a team answers for."""


SINGLE = frozenset({SubjectKind.SERIAL, SubjectKind.JTI})
"""One thing: the workload gets its successor at once."""
BLOCKING = frozenset(SubjectKind) - SINGLE - {SubjectKind.AUTHORITY}
"""Nothing more is issued to these until they are restored."""
GROUPS = frozenset({SubjectKind.NODE, SubjectKind.OWNER})
"""These stand for others, which are found in the unit of work that revokes them."""
FIELD: Mapping[SubjectKind, str] = {
    SubjectKind.SERIAL: "id",
    SubjectKind.JTI: "id",
    SubjectKind.SPIFFE: "spiffe_id",
    SubjectKind.ENTRY: "entry",
    SubjectKind.IDENTITY: "identity",
    SubjectKind.AGENT: "agent",
    SubjectKind.AUTHORITY: "authority",
    SubjectKind.GRANT: "grant",
}
"""The field of `Issued` by which each kind is found."""


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """What a revocation names. `str` gives the form that `parse` reads."""

    kind: SubjectKind
    value: str

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Read `serial:…`, `jti:…`, `spiffe://…`, `entry:…`, `identity:…`, `agent:…`, `node:…`, `authority:…`,
        `grant:…`, `owner:…`, or a bare `en_…`, `ag_…`, `au_…`, `gr_…`. An identity, node or owner is any name of it.

        Raises `Rejected` (`trust.revocation.subject`).
        """
        if text[:9].lower() == "spiffe://":
            return cls(SubjectKind.SPIFFE, str(SpiffeId.parse(text)))
        kind, colon, value = text.partition(":")
        if not colon and (bare := _PREFIXES.get(text[:2])) is not None and text[2:3] == "_":
            kind, value = bare, text
        if kind not in _READERS:
            raise _malformed(text)
        value = value.strip()
        if kind == "serial":
            value = value.replace(":", "").lower().removeprefix("0x")
            value = value.lstrip("0") or value[:1]
        if not _READERS[kind](value):
            raise _malformed(text)
        return cls(SubjectKind(kind), value)

    def __str__(self) -> str:
        return self.value if self.kind is SubjectKind.SPIFFE else f"{self.kind.value}:{self.value}"


_READERS: Mapping[str, Callable[[str], bool]] = {
    "serial": lambda value: _SERIAL.fullmatch(value) is not None,
    "jti": lambda value: _TOKEN_ID.fullmatch(value) is not None,
    "entry": lambda value: is_id("en", value),
    "agent": lambda value: is_id("ag", value),
    "authority": lambda value: is_id("au", value),
    "grant": lambda value: is_id("gr", value),
    "identity": lambda value: len(value) <= 2048 and bool(value) and value.isprintable(),
    "node": lambda value: _LOOSE.fullmatch(value) is not None,
    "owner": lambda value: _LOOSE.fullmatch(value) is not None,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallen:
    """One thing that was handed out and counts no more."""

    id: str
    kind: str
    authority: str = ""
    status: str = ""
    """Its place in a status list (`LIST/INDEX`), where it has one."""
    revocation: str
    at: datetime
    expires: datetime

    @classmethod
    def of(cls, issued: Issued, revocation: str, at: datetime) -> Fallen:
        """What is kept of it once it is revoked."""
        return cls(
            id=issued.id, kind=issued.kind, authority=issued.authority, status=issued.status,
            revocation=revocation, at=at, expires=issued.expires,
        )  # fmt: skip

    def as_json(self) -> list[Json]:
        """What the journal says of it; `revocation` and `at` are those of the event."""
        return [self.id, self.kind, self.authority, self.status, rfc3339(self.expires)]

    @classmethod
    def parse(cls, row: Sequence[Json], revocation: str, at: datetime) -> Fallen:
        """Read what `as_json` wrote."""
        id, kind, authority, status, expires = map(str, row)
        return cls(
            id=id, kind=kind, authority=authority, status=status, revocation=revocation, at=at,
            expires=parse_rfc3339(expires),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """One use of the verb. What it covers and was issued until `cutoff` counts no more; see `holds`."""

    id: str
    version: int
    """Rises with each revocation and restoration; never used twice."""
    subject: Subject
    members: tuple[Subject, ...]
    """What it covers: itself, or what a group or an identity stands for."""
    reason: str
    actor: str
    at: datetime
    until: datetime
    """When the last thing that it covers runs out by itself."""
    blocks: bool
    """Whether nothing is issued to its members until it is restored."""
    fell: Mapping[str, int]
    """How many of each kind."""
    kept: bool = True
    """Whether the journal of authority keeps it; not for a token that its own holder gave back."""
    restored_at: datetime | None = None
    restored_by: str = ""
    signature: str = ""
    """Of the restoration: without it, `restored_at` says nothing."""

    @property
    def holds(self) -> bool:
        """Whether its members get nothing now."""
        return self.blocks and self.restored_at is None

    @property
    def cutoff(self) -> datetime:
        """What was issued up to here falls under it, even after it was restored."""
        return self.restored_at or self.at

    def restoration(self) -> dict[str, Json]:
        """What `signature` covers."""
        return {
            "id": self.id,
            "restored_at": rfc3339(self.restored_at) if self.restored_at else None,
            "restored_by": self.restored_by,
        }

    def as_json(self) -> dict[str, Json]:
        """What the ledger says when it is made, members apart."""
        return {
            "id": self.id,
            "version": self.version,
            "subject": str(self.subject),
            "reason": self.reason,
            "actor": self.actor,
            "at": rfc3339(self.at),
            "until": rfc3339(self.until),
            "blocks": self.blocks,
            "fell": dict(self.fell),
        }

    @classmethod
    def parse(cls, said: Mapping[str, Json], members: Sequence[Json]) -> Revocation:
        """Read what `as_json` wrote, from a source that is believed."""
        fell, version = said["fell"], said["version"]
        assert isinstance(fell, Mapping)
        assert isinstance(version, int)
        return cls(
            id=str(said["id"]),
            version=version,
            subject=Subject.parse(str(said["subject"])),
            members=tuple(Subject.parse(str(one)) for one in members),
            reason=str(said["reason"]),
            actor=str(said["actor"]),
            at=parse_rfc3339(str(said["at"])),
            until=parse_rfc3339(str(said["until"])),
            blocks=bool(said["blocks"]),
            fell={kind: int(str(number)) for kind, number in fell.items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a revocation does, or, as a dry run, would do."""

    members: tuple[Subject, ...]
    fallen: tuple[Issued, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many fall, by kind."""
        found: dict[str, int] = {}
        for one in self.fallen:
            found[one.kind] = found.get(one.kind, 0) + 1
        return dict(sorted(found.items()))

    @property
    def identities(self) -> tuple[str, ...]:
        """Ids of the identities that it touches, sorted."""
        named = {one.value for one in self.members if one.kind is SubjectKind.IDENTITY}
        return tuple(sorted(named | {one.identity for one in self.fallen if one.identity}))

    @property
    def identities_named(self) -> frozenset[str]:
        """Those that are revoked themselves: their leases end too."""
        return frozenset(one.value for one in self.members if one.kind is SubjectKind.IDENTITY)

    @property
    def grants_named(self) -> frozenset[str]:
        """As `identities_named`."""
        return frozenset(one.value for one in self.members if one.kind is SubjectKind.GRANT)


def _malformed(text: str) -> Rejected:
    return Rejected(
        "trust.revocation.subject",
        f"`{ascii(text)[1:-1][:200]}` names nothing that can be revoked",
        next_step="give `serial:HEX`, `jti:ID`, `spiffe://…`, `entry:…`, `identity:…`, `agent:…`, `node:…`, "
        "`authority:…`, `grant:…` or `owner:NAME`",
    )
