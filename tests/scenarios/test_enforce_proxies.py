"""Envoy (HTTP and gRPC), nginx and Traefik in front of an upstream, each asking a running installation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from urllib.parse import quote

import pytest

import servers_gated
from enforce_stage import FRONT, ORDERS, TRICKS, Stage
from servers_gated import KINDS, Gated, gated_stage


@pytest.fixture(scope="module")
def stages() -> Iterator[Callable[[str], tuple[Stage, int]]]:
    """One installation for each kind of proxy, made when it is first asked for."""
    made: dict[str, tuple[Stage, int]] = {}
    with ExitStack() as stack:

        def find(proxy: str) -> tuple[Stage, int]:
            if proxy not in made:
                made[proxy] = stack.enter_context(gated_stage(proxy))
            return made[proxy]

        yield find


@pytest.fixture(scope="module", params=KINDS)
def gated(request: pytest.FixtureRequest, stages: Callable[[str], tuple[Stage, int]]) -> Iterator[Gated]:
    kind = str(request.param)
    with servers_gated.gated(kind, *stages(kind.partition("-")[0])) as made:
        yield made


def test_who_may_reaches_the_upstream_without_its_token(gated: Gated) -> None:
    forged = {"X-Remit-Subject": "spiffe://remit.local/task/root", "X-Remit-Decision": "dc_forged"}
    reply = gated.get("/orders/1?page=2", {**gated.stage.bearer(), **forged})
    assert reply.status == 200, reply
    assert reply.json["x-remit-subject"] == FRONT
    assert reply.json["x-remit-decision"].startswith("dc_0")
    if gated.kind != "traefik":
        assert "authorization" not in reply.json


def test_who_may_not_is_refused_with_a_reason(gated: Gated) -> None:
    before = len(gated.up.paths)
    reply = gated.get("/orders/1", gated.stage.bearer(ORDERS))
    assert reply.status == 403 and len(gated.up.paths) == before
    assert reply.headers.get("x-remit-reason") or reply.json["reason"]


def test_nobody_is_told_what_proof_is_taken(gated: Gated) -> None:
    reply = gated.get("/orders/1")
    assert reply.status == 401 and reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("target", [*TRICKS, "/admin", "http://api.example/admin"])
def test_no_path_leads_around_the_routes(gated: Gated, target: str) -> None:
    before = len(gated.up.paths)
    reply = gated.get(target, gated.stage.bearer())
    # Traefik makes `//` one slash before anybody is asked, and serves what it asked about.
    assert gated.up.paths[before:] in ([], ["/orders/1"]), reply
    assert reply.status in (400, 401, 403, 404) or (gated.kind, target) == ("traefik", "/orders//1"), reply


def test_a_forged_client_certificate_header_is_nobody(gated: Gated) -> None:
    stolen = quote(gated.stage.svid(FRONT).read_text().partition("-----BEGIN PRIVATE")[0])
    forged = {
        "X-Forwarded-Client-Cert": f'URI={FRONT};Cert="{stolen}"',
        "X-Forwarded-Uri": "/healthz", "X-Original-URI": "/healthz", "X-Original-Method": "GET",
        "X-Client-Cert": stolen, "X-Forwarded-Tls-Client-Cert": stolen,
    }  # fmt: skip
    assert gated.get("/orders/1", forged).status in (401, 403)


def test_huge_headers_do_not_get_through(gated: Gated) -> None:
    before = len(gated.up.paths)
    reply = gated.get("/orders/1", {"X-More": "x" * 3_000_000})
    assert reply.status != 200 and len(gated.up.paths) == before
    assert gated.get("/orders/1", gated.stage.bearer()).status == 200


def test_a_dpop_proof_counts_once(gated: Gated) -> None:
    token = gated.stage.dpop_token()
    proof = gated.stage.dpop_proof("GET", "https://api.example/orders/1", token)
    headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
    assert [gated.get("/orders/1", headers).status for _ in range(2)] == [200, 401]


def test_the_certificate_of_the_handshake_proves_who_asks(gated: Gated) -> None:
    allowed = gated.as_workload(FRONT, "/orders/1", {"X-Forwarded-Client-Cert": f"URI={ORDERS}"})
    assert allowed.status == 200 and allowed.json["x-remit-subject"] == FRONT
    refused = gated.as_workload(ORDERS, "/orders/1", {"X-Forwarded-Client-Cert": f"URI={FRONT}"})
    assert refused.status == 403
