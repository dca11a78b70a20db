"""Whose a file is, and which machine it lies on."""

from __future__ import annotations

from remit.inventory.connectors.files.host import account_of, host_fingerprint, parse_passwd
from remit.inventory.connectors.files.repository import parse_remote

PASSWD = b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/usr/sbin:/x\npg:x:70:70::/var/lib/pg:/x\nbroken\njo:x:1000:1000::/home/jo:/x\n"


def test_a_machine_keeps_its_fingerprint_and_its_id() -> None:
    machine = b"b08dfa6083e7567a1921a715000001fb"
    assert host_fingerprint(machine) == host_fingerprint(machine + b"\n")
    assert machine.decode() not in host_fingerprint(machine)
    assert host_fingerprint(machine) != host_fingerprint(b"another")


def test_a_home_counts_before_the_owner_of_a_file() -> None:
    accounts, homes = parse_passwd(PASSWD)
    paths = {"/home/jo/a/b": 0, "/var/lib/pg": 0, "/srv": 70, "/srv/x": 4242, "/home/gone/x": 0, "/usr/sbin": 0}
    found = [account_of(path, uid, accounts, homes) for path, uid in paths.items()]
    assert found == ["jo", "pg", "pg", "uid-4242", "gone", "root"]


def test_remotes_name_forge_and_project_without_the_login() -> None:
    urls = [
        "git@github.com:a/b.git",
        "https://u:p@GitLab.acme.com:8443/g/s/p.git",
        "ssh://git@h.x/a/b",
        "/srv/git/x.git",
        "../x",
        "",
    ]
    assert [parse_remote(url) for url in urls] == [
        ("github.com", "a/b"),
        ("gitlab.acme.com", "g/s/p"),
        ("h.x", "a/b"),
        ("", ""),
        ("", ""),
        ("", ""),
    ]
