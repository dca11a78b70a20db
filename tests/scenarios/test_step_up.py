"""Obligations of a permit, on a running installation: refused, the step done, allowed; each explained and run again."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from installation import Installation, installation
from platform_tokens import RSA_KEY, by_joserfc, issued, public_jwk
from remit.client.enforce import Guard, Pdp, RouteTable
from remit.client.enforce.asgi import Enforced
from remit.client.enforce.guard import Identified
from remit.client.enforce.pdp import Decided, Question
from remit.client.identity import Identity
from remit.kernel.errors import Unavailable

ISSUER = "https://ci.example.test"
JOB = "spiffe://remit.local/job"
EDGE, PLAIN = "spiffe://remit.local/edge", "spiffe://remit.local/plain"
API = "https://orders.test"
ASKER = """
import json, sys
from remit.client.enforce.pdp import Pdp, Question
from remit.client.identity import Identity

with Identity(sys.argv[1], spiffe_id=sys.argv[2]) as identity:
    pdp = Pdp(server=sys.argv[3], identity=identity, timeout=30)
    found = pdp.ask(Question(subject=sys.argv[2], action="write", kind="service", name="orders"))
    print(json.dumps([found.allowed, [str(each) for each in found.obligations]]))
"""
"""A program that asks about itself once."""
POLICIES = """
// A first line, so that policies do not begin at the top.
@id("admin") @reason("admin tokens ask for a second proof") @obligation("step-up: 120")
permit (principal, action == Remit::Action::"token:issue", resource)
when { context has scope && context.scope == "admin" && context.attested };

@id("short") @obligation("lifetime: 30")
permit (principal, action == Remit::Action::"token:issue", resource)
when { context has scope && context.scope == "read" };

@id("fresh") @reason("writes ask for fresh proof") @obligation("fresh-attestation: 1")
permit (principal, action == Remit::Action::"write", resource) when { context.attested };

@id("careful") @reason("deploying asks for a person's word") @obligation("approval")
permit (principal, action == Remit::Action::"deploy", resource);

@id("masked") @obligation("redact: email address.street")
permit (principal, action == Remit::Action::"see", resource);

@id("listed")
permit (principal, action == Remit::Action::"list", resource)
when { context.attested && context has attestation_age && context.attestation_age <= 600 };
"""


@contextmanager
def installed() -> Iterator[Installation]:
    """An installation with these policies, one person, a job that can prove itself twice, and two points."""
    with installation(start=False, REMIT_ATTESTORS_FILE="attestors.toml", REMIT_ACCESS_LISTEN="127.0.0.1:0") as one:
        one.data.mkdir(mode=0o711, exist_ok=True)
        (one.data / "jwks.json").write_text(json.dumps({"keys": [public_jwk(RSA_KEY, "k1")]}))
        (one.data / "attestors.toml").write_text(
            f'[[oidc]]\nname = "ci"\nissuer = "{ISSUER}"\njwks_file = "jwks.json"\nselectors = {{ ci_job = "job" }}\n'
        )
        one.start()
        (one.root / "p.cedar").write_text(POLICIES)
        one.cli("people", "enrol", "ann")
        one.cli("policy", "apply", one.root / "p.cedar")
        for name in (JOB, EDGE, PLAIN):
            one.admin.post("/api/v1/entries", {"spiffe_id": name, "selectors": [f"unix:uid:{os.getuid()}"]})
        one.admin.post("/api/v1/entries", {"spiffe_id": JOB, "selectors": ["oidc:ci_job:nightly"]})
        one.cli("enforcer", "add", "edge", "--spiffe-id", EDGE, "--fulfils", "redact", "--vouches", "grant,task_digest")
        one.cli("enforcer", "add", "plain", "--spiffe-id", PLAIN)
        one.cli("task", "add", "release", "--", "/bin/true")
        yield one


@pytest.fixture(scope="module")
def remit() -> Iterator[Installation]:
    with installed() as one:
        yield one


@pytest.fixture
def of_two() -> Iterator[Installation]:
    """One of its own for a test that enrols a second person, who changes how policies are put in force."""
    with installed() as one:
        yield one


def server(remit: Installation) -> str:
    with remit.http("GET", "/healthz") as response:
        return f"https://{json.loads(response.read())['agents']}"


def second_proof(folder: Path, job: str = "nightly") -> str:
    """A fresh token of another issuer, in a file."""
    seconds = int(time.time())
    claims = {"iss": ISSUER, "sub": "job", "job": job, "aud": "spiffe://remit.local"}
    token = by_joserfc(issued({}, **claims, iat=seconds, nbf=seconds, exp=seconds + 300))
    (folder / "token").write_text(token)
    return f"oidc:file={folder / 'token'}"


def token(remit: Installation, scope: str, *, code: int = 0) -> Any:
    done = remit.cli(
        "token", "fetch", API, "--scope", scope, "--server", server(remit), "-o", "json", code=code,
    )  # fmt: skip
    return json.loads(done.stdout) if code == 0 else done.stderr


def asked(remit: Installation, action: str) -> dict[str, Any]:
    """What is answered of the job, of which the asker proves nothing."""
    answer: dict[str, Any] = remit.admin.post(
        "/access/v1/evaluation",
        {"subject": {"type": "identity", "id": JOB}, "action": {"name": action},
         "resource": {"type": "service", "id": "orders"}},
    )  # fmt: skip
    return answer


@contextmanager
def point(remit: Installation, spiffe_id: str) -> Iterator[Pdp]:
    """The decision point, asked over mutual TLS with a new SVID of this workload or enforcement point."""
    with remit.http("GET", "/healthz") as response:
        where = json.loads(response.read())["decisions"]
    with Identity(f"unix://{remit.data / 'agent.sock'}", spiffe_id=spiffe_id) as identity:
        pdp = Pdp(server=where, identity=identity, timeout=30)
        try:
            yield pdp
        finally:
            pdp.close()


def ask(pdp: Pdp, action: str, subject: str = JOB, **proven: str) -> Decided:
    question = Question(subject=subject, action=action, kind="service", name="orders", proven=proven)
    try:
        return pdp.ask(question)
    except Unavailable:  # a server that was just started
        return pdp.ask(question)


def kinds(decided: Decided) -> tuple[bool, list[str]]:
    return decided.allowed, [str(each) for each in decided.obligations]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


def person(remit: Installation, name: str) -> str:
    """Somebody with a key of their own, enrolled by the first; where the key is."""
    key, seed = remit.root / f"{name}.json", secrets.token_bytes(32)
    key.write_text(json.dumps({"name": name, "seed": seed.hex()}))
    key.chmod(0o600)
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()
    remit.cli("people", "enrol", name, "--public-key", public)
    return str(key)


def newest(remit: Installation) -> str:
    return str(remit.json("decisions")[0]["id"])


def test_a_second_proof_opens_what_asks_for_one_counts_once_and_survives_a_restart(
    remit: Installation, tmp_path: Path
) -> None:
    refused = token(remit, "admin", code=1)
    assert "step-up" in refused
    told = remit.json("explain", newest(remit))
    assert told["explanation"]["steps"][0]["command"] == "remit step-up --attest KIND"
    proof = second_proof(tmp_path)
    remit.cli("step-up", "--attest", proof, "--server", server(remit))
    assert token(remit, "admin")["scope"] == "admin"
    assert "trust.proof" in remit.cli("step-up", "--attest", proof, "--server", server(remit), code=2).stderr
    assert any(each["type"] == "trust.proof.accepted" for each in remit.json("ledger", "ls"))
    remit.stop()
    remit.start()
    assert token(remit, "admin")["scope"] == "admin"


def test_a_second_proof_of_another_workload_opens_nothing(remit: Installation, tmp_path: Path) -> None:
    done = remit.cli("step-up", "--attest", second_proof(tmp_path, "other"), "--server", server(remit), code=1)
    assert "trust.proof.another" in done.stderr


def test_a_permit_shortens_what_is_issued(remit: Installation) -> None:
    ends = datetime.fromisoformat(token(remit, "read")["expires"])
    assert ends <= datetime.now(UTC) + timedelta(seconds=30)


def test_a_denial_tells_its_clauses_and_the_step_and_is_run_again(remit: Installation, tmp_path: Path) -> None:
    asked(remit, "list")
    decision = newest(remit)
    told = remit.json("explain", decision)["explanation"]
    assert told["policies"]["version"].startswith("pv_") and told["policies"]["found_by"] == "digest"
    (near,) = told["nearly"]
    assert (near["policy"], near["line"] > 1) == ("listed", True)
    assert near["clauses"][0]["clause"] == "context.attested"
    assert told["shown_to_allow"]
    assert "context.attested" in {step["fact"] for step in told["steps"]}
    assert "same: deny" in remit.cli("explain", decision, "--rerun").stdout
    (tmp_path / "open.cedar").write_text('@id("open") permit (principal, action, resource);')
    changed = remit.cli("explain", decision, "--rerun", "--policies", tmp_path / "open.cedar", code=1)
    assert "was deny, is allow" in changed.stdout


def test_a_past_decision_is_run_again_by_the_policies_of_its_moment(remit: Installation, tmp_path: Path) -> None:
    asked(remit, "list")
    decision = newest(remit)
    before = remit.json("explain", decision)["explanation"]["policies"]["version"]
    (tmp_path / "open.cedar").write_text('@id("open") permit (principal, action, resource);')
    remit.cli("policy", "apply", tmp_path / "open.cedar")
    try:
        again = remit.json("explain", decision, "--rerun")
        assert (again["same"], again["policies"]["version"]) == (True, before)
    finally:
        remit.cli("policy", "rollback")
    assert remit.json("explain", decision, "--rerun")["same"]


def test_an_svid_that_is_too_old_is_denied_with_the_obligation_and_a_fresh_one_is_allowed(remit: Installation) -> None:
    with point(remit, JOB) as pdp:
        until(lambda: not ask(pdp, "write").allowed)
        denied = ask(pdp, "write")
        assert kinds(denied) == (False, ["fresh-attestation: 1"])
    (step,) = remit.json("explain", denied.id)["explanation"]["steps"]
    assert (step["fact"], step["command"]) == ("obligation fresh-attestation", "remit svid fetch")

    assert asked_anew(remit) == (True, [])


def asked_anew(remit: Installation) -> tuple[bool, list[str]]:
    """The same question by a process that the agent has not attested yet, as the step says: its SVID is a new one.

    Up to five: the machine may take more than a second between an SVID and its use.
    """
    with remit.http("GET", "/healthz") as response:
        where = json.loads(response.read())["decisions"]
    command = [sys.executable, "-c", ASKER, f"unix://{remit.data / 'agent.sock'}", JOB, where]
    for _ in range(5):
        done = subprocess.run(command, env=remit.env, capture_output=True, text=True, timeout=60, check=True)
        allowed, owed = json.loads(done.stdout)
        if allowed:
            break
    return allowed, owed


def test_what_asks_for_a_persons_word_passes_with_it_and_only_for_what_was_approved(of_two: Installation) -> None:
    remit = of_two
    task = "spiffe://remit.local/task/release"
    with point(remit, EDGE) as pdp:
        denied = ask(pdp, "deploy", task)
        assert kinds(denied) == (False, ["approval"])
        (step,) = remit.json("explain", denied.id)["explanation"]["steps"]
        assert step["fact"] == "obligation approval" and step["command"].startswith("remit request --task ")
        asked = ("request", "--task", "release", "--need", "postgres://shop?role=write", "--reason", "order 17")
        grant = remit.json(*asked)["id"]
        assert not ask(pdp, "deploy", task, grant=grant).allowed
        assert "access.approval.self" in remit.cli("approve", grant, code=1).stderr
        assert not ask(pdp, "deploy", task, grant=grant).allowed
        remit.cli("approve", grant, REMIT_PERSON_KEY=person(remit, "ben"))
        until(lambda: ask(pdp, "deploy", task, grant=grant).allowed)
        assert not ask(pdp, "deploy", JOB, grant=grant).allowed  # it is not that one's grant
        changed = ask(pdp, "deploy", task, grant=grant, task_digest="sha256:" + "0" * 64)
        assert not changed.allowed
        assert "the grant is not what was approved" in remit.cli("explain", changed.id).stdout
    remit.stop()
    with closing(sqlite3.connect(remit.data / "remit.db")) as rows, rows:
        rows.execute("update access_grant set needs = ? where id = ?", ('["postgres://shop?role=owner"]', grant))
    remit.start()
    with point(remit, EDGE) as pdp:
        assert not ask(pdp, "deploy", task, grant=grant).allowed


def see(pdp: Pdp, fulfils: tuple[str, ...]) -> httpx.Response:
    """What a program behind the middleware answers to the job."""

    async def endpoint(request: Request) -> JSONResponse:
        return JSONResponse({"name": "ana", "email": "a@b", "address": {"street": "x", "city": "y"}})

    guard = Guard(
        pdp,
        RouteTable.parse([{"path": "/people", "action": "see", "resource": "service/orders"}]),
        identify=lambda _: Identified(subject=JOB),
        fulfils=fulfils,
    )
    app = Enforced(Starlette(routes=[Route("/people", endpoint)]), guard=guard)

    async def whole() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            return await client.get("/people")

    return asyncio.run(whole())


def test_a_point_that_redacts_answers_masked_and_who_does_not_declare_it_is_refused(remit: Installation) -> None:
    with point(remit, EDGE) as pdp:
        answered = see(pdp, ("redact",))
        assert (answered.status_code, answered.json()) == (
            200, {"name": "ana", "email": "[redacted]", "address": {"street": "[redacted]", "city": "y"}}
        )  # fmt: skip
        assert see(pdp, ()).status_code == 403
    with point(remit, PLAIN) as pdp:
        assert kinds(ask(pdp, "see")) == (False, ["redact: email address.street"])
        assert see(pdp, ("redact",)).status_code == 403
