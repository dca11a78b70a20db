"""What the access rules of a real slapd let somebody do: our edges, and the same tried by logins."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from ldap_stage import SUFFIX, LdapServer, ldap_server
from remit.inventory.connectors.ldap import make
from remit.inventory.connectors.port import Scan
from remit.inventory.model import EdgeFact, FindingFact, Skipped
from remit.kernel.ids import name, parse_name
from remit.providers.ldap.hashing import hashed

UNIT = f"ou=admins,{SUFFIX}"
WORD = "login-word-4T"
LOGINS = ("help", "half", "app", "loader")
RULES = [
    f'to dn.subtree="{UNIT}" attrs=userPassword by dn.exact="cn=help,{UNIT}" write '
    f'by set="this/owner & user" write by anonymous auth',
    'to attrs=userPassword by anonymous auth',
    f'to dn.subtree="ou=data,{SUFFIX}" by dn.exact="cn=half,{UNIT}" none by group.exact="cn=writers,ou=groups,{SUFFIX}" write',
    'to * by users read',
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    server: LdapServer
    instance: str
    edges: list[EdgeFact]
    findings: list[FindingFact]

    def login(self, cn: str) -> str:
        return name("ldap", self.instance, "entry", f"cn={cn},{UNIT}".lower())

    def of(self, source: str, relation: str) -> list[tuple[str, EdgeFact]]:
        return [((parse_name(e.target) or ("",) * 4)[3], e) for e in self.edges
                if (e.source, e.relation.value) == (source, relation)]  # fmt: skip

    def group(self, local: str) -> str:
        return name("ldap", self.instance, "group", local)


def account(cn: str) -> str:
    word = hashed("ssha", WORD, secrets.token_bytes)
    return (f"dn: cn={cn},{UNIT}\nchangetype: add\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
            f"cn: {cn}\nuserPassword: {word}\n")  # fmt: skip


def read(server: LdapServer) -> Seen:
    source = f"ldaps://127.0.0.1:{server.tls_port}/{SUFFIX}"
    both = make(source, {"bind": "cn=config", "ca": server.ca}, server.password)
    scan = Scan(now=datetime(2026, 11, 1, tzinfo=UTC), fingerprint=lambda secret: "hmac:00")
    both.open()
    try:
        facts = [fact for raw in both.fetch(scan) if not isinstance(raw, Skipped) for fact in both.translate(raw, scan)]
        return Seen(server, both.instance, [f for f in facts if isinstance(f, EdgeFact)],
                    [f for f in facts if isinstance(f, FindingFact)])  # fmt: skip
    finally:
        both.close()


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    with ldap_server(expiry=False, monitor=False) as server:
        server.change("\n".join(account(cn) for cn in LOGINS))
        server.change(f"dn: cn=writers,ou=groups,{SUFFIX}\nchangetype: modify\nadd: member\nmember: cn=app,{UNIT}\n")
        server.access(RULES)
        # The configuration's own login sees the entries too, to have both in one reading.
        server.configure(
            "dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\nreplace: olcRootDN\nolcRootDN: cn=config\n-\n"
            "delete: olcRootPW\n"
        )
        yield read(server)


def sets_password(seen: Seen, who: str, whose: str) -> bool:
    text = f"dn: cn={whose},{UNIT}\nchangetype: modify\nreplace: userPassword\nuserPassword: {WORD}\n"
    return seen.server.tool("ldapmodify", user=f"cn={who},{UNIT}", secret=WORD, text=text).returncode == 0


def test_who_may_set_a_password_is_the_account_and_nobody_else(seen: Seen) -> None:
    for who in LOGINS:
        certain = {local for local, e in seen.of(seen.login(who), "impersonate") if not e.conditions}
        for whose in ("loader", "app"):
            if who != whose:
                assert (f"cn={whose},{UNIT}" in certain) is sets_password(seen, who, whose), (who, whose)


def test_a_set_is_not_evaluated_and_said_to_be_a_condition(seen: Seen) -> None:
    edges = dict(seen.of(seen.group("everybody logged in"), "impersonate"))
    assert edges[f"cn=loader,{UNIT}"].conditions


def test_a_group_that_an_earlier_clause_thins_out_has_the_right_conditionally(seen: Seen) -> None:
    group = name("ldap", seen.instance, "entry", f"cn=writers,ou=groups,{SUFFIX}")
    [(_, edge)] = [
        (at, e) for at, e in seen.of(group, "can-reach") if at == f"ou=data,{SUFFIX}" and "write" in e.actions
    ]
    assert edge.conditions


def test_a_cut_is_a_change_that_takes_the_right_away(seen: Seen) -> None:
    [edge] = [e for at, e in seen.of(seen.login("help"), "impersonate") if at == f"cn=loader,{UNIT}"]
    assert sets_password(seen, "help", "loader")
    seen.server.configure("\n".join(edge.cut.split(" | ")) + "\n")
    try:
        assert not sets_password(seen, "help", "loader")
        after = read(seen.server)
        assert not [at for at, e in after.of(after.login("help"), "impersonate") if not e.conditions]
    finally:
        seen.server.access(RULES)


def test_what_anybody_may_write_is_a_finding(seen: Seen) -> None:
    assert not [f for f in seen.findings if f.rule == "ldap.open-access"]
    seen.server.access(["to * by * write"])
    try:
        assert [f for f in read(seen.server).findings if f.rule == "ldap.open-access"]
    finally:
        seen.server.access(RULES)
