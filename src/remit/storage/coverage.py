"""What coverage is measured from: names of identities with who showed them, and names of resources."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select

from remit.inventory.coverage import Named
from remit.storage.schema.inventory import (
    inventory_alias,
    inventory_identity,
    inventory_resource,
    inventory_sighting,
    inventory_source,
)

_PAGE = 5_000


class CoverageRows:
    """Streams over the registry in one connection."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn

    def named(self) -> Iterator[Named]:
        """Every name of an identity that is there; identities one after the other."""
        alias, identity = inventory_alias, inventory_identity
        query = (
            select(alias.c.name, alias.c.identity)
            .join(identity, identity.c.id == alias.c.identity)
            .where(identity.c.present, identity.c.merged_into.is_(None))
        )
        seen = self._seen_by()
        nobody: frozenset[str] = frozenset()
        for row in self._conn.execute(query.execution_options(yield_per=_PAGE)):
            yield Named(name=row.name, identity=row.identity, seen_by=seen.get(row.identity, nobody))

    def resources(self) -> Iterator[str]:
        """Names of the resources that are there."""
        table = inventory_resource
        yield from self._conn.scalars(select(table.c.name).where(table.c.present).execution_options(yield_per=_PAGE))

    def _seen_by(self) -> dict[str, frozenset[str]]:
        """Which connectors showed an identity, under any of its names. Sets are shared: there are few of them."""
        sighting, source, alias = inventory_sighting, inventory_source, inventory_alias
        query = (
            select(alias.c.identity, source.c.connector)
            .select_from(sighting)
            .join(source, source.c.id == sighting.c.source)
            .join(alias, alias.c.name == sighting.c.node)
            .where(sighting.c.kind == "identity")
            .distinct()
        )
        found: dict[str, frozenset[str]] = {}
        shared: dict[frozenset[str], frozenset[str]] = {}
        for row in self._conn.execute(query.execution_options(yield_per=_PAGE)):
            both = found.get(row.identity, frozenset()) | {row.connector}
            found[row.identity] = shared.setdefault(both, both)
        return found
