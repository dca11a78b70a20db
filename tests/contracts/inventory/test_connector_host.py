"""The host connector on a root directory with everything planted, and on this machine; sudo's own tools as judges."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from remit.inventory.connectors.files.connector import FilesConnector
from remit.inventory.connectors.host import HostConnector, make
from remit.inventory.connectors.host.sudoers import gather, parse_sudoers
from remit.inventory.connectors.testing import ConnectorContract, ConnectorStage, facts_of, fingerprint
from remit.inventory.model import CredentialFact, EdgeFact, Fact, FindingFact, IdentityFact, Skipped
from remit.kernel.errors import Rejected
from remit.kernel.ids import Name, credential_name, name

TOKEN = "sk-" + "q8W2" * 9
WORD = "Zk81-hunter-of-words"
MACHINE = "0123456789abcdef0123456789abcdef"
FILES = {
    "etc/machine-id": MACHINE,
    "etc/hostname": "shop.example.org\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n"
    "shop:x:990:990:Shop:/srv/shop:/usr/sbin/nologin\ndeploy:x:1001:1001::/home/deploy:/bin/sh\n"
    "ann:x:1002:1002:Ann Lee:/home/ann:/bin/bash\ntoor:x:0:0::/root:/bin/bash\n\x00\xff:broken\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\ndeploy:$1$abcdefgh$G9DqkxnQMcfD4rzQ7LQDN1:19000:0:90:7:::\n"
    "ann:$6$saltsalt$hash:20000:0:99999:7:::\ntoor::19000:0:99999:7:::\nshop:!:19000::::::\n",
    "etc/group": "root:x:0:\ndocker:x:998:deploy\nsudo:x:27:ann\nshop:x:990:\n",
    "etc/systemd/system/shop.service": "[Unit]\nDescription=The shop\n[Service]\nUser=wrong\n"
    f"ExecStart=/srv/shop/run --token {TOKEN}\nEnvironmentFile=/etc/shop.env\nLoadCredential=db:/etc/shop.db\n",
    "etc/systemd/system/shop.service.d/user.conf": "[Service]\nUser=shop\n",
    "etc/systemd/system/shop.timer": "[Timer]\nOnCalendar=hourly\n",
    "etc/systemd/system/dyn.service": "[Service]\nDynamicUser=yes\nExecStart=/bin/true\n",
    "usr/lib/systemd/system/platform.service": "[Service]\nExecStart=/bin/true\n",
    "etc/shop.env": f"DATABASE_URL=postgres://shop:{WORD}@db.example.org/shop\n",
    "etc/shop.db": WORD + "\n",
    "etc/crontab": "SHELL=/bin/sh\n17 * * * * root /opt/job.sh\nnonsense\n",
    "var/spool/cron/crontabs/deploy": f"@daily curl -H 'Authorization: Bearer {TOKEN}' https://example.org\n",
    "etc/cron.daily/tidy": "#!/bin/sh\n",
    "opt/job.sh": "#!/bin/sh\n",
    "opt/elevate": "x",
    "etc/sudoers": "Defaults env_reset\nCmnd_Alias RESTART = /bin/systemctl restart shop\n"
    "%sudo ALL=(ALL:ALL) ALL\ndeploy ALL=(root) NOPASSWD: RESTART, /usr/bin/vim\n@includedir /etc/sudoers.d\n",
    "etc/sudoers.d/10-shop": "shop ALL=(deploy) NOPASSWD: ALL\n@include /etc/sudoers.d/10-shop\n",
    "etc/sudoers.d/ignored.bak": "nobody ALL=(ALL) NOPASSWD: ALL\n",
    "etc/doas.conf": "permit nopass shop as ann cmd /bin/ls\nwhat is this\n",
    "etc/polkit-1/rules.d/50.rules": "polkit.addRule()",
}


def plant(root: Path) -> Path:
    for path, text in FILES.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="latin-1")
        target.chmod(0o600)
    (root / "etc/cron.daily/tidy").chmod(0o755)
    (root / "opt/job.sh").chmod(0o777)
    (root / "opt/elevate").chmod(0o4755)
    (root / "etc/systemd/system/evil\nname.service").write_text("[Service]\nUser=shop\nExecStart=/bin/true\n")
    (root / "etc/cron.d").symlink_to("/../../../etc/cron.d/../cron.d")
    (root / "var/log").mkdir()
    record = struct.pack("<hxxi32s4s32s256shhiii16s20x", 7, 1, b"", b"", b"deploy", b"", 0, 0, 0, 1_790_000_000, 0, b"")
    (root / "var/log/wtmp").write_bytes(b"broken" + record)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def facts(root: Path) -> list[Fact]:
    return facts_of(make(str(root), {}, ""))


@pytest.fixture(scope="module")
def host(root: Path) -> str:
    connector = HostConnector(root)
    connector.open()
    return connector.instance


@pytest.fixture(scope="module")
def stage(root: Path, host: str) -> Iterator[ConnectorStage]:
    yield ConnectorStage(
        connector=lambda: make(str(root), {}, ""),
        expected=[
            name("host", host, "unit", "shop.service"), name("host", host, "unit-account", "x").replace(
                "unit-account:x", "unix-account:deploy"), name("host", host, "unix-group", "docker"),
            name("host", host, "cron", "cron.daily/tidy"), fingerprint(WORD.encode()),
        ],
        secrets=[TOKEN, WORD, "$6$saltsalt$hash", "G9DqkxnQMcfD4rzQ7LQDN1"],
        refused=lambda: make("/nonexistent", {}, ""),
    )  # fmt: skip


class TestHost(ConnectorContract):
    pass


def edge(facts: list[Fact], source: Name, relation: str, target: Name) -> EdgeFact:
    return next(
        fact for fact in facts
        if isinstance(fact, EdgeFact) and (fact.source, fact.relation.value, fact.target) == (source, relation, target)
    )  # fmt: skip


def account(host: str, login: str) -> Name:
    return name("host", host, "unix-account", login)


def rules(facts: list[Fact]) -> set[tuple[str, str]]:
    return {(fact.rule, fact.severity.value) for fact in facts if isinstance(fact, FindingFact)}


def test_a_drop_in_says_as_whom_a_unit_runs(facts: list[Fact], host: str) -> None:
    edge(facts, name("host", host, "unit", "shop.service"), "runs-as", account(host, "shop"))
    assert account(host, "wrong") not in {fact.target for fact in facts if isinstance(fact, EdgeFact)}


def test_a_unit_holds_what_its_environment_file_and_credentials_say(facts: list[Fact], host: str) -> None:
    unit = name("host", host, "unit", "shop.service")
    for secret in (WORD, TOKEN):
        edge(facts, unit, "holds", credential_name(fingerprint(secret.encode())))


def test_the_files_connector_calls_the_unit_the_same(root: Path, host: str) -> None:
    found = facts_of(FilesConnector(root / "etc/systemd", instance=host))
    assert name("host", host, "unit", "shop.service") in {f.name for f in found if isinstance(f, IdentityFact)}


def test_a_timer_says_when(facts: list[Fact]) -> None:
    assert any(isinstance(f, IdentityFact) and f.attributes.get("schedule") == "OnCalendar=hourly" for f in facts)


def test_the_platforms_own_units_are_nobodys_identity(facts: list[Fact]) -> None:
    assert not [fact for fact in facts if isinstance(fact, IdentityFact) and "platform" in fact.name]


def test_sudo_rules_become_edges_with_their_conditions(facts: list[Fact], host: str) -> None:
    group = name("host", host, "unix-group", "sudo")
    assert edge(facts, group, "assume", account(host, "root")).conditions == ("by the account's own password",)
    assert edge(facts, account(host, "shop"), "assume", account(host, "deploy")).conditions == ()
    assert edge(facts, account(host, "deploy"), "assume", account(host, "root")).actions == (
        "/bin/systemctl restart shop", "/usr/bin/vim",
    )  # fmt: skip


def test_what_is_wrong_is_found(facts: list[Fact]) -> None:
    assert rules(facts) >= {
        ("host.become-without-password", "high"), ("host.become-by-escape", "high"), ("host.legacy-hash", "medium"),
        ("host.no-password", "critical"), ("host.second-root", "high"), ("host.root-by-group", "high"),
        ("host.writable-program", "high"), ("host.elevating-program", "high"),
    }  # fmt: skip


def test_what_could_not_be_read_is_said(facts: list[Fact]) -> None:
    said = {(fact.what.rpartition("/")[2], fact.reason) for fact in facts if isinstance(fact, Skipped)}
    assert said >= {("10-shop", "malformed"), ("50.rules", "not-supported"), ("crontab", "malformed"),
                    ("doas.conf", "malformed")}  # fmt: skip


def test_passwords_have_a_kind_an_age_and_an_end(facts: list[Fact], host: str) -> None:
    found = {f.title: f for f in facts if isinstance(f, CredentialFact)}["password of deploy"]
    assert found.attributes["hash"] == "md5" and found.issued and found.expires
    assert (found.expires - found.issued).days == 90 and found.identity == account(host, "deploy")


def test_the_last_login_is_read_from_a_damaged_wtmp(facts: list[Fact], host: str) -> None:
    found = next(
        f
        for f in facts
        if isinstance(f, IdentityFact) and f.name == account(host, "deploy") and f.attributes.get("uid")
    )
    assert str(found.attributes["last_used"]).startswith("2026-09-21")


def test_links_do_not_lead_out_of_the_root(root: Path) -> None:
    tree = HostConnector(root)
    tree.open()
    assert tree._tree.real("/etc/cron.d") is None


def test_a_directory_without_etc_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as refused:
        make(str(tmp_path), {}, "").open()
    assert refused.value.code == "inventory.host.no_root"


def test_this_machine_is_read_and_what_listens_is_seen() -> None:
    found = facts_of(make("/", {}, ""))
    assert any(isinstance(f, IdentityFact) and f.title == "root" for f in found)


def judged(text: str) -> list[tuple[str, str, bool]]:
    """User, target and whether a password is asked for, as sudo's own converter reads the rules."""
    tool = shutil.which("cvtsudoers", path=f"{os.environ['PATH']}:/usr/sbin")
    if tool is None:
        pytest.skip("sudo: not installed")
    done = subprocess.run([tool, "-e", "-f", "json"], input=text, capture_output=True, text=True, check=True)
    found = []
    for spec in json.loads(done.stdout).get("User_Specs", []):
        for commands in spec["Cmnd_Specs"]:
            asks = not any(option.get("authenticate") is False for option in commands.get("Options", []))
            for user in spec["User_List"]:
                for target in commands.get("runasusers", [{"username": "root"}]):
                    for _ in commands["Commands"]:
                        found.append((next(iter(user.values())), next(iter(target.values())), asks))
    return sorted(found, key=str)


@pytest.mark.parametrize("text", [
    "ann ALL=(ALL) ALL\n",
    "User_Alias OPS = ann, bob\nOPS ALL = (root, deploy) NOPASSWD: /bin/ls, PASSWD: /bin/cat\n",
    "%wheel web1,web2 = NOPASSWD: /usr/bin/apt-get update : db = /bin/ls\n",
    "ann , bob ALL = \\\n  (deploy) NOPASSWD: SETENV: /bin/a \\, b, sha224:" + "0" * 56 + " /bin/c\n",
    "#1000 ALL=(ALL) NOEXEC: NOPASSWD: /bin/ls # remark\n",
    "Cmnd_Alias X = /bin/a, /bin/b : Y = /bin/c\nann ALL = NOPASSWD: X, Y\n",
    'ann ALL=(root) TIMEOUT=5m NOPASSWD: /bin/ls ""\n',
])  # fmt: skip
def test_rules_are_read_as_sudo_reads_them(text: str) -> None:
    ours = [
        (user.lstrip("%#"), target, grant.asks)
        for grant in parse_sudoers([("s", text.encode(), 1)]).grants for user in grant.users for target in grant.runas
    ]  # fmt: skip
    assert sorted(ours, key=str) == [(str(user).lstrip("%#"), target, asks) for user, target, asks in judged(text)]


def test_includes_that_go_in_circles_end() -> None:
    files = {"/etc/sudoers": b"@include b\nann ALL=ALL\n", "/etc/b": b"#include /etc/sudoers\nbob ALL=ALL\n"}
    parts, left_out = gather("/etc/sudoers", files.get, lambda directory: ())
    assert [grant.users for grant in parse_sudoers(parts).grants] == [("bob",), ("ann",)]
    assert left_out == ["/etc/sudoers"]
