"""Secrets in the columns of real databases, found in a sample of rows that was asked for, and named by column."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import msgspec
import pytest

from mariadb_stage import MariaServer, mariadb_server
from postgres_stage import connect
from remit.inventory.connectors.mariadb import make as make_mariadb
from remit.inventory.connectors.postgres import PostgresConnector
from remit.inventory.connectors.postgres import make as make_postgres
from remit.inventory.connectors.testing import facts_of
from remit.inventory.model import CredentialFact, EdgeFact, Fact, FindingFact, Relation, Skipped
from remit.kernel.errors import Rejected
from servers import POSTGRES_MAJORS, LocalServer, postgres_server

READER = "sample-reader-4T"
TOKEN = "ghp_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"  # its checksum is right, and it opens nothing
URL = "mysql://shop:Vq8-Zw29-Lk4v-Xd81@db.shop.internal:3306/shop"
DSN = "postgres://billing:h7Tq-Zw29-Lk4v-Xd81@db.internal:5432/billing"
PLANTED = (TOKEN, URL, DSN, "h7Tq-Zw29-Lk4v-Xd81")
LEAST_POSTGRES = f"""
CREATE ROLE remit_reader LOGIN PASSWORD '{READER}';
CREATE TABLE settings (key text, value text, "odd.column" jsonb);
INSERT INTO settings VALUES ('theme', 'dark', '{{"a": 1}}'), ('ci', '{TOKEN}', null),
  ('hook', 'none', '{{"shop": {{"url": "{URL}"}}}}');
CREATE TABLE blobs (body bytea); INSERT INTO blobs VALUES (convert_to('DATABASE_URL={DSN}', 'UTF8'));
CREATE TABLE closed (value text); INSERT INTO closed VALUES ('{TOKEN}');
CREATE TABLE large (id int, note text); INSERT INTO large SELECT n, 'row ' || n FROM generate_series(1, 20000) n;
ANALYZE large;
CREATE TABLE guarded (value text); INSERT INTO guarded VALUES ('{TOKEN}');
CREATE FUNCTION act() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it ran'; END $$;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON guarded USING (act());
CREATE FUNCTION leak() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it ran'; END $$;
CREATE VIEW trap AS SELECT leak() AS value;
GRANT SELECT ON settings, blobs, large, guarded, trap TO remit_reader;
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[LocalServer]:
    with postgres_server(max((major for major in POSTGRES_MAJORS if major), default=None)) as server:

        async def play() -> None:
            connection = await connect(server.address(), server.password)
            await connection.execute(LEAST_POSTGRES)
            await connection.close()

        asyncio.run(play())
        yield server


@pytest.fixture(scope="module")
def sampled(postgres: LocalServer) -> list[Fact]:
    return facts_of(PostgresConnector(postgres.address(user="remit_reader"), READER, sample=100))


def places(facts: Sequence[Fact]) -> set[str]:
    return {
        each.place.path
        for each in facts
        if isinstance(each, FindingFact) and each.rule.startswith("secrets.") and each.place is not None
    }


def test_each_planted_secret_is_found_in_its_column(postgres: LocalServer, sampled: list[Fact]) -> None:
    database = postgres.address().database
    assert places(sampled) == {
        f"{database}.public.settings.value",
        f"{database}.public.settings.odd.column",
        f"{database}.public.blobs.body",
    }


def test_the_table_holds_the_credential_so_that_whoever_reads_it_reaches_the_identity(sampled: list[Fact]) -> None:
    held = {each.source for each in sampled if isinstance(each, EdgeFact) and each.relation is Relation.HOLDS}
    assert {each.rpartition(".")[2] for each in held} == {"settings", "blobs"}


def test_no_value_of_a_row_is_in_a_fact(sampled: list[Fact]) -> None:
    told = "".join(msgspec.json.encode(each).decode() for each in sampled)
    assert not [each for each in PLANTED if each in told]


def test_a_login_in_a_stored_url_becomes_an_identity(sampled: list[Fact]) -> None:
    named = [each.identity for each in sampled if isinstance(each, CredentialFact) and each.identity]
    assert "urn:remit:postgres:db.internal%3A5432:role:billing" in named


def test_what_may_not_be_read_is_said(sampled: list[Fact]) -> None:
    hidden = {each.what.rpartition(".")[2] for each in sampled if isinstance(each, Skipped)}
    assert {"closed", "guarded"} <= hidden
    assert "trap" not in hidden, "a view is not asked at all: it would run its owner's code as the reader"


def test_without_the_option_no_row_is_read(postgres: LocalServer) -> None:
    facts = facts_of(PostgresConnector(postgres.address(user="remit_reader"), READER))
    assert not places(facts)


def test_two_samples_of_the_same_rows_say_the_same(postgres: LocalServer, sampled: list[Fact]) -> None:
    again = facts_of(PostgresConnector(postgres.address(user="remit_reader"), READER, sample=100))
    assert places(again) == places(sampled)


@pytest.mark.parametrize("text", ["-1", "many", "10001", "1e3", "９"])
def test_a_sample_is_a_number_of_rows(text: str) -> None:
    with pytest.raises(Rejected) as refusal:
        make_postgres("postgres://u@127.0.0.1:1/x", {"sample": text}, "x")
    assert refusal.value.code == "inventory.sample.unfit"


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaServer]:
    with mariadb_server() as server:
        for statement in (
            f"CREATE USER sampler@'%' IDENTIFIED BY '{READER}'",
            "CREATE TABLE app.settings (name VARCHAR(40), `va``lue` TEXT, more JSON)",
            f"INSERT INTO app.settings VALUES ('ci', '{TOKEN}', NULL), ('hook', '', '{{\"url\": \"{URL}\"}}')",
            f"CREATE TABLE app.closed AS SELECT '{TOKEN}' AS value",
            "CREATE SQL SECURITY INVOKER VIEW app.seen AS SELECT * FROM app.settings",
            "GRANT SELECT ON app.settings TO sampler@'%'",
            "GRANT SELECT ON app.seen TO sampler@'%'",
        ):
            server.query(statement)
        yield server


def test_columns_of_mariadb_are_sampled_too(mariadb: MariaServer) -> None:
    facts = facts_of(make_mariadb(f"mariadb://sampler@127.0.0.1:{mariadb.port}", {"sample": "50"}, READER))
    assert places(facts) == {"app.settings.va`lue", "app.settings.more"}
    told = "".join(msgspec.json.encode(each).decode() for each in facts)
    assert not [each for each in (TOKEN, URL, READER) if each in told]
