"""Which rights stand: what an identity of the registry can do at any time, by a credential that no task ends.

A right counts when it is privileged: it administers, it changes, or it reads what is confidential or restricted.
Rights that come by groups and roles count as the membership by which they come, at the level of the worst below.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from remit.access.brokers.principals import PRINCIPAL
from remit.governance.standing.model import RANK, Level, Right
from remit.inventory.model import IdentityKind, Relation, Sensitivity, State
from remit.inventory.records import CredentialRecord, EdgeRecord, IdentityRecord, ResourceRecord

_IN_SERVICE: Final = frozenset({State.REQUESTED, State.ACTIVE, State.ROTATING})
_SENSITIVE: Final = frozenset({Sensitivity.CONFIDENTIAL, Sensitivity.RESTRICTED})
_BY_THEMSELVES: Final = frozenset(
    {IdentityKind.SERVICE_ACCOUNT, IdentityKind.UNIX_ACCOUNT, IdentityKind.BOT, IdentityKind.VENDOR}
)
"""Kinds that act though the registry knows no credential of theirs: the platform gives them one at any time."""
_NEVER: Final = frozenset(
    {IdentityKind.TASK, IdentityKind.GROUP, IdentityKind.CLOUD_GROUP, IdentityKind.CLOUD_ROLE, IdentityKind.UNBOUND}
)
"""Kinds that nobody logs in as: their rights count with who holds them."""
_UP: Final = frozenset({Relation.MEMBER_OF.value, Relation.ASSUME.value, Relation.IMPERSONATE.value})
_HARMLESS: Final = frozenset(
    {"usage", "connect", "execute", "temporary", "temp", "authenticate", "default", "set role"}
)
_ADMINISTERS: Final = frozenset(
    {"*", "all", "owner", "grant", "root", "escalate", "bind", "impersonate", "admin", "administer", "*:*"}
)
_READS: Final = re.compile(
    r"(?:[\w-]+:)?(?:select|get|list|watch|describe|head|read|view|scan|query|batchget)[\w*-]*|read_all_data|read_.*"
    r"|[\w-]+: ?read", re.IGNORECASE
)  # fmt: skip
_OF_SERVER: Final = re.compile(r"(?:execute|write|read)_server_\w+|checkpoint|maintain|signal_\w+|create_subscription")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """What the registry knows, read in one unit of work."""

    identities: Mapping[str, IdentityRecord]
    ids: Mapping[str, str]
    """Every name → identity id."""
    credentials: Mapping[str, Sequence[CredentialRecord]]
    """By identity."""
    resources: Mapping[str, ResourceRecord]
    edges: Sequence[EdgeRecord]


def standing_rights(registry: Registry, now: datetime) -> list[Right]:
    """Every privileged right that stands, in the order of identity and head. Pure."""
    by_tail: dict[str, list[EdgeRecord]] = defaultdict(list)
    for edge in registry.edges:
        by_tail[registry.ids.get(edge.tail, edge.tail)].append(edge)
    worst = _Worst(registry, by_tail)
    found: dict[tuple[str, str], Right] = {}
    for record in registry.identities.values():
        if not stands(record, registry.credentials.get(record.id, ()), now):
            continue
        for edge in by_tail.get(record.id, ()):
            level = worst.of_edge(edge)
            if level is None and record.privileged and edge.relation == Relation.CAN_REACH.value and edge.actions:
                level = level_of(edge.actions, None)
            if level is None:
                continue
            key = (record.id, edge.head)
            held = found.get(key)
            actions = set(edge.actions or (edge.relation,)) | set(held.actions if held else ())
            if held is not None and RANK[held.level] < RANK[level]:
                level = held.level
            found[key] = Right(
                identity=record.id, head=edge.head, level=level, actions=tuple(sorted(actions)), seen=record.last_seen
            )
    return [found[key] for key in sorted(found)]


def stands(record: IdentityRecord, credentials: Iterable[CredentialRecord], now: datetime) -> bool:
    """Whether it can act without a task's grant: something of its own admits it at any time."""
    if not record.present or record.merged_into is not None or record.state not in _IN_SERVICE:
        return False
    if record.kind in _NEVER or PRINCIPAL.fullmatch(record.title) is not None:
        return False
    known = [each for each in credentials if each.manager != "remit"]
    if known:
        return any(_is_live(each, now) for each in known)
    can_login = record.attributes.get("can_login")
    if can_login is not None:
        return bool(can_login)
    return record.kind in _BY_THEMSELVES


def level_of(actions: Sequence[str], sensitivity: Sensitivity | None) -> Level | None:
    """What actions on one resource are worth; `None` for what is no privilege."""
    level: Level | None = None
    for action in actions:
        word = action.lower()
        if word in _ADMINISTERS or word.endswith(":*") or _OF_SERVER.fullmatch(word):
            return Level.ADMINISTER
        if word in _HARMLESS:
            continue
        if _READS.fullmatch(word):
            if sensitivity in _SENSITIVE and level is None:
                level = Level.READ_SENSITIVE
        else:
            level = Level.CHANGE
    return level


def _is_live(credential: CredentialRecord, now: datetime) -> bool:
    ended = credential.expires is not None and credential.expires <= now
    return credential.present and credential.state != "revoked" and not ended


class _Worst:
    """The worst level that is reached through a node; each node is looked at once, and cycles end."""

    def __init__(self, registry: Registry, by_tail: Mapping[str, Sequence[EdgeRecord]]) -> None:
        self._registry = registry
        self._by_tail = by_tail
        self._known: dict[str, Level | None] = {}

    def of_edge(self, edge: EdgeRecord) -> Level | None:
        if edge.relation == Relation.CAN_REACH.value:
            resource = self._registry.resources.get(edge.head)
            return level_of(edge.actions, resource.sensitivity if resource else None)
        if edge.relation not in _UP:
            return None
        if edge.relation == Relation.ASSUME.value and "GRANT" in edge.actions:
            return Level.ADMINISTER
        return self._of_node(self._registry.ids.get(edge.head, edge.head))

    def _of_node(self, start: str) -> Level | None:
        if start in self._known:
            return self._known[start]
        worst: Level | None = None
        seen, waiting = {start}, [start]
        while waiting and worst is not Level.ADMINISTER:
            for edge in self._by_tail.get(waiting.pop(), ()):
                if edge.relation in _UP:
                    head = self._registry.ids.get(edge.head, edge.head)
                    if head not in seen:
                        seen.add(head)
                        waiting.append(head)
                elif edge.relation == Relation.CAN_REACH.value:
                    level = self.of_edge(edge)
                    if level is not None and (worst is None or RANK[level] < RANK[worst]):
                        worst = level
        self._known[start] = worst
        return worst
