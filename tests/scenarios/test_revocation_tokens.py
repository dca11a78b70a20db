"""Tokens and the SVIDs that prove who asks for them, revoked: by introspection, by status list, and at the listener."""

from __future__ import annotations

import json
import zlib
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.x509 import load_pem_x509_certificate
from joserfc import jws, jwt
from joserfc.jwk import KeySet
from oauth_stage import FRONT, ORDERS, Stage, claims_of, oauth_stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with oauth_stage() as made:
        yield made


def bit(stage: Stage, token: str) -> int:
    """What an offline verifier reads: the list that the token names, verified by the published keys."""
    place = claims_of(token)["status"]["status_list"]
    with stage.server.http("GET", urlsplit(place["uri"]).path) as answer:
        assert (answer.status, answer.headers["content-type"]) == (200, "application/statuslist+jwt")
        text = answer.read().decode()
    assert jws.extract_compact(text.encode()).headers()["typ"] == "statuslist+jwt"
    metadata = stage.get("/.well-known/oauth-authorization-server")
    keys = KeySet.import_key_set(stage.get(urlsplit(metadata["jwks_uri"]).path))  # type: ignore[arg-type]
    claims: dict[str, Any] = dict(jwt.decode(text, keys, algorithms=["ES256"]).claims)
    assert claims["sub"] == place["uri"]
    packed = claims["status_list"]["lst"]
    raw = zlib.decompress(urlsafe_b64decode(packed + "=" * (-len(packed) % 4)))
    return raw[place["idx"] // 8] >> (place["idx"] % 8) & 1


def test_a_revoked_token_is_inactive_and_its_bit_is_set(stage: Stage) -> None:
    token, other = stage.own(FRONT), stage.own(FRONT)
    assert stage.introspect(token, by=ORDERS).body["active"]
    assert (bit(stage, token), bit(stage, other)) == (0, 0)
    stage.server.cli("revoke", f"jti:{claims_of(token)['jti']}")
    assert stage.introspect(token, by=ORDERS).body == {"active": False}
    assert (bit(stage, token), bit(stage, other)) == (1, 0)
    assert stage.introspect(other, by=ORDERS).body["active"]


def test_a_token_that_its_holder_gives_back_has_its_bit_set_too(stage: Stage) -> None:
    token = stage.own(FRONT)
    assert stage.post("/oauth2/revoke", {"token": token}, by=FRONT).status == 200
    assert bit(stage, token) == 1
    assert stage.introspect(token, by=ORDERS).body == {"active": False}
    assert any(row["type"] == "trust.token.returned" for row in stage.server.json("ledger", "ls"))


def test_a_revoked_grant_takes_its_tokens_with_it(stage: Stage) -> None:
    first, second, other = stage.own(FRONT), stage.own(FRONT), stage.own(FRONT, scope="write")
    grant = claims_of(first)["grant"]
    assert (claims_of(second)["grant"], claims_of(other)["grant"] == grant) == (grant, False)
    stage.server.cli("revoke", f"grant:{grant}", "--reason", "task went wrong")
    assert [stage.introspect(one, by=ORDERS).body["active"] for one in (first, second, other)] == [False, False, True]
    assert claims_of(stage.own(FRONT))["grant"] != grant


def test_a_revoked_svid_opens_no_door_and_its_successor_does(stage: Stage) -> None:
    path = stage.svid("spiffe://remit.local/task/stock")
    serial = load_pem_x509_certificate(path.read_bytes()).serial_number
    assert stage.introspect("nothing", by="spiffe://remit.local/task/stock").status == 200
    stage.server.cli("revoke", f"serial:{serial:x}")
    assert stage.introspect("nothing", by="spiffe://remit.local/task/stock").status in (400, 401, 403)
    path.unlink()
    assert stage.introspect("nothing", by="spiffe://remit.local/task/stock").status == 200


def test_an_identity_that_is_revoked_gets_no_token_and_has_none_until_it_is_restored() -> None:
    with oauth_stage() as stage:
        token = stage.own(FRONT)
        said = stage.server.json("revoke", f"identity:{FRONT}", "--reason", "stolen laptop")
        assert said["fell"] == {"access-token": 1, "x509-svid": 1}
        assert stage.introspect(token, by=ORDERS).body == {"active": False}
        assert stage.token(by=FRONT, scope="read", resource="https://orders.example").status in (400, 401, 403)
        stage.server.cli("restore", f"identity:{FRONT}", "--reason", "wiped")
        stage.svid(FRONT).unlink()
        assert stage.introspect(stage.own(FRONT), by=ORDERS).body["active"]
        assert stage.introspect(token, by=ORDERS).body == {"active": False}


def test_lists_are_named_for_whoever_fetches_all_of_them(stage: Stage) -> None:
    named = claims_of(stage.own(FRONT))["status"]["status_list"]["uri"]
    with stage.server.http("GET", "/statuslists") as answer:
        assert named in json.loads(answer.read())["status_lists"]
    with stage.server.http("GET", "/statuslists/999") as answer:
        assert answer.status == 404
