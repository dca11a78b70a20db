"""The HTTP door for proxies, asked as nginx would: whom it lets through, and what it makes of those who lie."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from enforce_stage import API, FRONT, ORDERS, TRICKS, Reply, Stage, enforce_stage, raw

ASK = "/enforce/v1/http"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with enforce_stage('proxy = "nginx"\nsubjects = ["token"]') as made:
        yield made


def ask(stage: Stage, target: str, headers: dict[str, str] | None = None, *, method: str = "GET") -> Reply:
    told = {"X-Original-Method": method, "X-Original-Host": "api.example", "X-Original-URI": target}
    return raw(stage.http_socket, ASK, {**told, **(headers or {})})


def test_who_may_passes_and_is_named_to_the_upstream(stage: Stage) -> None:
    reply = ask(stage, "/orders/1?page=2", stage.bearer())
    assert reply.status == 200, reply
    assert reply.headers["x-remit-subject"] == FRONT
    assert reply.headers["x-remit-decision"].startswith("dc_")


def test_who_may_not_is_refused_with_a_reason(stage: Stage) -> None:
    reply = ask(stage, "/orders/1", stage.bearer(ORDERS))
    assert (reply.status, reply.json["error"]) == (403, "denied")
    assert reply.json["reason"] and reply.headers["x-remit-reason"]
    assert reply.json["decision"] == reply.headers["x-remit-decision"]


def test_the_decision_can_be_explained(stage: Stage) -> None:
    reply = ask(stage, "/orders/1", stage.bearer(), method="POST")
    assert reply.status == 403
    record = stage.server.admin.get(f"/api/v1/decisions/{reply.json['decision']}")
    assert (record["request"]["action"], record["request"]["resource"]["id"]) == ("write", "orders")


def test_without_a_proof_it_is_a_challenge(stage: Stage) -> None:
    reply = ask(stage, "/orders/1")
    assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")


def test_what_no_route_names_is_refused(stage: Stage) -> None:
    assert ask(stage, "/admin", stage.bearer()).status == 403


@pytest.mark.parametrize("target", [*TRICKS, "http://api.example/orders/1", "*", ""])
def test_a_path_of_two_readings_is_refused(stage: Stage, target: str) -> None:
    assert ask(stage, target, stage.bearer()).status == 403


def test_a_token_for_another_audience_is_no_proof(stage: Stage) -> None:
    token = stage.jwt_svid(FRONT, "https://elsewhere.example")
    reply = ask(stage, "/orders/1", {"Authorization": f"Bearer {token}"})
    assert reply.status == 401 and 'error="invalid_token"' in reply.headers["www-authenticate"]


def test_fresher_proof_is_asked_for_as_rfc_9470_has_it(stage: Stage) -> None:
    reply = ask(stage, "/vault", stage.bearer())
    asked = reply.headers["www-authenticate"]
    assert reply.status == 401 and asked.startswith("Bearer ")
    assert 'error="insufficient_user_authentication"' in asked and 'max_age="60"' in asked


def test_headers_that_name_an_identity_prove_nothing(stage: Stage) -> None:
    forged = {"X-Forwarded-Client-Cert": f"URI={FRONT}", "X-Remit-Subject": FRONT, "X-Client-Cert": "x"}
    assert ask(stage, "/orders/1", forged).status == 401


def test_what_is_told_twice_is_refused(stage: Stage) -> None:
    told = {"X-Original-Method": "GET", "X-Original-Host": "api.example", "X-Original-URI": "/orders/1"}
    reply = raw(stage.http_socket, ASK, {**told, **stage.bearer()}, more=(("X-Original-URI", "/admin"),))
    assert reply.status == 403


def test_huge_headers_end_the_connection_or_are_refused(stage: Stage) -> None:
    assert ask(stage, "/orders/1", {**stage.bearer(), "X-More": "x" * 200_000}).status in (0, 400, 431)
    assert ask(stage, "/orders/1", {"Authorization": "Bearer " + "a" * 40_000}).status == 401
    assert ask(stage, "/orders/1", stage.bearer()).status == 200


def test_a_dpop_token_counts_with_its_proof_and_once(stage: Stage) -> None:
    token = stage.dpop_token()
    proof = stage.dpop_proof("GET", f"{API.replace('orders', 'api')}/x", token)
    wrong = ask(stage, "/orders/1", {"Authorization": f"DPoP {token}", "DPoP": proof})
    assert wrong.status == 401 and wrong.headers["www-authenticate"].startswith("DPoP ")
    proof = stage.dpop_proof("GET", "https://api.example/orders/1", token)
    first = ask(stage, "/orders/1?x", {"Authorization": f"DPoP {token}", "DPoP": proof})
    again = ask(stage, "/orders/1?x", {"Authorization": f"DPoP {token}", "DPoP": proof})
    assert (first.status, again.status) == (200, 401), (first, again)
    assert ask(stage, "/orders/1", {"Authorization": f"Bearer {token}"}).status == 401


def test_a_token_that_was_revoked_is_refused_at_once(stage: Stage) -> None:
    token = stage.dpop_token()

    def status() -> int:
        proof = stage.dpop_proof("GET", "https://api.example/orders/1", token)
        return ask(stage, "/orders/1", {"Authorization": f"DPoP {token}", "DPoP": proof}).status

    assert status() == 200
    stage.post("/oauth2/revoke", {"token": token, "client_assertion": stage.jwt_svid(FRONT),
                                  "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"})  # fmt: skip
    assert status() == 401


def test_a_jwt_svid_that_was_verified_before_is_refused_once_it_is_revoked(stage: Stage) -> None:
    token = stage.jwt_svid(FRONT, API)
    headers = {"X-Original-Method": "GET", "X-Original-Host": "api.example", "X-Original-URI": "/orders/1",
               "Authorization": f"Bearer {token}"}  # fmt: skip
    connection = HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(stage.http_socket))

    def status() -> int:
        connection.request("GET", ASK, headers=headers)
        with connection.getresponse() as reply:
            reply.read()
            return reply.status

    assert [status() for _ in range(4)] == [200] * 4
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    stage.server.cli("revoke", f"jti:{claims['jti']}", "--reason", "test")
    assert status() == 401
    connection.close()


def test_another_user_of_this_machine_is_nobody(stage: Stage) -> None:
    if os.getuid() != 0:
        pytest.skip("another user: only root can be one")
    asked = (
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect(" + repr(str(stage.http_socket)) + "); "
        "s.sendall(b'GET /enforce/v1/http HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n"
        "X-Original-Method: GET\\r\\nX-Original-Host: a\\r\\nX-Original-URI: /healthz\\r\\n\\r\\n'); "
        "print(s.recv(4096).decode().split()[1])"
    )
    stage.server.root.chmod(0o755)
    done = subprocess.run(["python3", "-c", asked], user=65534, capture_output=True, text=True, check=False, cwd="/")
    assert done.stdout.strip() == "403", done.stderr


def test_what_is_public_passes_without_a_decision(stage: Stage) -> None:
    reply = ask(stage, "/healthz")
    assert reply.status == 200 and "x-remit-decision" not in reply.headers
