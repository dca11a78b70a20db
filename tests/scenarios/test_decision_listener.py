"""`remit up` decides: over `decide.sock`, TLS and the loopback interface, for registered points and for workloads."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import enforce_stage
from authzen_scenario import CASES, EVALUATION, SUBJECTS, World, question, what, who
from installation import installation

DOMAIN = "spiffe://remit.local/"
WORLD = World(
    alice=DOMAIN + "alice", bob=DOMAIN + "bob",
    records={"record-1": "https://records.example/1", "record-2": "https://records.example/2"},
)  # fmt: skip
POLICY = f"""
@id("alice-reads") permit(principal in Remit::Identity::"{WORLD.alice}", action == Remit::Action::"read", resource);
@id("bob-reads") permit(principal in Remit::Identity::"{WORLD.bob}", action == Remit::Action::"read", resource);
@id("carol-reads") permit(principal in Remit::Identity::"{DOMAIN}carol", action == Remit::Action::"read", resource)
when {{ context.attested }};
@id("write-own") permit(principal in Remit::Identity::"{WORLD.alice}", action == Remit::Action::"write", resource)
unless {{ context.claimed has resource_status && context.claimed.resource_status == "archived" }};
@id("admins") permit(principal in Remit::Identity::"{WORLD.bob}", action == Remit::Action::"write", resource)
when {{ context.claimed has subject_role && context.claimed.subject_role == "admin" }};
@id("near") permit(principal in Remit::Identity::"{DOMAIN}erin", action == Remit::Action::"read", resource)
when {{ context has source_address && context.source_address.isInRange(ip("127.0.0.0/8")) }};
@id("far") permit(principal in Remit::Identity::"{DOMAIN}erin", action == Remit::Action::"write", resource)
when {{ context has source_address && context.source_address.isInRange(ip("203.0.113.0/24")) }};
@id("tokens") permit(principal, action in [Remit::Action::"token:issue"], resource)
when {{ context has scope && ["read", "pdp:evaluate"].contains(context.scope) }};
"""
OF_ALICE, OF_BOB = (question(who(name), "read", what())(WORLD) for name in ("alice", "bob"))


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


@dataclass(slots=True)
class Stage(enforce_stage.Stage):
    """Entries alice, bob, carol and gateway, all of this user; two records."""

    dpop_key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def open(self) -> None:
        self.server.cli("people", "enrol", "ann")
        path = self.server.root / "p.cedar"
        path.write_text(POLICY)
        self.server.cli("policy", "apply", path)
        for name in ("alice", "bob", "carol", "erin", "gateway"):
            entry = {"spiffe_id": DOMAIN + name, "selectors": [f"unix:uid:{os.getuid()}"]}
            self.server.admin.post("/api/v1/entries", entry)
        client = {"name": "records", "identity": WORLD.alice, "spiffe_id": WORLD.alice}
        serves = {"resources": list(WORLD.records.values()), "sensitivity": "internal"}
        self.server.admin.post("/api/v1/clients", {**client, **serves})

    @property
    def url(self) -> str:
        """Of the decision listener."""
        return str(self.get("/healthz")["decisions"])

    def tcp(self, by: str = "") -> http.client.HTTPConnection:
        """A connection to the decision listener, with the SVID of `by`, or no certificate."""
        place = urlsplit(self.url)
        if place.scheme == "http":
            return http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if by:
            context = self.tls(DOMAIN + by)
        return http.client.HTTPSConnection(str(place.hostname), place.port, timeout=60, context=context)

    def agents(self, by: str) -> http.client.HTTPConnection:
        return self._connect(DOMAIN + by)

    def unix(self, name: str = "decide.sock") -> Unix:
        return Unix(self.server.data / name)

    def bound_token(self, name: str, scope: str) -> str:
        """An access token for the decision point, bound to our DPoP key."""
        url, who = f"{self.server.url}/oauth2/token", DOMAIN + name
        nonce = ""
        for _ in range(2):
            proof = self.dpop_proof("POST", url, **({"nonce": nonce} if nonce else {}))
            reply = self.token(headers={"DPoP": proof}, **self.asking(who, scope))
            nonce = reply.headers.get("dpop-nonce", "")
        return str(reply.body["access_token"])

    def bearer_token(self, name: str, scope: str) -> str:
        """The same, bound to nothing."""
        reply = self.token(**self.asking(DOMAIN + name, scope))
        return str(reply.body["access_token"])

    def asking(self, who: str, scope: str) -> dict[str, str]:
        kind = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
        return {"scope": scope, "resource": self.issuer, "client_assertion": self.jwt_svid(who),
                "client_assertion_type": kind}  # fmt: skip


def send(
    line: http.client.HTTPConnection, body: Any, path: str = EVALUATION, method: str = "POST", **headers: str
) -> Reply:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"Content-Type": "application/json", **headers}
    line.request(method, path, body=raw, headers=named)
    answer = line.getresponse()
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


@contextmanager
def stage(listen: str, *, gateway: bool) -> Iterator[Stage]:
    with installation(REMIT_ACCESS_LISTEN=listen) as server:
        made = Stage(server)
        made.open()
        if gateway:
            server.cli("enforcer", "add", "gateway", "--spiffe-id", DOMAIN + "gateway")
        yield made


@pytest.fixture(scope="module")
def secure() -> Iterator[Stage]:
    """With TLS, and a registered point."""
    with stage("127.0.0.1:0", gateway=True) as made:
        yield made


@pytest.fixture(scope="module")
def plain() -> Iterator[Stage]:
    """Without TLS, and without any point."""
    with stage("http://127.0.0.1:0", gateway=False) as made:
        yield made


LISTENERS: Mapping[str, Callable[[Stage], http.client.HTTPConnection]] = {
    "admin.sock": lambda made: made.unix("admin.sock"),
    "agents and workloads": lambda made: made.agents("gateway"),
    "decide.sock": lambda made: made.unix(),
    "decisions over TLS": lambda made: made.tcp("gateway"),
}


@pytest.mark.parametrize("listener", LISTENERS)
def test_every_listener_answers_the_whole_scenario(secure: Stage, listener: str) -> None:
    wrong = []
    with closing(LISTENERS[listener](secure)) as line:
        for case in CASES:
            if case.needs_claims:
                continue
            reply = send(line, case.body(WORLD), case.path, **case.headers)
            same = reply.headers.get("x-request-id", "") == case.headers.get("X-Request-ID", "")
            if not (same and case.holds(reply.status, reply.body, WORLD)):
                wrong.append((case.id, reply.status, reply.raw[:200]))
    assert wrong == []


def test_discovery_names_the_url_in_use(secure: Stage) -> None:
    with closing(secure.tcp()) as line:
        found = send(line, b"", "/.well-known/authzen-configuration", "GET").body
    assert found["policy_decision_point"] == secure.url
    assert all(url.startswith("https://127.0.0.1:") for url in found.values())


# Who may ask.


def test_a_workload_asks_about_itself_by_its_certificate_and_about_nobody_else(secure: Stage) -> None:
    with closing(secure.tcp("carol")) as line:
        mine = send(line, question(who(DOMAIN + "carol"), "read", what())(WORLD))
        others = send(line, OF_ALICE)
    assert (mine.status, mine.body["decision"]) == (200, True)
    assert "facts" not in mine.body["context"]["reason"]
    assert (others.status, others.body["code"]) == (403, "access.enforcer.foreign")


@pytest.mark.parametrize("listener", ["agents and workloads", "decisions over TLS"])
def test_where_a_workload_asks_from_is_the_kernels_word_and_not_its_own(secure: Stage, listener: str) -> None:
    far = {"X-Forwarded-For": "203.0.113.7", "X-Real-IP": "203.0.113.7", "Forwarded": "for=203.0.113.7"}
    said = {"context": {"source_address": "203.0.113.7", "proven": {"source_address": "203.0.113.7"}}}
    line = secure.agents("erin") if listener == "agents and workloads" else secure.tcp("erin")
    with closing(line):
        near = send(line, question(who(DOMAIN + "erin"), "read", what())(WORLD), **far)
        lied = send(line, {**question(who(DOMAIN + "erin"), "write", what())(WORLD), **said}, **far)
    assert (near.body["decision"], lied.body["decision"]) == (True, False)
    recorded = secure.server.admin.get(f"/api/v1/decisions/{near.body['context']['id']}")
    assert recorded["facts"]["context"]["source_address"] == "127.0.0.1"


def test_a_points_own_address_is_none_of_whom_it_asks_about(secure: Stage) -> None:
    with closing(secure.tcp("gateway")) as line:
        reply = send(line, question(who(DOMAIN + "erin"), "read", what())(WORLD))
    assert reply.body["decision"] is False
    assert "source_address" not in reply.body["context"]["reason"]["facts"]["context"]


def test_the_address_of_a_token_is_that_of_the_connection_that_brings_it(plain: Stage) -> None:
    bearer = {"Authorization": f"Bearer {plain.bearer_token('erin', 'pdp:evaluate')}", "X-Forwarded-For": "203.0.113.7"}
    with closing(plain.tcp()) as line:
        replies = [send(line, question(who(DOMAIN + "erin"), do, what())(WORLD), **bearer) for do in ("read", "write")]
    assert [reply.body["decision"] for reply in replies] == [True, False]


def test_a_workload_finds_what_it_may_do_itself_and_no_others(secure: Stage) -> None:
    with closing(secure.agents("bob")) as line:
        reply = send(line, question(who("bob"), "read", what())(WORLD), SUBJECTS)
        mine = send(line, question(who("bob"), "read", what())(WORLD), "/access/v1/search/action")
        others = send(line, question(who("alice"), "read", what())(WORLD), "/access/v1/search/action")
    assert [each["id"] for each in reply.body["results"]] == [WORLD.bob]
    assert ([each["name"] for each in mine.body["results"]], others.status) == (["read"], 403)


def test_without_any_proof_nothing_is_decided(secure: Stage) -> None:
    with closing(secure.tcp()) as line:
        reply = send(line, OF_ALICE)
    assert (reply.status, reply.body["code"]) == (401, "surface.proof.missing")
    assert reply.headers["www-authenticate"].startswith("Bearer")


def test_a_certificate_of_nobody_is_refused(secure: Stage) -> None:
    with closing(secure.tcp("gateway")) as line, closing(secure.tcp("carol")) as other:
        assert send(line, OF_ALICE).status == 200
        assert send(other, OF_ALICE).status == 403


def test_a_revoked_identity_is_refused_on_the_connection_that_it_has(secure: Stage) -> None:
    secure.server.admin.post("/api/v1/entries", {"spiffe_id": DOMAIN + "dan", "selectors": [f"unix:uid:{os.getuid()}"]})
    asked = question(who(DOMAIN + "dan"), "read", what())(WORLD)
    with closing(secure.tcp("dan")) as line:
        before = send(line, asked)
        secure.server.cli("revoke", DOMAIN + "dan", "--reason", "test")
        after = send(line, asked)
    assert (before.status, after.status, after.body["code"]) == (200, 401, "surface.proof.refused")


def test_a_decision_over_the_listener_can_be_explained(secure: Stage) -> None:
    with closing(secure.tcp("gateway")) as line:
        decision = send(line, question(who("bob"), "write", what())(WORLD)).body["context"]["id"]
    assert "admins" in secure.server.cli("explain", decision).stdout


# The socket.


def test_who_a_process_is_follows_what_is_registered_on_the_connection_that_it_has(plain: Stage) -> None:
    with closing(plain.unix()) as line:
        # 1. The oldest entry that matches names the process: alice.
        assert send(line, OF_ALICE).body["decision"] is True
        assert send(line, OF_BOB).status == 403
        # 2. It becomes an enforcement point, by its user, and may ask about others, in its bounds.
        bounds = ("--resources", "api/https://records.example/*", "--actions", "read")
        uid = str(os.getuid())
        plain.server.cli("enforcer", "add", "edge", "--spiffe-id", DOMAIN + "edge", "--uid", uid, *bounds)
        assert send(line, OF_BOB).body["decision"] is True
        assert send(line, {**OF_BOB, "action": {"name": "write"}}).status == 403
        assert send(line, {**OF_BOB, "resource": {"type": "target", "id": "shop"}}).status == 403
        # 3. It is one no more.
        plain.server.cli("enforcer", "rm", "edge")
        assert send(line, OF_BOB).status == 403


def test_points_survive_a_restart_and_a_forged_row_is_none() -> None:
    with installation() as server:
        server.cli("people", "enrol", "ann")
        server.cli("enforcer", "add", "edge", "--spiffe-id", DOMAIN + "edge", "--fulfils", "step-up,redact")
        server.cli("enforcer", "add", "gone", "--spiffe-id", DOMAIN + "gone")
        server.cli("enforcer", "rm", "gone")
        server.stop()
        _forge(server.data / "remit.db")
        server.start()
        (found,) = server.json("enforcer", "ls")
        said = server.cli("doctor", code=None).stdout
    assert (found["name"], found["fulfils"]) == ("edge", ["redact", "step-up"])
    assert "enforcement point `forged`" in " ".join(said.split())


def _forge(database: Path) -> None:
    """Copy a genuine row under another name, as somebody could who writes into the database."""
    import sqlite3

    with closing(sqlite3.connect(database)) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(access_enforcer)")]
        row = dict(zip(names, connection.execute("SELECT * FROM access_enforcer").fetchone(), strict=True))
        row |= {"id": "ef_forged", "name": "forged", "spiffe_id": DOMAIN + "forged"}
        marks = ", ".join("?" * len(row))
        connection.execute(f"INSERT INTO access_enforcer ({', '.join(row)}) VALUES ({marks})", list(row.values()))
        connection.commit()


def test_registering_a_point_needs_a_person(plain: Stage) -> None:
    with closing(plain.unix("admin.sock")) as line:
        reply = send(line, {"name": "x", "spiffe_id": DOMAIN + "x"}, "/api/v1/enforcers")
    assert (reply.status, reply.body["code"]) == (403, "surface.person.required")


# Tokens.


def test_a_token_bound_to_a_key_asks_with_a_proof_that_counts_once(plain: Stage) -> None:
    token = plain.bound_token("alice", "pdp:evaluate")
    proof = plain.dpop_proof("POST", plain.url + EVALUATION, token)
    shown = {"Authorization": f"DPoP {token}", "DPoP": proof}
    with closing(plain.tcp()) as line:
        assert send(line, OF_ALICE, **shown).body["decision"] is True
        again = send(line, OF_ALICE, **shown)
        bare = send(line, OF_ALICE, Authorization=f"Bearer {token}")
    assert (again.status, again.body["code"], bare.status) == (401, "surface.proof.refused", 401)


def test_a_proof_of_another_key_url_or_token_is_refused(plain: Stage) -> None:
    token = plain.bound_token("alice", "pdp:evaluate")
    thief = Stage(plain.server)
    proofs = [
        thief.dpop_proof("POST", plain.url + EVALUATION, token),
        plain.dpop_proof("POST", plain.url + SUBJECTS, token),
        plain.dpop_proof("POST", plain.url + EVALUATION, "another"),
        "",
    ]
    with closing(plain.tcp()) as line:
        statuses = [send(line, OF_ALICE, Authorization=f"DPoP {token}", DPoP=proof).status for proof in proofs]
    assert statuses == [401] * 4


def test_a_bearer_token_asks_for_its_subject_alone(plain: Stage) -> None:
    shown = {"Authorization": f"Bearer {plain.bearer_token('alice', 'pdp:evaluate')}"}
    with closing(plain.tcp()) as line:
        assert send(line, OF_ALICE, **shown).body["decision"] is True
        assert send(line, OF_BOB, **shown).status == 403
        assert send(line, OF_ALICE).status == 401


def test_a_token_without_the_scope_or_for_another_is_refused(plain: Stage) -> None:
    with closing(plain.tcp()) as line:
        scope = send(line, OF_ALICE, Authorization=f"Bearer {plain.bearer_token('alice', 'read')}")
        foreign = plain.token(**{**plain.asking(WORLD.alice, "pdp:evaluate"), "resource": "https://records.example/1"})
        elsewhere = send(line, OF_ALICE, Authorization=f"Bearer {foreign.body['access_token']}")
        nonsense = send(line, OF_ALICE, Authorization="Bearer nonsense")
        basic = send(line, OF_ALICE, Authorization="Basic YTpi")
    assert (scope.status, scope.body["code"]) == (403, "access.enforcer.scope")
    assert [elsewhere.status, nonsense.status, basic.status] == [401] * 3


def test_a_token_bound_to_a_certificate_is_worth_nothing_without_it(plain: Stage) -> None:
    made = plain.post(
        "/oauth2/token",
        {"grant_type": "client_credentials", "scope": "pdp:evaluate", "resource": plain.issuer}, by=WORLD.alice,
    )  # fmt: skip
    with closing(plain.tcp()) as line:
        assert send(line, OF_ALICE, Authorization=f"Bearer {made.body['access_token']}").status == 401


def test_a_revoked_token_is_refused_at_once(plain: Stage) -> None:
    token = plain.bearer_token("bob", "pdp:evaluate")
    with closing(plain.tcp()) as line:
        assert send(line, OF_BOB, Authorization=f"Bearer {token}").status == 200
        plain.post("/oauth2/revoke", {"token": token, **_proof(plain, "bob")})
        deadline = time.monotonic() + 60
        while send(line, OF_BOB, Authorization=f"Bearer {token}").status == 200:
            assert time.monotonic() < deadline, "the token is still taken"
    assert True


def _proof(made: Stage, name: str) -> dict[str, str]:
    asked = made.asking(DOMAIN + name, "")
    return {key: asked[key] for key in ("client_assertion", "client_assertion_type")}


@pytest.mark.parametrize("listen", ["http://0.0.0.0:0", "http://192.0.2.1:1", "nonsense"])
def test_without_tls_it_listens_on_loopback_alone(listen: str) -> None:
    with installation(start=False, REMIT_ACCESS_LISTEN=listen) as server:
        done = server.cli("up", "--listen", "127.0.0.1:0", code=4)
    assert "loopback" in done.stderr or "HOST:PORT" in done.stderr
