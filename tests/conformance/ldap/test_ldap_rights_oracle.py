"""Our evaluation of access rules against `slapacl`: who, entry, attribute, of random rules."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from remit.inventory.connectors.ldap_access import (
    ADD,
    AUTH,
    COMPARE,
    DELETE,
    DISCLOSE,
    MANAGE,
    READ,
    SEARCH,
    WRITE,
    Entry,
    Groups,
    Subject,
    dn_of,
    evaluate,
    rules_of,
)  # fmt: skip

TOP = "dc=example,dc=org"
PEOPLE = ["cn=ann,ou=people,dc=example,dc=org", "cn=bob,ou=people,dc=example,dc=org", f"cn=svc,ou=apps,{TOP}"]
ENTRIES = [TOP, f"ou=people,{TOP}", f"ou=apps,{TOP}", *PEOPLE, f"cn=deep,cn=svc,ou=apps,{TOP}", f"cn=staff,{TOP}"]
GROUPS = {f"cn=staff,{TOP}": PEOPLE[:1], f"cn=jobs,{TOP}": PEOPLE[1:]}
ATTRIBUTES = ["userPassword", "cn", "sn", "description", "member", "entry", "children", "telephoneNumber"]
STYLES = ["exact", "base", "one", "subtree", "children"]
LEVELS = {"disclose": DISCLOSE, "auth": AUTH, "compare": COMPARE, "search": SEARCH, "read": READ, "add": ADD,
          "delete": DELETE, "write": WRITE, "manage": MANAGE}  # fmt: skip
CONFIG = """dn: cn=config
objectClass: olcGlobal
cn: config

dn: cn=module{{0}},cn=config
objectClass: olcModuleList
cn: module{{0}}
olcModulePath: /usr/lib/ldap
olcModuleLoad: back_mdb

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file:///etc/ldap/schema/core.ldif
include: file:///etc/ldap/schema/cosine.ldif
include: file:///etc/ldap/schema/inetorgperson.ldif

dn: olcDatabase={{1}}mdb,cn=config
objectClass: olcMdbConfig
olcDatabase: {{1}}mdb
olcSuffix: dc=example,dc=org
olcRootDN: cn=root,dc=example,dc=org
olcDbDirectory: {folder}/db
{rules}
"""


def tool(*words: str, text: str = "") -> str:
    program = shutil.which(words[0], path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip(f"{words[0]}: not installed")
    done = subprocess.run([program, *words[1:]], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def directory() -> str:
    units = [f"dn: {TOP}\nobjectClass: dcObject\nobjectClass: organization\no: e\ndc: example\n"]
    units += [f"dn: ou={ou},{TOP}\nobjectClass: organizationalUnit\nou: {ou}\n" for ou in ("people", "apps")]
    for dn in [*PEOPLE, f"cn=deep,cn=svc,ou=apps,{TOP}"]:
        cn = dn.partition(",")[0].removeprefix("cn=")
        units.append(f"dn: {dn}\nobjectClass: person\ncn: {cn}\nsn: {cn}\nuserPassword: x\n")
    for dn, members in GROUPS.items():
        cn = dn.partition(",")[0].removeprefix("cn=")
        lines = "".join(f"member: {member}\n" for member in members)
        units.append(f"dn: {dn}\nobjectClass: groupOfNames\ncn: {cn}\n{lines}")
    return "\n".join(units)


@contextmanager
def configured(rules: list[str]) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="remit-acl-", dir="/tmp"))
    try:
        for name in ("config", "db"):
            (folder / name).mkdir()
        lines = "\n".join(f"olcAccess: {{{number}}}{rule}" for number, rule in enumerate(rules))
        tool("slapadd", "-n", "0", "-F", str(folder / "config"), text=CONFIG.format(folder=folder, rules=lines))
        tool("slapadd", "-n", "1", "-F", str(folder / "config"), text=directory())
        yield folder / "config"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def random_rules(pick: random.Random) -> list[str]:
    return [f"to {what(pick)} {' '.join(f'by {clause(pick)}' for _ in range(pick.randint(1, 4)))}"
            for _ in range(pick.randint(2, 6))]  # fmt: skip


def what(pick: random.Random) -> str:
    words = []
    if pick.random() < 0.7:
        words.append(f'dn.{pick.choice(STYLES)}="{pick.choice(ENTRIES)}"')
    if pick.random() < 0.6:
        words.append("attrs=" + ",".join(pick.sample([*ATTRIBUTES, "name"], pick.randint(1, 3))))
    return " ".join(words) or "*"


def clause(pick: random.Random) -> str:
    who = pick.choice([
        "*", "anonymous", "users", "self", f'dn.{pick.choice(STYLES)}="{pick.choice(ENTRIES)}"',
        f'group.exact="{pick.choice(list(GROUPS))}"', "dnattr=member", f'group.exact="{pick.choice(list(GROUPS))}" dnattr=member',
    ])  # fmt: skip
    levels = ["none", "disclose", "auth", "compare", "search", "read", "write", "add", "delete", "manage"]
    letters = "".join(pick.sample("dxcsrwazm", pick.randint(1, 4)))
    access = pick.choice([pick.choice(levels), pick.choice("=+-") + letters, ""])
    return " ".join(filter(None, (who, access, pick.choice(["", "", "stop", "continue", "break"]))))


def told(text: str) -> dict[tuple[str, str], bool]:
    """What slapacl answers, by attribute and level."""
    found = re.findall(r"^(\w+) access to (\w+): (ALLOWED|DENIED)$", text, re.MULTILINE)
    return {(attribute, level): said == "ALLOWED" for level, attribute, said in found}


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_we_answer_as_slapacl_does(seed: int) -> None:
    texts = random_rules(random.Random(seed))
    rules = list(rules_of(texts))
    members = {
        dn: frozenset(filter(None, map(dn_of, given))) for group, given in GROUPS.items() if (dn := dn_of(group))
    }
    groups = Groups(members=members, complete=True)
    count, differences = 0, []
    with configured(texts) as config:
        for who in ["", *PEOPLE, f"cn=deep,cn=svc,ou=apps,{TOP}"]:
            subject = Subject(dn=dn_of(who)) if who else Subject(anonymous=True)
            for entry in ENTRIES:
                asked = [f"{attribute}/{level}" for attribute in ATTRIBUTES for level in LEVELS]
                said = told(tool("slapacl", "-F", str(config), "-b", entry, *(["-D", who] if who else []), *asked))
                about = Entry(dn=dn_of(entry) or (), attributes={"member": GROUPS.get(entry, [])})
                for (attribute, level), allowed in said.items():
                    verdict = evaluate(rules, subject, about, attribute, groups)
                    count += 1
                    assert verdict.certain == verdict.possible
                    if (verdict.certain & LEVELS[level] == LEVELS[level]) is not allowed:
                        differences.append((who, entry, attribute, level, allowed))
    assert count >= 1_000
    assert differences == []


def test_what_is_not_evaluated_is_unknown_and_not_no() -> None:
    rules = list(rules_of(['to * by set="this/manager & user" write by peername.ip=127.0.0.1 read by * none']))
    verdict = evaluate(rules, Subject(dn=dn_of(PEOPLE[0])), Entry(dn=dn_of(TOP) or ()), "cn")
    assert (verdict.certain, verdict.possible) == (0, WRITE | READ | SEARCH | COMPARE | AUTH | DISCLOSE)
