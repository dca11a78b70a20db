"""Listing resources, and how sensitive a person said that they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, func, or_, select, update

from remit.inventory.model import Sensitivity
from remit.inventory.records import ResourceFilter, ResourceRecord
from remit.storage.inventory_codec import chunks, resource_of
from remit.storage.inventory_list import contains
from remit.storage.schema.inventory import inventory_resource


def list_resources(conn: Connection, wanted: ResourceFilter) -> tuple[list[ResourceRecord], int]:
    """One page in the order of names, and how many there are."""
    table = inventory_resource
    where: list[Any] = [table.c.present]
    if wanted.text:
        where.append(or_(contains(table.c.title, wanted.text), contains(table.c.name, wanted.text)))
    if wanted.sensitivity:
        where.append(table.c.sensitivity == wanted.sensitivity)
    if wanted.unconfirmed:
        where.append(~table.c.sensitivity_confirmed)
    if wanted.system:
        where.append(table.c.system == wanted.system)
    total = int(conn.scalar(select(func.count()).select_from(table).where(*where)) or 0)
    page = select(table).where(*where).order_by(table.c.name).limit(wanted.limit).offset(wanted.offset)
    return [resource_of(dict(row._mapping)) for row in conn.execute(page)], total


def confirm_sensitivity(conn: Connection, names: Iterable[str], sensitivity: Sensitivity | None) -> None:
    """Keep it whatever sources say; `None` leaves it to them again."""
    table = inventory_resource
    values: dict[str, object] = {"sensitivity_confirmed": sensitivity is not None}
    if sensitivity is not None:
        values["sensitivity"] = sensitivity.value
    for chunk in chunks(list(names)):
        conn.execute(update(table).where(table.c.name.in_(chunk)).values(**values))
