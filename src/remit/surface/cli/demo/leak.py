"""(a) A static password lies in a repository: whose is it, who uses it, and what does it open?"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from remit.surface.cli.demo import files, shop
from remit.surface.cli.demo.outcome import Step, expect
from remit.surface.cli.demo.stage import Stage


def act(stage: Stage) -> Iterator[str]:
    """1. a repository and a server as found  2. both are read  3. joined  4. owner, dependants, blast radius."""
    # 1. The shop, and its repository with the password in three files.
    server, found = stage.server, stage.found
    found.static_password = secrets.token_urlsafe(18)
    shop.run(shop.build(server, found.static_password))
    dsn = files.connection_string(server.host, server.port, shop.STATIC_ROLE, found.static_password, shop.DATABASE)
    files.write_tree(stage.tree, dsn)

    # 2. Two sources, read without the password of either in an argument.
    seen = stage.ask("discover", "files", str(stage.tree))
    yield f"{seen['facts'].get('credential', 0)} credentials and {seen['facts'].get('finding', 0)} findings in the tree"
    passfile = stage.root / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text(f"{server.host}:{server.port}:*:{server.user}:{server.password}\n")
    url = f"postgres://{server.user}@{server.host}:{server.port}/{shop.DATABASE}"
    stage.ask("discover", "postgres", url, environment={"PGPASSFILE": str(passfile)})

    # 3. The leaked password belongs to one identity: the role that the server knows.
    leaked, role = _leaked(stage)
    found.identity, found.fingerprint = role["id"], leaked["fingerprint"]
    page = stage.ask("show", found.identity)
    connectors = {each["connector"] for each in page["sightings"]}
    expect({"files", "postgres"} <= connectors, "the login in the files is the role on the server")
    places = sorted({_short(stage, each["place"]) for each in page["sightings"] if each["connector"] == "files"})
    yield f"the password of `{role['title']}` lies in {', '.join(places)}; joined with the role on the server"
    expect(not _kept(stage, found.static_password), "Remit keeps a keyed fingerprint and never the password")
    yield f"kept as {found.fingerprint[:17]}…; the password itself is in no file of Remit"

    # 4. Who answers for it, who would notice, and what it opens.
    yield from _owner(stage)
    yield from _reach(stage)


def _leaked(stage: Stage) -> tuple[dict[str, Any], dict[str, Any]]:
    inventory: list[dict[str, Any]] = stage.ask("ls")
    roles = {
        each["id"]: each for each in inventory if each["record"] == "identity" and shop.STATIC_ROLE in each["title"]
    }
    found = [
        each for each in inventory if each["record"] == "credential" and each["exposed"] and each["identity"] in roles
    ]
    expect(len(found) == 1, f"one leaked password is one credential, however often it lies around (found {len(found)})")
    return found[0], roles[found[0]["identity"]]


def _owner(stage: Stage) -> Iterator[str]:
    proposals = stage.ask("own", stage.found.identity)["proposals"]
    expect(proposals, "somebody is proposed as owner, with evidence")
    best = max(proposals, key=lambda each: int(each["score"]))
    said = best["evidence"][0]
    yield f"proposed owner {best['owner']} (score {best['score']}, {said['method']}: {said['text']})"
    stage.cli("claim", stage.found.identity)
    owner = stage.admin.get(f"/api/v1/identities/{quote(stage.found.identity)}/owner")["owner"]
    expect(owner, "after the claim the owner is a fact")
    yield f"claimed: {owner} answers for it"


def _reach(stage: Stage) -> Iterator[str]:
    dependants = stage.ask("deps", stage.found.identity)["dependents"]
    expect(dependants, "somebody is known to use it")
    names = sorted({_short(stage, each["title"]) for each in dependants}, key=lambda name: ("." in name, name))
    yield f"{len(names)} dependants: {', '.join(names[:6])}"
    blast = stage.ask("blast", stage.found.identity)
    payroll = [each for each in blast["nodes"] if each["kind"] == "table" and "payroll" in each["name"]]
    expect(payroll, "the blast radius shows the payroll, which the report has no business with")
    nearest = min(payroll, key=lambda each: int(each["distance"]))
    yield f"blast radius {blast['reached']}: {nearest['title']} among them, {nearest['distance']} steps away"


def _kept(stage: Stage, secret: str) -> list[str]:
    return [str(path) for path in stage.data.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def _short(stage: Stage, place: str) -> str:
    """A place or title without what is the same for all of them."""
    return place.partition(f"{stage.tree}/")[2] or place


STEP = Step(
    name="a",
    title="A static password is found in a repository",
    shown="a leaked password is found, joined with its role; owner, dependants and blast radius shown",
    act=act,
)
