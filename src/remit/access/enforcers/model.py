"""Enforcement points in records: what one is registered for, and who asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from remit.kernel.canonical import Json, digest
from remit.kernel.clock import rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcer:
    """A registered enforcement point: it may ask about others. It counts only while `signature` verifies."""

    id: str
    """`ef_<ULID>`."""
    name: str
    spiffe_id: str
    """Who proves this SPIFFE ID is this point."""
    uid: int | None = None
    """Whoever connects a Unix socket as this user is this point too; `None` for nobody."""
    fulfils: tuple[str, ...] = ()
    """Kinds of obligation that it does itself: a permit that hangs on these alone is given to it."""
    vouches: tuple[str, ...] = ()
    """Names of proven facts of its own requests that it may state: it looked, and a person believes it."""
    resources: tuple[str, ...] = ()
    """`KIND/NAME`, or a prefix that ends in `*`: what it may ask about. Empty: every resource."""
    actions: tuple[str, ...] = ()
    """Actions, or prefixes that end in `*`. Empty: every action."""
    created: datetime
    created_by: str
    signature: str = ""

    def as_json(self) -> dict[str, Json]:
        """What its signature covers: everything but the signature."""
        return {
            "id": self.id,
            "name": self.name,
            "spiffe_id": self.spiffe_id,
            "uid": self.uid,
            "fulfils": list(self.fulfils),
            "vouches": list(self.vouches),
            "resources": list(self.resources),
            "actions": list(self.actions),
            "created": rfc3339(self.created),
            "created_by": self.created_by,
        }

    @property
    def digest(self) -> str:
        """`sha256:<hex>` over everything that it may."""
        return digest(self.as_json())

    def covers_action(self, action: str) -> bool:
        """Whether it may ask about this action at all."""
        return not self.actions or any(_matches(pattern, action) for pattern in self.actions)

    def covers_resource(self, names: Iterable[str]) -> bool:
        """Whether it may ask about the resource that has these names, those of what it is part of included."""
        return not self.resources or any(_matches(pattern, name) for name in names for pattern in self.resources)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks for a decision, as a listener derived it from proof: never what the request says of itself."""

    name: str
    """How records name it: `enforcer:NAME`, a SPIFFE ID, `local:uid:N`."""
    enforcer: Enforcer | None = None
    """The registered point that it is: it may ask about others."""
    identity: str = ""
    """The inventory's identity (`id_…`) that it is: about which anybody may ask for itself."""
    administrates: bool = False
    """An administrator of the installation: may ask about anybody, and gets no conditional permit."""
    proven: Mapping[str, Json] = field(default_factory=dict, repr=False)
    """What its own proof says of it: facts of a question about itself, and of no other."""

    @property
    def fulfils(self) -> frozenset[str]:
        """The kinds of obligation for which it gets a conditional permit."""
        enforcer = self.enforcer
        return frozenset(enforcer.fulfils) if enforcer is not None and enforcer.fulfils else _NONE


_NONE: Final[frozenset[str]] = frozenset()


def _matches(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
