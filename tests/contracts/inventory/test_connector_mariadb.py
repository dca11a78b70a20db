"""The MariaDB connector on a real server, entered with exactly the grants that its manifest names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from joined_stage import joined, scan
from mariadb_stage import MariaServer, mariadb_server
from remit.inventory.connectors.mariadb import MANIFEST, MariaConnector, make
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of
from remit.inventory.model import EdgeFact, FindingFact, IdentityFact, Relation, Skipped
from remit.inventory.use.model import UseFact
from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.kernel.ids import parse_name

SECRET = "reader-own-word"
HOSTILE = "o'r`d\ner\"s"
ESTATE = (
    "CREATE USER billing@'%' IDENTIFIED BY 'billing-word'",
    "CREATE USER reports@'10.0.0.0/255.0.0.0' IDENTIFIED BY 'billing-word'",
    "CREATE USER twice@localhost IDENTIFIED BY 'one-word'",
    "CREATE USER twice@'10.%' IDENTIFIED BY 'two-word' REQUIRE SSL",
    "CREATE USER shut@'%' IDENTIFIED BY 'shut-word' ACCOUNT LOCK",
    "CREATE USER open@'%'",
    "CREATE USER ''@'10.9.%' IDENTIFIED BY 'nobody-word'",
    "CREATE USER dba@'%' IDENTIFIED BY 'dba-word'; GRANT ALL ON *.* TO dba@'%' WITH GRANT OPTION",
    "CREATE USER 'o''r`d\ner\"s'@'%' IDENTIFIED BY 'hostile-word'; GRANT SELECT ON app.* TO 'o''r`d\ner\"s'@'%'",
    "CREATE USER old@'%' IDENTIFIED BY PASSWORD '378b243e220ca493'",
    "GRANT PROXY ON dba@'%' TO twice@localhost",
    "GRANT SELECT ON `app%`.* TO billing@'%'; GRANT SELECT (id) ON app.orders TO reports@'10.0.0.0/255.0.0.0'",
    "CREATE DEFINER = dba@'%' PROCEDURE app.close_day() SQL SECURITY DEFINER SELECT 1",
    "CREATE DEFINER = gone@'%' SQL SECURITY DEFINER VIEW app.ghost AS SELECT 1",
    "GRANT EXECUTE ON PROCEDURE app.close_day TO billing@'%'",
    "GRANT INSERT ON mysql.roles_mapping TO billing@'%'",
    "GRANT app_ro TO billing@'%'; SET DEFAULT ROLE app_ro FOR billing@'%'",
    "GRANT SELECT ON app.orders TO PUBLIC",
)


def needs(*, without: str = "") -> list[str]:
    """The manifest's grants but the alternative at the end, as a person would type them."""
    texts = [each.grant.replace("'…' IDENTIFIED BY '…'", f"'%' IDENTIFIED BY '{SECRET}'") for each in MANIFEST.needs]
    return [each.replace("'…'", "'%'") for each in texts[:-1] if not without or without not in each]


@pytest.fixture(scope="module")
def server() -> Iterator[MariaServer]:
    with mariadb_server("--performance-schema=ON") as made:
        for lines in ESTATE:
            for statement in lines.split("; "):
                made.query(statement)
        for statement in needs():
            made.query(statement)
        yield made


def reader(server: MariaServer, user: str = "remit_reader", secret: str = SECRET) -> MariaConnector:
    return make(f"mariadb://{user}@127.0.0.1:{server.port}", {}, secret)


def local(name: str) -> str:
    parts = parse_name(name)
    assert parts is not None
    return f"{parts[2]}/{parts[3]}"


@pytest.fixture(scope="module")
def stage(server: MariaServer) -> ConnectorStage:
    connector = reader(server)
    connector.open()
    instance = connector.instance
    connector.close()
    hashes = [str(row[0]) for row in server.query("SELECT authentication_string FROM mysql.user") if row[0]]
    return ConnectorStage(
        connector=lambda: reader(server),
        expected=[
            f"urn:remit:mariadb:{instance}:user:billing@%25",
            f"urn:remit:mariadb:{instance}:role:app_ro",
            f"urn:remit:mysql:127.0.0.1%3A{server.port}:user:billing",
            f"urn:remit:mariadb:{instance}:procedure:app.close_day",
        ],
        secrets=[SECRET, *hashes],
        refused=lambda: reader(server, secret="wrong-word"),
    )


class TestMariaDB(ConnectorContract):
    """The suite of every connector."""


@pytest.fixture(scope="module")
def facts(server: MariaServer) -> list[Any]:
    keep = server.connect("billing", "billing-word", program_name="invoice-job")
    try:
        return facts_of(reader(server))
    finally:
        keep.close()


def edges(facts: list[Any]) -> set[tuple[str, str, str]]:
    return {(local(e.source), e.relation.value, local(e.target)) for e in facts if isinstance(e, EdgeFact)}


def test_the_manifests_grants_leave_nothing_unseen(facts: list[Any]) -> None:
    assert [fact for fact in facts if isinstance(fact, Skipped)] == []


def test_what_is_wrong_is_found_at_whom_it_concerns(facts: list[Any]) -> None:
    found = {(f.rule, local(str(f.subject))) for f in facts if isinstance(f, FindingFact)}
    assert found >= {
        ("mariadb.no-password", "user/open@%"),
        ("mariadb.anonymous", "user/@10.9.%"),
        ("mariadb.old-hash", "user/old@%"),
        ("mariadb.native-password", "user/billing@%"),
        ("mariadb.shared-password", "user/reports@10.0.0.0/255.0.0.0"),
        ("mariadb.any-host", "user/dba@%"),
        ("mariadb.privileged-login", "user/dba@%"),
        ("mariadb.wildcard-database", "user/billing@%"),
        ("mariadb.grant-tables", "user/billing@%"),
        ("mariadb.orphan-definer", "view/app.ghost"),
    }
    assert ("mariadb.any-host", "user/shut@%") not in found


def test_grants_roles_proxies_and_definers_become_edges(facts: list[Any]) -> None:
    assert edges(facts) >= {
        ("user/billing@%", "can-reach", "database/app%"),
        ("user/reports@10.0.0.0/255.0.0.0", "can-reach", "column/app.orders(id)"),
        ("user/billing@%", "impersonate", "user/dba@%"),
        ("user/billing@%", "assume", "role/app_ro"),
        ("user/billing@%", "member-of", "role/app_ro"),
        ("user/billing@%", "member-of", "role/PUBLIC"),
        ("user/twice@localhost", "assume", "user/dba@%"),
        ("procedure/app.close_day", "runs-as", "user/dba@%"),
        (f"user/{HOSTILE}@%", "can-reach", "database/app"),
    }


def test_global_rights_are_what_the_server_says(server: MariaServer, facts: list[Any]) -> None:
    [everything] = [e for e in facts if isinstance(e, EdgeFact) and local(e.source) == "user/dba@%" and e.actions]
    said = {each[0] for each in server.query("SHOW PRIVILEGES")}
    assert {each.upper() for each in everything.actions} <= {each.upper() for each in said}
    assert "REVOKE" in everything.cut and "`dba`@`%`" in everything.cut


def test_every_cut_is_one_that_the_server_takes() -> None:
    with mariadb_server() as own:
        for lines in ESTATE:
            for statement in lines.split("; "):
                own.query(statement)
        found = facts_of(make(f"mariadb://root@127.0.0.1:{own.port}", {}, ""))
        cuts = {e.cut for e in found if isinstance(e, EdgeFact) and e.cut and "root" not in e.cut}
        assert len(cuts) > 10
        for cut in sorted(cuts, key=lambda text: "ADMIN OPTION" not in text):
            own.query(cut)


def test_who_is_connected_is_seen_with_its_program(facts: list[Any]) -> None:
    [billing] = [f for f in facts if isinstance(f, IdentityFact) and f.title == "billing@%"]
    assert billing.attributes["sessions"] == 1
    assert str(billing.attributes["consumers"]).startswith("invoice-job ")
    assert billing.attributes["last_used"]


def test_a_name_of_several_hosts_is_each_of_them_under_a_condition(facts: list[Any]) -> None:
    found = [e for e in facts if isinstance(e, EdgeFact) and local(e.source) == "user/twice" and e.conditions]
    assert {(local(e.target), e.relation) for e in found} >= {
        ("user/twice@localhost", Relation.ASSUME),
        ("user/twice@10.%", Relation.ASSUME),
    }


@pytest.mark.parametrize("files_first", [True, False])
def test_a_dsn_in_a_file_and_the_login_of_the_server_are_one_identity(server: MariaServer, files_first: bool) -> None:
    dsn = f"mysql://billing:billing-word@127.0.0.1:{server.port}/app"
    identity, credentials = joined(dsn, "mariadb", reader(server), files_first=files_first, user="billing")
    assert identity.system == "mariadb" or files_first
    assert sorted(each.exposed for each in credentials) == [False, True]


@pytest.mark.parametrize("table", ["mysql.db ", "mysql.proxies_priv", "mysql.proc ", "mysql.global_priv"])
def test_a_table_that_may_not_be_read_is_said_and_hides_no_other(server: MariaServer, table: str) -> None:
    user = "half_" + table.strip().rpartition(".")[2]
    for statement in needs(without=table):
        server.query(statement.replace("remit_reader", user))
    try:
        found = facts_of(reader(server, user))
        assert [f.reason for f in found if isinstance(f, Skipped)] in (["not-permitted"], ["not-permitted"] * 2)
        assert any(isinstance(f, IdentityFact) and f.title == "billing@%" for f in found) == ("global" not in table)
        assert any(isinstance(f, EdgeFact) and local(f.target).startswith("column/") for f in found)
    finally:
        server.query(f"DROP USER {user}@'%'")


def test_columns_of_mysql_user_do_where_hashes_must_not_be_readable(server: MariaServer) -> None:
    alternative = MANIFEST.needs[-1].grant.replace("'…'", "'%'")
    for statement in [*needs(without="global_priv"), alternative]:
        server.query(statement.replace("remit_reader", "blind_reader"))
    try:
        found = facts_of(reader(server, "blind_reader"))
        assert any(isinstance(f, IdentityFact) and f.title == "billing@%" for f in found)
        assert [f.what for f in found if isinstance(f, Skipped)] == ["mysql.global_priv"]
    finally:
        server.query("DROP USER blind_reader@'%'")


def test_logins_that_go_while_they_are_read_harm_nobody(server: MariaServer) -> None:
    many = ", ".join(f"many{number:05}@localhost" for number in range(1200))
    server.query(f"CREATE USER {many}")
    try:
        connector, run_of = reader(server), scan()
        connector.open()
        seen = []
        for count, raw in enumerate(connector.fetch(run_of)):
            seen += [] if isinstance(raw, Skipped) else list(connector.translate(raw, run_of))
            if count == 5:
                server.query("DROP USER many00999@localhost, many01100@localhost")
        connector.close()
        titles = {fact.title for fact in seen if isinstance(fact, IdentityFact)}
        assert {"many00000@localhost", "many01199@localhost", "twice@localhost"} <= titles
        assert "many01100@localhost" not in titles
    finally:
        server.query(f"DROP USER IF EXISTS {many}")


def test_a_wrong_password_and_a_dead_port_are_told_apart(server: MariaServer) -> None:
    with pytest.raises(Misconfigured, match=r"refuses `remit_reader`"):
        reader(server, secret="wrong-word").open()
    with pytest.raises(Unavailable):
        make("mariadb://remit_reader@127.0.0.1:1", {}, SECRET).open()


@pytest.mark.parametrize("source", ["mariadb://a:b@host", "http://host", "mariadb://", "x", "mariadb://h:99999"])
def test_a_source_that_is_none_is_refused(source: str) -> None:
    with pytest.raises(Rejected) as refused:
        make(source, {}, "")
    assert refused.value.code == "inventory.source.unfit"


def test_a_server_that_dies_half_way_ends_the_run_with_an_error() -> None:
    with mariadb_server() as own:
        connector = make(f"mariadb://root@127.0.0.1:{own.port}", {}, "")
        connector.open()
        records = connector.fetch(scan())
        next(records)
        own.kill()
        with pytest.raises(Unavailable):
            list(records)
        connector.close()


def test_a_live_session_is_a_use_of_the_account_that_the_server_took(facts: list[Any]) -> None:
    [fact] = [each for each in facts if isinstance(each, UseFact)]
    [session] = [each for each in fact.sessions if "billing" in each.use.name]
    assert session.use.name.endswith(":user:billing@%25")
    assert session.use.program == "invoice-job"
    assert session.number > 0


def test_the_life_of_a_server_has_one_name(server: MariaServer) -> None:
    logs = set()
    for _ in range(2):
        with server.connect("billing", "billing-word"):
            [fact] = [each for each in facts_of(reader(server)) if isinstance(each, UseFact)]
        logs.add(fact.log)
    assert len(logs) == 1
