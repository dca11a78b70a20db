"""Platforms as tests know them: real claim sets, signed by libraries that are not ours."""

from __future__ import annotations

import base64
import itertools
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import jwt as pyjwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt

from remit.kernel.canonical import Json
from remit.trust.testing import NOON

AUDIENCE = "spiffe://remit.test"
_numbers = itertools.count(1)
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())

GITHUB = {
    "iss": "https://token.actions.githubusercontent.com",
    "sub": "repo:acme/billing:environment:production",
    "repository": "acme/billing",
    "repository_id": "640000001",
    "repository_owner": "acme",
    "repository_owner_id": "65",
    "repository_visibility": "private",
    "ref": "refs/heads/main",
    "ref_type": "branch",
    "environment": "production",
    "workflow": "deploy",
    "workflow_ref": "acme/billing/.github/workflows/deploy.yml@refs/heads/main",
    "job_workflow_ref": "acme/shared/.github/workflows/deploy.yml@refs/tags/v2",
    "event_name": "push",
    "actor": "octocat[bot]",
    "actor_id": "12",
    "run_id": "11111111111",
    "run_number": "7",
    "run_attempt": "1",
    "runner_environment": "github-hosted",
    "sha": "3b6b1f0a2c4d5e6f708192a3b4c5d6e7f8091a2b",
}
GITLAB = {
    "iss": "https://gitlab.com",
    "sub": "project_path:acme/platform/billing:ref_type:branch:ref:main",
    "namespace_id": "72",
    "namespace_path": "acme/platform",
    "project_id": "20",
    "project_path": "acme/platform/billing",
    "project_visibility": "internal",
    "user_id": "1",
    "user_login": "sample-user",
    "user_email": "sample-user@example.com",
    "pipeline_id": "574",
    "pipeline_source": "push",
    "job_id": "302",
    "ref": "main",
    "ref_type": "branch",
    "ref_path": "refs/heads/main",
    "ref_protected": "true",
    "environment": "review/feature 1",
    "environment_protected": "false",
    "deployment_tier": "testing",
    "runner_id": 1,
    "runner_environment": "self-hosted",
    "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
    "ci_config_ref_uri": "gitlab.com/acme/platform/billing//.gitlab-ci.yml@refs/heads/main",
}
KUBERNETES = {
    "iss": "https://kubernetes.default.svc.cluster.local",
    "sub": "system:serviceaccount:billing:nightly",
    "kubernetes.io": {
        "namespace": "billing",
        "node": {"name": "node-1", "uid": "58456cb0-dd00-45ed-b797-5578fdceaced"},
        "pod": {"name": "nightly-x7f9", "uid": "5f9f5d4e-1c1e-4c4a-9a3f-0d6cbb9b1f11"},
        "serviceaccount": {"name": "nightly", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
        "warnafter": 1763816400,
    },
}


@dataclass(slots=True)
class MemoryKeys:
    """A key source without a network."""

    keys: dict[str, Mapping[str, Json]] = field(default_factory=dict)

    async def find(self, kid: str) -> Mapping[str, Json] | None:
        return self.keys.get(kid)


def public_jwk(key: Any, kid: str, **more: Json) -> dict[str, Any]:
    """The public JWK, as joserfc writes it."""
    kind = joserfc_jwk.RSAKey if isinstance(key, rsa.RSAPrivateKey) else joserfc_jwk.ECKey
    return {**kind.import_key(pem(key)).as_dict(private=False), "kid": kid, "use": "sig", **more}


def pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def issued(claims: Mapping[str, Any], **changed: Any) -> dict[str, Any]:
    """The claims with times and audience, each token another; a claim changed to `None` is left out."""
    now = int(NOON.timestamp())
    number = next(_numbers)
    whole = {**claims, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 300, "jti": f"jti-{number}", **changed}
    return {name: value for name, value in whole.items() if value is not None}


def at(**delta: float) -> int:
    """Seconds of noon and this much."""
    return int((NOON + timedelta(**delta)).timestamp())


def by_joserfc(
    claims: Mapping[str, Any], *, key: Any = RSA_KEY, alg: str = "RS256", kid: str = "k1", **header: Any
) -> str:
    kind = joserfc_jwk.RSAKey if isinstance(key, rsa.RSAPrivateKey) else joserfc_jwk.ECKey
    return joserfc_jwt.encode(
        {"alg": alg, "kid": kid, "typ": "JWT", **header}, dict(claims), kind.import_key(pem(key)), algorithms=[alg]
    )


def by_pyjwt(claims: Mapping[str, Any], *, key: Any = RSA_KEY, alg: str = "RS256", kid: str = "k1") -> str:
    return pyjwt.encode(dict(claims), pem(key), algorithm=alg, headers={"kid": kid})


def by_authlib(claims: Mapping[str, Any], *, key: Any = RSA_KEY, alg: str = "RS256", kid: str = "k1") -> str:
    with warnings.catch_warnings(record=True):  # it names joserfc as its successor
        from authlib.jose import JsonWebToken

        return JsonWebToken([alg]).encode({"alg": alg, "kid": kid, "typ": "JWT"}, dict(claims), pem(key)).decode()


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed_raw(header: bytes, payload: bytes, key: rsa.RSAPrivateKey = RSA_KEY) -> str:
    """A true RS256 signature over bytes that no library would write."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    text = f"{part(header)}.{part(payload)}"
    return f"{text}.{part(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def false_tokens(claims: Mapping[str, Any], *, kid: str = "k1") -> dict[str, str]:
    """Tokens that nobody may take for one of this issuer, by what is wrong with them."""
    good = issued(claims)
    public = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    head, body, signature = by_joserfc(good).split(".")
    plain = json.dumps({"alg": "RS256", "kid": kid}).encode()
    shared = f"{part({'alg': 'HS256', 'kid': kid})}.{part(good)}"
    import hashlib
    import hmac

    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    doubled = json.dumps(good)[:-1] + ', "sub": "repo:evil/evil:ref:refs/heads/main"}'
    other = issued(claims, sub="system:serviceaccount:evil:evil")
    return {
        "expired": by_joserfc(issued(claims, iat=at(minutes=-10), nbf=None, exp=at(seconds=-1))),
        "expired this second": by_joserfc(issued(claims, exp=at())),
        "not yet valid": by_joserfc(issued(claims, nbf=at(minutes=5))),
        "issued in the future": by_joserfc(issued(claims, iat=at(hours=1), exp=at(hours=2))),
        "for another audience": by_joserfc(issued(claims, aud="https://example.com")),
        "for another audience too": by_joserfc(issued(claims, aud=[AUDIENCE, "https://example.com"])),
        "for a prefix of the audience": by_joserfc(issued(claims, aud=AUDIENCE[:-1])),
        "for nobody": by_joserfc(issued(claims, aud=[])),
        "of another issuer": by_joserfc(issued(claims, iss="https://example.com")),
        "of an issuer with a slash more": by_joserfc(issued(claims, iss=f"{claims['iss']}/")),
        "by another key under the same name": by_joserfc(good, key=OTHER_KEY),
        "by a key of another name": by_joserfc(good, kid="k2"),
        "by a key without a name": signed_raw(b'{"alg":"RS256"}', json.dumps(good).encode()),
        "by a key in its own header": signed_raw(
            json.dumps({"alg": "RS256", "kid": kid, "jwk": public_jwk(OTHER_KEY, kid)}).encode(),
            json.dumps(good).encode(),
            OTHER_KEY,
        ),
        "with the address of its keys": by_joserfc(good, jku="https://example.com/keys"),
        "with a critical extension": signed_raw(
            json.dumps({"alg": "RS256", "kid": kid, "crit": ["x"], "x": 1}).encode(), json.dumps(good).encode()
        ),
        "unsigned": f"{part({'alg': 'none', 'kid': kid})}.{part(good)}.",
        "unsigned with something": f"{part({'alg': 'none', 'kid': kid})}.{part(good)}.{part(b'x')}",
        "HS256 under the public key": f"{shared}.{part(hmac.digest(public, shared.encode(), hashlib.sha256))}",
        "another algorithm": by_joserfc(good, key=EC_KEY, alg="ES256"),
        "another payload": f"{head}.{part(other)}.{signature}",
        "another header": f"{part({'alg': 'RS256', 'kid': kid, 'typ': 'jwt'})}.{body}.{signature}",
        "half a signature": f"{head}.{body}.{signature[: len(signature) // 4 * 2]}",
        "two parts": f"{head}.{body}",
        "five parts": f"{head}.{body}.{signature}.{body}.{signature}",
        "with padding": f"{head}.{body}.{signature}=",
        "with a newline": f"{head}.{body}.{signature}\n",
        "a name twice in the payload": signed_raw(plain, doubled.encode()),
        "a name twice in the header": signed_raw(b'{"alg":"RS256","alg":"RS256","kid":"k1"}', json.dumps(good).encode()),
        "deeply nested": by_joserfc(issued(claims, extra=deep)),
        "nested beyond measure": signed_raw(plain, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        "too large": by_joserfc(issued(claims, extra="x" * 20_000)),
        "too many members": by_joserfc(issued(claims, **{f"m{n}": 1 for n in range(600)})),
        "no JSON": signed_raw(plain, b"{"),
        "no object": signed_raw(plain, b"[]"),
        "not UTF-8": signed_raw(plain, b'{"sub":"\xff"}'),
        "UTF-16": signed_raw(plain, json.dumps(good).encode("utf-16")),
        "a lone surrogate": signed_raw(plain, json.dumps({**good, "x": "\ud800"}).encode()),
        "an infinite number": signed_raw(plain, json.dumps(good)[:-1].encode() + b', "x": Infinity}'),
        "an endless number": signed_raw(plain, json.dumps(good)[:-1].encode() + b', "x": 1e999}'),
        "no expiry": by_joserfc(issued(claims, exp=None)),
        "an expiry in words": by_joserfc(issued(claims, exp="tomorrow")),
        "an expiry beyond all time": by_joserfc(issued(claims, exp=10**15)),
        "a lifetime of a month": by_joserfc(issued(claims, exp=at(days=30))),
        "no beginning": by_joserfc(issued(claims, iat=None)),
        "no subject": by_joserfc(issued(claims, sub=None)),
        "a subject that is a list": signed_raw(plain, json.dumps({**good, "sub": ["a"]}).encode()),
        "an audience that is an object": signed_raw(plain, json.dumps({**good, "aud": {"a": AUDIENCE}}).encode()),
        "another type of token": by_joserfc(good, typ="at+jwt"),
        "an algorithm that is a list": signed_raw(b'{"alg":["RS256"],"kid":"k1"}', json.dumps(good).encode()),
        "a key name that is an object": signed_raw(b'{"alg":"RS256","kid":{}}', json.dumps(good).encode()),
        "empty": "",
        "dots": "..",
    }  # fmt: skip
