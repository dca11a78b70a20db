"""The LDAP connector on a real slapd, with exactly the access rules that its manifest names."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ldap_people import READER, READER_WORD, TOLD, account, granted, plant
from ldap_stage import SUFFIX, LdapServer, ldap_server
from remit.inventory.connectors.files.keys import read_ssh_line
from remit.inventory.connectors.ldap import MANIFEST, LdapConnector, make
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of, fingerprint
from remit.inventory.model import CredentialFact, EdgeFact, Fact, FindingFact, IdentityFact, OwnerFact, Skipped
from remit.kernel.errors import Misconfigured, Rejected, Unavailable
from remit.kernel.ids import Name, name
from remit.providers.ldap.hashing import hashed


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text().strip()


@pytest.fixture(scope="module")
def server(key: str) -> Iterator[LdapServer]:
    with ldap_server() as made:
        plant(made, key, hashed("ssha", READER_WORD, secrets.token_bytes))
        made.access(granted())
        yield made


def reader(server: LdapServer, secret: str = READER_WORD, **options: str) -> LdapConnector:
    return make(f"ldaps://127.0.0.1:{server.tls_port}/{SUFFIX}", {"bind": READER, "ca": server.ca, **options}, secret)


@pytest.fixture(scope="module")
def instance(server: LdapServer) -> str:
    connector = reader(server)
    connector.open()
    connector.close()
    return connector.instance


@pytest.fixture(scope="module")
def facts(server: LdapServer) -> list[Fact]:
    return facts_of(reader(server))


def entry(instance: str, cn: str, unit: str = "accounts") -> Name:
    return name("ldap", instance, "entry", f"cn={cn},ou={unit},{SUFFIX}")


@pytest.fixture(scope="module")
def stage(server: LdapServer, instance: str, key: str) -> ConnectorStage:
    return ConnectorStage(
        connector=lambda: reader(server),
        expected=[
            *(entry(instance, each) for each in ("svc-sql", "front", "middle", "gone", "web01", "gmsa", "loader")),
            entry(instance, "somebody", "service accounts"), entry(instance, "team", "groups"),
            name("ldap", f"127.0.0.1:{server.tls_port}", "user", f"cn=svc-sql,ou=accounts,{SUFFIX}"),
            read_ssh_line(key.split()[1]).fingerprint, fingerprint(TOLD.encode()),
        ],
        secrets=[READER_WORD, TOLD, "wrong-word-here"],
        refused=lambda: reader(server, "wrong-word-here"),
    )  # fmt: skip


class TestLdap(ConnectorContract):
    pass


def edges(facts: list[Fact], relation: str) -> set[tuple[Name, Name]]:
    return {(f.source, f.target) for f in facts if isinstance(f, EdgeFact) and f.relation.value == relation}


def found(facts: list[Fact], of: Name) -> IdentityFact:
    return next(fact for fact in facts if isinstance(fact, IdentityFact) and fact.name == of)


def test_persons_are_counted_and_not_kept(facts: list[Fact], instance: str) -> None:
    assert entry(instance, "ann lee") not in {fact.name for fact in facts if isinstance(fact, IdentityFact)}
    assert [fact.what for fact in facts if isinstance(fact, Skipped) and fact.reason == "pruned"] == [
        "1 accounts of persons"
    ]


def test_the_evidence_of_a_machine_is_told(facts: list[Fact], instance: str) -> None:
    told = {
        cn: found(facts, entry(instance, cn)).attributes["evidence"] for cn in ("svc-sql", "web01", "front", "gone")
    }
    assert told == {"svc-sql": "a service principal", "web01": "class computer", "front": "delegation",
                    "gone": "a name of services"}  # fmt: skip


def test_flags_become_state(facts: list[Fact], instance: str) -> None:
    assert found(facts, entry(instance, "gone")).attributes["can_login"] is False
    sql = found(facts, entry(instance, "svc-sql")).attributes
    assert sql["privileged"] is True and sql["password_never_expires"] is True and TOLD not in str(sql["purpose"])


def test_a_password_has_an_age_and_a_last_use(facts: list[Fact], instance: str) -> None:
    password = next(
        f for f in facts if isinstance(f, CredentialFact) and f.identity == entry(instance, "svc-sql") and not f.exposed
    )
    assert password.issued == datetime(2019, 4, 17, 18, 40, tzinfo=UTC)
    assert password.last_used == datetime(2019, 4, 18, 18, 40, tzinfo=UTC)


def test_delegation_of_every_kind_is_an_edge(facts: list[Fact], instance: str) -> None:
    acts = edges(facts, "impersonate")
    service = name("ldap", instance, "spn", "mssql/db.example.org:1433")
    owner = name("ldap", instance, "sid", "S-1-5-21-1-2-3-1104")
    assert acts == {
        (entry(instance, "front"), name("ldap", instance, "group", "everybody of the directory")),
        (entry(instance, "middle"), service), (owner, entry(instance, "web01")),
    }  # fmt: skip
    assert {service, owner} <= set(found(facts, entry(instance, "svc-sql")).aliases)


def test_groups_hold_members_however_their_names_are_spelt(facts: list[Fact], instance: str) -> None:
    members = edges(facts, "member-of")
    assert (entry(instance, "svc-sql"), entry(instance, "team", "groups")) in members
    assert (entry(instance, "writers", "groups"), entry(instance, "team", "groups")) in members
    assert (entry(instance, "svc-sql"), name("ldap", instance, "sid", "S-1-5-21-1-2-3-512")) in members


def test_owners_are_proposed(facts: list[Fact], instance: str) -> None:
    proposed = {(fact.identity, fact.owner) for fact in facts if isinstance(fact, OwnerFact)}
    assert proposed == {(entry(instance, "svc-sql"), "Ann Lee"), (entry(instance, "team", "groups"), "Ann Lee")}


def test_what_is_wrong_is_found(facts: list[Fact]) -> None:
    assert {fact.rule for fact in facts if isinstance(fact, FindingFact)} == {
        "ldap.secret-in-description", "ldap.no-preauthentication", "ldap.password-never-expires", "ldap.crackable-service",
        "ldap.unconstrained-delegation", "ldap.old-password",
    }  # fmt: skip


def test_the_reader_can_read_no_hash_and_finds_who_has_a_password(
    server: LdapServer, facts: list[Fact], instance: str
) -> None:
    said = server.tool(
        "ldapsearch", "-LLL", "-b", SUFFIX, "(cn=loader)", "userPassword", "cn", user=READER, secret=READER_WORD
    )
    assert "cn: loader" in said.stdout and "userPassword" not in said.stdout
    assert found(facts, entry(instance, "loader")).attributes["has_password"] is True
    assert "has_password" not in found(facts, entry(instance, "front")).attributes


def test_access_rules_that_are_closed_are_said(facts: list[Fact]) -> None:
    assert "access rules of cn=config" in {fact.what for fact in facts if isinstance(fact, Skipped)}


def test_access_rules_become_edges(server: LdapServer, instance: str) -> None:
    connector = make(
        f"ldaps://127.0.0.1:{server.tls_port}/{SUFFIX}", {"bind": "cn=config", "ca": server.ca}, server.password
    )
    facts = facts_of(connector)
    reach = {
        (f.source, f.actions[0].split()[0])
        for f in facts
        if isinstance(f, EdgeFact) and f.relation.value == "can-reach"
    }
    assert (name("ldap", connector.instance, "entry", READER), "read") in reach


def test_without_the_right_to_search_passwords_nothing_else_is_lost(server: LdapServer, instance: str) -> None:
    server.access(granted(passwords=False))
    try:
        facts = facts_of(reader(server))
    finally:
        server.access(granted())
    assert "has_password" not in found(facts, entry(instance, "loader")).attributes
    assert {fact.rule for fact in facts if isinstance(fact, FindingFact)} >= {"ldap.crackable-service"}


def test_more_than_a_page_is_read_and_a_limit_is_said(server: LdapServer) -> None:
    database = "dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\n"
    grant = next(need.grant for need in MANIFEST.needs if need.grant.startswith("olcLimits")).replace("READER", READER)
    numbers = range(520)
    server.change("\n".join(account(f"batch-{number}", classes=("applicationProcess",)) for number in numbers))
    seen = []
    for limit in (grant, f'olcLimits: dn.exact="{READER}" size.soft=100 size.hard=100 size.prtotal=200'):
        server.configure(f"{database}add: olcLimits\n{limit}\n")
        try:
            seen.append(facts_of(reader(server)))
        finally:
            server.configure(f"{database}delete: olcLimits\nolcLimits: {{1}}\n")
    server.change("\n".join(f"dn: cn=batch-{n},ou=accounts,{SUFFIX}\nchangetype: delete\n" for n in numbers))
    whole, limited = seen
    assert len([fact for fact in whole if isinstance(fact, IdentityFact)]) > 520
    assert "too-large" in {fact.reason for fact in limited if isinstance(fact, Skipped)}


def test_starttls_and_a_socket_are_fine_and_clear_text_is_not(server: LdapServer, instance: str) -> None:
    url = f"ldap://127.0.0.1:{server.port}/{SUFFIX}"
    connector = make(url, {"bind": READER, "ca": server.ca}, READER_WORD)
    connector.open()
    assert connector.instance == instance
    connector.close()
    with pytest.raises(Misconfigured):
        make(url, {"bind": READER}, READER_WORD).open()
    with pytest.raises(Rejected):
        make("ldap://db.example.org/dc=example", {"tls": "none"}, READER_WORD)


def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        make(f"ldapi://{str(tmp_path / 'none').replace('/', '%2F')}/dc=example", {}, "").open()


@pytest.mark.parametrize(
    "source", ["", "http://host", "ldaps://user:word@host/dc=x", "ldaps://host/nonsense", "ldaps:///dc=x"]
)
def test_what_is_no_source_is_refused(source: str) -> None:
    with pytest.raises(Rejected):
        make(source, {}, "")
