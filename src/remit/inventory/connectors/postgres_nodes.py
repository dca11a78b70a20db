"""Nodes and edges of one PostgreSQL server: how its roles, groups and things are called in the access graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from remit.inventory.model import Attribute, EdgeFact, IdentityFact, IdentityKind, Place, Relation
from remit.kernel.ids import Name, name, parse_name
from remit.providers.postgres.script import quote_identifier

PUBLIC_GROUP: Final = "public"
SUPERUSERS: Final = "superusers"
ROLE_MAKERS: Final = "role makers"
_LONGEST: Final = 1500


class Nodes:
    """Names of what one server has."""

    def __init__(self, instance: str) -> None:
        self._instance = instance

    @property
    def system(self) -> str:
        return f"postgres/{self._instance}"

    def place(self, path: str) -> Place:
        return Place(system=self.system, path=path)

    def role(self, role: str) -> Name:
        return name("postgres", self._instance, "role", role)

    def rights(self, role: str) -> Name:
        """What a role is allowed, without the power to become it: what `INHERIT TRUE, SET FALSE` gives."""
        return name("postgres", self._instance, "rights", role)

    def inside(self, database: str, node: Name) -> Name:
        """The same role or group, connected to a database that does not let everybody connect."""
        return name("postgres", self._instance, "inside", f"{database}/{node.split(':', 4)[4]}")

    def group(self, local: str) -> Name:
        return name("postgres", self._instance, "group", local)

    def resource(self, kind: str, path: str) -> Name:
        return name("postgres", self._instance, noun(kind), path)

    @property
    def host(self) -> Name:
        return name("postgres", self._instance, "server", self._instance)

    @property
    def account(self) -> Name:
        """The account of the operating system under which the server runs."""
        return name("postgres", self._instance, "account", "server")

    def group_fact(self, node: Name, title: str, place: Place, *, privileged: bool = False) -> IdentityFact:
        attributes: dict[str, Attribute] = {"can_login": False, "privileged": privileged}
        return IdentityFact(name=node, kind=IdentityKind.GROUP, title=title, place=place, attributes=attributes)

    def inside_fact(self, node: Name, database: str, place: Place) -> IdentityFact:
        """What describes a node made by `inside`."""
        parts = parse_name(node)
        local = parts[3].partition("/")[2] if parts else node
        return self.group_fact(node, f"{local.partition(':')[2]} in database {database}", place)

    def edge(
        self,
        source: Name,
        relation: Relation,
        target: Name,
        evidence: str,
        place: Place,
        *,
        actions: Iterable[str] = (),
        conditions: Iterable[str] = (),
        cut: str = "",
    ) -> EdgeFact:
        return EdgeFact(
            source=source, relation=relation, target=target, evidence=evidence[:_LONGEST], place=place,
            actions=tuple(actions), conditions=tuple(conditions), cut=cut,
        )  # fmt: skip


def noun(kind: str) -> str:
    """One word for what is read and written like a table, so that a name does not depend on how it is made."""
    return "table" if kind in ("view", "materialized-view", "foreign-table") else kind


def sql_name(*parts: str) -> str:
    """A dotted name, each part quoted."""
    return ".".join(quote_identifier(part) for part in parts)


def merged(edges: Iterable[EdgeFact]) -> Iterator[EdgeFact]:
    """One edge for each source, relation, target and set of conditions, with the actions and cuts of all."""
    found: dict[tuple[str, str, str, tuple[str, ...]], EdgeFact] = {}
    for edge in edges:
        if edge.source == edge.target:
            continue
        key = (edge.source, edge.relation.value, edge.target, edge.conditions)
        there = found.get(key)
        found[key] = edge if there is None else _joined(there, edge)
    return iter(found.values())


def _joined(one: EdgeFact, other: EdgeFact) -> EdgeFact:
    return replace(
        one,
        actions=tuple(dict.fromkeys((*one.actions, *other.actions))),
        evidence=_listed((one.evidence, other.evidence)),
        # What the owner takes back may take a grantor's right to take back: the grantor goes first.
        cut=_listed(sorted((one.cut, other.cut), key=lambda each: not each.startswith("SET ROLE"))),
    )


def _listed(texts: Sequence[str]) -> str:
    first, second = texts
    if not second or second in first.split("; "):
        return first
    # Whole statements only: half of one would not do what it says.
    return f"{first}; {second}" if first and len(first) + len(second) < _LONGEST else first or second
