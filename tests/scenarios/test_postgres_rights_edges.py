"""How a role of PostgreSQL becomes another, the host's account or a login elsewhere: each way on a real server."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import asyncpg
import pytest

from postgres_estate import Estate, build
from postgres_stage import connect
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.postgres import PostgresConnector
from remit.inventory.model import EdgeFact, Fact, IdentityFact, ResourceFact, Skipped
from remit.kernel.ids import parse_name
from servers import POSTGRES_MAJORS, LocalServer, postgres_server

NEWEST = max((major for major in POSTGRES_MAJORS if major), default=None)

ESTATE = """
CREATE ROLE app LOGIN PASSWORD 'x'; CREATE ROLE batch LOGIN; CREATE ROLE vault LOGIN; CREATE ROLE skips LOGIN BYPASSRLS;
GRANT pg_execute_server_program TO batch; GRANT pg_write_server_files TO vault;
CREATE SCHEMA data; GRANT USAGE ON SCHEMA data TO app, skips;
CREATE TABLE data.secured (id int); ALTER TABLE data.secured ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON data.secured TO app, skips;
CREATE ROLE maker CREATEROLE LOGIN; CREATE ROLE spare NOLOGIN;
CREATE ROLE heir LOGIN NOINHERIT; GRANT spare TO heir; CREATE TABLE data.spared (id int);
GRANT SELECT ON data.spared TO spare; GRANT USAGE ON SCHEMA data TO spare;
CREATE ROLE owner LOGIN; CREATE FUNCTION data.fires() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
ALTER FUNCTION data.fires() OWNER TO owner; CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION data.fires();
CREATE DATABASE closed; REVOKE CONNECT ON DATABASE closed FROM PUBLIC; GRANT CONNECT ON DATABASE closed TO app;
GRANT EXECUTE ON FUNCTION pg_read_file(text) TO app;
"""
CLOSED = """
CREATE TABLE kept (id int); GRANT SELECT ON kept TO PUBLIC;
CREATE FOREIGN DATA WRAPPER postgres_fdw;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'db.example.org', port '5433', dbname 'orders');
CREATE USER MAPPING FOR app SERVER far OPTIONS (user 'orders_ro', password 'far-secret-9K');
"""


@dataclass(frozen=True, slots=True)
class Seen:
    facts: list[Fact]
    edges: list[tuple[str, str, str, EdgeFact]]

    def some(self, source: str, relation: str, target: str) -> list[EdgeFact]:
        return [edge for a, r, b, edge in self.edges if (a, r, b) == (source, relation, target)]

    def one(self, source: str, relation: str, target: str) -> EdgeFact:
        [edge] = self.some(source, relation, target)
        return edge


def local(name: str) -> str:
    parts = parse_name(name)
    assert parts is not None
    return f"{parts[2]}/server" if parts[2] == "server" else f"{parts[2]}/{parts[3]}"


def read(server: LocalServer) -> Seen:
    connector = PostgresConnector(server.address(), server.password)
    scan = Scan(now=datetime.now(UTC), fingerprint=lambda secret: "hmac:00")
    connector.open()
    try:
        raws = [raw for raw in connector.fetch(scan) if not isinstance(raw, Skipped)]
        facts = [fact for raw in raws for fact in connector.translate(raw, scan)]
    finally:
        connector.close()
    edges = [(local(e.source), e.relation.value, local(e.target), e) for e in facts if isinstance(e, EdgeFact)]
    return Seen(facts, edges)


async def play(server: LocalServer, database: str, *statements: str) -> None:
    connection = await connect(server.address(database=database), server.password)
    try:
        for statement in filter(str.strip, statements):
            await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with postgres_server(NEWEST) as server:
        server.set_hba("host all all 127.0.0.1/32 scram-sha-256\nhost all app,batch 10.0.0.0/8 trust\n")
        asyncio.run(play(server, "postgres", *ESTATE.split(";")))
        asyncio.run(play(server, "closed", *CLOSED.split(";")))
        yield read(server)


def test_who_runs_programs_is_the_servers_account_and_so_a_superuser(seen: Seen) -> None:
    assert not seen.one("role/pg_execute_server_program", "assume", "account/server").conditions
    assert seen.some("role/batch", "member-of", "role/pg_execute_server_program")
    assert not seen.one("account/server", "impersonate", "group/superusers").conditions


def test_who_writes_files_is_it_under_a_condition(seen: Seen) -> None:
    assert seen.one("role/pg_write_server_files", "assume", "account/server").conditions


def test_a_function_of_the_server_that_was_granted_reads_its_files(seen: Seen) -> None:
    edge = seen.one("role/app", "can-reach", "server/server")
    assert edge.actions == ("READ FILES",)
    assert edge.cut == 'REVOKE EXECUTE ON FUNCTION "pg_catalog"."pg_read_file"(text) FROM "app"'


def test_row_security_is_a_condition_unless_it_is_bypassed(seen: Seen) -> None:
    assert seen.one("role/app", "can-reach", "table/postgres.data.secured").conditions == ("row-level security",)
    free = [each for each in seen.some("role/skips", "can-reach", "table/postgres.data.secured") if not each.conditions]
    assert [each.cut for each in free] == ['ALTER ROLE "skips" NOBYPASSRLS']


def test_without_inherit_the_way_is_set_role(seen: Seen) -> None:
    assert seen.some("role/heir", "assume", "role/spare")
    assert not seen.some("role/heir", "member-of", "role/spare")


def test_the_owner_of_an_event_triggers_function_waits_for_a_superuser(seen: Seen) -> None:
    [edge] = [e for e in seen.some("role/owner", "impersonate", "group/superusers") if "event trigger" in e.evidence]
    assert "a superuser's statement sets it off" in edge.conditions
    assert edge.cut == 'DROP EVENT TRIGGER "watch"'


def test_a_closed_database_is_reached_by_who_may_connect_alone(seen: Seen) -> None:
    assert seen.some("role/app", "assume", "inside/closed/role:app")
    assert seen.some("inside/closed/group:public", "can-reach", "table/closed.public.kept")
    assert not seen.some("group/public", "can-reach", "table/closed.public.kept")
    assert not seen.some("role/batch", "assume", "inside/closed/role:batch")


def test_a_user_mapping_leads_to_the_login_elsewhere_and_its_password_is_not_kept(seen: Seen) -> None:
    edge = seen.one("inside/closed/role:app", "assume", "role/orders_ro")
    assert edge.target == "urn:remit:postgres:db.example.org%3A5433:role:orders_ro"
    assert edge.conditions and edge.cut == 'DROP USER MAPPING FOR "app" SERVER "far"'
    assert "far-secret-9K" not in repr(seen.facts)


def test_a_line_that_trusts_lets_anyone_of_its_network_be_its_roles(seen: Seen) -> None:
    edges = [edge for a, _, _, edge in seen.edges if a == "group/anyone from 10.0.0.0/8"]
    assert {local(edge.target) for edge in edges} == {"role/app", "role/batch"}
    assert not any(edge.conditions for edge in edges)


def test_every_end_of_an_edge_is_described(seen: Seen) -> None:
    known = {fact.name for fact in seen.facts if isinstance(fact, (IdentityFact, ResourceFact))}
    assert {end for _, _, _, e in seen.edges for end in (e.source, e.target)} - known == set()


@pytest.mark.parametrize("major", [each for each in POSTGRES_MAJORS if each is None or each < 16])
def test_before_16_createrole_takes_any_role_but_superusers(major: int | None) -> None:
    with postgres_server(major) as server:
        asyncio.run(play(server, "postgres", "CREATE ROLE maker CREATEROLE LOGIN; CREATE ROLE boss SUPERUSER"))
        found = read(server)
    assert found.some("role/maker", "member-of", "group/role makers")
    assert found.some("group/role makers", "assume", "role/pg_execute_server_program")
    assert not found.some("group/role makers", "assume", "role/boss")


@pytest.mark.parametrize("major", POSTGRES_MAJORS)
def test_the_cuts_of_a_random_estate_leave_no_grant(major: int | None) -> None:
    async def estate(server: LocalServer) -> None:
        owner = await connect(server.address(), server.password)
        await build(owner, Estate(random.Random(5), int(server.major) * 10_000, supers=0))
        await owner.close()

    async def cut(server: LocalServer, cuts: set[str]) -> None:
        owner = await connect(server.address(), server.password)
        for statement in sorted(cuts):
            try:
                await owner.execute(statement)
            except asyncpg.InsufficientPrivilegeError:
                # Its grantor has lost the right to grant by another cut, and with it the grant.
                await owner.execute("RESET ROLE")
        await owner.close()

    with postgres_server(major) as server:
        asyncio.run(estate(server))
        before = grants(read(server))
        assert len(before) > 40
        asyncio.run(cut(server, {edge.cut for edge in before}))
        assert [(each.source, each.target, each.cut) for each in grants(read(server))] == []


def grants(seen: Seen) -> list[EdgeFact]:
    return [e for _, _, b, e in seen.edges if e.relation == "can-reach" and "REVOKE" in e.cut and "postgres.s" in b]
