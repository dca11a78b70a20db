"""Listing a million identities: by an index for each order, and never counting further than somebody reads.

A filter that few identities pass is answered by its own index and sorted; one that many pass by walking the order and
stopping when the page is full. Which of the two it is, the bounded count says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Column, Connection, Select, String, func, literal, literal_column, or_, select, tuple_

from remit.inventory.records import COUNTED, SORTABLE, IdentityFilter, IdentityRecord
from remit.storage.inventory_codec import identity_of
from remit.storage.inventory_search import FEW, MANY, Found, among, by_shelf, candidates, sample
from remit.storage.inventory_trigrams import holding, plan_each
from remit.storage.schema.inventory import (
    inventory_alias,
    inventory_credential,
    inventory_finding,
    inventory_identity,
    inventory_sighting,
    inventory_source,
    inventory_tally,
)

_TABLE = inventory_identity
_SPARSE = 2_000
"""Up to so many matches are sorted; more lie close enough in any order to be walked to."""
_MANY_OF_ONE = 100_000
_WALKED = 8
"""So many rows are passed on a walk in the time in which one candidate is read."""
_SORTED = COUNTED
"""Up to so many matches PostgreSQL sorts at once."""
_PROBED = 10_000
"""So many rows it passes on a walk before it sorts: a text that says the same as the order may be at its end."""
_SAME = ("+ 0", "|| ''")
"""What leaves a number, or a text, as it is."""
_BY_VALUE = ("kind", "state", "system", "environment", "owner")
_OF_WORDS = ("service", "autonomy")
TIERS = ("0", "1", "2", "3")
_FLAGS = ("unowned", "privileged", "exposed")


def list_identities(conn: Connection, wanted: IdentityFilter) -> tuple[list[IdentityRecord], int]:
    """One page, and how many there are (see `IdentityFilter`)."""
    if "\0" in wanted.text:
        return [], 0  # no row can hold it
    if wanted.text and conn.dialect.name == "postgresql":
        ids, total = _held(conn, wanted)
        return _records(conn, ids), total
    found = candidates(conn, wanted.text) if wanted.text else None
    ids, total = _listed(conn, wanted) if found is None else _searched(conn, wanted, found)
    return _records(conn, ids), total


def _records(conn: Connection, ids: list[str]) -> list[IdentityRecord]:
    rows = conn.execute(select(_TABLE).where(_TABLE.c.id.in_(ids)))
    records = {row.id: identity_of(row._asdict()) for row in rows}
    return [records[each] for each in ids]


def _listed(conn: Connection, wanted: IdentityFilter) -> tuple[list[str], int]:
    """The page of a filter without a text, or with one that no index knows."""
    total = _tally(conn, wanted)
    # One index has all that is filtered by; only a kind begins it, and an owner has few.
    hidden = () if wanted.owner else ("system", "environment", "state", "owner")
    where = conditions(wanted, _columns(conn, hidden))
    if total is None:
        total = _counted(conn, where, COUNTED + 1)
    return _few(conn, wanted, where) if total <= _SPARSE else _walk(conn, wanted, []), total


def _searched(conn: Connection, wanted: IdentityFilter, found: Found) -> tuple[list[str], int]:
    """The page of a text that the index knows.

    Few candidates are looked at and sorted. Of many, each that also passes a narrower filter is; else they are read in
    the order of titles as the index has them, or another order is walked along, each row asked whether it is one.
    """
    if not found.number:
        return [], 0
    everybody = _tally(conn, IdentityFilter()) or 1
    lead, passing = _lead(conn, wanted)
    by_id = wanted.exposed or wanted.finding or wanted.expires_before
    if found.number <= FEW or wanted.include_gone or (lead == "" and not by_id):
        where = [among(found, look_up=True), *conditions(wanted, _columns(conn, (*_BY_VALUE, "id")))]
        total = _counted(conn, where, COUNTED + 1)
        sort = found.number <= FEW or total <= _SPARSE
    else:
        named = [among(found, look_up=False)] if found.number <= MANY else []
        where = named + conditions(wanted, _columns(conn, [each for each in _BY_VALUE if each != lead]))
        if lead is None:
            rows = by_shelf(found, _TABLE.c.id).where(*conditions(wanted, _columns(conn, _BY_VALUE)))
            total = _number_of(conn, rows.order_by(None).limit(COUNTED + 1))
        else:
            total = _counted(conn, where, COUNTED + 1)
        sort = total <= _SPARSE
    if sort:
        return _few(conn, wanted, where), total
    last = wanted.offset + wanted.limit
    matching = min(found.number if lead is None else found.number * passing // everybody, found.number)
    matching = max(1, matching if total > COUNTED else total)  # about so many, where they are not counted
    read = last * found.number // matching
    if _sort(wanted) == "title" and read <= FEW:
        return _along(conn, wanted, found), total
    if found.number > MANY:
        return _walk(conn, wanted, []), total
    sorting = found.number * _WALKED if lead is None else passing + matching * _WALKED
    if last * everybody // matching > sorting or _far(conn, wanted, found, sorting):
        return _few(conn, wanted, [among(found, look_up=True), *where[1:]] if lead is None else where), total
    return _walk(conn, wanted, [among(found, look_up=False)]), total


def _held(conn: Connection, wanted: IdentityFilter) -> tuple[list[str], int]:
    """The page of a text on PostgreSQL, which chooses by itself how to find it.

    Many matches lie close in most orders: they are walked to, but not far. Else all are found, then sorted.
    """
    plan_each(conn)
    asked, rest = [holding(wanted.text)], replace(wanted, text="")
    if "\n" in wanted.text:
        asked.append(_in_a_column(wanted.text))
    where = [*asked, *conditions(rest)]
    total = _counted(conn, where, COUNTED + 1)
    if total > _SORTED and not wanted.include_gone:
        last = wanted.offset + wanted.limit
        if last <= _PROBED and len(page := _near(conn, rest, where, last)) == last:
            return page[wanted.offset :], total
    column = _TABLE.c[_sort(wanted)]
    # As no index has it: else the planner walks along one, and trusts its guess of how far.
    hidden = f"{_TABLE.name}.{column.name} {_SAME[isinstance(column.type, String)]}"
    order: Any = literal_column(hidden, column.type)
    order = (order.desc() if wanted.descending else order.asc()).nulls_last()
    query = select(_TABLE.c.id).where(*where).order_by(order, _by_id(wanted))
    return [str(each) for each in conn.scalars(query.limit(wanted.limit).offset(wanted.offset))], total


def _near(conn: Connection, wanted: IdentityFilter, where: list[Any], last: int) -> list[str]:
    """The first `last` matches that have a value, or as many as the first rows of the order hold."""
    column = _TABLE.c[_sort(wanted)]
    order = [column.desc() if wanted.descending else column.asc(), _by_id(wanted)]
    known = [*_seen(), column.is_not(None)]
    end = conn.execute(select(column, _TABLE.c.id).where(*known).order_by(*order).offset(_PROBED).limit(1)).first()
    if end is None:
        return []
    here, there = tuple_(column, _TABLE.c.id), tuple_(literal(end[0], column.type), literal(end[1]))
    near = here >= there if wanted.descending else here <= there
    query = select(_TABLE.c.id).where(*where, column.is_not(None), near).order_by(*order).limit(last)
    return [str(each) for each in conn.scalars(query)]


def _far(conn: Connection, wanted: IdentityFilter, found: Found, bound: int) -> bool:
    """Whether a sample of the candidates says that a walk from where the order begins passes more than `bound` rows."""
    column = _TABLE.c[_sort(wanted)]
    values = [each for each in conn.scalars(sample(found, column)) if each is not None]
    before = column.is_not(None)
    if values:
        before = column > max(values) if wanted.descending else column < min(values)
    return _counted(conn, [*_seen(), before], bound + 1) > bound


def _lead(conn: Connection, wanted: IdentityFilter) -> tuple[str | None, int]:
    """What besides the text leaves the fewest, and how many: a column with an index; "" has none, None is nothing."""
    table, numbers = inventory_tally, dict[str, int]()
    for field in _BY_VALUE + _FLAGS:
        if not (value := getattr(wanted, field)) or field == "exposed":
            continue
        if field == "owner":
            numbers[field] = _counted(conn, [*_seen(), _TABLE.c.owner == value], _MANY_OF_ONE)
        else:
            kept = select(table.c.number).where(table.c.field == field)
            kept = kept.where(table.c.value == (value if field in _BY_VALUE else ""))
            numbers["owner" if field == "unowned" else field] = int(conn.scalar(kept) or 0)
    if numbers:
        return min(numbers.items(), key=lambda each: each[1])
    return ("" if wanted.exposed or _by_others(wanted) else None), 0


def _along(conn: Connection, wanted: IdentityFilter, found: Found) -> list[str]:
    """The page in the order of titles of a text that many have: shelf by shelf until it is full."""
    query = by_shelf(found, _TABLE.c.id, _TABLE.c.title, descending=wanted.descending)
    last, read = wanted.offset + wanted.limit, list[tuple[str, str]]()
    shelf = None
    with conn.execute(query.where(*conditions(wanted, _columns(conn, (*_BY_VALUE, "id"))))) as rows:
        for row in rows:
            if row.shelf != shelf and len(read) >= last:
                break
            shelf = row.shelf
            read.append((row.title, row.id))
    read.sort(reverse=wanted.descending)
    return [each for _, each in read[wanted.offset : last]]


def _few(conn: Connection, wanted: IdentityFilter, where: list[Any]) -> list[str]:
    """The page of a filter that few pass: find them, then sort them."""
    column = _columns(conn, SORTABLE)[_sort(wanted)]
    order = (column.desc() if wanted.descending else column.asc()).nulls_last()
    query = select(_TABLE.c.id).where(*where).order_by(order, _by_id(wanted))
    return [str(each) for each in conn.scalars(query.limit(wanted.limit).offset(wanted.offset))]


def _walk(conn: Connection, wanted: IdentityFilter, named: list[Any]) -> list[str]:
    """The page of a filter that many pass: along the index of the order, those without a value last.

    The index has the id and what is always filtered by, so that rows that are passed over are not read.
    """
    column = _TABLE.c[_sort(wanted)]
    where = named + conditions(wanted, _columns(conn, (*_BY_VALUE, "id")))

    def part(*more: Any, order: list[Any], limit: int, offset: int) -> list[str]:
        query = select(_TABLE.c.id).where(*where, *more).order_by(*order).limit(limit).offset(offset)
        return [str(each) for each in conn.scalars(query)]

    order = [column.desc() if wanted.descending else column.asc(), _by_id(wanted)]
    if not column.nullable:
        return part(order=order, limit=wanted.limit, offset=wanted.offset)
    rows = part(column.is_not(None), order=order, limit=wanted.limit, offset=wanted.offset)
    if len(rows) < wanted.limit:
        known = len(rows) + wanted.offset
        if not rows and wanted.offset:
            known = _counted(conn, [*where, column.is_not(None)], None)
        offset = max(0, wanted.offset + len(rows) - known)
        rows += part(column.is_(None), order=[_by_id(wanted)], limit=wanted.limit - len(rows), offset=offset)
    return rows


def _by_others(wanted: IdentityFilter) -> bool:
    """Whether it is filtered by what other tables say."""
    return bool(
        wanted.finding or wanted.connector or wanted.expires_before or wanted.tier or wanted.service or wanted.autonomy
    )


def _members(wanted: IdentityFilter, identity: Any) -> list[Any]:
    """Those that other tables say something of; an index of theirs leads to the identity."""
    alias, credential, where = inventory_alias, inventory_credential, []
    if wanted.finding:
        found = select(alias.c.identity).join(inventory_finding, inventory_finding.c.subject == alias.c.name)
        where.append(identity.in_(found.where(_of_rule(wanted.finding))))
    if wanted.expires_before is not None:
        ends = select(credential.c.identity).where(credential.c.expires < wanted.expires_before)
        where.append(identity.in_(ends.where(credential.c.present, credential.c.state == "active")))
    if wanted.connector:
        seen, source = inventory_sighting, inventory_source
        ids = select(source.c.id).where(source.c.connector == wanted.connector)
        shown = select(alias.c.identity).join(seen, seen.c.node == alias.c.name)
        shown = shown.where(seen.c.kind == "identity", seen.c.source.in_(ids))
        # For each row, not once for all: a page of a million is then found by looking at a page's worth.
        where.append(shown.where(alias.c.identity == _TABLE.c.id).correlate(_TABLE).exists())
    return where


def _of_rule(wanted: str) -> Any:
    """Findings of a rule, or of all rules that a pattern with `*` fits."""
    rule = inventory_finding.c.rule
    if "*" not in wanted:
        return rule == wanted
    parts = (part.replace("/", "//").replace("%", "/%").replace("_", "/_") for part in wanted.split("*"))
    return rule.like("%".join(parts), escape="/")


def _sort(wanted: IdentityFilter) -> str:
    return wanted.sort if wanted.sort in SORTABLE else "title"


def _by_id(wanted: IdentityFilter) -> Any:
    return _TABLE.c.id.desc() if wanted.descending else _TABLE.c.id.asc()


def _columns(conn: Connection, hidden: Sequence[str]) -> Mapping[str, Any]:
    """The columns; those that are `hidden` as SQLite uses no index for: without statistics it guesses wrong."""
    columns: dict[str, Any] = {each.name: each for each in _TABLE.c}
    if conn.dialect.name == "sqlite":
        columns |= {each: literal_column(f"+{_TABLE.name}.{each}", _TABLE.c[each].type) for each in hidden}
    return columns


def _tally(conn: Connection, wanted: IdentityFilter) -> int | None:
    """The number that is kept, where the filter is that simple."""
    if wanted.text or wanted.include_gone or wanted.exposed or wanted.owner or _by_others(wanted):
        return None
    given = [(field, getattr(wanted, field)) for field in _BY_VALUE if getattr(wanted, field)]
    given += [(field, "") for field in _FLAGS if getattr(wanted, field)]
    if len(given) > 1:
        return None
    field, value = given[0] if given else ("total", "")
    table = inventory_tally
    query = select(table.c.number).where(table.c.field == field, table.c.value == value)
    return int(conn.scalar(query) or 0)


def _counted(conn: Connection, where: list[Any], most: int | None) -> int:
    query = select(_TABLE.c.id).where(*where)
    if most is not None:
        query = query.limit(most)
    return _number_of(conn, query)


def _number_of(conn: Connection, query: Select[Any]) -> int:
    return int(conn.scalar(select(func.count()).select_from(query.subquery())) or 0)


def conditions(wanted: IdentityFilter, columns: Mapping[str, Any] | None = None) -> list[Any]:
    """The filter in SQL."""
    table = _TABLE
    columns = {each.name: each for each in table.c} if columns is None else columns
    where = [table.c.merged_into.is_(None)] if wanted.include_gone else _seen()
    for column in _BY_VALUE:
        if value := getattr(wanted, column):
            where.append(columns[column] == value)
    if wanted.unowned:
        where.append(columns["owner"].is_(None))
    if wanted.privileged:
        where.append(table.c.privileged)
    for name in _OF_WORDS:
        if value := getattr(wanted, name):
            where.append(table.c[name] == value)
    if wanted.tier:
        said = table.c.tier
        where.append(said == int(wanted.tier) if wanted.tier in TIERS else said.is_(None))
    if wanted.exposed:
        credential = inventory_credential
        shown = select(credential.c.identity).where(credential.c.exposed, credential.c.present)
        where.append(columns["id"].in_(shown))
    where += _members(wanted, columns["id"])
    if wanted.text:
        where.append(_in_a_column(wanted.text))
    return where


def _in_a_column(text: str) -> Any:
    return or_(*(contains(_TABLE.c[column], text) for column in ("title", "name", "owner", "service")))


def _seen() -> list[Any]:
    """What is listed unless it is asked for what is gone, as the indexes say it."""
    return [_TABLE.c.merged_into.is_(None), _TABLE.c.present]


def contains(column: Column[Any], text: str) -> Any:
    """The text is in it, whatever the case."""
    return column.icontains(text, autoescape=True)


def matches(wanted: IdentityFilter, record: IdentityRecord) -> bool:
    """The filter on a record of the past, but for `exposed`, which is its credentials'."""
    if record.merged_into is not None or not (record.present or wanted.include_gone):
        return False
    for column in _BY_VALUE:
        if getattr(wanted, column) not in ("", getattr(record, column)):
            return False
    if (wanted.unowned and record.owner is not None) or (wanted.privileged and not record.privileged):
        return False
    if any(getattr(wanted, name) not in ("", getattr(record, name)) for name in _OF_WORDS):
        return False
    if wanted.tier and str("none" if record.tier is None else record.tier) != wanted.tier:
        return False
    texts = (record.title, record.name, record.owner or "", record.service or "")
    return not wanted.text or any(wanted.text.casefold() in each.casefold() for each in texts)


def page_of(wanted: IdentityFilter, records: list[IdentityRecord]) -> list[IdentityRecord]:
    """The page of a list in memory, in the same order as a listing."""
    sort = wanted.sort if wanted.sort in SORTABLE else "title"
    known = [each for each in records if getattr(each, sort) is not None]
    rest = sorted((each for each in records if getattr(each, sort) is None), key=lambda each: each.id)
    known.sort(key=lambda each: (getattr(each, sort), each.id), reverse=wanted.descending)
    if wanted.descending:
        rest.reverse()
    return (known + rest)[wanted.offset : wanted.offset + wanted.limit]
