"""A directory of people: a SCIM server of others, and a file; who leaves it leaves what they own."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from installation import Installation, installation
from patience import until_ready
from ports import free_port, on_a_free_port
from remit.kernel.errors import Rejected, Unavailable
from remit.providers.directory.scim import read_scim

SERVE = "from scim2_server.testserver.cli import main; main()"
TOKEN = secrets.token_hex(16)  # one that begins with a dash would be taken for an option


@on_a_free_port
def scim_server(folder: Path) -> Iterator[str]:
    """`scim2-server`, in a process of its own."""
    pytest.importorskip("scim2_server", reason="scim2-server: not installed")
    port = free_port()
    said = folder / f"{port}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, "--port", str(port), "--bearer-token", TOKEN], stdout=log, stderr=log
        )
    try:
        address = f"http://127.0.0.1:{port}/v2"
        until_ready(process, said, lambda: call(address, "GET", "/Users"))
        yield address
    finally:
        process.terminate()
        process.wait(60)


def call(address: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    request = urllib.request.Request(
        address + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {TOKEN}", "content-type": "application/scim+json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        raw = answer.read()
    return json.loads(raw) if raw else None


def user(address: str, email: str, *, active: bool = True, manager: str = "") -> str:
    enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
    made = call(
        address, "POST", "/Users",
        {
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", *([enterprise] if manager else [])],
            "userName": email, "displayName": email.partition("@")[0], "active": active,
            "emails": [{"value": email, "primary": True}],
            **({enterprise: {"manager": {"value": manager}}} if manager else {}),
        },
    )  # fmt: skip
    return str(made["id"])


@pytest.fixture(scope="module")
def scim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with scim_server(tmp_path_factory.mktemp("scim")) as address:
        lead = user(address, "lead@example.org")
        ann = user(address, "ann@example.org", manager=lead)
        user(address, "gone@example.org", active=False)
        group = {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "displayName": "Payments",
                 "members": [{"value": ann}]}  # fmt: skip
        call(address, "POST", "/Groups", group)
        for number in range(230):
            user(address, f"p{number}@example.org")
        yield address


def test_every_page_of_users_and_groups_is_read(scim: str) -> None:
    shown = asyncio.run(read_scim(scim, TOKEN))
    people = {each.email: each for each in shown.people}
    assert len(people) == 232
    assert "gone@example.org" not in people
    assert people["ann@example.org"].manager == "lead@example.org"
    assert shown.teams == {"Payments": ("ann@example.org",)}


def test_a_wrong_token_is_a_typed_error_without_the_token(scim: str) -> None:
    with pytest.raises((Rejected, Unavailable)) as caught:
        asyncio.run(read_scim(scim, "wrong-token-8H2"))
    assert "wrong-token-8H2" not in f"{caught.value!r} {caught.value}"


@pytest.fixture(scope="module")
def remit() -> Iterator[Installation]:
    with installation(start=False, REMIT_DIRECTORY_SOURCE="people.csv", REMIT_DIRECTORY_MINUTES="600") as one:
        one.data.mkdir(mode=0o711, exist_ok=True)
        write(one, "ann@example.org", "ben@example.org", "cleo@example.org")
        one.start()
        one.cli("people", "enrol", "root-person", "--email", "root@example.org")
        tree = one.root / "tree"
        tree.mkdir()
        password = secrets.token_hex(12)
        (tree / ".env").write_text(f"DATABASE_URL=postgres://billing:{password}@db.example.org:5432/billing\n")
        git(tree, "init", "-q", "-b", "main")
        git(tree, "add", "-A")
        git(tree, "-c", "user.name=Ann", "-c", "user.email=ann@example.org", "commit", "-q", "-m", "x")
        one.cli("discover", "files", tree)
        yield one


def git(tree: Path, *args: str) -> None:
    subprocess.run(["git", "-C", str(tree), *args], check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"})


def write(one: Installation, *emails: str) -> None:
    rows = "".join(
        f"{each},{each.partition('@')[0]},{'ben@example.org' if each[:3] == 'ann' else ''}\n" for each in emails
    )
    (one.data / "people.csv").write_text("email,name,manager\n" + rows)


def billing(one: Installation) -> str:
    return next(str(row["id"]) for row in one.json("ls") if row["record"] == "identity" and "billing" in row["name"])


def test_a_leaver_is_followed_from_the_directory_to_what_they_owned_and_saw(remit: Installation) -> None:
    write(remit, "ann@example.org", "ben@example.org", "cleo@example.org")
    assert remit.json("directory", "sync")["of"] in (0, 3)
    assert {row["email"] for row in remit.json("directory", "ls")} >= {"ann@example.org", "cleo@example.org"}
    identity = billing(remit)
    ranked = remit.json("own", identity)
    assert ranked["proposals"][0]["owner"] == "person:ann@example.org" and ranked["proposals"][0]["known"]
    remit.cli("own", identity, "ann@example.org")
    assert remit.json("show", identity)["identity"]["owner"] == "person:ann@example.org"

    write(remit, "ben@example.org", "cleo@example.org")
    assert remit.json("directory", "sync", "--dry-run")["left"] == ["ann@example.org"]
    assert remit.json("people", "orphans") == []
    assert remit.json("directory", "sync")["left"] == ["ann@example.org"]
    (orphan,) = remit.json("people", "orphans")
    assert (orphan["identity"], orphan["owner"]) == (identity, "person:ann@example.org")
    saw = json.loads(remit.cli("people", "exposure", "ann@example.org", "--format", "json", code=1).stdout)
    assert any(each["identity"] == identity for each in saw)

    asked = remit.json("own", identity, "--ask")
    assert asked["asked"] == "person:ben@example.org"  # who led her
    remit.cli("own", identity, "ben@example.org")
    assert remit.json("people", "orphans") == []


def test_a_directory_that_cannot_be_read_makes_nobody_a_leaver(remit: Installation) -> None:
    before, text = remit.json("directory", "ls"), (remit.data / "people.csv").read_text()
    (remit.data / "people.csv").write_text("")
    try:
        remit.cli("directory", "sync", code=4)
    finally:
        (remit.data / "people.csv").write_text(text)
    assert remit.json("directory", "ls") == before


def test_a_person_leaves_by_anothers_word(remit: Installation) -> None:
    assert "last active person" in remit.cli("people", "leave", "root-person", "--reason", "x", code=None).stderr
