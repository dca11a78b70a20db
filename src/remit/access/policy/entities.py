"""Entities as a policy sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from remit.access.policy.values import Uid, Value, to_json

NOTHING: Mapping[str, Value] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityView:
    """One entity: attributes, tags, and the closure of its ancestors, itself included."""

    uid: Uid
    ancestors: frozenset[Uid]
    attributes: Mapping[str, Value] = field(default_factory=dict)
    tags: Mapping[str, Value] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The entity in Cedar's JSON; its parents are all its ancestors."""
        return {
            "uid": {"type": self.uid.type, "id": self.uid.id},
            "attrs": {name: to_json(value) for name, value in self.attributes.items()},
            "parents": [{"type": up.type, "id": up.id} for up in sorted(self.ancestors) if up != self.uid],
            "tags": {name: to_json(value) for name, value in self.tags.items()},
        }


def missing(uid: Uid) -> EntityView:
    """What a policy sees of an entity that nobody knows: its name alone."""
    return EntityView(uid=uid, ancestors=frozenset((uid,)))


class EntitySource(Protocol):
    """Where policies look up entities other than those of the request."""

    def entity(self, uid: Uid) -> EntityView | None: ...


@dataclass(frozen=True, slots=True)
class EntityTable:
    """Entities in a mapping."""

    rows: Mapping[Uid, EntityView]

    def entity(self, uid: Uid) -> EntityView | None:
        return self.rows.get(uid)
