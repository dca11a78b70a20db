"""The token service as others use it: a running server, authlib and joserfc as client and relying party."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import jwt as pyjwt
import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc6750.errors import InvalidTokenError
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwk, jwt
from joserfc.errors import JoseError
from oauth_stage import (
    API,
    FRONT,
    JWT_BEARER,
    JWT_SPIFFE,
    JWT_SVID,
    ORDERS,
    STOCK,
    STOCK_API,
    TRANSACTION,
    Stage,
    claims_of,
    header_of,
    oauth_stage,
)

from installation import installation
from remit.access.policy.starter import starter_text
from remit.trust import jose
from remit.trust.tokens.metadata import server_metadata
from remit.trust.tokens.testing import PLACES


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with oauth_stage() as made:
        yield made


def until(what: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


class Relying(JWTBearerTokenValidator):
    """A resource server as authlib makes one."""

    def __init__(self, stage: Stage, resource: str) -> None:
        super().__init__(issuer=stage.issuer, resource_server=resource)
        self._stage = stage

    def get_jwks(self) -> Any:
        return jwk.KeySet.import_key_set(self._stage.get("/oauth2/keys"))  # type: ignore[arg-type]


# A client library.


def test_authlib_gets_a_token_by_private_key_jwt_with_nothing_but_the_metadata(stage: Stage) -> None:
    metadata = requests.get(f"{stage.issuer}/.well-known/oauth-authorization-server", timeout=60).json()
    with OAuth2Session(
        stage.keyed, jwk.ECKey.import_key(stage.key), token_endpoint_auth_method="private_key_jwt", scope="read"
    ) as session:
        kid = jose.thumbprint(stage.key.public_key())
        session.register_client_auth_method(
            PrivateKeyJWT(metadata["token_endpoint"], headers={"kid": kid}, alg="ES256")
        )
        token = session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", resource=API)
    assert token["token_type"] == "Bearer"
    assert token["scope"] == "read"


def test_the_metadata_is_what_authlib_takes_for_metadata() -> None:
    # Only https will do for it, so that it is asked of the document rather than of the server.
    AuthorizationServerMetadata(server_metadata(PLACES)).validate()


# A relying party.


def test_authlib_accepts_our_token_for_the_service_that_it_is_for(stage: Stage) -> None:
    claims = Relying(stage, API).authenticate_token(stage.own(FRONT))
    claims.validate()
    assert claims["sub"] == FRONT


def test_authlib_refuses_it_anywhere_else(stage: Stage) -> None:
    relying = Relying(stage, STOCK_API)
    with pytest.raises(InvalidTokenError):
        relying.validate_token(relying.authenticate_token(stage.own(FRONT)), ["read"], None)


def test_joserfc_and_pyjwt_verify_it_by_the_published_keys(stage: Stage) -> None:
    token = stage.own(FRONT)
    keys = jwk.KeySet.import_key_set(stage.get("/oauth2/keys"))  # type: ignore[arg-type]
    assert jwt.decode(token, keys, algorithms=["ES256"]).header["typ"] == "at+jwt"
    found = pyjwt.PyJWKSet.from_dict(stage.get("/oauth2/keys"))[header_of(token)["kid"]]
    assert pyjwt.decode(token, found.key, algorithms=["ES256"], audience=API, issuer=stage.issuer)["sub"] == FRONT


def test_a_jwt_svid_verifies_by_the_keys_of_the_discovery_and_a_token_does_not(stage: Stage) -> None:
    keys = jwk.KeySet.import_key_set(stage.get("/keys"))  # type: ignore[arg-type]
    assert jwt.decode(stage.jwt_svid(FRONT, "vault"), keys, algorithms=["ES256"]).claims["sub"] == FRONT
    with pytest.raises((ValueError, JoseError), match=r"kid|key"):  # whatever it calls a key that it does not have
        jwt.decode(stage.own(FRONT), keys, algorithms=["ES256"])


def test_the_bundle_stays_the_bundle(stage: Stage) -> None:
    assert {key["use"] for key in stage.get("/bundle")["keys"]} == {"x509-svid", "jwt-svid"}
    assert {key["use"] for key in stage.get("/keys")["keys"]} == {"sig"}


# Mutual TLS, chains, transactions.


def test_a_token_by_mutual_tls_is_bound_to_the_certificate_of_the_connection(stage: Stage) -> None:
    assert claims_of(stage.own(FRONT))["cnf"] == {"x5t#S256": stage.thumbprint(FRONT)}


def test_a_call_from_service_to_service_carries_who_began_it(stage: Stage) -> None:
    first = stage.own(FRONT)
    second = stage.exchange(first, by=ORDERS, resource=STOCK_API)
    assert second.status == 200, second
    assert claims_of(second.body["access_token"])["act"] == {"sub": ORDERS}
    said = stage.introspect(second.body["access_token"], by=STOCK)
    assert (said.body["active"], said.body["sub"], said.body["act"]) == (True, FRONT, {"sub": ORDERS})
    assert stage.introspect(second.body["access_token"], by=ORDERS).body == {"active": False}


def test_a_stolen_token_cannot_be_exchanged(stage: Stage) -> None:
    reply = stage.exchange(stage.own(FRONT), by=STOCK, resource=STOCK_API)
    assert (reply.status, reply.body["error"]) == (400, "unauthorized_client")


def test_a_policy_on_who_acts_holds_even_where_the_subject_may(stage: Stage) -> None:
    both = stage.own(FRONT, "read write")
    reply = stage.exchange(both, by=ORDERS, resource=STOCK_API)
    assert reply.body["scope"] == "read"
    write = stage.exchange(both, by=ORDERS, resource=STOCK_API, scope="write")
    assert (write.status, write.body["error"]) == (400, "invalid_scope")
    assert "nobody-writes-for-another" in stage.server.cli("explain", decision_of(write.body)).stdout


def decision_of(body: dict[str, Any]) -> str:
    return "dc_" + str(body["error_description"]).rpartition("`dc_")[2].rstrip("`)")


def test_a_transaction_token_tells_nothing_beside_itself(stage: Stage) -> None:
    reply = stage.exchange(
        stage.own(FRONT), by=ORDERS, requested_token_type=TRANSACTION, audience="remit.local",
        request_details='{"order":7}',
    )  # fmt: skip
    assert (reply.status, set(reply.body)) == (200, {"access_token", "issued_token_type", "token_type"})
    assert header_of(reply.body["access_token"])["typ"] == "txntoken+jwt"
    assert claims_of(reply.body["access_token"])["tctx"] == {"order": 7}


def test_details_are_granted_by_policy_and_type(stage: Stage) -> None:
    asked = [{"type": "payment", "actions": ["pay"]}, {"type": "payment", "actions": ["refund"]}, {"type": "other"}]
    reply = stage.token(by=FRONT, resource=API, authorization_details=json.dumps(asked))
    assert reply.body["authorization_details"] == asked[:1]


# Proofs.


def test_each_way_to_prove_oneself_leads_to_the_same_subject(stage: Stage) -> None:
    ways = [
        stage.token(by=FRONT, scope="read", resource=API),
        stage.token(
            client_assertion_type=JWT_SPIFFE, client_assertion=stage.jwt_svid(FRONT), scope="read", resource=API
        ),
        stage.exchange(stage.jwt_svid(FRONT), by="", kind=JWT_SVID, scope="read", resource=API),
    ]
    assert [claims_of(one.body["access_token"])["sub"] for one in ways] == [FRONT] * 3


def test_a_proof_counts_once_even_over_a_restart(stage: Stage) -> None:
    # Its issuer is this server's address, which changes when it starts again: the token endpoint's does as well.
    assertion = stage.assertion()
    form = {"client_assertion_type": JWT_BEARER, "client_assertion": assertion, "scope": "read", "resource": API}
    assert stage.token(**form).status == 200
    again = stage.token(**form)
    assert (again.status, again.body["error"], again.body["code"]) == (401, "invalid_client", "trust.token.replayed")
    with closing(sqlite3.connect(stage.server.data / "remit.db")) as database:
        assert database.execute("SELECT count(*) FROM token_spent").fetchone()[0] >= 1


def test_dpop_asks_for_a_nonce_and_then_binds(stage: Stage) -> None:
    key, now = ec.generate_private_key(ec.SECP256R1()), int(time.time())
    form = {"client_assertion_type": JWT_BEARER, "scope": "read", "resource": API}

    def ask(**claims: Any) -> Any:
        said = {"jti": jose.thumbprint(ec.generate_private_key(ec.SECP256R1()).public_key()), "htm": "POST",
                "htu": f"{stage.issuer}/oauth2/token", "iat": now, **claims}  # fmt: skip
        proof = jose.sign(said, key, {"typ": "dpop+jwt", "jwk": jose.jwk_of(key.public_key())})
        return stage.token(headers={"DPoP": proof}, client_assertion=stage.assertion(), **form)

    first = ask()
    assert (first.status, first.body["error"]) == (400, "use_dpop_nonce")
    second = ask(nonce=first.headers["dpop-nonce"])
    assert second.body["token_type"] == "DPoP"
    assert claims_of(second.body["access_token"])["cnf"]["jkt"] == jose.thumbprint(key.public_key())


# Hostile requests: what comes back, and that the server lives on.


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"{}", {"Content-Type": "application/json"}, 400, "invalid_request"),
        (b"grant_type=client_credentials", {}, 401, "invalid_client"),
        (b"grant_type=password&username=a&password=b", {}, 400, "unsupported_grant_type"),
        (b"grant_type=client_credentials&grant_type=x", {}, 400, "invalid_request"),
        (b"\xff\xfe", {}, 400, "invalid_request"),
        (b"a=" + b"x" * 100_000, {}, 400, "invalid_request"),
        (b"grant_type=client_credentials", {"Authorization": "Basic Y2w6cw=="}, 401, "invalid_client"),
        (b"grant_type=client_credentials", {"DPoP": "a.b.c"}, 400, "invalid_dpop_proof"),
        (b"grant_type=client_credentials&scope=%22", {}, 400, "invalid_scope"),
        (b"grant_type=client_credentials&resource=http://", {}, 400, "invalid_target"),
        (b"grant_type=client_credentials&authorization_details=[", {}, 400, "invalid_authorization_details"),
    ],
)  # fmt: skip
def test_rfc6749_5_2_every_fault_has_its_error(
    stage: Stage, body: bytes, headers: dict[str, str], status: int, error: str
) -> None:
    sent = {"Content-Type": "application/x-www-form-urlencoded", **headers}
    with stage.server.http("POST", "/oauth2/token", body, sent) as answer:
        found = json.loads(answer.read())
        shown = {name.lower(): value for name, value in answer.getheaders()}
    assert (answer.status, found["error"]) == (status, error)
    assert shown["cache-control"] == "no-store"
    assert not set(found["error_description"]) & set('"\\\n')
    assert ("www-authenticate" in shown) is (status == 401)


def test_refusals_are_in_the_ledger_counted_and_without_what_was_sent() -> None:
    # An installation of its own: after a first entry the next one waits a minute, whoever caused the first.
    with oauth_stage() as stage:
        for _ in range(80):
            assert stage.token(client_assertion="secret.secret.secret", client_assertion_type=JWT_BEARER).status == 401
        rows = until(lambda: stage.server.json("ledger", "ls", "--type", "trust.token.refused"))
    assert len(rows) == 1
    assert rows[0]["data"]["refused"]
    assert "secret.secret" not in json.dumps(rows)


def test_a_pipelines_own_token_is_exchanged_by_the_entry_that_names_the_job() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with installation(start=False, REMIT_ATTESTORS_FILE="attestors.toml") as server:
        server.data.mkdir(mode=0o711)
        keys = {"keys": [{**jose.jwk_of(key.public_key()), "kid": "ci", "use": "sig", "alg": "ES256"}]}
        (server.data / "ci.json").write_text(json.dumps(keys))
        (server.data / "attestors.toml").write_text(
            '[[oidc]]\nname = "ci"\nissuer = "https://ci.test"\njwks_file = "ci.json"\nselectors = {job = "sub"}\n'
        )
        server.start()
        stage = Stage(server)
        stage.open()
        named = {"spiffe_id": FRONT, "selectors": ["oidc:issuer:ci", "oidc:job:nightly"]}
        server.admin.post("/api/v1/entries", named)

        def token(subject: str, number: int) -> str:
            now = int(time.time())
            claims = {"iss": "https://ci.test", "sub": subject, "aud": "spiffe://remit.local", "iat": now, "exp": now + 60,
                      "jti": f"job-{number}"}  # fmt: skip
            return jose.sign(claims, key, {"kid": "ci", "typ": "JWT"})

        good = token("nightly", 1)
        kind = "urn:ietf:params:oauth:token-type:id_token"
        first = stage.exchange(good, by="", kind=kind, scope="read", resource=API)
        assert first.status == 200, first
        assert claims_of(first.body["access_token"])["sub"] == FRONT
        assert stage.exchange(good, by="", kind=kind, scope="read", resource=API).status == 400
        assert stage.exchange(token("other", 2), by="", kind=kind, scope="read", resource=API).status in (400, 401)
        asserted = {"client_assertion_type": JWT_BEARER, "scope": "read", "resource": API}
        assert stage.token(client_assertion=token("nightly", 3), **asserted).status == 200


# Grants.


def grants(stage: Stage) -> int:
    with closing(sqlite3.connect(stage.server.data / "remit.db")) as database:
        return int(database.execute("SELECT count(*) FROM token_grant").fetchone()[0])


def test_the_same_request_uses_the_same_grant_and_each_token_has_its_own_id(stage: Stage) -> None:
    first, before = claims_of(stage.own(FRONT)), grants(stage)
    second = claims_of(stage.own(FRONT))
    assert (second["grant"], grants(stage)) == (first["grant"], before)
    assert second["jti"] != first["jti"]


def test_a_revoked_grant_ends_its_tokens_and_the_next_one_is_decided_anew(stage: Stage) -> None:
    token = stage.own(FRONT, "read write")
    grant = claims_of(token)["grant"]
    stage.server.cli("revoke", f"grant:{grant}", "--reason", "test")
    assert stage.introspect(token, by=ORDERS).body == {"active": False}
    assert claims_of(stage.own(FRONT, "read write"))["grant"] != grant


def test_what_a_token_was_good_for_at_a_past_moment_and_who_gave_it(stage: Stage) -> None:
    token = claims_of(held := stage.own(FRONT))
    then = _moment()
    stage.post("/oauth2/revoke", {"token": held}, by=FRONT)
    assert _past(stage, token["jti"], then, 0)["thing"]["held"] is True
    found = _past(stage, token["jti"], then, 0)["thing"]
    assert (found["aud"], found["scope"], found["grant"]) == ([API], "read", token["grant"])
    entry = stage.server.admin.get("/api/v1/ledger/entries", before=found["given"]["leaf"] + 1, limit=1)[0]
    assert (entry["type"], entry["data"]["id"]) == ("trust.token.granted", token["grant"])
    assert found["given"]["decisions"] == entry["data"]["decisions"] != []
    assert token["jti"] in {each["id"] for each in _past(stage, FRONT, then, 0)["issued"]}
    assert _past(stage, token["jti"], _moment(), 1)["thing"]["held"] is False


def _moment() -> str:
    time.sleep(0.01)
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def _past(stage: Stage, what: str, at: str, code: int) -> Any:
    return json.loads(stage.server.cli("past", what, "--at", at, "--format", "json", code=code).stdout)


def test_a_grant_that_nobody_gave_is_no_ground_for_a_token(stage: Stage) -> None:
    reply = stage.token(by=FRONT, scope="read", resource=API, grant="gr_01K00000000000000000000001")
    assert (reply.status, reply.body["error"]) == (400, "invalid_scope")
    assert "the grant is not known" in reply.body["error_description"]


def test_a_stricter_policy_holds_for_the_very_next_token() -> None:
    with oauth_stage() as stage:
        stage.own(FRONT)
        path = stage.server.root / "p.cedar"
        path.write_text(f'{path.read_text()}@id("shut") forbid (principal, action, resource);\n')
        stage.server.cli("policy", "apply", path)
        assert stage.token(by=FRONT, scope="read", resource=API).body["error"] == "invalid_scope"


# Ends.


def test_a_token_that_was_given_back_is_dead_at_once(stage: Stage) -> None:
    token = stage.own(FRONT)
    assert stage.introspect(token, by=ORDERS).body["active"] is True
    assert stage.post("/oauth2/revoke", {"token": token}, by=ORDERS).body["error"] == "unauthorized_client"
    assert stage.post("/oauth2/revoke", {"token": token}, by=FRONT).status == 200
    assert stage.introspect(token, by=ORDERS).body == {"active": False}


def test_the_starter_library_lets_an_attested_resource_server_introspect_by_a_token() -> None:
    with installation() as server:
        alone = Stage(server)
        alone.open(starter_text())
        mine = alone.own(ORDERS, "introspect", alone.issuer)
        shown = alone.own(FRONT)
        said = alone.post(
            "/oauth2/introspect", {"token": shown}, by=ORDERS, headers={"Authorization": f"Bearer {mine}"}
        )
        assert (said.status, said.body["active"]) == (200, True)


def test_an_administrator_introspects_over_the_socket(stage: Stage) -> None:
    done = subprocess.run(
        ["curl", "-s", "--unix-socket", str(stage.server.data / "admin.sock"), "-d", f"token={stage.own(FRONT)}",
         "http://localhost/oauth2/introspect"],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["active"] is True


def test_a_resource_server_introspects_with_a_token_of_its_own(stage: Stage) -> None:
    mine = stage.own(ORDERS, "introspect", stage.issuer)
    form, sent = {"token": stage.own(FRONT)}, {"Authorization": f"Bearer {mine}"}
    assert stage.post("/oauth2/introspect", form, by=ORDERS, headers=sent).body["active"] is True
    stolen = stage.post("/oauth2/introspect", form, by=STOCK, headers=sent)
    assert (stolen.status, stolen.body["code"]) == (400, "trust.token.sender")
    unscoped = stage.post("/oauth2/introspect", form, headers={"Authorization": f"Bearer {stage.own(FRONT)}"})
    assert (unscoped.status, unscoped.body["error"]) == (401, "invalid_token")


def test_a_rotation_of_the_keys_leaves_tokens_valid_and_a_taint_does_not(stage: Stage) -> None:
    token = stage.own(FRONT)
    kid = header_of(token)["kid"]
    stage.server.cli("authority", "rotate", "token")
    assert header_of(stage.own(FRONT))["kid"] != kid
    assert stage.introspect(token, by=ORDERS).body["active"] is True
    stage.server.cli("authority", "taint", kid)
    assert stage.introspect(token, by=ORDERS).body == {"active": False}


def test_a_quarantined_identity_loses_its_tokens_and_gets_none() -> None:
    with oauth_stage() as stage:
        token = stage.own(FRONT)
        chained = stage.exchange(stage.own(FRONT), by=ORDERS, resource=STOCK_API).body["access_token"]
        stage.server.cli("quarantine", ORDERS, "--reason", "test")
        assert stage.introspect(chained, by=STOCK).body == {"active": False}
        stage.server.cli("quarantine", FRONT, "--reason", "test")
        refused = stage.token(by=FRONT, scope="read", resource=API)
        assert refused.status in (400, 401)
        done = subprocess.run(
            ["curl", "-s", "--unix-socket", str(stage.server.data / "admin.sock"), "-d", f"token={token}",
             "http://localhost/oauth2/introspect"],
            capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        assert json.loads(done.stdout) == {"active": False}


def test_clients_are_added_listed_and_gone(stage: Stage) -> None:
    keys = stage.server.root / "more.json"
    keys.write_text(json.dumps(jose.jwk_of(ec.generate_private_key(ec.SECP256R1()).public_key())))
    made = stage.server.json("client", "add", "more", "--identity", FRONT, "--keys", keys)
    assert made["id"] in stage.server.cli("client", "ls", "--format", "json").stdout
    stage.server.cli("client", "rm", made["id"])
    assert made["id"] not in stage.server.cli("client", "ls", "--format", "json").stdout
    twice = stage.server.cli("client", "add", "orders", "--identity", FRONT, "--spiffe-id", FRONT, code=2)
    assert "trust.client.exists" in twice.stderr


def test_a_private_key_is_no_key_of_a_client(stage: Stage) -> None:
    keys = stage.server.root / "private.json"
    keys.write_text(json.dumps({**jose.jwk_of(stage.key.public_key()), "d": "AAAA"}))
    done = stage.server.cli("client", "add", "bad", "--identity", FRONT, "--keys", keys, code=2)
    assert "trust.client.key" in done.stderr and "AAAA" not in done.stderr


def test_a_client_row_put_into_the_database_is_no_client() -> None:
    with oauth_stage() as stage:
        key, kid = ec.generate_private_key(ec.SECP256R1()), "stolen"
        stage.server.stop()
        with closing(sqlite3.connect(stage.server.data / "remit.db")) as database:
            row = list(database.execute("SELECT * FROM token_client WHERE id = ?", (stage.keyed,)).fetchone())
            names = [each[1] for each in database.execute("PRAGMA table_info(token_client)")]
            row[names.index("keys")] = json.dumps([{**jose.jwk_of(key.public_key()), "kid": kid}])
            database.execute("DELETE FROM token_client WHERE id = ?", (stage.keyed,))
            marks = ", ".join("?" * len(row))
            database.execute(f"INSERT INTO token_client VALUES ({marks})", row)
            database.commit()
        stage.server.start()
        stage.key = key
        now = int(time.time())
        forged = jose.sign(
            {"iss": stage.keyed, "sub": stage.keyed, "aud": stage.issuer, "iat": now, "exp": now + 60, "jti": "x"},
            key, {"kid": kid},
        )  # fmt: skip
        reply = stage.token(client_assertion_type=JWT_BEARER, client_assertion=forged, scope="read", resource=API)
        assert (reply.status, reply.body["error"]) == (401, "invalid_client")
