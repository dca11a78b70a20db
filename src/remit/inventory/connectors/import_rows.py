"""The rows of a file to import, as structs: they decide what is accepted; the published schema is made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from remit.inventory.connectors.files.keys import sha256
from remit.inventory.connectors.files.sheet import clean
from remit.inventory.model import (
    CredentialFact,
    CredentialKind,
    EdgeFact,
    Fact,
    IdentityFact,
    IdentityKind,
    OwnerFact,
    Place,
    Relation,
    ResourceFact,
    Sensitivity,
)
from remit.kernel.ids import Name, credential_name, name

Word = Annotated[str, Meta(min_length=1, max_length=300, description="a name of the system")]
Line = Annotated[str, Meta(max_length=500)]
Attributes = Annotated[dict[str, str | int | bool | None], Meta(max_length=60)]
Aware = Annotated[datetime, Meta(tz=True)]
Fingerprint = Annotated[str, Meta(pattern=r"^(sha256|hmac):[0-9a-f]{64}$")]


class IdentityRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine identity. `name` is unique in the system; others of the file refer to it."""

    name: Word
    kind: IdentityKind = IdentityKind.SERVICE_ACCOUNT
    title: Line = ""
    aliases: Annotated[list[Word], Meta(max_length=50)] = []
    """Other names of it in the same system."""
    attributes: Attributes = {}


class CredentialRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What proves an identity: by `fingerprint`, `key_id` (public), or `secret`, which becomes a fingerprint."""

    identity: Word
    kind: CredentialKind
    title: Line = ""
    fingerprint: Fingerprint | None = None
    key_id: Annotated[str, Meta(max_length=300)] | None = None
    secret: Annotated[str, Meta(min_length=8, max_length=65536)] | None = None
    issued: Aware | None = None
    expires: Aware | None = None
    last_used: Aware | None = None
    manager: Annotated[str, Meta(max_length=100)] | None = None
    attributes: Attributes = {}

    def __repr__(self) -> str:
        return f"CredentialRow(identity={self.identity!r})"


class ResourceRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that can be reached."""

    name: Word
    kind: Word
    title: Line = ""
    sensitivity: Sensitivity | None = None
    attributes: Attributes = {}


class EntitlementRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`identity` may do `actions` to `resource`, or become `becomes` by `relation`."""

    identity: Word
    resource: Word | None = None
    becomes: Word | None = None
    relation: Relation = Relation.CAN_REACH
    actions: Annotated[list[Word], Meta(max_length=200)] = []
    conditions: Annotated[list[Line], Meta(max_length=50)] = []
    evidence: Line = ""
    cut: Line = ""


class OwnerRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who seems to answer for an identity."""

    identity: Word
    owner: Word
    evidence: Line = ""
    confidence: Annotated[int, Meta(ge=0, le=100)] = 60
    method: Literal["label", "ticket", "editor"] = "label"
    at: Aware | None = None


Row: TypeAlias = IdentityRow | CredentialRow | ResourceRow | EntitlementRow | OwnerRow
KINDS: Final[dict[str, type[Any]]] = {
    "identity": IdentityRow,
    "credential": CredentialRow,
    "resource": ResourceRow,
    "entitlement": EntitlementRow,
    "owner": OwnerRow,
}


class ImportFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole file (JSON or YAML). In JSON lines each line is one row, with `row` (its sort) beside its fields."""

    system: Annotated[str, Meta(pattern="^[a-z][a-z0-9-]{1,39}$")]
    instance: Annotated[str, Meta(pattern="^[A-Za-z0-9_.:-]{1,100}$")] = "default"
    identities: list[IdentityRow] = []
    credentials: list[CredentialRow] = []
    resources: list[ResourceRow] = []
    entitlements: list[EntitlementRow] = []
    owners: list[OwnerRow] = []


def schema() -> dict[str, Any]:
    """The published JSON Schema of a file."""
    made = msgspec.json.schema(ImportFile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Remit import file", **made}


def facts_of_row(
    row: Row, system: str, instance: str, where: str, line: int | None, fingerprint: Callable[[bytes], str]
) -> Iterator[Fact]:
    """The facts of a row; `ValueError` says in words what of it cannot be."""
    place = Place(system=f"import:{system}", path=where, line=line)

    def called(kind: str, local: str) -> Name:
        return name(system, instance, kind, clean(local, 300))

    def who(local: str) -> Name:
        return called("identity", local)

    match row:
        case IdentityRow():
            yield IdentityFact(
                name=who(row.name), kind=row.kind, title=clean(row.title or row.name), place=place,
                aliases=tuple(who(each) for each in row.aliases),
                attributes={clean(k, 60): clean(v) if isinstance(v, str) else v for k, v in row.attributes.items()},
            )  # fmt: skip
        case CredentialRow():
            known = _fingerprint(row, system, instance, fingerprint)
            title = clean(row.title or f"{row.kind.value} of {row.identity}")
            if row.secret and row.secret in title:
                raise ValueError("title: it holds the secret")
            yield CredentialFact(
                fingerprint=known, kind=row.kind, title=title, place=place, identity=who(row.identity),
                issued=row.issued, expires=row.expires, last_used=row.last_used, manager=row.manager,
                attributes={
                    clean(k, 60): clean(v) if isinstance(v, str) else v
                    for k, v in row.attributes.items() if row.secret is None or v != row.secret
                },
            )  # fmt: skip
            yield EdgeFact(
                source=credential_name(known), relation=Relation.SECRET_OF, target=who(row.identity),
                evidence=f"said by {where}", place=place,
            )  # fmt: skip
        case ResourceRow():
            yield ResourceFact(
                name=called("resource", row.name), kind=clean(row.kind, 60), title=clean(row.title or row.name),
                place=place, sensitivity=row.sensitivity,
                attributes={clean(k, 60): clean(v) if isinstance(v, str) else v for k, v in row.attributes.items()},
            )  # fmt: skip
        case EntitlementRow():
            if (row.resource is None) == (row.becomes is None):
                raise ValueError("resource, becomes: an entitlement has one of them")
            yield EdgeFact(
                source=who(row.identity),
                relation=Relation.ASSUME if row.becomes and row.relation is Relation.CAN_REACH else row.relation,
                target=who(row.becomes) if row.becomes else called("resource", row.resource or ""),
                evidence=clean(row.evidence or f"said by {where}"), place=place, actions=tuple(row.actions),
                conditions=tuple(clean(each) for each in row.conditions), cut=clean(row.cut, 500),
            )  # fmt: skip
        case OwnerRow():
            yield OwnerFact(
                identity=who(row.identity), owner=clean(row.owner, 200), method=row.method, at=row.at,
                evidence=clean(row.evidence or f"said by {where}"), confidence=row.confidence, place=place,
            )  # fmt: skip


def _fingerprint(row: CredentialRow, system: str, instance: str, fingerprint: Callable[[bytes], str]) -> str:
    given = [each for each in (row.fingerprint, row.key_id, row.secret) if each]
    if len(given) != 1:
        raise ValueError("fingerprint, key_id, secret: a credential has one of them")
    if row.secret:
        return fingerprint(row.secret.encode())
    if row.fingerprint:
        return row.fingerprint
    # A key id is public; an AWS one names the same key that other connectors see.
    key = row.key_id or ""
    return sha256(
        key.encode() if re.fullmatch(r"A(?:KIA|SIA)[A-Z2-7]{16}", key) else f"{system}:{instance}:{key}".encode()
    )
