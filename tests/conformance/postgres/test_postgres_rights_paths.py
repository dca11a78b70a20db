"""The access graph of a random estate against what the server says of every role, table and privilege."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from postgres_estate import Estate, build
from postgres_stage import connect
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.postgres import PostgresConnector
from remit.inventory.model import EdgeFact, Fact, Skipped
from remit.kernel.ids import name
from servers import POSTGRES_MAJORS, LocalServer, postgres_server

ACTIONS = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER")
ON_COLUMNS = ("SELECT", "INSERT", "UPDATE")
EVERYTHING = frozenset(ACTIONS)
Reach = Mapping[tuple[str, str], frozenset[str]]
"""Actions by role and table."""


class Oracle:
    """What a role can do, from answers of the server alone: rights of all that it can become, by brute force."""

    def __init__(self, version: int) -> None:
        self.version = version

    async def read(self, server: LocalServer) -> Reach:
        self.db = await connect(server.address(), server.password)
        self.roles = await self.db.fetch("SELECT oid, * FROM pg_roles WHERE rolname ~ '^(r[0-9]+|pg_.*)$'")
        self.becomes = await self._becoming()
        tables = await self._tables()
        enters = {r for (r,) in await self.db.fetch(
            "SELECT rolname::text FROM pg_roles WHERE rolcanlogin AND has_database_privilege(oid, 'postgres', 'CONNECT')"
        )}  # fmt: skip
        [(everybody,)] = await self.db.fetch("SELECT has_database_privilege('public', 'postgres', 'CONNECT')")
        found: dict[tuple[str, str], frozenset[str]] = {}
        for role in (row["rolname"] for row in self.roles if not row["rolname"].startswith("pg_")):
            can_be = self._all(role)
            if not everybody and not self._is_all(can_be):
                can_be = set().union(*(self._all(each) for each in can_be & enters))
            for table in tables:
                actions = frozenset[str]().union(*(tables[table].get(each, frozenset()) for each in can_be))
                found[role, table] = EVERYTHING if self._is_all(can_be) else actions
        await self.db.close()
        return found

    async def _becoming(self) -> Mapping[str, set[str]]:
        mode = "SET" if self.version >= 160000 else "MEMBER"
        found: dict[str, set[str]] = defaultdict(set)
        for one, other in await self.db.fetch(
            "SELECT a.rolname::text, b.rolname::text FROM pg_roles a, pg_roles b WHERE pg_has_role(a.oid, b.oid, $1)"
            # ADMIN of one whose rights it has: it grants the other to itself, unless that is a superuser.
            " OR (NOT b.rolsuper AND EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = b.oid AND m.admin_option"
            " AND pg_has_role(a.oid, m.member, 'USAGE')))"
            " OR (a.rolcreaterole AND NOT b.rolsuper AND b.rolname <> 'pg_database_owner' AND $2)",
            mode, self.version < 160000,
        ):  # fmt: skip
            found[one].add(other)
        return found

    def _all(self, role: str) -> set[str]:
        seen, waiting = {role}, [role]
        while waiting:
            for each in self.becomes[waiting.pop()] - seen:
                seen.add(each)
                waiting.append(each)
        return seen

    def _is_all(self, roles: set[str]) -> bool:
        return any(row["rolsuper"] or row["runs"] for row in self.powers if row["rolname"] in roles)

    async def _tables(self) -> Mapping[str, Mapping[str, frozenset[str]]]:
        self.powers = await self.db.fetch(
            "SELECT rolname::text, rolsuper, pg_has_role(oid, 'pg_execute_server_program', 'USAGE') AS runs FROM pg_roles"
        )
        found: dict[str, dict[str, frozenset[str]]] = defaultdict(lambda: defaultdict(frozenset))
        for table, role, action in await self.db.fetch(
            "SELECT n.nspname || '.' || c.relname, r.rolname::text, p FROM pg_roles r, pg_class c, pg_namespace n,"
            " unnest($1::text[]) p WHERE n.oid = c.relnamespace AND c.relkind = 'r' AND n.nspname ~ '^s[0-9]'"
            " AND (has_schema_privilege(r.oid, n.oid, 'USAGE') OR pg_has_role(r.oid, n.nspowner, 'USAGE'))"
            " AND (has_table_privilege(r.oid, c.oid, p) OR pg_has_role(r.oid, c.relowner, 'USAGE')"
            " OR CASE WHEN p = ANY ($2) THEN has_any_column_privilege(r.oid, c.oid, p) ELSE false END)",
            list(ACTIONS), list(ON_COLUMNS),
        ):  # fmt: skip
            found[table][role] |= {action}
        return found


def facts_of(server: LocalServer) -> tuple[str, list[Fact]]:
    connector = PostgresConnector(server.address(), server.password)
    scan = Scan(now=datetime.now(UTC), fingerprint=lambda secret: "hmac:00")
    connector.open()
    try:
        facts = [fact for raw in connector.fetch(scan) if not isinstance(raw, Skipped)
                 for fact in connector.translate(raw, scan)]  # fmt: skip
        return connector.instance, facts
    finally:
        connector.close()


def walked(facts: Iterable[Fact], start: str) -> set[str]:
    """Every node that unconditional edges give to who has `start`."""
    by: dict[str, list[str]] = defaultdict(list)
    for fact in facts:
        if isinstance(fact, EdgeFact) and not fact.conditions:
            by[fact.source].append(fact.target)
    seen, waiting = {start}, [start]
    while waiting:
        for target in by[waiting.pop()]:
            if target not in seen:
                seen.add(target)
                waiting.append(target)
    return seen


def graph_reach(instance: str, facts: list[Fact], asked: Iterable[tuple[str, str]]) -> Reach:
    into: dict[str, list[EdgeFact]] = defaultdict(list)
    for fact in facts:
        if isinstance(fact, EdgeFact) and not fact.conditions:
            into[fact.target].append(fact)
    nodes: dict[str, set[str]] = {}
    found: dict[tuple[str, str], frozenset[str]] = {}
    for role, table in asked:
        start = name("postgres", instance, "role", role)
        has = nodes[role] if role in nodes else nodes.setdefault(role, walked(facts, start))
        edges = [each for each in into[name("postgres", instance, "table", f"postgres.{table}")] if each.source in has]
        actions = {action.removesuffix("(columns)") for each in edges for action in each.actions}
        found[role, table] = EVERYTHING if actions & {"ALL", "OWNER"} else frozenset(actions) & EVERYTHING
    return found


async def estate(server: LocalServer, seed: int, closed: bool) -> tuple[Reach, int]:
    owner: Any = await connect(server.address(), server.password)
    version = int(await owner.fetchval("SELECT current_setting('server_version_num')"))
    await build(owner, Estate(random.Random(seed), version, supers=0.04, closed=closed))
    await owner.close()
    return await Oracle(version).read(server), version


@pytest.mark.parametrize(("seed", "closed"), [(3, False), (10, False), (10, True)])
@pytest.mark.parametrize("major", POSTGRES_MAJORS)
def test_what_the_graph_reaches_is_what_the_server_allows(major: int | None, seed: int, closed: bool) -> None:
    with postgres_server(major) as server:
        truth, _ = asyncio.run(estate(server, seed, closed))
        instance, facts = facts_of(server)
    ours = graph_reach(instance, facts, truth)
    missed = {key: sorted(truth[key] - ours[key]) for key in truth if truth[key] - ours[key]}
    false = {key: sorted(ours[key] - truth[key]) for key in truth if ours[key] - truth[key]}
    assert (missed, false) == ({}, {})
    assert len({frozenset(each) for each in truth.values()}) > 3
