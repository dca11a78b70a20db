"""Our evaluation of rights against the server's own: every role, thing and privilege of a random estate."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import pytest

from postgres_estate import Estate, build
from postgres_stage import connect
from remit.inventory.connectors.postgres_rights import Rights, actions_of
from remit.providers.postgres.access_lists import PUBLIC, Lists, Thing, cluster_of, contents_of, listed, rows
from servers import POSTGRES_MAJORS, LocalServer, postgres_server

SEEDS = (1, 20_261_123)
LEAST = 20_000
"""Comparisons of one version."""
ASKED = {"server": "server", "wrapper": "foreign_data_wrapper"}
TYPES = f"SELECT oid::bigint, typname::text AS name, typowner::bigint AS owner, {listed('typacl')} FROM pg_type" \
        " WHERE typname ~ '^d[0-9]+$' ORDER BY 2"  # fmt: skip
SPACES = f"SELECT oid::bigint, spcname::text AS name, spcowner::bigint AS owner, {listed('spcacl')} FROM pg_tablespace"


@dataclass
class Tally:
    """Questions asked of both, and those on which they differ."""

    asked: int = 0
    differences: tuple[str, ...] = ()

    def add(self, question: str, ours: bool, server: bool) -> None:
        self.asked += 1
        if ours is not server:
            self.differences += (f"{question}: we say {ours}",)


async def ask_roles(connection: Any, rights: Rights, tally: Tally) -> None:
    modes = ["USAGE", "MEMBER", *(["SET"] if rights.version >= 160000 else [])]
    query = "SELECT a.oid::bigint, b.oid::bigint, m, pg_has_role(a.oid, b.oid, m), pg_has_role(a.oid, b.oid," \
            " 'MEMBER WITH ADMIN OPTION') FROM pg_roles a, pg_roles b, unnest($1::text[]) m"  # fmt: skip
    for role, other, mode, has, administers in await connection.fetch(query, modes):
        tally.add(f"pg_has_role({role}, {other}, {mode})", rights.has_role(role, other, mode), has)
        tally.add(f"pg_has_role({role}, {other}, ADMIN)", rights.administers(role, other), administers)


async def ask_things(connection: Any, rights: Rights, things: list[Thing], tally: Tally) -> None:
    roles = [PUBLIC, *rights.roles]
    for thing in things:
        subject = "$3::text" if thing.kind == "parameter" else "$3::oid"
        key: Any = thing.name if thing.kind == "parameter" else thing.oid
        call = f"has_{ASKED.get(thing.kind, thing.kind)}_privilege(r::oid, {subject}, p || o)"
        query = f"SELECT r, p, o <> '', {call} FROM unnest($1::bigint[]) r, unnest($2::text[]) p," \
                " unnest(ARRAY['', ' WITH GRANT OPTION']) o"  # fmt: skip
        for role, action, option, has in await connection.fetch(
            query, roles, sorted(actions_of(thing.kind, rights.version)), key
        ):
            ours = rights.allowed(role, thing, action, grantable=option)
            tally.add(
                f"{rights.roles[role].name if role else 'PUBLIC'} {action} {option} on {thing.kind} {thing.name}",
                ours,
                has,
            )
        if thing.kind == "table":
            await ask_columns(connection, rights, thing, roles, tally)


async def ask_columns(connection: Any, rights: Rights, table: Thing, roles: list[int], tally: Tally) -> None:
    query = "SELECT r, p, o <> '', t.attname::text, has_column_privilege(r::oid, $2::oid, t.attnum, p || o)," \
            " has_any_column_privilege(r::oid, $2::oid, p || o) FROM unnest($1::bigint[]) r," \
            " unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) p, unnest(ARRAY['', ' WITH GRANT OPTION']) o," \
            " pg_attribute t WHERE t.attrelid = $2::oid AND t.attnum > 0 AND NOT t.attisdropped"  # fmt: skip
    for role, action, option, column, has, has_any in await connection.fetch(query, roles, table.oid):
        ours = rights.on_column(role, table, column, action, grantable=option)
        tally.add(f"{role} {action} {option} on {table.name}.{column}", ours, has)
        tally.add(f"{role} {action} {option} on any of {table.name}",
                  rights.on_any_column(role, table, action, grantable=option), has_any)  # fmt: skip


async def compare(server: LocalServer, seed: int) -> tuple[Tally, int]:
    owner = await connect(server.address(), server.password)
    version = int(await owner.fetchval("SELECT current_setting('server_version_num')"))
    done = await build(owner, Estate(random.Random(seed), version))
    cluster = await cluster_of(owner, version)
    here = next(each for each in cluster.databases if each.name == "postgres")
    rights = Rights(cluster, database_owner=here.owner)
    lists, tally = Lists(), Tally()
    things = list((await contents_of(owner, "postgres")).things)
    things += [lists.thing("type", row) async for row in rows(owner, TYPES)]
    things += [lists.thing("tablespace", row) async for row in rows(owner, SPACES)]
    await ask_roles(owner, rights, tally)
    await ask_things(owner, rights, [*things, *cluster.databases, *cluster.parameters], tally)
    await owner.close()
    return tally, done


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("major", POSTGRES_MAJORS)
def test_we_answer_as_the_server_does(major: int | None, seed: int) -> None:
    with postgres_server(major) as server:
        tally, done = asyncio.run(compare(server, seed))
    assert done > 200
    assert tally.asked > LEAST, tally.asked
    assert tally.differences == ()
