"""What people say of identities, shown over what sources say: asked at each writing of their rows."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, select, update

from remit.governance.words import LENGTHS
from remit.storage.inventory_codec import chunks
from remit.storage.schema.governance_words import governance_tier_proposal, governance_word
from remit.storage.schema.inventory import inventory_identity


def lay_words(conn: Connection, identities: Iterable[str]) -> None:
    """Show of these what people said, whatever was just written of them."""
    table, own = governance_word, inventory_identity
    for chunk in chunks(sorted(set(identities))):
        query = select(table.c.identity, table.c.field, table.c.value).where(table.c.identity.in_(chunk))
        for row in conn.execute(query.where(table.c.field.in_(list(LENGTHS)))):
            conn.execute(update(own).where(own.c.id == row.identity).values(**{row.field: row.value}))


def follow_words(conn: Connection, younger: str, older: str) -> None:
    """What was said of an identity that is another by now: the other's own words count first; a tier is said again.

    `_kept_in_merge` keeps the tier.
    """
    table = governance_word
    taken = select(table.c.field).where(table.c.identity == older)
    conn.execute(
        delete(table).where(
            table.c.identity == younger, (table.c.field == "tier") | table.c.field.in_(list(conn.scalars(taken)))
        )
    )
    conn.execute(update(table).where(table.c.identity == younger).values(identity=older))
    proposals = governance_tier_proposal
    conn.execute(delete(proposals).where(proposals.c.identity.in_([younger, older])))
    lay_words(conn, [older])
