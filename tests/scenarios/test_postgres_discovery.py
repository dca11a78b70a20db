"""The PostgreSQL connector on real servers: what it finds, and that it says what it could not see."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest

from postgres_stage import connect
from remit.access.testing import principal
from remit.inventory.connectors.port import Scan
from remit.inventory.connectors.postgres import PostgresConnector, connector_from
from remit.inventory.model import (
    CredentialFact,
    EdgeFact,
    Fact,
    FindingFact,
    IdentityFact,
    IdentityKind,
    OwnerFact,
    Relation,
    ResourceFact,
    Skipped,
)
from remit.inventory.use.model import UseFact
from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.kernel.ids import parse_name
from servers import POSTGRES_MAJORS, LocalServer, postgres_server

F = TypeVar("F")
every_major = pytest.mark.parametrize("major", POSTGRES_MAJORS)
NEWEST = max((major for major in POSTGRES_MAJORS if major), default=None)

ESTATE = """
CREATE ROLE app_ro NOLOGIN; CREATE ROLE app_rw NOLOGIN; GRANT app_ro TO app_rw;
CREATE ROLE orders LOGIN PASSWORD 'orders-secret' CONNECTION LIMIT 5; GRANT app_rw TO orders;
COMMENT ON ROLE orders IS 'owner=team-orders@example.org; environment=prod service=orders';
CREATE ROLE etl LOGIN PASSWORD 'etl-secret' VALID UNTIL '2031-01-01'; GRANT pg_execute_server_program TO etl;
CREATE ROLE dba LOGIN SUPERUSER PASSWORD 'dba-secret';
CREATE ROLE reader LOGIN PASSWORD 'reader-secret';
CREATE SCHEMA app AUTHORIZATION app_rw; GRANT USAGE ON SCHEMA app TO app_ro;
SET ROLE app_rw;
CREATE TABLE app.orders (id int, card text); GRANT SELECT ON app.orders TO app_ro;
GRANT SELECT (id) ON app.orders TO PUBLIC;
CREATE VIEW app.totals AS SELECT count(*) FROM app.orders;
CREATE TABLE app.hidden (id int); ALTER TABLE app.hidden ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON app.hidden TO app_ro;
CREATE FUNCTION app.unsafe() RETURNS int SECURITY DEFINER LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.safe() RETURNS int SECURITY DEFINER SET search_path = pg_catalog LANGUAGE sql AS 'SELECT 1';
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC;
RESET ROLE;
CREATE ROLE old LOGIN; SET password_encryption = 'md5'; ALTER ROLE old PASSWORD 'old-secret';
"""


def run(statements: str, server: LocalServer) -> None:
    async def play() -> None:
        connection = await connect(server.address(), server.password)
        await connection.execute("SET client_min_messages = error")
        await connection.execute(statements)
        await connection.close()

    asyncio.run(play())


def scan() -> Scan:
    return Scan(now=datetime.now(UTC), fingerprint=lambda secret: "hmac:" + hmac.digest(b"k", secret, "sha256").hex())


def read(server: LocalServer, user: str = "", password: str = "") -> tuple[str, list[Fact]]:
    connector = PostgresConnector(server.address(user=user), password or server.password)
    connector.open()
    try:
        run_of = scan()
        facts: list[Fact] = []
        for raw in connector.fetch(run_of):
            facts += [raw] if isinstance(raw, Skipped) else connector.translate(raw, run_of)
        return connector.instance, facts
    finally:
        connector.close()
        connector.close()


def only(facts: list[Fact], kind: type[F], which: Callable[[F], Any]) -> list[F]:
    return [fact for fact in facts if isinstance(fact, kind) and which(fact)]


def local(name: str) -> str:
    parts = parse_name(name)
    assert parts is not None
    return f"{parts[2]}/{parts[3]}"


@every_major
def test_roles_their_owner_password_and_powers_are_found(major: int | None) -> None:
    with postgres_server(major) as server:
        run(ESTATE, server)
        instance, facts = read(server)
        assert instance.startswith("sys-")
        [orders] = only(facts, IdentityFact, lambda f: f.title == "orders")
        assert orders.kind is IdentityKind.DATABASE_ROLE
        assert orders.attributes["password"] == "scram-sha-256"
        assert orders.attributes["connection_limit"] == 5
        assert (orders.attributes["environment"], orders.attributes["service"]) == ("prod", "orders")
        [owner] = only(facts, OwnerFact, lambda f: f.identity == orders.name)
        assert (owner.owner, owner.method) == ("team-orders@example.org", "comment")
        [password] = only(facts, CredentialFact, lambda f: f.title == "password of etl")
        assert password.expires == datetime(2031, 1, 1, tzinfo=UTC)
        assert password.fingerprint.startswith("hmac:")


@every_major
def test_findings_name_what_is_wrong(major: int | None) -> None:
    with postgres_server(major) as server:
        run(ESTATE, server)
        hba = "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n"
        server.set_hba(hba + "host all all 10.0.0.0/8 md5\nhost all all 0.0.0.0/0 trust\n")
        _, facts = read(server)
        rules = {fact.rule for fact in facts if isinstance(fact, FindingFact)}
        assert rules >= {
            "postgres.md5-password",
            "postgres.password-never-expires",
            "postgres.superuser-login",
            "postgres.predefined-power",
            "postgres.definer-search-path",
            "postgres.default-privileges",
            "postgres.hba-md5",
            "postgres.hba-trust",
            "postgres.hba-everywhere",
        }
        unsafe = only(facts, FindingFact, lambda f: f.rule == "postgres.definer-search-path")
        assert [local(str(f.subject)) for f in unsafe] == ["function/postgres.app.unsafe()"]
        [trust] = only(facts, FindingFact, lambda f: f.rule == "postgres.hba-trust")
        assert (trust.place.line, trust.severity) == (4, "critical")


@every_major
def test_grants_and_memberships_become_edges(major: int | None) -> None:
    with postgres_server(major) as server:
        run(ESTATE, server)
        _, facts = read(server)
        edges = {
            (local(e.source), e.relation, local(e.target)): e
            for e in only(facts, EdgeFact, lambda e: "urn:" in e.source)
        }
        assert ("role/orders", Relation.MEMBER_OF, "role/app_rw") in edges
        assert ("role/orders", Relation.ASSUME, "role/app_rw") in edges
        assert edges["role/app_ro", Relation.CAN_REACH, "table/postgres.app.orders"].actions == ("SELECT",)
        assert edges["role/app_rw", Relation.CAN_REACH, "table/postgres.app.orders"].actions == ("OWNER",)
        assert ("group/superusers", Relation.CAN_REACH, "table/postgres.app.totals") in edges
        public = edges["group/public", Relation.CAN_REACH, "table/postgres.app.orders"]
        assert public.actions == ("SELECT(columns)",)
        assert public.conditions == ("USAGE on the schema is missing",)
        hidden = edges["role/app_ro", Relation.CAN_REACH, "table/postgres.app.hidden"]
        assert hidden.conditions == ("row-level security",)
        assert hidden.cut == 'REVOKE SELECT ON TABLE "app"."hidden" FROM "app_ro"'
        definer = edges["group/public", Relation.IMPERSONATE, "role/app_rw"]
        assert "only what the function's body does" in definer.conditions


@pytest.mark.skipif(NEWEST is None or NEWEST < 16, reason="postgres 16: no initdb found")
def test_from_16_on_a_membership_says_what_it_allows() -> None:
    with postgres_server(NEWEST) as server:
        run(
            "CREATE ROLE g; CREATE ROLE inherits LOGIN; CREATE ROLE sets LOGIN;"
            "GRANT g TO inherits WITH INHERIT TRUE, SET FALSE; GRANT g TO sets WITH INHERIT FALSE, SET TRUE",
            server,
        )
        _, facts = read(server)
        edges = only(facts, EdgeFact, lambda e: local(e.target) == "role/g" and local(e.source) != "group/superusers")
        assert {(local(e.source), e.relation) for e in edges} == {
            ("role/inherits", Relation.MEMBER_OF),
            ("role/sets", Relation.ASSUME),
        }


def test_every_edge_starts_and_ends_at_something_that_was_found() -> None:
    with postgres_server(NEWEST) as server:
        run(ESTATE, server)
        _, facts = read(server)
        known = {fact.name for fact in facts if isinstance(fact, (IdentityFact, ResourceFact))}
        loose = {end for edge in facts if isinstance(edge, EdgeFact) for end in (edge.source, edge.target)} - known
        assert loose == set()


def test_a_cut_does_what_it_says() -> None:
    with postgres_server(NEWEST) as server:
        run(ESTATE + 'CREATE TABLE app."od.d\'s ""t" (id int); GRANT SELECT ON app."od.d\'s ""t" TO app_ro;', server)
        _, before = read(server)
        reach = only(before, EdgeFact, lambda e: local(e.source) == "role/app_ro" and e.relation is Relation.CAN_REACH)
        assert len(reach) == 6
        run(";".join(edge.cut for edge in reach), server)
        _, after = read(server)
        assert only(after, EdgeFact, lambda e: local(e.source) == "role/app_ro" and e.relation == "can-reach") == []


@every_major
def test_a_reader_without_rights_is_told_what_it_did_not_see(major: int | None) -> None:
    with postgres_server(major) as server:
        run(ESTATE, server)
        run("CREATE DATABASE vault", server)
        run("REVOKE CONNECT ON DATABASE vault FROM PUBLIC", server)
        _, facts = read(server, "reader", "reader-secret")
        skipped = {fact.what: fact.reason for fact in facts if isinstance(fact, Skipped)}
        assert skipped == {
            "password verifiers (pg_authid)": "not-permitted",
            "who uses which role (pg_stat_activity of other roles)": "not-permitted",
            "rules of admission (pg_hba_file_rules)": "not-permitted",
            "database vault": "not-permitted",
        }
        assert only(facts, ResourceFact, lambda f: f.title == "postgres.app.orders")


def test_the_permissions_that_the_manifest_names_are_enough_but_for_the_verifiers() -> None:
    with postgres_server(NEWEST) as server:
        run(ESTATE, server)
        needs = [need.grant for need in PostgresConnector.manifest.needs if "…" not in need.grant]
        run(";".join(needs).replace("remit_reader", "reader"), server)
        _, facts = read(server, "reader", "reader-secret")
        assert [fact.what for fact in facts if isinstance(fact, Skipped)] == ["password verifiers (pg_authid)"]


def test_a_live_session_shows_who_uses_a_role_now() -> None:
    with postgres_server(NEWEST) as server:
        run(ESTATE, server)

        async def hold() -> list[Fact]:
            session = await connect(server.address(user="orders"), "orders-secret")
            await session.execute("SET application_name = 'orders-api'")
            facts = (await asyncio.to_thread(read, server))[1]
            await session.close()
            return facts

        found = asyncio.run(hold())
        [orders] = only(found, IdentityFact, lambda f: f.title == "orders")
        assert orders.attributes["sessions"] == 1
        assert orders.attributes["consumers"] == "orders-api @ 127.0.0.1"
        assert orders.attributes["last_used"]
        [used] = only(found, UseFact, lambda f: True)
        [session] = [each for each in used.sessions if each.use.name == orders.name]
        assert session.use.consumer == "127.0.0.1 orders-api"
        assert session.number == round(session.use.moment.timestamp() * 1_000_000)


def test_a_lease_of_ours_is_a_task_and_no_finding() -> None:
    with postgres_server(NEWEST) as server:
        name = principal()
        run(f"CREATE ROLE {name} LOGIN PASSWORD 'x'", server)
        _, facts = read(server)
        [lease] = only(facts, IdentityFact, lambda f: f.title == name)
        assert lease.kind is IdentityKind.TASK
        assert only(facts, FindingFact, lambda f: f.subject == lease.name) == []


def test_no_secret_and_no_verifier_is_in_any_fact() -> None:
    with postgres_server(NEWEST) as server:
        run(ESTATE, server)
        _, facts = read(server)
        shown = repr(facts)
        assert "SCRAM-SHA-256$" not in shown
        assert not [s for s in ("orders-secret", "etl-secret", "old-secret", server.password) if s in shown]


def test_the_password_comes_from_a_private_pgpass_file(tmp_path: Path) -> None:
    with postgres_server(NEWEST) as server:
        file = tmp_path / "pgpass"
        file.write_text(f"# mine\n127.0.0.1:{server.port}:*:{server.user}:{server.password}\n")
        file.chmod(0o600)
        url = str(server.address())
        connector = connector_from(url, {"PGPASSFILE": str(file)})
        connector.open()
        connector.close()
        file.chmod(0o644)
        with pytest.raises(Misconfigured) as caught:
            connector_from(url, {"PGPASSFILE": str(file)})
        assert caught.value.code == "access.target.passfile_open"


def test_what_cannot_be_opened_says_whose_move_it_is() -> None:
    with postgres_server(NEWEST) as server:
        address = server.address()
        with pytest.raises(Rejected):
            PostgresConnector(address, "wrong").open()
    closed = PostgresConnector(address, "any")
    with pytest.raises(Unavailable):
        closed.open()
    closed.close()
