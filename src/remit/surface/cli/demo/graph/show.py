"""From a leaked key to a certificate: read, blast radius, paths, right-sizing, cut and proof, each by its command."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from remit.surface.cli.demo.graph.estate import ACCOUNT, EXPORTER, GUARDED, ISSUER, LEAKED, Estate, principal, utc_now
from remit.surface.cli.demo.outcome import NotShown, Step, expect
from remit.surface.cli.demo.stage import Stage

SCOPE: Final = f"account {ACCOUNT}"
"""The resource in question: whoever has it has everything in it."""
_CLASS: Final = "restricted"
_SCOPE_NAME: Final = f"urn:remit:aws:{ACCOUNT}:account:{ACCOUNT}"
_EXCEPTED: Final = (f"root of {SCOPE}", GUARDED)
_TAKE: Final = re.compile(
    r"take (?P<action>\S+) out of Statement\[(?P<at>\d+)\] of inline policy (?P<policy>\S+): "
    r"aws iam put-role-policy --role-name (?P<role>\S+)"
)


def read(stage: Stage) -> Iterator[str]:
    """Plant the sample, and read each of its systems as any user would."""
    estate = _estate(stage)
    calls = estate.plant(utc_now())
    stage.narrator.note(f"made up for this demo: {estate.root}")
    facts = [
        stage.ask("discover", *each)["facts"]
        for each in (
            ("files", str(estate.repository)),
            ("terraform", str(estate.terraform)),
            ("kubernetes", str(estate.cluster), "--cluster", "acme", "--issuer", f"https://{ISSUER}"),
            ("aws", str(estate.account)),
        )
    ]
    edges = sum(each.get("edge", 0) for each in facts)
    expect(edges, "four systems were read into one graph")
    yield f"a repository, a Terraform state, a cluster and an AWS account: {edges} edges, each with its evidence"
    stage.ask("discover", "use", str(estate.trail), "--set", "kind=cloudtrail")
    yield f"a trail of {calls} calls: what is used is known, not guessed"
    yield _page(stage, "/inventory")


def radius(stage: Stage) -> Iterator[str]:
    """What does the key give that lies in the Terraform state, and who would notice if it went?"""
    (leaked,) = [each for each in stage.ask("ls") if each["record"] == "credential" and each["exposed"]]
    found = stage.ask("blast", leaked["fingerprint"])
    ends = {each["title"]: each for each in found["nodes"]}
    expect(SCOPE in ends, "the key reaches the whole account")
    became = [each["title"] for each in found["nodes"] if each["category"] == "identity"]
    far = ends[SCOPE]["distance"]
    yield f"`{leaked['title']}` reaches {found['reached']}, score {found['score']}: {SCOPE} in {far} steps"
    yield f"on the way it becomes {', '.join(became[:4])}"
    deps = stage.ask("deps", LEAKED)["dependents"]
    expect(deps, "who depends on it is known before it is revoked")
    yield f"{len(deps)} depend on {LEAKED}, or hold what proves it: `remit deps {LEAKED}`"
    yield _page(stage, f"/identities/{_id(stage, LEAKED)}")


def ways(stage: Stage) -> Iterator[str]:
    """By which ways does a push become the account, and where is that cut?"""
    found = stage.ask("paths", "acme/shop", SCOPE)
    first = found["shortest"][0]
    expect(first["steps"] == 3 and not first["conditional"], "the repository's pipeline becomes administrator")
    told = "".join(f" → {each['relation']} → {node['title']}" for each, node in _steps(first))
    yield f"{first['nodes'][0]['title']}{told}: a push to any branch is enough"
    cut = stage.ask("cut", "acme/shop", SCOPE)
    expect(cut["possible"] and cut["cheapest"] and cut["stated"], "the cheapest cut is known, and how it is typed")
    yield f"the cheapest cut for it alone costs {cut['cost']}: {cut['edges'][0]['cut'].partition(': aws')[0]}"
    yield _page(stage, "/paths")


def smaller(stage: Stage) -> Iterator[str]:
    """The exporter may do hundreds of things and does four: the proposal, and every observed call through it."""
    estate = _estate(stage)
    found = stage.ask("rightsize", EXPORTER, "--replay")
    said = found["replay"]
    expect(said["proven"] and said["refusals"] == 0 and said["observed"], "no observed call would be refused")
    sure = found["confidence"]
    yield f"{EXPORTER}: granted {found['granted']}, used {found['used']}; {said['said']} (confidence {sure})"

    after = json.loads(found["texts"][0]["after"])
    policy = {"PolicyName": "remit-right-sized", "PolicyDocument": after}

    def change(details: dict[str, Any]) -> None:
        principal(details, EXPORTER)["RolePolicyList"] = [policy]

    estate.change(change)
    stage.ask("discover", "aws", str(estate.account))
    now = stage.ask("rightsize", EXPORTER, "--replay")
    expect(not now["changes"] and now["replay"]["proven"], "after the change nothing more is to be taken away")
    before, said_after = found["radius_now"]["score"], found["radius_after"]["score"]
    later = now["radius_now"]["score"]
    expect(later == said_after < before, f"its radius becomes what was said: {before} → {said_after}, not {later}")
    yield f"the proposal is put in its place: radius {before} → {later}, {now['replay']['said']}"
    yield _page(stage, f"/rightsizing/{_id(stage, EXPORTER)}")


def proved(stage: Stage) -> Iterator[str]:
    """Open paths; two people except the sealed administrator; the rest is cut, read again, and certified."""
    estate, file = _estate(stage), stage.root / "proof.json"
    _two_people(stage)
    found = _prove(stage)
    yield f"class {_CLASS}: {found['open']} open ways in to {SCOPE}; no certificate"

    # 1. Who shall have it: asked for by one person, approved by another, for three days.
    for each in _EXCEPTED:
        asked = stage.ask(
            "exception", "request", "--control", "open-path", "--identity", each, "--action", "reach", "--resource",
            _SCOPE_NAME, "--reason", "sealed, for emergencies", "--compensating", "its use raises an alarm",
            "--days", "3", environment=_key(stage, "ana"),
        )  # fmt: skip
        stage.cli("exception", "approve", asked["id"], environment=_key(stage, "ben"))
    found = _prove(stage)
    yield f"{' and '.join(_EXCEPTED)} are excepted by two people; who can become them is not: {found['open']} open"

    # 2. The cheapest way to close all the others, done as it says.
    best = found["close"][0]
    expect(best["how"] == "cut", "all others are closed by one cut")
    for command in best["commands"]:
        said = _TAKE.match(command)
        if said is None:
            raise NotShown(f"the cut is a statement of the account: {command}")
        estate.change(partial(_take, said.groupdict()))
    yield f"the cheapest cut of all, cost {best['cost']}: {best['commands'][0].partition(': aws')[0]}"
    stage.ask("discover", "aws", str(estate.account))

    # 3. Nothing is open: a certificate, checked without the server.
    stage.cli("prove", "--resource-class", _CLASS, "--certificate", str(file))
    checked = stage.ask("prove", "verify", str(file), "--key", str(stage.data / "ledger" / "key.pub"))
    expect(checked["verified"] and not checked["over"], "the certificate is genuine, and in the ledger")
    yield f"read again: no path to what is {_CLASS} escapes policy"
    yield f"the certificate is in the ledger, leaf {checked['leaf']}: verified without the server"
    yield _page(stage, f"/paths?class={_CLASS}")


def _prove(stage: Stage) -> dict[str, Any]:
    """The verdict, while something is open."""
    found = stage.ask("prove", "--resource-class", _CLASS, allowed=(1,))
    opened = [each for each in found["verdicts"] if each["open"] + each["conditional"]]
    expect([each["titles"] for each in opened] == [[SCOPE]] and not found["closed"], f"{SCOPE} alone is open")
    return dict(opened[0])


def _take(words: Mapping[str, str], details: dict[str, Any]) -> None:
    """Take one action out of a statement: what `aws iam put-role-policy` with the changed document does."""
    for policy in principal(details, words["role"])["RolePolicyList"]:
        if policy["PolicyName"] == words["policy"]:
            statement = policy["PolicyDocument"]["Statement"][int(words["at"])]
            statement["Action"] = [each for each in statement["Action"] if each != words["action"]]
            if not statement["Action"]:
                policy["PolicyDocument"]["Statement"].remove(statement)


def _steps(path: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    return zip(path["edges"], path["nodes"][1:], strict=True)


def _two_people(stage: Stage) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    stage.cli("people", "enrol", "ana", environment=_key(stage, "ana"))
    starter = stage.root / "starter.cedar"
    starter.write_text(stage.cli("policy", "show", "--starter"), encoding="utf-8")
    stage.cli("policy", "apply", str(starter), environment=_key(stage, "ana"))
    seed, file = secrets.token_bytes(32), stage.root / "ben.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"name": "ben", "seed": seed.hex()}), encoding="ascii")
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
    stage.cli("people", "enrol", "ben", "--public-key", public, environment=_key(stage, "ana"))


def _key(stage: Stage, person: str) -> dict[str, str]:
    return {"REMIT_PERSON_KEY": str(stage.root / f"{person}.json")}


def _id(stage: Stage, called: str) -> str:
    return str(stage.ask("show", called)["identity"]["id"])


def _page(stage: Stage, path: str) -> str:
    """Where the console shows it, while there is one."""
    return f"console: {stage.url}{path}" if stage.stays else f"console, with `--stay`: {path}"


def _estate(stage: Stage) -> Estate:
    return Estate(stage.root / "acme")


STEPS: Final = (
    Step(name="1", title="Four systems and a trail are read", shown="one graph over four systems", act=read),
    Step(name="2", title="A key lies in a Terraform state", shown="what it opens, and who depends on it", act=radius),
    Step(name="3", title="A push to any branch becomes the account", shown="each step, and the cheapest cut", act=ways),
    Step(name="4", title="A role that may do too much", shown="less right, and no observed call refused", act=smaller),
    Step(
        name="5", title="Does any path escape policy?", shown="open paths, cut and excepted; a certificate", act=proved
    ),
)
